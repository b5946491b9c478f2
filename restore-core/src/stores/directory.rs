//! Backups in a directory of this host, an NFS mount for instance.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tokio::io::AsyncRead;

use super::directory_write;
use super::names::{Found, not_ours, survey};
use super::patterns::NamePattern;
use crate::contract::store::{bad_path, is_inside};
use crate::contract::{BackupFolder, BackupStore, OddEntry, PackedBackup, StoreReason, StoredFile};
use crate::model::{BackupFile, BackupId, Error, ErrorKind, Result};
use crate::sys::open_beneath_across;
use crate::sys::space::Space;

/// A directory with one folder a backup.
///
/// Reading opens everything read-only and follows no symbolic link below the directory: what a backup
/// holds can name nothing outside of it.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    root: PathBuf,
    readers: directory_write::Readers,
    /// Whether it is used also where somebody else could lead its path elsewhere.
    follow: bool,
    /// How backups of other tools are named.
    names: Option<Arc<NamePattern>>,
    /// Which folders backups of other tools were found in: where to look first, and no answer.
    folders: Arc<Mutex<HashMap<BackupId, String>>>,
}

impl DirectoryStore {
    /// The store in the directory `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            readers: directory_write::Readers::default(),
            follow: false,
            names: None,
            folders: Arc::default(),
        }
    }

    /// The same store, which is used also where somebody else than root or we could lead its path to another
    /// directory. Without that nothing is written there or deleted then, and no plan is made of what is not signed.
    #[must_use]
    pub fn followed(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// The same store, whose folders another tool names: `pattern` is text with `{year}`, `{month}`,
    /// `{day}`, `{hour}`, `{minute}`, `{second}`, `{yy}`, `{m}`, `{d}` and `{h}` without their zeros, `{mon}` for
    /// the name of a month, `{hour12}` with `{ampm}`, `{yday}` for the day of the year, `{date}`, `{time}`,
    /// `{epoch}`, `{weekday}`, `{n}` for a number and `*` for anything. Where it has no date, a backup is of the
    /// time at which its folder was last changed; with `{manifest}`, which is anything, of the time that its
    /// `MANIFEST.txt` says (`Backup ID:`, `Created:`). Ids are made of that time. Such backups may have no
    /// manifest otherwise, and are never deleted.
    ///
    /// # Errors
    ///
    /// `Config` (`store.bad_pattern`) where it is no such pattern.
    pub fn named(self, pattern: &str) -> Result<Self> {
        Ok(self.with_names(NamePattern::parse(pattern, false)?))
    }

    pub(super) fn with_names(mut self, names: NamePattern) -> Self {
        self.names = Some(Arc::new(names));
        self
    }

    /// The same store, in which files lie side by side with a date in their names, as the pattern
    /// says, or in a folder for each part (`*/{date}.*`): those of one time are a backup.
    ///
    /// # Errors
    ///
    /// As [`Self::named`]; also where the pattern has no date.
    pub fn of_files(self, pattern: &str) -> Result<Self> {
        Ok(self.with_names(NamePattern::parse(pattern, true)?))
    }

    /// Where the files of a backup are.
    fn found(&self, id: &BackupId) -> Result<Found> {
        let own = Found::Folder(id.as_str().to_owned());
        let Some(names) = self.names.as_deref() else {
            return Ok(own);
        };
        if self.root.join(id.as_str()).is_dir() {
            return Ok(own);
        }
        let found = survey(&self.root, Some(names))?.backups.remove(id);
        if let Some(Found::Folder(name)) = &found {
            let mut known = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(id.clone(), name.clone());
        }
        Ok(found.unwrap_or(own))
    }

    /// The place of one file of a backup, relative to the store. What the store has is looked
    /// through only where one look does not tell: a backup can have very many files.
    fn place(&self, id: &BackupId, path: &str) -> Result<String> {
        let in_folder = |name: &str| format!("{name}/{path}");
        let Some(names) = self.names.as_deref() else {
            return Ok(in_folder(id.as_str()));
        };
        if self.root.join(id.as_str()).is_dir() {
            return Ok(in_folder(id.as_str()));
        }
        if names.is_of(&self.root, path, id) {
            return Ok(path.to_owned());
        }
        let known = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let name = known.get(id).cloned();
        drop(known);
        if let Some(name) = name
            && names.is_of(&self.root, &name, id)
        {
            return Ok(in_folder(&name));
        }
        Ok(match self.found(id)? {
            Found::Folder(name) => in_folder(&name),
            Found::Files(_) => path.to_owned(),
        })
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
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(&store))
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
        self.blocking(|store| {
            let survey = survey(&store.root, store.names.as_deref())?;
            Ok(survey.backups.into_keys().collect())
        })
        .await
    }

    async fn strangers(&self) -> Result<Vec<OddEntry>> {
        self.blocking(|store| Ok(survey(&store.root, store.names.as_deref())?.strangers))
            .await
    }

    fn lists_nothing(&self, id: &BackupId) -> bool {
        // What has our names is ours: unfinished without a manifest.
        self.names.is_some() && !self.root.join(id.as_str()).is_dir()
    }

    async fn files(&self, id: &BackupId) -> Result<Vec<BackupFile>> {
        let id = id.clone();
        self.blocking(move |store| {
            let (files, _) = store.walk(&id)?;
            Ok(files.into_iter().map(|stored| stored.file).collect())
        })
        .await
    }

    async fn stored_files(&self, id: &BackupId) -> Result<Vec<StoredFile>> {
        let id = id.clone();
        self.blocking(move |store| Ok(store.walk(&id)?.0)).await
    }

    async fn odd_entries(&self, id: &BackupId) -> Result<Vec<OddEntry>> {
        let id = id.clone();
        self.blocking(move |store| Ok(store.walk(&id)?.1)).await
    }

    async fn read(
        &self,
        id: &BackupId,
        path: &str,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        if !is_inside(path) {
            return Err(bad_path(path));
        }
        let (id, path) = (id.clone(), path.to_owned());
        let file = self
            .blocking(move |store| open(&store.root, &store.place(&id, &path)?, offset))
            .await?;
        Ok(Box::new(tokio::fs::File::from_std(file)))
    }

    async fn packed(&self) -> Result<Vec<PackedBackup>> {
        self.blocking(|store| packed(&store.root)).await
    }

    async fn read_packed(
        &self,
        packed: &PackedBackup,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let name = packed.name.clone();
        let file = self
            .blocking(move |store| open(&store.root, &name, offset))
            .await?;
        Ok(Box::new(tokio::fs::File::from_std(file)))
    }

    fn local_path(&self, id: &BackupId, path: &str) -> Option<PathBuf> {
        if !is_inside(path) {
            return None;
        }
        Some(self.root.join(self.place(id, path).ok()?))
    }

    async fn room(&self) -> Result<Option<Space>> {
        self.blocking(|store| directory_write::room(&store.root, store.follow).map(Some))
            .await
    }

    async fn begin(&self, id: &BackupId) -> Result<Arc<dyn BackupFolder>> {
        let (id, readers) = (id.clone(), self.readers);
        let folder = self
            .blocking(move |store| directory_write::begin(&store.root, &id, readers, store.follow))
            .await?;
        Ok(Arc::new(folder))
    }

    async fn remove(&self, id: &BackupId) -> Result<()> {
        let id = id.clone();
        self.blocking(move |store| {
            let root = &store.root;
            if store.names.is_some() && !root.join(id.as_str()).is_dir() {
                return Err(not_ours(&id, &root.display().to_string()));
            }
            directory_write::remove(root, &id, store.follow)
        })
        .await
    }

    fn check_way(&self) -> Result<()> {
        crate::sys::check_file(&self.root, self.follow).map(drop)
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

impl DirectoryStore {
    /// The regular files of a backup, and whatever else is in its folder.
    fn walk(&self, id: &BackupId) -> Result<(Vec<StoredFile>, Vec<OddEntry>)> {
        let root = &self.root;
        let name = match self.found(id)? {
            Found::Folder(name) => name,
            Found::Files(paths) => return Ok((flat(root, paths)?, Vec::new())),
        };
        let folder = root.join(&name);
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
        let opened = open_root(root)?;
        let (mut files, mut odd) = (Vec::new(), Vec::new());
        let mut todo = vec![String::new()];
        while let Some(prefix) = todo.pop() {
            // Held and below the store, whatever links are put there meanwhile.
            let at = format!("{name}/{prefix}");
            let failed = |e: Errno| {
                Error::io(
                    format!("read the folder {}", root.join(&at).display()),
                    e.into(),
                )
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let directory =
                open_beneath_across(opened.as_fd(), Path::new(&at), flags).map_err(failed)?;
            for entry in Dir::read_from(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let entry = OsStr::from_bytes(entry.file_name().to_bytes());
                if entry == "." || entry == ".." {
                    continue;
                }
                let Some(path) = entry.to_str().map(|entry| format!("{prefix}{entry}")) else {
                    odd.push(odd_name(&prefix, entry));
                    continue;
                };
                let stat = rustix::fs::statat(&directory, entry, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|e| {
                        let shown = root.join(&at).join(entry);
                        Error::io(format!("look at {}", shown.display()), e.into())
                    })?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => todo.push(format!("{path}/")),
                    FileType::RegularFile => files.push(stored(path, &stat)),
                    kind => {
                        let what = if kind == FileType::Symlink {
                            "a symbolic link, which is not followed"
                        } else {
                            "neither a file nor a folder"
                        };
                        let what = what.to_owned();
                        odd.push(OddEntry { path, what });
                    }
                }
            }
        }
        files.sort();
        odd.sort();
        Ok((files, odd))
    }
}

fn stored(path: String, stat: &Stat) -> StoredFile {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    StoredFile {
        file: BackupFile { path, size },
        version: format!(
            "{} {}.{:09}",
            stat.st_ino, stat.st_ctime, stat.st_ctime_nsec
        ),
    }
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

fn odd_name(prefix: &str, name: &OsStr) -> OddEntry {
    OddEntry {
        path: format!("{prefix}{}", name.to_string_lossy()),
        what: "an entry whose name is not UTF-8".to_owned(),
    }
}

fn open_root(root: &Path) -> Result<OwnedFd> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(root, directory, Mode::empty()).map_err(|e| unreachable_store(root, e.into()))
}

/// Opens the file at `path` below the store for reading, without following links put there meanwhile.
pub(super) fn open(root: &Path, path: &str, offset: u64) -> Result<File> {
    let what = || format!("open {}/{path}", root.display());
    let failed = |e: Errno| Error::io(what(), e.into());
    let at = open_root(root)?;
    // Non-blocking: opening a FIFO would wait for its writer for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let opened = open_beneath_across(at.as_fd(), Path::new(path), flags).map_err(failed)?;
    let mut file = File::from(opened);
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
    let failed = Error::new(
        kind,
        code,
        format!("cannot read the backup store {path}: {error}"),
    );
    let failed = match kind {
        ErrorKind::NotFound => failed.because(StoreReason::Absent),
        _ => failed,
    };
    failed.hint(hint).source(error)
}
