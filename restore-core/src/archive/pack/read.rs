//! Reading one live file: what it is, and whether it stood still.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;

use super::super::member::{Fate, Time, fate};

/// Files up to this size are read as a whole before anything is written of them, so that they can
/// be read again.
pub(super) const SMALL: u64 = 256 * 1024;
/// How often a small file that changes is read again.
const TRIES: u32 = 3;
/// Holes of less are not worth a map.
const HOLES: u64 = 64 * 1024;

/// What of a file's status is compared before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) size: u64,
    mtime: Time,
    ctime: Time,
}

impl State {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: mtime(stat),
            ctime: (
                stat.st_ctime,
                u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
            ),
        }
    }
}

/// How a file was while it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileStability {
    Still,
    Grew,
    Changed,
}

impl FileStability {
    /// By its state before and after, of which `read` bytes were read.
    pub(super) fn between(before: State, after: State, read: u64) -> Self {
        if before == after && read == before.size {
            Self::Still
        } else if after.size > before.size && read == before.size {
            Self::Grew
        } else {
            Self::Changed
        }
    }
}

pub(super) fn mtime(stat: &Stat) -> Time {
    (
        stat.st_mtime,
        u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    )
}

/// Reads a small file into `content`, again where it changes meanwhile; `None`: it has become a
/// large one.
pub(super) fn settled(
    file: &File,
    before: State,
    content: &mut Vec<u8>,
) -> io::Result<Option<FileStability>> {
    let mut before = before;
    let limit = usize::try_from(SMALL).unwrap_or(usize::MAX);
    let mut stood = FileStability::Changed;
    for _ in 0..TRIES {
        let wanted = usize::try_from(before.size).unwrap_or(usize::MAX);
        if wanted > limit {
            return Ok(None);
        }
        content.clear();
        content.resize(wanted, 0);
        let mut filled = 0;
        while filled < wanted {
            let room = content.get_mut(filled..).unwrap_or_default();
            match file.read_at(room, u64::try_from(filled).unwrap_or(u64::MAX)) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        content.truncate(filled);
        let after = State::of(&rustix::fs::fstat(file)?);
        stood = FileStability::between(before, after, u64::try_from(filled).unwrap_or(u64::MAX));
        if stood == FileStability::Still {
            break;
        }
        before = after;
    }
    Ok(Some(stood))
}

/// The pieces of a file that are not holes; `None`: it has none worth a word.
pub(super) fn pieces(file: &File, stat: &Stat) -> io::Result<Option<Vec<(u64, u64)>>> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let held = u64::try_from(stat.st_blocks)
        .unwrap_or(0)
        .saturating_mul(512);
    if held.saturating_add(HOLES) > size {
        return Ok(None);
    }
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start.min(size),
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(Errno::NXIO) => size,
            Err(error) => return Err(error.into()),
        };
        if end <= start {
            break;
        }
        // Readers want pieces that begin and end at whole units, but for the last.
        if start % 512 != 0 || (end % 512 != 0 && end != size) {
            return Ok(None);
        }
        pieces.push((start, end - start));
        at = end;
    }
    let data: u64 = pieces.iter().map(|(_, length)| length).sum();
    Ok((data.saturating_add(HOLES) <= size).then_some(pieces))
}

/// The extended attributes of a file.
#[derive(Default)]
pub(super) struct Attributes {
    /// Those that a restore gives back.
    pub(super) kept: Vec<(String, Vec<u8>)>,
    /// Whether it has others, which are not packed.
    pub(super) lost: bool,
    /// Whether it has a label of SELinux, which is not packed either.
    pub(super) labelled: bool,
}

/// The attributes of a file that is open.
pub(super) fn xattrs(file: impl AsFd) -> io::Result<Attributes> {
    let file = file.as_fd();
    let none = |error: Errno| matches!(error, Errno::OPNOTSUPP | Errno::NODATA);
    let mut list = vec![0_u8; 0];
    let length = match rustix::fs::flistxattr_query(file) {
        Ok(0) => return Ok(Attributes::default()),
        Ok(length) => length,
        Err(error) if none(error) => return Ok(Attributes::default()),
        Err(error) => return Err(error.into()),
    };
    list.resize(length + 256, 0);
    let length = rustix::fs::flistxattr(file, &mut list[..])?;
    let mut found = Attributes::default();
    for name in list
        .get(..length)
        .unwrap_or_default()
        .split(|byte| *byte == 0)
    {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        match fate(name) {
            Fate::Kept => {}
            Fate::Lost => {
                // After the last name the list has zeros.
                found.lost |= !name.is_empty();
                continue;
            }
            Fate::MadeAnew => {
                found.labelled = true;
                continue;
            }
        }
        // The largest that Linux has.
        let mut value = vec![0_u8; 64 * 1024];
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Ok(length) => value.truncate(length),
            Err(error) if none(error) => continue,
            Err(error) => return Err(error.into()),
        }
        found.kept.push((name.to_owned(), value));
    }
    Ok(found)
}
