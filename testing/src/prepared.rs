//! What takes long to make and is the same each time: made once on a machine, and unpacked for each
//! test, which gets files of its own.
//!
//! An archive of each lies in `target/tmp`, and goes with `cargo clean`. Tests in several processes
//! may want the same one at once: one of them makes it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::hosting::{folder, run, text};

/// Puts into the empty folder `into` what `make` makes in one of its own. The folder itself stays
/// whose it is; what is in it has the owners, modes and times that it was made with.
///
/// It is found again by `name` and `key`: the key holds all that it depends on, such as versions of
/// programs, their arguments, scripts.
pub fn unpack(name: &str, key: &str, into: &Path, make: impl FnOnce(&Path)) {
    let archive = archive(name, key);
    if !archive.exists() {
        make_once(name, &archive, make);
    }
    run(Command::new("tar")
        .arg("-C")
        .arg(into)
        .args(["--same-owner", "-xpf"])
        .arg(&archive));
}

fn make_once(name: &str, archive: &Path, make: impl FnOnce(&Path)) {
    let lock = archive.with_file_name(format!("prepared-{name}.lock"));
    let lock = File::create(lock).expect("a file of the lock");
    lock.lock().expect("the lock");
    if archive.exists() {
        return;
    }
    let work = Folder(folder());
    make(&work.0);
    let members: Vec<_> = fs::read_dir(&work.0)
        .expect("what was made")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    // It has its name when it is whole: who makes it may be killed.
    let new = archive.with_extension("new");
    run(Command::new("tar")
        .arg("-C")
        .arg(&work.0)
        .arg("-cf")
        .arg(&new)
        .arg("--")
        .args(members));
    let whole = File::open(&new).and_then(|file| file.sync_all());
    whole
        .and_then(|()| fs::rename(&new, archive))
        .expect("it is kept");
}

/// Where the archive is, or will be: `target/tmp/prepared-NAME-HASH.tar`.
pub(crate) fn archive(name: &str, key: &str) -> PathBuf {
    let here = std::env::current_exe().expect("the test's own path");
    // Cargo marks its folder, however deep programs lie in it.
    let target = here
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .or(here.parent())
        .expect("a folder of cargo's");
    let folder = target.join("tmp");
    fs::create_dir_all(&folder).expect("a folder for what is kept");
    let hash: String = Sha256::digest(key)[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    folder.join(format!("prepared-{name}-{hash}.tar"))
}

/// What a program says of its version.
pub(crate) fn version(program: impl AsRef<Path>) -> String {
    text(&run(Command::new(program.as_ref()).arg("--version")))
}

/// Deleted when dropped, also after a panic.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
