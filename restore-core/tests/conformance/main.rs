//! The library's own stores, components, volumes and platforms keep the contracts that others are
//! held to; and the suites notice where somebody does not.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../support/archives.rs"]
#[expect(dead_code, reason = "shared")]
mod archives;
#[path = "../support/local.rs"]
#[expect(dead_code, reason = "shared")]
mod local;
#[path = "../support/nodes.rs"]
mod nodes;
#[path = "../support/pg/mod.rs"]
#[expect(dead_code, reason = "shared")]
mod pg;
#[path = "../support/redis/mod.rs"]
#[expect(dead_code, reason = "shared")]
mod redis_servers;
#[path = "../support/trees.rs"]
#[expect(dead_code, reason = "shared")]
mod trees;

mod broken;
mod databases;
mod files;
mod platforms;
mod stores;

use redis_servers::beside;
