//! What changes a place.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::{ACCESS, Acl, DEFAULT, Dir, EntryMeta};
use crate::model::{Error, Result};
use crate::sys::open_beneath;

impl Dir {
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

    /// Deletes a name directly in this directory with all below it; nothing where there is none.
    pub(crate) fn remove_tree(&self, name: &str) -> Result<()> {
        let deleted = crate::sys::remove_tree(self.fd.as_fd(), OsStr::new(name));
        deleted.map_err(|e| {
            let failed = self.failed("delete", Path::new(name), e);
            // Else root may delete everything.
            let fixed = match e {
                Errno::PERM => crate::sys::fixed_in(self.fd.as_fd(), OsStr::new(name)),
                _ => None,
            };
            match fixed {
                Some(path) => {
                    let path = self.show(&path);
                    failed.hint(format!(
                        "{path} is immutable or append-only: `chattr -i -a {path}` lets it be deleted; then do the same again"
                    ))
                }
                None => failed,
            }
        })?;
        self.forget(Path::new(name));
        self.touch(Path::new(name));
        Ok(())
    }

    /// Renames an entry directly in this directory to a name that is free.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to)
            .map_err(|e| self.failed("rename", Path::new(from), e))?;
        self.forget(Path::new(from));
        Ok(())
    }

    /// Gives an entry directly in this directory another name; what has that gets the first one.
    pub(crate) fn exchange(&self, from: &OsStr, to: &str) -> Result<()> {
        let rename = |flags| rustix::fs::renameat_with(&self.fd, from, &self.fd, to, flags);
        match rename(RenameFlags::EXCHANGE) {
            Err(Errno::NOENT) => match rename(RenameFlags::NOREPLACE) {
                // Things move while we look: whoever asked looks again.
                Ok(()) | Err(Errno::NOENT | Errno::EXIST) => Ok(()),
                Err(e) => Err(e),
            },
            done => done,
        }
        .map_err(|e| self.failed("rename", Path::new(from), e))?;
        self.forget(Path::new(from));
        self.forget(Path::new(to));
        Ok(())
    }

    /// Writes a file directly in this directory where there is none, for our eyes alone; durable
    /// once this returns.
    pub(crate) fn write_new(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = format!("{name}.{}", std::process::id());
        self.write(&temporary, bytes)?;
        let linked = rustix::fs::linkat(
            &self.fd,
            temporary.as_str(),
            &self.fd,
            name,
            AtFlags::empty(),
        );
        let _ = rustix::fs::unlinkat(&self.fd, temporary.as_str(), AtFlags::empty());
        match linked {
            Ok(()) | Err(Errno::EXIST) => {
                rustix::fs::fsync(&self.fd).map_err(|e| self.failed("write", Path::new(name), e))
            }
            Err(e) => Err(self.failed("write", Path::new(name), e)),
        }
    }

    /// Makes a new and empty directory directly in this one, for us alone, in place of whatever
    /// has the name: what is returned is what was made.
    pub(crate) fn make_new(&self, name: &str) -> Result<Self> {
        let failed = |e| self.failed("make the directory", Path::new(name), e);
        let mut last = Errno::EXIST;
        for _ in 0..16 {
            self.remove_tree(name)?;
            match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(e) => return Err(failed(e)),
            }
            let made = match self.walk(Path::new(name)) {
                Ok(made) => made,
                // Somebody was quicker: once more.
                Err(e @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => {
                    last = e;
                    continue;
                }
                Err(e) => return Err(failed(e)),
            };
            let own = rustix::process::geteuid().as_raw();
            if rustix::fs::fstat(&made).map_err(failed)?.st_uid != own {
                last = Errno::EXIST;
                continue;
            }
            // The permissions of a default ACL would be those of others.
            for attribute in [ACCESS, DEFAULT] {
                let _ = rustix::fs::fremovexattr(&made, attribute);
            }
            rustix::fs::fchmod(&made, Mode::RWXU).map_err(failed)?;
            let made = Self::of(made, self.path.join(name));
            if made.names(Path::new(""))?.is_empty() {
                self.touch(Path::new(name));
                return Ok(made);
            }
        }
        Err(failed(last).hint(
            "something else takes the name again and again: stop whoever works in that directory",
        ))
    }

    /// Gives the directory itself an owner and a mode; nothing where it has both.
    pub(crate) fn belong_to(&self, uid: u32, gid: u32, mode: u32) -> Result<()> {
        let failed = |e| self.failed("set owner and mode of", Path::new(""), e);
        let now = rustix::fs::fstat(&self.fd).map_err(failed)?;
        if (now.st_uid, now.st_gid) != (uid, gid) {
            rustix::fs::fchown(&self.fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(failed)?;
        }
        if now.st_mode & 0o7777 != mode {
            rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode)).map_err(failed)?;
        }
        Ok(())
    }

    /// Takes the directory back from whoever it was given to: for us alone.
    pub(crate) fn take(&self) -> Result<()> {
        let own = rustix::process::geteuid();
        let group = rustix::process::getegid();
        self.belong_to(own.as_raw(), group.as_raw(), 0o700)
    }

    /// Makes a file directly in this directory, where there must be none, for us alone.
    pub(crate) fn create(&self, name: &str) -> Result<std::fs::File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|e| self.failed("write", Path::new(name), e))?;
        Ok(fd.into())
    }

    /// Makes a file with a content, a mode and an owner, in place of what has the name.
    pub(crate) fn put(
        &self,
        name: &str,
        content: &[u8],
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> Result<()> {
        let failed =
            |e: std::io::Error| Error::io(format!("write {}", self.show(Path::new(name))), e);
        self.unlink(Path::new(name))?;
        let mut file = self.create(name)?;
        file.write_all(content).map_err(failed)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(|e| failed(e.into()))?;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).map_err(failed)?;
        }
        Ok(())
    }

    /// Gives a file or directory directly in this one an owner and a mode. A file must have no
    /// other name than the `names` that are known of.
    pub(crate) fn give(
        &self,
        name: &str,
        owner: Option<(u32, u32)>,
        mode: u32,
        names: u64,
    ) -> Result<()> {
        let failed = |e| self.failed("give an owner to", Path::new(name), e);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let fd = open_beneath(self.fd.as_fd(), Path::new(name), flags).map_err(failed)?;
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        let known = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => true,
            FileType::RegularFile => stat.st_nlink == names,
            _ => false,
        };
        if !known {
            return Err(super::super::not_ours(self, name));
        }
        if let Some((uid, gid)) = owner {
            rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(failed)?;
        }
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(failed)
    }

    /// Gives this directory and every file and directory below it an owner; modes stay. What is neither
    /// stays whose it is.
    pub(crate) fn give_all(&self, owner: (u32, u32)) -> Result<()> {
        let failed = |e| self.failed("give an owner to", Path::new(""), e);
        let mut pending = vec![self.again()?];
        // How many names each has, and how many of them were found.
        let mut files: HashMap<u64, (u64, u64, OwnedFd)> = HashMap::new();
        while let Some(dir) = pending.pop() {
            rustix::fs::fchown(
                &dir.fd,
                Some(Uid::from_raw(owner.0)),
                Some(Gid::from_raw(owner.1)),
            )
            .map_err(failed)?;
            for name in dir.names(Path::new(""))? {
                let Some(name) = name.to_str() else { continue };
                let Some(entry) = dir.entry(Path::new(name))? else {
                    continue;
                };
                if entry.directory {
                    pending.extend(dir.there(name)?);
                } else if entry.regular {
                    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
                    let fd =
                        open_beneath(dir.fd.as_fd(), Path::new(name), flags).map_err(failed)?;
                    let stat = rustix::fs::fstat(&fd).map_err(failed)?;
                    let known = files.entry(stat.st_ino).or_insert((stat.st_nlink, 0, fd));
                    known.1 += 1;
                }
            }
        }
        // One with a name elsewhere is somebody else's.
        if files.values().any(|(names, found, _)| names != found) {
            return Err(super::super::not_ours(self, ""));
        }
        for (_, _, fd) in files.values() {
            rustix::fs::fchown(
                fd,
                Some(Uid::from_raw(owner.0)),
                Some(Gid::from_raw(owner.1)),
            )
            .map_err(failed)?;
        }
        Ok(())
    }

    /// Moves an entry directly in this directory to a name that is free in another one.
    pub(crate) fn rename_to(&self, from: &str, to: &Self, name: &str) -> Result<()> {
        rustix::fs::renameat(&self.fd, from, &to.fd, name)
            .map_err(|e| self.failed("move", Path::new(from), e))
    }

    /// Gives the file `name` a second name in another directory, by a link; where there are none by
    /// a copy if it `must_stay`, and else by moving it. Returns how many names it has then.
    pub(crate) fn link_or_move(
        &self,
        name: &str,
        to: &Self,
        new: &str,
        must_stay: bool,
    ) -> Result<u64> {
        let failed = |e: std::io::Error| Error::io(format!("make {}", to.show(Path::new(new))), e);
        match rustix::fs::linkat(&self.fd, name, &to.fd, new, AtFlags::empty()) {
            Ok(()) => Ok(2),
            Err(e @ (Errno::NOENT | Errno::NOSPC)) => Err(failed(e.into())),
            Err(_) if must_stay => {
                let mut source =
                    crate::sys::open_file(self.fd.as_fd(), Path::new(name)).map_err(failed)?;
                let mut target = to.create(new)?;
                std::io::copy(&mut source, &mut target).map_err(failed)?;
                Ok(1)
            }
            Err(_) => {
                rustix::fs::renameat(&self.fd, name, &to.fd, new).map_err(|e| failed(e.into()))?;
                Ok(1)
            }
        }
    }

    /// Makes a symbolic link directly in this directory.
    pub(crate) fn symlink(&self, name: &str, target: &Path) -> Result<()> {
        rustix::fs::symlinkat(target, &self.fd, name)
            .map_err(|e| self.failed("link", Path::new(name), e))
    }

    /// A file directly in this directory to be added to, made where there is none.
    pub(crate) fn append(&self, name: &str) -> Result<std::fs::File> {
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|e| self.failed("write", Path::new(name), e))?;
        Ok(fd.into())
    }

    /// Lets others pass through the directory, where they can list and change nothing.
    pub(crate) fn open_for_passing(&self) -> Result<()> {
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(0o711))
            .map_err(|e| self.failed("set the mode of", Path::new(""), e))
    }

    /// Makes all of its file system durable.
    pub(crate) fn sync_all(&self) -> Result<()> {
        rustix::fs::syncfs(&self.fd).map_err(|e| self.failed("make durable", Path::new(""), e))
    }

    /// A file directly in this directory to be locked, made where there is none, for us alone.
    pub(crate) fn lock_file(&self, name: &str) -> Result<std::fs::File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|e| self.failed("open the lock", Path::new(name), e))?;
        Ok(fd.into())
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

    /// Gives a directory owner, mode and time, and where they are given its access control lists.
    pub(crate) fn set_meta(&self, path: &Path, meta: &EntryMeta, acl: Option<&Acl>) -> Result<()> {
        let failed = |e| self.failed("set owner and mode of", path, e);
        let fd = self.walk(path).map_err(failed)?;
        // While there is a list, a mode says something else.
        if let Some(acl) = acl {
            for (name, list) in [(ACCESS, &acl.access), (DEFAULT, &acl.default)] {
                match list {
                    Some(_) => {}
                    None => match rustix::fs::fremovexattr(&fd, name) {
                        Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
                        Err(e) => return Err(failed(e)),
                    },
                }
            }
        }
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
        if let Some(acl) = acl {
            for (name, list) in [(ACCESS, &acl.access), (DEFAULT, &acl.default)] {
                if let Some(list) = list {
                    rustix::fs::fsetxattr(&fd, name, list, XattrFlags::empty()).map_err(failed)?;
                }
            }
        }
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
        super::locked(&self.touched).insert(path.to_owned());
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
        // What a killed process left; and never what somebody else has opened.
        let _ = rustix::fs::unlinkat(&self.fd, temporary.as_str(), AtFlags::empty());
        let fd = rustix::fs::openat(
            &self.fd,
            temporary.as_str(),
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
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
        let touched = std::mem::take(&mut *super::locked(&self.touched));
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
