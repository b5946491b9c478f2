//! Runs: one execution of a plan, with its journal, lock, undo and resumption.
//!
//! | what | where |
//! |---|---|
//! | one process at work on a run: a step, its records, its end | `execution` |
//! | stage, stop, swap, start, check | `forward`, `order` for several services at once |
//! | the same in reverse | `undo`; `way_back` looks first whether it can be |
//! | the file; its lines; what they add up to | `journal`, `record`, `state` |
//! | what is made, copied, deleted beside the swaps | `create`, `safety`, `confirm` |
//! | what somebody must agree to first | `agree` |
//! | what takes the page down, kept as it goes up | `page` |
//! | an end as things stand | `abandon` |
//!
//! A process that dies leaves its journal at `intent STEP`, before an effect, or `done STEP`, behind it. Another
//! one reads it, and goes on in `forward` or `undo`: each step is done again where `done` is missing. Between
//! the stops and the swaps nothing is live yet: `forward` swaps, `undo` starts the services again.

mod abandon;
mod agree;
mod boundary;
mod confirm;
mod create;
mod execution;
mod forward;
mod hooks;
mod journal;
mod lock;
mod order;
mod page;
mod record;
mod report;
mod safety;
mod state;
mod undo;
mod way_back;

pub(crate) use abandon::change_page;
pub(crate) use confirm::CONFIRMED;

pub use boundary::{Ask, Boundary, BoundaryHook, RunOptions};
pub(crate) use boundary::{GuardedSink, WatcherGuard};

pub(crate) use execution::RunExecutor;

pub(crate) use hooks::has_hooks_left;

pub(crate) use journal::{DowntimeChange, Journal, LostRun};
pub(crate) use lock::SiteLock;

pub(crate) use page::{ensure_way_up, keeps_page};
pub(crate) use record::{Action, Record};
pub(crate) use report::{KeptAt, ask_kept_at, report_of, report_with, weigh};

pub(crate) use state::RunState;
pub(crate) use way_back::{ensure_staged, ensure_way_back, not_as_left};
