//! A directory, and work below it that never follows a symbolic link.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::model::{Error, Result};
use crate::sys::open_beneath;

mod change;

/// An open directory. All paths given to it are relative to it; one that is absolute or holds `..`
/// is an error, as is a symbolic link or another file system on the way to an entry. As the entry
/// itself a link is just an entry.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    /// The directory that was asked for last: neighbours follow each other.
    last: Mutex<Option<(PathBuf, Arc<OwnedFd>)>>,
    /// Directories whose entries were changed here since the last sync.
    touched: Mutex<BTreeSet<PathBuf>>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) directory: bool,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) regular: bool,
    pub(crate) meta: EntryMeta,
}

/// Owner, mode (with the set-id and sticky bits) and time of change of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryMeta {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: i64,
}

/// The access control lists of a directory, as the system has them: of itself, and for what is made
/// in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acl {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access: Option<Vec<u8>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<Vec<u8>>,
}

impl Acl {
    /// What is left of the mode without the list: the group has what it really had.
    pub(crate) fn without(&self, meta: EntryMeta) -> EntryMeta {
        let Some(list) = &self.access else {
            return meta;
        };
        let group = crate::archive::group_rights(list).unwrap_or(0);
        EntryMeta {
            mode: (meta.mode & !0o070) | (meta.mode & (group << 3)),
            ..meta
        }
    }
}

impl EntryMeta {
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

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
/// A list of some thousand users.
/// No record of ours is longer.
const LONGEST: u64 = 256 << 20;

const LARGEST_ACL: usize = 16 * 1024;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Which directory it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inode {
    /// May be another one after a reboot.
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Dir {
    /// An open directory, which messages call `path`.
    pub(crate) fn of(fd: OwnedFd, path: PathBuf) -> Self {
        Self {
            fd,
            path,
            last: Mutex::new(None),
            touched: Mutex::new(BTreeSet::new()),
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

    /// A directory directly in this one; `None` also where something else has the name.
    pub(crate) fn there(&self, name: impl AsRef<Path>) -> Result<Option<Self>> {
        let name = name.as_ref();
        match self.walk(name) {
            Ok(fd) => Ok(Some(Self::of(fd, self.path.join(name)))),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(e) => Err(self.failed("open", name, e)),
        }
    }

    /// The name that a directory has here, unless that is `never`.
    pub(crate) fn name_of(&self, inode: Inode, never: &str) -> Result<Option<OsString>> {
        let failed = |e| self.failed("list", Path::new(""), e);
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if entry.ino() == inode.inode && name != never && name != "." && name != ".." {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }

    /// The directory of this name, made where it is missing (private to its owner).
    pub(crate) fn sub_made(&self, name: &str) -> Result<Self> {
        let path = Path::new(name);
        self.make_directories(path)?;
        let fd = self.walk(path).map_err(|e| self.failed("open", path, e))?;
        Ok(Self::of(fd, self.path.join(path)))
    }

    /// The descriptor alone.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// A second descriptor of the same directory.
    pub(crate) fn again(&self) -> Result<Self> {
        let fd = self
            .walk(Path::new(""))
            .map_err(|e| self.failed("open", Path::new(""), e))?;
        Ok(Self::of(fd, self.path.clone()))
    }

    /// Which directory it is.
    pub(crate) fn inode(&self) -> Result<Inode> {
        let stat =
            rustix::fs::fstat(&self.fd).map_err(|e| self.failed("look at", Path::new(""), e))?;
        Ok(Inode {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
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
        let hint = crate::sys::shown_error(error);
        let io = Error::io(format!("{verb} {}", self.show(path)), error.into());
        match hint {
            Some(hint) => io.hint(hint),
            None => io,
        }
    }

    fn walk(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        open_beneath(self.fd.as_fd(), path, DIRECTORY)
    }

    fn directory(&self, path: &Path) -> rustix::io::Result<Arc<OwnedFd>> {
        if let Some((known, fd)) = &*locked(&self.last)
            && known == path
        {
            return Ok(fd.clone());
        }
        let fd = Arc::new(self.walk(path)?);
        *locked(&self.last) = Some((path.to_owned(), fd.clone()));
        Ok(fd)
    }

    fn parent<'a>(&self, path: &'a Path) -> rustix::io::Result<(Arc<OwnedFd>, &'a OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((self.directory(parent)?, name))
    }

    fn touch(&self, path: &Path) {
        let parent = path.parent().unwrap_or(Path::new(""));
        let mut touched = locked(&self.touched);
        if !touched.contains(parent) {
            touched.insert(parent.to_owned());
        }
    }

    /// Forgets the open directory if it went away with what was at `path`.
    fn forget(&self, path: &Path) {
        let mut last = locked(&self.last);
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
                meta: EntryMeta {
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

    /// The access control lists of a directory.
    pub(crate) fn acl(&self, path: &Path) -> Result<Acl> {
        let fd = self
            .walk(path)
            .map_err(|e| self.failed("look at", path, e))?;
        let read = |name: &str| {
            let mut value = vec![0_u8; LARGEST_ACL];
            match rustix::fs::fgetxattr(&fd, name, &mut value[..]) {
                Ok(length) => {
                    value.truncate(length);
                    Ok(Some(value))
                }
                Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
                Err(e) => Err(self.failed("read the access control list of", path, e)),
            }
        };
        Ok(Acl {
            access: read(ACCESS)?,
            default: read(DEFAULT)?,
        })
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
        for entry in rustix::fs::Dir::new(fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.insert(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    /// A file directly in this directory; `None` where there is none. The second value says
    /// whether nobody but us (and root) can have written it.
    pub(crate) fn read(&self, name: &str) -> Result<Option<(Vec<u8>, bool)>> {
        let failed = |e| self.failed("read", Path::new(name), e);
        // A pipe is opened without waiting for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Some((Vec::new(), false)));
        }
        let ours = is_ours(stat.st_uid) && stat.st_mode & 0o022 == 0 && stat.st_nlink == 1;
        if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > LONGEST {
            return Ok(Some((Vec::new(), false)));
        }
        let mut bytes = Vec::new();
        let file = std::io::Read::take(std::fs::File::from(fd), LONGEST);
        std::io::Read::read_to_end(&mut { file }, &mut bytes)
            .map_err(|e| Error::io(format!("read {}", self.show(Path::new(name))), e))?;
        Ok(Some((bytes, ours)))
    }

    /// Whether it belongs to us (or to root), and nobody else can look into it.
    pub(crate) fn is_private(&self) -> Result<bool> {
        let stat =
            rustix::fs::fstat(&self.fd).map_err(|e| self.failed("look at", Path::new(""), e))?;
        Ok(is_ours(stat.st_uid) && stat.st_mode & 0o077 == 0)
    }

    /// Whether it belongs to us (or to root), and nobody else can write in it.
    pub(crate) fn is_ours(&self) -> Result<bool> {
        let stat =
            rustix::fs::fstat(&self.fd).map_err(|e| self.failed("look at", Path::new(""), e))?;
        Ok(is_ours(stat.st_uid) && stat.st_mode & 0o022 == 0)
    }
}

/// Nothing here panics while it is locked.
fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

impl AsFd for Dir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
