//! Whether a running server writes its files where it looks for them when it starts again. Its
//! configuration may have been edited since it started, and CONFIG SET may have changed what it does:
//! what it holds is then lost with the stop, however well it was saved.

use std::path::Path;

use super::Redis;
use super::client::{Client, Info};
use super::configuration::{Configuration, Directive, INCLUDE, is_yes, of_arguments};
use crate::contract::Platform;
use crate::model::{Error, ErrorKind, Finding, Result};

/// What a server is configured to do with its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Files {
    port: Option<String>,
    dir: Option<String>,
    dbfilename: Option<String>,
    appendonly: Option<bool>,
    appendfilename: Option<String>,
    appenddirname: Option<String>,
}

impl Redis {
    /// Refuses where the server would not load, once it starts again, what it writes now. What cannot be
    /// compared (its programs are elsewhere, its configuration includes a file that cannot be read) is taken for
    /// the same.
    pub(super) async fn ensure_loads_what_it_writes(
        &self,
        client: &Client,
        info: &Info,
    ) -> Result<()> {
        let platform = self.platform.as_ref();
        ensure_loads_what_it_writes(platform, &self.section.service, client, info).await
    }
}

/// See [`Redis::ensure_loads_what_it_writes`].
pub(super) async fn ensure_loads_what_it_writes(
    platform: &dyn Platform,
    service: &str,
    client: &Client,
    info: &Info,
) -> Result<()> {
    if !platform.runs_here(service) {
        return Ok(());
    }
    if let Some(file) = named_by_command(platform, service)
        && !Path::new(&file).exists()
    {
        return Err(Error::new(
            ErrorKind::Preflight,
            "redis.no_configuration",
            format!("{service} is started with {file}, and there is no such file: it would not start again"),
        )
        .hint(format!("put the file there, or correct `command` of [services.{service}]")));
    }
    match compared(platform, service, client, info).await {
        Some(Compared { file, differing, known: true }) => Err(Error::new(
            ErrorKind::Preflight,
            "redis.saves_elsewhere",
            format!(
                "once {service} is stopped it would not start as it runs now, but with {}: what it holds would be lost, or it would not be found",
                told(&differing)
            ),
        )
        .hint(format!(
            "write {} into {file}, as it runs now, or restart {service} so that both agree; then plan again",
            put(&differing)
        ))),
        _ => Ok(()),
    }
}

/// That the configuration file of a server says otherwise than the server does, where nobody knows what else
/// starts it: a unit or a script may name the rest.
pub(super) async fn may_load_others(
    platform: &dyn Platform,
    service: &str,
    client: &Client,
    info: &Info,
) -> Option<Finding> {
    if !platform.runs_here(service) {
        return None;
    }
    let found = compared(platform, service, client, info).await;
    let Compared {
        file, differing, ..
    } = found.filter(|it| !it.known)?;
    let message = format!(
        "{file} says {}: unless what starts {service} says so too, what it holds is lost, or not found, once it is stopped",
        told(&differing)
    );
    Some(
        Finding::warning("redis.may_save_elsewhere", service, message).hint(format!(
            "look at how {service} is started; if that does not say so, write {} into {file} first",
            put(&differing)
        )),
    )
}

/// What a server would do otherwise once it is started again.
struct Compared {
    file: String,
    differing: Vec<Differing>,
    /// Whether all is known that it is started with.
    known: bool,
}

/// `None` where there is nothing, or it cannot be known.
async fn compared(
    platform: &dyn Platform,
    service: &str,
    client: &Client,
    info: &Info,
) -> Option<Compared> {
    let (file, starts, known) = starts_with(platform, service, info).await?;
    let mut runs = Files::default();
    for (name, slot) in [
        ("port", &mut runs.port),
        ("dir", &mut runs.dir),
        ("dbfilename", &mut runs.dbfilename),
        ("appendfilename", &mut runs.appendfilename),
        ("appenddirname", &mut runs.appenddirname),
    ] {
        // What it does not tell cannot be compared.
        *slot = client.setting(name).await.ok().flatten();
    }
    runs.appendonly = info.number("aof_enabled").map(|on| on == 1);
    let differing = differences(&runs, &starts);
    (!differing.is_empty()).then_some(Compared {
        file,
        differing,
        known,
    })
}

fn told(differing: &[Differing]) -> String {
    let told = differing
        .iter()
        .map(|it| format!("{} {} and not {}", it.name, it.starts, it.runs));
    told.collect::<Vec<_>>().join(", ")
}

