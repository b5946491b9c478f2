//! What the tests and benches of `restore` share.

mod hosting;
mod swarm;

pub use hosting::{Hosting, assert_same, run, text};
pub use swarm::Swarm;
