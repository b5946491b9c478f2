//! One file of a backup.

use serde::{Deserialize, Serialize};

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BackupFile {
    /// Path relative to the backup's folder, `/` between its parts.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
}
