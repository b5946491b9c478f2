//! Packed, encrypted and signed backups, made with `tar` and `gpg` as operators do.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "unlock/artifacts.rs"]
mod artifacts;
#[path = "fetch/fixture.rs"]
#[expect(dead_code, reason = "shared with the test of fetching")]
mod fixture;
#[path = "unlock/keys.rs"]
mod keys;
#[path = "unlock/packed.rs"]
mod packed;
#[path = "unlock/signed.rs"]
mod signed;
#[path = "support/sshd.rs"]
#[expect(dead_code, reason = "shared with the test of fetching")]
mod sshd;
