//! Where a backup is while it is being fetched, and how it gets its name.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::artifacts::ORIGINAL;
use super::ledger::Ledger;
use crate::contract::Manifest;
use crate::contract::store::{bad_path, is_inside};
use crate::model::{BackupFile, BackupId, Error, ErrorKind, Result};

/// `.fetching-ID` in a directory store: the backup's folder to be, and the ledger beside it. One
/// process at a time works in it; everything in it is for our eyes alone.
pub(super) struct PartialBackup {
    root: PathBuf,
    work: PathBuf,
    id: BackupId,
    pub(super) ledger: Ledger,
    /// Locked as long as the value lives, also by a writer that nobody waits for any more.
    _lock: File,
}

impl PartialBackup {
    /// Makes the folder in the directory `root`, or takes up the one that is there.
    pub(super) fn open(root: &Path, id: &BackupId) -> Result<Self> {
        let work = root.join(format!(".fetching-{id}"));
        // Whoever can rename what is in it could have us write elsewhere.
        crate::sys::check_ancestors(&work, false).map_err(|e| {
            e.hint("fetch into a directory of your own that nobody else can write to")
        })?;
        make(&work)?;
        let lock = File::open(&work).map_err(|e| Error::io(open(&work), e))?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::new(
                ErrorKind::Locked,
                "fetch.under_way",
                format!("backup {id} is being fetched already"),
            )
            .hint("wait for the other fetch to end"));
        }
        close(&work.join(id.as_str()))?;
        let ledger = Ledger::open(&work.join("ledger"))?;
        Ok(Self {
            root: root.to_path_buf(),
            work,
            id: id.clone(),
            ledger,
            _lock: lock,
        })
    }

    /// The folder that [`finish`](Self::finish) will name; a store of its own until then.
    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    /// The backup's folder to be.
    pub(super) fn folder(&self) -> PathBuf {
        self.work.join(self.id.as_str())
    }

    /// Deletes all that is in the backup's folder to be.
    pub(super) fn empty(&self) -> Result<()> {
        let folder = self.folder();
        std::fs::remove_dir_all(&folder)
            .map_err(|e| Error::io(format!("clear {}", folder.display()), e))?;
        make(&folder)
    }

    /// Where a file of the backup is written; makes the folders above it. The store says what its files are
    /// called, and may be anybody's.
    ///
    /// # Errors
    ///
    /// `Verification` with `store.bad_path` where that is no path inside of a folder.
    pub(super) fn path(&self, path: &str) -> Result<PathBuf> {
        if !is_inside(path) {
            return Err(bad_path(path));
        }
        let full = self.work.join(self.id.as_str()).join(path);
        if let Some(parent) = full.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(|e| Error::io(format!("make the folder {}", parent.display()), e))?;
        }
        Ok(full)
    }

    /// Bytes that are free to us on the file system.
    pub(super) fn free(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.work).map_err(|e| {
            Error::io(
                format!("look at the file system of {}", self.work.display()),
                e.into(),
            )
        })?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Deletes what is there of files that the backup does not have (any more).
    pub(super) fn clear_all_but(&self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let folder = self.work.join(self.id.as_str());
        let mut todo = vec![(folder, String::new())];
        while let Some((directory, prefix)) = todo.pop() {
            let failed = |e| Error::io(format!("clear {}", directory.display()), e);
            for entry in std::fs::read_dir(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                let path = format!("{prefix}{}", name.to_string_lossy());
                if entry.file_type().map_err(failed)?.is_dir() {
                    todo.push((entry.path(), format!("{path}/")));
                } else if !wanted(&path) {
                    std::fs::remove_file(entry.path()).map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    /// Gives the whole, verified backup its name. Killed before the rename, the next fetch finds
    /// everything here and only renames; killed after it, the backup is there, and the next
    /// fetch of it removes what is left here.
    pub(super) fn finish(&self) -> Result<PathBuf> {
        let last = self.root.join(self.id.as_str());
        let failed = |what: &str, e| Error::io(format!("{what} {}", last.display()), e);
        let work = File::open(&self.work).map_err(|e| Error::io(open(&self.work), e))?;
        rustix::fs::syncfs(&work).map_err(|e| failed("make durable", e.into()))?;
        std::fs::rename(self.work.join(self.id.as_str()), &last).map_err(|e| {
            use std::io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory};
            match e.kind() {
                AlreadyExists | DirectoryNotEmpty | NotADirectory => in_the_way(&last),
                _ => failed("give the fetched backup its name", e),
            }
        })?;
        File::open(&self.root)
            .and_then(|root| root.sync_all())
            .map_err(|e| failed("make durable", e))?;
        // Only the ledger is left; it is no reason to call a fetched backup not fetched.
        let _ = std::fs::remove_dir_all(&self.work);
        Ok(last)
    }

    /// Removes what a fetch left behind that was killed between its rename and its end.
    pub(super) fn sweep(root: &Path, id: &BackupId) {
        let work = root.join(format!(".fetching-{id}"));
        // Not while it holds data: somebody may fetch it anew after the folder was moved away.
        if !work.join(id.as_str()).exists() {
            let _ = std::fs::remove_file(work.join("ledger"));
            let _ = std::fs::remove_dir(work);
        }
    }
}

fn open(path: &Path) -> String {
    format!("open the folder {}", path.display())
}

/// Makes the backup's folder to be, inside of one that is ours alone; whatever mode an archive that
/// was broken off gave it, it is closed to others again.
fn close(path: &Path) -> Result<()> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if let Ok(folder) = rustix::fs::open(path, flags, Mode::empty()) {
        rustix::fs::fchmod(&folder, Mode::RWXU)
            .map_err(|e| Error::io(format!("close {} to others", path.display()), e.into()))?;
    }
    make(path)
}

/// Makes a folder of our own. One that is there must be ours alone: what others could write into
/// is not verified by having been.
fn make(path: &Path) -> Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => {
            return made.map_err(|e| Error::io(format!("make the folder {}", path.display()), e));
        }
    }
    let meta = std::fs::symlink_metadata(path).map_err(|e| Error::io(open(path), e))?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw();
    if meta.is_dir() && ours && meta.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Preflight,
        "fetch.foreign_folder",
        format!(
            "{} was not made by a fetch of this user: it must be a folder of that user's with mode 0700",
            path.display()
        ),
    )
    .hint("look at it, move it away, and fetch again"))
}

