//! Stores.

use std::sync::Arc;

use async_trait::async_trait;
use restore_core::conformance::{self, StoreUnderTest};
use restore_core::store::{BackupStore, DirectoryStore};
use restore_core::{Error, Result};

pub struct Directory(pub tempfile::TempDir);

#[async_trait]
impl StoreUnderTest for Directory {
    async fn open(&self) -> Result<Arc<dyn BackupStore>> {
        Ok(Arc::new(DirectoryStore::new(self.0.path())))
    }

    async fn put(&self, folder: &str, path: &str, content: &[u8]) -> Result<()> {
        let path = self.0.path().join(folder).join(path);
        let put = || {
            std::fs::create_dir_all(path.parent().unwrap())?;
            std::fs::write(&path, content)
        };
        put().map_err(|e| Error::io(format!("put {}", path.display()), e))
    }

    async fn unreachable(&self) -> Result<Option<Arc<dyn BackupStore>>> {
        let absent = self.0.path().join("absent");
        Ok(Some(Arc::new(DirectoryStore::new(absent))))
    }
}

#[tokio::test]
async fn a_directory() {
    conformance::store(Arc::new(Directory(tempfile::tempdir().unwrap())))
        .await
        .unwrap();
}
