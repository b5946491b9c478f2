//! What changes a place.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::{Meta, Place};
use crate::error::{Error, Result};

impl Place {
    /// Moves an entry to the same path below `to`, where there must be none.
    pub(crate) fn move_to(&self, to: &Self, path: &Path) -> Result<()> {
        self.transfer(to, path, |from, from_name, into, into_name| {
            match rustix::fs::renameat_with(
                from,
                from_name,
                into,
                into_name,
                RenameFlags::NOREPLACE,
            ) {
                // NFS and others do not know the flag.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    match rustix::fs::statat(into, into_name, AtFlags::SYMLINK_NOFOLLOW) {
                        Err(Errno::NOENT) => rustix::fs::renameat(from, from_name, into, into_name),
                        Ok(_) => Err(Errno::EXIST),
                        Err(e) => Err(e),
                    }
                }
                done => done,
            }
        })
    }

    /// Moves an entry to the same path below `to`, in place of one that is there; neither is a
    /// directory.
    pub(crate) fn move_over(&self, to: &Self, path: &Path) -> Result<()> {
        self.transfer(to, path, |from, from_name, into, into_name| {
            rustix::fs::renameat(from, from_name, into, into_name)
        })
    }

    /// Gives an entry that is no directory a second name at the same path below `to`. `false`
    /// where the file system or the system's policy does not let it.
    pub(crate) fn link_to(&self, to: &Self, path: &Path) -> Result<bool> {
        let mut refused = false;
        self.transfer(
            to,
            path,
            |from, from_name, into, into_name| match rustix::fs::linkat(
                from,
                from_name,
                into,
                into_name,
                AtFlags::empty(),
            ) {
                Err(
                    Errno::PERM
                    | Errno::MLINK
                    | Errno::NOTSUP
                    | Errno::NOSYS
                    | Errno::INVAL
                    | Errno::ACCESS,
                ) => {
                    refused = true;
                    Ok(())
                }
                done => done,
            },
        )?;
        Ok(!refused)
    }

    fn transfer(
        &self,
        to: &Self,
        path: &Path,
        act: impl FnOnce(&OwnedFd, &OsStr, &OwnedFd, &OsStr) -> rustix::io::Result<()>,
    ) -> Result<()> {
        let (from, name) = self
            .parent(path)
            .map_err(|e| self.failed("reach", path, e))?;
        let (into, _) = to.parent(path).map_err(|e| to.failed("reach", path, e))?;
        act(&from, name, &into, name)
            .map_err(|e| self.failed(&format!("move to {}:", to.path.display()), path, e))?;
        self.touch(path);
        to.touch(path);
        self.forget(path);
        to.forget(path);
        Ok(())
    }

    /// Renames an entry directly in this directory to a name that is free.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to)
            .map_err(|e| self.failed("rename", Path::new(from), e))?;
        self.forget(Path::new(from));
        Ok(())
    }

    /// Removes a name that is no directory.
    pub(crate) fn unlink(&self, path: &Path) -> Result<()> {
        let done = self
            .parent(path)
            .and_then(|(parent, name)| rustix::fs::unlinkat(&*parent, name, AtFlags::empty()));
        match done {
            Ok(()) | Err(Errno::NOENT) => {
                self.touch(path);
                Ok(())
            }
            Err(e) => Err(self.failed("remove", path, e)),
        }
    }

    /// Makes a directory and those above it, private to their owner, where they are missing.
    pub(crate) fn make_directories(&self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() || self.walk(path).is_ok() {
            return Ok(());
        }
        let mut at = PathBuf::new();
        for name in path.components() {
            at.push(name);
            let made = self.parent(&at).and_then(|(parent, name)| {
                rustix::fs::mkdirat(&*parent, name, Mode::from_raw_mode(0o700))
            });
            match made {
                Ok(()) => self.touch(&at),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(self.failed("make the directory", &at, e)),
            }
        }
        Ok(())
    }

    /// Gives a directory owner, mode and time.
    pub(crate) fn set_meta(&self, path: &Path, meta: &Meta) -> Result<()> {
        let failed = |e| self.failed("set owner and mode of", path, e);
        let fd = self.walk(path).map_err(failed)?;
        let now = rustix::fs::fstat(&fd).map_err(failed)?;
        if (now.st_uid, now.st_gid) != (meta.uid, meta.gid) {
            rustix::fs::fchown(
                &fd,
                Some(Uid::from_raw(meta.uid)),
                Some(Gid::from_raw(meta.gid)),
            )
            .map_err(failed)?;
        }
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(meta.mode)).map_err(failed)?;
        let time = Timespec {
            tv_sec: meta.seconds,
            tv_nsec: meta.nanoseconds,
        };
        rustix::fs::futimens(
            &fd,
            &Timestamps {
                last_access: Timespec {
                    tv_sec: 0,
                    tv_nsec: rustix::fs::UTIME_OMIT,
                },
                last_modification: time,
            },
        )
        .map_err(failed)?;
        self.touched.borrow_mut().insert(path.to_owned());
        Ok(())
    }

    /// Removes a tree of directories that holds nothing else; fails where it does.
    pub(crate) fn remove_empty_tree(&self, path: &Path) -> Result<()> {
        let mut order = vec![path.to_owned()];
        let mut next = 0;
        while let Some(directory) = order.get(next).cloned() {
            next += 1;
            for name in self.names(&directory)? {
                order.push(directory.join(name));
            }
        }
        for directory in order.iter().rev() {
            let done = self.parent(directory).and_then(|(parent, name)| {
                rustix::fs::unlinkat(&*parent, name, AtFlags::REMOVEDIR)
            });
            match done {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(self.failed("remove the empty directory", directory, e)),
            }
        }
        self.forget(path);
        self.touch(path);
        Ok(())
    }

    /// Writes a file directly in this directory, whole or not at all; durable once this returns.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let failed =
            |e: std::io::Error| Error::io(format!("write {}", self.show(Path::new(name))), e);
        let temporary = format!("{name}.new");
        let fd = rustix::fs::openat(
            &self.fd,
            temporary.as_str(),
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        )
        .map_err(|e| failed(e.into()))?;
        let mut file = std::fs::File::from(fd);
        if let Err(e) = file.write_all(bytes).and_then(|()| file.sync_all()) {
            // On a full disk the half that was written must not make things worse.
            let _ = rustix::fs::unlinkat(&self.fd, temporary.as_str(), AtFlags::empty());
            return Err(failed(e));
        }
        rustix::fs::renameat(&self.fd, temporary.as_str(), &self.fd, name)
            .map_err(|e| failed(e.into()))?;
        rustix::fs::fsync(&self.fd).map_err(|e| failed(e.into()))
    }

    /// Makes all that was changed through this value durable.
    pub(crate) fn sync(&self) -> Result<()> {
        let touched = std::mem::take(&mut *self.touched.borrow_mut());
        for directory in &touched {
            match self.walk(directory).and_then(rustix::fs::fsync) {
                // Moved away since with all that it holds.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(self.failed("make durable", directory, e)),
            }
        }
        rustix::fs::fsync(&self.fd).map_err(|e| self.failed("make durable", Path::new(""), e))
    }
}
