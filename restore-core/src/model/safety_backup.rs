//! What a run keeps of the data that it replaces.

use serde::{Deserialize, Serialize};

use super::{BackupId, MissingComponent};

/// The safety backup that a run has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SafetyBackup {
    /// Its id, to restore it by.
    pub id: BackupId,
    /// The name of the store that it is in.
    pub store: String,
    /// Where it is, for people.
    pub place: String,
    /// Its bytes.
    pub bytes: u64,
    /// Components that it is without, as they could not be read.
    pub missing: Vec<MissingComponent>,
}
