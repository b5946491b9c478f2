//! Services of Compose projects on a plain Docker host, without a swarm.
//!
//! The engine is asked, never a compose file: which containers a service has is told by the labels
//! that Compose gives them, by exact names. What is restored is what runs: containers are stopped
//! and started, and none is made, removed or changed for good; but a project that has none at all can
//! be made from compose files that were restored. A service has as many instances as
//! it has containers that are up; one that had ended before stays so.
//!
//! Programs run in a container of the service, or, where none runs and for throwaway servers, in a
//! container of our own, made of the service's image with its data.

mod config;
mod containers;
mod counts;
mod endpoint;
mod external;
mod images;
mod inspect;
mod kept_volumes;
mod listed;
mod logs;
mod projects;
mod record;
mod start;
mod stop;
mod volumes;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

pub(crate) use self::listed::{Listed, listed};

use self::config::{ComposeConfig, ComposeName, ServiceConfig};
use self::containers::{Container, ServiceContainers};
use self::images::ComposeImages;
use self::kept_volumes::KeptVolumes;
use self::record::StopRecord;
use super::docker::address::Address;
use super::docker::engine::Engine;
use super::docker::exec::ExecProcess;
use super::docker::host_services::host_services;
use super::docker::json::text;
use super::docker::killed::KilledServices;
use super::docker::throwaway;
use super::docker::throwaway::{Helper, Recipe};
use super::local;
use crate::contract::{Images, Platform, Program, ServiceState, SiteConfig, Stacks, Volume};
use crate::model::{Endpoint, Error, ErrorKind, Finding, Result, Timestamp};
use crate::swap::records_in;
use crate::sys::process::command::{Command, Process, Scratch};
use crate::sys::process::programs::stranger;

/// Makes the Compose platform of a site from `[platform]`, `[services]` and `[volumes]`; relative
/// paths are taken from `base`, and `state` is for what is kept of swaps, of stopped containers and
/// of services of this host itself. Nothing is connected to.
pub(crate) fn make(config: &SiteConfig, base: &Path, state: &Path) -> Result<Arc<dyn Platform>> {
    let host = host_services(config)
        .map(|host| local::make(&host, base, state))
        .transpose()?;
    let config = ComposeConfig::read(config, base)?;
    let state = base.join(state);
    Ok(Arc::new(ComposePlatform {
        engine: Arc::new(Engine::manager(Address::Unix(config.socket.clone()))),
        killed: KilledServices::default(),
        kept: KeptVolumes::of(&state.join("services")),
        stopped: state.join("services"),
        records: records_in(&state.join("work")),
        host,
        config,
    }))
}

struct ComposePlatform {
    config: ComposeConfig,
    /// This host's.
    engine: Arc<Engine>,
    killed: KilledServices,
    kept: KeptVolumes,
    /// Where it is kept which containers were stopped.
    stopped: PathBuf,
    /// Where what is believed of swaps is kept.
    records: PathBuf,
    /// Services of this host itself that the site stops and starts too, such as cron.
    host: Option<Arc<dyn Platform>>,
}

impl fmt::Display for ComposeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of the Compose project {}",
            self.service, self.project
        )
    }
}

impl ComposePlatform {
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
                let known: Vec<&str> = self.config.order.iter().map(String::as_str).collect();
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

    async fn look(&self, service: &str) -> Result<(&ServiceConfig, ServiceContainers)> {
        let config = self.find(service)?;
        let containers = self.engine.service_containers(&config.name).await?;
        Ok((config, containers))
    }

    /// What is written down of the service's containers while they are down.
    fn record(&self, config: &ServiceConfig) -> StopRecord {
        StopRecord::of(&self.stopped, &config.name)
    }

    /// Runs a program in a container of our own.
    async fn aside(
        &self,
        containers: &ServiceContainers,
        command: &Command,
    ) -> Result<Box<dyn Process>> {
        let recipe = self.recipe(containers, command, None)?;
        let program = Helper::program(self.engine.clone(), &recipe).await?;
        Ok(Box::new(program))
    }

    /// A container as those of the service are; `user` instead of the service's own.
    fn recipe<'a>(
        &'a self,
        containers: &ServiceContainers,
        command: &'a Command,
        user: Option<String>,
    ) -> Result<Recipe<'a>> {
        let like = containers.newest().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "compose.no_containers",
                format!("the service {} has no containers", containers.name),
            )
        })?;
        let filled = |pointer: &str| text(&like.seen, pointer).filter(|text| !text.is_empty());
        Ok(Recipe {
            site: &self.config.site,
            of: format!("the service {}", containers.name),
            image: like.image(),
            mounts: like.mounts_to_make(),
            user: user.or_else(|| filled("/Config/User")),
            dir: filled("/Config/WorkingDir"),
            command,
            program: None,
        })
    }

    async fn within(&self, container: &Container, command: &Command) -> Result<Box<dyn Process>> {
        let process = ExecProcess::start(self.engine.clone(), &container.id, command).await?;
        Ok(Box::new(process))
    }
}

#[async_trait]
impl Platform for ComposePlatform {
    fn describe(&self) -> String {
        format!("Docker Compose at {}", self.engine.place())
    }

    fn services(&self) -> Vec<String> {
        self.config.order.clone()
    }

    async fn service(&self, name: &str) -> Result<ServiceState> {
        if let Some(host) = self.on_host(name) {
            return host.service(name).await;
        }
        let (config, containers) = self.look(name).await?;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let up: Vec<String> = containers.up().map(Container::describe).collect();
        let killed = self.killed.get(&config.key).filter(|_| up.is_empty());
        let detail = match (up.is_empty(), &killed) {
            (false, _) => format!("containers {}", up.join(", ")),
            (true, Some(why)) => format!("killed: {why}"),
            (true, None) => "no container runs".to_owned(),
        };
        let running = count(containers.running().count());
        let state = ServiceState::new(name, count(up.len()), running, detail);
        Ok(state.since(containers.running_since()).killed(killed))
    }

