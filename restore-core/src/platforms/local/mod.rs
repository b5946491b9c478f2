//! Services that are processes of this machine, volumes that are directories.
//!
//! A service is either a `command` that we supervise, or a `start`/`stop`/`status` triple.
//!
//! - A command runs in a process group of its own with its output appended to its log, and
//!   outlives us. What we started is written to `STATE/services/NAME.pid` with its start, so a
//!   recycled pid is never mistaken for it. A server that was started by other means is adopted
//!   through its own `pid_file`, which we only ever read. Its environment is a clean one: `PATH`,
//!   the language, the time zone, and its user's `HOME`; it runs in the directory that its section
//!   names, else in the folder of the configuration.
//! - A triple's commands run as ourselves; `user` then says whom the service runs as, for
//!   programs that run in its context and for the owner of staged data.
//!
//! What runs is what is wanted: a process has no desired count apart from its being there, so
//! that of a service is 1 while it runs and 0 while it does not.

mod config;
mod external_service;
mod logs;
mod pid_file;
mod ready;
mod supervised;
mod volume;

use crate::contract::config::{section_of, take_kind};
use crate::contract::nodes::no_nodes;
use crate::contract::{Platform, Program, ServiceState, SiteConfig, Volume, parse_section};
use crate::model::{Endpoint, Error, ErrorKind, Finding, Result, Timestamp};
use crate::swap::{LocalVolume, records_in};
use crate::sys::absent::AbsentDirectory;
use crate::sys::blocking::blocking;
use crate::sys::process::account::Account;
use crate::sys::process::command::{Command, Process, Scratch};
use crate::sys::process::programs::stranger;

pub(crate) use config::endpoint as parse_endpoint;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use self::config::{How, Ready, ServiceConfig, WorkingDir};
use self::external_service::ExternalService;
use self::logs::LogFile;
use self::supervised::Supervised;

/// Servers that go into a directory of their own by themselves, or to whom it means nothing.
const BY_THEMSELVES: [&str; 5] = [
    "nginx",
    "postgres",
    "postmaster",
    "redis-server",
    "valkey-server",
];

/// `[platform]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlatformSection {
    #[serde(rename = "kind")]
    _kind: Option<String>,
}

/// `[volumes.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeSection {
    path: PathBuf,
    /// Use it whoever could lead its path elsewhere, and where it leads now.
    #[serde(default)]
    follow: bool,
}

/// Makes the local platform of a site from `[platform]`, `[services]` and `[volumes]`; `state`
/// is a private directory, below which `services/` holds pid files and logs. Relative paths are
/// taken from `base`. Nothing is written or started.
pub fn make(config: &SiteConfig, base: &Path, state: &Path) -> Result<Arc<dyn Platform>> {
    parse_section::<PlatformSection>("platform", config.platform.clone())?;
    if config.platform.contains_key("kind") {
        take_kind("platform", &mut config.platform.clone(), &["local"])?;
    }
    if let Some(name) = config.nodes.keys().next() {
        return Err(no_nodes(&format!("[nodes.{name}]"), "section"));
    }
    let records = records_in(&base.join(state).join("work"));
    let state = base.join(state).join("services");
    let services = config
        .services
        .iter()
        .map(|(name, value)| Service::new(ServiceConfig::read(name, value, base, &state)?, &state))
        .collect::<Result<_>>()?;
    let volumes = config
        .volumes
        .iter()
        .map(|(name, value)| {
            let section: VolumeSection = section_of(&format!("volumes.{name}"), value)?;
            let volume = LocalVolume::new(base.join(section.path))
                .kept_in(&records)
                .followed(section.follow);
            Ok((name.clone(), volume))
        })
        .collect::<Result<_>>()?;
    Ok(Arc::new(LocalPlatform { services, volumes }))
}

#[derive(Debug)]
struct LocalPlatform {
    services: Vec<Service>,
    volumes: Vec<(String, LocalVolume)>,
}

