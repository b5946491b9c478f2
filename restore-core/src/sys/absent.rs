//! Directories that are absent: made by held descriptors beneath a directory that nobody else can
//! write, all at once by one rename, and removed again by what was noted of them.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::birth::Birth;
use super::{open_above, open_above_of, remove_tree};
use crate::model::{Error, ErrorKind, Result};

/// What a directory is given of which nothing else is known: its owner may write, all may look.
const OPEN: u32 = 0o755;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// To look at a directory, as whoever may not read it can.
const LOOK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory of this host that is not there, and could be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentDirectory {
    path: PathBuf,
    follow: bool,
    user: Option<u32>,
}

/// What is missing of the way to a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The directory that is there.
    pub(crate) above: PathBuf,
    /// What would be made below it, the topmost first.
    pub(crate) paths: Vec<PathBuf>,
}

/// Directories that were made, as a journal keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MadeDirectories {
    /// The directory that was there, and its inode.
    above: PathBuf,
    above_inode: u64,
    /// When that was made. Earlier versions did not keep that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    above_born: Option<Birth>,
    /// What was made, the topmost first.
    made: Vec<MadeDirectory>,
    /// Its name until all of it was.
    temporary: String,
    /// See [`AbsentDirectory::followed`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    follow: bool,
    /// See [`AbsentDirectory::within`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MadeDirectory {
    path: PathBuf,
    inode: u64,
    /// When it was made. Earlier versions did not keep that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<Birth>,
}

/// What a directory is, whatever its name.
#[derive(Clone, Copy, Debug)]
struct Identity {
    /// The number of its file system, which is good until that is mounted anew.
    device: u64,
    inode: u64,
    born: Option<Birth>,
}

impl Identity {
    fn of(directory: &OwnedFd) -> rustix::io::Result<Self> {
        let stat = rustix::fs::fstat(directory)?;
        Ok(Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            born: Birth::of(directory)?,
        })
    }

    /// Whether it is the one that was noted so. Of one that was not noted wholly the number tells.
    fn is(&self, inode: u64, born: Option<Birth>) -> bool {
        self.inode == inode && born.is_none_or(|born| self.born == Some(born))
    }
}

/// Directories that are made and have not got their name yet.
pub(crate) struct Prepared {
    above: OwnedFd,
    name: OsString,
    /// What they will be.
    pub(crate) made: MadeDirectories,
}

/// Why a directory that was made is not removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stays {
    /// Something is in it by now.
    Used(PathBuf),
    /// Its name is another's by now.
    Foreign(PathBuf),
}

