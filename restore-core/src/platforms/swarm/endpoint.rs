//! Where a client can connect to a service.

use super::config::ServiceConfig;
use super::nodes::{Nodes, RunningTask};
use super::snapshot::ServiceSnapshot;
use crate::model::{Endpoint, Error, ErrorKind, Result};
use crate::platforms::docker::engine::Engine;
use crate::platforms::docker::network::{bindings, tcp_ports};

/// Where a client of this host connects: as the site says, else through a port that the swarm
/// publishes on the node of a task, else at a container's own address on this host's bridge.
pub(super) async fn find(
    nodes: &Nodes,
    config: &ServiceConfig,
    view: &ServiceSnapshot,
) -> Result<Endpoint> {
    if let Some(endpoint) = &config.endpoint {
        return Ok(endpoint.clone());
    }
    let Some(place) = nodes.place(view).await? else {
        // What it exposes is said first where that is what is missing.
        let home = nodes.home(view).await?;
        inside_port(&home, config, view).await?;
        return Err(not_running(config, view));
    };
    let inside = inside_port(&place.engine, config, view).await?;
    match reach(nodes, view, &place, inside).await? {
        Some(endpoint) => Ok(endpoint),
        None => Err(Error::new(
            ErrorKind::Config,
            "platform.no_endpoint",
            format!(
                "the service {} publishes no port, and its container has no address that this host reaches",
                config.name
            ),
        )
        .hint(format!(
            "say in [services.{}] where clients connect: endpoint = \"HOST:PORT\"",
            config.key
        ))),
    }
}

/// See [`Platform::published`](crate::platform::Platform::published).
pub(super) async fn published(
    nodes: &Nodes,
    config: &ServiceConfig,
    view: &ServiceSnapshot,
    port: u16,
) -> Result<Vec<Endpoint>> {
    let places = nodes.places(view).await?;
    if places.is_empty() || places.len() < view.running().count() {
        return Err(not_running(config, view));
    }
    let mut found = Vec::new();
    for place in &places {
        found.extend(reach(nodes, view, place, port).await?);
    }
    if found.is_empty() {
        return Err(not_running(config, view));
    }
    // Behind the swarm's own balancer too: that is where users come in.
    let meshed = view.ports().into_iter();
    let meshed = meshed.filter(|at| at.inside == port && !at.host_mode);
    let host = node_address(nodes, nodes.own().await?).await?;
    found.extend(meshed.map(|at| Endpoint::new(host.clone(), at.outside)));
    Ok(found)
}

/// Where a process of this host reaches a port of a container: at the address that it is
/// published at, else at the container's own on a bridge of this host.
async fn reach(
    nodes: &Nodes,
    view: &ServiceSnapshot,
    place: &RunningTask,
    port: u16,
) -> Result<Option<Endpoint>> {
    let (engine, container) = (place.engine.as_ref(), place.container.as_str());
    let seen = engine
        .get(
            "look at a container",
            &format!("/containers/{container}/json"),
        )
        .await?;
    for (host, port) in bindings(&seen, port) {
        let host = match host.as_str() {
            "::" if engine.is_here() => "::1".to_owned(),
            "" | "0.0.0.0" | "::" => node_address(nodes, &place.node).await?,
            _ => host,
        };
        let elsewhere = !engine.is_here()
            && host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        if !elsewhere {
            return Ok(Some(Endpoint::new(host, port)));
        }
    }
    if !engine.is_here() {
        // A node's own engine need not know what the swarm publishes there.
        let mut published = view.ports().into_iter();
        return match published.find(|at| at.inside == port) {
            Some(at) => Ok(Some(Endpoint::new(
                node_address(nodes, &place.node).await?,
                at.outside,
            ))),
            None => Ok(None),
        };
    }
    let address = engine.bridge_address(container, &seen).await?;
    // A bridge of this host leads there.
    Ok(address.map(|address| Endpoint::new(address, port).on_this_host()))
}

/// Where this host reaches what a node publishes on all of its addresses.
async fn node_address(nodes: &Nodes, id: &str) -> Result<String> {
    if nodes.engine(id).await?.is_here() {
        return Ok("127.0.0.1".to_owned());
    }
    let node = nodes.by_id(id).await?;
    Ok(match node.address.as_str() {
        "" | "0.0.0.0" => node.name,
        _ => node.address,
    })
}

/// Where a program inside the service's container connects to its server.
pub(super) async fn inside(
    nodes: &Nodes,
    config: &ServiceConfig,
    view: &ServiceSnapshot,
) -> Result<Endpoint> {
    let port = match config.port {
        Some(port) => port,
        None => {
            let home = nodes.home(view).await?;
            inside_port(&home, config, view).await?
        }
    };
    Ok(Endpoint::new("127.0.0.1", port))
}

/// An error for a service without a container to be asked.
pub(super) fn not_running(config: &ServiceConfig, view: &ServiceSnapshot) -> Error {
    let starting = view.running().count();
    let what = match starting {
        0 => format!("the service {} does not run", config.name),
        count => format!(
            "of the {count} tasks of the service {} not all have containers that run",
            config.name
        ),
    };
    Error::new(ErrorKind::Failed, "swarm.not_running", what)
        .hint(format!("`docker service ps {}` says why", config.name))
        .retryable()
}

async fn inside_port(
    engine: &Engine,
    config: &ServiceConfig,
    view: &ServiceSnapshot,
) -> Result<u16> {
    if let Some(port) = config.port {
        return Ok(port);
    }
    let published = view.ports();
    if let [port] = published.as_slice() {
        return Ok(port.inside);
    }
    let image = view.image();
    let exposed: Vec<u16> = match engine.docker().await?.inspect_image(&image).await {
        Ok(image) => tcp_ports(
            image
                .config
                .and_then(|config| config.exposed_ports)
                .unwrap_or_default()
                .iter(),
        ),
        Err(_) => Vec::new(),
    };
    match exposed.as_slice() {
        [port] => Ok(*port),
        _ => Err(Error::new(
            ErrorKind::Config,
            "platform.no_endpoint",
            format!(
                "which port the service {} listens on cannot be told: its image {image} exposes {}",
                config.name,
                match exposed.len() {
                    0 => "none".to_owned(),
                    _ => format!("{exposed:?}"),
                }
            ),
        )
        .hint(format!("say it in [services.{}]: port = 5432", config.key))),
    }
}
