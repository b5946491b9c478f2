//! What lies in a bucket behind a prefix and belongs to no backup.

use async_trait::async_trait;
use tokio::io::AsyncRead;

use super::{BucketStore, place, version};
use crate::backup::remote::RemoteFolder;
use crate::contract::StoredFile;
use crate::model::{BackupFile, Result};

#[async_trait]
impl RemoteFolder for BucketStore {
    fn describe(&self) -> String {
        place(self.config())
    }

    async fn files(&self) -> Result<Vec<StoredFile>> {
        let found = self.top("files").await?;
        Ok(found
            .objects
            .iter()
            .filter_map(|meta| {
                Some(StoredFile {
                    file: BackupFile {
                        path: meta.location.filename()?.to_owned(),
                        size: meta.size,
                    },
                    version: version(meta),
                })
            })
            .collect())
    }

    async fn read(
        &self,
        file: &StoredFile,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let BackupFile { path, size } = &file.file;
        self.get(path, self.key(path)?, offset, *size, &file.version)
            .await
    }
}
