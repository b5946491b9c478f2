//! Files and directories for nobody else's eyes, whatever the umask says.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::model::{Error, ErrorKind, Result};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Of a folder that only its owner enters.
pub(crate) const FOLDER: u32 = 0o700;

/// Of a file that only its owner reads.
pub(crate) const FILE: u32 = 0o600;

/// Makes a folder and those above it that are missing. One that is there stays as it is: it may
/// serve others too.
pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER).create(path)
}

/// Makes a folder that must not be there.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(FOLDER).create(path)
}

/// Opens a file; whether it is made, cut or appended to is for the options to say. One that is
/// there and was open to others is closed to them. A link in its place is not followed.
pub(crate) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options
        .mode(FILE)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        // Where it is not ours to close, it was not we who opened it.
        let _ = file.set_permissions(Permissions::from_mode(FILE));
    }
    Ok(file)
}

/// A file to write anew.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    open(
        File::options().write(true).create(true).truncate(true),
        path,
    )
}

/// Writes a file anew.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    create(path)?.write_all(content.as_ref())
}

/// Opens the directory `path`; a link in its place is not followed. Where it is missing it is made with those above it
/// if `make` says so; `None` otherwise. One that is there and open to others is closed to them if `make` says so: who
/// only reads changes nothing.
///
/// # Errors
///
/// `Config` with `state.not_private` where it belongs to somebody else: nothing in it would be to
/// be believed.
pub(crate) fn open_directory(path: &Path, make: bool) -> Result<Option<OwnedFd>> {
    let failed = |e: std::io::Error| Error::io(format!("open {}", path.display()), e);
    let opened = match rustix::fs::open(path, DIRECTORY, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) if !make => return Ok(None),
        Err(rustix::io::Errno::NOENT) => {
            create_dir_all(path).map_err(failed)?;
            rustix::fs::open(path, DIRECTORY, Mode::empty())
        }
        opened => opened,
    };
    let directory = opened.map_err(|e| failed(e.into()))?;
    let stat = rustix::fs::fstat(&directory).map_err(|e| failed(e.into()))?;
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != own {
        return Err(Error::new(
            ErrorKind::Config,
            "state.not_private",
            format!(
                "{} belongs to the user {}, and what lies there decides what is moved and deleted",
                path.display(),
                stat.st_uid
            ),
        )
        .hint(format!(
            "see what is in it, then `chown {own} {}`, or name another `state` in [site]",
            path.display()
        )));
    }
    if make && stat.st_mode & 0o077 != 0 {
        rustix::fs::fchmod(&directory, Mode::RWXU).map_err(|e| failed(e.into()))?;
    }
    Ok(Some(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_was_open_to_others_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        create_dir_all(&folder).unwrap();
        assert_eq!(mode(&folder), 0o700);
        let file = folder.join("file");
        std::fs::write(&file, "before").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        write(&file, "after").unwrap();
        assert_eq!(mode(&file), 0o600);
        assert_eq!(std::fs::read(&file).unwrap(), b"after");
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, link) = (dir.path().join("victim"), dir.path().join("link"));
        std::fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        assert!(write(&link, "theirs").is_err());
        assert_eq!(std::fs::read(&victim).unwrap(), b"mine");
    }

    #[test]
    fn a_directory_is_closed_by_who_works_in_it_and_through_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, link) = (dir.path().join("victim"), dir.path().join("link"));
        std::fs::create_dir(&victim).unwrap();
        std::fs::set_permissions(&victim, Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        for make in [false, true] {
            assert!(open_directory(&link, make).is_err());
            assert_eq!(mode(&victim), 0o755);
        }
        assert!(open_directory(&victim, false).unwrap().is_some());
        assert_eq!(mode(&victim), 0o755);
        assert!(open_directory(&victim, true).unwrap().is_some());
        assert_eq!(mode(&victim), 0o700);
    }
}
