//! Making and deleting backups in a directory.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::directory;
use crate::archive::{SinkFile, unwritable};
use crate::contract::{BackupFolder, Manifest};
use crate::model::{BackupId, Error, ErrorKind, Result};
use crate::sys::absent::is_new;
use crate::sys::durable::{self, Access};
use crate::sys::private;
use crate::sys::space::Space;

/// A folder of a directory store, in which a backup is being made. Others may write to the store,
/// and give the folder's name to another one: it is held open, and all that is made in it is made
/// below the open one, which is ours alone.
pub(crate) struct DirectoryFolder {
    held: Arc<OwnedFd>,
    /// For people.
    path: PathBuf,
    readers: Readers,
}

/// How the system names what is held open.
fn held_path(held: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()))
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Of a file that a group may read too.
const FILE: u32 = 0o640;

/// Who may read what is written, besides its owner.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readers(pub(crate) Option<u32>);

impl Readers {
    /// Lets the group in, if there is one, whatever the umask.
    fn admit(self, file: &File, mode: u32) -> io::Result<()> {
        let Some(group) = self.0 else { return Ok(()) };
        std::os::unix::fs::fchown(file, None, Some(group))?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))
    }

    fn folder(self, path: &Path) -> io::Result<()> {
        self.admit(&File::open(path)?, 0o750)
    }

    fn file(self, file: &File) -> io::Result<()> {
        self.admit(file, FILE)
    }

    /// What a file is made with that they may read.
    fn access(self) -> Access {
        let ourselves = rustix::process::geteuid().as_raw();
        self.0.map_or(Access::PRIVATE, |group| Access {
            mode: FILE,
            owner: Some((ourselves, group)),
        })
    }
}

/// Makes the folder of a new backup; the store's own directory is never made.
///
/// # Errors
///
/// `Preflight` with `path.untrusted` where somebody else could lead the way to the store elsewhere, and all that is backed
/// up with it. `follow` says that this is meant.
pub(crate) fn begin(
    root: &Path,
    id: &BackupId,
    readers: Readers,
    follow: bool,
) -> Result<DirectoryFolder> {
    let root = &crate::sys::check_file(root, follow)?;
    let store = open_root(root)?;
    let path = root.join(id.as_str());
    let failed = |e: rustix::io::Errno| unwritable(&path.display().to_string(), e.into());
    match rustix::fs::mkdirat(&store, id.as_str(), Mode::RWXU) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => {
            return Err(Error::new(
                ErrorKind::Preflight,
                "backup.exists",
                format!("there is a backup {id} already: {}", path.display()),
            )
            .hint("a backup is never written over: try again in a moment"));
        }
        Err(e) => return Err(failed(e)),
    }
    let flags = DIRECTORY | OFlags::NOFOLLOW;
    let held = rustix::fs::openat(&store, id.as_str(), flags, Mode::empty()).map_err(failed)?;
    let stat = rustix::fs::fstat(&held).map_err(failed)?;
    if !is_new(&held, &stat).map_err(failed)? || stat.st_mode & 0o077 != 0 {
        return Err(Error::new(
            ErrorKind::Failed,
            "store.foreign_folder",
            format!(
                "{} was replaced by somebody else while it was made",
                path.display()
            ),
        )
        .hint("see who writes to the store: another folder has the backup's name now"));
    }
    readers
        .folder(&held_path(&held))
        .map_err(|e| unwritable(&path.display().to_string(), e))?;
    rustix::fs::fsync(&store).map_err(failed)?;
    Ok(DirectoryFolder {
        held: Arc::new(held),
        path,
        readers,
    })
}

fn open_root(root: &Path) -> Result<OwnedFd> {
    rustix::fs::open(root, DIRECTORY, Mode::empty())
        .map_err(|e| directory::unreachable_store(root, e.into()))
}

/// The room in the directory; an error where nothing can be written there, or is not as [`begin`] asks.
pub(crate) fn room(root: &Path, follow: bool) -> Result<Space> {
    let root = crate::sys::check_file(root, follow)?;
    let root = root.as_path();
    let failed = |e: rustix::io::Errno| {
        let e = io::Error::from(e);
        match e.kind() {
            io::ErrorKind::NotFound => directory::unreachable_store(root, e),
            _ => Error::new(
                ErrorKind::Preflight,
                "store.read_only",
                format!("cannot write to the backup store {}: {e}", root.display()),
            )
            .hint("mount it writable, or name a store that is")
            .source(e),
        }
    };
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(root, access).map_err(failed)?;
    Space::of(root)
}

