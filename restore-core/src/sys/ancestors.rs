//! The way to a directory: whether somebody else could lead it elsewhere.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::beneath::{no_link, open_beneath_across, open_regular};
use crate::model::{Error, ErrorKind, Result};

const WAY: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// As many symbolic links as the kernel follows.
const LINKS: u32 = 40;

/// Why a directory was not opened.
enum Refused {
    System(Errno),
    /// Who could lead the way elsewhere, and where.
    Stranger(PathBuf, String),
    /// The last name is a symbolic link.
    Link(PathBuf),
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

/// Opens the existing directory `path`. Each directory above it must belong to root or to us and
/// be writable by nobody else (a sticky one like `/tmp` is fine where what comes next is root's or
/// ours); links on the way must be root's or ours as well, and the directory itself must be none.
/// With `follow` none of that is asked.
///
/// The outer error is one for people, the inner one the system's.
///
/// # Errors
///
/// `Preflight` with `path.untrusted` or `path.link`.
pub(crate) fn open_directory(path: &Path, follow: bool) -> Result<rustix::io::Result<OwnedFd>> {
    if follow {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        return Ok(rustix::fs::open(path, flags, Mode::empty()));
    }
    open_directory_of(path, None)
}

/// As [`open_directory`], where directories on the way may also belong to `user`, whose own the directory is. Below the
/// first of these no link is followed: that user could lead the way among its own directories, and to
/// none of anybody else's.
pub(crate) fn open_directory_of(
    path: &Path,
    user: Option<u32>,
) -> Result<rustix::io::Result<OwnedFd>> {
    match walk(path, user) {
        Ok((above, Some(name))) => Ok(rustix::fs::openat(&above, &name, DIRECTORY, Mode::empty())),
        Ok((above, None)) => Ok(rustix::fs::openat(&above, ".", DIRECTORY, Mode::empty())),
        Err(Refused::System(error)) => Ok(Err(error)),
        Err(refused) => Err(refused.told(path)),
    }
}

/// Opens the directory above `path`, and says which name in it `path` has, for whoever is to make or
/// remove that name: the same is asked of the way. The directory is open for looking only.
///
/// The outer error is one for people, the inner one the system's.
pub(crate) fn open_above(
    path: &Path,
    follow: bool,
) -> Result<rustix::io::Result<(OwnedFd, OsString)>> {
    if follow {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(Err(Errno::INVAL));
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(above, flags, Mode::empty());
        return Ok(opened.map(|above| (above, name.to_owned())));
    }
    open_above_of(path, None)
}

/// As [`open_above`], where directories on the way may also belong to `user`: see [`open_directory_of`].
pub(crate) fn open_above_of(
    path: &Path,
    user: Option<u32>,
) -> Result<rustix::io::Result<(OwnedFd, OsString)>> {
    match walk(path, user) {
        Ok((above, Some(name))) => Ok(Ok((above, name))),
        Ok((_, None)) => Ok(Err(Errno::INVAL)),
        Err(Refused::System(error)) => Ok(Err(error)),
        Err(refused) => Err(refused.told(path)),
    }
}

/// Refuses where somebody else could lead the way to `path` elsewhere, as
/// [`open_directory`] does; what is missing is not its matter.
pub(crate) fn check_ancestors(path: &Path, follow: bool) -> Result<()> {
    if follow {
        return Ok(());
    }
    match walk(path, None) {
        Ok(_) | Err(Refused::System(_)) => Ok(()),
        Err(refused) => Err(refused.told(path)),
    }
}

/// As [`check_ancestors`], for a file that root reads and replaces by its name. A link of ours in a directory of
/// ours may stand for it: what it leads to is asked the same. What is returned has that file's
/// own name.
pub(crate) fn check_file(path: &Path, follow: bool) -> Result<PathBuf> {
    let real = || std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if follow {
        return Ok(real());
    }
    match walk(path, None) {
        Ok(_) | Err(Refused::System(_)) => Ok(path.to_owned()),
        // It lies where nobody else can make one, or put another in its place.
        Err(Refused::Link(_)) => {
            let real = real();
            check_ancestors(&real, false)?;
            Ok(real)
        }
        Err(refused) => Err(refused.told(path)),
    }
}

/// Opens what is at `path`. A symbolic link is followed where only root and we can have made it; from
/// the first directory on in which somebody else makes names, none is. The second value says whether
/// there is such a directory on the way, and what was opened may so be anything.
pub(crate) fn open_by_our_links(path: &Path, flags: OFlags) -> rustix::io::Result<(OwnedFd, bool)> {
    let led = Led::along(path)?;
    let opened = open_beneath_across(led.at.as_fd(), &led.rest, flags)?;
    Ok((opened, led.theirs))
}

/// Opens the regular file at `path` for reading, which may lie in a folder of somebody else's: links
/// are followed as [`open_by_our_links`] does, and there a file with a further name is refused, as that
/// may be one of root's.
pub(crate) fn open_theirs(path: &Path) -> std::io::Result<File> {
    let led = Led::along(path)?;
    let open = |flags| open_beneath_across(led.at.as_fd(), &led.rest, flags);
    let file = open_regular(open).map_err(no_link)?;
    if led.theirs && file.metadata()?.nlink() > 1 {
        return Err(std::io::Error::other(
            "it has another name elsewhere (a hard link), and may be somebody else's file",
        ));
    }
    Ok(file)
}

/// How far only root and we say where a path leads.
struct Led {
    /// The directory to which it leads so far.
    at: OwnedFd,
    /// What is left of the path from there: the last name, or all from the first on that somebody else
    /// can have made.
    rest: PathBuf,
    /// Whether somebody else can have made what is left.
    theirs: bool,
}

impl Led {
    fn along(path: &Path) -> rustix::io::Result<Self> {
        let path = std::path::absolute(path)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
        // The directories that lead here: `..` of a link goes back.
        let mut way: Vec<OwnedFd> = vec![rustix::fs::open("/", WAY, Mode::empty())?];
        let mut pending: Vec<OsString> = reversed(&path);
        let mut links = 0;
        while let Some(name) = pending.pop() {
            let at = way.last().ok_or(Errno::INVAL)?;
            if name == ".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let above = rustix::fs::fstat(at)?;
            let found = match rustix::fs::statat(at, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => Some(found),
                Err(Errno::NOENT) if pending.is_empty() => None,
                Err(error) => return Err(error),
            };
            let link = found
                .as_ref()
                .is_some_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink);
            let theirs = trust(&above, found.as_ref(), Path::new(""), None).is_err()
                || (link && found.as_ref().is_some_and(|found| !ours(found.st_uid)));
            if theirs || (!link && pending.is_empty()) {
                let at = way.pop().ok_or(Errno::INVAL)?;
                let rest = std::iter::once(name)
                    .chain(pending.into_iter().rev())
                    .collect();
                return Ok(Self { at, rest, theirs });
            }
            if link {
                links += 1;
                if links > LINKS {
                    return Err(Errno::LOOP);
                }
                let target = rustix::fs::readlinkat(at, &name, Vec::new())?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    way.truncate(1);
                }
                pending.extend(reversed(&target));
                continue;
            }
            let next = rustix::fs::openat(at, &name, WAY, Mode::empty())?;
            way.push(next);
        }
        let at = way.pop().ok_or(Errno::INVAL)?;
        Ok(Self {
            at,
            rest: PathBuf::new(),
            theirs: false,
        })
    }
}

