//! What making a backup came to.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{BackupFile, BackupId, Error, Finding, Timestamp};

/// What making a backup came to: a finished one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackupReport {
    /// The backup's id.
    pub id: BackupId,
    /// The name of the store that it is in.
    pub store: String,
    /// Where it is, for people.
    pub place: String,
    /// What it is called in its manifest: `full`, `partial`, `safety`.
    pub kind: String,
    /// When it was begun.
    pub started: Timestamp,
    /// When it was finished.
    pub ended: Timestamp,
    /// Files in its manifest.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was backed up.
    pub components: Vec<BackedUpComponent>,
    /// What could not be: a safety backup is finished without components that cannot be read, any
    /// backup without those of a kind that nothing backs up.
    #[serde(default)]
    pub missing: Vec<MissingComponent>,
    /// What a person must know of it.
    pub findings: Vec<Finding>,
}

/// A component of a backup that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackedUpComponent {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The files that it wrote.
    pub artifacts: Vec<BackupFile>,
    /// How long it took.
    pub seconds: f64,
    /// Facts to compare with after a restore: versions, rows, keys, files.
    pub facts: Map<String, Value>,
}

/// A component that a backup is without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MissingComponent {
    /// Its name.
    pub name: String,
    /// Why, in one line.
    pub reason: String,
    /// The stable code of why; empty where an earlier version wrote none.
    #[serde(default)]
    pub code: String,
    #[serde(skip)]
    never: bool,
}

impl MissingComponent {
    /// The component `name`, which `error` keeps out of a backup.
    pub(crate) fn of(name: &str, error: &Error) -> Self {
        Self {
            name: name.to_owned(),
            reason: error.message().to_owned(),
            code: error.code().to_owned(),
            never: error.is(&NeverBackedUp),
        }
    }

    /// Whether components of its kind are never backed up; known where the backup was made.
    pub(crate) fn is_of_a_kind(&self) -> bool {
        self.never
    }
}

/// What [`Component::back_up`](crate::component::Component::back_up) gives its error as the
/// [reason](Error::because) where components of its kind are never backed up: any backup does without
/// them, and says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeverBackedUp;
