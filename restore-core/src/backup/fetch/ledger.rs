//! What of a fetch is known to be on the disk: how a later one tells what it can keep.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::FallocateFlags;
use serde::{Deserialize, Serialize};

use crate::archive::Digest;
use crate::contract::StoredFile;
use crate::model::{Error, Result};

/// Bytes kept free for notes.
const ROOM: u64 = 256 * 1024;

/// So many bytes of a file were on the disk, and this was their hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    path: String,
    size: u64,
    version: String,
    pub(super) bytes: u64,
    pub(super) sha256: Digest,
}

impl Known {
    pub(super) fn new(stored: &StoredFile, bytes: u64, sha256: Digest) -> Self {
        Self {
            path: stored.file.path.clone(),
            size: stored.file.size,
            version: stored.version.clone(),
            bytes,
            sha256,
        }
    }
}

/// The list of them: one line of JSON each, only ever added to. What it says is a claim about
/// the disk that the next fetch checks by reading; a line that is no such claim is nothing.
pub(super) struct Ledger {
    file: Mutex<File>,
    known: HashMap<String, Known>,
}

impl Ledger {
    /// Opens or begins the list at `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |e| Error::io(format!("write {}", path.display()), e);
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        // Room of its own: what a full disk has taken must be noted then. Only a precaution; not
        // every file system can.
        let length = file.metadata().map_err(failed)?.len();
        let _ = rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, length, ROOM);
        let mut known = HashMap::new();
        for line in BufReader::new(&file).split(b'\n') {
            let line = line.map_err(|e| Error::io(format!("read {}", path.display()), e))?;
            if let Ok(entry) = serde_json::from_slice::<Known>(&line) {
                known.insert(entry.path.clone(), entry);
            }
        }
        Ok(Self {
            file: Mutex::new(file),
            known,
        })
    }

    /// What was noted last of this very version of a file.
    pub(super) fn known(&self, stored: &StoredFile) -> Option<&Known> {
        self.known
            .get(&stored.file.path)
            .filter(|known| known.size == stored.file.size && known.version == stored.version)
    }

    /// Notes something; `durable`: also for after a crash of the host, before which the file's own
    /// bytes must be durable.
    pub(super) fn note(&self, known: &Known, durable: bool) -> std::io::Result<()> {
        // What a full disk cut off before must not spoil this line.
        let mut line = vec![b'\n'];
        serde_json::to_writer(&mut line, known)?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line)?;
        match durable {
            true => file.sync_data(),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BackupFile;

    fn stored(version: &str) -> StoredFile {
        StoredFile {
            file: BackupFile {
                path: "a".into(),
                size: 9,
            },
            version: version.into(),
        }
    }

    #[test]
    fn the_last_whole_line_counts_and_only_for_that_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let ledger = Ledger::open(&path).unwrap();
        let digest = Digest([1; 32]);
        ledger
            .note(&Known::new(&stored("1"), 4, digest), true)
            .unwrap();
        ledger
            .note(&Known::new(&stored("1"), 8, digest), false)
            .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 9]).unwrap();
        let again = Ledger::open(&path).unwrap();
        assert_eq!(again.known(&stored("1")).unwrap().bytes, 4);
        assert!(again.known(&stored("2")).is_none());
        again
            .note(&Known::new(&stored("1"), 9, digest), true)
            .unwrap();
        let third = Ledger::open(&path).unwrap();
        assert_eq!(third.known(&stored("1")).unwrap().bytes, 9);
    }
}
