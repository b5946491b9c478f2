//! What is in a backup's artifacts.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// What a [`BackupMember`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name of a file.
    HardLink,
    /// A named pipe.
    Fifo,
    /// A device, which no restore makes.
    Device,
    /// Something else that no restore makes.
    Other,
    /// A table of a dump.
    Table,
    /// The artifact itself: nothing here looks into it.
    Artifact,
}

/// One thing in an artifact of a backup: a member of an archive, a table of a dump, or the artifact itself.
///
/// Names that are not UTF-8 have U+FFFD in the place of what is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackupMember {
    /// The artifact, by its path in the backup.
    pub artifact: String,
    /// The component that it is restored by; `None`: by none.
    pub component: Option<String>,
    /// What names it in [`Site::get`](crate::Site::get): the component, and its path in what that
    /// restores. `None` where it is no file that is restored.
    pub path: Option<String>,
    /// Its name in the artifact; of a table with its schema.
    pub name: String,
    /// What it is.
    pub kind: MemberKind,
    /// Bytes of a file, or of the artifact.
    pub size: Option<u64>,
    /// What a link leads to.
    pub target: Option<String>,
    /// Permission bits, set-uid, set-gid and sticky included.
    pub mode: Option<u32>,
    /// The recorded numbers of its user and group.
    pub owner: Option<(u32, u32)>,
    /// When it was modified last.
    pub modified: Option<Timestamp>,
    /// Rows of a table, where the dump or its description tells.
    pub rows: Option<u64>,
}

impl BackupMember {
    /// Something in an artifact, of which nothing more is known.
    pub fn new(artifact: impl Into<String>, name: impl Into<String>, kind: MemberKind) -> Self {
        Self {
            artifact: artifact.into(),
            component: None,
            path: None,
            name: name.into(),
            kind,
            size: None,
            target: None,
            mode: None,
            owner: None,
            modified: None,
            rows: None,
        }
    }
}
