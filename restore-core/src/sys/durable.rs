//! Files that are replaced whole: whatever happens meanwhile, there is the old one or the new one, and
//! after a power cut too. For places that nobody else can write to;
//! the swap's directories, which are held, have the like for others.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use super::private::FILE;

/// Who may read a file, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) mode: u32,
    /// User and group; ours where there is none.
    pub(crate) owner: Option<(u32, u32)>,
}

impl Access {
    /// For us alone.
    pub(crate) const PRIVATE: Self = Self {
        mode: FILE,
        owner: None,
    };
}

/// Gives `path` this content, by way of the file `beside` in the same directory, which is made anew: what
/// a killed process left there goes, and a link that somebody put there is not followed.
pub(crate) fn replace(
    path: &Path,
    beside: &Path,
    access: Access,
    content: impl AsRef<[u8]>,
) -> io::Result<()> {
    put(path, beside, access, content.as_ref(), true)?;
    sync_directory_of(path)
}

/// As [`replace`], for what means nothing any more after a reboot: a killed process leaves the old file or the
/// new one, and nothing waits for a disk. After a power cut there may be an empty file.
pub(crate) fn replace_for_this_boot(
    path: &Path,
    beside: &Path,
    access: Access,
    content: impl AsRef<[u8]>,
) -> io::Result<()> {
    put(path, beside, access, content.as_ref(), false)
}

fn put(path: &Path, beside: &Path, access: Access, content: &[u8], sync: bool) -> io::Result<()> {
    remove_now(beside)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE)
        .open(beside)?;
    let written = file.write_all(content).and_then(|()| {
        if let Some((user, group)) = access.owner {
            fchown(&file, Some(user), Some(group))?;
        }
        // Not before it has its owner, and whatever the umask says.
        file.set_permissions(Permissions::from_mode(access.mode))?;
        if sync { file.sync_all() } else { Ok(()) }
    });
    if let Err(error) = written.and_then(|()| std::fs::rename(beside, path)) {
        // On a full disk the half that was written must not make things worse.
        let _ = std::fs::remove_file(beside);
        return Err(error);
    }
    Ok(())
}

/// Removes a file, which may be gone already: whoever removed it may have been killed before that was
/// durable. Where the directory is gone too there is nothing to do.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    remove_now(path)?;
    absent_is_fine(sync_directory_of(path))
}

fn remove_now(path: &Path) -> io::Result<()> {
    absent_is_fine(std::fs::remove_file(path))
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Has the names in the directory of a file on the disk.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, beside) = (dir.path().join("f"), dir.path().join("f.new"));
        let other = dir.path().join("other");
        std::fs::write(&other, "theirs").unwrap();
        symlink(&other, &beside).unwrap();
        std::fs::write(&path, "old").unwrap();
        let access = Access {
            mode: 0o644,
            owner: Some((
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            )),
        };
        replace(&path, &beside, access, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "theirs");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o644);
        assert!(!beside.exists());
        symlink(&other, &beside).unwrap();
        replace_for_this_boot(&path, &beside, Access::PRIVATE, "newer").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "newer");
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "theirs");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_put_there_is_not_left_beside() {
        let dir = tempfile::tempdir().unwrap();
        let (path, beside) = (dir.path().join("d"), dir.path().join("d.new"));
        std::fs::create_dir(&path).unwrap();
        assert!(replace(&path, &beside, Access::PRIVATE, "x").is_err());
        assert!(!beside.exists());
        assert!(replace_for_this_boot(&path, &beside, Access::PRIVATE, "x").is_err());
        assert!(!beside.exists());
    }

    #[test]
    fn removing_twice_is_as_good_as_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "x").unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        remove(&dir.path().join("gone/f")).unwrap();
        assert!(!path.exists());
    }
}
