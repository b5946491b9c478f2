//! A directory, and work below it that never follows a symbolic link.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

mod change;

/// An open directory. All paths given to it are relative to it, without `..`; a symbolic link
/// on the way to an entry is an error, and as the entry itself it is just an entry.
pub(crate) struct Place {
    fd: OwnedFd,
    path: PathBuf,
    /// The directory that was asked for last: neighbours follow each other.
    last: RefCell<Option<(PathBuf, Rc<OwnedFd>)>>,
    /// Directories whose entries were changed here since the last sync.
    touched: RefCell<BTreeSet<PathBuf>>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) directory: bool,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) regular: bool,
    pub(crate) meta: Meta,
}

/// Owner, mode (with the set-id and sticky bits) and time of change of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: i64,
}

impl Meta {
    /// A directory for its owner, root, alone.
    pub(crate) fn private() -> Self {
        Self {
            mode: 0o700,
            uid: 0,
            gid: 0,
            seconds: 0,
            nanoseconds: 0,
        }
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Place {
    /// Opens the directory at `path`, which may itself be a symbolic link to one.
    pub(crate) fn open(path: &Path) -> rustix::io::Result<Self> {
        let fd = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
        Ok(Self::of(fd, path.to_owned()))
    }

    fn of(fd: OwnedFd, path: PathBuf) -> Self {
        Self {
            fd,
            path,
            last: RefCell::new(None),
            touched: RefCell::new(BTreeSet::new()),
        }
    }

    /// Opens a directory below this one as a place of its own; `None` where there is none.
    pub(crate) fn sub(&self, path: impl AsRef<Path>) -> Result<Option<Self>> {
        let path = path.as_ref();
        match self.walk(path) {
            Ok(fd) => Ok(Some(Self::of(fd, self.path.join(path)))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.failed("open", path, e)),
        }
    }

    /// The same, made where it is missing (private to its owner).
    pub(crate) fn sub_made(&self, name: &str) -> Result<Self> {
        let path = Path::new(name);
        self.make_directories(path)?;
        let fd = self.walk(path).map_err(|e| self.failed("open", path, e))?;
        Ok(Self::of(fd, self.path.join(path)))
    }

    /// Where it is, for people and for servers that are told to use it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where an entry is, for messages.
    pub(crate) fn show(&self, path: &Path) -> String {
        self.path.join(path).display().to_string()
    }

    fn failed(&self, verb: &str, path: &Path, error: Errno) -> Error {
        let hint = match error {
            Errno::XDEV | Errno::BUSY => {
                Some("is something mounted there, or on the way? unmount it, or exclude it")
            }
            Errno::LOOP | Errno::NOTDIR => Some(
                "a symbolic link or a file stands where a directory was expected, and is not followed",
            ),
            _ => None,
        };
        let io = Error::io(format!("{verb} {}", self.show(path)), error.into());
        match hint {
            Some(hint) => io.hint(hint),
            None => io,
        }
    }

    fn walk(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let mut fd = rustix::fs::openat(&self.fd, ".", DIRECTORY, Mode::empty())?;
        for name in path.components() {
            fd = rustix::fs::openat(
                &fd,
                name.as_os_str(),
                DIRECTORY | OFlags::NOFOLLOW,
                Mode::empty(),
            )?;
        }
        Ok(fd)
    }

    fn directory(&self, path: &Path) -> rustix::io::Result<Rc<OwnedFd>> {
        if let Some((known, fd)) = &*self.last.borrow()
            && known == path
        {
            return Ok(fd.clone());
        }
        let fd = Rc::new(self.walk(path)?);
        *self.last.borrow_mut() = Some((path.to_owned(), fd.clone()));
        Ok(fd)
    }

    fn parent<'a>(&self, path: &'a Path) -> rustix::io::Result<(Rc<OwnedFd>, &'a OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((self.directory(parent)?, name))
    }

    fn touch(&self, path: &Path) {
        let parent = path.parent().unwrap_or(Path::new(""));
        let mut touched = self.touched.borrow_mut();
        if !touched.contains(parent) {
            touched.insert(parent.to_owned());
        }
    }

    /// Forgets the open directory if it went away with what was at `path`.
    fn forget(&self, path: &Path) {
        let mut last = self.last.borrow_mut();
        if last
            .as_ref()
            .is_some_and(|(known, _)| known.starts_with(path))
        {
            *last = None;
        }
    }

    /// The entry itself, not what it links to; `None` where there is none, also where a
    /// directory on the way is missing.
    pub(crate) fn entry(&self, path: &Path) -> Result<Option<Entry>> {
        let stat = if path.as_os_str().is_empty() {
            rustix::fs::fstat(&self.fd)
        } else {
            self.parent(path).and_then(|(parent, name)| {
                rustix::fs::statat(&*parent, name, AtFlags::SYMLINK_NOFOLLOW)
            })
        };
        match stat {
            Ok(stat) => Ok(Some(Entry {
                directory: FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
                regular: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
                device: stat.st_dev,
                inode: stat.st_ino,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                meta: Meta {
                    mode: stat.st_mode & 0o7777,
                    uid: stat.st_uid,
                    gid: stat.st_gid,
                    seconds: stat.st_mtime,
                    nanoseconds: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
                },
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.failed("look at", path, e)),
        }
    }

    /// Whether there is an entry of any kind.
    pub(crate) fn has(&self, path: &Path) -> Result<bool> {
        Ok(self.entry(path)?.is_some())
    }

    /// The names in a directory, sorted; none where it does not exist.
    pub(crate) fn names(&self, path: &Path) -> Result<BTreeSet<OsString>> {
        let failed = |e| self.failed("list", path, e);
        let fd = match self.walk(path) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(BTreeSet::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut names = BTreeSet::new();
        for entry in Dir::new(fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.insert(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    /// A file directly in this directory; `None` where there is none.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let failed = |e| self.failed("read", Path::new(name), e);
        let fd = match rustix::fs::openat(
            &self.fd,
            name,
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::fs::File::from(fd), &mut bytes)
            .map_err(|e| Error::io(format!("read {}", self.show(Path::new(name))), e))?;
        Ok(Some(bytes))
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