    async fn scale(&self, name: &str, replicas: u32) -> Result<()> {
        if let Some(host) = self.on_host(name) {
            return host.scale(name, replicas).await;
        }
        self.scale_to(self.find(name)?, replicas).await
    }

    async fn exec(&self, service: &str, command: Command) -> Result<Box<dyn Process>> {
        if let Some(host) = self.on_host(service) {
            return host.exec(service, command).await;
        }
        let (config, containers) = self.look(service).await?;
        match (containers.running().last(), containers.up().next()) {
            (Some(container), _) => self.within(container, &command).await,
            (None, Some(_)) => Err(endpoint::not_running(config, &containers)),
            (None, None) => self.aside(&containers, &command).await,
        }
    }

    async fn exec_each(&self, service: &str, command: Command) -> Result<Vec<Box<dyn Process>>> {
        if let Some(host) = self.on_host(service) {
            return host.exec_each(service, command).await;
        }
        let (config, containers) = self.look(service).await?;
        let running = containers.running().count();
        if running < containers.up().count() {
            return Err(endpoint::not_running(config, &containers));
        }
        if running == 0 {
            return Ok(vec![self.aside(&containers, &command).await?]);
        }
        let mut processes = Vec::new();
        for container in containers.running() {
            processes.push(self.within(container, &command).await?);
        }
        Ok(processes)
    }

    async fn logs(&self, service: &str, since: Timestamp, limit: usize) -> Result<Vec<String>> {
        if let Some(host) = self.on_host(service) {
            return host.logs(service, since, limit).await;
        }
        let (_, containers) = self.look(service).await?;
        logs::of_containers(&self.engine, containers.all.iter(), since, limit).await
    }

    async fn endpoint(&self, service: &str) -> Result<Endpoint> {
        if let Some(host) = self.on_host(service) {
            return host.endpoint(service).await;
        }
        if let Some(endpoint) = &self.find(service)?.endpoint {
            return Ok(endpoint.clone());
        }
        let (config, containers) = self.look(service).await?;
        endpoint::find(&self.engine, config, &containers).await
    }

    async fn endpoint_inside(&self, service: &str) -> Result<Endpoint> {
        if let Some(host) = self.on_host(service) {
            return host.endpoint_inside(service).await;
        }
        let (config, containers) = self.look(service).await?;
        endpoint::inside(config, &containers)
    }

    async fn volume(&self, name: &str) -> Result<Arc<dyn Volume>> {
        self.open_volume(name).await
    }

    async fn in_use_by(&self, volume: &str) -> Result<Vec<String>> {
        self.users_of(volume).await
    }

    async fn scratch(&self, service: &str, command: Command) -> Result<Box<dyn Scratch>> {
        if let Some(host) = self.on_host(service) {
            return host.scratch(service, command).await;
        }
        let (_, containers) = self.look(service).await?;
        let user = match self.owner_of(&containers).await? {
            Some((0, _)) | None if command.unprivileged => Some((stranger(), stranger())),
            user => user,
        };
        let user = user.map(|(uid, gid)| format!("{uid}:{gid}"));
        let recipe = self.recipe(&containers, &command, user)?;
        Ok(Box::new(
            Helper::server(self.engine.clone(), &recipe).await?,
        ))
    }

    async fn published(&self, service: &str, port: u16) -> Result<Vec<Endpoint>> {
        if let Some(host) = self.on_host(service) {
            return host.published(service, port).await;
        }
        let (config, containers) = self.look(service).await?;
        endpoint::published(&self.engine, config, &containers, port).await
    }

    fn images(&self) -> Option<Arc<dyn Images>> {
        Some(Arc::new(ComposeImages {
            engine: self.engine.clone(),
            services: self.config.services.clone(),
        }))
    }

    fn stacks(&self) -> Option<&dyn Stacks> {
        Some(self)
    }

    async fn path_in(&self, service: &str, host_path: &Path) -> Result<Option<PathBuf>> {
        if let Some(host) = self.on_host(service) {
            return host.path_in(service, host_path).await;
        }
        let (_, containers) = self.look(service).await?;
        self.seen_in(&containers, host_path).await
    }

    async fn owner(&self, service: &str) -> Result<Option<(u32, u32)>> {
        if let Some(host) = self.on_host(service) {
            return host.owner(service).await;
        }
        let (_, containers) = self.look(service).await?;
        self.owner_of(&containers).await
    }

    async fn inspect(&self, services: &[String]) -> Result<Vec<Finding>> {
        let of_compose: Vec<&str> = services
            .iter()
            .map(String::as_str)
            .filter(|name| self.on_host(name).is_none())
            .collect();
        self.findings(&of_compose).await
    }

    async fn unanswered(&self, service: &str) -> Result<Option<String>> {
        if let Some(host) = self.on_host(service) {
            return host.unanswered(service).await;
        }
        let (config, containers) = self.look(service).await?;
        match containers.running().next() {
            Some(_) => Ok(self.accepts(config, &containers).await.err()),
            None => Ok(None),
        }
    }

    fn programs(&self, service: &str) -> Vec<Program> {
        let host = self.on_host(service);
        host.map_or_else(Vec::new, |host| host.programs(service))
    }

    fn runs_here(&self, service: &str) -> bool {
        self.on_host(service).is_some()
    }

    async fn tidy(&self) -> Result<()> {
        throwaway::tidy(&self.engine, &self.config.site).await
    }

    async fn release(&self) -> Result<()> {
        self.give_all_back().await
    }
}
