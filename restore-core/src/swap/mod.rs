//! Swapping staged entries for live ones by rename, so that it can be finished or taken back
//! after a kill at any point.
//!
//! Before the first rename the whole list of moves is written down and synced, where whoever owns
//! the data cannot write (see [`Records`]); the data's owner may be an enemy. So all that is done
//! goes by held descriptors and below them, follows no link and enters no other file system. Each
//! move is told to be done or not by looking at three places: the live tree, `staged` and
//! `replaced`. An undo writes a list of its own first, because what is live by then may have
//! been changed by the services that ran on it.

pub(crate) mod scope;

mod dir;
mod held;
mod kept;
mod ledger;
mod local_volume;
mod mounts;
mod perform;
mod plan;
mod record;
mod undo;

pub use held::StagingDir;

pub(crate) use dir::{Dir, EntryMeta};
pub(crate) use ledger::not_ours;
pub(crate) use ledger::{Found, Ledger, RecordKey, Records, claim, find};
pub use local_volume::LocalVolume;
pub(crate) use local_volume::records_in;
pub(crate) use perform::SwapExecutor;
pub(crate) use plan::plan;
#[cfg(test)]
pub(crate) use record::RECORD;
#[cfg(feature = "fuzzing")]
pub(crate) use record::fuzz;
pub(crate) use record::{Phase, SwapRecord};
pub(crate) use undo::{below_directories, plan_undo};

/// What holds the staged tree inside the folder of a run.
pub(crate) const STAGED: &str = "staged";
/// What holds the replaced entries.
pub(crate) const REPLACED: &str = "replaced";
/// What holds staged entries that the scope leaves out.
pub(crate) const LEFT_OUT: &str = "left-out";
/// What holds entries that an undo found where neither tree has room for them.
pub(crate) const IN_THE_WAY: &str = "in-the-way";
/// What holds room back for an undo: on a disk that has filled up since, it needs some to write
/// its list.
pub(crate) const RESERVE: &str = "reserve";
/// How the folders of all runs begin.
pub(crate) const FOLDER_PREFIX: &str = ".restore-";

/// The places that a swap moves between, each opened once.
pub(crate) struct SwapDirs {
    /// The live tree.
    pub(crate) live: Dir,
    /// The folder of the run inside it.
    pub(crate) folder: Dir,
    /// The staged tree.
    pub(crate) staged: Dir,
    /// What the swap has replaced.
    pub(crate) replaced: Dir,
    /// See [`LEFT_OUT`].
    pub(crate) left_out: Dir,
    /// See [`IN_THE_WAY`].
    pub(crate) in_the_way: Dir,
    /// Where the list is.
    pub(crate) ledger: Ledger,
}

#[cfg(test)]
mod tests;
