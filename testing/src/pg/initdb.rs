//! New data directories, as `initdb` makes them.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::BIN;
use crate::{prepared, run};

/// Makes a data directory, and the directories above it that are not there, of a server that takes
/// everybody for whom they say they are. `segment` is the size of the log's files in MiB.
///
/// All that have the same superuser and segments are copies of one, and say so by their system
/// identifier: a server that has to be another one takes an `initdb` of its own.
pub fn new_cluster(data: &Path, superuser: &str, segment: &str) {
    new_cluster_of(BIN, data, superuser, segment);
}

/// The same by the `initdb` of this folder.
pub(super) fn new_cluster_of(bin: &str, data: &Path, superuser: &str, segment: &str) {
    let missing: Vec<&Path> = data.ancestors().take_while(|path| !path.exists()).collect();
    let (uid, gid) = owner();
    for path in missing.iter().rev() {
        std::fs::create_dir(path).unwrap();
        chown(path, Some(uid), Some(gid)).unwrap();
    }
    for path in missing.iter().chain([&data]) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o700)).unwrap();
    }
    let version = prepared::version(format!("{bin}/initdb"));
    let key = format!("{version} {superuser} {segment}");
    prepared::unpack("cluster", &key, data, |into| {
        chown(into, Some(uid), Some(gid)).unwrap();
        run(as_postgres(&format!("{bin}/initdb"))
            .args(["--no-sync", "-A", "trust", "-U", superuser, "-E", "UTF8"])
            .args(["--locale=C.UTF-8", "--wal-segsize", segment, "-D"])
            .arg(into));
    });
}

/// The user and group `postgres`.
pub(crate) fn owner() -> (u32, u32) {
    let id = |flag: &str| {
        let out = Command::new("id")
            .args([flag, "postgres"])
            .output()
            .unwrap();
        String::from_utf8(out.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    (id("-u"), id("-g"))
}

/// A command that the user `postgres` runs, from a directory that everybody can enter.
pub(crate) fn as_postgres(program: &str) -> Command {
    let (uid, gid) = owner();
    let mut command = Command::new(program);
    command
        .uid(uid)
        .gid(gid)
        .current_dir("/")
        .env("LC_ALL", "C.UTF-8");
    command
}
