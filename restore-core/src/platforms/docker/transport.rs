//! The connection to an engine: one for each request, made anew where the engine was restarted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bollard::BollardRequest;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::sync::OnceCell;
use tokio_rustls::rustls::ClientConfig;

use super::address::Address;
use super::wire;
use super::wire::Connection;
use crate::sys::retry::Retry;
use crate::sys::spans::RequestSpan;

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// Connects to one engine and speaks the version of its interface that was agreed upon.
#[derive(Debug)]
pub(crate) struct Transport {
    address: Address,
    /// How long an engine that had answered before may take to come back: it was restarted.
    patience: Duration,
    /// Whether that is enough: once it was waited for in vain, nothing waits again before it has
    /// answered.
    gives_up: bool,
    tls: OnceCell<Arc<ClientConfig>>,
    /// Whether it has answered this process before, and was not given up since.
    answered: AtomicBool,
    /// The agreed minor version of `1.x`; 0 before.
    minor: AtomicU32,
}

impl Transport {
    pub(crate) fn new(address: Address, patience: Duration, gives_up: bool) -> Self {
        Self {
            address,
            patience,
            gives_up,
            tls: OnceCell::new(),
            answered: AtomicBool::new(false),
            minor: AtomicU32::new(0),
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// How long it is waited for now: an engine that never answered, or was given up, is not.
    pub(crate) fn patience(&self) -> Duration {
        match self.answered.load(Ordering::Relaxed) {
            true => self.patience,
            false => Duration::ZERO,
        }
    }

    /// It was waited for in vain.
    pub(crate) fn give_up(&self) {
        if self.gives_up {
            self.answered.store(false, Ordering::Relaxed);
        }
    }

    /// From here on requests name version `1.minor`.
    pub(crate) fn agree(&self, minor: u32) {
        self.minor.store(minor, Ordering::Relaxed);
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn send<B>(
        &self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, bollard::errors::Error>
    where
        B: hyper::body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut span = RequestSpan::begin(tracing::trace_span!(
            "request",
            method = request.method().as_str(),
            path = request.uri().path(),
            engine = %self.address
        ));
        let Connection { wire, ssh } = self.connect().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(wire)).await?;
        // Its end shows in the response.
        tokio::spawn(connection.with_upgrades());
        let mut request = request;
        *request.uri_mut() = self.local(request.uri())?;
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_static("docker"));
        let response = match (sender.send_request(request).await, ssh) {
            (Ok(response), _) => response,
            // Of a connection that ends `ssh` knows more than that.
            (Err(_), Some(ssh)) => return Err(std::io::Error::other(ssh.reason().await).into()),
            (Err(error), None) => return Err(error.into()),
        };
        span.answered(response.status().as_u16());
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
    async fn connect(&self) -> std::io::Result<Connection> {
        let tls = match &self.address {
            Address::Tcp {
                tls: Some(files), ..
            } => {
                let read = self
                    .tls
                    .get_or_try_init(|| async { wire::tls(files) })
                    .await;
                Some(read.map_err(std::io::Error::other)?)
            }
            _ => None,
        };
        let retry = Retry::within(self.patience(), PAUSE);
        loop {
            match wire::connect(&self.address, tls).await {
                Err(_) if !retry.is_over() => retry.pause().await,
                Err(error) => {
                    self.give_up();
                    return Err(error);
                }
                connected => return connected,
            }
        }
    }
}

/// The answer to one of bollard's requests, on its way.
type Answering = std::pin::Pin<
    Box<dyn Future<Output = Result<Response<Incoming>, bollard::errors::Error>> + Send>,
>;

/// What bollard sends its requests through.
pub(crate) fn carrier(
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
        let transport = Transport::new(Address::Unix("/x".into()), Duration::ZERO, false);
        let local = |uri: &str| transport.local(&uri.parse().unwrap()).unwrap().to_string();
        assert_eq!(local("http://engine/version"), "/version");
        transport.agree(41);
        assert_eq!(local("http://engine/tasks?a=b"), "/v1.41/tasks?a=b");
        assert_eq!(local("http://engine/v1.41/tasks"), "/v1.41/tasks");
    }
}
