//! The program as its users meet it: arguments, exit codes, what goes to which stream.

mod backups;
mod bucket;
mod fetch;
mod runs;
#[path = "../../../restore-core/tests/support/s3/mod.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "shared with the library's tests"
)]
mod s3;
mod site;
#[path = "../../../restore-core/tests/support/sshd.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "shared with the library's tests"
)]
mod sshd;
mod usage;