#[derive(Debug)]
struct Service {
    name: String,
    account: Option<Account>,
    place: WorkingDir,
    endpoint: Option<Endpoint>,
    ready: Ready,
    log: Option<Arc<LogFile>>,
    runner: Runner,
}

#[derive(Debug)]
enum Runner {
    Supervised(Supervised),
    ExternalService(Box<ExternalService>),
}

impl Service {
    fn new(config: ServiceConfig, state: &Path) -> Result<Self> {
        let log = config.log.clone().map(|path| Arc::new(LogFile::open(path)));
        let name = config.name.clone();
        let runner = match (config.how.clone(), &log) {
            (How::Command { argv, signal }, Some(log)) => {
                let record = state.join(format!("{name}.pid"));
                let config = config.clone();
                Runner::Supervised(Supervised::new(config, argv, signal, record, log.clone()))
            }
            (How::Command { .. }, None) => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "local.no_log",
                    format!("the command of the service {name} was given no log"),
                ));
            }
            (
                How::ExternalService {
                    start,
                    stop,
                    status,
                },
                _,
            ) => Runner::ExternalService(Box::new(ExternalService {
                config: config.clone(),
                start,
                stop,
                status,
                words: state.join(format!("{name}.words")),
                ending: state.join(format!("{name}.ending")),
            })),
        };
        Ok(Self {
            name,
            account: config.account,
            place: config.place,
            endpoint: config.endpoint,
            ready: config.ready,
            log,
            runner,
        })
    }

    /// What is worth knowing of the directory that the service will be started in.
    async fn directory_finding(&self) -> Option<Finding> {
        let Runner::Supervised(running) = &self.runner else {
            return None;
        };
        let name = &self.name;
        if let Some(said) = self.place.said() {
            // It may lie in what the run makes.
            return (!said.is_dir()).then(|| {
                Finding::warning(
                    "local.no_directory",
                    name.clone(),
                    format!("is to run in {}, and there is no such directory", said.display()),
                )
                .hint(format!(
                    "make the directory, or correct `directory` of [services.{name}]: without it the service does not start"
                ))
            });
        }
        let program = Path::new(running.command().first()?).file_name()?;
        if BY_THEMSELVES.iter().any(|known| program == *known) {
            return None;
        }
        let pid = running.find().await.ok()?.leader?.pid;
        let now = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        let then = self.place.of_service(self.account.as_ref());
        // Who needs none is in `/`.
        if now == Path::new("/") || now == then || then.canonicalize().is_ok_and(|it| it == now) {
            return None;
        }
        Some(
            Finding::warning(
                "local.other_directory",
                name.clone(),
                format!("runs in {} now, and would be started in {}", now.display(), then.display()),
            )
            .hint(format!(
                "where it finds its files by relative paths it would find others: add directory = {:?} to [services.{name}]",
                now.display().to_string()
            )),
        )
    }

    async fn state(&self) -> Result<ServiceState> {
        let mut killed = None;
        let (running, detail) = match &self.runner {
            Runner::Supervised(service) => {
                let found = service.find().await?;
                match found.leader {
                    Some(leader) => (true, format!("pid {}", leader.pid)),
                    None if !found.orphans.is_empty() => (
                        true,
                        format!(
                            "its first process is gone, {} that it left behind still run",
                            found.orphans.len()
                        ),
                    ),
                    None => {
                        killed = service.note();
                        let why = killed.as_ref().map(|why| format!("killed: {why}"));
                        (false, why.unwrap_or_else(|| "not running".to_owned()))
                    }
                }
            }
            Runner::ExternalService(service) if service.runs().await? => {
                (true, "running".to_owned())
            }
            Runner::ExternalService(_) => (false, "not running".to_owned()),
        };
        Ok(ServiceState {
            name: self.name.clone(),
            desired: running.into(),
            running: running.into(),
            detail,
            since: None,
            killed,
            done: 0,
        })
    }
}