/// Deletes a backup, its manifest first: killed in between, what is left is unfinished and never
/// taken for whole.
///
/// # Errors
///
/// `Preflight` with `path.untrusted` where somebody else could lead the way to the store elsewhere: what
/// would be deleted is then not what was looked at. `follow` says that this is meant.
pub(crate) fn remove(root: &Path, id: &BackupId, follow: bool) -> Result<()> {
    let root = &crate::sys::check_file(root, follow)?;
    let folder = root.join(id.as_str());
    let failed = |e: rustix::io::Errno| Error::io(format!("delete {}", folder.display()), e.into());
    let store = open_root(root)?;
    let flags = DIRECTORY | OFlags::NOFOLLOW;
    let held = match rustix::fs::openat(&store, id.as_str(), flags, Mode::empty()) {
        Ok(held) => held,
        Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            return Err(Error::new(
                ErrorKind::NotFound,
                "store.not_a_folder",
                format!("{} is not a folder", folder.display()),
            ));
        }
        Err(e) => return Err(failed(e)),
    };
    match rustix::fs::unlinkat(&held, Manifest::FILE_NAME, AtFlags::empty()) {
        Ok(()) => rustix::fs::fsync(&held).map_err(failed)?,
        Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(failed(e)),
    }
    drop(held);
    crate::sys::remove_tree(store.as_fd(), OsStr::new(id.as_str())).map_err(failed)?;
    rustix::fs::fsync(&store).map_err(failed)
}

fn sync(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| unwritable(&directory.display().to_string(), e))
}

impl DirectoryFolder {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let held = self.held.clone();
        tokio::task::spawn_blocking(move || work(&held_path(&held)))
            .await
            .map_err(|e| {
                Error::new(
                    ErrorKind::Internal,
                    "store.task",
                    format!("writing to the store stopped: {e}"),
                )
            })?
    }
}

#[async_trait]
impl BackupFolder for DirectoryFolder {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    async fn file(&self, path: &str, _private: bool) -> Result<Box<dyn SinkFile>> {
        if !crate::contract::store::is_inside(path) {
            return Err(Error::new(
                ErrorKind::Internal,
                "store.bad_path",
                format!("{path:?} is not a path inside a backup's folder"),
            ));
        }
        let (path, readers) = (path.to_owned(), self.readers);
        let (held, shown) = (self.held.clone(), self.path.join(&path));
        self.blocking(move |folder| {
            let place = folder.join(&path);
            let failed = |e: io::Error| match e.kind() {
                io::ErrorKind::AlreadyExists => Error::new(
                    ErrorKind::Config,
                    "backup.name_taken",
                    format!("two parts of the backup are both to be written to {path}"),
                )
                .hint("give one of the components other file names in restore.toml"),
                _ => unwritable(&shown.display().to_string(), e),
            };
            if let Some(parent) = place.parent() {
                private::create_dir_all(parent).map_err(failed)?;
                for made in parent.ancestors().take_while(|dir| *dir != folder) {
                    readers.folder(made).map_err(failed)?;
                }
            }
            // All that a backup holds is as private as what is most private in it.
            let mut options = File::options();
            options.write(true).create_new(true);
            let file = private::open(&mut options, &place).map_err(failed)?;
            readers.file(&file).map_err(failed)?;
            Ok(Box::new(DirectoryFile {
                file,
                _held: held,
                path: place,
                sealed: false,
            }) as Box<dyn SinkFile>)
        })
        .await
    }

    async fn publish(&self, manifest: &str) -> Result<()> {
        let (text, readers) = (manifest.to_owned(), self.readers);
        let shown = self.path.join(Manifest::FILE_NAME);
        self.blocking(move |folder| {
            // Each file is durable by now; that it has its name is a matter of its folder.
            let mut todo = vec![folder.to_owned()];
            while let Some(directory) = todo.pop() {
                let failed = |e| Error::io(format!("read the folder {}", directory.display()), e);
                for entry in std::fs::read_dir(&directory).map_err(failed)? {
                    let entry = entry.map_err(failed)?;
                    if entry.file_type().map_err(failed)?.is_dir() {
                        todo.push(entry.path());
                    }
                }
                sync(&directory)?;
            }
            let beside = folder.join(format!(".{}.new", Manifest::FILE_NAME));
            let place = folder.join(Manifest::FILE_NAME);
            durable::replace(&place, &beside, readers.access(), text)
                .map_err(|e| unwritable(&shown.display().to_string(), e))
        })
        .await
    }
}

struct DirectoryFile {
    file: File,
    /// What its path begins with.
    _held: Arc<OwnedFd>,
    path: PathBuf,
    sealed: bool,
}

impl Write for DirectoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SinkFile for DirectoryFile {
    fn seal(mut self: Box<Self>) -> io::Result<()> {
        self.file.sync_all()?;
        self.sealed = true;
        Ok(())
    }
}

impl Drop for DirectoryFile {
    fn drop(&mut self) {
        if !self.sealed {
            // Half an artifact is no artifact; where it stays, the backup is unfinished anyway.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manifest_that_cannot_be_put_there_leaves_nothing_beside() {
        let root = tempfile::tempdir().unwrap();
        let id: BackupId = "20240215-020000".parse().unwrap();
        let readers = Readers(Some(rustix::process::getegid().as_raw()));
        for (readers, mode) in [(Readers::default(), 0o600), (readers, 0o640)] {
            let folder = begin(root.path(), &id, readers, false).unwrap();
            let path = root.path().join(id.as_str());
            let manifest = path.join(Manifest::FILE_NAME);
            std::fs::create_dir(&manifest).unwrap();
            let error = folder.publish("text").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
            std::fs::remove_dir(&manifest).unwrap();
            assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
            folder.publish("text").await.unwrap();
            assert_eq!(std::fs::read_to_string(&manifest).unwrap(), "text");
            let found = manifest.metadata().unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode);
            std::fs::remove_dir_all(&path).unwrap();
        }
    }
}
