//! Compose projects on an engine that is in no swarm: their containers, and whole runs.

mod crashes;
mod from_nothing;
mod images;
mod init;
mod names;
mod places;
mod project;
mod runs;
mod services;
