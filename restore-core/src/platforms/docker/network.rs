//! Where the ports of containers are reached.

use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;

use super::engine::Engine;
use super::json::text;
use crate::model::{Endpoint, Result};

/// The addresses and ports of the host at which an engine publishes a port of a container, as
/// what the engine says of the container has them.
pub(crate) fn bindings(seen: &Value, port: u16) -> Vec<(String, u16)> {
    let bindings = seen.pointer(&format!("/NetworkSettings/Ports/{port}~1tcp"));
    let bindings = bindings.and_then(Value::as_array).into_iter().flatten();
    bindings
        .filter_map(|binding| {
            let host = text(binding, "/HostIp").unwrap_or_default();
            Some((host, text(binding, "/HostPort")?.parse().ok()?))
        })
        .collect()
}

/// The ports of TCP among the keys of an object, such as `5432/tcp`, in their order.
pub(crate) fn tcp_ports<'a>(keys: impl Iterator<Item = &'a String>) -> Vec<u16> {
    let mut ports: Vec<u16> = keys
        .filter_map(|port| port.strip_suffix("/tcp")?.parse().ok())
        .collect();
    ports.sort_unstable();
    ports
}

impl Engine {
    /// The address of a container that processes of this host reach: on a bridge of its own
    /// engine. Addresses on overlay networks exist inside containers only.
    pub(crate) async fn bridge_address(
        &self,
        container: &str,
        seen: &Value,
    ) -> Result<Option<String>> {
        let sandbox = text(seen, "/NetworkSettings/SandboxID").unwrap_or_default();
        let networks = self
            .get(
                "list the networks",
                "/networks?filters=%7B%22driver%22%3A%5B%22bridge%22%5D%7D",
            )
            .await?;
        let gateway = sandbox.get(..12).map(|short| format!("gateway_{short}"));
        for network in networks.as_array().into_iter().flatten() {
            let Some(id) = text(network, "/Id") else {
                continue;
            };
            let network = self
                .get("look at a network", &format!("/networks/{id}"))
                .await?;
            let attached = network.get("Containers").and_then(Value::as_object);
            for (key, at) in attached.into_iter().flatten() {
                if key == container
                    || gateway.as_ref().is_some_and(|gateway| {
                        key == gateway || text(at, "/Name").as_ref() == Some(gateway)
                    })
                {
                    let address = text(at, "/IPv4Address").unwrap_or_default();
                    let address = address.split('/').next().unwrap_or_default();
                    if !address.is_empty() {
                        return Ok(Some(address.to_owned()));
                    }
                }
            }
        }
        Ok(None)
    }
}

/// Whether a service takes connections; why not otherwise.
pub(crate) async fn takes_connections(endpoint: &Endpoint) -> Result<(), String> {
    let place = || format!("{}:{}", endpoint.host, endpoint.port);
    let connect = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
    match tokio::time::timeout(Duration::from_secs(1), connect).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(format!("{}: {e}", place())),
        Err(_) => Err(format!("{}: no answer", place())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn published_ports_are_read_as_the_engine_says_them() {
        let seen = json!({"NetworkSettings": {"Ports": {
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8081"}],
            "443/tcp": null}}});
        let wanted = vec![("0.0.0.0".to_owned(), 8080), ("::".to_owned(), 8081)];
        assert_eq!(bindings(&seen, 80), wanted);
        assert_eq!(bindings(&seen, 443), vec![]);
        assert_eq!(bindings(&seen, 8080), vec![]);
        let keys = ["8125/udp", "8000/tcp", "80/tcp", "x/tcp"].map(str::to_owned);
        assert_eq!(tcp_ports(keys.iter()), [80, 8000]);
    }
}
