//! Groups of services that are described in files and deployed as one.

use std::path::PathBuf;

use async_trait::async_trait;
use serde_json::Value;

use crate::error::Result;
use crate::finding::Finding;

/// What a platform can deploy from compose files.
#[async_trait]
pub trait Stacks: Send + Sync {
    /// What speaks against deploying the stack later; changes nothing.
    async fn inspect(&self, stack: &str) -> Result<Vec<Finding>>;

    /// How the stack is described now, wholly: what [`put_back`](Self::put_back) needs. It may
    /// hold secrets (environments), and belongs in no journal.
    async fn snapshot(&self, stack: &str) -> Result<Value>;

    /// Deploys the stack from these files of this host and returns once all its services run as
    /// described, but as many of each as ran before. May be called again. On failure the error carries the deploying program's own
    /// words, or those of the service that does not come up.
    async fn deploy(&self, stack: &str, files: &[PathBuf]) -> Result<()>;

    /// Makes the stack what it was at a [`snapshot`](Self::snapshot): services are described as
    /// they were, what was added goes, volumes excepted. Idempotent; changes nothing where nothing
    /// differs. Returns once the services that are to run do.
    async fn put_back(&self, stack: &str, snapshot: &Value) -> Result<()>;
}
