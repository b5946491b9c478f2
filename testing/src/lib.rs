//! What the tests and benches of `restore` share: servers, platforms and backups to try it on, and
//! what is asked of them. Whatever is made here is made for one test and gone with it.
#![expect(
    clippy::new_without_default,
    reason = "what starts a server is called, not defaulted to"
)]

pub mod archives;
pub mod backups;
pub mod beside;
mod crash;
mod ended;
mod hosting;
pub mod local;
pub mod locked;
mod memory;
pub mod nodes;
pub mod pages;
pub mod pg;
pub mod pitr;
pub mod prepared;
mod processes;
mod programs;
pub mod redis;
pub mod remote;
pub mod s3;
mod sample;
pub mod sshd;
pub mod stream;
mod swarm;
pub mod tls;
pub mod trees;

pub use crash::{At, boundaries, crash, crash_if_reached};
pub use ended::Ended;
pub use hosting::{Hosting, assert_same, folder, run, text};
pub use memory::peak_memory;
pub use processes::processes;
pub use programs::{example, test_again};
pub use sample::{Random, Sample, Share, soak_until};
pub use swarm::Swarm;

/// Writes a file that its owner alone may read: secrets that others can read are refused.
///
/// # Panics
///
/// Where it cannot be written.
pub fn write_secret(path: impl AsRef<std::path::Path>, text: impl AsRef<[u8]>) {
    use std::os::unix::fs::PermissionsExt as _;

    let path = path.as_ref();
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let closed = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, closed).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
