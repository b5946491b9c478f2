//! Maintenance mode with a real nginx.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../support/local.rs"]
mod support;

mod obstacles;
mod shown;
mod web;
