//! The connection to an engine: one for each request, made anew where the engine was restarted.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bollard::BollardRequest;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::Instant;

/// How long an engine that had answered before may take to come back: it was restarted.
const COME_BACK: Duration = Duration::from_secs(60);

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// Connects to one engine and speaks the version of its interface that was agreed upon.
#[derive(Debug)]
pub(super) struct Transport {
    socket: PathBuf,
    /// Whether it has answered this process before.
    answered: AtomicBool,
    /// The agreed minor version of `1.x`; 0 before.
    minor: AtomicU32,
}

impl Transport {
    pub(super) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            answered: AtomicBool::new(false),
            minor: AtomicU32::new(0),
        }
    }

    /// From here on requests name version `1.minor`.
    pub(super) fn agree(&self, minor: u32) {
        self.minor.store(minor, Ordering::Relaxed);
    }

    /// Sends one request on a connection of its own.
    pub(super) async fn send<B>(
        &self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, bollard::errors::Error>
    where
        B: hyper::body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Its end shows in the response.
        tokio::spawn(connection.with_upgrades());
        let mut request = request;
        *request.uri_mut() = self.local(request.uri())?;
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_static("docker"));
        let response = sender.send_request(request).await?;
        self.answered.store(true, Ordering::Relaxed);
        Ok(response)
    }

    /// The path alone, below the agreed version.
    fn local(&self, uri: &Uri) -> Result<Uri, bollard::errors::Error> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let versioned = path
            .strip_prefix("/v1.")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let minor = self.minor.load(Ordering::Relaxed);
        Ok(if versioned || minor == 0 {
            path.parse()?
        } else {
            format!("/v1.{minor}{path}").parse()?
        })
    }

    /// Nothing has been sent before there is a connection: this may be tried as often as wanted.
    async fn connect(&self) -> std::io::Result<UnixStream> {
        let deadline = Instant::now() + COME_BACK;
        loop {
            match UnixStream::connect(&self.socket).await {
                Err(_) if self.answered.load(Ordering::Relaxed) && Instant::now() < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other,
            }
        }
    }
}

/// The answer to one of bollard's requests, on its way.
type Answering = std::pin::Pin<
    Box<dyn Future<Output = Result<Response<Incoming>, bollard::errors::Error>> + Send>,
>;

/// What bollard sends its requests through.
pub(super) fn carrier(
    transport: std::sync::Arc<Transport>,
) -> impl Fn(BollardRequest) -> Answering + Send + Sync {
    move |request| {
        let transport = transport.clone();
        Box::pin(async move { transport.send(request).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agreed_version_is_in_each_path() {
        let transport = Transport::new(Path::new("/x"));
        let local = |uri: &str| transport.local(&uri.parse().unwrap()).unwrap().to_string();
        assert_eq!(local("http://engine/version"), "/version");
        transport.agree(41);
        assert_eq!(local("http://engine/tasks?a=b"), "/v1.41/tasks?a=b");
        assert_eq!(local("http://engine/v1.41/tasks"), "/v1.41/tasks");
    }
}
