//! What an engine has of Compose projects, for whoever has no configuration yet.

use std::path::Path;

use serde_json::Value;

use super::containers::PROJECT;
use crate::model::Result;
use crate::platforms::docker::address::Address;
use crate::platforms::docker::engine::Engine;

/// Containers and volumes as the engine describes them.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// The containers of all projects, running or not.
    pub(crate) containers: Vec<Value>,
    /// The volumes, whoever made them.
    pub(crate) volumes: Vec<Value>,
}

/// Asks the engine behind a socket.
pub(crate) async fn listed(socket: &Path) -> Result<Listed> {
    let engine = Engine::manager(Address::Unix(socket.to_owned()));
    engine.docker().await?;
    let mut containers = Vec::new();
    for listed in engine.containers_with(&[PROJECT.to_owned()]).await? {
        if let Some(id) = listed.get("Id").and_then(Value::as_str)
            && let Some(container) = engine.container(id).await?
        {
            containers.push(container.seen);
        }
    }
    let volumes = engine.get("list the volumes", "/volumes").await?;
    let volumes = volumes.get("Volumes").and_then(Value::as_array);
    Ok(Listed {
        containers,
        volumes: volumes.cloned().unwrap_or_default(),
    })
}
