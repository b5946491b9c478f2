//! Deleting a tree that somebody else may be at work in.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, RenameFlags, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;

use super::beneath::open_beneath;

/// So many levels are gone down to; what is deeper is first moved up.
const DEPTH: usize = 48;
/// How many entries are looked at for what cannot be deleted.
const LOOKED_AT: usize = 200_000;
/// How often a directory is emptied that others fill meanwhile.
const TRIES: u32 = 16;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NONBLOCK);

struct Level {
    directory: OwnedFd,
    /// Its name in the one above.
    name: OsString,
    /// Its directories that are still to be emptied.
    pending: Vec<OsString>,
    tries: u32,
}

/// Deletes what has the name `name` in the directory `above`, with all below it; nothing where
/// there is no such name. Follows no symbolic link, enters no other file system, and holds a
/// bounded number of descriptors however deep the tree is.
///
/// # Errors
///
/// `XDEV` or `BUSY` where something is mounted below; `NOTEMPTY` where somebody goes on adding.
pub(crate) fn remove_tree(above: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    let Some(top) = enter(above, name)? else {
        return Ok(());
    };
    let mut levels = vec![top];
    let mut moved: u64 = 0;
    while let Some(level) = levels.last_mut() {
        let Some(next) = level.pending.pop() else {
            leave(above, &mut levels)?;
            continue;
        };
        if levels.len() >= DEPTH
            && let [top, .., last] = levels.as_mut_slice()
        {
            // Deeper than descriptors last: it goes on at the top.
            if let Some(name) = lift(last, &next, top, &mut moved)? {
                top.pending.push(name);
            }
            continue;
        }
        let Some(last) = levels.last() else {
            break;
        };
        let below = enter(last.directory.as_fd(), &next)?;
        levels.extend(below);
    }
    Ok(())
}

/// Opens a directory and unlinks what in it is none; `None` where it was none itself, or is gone.
fn enter(above: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Option<Level>> {
    let directory = match open_beneath(above, Path::new(name), DIRECTORY) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return match rustix::fs::unlinkat(above, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(None),
                Err(error) => Err(error),
            };
        }
        Err(error) => return Err(error),
    };
    let pending = clear(&directory)?;
    Ok(Some(Level {
        directory,
        name: name.to_owned(),
        pending,
        tries: 0,
    }))
}

/// Unlinks all but directories, whose names are returned.
fn clear(directory: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut directories = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            directories.push(OsString::from_vec(name.to_vec()));
            continue;
        }
        match rustix::fs::unlinkat(directory, OsStr::from_bytes(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // Not every file system tells what an entry is.
            Err(Errno::ISDIR) => directories.push(OsString::from_vec(name.to_vec())),
            Err(error) => return Err(error),
        }
    }
    Ok(directories)
}

/// Removes the last level, which seems empty, or looks into it once more.
fn leave(above: BorrowedFd<'_>, levels: &mut Vec<Level>) -> rustix::io::Result<()> {
    let Some(mut level) = levels.pop() else {
        return Ok(());
    };
    let parent = levels
        .last()
        .map_or(above, |parent| parent.directory.as_fd());
    match rustix::fs::unlinkat(parent, &level.name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) if level.tries < TRIES => {
            level.tries += 1;
            level.pending = clear(&level.directory)?;
            levels.push(level);
            Ok(())
        }
        // Something else has its name by now.
        Err(Errno::NOTDIR) => {
            let _ = rustix::fs::unlinkat(parent, &level.name, AtFlags::empty());
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Moves a directory to the top, under a name that is free there.
fn lift(
    from: &Level,
    name: &OsStr,
    top: &Level,
    moved: &mut u64,
) -> rustix::io::Result<Option<OsString>> {
    loop {
        let free = OsString::from(format!(".restore-deep-{moved}"));
        *moved += 1;
        match rustix::fs::renameat_with(
            &from.directory,
            name,
            &top.directory,
            &free,
            RenameFlags::NOREPLACE,
        ) {
            Ok(()) => return Ok(Some(free)),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::EXIST) => {}
            // NFS and others do not know the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                match rustix::fs::renameat(&from.directory, name, &top.directory, &free) {
                    Ok(()) => return Ok(Some(free)),
                    Err(Errno::NOENT) => return Ok(None),
                    Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// What of a tree nobody may delete, whoever tries, as it is immutable or append-only: the first that is found.
pub(crate) fn fixed_in(above: BorrowedFd<'_>, name: &OsStr) -> Option<PathBuf> {
    let mut todo = vec![PathBuf::from(name)];
    let mut seen = 0_usize;
    while let Some(path) = todo.pop()
        && seen < LOOKED_AT
    {
        seen += 1;
        let Ok(entry) = open_beneath(above, &path, OFlags::PATH | OFlags::NOFOLLOW) else {
            continue;
        };
        let fixed = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        let stat = statx(&entry, "", AtFlags::EMPTY_PATH, StatxFlags::empty());
        if stat.is_ok_and(|stat| stat.stx_attributes.intersects(fixed)) {
            return Some(path);
        }
        let Ok(directory) = open_beneath(above, &path, DIRECTORY) else {
            continue;
        };
        for entry in Dir::read_from(&directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                todo.push(path.join(OsStr::from_bytes(name)));
            }
        }
    }
    None
}

/// The hint that goes with such an error, where there is one.
pub(crate) fn shown(error: Errno) -> Option<&'static str> {
    match error {
        Errno::XDEV | Errno::BUSY => {
            Some("is something mounted there, or on the way? unmount it, or exclude it")
        }
        Errno::LOOP | Errno::NOTDIR => Some(
            "a symbolic link or a file stands where a directory was expected, and is not followed",
        ),
        Errno::NOTEMPTY => Some("something goes on writing there: stop it and try again"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::Mode;

    #[test]
    fn trees_of_any_depth_go_and_what_links_lead_to_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let outside = temporary.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("precious"), "x").unwrap();
        let above = rustix::fs::open(temporary.path(), DIRECTORY, Mode::empty()).unwrap();
        rustix::fs::mkdirat(&above, "tree", Mode::RWXU).unwrap();
        let mut at = open_beneath(above.as_fd(), Path::new("tree"), DIRECTORY).unwrap();
        for level in 0..5000 {
            for name in ["d", "e"] {
                rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
            }
            if level % 100 == 0 {
                rustix::fs::symlinkat(&outside, &at, "link").unwrap();
            }
            at = open_beneath(at.as_fd(), Path::new("d"), DIRECTORY).unwrap();
        }
        // A thread's stack would not take a recursion.
        std::thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(move || remove_tree(above.as_fd(), OsStr::new("tree")).unwrap())
            .unwrap()
            .join()
            .unwrap();
        assert!(!temporary.path().join("tree").exists());
        assert!(outside.join("precious").exists());
    }

    #[test]
    fn a_link_and_a_name_that_is_not_there_are_no_trouble() {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::create_dir(temporary.path().join("outside")).unwrap();
        std::os::unix::fs::symlink("outside", temporary.path().join("link")).unwrap();
        let above = rustix::fs::open(temporary.path(), DIRECTORY, Mode::empty()).unwrap();
        remove_tree(above.as_fd(), OsStr::new("link")).unwrap();
        remove_tree(above.as_fd(), OsStr::new("link")).unwrap();
        assert!(temporary.path().join("outside").is_dir());
    }
}
