//! A cluster made anew by hand, where a server has none that it starts on and the backup only dumps: the
//! commands, made from how the platform starts the server.

use std::path::{Path, PathBuf};

use crate::model::Endpoint;

/// Where Debian and its kin keep the programs, the data and the configuration of each cluster.
const PROGRAMS: &str = "/usr/lib/postgresql";
const DATA: &str = "/var/lib/postgresql";
const CONFIGURATION: &str = "/etc/postgresql";

/// A cluster as the command tells that starts its server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClusterPlace {
    /// Where `initdb` is; `None`: where the shell finds it.
    bin: Option<PathBuf>,
    /// The data directory.
    pub(super) data: PathBuf,
    /// Whether its configuration lies in it, with the port.
    configured_inside: bool,
}

impl ClusterPlace {
    /// The place of the cluster that this command starts: `postgres -D …`, `pg_ctl -D … start`,
    /// `pg_ctlcluster 15 main start`, `systemctl start postgresql@15-main`. `None` where it does not
    /// tell.
    pub(super) fn of(start: &[String]) -> Option<Self> {
        let (program, arguments) = start.split_first()?;
        let path = Path::new(program);
        match path.file_name()?.to_str()? {
            "postgres" | "postmaster" | "pg_ctl" => {
                let data = data_of(arguments)?;
                let bin = path.parent().filter(|dir| !dir.as_os_str().is_empty());
                // A configuration elsewhere is named: it stays, and names the port.
                let elsewhere = |word: &String| word.contains("config_file=");
                Some(Self {
                    bin: bin.map(Path::to_owned),
                    data,
                    configured_inside: !arguments.iter().any(elsewhere),
                })
            }
            "pg_ctlcluster" => {
                let mut plain = arguments.iter().filter(|word| !word.starts_with('-'));
                Self::of_debian(plain.next()?, plain.next()?)
            }
            "systemctl" => {
                let mut units = arguments
                    .iter()
                    .filter_map(|word| word.strip_prefix("postgresql@"));
                let unit = units.next()?;
                let unit = unit.strip_suffix(".service").unwrap_or(unit);
                let (major, name) = unit.split_once('-')?;
                Self::of_debian(major, name)
            }
            _ => None,
        }
    }

    fn of_debian(major: &str, name: &str) -> Option<Self> {
        let plain = |word: &str| !word.is_empty() && !word.contains('/');
        if !plain(name) || major.parse::<u32>().is_err() {
            return None;
        }
        let file = Path::new(CONFIGURATION).join(major).join(name);
        let written = std::fs::read_to_string(file.join("postgresql.conf"))
            .ok()
            .and_then(|text| data_directory(&text));
        Some(Self {
            bin: Some(Path::new(PROGRAMS).join(major).join("bin")),
            data: written.unwrap_or_else(|| Path::new(DATA).join(major).join(name)),
            configured_inside: false,
        })
    }

    /// What is there instead of a cluster, in words.
    pub(super) fn state(&self) -> String {
        let data = self.data.display();
        if !self.data.is_dir() {
            return format!("its data directory {data} is not there");
        }
        match ["PG_VERSION", "global/pg_control"]
            .iter()
            .find(|file| !self.data.join(file).is_file())
        {
            Some(file) => format!("its data directory {data} holds no cluster (no {file} in it)"),
            None => format!("it does not start on its data directory {data}, and its log says why"),
        }
    }

    /// One line for a shell of root's: moves aside what is there, and makes a cluster of which `user` is
    /// the superuser, with the password in the file. The server then listens where it did.
    pub(super) fn commands(
        &self,
        account: &str,
        user: &str,
        password: Option<&Path>,
        endpoint: Option<&Endpoint>,
    ) -> String {
        let data = quoted(&self.data.display().to_string());
        let beside = |end: &str| quoted(&format!("{}.{end}", self.data.display()));
        let program = |name: &str| match &self.bin {
            Some(bin) => quoted(&bin.join(name).display().to_string()),
            None => name.to_owned(),
        };
        let account = quoted(account);
        let mut steps = Vec::new();
        if self.data.symlink_metadata().is_ok() {
            steps.push(format!("mv -T {data} {}", beside("broken")));
        }
        steps.push(format!("install -d -m 700 -o {account} {data}"));
        let mut initdb = format!(
            "runuser -u {account} -- {} -D {data} -U {}",
            program("initdb"),
            quoted(user)
        );
        if let Some(file) = password {
            let copy = beside("password");
            let file = quoted(&file.display().to_string());
            steps.push(format!("install -m 600 -o {account} {file} {copy}"));
            initdb += &format!(" -A scram-sha-256 --pwfile={copy}");
        }
        steps.push(initdb);
        if password.is_some() {
            steps.push(format!("rm {}", beside("password")));
        }
        if let Some(endpoint) = endpoint.filter(|_| self.configured_inside) {
            let mut lines = format!("\"port = {}\"", endpoint.port);
            match endpoint.host.as_str() {
                "localhost" | "127.0.0.1" | "::1" => {}
                host => {
                    let key = match host.starts_with('/') {
                        true => "unix_socket_directories",
                        false => "listen_addresses",
                    };
                    lines += &format!(" \"{key} = '{host}'\"");
                }
            }
            let file = quoted(&self.data.join("postgresql.conf").display().to_string());
            steps.push(format!("printf '%s\\n' {lines} >> {file}"));
        }
        steps.join(" && ")
    }
}