impl Refused {
    fn told(self, path: &Path) -> Error {
        let shown = path.display();
        match self {
            Self::System(error) => Error::io(format!("open {shown}"), error.into()),
            Self::Stranger(at, who) => Error::new(
                ErrorKind::Preflight,
                "path.untrusted",
                format!("{} {who}, who could lead {shown} elsewhere", at.display()),
            )
            .hint(format!(
                "give it to root and take the write permission of others away (`chown root {0}`, `chmod go-w {0}`), or write follow = true beside the path where that user is trusted like root",
                at.display()
            )),
            Self::Link(at) => Error::new(
                ErrorKind::Preflight,
                "path.link",
                format!("{} is a symbolic link, which is not followed", at.display()),
            )
            .hint(match at.exists() {
                true => "name the directory that it leads to, or write follow = true beside the path",
                false => "it leads to nothing: put back what it leads to, or delete the link; then `restore run ID --create` makes the directory",
            }),
        }
    }
}

/// The directory above the last name, and that name; `None` where the path ends in none.
fn walk(
    path: &Path,
    user: Option<u32>,
) -> std::result::Result<(OwnedFd, Option<OsString>), Refused> {
    let path = std::path::absolute(path)
        .map_err(|error| Refused::System(Errno::from_io_error(&error).unwrap_or(Errno::INVAL)))?;
    let slash = || rustix::fs::open("/", WAY, Mode::empty());
    // The directories that lead here: `..` of a link goes back.
    let mut way: Vec<OwnedFd> = vec![slash()?];
    let mut shown = vec![PathBuf::from("/")];
    let mut pending: Vec<OsString> = reversed(&path);
    let mut links = 0;
    let mut below_user = false;
    let top = path
        .components()
        .next_back()
        .map(|part| part.as_os_str().to_owned());
    while let Some(name) = pending.pop() {
        let (Some(at), Some(here)) = (way.last(), shown.last()) else {
            return Err(Errno::INVAL.into());
        };
        if name == ".." {
            if way.len() > 1 {
                way.pop();
                shown.pop();
            }
            continue;
        }
        let last = pending.is_empty();
        let above = rustix::fs::fstat(at)?;
        let there = here.join(&name);
        let found = match rustix::fs::statat(at, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Some(found),
            Err(Errno::NOENT) if last => None,
            Err(error) => return Err(error.into()),
        };
        trust(&above, found.as_ref(), here, user)?;
        below_user |= !ours(above.st_uid);
        let link = found
            .as_ref()
            .is_some_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink);
        if link {
            // Of a link to a link only the first is the target's own name.
            if last && links == 0 && top.as_ref() == Some(&name) {
                return Err(Refused::Link(there));
            }
            if below_user || found.is_some_and(|found| !ours(found.st_uid)) {
                return Err(Refused::Stranger(
                    there,
                    "is a symbolic link of another user".to_owned(),
                ));
            }
            links += 1;
            if links > LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = rustix::fs::readlinkat(at, &name, Vec::new())?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                way.truncate(1);
                shown.truncate(1);
            }
            pending.extend(reversed(&target));
            continue;
        }
        if last {
            let above = way.pop().ok_or(Errno::INVAL)?;
            return Ok((above, Some(name)));
        }
        let next = rustix::fs::openat(at, &name, WAY, Mode::empty())?;
        way.push(next);
        shown.push(there);
    }
    let at = way.pop().ok_or(Errno::INVAL)?;
    Ok((at, None))
}

