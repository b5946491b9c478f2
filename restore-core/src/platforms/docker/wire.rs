//! A connection to an engine, whatever it goes through.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::address::{Address, SshAddress, TlsFiles};
use crate::model::{Error, ErrorKind, Result};
use crate::stores::ssh::connect::{End, Line, check_config, refusal, to};
use crate::sys::trust;
use crate::sys::trust::Trust;

/// How long another host may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A new connection, and whom to ask why it ended.
pub(crate) struct Connection {
    pub(crate) wire: Box<dyn Wire>,
    pub(crate) ssh: Option<Arc<SshEnd>>,
}

/// The `ssh` that a connection goes through.
pub(crate) struct SshEnd {
    host: String,
    end: Mutex<End>,
}

impl SshEnd {
    /// Why there is no answer, where `ssh` knows.
    pub(crate) async fn reason(&self) -> Error {
        let said = self.end.lock().await.last_words().await;
        if said.contains("docker: not found") || said.contains("docker: command not found") {
            return Error::new(
                ErrorKind::Config,
                "ssh.no_docker",
                format!("{} has no docker program for this user", self.host),
            )
            .hint("`docker system dial-stdio` must work there: install Docker's client, or use tcp://");
        }
        if said.contains("docker.sock") || said.contains("Docker daemon") {
            let line = said.lines().rfind(|line| !line.trim().is_empty());
            return Error::new(
                ErrorKind::Failed,
                "swarm.unreachable",
                format!(
                    "the engine of {} does not answer: {}",
                    self.host,
                    line.unwrap_or_default()
                ),
            )
            .hint("does it run there (systemctl status docker), and may this user use it?")
            .retryable();
        }
        refusal(&self.host, &said)
    }
}

/// Connects once.
pub(crate) async fn connect(
    address: &Address,
    tls: Option<&Arc<ClientConfig>>,
) -> io::Result<Connection> {
    let plain = |wire: Box<dyn Wire>| Connection { wire, ssh: None };
    match address {
        Address::Unix(path) => Ok(plain(Box::new(UnixStream::connect(path).await?))),
        Address::Tcp { host, port, .. } => {
            let connecting = async {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                keep_alive(&stream)?;
                let Some(config) = tls else {
                    return Ok(plain(Box::new(stream)));
                };
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let stream = TlsConnector::from(config.clone())
                    .connect(name, stream)
                    .await?;
                Ok(plain(Box::new(stream)))
            };
            tokio::time::timeout(CONNECT, connecting)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        }
        Address::Ssh(ssh) => {
            if let Some(file) = &ssh.config {
                check_config(file).map_err(io::Error::other)?;
            }
            let line = Line::start(dial(ssh)).map_err(io::Error::other)?;
            let end = SshEnd {
                host: ssh.host.clone(),
                end: Mutex::new(line.end),
            };
            let end = Arc::new(end);
            Ok(Connection {
                wire: Box::new(Through {
                    to: Some(line.to),
                    from: line.from,
                    _end: end.clone(),
                }),
                ssh: Some(end),
            })
        }
    }
}

/// A node that went away says nothing any more. (A limit for what is sent would also end a program
/// that takes its time to read its input.)
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(stream, 4)?;
    Ok(())
}

/// As Docker's own client does it.
fn dial(ssh: &SshAddress) -> tokio::process::Command {
    let mut command = to(ssh.user.as_deref(), ssh.port, ssh.config.as_deref());
    command.arg("--").arg(&ssh.host).arg("docker");
    if let Some(socket) = &ssh.socket {
        // The other side has a shell.
        command
            .arg("--host")
            .arg(quoted(&format!("unix://{socket}")));
    }
    command.args(["system", "dial-stdio"]);
    command
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Reads whom to trust, and who we are.
pub(crate) fn tls(files: &TlsFiles) -> Result<Arc<ClientConfig>> {
    let bad = |path: &std::path::Path, why: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::Config,
            "swarm.bad_tls_file",
            format!("cannot use {}: {why}", path.display()),
        )
        .hint("ca, cert and key are files in PEM, as `docker --tlscacert`, `--tlscert` and `--tlskey` take them")
    };
    trust::check(&files.ca, "the certificate authority", Trust::Obeyed)?;
    if let Some((cert, key)) = &files.own {
        trust::check(cert, "the certificate", Trust::Obeyed)?;
        trust::check(key, "the key", Trust::Secret)?;
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&files.ca).map_err(|e| bad(&files.ca, &e))? {
        let certificate = certificate.map_err(|e| bad(&files.ca, &e))?;
        roots.add(certificate).map_err(|e| bad(&files.ca, &e))?;
    }
    if roots.is_empty() {
        return Err(bad(&files.ca, &"it holds no certificate"));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| {
            Error::new(
                ErrorKind::Internal,
                "swarm.tls",
                format!("cannot use TLS: {e}"),
            )
        })?
        .with_root_certificates(roots);
    let config = match &files.own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain: std::result::Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert)
                .map_err(|e| bad(cert, &e))?
                .collect();
            let chain = chain.map_err(|e| bad(cert, &e))?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, &e))?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|e| bad(cert, &e))?
        }
    };
    Ok(Arc::new(config))
}

/// The input and output of a program as one connection.
struct Through {
    to: Option<ChildStdin>,
    from: ChildStdout,
    _end: Arc<SshEnd>,
}

impl AsyncRead for Through {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.from).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Through {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.to {
            Some(to) => Pin::new(to).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.to {
            Some(to) => Pin::new(to).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The end of a pipe is that it is closed.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(to) = &mut self.to {
            std::task::ready!(Pin::new(to).poll_flush(cx))?;
        }
        self.to = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_one_that_docker_uses() {
        let address = SshAddress {
            host: "node".to_owned(),
            user: Some("root".to_owned()),
            port: None,
            socket: Some("/run/it's.sock".to_owned()),
            config: None,
        };
        let command = dial(&address);
        let words: Vec<_> = command
            .as_std()
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        let end = words.join(" ");
        assert!(
            end.contains("BatchMode=yes") && end.contains("StrictHostKeyChecking=yes"),
            "{end}"
        );
        assert!(
            end.ends_with(
                r"-l root -- node docker --host 'unix:///run/it'\''s.sock' system dial-stdio"
            ),
            "{end}"
        );
    }
}
