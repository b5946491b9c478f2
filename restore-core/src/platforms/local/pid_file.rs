//! Pid files: our own record of what we started, and the servers' own.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::model::{Error, Result};
use crate::sys::durable::{self, Access};
use crate::sys::process::procs::Ident;

/// No pid file is longer.
const LONGEST: u64 = 64 * 1024;

/// What stands in place of a pid while the process is being started.
const STARTING: &str = "starting";

/// Writes our record: `PID START BOOT`, complete or not at all. It means nothing after a reboot, so that no start
/// of a service waits for a disk because of it.
pub(super) fn write(path: &Path, ident: Ident) -> Result<()> {
    replace(path, &format!("{} {}", ident.pid, ident.start))
}

/// Writes into our record that a process is about to be started which has this token in its environment. To
/// whoever reads it as the record of a process it is none.
pub(super) fn announce(path: &Path, token: &str) -> Result<()> {
    replace(path, &format!("{STARTING} {token}"))
}

fn replace(path: &Path, words: &str) -> Result<()> {
    let failed = |e| Error::io(format!("write {}", path.display()), e);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let text = format!("{words} {}\n", boot());
    durable::replace_for_this_boot(path, Path::new(&temporary), Access::PRIVATE, text)
        .map_err(failed)
}

/// The token of what was about to be started when our record was written last; `None` where that was none of
/// this boot.
pub(super) fn announced(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut words = text.split_whitespace();
    let token = words
        .next()
        .filter(|word| *word == STARTING)
        .and(words.next())?;
    (words.next()? == boot()).then(|| token.to_owned())
}

/// Reads our record: whom we started, dead or alive; `None` where there is none of this boot.
pub(super) fn read(path: &Path) -> Option<Ident> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut words = text.split_whitespace();
    let pid = words.next()?.parse().ok()?;
    let start = words.next()?.parse().ok()?;
    (words.next()? == boot()).then_some(Ident { pid, start })
}

/// Removes our record; not being there is fine.
pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()), e))
        }
        _ => Ok(()),
    }
}

/// The living process that a server's own pid file names (its first line is one number, as in
/// `nginx.pid` and `postmaster.pid`). A process that started after the file was written has
/// merely been given the number of one that is gone. It is one of the service's `user`; where that is not
/// known, whoever wrote the file names with it nobody's processes but his own, unless he is root or us.
pub(super) fn adopt(path: &Path, user: Option<u32>) -> Option<Ident> {
    // It is the server's user's, who may have put anything there.
    let file = crate::sys::open_theirs(path).ok()?;
    let meta = file.metadata().ok()?;
    let written = meta.modified().ok()?;
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    let ident = Ident::of(pid).filter(|_| pid > 1)?;
    // The start of a process is known to a second or so only.
    let latest = written.checked_add(Duration::from_secs(2))?;
    let us = rustix::process::geteuid().as_raw();
    // Another name of a file of root's is whose folder it is in.
    let is_ours = [0, us].contains(&meta.uid()) && meta.nlink() == 1;
    let may_name = match user {
        Some(user) => ident.uid() == Some(user),
        None => is_ours || (![0, us].contains(&meta.uid()) && ident.is_of(&[meta.uid()])),
    };
    (may_name && ident.started()? <= latest).then_some(ident)
}

/// Changes with each boot: pids and their starts begin anew.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "-".to_owned(), |id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_record_comes_back_and_one_of_another_boot_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        let ident = Ident { pid: 7, start: 9 };
        write(&path, ident).unwrap();
        assert_eq!(read(&path), Some(ident));
        std::fs::write(&path, "7 9 another-boot\n").unwrap();
        assert_eq!(read(&path), None);
        std::fs::write(&path, "").unwrap();
        assert_eq!((read(&path), announced(&path)), (None, None));
        announce(&path, "0a1b").unwrap();
        assert_eq!((read(&path), announced(&path)), (None, Some("0a1b".into())));
        write(&path, ident).unwrap();
        assert_eq!((read(&path), announced(&path)), (Some(ident), None));
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    #[test]
    fn a_number_given_to_another_since_is_not_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postmaster.pid");
        let own = std::process::id();
        std::fs::write(&path, format!("{own}\n/srv/pg\n1700000000\n")).unwrap();
        assert_eq!(adopt(&path, None).unwrap().pid, own.cast_signed());
        let old = SystemTime::now() - Duration::from_secs(86_400 * 365 * 20);
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap();
        assert_eq!(adopt(&path, None), None);
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert_eq!(adopt(&pipe, None), None);
        // A link of ours is as good as the file; one that anybody can have made is not.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("postmaster.pid", &link).unwrap();
        std::fs::write(&path, format!("{own}\n")).unwrap();
        assert_eq!(adopt(&link, None).unwrap().pid, own.cast_signed());
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(dir.path(), open).unwrap();
        assert_eq!(adopt(&path, None).unwrap().pid, own.cast_signed());
        assert_eq!(adopt(&link, None), None);
        for text in ["", "-5\n", "1\n", "x\n", "99999999\n"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(adopt(&path, None), None, "{text:?}");
        }
    }

    #[test]
    fn nobody_names_processes_of_others() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.pid");
        let own = std::process::id();
        std::fs::write(&path, format!("{own}\n")).unwrap();
        let pid = |user| adopt(&path, user).map(|ident| ident.pid);
        assert_eq!(pid(None), Some(own.cast_signed()));
        assert_eq!(pid(Some(65534)), None);
        std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
        assert_eq!(pid(None), None);
        assert_eq!(pid(Some(0)), Some(own.cast_signed()));
        let mut child = std::os::unix::process::CommandExt::uid(
            std::process::Command::new("sleep").arg("600"),
            65534,
        )
        .spawn()
        .unwrap();
        std::fs::write(&path, format!("{}\n", child.id())).unwrap();
        let named = pid(None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(named, Some(child.id().cast_signed()));
        std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
        std::fs::write(&path, format!("{own}\n")).unwrap();
        assert_eq!(pid(None), Some(own.cast_signed()));
        std::fs::hard_link(&path, dir.path().join("other")).unwrap();
        assert_eq!(pid(None), None);
    }
}
