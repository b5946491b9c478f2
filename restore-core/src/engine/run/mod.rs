//! Runs: one execution of a plan, with its journal, lock, undo and resumption.

mod abandon;
mod boundary;
mod confirm;
mod create;
mod execution;
mod forward;
mod journal;
mod lock;
mod order;
mod record;
mod report;
mod safety;
mod state;
mod undo;
mod way_back;

pub(crate) use abandon::change_page;
pub(crate) use confirm::CONFIRMED;

pub use boundary::{Ask, Boundary, BoundaryHook, RunOptions};

pub(crate) use execution::RunExecutor;

pub(crate) use journal::{DowntimeChange, Journal, LostRun};
pub(crate) use lock::SiteLock;

pub(crate) use record::{Action, Record};
pub(crate) use report::{report_of, weigh};

pub(crate) use state::RunState;
pub(crate) use way_back::{ensure_staged, ensure_way_back, not_as_left};
