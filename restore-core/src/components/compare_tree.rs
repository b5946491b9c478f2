//! How the tree in an archive differs from the live one: by type, size, time, mode and link target.
//! Contents are not read: a file of the same size and time counts for the same.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, OFlags, Stat};
use rustix::io::Errno;

use crate::archive::path_set::PathSet;
use crate::archive::{Listed, MemberType, TreePaths, UnpackPolicy, list};
use crate::contract::RunContext;
use crate::model::{Difference, Error, ErrorKind, Result, RunId};
use crate::sys::blocking::blocking;
use crate::sys::{open_beneath, open_beneath_across, open_directory};

/// How many members may wait to be compared.
const DEPTH: usize = 256;

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// A live tree, and what of it a restore would replace.
pub(super) struct LiveTree {
    pub(super) path: PathBuf,
    /// Wherever its path leads.
    pub(super) follow: bool,
    /// What is neither restored nor removed.
    pub(super) kept: Vec<String>,
    /// Only these paths of it; empty: all.
    pub(super) only: Vec<String>,
}

/// Compares the archive `found` of the context's backup with a live tree: files and the like, then
/// directories. What is refused when the archive is unpacked is compared like everything else.
pub(super) async fn compare(
    cx: &RunContext,
    found: &str,
    policy: UnpackPolicy,
    live: LiveTree,
    most: usize,
) -> Result<Vec<Difference>> {
    let policy = UnpackPolicy {
        only: live.only.clone(),
        ..policy
    };
    let source = cx.source(found)?;
    let (send, mut members) = tokio::sync::mpsc::channel(DEPTH);
    let reading = list(source.clone(), cx.progress("compare", source.size()), send);
    let label = found.to_owned();
    let comparing = blocking(move || {
        let mut comparison = Comparison::begin(&live, most)?;
        let tree = TreePaths::new(&label, &policy)?;
        while let Some(member) = members.blocking_recv() {
            if let Some(path) = tree.of(&member.name) {
                let original = match &member.kind {
                    MemberType::HardLink(original) => tree.of(original),
                    _ => None,
                };
                comparison.member(&path, &member, original.as_deref())?;
            }
        }
        Ok((comparison, live))
    });
    let (read, compared) = tokio::join!(reading, comparing);
    // That nobody listens any more is not what went wrong first.
    let (mut comparison, live) = compared?;
    read?;
    let cancel = cx.cancelled().clone();
    blocking(move || {
        let tops: Vec<PathBuf> = match live.only.is_empty() {
            true => vec![PathBuf::new()],
            false => live.only.iter().map(PathBuf::from).collect(),
        };
        for top in tops {
            comparison.walk(&top, &|| cancel.is_cancelled())?;
        }
        Ok(vec![comparison.files, comparison.directories])
    })
    .await
}

/// That a tree is on another machine.
pub(super) fn not_here(what: &str) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "diff.not_here",
        format!("{what} is not on this host: its files are not compared"),
    )
    .hint("`restore show ID --files` lists what the backup has of it")
}

struct Comparison {
    /// The live tree; `None`: there is none.
    root: Option<OwnedFd>,
    shown: PathBuf,
    kept: PathSet,
    most: usize,
    files: Difference,
    directories: Difference,
    /// The paths of the archive, as keyed hashes.
    seen: HashSet<u64>,
    /// Those of them that are live, and another file there.
    changed: HashSet<u64>,
    key: RandomState,
}

impl Comparison {
    fn begin(live: &LiveTree, most: usize) -> Result<Self> {
        let root = match open_directory(&live.path, live.follow)? {
            Ok(root) => Some(root),
            Err(Errno::NOENT) => None,
            Err(error) => {
                let what = format!("look at {}", live.path.display());
                return Err(Error::io(what, error.into()));
            }
        };
        let counted = |of: &str| {
            let mut difference = Difference::new(of);
            (difference.backup, difference.live) = (Some(0), Some(0));
            difference
        };
        Ok(Self {
            root,
            shown: live.path.clone(),
            kept: PathSet::new(&live.kept)?,
            most,
            files: counted("files"),
            directories: counted("directories"),
            seen: HashSet::new(),
            changed: HashSet::new(),
            key: RandomState::new(),
        })
    }

    fn is_kept(&self, path: &Path) -> bool {
        let first = path.components().next();
        let run = first.is_some_and(|it| RunId::of_folder(it.as_os_str().as_bytes()).is_some());
        run || path.ancestors().any(|above| self.kept.holds(above))
    }

    fn failed(&self, path: &Path, error: Errno) -> Error {
        let shown = self.shown.join(path);
        Error::io(format!("look at {}", shown.display()), error.into())
    }

    fn hash(&self, path: &[u8]) -> u64 {
        self.key.hash_one(path)
    }

