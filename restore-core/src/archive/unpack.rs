//! The threads of one read, put together.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, Scope, ScopedJoinHandle};

use super::abort::{Aborted, PipelineAbort};
use super::codec::{ChunkReader, Codec, inflate};
use super::parse::parse;
use super::source_thread::{ANOTHER_COPY, ReadSummary};
use super::tree::Tree;
use super::write::Directories;
use super::writer_pool::{Load, Sink};
use super::{
    Limit, MemberMissing, RefusedMember, Source, TooLarge, UnpackPolicy, Unpacked, source_thread,
    write,
};
use crate::model::{Error, ErrorKind, Progress, Result};

/// Reads an archive once, hashing it, and unpacks it below the existing directory `target`;
/// returns once everything is durable. The hash is compared last: on a mismatch, as on any
/// other error, the caller discards `target`.
///
/// Modes, times, hard links, holes and `user.*` attributes are kept, owners when we are root;
/// directories get theirs last. Attributes that the file system does not take are left out, as
/// are those of other name spaces. Access control lists are kept; where they cannot be, the group
/// gets what it really had, and nobody more than that.
///
/// # Errors
///
/// `Verification`: `archive.truncated`, `archive.corrupt`, `archive.member_refused`,
/// `archive.member_missing` (something that the policy names is not there), `hash.mismatch`.
/// `Failed`: `io.disk_full` and other `io.*`. `Interrupted` soon after the source's token is
/// cancelled. When the future is dropped, the writing ends soon after, not at once.
pub async fn unpack(
    source: Source,
    target: &Path,
    policy: &UnpackPolicy,
    progress: Progress,
) -> Result<Unpacked> {
    let (target, policy) = (target.to_path_buf(), policy.clone());
    blocking(source, move |source, halt| {
        let tree = Tree::open(&target, source.label())?;
        read_archive(source, Some(tree), &policy, &progress, halt, None)
    })
    .await
}

/// As [`unpack`], below a directory that is held open, whatever becomes of its name, which messages
/// give as `shown`.
pub(crate) async fn unpack_into(
    source: Source,
    target: OwnedFd,
    shown: &Path,
    policy: &UnpackPolicy,
    progress: Progress,
) -> Result<Unpacked> {
    let (shown, policy) = (shown.to_path_buf(), policy.clone());
    blocking(source, move |source, halt| {
        let tree = Tree::of(target, &shown, source.label())?;
        read_archive(source, Some(tree), &policy, &progress, halt, None)
    })
    .await
}

/// As `unpack_into`, of an archive that comes as a stream and not from a file; `source` says what it is
/// called and what is expected of it. Its size is not compared, nor the stream ended early.
pub(crate) async fn unpack_from(
    reader: impl Read + Send + 'static,
    source: Source,
    target: &Path,
    policy: &UnpackPolicy,
    progress: Progress,
) -> Result<Unpacked> {
    let (target, policy) = (target.to_path_buf(), policy.clone());
    blocking(source, move |source, halt| {
        let tree = Tree::open(&target, source.label())?;
        read_stream(reader, source, Some(tree), &policy, &progress, halt, None)
    })
    .await
}

/// Reads an archive to its last entry without writing anything, hashing it and refusing the
/// same members as [`unpack`], with the same errors: whether it would unpack.
pub async fn walk(source: Source, policy: &UnpackPolicy, progress: Progress) -> Result<Unpacked> {
    let policy = policy.clone();
    blocking(source, move |source, halt| {
        read_archive(source, None, &policy, &progress, halt, None)
    })
    .await
}

/// What reading an archive without writing it came to.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// The members that would be refused, all of them up to a thousand.
    pub(crate) refused: Vec<RefusedMember>,
    /// How many members only the machine that has the live tree can judge.
    pub(crate) unjudged: u64,
    /// Why it is not unpacked although nothing of it is damaged: it has more than the policy allows, or
    /// nothing that the policy names. The reading may have ended there.
    pub(crate) unfit: Option<Error>,
    /// A file that would be unpacked has the name of the table of contents of a dump by pg_dump.
    pub(crate) maybe_dump: bool,
    /// Whom each member is told, instead of being judged.
    pub(super) to: Option<tokio::sync::mpsc::Sender<super::Listed>>,
    /// Where the content of files goes that are let in.
    pub(super) content: Option<Content>,
}

