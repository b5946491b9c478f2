//! Through the tree, by directory handles: no symbolic link is followed, whoever puts one there
//! meanwhile. The names of a directory come in their order, so that equal trees give equal archives.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tokio_tar::EntryType;

use super::super::abort::{Aborted, PipelineAbort};
use super::super::member::{ContentLayout, Member, TarKind};
use super::super::member_filter::MemberFilter;
use super::blocks::Blocks;
use super::encode::Entry;
use super::noticed::Noticed;
use super::read::{FileStability, SMALL, State};
use super::{PackPolicy, encode, read};
use crate::archive::path_set::PathSet;
use crate::model::{Error, ErrorKind, Progress, RunId};
use crate::sys::open_beneath_across;

/// What was packed.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) files: u64,
    pub(super) directories: u64,
    pub(super) links: u64,
    pub(super) bytes: u64,
    pub(super) noticed: Noticed,
}

/// Packs everything below `root` into `out`.
pub(super) fn walk(
    (directory, root): (BorrowedFd<'_>, &Path),
    policy: &PackPolicy,
    keep: &PathSet,
    label: &str,
    out: Blocks,
    progress: &Progress,
    halt: &PipelineAbort,
) -> Result<Walked, Aborted> {
    let gate = MemberFilter::new(label, &policy.restore).map_err(|error| halt.fail(error))?;
    let mut walk = Walk {
        directory,
        root,
        name: policy.name.as_bytes(),
        keep,
        out,
        progress,
        halt,
        gate,
        several_names: HashMap::new(),
        content: Vec::new(),
        walked: Walked::default(),
    };
    walk.tree()?;
    let Walk {
        mut out, walked, ..
    } = walk;
    encode::end(&mut out)?;
    out.end()?;
    Ok(walked)
}

/// Opens the directory `root`.
pub(super) fn open(root: &Path) -> crate::model::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => Error::new(
            ErrorKind::NotFound,
            "volume.missing",
            format!("there is no directory {}", root.display()),
        )
        .hint("is it mounted, and is its path in the configuration right?"),
        error => Error::io(
            format!("open the directory {}", root.display()),
            error.into(),
        ),
    })
}

/// How often a file is tried that somebody has a lease on, and how long after the try before: ten seconds together.
const LEASE_TRIES: u32 = 200;
const LEASE_PAUSE: Duration = Duration::from_millis(50);

/// So many directories are held open, however deep the tree is.
const OPEN: usize = 64;
/// No archive holds a longer name: nobody could read it back.
const LONGEST: usize = 4095;

struct Walk<'a> {
    directory: BorrowedFd<'a>,
    root: &'a Path,
    /// What the tree's own member is named.
    name: &'a [u8],
    keep: &'a PathSet,
    out: Blocks,
    progress: &'a Progress,
    halt: &'a PipelineAbort,
    gate: MemberFilter<'a>,
    /// Files with several names, by the first of them that was packed.
    several_names: HashMap<(u64, u64), Vec<u8>>,
    content: Vec<u8>,
    walked: Walked,
}

/// A directory on the way from the root to where we are.
struct Level {
    /// Closed where we are far below it.
    directory: Option<OwnedFd>,
    path: Vec<u8>,
    names: std::vec::IntoIter<CString>,
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Walk<'_> {
    fn tree(&mut self) -> Result<(), Aborted> {
        let root = rustix::fs::openat(self.directory, ".", DIRECTORY, Mode::empty())
            .map_err(|error| self.failed("open the directory", b"", error.into()))?;
        let mut levels = vec![self.enter(root, Vec::new())?];
        while let Some(level) = levels.last_mut() {
            self.halt.check()?;
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            if level.directory.is_none() {
                let Some(again) = self.again(&level.path)? else {
                    levels.pop();
                    continue;
                };
                level.directory = Some(again);
            }
            let Some(directory) = &level.directory else {
                continue;
            };
            let path = match level.path.is_empty() {
                true => name.as_bytes().to_vec(),
                false => [&level.path, &b"/"[..], name.as_bytes()].concat(),
            };
            if is_run_folder(name.as_bytes())
                || self.keep.holds(Path::new(OsStr::from_bytes(&path)))
            {
                continue;
            }
            if self.member_name(&path).len() > LONGEST {
                self.walked.noticed.deep.add(&path);
                continue;
            }
            if let Some(directory) = self.entry(directory, &name, &path)? {
                levels.push(self.enter(directory, path)?);
                if let Some(far) = levels.len().checked_sub(OPEN + 1)
                    && far > 0
                    && let Some(level) = levels.get_mut(far)
                {
                    level.directory = None;
                }
            }
        }
        Ok(())
    }

