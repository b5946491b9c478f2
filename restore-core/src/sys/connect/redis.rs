//! A connection to a Redis server.

use std::path::PathBuf;
use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use secrecy::{ExposeSecret, SecretString};

use super::bounded::{Bounded, LONGEST};
use super::tls::{Mode, Tls};
use super::wire;
use super::wire::Reach;
use crate::model::{Endpoint, Error, ErrorKind, Result};
use crate::sys::spans::ConnectionSpan;

/// Where a server is, and as whom to sign in.
#[derive(Clone)]
pub(crate) struct Redis {
    pub(crate) endpoint: Endpoint,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<SecretString>,
    pub(crate) tls: Tls,
    /// No answer may take longer.
    pub(crate) patience: Duration,
}

/// Redis sends passwords as they are.
const IN_THE_CLEAR: &str = "redis.password_in_the_clear";

/// Connects and signs in. A password is never sent where others could read it, unless the site
/// says so.
///
/// The outer error is one of TLS, the inner one what the driver says.
pub(crate) async fn connect(
    to: &Redis,
) -> Result<std::result::Result<MultiplexedConnection, RedisError>> {
    let endpoint = &to.endpoint;
    let wire = match endpoint.host.starts_with('/') {
        true => wire::socket(socket(endpoint)).await,
        false => wire::port(endpoint).await,
    };
    let wire = match wire {
        Ok(wire) => wire,
        Err(error) => return Ok(Err(error.into())),
    };
    let secures = matches!(to.tls.mode, Some(Mode::VerifyFull | Mode::Require));
    let wire = match (wire.reach, secures) {
        (Reach::Here | Reach::Elsewhere, true) => {
            let config = to.tls.client_config().await?;
            match wire.secured(config, "Redis", endpoint).await? {
                Ok(wire) => wire,
                Err(error) => return Ok(Err(error.into())),
            }
        }
        (Reach::SharedSocket, _) if to.password.is_some() && to.tls.mode != Some(Mode::Disable) => {
            return Err(Error::new(
                ErrorKind::Config,
                IN_THE_CLEAR,
                format!(
                    "the password of Redis would go to whoever made the socket of {}: the server there runs as neither root nor the owner of the socket's directory, or others can make a directory of that name",
                    endpoint.host
                ),
            )
            .hint("let the server's user own the socket's directory, below directories that only root can write; tls = \"disable\" where nobody else runs programs on this host"));
        }
        (Reach::Elsewhere, false) if to.password.is_some() && to.tls.mode.is_none() => {
            return Err(Error::new(
                ErrorKind::Config,
                IN_THE_CLEAR,
                format!(
                    "the password of Redis would go to {}:{} over a network, readable by everybody on the way",
                    endpoint.host, endpoint.port
                ),
            )
            .hint("set tls = \"verify-full\" (and ca_file), or tls = \"disable\" where the way there is safe without"));
        }
        _ => wire,
    };
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(username) = &to.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &to.password {
        settings = settings.set_password(password.expose_secret());
    }
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(to.patience));
    let span = ConnectionSpan::open("redis", endpoint);
    let stream = Bounded::new(wire.stream, LONGEST);
    let connecting = MultiplexedConnection::new_with_config(&settings, stream, config);
    let connected = match tokio::time::timeout(to.patience, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    };
    Ok(connected.map(|(connection, driver)| {
        // It ends with the last of the connection's handles.
        tokio::spawn(async move {
            driver.await;
            drop(span);
        });
        connection
    }))
}

/// Whether anything accepts a connection there.
pub(crate) async fn accepts(endpoint: &Endpoint) -> bool {
    match endpoint.host.starts_with('/') {
        true => wire::socket(socket(endpoint)).await.is_ok(),
        false => wire::port(endpoint).await.is_ok(),
    }
}

/// The unix socket behind an endpoint whose host starts with `/`: the host itself; or, if it is a
/// directory, the socket `redis.sock` or `redis-server.sock` in it, whichever is there.
fn socket(endpoint: &Endpoint) -> PathBuf {
    let path = PathBuf::from(&endpoint.host);
    if !path.is_dir() {
        return path;
    }
    let debian = path.join("redis-server.sock");
    match debian.exists() {
        true => debian,
        false => path.join("redis.sock"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_may_be_a_socket_or_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap().to_owned();
        let of = |host: &str| socket(&Endpoint::new(host, 6379));
        assert_eq!(of(&path), dir.path().join("redis.sock"));
        std::fs::write(dir.path().join("redis-server.sock"), "").unwrap();
        let debian = dir.path().join("redis-server.sock");
        assert_eq!(of(&path), debian);
        assert_eq!(of(debian.to_str().unwrap()), debian);
    }

    #[tokio::test]
    async fn a_password_does_not_go_to_a_socket_that_anybody_can_have_made() {
        // The one at the other end must be neither root nor we.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let path = dir.path().join("redis.sock");
        let serve = "import os, socket, sys\nos.setuid(64999)\n\
                     s = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\n\
                     while True:\n    sys.stdout.write(repr(s.accept()[0].recv(100)))\n    sys.stdout.flush()\n";
        let mut server = std::process::Command::new("python3")
            .args(["-c", serve])
            .arg(&path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(&path).is_err() {
            assert!(std::time::Instant::now() < deadline, "it does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let to = Redis {
            endpoint: Endpoint::new(path.to_str().unwrap(), 6379),
            username: None,
            password: Some(SecretString::from("secret")),
            tls: Tls::default(),
            patience: Duration::from_secs(5),
        };
        let refused = connect(&to).await.map(drop).unwrap_err();
        server.kill().unwrap();
        let said = server.wait_with_output().unwrap().stdout;
        assert_eq!(refused.code(), IN_THE_CLEAR);
        assert!(!String::from_utf8_lossy(&said).contains("secret"));
    }
}
