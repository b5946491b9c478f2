//! Groups of services that are described in files and deployed as one.

use std::path::PathBuf;

use async_trait::async_trait;
use serde_json::Value;

use crate::model::{Finding, Result};

/// What a platform can deploy from compose files.
#[async_trait]
pub trait Stacks: Send + Sync {
    /// What speaks against deploying the stack later; changes nothing.
    async fn inspect(&self, stack: &str) -> Result<Vec<Finding>>;

    /// How the stack is described now, wholly, and which of its services run so: what
    /// [`deploy`](Self::deploy) and [`put_back`](Self::put_back) need. It may hold secrets
    /// (environments), and belongs in no journal.
    async fn snapshot(&self, stack: &str) -> Result<Value>;

    /// Deploys the stack from these files of this host and returns once all its services run as
    /// described, but as many of each as ran at the [`snapshot`](Self::snapshot). May be called
    /// again, with the snapshot of before the first time. On failure the error carries the
    /// deploying program's own words, or those of the service that does not come up.
    async fn deploy(&self, stack: &str, files: &[PathBuf], snapshot: &Value) -> Result<()>;

    /// Makes the stack what it was at a [`snapshot`](Self::snapshot): services are described as
    /// they were, what was added goes, volumes excepted. Idempotent; changes nothing where nothing
    /// differs. Returns once the services that are to run do, those excepted that did not at the
    /// snapshot, and nothing runs any more of those that go, on any node.
    async fn put_back(&self, stack: &str, snapshot: &Value) -> Result<()>;
}
