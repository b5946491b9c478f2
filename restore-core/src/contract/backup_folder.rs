//! The write side: a backup that is being made.

use async_trait::async_trait;

use crate::archive::SinkFile;
use crate::model::Result;

/// A backup that is being made in a store. Without a manifest it is unfinished, and everybody sees
/// that it is: nothing takes it for a backup to restore.
#[async_trait]
pub trait BackupFolder: Send + Sync {
    /// A few words for people, with the place: "/mnt/nfs/backups/20240215-020000".
    fn describe(&self) -> String;

    /// Begins a new file, `path` relative to the backup's folder; folders on the way are made. A
    /// `private` file is for its owner alone. An error where there is one of that name.
    async fn file(&self, path: &str, private: bool) -> Result<Box<dyn SinkFile>>;

    /// Puts the manifest in place: durable, at once and whole, when all else already is durable.
    /// From then on the backup is finished.
    async fn publish(&self, manifest: &str) -> Result<()>;

    /// The backup will not be finished, and all that was written to it is dropped: returns when
    /// what still goes on of that has ended, and what nobody sees of it (parts of uploads) is gone.
    async fn abandon(&self) {}
}
