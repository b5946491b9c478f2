//! Volumes: which node has one, and how its files are reached.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::Mutex;

use super::SwarmPlatform;
use super::config::VolumeConfig;
use super::lock::HeldLock;
use super::nodes::Node;
use super::snapshot::ServiceSnapshot;
use crate::contract::{PlatformLock, Volume};
use crate::model::{Error, ErrorKind, Result};
use crate::platforms::docker::agent::RemoteVolume;
use crate::platforms::docker::agent_container::{AgentContainer, MountSource};
use crate::platforms::docker::engine::Engine;
use crate::platforms::docker::json::{encoded, text};
use crate::platforms::docker::mounts::directory_of;
use crate::platforms::docker::throwaway::SITE;
use crate::swap::LocalVolume;

/// Containers beside volumes and trees, by node and what they are beside: made when first needed,
/// used until the work is done.
#[derive(Default)]
pub(super) struct AgentPool(Mutex<HashMap<(String, MountSource), Arc<AgentContainer>>>);

impl AgentPool {
    /// Takes the containers away. They would go with this process in any case.
    async fn end(&self) {
        let opened: Vec<_> = self.0.lock().await.drain().collect();
        for (_, beside) in opened {
            let _ = beside.end().await;
        }
    }
}

/// The lock of a site; with the work that it was for the containers end too.
pub(super) struct PlatformLockGuard {
    pub(super) held: Arc<HeldLock>,
    pub(super) opened: Arc<AgentPool>,
}

#[async_trait]
impl PlatformLock for PlatformLockGuard {
    async fn release(self: Box<Self>) -> Result<()> {
        self.opened.end().await;
        let lock = self.held.lock.lock().await.take();
        match lock {
            Some(lock) => lock.release().await,
            None => Ok(()),
        }
    }
}

/// Where a volume is.
struct Home {
    node: Node,
    engine: Arc<Engine>,
    /// What that engine says of it.
    volume: Value,
}

impl SwarmPlatform {
    /// What the site says of a volume. One needs no section: its name says all.
    pub(super) fn volume_named(&self, name: &str) -> VolumeConfig {
        let volumes = &self.config.volumes;
        let named = volumes.iter().find(|volume| volume.key == name).cloned();
        named.unwrap_or_else(|| VolumeConfig {
            key: name.to_owned(),
            name: name.to_owned(),
            path: None,
            node: None,
            follow: false,
        })
    }

    /// See [`Platform::volume`](crate::platform::Platform::volume).
    pub(super) async fn open_volume(&self, config: &VolumeConfig) -> Result<Arc<dyn Volume>> {
        let services = self.users_of(&config.name).await?;
        let home = self.home_of(config, &services).await?;
        if home.engine.is_here() {
            let path = config.path.clone().or_else(|| directory_of(&home.volume));
            if let Some(path) = path {
                let usable = rustix::process::geteuid().is_root()
                    && tokio::fs::metadata(&path)
                        .await
                        .is_ok_and(|meta| meta.is_dir());
                if usable {
                    return Ok(Arc::new(
                        LocalVolume::new(path)
                            .kept_in(&self.records)
                            .followed(config.follow),
                    ));
                }
                if config.path.is_some() {
                    return Err(Error::new(
                        ErrorKind::Preflight,
                        "swarm.volume_unreachable",
                        format!(
                            "the volume {} cannot be used from here: {} is no directory that we may change",
                            config.name,
                            path.display()
                        ),
                    )
                    .hint(format!(
                        "run this as root, and correct `path` of [volumes.{0}]; without that key a container beside the volume is used",
                        config.key
                    )));
                }
            }
        }
        let place = match home.engine.is_here() {
            true => None,
            false => directory_of(&home.volume).map(|path| (home.node.name.clone(), path)),
        };
        let subject = MountSource::Volume(config.name.clone());
        let images = match self.named_image(&home.node) {
            Some(image) => vec![image],
            None => {
                // Whose data it is writes to it; what only looks on is an exporter, or a backup.
                let looks_on = |view: &&ServiceSnapshot| {
                    let mounts = view.mounts();
                    let mut of_it = mounts.iter().filter(|it| it.source == config.name);
                    of_it.all(|mount| mount.read_only)
                };
                let mut services: Vec<&ServiceSnapshot> = services.iter().collect();
                services.sort_by_key(looks_on);
                services.into_iter().map(ServiceSnapshot::image).collect()
            }
        };
        let beside = self.beside(home.node, home.engine, subject, images).await;
        let volume = RemoteVolume::new(beside).sealed_in(&self.records);
        Ok(Arc::new(match place {
            Some((node, path)) => volume.lying_at(node, path),
            None => volume,
        }))
    }

    /// The image that the site names for containers on a node.
    pub(super) fn named_image(&self, node: &Node) -> Option<String> {
        self.nodes.config(node)?.image.clone()
    }

    /// What starts agents beside something of a node, in one container for all who ask.
    pub(super) async fn beside(
        &self,
        node: Node,
        engine: Arc<Engine>,
        subject: MountSource,
        images: Vec<String>,
    ) -> Arc<AgentContainer> {
        let mut opened = self.opened.0.lock().await;
        let key = (node.id, subject.clone());
        let beside = opened.entry(key).or_insert_with(|| {
            Arc::new(AgentContainer {
                engine,
                node: node.name,
                subject,
                site: self.config.site.clone(),
                images,
                agent: self.config.agent.clone(),
                kept: Mutex::default(),
            })
        });
        beside.clone()
    }

