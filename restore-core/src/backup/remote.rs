//! Files elsewhere that belong to no backup, such as an archive of segments of a log.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::AsyncRead;

use crate::contract::StoredFile;
use crate::model::Result;

/// The files of one folder of a store, without those of folders in it. Only read.
#[async_trait]
pub(crate) trait RemoteFolder: Send + Sync {
    /// A few words for people, with the place.
    fn describe(&self) -> String;

    /// Every regular file of it. That there is no such folder is an error where the store can
    /// tell; a bucket has no folders, only none of their files.
    async fn files(&self) -> Result<Vec<StoredFile>>;

    /// The bytes of the version that was listed, from `offset` on: `store.changed` where the store
    /// can tell that it has another one now, `store.vanished` where it has none. An error of the
    /// reader may hold an [`Error`](crate::Error).
    async fn read(
        &self,
        file: &StoredFile,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>>;
}

/// A folder, here or elsewhere.
pub(crate) enum Folder {
    /// A directory of this host.
    Here(PathBuf),
    /// In a store that is elsewhere.
    Elsewhere(Arc<dyn RemoteFolder>),
}
