//! Directory trees that can be swapped.

use std::path::PathBuf;

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::RemoteTask;
use crate::archive::{Measured, PackPolicy, Packed, Sink, Source, UnpackPolicy, Unpacked};
use crate::model::{Error, ErrorKind, Progress, Result, RunId};
use crate::swap::scope::{Compared, Discard, SwapScope, SwapState};
use crate::swap::{LocalVolume, StagingDir};
use crate::sys::space::Space;

/// A directory tree whose content can be swapped by rename.
///
/// A run stages into a hidden folder inside the volume (`.restore-RUN`), so that every move is a
/// rename within one file system. All methods are idempotent and probe what is there: each may
/// be called again after a crash at any moment, and finishes or finds its work done. Folders of
/// other runs (`.restore-*`) are never touched.
#[async_trait]
pub trait Volume: Send + Sync {
    /// A few words for people, with the place: "directory /srv/volumes/grafana_data".
    fn describe(&self) -> String;

    /// Where the volume's files are on this host, when they are reachable here.
    fn path(&self) -> Option<PathBuf>;

    /// The machine that has it, as the platform's [nodes](super::Nodes::name_of) call it, and where its files are
    /// there; `None` where they are on this host, and where nobody knows.
    fn path_elsewhere(&self) -> Option<(String, PathBuf)> {
        None
    }

    /// Room where the volume is.
    async fn free_space(&self) -> Result<Space>;

    /// How far the swap of `run` has come.
    async fn state(&self, run: &RunId) -> Result<SwapState>;

    /// Makes the empty staging folder of `run` and returns its path as processes of this host
    /// see it, discarding what an earlier attempt of the same run left staged. Refused once a
    /// swap has begun.
    async fn stage_dir(&self, run: &RunId) -> Result<PathBuf>;

    /// Opens the staging folder that [`stage_dir`](Self::stage_dir) made, to work in it without
    /// naming it again: whoever owns the volume may give its names to others meanwhile.
    async fn staging_dir(&self, run: &RunId) -> Result<StagingDir> {
        match self.path() {
            Some(root) => StagingDir::open(&root, run),
            None => Err(not_here(&self.describe())),
        }
    }

    /// Stages an archive: reads `source` once, hashing and unpacking in the same pass, into the
    /// (new, empty) staging folder, and makes it durable. On any error, a wrong hash included,
    /// nothing staged is left. Refused once a swap has begun.
    async fn unpack(
        &self,
        run: &RunId,
        source: Source,
        policy: &UnpackPolicy,
        progress: Progress,
    ) -> Result<Unpacked>;

    /// Packs the live tree into an archive, reading it once; see [`stream::pack`](crate::stream::pack).
    async fn pack(
        &self,
        policy: PackPolicy,
        sink: Sink,
        progress: Progress,
        cancel: CancellationToken,
    ) -> Result<Packed> {
        match self.path() {
            Some(root) => crate::archive::pack(&root, policy, sink, progress, cancel).await,
            None => Err(not_here(&self.describe())),
        }
    }

    /// How much [`pack`](Self::pack) would read; `None` where nobody knows.
    async fn measure(&self, except: &[String]) -> Result<Option<Measured>> {
        match self.path() {
            Some(root) => crate::archive::measure(&root, except).await.map(Some),
            None => Ok(None),
        }
    }

    /// Moves out of what is staged whatever matches one of these patterns (see
    /// [`SwapScope::Tree`]), and returns the paths that were moved, sorted. A swap leaves out
    /// what its scope keeps in any case: this is for saying what that is before.
    async fn leave_out(&self, run: &RunId, patterns: &[String]) -> Result<Vec<PathBuf>> {
        match self.path() {
            Some(root) => {
                let volume = LocalVolume::new(root);
                volume.leave_out(run, patterns).await
            }
            None => Err(not_here(&self.describe())),
        }
    }

    /// The names of the folders that runs have on it, sorted.
    async fn run_folders(&self) -> Result<Vec<String>> {
        match self.path() {
            Some(root) => LocalVolume::new(root).run_folders().await,
            None => Err(not_here(&self.describe())),
        }
    }

    /// Has a component's own work done where the files are, by the same component there, and
    /// returns what it came to: for volumes of other machines. Where the files are on this host
    /// ([`path`](Self::path)) a component works by itself.
    ///
    /// The work may have gone on when the connection is lost or this is dropped; whoever asks
    /// again has to be able to find that.
    async fn dispatch(&self, task: RemoteTask<'_>) -> Result<Value> {
        Err(Error::new(
            ErrorKind::Preflight,
            "volume.not_here",
            format!(
                "the files of {} are not on this host, where data of the kind {} is prepared",
                self.describe(),
                task.kind
            ),
        )
        .hint("run restore on the machine that has the volume, or leave the component out with --only"))
    }

    /// Makes what is staged live by renames and keeps what it replaces. Before the first rename
    /// the complete list of renames is written beside the data and synced; a call after a crash
    /// finishes that list. Done already: changes nothing.
    async fn swap(&self, run: &RunId, scope: &SwapScope) -> Result<()>;

    /// Takes a swap back, finished or not: afterwards the volume's live entries are what they
    /// were, and the others are staged again. Nothing swapped: changes nothing.
    async fn unswap(&self, run: &RunId) -> Result<()>;

    /// Deletes what is named. Never touches live data: `Staged` while swapped deletes nothing,
    /// `Replaced` while swapping is refused. Afterwards, with neither left, the hidden folder of
    /// the run is gone.
    async fn discard(&self, run: &RunId, what: Discard) -> Result<()>;

    /// Looks which of the entries that the swap of a run made live are there; all counts are 0
    /// where there was no swap.
    async fn compare(&self, run: &RunId) -> Result<Compared>;

    /// Looks which of the entries that the swap of a run put aside are still there; `None` where
    /// nobody knows. All counts are 0 where there was no swap.
    async fn kept(&self, _run: &RunId) -> Result<Option<Compared>> {
        Ok(None)
    }

    /// Where a swapped run keeps what it replaced, for people.
    fn replaced_at(&self, run: &RunId) -> String;
}

/// The error of whatever needs files to be on this host that are not.
fn not_here(what: &str) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "volume.not_here",
        format!("the files of {what} are not on this host"),
    )
}
