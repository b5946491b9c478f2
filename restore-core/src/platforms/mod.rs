//! The library's own platforms.
//!
//! `docker` has what any Docker host needs; `swarm` has what is a swarm's.

pub(crate) mod docker;
pub(crate) mod kinds;
pub(crate) mod local;
pub(crate) mod swarm;
