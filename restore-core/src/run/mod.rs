//! Runs: one execution of a plan, with its journal, lock, undo and resumption.

mod boundary;
mod confirm;
mod context;
mod execution;
mod forward;
mod id;
mod journal;
mod lock;
mod order;
mod outcome;
mod record;
mod report;
mod safety;
mod state;
mod undo;

pub use boundary::{Boundary, BoundaryHook, RunOptions};
pub use context::{FactStore, MemoryFacts, RunContext};
pub(crate) use execution::Execution;
pub use id::RunId;
pub(crate) use journal::{Journal, Turn};
pub(crate) use lock::SiteLock;
pub use outcome::Outcome;
pub(crate) use record::{Action, Record};
pub(crate) use report::report_of;
pub use safety::SafetyBackup;
pub(crate) use state::RunState;