fn reversed(path: &Path) -> Vec<OsString> {
    let mut parts: Vec<OsString> = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect();
    parts.reverse();
    parts
}

fn ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// Whether nobody but root, us and `user` can give another meaning to a name in the directory `above`.
fn trust(
    above: &Stat,
    found: Option<&Stat>,
    here: &Path,
    user: Option<u32>,
) -> std::result::Result<(), Refused> {
    let stranger = |who: String| Err(Refused::Stranger(here.to_owned(), who));
    if !ours(above.st_uid) && user != Some(above.st_uid) {
        return stranger(format!("belongs to the user {}", above.st_uid));
    }
    // A group of our own is nobody else: many give each user one. That of root may have others in
    // it; and what an access control list gives to others shows in the group's bits.
    let own = rustix::process::getegid().as_raw();
    let group = above.st_mode & 0o020 != 0 && (above.st_gid != own || own == 0);
    let others = above.st_mode & 0o002 != 0;
    if !group && !others {
        return Ok(());
    }
    let sticky = above.st_mode & 0o1000 != 0;
    if sticky && found.is_some_and(|found| ours(found.st_uid)) {
        return Ok(());
    }
    if others {
        return stranger("can be written by everybody".to_owned());
    }
    stranger(format!("can be written by the group {}", above.st_gid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn code(path: &Path) -> String {
        match open_directory(path, false) {
            Ok(Ok(_)) => "opened".to_owned(),
            Ok(Err(Errno::NOENT)) => "missing".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.code().to_owned(),
        }
    }

    #[test]
    fn a_way_that_somebody_else_could_bend_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let top = temporary.path();
        std::fs::create_dir_all(top.join("a/b/c")).unwrap();
        assert_eq!(code(&top.join("a/b/c")), "opened");
        assert_eq!(code(&top.join("a/b/./c/")), "opened");
        assert_eq!(code(&top.join("a/b/missing")), "missing");
        assert_eq!(code(&top.join("a/missing/c")), "missing");
        // A link of ours on the way is as good as a directory, the target itself must be none.
        symlink("a/b", top.join("link")).unwrap();
        symlink("../b/c", top.join("a/b/away")).unwrap();
        assert_eq!(code(&top.join("link/c")), "opened");
        assert_eq!(code(&top.join("link")), "path.link");
        assert_eq!(code(&top.join("a/b/away")), "path.link");
        assert!(open_directory(&top.join("link"), true).unwrap().is_ok());

        let mode = |path: &str, mode| {
            std::fs::set_permissions(top.join(path), PermissionsExt::from_mode(mode)).unwrap();
        };
        mode("a", 0o757);
        assert_eq!(code(&top.join("a/b/c")), "path.untrusted");
        assert_eq!(code(&top.join("link/c")), "path.untrusted");
        assert!(check_ancestors(&top.join("a/new"), false).is_err());
        if rustix::process::geteuid().is_root() {
            mode("a", 0o775);
            assert_eq!(
                code(&top.join("a/b/c")),
                "path.untrusted",
                "group 0, or a list"
            );
        }
        mode("a", 0o1777);
        assert_eq!(code(&top.join("a/b/c")), "opened");
        assert!(
            check_ancestors(&top.join("a/new"), false).is_err(),
            "anybody may make it"
        );
        mode("a", 0o755);
        assert!(check_ancestors(&top.join("a/new"), false).is_ok());
        // A file's link of ours leads to what it leads to, unless somebody else could bend that.
        std::fs::write(top.join("file"), "").unwrap();
        std::fs::create_dir(top.join("theirs")).unwrap();
        symlink("file", top.join("to-file")).unwrap();
        symlink("theirs/file", top.join("to-theirs")).unwrap();
        let at = |path: &str| check_file(&top.join(path), false).map_err(|e| e.code().to_owned());
        let own = std::fs::canonicalize(top.join("file")).unwrap();
        assert_eq!(at("to-file"), Ok(own));
        assert!(at("file").is_ok() && at("theirs/missing").is_ok());
        std::fs::write(top.join("theirs/file"), "").unwrap();
        mode("theirs", 0o777);
        for path in ["to-theirs", "theirs/file", "theirs/missing"] {
            assert_eq!(at(path), Err("path.untrusted".to_owned()), "{path}");
            assert!(check_file(&top.join(path), true).is_ok());
        }
        // The target itself is its owner's.
        if chown(top.join("a/b/c"), Some(65_534), Some(65_534)).is_ok() {
            mode("a/b/c", 0o777);
            assert_eq!(code(&top.join("a/b/c")), "opened");
            chown(top.join("a/b"), Some(65_534), Some(65_534)).unwrap();
            assert_eq!(code(&top.join("a/b/c")), "path.untrusted");
            assert_eq!(code(&top.join("link/c")), "path.untrusted");
            assert!(open_directory(&top.join("a/b/c"), true).unwrap().is_ok());
            // Its user may own the way, and leads it nowhere by links.
            mode("a/b/c", 0o755);
            let of = |path: &str, user| match open_directory_of(&top.join(path), Some(user)) {
                Ok(opened) => opened.is_ok(),
                Err(error) => {
                    assert_eq!(error.code(), "path.untrusted");
                    false
                }
            };
            assert!(of("a/b/c", 65_534) && of("link/c", 65_534));
            assert!(!of("a/b/c", 65_533));
            symlink("c", top.join("a/b/bent")).unwrap();
            std::fs::create_dir(top.join("a/b/c/d")).unwrap();
            assert!(of("a/b/c/d", 65_534) && !of("a/b/bent/d", 65_534));
            mode("a/b", 0o757);
            assert!(!of("a/b/c", 65_534), "others can write there");
        }
    }

    #[test]
    fn links_are_followed_only_where_nobody_else_can_have_made_them() {
        use std::io::Read;
        let temporary = tempfile::tempdir().unwrap();
        let top = temporary.path();
        std::fs::create_dir_all(top.join("real/logs")).unwrap();
        std::fs::write(top.join("secret"), "secret").unwrap();
        std::fs::write(top.join("real/logs/own"), "own").unwrap();
        symlink("../../secret", top.join("real/logs/away")).unwrap();
        std::fs::hard_link(top.join("secret"), top.join("real/logs/second")).unwrap();
        symlink("real", top.join("way")).unwrap();
        let read = |path: &str| {
            let mut text = String::new();
            open_theirs(&top.join(path))?.read_to_string(&mut text)?;
            Ok::<_, std::io::Error>(text)
        };
        // All of it is ours: as every program opens it.
        for (path, text) in [
            ("way/logs/own", "own"),
            ("way/logs/../logs/away", "secret"),
            ("real/logs/second", "secret"),
        ] {
            assert_eq!(read(path).unwrap(), text, "{path}");
        }
        assert_eq!(
            read("way/logs/none").unwrap_err().kind(),
            std::io::ErrorKind::NotFound
        );
        // The folder is everybody's: the way to it is still ours.
        let mode = PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(top.join("real/logs"), mode).unwrap();
        assert_eq!(read("way/logs/own").unwrap(), "own");
        for (path, why) in [
            ("way/logs/away", "symbolic link"),
            ("real/logs/second", "hard link"),
        ] {
            let error = read(path).unwrap_err().to_string();
            assert!(error.contains(why), "{path}: {error}");
        }
        let theirs = |path: &str| open_by_our_links(&top.join(path), OFlags::PATH).map(|it| it.1);
        assert_eq!(theirs("way/logs"), Ok(false));
        assert_eq!(theirs("way/logs/own"), Ok(true));
        assert_eq!(theirs("way/none"), Err(Errno::NOENT));
        // So are all links below it.
        std::fs::create_dir(top.join("real/logs/deep")).unwrap();
        std::fs::write(top.join("real/logs/deep/own"), "deep").unwrap();
        symlink("deep", top.join("real/logs/bent")).unwrap();
        assert_eq!(read("way/logs/deep/own").unwrap(), "deep");
        assert!(read("way/logs/bent/own").is_err());
        // In a sticky one it is by whose the entry is.
        let mode = PermissionsExt::from_mode(0o1777);
        std::fs::set_permissions(top.join("real/logs"), mode).unwrap();
        assert_eq!(theirs("way/logs/own"), Ok(false));
        assert_eq!(read("way/logs/bent/own").unwrap(), "deep");
    }
}
