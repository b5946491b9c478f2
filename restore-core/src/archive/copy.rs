//! Artifacts that are one file: copied, or only read, to their end.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::abort::{Aborted, PipelineAbort};
use super::chunk::Chunk;
use super::codec::{ChunkReader, Codec, inflate};
use super::floor::Floor;
use super::source_thread::{ANOTHER_COPY, ReadSummary};
use super::unpack::{blocking, empty, spawn};
use super::{Digest, Source, source_thread};
use crate::model::{Error, ErrorKind, Progress, Result};

/// The reason of an error: nobody takes what is read any more.
#[derive(Debug, PartialEq)]
pub(crate) struct Unheard;

/// Reads a file to its end, decompressing it if it is compressed, and returns the hash of the
/// stored bytes: whether it is readable as what its name and first bytes say. Nothing is
/// assumed of the content.
///
/// # Errors
///
/// `Verification`: `archive.truncated` (also when its name says that it is
/// compressed and it is empty), `archive.corrupt`, `hash.mismatch`.
/// `Interrupted` when the source's token is cancelled; `io.*`.
pub async fn read_through(source: Source, progress: Progress) -> Result<Digest> {
    blocking(source, move |source, halt| {
        let fed = read(source, &progress, halt, |_| Ok(()))?;
        Ok(fed.digest)
    })
    .await
}

/// Copies a file to `dest`, which must not exist, with `mode` and, where given, `owner`;
/// decompresses it if its name or its first bytes say gzip or Zstandard. Returns the bytes
/// written and the hash of the stored (compressed) bytes, once the copy is durable. On any
/// error there is no `dest`.
///
/// Dropped, it stops soon after, on the threads that it works on, and then removes `dest`; nobody
/// can wait for that. Whoever wants to write to the same `dest` again in this process cancels the
/// source's token and awaits the end instead. A killed process leaves what it had written.
///
/// # Errors
///
/// Those of [`read_through`]; `io.disk_full` and other `io.*` for the copy, an existing `dest`
/// included.
pub async fn copy_verified(
    source: Source,
    dest: &Path,
    mode: u32,
    owner: Option<(u32, u32)>,
    progress: Progress,
) -> Result<(u64, Digest)> {
    let dest = dest.to_path_buf();
    blocking(source, move |source, halt| {
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&dest)
            .map_err(|error| unwritten(source, &dest, error))?;
        let (here, gone) = (dest.clone(), dest.clone());
        let made = Unfinished {
            file,
            sync: Some(Box::new(move || sync_parent(&here))),
            remove: Some(Box::new(move || std::fs::remove_file(&gone))),
        };
        let how = ((mode, owner), false);
        copy(source, made, &dest, how, &progress, halt)
    })
    .await
}

/// As [`copy_verified`], into the file `name` of a directory that is held open, and is called `shown`.
pub(crate) async fn copy_verified_into(
    source: Source,
    at: (OwnedFd, &Path),
    name: &str,
    rights: (u32, Option<(u32, u32)>),
    progress: Progress,
) -> Result<(u64, Digest)> {
    copy_into(source, at, name, (rights, false), progress).await
}

/// As `copy_verified_into`, of the bytes as they are stored, compressed or not.
pub(crate) async fn copy_stored_into(
    source: Source,
    at: (OwnedFd, &Path),
    name: &str,
    rights: (u32, Option<(u32, u32)>),
    progress: Progress,
) -> Result<(u64, Digest)> {
    copy_into(source, at, name, (rights, true), progress).await
}

/// A file's mode and owner, and whether its bytes are copied as they are stored.
type How = ((u32, Option<(u32, u32)>), bool);

async fn copy_into(
    source: Source,
    (directory, shown): (OwnedFd, &Path),
    name: &str,
    how: How,
    progress: Progress,
) -> Result<(u64, Digest)> {
    let (shown, name) = (shown.join(name), name.to_owned());
    blocking(source, move |source, halt| {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let private = Mode::RUSR | Mode::WUSR;
        let failed = |error| unwritten(source, &shown, error);
        let again = directory.try_clone().map_err(failed)?;
        let file = rustix::fs::openat(&directory, name.as_str(), flags, private)
            .map_err(|error| failed(error.into()))?;
        let made = Unfinished {
            file: file.into(),
            sync: Some(Box::new(move || Ok(rustix::fs::fsync(&again)?))),
            remove: Some(Box::new(move || {
                let name = name.as_str();
                Ok(rustix::fs::unlinkat(&directory, name, AtFlags::empty())?)
            })),
        };
        copy(source, made, &shown, how, &progress, halt)
    })
    .await
}

/// Reads a file to its end, decompressing it if it is compressed, and hands each piece on in
/// order; returns the hash of the stored bytes once that is compared and the receiver has the
/// rest. The last piece is held back until then, so that whoever needs the end of the data never
/// takes damaged data for whole. A receiver that goes away ends the reading with `stream.unheard`.
///
/// # Errors
///
/// Those of [`read_through`].
pub(crate) async fn forward_chunks(
    source: Source,
    progress: Progress,
    to: tokio::sync::mpsc::Sender<bytes::Bytes>,
) -> Result<Digest> {
    blocking(source, move |source, halt| {
        let unheard = || {
            Error::new(
                ErrorKind::Failed,
                "stream.unheard",
                format!("nobody takes the content of {} any more", source.label()),
            )
            .because(Unheard)
        };
        let mut last: Option<bytes::Bytes> = None;
        let fed = read(source, &progress, halt, |chunk| {
            let next = bytes::Bytes::copy_from_slice(chunk);
            match last.replace(next) {
                Some(piece) => to.blocking_send(piece).map_err(|_| halt.fail(unheard())),
                None => Ok(()),
            }
        })?;
        if let Some(piece) = last {
            to.blocking_send(piece).map_err(|_| unheard())?;
        }
        Ok(fed.digest)
    })
    .await
}

