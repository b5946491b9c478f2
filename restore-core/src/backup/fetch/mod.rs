//! Bringing a backup from the store that has it into a directory of this host.
//!
//! A backup is fetched into `.fetching-ID`, which no store takes for a backup, is verified there
//! while it is written, and gets its name by one rename when all of it is there. Whatever ends
//! the work before that, the next fetch goes on with what it can prove to be right.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::verification::Verdict;
use crate::contract::{BackupStore, Generation};
use crate::model::{BackupId, EventSink, Finding, NoEvents};

mod artifacts;
mod ledger;
mod packed;
mod place;
mod pump;
mod transfer;
mod write;

pub(crate) use packed::unpack_backup;
pub(crate) use place::compare;
pub(crate) use transfer::{Transfer, Transferred};

/// Opens a directory of this host as a store.
pub(crate) type OpenDirectory = fn(PathBuf) -> Arc<dyn BackupStore>;

/// How to fetch.
#[derive(Clone)]
#[non_exhaustive]
pub struct FetchOptions {
    /// The store to fetch from, by name; `None`: the first that has the backup.
    pub from: Option<String>,
    /// The directory store to fetch into, by name; `None`: the first.
    pub to: Option<String>,
    /// How many files at the same time; 0 for four.
    pub jobs: usize,
    /// How often a connection that was lost is made again without a byte coming over it, at
    /// growing distances of up to fifteen seconds, before the fetch ends with that error.
    pub tries: u32,
    /// Takes events.
    pub events: Arc<dyn EventSink>,
    /// Stops the fetch; the next one goes on there.
    pub cancel: CancellationToken,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            from: None,
            to: None,
            jobs: 0,
            tries: 5,
            events: Arc::new(NoEvents),
            cancel: CancellationToken::new(),
        }
    }
}

impl FetchOptions {
    /// From the first store that has it into the first directory store.
    pub fn new() -> Self {
        Self::default()
    }

    /// These options, from the store of that name, where one is given.
    #[must_use]
    pub fn from_store(mut self, name: Option<impl Into<String>>) -> Self {
        self.from = name.map(Into::into);
        self
    }

    /// These options, into the directory store of that name, where one is given.
    #[must_use]
    pub fn to_store(mut self, name: Option<impl Into<String>>) -> Self {
        self.to = name.map(Into::into);
        self
    }

    /// These options, with so many attempts after a lost connection.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// These options, with someone who watches.
    #[must_use]
    pub fn events(mut self, events: impl EventSink + 'static) -> Self {
        self.events = Arc::new(events);
        self
    }

    /// These options; cancelling `cancel` stops the fetch.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }
}

/// What a fetch came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FetchReport {
    /// Which backup.
    pub id: BackupId,
    /// The store that it came from, by name; `None` where it was there already and no store had
    /// to be asked.
    pub from: Option<String>,
    /// The directory store that has it now, by name.
    pub to: String,
    /// Its folder.
    pub path: PathBuf,
    /// It was there before.
    pub already_there: bool,
    /// Which scripts wrote it.
    pub generation: Generation,
    /// What comparing it with its manifest came to while it was written; for one that was there
    /// before: `None`, nothing was read.
    pub verdict: Option<Verdict>,
    /// Its files.
    pub files: u64,
    /// Bytes in its files.
    pub bytes: u64,
    /// Bytes that came over the connection this time.
    pub received: u64,
    /// Bytes of an earlier fetch that were found to be right and kept.
    pub kept: u64,
    /// How long it took.
    pub seconds: f64,
    /// What else there is to say.
    pub findings: Vec<Finding>,
}
