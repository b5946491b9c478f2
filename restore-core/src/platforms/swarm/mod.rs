//! Services of a Docker Swarm, volumes of its engines.
//!
//! Services and volumes are known by their exact names: the swarm is asked for a service's tasks,
//! and nothing is ever looked for by a part of a name. A service is scaled to stop it, and has
//! stopped once its containers have exited, not once the swarm wants no more of them.
//!
//! Programs run in a container of a running task, or, where a service does not run and for
//! throwaway servers, in a container of our own, made of the service's image with its data; such
//! containers carry labels by which the next process finds what a killed one left behind.
//!
//! The swarm is asked at one of its managers; what runs or lies on another node is reached through
//! that node's own engine, where the site says where it is.

mod config;
mod described;
mod drain;
mod endpoint;
mod ground;
mod images;
mod listed;
mod lock;
mod logs;
mod needs;
mod nodes;
mod parts;
mod place;
mod placement;
mod recipe;
mod scale;
mod snapshot;
mod stack_files;
mod stacks;
mod trees;
mod volumes;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;

pub(crate) use self::listed::listed;

use self::config::{ServiceConfig, SwarmConfig};
use self::lock::HeldLock;
use self::nodes::{Nodes, RunningTask};
use self::snapshot::ServiceSnapshot;
use self::volumes::AgentPool;
use super::docker::engine::Engine;
use super::docker::exec::ExecProcess;
use super::docker::host_services::host_services;
use super::docker::killed::KilledServices;
use super::docker::throwaway;
use super::docker::throwaway::{Helper, Recipe};
use super::local;
use crate::contract::{Images, Platform, PlatformLock, ServiceState, SiteConfig, Stacks, Volume};
use crate::model::{Endpoint, Error, ErrorKind, Finding, Result, Timestamp};
use crate::swap::records_in;
use crate::sys::process::command::{Command, Process, Scratch};
use crate::sys::process::programs::stranger;

/// Makes the swarm platform of a site from `[platform]`, `[services]` and `[volumes]`; relative
/// paths are taken from `base`, and `state` is for what is kept of swaps and of services of this host
/// itself. Nothing is
/// connected to.
pub(crate) fn make(config: &SiteConfig, base: &Path, state: &Path) -> Result<Arc<dyn Platform>> {
    let host = host_services(config)
        .map(|host| local::make(&host, base, state))
        .transpose()?;
    let config = SwarmConfig::read(config, base)?;
    let engine = Arc::new(Engine::manager(config.address.clone()));
    Ok(Arc::new(SwarmPlatform {
        nodes: Arc::new(Nodes::new(engine.clone(), config.nodes.clone())),
        engine,
        notes: KilledServices::default(),
        opened: Arc::default(),
        held: Mutex::default(),
        records: records_in(&base.join(state).join("work")),
        host,
        config,
    }))
}

struct SwarmPlatform {
    config: SwarmConfig,
    /// That of `[platform]`: a manager's, which is asked about the swarm.
    engine: Arc<Engine>,
    /// Those of the nodes.
    nodes: Arc<Nodes>,
    notes: KilledServices,
    /// Volumes with containers beside them.
    opened: Arc<AgentPool>,
    /// The lock under which this process works, while it does.
    held: Mutex<Weak<HeldLock>>,
    /// Where what is believed of swaps is kept.
    records: PathBuf,
    /// Services of this host itself that the site stops and starts too, such as cron.
    host: Option<Arc<dyn Platform>>,
}

impl SwarmPlatform {
    /// What this process does to the site just now, and the lock under which it does.
    fn held(&self) -> Option<Arc<HeldLock>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.upgrade()
    }

    /// The platform of a service of this host itself.
    fn on_host(&self, name: &str) -> Option<&Arc<dyn Platform>> {
        let host = self.host.as_ref()?;
        host.services().iter().any(|it| it == name).then_some(host)
    }

    fn find(&self, name: &str) -> Result<&ServiceConfig> {
        let services = &self.config.services;
        services
            .iter()
            .find(|service| service.key == name)
            .ok_or_else(|| {
                let known: Vec<&str> = services.iter().map(|s| s.key.as_str()).collect();
                Error::new(
                    ErrorKind::NotFound,
                    "platform.no_service",
                    format!("this site has no service {name:?}"),
                )
                .hint(match known.as_slice() {
                    [] => format!("name it: [services.{name}]"),
                    known => format!(
                        "known are {}; add [services.{name}] or correct the name",
                        known.join(", ")
                    ),
                })
            })
    }

    async fn view(&self, service: &str) -> Result<(&ServiceConfig, ServiceSnapshot)> {
        let config = self.find(service)?;
        Ok((config, self.engine.view(&config.name).await?))
    }

    /// Runs a program in a container of our own.
    async fn aside(&self, view: &ServiceSnapshot, command: &Command) -> Result<Box<dyn Process>> {
        let engine = self.nodes.home(view).await?;
        let recipe = Recipe::of(&self.config.site, view, command, None);
        Ok(Box::new(Helper::program(engine, &recipe).await?))
    }

    async fn within(place: &RunningTask, command: &Command) -> Result<Box<dyn Process>> {
        let process = ExecProcess::start(place.engine.clone(), &place.container, command).await?;
        Ok(Box::new(process))
    }
}

