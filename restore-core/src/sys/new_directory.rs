//! A directory that gets its name once everything in it is there.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{open_directory, remove_tree};
use crate::model::{Error, ErrorKind, Result};

/// How the name begins that it has until then.
const PREFIX: &str = ".restore-get-";

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory to be, which is filled beside where it will be. Dropped unfinished, it is removed. One
/// process at a time fills one for the same name; what a killed one left is removed by the next.
pub(crate) struct NewDirectory {
    path: PathBuf,
    above: OwnedFd,
    /// What it will be called.
    name: OsString,
    /// What it is called until then.
    temporary: OsString,
    /// Locked as long as the value lives.
    directory: OwnedFd,
    /// What there is now: an empty directory.
    before: Option<Stat>,
    finished: bool,
}

impl NewDirectory {
    /// Begins the directory `path`, which must be absolute, and not be there, or be empty.
    ///
    /// # Errors
    ///
    /// `Config`: `get.exists`; `Preflight`: `path.untrusted` where somebody else could lead the way there
    /// elsewhere; `Locked`: `get.under_way`; `io.*`.
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        let (above, name) = above(path)?;
        let before = Self::look(&above, &name, path)?;
        let digest = Sha256::digest(name.as_bytes());
        let short: String = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let temporary = OsString::from(format!("{PREFIX}{short}"));
        let directory = make(&above, &temporary, path)?;
        Ok(Self {
            path: path.to_owned(),
            above,
            name,
            temporary,
            directory,
            before,
            finished: false,
        })
    }

    /// What has the name now; it must be nothing, or an empty directory.
    fn look(above: &OwnedFd, name: &OsStr, path: &Path) -> Result<Option<Stat>> {
        let failed = |error: Errno| Error::io(format!("look at {}", path.display()), error.into());
        let stat = match rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(exists(path, "is there already, and is no directory"));
        }
        if !is_ours(&stat) {
            return Err(exists(path, "belongs to somebody else"));
        }
        let directory =
            rustix::fs::openat(above, name, DIRECTORY, Mode::empty()).map_err(failed)?;
        for entry in Dir::read_from(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Err(exists(path, "is not empty"));
            }
        }
        Ok(Some(stat))
    }

    /// What it will be called.
    pub(crate) fn shown(&self) -> &Path {
        &self.path
    }

    /// The directory `relative` in it, made with what is missing of the way, for our eyes alone.
    pub(crate) fn folder(&self, relative: &Path) -> Result<OwnedFd> {
        let failed = |error: Errno| {
            let shown = self.path.join(relative);
            Error::io(format!("make {}", shown.display()), error.into())
        };
        let mut at = self
            .directory
            .try_clone()
            .map_err(|e| Error::io(format!("open {}", self.path.display()), e))?;
        for part in relative.components() {
            let Component::Normal(name) = part else {
                return Err(failed(Errno::INVAL));
            };
            match rustix::fs::mkdirat(&at, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
            at = rustix::fs::openat(&at, name, DIRECTORY, Mode::empty()).map_err(failed)?;
        }
        Ok(at)
    }

    /// The directory in it that the file `relative` is to lie in, and its name there.
    pub(crate) fn place<'a>(&self, relative: &'a Path) -> Result<(OwnedFd, &'a OsStr)> {
        let name = relative.file_name().unwrap_or_default();
        let above = relative.parent().unwrap_or(Path::new(""));
        Ok((self.folder(above)?, name))
    }

    /// Gives it its name. Durable once this returns; on an error there is nothing.
    pub(crate) fn finish(mut self) -> Result<()> {
        let failed =
            |error: Errno| Error::io(format!("make {}", self.path.display()), error.into());
        if let Some(before) = &self.before {
            let owner = rustix::fs::Uid::from_raw(before.st_uid);
            let group = rustix::fs::Gid::from_raw(before.st_gid);
            // Only root can give away what may be another's.
            let _ = rustix::fs::fchown(&self.directory, Some(owner), Some(group));
            let mode = Mode::from_raw_mode(before.st_mode & 0o7777);
            rustix::fs::fchmod(&self.directory, mode).map_err(failed)?;
        }
        rustix::fs::fsync(&self.directory).map_err(failed)?;
        match rustix::fs::renameat(&self.above, &self.temporary, &self.above, &self.name) {
            Ok(()) => self.finished = true,
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {
                return Err(exists(&self.path, "was made by somebody else meanwhile"));
            }
            Err(error) => return Err(failed(error)),
        }
        let above = rustix::fs::openat(&self.above, ".", DIRECTORY, Mode::empty());
        above.and_then(rustix::fs::fsync).map_err(failed)
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if !self.finished {
            // The next call for this name finds what stays.
            let _ = remove_tree(self.above.as_fd(), &self.temporary);
        }
    }
}

fn is_ours(stat: &Stat) -> bool {
    stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw()
}

