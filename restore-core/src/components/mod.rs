//! The library's own kinds of components.

pub(crate) mod archive;
mod compare_tree;
pub(crate) mod crontab;
pub(crate) mod far_less;
pub(crate) mod files;
mod hooks;
pub(crate) mod image;
pub(crate) mod kinds;
pub(crate) mod members;
pub(crate) mod not_there;
pub(crate) mod place;
pub(crate) mod postgres;
mod readers;
pub(crate) mod redis;
pub(crate) mod remote_task;
pub(crate) mod volume;
