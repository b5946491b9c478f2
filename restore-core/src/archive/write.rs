//! The last threads: two writers, each with its own files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::abort::{Aborted, PipelineAbort};
use super::acl::{ACCESS, group_rights, is_acl};
use super::chunk::Chunk;
use super::floor::Floor;
use super::member::{CAPABILITIES, Member};
use super::tree::{DirCache, Tree};
use crate::model::Result;

/// What a member has besides content.
#[derive(Clone, Debug, Default)]
pub(super) struct MemberMeta {
    mode: u32,
    owner: Option<(u32, u32)>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl MemberMeta {
    /// A member's, as `owner` gives it away.
    pub(super) fn of(member: &Member, owner: (u32, u32)) -> Self {
        Self {
            mode: member.mode,
            owner: Some(owner),
            mtime: Some(member.mtime),
            xattrs: member.xattrs.clone(),
        }
    }

    /// These attributes without what lets whoever runs the file act as somebody else.
    pub(super) fn without_powers(mut self) -> Self {
        self.mode &= !0o6000;
        self.xattrs.retain(|(key, _)| key != CAPABILITIES);
        self
    }

    /// That of a directory that an archive implies without describing it.
    pub(super) fn implied(chown: Option<(u32, u32)>) -> Self {
        Self {
            mode: 0o755,
            owner: chown,
            mtime: None,
            xattrs: Vec::new(),
        }
    }
}

/// One thing to do; ranges are in the batch's buffer.
pub(super) enum Job {
    /// A whole file.
    File(Vec<u8>, MemberMeta, Range<usize>),
    /// A file that comes in parts; true: blocks of zeros become holes.
    Open(Vec<u8>, MemberMeta, bool),
    /// A part of the open file, at an offset.
    Part(u64, Range<usize>),
    /// The end of the open file, and its size.
    Close(u64),
    Symlink(Vec<u8>, Vec<u8>, MemberMeta),
    /// A new name for an existing file.
    HardLink(Vec<u8>, Vec<u8>),
    Fifo(Vec<u8>, MemberMeta),
    /// Everything before this is done once it is answered.
    Barrier(SyncSender<()>),
}

/// Jobs in their order, and the content that they write.
pub(super) struct Batch {
    pub(super) content: Option<Chunk>,
    pub(super) jobs: Vec<Job>,
}

/// How many batches may wait for a writer.
const DEPTH: usize = 4;

/// The channel to one writer.
pub(super) fn channel() -> (SyncSender<Batch>, Receiver<Batch>) {
    sync_channel(DEPTH)
}

/// Works off batches until there are no more.
pub(super) fn write(
    tree: &Tree,
    receive: &Receiver<Batch>,
    halt: &PipelineAbort,
    done: impl Fn(),
) -> Result<(), Aborted> {
    let mut writer = Writer {
        hand: DirCache::new(tree),
        open: None,
    };
    let mut floor = Floor::new(tree);
    while let Ok(batch) = receive.recv() {
        halt.check()?;
        let content = batch.content.as_deref().unwrap_or_default();
        floor
            .look(content.len(), batch.jobs.len())
            .map_err(|error| halt.fail(error))?;
        for job in &batch.jobs {
            writer.job(job, content).map_err(|error| halt.fail(error))?;
            // One name can imply thousands of directories.
            let made = writer.hand.made();
            if made > 0 {
                floor.look(0, made).map_err(|error| halt.fail(error))?;
            }
        }
        done();
    }
    Ok(())
}

struct Open {
    file: File,
    path: Vec<u8>,
    meta: MemberMeta,
    holes: bool,
}

struct Writer<'a> {
    hand: DirCache<'a>,
    open: Option<Open>,
}

