//! Where a service is reached.

use serde::{Deserialize, Serialize};

/// Where a client can connect to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Endpoint {
    /// A host name or address, or the directory of a unix socket (starts with `/`).
    pub host: String,
    /// The port.
    pub port: u16,
    /// What is sent there does not leave this host, whatever the address says: a container's own
    /// address on a bridge of this host, for instance. Of loopback addresses and sockets that is
    /// known anyway.
    #[serde(default)]
    pub on_this_host: bool,
}

impl Endpoint {
    /// An endpoint at a host or socket directory, and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            on_this_host: false,
        }
    }

    /// This endpoint; what is sent there does not leave this host.
    #[must_use]
    pub fn on_this_host(mut self) -> Self {
        self.on_this_host = true;
        self
    }
}
