//! Whether a file is still the one that was looked at before.

use std::os::unix::fs::MetadataExt;

use crate::archive::Source;
use crate::model::{Error, ErrorKind, Result};

/// What tells one state of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unchanged {
    dev: u64,
    ino: u64,
    size: u64,
    /// Seconds and nanoseconds.
    mtime: (i64, i64),
}

impl Unchanged {
    /// As it is now.
    pub(super) async fn look(source: &Source) -> Result<Self> {
        let meta = tokio::fs::metadata(source.path())
            .await
            .map_err(|e| Error::io(format!("read {}", source.path().display()), e))?;
        Ok(Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
        })
    }

    /// Fails with `verify.changed_while_reading` where it is another one now.
    pub(super) async fn still(&self, source: &Source) -> Result<()> {
        // A file that was taken away is a changed one, too.
        if Self::look(source).await.is_ok_and(|now| now == *self) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Verification,
            "verify.changed_while_reading",
            format!("{} was changed while it was restored", source.label()),
        )
        .hint("see what writes to the backup; once nothing does, start again: the live database was not touched"))
    }
}
