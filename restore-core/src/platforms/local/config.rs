//! `[services.NAME]` of the local platform.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::contract::ConfigDuration;
use crate::contract::config::section_of;
use crate::model::{Endpoint, Error, ErrorKind, Result};
use crate::sys::process::account::Account;

/// The section as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    command: Option<Vec<String>>,
    directory: Option<PathBuf>,
    start: Option<Vec<String>>,
    stop: Option<Vec<String>>,
    status: Option<Vec<String>>,
    user: Option<String>,
    pid_file: Option<PathBuf>,
    log: Option<PathBuf>,
    endpoint: Option<String>,
    ready: Option<Ready>,
    stop_signal: Option<String>,
    stop_timeout: Option<ConfigDuration>,
    start_timeout: Option<ConfigDuration>,
    /// Read by the site, whose services are also those of other platforms.
    #[serde(rename = "after")]
    _after: Option<IgnoredAny>,
    #[serde(rename = "wait")]
    _wait: Option<IgnoredAny>,
}

/// When a service that runs is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ready {
    /// Its endpoint accepts a connection.
    Tcp,
    /// It runs, and still does after a moment.
    Process,
}

/// How a service is started and stopped.
#[derive(Clone, Debug)]
pub(super) enum How {
    /// By us: a command and the signal that ends it.
    Command { argv: Vec<String>, signal: Signal },
    /// By three commands of someone else's.
    ExternalService {
        start: Vec<String>,
        stop: Vec<String>,
        status: Vec<String>,
    },
}

/// Where a service and programs in its context are started: never where the operator happens to stand.
#[derive(Clone, Debug)]
pub(super) struct WorkingDir {
    /// The directory that the section names.
    said: Option<PathBuf>,
    /// The folder of the configuration.
    base: PathBuf,
}

impl WorkingDir {
    /// The directory that the section names.
    pub(super) fn said(&self) -> Option<&Path> {
        self.said.as_deref()
    }

    /// Where the service is started that runs as `account`: in the directory that its section names, else in
    /// the folder of the configuration, or in `/` where that is closed to it.
    pub(super) fn of_service(&self, account: Option<&Account>) -> PathBuf {
        match &self.said {
            Some(said) => said.clone(),
            None => self.of_programs(account),
        }
    }

    /// Where other programs are started in the context of the service: as the service is, where they can be.
    pub(super) fn of_programs(&self, account: Option<&Account>) -> PathBuf {
        let mut places = self.said.iter().chain([&self.base]);
        let place = places.find(|place| may_enter(place, account));
        place.cloned().unwrap_or_else(|| PathBuf::from("/"))
    }
}

/// Whether a user may stand in a directory, as owners and modes have it. PostgreSQL does not start in one that
/// it cannot come back to.
fn may_enter(directory: &Path, account: Option<&Account>) -> bool {
    let (uid, gid) = account.map_or_else(
        || {
            (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            )
        },
        |account| (account.uid, account.gid),
    );
    directory.ancestors().all(|at| {
        std::fs::metadata(at).is_ok_and(|meta| {
            let enters = if meta.uid() == uid {
                0o100
            } else if meta.gid() == gid {
                0o010
            } else {
                0o001
            };
            meta.is_dir() && (uid == 0 || meta.mode() & enters != 0)
        })
    })
}

/// A service, read and checked.
#[derive(Clone, Debug)]
pub(super) struct ServiceConfig {
    pub(super) name: String,
    pub(super) how: How,
    pub(super) account: Option<Account>,
    pub(super) place: WorkingDir,
    /// The server's own pid file, which we only read.
    pub(super) pid_file: Option<PathBuf>,
    pub(super) log: Option<PathBuf>,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) ready: Ready,
    pub(super) stop_timeout: Duration,
    pub(super) start_timeout: Duration,
}