impl AbsentDirectory {
    /// The directory at `path`. Whether it is there is looked at when it is made.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            follow: false,
            user: None,
        }
    }

    /// This directory, whoever could lead its path elsewhere, and where it leads now.
    #[must_use]
    pub fn followed(self, follow: bool) -> Self {
        Self { follow, ..self }
    }

    /// This directory, below directories of `user`, whose own it will be: that user can lead its path among its
    /// own directories only, as no link is followed there.
    #[must_use]
    pub(crate) fn within(self, user: Option<u32>) -> Self {
        Self { user, ..self }
    }

    /// Where it would be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is missing; `None` where something has the path's name. Changes nothing.
    ///
    /// # Errors
    ///
    /// `path.untrusted` and `path.link` as [`open_above`] has them, and what the system says.
    pub(crate) fn missing(&self) -> Result<Option<Missing>> {
        Ok(self.look()?.map(|(_, missing)| missing))
    }

    /// Deletes what an attempt that was broken off left under `temporary`.
    pub(crate) fn forget(&self, temporary: &str) -> Result<()> {
        let Some((above, _)) = self.look()? else {
            return Ok(());
        };
        remove_tree(above.as_fd(), OsStr::new(temporary)).map_err(|error| {
            Error::io(
                format!("remove {temporary} beside {}", self.path.display()),
                error.into(),
            )
        })
    }

    /// What is missing, with the directory above it that is there.
    fn look(&self) -> Result<Option<(OwnedFd, Missing)>> {
        let path = std::path::absolute(&self.path)
            .map_err(|error| Error::io(format!("look at {}", self.path.display()), error))?;
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(Error::new(
                ErrorKind::Preflight,
                "path.up",
                format!("{} is not made: its path leads up again", path.display()),
            )
            .hint("write it in the configuration without `..`"));
        }
        let mut paths = Vec::new();
        let mut at = path.as_path();
        loop {
            let found = match open(at, self.follow, self.user)? {
                Ok((above, name)) => {
                    match rustix::fs::statat(&above, &name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(_) if paths.is_empty() => return Ok(None),
                        // On the way it leads nowhere: to be made below it, it must be mended first.
                        Ok(_) => Err(Errno::NOTDIR),
                        Err(Errno::NOENT) => Ok(Some(above)),
                        Err(error) => Err(error),
                    }
                }
                Err(Errno::NOENT) => Ok(None),
                Err(error) => Err(error),
            };
            let found = found
                .map_err(|error| Error::io(format!("look at {}", at.display()), error.into()))?;
            paths.insert(0, at.to_owned());
            let parent = at.parent().unwrap_or(Path::new("/"));
            if let Some(above) = found {
                let above_path = parent.to_owned();
                return Ok(Some((
                    above,
                    Missing {
                        above: above_path,
                        paths,
                    },
                )));
            }
            at = parent;
        }
    }

    /// Makes what is missing under a name of our own beside its place: with the owner of the
    /// directory that is there and open to look at, the last one with `owner` where that is given.
    /// `None` where the path's name is taken by now. What an earlier attempt left under `temporary` is
    /// replaced.
    pub(crate) fn prepare(
        &self,
        temporary: &str,
        owner: Option<(u32, u32)>,
    ) -> Result<Option<Prepared>> {
        let Some((above, missing)) = self.look()? else {
            return Ok(None);
        };
        let failed = |error: Errno| {
            Error::io(
                format!("make the directory {}", self.path.display()),
                error.into(),
            )
        };
        remove_tree(above.as_fd(), OsStr::new(temporary)).map_err(failed)?;
        let there = rustix::fs::fstat(&above).map_err(failed)?;
        let above_born = Birth::of(&above).map_err(failed)?;
        let inherited = (there.st_uid, there.st_gid);
        let mut opened: Vec<OwnedFd> = Vec::new();
        let mut made = Vec::new();
        for path in &missing.paths {
            let name = match opened.len() {
                0 => OsStr::new(temporary),
                _ => path.file_name().unwrap_or_default(),
            };
            let into = opened.last().unwrap_or(&above);
            rustix::fs::mkdirat(into, name, Mode::RWXU).map_err(failed)?;
            let fd = rustix::fs::openat(into, name, DIRECTORY, Mode::empty()).map_err(failed)?;
            let stat = rustix::fs::fstat(&fd).map_err(failed)?;
            if !is_new(&fd, &stat).map_err(failed)? {
                return Err(failed(Errno::EXIST));
            }
            made.push(MadeDirectory {
                path: path.clone(),
                inode: stat.st_ino,
                born: Birth::of(&fd).map_err(failed)?,
            });
            opened.push(fd);
        }
        let last = opened.len().saturating_sub(1);
        for (at, fd) in opened.iter().enumerate().rev() {
            let (uid, gid) = owner.filter(|_| at == last).unwrap_or(inherited);
            let given = rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            if rustix::process::geteuid().is_root() {
                given.map_err(failed)?;
            }
            rustix::fs::fchmod(fd, Mode::from_raw_mode(OPEN)).map_err(failed)?;
            rustix::fs::fsync(fd).map_err(failed)?;
        }
        let name = missing.paths.first().and_then(|path| path.file_name());
        Ok(Some(Prepared {
            above,
            name: name.unwrap_or_default().to_owned(),
            made: MadeDirectories {
                above: missing.above,
                above_inode: there.st_ino,
                above_born,
                made,
                temporary: temporary.to_owned(),
                follow: self.follow,
                user: self.user,
            },
        }))
    }
}

