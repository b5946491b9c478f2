//! A multi-part AOF that was unpacked from a backup.

use std::path::{Path, PathBuf};

use crate::model::{Error, ErrorKind, Result};
use crate::sys::read_small;

/// No manifest is longer.
pub(super) const LONGEST: u64 = 1 << 20;

/// An unpacked multi-part AOF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AofSet {
    /// The directory that holds `dirname`.
    pub(super) parent: PathBuf,
    /// Its `appenddirname`.
    pub(super) dirname: String,
    /// Its `appendfilename`.
    pub(super) filename: String,
}

/// Finds the multi-part AOF below `root`, at any depth of its own; refuses none, several, and
/// one whose manifest names files that are not there. `label` is the archive's name.
pub(super) fn find_aof_set(root: &Path, label: &str) -> Result<AofSet> {
    let bad = |message: String| {
        Error::new(
            ErrorKind::Verification,
            "redis.bad_aof_archive",
            format!("{label}: {message}"),
        )
        .hint("verify the backup, or restore from its RDB (prefer = \"rdb\")")
    };
    let mut manifests = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        let read = |e| Error::io(format!("read {}", dir.display()), e);
        for entry in std::fs::read_dir(&dir).map_err(read)? {
            let entry = entry.map_err(read)?;
            let path = entry.path();
            let kind = entry.file_type().map_err(read)?;
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|ext| ext == "manifest") {
                manifests.push(path);
            }
        }
    }
    let manifest = match manifests.as_slice() {
        [one] => one.clone(),
        [] => return Err(bad("it holds no manifest of an append-only file".to_owned())),
        several => {
            return Err(bad(format!(
                "it holds {} manifests, not one",
                several.len()
            )));
        }
    };
    let (Some(dir), Some(filename)) = (
        manifest.parent().filter(|dir| *dir != root),
        manifest.file_stem().and_then(|stem| stem.to_str()),
    ) else {
        return Err(bad("its members are not inside a directory".to_owned()));
    };
    let (Some(parent), Some(dirname)) =
        (dir.parent(), dir.file_name().and_then(|name| name.to_str()))
    else {
        return Err(bad("its directory has no usable name".to_owned()));
    };
    // Redis writes a line for each file.
    let text = read_small(&manifest, LONGEST)
        .map_err(|e| bad(format!("its manifest cannot be read: {e}")))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    for name in manifest_files(&text) {
        let file = dir.join(&name);
        if name.contains('/') || !file.is_file() {
            return Err(bad(format!(
                "its manifest names {name}, which is not there"
            )));
        }
    }
    Ok(AofSet {
        parent: parent.to_owned(),
        dirname: dirname.to_owned(),
        filename: filename.to_owned(),
    })
}

/// The files that a manifest needs: its base and increments, not its history. Only plain names
/// are looked at; the server itself judges the rest.
pub(super) fn manifest_files(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let value = |key: &str| {
                let at = words.iter().position(|word| *word == key)?;
                words.get(at + 1).copied()
            };
            let name = value("file").filter(|name| !name.starts_with('"'))?;
            (value("type") != Some("h")).then(|| name.to_owned())
        })
        .collect()
}

/// For `fuzz/`: foreign bytes, in pieces and whole.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(bytes: &[u8]) {
    let _ = manifest_files(&String::from_utf8_lossy(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file begins with, and a manifest, of random bytes.
    #[test]
    fn nothing_makes_them_fall_over() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |limit: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % limit
        };
        let words = [
            "file", "seq", "type", "b", "i", "\"", "\\", " ", "\n", "a.aof", "../x", "\u{e4}", "1",
            "\0",
        ];
        let heads: [&[u8]; 6] = [
            b"REDIS",
            b"0011",
            b"*3\r\n",
            b"$6\r\n",
            b"\x1f\x8b",
            b"\xff\0",
        ];
        for _ in 0..20_000 {
            let pick = |random: &mut dyn FnMut(u64) -> u64, count: usize| {
                usize::try_from(random(count as u64)).unwrap_or(0)
            };
            let mut text = String::new();
            let mut head = Vec::new();
            for _ in 0..random(12) {
                text.push_str(words[pick(&mut random, words.len())]);
                head.extend_from_slice(heads[pick(&mut random, heads.len())]);
            }
            let _ = manifest_files(&text);
            let header = super::super::data::Header::of(&head);
            let _ = header.expect(super::super::data::Kind::Rdb, "it");
        }
    }

    #[test]
    fn a_packed_aof_is_found_and_must_be_whole() {
        let root = tempfile::tempdir().unwrap();
        let message = |root: &Path| find_aof_set(root, "a.tar.gz").unwrap_err().to_string();
        assert!(message(root.path()).contains("no manifest"));
        let dir = root.path().join("data/aofs");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(
            dir.join("x.aof.manifest"),
            "file x.aof.2.base.rdb seq 2 type b\nfile x.aof.1.incr.aof seq 1 type h\nfile x.aof.2.incr.aof seq 2 type i\n",
        )
        .unwrap();
        std::fs::write(dir.join("x.aof.2.base.rdb"), "").unwrap();
        assert!(message(root.path()).contains("x.aof.2.incr.aof, which is not there"));
        std::fs::write(dir.join("x.aof.2.incr.aof"), "").unwrap();
        let set = find_aof_set(root.path(), "a.tar.gz").unwrap();
        assert_eq!(set.parent, root.path().join("data"));
        assert_eq!(
            (set.dirname.as_str(), set.filename.as_str()),
            ("aofs", "x.aof")
        );
        std::fs::write(dir.join("y.aof.manifest"), "").unwrap();
        assert!(message(root.path()).contains("2 manifests"));
    }
}
