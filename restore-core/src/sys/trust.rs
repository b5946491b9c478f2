//! Whose a file is that decides what runs here, or that holds a secret.
//!
//! Who can change such a file, or put another one in its place, becomes whoever runs this program.
//! So the file, each folder on the way to it and each link in between must belong to root or to
//! the user who runs it, and nobody else may be able to write to any of them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use crate::model::{Error, ErrorKind, Result};

/// As much of such a file as is read; no configuration and no secret is nearly as large.
const LARGEST: u64 = 16 << 20;

/// More links in a row than the kernel follows.
const LINKS: usize = 40;

/// Write access of others; of a group too: who is in it is not for a file's mode to say.
const OTHERS_WRITE: u32 = 0o022;

/// What a file is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It decides what is done: nobody else may change it.
    Obeyed,
    /// It is a secret besides: nobody else may read it.
    Secret,
}

/// Reads a file that `what` names in messages ("the configuration"), where nobody but root and
/// the user who runs us has a say in what it holds. Outer error: it is not to be trusted. Inner
/// error: it cannot be read.
pub(crate) fn read(path: &Path, what: &str, trust: Trust) -> Result<io::Result<String>> {
    let bytes = read_bytes(path, what, trust)?;
    let text = |bytes| {
        let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is no text in UTF-8");
        String::from_utf8(bytes).map_err(not_text)
    };
    Ok(bytes.and_then(text))
}

/// As [`read`], of a file that need not be text.
pub(crate) fn read_bytes(path: &Path, what: &str, trust: Trust) -> Result<io::Result<Vec<u8>>> {
    match walk(path) {
        Ok(steps) => judge(&steps, path, what, trust)?,
        Err(error) => return Ok(Err(error)),
    }
    let mut file = match open(path) {
        Ok(file) => file,
        Err(error) => return Ok(Err(error)),
    };
    // The one that is open is the one that counts, whatever has its name by now.
    let bytes = match file.metadata() {
        Ok(meta) => {
            let step = Step::new(path.to_owned(), &meta, Is::File);
            // What hides it from other readers was seen on the way.
            judge(&[step], path, what, Trust::Obeyed)?;
            let mut bytes = Vec::new();
            (&mut file)
                .take(LARGEST)
                .read_to_end(&mut bytes)
                .map(|_| bytes)
        }
        Err(error) => Err(error),
    };
    Ok(bytes)
}

/// The same judgement of a file or folder that another program reads. What is not there is for
/// that program to tell.
pub(crate) fn check(path: &Path, what: &str, trust: Trust) -> Result<()> {
    match walk(path) {
        Ok(steps) => judge(&steps, path, what, trust),
        Err(_) => Ok(()),
    }
}

/// Whether nobody but root and the user who runs us can change this file, or what its name leads to.
/// Of one that another host or another program serves, owners and modes say nothing: others write to it there.
pub(crate) fn is_ours(path: &Path) -> bool {
    let local = rustix::fs::statfs(path)
        .is_ok_and(|system| !SERVED.contains(&(system.f_type as u64 & 0xffff_ffff)));
    local && walk(path).is_ok_and(|steps| judge(&steps, path, "", Trust::Obeyed).is_ok())
}

/// File systems whose content somebody else serves, by their magic numbers: of the network, and FUSE,
/// whose server says of each file what it likes.
const SERVED: [u64; 16] = [
    0x6969,      // nfs
    0x517b,      // smbfs
    0xff53_4d42, // cifs
    0xfe53_4d42, // smb2
    0x6573_5546, // fuse
    0x0102_1997, // 9p
    0x00c3_6400, // ceph
    0x5346_414f, // afs
    0x6b41_4653, // afs of the kernel
    0x7375_7245, // coda
    0x0bd0_0bd3, // lustre
    0x7461_636f, // ocfs2
    0x0116_1970, // gfs2
    0x4750_4653, // gpfs
    0x1983_0326, // beegfs
    0x786f_4256, // vboxsf
];

