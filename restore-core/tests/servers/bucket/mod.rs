//! Stores in buckets, against a real server of S3's protocol: what they list, how they refuse,
//! fetching from them, and making backups in them.

mod fetch;
mod ground;
mod store;
mod write;
