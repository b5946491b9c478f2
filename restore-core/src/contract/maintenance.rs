//! Maintenance mode: users are told to wait, by every web server, for every host name, and it is
//! proven that they are.

use async_trait::async_trait;

use super::Program;
use crate::model::{Finding, Result, RunId, Timestamp};

/// Whether there is anybody to turn away now, and a way to do it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// [`Maintenance::inspect`] says the rest.
    Ready,
    /// Nobody is served: what would show the page does not run.
    Down {
        /// The service that would show it.
        service: String,
    },
    /// Users may be served, and the page cannot be shown.
    Broken {
        /// Why.
        why: String,
    },
}

/// How users are turned away while the data is swapped.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// What speaks against turning it on; changes nothing.
    async fn inspect(&self) -> Result<Vec<Finding>>;

    /// The programs that it needs.
    fn programs(&self) -> Vec<Program> {
        Vec::new()
    }

    /// Whether there is anybody to turn away, and a way to do it; changes nothing.
    async fn readiness(&self) -> Readiness {
        Readiness::Ready
    }

    /// Turns users away and returns once that is proven from outside, for every host name and
    /// port. Idempotent. On error nothing of it is left and users are served as before.
    /// `since` is shown on the page.
    async fn on(&self, run: &RunId, since: Timestamp) -> Result<()>;

    /// Lets users in again, with the configuration that is now on disk, and returns once the
    /// page is proven to be gone. Idempotent.
    async fn off(&self, run: &RunId) -> Result<()>;
}
