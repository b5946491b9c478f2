//! HTTP for object storage: our own TLS, and patience that ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame};
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

use crate::sys::spans::RequestSpan;

const CONNECT: Duration = Duration::from_secs(15);
/// How long nothing may come.
const ANSWER: Duration = Duration::from_secs(60);
/// The most bytes of one page of a list, which has a thousand names, and of an error.
const LISTING: u64 = 32 << 20;
const REFUSAL: u64 = 1 << 20;
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

tokio::task_local! {
    static LEFT: Left;
}

/// How many bytes the answers to one list may still have, all its pages together.
#[derive(Clone)]
pub(super) struct Left(Arc<AtomicU64>);

impl Left {
    pub(super) fn of(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// The list that is asked for in `work` has so many.
    pub(super) async fn scope<F: Future>(&self, work: F) -> F::Output {
        LEFT.scope(self.clone(), work).await
    }

    /// Whether there were more.
    pub(super) fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Takes so many; `false`: there are not as many left.
    fn take(&self, bytes: u64) -> bool {
        let left = self.0.load(Ordering::Relaxed).saturating_sub(bytes);
        self.0.store(left, Ordering::Relaxed);
        left > 0
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
        let listing = is_listing(request.uri());
        let patience = match request.body().is_empty() {
            true => ANSWER,
            false => UPLOAD,
        };
        // What comes behind the path may be what opens a bucket.
        let mut span = RequestSpan::begin(tracing::trace_span!(
            "request",
            method = request.method().as_str(),
            host = request.uri().host(),
            path = request.uri().path()
        ));
        let answer = timeout(patience, self.0.request(request))
            .await
            .map_err(|_| slow(patience))?
            .map_err(|e| broken(&e))?;
        span.answered(answer.status().as_u16());
        // Of a file as much comes as it is planned to have; all else is read into memory.
        let most = match (answer.status().is_success(), listing) {
            (true, false) => u64::MAX,
            (true, true) => LISTING,
            (false, _) => REFUSAL,
        };
        let all = match listing {
            true => LEFT.try_with(Left::clone).ok(),
            false => None,
        };
        Ok(answer.map(|body| HttpResponseBody::new(patient(body, most, all))))
    }
}

/// Whether the answer is a list of names.
fn is_listing(uri: &hyper::Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    ["list-type=", "comp=list", "prefix=", "delimiter="]
        .iter()
        .any(|key| query.contains(key))
}

/// A body of which each piece must come in time, and that has at most so many bytes, nor more than `all` has left.
fn patient<B: Body<Data = Bytes, Error = hyper::Error> + Unpin>(
    body: B,
    most: u64,
    all: Option<Left>,
) -> StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, HttpError>>> {
    StreamBody::new(stream::unfold(
        Some((body, most, all)),
        |state| async move {
            let (mut body, left, all) = state?;
            match timeout(ANSWER, body.frame()).await {
                Ok(None) => None,
                Ok(Some(Ok(frame))) => {
                    let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                    let goes_on = all.as_ref().is_none_or(|all| all.take(bytes));
                    match left.checked_sub(bytes).filter(|_| goes_on) {
                        Some(left) => Some((Ok(frame), Some((body, left, all)))),
                        None => Some((Err(endless()), None)),
                    }
                }
                Ok(Some(Err(error))) => {
                    let reason = Reason::Lost;
                    let error =
                        HttpError::new(HttpErrorKind::Interrupted, Broken::new(reason, &error));
                    Some((Err(error), None))
                }
                Err(_) => Some((Err(slow(ANSWER)), None)),
            }
        },
    ))
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
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
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

fn slow(patience: Duration) -> HttpError {
    let broken = Broken {
        reason: Reason::Lost,
        text: format!("nothing came for {} seconds", patience.as_secs()),
    };
    HttpError::new(HttpErrorKind::Timeout, broken)
}

fn endless() -> HttpError {
    let broken = Broken {
        reason: Reason::Lost,
        text: "the answer is longer than any of its kind".to_owned(),
    };
    HttpError::new(HttpErrorKind::Decode, broken)
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

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn the_pages_of_a_list_have_an_end_together() {
        let left = Left::of(2_500);
        let page = || {
            let body = Full::new(Bytes::from_static(&[b' '; 1_000]));
            let body = body.map_err(|never| -> hyper::Error { match never {} });
            BodyExt::collect(patient(body, LISTING, Some(left.clone())))
        };
        page().await.unwrap();
        page().await.unwrap();
        assert!(!left.is_spent());
        page().await.unwrap_err();
        assert!(left.is_spent());
        let known = left.scope(async { LEFT.try_with(Left::is_spent) }).await;
        assert!(known.unwrap());
        LEFT.try_with(Left::is_spent).unwrap_err();
    }
}
