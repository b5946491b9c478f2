//! Plans and runs: planner, executor, journal, undo, and what a site can do.
//!
//! It knows components, platforms, stores and checks by their traits alone, and decides by values: no code,
//! no name of a kind and no message is compared.
//!
//! - `operations`: what somebody asks of a site. Which run or backup is meant, whether that can be, the locks.
//! - `plan`: everything that can be known before anything is touched. `preflight` has the order.
//! - `run`: one run at work, its journal, and its way back.
//! - `backup_job`: one backup.

pub(crate) mod backup_job;
pub(crate) mod handle;
mod hooks;
pub(crate) mod operations;
pub(crate) mod plan;
pub(crate) mod run;
