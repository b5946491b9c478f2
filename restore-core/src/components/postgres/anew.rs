//! Where the cluster of a server is that starts on none, as the command tells that starts it; and the
//! commands that make one there by hand.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::model::{Endpoint, Error, ErrorKind, Result};
use crate::sys::{open_theirs, trust};

/// Where Debian and its kin keep the programs, the data and the configuration of each cluster.
const PROGRAMS: &str = "/usr/lib/postgresql";
const DATA: &str = "/var/lib/postgresql";
const CONFIGURATION: &str = "/etc/postgresql";
/// Files that each cluster has.
const FILES: [&str; 2] = ["PG_VERSION", "global/pg_control"];
/// So much of a configuration is read.
const LARGEST: u64 = 1 << 20;
/// Who may connect to an address of the machine's from the machine itself, as its own `pg_hba.conf` lets in
/// who comes by its loopback.
const ACCESS: &str = "host all all samehost scram-sha-256";

/// A cluster as the command tells that starts its server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClusterPlace {
    /// Where `initdb` is; `None`: where the shell finds it.
    bin: Option<PathBuf>,
    /// The data directory.
    pub(super) data: PathBuf,
    /// Whether its configuration lies in it, with the port.
    configured_inside: bool,
    /// The configuration file elsewhere that the server does not start without.
    configuration: Option<PathBuf>,
    /// The file that names the data directory, where others than root can have written that.
    named_by: Option<PathBuf>,
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
                    configuration: None,
                    named_by: None,
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
        let file = file.join("postgresql.conf");
        let usual = Path::new(DATA).join(major).join(name);
        let (data, named_by) = named_in(&file, usual)?;
        Some(Self {
            bin: Some(Path::new(PROGRAMS).join(major).join("bin")),
            data,
            configured_inside: false,
            configuration: Some(file),
            named_by,
        })
    }

    /// Refuses to make the data directory in `above`, which is there, where nobody but the server's `user`
    /// says that it belongs there: root would make a directory wherever that user wants one, and give it
    /// away. In a directory of its own it could make one itself.
    ///
    /// # Errors
    ///
    /// `postgres.directory_named`.
    pub(super) fn ensure_named(&self, above: &Path, user: u32) -> Result<()> {
        let Some(file) = &self.named_by else {
            return Ok(());
        };
        let owner = above.symlink_metadata();
        if owner.is_ok_and(|owner| owner.is_dir() && owner.uid() == user) {
            return Ok(());
        }
        let data = self.data.display().to_string();
        Err(Error::new(
            ErrorKind::Preflight,
            "postgres.directory_named",
            format!(
                "only {}, which others than root can write, says that the data directory is {data}, and {} is not the server's user's (where that is right, `install -d -m 700 -o {user} {}` as root makes it)",
                file.display(),
                above.display(),
                quoted(&data)
            ),
        )
        .hint("see whether the directory is right; then make it by hand, and plan again"))
    }

    /// What is to be looked at before root does anything in the data directory.
    pub(super) fn doubt(&self) -> Option<String> {
        let file = self.named_by.as_ref()?;
        Some(format!(
            "see first whether {} is the right directory, as {} says, which others than root can write",
            self.data.display(),
            file.display()
        ))
    }

    /// Whether there is a cluster, by the files that each has.
    pub(super) fn looks_whole(&self) -> bool {
        FILES.iter().all(|file| self.data.join(file).is_file())
    }

    /// The program that makes a cluster for this server.
    pub(super) fn initdb(&self) -> String {
        match &self.bin {
            Some(bin) => bin.join("initdb").display().to_string(),
            None => "initdb".to_owned(),
        }
    }

    /// A file without which the server does not start on any cluster, and which is not there.
    pub(super) fn missing_configuration(&self) -> Option<&Path> {
        let file = self.configuration.as_deref();
        file.filter(|file| !file.is_file())
    }

    /// What a new cluster's configuration says besides what `initdb` wrote: the server then listens where
    /// it did. Nothing where the configuration lies elsewhere.
    pub(super) fn settings(&self, endpoint: Option<&Endpoint>) -> Vec<String> {
        let Some(endpoint) = endpoint.filter(|_| self.configured_inside) else {
            return Vec::new();
        };
        let mut lines = vec![format!("port = {}", endpoint.port)];
        match endpoint.host.as_str() {
            "localhost" | "127.0.0.1" | "::1" => {}
            host => {
                let host = host.replace('\'', "''");
                lines.push(match host.starts_with('/') {
                    true => format!("unix_socket_directories = '{host}'"),
                    false => format!("listen_addresses = 'localhost,{host}'"),
                });
            }
        }
        lines
    }

    /// What is added to a new cluster's rules of who may connect: `initdb` lets in nobody but by the
    /// loopback and by sockets.
    pub(super) fn access(&self, endpoint: Option<&Endpoint>) -> Option<&'static str> {
        let endpoint = endpoint.filter(|_| self.configured_inside)?;
        match endpoint.host.as_str() {
            "localhost" | "127.0.0.1" | "::1" => None,
            host => (!host.starts_with('/')).then_some(ACCESS),
        }
    }

    /// What is there instead of a cluster, in words.
    pub(super) fn state(&self) -> String {
        let data = self.data.display();
        if !self.data.is_dir() {
            return format!("its data directory {data} is not there");
        }
        match FILES.iter().find(|file| !self.data.join(file).is_file()) {
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
        let lines = self.settings(endpoint);
        if !lines.is_empty() {
            let lines: Vec<String> = lines.iter().map(|line| format!("\"{line}\"")).collect();
            let file = quoted(&self.data.join("postgresql.conf").display().to_string());
            steps.push(format!("printf '%s\\n' {} >> {file}", lines.join(" ")));
        }
        if let Some(line) = self.access(endpoint) {
            let file = quoted(&self.data.join("pg_hba.conf").display().to_string());
            steps.push(format!("printf '%s\\n' \"{line}\" >> {file}"));
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

/// The data directory that a server's configuration names, else the `usual` one, and the file where others
/// than root can have written what it names. `None` where it cannot be read: nothing tells then. It may be
/// a file of anybody's, and so is read as one.
fn named_in(file: &Path, usual: PathBuf) -> Option<(PathBuf, Option<PathBuf>)> {
    let read = open_theirs(file).and_then(|opened| {
        let mut bytes = Vec::new();
        opened.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let written = match read {
        Ok(bytes) => data_directory(&String::from_utf8_lossy(&bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(_) => return None,
    };
    Some(match written {
        Some(data) if data != usual => {
            let theirs = !trust::is_ours(file);
            (data, theirs.then(|| file.to_owned()))
        }
        _ => (usual, None),
    })
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
                configuration: bin
                    .is_some_and(|bin| bin.starts_with(PROGRAMS))
                    .then(|| "/etc/postgresql/7/shop/postgresql.conf".into()),
                named_by: None,
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
             && printf '%s\\n' \"port = 5433\" \"listen_addresses = 'localhost,10.0.0.1'\" >> '/nowhere/it'\\''s/postgresql.conf' \
             && printf '%s\\n' \"host all all samehost scram-sha-256\" >> '/nowhere/it'\\''s/pg_hba.conf'"
        );
    }

    #[test]
    fn who_connects_by_an_address_of_the_machine_is_let_in() {
        let place = of("postgres -D /srv/pg").unwrap();
        let access = |host: &str| place.access(Some(&Endpoint::new(host, 5432)));
        assert_eq!(access("10.0.0.1"), Some(ACCESS));
        assert_eq!(access("db.example"), Some(ACCESS));
        for host in ["localhost", "127.0.0.1", "::1", "/run/postgresql"] {
            assert_eq!(access(host), None, "{host}");
        }
        // Its rules lie beside its configuration, and are its own still.
        let elsewhere = of("postgres -D /srv/pg -c config_file=/etc/pg.conf").unwrap();
        assert_eq!(elsewhere.access(Some(&Endpoint::new("10.0.0.1", 1))), None);
    }

    #[test]
    fn root_makes_no_directory_where_only_the_servers_user_says_so() {
        let top = tempfile::tempdir().unwrap();
        let usual = PathBuf::from("/var/lib/postgresql/7/shop");
        let file = top.path().join("postgresql.conf");
        assert_eq!(named_in(&file, usual.clone()), Some((usual.clone(), None)));
        std::fs::write(&file, "data_directory = '/srv/shop'\n").unwrap();
        let mode = |mode: u32| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&file, mode).unwrap();
        };
        mode(0o644);
        let ours = named_in(&file, usual.clone()).unwrap();
        assert_eq!(ours, ("/srv/shop".into(), None));
        mode(0o666);
        let theirs = named_in(&file, usual).unwrap();
        assert_eq!(theirs, ("/srv/shop".into(), Some(file.clone())));
        let same = named_in(&file, "/srv/shop".into()).unwrap();
        assert_eq!(same, ("/srv/shop".into(), None));

        let place = |(data, named_by): (PathBuf, Option<PathBuf>)| ClusterPlace {
            data,
            named_by,
            ..of("postgres -D /srv/shop").unwrap()
        };
        let us = rustix::process::geteuid().as_raw();
        let other = us + 1;
        assert!(place(ours).ensure_named(top.path(), other).is_ok());
        let place = place(theirs);
        assert!(place.ensure_named(top.path(), us).is_ok());
        let error = place.ensure_named(top.path(), other).unwrap_err();
        assert_eq!(error.code(), "postgres.directory_named");
        assert!(place.doubt().is_some());
    }

    #[test]
    fn a_configuration_that_is_no_file_is_not_waited_for() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("postgresql.conf");
        let made = std::process::Command::new("mkfifo").arg(&file).status();
        assert!(made.unwrap().success());
        assert_eq!(named_in(&file, "/usual".into()), None);
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        assert_eq!(named_in(&file, "/usual".into()), None);
    }
}