impl Writer<'_> {
    fn job(&mut self, job: &Job, content: &[u8]) -> Result<()> {
        let tree = self.hand.tree;
        match job {
            Job::File(path, meta, range) => self
                .create(path, meta)
                .and_then(|file| {
                    let content = content.get(range.clone()).unwrap_or_default();
                    if !content.is_empty() {
                        file.write_all_at(content, 0)?;
                    }
                    finish(tree, &file, meta, Made::File)
                })
                .map_err(|error| tree.error("write", path, error)),
            Job::Open(path, meta, holes) => {
                let file = self
                    .create(path, meta)
                    .map_err(|error| tree.error("write", path, error))?;
                self.open = Some(Open {
                    file,
                    path: path.clone(),
                    meta: meta.clone(),
                    holes: *holes,
                });
                Ok(())
            }
            Job::Part(at, range) => {
                let Some(open) = &self.open else {
                    return Ok(());
                };
                let content = content.get(range.clone()).unwrap_or_default();
                if open.holes {
                    write_around_holes(&open.file, content, *at)
                } else {
                    open.file.write_all_at(content, *at)
                }
                .map_err(|error| tree.error("write", &open.path, error))
            }
            Job::Close(size) => {
                let Some(open) = self.open.take() else {
                    return Ok(());
                };
                let length = if open.holes {
                    open.file.set_len(*size)
                } else {
                    Ok(())
                };
                length
                    .and_then(|()| finish(tree, &open.file, &open.meta, Made::File))
                    .map_err(|error| tree.error("write", &open.path, error))
            }
            Job::Symlink(path, target, meta) => self
                .symlink(path, target, meta)
                .map_err(|error| tree.error("make the link", path, error)),
            Job::HardLink(path, original) => self
                .hard_link(path, original)
                .map_err(|error| tree.error("make the hard link", path, error)),
            Job::Fifo(path, meta) => self
                .fifo(path, meta)
                .map_err(|error| tree.error("make the named pipe", path, error)),
            Job::Barrier(answer) => {
                // Whoever asked may have given up meanwhile.
                let _ = answer.send(());
                Ok(())
            }
        }
    }

    fn create(&mut self, path: &[u8], meta: &MemberMeta) -> io::Result<File> {
        let mode = Mode::from_raw_mode(meta.mode & 0o777);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (file, _) = self.hand.create(path, |directory, name| {
            rustix::fs::openat(directory, name, flags, mode)
        })?;
        Ok(file.into())
    }

    fn symlink(&mut self, path: &[u8], target: &[u8], meta: &MemberMeta) -> io::Result<()> {
        let ((), directory) = self.hand.create(path, |directory, name| {
            rustix::fs::symlinkat(target, directory, name)
        })?;
        let (_, name) = self.hand.place(path)?;
        let tree = self.hand.tree;
        if let Some((uid, gid)) = meta.owner
            && tree.made_as != Some((uid, gid))
        {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let link = rustix::fs::openat(&*directory, name, flags, Mode::empty())?;
            made(&link, FileType::Symlink)?;
            let (uid, gid) = ids(tree, uid, gid);
            let given = rustix::fs::chownat(&link, "", uid, gid, AtFlags::EMPTY_PATH);
            if tree.is_root {
                given?;
            }
        }
        if let Some(mtime) = meta.mtime {
            rustix::fs::utimensat(&*directory, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    fn hard_link(&mut self, path: &[u8], original: &[u8]) -> io::Result<()> {
        let (from, name) = self.hand.place(original)?;
        self.hand.create(path, |directory, new| {
            rustix::fs::linkat(&*from, name, directory, new, AtFlags::empty())
        })?;
        Ok(())
    }

    fn fifo(&mut self, path: &[u8], meta: &MemberMeta) -> io::Result<()> {
        let private = Mode::RUSR | Mode::WUSR;
        let ((), directory) = self.hand.create(path, |directory, name| {
            rustix::fs::mknodat(directory, name, FileType::Fifo, private, 0)
        })?;
        let (_, name) = self.hand.place(path)?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo = rustix::fs::openat(&*directory, name, flags, Mode::empty())?;
        made(&fifo, FileType::Fifo)?;
        finish(self.hand.tree, &fifo, meta, Made::Fifo)
    }
}

/// Whether what is open is what was just made, and not another file that somebody gave its name.
fn made(file: impl AsFd, kind: FileType) -> io::Result<()> {
    let stat = rustix::fs::fstat(file)?;
    match FileType::from_raw_mode(stat.st_mode) == kind && stat.st_nlink == 1 {
        true => Ok(()),
        false => Err(io::Error::other(
            "somebody else put something in its place just now",
        )),
    }
}

/// The directories that an archive makes, and what each is to have.
pub(super) type Directories = BTreeMap<Vec<u8>, MemberMeta>;

/// Gives every directory what it is to have, the deepest first: a directory without write
/// permission, or one whose time counts, must not be touched any more.
pub(super) fn finish_directories(
    tree: &Tree,
    directories: &Directories,
    halt: &PipelineAbort,
) -> Result<(), Aborted> {
    let mut hand = DirCache::new(tree);
    let mut floor = Floor::new(tree);
    for path in directories.keys() {
        halt.check()?;
        hand.directory(path)
            .map_err(|error| halt.fail(tree.error("make the directory", path, error)))?;
        floor
            .look(0, hand.made())
            .map_err(|error| halt.fail(error))?;
    }
    for (path, meta) in directories.iter().rev() {
        halt.check()?;
        let finished = hand.directory(path).and_then(|directory| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::openat(&*directory, ".", flags, Mode::empty())?;
            finish(tree, &directory, meta, Made::Directory)
        });
        finished.map_err(|error| halt.fail(tree.error("finish the directory", path, error)))?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    File,
    Directory,
    Fifo,
}

/// Owner, mode, attributes, time: in this order, because each may undo one before it.
fn finish(tree: &Tree, file: impl AsFd, meta: &MemberMeta, made: Made) -> io::Result<()> {
    let file = file.as_fd();
    let mut mode = meta.mode;
    if let Some((uid, gid)) = meta.owner
        && tree.made_as != Some((uid, gid))
    {
        let (uid, gid) = ids(tree, uid, gid);
        let given = rustix::fs::fchown(file, uid, gid);
        if tree.is_root {
            given?;
        } else if made == Made::File {
            // Powers of the recorded owner are not those of another.
            mode &= 0o777;
        }
    }
    // New directories and pipes were made for our eyes alone.
    if made != Made::File
        || mode & (tree.masked | 0o7000) != 0
        || mode & 0o7000 != meta.mode & 0o7000
    {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
    }
    if made != Made::Fifo {
        for (name, value) in &meta.xattrs {
            if is_acl(name) {
                list(tree, file, mode, (name.as_str(), value.as_slice()))?;
                continue;
            }
            match rustix::fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty()) {
                Ok(()) => continue,
                Err(Errno::NOTSUP) => {}
                Err(Errno::PERM | Errno::ACCESS) if !tree.is_root => {}
                Err(error) => return Err(error.into()),
            }
            tree.attributes_lost.fetch_add(1, Ordering::Relaxed);
        }
    }
    if let Some(mtime) = meta.mtime {
        rustix::fs::futimens(file, &times(mtime))?;
    }
    Ok(())
}

/// Sets an access control list. Where it cannot be, the group gets what it really had: the bits of
/// the mode are what anybody in the list may have at most.
fn list(
    tree: &Tree,
    file: BorrowedFd<'_>,
    mode: u32,
    (name, value): (&str, &[u8]),
) -> io::Result<()> {
    let set = match value {
        [] => Err(Errno::INVAL),
        value => rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()),
    };
    match set {
        Ok(()) => return Ok(()),
        Err(Errno::NOTSUP | Errno::INVAL | Errno::PERM | Errno::ACCESS) => {}
        Err(error) => return Err(error.into()),
    }
    tree.acls_lost.fetch_add(1, Ordering::Relaxed);
    if name == ACCESS {
        let group = (mode >> 3) & 7 & group_rights(value).unwrap_or(0);
        rustix::fs::fchmod(file, Mode::from_raw_mode((mode & !0o070) | (group << 3)))?;
    }
    Ok(())
}

/// Whoever is not root can at most give a file to one of their groups.
fn ids(tree: &Tree, uid: u32, gid: u32) -> (Option<Uid>, Option<Gid>) {
    let user = tree.is_root.then(|| Uid::from_raw(uid));
    (user, Some(Gid::from_raw(gid)))
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Writes what is not zero, in blocks of the usual size.
fn write_around_holes(file: &File, content: &[u8], mut at: u64) -> io::Result<()> {
    const BLOCK: usize = 4096;
    let mut rest = content;
    while !rest.is_empty() {
        let blocks = |rest: &[u8], zero: bool| {
            rest.chunks(BLOCK)
                .take_while(|block| block.iter().all(|byte| *byte == 0) == zero)
                .map(<[u8]>::len)
                .sum::<usize>()
        };
        let hole = blocks(rest, true);
        let (_, after) = rest.split_at_checked(hole).unwrap_or((rest, &[]));
        let (data, next) = after
            .split_at_checked(blocks(after, false))
            .unwrap_or((after, &[]));
        at = at.saturating_add(u64::try_from(hole).unwrap_or(u64::MAX));
        file.write_all_at(data, at)?;
        at = at.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        rest = next;
    }
    Ok(())
}
