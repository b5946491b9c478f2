//! Volumes of other machines: a program of ours beside the volume does there what a
//! [`LocalVolume`](super::local::LocalVolume) does here, asked over its standard input.
//!
//! One process answers one request ([`serve`]), so nothing is left running and nothing has to be
//! remembered: whatever a killed request did is found by looking, as after any other crash. Two
//! requests never work on a volume at the same time, also when the connection to the first was
//! lost and it still works: the second waits.

mod message;
mod remote;
mod serve;

pub use remote::{Launch, RemoteVolume};
pub use serve::serve;