/// The data directory among the arguments of a server.
fn data_of(arguments: &[String]) -> Option<PathBuf> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if matches!(word.as_str(), "-D" | "--pgdata") {
            return words.next().map(PathBuf::from);
        }
        let glued = word
            .strip_prefix("--pgdata=")
            .or_else(|| word.strip_prefix("-D"));
        if let Some(path) = glued.filter(|path| path.starts_with('/')) {
            return Some(PathBuf::from(path));
        }
    }
    None
}

/// `data_directory` of a server's configuration.
fn data_directory(text: &str) -> Option<PathBuf> {
    let mut lines = text.lines().filter_map(|line| {
        let value = line.trim().strip_prefix("data_directory")?.trim_start();
        let value = value.strip_prefix('=').unwrap_or(value).trim_start();
        let value = value.strip_prefix('\'')?;
        value.split_once('\'').map(|(path, _)| PathBuf::from(path))
    });
    lines.next_back().filter(|path| path.is_absolute())
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./,:@+".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(start: &str) -> Option<ClusterPlace> {
        let words: Vec<String> = start.split(' ').map(str::to_owned).collect();
        ClusterPlace::of(&words)
    }

    #[test]
    fn the_command_that_starts_a_server_tells_where_its_cluster_is() {
        for (start, bin, data, inside) in [
            (
                "/opt/pg/bin/postgres -D /srv/pg",
                Some("/opt/pg/bin"),
                "/srv/pg",
                true,
            ),
            ("postgres -D/srv/pg -p 5433", None, "/srv/pg", true),
            (
                "/opt/pg/bin/pg_ctl start -D /srv/pg -l /x",
                Some("/opt/pg/bin"),
                "/srv/pg",
                true,
            ),
            (
                "postgres -D /srv/pg -c config_file=/etc/pg.conf",
                None,
                "/srv/pg",
                false,
            ),
            (
                "pg_ctlcluster --foreground 7 shop start",
                Some("/usr/lib/postgresql/7/bin"),
                "/var/lib/postgresql/7/shop",
                false,
            ),
            (
                "/usr/bin/systemctl start postgresql@7-shop.service",
                Some("/usr/lib/postgresql/7/bin"),
                "/var/lib/postgresql/7/shop",
                false,
            ),
        ] {
            let expected = ClusterPlace {
                bin: bin.map(PathBuf::from),
                data: data.into(),
                configured_inside: inside,
            };
            assert_eq!(of(start), Some(expected), "{start}");
        }
        for start in [
            "systemctl start postgresql",
            "/srv/start",
            "postgres",
            "pg_ctlcluster main",
        ] {
            assert_eq!(of(start), None, "{start}");
        }
        let text = "#data_directory = 'x'\ndata_directory = '/a b' # c\n";
        assert_eq!(data_directory(text), Some("/a b".into()));
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        let place = of("/opt/pg/bin/postgres -D /nowhere/it's").unwrap();
        let endpoint = Endpoint::new("10.0.0.1", 5433);
        let file = Some(Path::new("/etc/pass"));
        assert_eq!(
            place.commands("postgres", "own er", file, Some(&endpoint)),
            "install -d -m 700 -o postgres '/nowhere/it'\\''s' \
             && install -m 600 -o postgres /etc/pass '/nowhere/it'\\''s.password' \
             && runuser -u postgres -- /opt/pg/bin/initdb -D '/nowhere/it'\\''s' -U 'own er' \
             -A scram-sha-256 --pwfile='/nowhere/it'\\''s.password' \
             && rm '/nowhere/it'\\''s.password' \
             && printf '%s\\n' \"port = 5433\" \"listen_addresses = '10.0.0.1'\" >> '/nowhere/it'\\''s/postgresql.conf'"
        );
    }
}
