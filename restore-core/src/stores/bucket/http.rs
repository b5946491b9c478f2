//! HTTP for object storage: our own TLS, and patience that ends.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use tokio::time::timeout;
use tokio_rustls::rustls::{self, ClientConfig};

const CONNECT: Duration = Duration::from_secs(15);
/// How long nothing may come.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a part may take until it is up.
const UPLOAD: Duration = Duration::from_secs(600);

/// Makes clients. Without TLS they speak plain HTTP alone; with it, they do so only where they are
/// told to.
#[derive(Debug)]
pub(super) struct Connector {
    tls: Option<Arc<ClientConfig>>,
}

impl Connector {
    pub(super) fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        Self { tls }
    }
}

impl object_store::client::HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allowed = options.get_config_value(&ClientConfigKey::AllowHttp);
        let allowed = allowed.as_deref() == Some("true");
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(ANSWER));
        tcp.enforce_http(false);
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(ANSWER);
        let Some(tls) = &self.tls else {
            tcp.enforce_http(true);
            return Ok(HttpClient::new(Service(builder.build(tcp))));
        };
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls.as_ref().clone());
        let tls = match allowed {
            true => tls.https_or_http(),
            false => tls.https_only(),
        };
        let connector = tls.enable_http1().wrap_connector(tcp);
        Ok(HttpClient::new(Service(builder.build(connector))))
    }
}

struct Service<C>(Client<C, HttpRequestBody>);

impl<C> std::fmt::Debug for Service<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Service")
    }
}

#[async_trait]
impl<C: Connect + Clone + Send + Sync + 'static> HttpService for Service<C> {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let agent = HeaderValue::from_static(concat!("restore/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        let patience = match request.body().is_empty() {
            true => ANSWER,
            false => UPLOAD,
        };
        let answer = timeout(patience, self.0.request(request))
            .await
            .map_err(|_| slow(patience))?
            .map_err(|e| broken(&e))?;
        Ok(answer.map(|body| HttpResponseBody::new(patient(body))))
    }
}

/// A body of which each piece must come in time.
fn patient(
    body: Incoming,
) -> StreamBody<impl futures_util::Stream<Item = Result<hyper::body::Frame<bytes::Bytes>, HttpError>>>
{
    StreamBody::new(stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        match timeout(ANSWER, body.frame()).await {
            Ok(None) => None,
            Ok(Some(Ok(frame))) => Some((Ok(frame), Some(body))),
            Ok(Some(Err(error))) => {
                let reason = Reason::Lost;
                let error = HttpError::new(HttpErrorKind::Interrupted, Broken::new(reason, &error));
                Some((Err(error), None))
            }
            Err(_) => Some((Err(slow(ANSWER)), None)),
        }
    }))
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// There is none.
    Unreachable,
    /// It broke off.
    Lost,
    /// Whoever is there does not prove to be the right one.
    Untrusted,
}

/// A connection that did not come about, or broke off, without the address, in which there may be
/// what opens a bucket.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) reason: Reason,
    pub(super) text: String,
}

impl Broken {
    fn new(reason: Reason, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(error) = next {
            text = error.to_string();
            next = error.source();
        }
        Self { reason, text }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Broken {}

fn slow(patience: Duration) -> HttpError {
    let broken = Broken {
        reason: Reason::Lost,
        text: format!("nothing came for {} seconds", patience.as_secs()),
    };
    HttpError::new(HttpErrorKind::Timeout, broken)
}

fn broken(error: &legacy::Error) -> HttpError {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut kind = HttpErrorKind::Unknown;
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_closed() || error.is_incomplete_message() || error.is_body_write_aborted())
        {
            kind = HttpErrorKind::Request;
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            if let Some(tls) = tls_error(error) {
                return HttpError::new(HttpErrorKind::Unknown, Broken::new(Reason::Untrusted, tls));
            }
            kind = HttpErrorKind::Interrupted;
        }
        next = error.source();
    }
    if error.is_connect() {
        let broken = Broken::new(Reason::Unreachable, error);
        return HttpError::new(HttpErrorKind::Connect, broken);
    }
    HttpError::new(kind, Broken::new(Reason::Lost, error))
}

/// What TLS objects to, however often it was wrapped up; such errors are no sources of each other.
fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    match inner.downcast_ref::<std::io::Error>() {
        Some(inner) => tls_error(inner),
        None => inner.downcast_ref::<rustls::Error>(),
    }
}