impl LocalPlatform {
    /// Whom a program of the service runs as; `None`: as ourselves.
    fn account(&self, service: &str, command: &Command) -> Result<Option<Account>> {
        let account = self.find(service)?.account.clone();
        let is_root = account.as_ref().map_or_else(
            || rustix::process::geteuid().is_root(),
            |account| account.uid == 0,
        );
        Ok(match command.unprivileged && is_root {
            true => Some(Account::of(stranger(), stranger())),
            false => account,
        })
    }

    /// A program of the service that does not care where it runs, in the service's directory.
    fn placed(
        &self,
        service: &str,
        mut command: Command,
        account: Option<&Account>,
    ) -> Result<Command> {
        if command.dir.is_none() {
            command.dir = Some(self.find(service)?.place.of_programs(account));
        }
        Ok(command)
    }

    fn find(&self, name: &str) -> Result<&Service> {
        self.services
            .iter()
            .find(|service| service.name == name)
            .ok_or_else(|| {
                let known: Vec<&str> = self.services.iter().map(|s| s.name.as_str()).collect();
                Error::new(
                    ErrorKind::NotFound,
                    "platform.no_service",
                    format!("this site has no service {name:?}"),
                )
                .hint(match known.as_slice() {
                    [] => format!("describe it under [services.{name}]"),
                    known => format!(
                        "known are {}; add it under [services.{name}] or correct the name",
                        known.join(", ")
                    ),
                })
            })
    }
}

#[async_trait]
impl Platform for LocalPlatform {
    fn describe(&self) -> String {
        "local processes of this machine".to_owned()
    }

    fn services(&self) -> Vec<String> {
        self.services.iter().map(|s| s.name.clone()).collect()
    }

    async fn service(&self, name: &str) -> Result<ServiceState> {
        self.find(name)?.state().await
    }

    async fn scale(&self, name: &str, replicas: u32) -> Result<()> {
        let service = self.find(name)?;
        match (replicas, &service.runner) {
            (0, Runner::Supervised(service)) => service.stop().await,
            (1, Runner::Supervised(service)) => service.start().await,
            (0, Runner::ExternalService(service)) => service.stop().await,
            (1, Runner::ExternalService(service)) => service.start().await,
            _ => Err(Error::new(
                ErrorKind::Failed,
                "local.scale",
                format!("cannot run {replicas} of {name}: the local platform runs a service once"),
            )
            .hint("give each further instance a service of its own")),
        }
    }

    async fn exec(&self, service: &str, command: Command) -> Result<Box<dyn Process>> {
        let account = self.account(service, &command)?;
        let command = self.placed(service, command, account.as_ref())?;
        Ok(Box::new(crate::sys::process::exec::spawn(
            &command,
            account.as_ref(),
        )?))
    }

    async fn logs(&self, service: &str, since: Timestamp, limit: usize) -> Result<Vec<String>> {
        let Some(log) = self.find(service)?.log.clone() else {
            return Ok(Vec::new());
        };
        blocking(move || log.since(since.into(), limit)).await
    }