/// Whether an open directory can be the one that was just made: ours, and empty. Whoever owns the directory above
/// could have put another one of root's in its place, to be given away.
pub(crate) fn is_new(directory: &OwnedFd, stat: &Stat) -> rustix::io::Result<bool> {
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    for entry in Dir::read_from(directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

impl MadeDirectories {
    /// All of them, the topmost first.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.made.iter().map(|directory| &directory.path)
    }

    /// Those that are still there.
    pub(crate) fn left(&self) -> Result<Vec<PathBuf>> {
        let mut left = Vec::new();
        for directory in &self.made {
            if self.is_at_its_path(directory)? {
                left.push(directory.path.clone());
            }
        }
        Ok(left)
    }

    /// Where the last of them is.
    pub(crate) fn path(&self) -> &Path {
        self.made.last().map_or(&self.above, |last| &last.path)
    }

    /// Whether what was made is still what the path leads to.
    pub(crate) fn is_there(&self) -> Result<bool> {
        match self.made.last() {
            Some(last) => self.is_at_its_path(last),
            None => Ok(false),
        }
    }

    fn is_at_its_path(&self, directory: &MadeDirectory) -> Result<bool> {
        let there = self.identity_of(&directory.path)?;
        Ok(there.is_some_and(|there| there.is(directory.inode, directory.born)))
    }

    /// Whether the directory in which it was made is the one that was there then, with nothing
    /// mounted over what was made in it: one that is not mounted now hides what was made in it, and
    /// so does another one that is.
    pub(crate) fn is_reachable(&self) -> Result<bool> {
        let Some(above) = self.identity_of(&self.above)? else {
            return Ok(false);
        };
        if !above.is(self.above_inode, self.above_born) {
            return Ok(false);
        }
        for made in &self.made {
            match self.identity_of(&made.path)? {
                Some(there) if there.device != above.device => return Ok(false),
                Some(there) if there.is(made.inode, made.born) => {}
                // Another's by now, or gone: so is what was made below it.
                _ => break,
            }
        }
        Ok(true)
    }

    /// What the directory at `path` is; `None` where there is none.
    fn identity_of(&self, path: &Path) -> Result<Option<Identity>> {
        let flags = match self.follow {
            true => LOOK,
            false => LOOK.union(OFlags::NOFOLLOW),
        };
        let opened = match path.parent() {
            None => rustix::fs::open(path, flags, Mode::empty()),
            Some(_) => open(path, self.follow, self.user)?
                .and_then(|(above, name)| rustix::fs::openat(above, name, flags, Mode::empty())),
        };
        match opened.and_then(|opened| Identity::of(&opened)) {
            Ok(there) => Ok(Some(there)),
            // A link that is not followed is no directory either.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(Error::io(
                format!("look at {}", path.display()),
                error.into(),
            )),
        }
    }

    /// Removes what was made, the deepest first, as far as it is empty and still what was made; what
    /// stays, and why. What is gone already is no matter.
    pub(crate) fn remove(&self) -> Result<Option<Stays>> {
        self.forget()?;
        for directory in self.made.iter().rev() {
            let path = &directory.path;
            let failed =
                |error: Errno| Error::io(format!("remove {}", path.display()), error.into());
            let (above, name) = match open(path, self.follow, self.user)? {
                Ok(found) => found,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            };
            match rustix::fs::statat(&above, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if is_directory(stat.st_mode) && stat.st_ino == directory.inode => {}
                Ok(_) => return Ok(Some(Stays::Foreign(path.clone()))),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            }
            // The same number may be another's by now.
            let flags = LOOK.union(OFlags::NOFOLLOW);
            match rustix::fs::openat(&above, &name, flags, Mode::empty())
                .and_then(|opened| Identity::of(&opened))
            {
                Ok(there) if there.is(directory.inode, directory.born) => {}
                Ok(_) => return Ok(Some(Stays::Foreign(path.clone()))),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            }
            match rustix::fs::unlinkat(&above, &name, AtFlags::REMOVEDIR) {
                Ok(()) => sync(&above).map_err(failed)?,
                Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => {
                    return Ok(Some(Stays::Used(path.clone())));
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(None)
    }

    /// Deletes what was prepared and did not get its name.
    fn forget(&self) -> Result<()> {
        let place = self.above.join(&self.temporary);
        match open(&place, self.follow, self.user)? {
            Ok((above, name)) => remove_tree(above.as_fd(), &name)
                .map_err(|error| Error::io(format!("remove {}", place.display()), error.into())),
            // Where the directory above is gone, so is that.
            Err(_) => Ok(()),
        }
    }
}

impl Prepared {
    /// Gives them their name, durably.
    ///
    /// # Errors
    ///
    /// `path.taken` where something has got it meanwhile; what is there stays as it is.
    pub(crate) fn put_in_place(self) -> Result<()> {
        let (above, from, to) = (&self.above, OsStr::new(&self.made.temporary), &self.name);
        let place = self.made.above.join(to);
        let done = match rustix::fs::renameat_with(above, from, above, to, RenameFlags::NOREPLACE) {
            // NFS and others do not know the flag; nobody else can write here.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                match rustix::fs::statat(above, to, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => rustix::fs::renameat(above, from, above, to),
                    Ok(_) => Err(Errno::EXIST),
                    Err(error) => Err(error),
                }
            }
            done => done,
        };
        match done.and_then(|()| sync(above)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST | Errno::NOTEMPTY) => {
                let _ = remove_tree(above.as_fd(), from);
                Err(Error::new(
                    ErrorKind::Failed,
                    "path.taken",
                    format!(
                        "{} was absent, and somebody else has made it meanwhile",
                        place.display()
                    ),
                )
                .hint("it is left as it is: plan again"))
            }
            Err(error) => Err(Error::io(
                format!("make the directory {}", place.display()),
                error.into(),
            )),
        }
    }
}

