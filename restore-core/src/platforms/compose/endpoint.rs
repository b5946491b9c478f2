//! Where a client can connect to a service.

use super::config::ServiceConfig;
use super::containers::{Container, ServiceContainers};
use crate::model::{Endpoint, Error, ErrorKind, Result};
use crate::platforms::docker::engine::Engine;
use crate::platforms::docker::network::{bindings, tcp_ports};

/// Where the host itself is reached.
const LOOPBACK: &str = "127.0.0.1";

/// Where a client of this host connects: as the site says, else where the port is published, else
/// at a container's own address on a bridge of this host.
pub(super) async fn find(
    engine: &Engine,
    config: &ServiceConfig,
    containers: &ServiceContainers,
) -> Result<Endpoint> {
    if let Some(endpoint) = &config.endpoint {
        return Ok(endpoint.clone());
    }
    // What it listens on is said first where that is what is missing.
    let port = inside_port(config, containers)?;
    let Some(container) = containers.running().last() else {
        return Err(not_running(config, containers));
    };
    match reach(engine, container, port).await? {
        Some(endpoint) => Ok(endpoint),
        None => Err(out_of_reach(container, port).hint(format!(
            "say in [services.{}] where clients connect: endpoint = \"HOST:PORT\"",
            config.key
        ))),
    }
}

/// Of a container that runs where this host has no way to it.
fn out_of_reach(container: &Container, port: u16) -> Error {
    Error::new(
        ErrorKind::Config,
        "platform.no_endpoint",
        format!(
            "the container {} publishes no port {port}, and has no address that this host reaches",
            container.name
        ),
    )
}

/// Where a program inside a container of the service connects to its server.
pub(super) fn inside(config: &ServiceConfig, containers: &ServiceContainers) -> Result<Endpoint> {
    Ok(Endpoint::new(LOOPBACK, inside_port(config, containers)?))
}

/// See [`Platform::published`](crate::platform::Platform::published).
pub(super) async fn published(
    engine: &Engine,
    config: &ServiceConfig,
    containers: &ServiceContainers,
    port: u16,
) -> Result<Vec<Endpoint>> {
    if containers
        .newest()
        .is_some_and(Container::is_in_host_network)
    {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for container in containers.running() {
        found.extend(reach(engine, container, port).await?);
    }
    match (found.is_empty(), containers.running().last()) {
        (false, _) => Ok(found),
        (true, None) => Err(not_running(config, containers)),
        (true, Some(container)) => Err(out_of_reach(container, port).hint(format!(
            "publish it in the compose file, on the loopback interface where nobody else is to reach it: ports: [\"127.0.0.1:{port}:{port}\"]"
        ))),
    }
}

/// Where a process of this host reaches a port of a container.
async fn reach(engine: &Engine, container: &Container, port: u16) -> Result<Option<Endpoint>> {
    if container.is_in_host_network() {
        return Ok(Some(Endpoint::new(LOOPBACK, port)));
    }
    if let Some((host, port)) = bindings(&container.seen, port).into_iter().next() {
        let host = match host.as_str() {
            "" | "0.0.0.0" => LOOPBACK,
            "::" => "::1",
            host => host,
        };
        return Ok(Some(Endpoint::new(host, port)));
    }
    let address = engine
        .bridge_address(&container.id, &container.seen)
        .await?;
    Ok(address.map(|address| Endpoint::new(address, port).on_this_host()))
}

/// An error for a service without a container to be asked.
pub(super) fn not_running(config: &ServiceConfig, containers: &ServiceContainers) -> Error {
    let trouble: Vec<String> = containers.all.iter().map(Container::trouble).collect();
    Error::new(
        ErrorKind::Failed,
        "compose.not_running",
        format!(
            "the service {} does not run: {}",
            config.name,
            trouble.join(", ")
        ),
    )
    .hint(format!(
        "`docker compose -p {} ps -a` shows its containers, `docker logs` what they have said",
        config.name.project
    ))
    .retryable()
}

/// The port that a service's server listens on.
fn inside_port(config: &ServiceConfig, containers: &ServiceContainers) -> Result<u16> {
    if let Some(port) = config.port {
        return Ok(port);
    }
    let ports = |pointer: &str| {
        let container = containers.newest();
        let keys = container.and_then(|it| it.seen.pointer(pointer)?.as_object());
        tcp_ports(keys.into_iter().flat_map(serde_json::Map::keys))
    };
    if let [port] = ports("/HostConfig/PortBindings").as_slice() {
        return Ok(*port);
    }
    match ports("/Config/ExposedPorts").as_slice() {
        [port] => Ok(*port),
        exposed => Err(Error::new(
            ErrorKind::Config,
            "platform.no_endpoint",
            format!(
                "which port the service {} listens on cannot be told: its containers expose {}",
                config.name,
                match exposed {
                    [] => "none".to_owned(),
                    exposed => format!("{exposed:?}"),
                }
            ),
        )
        .hint(format!("say it in [services.{}]: port = 5432", config.key))),
    }
}
