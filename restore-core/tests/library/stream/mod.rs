//! The data path: real archives come back entry by entry, bad ones are refused by name.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use restore_core::stream::{
    Digest, Source, UnpackPolicy, copy_verified, estimate_unpacked, hash_file, read_through,
    unpack, walk,
};
use restore_core::{Error, ErrorKind, Progress};
use restore_testing::stream::*;
use tempfile::tempdir;
use tokio_util::sync::CancellationToken;

mod damaged;
mod files;
mod foreign;
mod memory;
mod real;
mod refused;
mod selected;

fn live(root: &str) -> UnpackPolicy {
    let mut policy = UnpackPolicy::default();
    policy.live_root = PathBuf::from(root);
    policy
}
