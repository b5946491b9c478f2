//! Backups in a directory of this host, an NFS mount for instance.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rustix::fs::{Mode, OFlags};
use tokio::io::AsyncRead;

use super::{
    BackupFolder, BackupStore, OddEntry, PackedBackup, StoredFile, bad_path, directory_write,
    is_inside,
};
use crate::backup::{BackupFile, BackupId};
use crate::error::{Error, ErrorKind, Result};
use crate::platform::Space;

/// A directory with one folder a backup.
///
/// Reading opens everything read-only and follows no symbolic link below the directory: what a backup
/// holds can name nothing outside of it.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    root: PathBuf,
}

impl DirectoryStore {
    /// The store in the directory `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = self.root.clone();
        tokio::task::spawn_blocking(move || work(&root))
            .await
            .map_err(|e| {
                Error::new(
                    ErrorKind::Internal,
                    "store.task",
                    format!("reading the store stopped: {e}"),
                )
            })?
    }
}

#[async_trait]
impl BackupStore for DirectoryStore {
    fn describe(&self) -> String {
        format!("directory {}", self.root.display())
    }

    async fn list(&self) -> Result<Vec<BackupId>> {
        self.blocking(list).await
    }

    async fn files(&self, id: &BackupId) -> Result<Vec<BackupFile>> {
        let id = id.clone();
        self.blocking(move |root| {
            let (files, _) = walk(root, &id)?;
            Ok(files.into_iter().map(|stored| stored.file).collect())
        })
        .await
    }

    async fn stored_files(&self, id: &BackupId) -> Result<Vec<StoredFile>> {
        let id = id.clone();
        self.blocking(move |root| Ok(walk(root, &id)?.0)).await
    }

    async fn odd_entries(&self, id: &BackupId) -> Result<Vec<OddEntry>> {
        let id = id.clone();
        self.blocking(move |root| Ok(walk(root, &id)?.1)).await
    }

    async fn read(
        &self,
        id: &BackupId,
        path: &str,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let (id, path) = (id.clone(), path.to_owned());
        let file = self
            .blocking(move |root| open(root, &id, &path, offset))
            .await?;
        Ok(Box::new(tokio::fs::File::from_std(file)))
    }

    async fn packed(&self) -> Result<Vec<PackedBackup>> {
        self.blocking(packed).await
    }

    async fn read_packed(
        &self,
        packed: &PackedBackup,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let name = packed.name.clone();
        let file = self
            .blocking(move |root| open_below(root, &[], &name, offset))
            .await?;
        Ok(Box::new(tokio::fs::File::from_std(file)))
    }

    fn local_path(&self, id: &BackupId, path: &str) -> Option<PathBuf> {
        is_inside(path).then(|| self.root.join(id.as_str()).join(path))
    }

    async fn room(&self) -> Result<Option<Space>> {
        self.blocking(|root| directory_write::room(root).map(Some))
            .await
    }

    async fn begin(&self, id: &BackupId) -> Result<Arc<dyn BackupFolder>> {
        let id = id.clone();
        let folder = self
            .blocking(move |root| directory_write::begin(root, &id))
            .await?;
        Ok(Arc::new(folder))
    }

    async fn remove(&self, id: &BackupId) -> Result<()> {
        let id = id.clone();
        self.blocking(move |root| directory_write::remove(root, &id))
            .await
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.root)
    }
}

fn list(root: &Path) -> Result<Vec<BackupId>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(root).map_err(|e| unreachable_store(root, e))? {
        let entry = entry.map_err(|e| unreachable_store(root, e))?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Not followed: a link is not a backup, and `walk` says so when it is asked for.
        let kind = entry
            .file_type()
            .map_err(|e| unreachable_store(&entry.path(), e))?;
        if kind.is_dir() {
            ids.push(id);
        }
    }
    ids.sort();
    Ok(ids)
}

fn packed(root: &Path) -> Result<Vec<PackedBackup>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).map_err(|e| unreachable_store(root, e))? {
        let entry = entry.map_err(|e| unreachable_store(root, e))?;
        let meta = match entry.metadata() {
            Ok(meta) if meta.is_file() => meta,
            _ => continue,
        };
        let name = entry.file_name();
        let packed = name
            .to_str()
            .and_then(|name| PackedBackup::of(name, meta.len(), version(&meta)));
        found.extend(packed);
    }
    found.sort();
    Ok(found)
}

fn version(meta: &std::fs::Metadata) -> String {
    format!("{} {}.{:09}", meta.ino(), meta.ctime(), meta.ctime_nsec())
}

