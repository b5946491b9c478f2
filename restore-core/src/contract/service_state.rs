//! What a service is and does.

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// What a service is and does right now, as the platform really sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceState {
    /// The service's exact name.
    pub name: String,
    /// How many instances are wanted.
    pub desired: u32,
    /// How many instances really run.
    pub running: u32,
    /// What runs, for people: a pid, task ids and nodes.
    pub detail: String,
    /// Since when all of them have run, where the platform knows that.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Why its instances had to be killed when it was stopped last, as in "it did not end within 10s of
    /// SIGTERM"; `None`: they ended by themselves, or it has been started since.
    #[serde(default)]
    pub killed: Option<String>,
    /// How many instances of those that are wanted have done what they are for, and are not started again
    /// by themselves.
    #[serde(default)]
    pub done: u32,
}

impl ServiceState {
    /// A service of which `desired` instances are wanted and `running` run.
    pub fn new(
        name: impl Into<String>,
        desired: u32,
        running: u32,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            desired,
            running,
            detail: detail.into(),
            since: None,
            killed: None,
            done: 0,
        }
    }

    /// The same service, all instances of which have run since then.
    #[must_use]
    pub fn since(mut self, since: Option<Timestamp>) -> Self {
        self.since = since;
        self
    }

    /// The same service, whose instances had to be killed for this reason when it was stopped.
    #[must_use]
    pub fn killed(mut self, why: Option<String>) -> Self {
        self.killed = why;
        self
    }

    /// The same service, so many instances of which have done what they are for.
    #[must_use]
    pub fn done(mut self, count: u32) -> Self {
        self.done = count;
        self
    }
}