fn open(path: &Path) -> io::Result<File> {
    let meta = std::fs::metadata(path)?;
    // A pipe of the caller's shell is waited for; any other one would only hang.
    let flags = match is_pipe_of_the_caller(path) {
        true => OFlags::empty(),
        false => OFlags::NONBLOCK,
    };
    if meta.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if meta.file_type().is_fifo() && !is_pipe_of_the_caller(path) {
        return Err(io::Error::other("it is a pipe, not a file"));
    }
    File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// What a shell makes of `<(…)`: one of our own descriptors.
fn is_pipe_of_the_caller(path: &Path) -> bool {
    ["/dev/fd", "/dev/stdin", "/proc/self/fd"]
        .iter()
        .any(|of| path.starts_with(of))
}

/// One thing on the way to a file.
#[derive(Debug)]
struct Step {
    path: PathBuf,
    uid: u32,
    gid: u32,
    mode: u32,
    is: Is,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Folder,
    Link,
    File,
}

impl Step {
    fn new(path: PathBuf, meta: &Metadata, is: Is) -> Self {
        Self {
            path,
            uid: meta.uid(),
            gid: meta.gid(),
            mode: meta.mode() & 0o7777,
            is,
        }
    }
}

/// Everything that decides what a path leads to, from the root on; the last is the thing itself.
fn walk(path: &Path) -> io::Result<Vec<Step>> {
    if is_pipe_of_the_caller(path) {
        let meta = std::fs::metadata(path)?;
        return Ok(vec![Step::new(path.to_owned(), &meta, Is::File)]);
    }
    let path = std::path::absolute(path)?;
    let mut at = PathBuf::from("/");
    let mut steps = vec![Step::new(at.clone(), &std::fs::metadata(&at)?, Is::Folder)];
    let mut todo: VecDeque<OsString> = parts(&path);
    let mut links = 0;
    while let Some(part) = todo.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let meta = std::fs::symlink_metadata(&next)?;
        if meta.is_symlink() {
            links += 1;
            if links > LINKS {
                return Err(io::Error::from(rustix::io::Errno::LOOP));
            }
            let target = std::fs::read_link(&next)?;
            steps.push(Step::new(next, &meta, Is::Link));
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for part in parts(&target).into_iter().rev() {
                todo.push_front(part);
            }
            continue;
        }
        let is = match meta.is_dir() {
            true => Is::Folder,
            false => Is::File,
        };
        steps.push(Step::new(next.clone(), &meta, is));
        at = next;
    }
    Ok(steps)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}

fn judge(steps: &[Step], path: &Path, what: &str, trust: Trust) -> Result<()> {
    let us = rustix::process::geteuid().as_raw();
    let ours = |uid: u32| uid == 0 || uid == us;
    // A folder that others cannot enter hides whatever is in it.
    let hidden = steps
        .iter()
        .any(|step| step.is == Is::Folder && step.mode & 0o011 == 0);
    for (at, step) in steps.iter().enumerate() {
        let last = at + 1 == steps.len();
        if step.is == Is::Link {
            // A link cannot be changed, only replaced by who can write to its folder. In a folder
            // where everybody can, it must be of somebody whom we trust.
            let folder = step.path.parent();
            let is_shared = steps.iter().any(|other| {
                other.is == Is::Folder
                    && Some(other.path.as_path()) == folder
                    && other.mode & OTHERS_WRITE != 0
            });
            if ours(step.uid) || !is_shared {
                continue;
            }
            return Err(refused(step, path, what, last, Fault::Owner));
        }
        if !ours(step.uid) {
            return Err(refused(step, path, what, last, Fault::Owner));
        }
        // Everybody can write to /tmp, but not replace what belongs to somebody else.
        let is_sticky = step.is == Is::Folder && step.mode & 0o1000 != 0 && !last;
        if step.mode & OTHERS_WRITE != 0 && !is_sticky {
            return Err(refused(step, path, what, last, Fault::Writable));
        }
        if trust == Trust::Secret && last && !hidden {
            // The same as libpq: what root shows a group is root's decision.
            let open = match step.uid {
                0 => step.mode & 0o004,
                _ => step.mode & 0o044,
            };
            if open != 0 {
                return Err(refused(step, path, what, last, Fault::Readable));
            }
        }
    }
    Ok(())
}

enum Fault {
    Owner,
    Writable,
    Readable,
}

fn refused(step: &Step, path: &Path, what: &str, last: bool, fault: Fault) -> Error {
    let us = rustix::process::geteuid().as_raw();
    let thing = match (last, step.is) {
        (true, _) => format!("{what} {}", step.path.display()),
        (false, Is::Link) => format!(
            "the link {} on the way to {what} {}",
            step.path.display(),
            path.display()
        ),
        (false, _) => format!(
            "the folder {} on the way to {what} {}",
            step.path.display(),
            path.display()
        ),
    };
    let state = format!(
        "belongs to {}, group {}, and has the mode {:04o}",
        user(step.uid),
        group(step.gid),
        step.mode
    );
    let why = match fault {
        Fault::Owner => format!(
            "whoever owns it could decide what runs as {}: it must belong to root{}",
            user(us),
            if us == 0 {
                String::new()
            } else {
                format!(" or to {}", user(us))
            }
        ),
        Fault::Writable => format!(
            "whoever can write to it could decide what runs as {}",
            user(us)
        ),
        Fault::Readable => "others can read it, and it is a secret".to_owned(),
    };
    let shown = quoted(&step.path);
    let command = match fault {
        Fault::Owner if step.is == Is::Link => format!("chown -h {us} {shown}"),
        // Whatever the old owner left open is closed too.
        Fault::Owner => format!("chown {us} {shown} && chmod go-w {shown}"),
        Fault::Writable => format!("chmod go-w {shown}"),
        Fault::Readable => format!("chmod go-rwx {shown}"),
    };
    let look = match fault {
        Fault::Owner => "look at what is in it first, then ",
        _ => "",
    };
    Error::new(
        ErrorKind::Config,
        match fault {
            Fault::Readable => "config.secret_open",
            _ => "config.not_trusted",
        },
        format!("{thing} {state}: {why}"),
    )
    .hint(format!("{look}`{command}`"))
}

