//! Where an artifact is written to: hashed and counted in the same pass.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Digest;
use crate::model::{Error, ErrorKind, Result};

/// A file that is being made in a store. Dropped without [`seal`](Self::seal), it was not made:
/// the store may delete what there is of it.
pub trait SinkFile: Write + Send {
    /// Makes it durable; returns once it is.
    fn seal(self: Box<Self>) -> io::Result<()>;
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Written {
    /// Its exact size.
    pub bytes: u64,
    /// The hash of all of it.
    pub digest: Digest,
}

/// Takes the bytes of one artifact, on threads that may block.
pub struct Sink {
    file: Box<dyn SinkFile>,
    label: String,
    hash: Sha256,
    bytes: u64,
    failed: Arc<AtomicBool>,
}

impl Sink {
    /// A sink into `file`, which messages call `label`.
    pub fn new(label: impl Into<String>, file: Box<dyn SinkFile>) -> Self {
        Self {
            file,
            label: label.into(),
            hash: Sha256::new(),
            bytes: 0,
            failed: Arc::default(),
        }
    }

    /// The same sink; `failed` becomes true when it cannot write, so that a fault of the store can
    /// be told from one of whatever is read.
    #[must_use]
    pub fn telling(mut self, failed: Arc<AtomicBool>) -> Self {
        self.failed = failed;
        self
    }

    /// What messages call it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Writes all of `bytes`.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| self.error(error))?;
        self.hash.update(bytes);
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Makes it durable and tells what was written.
    pub fn seal(self) -> Result<Written> {
        let Self {
            file,
            label,
            hash,
            bytes,
            failed,
        } = self;
        file.seal().map_err(|error| {
            failed.store(true, Ordering::Release);
            unwritable(&label, error)
        })?;
        Ok(Written {
            bytes,
            digest: Digest(hash.finalize().into()),
        })
    }

    fn error(&self, error: io::Error) -> Error {
        self.failed.store(true, Ordering::Release);
        unwritable(&self.label, error)
    }
}

/// That a file of a backup cannot be written.
pub(crate) fn unwritable(label: &str, error: io::Error) -> Error {
    // A store that is no file system has errors of its own.
    let error = match error.downcast::<Error>() {
        Ok(error) => return error,
        Err(error) => error,
    };
    if matches!(
        error.kind(),
        io::ErrorKind::QuotaExceeded | io::ErrorKind::StorageFull
    ) {
        return Error::new(
            ErrorKind::Failed,
            "io.disk_full",
            format!("cannot write {label}: {error}"),
        )
        .hint("free some space in the store (`restore prune` deletes old backups), or write to another one")
        .source(error);
    }
    Error::io(format!("write {label}"), error)
}
