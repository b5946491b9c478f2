//! Several machines of one platform.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::Volume;
use crate::model::{Error, ErrorKind, Result};

/// The nodes of a platform: machines that run its services, this host among them or not.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// The directory at the absolute `path` of the node, which is called by its name or id; it
    /// is this host's own where that is the node. `NotFound`, [because](Error::because) of
    /// [`NoTree`], where the node has none there; looking never makes one.
    async fn tree(&self, node: &str, path: &Path) -> Result<Arc<dyn Volume>>;

    /// The name by which the node goes among all of them, whichever way it is called here; `None` where it is this
    /// host. Starts nothing there.
    async fn name_of(&self, node: &str) -> Result<Option<String>> {
        Ok(Some(node.to_owned()))
    }

    /// The names of all nodes; before a run makes them, of those that there will be.
    async fn names(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The names of the nodes that the site's configuration says something is on.
    fn configured(&self) -> Vec<String> {
        Vec::new()
    }

    /// From now on, until this is called again, what the site's configuration says to be on a node that `nodes`
    /// has a successor of is on that one; nothing where a run [holds](Self::hold) its own. By default nothing
    /// changes.
    fn substitute(&self, _nodes: &BTreeMap<String, String>) {}

    /// As [`substitute`](Self::substitute), for a run: whoever else looks at the site meanwhile, for a plan or a
    /// report of another run, changes nothing until what is returned is dropped. By default nobody is kept from it.
    fn hold(&self, nodes: &BTreeMap<String, String>) -> Arc<()> {
        self.substitute(nodes);
        Arc::new(())
    }

    /// The names of the nodes that a service runs on, or last ran on; empty where this host is
    /// one of them, where nobody knows, and for a service of this host itself.
    async fn elsewhere(&self, service: &str) -> Result<Vec<String>>;

    /// The names of the nodes other than this host that instances of a service run on, or last
    /// ran on, whether this host has one too or not: all who see no file that is only here.
    async fn besides(&self, service: &str) -> Result<Vec<String>> {
        self.elsewhere(service).await
    }
}

/// What [`Nodes::tree`] gives its error as the [reason](Error::because) where a node has no directory at
/// the path: a component then takes it for absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTree;

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
