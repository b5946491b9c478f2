//! Where backups are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use crate::contract::BackupFolder;
use crate::model::{BackupFile, BackupId, Error, ErrorKind, Result};
use crate::sys::space::Space;

/// Why a store has not what it is asked for: the [reason](Error::because) of its error, by which
/// readers tell that somebody changes the store while they read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreReason {
    /// The place itself is not there.
    Absent,
    /// What was listed is not there any more.
    Vanished,
    /// What was listed is another by now.
    Changed,
}

/// Something in a backup's folder that is neither a regular file nor a folder, or cannot be named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OddEntry {
    /// Path relative to the backup's folder.
    pub path: String,
    /// What it is, a noun: "a symbolic link".
    pub what: String,
}

/// A file of a backup, and which version of it a store has now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its path and size.
    pub file: BackupFile,
    /// Whatever changes when its content does (a time of modification, a server's tag): compared
    /// with an earlier one, never read. Empty where the store knows nothing of the kind.
    pub version: String,
}

/// A whole backup in one file: a tar archive, compressed or not, encrypted or not, whose members
/// begin with `ID/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PackedBackup {
    /// Which backup.
    pub id: BackupId,
    /// The file's name: `backup-ID.tar.gz.gpg`.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// As in [`StoredFile::version`].
    pub version: String,
    /// It is an OpenPGP message.
    pub encrypted: bool,
}

impl PackedBackup {
    /// What a file of this name is; `None` for one that is no packed backup.
    pub fn of(name: &str, size: u64, version: impl Into<String>) -> Option<Self> {
        let rest = name.strip_prefix("backup-")?;
        let (rest, encrypted) = match rest.strip_suffix(".gpg") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let id = crate::archive::ARCHIVES
            .iter()
            .find_map(|end| rest.strip_suffix(end))?;
        Some(Self {
            id: id.parse().ok()?,
            name: name.to_owned(),
            size,
            version: version.into(),
            encrypted,
        })
    }
}

/// A place that holds backups.
///
/// Only [`begin`](Self::begin) and [`remove`](Self::remove) write. Every answer describes what is there now: no cache outlives a call.
#[async_trait]
pub trait BackupStore: Send + Sync {
    /// A few words for people, with the place: "directory /mnt/nfs/backups".
    fn describe(&self) -> String;

    /// The ids of all backups here, oldest first. Folders of other names (also half-fetched
    /// ones) are not backups and are left out. An empty store is no error; an unreachable or
    /// absent one is.
    async fn list(&self) -> Result<Vec<BackupId>>;

    /// Every file of the backup with its exact size, sorted by path. `NotFound` where the store
    /// has no such backup.
    async fn files(&self, id: &BackupId) -> Result<Vec<BackupFile>>;

    /// As [`files`](Self::files), with the version of each file, to tell later whether one was changed meanwhile.
    async fn stored_files(&self, id: &BackupId) -> Result<Vec<StoredFile>> {
        let files = self.files(id).await?;
        let stored = |file| StoredFile {
            file,
            version: String::new(),
        };
        Ok(files.into_iter().map(stored).collect())
    }

    /// Whether backups here may have no manifest and are whole all the same: nothing of them can be
    /// verified then. Elsewhere a folder without one is unfinished.
    fn lists_nothing(&self, _id: &BackupId) -> bool {
        false
    }

    /// What lies where backups do and is none, each with why: it is said, and not passed over.
    async fn strangers(&self) -> Result<Vec<OddEntry>> {
        Ok(Vec::new())
    }

    /// What lies in the backup's folder and is no regular file, sorted by path: symbolic links
    /// (never followed), devices, names that are not UTF-8. Verification reports each.
    async fn odd_entries(&self, _id: &BackupId) -> Result<Vec<OddEntry>> {
        Ok(Vec::new())
    }

    /// The bytes of one file from `offset` on. `path` is one of [`files`](Self::files). An error
    /// of the reader may hold an [`Error`]: [`read_error`](crate::model::read_error) gives it back.
    async fn read(
        &self,
        id: &BackupId,
        path: &str,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>>;

    /// As [`read`](Self::read), of the very version that [`stored_files`](Self::stored_files) gave: where the store
    /// can tell, another one is an error with the code `store.changed`.
    async fn read_stored(
        &self,
        id: &BackupId,
        stored: &StoredFile,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        self.read(id, &stored.file.path, offset).await
    }

    /// The packed backups here, sorted. They are backups only once they are unpacked, which is
    /// what fetching one means.
    async fn packed(&self) -> Result<Vec<PackedBackup>> {
        Ok(Vec::new())
    }

    /// The bytes of a packed backup from `offset` on; as [`read`](Self::read).
    async fn read_packed(
        &self,
        packed: &PackedBackup,
        _offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        Err(Error::new(
            ErrorKind::NotFound,
            "store.no_such_backup",
            format!("there is no {} in {}", packed.name, self.describe()),
        ))
    }

    /// Where this host can read the file itself, when the store is a file system; `None` for a
    /// path that leads out of the backup's folder.
    fn local_path(&self, id: &BackupId, path: &str) -> Option<PathBuf>;

    /// The room that there is for backups, where that is known. `Err`: nothing can be written here.
    async fn room(&self) -> Result<Option<Space>> {
        Err(read_only(&self.describe()))
    }

    /// Begins a backup of that id, which nobody takes for one before it is
    /// [published](BackupFolder::publish). An error with the code `backup.exists` where there is
    /// one of that id, finished or not.
    async fn begin(&self, _id: &BackupId) -> Result<Arc<dyn BackupFolder>> {
        Err(read_only(&self.describe()))
    }

    /// Deletes a backup, finished or not. Killed in between, what is left of it is unfinished.
    async fn remove(&self, _id: &BackupId) -> Result<()> {
        Err(read_only(&self.describe()))
    }

    /// Refuses where somebody else than who may write backups here could lead the way to the place elsewhere, and so put
    /// others in their place.
    fn check_way(&self) -> Result<()> {
        Ok(())
    }

    /// The directory of this host that holds the backups, into which others can be fetched;
    /// `None` for a store that is elsewhere.
    fn directory(&self) -> Option<&Path> {
        None
    }
}

pub(crate) fn read_only(what: &str) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "store.read_only",
        format!("backups in {what} can only be read"),
    )
    .hint("name another store")
}

/// Whether `path` is relative and made of plain names alone.
pub(crate) fn is_inside(path: &str) -> bool {
    !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

pub(crate) fn bad_path(path: &str) -> Error {
    Error::new(
        ErrorKind::Verification,
        "store.bad_path",
        format!("{path:?} is not a path inside a backup's folder"),
    )
    .hint("paths are relative to the backup's folder and have no `..`")
}
