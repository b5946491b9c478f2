//! Making and deleting backups in a directory.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{BackupFolder, directory};
use crate::backup::{BackupId, Manifest};
use crate::error::{Error, ErrorKind, Result};
use crate::platform::Space;
use crate::stream::{SinkFile, unwritable};

/// A folder of a directory store, in which a backup is being made.
pub(super) struct DirectoryFolder {
    path: PathBuf,
}

/// Makes the folder of a new backup; the store's own directory is never made.
pub(super) fn begin(root: &Path, id: &BackupId) -> Result<DirectoryFolder> {
    std::fs::read_dir(root).map_err(|e| directory::unreachable_store(root, e))?;
    let path = root.join(id.as_str());
    match std::fs::create_dir(&path) {
        Ok(()) => {
            sync(root)?;
            Ok(DirectoryFolder { path })
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Error::new(
            ErrorKind::Preflight,
            "backup.exists",
            format!("there is a backup {id} already: {}", path.display()),
        )
        .hint("a backup is never written over: try again in a moment")),
        Err(e) => Err(unwritable(&path.display().to_string(), e)),
    }
}

/// The room in the directory; an error where nothing can be written there.
pub(super) fn room(root: &Path) -> Result<Space> {
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
    let room = rustix::fs::statvfs(root).map_err(failed)?;
    let device = std::fs::metadata(root)
        .map_err(|e| directory::unreachable_store(root, e))?
        .dev();
    Ok(Space::new(
        room.f_bavail.saturating_mul(room.f_frsize),
        if room.f_files == 0 {
            u64::MAX
        } else {
            room.f_favail
        },
        format!(
            "device {}:{}",
            rustix::fs::major(device),
            rustix::fs::minor(device)
        ),
    ))
}

/// Deletes a backup, its manifest first: killed in between, what is left is unfinished and never
/// taken for whole.
pub(super) fn remove(root: &Path, id: &BackupId) -> Result<()> {
    let folder = root.join(id.as_str());
    let failed = |e| Error::io(format!("delete {}", folder.display()), e);
    match std::fs::symlink_metadata(&folder) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(Error::new(
                ErrorKind::NotFound,
                "store.not_a_folder",
                format!("{} is not a folder", folder.display()),
            ));
        }
        Err(e) => return Err(failed(e)),
    }
    match std::fs::remove_file(folder.join(Manifest::FILE_NAME)) {
        Ok(()) => sync(&folder)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    std::fs::remove_dir_all(&folder).map_err(failed)?;
    sync(root)
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
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || work(&path))
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

    async fn file(&self, path: &str, private: bool) -> Result<Box<dyn SinkFile>> {
        if !super::is_inside(path) {
            return Err(Error::new(
                ErrorKind::Internal,
                "store.bad_path",
                format!("{path:?} is not a path inside a backup's folder"),
            ));
        }
        let path = path.to_owned();
        self.blocking(move |folder| {
            let place = folder.join(&path);
            let failed = |e: io::Error| match e.kind() {
                io::ErrorKind::AlreadyExists => Error::new(
                    ErrorKind::Config,
                    "backup.name_taken",
                    format!("two parts of the backup are both to be written to {path}"),
                )
                .hint("give one of the components other file names in restore.toml"),
                _ => unwritable(&place.display().to_string(), e),
            };
            if let Some(parent) = place.parent() {
                std::fs::create_dir_all(parent).map_err(failed)?;
            }
            let file = File::options()
                .write(true)
                .create_new(true)
                .mode(if private { 0o600 } else { 0o644 })
                .open(&place)
                .map_err(failed)?;
            Ok(Box::new(DirectoryFile {
                file,
                path: place,
                sealed: false,
            }) as Box<dyn SinkFile>)
        })
        .await
    }

    async fn publish(&self, manifest: &str) -> Result<()> {
        let text = manifest.to_owned();
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
            let (beside, place) = (
                folder.join(format!(".{}.new", Manifest::FILE_NAME)),
                folder.join(Manifest::FILE_NAME),
            );
            let write = || {
                let mut file = File::options()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o644)
                    .open(&beside)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                std::fs::rename(&beside, &place)
            };
            write().map_err(|e| unwritable(&place.display().to_string(), e))?;
            sync(folder)
        })
        .await
    }
}

struct DirectoryFile {
    file: File,
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