/// The directory above a path, and its name there.
fn open(
    path: &Path,
    follow: bool,
    user: Option<u32>,
) -> Result<rustix::io::Result<(OwnedFd, OsString)>> {
    match follow {
        true => open_above(path, true),
        false => open_above_of(path, user),
    }
}

fn is_directory(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

/// Makes the names in a directory durable; one that is open for looking only is opened anew.
fn sync(directory: &OwnedFd) -> rustix::io::Result<()> {
    let opened = rustix::fs::openat(directory, ".", DIRECTORY, Mode::empty())?;
    rustix::fs::fsync(&opened)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn made(at: &AbsentDirectory) -> MadeDirectories {
        let prepared = at.prepare(".new", None).unwrap().unwrap();
        let made = prepared.made.clone();
        prepared.put_in_place().unwrap();
        made
    }

    #[test]
    fn all_of_the_way_is_made_and_removed_again() {
        let top = tempfile::tempdir().unwrap();
        let at = AbsentDirectory::new(top.path().join("a/b/c"));
        let missing = at.missing().unwrap().unwrap();
        assert_eq!(missing.above, top.path());
        assert_eq!(missing.paths.len(), 3);
        assert_eq!(missing.paths[2], at.path());
        let made = made(&at);
        assert!(made.is_there().unwrap() && made.is_reachable().unwrap());
        assert_eq!(at.missing().unwrap(), None);
        assert!(at.prepare(".new", None).unwrap().is_none());
        let meta = std::fs::metadata(at.path()).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o755);
        assert_eq!(made.remove().unwrap(), None);
        assert_eq!(made.remove().unwrap(), None);
        assert!(!top.path().join("a").exists());
    }

    #[test]
    fn only_an_empty_directory_of_ours_was_just_made() {
        let top = tempfile::tempdir().unwrap();
        let is_new = |path: &Path| {
            let held = rustix::fs::open(path, DIRECTORY, Mode::empty()).unwrap();
            let stat = rustix::fs::fstat(&held).unwrap();
            super::is_new(&held, &stat).unwrap()
        };
        assert!(is_new(top.path()));
        std::fs::write(top.path().join("file"), "x").unwrap();
        assert!(!is_new(top.path()));
        let theirs = top.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        assert!(is_new(&theirs));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&theirs, Some(65_533), Some(65_533)).unwrap();
            assert!(!is_new(&theirs));
        }
    }

    #[test]
    fn what_somebody_else_has_put_there_stays() {
        let top = tempfile::tempdir().unwrap();
        let at = AbsentDirectory::new(top.path().join("a/b"));
        let made = made(&at);
        std::fs::write(top.path().join("a/theirs"), "x").unwrap();
        // Before ours is removed: a file system gives its number to the next one.
        std::fs::create_dir(top.path().join("other")).unwrap();
        let stays = made.remove().unwrap();
        assert_eq!(stays, Some(Stays::Used(top.path().join("a"))));
        assert!(!at.path().exists());
        std::fs::rename(top.path().join("other"), at.path()).unwrap();
        let stays = made.remove().unwrap();
        assert_eq!(stays, Some(Stays::Foreign(at.path().to_owned())));
        assert!(at.path().exists());
    }

    #[test]
    fn a_directory_of_the_same_number_that_was_made_at_another_time_is_another() {
        let top = tempfile::tempdir().unwrap();
        let at = AbsentDirectory::new(top.path().join("a"));
        let made = made(&at);
        let mut other = made.clone();
        // Not every file system keeps when a directory was made.
        if let Some(born) = &mut other.made[0].born {
            born.nanoseconds ^= 1;
            assert!(!other.is_there().unwrap());
            assert!(other.left().unwrap().is_empty());
            let stays = other.remove().unwrap();
            assert_eq!(stays, Some(Stays::Foreign(at.path().to_owned())));
        }
        let mut moved = made.clone();
        if let Some(born) = &mut moved.above_born {
            born.nanoseconds ^= 1;
            assert!(!moved.is_reachable().unwrap());
        }
        // As earlier versions noted it.
        let mut old = serde_json::to_value(&made).unwrap();
        let top_level = old.as_object_mut().unwrap();
        top_level.remove("above_born");
        top_level["made"][0].as_object_mut().unwrap().remove("born");
        let old: MadeDirectories = serde_json::from_value(old).unwrap();
        assert!(old.is_there().unwrap() && old.is_reachable().unwrap());
        assert_eq!(old.remove().unwrap(), None);
    }

    #[test]
    fn what_was_never_named_is_removed() {
        let top = tempfile::tempdir().unwrap();
        let at = AbsentDirectory::new(top.path().join("a/b"));
        let prepared = at.prepare(".new", None).unwrap().unwrap();
        let made = prepared.made.clone();
        drop(prepared);
        assert!(top.path().join(".new").exists() && !at.path().exists());
        assert!(!made.is_there().unwrap());
        assert_eq!(made.remove().unwrap(), None);
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
    }

    #[test]
    fn nobody_else_leads_it_elsewhere_and_nothing_is_replaced() {
        let top = tempfile::tempdir().unwrap();
        let code = |path: &str| match AbsentDirectory::new(top.path().join(path)).missing() {
            Ok(Some(_)) => "absent".to_owned(),
            Ok(None) => "there".to_owned(),
            Err(error) => error.code().to_owned(),
        };
        std::fs::write(top.path().join("file"), "x").unwrap();
        symlink("nowhere", top.path().join("link")).unwrap();
        assert_eq!(code("file"), "there");
        assert_ne!(code("file/a"), "absent");
        assert_ne!(code("link/a"), "absent");
        assert_eq!(code("a/../b"), "path.up");
        std::fs::create_dir(top.path().join("open")).unwrap();
        let open = PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(top.path().join("open"), open).unwrap();
        assert_eq!(code("open/a/b"), "path.untrusted");
        // Taken at the last moment.
        let at = AbsentDirectory::new(top.path().join("a"));
        let prepared = at.prepare(".new", None).unwrap().unwrap();
        std::fs::create_dir(at.path()).unwrap();
        let error = prepared.put_in_place().unwrap_err();
        assert_eq!(error.code(), "path.taken");
        assert!(!top.path().join(".new").exists());
    }
}
