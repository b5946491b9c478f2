//! A platform of two machines: this host, and a node `worker` whose directories are reached
//! through agents. A configuration may also name a node `lost`, which is no more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use restore_core::platform::agent::{Launch, RemoteVolume};
use restore_core::platform::{
    Command, Endpoint, NoTree, Nodes, Platform, Process, Scratch, ServiceState, Volume,
};
use restore_core::{Error, ErrorKind, Result, Timestamp};

use crate::beside::Here;

pub struct TwoNodes {
    host: Arc<dyn Platform>,
    /// Where services run.
    runs_on: Vec<String>,
    /// The nodes that have taken the place of others.
    successors: Mutex<BTreeMap<String, String>>,
}

impl TwoNodes {
    pub fn made(host: Arc<dyn Platform>, runs_on: &[&str]) -> Arc<dyn Platform> {
        let runs_on = runs_on.iter().map(|&node| node.to_owned()).collect();
        Arc::new(Self {
            host,
            runs_on,
            successors: Mutex::default(),
        })
    }

    /// What a node of the configuration is called by now.
    fn called(&self, node: &str) -> String {
        let successors = self.successors.lock().unwrap();
        successors.get(node).map_or(node, String::as_str).to_owned()
    }
}

/// Beside a directory instead of a volume.
struct There(Here);

#[async_trait]
impl Launch for There {
    async fn launch(&self) -> Result<Box<dyn Process>> {
        self.0.launch().await
    }

    fn describe(&self) -> String {
        format!("directory {} of the node worker", self.0.root.display())
    }

    fn machine(&self) -> String {
        "the node worker".to_owned()
    }
}

#[async_trait]
impl Nodes for TwoNodes {
    async fn tree(&self, node: &str, path: &Path) -> Result<Arc<dyn Volume>> {
        let node = self.called(node);
        if node != "worker" {
            let what = format!("there is no node {node}");
            return Err(Error::new(ErrorKind::NotFound, "swarm.no_node", what));
        }
        if !path.is_dir() {
            let what = format!("the node {node} has no directory {}", path.display());
            return Err(Error::new(ErrorKind::NotFound, "platform.no_tree", what).because(NoTree));
        }
        let there = There(Here {
            root: path.to_owned(),
            through: None,
            leave: false,
        });
        Ok(Arc::new(RemoteVolume::new(Arc::new(there))))
    }

    async fn name_of(&self, node: &str) -> Result<Option<String>> {
        Ok(Some(self.called(node)))
    }

    async fn names(&self) -> Result<Vec<String>> {
        Ok(vec!["worker".to_owned()])
    }

    fn configured(&self) -> Vec<String> {
        vec!["lost".to_owned(), "worker".to_owned()]
    }

    fn substitute(&self, nodes: &BTreeMap<String, String>) {
        self.successors.lock().unwrap().clone_from(nodes);
    }

    async fn elsewhere(&self, _service: &str) -> Result<Vec<String>> {
        Ok(self.runs_on.clone())
    }
}

#[async_trait]
impl Platform for TwoNodes {
    fn describe(&self) -> String {
        "two machines".to_owned()
    }

    fn nodes(&self) -> Option<&dyn Nodes> {
        Some(self)
    }

    fn services(&self) -> Vec<String> {
        self.host.services()
    }

    async fn service(&self, name: &str) -> Result<ServiceState> {
        self.host.service(name).await
    }

    async fn scale(&self, name: &str, replicas: u32) -> Result<()> {
        self.host.scale(name, replicas).await
    }

    async fn scale_at_least(&self, name: &str, replicas: u32, least: u32) -> Result<()> {
        self.host.scale_at_least(name, replicas, least).await
    }

    async fn exec(&self, service: &str, command: Command) -> Result<Box<dyn Process>> {
        self.host.exec(service, command).await
    }

    async fn logs(&self, service: &str, since: Timestamp, limit: usize) -> Result<Vec<String>> {
        self.host.logs(service, since, limit).await
    }

    async fn endpoint(&self, service: &str) -> Result<Endpoint> {
        self.host.endpoint(service).await
    }

    async fn volume(&self, name: &str) -> Result<Arc<dyn Volume>> {
        self.host.volume(name).await
    }

    async fn scratch(&self, service: &str, command: Command) -> Result<Box<dyn Scratch>> {
        self.host.scratch(service, command).await
    }

    async fn path_in(&self, service: &str, host_path: &Path) -> Result<Option<PathBuf>> {
        self.host.path_in(service, host_path).await
    }

    async fn owner(&self, service: &str) -> Result<Option<(u32, u32)>> {
        self.host.owner(service).await
    }
}
