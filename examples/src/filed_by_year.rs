//! A store of one's own: backups that are filed by year, `ROOT/2024/20240215-020000/…`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use restore_core::backup::{BackupFile, BackupId};
use restore_core::config::{Table, parse_section};
use restore_core::store::{BackupStore, DirectoryStore, OddEntry};
use restore_core::{Error, Result};
use serde::Deserialize;
use tokio::io::AsyncRead;

/// `[stores.NAME]` with `kind = "filed-by-year"` and `root = "/srv/backups"`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    root: PathBuf,
}

/// Backups in folders by year. Inside a year it is what [`DirectoryStore`] is, which follows no
/// links and lets no path lead out.
pub struct FiledByYear {
    root: PathBuf,
}

impl FiledByYear {
    /// As written in the configuration.
    pub const KIND: &'static str = "filed-by-year";

    /// Makes one from its section; a relative `root` is below `base`.
    pub fn from_table(name: &str, table: Table, base: &Path) -> Result<Arc<dyn BackupStore>> {
        let section: Section = parse_section(&format!("stores.{name}"), table)?;
        Ok(Arc::new(Self::new(base.join(section.root))))
    }

    /// The store in the directory `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The shelf that a backup is on: the year of its id, which is well formed.
    fn shelf(&self, id: &BackupId) -> DirectoryStore {
        let year = id.stamp().get(..4).unwrap_or_default();
        DirectoryStore::new(self.root.join(year))
    }
}

#[async_trait]
impl BackupStore for FiledByYear {
    fn describe(&self) -> String {
        format!("years in {}", self.root.display())
    }

    async fn list(&self) -> Result<Vec<BackupId>> {
        let unreadable = |e| Error::io(format!("read {}", self.root.display()), e);
        let mut years = tokio::fs::read_dir(&self.root).await.map_err(unreadable)?;
        let mut ids = Vec::new();
        while let Some(entry) = years.next_entry().await.map_err(unreadable)? {
            let name = entry.file_name();
            let is_year = |name: &str| name.len() == 4 && name.bytes().all(|b| b.is_ascii_digit());
            let Some(year) = name.to_str().filter(|name| is_year(name)) else {
                continue;
            };
            let shelf = DirectoryStore::new(entry.path());
            // What was put on the wrong shelf would not be found again.
            let found = shelf.list().await?.into_iter();
            ids.extend(found.filter(|id| id.stamp().starts_with(year)));
        }
        ids.sort();
        Ok(ids)
    }

    async fn files(&self, id: &BackupId) -> Result<Vec<BackupFile>> {
        match self.shelf(id).files(id).await {
            // That its year is not there either says the same.
            Err(error) if error.code() == "store.absent" => Err(Error::new(
                restore_core::ErrorKind::NotFound,
                "store.no_such_backup",
                format!("there is no backup {id} in {}", self.root.display()),
            )),
            found => found,
        }
    }

    async fn odd_entries(&self, id: &BackupId) -> Result<Vec<OddEntry>> {
        self.shelf(id).odd_entries(id).await
    }

    async fn read(
        &self,
        id: &BackupId,
        path: &str,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        self.shelf(id).read(id, path, offset).await
    }

    fn local_path(&self, id: &BackupId, path: &str) -> Option<PathBuf> {
        self.shelf(id).local_path(id, path)
    }
}
