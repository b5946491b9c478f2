//! Volumes of other machines: a program of ours beside the volume does there what a
//! [`LocalVolume`](crate::swap::LocalVolume) does here, asked over its standard input.
//!
//! One process answers one request ([`serve`]), so nothing has to be remembered: whatever a killed
//! request did is found by looking, as after any other crash. Two requests never move or delete on
//! a volume at the same time, also when the connection to the first was lost and it still works: the
//! second waits. A component's remote task may take long; the component itself sees to it that what is
//! left of one has ended before the next is done.

mod message;
mod remote;
mod serve;

pub use remote::{Launch, RemoteVolume};
pub use serve::serve;

/// For `fuzz/`: what an agent is asked, and what it answers.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    message::fuzz(bytes);
}

/// For `fuzz/`: all that comes back from whatever runs beside a volume.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_exchange(bytes: &[u8]) {
    remote::fuzz(bytes);
}
