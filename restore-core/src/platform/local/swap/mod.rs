//! Swapping staged entries for live ones by rename, so that it can be finished or taken back
//! after a kill at any point.
//!
//! Before the first rename the whole list of moves is written beside the data and synced. Each
//! move is told to be done or not by looking at three places: the live tree, `staged` and
//! `replaced`. An undo writes a list of its own first, because what is live by then may have
//! been changed by the services that ran on it.

mod keep;
mod mounts;
mod perform;
mod place;
mod plan;
mod record;
mod undo;

pub(crate) use keep::{Keep, relative};
pub(super) use perform::Hands;
pub(crate) use place::{Meta, Place};
pub(super) use plan::plan;
pub(super) use record::{Phase, Record};
pub(super) use undo::{below_directories, plan_undo};

/// What holds the staged tree inside the folder of a run.
pub(super) const STAGED: &str = "staged";
/// What holds the replaced entries.
pub(super) const REPLACED: &str = "replaced";
/// What holds staged entries that the scope leaves out.
pub(super) const LEFT_OUT: &str = "left-out";
/// What holds entries that an undo found where neither tree has room for them.
pub(super) const IN_THE_WAY: &str = "in-the-way";
/// What holds room back for an undo: on a disk that has filled up since, it needs some to write
/// its list.
pub(super) const RESERVE: &str = "reserve";
/// How the folders of all runs begin.
pub(super) const FOLDER_PREFIX: &str = ".restore-";

/// The places that a swap moves between, each opened once.
pub(super) struct Area {
    /// The live tree.
    pub(super) live: Place,
    /// The folder of the run inside it.
    pub(super) folder: Place,
    /// The staged tree.
    pub(super) staged: Place,
    /// What the swap has replaced.
    pub(super) replaced: Place,
    /// See [`LEFT_OUT`].
    pub(super) left_out: Place,
    /// See [`IN_THE_WAY`].
    pub(super) in_the_way: Place,
}

#[cfg(test)]
mod tests;
