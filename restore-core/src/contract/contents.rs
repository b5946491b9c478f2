//! Looking into the artifacts of a component: what is in them, and how that differs from what is live.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Backup, RunContext};
use crate::archive::UnpackPolicy;
use crate::model::{Difference, Result};

/// A table of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DumpedTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// How many rows of it the dump has, where that can be told.
    pub rows: Option<u64>,
}

impl DumpedTable {
    /// A table of a dump.
    pub fn new(schema: impl Into<String>, name: impl Into<String>, rows: Option<u64>) -> Self {
        Self {
            schema: schema.into(),
            name: name.into(),
            rows,
        }
    }
}

/// What is in the artifacts of a component.
///
/// # Contract
///
/// Nothing here changes anything. Only [`compare`](Self::compare) needs the live side: all else works
/// where that is gone.
#[async_trait]
pub trait Contents: Send + Sync {
    /// The archives of the backup that hold its files, each with which members are restored of it and
    /// under which names; none where it has no archive of files.
    async fn archives(&self, _backup: &Backup) -> Vec<(String, UnpackPolicy)> {
        Vec::new()
    }

    /// A path as people name it (absolute, below the component's name, or as the archive has it), relative
    /// to what the component restores, empty for all of it; `None` where it lies elsewhere. Says nothing of whether
    /// a backup has it.
    async fn inside(&self, _path: &str) -> Option<String> {
        None
    }

    /// Looks whether a restore would take an artifact for what the component restores, beyond what its kind
    /// of file tells: deep verification asks, of files of this host that are sound. What a plan refuses
    /// because of what is in the file is an error here as well, so that both give one verdict.
    ///
    /// # Errors
    ///
    /// Why a restore would refuse it; `Interrupted` once `cancel` is cancelled.
    async fn examine(
        &self,
        _backup: &Backup,
        _artifact: &str,
        _cancel: &CancellationToken,
    ) -> Result<()> {
        Ok(())
    }

    /// The tables of an artifact that is a dump, its hash compared; `None` where it is none.
    ///
    /// # Errors
    ///
    /// `Verification` where it is not what was backed up, or cannot be read as what it is.
    async fn tables(
        &self,
        _backup: &Backup,
        _artifact: &str,
        _cancel: &CancellationToken,
    ) -> Result<Option<Vec<DumpedTable>>> {
        Ok(None)
    }

    /// How what the context's backup has differs from what is live, of the context's paths where it has
    /// any. Each list names at most `most`.
    ///
    /// # Errors
    ///
    /// Where that cannot be told: the artifact or the live side cannot be read.
    async fn compare(&self, _cx: &RunContext, _most: usize) -> Result<Vec<Difference>> {
        Ok(Vec::new())
    }
}
