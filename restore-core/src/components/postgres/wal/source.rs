//! Where an archive is, as it was configured.

use std::path::PathBuf;
use std::sync::Arc;

use super::RemoteWalArchive;

/// A directory of this host, or a folder of a store.
#[derive(Clone, Debug)]
pub(crate) enum WalSource {
    Directory(PathBuf),
    Store(Arc<RemoteWalArchive>),
}

impl WalSource {
    /// The place, for people.
    pub(crate) fn display(&self) -> String {
        match self {
            Self::Directory(root) => root.display().to_string(),
            Self::Store(remote) => remote.describe(),
        }
    }
}
