//! A stream to a server, and whether what goes through it leaves this machine.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, OFlags};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::model::{Endpoint, Error, ErrorKind, Result};
use crate::sys::open_by_our_links;

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
    /// A unix socket at whose other end is who may be there, as the file system has it.
    Socket,
    /// A unix socket that anybody here can have made: nobody is on the way, and who is at its other end
    /// is not known.
    SharedSocket,
    /// A port of this machine: while the server is down, anybody here may have it.
    Here,
    /// Over a network.
    Elsewhere,
}

/// Connects to a unix socket.
pub(super) async fn socket(path: PathBuf) -> io::Result<Wire> {
    let stream = within(UnixStream::connect(&path)).await?;
    let peer = stream.peer_cred()?.uid();
    let rightful = tokio::task::spawn_blocking(move || is_rightful(&path, peer)).await;
    Ok(Wire {
        stream: Box::new(stream),
        reach: match rightful {
            Ok(true) => Reach::Socket,
            _ => Reach::SharedSocket,
        },
    })
}

/// Whether the user at the other end of a socket is root, we, or whose its directory is; or the
/// directory is closed to all others. That the way to it is nobody else's is asked besides: who can
/// make a directory can be its owner.
fn is_rightful(socket: &Path, peer: u32) -> bool {
    let ours = |uid: u32| uid == 0 || uid == rustix::process::geteuid().as_raw();
    if ours(peer) {
        return true;
    }
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return false;
    };
    let Ok((directory, false)) = open_by_our_links(directory, OFlags::PATH | OFlags::DIRECTORY)
    else {
        return false;
    };
    let Ok(of) = rustix::fs::fstat(&directory) else {
        return false;
    };
    let closed = || {
        // A link in it may lead to a socket that is not.
        let made = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW);
        ours(of.st_uid)
            && of.st_mode & 0o022 == 0
            && made.is_ok_and(|made| FileType::from_raw_mode(made.st_mode) == FileType::Socket)
    };
    of.st_uid == peer || closed()
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn who_is_at_the_end_of_a_socket_is_known_by_its_directory() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("socket");
        let _server = tokio::net::UnixListener::bind(&path).unwrap();
        let wire = socket(path.clone()).await.unwrap();
        assert_eq!(wire.reach, Reach::Socket);
        let (us, other) = (rustix::process::geteuid().as_raw(), 64_999);
        // Nobody else can make one here.
        assert!(is_rightful(&path, other));
        // Here anybody can.
        for open in [0o777, 0o1777, 0o770] {
            mode(top.path(), open);
            assert!(!is_rightful(&path, other), "{open:o}");
            assert!(is_rightful(&path, us) && is_rightful(&path, 0));
        }
        // Or lead there from a closed place.
        let closed = top.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        mode(top.path(), 0o755);
        mode(&closed, 0o755);
        std::os::unix::fs::symlink("../socket", closed.join("socket")).unwrap();
        assert!(!is_rightful(&closed.join("socket"), other));
        assert!(!is_rightful(&closed.join("none"), other));
        if !rustix::process::geteuid().is_root() {
            return;
        }
        // A server's own directory is its user's, unless anybody can have made it.
        std::os::unix::fs::chown(&closed, Some(other), None).unwrap();
        assert!(is_rightful(&closed.join("any"), other));
        assert!(!is_rightful(&closed.join("any"), other - 1));
        mode(top.path(), 0o1777);
        assert!(!is_rightful(&closed.join("any"), other));
    }
}
