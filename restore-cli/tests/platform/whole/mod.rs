//! The program on a whole platform: every restore, refusal and accident that its users may meet,

//! judged by what the platform holds afterwards, content by content.

mod backups;
mod beginnings;
mod beside;
mod canary;
mod crashes;
mod create;
mod disaster;
mod drill;
mod every_damage;
mod failures;
mod full;
mod hooks;
mod new_cluster;
mod older;
mod pages;
mod refusals;
mod ruins;
mod safety;
mod selection;
mod stopped;
pub mod support;
mod sweep;
mod traffic;
mod two_runs;
mod ways_out;
