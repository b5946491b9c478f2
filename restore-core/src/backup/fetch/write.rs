//! The local side of one file: what an earlier fetch left of it, and a thread that hashes and
//! writes what comes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::ledger::Known;
use super::place::PartialBackup;
use crate::archive::Digest;
use crate::contract::StoredFile;
use crate::model::{Error, ErrorKind, Progress, Result};

/// After so many bytes what was written is made durable and noted: what a crash costs.
const NOTE: u64 = 64 << 20;

/// A file of the backup on its way.
pub(super) struct Part {
    place: Arc<PartialBackup>,
    stored: StoredFile,
    path: PathBuf,
    file: File,
    hash: Sha256,
    /// Bytes written and hashed.
    pub(super) bytes: u64,
    noted: u64,
}

impl Part {
    /// Opens the file; what an earlier fetch left of it is read, and kept as far as it is what
    /// the ledger says it was. Everything else is cut off.
    pub(super) fn open(
        place: Arc<PartialBackup>,
        stored: StoredFile,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let path = place.path(&stored.file.path)?;
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(|e| Error::io(format!("write {}", path.display()), e))?;
        let mut part = Self {
            place,
            stored,
            path,
            file,
            hash: Sha256::new(),
            bytes: 0,
            noted: 0,
        };
        part.take_up(cancel)?;
        Ok(part)
    }

    fn take_up(&mut self, cancel: &CancellationToken) -> Result<()> {
        let known = self.place.ledger.known(&self.stored).cloned();
        if let Some(known) = known {
            let mut hash = Sha256::new();
            let mut left = known.bytes;
            let mut buffer = vec![0; 128 * 1024];
            while left > 0 {
                if cancel.is_cancelled() {
                    return Err(Error::interrupted());
                }
                let most = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len());
                let read = match self.file.read(buffer.get_mut(..most).unwrap_or_default()) {
                    // A disk that cannot read it back has not kept it.
                    Ok(0) | Err(_) => break,
                    Ok(read) => read,
                };
                hash.update(buffer.get(..read).unwrap_or_default());
                left -= read as u64;
            }
            if left == 0 && Digest(hash.clone().finalize().into()) == known.sha256 {
                self.hash = hash;
                self.bytes = known.bytes;
                self.noted = known.bytes;
            }
        }
        self.file
            .set_len(self.bytes)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.bytes)))
            .map_err(|e| self.error(e))?;
        Ok(())
    }

    /// Writes what comes until nothing more does, and notes how far it came, also on an error.
    pub(super) fn write(
        mut self,
        mut from: Receiver<Bytes>,
        progress: &Progress,
    ) -> (Self, Result<()>) {
        let mut done = Ok(());
        while let Some(data) = from.blocking_recv() {
            if let Err(e) = self.file.write_all(&data) {
                done = Err(self.error(e));
                break;
            }
            self.hash.update(&data);
            self.bytes += data.len() as u64;
            progress.add(data.len() as u64);
            if self.bytes - self.noted >= NOTE
                && let Err(e) = self.note(true)
            {
                done = Err(self.error(e));
                break;
            }
        }
        drop(from);
        // The whole backup is made durable before it gets its name. Until then a crash of the host
        // costs what the next fetch finds not to be what was noted: thousands of small files need
        // not wait for the disk one by one.
        let noted = self.note(false);
        let done = done.and_then(|()| noted.map_err(|e| self.error(e)));
        (self, done)
    }

    /// The hash of all that was written.
    pub(super) fn digest(&self) -> Digest {
        Digest(self.hash.clone().finalize().into())
    }

    /// What was written is of no use.
    pub(super) fn discard(self) {
        // Left behind, it would only be found not to be right once more.
        let _ = std::fs::remove_file(&self.path);
    }

    fn note(&mut self, durable: bool) -> std::io::Result<()> {
        if self.bytes == self.noted && self.bytes > 0 {
            return Ok(());
        }
        if durable {
            self.file.sync_data()?;
        }
        let known = Known::new(&self.stored, self.bytes, self.digest());
        self.place.ledger.note(&known, durable)?;
        self.noted = self.bytes;
        Ok(())
    }

    fn error(&self, error: std::io::Error) -> Error {
        let what = format!("write {}", self.path.display());
        if error.kind() == std::io::ErrorKind::QuotaExceeded {
            return Error::new(
                ErrorKind::Failed,
                "io.disk_full",
                format!("cannot {what}: {error}"),
            )
            .hint(
                "raise the quota or free some space, and fetch again: it goes on where it stopped",
            )
            .source(error);
        }
        let full = error.kind() == std::io::ErrorKind::StorageFull;
        let error = Error::io(what, error);
        if full {
            return error.hint("free some space, and fetch again: it goes on where it stopped");
        }
        error
    }
}
