//! Several machines of one platform.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::Volume;
use crate::model::{Error, ErrorKind, Result};

/// The nodes of a platform: machines that run its services, this host among them or not.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// The directory at the absolute `path` of the node, which is called by its name or id; it
    /// is this host's own where that is the node. `NotFound` (`platform.no_tree`) where the node
    /// has none there; looking never makes one.
    async fn tree(&self, node: &str, path: &Path) -> Result<Arc<dyn Volume>>;

    /// The names of the nodes that a service runs on, or last ran on; empty where this host is
    /// one of them, where nobody knows, and for a service of this host itself.
    async fn elsewhere(&self, service: &str) -> Result<Vec<String>>;

    /// The names of the nodes other than this host that instances of a service run on, or last
    /// ran on, whether this host has one too or not: all who see no file that is only here.
    async fn besides(&self, service: &str) -> Result<Vec<String>> {
        self.elsewhere(service).await
    }
}

/// The code of the error that a node has no directory at a path.
pub(crate) const NO_TREE: &str = "platform.no_tree";

/// The error of a configuration that names a node where there are none; `place` is where.
pub(crate) fn no_nodes(place: &str, out: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        "config.no_nodes",
        format!("{place}: only a swarm has nodes"),
    )
    .hint(format!(
        "say kind = \"swarm\" in [platform], or take the {out} out"
    ))
}
