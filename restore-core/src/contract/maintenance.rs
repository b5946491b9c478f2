//! Maintenance mode: users are told to wait, by every web server, for every host name, and it is
//! proven that they are.

use std::path::PathBuf;

use async_trait::async_trait;

use super::{Program, Table};
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
    /// What would show the page is not there at all: nobody is served where the run makes it, and otherwise
    /// nobody knows by whom users are served.
    Absent {
        /// The service that would show it.
        service: String,
        /// Why it is taken for absent.
        why: String,
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

    /// What of this host's files decides on whether it can be shown: where that is broken and a run restores
    /// something of it, the run does without the page.
    fn reads(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Whether there is anybody to turn away, and a way to do it; changes nothing.
    async fn readiness(&self) -> Readiness {
        Readiness::Ready
    }

    /// What makes it once more, to turn it off where the configuration has changed meanwhile or no
    /// longer has it: a section as `[maintenance]` is one, `kind` included, with absolute paths and
    /// without secrets. Each run that turns it on keeps it. `None`: the configuration alone says how it
    /// is turned off.
    fn section(&self) -> Option<Table> {
        None
    }

    /// Turns users away and returns once that is proven from outside, for every host name and
    /// port. Idempotent. On error nothing of it is left and users are served as before.
    /// `since` is shown on the page.
    async fn on(&self, run: &RunId, since: Timestamp) -> Result<()>;

    /// Lets users in again, with the configuration that is now on disk, and returns once the
    /// page is proven to be gone. Idempotent.
    async fn off(&self, run: &RunId) -> Result<()>;
}
