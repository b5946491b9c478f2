//! What the tests and benches of `restore` share.

mod hosting;
mod memory;
mod processes;
mod swarm;

pub use hosting::{Hosting, assert_same, folder, run, text};
pub use memory::peak_memory;
pub use processes::processes;
pub use swarm::Swarm;
