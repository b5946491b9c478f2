//! Opening what is below a held directory, and nothing else.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The kernel resolves no longer path at once.
const LONGEST: usize = 4000;

/// Whether the kernel (and what stands before it) has openat2.
static HAS_OPENAT2: AtomicBool = AtomicBool::new(true);

/// Opens what is at `path` below the directory `root`; the empty path is the directory itself.
/// No symbolic link is followed, no other file system is entered, and a path that is absolute or
/// holds `..` is refused with `INVAL`: whatever is done to the tree meanwhile, what is opened was
/// below `root`.
pub(crate) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    open(root, path, flags, ResolveFlags::NO_XDEV)
}

/// As [`open_beneath`], also where another file system is mounted on the way: for reading.
pub(crate) fn open_beneath_across(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    open(root, path, flags, ResolveFlags::empty())
}

/// Opens a regular file below `root` for reading; anything else there is an error. A pipe is not
/// waited for.
pub(crate) fn open_file(root: BorrowedFd<'_>, path: &Path) -> std::io::Result<std::fs::File> {
    open_regular(|flags| open_beneath(root, path, flags))
}

/// As [`open_file`], also where another file system is mounted on the way.
pub(crate) fn open_file_across(
    root: BorrowedFd<'_>,
    path: &Path,
) -> std::io::Result<std::fs::File> {
    open_regular(|flags| open_beneath_across(root, path, flags))
}

/// Opens the file at `path` for reading as usual, but does not wait where somebody has put a pipe
/// there: what is no regular file is an error.
pub(crate) fn open_to_read(path: &Path) -> std::io::Result<std::fs::File> {
    open_regular(|flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()))
}

/// As [`open_to_read`], of a file below the directory `root`, which may be a link itself: none is followed below
/// it.
pub(crate) fn open_to_read_below(root: &Path, path: &Path) -> std::io::Result<std::fs::File> {
    let below = path
        .strip_prefix(root)
        .map_err(|_| std::io::Error::other(format!("it is not below {}", root.display())))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())?;
    open_regular(|flags| open_beneath_across(root.as_fd(), below, flags)).map_err(no_link)
}

/// Opens a regular file for reading with what opens it with given flags. It is looked at before: to
/// open a device, a watchdog or a tape for one, has effects of its own.
pub(super) fn open_regular(
    open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>,
) -> std::io::Result<std::fs::File> {
    let seen = open(OFlags::PATH)?;
    must_be_regular(&seen)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let again = format!("/proc/self/fd/{}", seen.as_raw_fd());
    let file = match rustix::fs::open(again, flags | OFlags::CLOEXEC, Mode::empty()) {
        // There is no /proc here.
        Err(Errno::NOENT) => open(flags)?,
        opened => opened?,
    };
    must_be_regular(&file)?;
    Ok(file.into())
}

fn must_be_regular(file: &OwnedFd) -> std::io::Result<()> {
    match FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode) {
        FileType::RegularFile => Ok(()),
        // What would have been said of it had it been opened.
        FileType::Symlink => Err(Errno::LOOP.into()),
        _ => Err(std::io::Error::other("it is no regular file")),
    }
}

/// The error of what follows no links, in words where it met one.
pub(crate) fn no_link(error: std::io::Error) -> std::io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::LOOP | Errno::MLINK) => std::io::Error::other(
            "it is a symbolic link or lies behind one, and none is followed here",
        ),
        _ => error,
    }
}

/// All of a small file that somebody else may have put there: neither a pipe nor a file of more
/// than `limit` bytes is read.
pub(crate) fn read_small(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    read_small_from(open_to_read(path)?, limit)
}

/// As [`read_small`], of a file that is open.
pub(crate) fn read_small_from(file: std::fs::File, limit: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::other(format!(
            "it has more than {limit} bytes"
        )));
    }
    Ok(bytes)
}

fn open(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    across: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if path.as_os_str().is_empty() {
        return rustix::fs::openat(root, ".", flags, Mode::empty());
    }
    if !path
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        return Err(Errno::INVAL);
    }
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() <= LONGEST {
        return open_short(root, bytes, flags, across);
    }
    // A deep tree, piece by piece; two descriptors at a time.
    let mut at: Option<OwnedFd> = None;
    let mut rest = bytes;
    while rest.len() > LONGEST {
        let split = rest
            .get(..LONGEST)
            .and_then(|start| start.iter().rposition(|byte| *byte == b'/'))
            .ok_or(Errno::NAMETOOLONG)?;
        let (head, tail) = rest.split_at(split);
        let from = at.as_ref().map_or(root, AsFd::as_fd);
        at = Some(open_short(from, head, WAY, across)?);
        rest = tail.strip_prefix(b"/").unwrap_or(tail);
    }
    open_short(at.as_ref().map_or(root, AsFd::as_fd), rest, flags, across)
}