impl ServiceConfig {
    /// Reads `[services.name]`; relative paths are taken from `base`, logs without a name go
    /// below `state`.
    pub(super) fn read(name: &str, value: &Value, base: &Path, state: &Path) -> Result<Self> {
        let path = format!("services.{name}");
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(bad(&path, format!("{name:?} cannot name a service")));
        }
        let section: Section = section_of(&path, value)?;
        let account = section
            .user
            .as_deref()
            .map(|user| Account::find(&path, user))
            .transpose()?;
        let endpoint = section
            .endpoint
            .as_deref()
            .map(|text| endpoint(&path, text))
            .transpose()?;
        let ready = section.ready.unwrap_or(Ready::Process);
        if ready == Ready::Tcp && endpoint.is_none() {
            return Err(bad(&path, "ready = \"tcp\" needs the key `endpoint`"));
        }
        let supervised = section.command.is_some();
        if section.directory.is_some() && !supervised {
            return Err(bad(
                &path,
                "`directory` belongs to a `command`; three commands are run in the folder of the configuration",
            )
            .hint("start it there: start = [\"env\", \"-C\", \"/the/directory\", …]"));
        }
        let how = match (section.command, section.start, section.stop, section.status) {
            (Some(mut argv), None, None, None) => {
                based(&mut argv, base);
                refuse_root_postgres(&path, &argv, account.as_ref())?;
                let signal = section.stop_signal.as_deref().unwrap_or("SIGTERM");
                How::Command {
                    signal: self::signal(&path, signal)?,
                    argv,
                }
            }
            (None, Some(mut start), Some(mut stop), Some(mut status)) => {
                if section.stop_signal.is_some() {
                    return Err(bad(
                        &path,
                        "`stop_signal` belongs to a `command`; `stop` ends this service",
                    ));
                }
                for argv in [&mut start, &mut stop, &mut status] {
                    based(argv, base);
                }
                How::ExternalService {
                    start,
                    stop,
                    status,
                }
            }
            _ => {
                return Err(bad(
                    &path,
                    "needs either `command`, or all of `start`, `stop` and `status`",
                ));
            }
        };
        let log = match section.log {
            Some(log) => Some(base.join(log)),
            None => supervised.then(|| state.join(format!("{name}.log"))),
        };
        Ok(Self {
            name: name.to_owned(),
            how,
            account,
            place: WorkingDir {
                said: section.directory.map(|directory| base.join(directory)),
                base: base.to_owned(),
            },
            pid_file: section.pid_file.map(|file| base.join(file)),
            log,
            endpoint,
            ready,
            stop_timeout: section.stop_timeout.map_or(DEFAULT_TIMEOUT, |time| time.0),
            start_timeout: section.start_timeout.map_or(DEFAULT_TIMEOUT, |time| time.0),
        })
    }
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

fn bad(path: &str, message: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Config,
        "config.bad_value",
        format!("[{path}] {message}"),
    )
}

/// A program named by a relative path is relative to the configuration; a bare name is searched.
fn based(argv: &mut [String], base: &Path) {
    if let Some(program) = argv.first_mut()
        && program.contains('/')
    {
        *program = base.join(&*program).to_string_lossy().into_owned();
    }
}

/// PostgreSQL refuses to run as root, and says so only once it is needed.
fn refuse_root_postgres(path: &str, argv: &[String], account: Option<&Account>) -> Result<()> {
    let uid = account.map_or_else(
        || rustix::process::geteuid().as_raw(),
        |account| account.uid,
    );
    let program = argv.first().map(Path::new).and_then(Path::file_name);
    let postgres = program.is_some_and(|name| name == "postgres" || name == "postmaster");
    if uid == 0 && postgres {
        return Err(Error::new(
            ErrorKind::Config,
            "local.postgres_as_root",
            format!("[{path}] PostgreSQL never runs as root"),
        )
        .hint("name the owner of its data directory: user = \"postgres\""));
    }
    Ok(())
}

