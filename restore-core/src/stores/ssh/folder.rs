//! A directory of another host whose files belong to no backup.

use async_trait::async_trait;
use tokio::io::AsyncRead;

use super::session::Refused;
use super::wire::{Type, status};
use super::{SshStore, stored};
use crate::backup::remote::RemoteFolder;
use crate::contract::{BackupStore, StoreReason, StoredFile};
use crate::model::{Error, ErrorKind, Result};

#[async_trait]
impl RemoteFolder for SshStore {
    fn describe(&self) -> String {
        BackupStore::describe(self)
    }

    async fn files(&self) -> Result<Vec<StoredFile>> {
        let entries = match self.directory("").await {
            Ok(entries) => entries,
            Err(Refused::Status { code, .. }) if code == status::NO_SUCH_FILE => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "store.absent",
                    format!("{} does not exist", RemoteFolder::describe(self)),
                )
                .because(StoreReason::Absent)
                .hint("is its file system mounted there? Compare with `path` in restore.toml"));
            }
            Err(refused) => return Err(self.failed("list what is", refused)),
        };
        Ok(entries
            .iter()
            .filter(|entry| entry.attributes.kind() == Type::File)
            .filter_map(|entry| {
                let name = std::str::from_utf8(&entry.name).ok()?;
                (!name.contains('/')).then(|| stored(name.to_owned(), entry))
            })
            .collect())
    }

    async fn read(
        &self,
        file: &StoredFile,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        self.stream(file.file.path.clone(), offset, None).await
    }
}
