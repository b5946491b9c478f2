//! The first thread: reads the file once, passes each chunk on and hashes it meanwhile.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::{Digest as _, Sha256};

use super::abort::{Aborted, PipelineAbort};
use super::chunk::{Chunk, Pool};
use super::{Digest, Source};
use crate::model::{Error, ErrorKind, Progress, Result, read_error};

/// How many chunks may be under way between two threads.
const DEPTH: usize = 4;

/// One end of a channel of chunks.
pub(super) type ChunkSender = SyncSender<Arc<Chunk>>;
/// The other end. Its end means the end of the data, unless [`PipelineAbort`] says otherwise.
pub(super) type ChunkReceiver = Receiver<Arc<Chunk>>;

/// A short channel of chunks, and the pool that suffices to keep it busy.
pub(super) fn channel() -> (ChunkSender, ChunkReceiver, Arc<Pool>) {
    let (send, receive) = sync_channel(DEPTH);
    (send, receive, Pool::new(DEPTH + 2))
}

/// What was read.
#[derive(Clone, Copy)]
pub(super) struct ReadSummary {
    pub(super) bytes: u64,
    pub(super) digest: Digest,
}

/// Opens a source for reading, refusing what is not a regular file.
pub(crate) fn open(source: &Source) -> Result<File> {
    let path = source.path();
    let reading = |error| Error::io(format!("read {}", path.display()), error);
    let file = source.open().map_err(|error| match error.kind() {
        // What is there is none of the kernel's complaints, but no regular file.
        std::io::ErrorKind::Other => Error::new(
            ErrorKind::Verification,
            "archive.corrupt",
            format!("{}: {}: {error}", source.label(), path.display()),
        )
        .hint("name a file of the backup"),
        _ => reading(error),
    })?;
    if source.given.is_some() {
        return Ok(file);
    }
    // Only a hint to the kernel: whatever it answers, the file is read.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
    Ok(file)
}

/// Opens a source for reading, refusing what is not of the expected size either: that would
/// only come out at the end, as a wrong hash.
pub(crate) fn open_sized(source: &Source) -> Result<File> {
    let file = open(source)?;
    if source.given.is_some() {
        // How much of it comes is known at its end.
        return Ok(file);
    }
    let found = file
        .metadata()
        .map_err(|error| Error::io(format!("read {}", source.path().display()), error))?
        .len();
    compare_size(source, found)?;
    Ok(file)
}

/// Compares a size with the expected one, where there is one.
fn compare_size(source: &Source, found: u64) -> Result<()> {
    let Some(expected) = source.size().filter(|expected| *expected != found) else {
        return Ok(());
    };
    let (code, how) = if found < expected {
        ("archive.truncated", "shorter")
    } else {
        ("hash.mismatch", "longer")
    };
    Err(Error::new(
        ErrorKind::Verification,
        code,
        format!(
            "{} is {how} than recorded: {found} bytes instead of {expected}",
            source.label()
        ),
    )
    .hint(ANOTHER_COPY))
}

/// The next step whenever a file of a backup is not what it should be.
pub(super) const ANOTHER_COPY: &str =
    "fetch the backup again from its origin, or restore another backup (`restore list`)";

/// Reads `file` to its end into `send`, hashing; compares with the expected hash last.
pub(super) fn feed(
    mut file: impl Read,
    source: &Source,
    progress: &Progress,
    halt: &PipelineAbort,
    send: ChunkSender,
    pool: &Arc<Pool>,
) -> Result<ReadSummary, Aborted> {
    let mut hash = Sha256::new();
    let mut bytes = 0_u64;
    loop {
        halt.check()?;
        let mut chunk = pool.take();
        while !chunk.room().is_empty() {
            match file.read(chunk.room()) {
                Ok(0) => break,
                Ok(read) => chunk.fill(read),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(halt.fail(read_error(source.path().display(), error)));
                }
            }
        }
        let filled = chunk.filled();
        if filled == 0 {
            break;
        }
        let chunk = Arc::new(chunk);
        // First on its way, then hashed: the next thread works at the same time.
        if send.send(Arc::clone(&chunk)).is_err() {
            // Whoever reads has seen enough only if it failed.
            halt.check()?;
            return Err(Aborted);
        }
        hash.update(&chunk[..]);
        let read = u64::try_from(filled).unwrap_or(u64::MAX);
        bytes = bytes.saturating_add(read);
        progress.add(read);
    }
    progress.finish();
    let digest = Digest(hash.finalize().into());
    if source.given.is_some() {
        compare_size(source, bytes).map_err(|error| halt.fail(error))?;
    }
    compare(source, digest).map_err(|error| halt.fail(error))?;
    Ok(ReadSummary { bytes, digest })
}

/// Compares a hash with the expected one, where there is one.
pub(super) fn compare(source: &Source, found: Digest) -> Result<()> {
    match source.expected() {
        Some(expected) if expected != found => Err(Error::new(
            ErrorKind::Verification,
            "hash.mismatch",
            format!(
                "{} is not what was backed up: its hash is {found}, recorded was {expected}",
                source.label()
            ),
        )
        .hint(ANOTHER_COPY)),
        _ => Ok(()),
    }
}
