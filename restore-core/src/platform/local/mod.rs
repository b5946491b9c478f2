//! Services that are processes of this machine, volumes that are directories.
//!
//! A service is either a `command` that we supervise, or a `start`/`stop`/`status` triple.
//!
//! - A command runs in a process group of its own with its output appended to its log, and
//!   outlives us. What we started is written to `STATE/services/NAME.pid` with its start, so a
//!   recycled pid is never mistaken for it. A server that was started by other means is adopted
//!   through its own `pid_file`, which we only ever read. Its environment is a clean one: `PATH`,
//!   the language, the time zone, and its user's `HOME`.
//! - A triple's commands run as ourselves; `user` then says whom the service runs as, for
//!   programs that run in its context and for the owner of staged data.
//!
//! What runs is what is wanted: a process has no desired count apart from its being there, so
//! that of a service is 1 while it runs and 0 while it does not.

mod account;
mod config;
mod exec;
mod launch;
mod logs;
mod pid_file;
mod procs;
mod ready;
mod scratch;
mod supervised;
mod swap;
mod tail;
mod triple;
mod volume;
mod watch;

pub use volume::LocalVolume;

pub(crate) use swap::{Keep as TreePatterns, relative as tree_path};
pub(super) use {config::endpoint as parse_endpoint, tail::Tail};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use self::account::Account;
use self::config::{How, ServiceConfig};
use self::logs::LogFile;
use self::supervised::Supervised;
use self::triple::Triple;
use crate::config::{SiteConfig, parse_section, section_of, take_kind};
use crate::error::{Error, ErrorKind, Result};
use crate::platform::{
    Command, Endpoint, Platform, Process, Scratch, ServiceState, Volume, no_nodes,
};
use crate::time::Timestamp;

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
            Ok((name.clone(), base.join(section.path)))
        })
        .collect::<Result<_>>()?;
    Ok(Arc::new(LocalPlatform { services, volumes }))
}

/// Starts a program as ourselves, in the context of no service.
pub(crate) fn plain_process(command: &Command) -> Result<Box<dyn Process>> {
    Ok(Box::new(exec::spawn(command, None)?))
}

/// The same, killed by the kernel when this process ends, however it ends.
pub(crate) fn bound_process(command: &Command) -> Result<Box<dyn Process>> {
    Ok(Box::new(exec::spawn_bound(command)?))
}

/// Starts a throwaway server as the user and group of these numbers, or as ourselves.
pub(crate) async fn scratch_as(
    command: Command,
    owner: Option<(u32, u32)>,
) -> Result<Box<dyn Scratch>> {
    let account = owner.map(|(uid, gid)| Account::of(uid, gid));
    Ok(Box::new(scratch::spawn(command, account).await?))
}

#[derive(Debug)]
struct LocalPlatform {
    services: Vec<Service>,
    volumes: Vec<(String, PathBuf)>,
}

#[derive(Debug)]
struct Service {
    name: String,
    account: Option<Account>,
    endpoint: Option<Endpoint>,
    log: Option<Arc<LogFile>>,
    runner: Runner,
}

#[derive(Debug)]
enum Runner {
    Supervised(Supervised),
    Triple(Box<Triple>),
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
                How::Triple {
                    start,
                    stop,
                    status,
                },
                _,
            ) => Runner::Triple(Box::new(Triple {
                config: config.clone(),
                start,
                stop,
                status,
                words: state.join(format!("{name}.words")),
            })),
        };
        Ok(Self {
            name,
            account: config.account,
            endpoint: config.endpoint,
            log,
            runner,
        })
    }

    async fn state(&self) -> Result<ServiceState> {
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
                    None => (
                        false,
                        service.note().unwrap_or_else(|| "not running".to_owned()),
                    ),
                }
            }
            Runner::Triple(service) if service.runs().await? => (true, "running".to_owned()),
            Runner::Triple(_) => (false, "not running".to_owned()),
        };
        Ok(ServiceState {
            name: self.name.clone(),
            desired: running.into(),
            running: running.into(),
            detail,
            since: None,
        })
    }
}

impl LocalPlatform {
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
            (0, Runner::Triple(service)) => service.stop().await,
            (1, Runner::Triple(service)) => service.start().await,
            _ => Err(Error::new(
                ErrorKind::Failed,
                "local.scale",
                format!("cannot run {replicas} of {name}: the local platform runs a service once"),
            )
            .hint("give each further instance a service of its own")),
        }
    }

    async fn exec(&self, service: &str, command: Command) -> Result<Box<dyn Process>> {
        let account = self.find(service)?.account.as_ref();
        Ok(Box::new(exec::spawn(&command, account)?))
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

    async fn scratch(&self, service: &str, command: Command) -> Result<Box<dyn Scratch>> {
        let account = self.find(service)?.account.clone();
        Ok(Box::new(scratch::spawn(command, account).await?))
    }

    async fn path_in(&self, _service: &str, host_path: &Path) -> Result<Option<PathBuf>> {
        Ok(Some(host_path.to_owned()))
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

async fn open_volume(name: &str, path: &Path) -> Result<Arc<dyn Volume>> {
    let missing = |why: String| {
        Error::new(
            ErrorKind::NotFound,
            "platform.no_volume",
            format!("the volume {name} is not there: {} {why}", path.display()),
        )
        .hint("make the directory, or correct its path: looking never makes one")
    };
    match tokio::fs::metadata(path).await {
        Ok(meta) if meta.is_dir() => Ok(Arc::new(LocalVolume::new(path))),
        Ok(_) => Err(missing("is not a directory".to_owned())),
        Err(e) => Err(missing(format!("cannot be opened ({e})")).source(e)),
    }
}

/// Runs blocking work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::new(
            ErrorKind::Internal,
            "local.task",
            format!("a task of the local platform broke off: {e}"),
        )),
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