fn in_the_way(path: &Path) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "fetch.in_the_way",
        format!("something else appeared at {} meanwhile", path.display()),
    )
    .hint("look at it, move it away, and fetch again: nothing needs to be transferred twice")
}

/// Whether a folder that is there is, by its files' names and sizes, the backup that `source`
/// describes; else what speaks against it. `foreign`: another tool made it, and its fetch a list of its files.
pub(crate) fn compare(
    id: &BackupId,
    there: &[BackupFile],
    source: &[BackupFile],
    foreign: bool,
) -> std::result::Result<(), Error> {
    let sizes = |files: &[BackupFile]| -> HashMap<String, u64> {
        let files = files.iter();
        files.map(|file| (file.path.clone(), file.size)).collect()
    };
    let (here, origin) = (sizes(there), sizes(source));
    let locked = |path: &str| origin.contains_key(&format!("{path}.gpg"));
    // A fetch that unlocked some of it wrote a manifest of its own: instead of the one that came,
    // or of lists of other forms.
    let replaced = |path: &str| match here.contains_key(ORIGINAL) {
        true => path == Manifest::FILE_NAME || Manifest::SIGNATURES.contains(&path),
        false => {
            let plain = |file: &BackupFile| locked(&file.path) && !origin.contains_key(&file.path);
            let made = foreign || there.iter().any(plain);
            path == Manifest::FILE_NAME && !origin.contains_key(path) && made
        }
    };
    let unlocked_here = |path: &str| match path.strip_suffix(".gpg") {
        Some(plain) => here.contains_key(plain),
        None => replaced(path),
    };
    let differ = source
        .iter()
        .find(|file| here.get(&file.path) != Some(&file.size) && !unlocked_here(&file.path))
        .map(|file| match here.contains_key(&file.path) {
            true => format!("{} has another size", file.path),
            false => format!("{} is not there", file.path),
        });
    let extra = || {
        let known = |path: &str| {
            origin.contains_key(path)
                || locked(path)
                || replaced(path)
                || path.starts_with(ORIGINAL)
        };
        let mut extra = there.iter().filter(|file| !known(&file.path));
        extra
            .next()
            .map(|file| format!("{} is there only", file.path))
    };
    match differ.or_else(extra) {
        None => Ok(()),
        Some(what) => Err(Error::new(
            ErrorKind::Preflight,
            "fetch.differs",
            format!("a folder named {id} is there already, and it is not the same backup: {what}"),
        )
        .hint("it may be half a copy made by hand: move it away and fetch again, or verify and use it as it is")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let root = restore_testing::trees::temporary();
        let id: BackupId = "20240215-020000".parse().unwrap();
        let place = PartialBackup::open(root.path(), &id).unwrap();
        for path in [
            "",
            "..",
            "../x",
            "a/../../../x",
            "/x",
            "a//x",
            "a/./x",
            "a\0x",
        ] {
            let error = place.path(path).unwrap_err();
            assert_eq!(error.code(), "store.bad_path", "{path:?}");
        }
        assert!(place.path("a/x").unwrap().starts_with(place.folder()));
        let made = std::fs::read_dir(root.path()).unwrap().count();
        assert_eq!(made, 1, "only its own folder");
    }
}
