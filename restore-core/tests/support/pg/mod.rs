//! Throwaway PostgreSQL clusters, a platform of nothing but one of them, and backups of it.

mod cluster;
mod content;
mod platform;
mod rig;

pub(crate) use cluster::Cluster;
pub(crate) use rig::Rig;

pub(crate) const BIN: &str = "/usr/lib/postgresql/15/bin";

pub(crate) const ID: &str = "20240215-020000";
