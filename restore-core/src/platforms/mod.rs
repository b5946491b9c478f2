//! The library's own platforms.
//!
//! `docker` has what any Docker host needs; `swarm` has what is a swarm's, `compose` what is Compose's.

pub(crate) mod compose;
pub(crate) mod docker;
pub(crate) mod kinds;
pub(crate) mod local;
pub(crate) mod swarm;
