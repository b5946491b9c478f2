//! Pid files: our own record of what we started, and the servers' own.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use crate::model::{Error, Result};
use crate::sys::private;
use crate::sys::process::procs::Ident;

/// No pid file is longer.
const LONGEST: u64 = 64 * 1024;

/// Writes our record: `PID START BOOT`, complete or not at all.
pub(super) fn write(path: &Path, ident: Ident) -> Result<()> {
    let failed = |e| Error::io(format!("write {}", path.display()), e);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let text = format!("{} {} {}\n", ident.pid, ident.start, boot());
    private::write(Path::new(&temporary), text).map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)
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
/// merely been given the number of one that is gone.
pub(super) fn adopt(path: &Path) -> Option<Ident> {
    // It is the server's user's, who may have put anything there.
    let file = crate::sys::open_to_read(path).ok()?;
    let written = file.metadata().ok()?.modified().ok()?;
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    let ident = Ident::of(pid).filter(|_| pid > 1)?;
    // The start of a process is known to a second or so only.
    let latest = written.checked_add(Duration::from_secs(2))?;
    (ident.started()? <= latest).then_some(ident)
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
        assert_eq!(read(&path), None);
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    #[test]
    fn a_number_given_to_another_since_is_not_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postmaster.pid");
        let own = std::process::id();
        std::fs::write(&path, format!("{own}\n/srv/pg\n1700000000\n")).unwrap();
        assert_eq!(adopt(&path).unwrap().pid, own.cast_signed());
        let old = SystemTime::now() - Duration::from_secs(86_400 * 365 * 20);
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap();
        assert_eq!(adopt(&path), None);
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert_eq!(adopt(&pipe), None);
        for text in ["", "-5\n", "1\n", "x\n", "99999999\n"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(adopt(&path), None, "{text:?}");
        }
    }
}
