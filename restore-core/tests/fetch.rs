//! Stores on other hosts: what they list, how they refuse, and fetching from them across cut
//! wires, full disks and files that change.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "fetch/broken.rs"]
mod broken;
#[path = "fetch/fixture.rs"]
mod fixture;
#[path = "support/sshd.rs"]
mod sshd;
#[path = "fetch/store.rs"]
mod store;
#[path = "fetch/whole.rs"]
mod whole;
