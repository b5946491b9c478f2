//! The library's own stores: directories, other hosts by ssh, buckets.

#[cfg(feature = "object-store")]
pub(crate) mod bucket;
pub(crate) mod config;
pub(crate) mod directory;
pub(crate) mod directory_write;
pub(crate) mod names;
mod patterns;
pub(crate) mod ssh;
mod times;

#[cfg(test)]
mod tests;
