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

use super::directory_write;
use super::names::{Found, Names, survey};
use crate::contract::store::{bad_path, is_inside};
use crate::contract::{BackupFolder, BackupStore, OddEntry, PackedBackup, StoredFile};
use crate::model::{BackupFile, BackupId, Error, ErrorKind, Result};
use crate::sys::space::Space;

/// A directory with one folder a backup.
///
/// Reading opens everything read-only and follows no symbolic link below the directory: what a backup
/// holds can name nothing outside of it.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    root: PathBuf,
    readers: directory_write::Readers,
    /// How backups of other tools are named.
    names: Option<Arc<Names>>,
}

impl DirectoryStore {
    /// The store in the directory `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            readers: directory_write::Readers::default(),
            names: None,
        }
    }

    /// The same store, whose folders another tool names: `pattern` is text with `{year}`, `{month}`,
    /// `{day}`, `{hour}`, `{minute}`, `{second}`, `{date}`, `{time}`, `{epoch}`, `{n}` for a number and
    /// `*` for anything. Where it has no date, a backup is of the time at which its folder was last
    /// changed. Ids are made of that time. Such backups may have no manifest, and are never deleted.
    ///
    /// # Errors
    ///
    /// `Config` (`store.bad_pattern`) where it is no such pattern.
    pub fn named(mut self, pattern: &str) -> Result<Self> {
        self.names = Some(Arc::new(Names::parse(pattern, false)?));
        Ok(self)
    }

    /// The same store, in which files lie side by side with a date in their names, as the pattern
    /// says: those of one time are a backup.
    ///
    /// # Errors
    ///
    /// As [`Self::named`]; also where the pattern has no date.
    pub fn of_files(mut self, pattern: &str) -> Result<Self> {
        self.names = Some(Arc::new(Names::parse(pattern, true)?));
        Ok(self)
    }

    /// Where the files of a backup are.
    fn found(root: &Path, names: Option<&Names>, id: &BackupId) -> Result<Found> {
        let own = Found::Folder(id.as_str().to_owned());
        let Some(names) = names else {
            return Ok(own);
        };
        if root.join(id.as_str()).is_dir() {
            return Ok(own);
        }
        Ok(survey(root, Some(names))?.backups.remove(id).unwrap_or(own))
    }

    /// The same store, of which a group reads what is written from now on. Without one, backups are
    /// for their owner alone: folders have the mode 0700 and files 0600, whatever the umask.
    #[must_use]
    pub fn readable_by(mut self, group: u32) -> Self {
        self.readers = directory_write::Readers(Some(group));
        self
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
        let names = self.names.clone();
        self.blocking(move |root| {
            let survey = survey(root, names.as_deref())?;
            Ok(survey.backups.into_keys().collect())
        })
        .await
    }

    async fn strangers(&self) -> Result<Vec<OddEntry>> {
        let names = self.names.clone();
        self.blocking(move |root| Ok(survey(root, names.as_deref())?.strangers))
            .await
    }

    fn lists_nothing(&self, id: &BackupId) -> bool {
        // What has our names is ours: unfinished without a manifest.
        self.names.is_some() && !self.root.join(id.as_str()).is_dir()
    }

    async fn files(&self, id: &BackupId) -> Result<Vec<BackupFile>> {
        let (id, names) = (id.clone(), self.names.clone());
        self.blocking(move |root| {
            let (files, _) = walk(root, names.as_deref(), &id)?;
            Ok(files.into_iter().map(|stored| stored.file).collect())
        })
        .await
    }

    async fn stored_files(&self, id: &BackupId) -> Result<Vec<StoredFile>> {
        let (id, names) = (id.clone(), self.names.clone());
        self.blocking(move |root| Ok(walk(root, names.as_deref(), &id)?.0))
            .await
    }

    async fn odd_entries(&self, id: &BackupId) -> Result<Vec<OddEntry>> {
        let (id, names) = (id.clone(), self.names.clone());
        self.blocking(move |root| Ok(walk(root, names.as_deref(), &id)?.1))
            .await
    }

    async fn read(
        &self,
        id: &BackupId,
        path: &str,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let (id, path, names) = (id.clone(), path.to_owned(), self.names.clone());
        let file = self
            .blocking(move |root| {
                let found = Self::found(root, names.as_deref(), &id)?;
                open(root, &found, &path, offset)
            })
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
        if !is_inside(path) {
            return None;
        }
        let found = Self::found(&self.root, self.names.as_deref(), id).ok()?;
        Some(match found {
            Found::Folder(name) => self.root.join(name).join(path),
            Found::Files(_) => self.root.join(path),
        })
    }

    async fn room(&self) -> Result<Option<Space>> {
        self.blocking(|root| directory_write::room(root).map(Some))
            .await
    }

    async fn begin(&self, id: &BackupId) -> Result<Arc<dyn BackupFolder>> {
        let (id, readers) = (id.clone(), self.readers);
        let folder = self
            .blocking(move |root| directory_write::begin(root, &id, readers))
            .await?;
        Ok(Arc::new(folder))
    }

    async fn remove(&self, id: &BackupId) -> Result<()> {
        let (id, names) = (id.clone(), self.names.clone());
        self.blocking(move |root| {
            if names.is_some() && !root.join(id.as_str()).is_dir() {
                return Err(Error::new(
                    ErrorKind::Preflight,
                    "store.not_ours",
                    format!(
                        "backup {id} in {} is another tool's, and is not deleted",
                        root.display()
                    ),
                )
                .hint("let the tool that made it delete it"));
            }
            directory_write::remove(root, &id)
        })
        .await
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.root)
    }
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
fn walk(
    root: &Path,
    names: Option<&Names>,
    id: &BackupId,
) -> Result<(Vec<StoredFile>, Vec<OddEntry>)> {
    let folder = match DirectoryStore::found(root, names, id)? {
        Found::Folder(name) => root.join(name),
        Found::Files(paths) => return Ok((flat(root, paths)?, Vec::new())),
    };
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

/// Files of the store itself.
fn flat(root: &Path, paths: Vec<String>) -> Result<Vec<StoredFile>> {
    let mut files = Vec::new();
    for path in paths {
        let at = root.join(&path);
        let meta = std::fs::symlink_metadata(&at)
            .map_err(|e| Error::io(format!("look at {}", at.display()), e))?;
        let size = meta.len();
        files.push(StoredFile {
            file: BackupFile { path, size },
            version: version(&meta),
        });
    }
    files.sort();
    Ok(files)
}

fn odd_name(prefix: &str, name: &OsString) -> OddEntry {
    OddEntry {
        path: format!("{prefix}{}", name.to_string_lossy()),
        what: "an entry whose name is not UTF-8".to_owned(),
    }
}

/// Opens one file for reading, each step of the path held against links put there meanwhile.
fn open(root: &Path, found: &Found, path: &str, offset: u64) -> Result<File> {
    if !is_inside(path) {
        return Err(bad_path(path));
    }
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parents = parents.split('/').filter(|part| !part.is_empty());
    let folder = match found {
        Found::Folder(name) => Some(name.as_str()),
        Found::Files(_) => None,
    };
    let folders: Vec<&str> = folder.into_iter().chain(parents).collect();
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

pub(crate) fn unreachable_store(path: &Path, error: std::io::Error) -> Error {
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
