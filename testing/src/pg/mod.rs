//! Throwaway PostgreSQL clusters, a platform of nothing but one of them, and backups of it.

mod cluster;
mod content;
mod initdb;
mod majors;
mod platform;
mod rig;

pub use cluster::Cluster;
pub use initdb::new_cluster;
pub(crate) use initdb::owner;
pub use majors::majors;
pub use rig::Rig;

pub const BIN: &str = "/usr/lib/postgresql/15/bin";

pub const ID: &str = "20240215-020000";
