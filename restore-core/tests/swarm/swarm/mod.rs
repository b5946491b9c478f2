//! The swarm platform on an engine of its own: services, programs, places, and whole runs of a
//! platform that is quick to stop and start.

mod crashes;
pub mod engine;
mod failures;
mod from_nothing;
mod images;
mod places;
mod programs;
mod services;
mod small;
mod stacks;
mod versions;