    /// Opens a directory anew that was closed on the way down; `None`: it is gone.
    fn again(&mut self, path: &[u8]) -> Result<Option<OwnedFd>, Aborted> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match open_beneath_across(self.directory, Path::new(OsStr::from_bytes(path)), flags) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                self.walked.noticed.vanished.add(path);
                Ok(None)
            }
            Err(error) => Err(self.failed("read the directory", path, error.into())),
        }
    }

    /// Packs a directory's own member and lists its names.
    fn enter(&mut self, directory: OwnedFd, path: Vec<u8>) -> Result<Level, Aborted> {
        let looked = (|| {
            let stat = rustix::fs::fstat(&directory)?;
            let xattrs = read::xattrs(&directory)?;
            let mut names = Vec::new();
            for entry in Dir::read_from(&directory)? {
                let name = entry?.file_name().to_owned();
                if name.as_bytes() != b"." && name.as_bytes() != b".." {
                    names.push(name);
                }
            }
            names.sort();
            Ok::<_, io::Error>((stat, xattrs, names))
        })();
        let (stat, xattrs, names) =
            looked.map_err(|error| self.failed("read the directory", &path, error))?;
        let mut name = self.member_name(&path);
        name.push(b'/');
        if xattrs.lost {
            self.walked.noticed.attributes.add(&name);
        }
        if xattrs.labelled {
            self.walked.noticed.labels.add(&name);
        }
        let xattrs = xattrs.kept;
        self.admit(&name, TarKind::Directory, &stat, 0, &xattrs);
        entry(EntryType::Directory, &name, &stat, &xattrs).write(&mut self.out)?;
        self.walked.directories += 1;
        Ok(Level {
            directory: Some(directory),
            path,
            names: names.into_iter(),
        })
    }

    /// Packs an entry of a directory; a directory is only opened.
    fn entry(
        &mut self,
        directory: &OwnedFd,
        name: &CString,
        path: &[u8],
    ) -> Result<Option<OwnedFd>, Aborted> {
        match self.pack(directory, name, path) {
            Ok(opened) => Ok(opened),
            // A mail that was read, a session that ended: gone since the directory was listed.
            Err(Failure::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.walked.noticed.vanished.add(path);
                Ok(None)
            }
            Err(Failure::Io(error)) => Err(self.failed("read", path, error)),
            Err(Failure::Aborted) => Err(Aborted),
        }
    }

    fn pack(
        &mut self,
        directory: &OwnedFd,
        name: &CString,
        path: &[u8],
    ) -> Result<Option<OwnedFd>, Failure> {
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let opened = rustix::fs::openat(directory, name, DIRECTORY, Mode::empty())?;
                return Ok(Some(opened));
            }
            FileType::RegularFile => self.file(directory, name, path)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
                let member = self.member_name(path);
                let what = TarKind::Symlink(target.as_bytes().to_vec());
                self.admit(&member, what, &stat, 0, &[]);
                let mut entry = entry(EntryType::Symlink, &member, &stat, &[]);
                entry.link = target.as_bytes();
                entry.write(&mut self.out)?;
                self.walked.links += 1;
            }
            FileType::Fifo => {
                let member = self.member_name(path);
                self.admit(&member, TarKind::Fifo, &stat, 0, &[]);
                entry(EntryType::Fifo, &member, &stat, &[]).write(&mut self.out)?;
            }
            FileType::Socket => self.walked.noticed.sockets.add(path),
            _ => self.walked.noticed.devices.add(path),
        }
        Ok(None)
    }

    fn file(&mut self, directory: &OwnedFd, name: &CString, path: &[u8]) -> Result<(), Failure> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(directory, name, flags, Mode::empty());
        let mut opened = open();
        // Whoever has a lease on a file, as Samba takes them, is told by the first try, and has to let go.
        for _ in 0..LEASE_TRIES {
            if !matches!(opened, Err(Errno::AGAIN)) {
                break;
            }
            std::thread::sleep(LEASE_PAUSE);
            opened = open();
        }
        let file = File::from(opened?);
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            // Replaced by something else just now.
            self.walked.noticed.vanished.add(path);
            return Ok(());
        }
        let member = self.member_name(path);
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.several_names.get(&key).cloned() {
                let what = TarKind::Hardlink(first.clone());
                self.admit(&member, what, &stat, 0, &[]);
                let mut entry = entry(EntryType::Link, &member, &stat, &[]);
                entry.link = &first;
                entry.write(&mut self.out)?;
                self.walked.links += 1;
                return Ok(());
            }
            self.several_names.insert(key, member.clone());
        }
        let xattrs = read::xattrs(&file)?;
        if xattrs.lost {
            self.walked.noticed.attributes.add(&member);
        }
        if xattrs.labelled {
            self.walked.noticed.labels.add(&member);
        }
        let xattrs = xattrs.kept;
        let before = State::of(&stat);
        if before.size <= SMALL
            && let Some(stood) = self.small(&file, &stat, &member, &xattrs)?
        {
            self.note(stood, path);
        } else {
            let stood = self.large(&file, &member, &xattrs)?;
            self.note(stood, path);
        }
        self.walked.files += 1;
        Ok(())
    }

    fn note(&mut self, stood: FileStability, path: &[u8]) {
        match stood {
            FileStability::Still => {}
            FileStability::Grew => self.walked.noticed.grown.add(path),
            FileStability::Changed => self.walked.noticed.changed.add(path),
        }
    }

    fn small(
        &mut self,
        file: &File,
        stat: &Stat,
        member: &[u8],
        xattrs: &[(String, Vec<u8>)],
    ) -> Result<Option<FileStability>, Failure> {
        let mut content = std::mem::take(&mut self.content);
        let stood = read::settled(file, State::of(stat), &mut content)?;
        if let Some(stood) = stood {
            let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
            // It may have been read again since `stat`.
            let now = match stood {
                FileStability::Still => rustix::fs::fstat(file)?,
                _ => *stat,
            };
            self.admit(
                member,
                TarKind::File(ContentLayout::Whole),
                &now,
                size,
                xattrs,
            );
            let mut entry = entry(EntryType::Regular, member, &now, xattrs);
            entry.size = size;
            entry.write(&mut self.out)?;
            self.out.put(&content)?;
            encode::pad(size, &mut self.out)?;
            self.count(size);
        }
        self.content = content;
        Ok(stood)
    }

    fn large(
        &mut self,
        file: &File,
        member: &[u8],
        xattrs: &[(String, Vec<u8>)],
    ) -> Result<FileStability, Failure> {
        // Only a hint to the kernel: whatever it answers, the file is read.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
        let stat = rustix::fs::fstat(file)?;
        let before = State::of(&stat);
        let size = before.size;
        let pieces = read::pieces(file, &stat)?;
        self.admit(
            member,
            TarKind::File(ContentLayout::Whole),
            &stat,
            size,
            xattrs,
        );
        let mut entry = entry(EntryType::Regular, member, &stat, xattrs);
        entry.size = size;
        match &pieces {
            Some(pieces) => entry.write_sparse(pieces, &mut self.out)?,
            None => entry.write(&mut self.out)?,
        }
        let mut whole = true;
        let mut data = 0;
        for (at, length) in pieces.unwrap_or_else(|| vec![(0, size)]) {
            let read = self.copy(file, at, length)?;
            data += length;
            whole &= read == length;
        }
        encode::pad(data, &mut self.out)?;
        let after = State::of(&rustix::fs::fstat(file)?);
        Ok(FileStability::between(
            before,
            after,
            if whole { size } else { 0 },
        ))
    }

    /// Copies a piece of a file, zeros where the file has ended meanwhile; says how many bytes
    /// there were.
    fn copy(&mut self, file: &File, at: u64, length: u64) -> Result<u64, Failure> {
        let mut done = 0;
        while done < length {
            self.halt.check()?;
            let left = usize::try_from(length - done).unwrap_or(usize::MAX);
            let room = self.out.room()?;
            let wanted = room.len().min(left);
            let read = match file.read_at(room.get_mut(..wanted).unwrap_or_default(), at + done) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if read == 0 {
                self.out.zeros(length - done)?;
                break;
            }
            self.out.fill(read);
            let read = u64::try_from(read).unwrap_or(u64::MAX);
            done += read;
            self.count(read);
        }
        Ok(done)
    }

    fn count(&mut self, bytes: u64) {
        self.walked.bytes = self.walked.bytes.saturating_add(bytes);
        self.progress.add(bytes);
    }

    fn member_name(&self, path: &[u8]) -> Vec<u8> {
        if path.is_empty() {
            return self.name.to_vec();
        }
        [self.name, b"/", path].concat()
    }

    /// Asks what a restore will ask; it is packed whatever the answer.
    fn admit(
        &mut self,
        name: &[u8],
        what: TarKind,
        stat: &Stat,
        size: u64,
        xattrs: &[(String, Vec<u8>)],
    ) {
        let member = Member {
            name: name.to_vec(),
            what,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            user: None,
            group: None,
            mtime: read::mtime(stat),
            xattrs: xattrs.to_vec(),
            attributes_lost: 0,
            labelled: false,
            size,
        };
        if let Err(error) = self.gate.admit(&member) {
            self.walked.noticed.refusal(&error);
        }
    }

    fn failed(&self, what: &str, path: &[u8], error: io::Error) -> Aborted {
        let shown = self.root.join(OsStr::from_bytes(path));
        self.halt
            .fail(Error::io(format!("{what} {}", shown.display()), error))
    }
}

/// What keeps an entry from being packed.
enum Failure {
    /// Reading it failed.
    Io(io::Error),
    /// All of it was stopped.
    Aborted,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl From<Aborted> for Failure {
    fn from(_: Aborted) -> Self {
        Self::Aborted
    }
}

fn entry<'a>(
    kind: EntryType,
    name: &'a [u8],
    stat: &Stat,
    xattrs: &'a [(String, Vec<u8>)],
) -> Entry<'a> {
    Entry {
        kind,
        name,
        link: b"",
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: read::mtime(stat),
        size: 0,
        xattrs,
    }
}

/// A way back, no live data.
pub(super) fn is_run_folder(name: &[u8]) -> bool {
    RunId::of_folder(name).is_some()
}