/// Reads `HOST:PORT` or `/DIRECTORY:PORT`; `path` is the section that has it.
pub(crate) fn endpoint(path: &str, text: &str) -> Result<Endpoint> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        Some((host, port.parse::<u16>().ok().filter(|port| *port != 0)?))
    });
    match parts {
        Some((host, port)) if !host.is_empty() => Ok(Endpoint::new(host, port)),
        _ => Err(bad(
            path,
            format!("endpoint {text:?} is not HOST:PORT or /DIRECTORY:PORT"),
        )),
    }
}

fn signal(path: &str, name: &str) -> Result<Signal> {
    Ok(match name.strip_prefix("SIG").unwrap_or(name) {
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "HUP" => Signal::HUP,
        "KILL" => Signal::KILL,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        _ => {
            return Err(bad(
                path,
                format!(
                    "stop_signal {name:?} is none of SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGKILL, SIGUSR1, SIGUSR2"
                ),
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ServiceConfig> {
        let value: Value = toml::from_str(text).unwrap();
        ServiceConfig::read("x", &value, Path::new("/base"), Path::new("/state"))
    }

    #[test]
    fn relative_paths_come_from_the_base() {
        let service = read(
            "command = ['bin/x', 'bin/y']\npid_file = 'x.pid'\nendpoint = '[::1]:5'\nready = 'tcp'",
        )
        .unwrap();
        let How::Command { argv, signal } = service.how else {
            unreachable!()
        };
        assert_eq!(argv, ["/base/bin/x", "bin/y"]);
        assert_eq!(signal, Signal::TERM);
        assert_eq!(service.pid_file, Some(PathBuf::from("/base/x.pid")));
        assert_eq!(service.log, Some(PathBuf::from("/state/x.log")));
        assert_eq!(service.endpoint, Some(Endpoint::new("::1", 5)));
        let service = read("command = ['x']\ndirectory = 'www'").unwrap();
        assert_eq!(service.place.said(), Some(Path::new("/base/www")));
        assert_eq!(service.place.of_service(None), Path::new("/base/www"));
    }

    #[test]
    fn what_is_closed_to_a_user_is_no_place_to_start_in() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let place = |said: Option<&str>| WorkingDir {
            said: said.map(|name| dir.path().join(name)),
            base: dir.path().to_owned(),
        };
        let mode = |mode: u32| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(dir.path(), mode).unwrap();
        };
        let stranger = Account::of(64_999, 64_999);
        mode(0o755);
        assert_eq!(place(None).of_service(Some(&stranger)), dir.path());
        mode(0o700);
        assert_eq!(place(None).of_service(Some(&stranger)), Path::new("/"));
        assert_eq!(place(None).of_service(None), dir.path());
        // What the section says is taken at its word; other programs go where they can.
        let absent = dir.path().join("absent");
        assert_eq!(place(Some("absent")).of_service(None), absent);
        assert_eq!(place(Some("absent")).of_programs(None), dir.path());
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (text, says) in [
            ("start = ['x']", "either `command`, or all of"),
            ("command = ['x']\nstart = ['y']", "either `command`, or"),
            ("command = ['x']\nready = 'tcp'", "needs the key `endpoint`"),
            ("command = ['x']\nendpoint = '5432'", "HOST:PORT"),
            ("command = ['x']\nstop_signal = 'SIGFOO'", "SIGFOO"),
            ("command = ['x']\nstop_timout = '1s'", "`stop_timout`"),
            (
                "start = ['x']\nstop = ['x']\nstatus = ['x']\ndirectory = '/x'",
                "`directory` belongs to a `command`",
            ),
            (
                "command = ['x']\nuser = 'nobody-of-that-name'",
                "nobody-of-that-name",
            ),
            (
                "start = ['x']\nstop = ['x']\nstatus = ['x']\nstop_signal = 'SIGINT'",
                "`stop_signal`",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.message().contains(says), "{error}");
        }
    }

    #[test]
    fn postgres_as_root_is_refused() {
        let error =
            read("command = ['/usr/lib/postgresql/15/bin/postgres', '-D', '/x']\nuser = 'root'")
                .unwrap_err();
        assert_eq!(error.code(), "local.postgres_as_root");
    }
}
