//! What is tried on servers that the tests start themselves on this machine: PostgreSQL, Redis,

//! nginx, sshd, a store of S3's protocol, and the whole local platform of the examples.

mod bucket;
mod checks;
mod conformance;
mod differential;
mod faults;
mod fetch;
mod hostile_dumps;
mod hostile_redis;
mod local;
mod maintenance;
mod pitr;
mod pitr_store;
mod postgres;
mod races;
mod redis;
mod tls;
mod unlock;
