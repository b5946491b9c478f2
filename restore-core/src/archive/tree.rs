//! The tree that is written: every name is opened below one directory handle, and no symbolic
//! link is ever followed on the way, whoever puts one there meanwhile.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::floor::{Limits, limits};
use super::links::{leaf, parent};
use crate::model::{Error, ErrorKind, Result};

/// Which directory handles one thread keeps open.
const KEPT: usize = 16;

const DIRECTORY: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The target directory and what holds for everything below it.
pub(super) struct Tree {
    root: File,
    path: PathBuf,
    label: String,
    /// We may give files away.
    pub(super) is_root: bool,
    /// What a file's owner is without being told; `None` where the tree itself decides.
    pub(super) made_as: Option<(u32, u32)>,
    /// Permission bits that a new file does not get when asked for; all, where the tree decides.
    pub(super) masked: u32,
    /// See [`Unpacked::acls_lost`](super::Unpacked::acls_lost).
    pub(super) acls_lost: AtomicU64,
    /// Of [`Unpacked::attributes_lost`](super::Unpacked::attributes_lost) those that the file system
    /// does not take.
    pub(super) attributes_lost: AtomicU64,
    /// What must stay free on its file system.
    pub(super) limits: Limits,
}

impl Tree {
    /// Opens the existing directory `path`, in which `label` is unpacked.
    pub(super) fn open(path: &Path, label: &str) -> Result<Self> {
        let opening =
            |error: io::Error| Error::io(format!("open the directory {}", path.display()), error);
        let root = rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| opening(error.into()))?;
        Self::of(root, path, label)
    }

    /// As `open`, of a directory that is open already; messages call it `path`.
    pub(super) fn of(root: OwnedFd, path: &Path, label: &str) -> Result<Self> {
        let opening =
            |error: io::Error| Error::io(format!("open the directory {}", path.display()), error);
        let stat = rustix::fs::fstat(&root).map_err(|error| opening(error.into()))?;
        let user = rustix::process::geteuid();
        let limits = limits(&root);
        // With set-gid new files belong to the directory's group; with a default ACL their
        // permissions come from there.
        let gid_decided = stat.st_mode & 0o2000 != 0;
        let mode_decided =
            rustix::fs::fgetxattr(&root, "system.posix_acl_default", &mut [0_u8; 0][..]).is_ok();
        Ok(Self {
            root: root.into(),
            path: path.to_path_buf(),
            label: label.to_owned(),
            is_root: user.is_root(),
            made_as: (!gid_decided).then(|| (user.as_raw(), rustix::process::getegid().as_raw())),
            masked: if mode_decided { 0o7777 } else { umask() },
            acls_lost: AtomicU64::new(0),
            attributes_lost: AtomicU64::new(0),
            limits,
        })
    }

    /// What is unpacked in it, for messages.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The target directory itself.
    pub(super) fn root(&self) -> &File {
        &self.root
    }

    /// An error while doing `what` to `name`.
    pub(super) fn error(&self, what: &str, name: &[u8], error: io::Error) -> Error {
        let shown = self.path.join(OsStr::from_bytes(name));
        let what = format!("{what} {} (from {})", shown.display(), self.label);
        if error.kind() == io::ErrorKind::QuotaExceeded {
            return Error::new(
                ErrorKind::Failed,
                "io.disk_full",
                format!("cannot {what}: {error}"),
            )
            .hint("raise the quota or free some space, and try again")
            .source(error);
        }
        Error::io(what, error)
    }
}

/// The process's umask; it can only be read without changing it where `/proc` is.
fn umask() -> u32 {
    std::fs::read_to_string("/proc/thread-self/status")
        .ok()
        .and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("Umask:"))?;
            u32::from_str_radix(line.trim(), 8).ok()
        })
        // Unknown: every mode is set explicitly.
        .unwrap_or(0o7777)
}

/// One thread's way into the tree, with the handles of the directories that it was in last.
pub(super) struct DirCache<'a> {
    pub(super) tree: &'a Tree,
    kept: Vec<(Vec<u8>, Rc<OwnedFd>)>,
    /// Directories made since they were last counted.
    made: usize,
    /// Whether the kernel (and what stands before it) has openat2.
    beneath: Cell<bool>,
}