/// Small files of an archive, in memory.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    /// Symbolic links, and where they lead.
    pub(crate) links: BTreeMap<PathBuf, PathBuf>,
    /// So many bytes each file may have.
    pub(super) most: u64,
}

/// As [`walk`]; what would be refused of an archive that is whole is no error but returned.
pub(crate) async fn walk_all(
    source: Source,
    policy: &UnpackPolicy,
    progress: Progress,
) -> Result<Walked> {
    let policy = policy.clone();
    blocking(source, move |source, halt| {
        let mut walked = Walked::default();
        let all = Some(&mut walked);
        match read_archive(source, None, &policy, &progress, halt, all) {
            Ok(_) => Ok(walked),
            // Wrong by the word of a policy, and not in its bytes.
            Err(error) if error.is(&MemberMissing) || error.is(&TooLarge) => {
                walked.unfit = Some(error);
                Ok(walked)
            }
            Err(error) => Err(error),
        }
    })
    .await
}

/// Reads those files of an archive that the policy lets in, each of at most `most` bytes, into memory, and the
/// archive to its end; its hash is compared. A link is no file, and is not followed.
pub(crate) async fn read_files(
    source: Source,
    policy: &UnpackPolicy,
    most: u64,
) -> Result<Content> {
    let policy = policy.clone();
    let content = Content {
        most,
        ..Content::default()
    };
    blocking(source, move |source, halt| {
        let mut walked = Walked {
            content: Some(content),
            ..Walked::default()
        };
        let progress = Progress::hidden();
        match read_archive(source, None, &policy, &progress, halt, Some(&mut walked)) {
            Ok(_) => {}
            // What is not there is not among them.
            Err(error) if error.is(&MemberMissing) => {}
            Err(error) => return Err(error),
        }
        Ok(walked.content.unwrap_or_default())
    })
    .await
}

/// Runs `work` where it may block, and has it stop when nobody waits for it any more.
pub(super) async fn blocking<T: Send + 'static>(
    source: Source,
    work: impl FnOnce(&Source, &PipelineAbort) -> Result<T> + Send + 'static,
) -> Result<T> {
    let cancel = source.cancel().child_token();
    let _stop = cancel.clone().drop_guard();
    let halt = PipelineAbort::new(cancel);
    tokio::task::spawn_blocking(move || work(&source, &halt))
        .await
        .unwrap_or_else(|error| {
            Err(Error::new(
                ErrorKind::Internal,
                "stream.panic",
                format!("the data path broke down: {error}"),
            ))
        })
}

/// Starts a named thread; that it cannot be started is an error like any other.
pub(super) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    halt: &PipelineAbort,
    work: impl FnOnce() -> Result<T, Aborted> + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, Result<T, Aborted>>, Aborted> {
    Builder::new()
        .name(name.to_owned())
        .spawn_scoped(scope, work)
        .map_err(|error| halt.fail(Error::io("start a thread", error)))
}

/// The reason of an error: what is read is no archive, or not whole. Where it comes through other programs,
/// one of them may be the cause.
#[derive(Debug, PartialEq)]
pub(crate) struct Damaged;

/// An archive that is nothing at all.
pub(super) fn empty(label: &str) -> Error {
    Error::new(
        ErrorKind::Verification,
        "archive.truncated",
        format!("{label} is empty"),
    )
    .because(Damaged)
    .hint(ANOTHER_COPY)
}

/// Finds out by the first bytes how an archive is compressed.
fn detect(
    source: &Source,
    reader: &mut ChunkReader,
    halt: &PipelineAbort,
) -> Result<Codec, Aborted> {
    let label = source.label();
    let start = reader.start()?;
    if start.is_empty() {
        return Err(halt.fail(empty(label)));
    }
    Codec::of(start).map_err(|foreign| halt.fail(foreign.error(label)))
}

pub(super) fn read_archive(
    source: &Source,
    tree: Option<Tree>,
    policy: &UnpackPolicy,
    progress: &Progress,
    halt: &PipelineAbort,
    refused: Option<&mut Walked>,
) -> Result<Unpacked> {
    let file = source_thread::open_sized(source)?;
    read_stream(file, source, tree, policy, progress, halt, refused)
}