fn user(uid: u32) -> String {
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => user.name,
        _ => format!("the user {uid}"),
    }
}

fn group(gid: u32) -> String {
    match nix::unistd::Group::from_gid(gid.into()) {
        Ok(Some(group)) => group.name,
        _ => gid.to_string(),
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
    match text.chars().all(plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    struct Case {
        _dir: tempfile::TempDir,
        folder: PathBuf,
        file: PathBuf,
    }

    fn case() -> Case {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("it's here");
        std::fs::create_dir(&folder).unwrap();
        mode(dir.path(), 0o755);
        mode(&folder, 0o755);
        let file = folder.join("file");
        std::fs::write(&file, "text").unwrap();
        mode(&file, 0o644);
        Case {
            _dir: dir,
            folder,
            file,
        }
    }

    fn code(path: &Path, trust: Trust) -> Option<String> {
        read(path, "the file", trust)
            .err()
            .map(|error| error.code().to_owned())
    }

    #[test]
    fn what_others_can_write_is_refused_with_the_command_that_mends_it() {
        let case = case();
        assert_eq!(code(&case.file, Trust::Obeyed), None);
        for bad in [0o666, 0o664, 0o646] {
            mode(&case.file, bad);
            assert_eq!(
                code(&case.file, Trust::Obeyed).as_deref(),
                Some("config.not_trusted")
            );
        }
        let error = read(&case.file, "the configuration", Trust::Obeyed).unwrap_err();
        assert!(error.message().contains("mode 0646"), "{error}");
        let hint = error.hint_text().unwrap();
        let command = hint.trim_matches('`');
        let done = std::process::Command::new("sh")
            .args(["-c", command])
            .status();
        assert!(done.unwrap().success(), "{hint}");
        assert_eq!(code(&case.file, Trust::Obeyed), None);
        mode(&case.folder, 0o777);
        let error = read(&case.file, "the configuration", Trust::Obeyed).unwrap_err();
        assert!(error.message().contains("the folder"), "{error}");
        // As in /tmp: ours cannot be replaced there.
        mode(&case.folder, 0o1777);
        assert_eq!(code(&case.file, Trust::Obeyed), None);
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_unless_it_is_hidden() {
        let case = case();
        assert_eq!(
            code(&case.file, Trust::Secret).as_deref(),
            Some("config.secret_open")
        );
        mode(&case.folder, 0o700);
        assert_eq!(code(&case.file, Trust::Secret), None);
        mode(&case.folder, 0o755);
        mode(&case.file, 0o600);
        assert_eq!(code(&case.file, Trust::Secret), None);
    }

    #[test]
    fn links_lead_only_through_folders_of_ours() {
        let case = case();
        let open = case.folder.join("open");
        std::fs::create_dir(&open).unwrap();
        let link = open.join("link");
        symlink("../file", &link).unwrap();
        assert_eq!(code(&link, Trust::Obeyed), None);
        mode(&open, 0o777);
        assert_eq!(
            code(&link, Trust::Obeyed).as_deref(),
            Some("config.not_trusted")
        );
        let around = case.folder.join("around");
        symlink("around", &around).unwrap();
        assert!(read(&around, "x", Trust::Obeyed).unwrap().is_err());
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let case = case();
        for path in [&case.file, &case.folder] {
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
            let error = read(&case.file, "the configuration", Trust::Obeyed).unwrap_err();
            assert_eq!(error.code(), "config.not_trusted");
            assert!(
                error
                    .hint_text()
                    .is_some_and(|hint| hint.contains("chown 0 "))
            );
            std::os::unix::fs::chown(path, Some(0), Some(0)).unwrap();
        }
        assert!(is_ours(&case.file));
    }

    #[test]
    fn a_pipe_in_the_way_does_not_hang() {
        let case = case();
        let pipe = case.folder.join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        mode(&pipe, 0o600);
        assert!(read(&pipe, "x", Trust::Obeyed).unwrap().is_err());
    }
}
