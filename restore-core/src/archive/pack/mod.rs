//! The data path the other way: a tree is read once, and packed, compressed, hashed and written in
//! that pass.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::UnpackPolicy;
use super::abort::PipelineAbort;
use super::path_set::PathSet;
use super::sink::{Sink, Written};
use super::unpack::spawn;
use crate::model::{Error, ErrorKind, Finding, Progress, Result};

mod blocks;
mod compress;
mod encode;
mod measure;
mod noticed;
mod read;
mod walk;

pub(crate) use measure::measure_dir;
pub use measure::{Measured, measure};

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, which everything reads; levels 1 to 9.
    Gzip(u8),
    /// Zstandard; levels 1 to 19.
    Zstd(u8),
}

impl Compression {
    /// The compression of that name (`none`, `gzip`, `zstd`), as hard as `level` says: 1 to 9 for
    /// gzip, 1 to 19 for Zstandard; `None`: 6, or 3.
    ///
    /// # Errors
    ///
    /// `Config` where there is no such compression or level.
    pub fn named(name: &str, level: Option<u8>) -> Result<Self> {
        let (most, usual, make): (_, _, fn(u8) -> Self) = match (name, level) {
            ("none", None) => return Ok(Self::None),
            ("gzip", _) => (9, 6, Self::Gzip),
            ("zstd", _) => (19, 3, Self::Zstd),
            ("none", Some(_)) => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "backup.level",
                    "there is no level without compression",
                )
                .hint("leave the level out, or choose gzip or zstd"));
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "backup.compression",
                    format!("there is no compression {name:?}"),
                )
                .hint("there are none, gzip and zstd"));
            }
        };
        let level = level.unwrap_or(usual);
        if !(1..=most).contains(&level) {
            return Err(Error::new(
                ErrorKind::Config,
                "backup.level",
                format!("{name} has no level {level}"),
            )
            .hint(format!(
                "it has 1, the fastest, to {most}, the smallest; without a level it is {usual}"
            )));
        }
        Ok(make(level))
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::Gzip(6)
    }
}

/// What of a tree is packed, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PackPolicy {
    /// What the members are named below: `.` for a volume, the tree's path below its root
    /// (`mnt/nfs/nginx`) for a tree.
    pub name: String,
    /// Left out: paths relative to the tree, with all below them, or `**/NAME` at any depth. Run
    /// folders (`.restore-RUN`) always are.
    pub except: Vec<String>,
    /// How the archive is compressed.
    pub compression: Compression,
    /// How a restore will unpack it: members that it would refuse are reported now, while there
    /// is still time to do something about them.
    pub restore: UnpackPolicy,
}

impl PackPolicy {
    /// Packs everything, the members named below `name`, uncompressed or not.
    pub fn new(name: impl Into<String>, compression: Compression) -> Self {
        Self {
            name: name.into(),
            compression,
            ..Self::default()
        }
    }
}

/// What was packed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Packed {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic and hard links.
    pub links: u64,
    /// Bytes of file content, holes left out.
    pub bytes: u64,
    /// The archive itself.
    pub written: Written,
    /// What a person must know of it: files that changed or went while they were read, what was
    /// left out because no archive holds it, what a restore would refuse.
    pub findings: Vec<Finding>,
}

impl Packed {
    /// The counts as facts.
    pub fn facts(&self) -> serde_json::Map<String, serde_json::Value> {
        [
            ("files", self.files),
            ("directories", self.directories),
            ("links", self.links),
            ("bytes", self.bytes),
        ]
        .into_iter()
        .map(|(key, count)| (key.to_owned(), count.into()))
        .collect()
    }
}

/// Reads the tree below the directory `root` once and writes it as a tar archive; durable when
/// this returns. Owners (as numbers), modes, times, links, hard links, holes, `user.*` attributes
/// and file capabilities are kept.
///
/// A live tree may change meanwhile. A small file is read again until it stands still; one that
/// changes all the same, or is large, is packed with the size that it had and reported, as are
/// files that vanished. Memory does not grow with the tree, but for the names of one directory
/// and the files with several names.
///
/// # Errors
///
/// `Failed`: `io.*` where something cannot be read, or the sink cannot be written. `Interrupted`
/// soon after `cancel` is cancelled.
pub async fn pack(
    root: &Path,
    policy: PackPolicy,
    sink: Sink,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<Packed> {
    let shown = root.to_owned();
    let open = move || walk::open(&shown).map(|fd| (fd, shown));
    packed(open, policy, sink, progress, cancel).await
}

/// As [`pack`], of a directory that is held open, whatever becomes of its name, which messages give
/// as `shown`.
pub(crate) async fn pack_dir(
    root: OwnedFd,
    shown: &Path,
    policy: PackPolicy,
    sink: Sink,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<Packed> {
    let shown = shown.to_owned();
    packed(move || Ok((root, shown)), policy, sink, progress, cancel).await
}

async fn packed(
    open: impl FnOnce() -> Result<(OwnedFd, PathBuf)> + Send + 'static,
    policy: PackPolicy,
    sink: Sink,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<Packed> {
    let cancel = cancel.child_token();
    let _stop = cancel.clone().drop_guard();
    let work = move || {
        let (root, shown) = open()?;
        let root = (root.as_fd(), shown.as_path());
        write_archive(root, &policy, sink, &progress, &PipelineAbort::new(cancel))
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(Error::new(
                ErrorKind::Internal,
                "stream.panic",
                format!("the data path broke down: {error}"),
            ))
        })
}

fn write_archive(
    root: (BorrowedFd<'_>, &Path),
    policy: &PackPolicy,
    mut sink: Sink,
    progress: &Progress,
    halt: &PipelineAbort,
) -> Result<Packed> {
    let keep = PathSet::new(&policy.except)?;
    let label = sink.label().to_owned();
    let walked = std::thread::scope(|scope| {
        let lanes = compress::lanes(scope, policy.compression, halt)?;
        let (blocks, pieces) = lanes.split(halt);
        let walking = spawn(scope, "restore-pack", halt, || {
            walk::walk(root, policy, &keep, &label, blocks, progress, halt)
        })?;
        let written = pieces.write(policy.compression, &mut sink, halt);
        let walked = halt.join(walking);
        written?;
        walked
    });
    let walked = halt.outcome(walked)?;
    let written = sink.seal()?;
    progress.finish();
    Ok(Packed {
        files: walked.files,
        directories: walked.directories,
        links: walked.links,
        bytes: walked.bytes,
        written,
        findings: walked.noticed.findings(&label),
    })
}

#[cfg(test)]
mod tests;
