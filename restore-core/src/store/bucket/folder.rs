//! What lies in a bucket behind a prefix and belongs to no backup.

use async_trait::async_trait;
use tokio::io::AsyncRead;

use super::{BucketStore, again, place, version};
use crate::backup::BackupFile;
use crate::error::Result;
use crate::store::StoredFile;
use crate::store::remote::RemoteFolder;

#[async_trait]
impl RemoteFolder for BucketStore {
    fn describe(&self) -> String {
        place(self.config())
    }

    async fn files(&self) -> Result<Vec<StoredFile>> {
        let root = &self.shared.root;
        let root = (!root.as_ref().is_empty()).then_some(root);
        let client = self.client().await?;
        let found = again(|| async {
            let found = client.list_with_delimiter(root).await;
            found.map_err(|e| self.failed("list the files", &e))
        })
        .await?;
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
