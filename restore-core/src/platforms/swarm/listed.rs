//! What an engine has, for whoever has no configuration yet.

use std::path::Path;

use serde_json::Value;

use crate::model::Result;
use crate::platforms::docker::address::Address;
use crate::platforms::docker::engine::Engine;
use crate::platforms::docker::json::text;

/// Services and containers as the engine describes them.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// The services of its swarm; none where it manages none.
    pub(crate) services: Vec<Value>,
    /// The address by which the other nodes of its swarm reach it.
    pub(crate) address: Option<String>,
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
    let info = engine.get("ask the engine for its swarm", "/info").await;
    let address = info.ok().and_then(|info| text(&info, "/Swarm/NodeAddr"));
    Ok(Listed {
        // An engine in no swarm refuses.
        services: services.map(list).unwrap_or_default(),
        address: address.filter(|address| !address.is_empty()),
        containers,
    })
}
