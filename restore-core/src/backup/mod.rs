//! Backups: ids, files, manifests, the layouts of both generations, verification; and making them.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::store::BackupStore;
use crate::stream::{Digest, Source};

mod artifact;
mod deep;
mod id;
mod job;
mod layout;
mod manifest;
mod manifest_parse;
pub(crate) mod prune;
mod report;
mod request;
mod summary;
mod verification;
mod verify;
mod writer;

pub use id::BackupId;
pub(crate) use job::{BackupJob, DESCRIPTION};
pub use layout::{Generation, expand_pattern};
pub use manifest::{Manifest, ManifestEntry, ManifestSize};
pub use prune::{PrunePlan, PruneRequest, Pruned};
pub use report::{BackedUpComponent, BackupReport, MissingComponent};
pub use request::BackupRequest;
pub use summary::BackupSummary;
pub use verification::{FileStatus, Remark, Verdict, Verification};
pub use verify::VerifyOptions;
pub(crate) use writer::NewBackup;
pub use writer::{Artifact, BackupWriter};

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BackupFile {
    /// Path relative to the backup's folder, `/` between its parts.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
}

/// A backup that was opened: what is in it, and what its manifest says.
#[derive(Clone)]
pub struct Backup {
    id: BackupId,
    store: Arc<dyn BackupStore>,
    files: Vec<BackupFile>,
    manifest: Option<Manifest>,
}

impl Backup {
    /// Opens a backup: lists its files and reads its manifest, no artifact. A folder without a
    /// manifest opens too; verification then says that the backup is unfinished.
    pub async fn open(store: Arc<dyn BackupStore>, id: BackupId) -> Result<Self> {
        let files = store.files(&id).await?;
        let manifest = if files.iter().any(|file| file.path == Manifest::FILE_NAME) {
            Some(Manifest::read(store.as_ref(), &id).await?)
        } else {
            None
        };
        Ok(Self {
            id,
            store,
            files,
            manifest,
        })
    }

    /// A backup by its name only, nothing of it read: what undoing needs, which must work also
    /// when the store is gone.
    pub fn by_name(store: Arc<dyn BackupStore>, id: BackupId) -> Self {
        Self {
            id,
            store,
            files: Vec::new(),
            manifest: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> &BackupId {
        &self.id
    }

    /// The store it was opened from.
    pub fn store(&self) -> &Arc<dyn BackupStore> {
        &self.store
    }

    /// Every file that is really there, sorted by path, the manifest included.
    pub fn files(&self) -> &[BackupFile] {
        &self.files
    }

    /// The file of exactly this path.
    pub fn file(&self, path: &str) -> Option<&BackupFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The artifacts that are encrypted one by one (`.gpg`), sorted; no component finds them.
    pub fn locked(&self) -> Vec<String> {
        self.files
            .iter()
            .filter_map(|file| {
                let plain = file.path.strip_suffix(".gpg")?;
                layout::looks_restorable(plain).then(|| file.path.clone())
            })
            .collect()
    }

    /// The manifest; `None` where the folder has none (an unfinished backup).
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Which scripts wrote it, told from what the manifest and the folder hold.
    pub fn generation(&self) -> Generation {
        Generation::of(self.manifest.as_ref(), &self.files)
    }

    /// The hash that the manifest gives for a file; `None` where it lists no such file.
    pub fn expected_digest(&self, path: &str) -> Option<Digest> {
        self.manifest
            .as_ref()?
            .entry(path)
            .map(|entry| entry.sha256)
    }

    /// Where this host can read a file of the backup itself.
    pub fn local_path(&self, path: &str) -> Option<PathBuf> {
        self.store.local_path(&self.id, path)
    }

    /// A file of the backup as something to be read once and verified in the same pass.
    ///
    /// # Errors
    ///
    /// `NotFound` where the backup has no such file; `Preflight` where the store is not on this
    /// host.
    pub fn source(&self, path: &str) -> Result<Source> {
        let Some(file) = self.file(path) else {
            return Err(crate::Error::new(
                crate::ErrorKind::NotFound,
                "backup.no_such_file",
                format!("backup {} has no file {path}", self.id),
            )
            .hint("`restore show` lists the files of a backup"));
        };
        let Some(local) = self.local_path(path) else {
            return Err(crate::Error::new(
                crate::ErrorKind::Preflight,
                "backup.not_local",
                format!(
                    "backup {} is not on this host ({})",
                    self.id,
                    self.store.describe()
                ),
            )
            .hint("`restore fetch` brings it here"));
        };
        let expected = self.expected_digest(path);
        Ok(Source::new(local, path, Some(file.size), expected))
    }

    /// The first of `patterns` (with `{id}` for the backup's id and `*` for anything but `/`)
    /// that the backup has a file for, together with all files that match it. A pattern that ends
    /// in `.tar.gz` stands for the same name with `.tar.zst` too, as which it is written where a
    /// backup is to be compressed by Zstandard.
    pub fn find(&self, patterns: &[String]) -> Vec<String> {
        let twins = |pattern: &String| {
            let twin = layout::zstd_twin(pattern);
            std::iter::once(pattern.clone()).chain(twin)
        };
        for pattern in patterns.iter().flat_map(twins) {
            let found: Vec<String> = self
                .files
                .iter()
                .filter(|file| layout::matches(&expand_pattern(&pattern, &self.id), &file.path))
                .map(|file| file.path.clone())
                .collect();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup")
            .field("id", &self.id)
            .field("store", &self.store.describe())
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}
