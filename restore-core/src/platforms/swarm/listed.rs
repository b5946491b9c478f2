//! What an engine has, for whoever has no configuration yet.

use std::path::Path;

use serde_json::Value;

use crate::model::Result;
use crate::platforms::docker::address::Address;
use crate::platforms::docker::engine::Engine;

/// Services and containers as the engine describes them.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// The services of its swarm; none where it manages none.
    pub(crate) services: Vec<Value>,
    /// The containers that run.
    pub(crate) containers: Vec<Value>,
}

/// Asks the engine behind a socket.
pub(crate) async fn listed(socket: &Path) -> Result<Listed> {
    let engine = Engine::manager(Address::Unix(socket.to_owned()));
    engine.docker().await?;
    let list = |value: Value| value.as_array().cloned().unwrap_or_default();
    let containers = list(
        engine
            .get("list the containers", "/containers/json")
            .await?,
    );
    let services = engine.get("list the services", "/services").await;
    Ok(Listed {
        // An engine in no swarm refuses.
        services: services.map(list).unwrap_or_default(),
        containers,
    })
}