/// Opens the directory that `path` is to lie in, with its name there. Nobody else may lead the way
/// elsewhere; where others can write, as in `/tmp`, they must not be able to rename what is ours.
fn above(path: &Path) -> Result<(OwnedFd, OsString)> {
    const HINT: &str = "name a directory below one that only you can write to";
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(exists(path, "is no name for a new directory"));
    };
    let above = open_directory(parent, false)
        .map_err(|error| error.hint(HINT))?
        .map_err(|error| Error::io(format!("open {}", parent.display()), error.into()))?;
    let stat = rustix::fs::fstat(&above)
        .map_err(|error| Error::io(format!("look at {}", parent.display()), error.into()))?;
    let own = rustix::process::getegid().as_raw();
    let group = stat.st_mode & 0o020 != 0 && (stat.st_gid != own || own == 0);
    let shared = group || stat.st_mode & 0o002 != 0;
    let sticky = stat.st_mode & 0o1000 != 0;
    if is_ours(&stat) && (!shared || sticky) {
        return Ok((above, name.to_owned()));
    }
    Err(Error::new(
        ErrorKind::Preflight,
        "path.untrusted",
        format!(
            "others can rename what is in {}, and lead {} elsewhere",
            parent.display(),
            path.display()
        ),
    )
    .hint(HINT))
}

fn exists(path: &Path, what: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        "get.exists",
        format!("{} {what}", path.display()),
    )
    .hint("name a directory that is not there yet, or is empty: nothing is ever mixed with what is there")
}

/// Makes the directory under its temporary name, and locks it; what a killed process left is removed.
fn make(above: &OwnedFd, temporary: &OsStr, path: &Path) -> Result<OwnedFd> {
    let failed = |error: Errno| Error::io(format!("make {}", path.display()), error.into());
    let under_way = || {
        Error::new(
            ErrorKind::Locked,
            "get.under_way",
            format!("another process brings files to {}", path.display()),
        )
        .hint("wait for it, or name another directory")
    };
    let open = || rustix::fs::openat(above, temporary, DIRECTORY, Mode::empty());
    match open() {
        Ok(left) => {
            let stat = rustix::fs::fstat(&left).map_err(failed)?;
            if stat.st_uid != rustix::process::geteuid().as_raw() {
                return Err(exists(
                    path,
                    "cannot be made: what is to become it is somebody else's",
                ));
            }
            rustix::fs::flock(&left, FlockOperation::NonBlockingLockExclusive)
                .map_err(|_| under_way())?;
            remove_tree(above.as_fd(), temporary).map_err(failed)?;
        }
        Err(Errno::NOENT) => {}
        Err(error) => return Err(failed(error)),
    }
    match rustix::fs::mkdirat(above, temporary, Mode::RWXU) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Err(under_way()),
        Err(error) => return Err(failed(error)),
    }
    let made = open().map_err(failed)?;
    rustix::fs::flock(&made, FlockOperation::NonBlockingLockExclusive).map_err(|_| under_way())?;
    // Another may have taken it for left behind before it was locked.
    let (ours, there) = (
        rustix::fs::fstat(&made).map_err(failed)?,
        rustix::fs::statat(above, temporary, AtFlags::SYMLINK_NOFOLLOW),
    );
    match there {
        Ok(there) if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) => Ok(made),
        _ => Err(under_way()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn it_has_its_name_once_it_is_whole() {
        let root = restore_testing::trees::temporary();
        let path = root.path().join("new");
        let fill = |directory: &NewDirectory| {
            directory.folder(Path::new("a/b")).unwrap();
        };
        let given_up = NewDirectory::begin(&path).unwrap();
        fill(&given_up);
        assert!(!path.exists());
        let error = NewDirectory::begin(&path).err().unwrap();
        assert_eq!(error.code(), "get.under_way");
        drop(given_up);
        assert!(names(root.path()).is_empty());

        let killed = NewDirectory::begin(&path).unwrap();
        fill(&killed);
        let left = root.path().join(&killed.temporary);
        std::fs::write(left.join("a/half"), "x").unwrap();
        rustix::fs::flock(&killed.directory, FlockOperation::Unlock).unwrap();
        std::mem::forget(killed);
        let directory = NewDirectory::begin(&path).unwrap();
        assert!(names(&left).is_empty());
        fill(&directory);
        directory.finish().unwrap();
        assert_eq!(names(root.path()), ["new"]);
        assert_eq!(names(&path), ["a"]);
    }

    #[test]
    fn what_is_there_stays_and_an_empty_one_keeps_its_rights() {
        use std::os::unix::fs::PermissionsExt;
        let root = restore_testing::trees::temporary();
        let path = root.path().join("there");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o750)).unwrap();
        NewDirectory::begin(&path).unwrap().finish().unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o750);

        let raced = NewDirectory::begin(&path).unwrap();
        std::fs::write(path.join("x"), "").unwrap();
        assert_eq!(raced.finish().unwrap_err().code(), "get.exists");
        assert_eq!(names(root.path()), ["there"]);
        let code = |path: &Path| NewDirectory::begin(path).err().unwrap().code().to_owned();
        assert_eq!(code(&path), "get.exists");
        assert_eq!(code(&path.join("x")), "get.exists");
        std::os::unix::fs::symlink("there", root.path().join("link")).unwrap();
        assert_eq!(code(&root.path().join("link")), "get.exists");
        assert_eq!(code(&root.path().join("link/new")), "path.link");

        // As in /tmp: nobody else can take the place of what is ours.
        let shared = root.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(code(&shared.join("new")), "path.untrusted");
        std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o1777)).unwrap();
        NewDirectory::begin(&shared.join("new"))
            .unwrap()
            .finish()
            .unwrap();
        std::fs::remove_dir_all(&shared).unwrap();
        assert_eq!(names(&path), ["x"]);
    }
}
