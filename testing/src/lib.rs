//! What the tests and benches of `restore` share.

mod hosting;
mod processes;
mod swarm;

pub use hosting::{Hosting, assert_same, folder, run, text};
pub use processes::processes;
pub use swarm::Swarm;