    /// The services that mount the volume of this name, each with its tasks.
    pub(super) async fn users_of(&self, name: &str) -> Result<Vec<ServiceSnapshot>> {
        let mut users = Vec::new();
        for service in self.engine.all_services().await? {
            let uses = service
                .mounts()
                .iter()
                .any(|mount| mount.kind == "volume" && mount.source == name);
            if uses {
                users.push(self.engine.view(&service.name).await?);
            }
        }
        Ok(users)
    }

    /// Finds the node that has the volume: as the site says, else where the services that mount it
    /// run or last ran or alone may be started, else where there is one of this name. A volume of
    /// the same name on another node is another one, and usually empty.
    async fn home_of(&self, config: &VolumeConfig, services: &[ServiceSnapshot]) -> Result<Home> {
        let name = &config.name;
        if let Some(node) = &config.node {
            return self.at_home(config, self.nodes.by_name(node).await?).await;
        }
        let mut ids = BTreeSet::new();
        for view in services {
            let local = view.mounts().into_iter();
            let mut local = local.filter(|mount| mount.source == *name && mount.driver == "local");
            if local.next().is_none() {
                continue;
            }
            let running: Vec<&str> = view
                .running()
                .filter_map(|task| task.node.as_deref())
                .collect();
            match running.is_empty() {
                true => ids.extend(self.nodes.last_node(view).await?),
                false => ids.extend(running.into_iter().map(str::to_owned)),
            }
        }
        let which = format!(
            "say which one is meant: node = \"…\" in [volumes.{}]",
            config.key
        );
        let mut ids = ids.into_iter();
        match (ids.next(), ids.next()) {
            (Some(id), None) => self.at_home(config, self.nodes.by_id(&id).await?).await,
            (Some(first), Some(second)) => {
                let names = [
                    self.nodes.by_id(&first).await?.name,
                    self.nodes.by_id(&second).await?.name,
                ];
                Err(Error::new(
                    ErrorKind::Preflight,
                    "swarm.volume_ambiguous",
                    format!(
                        "the services that mount the volume {name} run on several nodes ({}), each with a volume of its own",
                        names.join(", ")
                    ),
                )
                .hint(which))
            }
            (None, _) => {
                let mut homes = Vec::new();
                for node in self.nodes.all().await? {
                    if !self.nodes.has_way_to(&node).await? {
                        continue;
                    }
                    let engine = self.nodes.engine_of(&node).await?;
                    if let Some(volume) = engine.volume(name).await? {
                        homes.push(Home {
                            node,
                            engine,
                            volume,
                        });
                    }
                }
                let names: Vec<String> = homes.iter().map(|home| home.node.name.clone()).collect();
                match (homes.len(), homes.pop()) {
                    (1, Some(home)) => Ok(home),
                    (0, _) | (_, None) => Err(self.no_volume(&self.engine, name).await),
                    _ => Err(Error::new(
                        ErrorKind::Preflight,
                        "swarm.volume_ambiguous",
                        format!("several nodes have a volume {name}: {}", names.join(", ")),
                    )
                    .hint(which)),
                }
            }
        }
    }

    async fn at_home(&self, config: &VolumeConfig, node: Node) -> Result<Home> {
        let name = &config.name;
        let engine = self.nodes.engine_of(&node).await;
        let engine = engine.map_err(|error| error.context(format!("the volume {name}")))?;
        match engine.volume(name).await? {
            Some(volume) => Ok(Home {
                node,
                engine,
                volume,
            }),
            None => Err(self.no_volume(&engine, name).await),
        }
    }

    /// The programs that containers run which use a volume, but for our own.
    pub(super) async fn programs_on(&self, config: &VolumeConfig) -> Result<Vec<String>> {
        let services = self.users_of(&config.name).await?;
        let Home { node, engine, .. } = self.home_of(config, &services).await?;
        let filters = serde_json::json!({"volume": [config.name]}).to_string();
        let path = format!("/containers/json?filters={}", encoded(&filters));
        let listed = engine.get("list the containers", &path).await?;
        let mut programs = Vec::new();
        for container in listed.as_array().into_iter().flatten() {
            let ours = container.get("Labels").and_then(|labels| labels.get(SITE));
            let (None, Some(id)) = (ours, text(container, "/Id")) else {
                continue;
            };
            let name = text(container, "/Names/0").unwrap_or_else(|| id.clone());
            let name = name.trim_start_matches('/');
            for line in engine.programs_in(&id).await? {
                programs.push(format!(
                    "{line} (container {name} of the node {})",
                    node.name
                ));
            }
        }
        Ok(programs)
    }

    async fn no_volume(&self, engine: &Engine, name: &str) -> Error {
        let error = Error::new(
            ErrorKind::NotFound,
            "platform.no_volume",
            format!(
                "the engine at {} has no volume of the exact name {name:?}",
                engine.place()
            ),
        );
        let listed = engine.get("list the volumes", "/volumes").await;
        let names: Vec<String> = listed
            .ok()
            .and_then(|value| value.get("Volumes")?.as_array().cloned())
            .unwrap_or_default()
            .iter()
            .filter_map(|volume| text(volume, "/Name"))
            .filter(|known| known.contains(name) || name.contains(known.as_str()))
            .collect();
        let known = match names.as_slice() {
            [] => "`docker volume ls` shows the names; looking never makes one".to_owned(),
            names => format!(
                "it has {}; stacks put their name before a volume's: STACK_VOLUME",
                names.join(", ")
            ),
        };
        error.hint(format!(
            "{known}; where it is gone, `docker volume create {name}` on that engine makes an empty one (with the driver and options that it had), then plan again"
        ))
    }
}
