//! What of an archive can be recovered.

use serde::{Deserialize, Serialize};

use super::{Lsn, Timestamp};

/// Segments that an archive lacks although it has later ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hole {
    /// The first missing file.
    pub first: String,
    /// The last missing file.
    pub last: String,
    /// How many there are.
    pub segments: u64,
}

/// From when to when a base backup can be recovered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recoverable {
    /// The component that is recovered from it.
    pub component: String,
    /// The earliest time: when the base backup ended.
    pub from: Timestamp,
    /// The place in the log where it ended.
    pub from_lsn: Lsn,
    /// The last transaction that the archive has; `None`: there was none since the base backup.
    pub until: Option<Timestamp>,
    /// Where the archive's last record that can be reached ends.
    pub until_lsn: Lsn,
    /// The timeline that is followed.
    pub timeline: u32,
    /// Segments to replay up to the end.
    pub segments: u64,
    /// Where the archive is; `None`: the component names none, and only the end of the base
    /// backup can be recovered.
    pub archive: Option<String>,
    /// What the archive lacks; nothing behind the first of them can be reached.
    pub holes: Vec<Hole>,
    /// Why it is reached only by whoever names the timeline: the live cluster does not come from
    /// it, or which one that is on cannot be told. `None`: no timeline must be named.
    #[serde(default)]
    pub needs_timeline: Option<String>,
}
