//! What a swap is about, and how far it has come.

use serde::{Deserialize, Serialize};

/// Which entries of a volume a swap is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SwapScope {
    /// Every top-level entry, dotfiles included: afterwards the volume holds what was staged and
    /// nothing else.
    Everything,
    /// Only top-level entries of these names, whether live, staged or both; others stay.
    Entries(Vec<String>),
    /// File by file: directories that both have stay the same directory (bind mounts hold on
    /// to them), each file is replaced by rename, and files that the staged tree lacks leave.
    /// Paths in `keep` are neither moved nor replaced, nor are files of the maintenance mode.
    Tree {
        /// Left alone on both sides: a path relative to the volume, with all below it, or
        /// `**/NAME` (`**/conf.d/NAME`) at any depth, `*` standing for any characters but `/`.
        keep: Vec<String>,
    },
    /// File by file as in a tree, but only these paths.
    Paths {
        /// Relative to the volume; a directory: all below it. One that is neither live nor
        /// staged is an error before anything is moved.
        paths: Vec<String>,
        /// As for a tree.
        keep: Vec<String>,
    },
}

/// How far the swap of a run has come on a volume; found by looking, not by remembering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SwapState {
    /// Nothing of the run is on the volume.
    Nothing,
    /// Something is staged; live data is untouched.
    Staged,
    /// A swap was begun and is neither finished nor undone.
    Swapping,
    /// The staged data is live; what it replaced is kept beside it.
    Swapped,
}

/// What [`Volume::discard`](crate::platform::Volume::discard) deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Discard {
    /// What was staged (or, after an undo, what had been live in between) and is not live.
    Staged,
    /// The data that the run replaced: there is no way back afterwards.
    Replaced,
}

/// What of the entries that a swap made live is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Compared {
    /// Entries that the swap made live.
    pub swapped: u64,
    /// Those of them that are there.
    pub present: u64,
    /// How many of the others were directories.
    pub directories_gone: u64,
    /// The first few of the others.
    pub gone: Vec<String>,
}
