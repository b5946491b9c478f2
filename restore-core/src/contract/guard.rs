//! Data in services that a run stops and that no component restores.

use async_trait::async_trait;

use crate::model::{Finding, Result};

/// Sees to it that a service which a run only has to stop loses nothing by that.
#[async_trait]
pub(crate) trait StopGuard: Send + Sync {
    /// The service.
    fn service(&self) -> &str;

    /// What a person should know before the service is stopped; changes nothing.
    async fn look(&self) -> Vec<Finding>;

    /// Makes durable what only the running service holds. `planned` is what the plan said, to which somebody has
    /// agreed. `Err`: the service is not to be stopped.
    async fn before_stop(&self, planned: &[Finding]) -> Result<()>;

    /// Takes back what that did to a service which is not stopped after all, where it can.
    async fn not_stopped(&self);
}
