//! The program on a whole platform: every restore, refusal and accident that its users may meet,

//! judged by what the platform holds afterwards, content by content.

mod backups;
mod beginnings;
mod canary;
mod crashes;
mod create;
mod drill;
mod every_damage;
mod failures;
mod full;
mod older;
mod refusals;
mod ruins;
mod safety;
mod selection;
mod stopped;
pub mod support;
mod traffic;
mod two_runs;
mod ways_out;
