//! When a service is ready.

use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};

use crate::model::Endpoint;

/// How long one attempt may take; a loaded server accepts later than that at the next.
const ATTEMPT: Duration = Duration::from_secs(1);

/// Connects once, and says why it could not.
pub(super) async fn accepts(endpoint: &Endpoint) -> Result<(), String> {
    let attempt = async {
        if !endpoint.host.starts_with('/') {
            return TcpStream::connect((endpoint.host.as_str(), endpoint.port))
                .await
                .map(drop);
        }
        let mut outcome = Err(std::io::ErrorKind::NotFound.into());
        for socket in sockets(endpoint) {
            outcome = UnixStream::connect(socket).await.map(drop);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    };
    match tokio::time::timeout(ATTEMPT, attempt).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("no answer within a second".to_owned()),
    }
}

/// The sockets that an endpoint may mean: itself, or below a directory PostgreSQL's of that port
/// or one of Redis's usual names.
fn sockets(endpoint: &Endpoint) -> Vec<PathBuf> {
    let path = PathBuf::from(&endpoint.host);
    if !path.is_dir() {
        return vec![path];
    }
    let postgres = format!(".s.PGSQL.{}", endpoint.port);
    [postgres.as_str(), "redis-server.sock", "redis.sock"]
        .iter()
        .map(|name| path.join(name))
        .collect()
}

/// An endpoint as people write it.
pub(super) fn shown(endpoint: &Endpoint) -> String {
    if endpoint.host.contains(':') {
        format!("[{}]:{}", endpoint.host, endpoint.port)
    } else {
        format!("{}:{}", endpoint.host, endpoint.port)
    }
}
