//! What any Docker host needs: its engine, programs in containers, throwaway containers, archives of
//! images, and the agent beside a volume. Knows nothing of swarms, nor of Compose.

pub(crate) mod address;
pub(crate) mod agent;
pub(crate) mod agent_container;
pub(crate) mod client_program;
pub(crate) mod copy_into_container;
pub(crate) mod engine;
pub(crate) mod exec;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod host_services;
pub(crate) mod image_archive;
pub(crate) mod images;
pub(crate) mod json;
pub(crate) mod killed;
pub(crate) mod logs;
pub(crate) mod mounts;
pub(crate) mod network;
pub(crate) mod process_identity;
pub(crate) mod processes;
pub(crate) mod throwaway;
pub(crate) mod transport;
pub(crate) mod wire;
pub(crate) mod yaml;