#[async_trait]
impl Platform for SwarmPlatform {
    fn describe(&self) -> String {
        format!("Docker Swarm at {}", self.engine.place())
    }

    fn services(&self) -> Vec<String> {
        self.config.order.clone()
    }

    async fn service(&self, name: &str) -> Result<ServiceState> {
        if let Some(host) = self.on_host(name) {
            return host.service(name).await;
        }
        let (config, view) = self.view(name).await?;
        let running = u32::try_from(view.running().count()).unwrap_or(u32::MAX);
        let mut tasks: Vec<String> = view
            .running()
            .map(|task| format!("{}.{}", task.slot, task.id.get(..8).unwrap_or(&task.id)))
            .collect();
        tasks.sort();
        let killed = self.notes.get(&config.key).filter(|_| tasks.is_empty());
        let done = scale::number(scale::done(config, &view).len());
        let detail = match (tasks.is_empty(), &killed) {
            (false, _) => format!("tasks {}", tasks.join(", ")),
            (true, Some(why)) => format!("killed: {why}"),
            (true, None) if done > 0 => {
                format!("{done} of its tasks have ended well, and are not started again")
            }
            (true, None) => "no task runs".to_owned(),
        };
        let state = ServiceState::new(name, scale::desired(&view), running, detail).done(done);
        Ok(state.since(view.running_since()).killed(killed))
    }

    async fn scale(&self, name: &str, replicas: u32) -> Result<()> {
        if let Some(host) = self.on_host(name) {
            return host.scale(name, replicas).await;
        }
        self.scale_to(self.find(name)?, replicas).await
    }

    async fn scale_at_least(&self, name: &str, replicas: u32, least: u32) -> Result<()> {
        if let Some(host) = self.on_host(name) {
            return host.scale_at_least(name, replicas, least).await;
        }
        self.scale_to_least(self.find(name)?, replicas, least).await
    }

    async fn exec(&self, service: &str, command: Command) -> Result<Box<dyn Process>> {
        if let Some(host) = self.on_host(service) {
            return host.exec(service, command).await;
        }
        let (config, view) = self.view(service).await?;
        match self.nodes.place(&view).await? {
            Some(place) => Self::within(&place, &command).await,
            None if view.running().count() > 0 => Err(endpoint::not_running(config, &view)),
            None => self.aside(&view, &command).await,
        }
    }

    async fn exec_each(&self, service: &str, command: Command) -> Result<Vec<Box<dyn Process>>> {
        if let Some(host) = self.on_host(service) {
            return host.exec_each(service, command).await;
        }
        let (config, view) = self.view(service).await?;
        if view.running().count() == 0 {
            return Ok(vec![self.aside(&view, &command).await?]);
        }
        let places = self.nodes.places(&view).await?;
        if places.len() < view.running().count() {
            return Err(endpoint::not_running(config, &view));
        }
        let mut processes = Vec::new();
        for place in &places {
            processes.push(Self::within(place, &command).await?);
        }
        Ok(processes)
    }

    async fn logs(&self, service: &str, since: Timestamp, limit: usize) -> Result<Vec<String>> {
        if let Some(host) = self.on_host(service) {
            return host.logs(service, since, limit).await;
        }
        let (_, view) = self.view(service).await?;
        logs::of_service(&self.engine, &view, since, limit).await
    }

    async fn endpoint(&self, service: &str) -> Result<Endpoint> {
        if let Some(host) = self.on_host(service) {
            return host.endpoint(service).await;
        }
        let config = self.find(service)?;
        if let Some(endpoint) = &config.endpoint {
            return Ok(endpoint.clone());
        }
        let view = self.engine.view(&config.name).await?;
        endpoint::find(&self.nodes, config, &view).await
    }

    async fn unanswered(&self, service: &str) -> Result<Option<String>> {
        if let Some(host) = self.on_host(service) {
            return host.unanswered(service).await;
        }
        let (config, view) = self.view(service).await?;
        match view.running().next() {
            Some(_) => Ok(self.accepts(config, &view).await.err()),
            None => Ok(None),
        }
    }

    async fn endpoint_inside(&self, service: &str) -> Result<Endpoint> {
        if let Some(host) = self.on_host(service) {
            return host.endpoint_inside(service).await;
        }
        let (config, view) = self.view(service).await?;
        endpoint::inside(&self.nodes, config, &view).await
    }

    async fn volume(&self, name: &str) -> Result<Arc<dyn Volume>> {
        self.open_volume(&self.volume_named(name)).await
    }

    async fn volume_in(&self, service: &str, volume: &str) -> Result<Option<PathBuf>> {
        if let Some(path) = self.volume(volume).await?.path() {
            return self.path_in(service, &path).await;
        }
        if self.on_host(service).is_some() {
            return Ok(None);
        }
        let name = self.volume_named(volume).name;
        let (_, view) = self.view(service).await?;
        let mounted = |mount: &snapshot::Mount| mount.kind == "volume" && mount.source == name;
        let mount = view.mounts().into_iter().find(mounted);
        Ok(mount.map(|mount| PathBuf::from(mount.target)))
    }

