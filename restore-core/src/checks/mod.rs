//! The library's own kinds of checks.

pub(crate) mod attempt;
pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod http;
pub(crate) mod kinds;
pub(crate) mod log;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod sql;