type Act = Box<dyn FnOnce() -> std::io::Result<()>>;

/// A file that is removed again unless it is kept.
struct Unfinished {
    file: File,
    /// Makes its name durable.
    sync: Option<Act>,
    remove: Option<Act>,
}

impl Unfinished {
    fn keep(mut self) -> std::io::Result<()> {
        if let Some(sync) = self.sync.take() {
            sync()?;
        }
        self.remove = None;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(remove) = self.remove.take() {
            // The error that brings us here is the one to tell.
            let _ = remove();
        }
    }
}

fn unwritten(source: &Source, dest: &Path, error: std::io::Error) -> Error {
    let what = format!("write {} (from {})", dest.display(), source.label());
    if error.kind() == std::io::ErrorKind::QuotaExceeded {
        return Error::new(
            ErrorKind::Failed,
            "io.disk_full",
            format!("cannot {what}: {error}"),
        )
        .hint("raise the quota or free some space, and try again")
        .source(error);
    }
    Error::io(what, error)
}

fn copy(
    source: &Source,
    mut made: Unfinished,
    dest: &Path,
    ((mode, owner), stored): How,
    progress: &Progress,
    halt: &PipelineAbort,
) -> Result<(u64, Digest)> {
    let writing = |error: std::io::Error| unwritten(source, dest, error);
    let floor = made.file.try_clone().map_err(writing)?;
    let mut floor = Floor::over(&floor, source.label());
    let mut written = 0_u64;
    let fed = read_as(source, stored, progress, halt, |chunk| {
        written = written.saturating_add(u64::try_from(chunk.filled()).unwrap_or(u64::MAX));
        floor
            .look(chunk.filled(), 0)
            .map_err(|error| halt.fail(error))?;
        made.file
            .write_all(chunk)
            .map_err(|error| halt.fail(writing(error)))
    })?;
    if let Some((uid, gid)) = owner {
        fchown(&made.file, Some(uid), Some(gid)).map_err(writing)?;
    }
    made.file
        .set_permissions(std::fs::Permissions::from_mode(mode))
        .and_then(|()| made.file.sync_all())
        .and_then(|()| made.keep())
        .map_err(writing)?;
    Ok((written, fed.digest))
}

/// The new name is durable only with its directory.
fn sync_parent(path: &Path) -> std::io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

/// Reads a source to its end, and hands what it decompresses to in order to `put`.
fn read(
    source: &Source,
    progress: &Progress,
    halt: &PipelineAbort,
    put: impl FnMut(&Chunk) -> Result<(), Aborted>,
) -> Result<ReadSummary> {
    read_as(source, false, progress, halt, put)
}

/// As `read`; `stored`: nothing is decompressed.
fn read_as(
    source: &Source,
    stored: bool,
    progress: &Progress,
    halt: &PipelineAbort,
    put: impl FnMut(&Chunk) -> Result<(), Aborted>,
) -> Result<ReadSummary> {
    let file = source_thread::open_sized(source)?;
    let mut put = put;
    let done = std::thread::scope(|scope| {
        let (send, receive, pool) = source_thread::channel();
        let feeding = spawn(scope, "restore-read", halt, move || {
            source_thread::feed(file, source, progress, halt, send, &pool)
        })?;
        let mut reader = ChunkReader::new(receive, halt.clone());
        let codec = match stored {
            true => Ok(Codec::Plain),
            false => codec(source, &mut reader, halt),
        };
        let read = codec.and_then(|codec| {
            let (_, _, pool) = source_thread::channel();
            let what = (source.label(), source.limit());
            inflate(what, codec, reader, halt, &pool, |chunk| put(&chunk))
        });
        let fed = halt.join(feeding);
        read.and(fed)
    });
    halt.outcome(done)
}

/// How the source is compressed; what its name claims must be true.
fn codec(
    source: &Source,
    reader: &mut ChunkReader,
    halt: &PipelineAbort,
) -> Result<Codec, Aborted> {
    let claimed = Codec::claimed_by(source.label())
        .or_else(|| Codec::claimed_by(&source.path().to_string_lossy()));
    let start = reader.start()?;
    if start.is_empty() && claimed.is_some() {
        return Err(halt.fail(empty(source.label())));
    }
    // What is compressed in another way is copied as it is.
    let codec = Codec::of(start).unwrap_or(Codec::Plain);
    match claimed {
        Some(claimed) if claimed != codec => Err(halt.fail(
            Error::new(
                ErrorKind::Verification,
                "archive.corrupt",
                format!(
                    "{} is not the {} file that its name says",
                    source.label(),
                    claimed.name()
                ),
            )
            .hint(ANOTHER_COPY),
        )),
        _ => Ok(codec),
    }
}
