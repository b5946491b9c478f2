//! The program as its users meet it: arguments, exit codes, what goes to which stream.

mod backups;
mod bucket;
mod config_check;
mod contents;
mod durable;
mod fetch;
mod init;
mod missing;
mod queues;
mod refused;
mod runs;
mod site;
mod status;
mod usage;
