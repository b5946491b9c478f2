//! What needs no server and no engine: the data path, backups, the run engine on toy components,

//! trees, volumes and crontabs of this machine, and the contracts of all of these.

mod agent;
mod backup;
mod compose_files;
mod conformance;
mod contents;
mod create;
mod crontab;
mod deep;
mod documentation;
mod engine;
mod error_codes;
mod files;
mod foreign_journals;
mod fuzzing;
mod hostile_signature;
mod kinds;
mod layers;
mod node_files;
mod pins;
mod schema;
mod spans;
mod stack_source;
mod stream;
mod unlock;
mod unmounted;
mod volume;
mod volume_of_others;
mod way_back;