fn read_stream(
    file: impl Read + Send,
    source: &Source,
    tree: Option<Tree>,
    policy: &UnpackPolicy,
    progress: &Progress,
    halt: &PipelineAbort,
    refused: Option<&mut Walked>,
) -> Result<Unpacked> {
    let done = std::thread::scope(|scope| {
        let (send, receive, pool) = source_thread::channel();
        let feeding = spawn(scope, "restore-read", halt, move || {
            source_thread::feed(file, source, progress, halt, send, &pool)
        })?;
        let reader = ChunkReader::new(receive, halt.clone());
        let unpacked = decoded(scope, source, policy, reader, tree.as_ref(), halt, refused);
        let fed = halt.join(feeding);
        let (ReadSummary { bytes, digest }, (mut unpacked, directories)) = (fed?, unpacked?);
        if let Some(tree) = &tree {
            write::finish_directories(tree, &directories, halt)?;
            unpacked.acls_lost = tree.acls_lost.load(Ordering::Relaxed);
            unpacked.attributes_lost += tree.attributes_lost.load(Ordering::Relaxed);
        }
        unpacked.read = bytes;
        unpacked.digest = Some(digest);
        Ok(unpacked)
    });
    let mut done = halt.outcome(done)?;
    if let Some(tree) = &tree {
        if let Some(reader) = policy.reader.as_ref().filter(|_| !done.names_top) {
            let top = rustix::fs::fstat(tree.root())
                .map_err(|error| tree.error("look at", b"", error.into()))?;
            done.closed = !reader.works_in((top.st_uid, top.st_gid), top.st_mode);
        }
        rustix::fs::syncfs(tree.root())
            .map_err(|error| tree.error("make durable", b"", error.into()))?;
    }
    Ok(done)
}

/// Decompresses where that is needed, parses, and writes into `tree` or nowhere. The
/// directories are still to be finished.
fn decoded<'scope>(
    scope: &'scope Scope<'scope, '_>,
    source: &'scope Source,
    policy: &UnpackPolicy,
    mut reader: ChunkReader,
    tree: Option<&'scope Tree>,
    halt: &'scope PipelineAbort,
    refused: Option<&mut Walked>,
) -> Result<(Unpacked, Directories), Aborted> {
    let label = source.label();
    let limit = policy.limit.as_ref().or(source.limit()).cloned();
    // Whoever only reads it, to list or to verify it, must come to an end as well.
    let of_ratio = || {
        source
            .size()
            .map(|size| Limit::of_ratio(size, policy.max_bytes))
    };
    let limit = limit.or_else(of_ratio);
    let codec = detect(source, &mut reader, halt)?;
    let mut inflating = None;
    if codec != Codec::Plain {
        let (send, receive, pool) = source_thread::channel();
        inflating = Some(spawn(scope, "restore-inflate", halt, move || {
            let what = (label, limit.as_ref());
            inflate(what, codec, reader, halt, &pool, |chunk| {
                send.send(Arc::new(chunk)).map_err(|_| Aborted)
            })
        })?);
        reader = ChunkReader::new(receive, halt.clone());
    }
    let Some(tree) = tree else {
        let walked = parse(label, policy, reader, halt, None, refused);
        inflating.map_or(Ok(()), |inflating| halt.join(inflating))?;
        return Ok((walked?, Directories::new()));
    };
    let (mut channels, mut writing) = (Vec::new(), Vec::new());
    for name in ["restore-write-1", "restore-write-2"] {
        let (send, receive) = write::channel();
        let load = Load::default();
        let left = Arc::clone(&load);
        channels.push((send, load));
        writing.push(spawn(scope, name, halt, move || {
            write::write(tree, &receive, halt, || {
                left.fetch_sub(1, Ordering::Relaxed);
            })
        })?);
    }
    let mut sink = Sink::new(channels, halt.clone());
    let parsed = parse(label, policy, reader, halt, Some(&mut sink), refused);
    // Without an end the writers would wait for more.
    let ended = match parsed {
        Ok(counts) => sink.end().map(|directories| (counts, directories)),
        Err(halted) => {
            drop(sink);
            Err(halted)
        }
    };
    for thread in inflating.into_iter().chain(writing) {
        halt.join(thread)?;
    }
    ended
}