/// The regular files of a backup, and whatever else is in its folder.
fn walk(root: &Path, id: &BackupId) -> Result<(Vec<StoredFile>, Vec<OddEntry>)> {
    let folder = root.join(id.as_str());
    match std::fs::symlink_metadata(&folder) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(Error::new(
                ErrorKind::NotFound,
                "store.not_a_folder",
                format!("{} is not a folder", folder.display()),
            )
            .hint("links are not followed: put the backup's folder itself there"));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            // An absent store has another remedy than an absent backup.
            std::fs::read_dir(root).map_err(|e| unreachable_store(root, e))?;
            return Err(Error::new(
                ErrorKind::NotFound,
                "store.no_such_backup",
                format!("there is no backup {id} in directory {}", root.display()),
            )
            .hint("`restore list` shows the backups that exist"));
        }
        Err(e) => return Err(unreachable_store(&folder, e)),
    }
    let (mut files, mut odd) = (Vec::new(), Vec::new());
    let mut todo = vec![(folder, String::new())];
    while let Some((directory, prefix)) = todo.pop() {
        let failed = |e| Error::io(format!("read the folder {}", directory.display()), e);
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = match entry.file_name().into_string() {
                Ok(name) => format!("{prefix}{name}"),
                Err(name) => {
                    odd.push(odd_name(&prefix, &name));
                    continue;
                }
            };
            let meta = entry
                .metadata()
                .map_err(|e| Error::io(format!("look at {}", entry.path().display()), e))?;
            let kind = meta.file_type();
            if kind.is_dir() {
                todo.push((entry.path(), format!("{path}/")));
            } else if kind.is_file() {
                let size = meta.len();
                files.push(StoredFile {
                    file: BackupFile { path, size },
                    version: version(&meta),
                });
            } else {
                let what = if kind.is_symlink() {
                    "a symbolic link, which is not followed"
                } else {
                    "neither a file nor a folder"
                };
                let what = what.to_owned();
                odd.push(OddEntry { path, what });
            }
        }
    }
    files.sort();
    odd.sort();
    Ok((files, odd))
}

fn odd_name(prefix: &str, name: &OsString) -> OddEntry {
    OddEntry {
        path: format!("{prefix}{}", name.to_string_lossy()),
        what: "an entry whose name is not UTF-8".to_owned(),
    }
}

/// Opens one file for reading, each step of the path held against links put there meanwhile.
fn open(root: &Path, id: &BackupId, path: &str, offset: u64) -> Result<File> {
    if !is_inside(path) {
        return Err(bad_path(path));
    }
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parents = parents.split('/').filter(|part| !part.is_empty());
    let folders: Vec<&str> = std::iter::once(id.as_str()).chain(parents).collect();
    open_below(root, &folders, name, offset)
}

fn open_below(root: &Path, folders: &[&str], name: &str, offset: u64) -> Result<File> {
    let path = folders
        .iter()
        .fold(String::new(), |path, part| path + part + "/")
        + name;
    let what = || format!("open {}/{path}", root.display());
    let failed = |e: rustix::io::Errno| Error::io(what(), e.into());
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at: OwnedFd = rustix::fs::open(root, directory, Mode::empty())
        .map_err(|e| unreachable_store(root, e.into()))?;
    for part in folders {
        at = rustix::fs::openat(&at, *part, directory | OFlags::NOFOLLOW, Mode::empty())
            .map_err(failed)?;
    }
    // Non-blocking: opening a FIFO would wait for its writer for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&at, name, flags, Mode::empty()).map_err(failed)?);
    let meta = file.metadata().map_err(|e| Error::io(what(), e))?;
    if !meta.is_file() {
        return Err(Error::new(
            ErrorKind::Verification,
            "store.not_a_file",
            format!("{path} is not a regular file"),
        )
        .hint("remove it from the backup's folder, or put the file itself there"));
    }
    file.seek(SeekFrom::Start(offset))
        .map_err(|e| Error::io(what(), e))?;
    Ok(file)
}

pub(super) fn unreachable_store(path: &Path, error: std::io::Error) -> Error {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    let path = path.display();
    let (kind, code, hint) = match error.kind() {
        NotFound => (
            ErrorKind::NotFound,
            "store.absent",
            "is its file system mounted? Compare `findmnt` with the store's path in restore.toml",
        ),
        NotADirectory => (
            ErrorKind::Config,
            "store.not_a_directory",
            "set the store's path in restore.toml to the folder that holds the backups",
        ),
        PermissionDenied => (
            ErrorKind::Failed,
            "store.permission",
            "run as a user who may read it, usually root; an NFS export may squash root",
        ),
        _ => (
            ErrorKind::Failed,
            "store.unreadable",
            "see `dmesg` and `findmnt`: the mount may be stale or its server away",
        ),
    };
    Error::new(
        kind,
        code,
        format!("cannot read the backup store {path}: {error}"),
    )
    .hint(hint)
    .source(error)
}
