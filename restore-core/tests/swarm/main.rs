//! The swarm platform on an engine of its own: services, programs, places.
#![expect(clippy::unwrap_used, reason = "tests")]

mod engine;
mod images;
mod places;
mod programs;
mod services;