fn put(differing: &[Differing]) -> String {
    let put = differing
        .iter()
        .map(|it| format!("`{} {}`", it.name, it.runs));
    put.collect::<Vec<_>>().join(", ")
}

/// One thing that will be otherwise after a start.
struct Differing {
    name: &'static str,
    runs: String,
    starts: String,
}

/// What decides which files are loaded, and is not the same.
fn differences(runs: &Files, starts: &Files) -> Vec<Differing> {
    let mut found = Vec::new();
    let mut compare = |name: &'static str, runs: &Option<String>, starts: &Option<String>| {
        if let (Some(runs), Some(starts)) = (runs, starts)
            && runs != starts
            && !(name == "dir" && is_same_directory(runs, starts))
        {
            found.push(Differing {
                name,
                runs: runs.clone(),
                starts: starts.clone(),
            });
        }
    };
    compare("port", &runs.port, &starts.port);
    compare("dir", &runs.dir, &starts.dir);
    match starts.appendonly {
        Some(true) => {
            compare(
                "appendfilename",
                &runs.appendfilename,
                &starts.appendfilename,
            );
            compare("appenddirname", &runs.appenddirname, &starts.appenddirname);
            if runs.appendonly == Some(false) {
                found.push(Differing {
                    name: "appendonly",
                    runs: "no".to_owned(),
                    starts: "yes".to_owned(),
                });
            }
        }
        // One that writes an append-only file now is made to write its RDB as well.
        Some(false) => compare("dbfilename", &runs.dbfilename, &starts.dbfilename),
        None => {}
    }
    found
}

/// Whether two names mean one directory. A relative one is taken from where the server was started,
/// which is not known.
fn is_same_directory(one: &str, other: &str) -> bool {
    let real = |path: &str| {
        Path::new(path)
            .canonicalize()
            .unwrap_or_else(|_| path.into())
    };
    !other.starts_with('/') || real(one) == real(other)
}

/// The configuration that the command which starts the server names, and what it says; else the one
/// that the server says it has read. `None` where that cannot be known. And whether the command is known.
async fn starts_with(
    platform: &dyn Platform,
    service: &str,
    info: &Info,
) -> Option<(String, Files, bool)> {
    let programs = platform.programs(service);
    let server = programs.iter().find(|it| is_server(&it.program));
    let arguments = server.map_or(&[][..], |it| &it.arguments[..]);
    let named = arguments.first().filter(|it| it.starts_with('/'));
    let says = info.text("config_file").filter(|it| it.starts_with('/'));
    let file = named.map(String::as_str).or(says)?.to_owned();
    let mut starts = of_directives(&Configuration::read(&file).await?.directives)?;
    starts.set_all(&of_arguments(arguments));
    Some((file, starts, server.is_some()))
}

/// The configuration that the command which starts the server names.
fn named_by_command(platform: &dyn Platform, service: &str) -> Option<String> {
    let programs = platform.programs(service);
    let server = programs.iter().find(|it| is_server(&it.program))?;
    server
        .arguments
        .first()
        .filter(|it| it.starts_with('/'))
        .cloned()
}

/// Whether a server that is started with these words keeps what it holds when it is stopped in good
/// order: it writes an append-only file, or has save points. `None` where its configuration cannot be read.
pub(super) async fn saves_when_stopped(arguments: &[String]) -> Option<bool> {
    let file = arguments.first().filter(|it| it.starts_with('/'));
    let mut all = match file {
        Some(file) => Configuration::read(file).await?.directives,
        None => Vec::new(),
    };
    all.extend(of_arguments(arguments));
    keeps(&all)
}

/// What [`saves_when_stopped`] finds in these directives.
fn keeps(directives: &[Directive]) -> Option<bool> {
    let (mut points, mut log) = (Some(true), Some(false));
    for (name, value) in directives {
        match name.as_str() {
            "save" => points = Some(!value.is_empty()),
            "appendonly" => log = Some(is_yes(value)),
            INCLUDE => (points, log) = (None, None),
            _ => {}
        }
    }
    match (points, log) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        (None, _) | (_, None) => None,
    }
}

/// Whether this is the program of a server of this kind.
pub(crate) fn is_server(program: &str) -> bool {
    let name = Path::new(program)
        .file_name()
        .and_then(|name| name.to_str());
    name.is_some_and(|name| {
        ["redis-server", "valkey-server", "keydb-server"]
            .iter()
            .any(|known| name.starts_with(known))
    })
}

