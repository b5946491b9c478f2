//! A backup to damage, and words for what verification says of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use restore_core::backup::{
    Backup, FileStatus, Manifest, ManifestEntry, ManifestSize, Verification, VerifyOptions,
};
use restore_core::store::DirectoryStore;
use restore_core::{Error, NoEvents};
use restore_testing::backups::{ID, generation_a, generation_b};
use tokio_util::sync::CancellationToken;

/// A store with one backup, gone when dropped.
pub(crate) struct Fixture {
    pub(crate) store: tempfile::TempDir,
    pub(crate) folder: PathBuf,
}

impl Fixture {
    pub(crate) fn a() -> Self {
        let store = tempfile::tempdir().unwrap();
        let folder = generation_a(store.path(), ID);
        Self { store, folder }
    }

    pub(crate) fn b() -> Self {
        let store = tempfile::tempdir().unwrap();
        let folder = generation_b(store.path(), ID);
        Self { store, folder }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    pub(crate) fn edit(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = std::fs::read(self.path(path)).unwrap();
        change(&mut content);
        std::fs::write(self.path(path), content).unwrap();
    }

    pub(crate) fn edit_manifest(&self, change: impl FnOnce(String) -> String) {
        let path = self.path(Manifest::FILE_NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        let changed = change(text.clone());
        assert_ne!(text, changed, "the edit has no effect");
        std::fs::write(path, changed).unwrap();
    }

    /// The manifest as ours writes it: exact sizes.
    pub(crate) fn rewrite_manifest_exactly(&self) {
        let text = std::fs::read(self.path(Manifest::FILE_NAME)).unwrap();
        let mut manifest = Manifest::parse(&text).unwrap();
        manifest.entries = std::mem::take(&mut manifest.entries)
            .into_iter()
            .map(|entry| ManifestEntry {
                size: ManifestSize::Bytes(std::fs::metadata(self.path(&entry.path)).unwrap().len()),
                ..entry
            })
            .collect();
        std::fs::write(self.path(Manifest::FILE_NAME), manifest.to_text().unwrap()).unwrap();
    }

    pub(crate) async fn open(&self) -> Result<Backup, Error> {
        open(self.store.path(), ID).await
    }

    pub(crate) async fn verify(&self, options: VerifyOptions) -> Verification {
        let backup = self.open().await.unwrap();
        backup
            .verify(options, Arc::new(NoEvents), CancellationToken::new())
            .await
            .unwrap()
    }
}

pub(crate) async fn open(store: &Path, id: &str) -> Result<Backup, Error> {
    Backup::open(Arc::new(DirectoryStore::new(store)), id.parse().unwrap()).await
}

pub(crate) fn plain() -> VerifyOptions {
    VerifyOptions::default()
}

pub(crate) fn deeply() -> VerifyOptions {
    let mut options = VerifyOptions::default();
    options.deep = true;
    options
}

/// The findings as `code subject`, in order.
pub(crate) fn found(verification: &Verification) -> Vec<String> {
    verification
        .findings()
        .iter()
        .map(|finding| {
            assert!(finding.hint.is_some(), "{finding:?} has no next step");
            assert!(!finding.message.contains('\n'), "{finding:?}");
            format!("{} {}", finding.code, finding.subject)
        })
        .collect()
}

pub(crate) fn status<'a>(verification: &'a Verification, path: &str) -> &'a FileStatus {
    let (_, status) = verification
        .files
        .iter()
        .find(|(other, _)| other == path)
        .unwrap_or_else(|| panic!("{path} is not in {verification:?}"));
    status
}

pub(crate) const DUMP: &str = "postgres/postgres-20240215-020000.dump";
pub(crate) const SQL: &str = "postgres/postgres-20240215-020000.sql";
pub(crate) const ALL_SQL: &str = "postgres/postgres-all-20240215-020000.sql";
pub(crate) const GLOBALS: &str = "postgres/postgres-globals-20240215-020000.sql";
pub(crate) const RDB: &str = "redis/redis-20240215-020000.rdb";
pub(crate) const AOF: &str = "redis/redis-20240215-020000.aof";
pub(crate) const GRAFANA: &str = "volumes/grafana-20240215-020000.tar.gz";
pub(crate) const JSON: &str = "configs/swarm-config-app.json";