/// A directory on the way.
const WAY: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn open_short(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    across: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    if HAS_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | across;
        for _ in 0..100 {
            match rustix::fs::openat2(root, OsStr::from_bytes(path), flags, Mode::empty(), resolve)
            {
                // Somewhere in the system something was renamed meanwhile.
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS) => {
                    HAS_OPENAT2.store(false, Ordering::Relaxed);
                    break;
                }
                // The seccomp filters of old container engines; or what it says.
                Err(Errno::PERM) => break,
                other => return other,
            }
        }
    }
    step_by_step(root, path, flags, across)
}

fn step_by_step(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    across: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let device = rustix::fs::fstat(root)?.st_dev;
    let mut at: Option<OwnedFd> = None;
    let mut parts = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .peekable();
    while let Some(part) = parts.next() {
        let from = at.as_ref().map_or(root, AsFd::as_fd);
        let last = parts.peek().is_none();
        let next = rustix::fs::openat(
            from,
            OsStr::from_bytes(part),
            if last { flags } else { WAY },
            Mode::empty(),
        )?;
        if !across.is_empty() && rustix::fs::fstat(&next)?.st_dev != device {
            return Err(Errno::XDEV);
        }
        at = Some(next);
    }
    at.ok_or(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

    #[test]
    fn nothing_outside_is_opened() {
        let outside = tempfile::tempdir().unwrap();
        let inside = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(inside.path().join("a/b")).unwrap();
        std::fs::create_dir(outside.path().join("b")).unwrap();
        std::os::unix::fs::symlink(outside.path(), inside.path().join("link")).unwrap();
        let root = rustix::fs::open(inside.path(), DIRECTORY, Mode::empty()).unwrap();
        for path in ["", "a", "a/b"] {
            open_beneath(root.as_fd(), Path::new(path), DIRECTORY).unwrap();
        }
        for path in ["link", "link/b", "..", "a/../..", "/", "/tmp", "a/../a"] {
            assert!(
                open_beneath(root.as_fd(), Path::new(path), DIRECTORY).is_err(),
                "{path}"
            );
        }
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        for path in ["link", "link/b"] {
            let opened = step_by_step(root.as_fd(), path.as_bytes(), flags, ResolveFlags::empty());
            assert!(opened.is_err(), "{path}");
        }
        step_by_step(root.as_fd(), b"a/b", flags, ResolveFlags::NO_XDEV).unwrap();
    }

    #[test]
    fn neither_a_pipe_nor_a_large_file_is_read() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("file");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read_small(&file, 5).unwrap(), b"12345");
        assert!(read_small(&file, 4).is_err());
        let pipe = top.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert!(read_small(&pipe, 5).is_err());
        assert!(open_to_read(&pipe).is_err());
    }

    #[test]
    fn what_is_no_regular_file_is_looked_at_and_not_opened() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        std::os::unix::fs::symlink(&path, top.path().join("link")).unwrap();
        let root = rustix::fs::open(top.path(), DIRECTORY, Mode::empty()).unwrap();
        assert!(open_to_read(&top.path().join("link")).is_err());
        assert!(open_file(root.as_fd(), Path::new("pipe")).is_err());
        let link = open_file(root.as_fd(), Path::new("link")).unwrap_err();
        assert_eq!(Errno::from_io_error(&link), Some(Errno::LOOP));
        let below = open_to_read_below(top.path(), &top.path().join("link")).unwrap_err();
        assert!(below.to_string().contains("symbolic link"), "{below}");
        // Whoever opens something tells how: only to look.
        let seen = std::cell::RefCell::new(Vec::new());
        let opened = open_regular(|flags| {
            seen.borrow_mut().push(flags);
            rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty())
        });
        assert!(opened.is_err());
        assert_eq!(seen.into_inner(), [OFlags::PATH]);
    }

    #[test]
    fn a_regular_file_is_read_from_its_start_whatever_has_its_name() {
        use std::io::Read;
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("file");
        std::fs::write(&path, "old").unwrap();
        let mut file = open_regular(|flags| {
            let opened = rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty());
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, "new").unwrap();
            opened
        })
        .unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "old");
    }

    #[test]
    fn a_path_longer_than_the_kernel_takes_is_opened_in_pieces() {
        let top = tempfile::tempdir().unwrap();
        let name = "d".repeat(200);
        let mut path = PathBuf::new();
        let mut at = rustix::fs::open(top.path(), DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..60 {
            rustix::fs::mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, name.as_str(), DIRECTORY, Mode::empty()).unwrap();
            path.push(&name);
        }
        let root = rustix::fs::open(top.path(), DIRECTORY, Mode::empty()).unwrap();
        let found = open_beneath(root.as_fd(), &path, DIRECTORY).unwrap();
        let (is, should) = (
            rustix::fs::fstat(&found).unwrap(),
            rustix::fs::fstat(&at).unwrap(),
        );
        assert_eq!(is.st_ino, should.st_ino);
    }
}
