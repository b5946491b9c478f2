//! Who decides what a process runs: anybody may call a program `nginx` and show what command line he likes.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::FoundProcess;
use super::local::{Nginx, is_nginx};
use super::processes::user;
use crate::sys::process::procs::Ident;
use crate::sys::trust;

/// Who decides what a process runs besides root and whoever looks, in words. Anybody may call a program `nginx`,
/// have it listen somewhere, and show what command line he likes.
pub(super) fn foreign(it: &FoundProcess) -> Option<String> {
    if it.program.as_os_str().is_empty() {
        return Some("its program cannot be seen".to_owned());
    }
    let mut files = vec![it.program.clone()];
    let pieces = it.words.iter().flat_map(|word| word.split_whitespace());
    let mut named = pieces.map(|word| it.directory.join(word));
    match it.user == "root" || it.from_root {
        // All that root would run by it.
        true => files.extend(named.filter(|path| path.is_file())),
        false => files.extend(named.next().filter(|path| path.is_file())),
    }
    if is_nginx(it) {
        let obeyed = Nginx::of(it);
        let there = obeyed.obeys().filter(|path| path.exists());
        files.extend(there.map(Path::to_owned));
    }
    files.iter().find_map(|path| owner_of(path))
}

/// Whose a file is that is not root's alone to change.
fn owner_of(path: &Path) -> Option<String> {
    if trust::is_ours(path) {
        return None;
    }
    let shown = path.display();
    let us = rustix::process::geteuid().as_raw();
    Some(match std::fs::metadata(path) {
        Err(_) => format!("{shown} is not there"),
        Ok(meta) if meta.uid() != 0 && meta.uid() != us => {
            format!("{shown} belongs to {}", user(meta.uid()))
        }
        Ok(_) => format!("others than root can replace {shown}"),
    })
}

/// Whether root wrote this pid file for this very process. An old one may hold a number that another
/// process was given since.
pub(super) fn is_of_root(pid_file: &Path, pid: u32) -> bool {
    let started = Ident::of(pid.cast_signed()).and_then(Ident::started);
    let (Ok(meta), Some(started)) = (std::fs::metadata(pid_file), started) else {
        return false;
    };
    // When a process started is known to about a second.
    let written = meta.modified().ok().map(|at| at + Duration::from_secs(2));
    meta.uid() == 0 && written.is_some_and(|written| written >= started)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anybody may call a program `nginx`; and what a server of root's was called with may be anybody's.
    #[test]
    fn who_could_replace_a_program_is_told() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, "x").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            path
        };
        let process = |program: &Path, words: &[&str], user: &str| FoundProcess {
            program: program.to_owned(),
            words: words.iter().map(|&word| word.to_owned()).collect(),
            directory: dir.path().to_owned(),
            user: user.to_owned(),
            ..FoundProcess::default()
        };
        let open = file("nginx", 0o757);
        let told = foreign(&process(&open, &["nginx:"], "www-data")).unwrap();
        let expected = format!("others than root can replace {}", open.display());
        assert_eq!(told, expected);
        let gone = dir.path().join("gone");
        let told = foreign(&process(&gone, &["gone"], "www-data")).unwrap();
        assert!(told.ends_with("gone is not there"), "{told}");

        let own = file("python3", 0o755);
        let ours = trust::is_ours(&own);
        let script = ["python3", "web.py"];
        let told = foreign(&process(&own, &script, "root"));
        assert_eq!(told.is_none(), ours, "{told:?}");
        file("web.py", 0o646);
        assert!(foreign(&process(&own, &script, "root")).is_some());
        // What runs as its own user decides only what that one does.
        let told = foreign(&process(&own, &script, "www-data"));
        assert_eq!(told.is_none(), ours, "{told:?}");
        // nginx obeys its configuration, and shows as which one what it likes.
        file("nginx.conf", 0o646);
        let title = format!(
            "nginx: master process nginx -p {}/ -c nginx.conf",
            dir.path().display()
        );
        assert!(foreign(&process(&own, &[&title], "www-data")).is_some());
    }

    #[test]
    fn an_old_pid_file_of_root_names_no_process_that_is_younger() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.pid");
        std::fs::write(&file, "1").unwrap();
        let own = std::process::id();
        let is_root = rustix::process::geteuid().is_root();
        assert_eq!(is_of_root(&file, own), is_root);
        let opened = std::fs::File::options().write(true).open(&file).unwrap();
        opened
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        assert!(!is_of_root(&file, own));
    }
}