    async fn endpoint(&self, service: &str) -> Result<Endpoint> {
        self.find(service)?.endpoint.clone().ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "platform.no_endpoint",
                format!("[services.{service}] does not say where clients connect"),
            )
            .hint("add endpoint = \"127.0.0.1:PORT\", or \"/SOCKET/DIRECTORY:PORT\"")
        })
    }

    async fn volume(&self, name: &str) -> Result<Arc<dyn Volume>> {
        let Some((_, path)) = self.volumes.iter().find(|(known, _)| known == name) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                "platform.no_volume",
                format!("this site has no volume {name:?}"),
            )
            .hint(format!("describe it under [volumes.{name}]")));
        };
        open_volume(name, path).await
    }

    async fn absent_volume(&self, name: &str) -> Result<Option<AbsentDirectory>> {
        let known = self.volumes.iter().find(|(known, _)| known == name);
        let Some(volume) = known.map(|(_, volume)| volume) else {
            return Ok(None);
        };
        match tokio::fs::symlink_metadata(volume.root()).await {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Some(volume.absent())),
            _ => Ok(None),
        }
    }

    async fn scratch(&self, service: &str, command: Command) -> Result<Box<dyn Scratch>> {
        let account = self.account(service, &command)?;
        let command = self.placed(service, command, account.as_ref())?;
        Ok(Box::new(
            crate::sys::process::scratch::spawn(command, account).await?,
        ))
    }

    async fn path_in(&self, _service: &str, host_path: &Path) -> Result<Option<PathBuf>> {
        Ok(Some(host_path.to_owned()))
    }

    async fn unanswered(&self, service: &str) -> Result<Option<String>> {
        let found = self.find(service)?;
        let Some(endpoint) = found
            .endpoint
            .as_ref()
            .filter(|_| found.ready == Ready::Tcp)
        else {
            return Ok(None);
        };
        if found.state().await?.running == 0 {
            return Ok(None);
        }
        let tried = ready::accepts(endpoint).await;
        Ok(tried
            .err()
            .map(|why| format!("{}: {why}", ready::shown(endpoint))))
    }

    async fn inspect(&self, services: &[String]) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        for service in &self.services {
            if services.contains(&service.name) {
                found.extend(service.directory_finding().await);
            }
        }
        Ok(found)
    }

    fn programs(&self, service: &str) -> Vec<Program> {
        let Ok(found) = self.find(service) else {
            return Vec::new();
        };
        let named = |key: &str, words: &[String]| {
            Program::of(format!("{key} of [services.{service}]"), None, words)
        };
        match &found.runner {
            Runner::Supervised(running) => {
                let user = found.account.as_ref().map(|account| account.uid);
                let program = named("command", running.command());
                Vec::from_iter(program.map(|program| program.run_by(user)))
            }
            Runner::ExternalService(triple) => [
                ("start", &triple.start),
                ("stop", &triple.stop),
                ("status", &triple.status),
            ]
            .into_iter()
            .filter_map(|(key, words)| named(key, words))
            .collect(),
        }
    }

    fn start_command(&self, service: &str) -> Vec<String> {
        match self.find(service).map(|found| &found.runner) {
            Ok(Runner::Supervised(running)) => running.command().to_vec(),
            Ok(Runner::ExternalService(triple)) => triple.start.clone(),
            Err(_) => Vec::new(),
        }
    }

    fn runs_here(&self, _service: &str) -> bool {
        true
    }

    async fn owner(&self, service: &str) -> Result<Option<(u32, u32)>> {
        Ok(Some(match &self.find(service)?.account {
            Some(account) => (account.uid, account.gid),
            None => (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
        }))
    }
}

async fn open_volume(name: &str, volume: &LocalVolume) -> Result<Arc<dyn Volume>> {
    let path = volume.path().unwrap_or_default();
    let missing = |why: String| {
        Error::new(
            ErrorKind::NotFound,
            "platform.no_volume",
            format!("the volume {name} is not there: {} {why}", path.display()),
        )
        .hint("is its disk mounted, and is its path right? looking never makes it; `restore run ID --create` does")
    };
    match tokio::fs::metadata(&path).await {
        Ok(meta) if meta.is_dir() => Ok(Arc::new(volume.clone())),
        Ok(_) => Err(missing("is not a directory".to_owned()).hint(
            "move away what has its name; then `restore run ID --create` makes the directory",
        )),
        Err(e) if path.is_symlink() => Err(missing(format!("cannot be opened ({e})")).hint(
            "it is a link that leads to nothing: put back what it leads to, or delete the link; then `restore run ID --create` makes the directory",
        )),
        Err(e) => Err(missing(format!("cannot be opened ({e})")).source(e)),
    }
}

/// Log lines for a message, short.
fn last_lines(lines: &[String]) -> String {
    if lines.iter().all(|line| line.trim().is_empty()) {
        return "it said nothing".to_owned();
    }
    let short: Vec<String> = lines
        .iter()
        .map(|line| line.trim().chars().take(200).collect())
        .filter(|line: &String| !line.is_empty())
        .collect();
    format!("its last words: {}", short.join("; "))
}
