//! The list of a swap's moves.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dir::{Acl, EntryMeta, Inode};
use super::scope::SwapScope;
use crate::model::{Error, ErrorKind, Result, RunId};

/// The name of the list's file where it lies in the folder of the run.
pub(crate) const RECORD: &str = "swap.json";

/// 0.1 wrote lists of version 1: always in the folder of the run, and nothing before a swap.
const VERSION: u32 = 2;
const LEGACY: u32 = 1;

/// How far a swap has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Nothing is moved yet, or everything is back.
    Staged,
    /// Moves are being made.
    Swapping,
    /// All are made.
    Swapped,
    /// Moves are being taken back.
    Undoing,
}

/// Everything that a swap or an undo needs to be finished by another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SwapRecord {
    version: u32,
    /// Of whom it is.
    #[serde(default)]
    run: Option<RunId>,
    /// The folder of the run, and the staged tree in it: which directories they are.
    #[serde(default)]
    folder: Option<Inode>,
    #[serde(default)]
    staged: Option<Inode>,
    pub(crate) phase: Phase,
    pub(crate) scope: SwapScope,
    /// Directories that stay where they are and take over the staged one's owner and mode;
    /// parents before children.
    pub(crate) dirs: Vec<DirRecord>,
    pub(crate) moves: Vec<Move>,
    /// Only while undoing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) undo: Vec<UndoMove>,
}

/// A directory that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DirRecord {
    pub(crate) path: RelPath,
    pub(crate) old: EntryMeta,
    /// `None` where the staged tree has no such directory.
    pub(crate) new: Option<EntryMeta>,
    /// Whether an undo moves entries away that neither tree had when the swap began.
    pub(crate) whole: bool,
    /// Its access control lists; `None` in lists of version 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) old_acl: Option<Acl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) new_acl: Option<Acl>,
}

/// One entry that is swapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Move {
    pub(crate) path: RelPath,
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
pub(crate) struct UndoMove {
    pub(crate) path: RelPath,
    /// Where what is live now goes first.
    pub(crate) away: Option<UndoTarget>,
    /// What was replaced becomes live again.
    pub(crate) restore: bool,
    /// Neither is a directory.
    pub(crate) over: bool,
}

/// Where an undo moves what had been live in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UndoTarget {
    /// Back to the staged tree.
    Staged,
    /// Out of the way of both.
    InTheWay,
}

impl SwapRecord {
    /// That of a run which has staged, and moved nothing.
    pub(crate) fn staged(run: &RunId, folder: Inode, staged: Inode) -> Self {
        Self {
            version: VERSION,
            run: Some(run.clone()),
            folder: Some(folder),
            staged: Some(staged),
            phase: Phase::Staged,
            scope: SwapScope::Everything,
            dirs: Vec::new(),
            moves: Vec::new(),
            undo: Vec::new(),
        }
    }

    /// Begins a swap.
    pub(crate) fn begin(&mut self, scope: SwapScope, dirs: Vec<DirRecord>, moves: Vec<Move>) {
        self.phase = Phase::Swapping;
        self.scope = scope;
        self.dirs = dirs;
        self.moves = moves;
        self.undo = Vec::new();
    }

    /// Everything is back.
    pub(crate) fn is_back(&mut self) {
        self.begin(SwapScope::Everything, Vec::new(), Vec::new());
        self.phase = Phase::Staged;
    }

    /// Whether it is of this run.
    pub(crate) fn is_of(&self, run: &RunId) -> bool {
        self.run.as_ref() == Some(run)
    }

    /// Which directory the folder of the run is.
    pub(crate) fn folder(&self) -> Option<Inode> {
        self.folder
    }

    /// Which directory the staged tree is.
    pub(crate) fn staged_tree(&self) -> Option<Inode> {
        self.staged
    }

    /// Whether version 0.1 wrote it.
    pub(crate) fn is_legacy(&self) -> bool {
        self.version == LEGACY
    }

    /// Makes one of version 0.1 ours.
    pub(crate) fn adopt(&mut self, run: &RunId, folder: Inode, staged: Option<Inode>) {
        self.version = VERSION;
        self.run = Some(run.clone());
        self.folder = Some(folder);
        self.staged = staged;
    }

    /// Reads a list, which messages call `at`.
    pub(crate) fn parse(bytes: &[u8], at: &str) -> Result<Self> {
        let record: Self = serde_json::from_slice(bytes).map_err(|e| {
            Error::new(
                ErrorKind::Failed,
                "swap.bad_record",
                format!("cannot read the list of moves {at}: {e}"),
            )
            .hint("nothing was moved just now; keep the run's folder in the volume and look at it by hand: `replaced` has the old entries")
            .source(e)
        })?;
        if record.version != VERSION && !record.is_legacy() {
            return Err(Error::new(
                ErrorKind::Failed,
                "swap.other_version",
                format!("{at} was written by another version of this program"),
            )
            .hint("finish that run with the version that began it"));
        }
        Ok(record)
    }

    /// The paths that staged entries have when the swap is done, and whether they are
    /// directories.
    pub(crate) fn made_live(&self) -> impl Iterator<Item = (&Path, bool)> {
        self.moves
            .iter()
            .filter(|item| item.staged)
            .map(|item| (item.path.0.as_path(), item.directory))
    }

    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
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
#[serde(try_from = "RelForm", into = "RelForm")]
pub(crate) struct RelPath(pub(crate) PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RelForm {
    Text(String),
    Bytes(Vec<u8>),
}

impl TryFrom<RelForm> for RelPath {
    type Error = String;

    /// One that leads out of the tree is none.
    fn try_from(form: RelForm) -> std::result::Result<Self, String> {
        let path = match form {
            RelForm::Text(text) => PathBuf::from(text),
            RelForm::Bytes(bytes) => PathBuf::from(OsString::from_vec(bytes)),
        };
        match path
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            true => Ok(Self(path)),
            false => Err(format!("{path:?} is no path inside the tree")),
        }
    }
}

impl From<RelPath> for RelForm {
    fn from(rel: RelPath) -> Self {
        match rel.0.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes(rel.0.as_os_str().as_bytes().to_vec()),
        }
    }
}

/// For `fuzz/`: foreign bytes, in pieces and whole.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let Ok(record) = SwapRecord::parse(bytes, "it") else {
        return;
    };
    for (path, _) in record.made_live() {
        // Nothing that it names leads out of the directory that it is about.
        let inside = |part| matches!(part, std::path::Component::Normal(_));
        assert!(path.components().all(inside), "{path:?}");
    }
    if let Ok(text) = record.bytes() {
        assert!(SwapRecord::parse(&text, "it").is_ok());
    }
}
