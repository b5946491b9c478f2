//! Programs of this host: as whom they run, what they say, how they end.

pub(crate) mod account;
pub(crate) mod command;
pub(crate) mod exec;
pub(crate) mod launch;
pub(crate) mod procs;
pub(crate) mod programs;
pub(crate) mod scratch;
pub(crate) mod tail;
pub(crate) mod watch;
