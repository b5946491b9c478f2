//! The list of a swap's moves, as it lies beside the data.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RESERVE;
use super::place::{Meta, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::platform::SwapScope;

/// The name of the list's file.
pub(crate) const RECORD: &str = "swap.json";

const VERSION: u32 = 1;

/// How far a swap has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Moves are being made.
    Swapping,
    /// All are made.
    Swapped,
    /// Moves are being taken back.
    Undoing,
}

/// Everything that a swap or an undo needs to be finished by another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub(crate) phase: Phase,
    pub(crate) scope: SwapScope,
    /// Directories that stay where they are and take over the staged one's owner and mode;
    /// parents before children.
    pub(crate) dirs: Vec<DirRecord>,
    pub(crate) moves: Vec<Move>,
    /// Only while undoing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) undo: Vec<Back>,
}

/// A directory that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DirRecord {
    pub(crate) path: Rel,
    pub(crate) old: Meta,
    /// `None` where the staged tree has no such directory.
    pub(crate) new: Option<Meta>,
    /// Whether an undo moves entries away that neither tree had when the swap began.
    pub(crate) whole: bool,
}

/// One entry that is swapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Move {
    pub(crate) path: Rel,
    /// There was a live entry: it goes to `replaced`.
    pub(crate) live: bool,
    /// There is a staged entry: it becomes live.
    pub(crate) staged: bool,
    /// The staged entry is a directory.
    pub(crate) directory: bool,
    /// Neither is a directory: the name need never be missing.
    pub(crate) over: bool,
}

/// One entry that an undo moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Back {
    pub(crate) path: Rel,
    /// Where what is live now goes first.
    pub(crate) away: Option<Away>,
    /// What was replaced becomes live again.
    pub(crate) restore: bool,
    /// Neither is a directory.
    pub(crate) over: bool,
}

/// Where an undo moves what had been live in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Away {
    /// Back to the staged tree.
    Staged,
    /// Out of the way of both.
    InTheWay,
}

impl Record {
    pub(crate) fn new(scope: SwapScope, dirs: Vec<DirRecord>, moves: Vec<Move>) -> Self {
        Self {
            version: VERSION,
            phase: Phase::Swapping,
            scope,
            dirs,
            moves,
            undo: Vec::new(),
        }
    }

    /// The list of the run in `folder`; `None` where no swap has begun.
    pub(crate) fn read(folder: &Place) -> Result<Option<Self>> {
        let Some(bytes) = folder.read(RECORD)? else {
            return Ok(None);
        };
        let at = folder.show(Path::new(RECORD));
        let record: Self = serde_json::from_slice(&bytes).map_err(|e| {
            Error::new(
                ErrorKind::Failed,
                "swap.bad_record",
                format!("cannot read the list of moves {at}: {e}"),
            )
            .hint("nothing was moved just now; keep the folder and look at it by hand: `replaced` has the old entries")
            .source(e)
        })?;
        if record.version != VERSION {
            return Err(Error::new(
                ErrorKind::Failed,
                "swap.other_version",
                format!("{at} was written by another version of this program"),
            )
            .hint("finish that run with the version that began it"));
        }
        Ok(Some(record))
    }

    /// The paths that staged entries have when the swap is done, and whether they are
    /// directories.
    pub(crate) fn made_live(&self) -> impl Iterator<Item = (&Path, bool)> {
        self.moves
            .iter()
            .filter(|item| item.staged)
            .map(|item| (item.path.0.as_path(), item.directory))
    }

    /// Replaces the list; durable once this returns.
    pub(crate) fn write(&self, folder: &Place) -> Result<()> {
        folder.write(RECORD, &self.bytes()?)
    }

    /// Sets room aside for the undo's list, which names each entry once more, and for the
    /// directories that it may have to make.
    pub(crate) fn reserve(&self, folder: &Place) -> Result<()> {
        const DIRECTORIES: usize = 256 * 1024;
        folder.write(RESERVE, &vec![0; self.bytes()?.len() * 3 + DIRECTORIES])
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| {
            Error::new(
                ErrorKind::Internal,
                "swap.unwritable_record",
                format!("cannot write down the list of moves: {e}"),
            )
        })
    }
}

/// A path relative to a tree; the tree itself is the empty path. Written as text, or as a list
/// of bytes where it is no text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "RelForm", into = "RelForm")]
pub(crate) struct Rel(pub(crate) PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RelForm {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<RelForm> for Rel {
    fn from(form: RelForm) -> Self {
        Self(match form {
            RelForm::Text(text) => PathBuf::from(text),
            RelForm::Bytes(bytes) => PathBuf::from(OsString::from_vec(bytes)),
        })
    }
}

impl From<Rel> for RelForm {
    fn from(rel: Rel) -> Self {
        match rel.0.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes(rel.0.as_os_str().as_bytes().to_vec()),
        }
    }
}