    /// Compares one member with what has its path. `original`: where the file is that it is another
    /// name of.
    fn member(&mut self, path: &[u8], member: &Listed, original: Option<&[u8]>) -> Result<()> {
        let hash = self.hash(path);
        let path = Path::new(OsStr::from_bytes(path));
        if path.as_os_str().is_empty() || self.is_kept(path) {
            return Ok(());
        }
        if !self.seen.insert(hash) {
            return Ok(());
        }
        let live = self.look(path)?;
        let is_directory = member.kind == MemberType::Directory;
        let same = match &live {
            None => true,
            Some((live, _)) if matches!(member.kind, MemberType::HardLink(_)) => {
                self.is_another_name(live, original)?
            }
            Some((live, target)) => is_same(live, target.as_deref(), member),
        };
        if !same {
            self.changed.insert(hash);
        }
        let difference = match is_directory {
            true => &mut self.directories,
            false => &mut self.files,
        };
        difference.backup = difference.backup.map(|count| count + 1);
        let changes = match (live, same) {
            (None, _) => &mut difference.added,
            (Some(_), false) => &mut difference.changed,
            (Some(_), true) => return Ok(()),
        };
        changes.add(path.to_string_lossy(), self.most);
        Ok(())
    }

    /// Whether a live file is another name of the one at `original`, which is what the archive has.
    fn is_another_name(&self, live: &Stat, original: Option<&[u8]>) -> Result<bool> {
        let Some(original) = original else {
            return Ok(false);
        };
        let there = self.look(Path::new(OsStr::from_bytes(original)))?;
        let one = |there: &Stat| (there.st_dev, there.st_ino) == (live.st_dev, live.st_ino);
        Ok(there.is_some_and(|(there, _)| one(&there))
            && !self.changed.contains(&self.hash(original)))
    }

    /// What is live at a path, and where it leads if it is a link.
    fn look(&self, path: &Path) -> Result<Option<(Stat, Option<Vec<u8>>)>> {
        let Some(root) = &self.root else {
            return Ok(None);
        };
        let opened = match open_beneath_across(root.as_fd(), path, LOOK) {
            Ok(opened) => opened,
            // Something on the way is none of the archive's directories.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(self.failed(path, error)),
        };
        let stat = rustix::fs::fstat(&opened).map_err(|error| self.failed(path, error))?;
        let target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&opened, "", Vec::new());
                Some(
                    target
                        .map_err(|error| self.failed(path, error))?
                        .into_bytes(),
                )
            }
            _ => None,
        };
        Ok(Some((stat, target)))
    }

    /// Counts what is live at and below a path, and finds what the archive does not have.
    fn walk(&mut self, top: &Path, stopped: &dyn Fn() -> bool) -> Result<()> {
        let Some(root) = self.root.take() else {
            return Ok(());
        };
        if !top.as_os_str().is_empty() {
            let found = open_beneath(root.as_fd(), top, LOOK).and_then(rustix::fs::fstat);
            match found.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                Ok(kind) => {
                    self.live(top, kind == FileType::Directory);
                    if kind != FileType::Directory {
                        self.root = Some(root);
                        return Ok(());
                    }
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    self.root = Some(root);
                    return Ok(());
                }
                Err(error) => return Err(self.failed(top, error)),
            }
        }
        let mut pending = vec![top.to_path_buf()];
        while let Some(at) = pending.pop() {
            if stopped() {
                return Err(Error::interrupted());
            }
            let failed = |error| self.failed(&at, error);
            let directory = match open_beneath(root.as_fd(), &at, DIRECTORY) {
                Ok(directory) => directory,
                // Gone meanwhile, or another file system, of which nothing is replaced.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
                Err(error) => return Err(failed(error)),
            };
            let mut entries = Vec::new();
            for entry in Dir::read_from(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let mut kind = entry.file_type();
                if kind == FileType::Unknown {
                    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                    kind = match rustix::fs::statat(&directory, entry.file_name(), flags) {
                        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                        Err(Errno::NOENT) => continue,
                        Err(error) => return Err(failed(error)),
                    };
                }
                let path = at.join(OsStr::from_bytes(name));
                entries.push((path, kind == FileType::Directory));
            }
            entries.sort();
            let first = pending.len();
            for (path, is_directory) in entries {
                if self.is_kept(&path) {
                    continue;
                }
                self.live(&path, is_directory);
                if is_directory {
                    pending.push(path);
                }
            }
            // The first of them is the next.
            pending.get_mut(first..).unwrap_or_default().reverse();
        }
        self.root = Some(root);
        Ok(())
    }

    /// Counts something that is live.
    fn live(&mut self, path: &Path, is_directory: bool) {
        let known = self.seen.contains(&self.hash(path.as_os_str().as_bytes()));
        let difference = match is_directory {
            true => &mut self.directories,
            false => &mut self.files,
        };
        difference.live = difference.live.map(|count| count + 1);
        if !known {
            difference.removed.add(path.to_string_lossy(), self.most);
        }
    }
}

/// Whether what is live is what the archive has, as far as it can be told without reading it.
fn is_same(live: &Stat, target: Option<&[u8]>, member: &Listed) -> bool {
    let kind = FileType::from_raw_mode(live.st_mode);
    let mode = live.st_mode & 0o7777 == member.mode;
    match &member.kind {
        MemberType::File => {
            kind == FileType::RegularFile
                && mode
                && u64::try_from(live.st_size).ok() == Some(member.size)
                // Archives mostly keep whole seconds.
                && live.st_mtime == member.modified.0
        }
        MemberType::Directory => kind == FileType::Directory && mode,
        MemberType::Symlink(to) => kind == FileType::Symlink && target == Some(&to[..]),
        MemberType::Fifo => kind == FileType::Fifo && mode,
        MemberType::HardLink(_) | MemberType::Device | MemberType::Other => false,
    }
}
