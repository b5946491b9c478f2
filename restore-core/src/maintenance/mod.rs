//! Maintenance mode: users are told to wait, by every web server, for every host name, and it is
//! proven that they are.

mod nginx;
mod page;
mod parse;
mod proof;
mod servers;
mod tokens;
mod tool;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::config::{Table, take_kind};
use crate::error::Result;
use crate::finding::Finding;
use crate::platform::Platform;
use crate::run::RunId;
use crate::time::Timestamp;

/// The configuration file that turns users away. Files of this name are never replaced by a
/// restored tree and never restored from a backup.
pub const FILE_NAME: &str = "00-restore-maintenance.conf";

/// How users are turned away while the data is swapped.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// What speaks against turning it on; changes nothing.
    async fn inspect(&self) -> Result<Vec<Finding>>;

    /// Turns users away and returns once that is proven from outside, for every host name and
    /// port. Idempotent. On error nothing of it is left and users are served as before.
    /// `since` is shown on the page.
    async fn on(&self, run: &RunId, since: Timestamp) -> Result<()>;

    /// Lets users in again, with the configuration that is now on disk, and returns once the
    /// page is proven to be gone. Idempotent.
    async fn off(&self, run: &RunId) -> Result<()>;
}

/// Makes the maintenance mode of a site from `[maintenance]`; relative paths are taken from
/// `base`. Nothing is run yet.
pub fn make(
    mut table: Table,
    platform: &Arc<dyn Platform>,
    base: &Path,
) -> Result<Arc<dyn Maintenance>> {
    take_kind("maintenance", &mut table, &["nginx"])?;
    Ok(Arc::new(nginx::Nginx::new(table, platform.clone(), base)?))
}
