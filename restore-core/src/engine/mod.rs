//! Plans and runs: planner, executor, journal, undo, and what a site can do.
//!
//! It knows components, platforms, stores and checks by their traits alone.

pub(crate) mod backup_job;
pub(crate) mod operations;
pub(crate) mod plan;
pub(crate) mod run;
