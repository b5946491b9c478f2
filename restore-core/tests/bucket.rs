//! Stores in buckets, against a real server of S3's protocol: what they list, how they refuse,
//! fetching from them, and making backups in them.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "bucket/fetch.rs"]
mod fetch;
#[path = "fetch/fixture.rs"]
#[expect(dead_code, reason = "shared")]
mod fixture;
#[path = "bucket/ground.rs"]
mod ground;
#[path = "support/s3/mod.rs"]
mod s3;
#[path = "support/sshd.rs"]
mod sshd;
#[path = "bucket/store.rs"]
mod store;
#[path = "bucket/write.rs"]
mod write;
