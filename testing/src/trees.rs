//! What a tree of files is, entry by entry, so that two can be compared.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Every entry below `root` and `root` itself (as `.`): type, mode, owner, extended attributes,
/// link target, content and (of files) time of change. Folders of runs at the top are left out.
pub fn fingerprint(root: &Path) -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    entries.insert(".".to_owned(), describe(root));
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap();
            if name.as_os_str().as_bytes().starts_with(b".restore-") {
                continue;
            }
            if path.symlink_metadata().unwrap().is_dir() {
                open.push(path.clone());
            }
            entries.insert(
                name.as_os_str().as_bytes().escape_ascii().to_string(),
                describe(&path),
            );
        }
    }
    entries
}

fn describe(path: &Path) -> String {
    let meta = path.symlink_metadata().unwrap();
    let kind = meta.file_type();
    let what = if kind.is_dir() {
        "dir".to_owned()
    } else if kind.is_symlink() {
        format!("link to {}", std::fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        let hash = Sha256::digest(std::fs::read(path).unwrap());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "file {} {hash} {}.{}",
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec()
        )
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        "other".to_owned()
    };
    let mode = meta.mode() & 0o7777;
    format!(
        "{what} {mode:04o} {}:{} {}",
        meta.uid(),
        meta.gid(),
        attributes(path)
    )
}

fn attributes(path: &Path) -> String {
    let mut list = vec![0; 4096];
    let Ok(length) = rustix::fs::llistxattr(path, &mut list[..]) else {
        return String::new();
    };
    let mut all: Vec<String> = list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = std::str::from_utf8(name).unwrap();
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            format!("{name}={}", value[..length].escape_ascii())
        })
        .collect();
    all.sort();
    all.join(",")
}

/// A directory that goes with the value, in memory where the machine has such: tests that sync
/// thousands of times need not wait for a disk.
pub fn temporary() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(directory) = tempfile::tempdir_in(memory)
    {
        return directory;
    }
    tempfile::tempdir().unwrap()
}