/// What a configuration file says, with what a server does where it says nothing. `None` where it is empty.
fn of_directives(all: &[Directive]) -> Option<Files> {
    let mut files = Files {
        dbfilename: Some("dump.rdb".to_owned()),
        appendonly: Some(false),
        appendfilename: Some("appendonly.aof".to_owned()),
        appenddirname: Some("appendonlydir".to_owned()),
        ..Files::default()
    };
    files.set_all(all);
    (!all.is_empty()).then_some(files)
}

impl Files {
    fn set_all(&mut self, directives: &[Directive]) {
        for (name, value) in directives {
            let value = value.clone();
            match name.as_str() {
                "port" => self.port = Some(value),
                "dir" => self.dir = Some(value),
                "dbfilename" => self.dbfilename = Some(value),
                "appendonly" => self.appendonly = Some(is_yes(&value)),
                "appendfilename" => self.appendfilename = Some(value),
                "appenddirname" => self.appenddirname = Some(value),
                // What was said so far may be said otherwise there.
                INCLUDE => *self = Self::default(),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::configuration::of_text;
    use super::*;

    fn of_file(text: &str) -> Option<Files> {
        of_directives(&of_text(text))
    }

    fn running(text: &str) -> Files {
        let mut files = of_file("port 1").unwrap();
        files.dir = Some("/var/lib/redis".to_owned());
        files.set_all(&of_text(text));
        files
    }

    fn names(runs: &str, file: &str, arguments: &[&str]) -> Vec<&'static str> {
        let mut starts = of_file(file).unwrap();
        let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
        starts.set_all(&of_arguments(&arguments));
        let found = differences(&running(runs), &starts);
        found.iter().map(|it| it.name).collect()
    }

    #[test]
    fn a_server_that_would_load_other_files_is_seen() {
        let none: [&str; 0] = [];
        assert_eq!(names("", "dir /var/lib/redis\nsave \"\"", &[]), none);
        assert_eq!(
            names("", "port 1\ndbfilename shop.rdb", &[]),
            ["dbfilename"]
        );
        assert_eq!(names("", "dir \"/srv/other\"", &[]), ["dir"]);
        assert_eq!(names("port 1", "port 2", &[]), ["port"]);
        assert_eq!(names("port 1", "dir /var/lib/redis", &[]), none);
        // From where the server was started, which nobody knows.
        assert_eq!(names("", "dir ./", &[]), none);
        assert_eq!(names("dir /srv/other", "dir /var/lib/redis", &[]), ["dir"]);
        assert_eq!(names("", "appendonly yes", &[]), ["appendonly"]);
        assert_eq!(names("appendonly yes", "appendonly yes", &[]), none);
        // It is made to write its RDB before it is stopped.
        assert_eq!(names("appendonly yes", "appendonly no", &[]), none);
        assert_eq!(
            names("appendonly yes", "appendonly yes\nappenddirname a", &[]),
            ["appenddirname"]
        );
        // With an append-only file the RDB is not looked at.
        assert_eq!(
            names("appendonly yes\ndbfilename x", "appendonly yes", &[]),
            none
        );
        let arguments = ["/etc/redis.conf", "--dbfilename", "x.rdb", "--port", "1"];
        assert_eq!(names("", "port 1", &arguments), ["dbfilename"]);
        assert_eq!(names("dbfilename x.rdb", "port 1", &arguments), none);
        assert_eq!(of_file("# nothing\n"), None);
        // Of a file that cannot be read nobody knows what it says; what is said behind it counts.
        let other = "dbfilename a\ndir /srv/other\ninclude /etc/other.conf\nport 2";
        assert_eq!(names("port 1\ndbfilename b", other, &[]), ["port"]);
    }

    #[test]
    fn a_server_without_save_points_keeps_nothing() {
        let keeps = |text: &str| keeps(&of_text(text));
        assert_eq!(keeps("port 1"), Some(true));
        assert_eq!(keeps("save \"\""), Some(false));
        assert_eq!(keeps("save \"\"\nappendonly yes"), Some(true));
        assert_eq!(keeps("save \"\"\nsave 60 1"), Some(true));
        assert_eq!(keeps("save 60 1\ninclude /etc/x"), None);
        assert_eq!(keeps("include /etc/x\nsave 60 1"), Some(true));
    }

    #[test]
    fn servers_are_told_by_their_programs() {
        assert!(is_server("/usr/bin/redis-server"));
        assert!(is_server("valkey-server"));
        assert!(!is_server("/usr/bin/redis-cli"));
        assert!(!is_server("/usr/bin/"));
    }
}
