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
        }
    }

    /// The same service, all instances of which have run since then.
    #[must_use]
    pub fn since(mut self, since: Option<Timestamp>) -> Self {
        self.since = since;
        self
    }
}
