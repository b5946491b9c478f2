//! A stream to a server, and whether what goes through it leaves this machine.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::model::{Endpoint, Error, ErrorKind, Result};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// Any stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream to a server.
pub(super) struct Wire {
    pub(super) stream: Box<dyn Stream>,
    pub(super) reach: Reach,
}

/// How far what is sent goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// A unix socket: the file system says who may be at its other end.
    Socket,
    /// A port of this machine: while the server is down, anybody here may have it.
    Here,
    /// Over a network.
    Elsewhere,
}

/// Connects to a unix socket.
pub(super) async fn socket(path: PathBuf) -> io::Result<Wire> {
    let stream = within(UnixStream::connect(path)).await?;
    Ok(Wire {
        stream: Box::new(stream),
        reach: Reach::Socket,
    })
}

/// Connects to a port. Whether it is of this machine is judged by the connection, not by its name.
pub(super) async fn port(endpoint: &Endpoint) -> io::Result<Wire> {
    let stream = within(TcpStream::connect((endpoint.host.as_str(), endpoint.port))).await?;
    stream.set_nodelay(true)?;
    keep_alive(&stream)?;
    let there = stream.peer_addr()?.ip().to_canonical();
    let ours = stream.local_addr()?.ip().to_canonical();
    let here = endpoint.on_this_host || there.is_loopback() || there == ours;
    Ok(Wire {
        stream: Box::new(stream),
        reach: if here { Reach::Here } else { Reach::Elsewhere },
    })
}

impl Wire {
    /// Puts TLS on it, of a server of the kind `of`.
    ///
    /// The outer error says that the server is not to be trusted or has no TLS, the inner one
    /// that the connection broke.
    pub(super) async fn secured(
        self,
        config: Arc<ClientConfig>,
        of: &str,
        endpoint: &Endpoint,
    ) -> Result<io::Result<Self>> {
        let refused = |why: &dyn std::fmt::Display| {
            Error::new(
                ErrorKind::Config,
                "tls.refused",
                format!(
                    "no TLS connection to {of} at {}:{}: {why}",
                    endpoint.host, endpoint.port
                ),
            )
            .hint("its certificate must name the endpoint's host and be signed by whom ca_file names (by whom this machine trusts, without ca_file)")
        };
        let name = ServerName::try_from(endpoint.host.clone()).map_err(|e| refused(&e))?;
        let connecting = TlsConnector::from(config).connect(name, self.stream);
        match within(connecting).await {
            Ok(stream) => Ok(Ok(Self {
                stream: Box::new(stream),
                reach: self.reach,
            })),
            // So rustls wraps what it says.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(refused(&error)),
            Err(error) => Ok(Err(error)),
        }
    }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(CONNECT, work).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A host that went away says nothing any more.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(30))?;
    Ok(())
}
