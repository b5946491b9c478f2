//! Directories of the nodes, and where services are that use them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::SwarmPlatform;
use super::nodes::Node;
use super::snapshot::ServiceSnapshot;
use crate::contract::{Nodes, Volume};
use crate::model::{Error, Result};
use crate::platforms::docker::agent::RemoteVolume;
use crate::platforms::docker::agent_container::{MountSource, no_tree};
use crate::platforms::docker::engine::Engine;
use crate::platforms::docker::json::{encoded, odd, text};
use crate::swap::LocalVolume;

#[async_trait]
impl Nodes for SwarmPlatform {
    async fn tree(&self, node: &str, path: &Path) -> Result<Arc<dyn Volume>> {
        let told = |error: Error| error.context(format!("the directory {}", path.display()));
        let node = self.nodes.by_name(node).await.map_err(told)?;
        let engine = self.nodes.engine_of(&node).await.map_err(told)?;
        if engine.is_here() && rustix::process::geteuid().is_root() {
            return match tokio::fs::metadata(path).await {
                Ok(meta) if meta.is_dir() => {
                    Ok(Arc::new(LocalVolume::new(path).kept_in(&self.records)))
                }
                Ok(_) => Err(no_tree(&node.name, path)),
                Err(e) if matches!(e.kind(), NotFound | NotADirectory) => {
                    Err(no_tree(&node.name, path))
                }
                Err(e) => Err(Error::io(format!("look at {}", path.display()), e)),
            };
        }
        let images = match self.named_image(&node) {
            Some(image) => vec![image],
            None => self.images_near(&node, path).await?,
        };
        let subject = MountSource::Directory(path.to_owned());
        let beside = self.beside(node, engine, subject, images).await;
        // Only the engine knows whether it is there, and says so when it is to be used.
        beside.open().await?;
        Ok(Arc::new(RemoteVolume::new(beside).sealed_in(&self.records)))
    }

    async fn name_of(&self, node: &str) -> Result<Option<String>> {
        let node = self.nodes.by_name(node).await?;
        let here = self.engine.is_here() && self.nodes.own().await? == node.id;
        Ok((!here).then_some(node.name))
    }

    async fn names(&self) -> Result<Vec<String>> {
        let (nodes, _) = self.nodes_to_be().await?;
        let names = nodes
            .iter()
            .filter_map(|it| text(it, "/Description/Hostname"));
        Ok(names.collect())
    }

    fn configured(&self) -> Vec<String> {
        self.config.bound_to.clone()
    }

    fn substitute(&self, nodes: &BTreeMap<String, String>) {
        self.nodes.substitute(nodes);
    }

    fn hold(&self, nodes: &BTreeMap<String, String>) -> Arc<()> {
        self.nodes.hold(nodes)
    }

    async fn elsewhere(&self, service: &str) -> Result<Vec<String>> {
        match self.spread(service).await? {
            (true, _) => Ok(Vec::new()),
            (false, names) => Ok(names),
        }
    }

    async fn besides(&self, service: &str) -> Result<Vec<String>> {
        Ok(self.spread(service).await?.1)
    }
}

impl SwarmPlatform {
    /// Whether a service runs, or last ran, on this host, and the names of its other nodes.
    async fn spread(&self, service: &str) -> Result<(bool, Vec<String>)> {
        if self.on_host(service).is_some() {
            return Ok((true, Vec::new()));
        }
        let (_, view) = self.view(service).await?;
        let running = view.running().filter_map(|task| task.node.clone());
        let mut ids: BTreeSet<String> = running.collect();
        if ids.is_empty() {
            ids.extend(self.nodes.last_node(&view).await?);
        }
        let here = self.engine.is_here() && ids.remove(self.nodes.own().await?);
        let mut names = Vec::new();
        for id in ids {
            names.push(self.nodes.by_id(&id).await?.name);
        }
        names.sort();
        Ok((here, names))
    }

    /// Images that a container beside a directory of a node may be made from, the likeliest
    /// first: of services that mount it, then of those that have tasks there, then of all others,
    /// since one that is stopped has no tasks any more. Which of them the node has is not known.
    async fn images_near(&self, node: &Node, path: &Path) -> Result<Vec<String>> {
        let there = self.engine.services_on(&node.id).await?;
        let mut services = self.engine.all_services().await?;
        services.sort_by_key(|service| (!mounts(service, path), !there.contains(&service.id)));
        let mut images = Vec::new();
        for image in services.iter().map(ServiceSnapshot::image) {
            if !image.is_empty() && !images.contains(&image) {
                images.push(image);
            }
        }
        Ok(images)
    }
}

/// Whether a service mounts a directory of its node, something above it or something in it.
fn mounts(service: &ServiceSnapshot, path: &Path) -> bool {
    service.mounts().iter().any(|mount| {
        let source = Path::new(&mount.source);
        mount.kind == "bind" && (path.starts_with(source) || source.starts_with(path))
    })
}

impl Engine {
    /// The ids of the services that have tasks on a node.
    async fn services_on(&self, node: &str) -> Result<BTreeSet<String>> {
        self.patiently(|| async {
            self.docker().await?;
            let what = "list the tasks of a node";
            let filter = encoded(&format!("{{\"node\":[\"{node}\"]}}"));
            let tasks = self.get(what, &format!("/tasks?filters={filter}")).await?;
            let tasks = tasks.as_array().ok_or_else(|| odd(what))?;
            let of = |task: &Value| text(task, "/ServiceID");
            Ok(tasks.iter().filter_map(of).collect())
        })
        .await
    }
}
