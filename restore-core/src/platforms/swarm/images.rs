//! The images of a swarm's engines.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use tokio::io::AsyncRead;

use super::config::{ServiceConfig, SwarmConfig};
use super::nodes::{Node, Nodes};
use super::snapshot::ServiceSnapshot;
use crate::archive::Source;
use crate::contract::{ImageUser, Images, LoadedImage};
use crate::model::{Progress, Result};
use crate::platforms::docker::engine::Engine;
use crate::platforms::docker::images::plain;
use crate::platforms::docker::json::text;
use crate::sys::space::Space;

/// The images of one engine, and the services of its swarm.
pub(super) struct EngineImages {
    engine: Arc<Engine>,
    /// A manager's.
    manager: Arc<Engine>,
    nodes: Arc<Nodes>,
    services: Vec<ServiceConfig>,
    /// Stacks are deployed from restored files.
    deploys: bool,
}

impl EngineImages {
    /// Those of the engine of `[platform]`.
    pub(super) fn new(manager: Arc<Engine>, nodes: Arc<Nodes>, config: &SwarmConfig) -> Self {
        Self {
            engine: manager.clone(),
            manager,
            nodes,
            services: config.services.clone(),
            deploys: config.deploys,
        }
    }

    /// The nodes other than ours that run tasks of the service, or may be given some. A node that
    /// is down runs none.
    async fn others(&self, view: &ServiceSnapshot) -> Result<Vec<Node>> {
        let own = self.nodes.own().await?;
        let fits = self.nodes.fitting(view).await?;
        let mut all = self.nodes.all().await?;
        all.retain(|node| {
            let runs = view
                .unended()
                .any(|task| task.node.as_ref() == Some(&node.id));
            let may = node.takes_tasks && fits.iter().any(|fit| fit.id == node.id);
            node.id != own && node.is_ready() && (runs || may)
        });
        Ok(all)
    }
}

#[async_trait]
impl Images for EngineImages {
    async fn names(&self) -> Result<Vec<(String, String)>> {
        self.engine.image_names().await
    }

    async fn id(&self, name: &str) -> Result<Option<String>> {
        self.engine.image_id(name).await
    }

    async fn load(&self, source: Source, progress: Progress) -> Result<Vec<LoadedImage>> {
        self.engine.load_images(source, progress).await
    }

    async fn save(&self, name: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        self.engine.save_image(name).await
    }

    async fn tag(&self, id: &str, name: &str) -> Result<()> {
        self.engine.tag_image(id, name).await
    }

    async fn untag(&self, name: &str) -> Result<()> {
        self.engine.untag_image(name).await
    }

    async fn users(&self, name: &str) -> Result<Vec<ImageUser>> {
        let mut users = Vec::new();
        for service in self.manager.all_services().await? {
            let (plain, pinned) = plain(&service.image());
            if plain != name {
                continue;
            }
            let view = self.manager.view(&service.name).await?;
            let key = self.services.iter().find(|known| known.name == view.name);
            let mut beyond = Vec::new();
            for node in self.others(&view).await? {
                if !self.nodes.has_way_to(&node).await? {
                    beyond.push(node.how_to_add_named());
                }
            }
            let mut running = BTreeSet::new();
            for engine in self.nodes.seen(view.running()).await?.values() {
                for container in engine.containers_of(&view.id).await? {
                    let path = format!("/containers/{container}/json");
                    let seen = engine.get("look at a container", &path).await;
                    // One that has ended in between runs nothing.
                    running.extend(seen.ok().and_then(|seen| text(&seen, "/Image")));
                }
            }
            users.push(ImageUser {
                key: key.map(|known| known.key.clone()),
                image: service.image(),
                pinned,
                resolved: pinned && service.names_tag_alone(),
                beyond,
                running: running.into_iter().collect(),
                service: view.name.clone(),
                keeps_image: false,
            });
        }
        Ok(users)
    }

    async fn elsewhere(&self, names: &[String]) -> Result<Vec<String>> {
        let mut places = BTreeSet::new();
        let mut unused: BTreeSet<&String> = names.iter().collect();
        for service in self.manager.all_services().await? {
            let (plain, _) = plain(&service.image());
            if !names.contains(&plain) {
                continue;
            }
            unused.remove(&plain);
            let view = self.manager.view(&service.name).await?;
            for node in self.others(&view).await? {
                if self.nodes.has_way_to(&node).await? {
                    places.insert(node.id);
                }
            }
        }
        // Restored compose files may name it, and only the engine's own program reads those.
        if self.deploys && !unused.is_empty() {
            let nodes = self.nodes.given_tasks().await?;
            places.extend(nodes.with_way.into_iter().map(|node| node.id));
        }
        Ok(places.into_iter().collect())
    }

    async fn at(&self, place: &str) -> Result<Arc<dyn Images>> {
        Ok(Arc::new(Self {
            engine: self.nodes.engine(place).await?,
            manager: self.manager.clone(),
            nodes: self.nodes.clone(),
            services: self.services.clone(),
            deploys: self.deploys,
        }))
    }

    async fn is_away(&self, place: &str) -> Result<bool> {
        Ok(!self.nodes.by_id(place).await?.is_ready())
    }

    async fn place_name(&self, place: &str) -> Result<String> {
        Ok(format!("the node {}", self.nodes.by_id(place).await?.name))
    }

    async fn run_image(&self, service: &str, image: &str) -> Result<()> {
        self.manager
            .update(service, |view| {
                if view.image() == image {
                    return Ok(None);
                }
                let mut spec = view.spec.clone();
                if let Some(place) = spec.pointer_mut("/TaskTemplate/ContainerSpec/Image") {
                    *place = json!(image);
                }
                Ok(Some(spec))
            })
            .await
    }

    async fn free_space(&self) -> Result<Option<Space>> {
        self.engine.image_space().await
    }
}