impl<'a> DirCache<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        Self {
            tree,
            kept: Vec::with_capacity(KEPT),
            made: 0,
            beneath: Cell::new(true),
        }
    }

    /// The directory `path`, made with its parents where it is missing, for the owner's eyes
    /// alone until its own mode is set.
    pub(super) fn directory(&mut self, path: &[u8]) -> io::Result<Rc<OwnedFd>> {
        if let Some(at) = self.kept.iter().position(|(kept, _)| kept == path) {
            if at > 0 {
                self.kept.swap(at, at - 1);
            }
            let at = at.saturating_sub(1);
            if let Some((_, handle)) = self.kept.get(at) {
                return Ok(Rc::clone(handle));
            }
        }
        let handle = Rc::new(match self.open_directory(path) {
            Err(Errno::NOENT) => {
                let above = self.directory_above(path)?;
                match rustix::fs::mkdirat(&*above, leaf_of(path), Mode::RWXU) {
                    Ok(()) => self.made += 1,
                    // The other writer was there first.
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                rustix::fs::openat(&*above, leaf_of(path), DIRECTORY, Mode::empty())?
            }
            opened => opened?,
        });
        if self.kept.len() >= KEPT {
            self.kept.pop();
        }
        self.kept.push((path.to_vec(), Rc::clone(&handle)));
        Ok(handle)
    }

    /// How many directories it made since it was asked last.
    pub(super) fn made(&mut self) -> usize {
        std::mem::take(&mut self.made)
    }

    /// The directory that `path` lies in, and its name there.
    pub(super) fn place<'p>(&mut self, path: &'p [u8]) -> io::Result<(Rc<OwnedFd>, &'p OsStr)> {
        Ok((self.directory(parent(path))?, leaf_of(path)))
    }

    fn directory_above(&mut self, path: &[u8]) -> io::Result<Rc<OwnedFd>> {
        self.directory(parent(path))
    }

    fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let root = self.tree.root();
        if path.is_empty() {
            return rustix::fs::openat(root, ".", DIRECTORY, Mode::empty());
        }
        if self.beneath.get() {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            loop {
                match rustix::fs::openat2(
                    root,
                    OsStr::from_bytes(path),
                    DIRECTORY,
                    Mode::empty(),
                    resolve,
                ) {
                    // Somewhere in the system something was renamed meanwhile.
                    Err(Errno::AGAIN) => {}
                    // Old kernels, and the seccomp filters of old container engines.
                    Err(Errno::NOSYS | Errno::PERM) => {
                        self.beneath.set(false);
                        break;
                    }
                    other => return other,
                }
            }
        }
        let mut at: Option<OwnedFd> = None;
        for part in path.split(|byte| *byte == b'/') {
            let from = at.as_ref().map_or(root.as_fd(), AsFd::as_fd);
            at = Some(rustix::fs::openat(
                from,
                OsStr::from_bytes(part),
                DIRECTORY,
                Mode::empty(),
            )?);
        }
        at.ok_or(Errno::NOENT)
    }

    /// Runs `make`, which creates a new name in a directory; whatever has the name is removed
    /// first (never written into: it may be another name of something else).
    pub(super) fn create<T>(
        &mut self,
        path: &[u8],
        make: impl Fn(&OwnedFd, &OsStr) -> Result<T, Errno>,
    ) -> io::Result<(T, Rc<OwnedFd>)> {
        let (directory, name) = self.place(path)?;
        let made = match make(&directory, name) {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&*directory, name, AtFlags::empty())?;
                make(&directory, name)
            }
            made => made,
        };
        Ok((made?, directory))
    }
}

fn leaf_of(path: &[u8]) -> &OsStr {
    OsStr::from_bytes(leaf(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_not_followed_with_or_without_openat2() {
        for beneath in [true, false] {
            let (outside, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            std::fs::create_dir(outside.path().join("b")).unwrap();
            std::os::unix::fs::symlink(outside.path(), inside.path().join("a")).unwrap();
            let tree = Tree::open(inside.path(), "x").unwrap();
            let mut hand = DirCache::new(&tree);
            hand.beneath.set(beneath);
            for path in ["a", "a/b", "a/new", "a/new/er"] {
                assert!(hand.directory(path.as_bytes()).is_err(), "{path}");
            }
            assert!(!outside.path().join("new").exists());
            for number in 0..3 * KEPT {
                let path = format!("d/{}/{number}", number % 5);
                hand.directory(path.as_bytes()).unwrap();
                hand.directory(b"d/0").unwrap();
                assert!(inside.path().join(path).is_dir());
            }
        }
    }
}