    async fn at_work_on(&self, volume: &str) -> Result<Vec<String>> {
        self.programs_on(&self.volume_named(volume)).await
    }

    async fn in_use_by(&self, volume: &str) -> Result<Vec<String>> {
        let users = self.users_of(&self.volume_named(volume).name).await?;
        let active = users
            .iter()
            // A job, of which no number is wanted, is one of its running tasks.
            .filter(|view| {
                let is_to_run =
                    scale::desired(view) > 0 && !scale::is_done(&self.named(&view.name), view);
                is_to_run || view.running().next().is_some()
            });
        let key = |view: &ServiceSnapshot| {
            let named = self.config.services.iter().find(|it| it.name == view.name);
            named.map_or_else(|| view.name.clone(), |it| it.key.clone())
        };
        Ok(active.map(key).collect())
    }

    async fn scratch(&self, service: &str, command: Command) -> Result<Box<dyn Scratch>> {
        if let Some(host) = self.on_host(service) {
            return host.scratch(service, command).await;
        }
        let (_, view) = self.view(service).await?;
        let user = self.owner_of(&view).await?;
        let user = match user {
            Some((0, _)) | None if command.unprivileged => Some((stranger(), stranger())),
            user => user,
        };
        let user = user.map(|(uid, gid)| format!("{uid}:{gid}"));
        let engine = self.nodes.home(&view).await?;
        let recipe = Recipe::of(&self.config.site, &view, &command, user);
        Ok(Box::new(Helper::server(engine, &recipe).await?))
    }

    async fn published(&self, service: &str, port: u16) -> Result<Vec<Endpoint>> {
        if let Some(host) = self.on_host(service) {
            return host.published(service, port).await;
        }
        let (config, view) = self.view(service).await?;
        endpoint::published(&self.nodes, config, &view, port).await
    }

    fn images(&self) -> Option<Arc<dyn Images>> {
        Some(Arc::new(images::EngineImages::new(
            self.engine.clone(),
            self.nodes.clone(),
            &self.config,
        )))
    }

    fn stacks(&self) -> Option<&dyn Stacks> {
        Some(self)
    }

    fn nodes(&self) -> Option<&dyn crate::contract::Nodes> {
        Some(self)
    }

    async fn path_in(&self, service: &str, host_path: &Path) -> Result<Option<PathBuf>> {
        if let Some(host) = self.on_host(service) {
            return host.path_in(service, host_path).await;
        }
        let (_, view) = self.view(service).await?;
        self.seen_in(&view, host_path).await
    }

    async fn owner(&self, service: &str) -> Result<Option<(u32, u32)>> {
        if let Some(host) = self.on_host(service) {
            return host.owner(service).await;
        }
        let (_, view) = self.view(service).await?;
        self.owner_of(&view).await
    }

    async fn inspect(&self, services: &[String]) -> Result<Vec<Finding>> {
        let of_swarm: Vec<String> = services
            .iter()
            .filter(|name| self.on_host(name).is_none())
            .cloned()
            .collect();
        self.findings(&of_swarm).await
    }

    async fn tidy(&self) -> Result<()> {
        throwaway::tidy(&self.engine, &self.config.site).await?;
        for node in self.nodes.all().await? {
            if !self.nodes.has_way_to(&node).await? || self.nodes.own().await? == node.id {
                continue;
            }
            // What is left on a node that is away takes nobody's place there: it is found when
            // that is back.
            match self.nodes.engine_of(&node).await {
                Ok(engine) => {
                    let tidied = throwaway::tidy(&engine, &self.config.site).await;
                    tidied.or_else(|error| {
                        if error.is_retryable() {
                            Ok(())
                        } else {
                            Err(error)
                        }
                    })?;
                }
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn lock(&self, action: &str) -> Result<Option<Box<dyn PlatformLock>>> {
        let held = HeldLock::take(&self.engine, &self.config.site, action).await?;
        let held = Arc::new(held);
        // Where it is dropped, as by a crash, it beats no longer.
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&held);
        let opened = self.opened.clone();
        Ok(Some(Box::new(volumes::PlatformLockGuard { held, opened })))
    }

    async fn ensure_unlocked(&self) -> Result<()> {
        lock::probe(&self.engine, &self.config.site).await
    }

    async fn lock_holder(&self) -> Result<Option<String>> {
        lock::holder(&self.engine, &self.config.site).await
    }

    async fn break_lock(&self) -> Result<()> {
        lock::break_open(&self.engine, &self.config.site).await
    }
}

/// For `fuzz/`: an archive of images.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    crate::platforms::docker::image_archive::fuzz(bytes);
}

/// For `fuzz/`: a compose file.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_compose(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let _ = stack_files::StackFiles::read("stack", &[("/srv/stack.yml".into(), text)]);
}
