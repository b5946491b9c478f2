//! One HTTP request to one address, whatever its name: for checks, for webhooks, and for the proof that
//! the maintenance page is up.

use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::sys::spans::RequestSpan;

/// More of a body is not read.
const BODY: usize = 1 << 20;

/// What to ask, and where.
#[derive(Clone, Debug)]
pub(crate) struct HttpProbe {
    /// The address to connect to.
    pub(crate) address: String,
    /// Its port.
    pub(crate) port: u16,
    /// TLS, with the name to ask for; `None`: plain.
    pub(crate) tls: Option<(Arc<ClientConfig>, String)>,
    /// Begin with a line of the PROXY protocol.
    pub(crate) proxy_protocol: bool,
    /// The method.
    pub(crate) method: Method,
    /// The path and query.
    pub(crate) path: String,
    /// The Host header; `None`: an HTTP/1.0 request without one.
    pub(crate) host: Option<String>,
    /// What is sent with it.
    pub(crate) posted: Option<Posted>,
}

/// What is sent with a request.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    /// JSON.
    pub(crate) body: Bytes,
    /// Who sends it.
    pub(crate) token: Option<SecretString>,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The first MiB of the body.
    pub(crate) body: Bytes,
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProbeError {
    /// Nobody accepts the connection.
    Unreachable(String),
    /// The TLS handshake failed.
    Handshake(String),
    /// The connection was accepted, and no answer came of it.
    NoAnswer(String),
}

impl std::fmt::Display for ProbeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "cannot connect: {why}"),
            Self::Handshake(why) => write!(f, "no TLS connection: {why}"),
            Self::NoAnswer(why) => write!(f, "no answer: {why}"),
        }
    }
}

/// Asks once. The caller sets the deadline.
pub(crate) async fn ask(question: &HttpProbe) -> std::result::Result<HttpResponse, ProbeError> {
    // The path of a webhook may be what lets somebody in.
    let path = match question.posted {
        Some(_) => None,
        None => question.path.split('?').next(),
    };
    let mut span = RequestSpan::begin(tracing::trace_span!(
        "request",
        method = question.method.as_str(),
        address = question.address.as_str(),
        port = question.port,
        path
    ));
    let answer = send(question).await;
    if let Ok(answer) = &answer {
        span.answered(answer.status.as_u16());
    }
    answer
}

async fn send(question: &HttpProbe) -> std::result::Result<HttpResponse, ProbeError> {
    let mut stream = TcpStream::connect((question.address.as_str(), question.port))
        .await
        .map_err(|e| ProbeError::Unreachable(e.to_string()))?;
    if question.proxy_protocol {
        stream
            .write_all(b"PROXY UNKNOWN\r\n")
            .await
            .map_err(|e| ProbeError::NoAnswer(e.to_string()))?;
    }
    match &question.tls {
        None => exchange(stream, question).await,
        Some((config, name)) => {
            let name = ServerName::try_from(name.clone())
                .map_err(|e| ProbeError::Handshake(format!("{name:?}: {e}")))?;
            let stream = TlsConnector::from(config.clone())
                .connect(name, stream)
                .await
                .map_err(|e| ProbeError::Handshake(e.to_string()))?;
            exchange(stream, question).await
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    question: &HttpProbe,
) -> std::result::Result<HttpResponse, ProbeError> {
    let silence = |e: hyper::Error| ProbeError::NoAnswer(e.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(silence)?;
    let mut request = Request::builder()
        .method(question.method.clone())
        .uri(question.path.as_str())
        .header(USER_AGENT, concat!("restore/", env!("CARGO_PKG_VERSION")));
    request = match &question.host {
        Some(host) => request.header(HOST, host),
        None => request.version(Version::HTTP_10),
    };
    let mut body = Bytes::new();
    if let Some(posted) = &question.posted {
        body.clone_from(&posted.body);
        request = request.header(CONTENT_TYPE, "application/json");
        if let Some(token) = &posted.token {
            let value = format!("Bearer {}", token.expose_secret());
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| ProbeError::NoAnswer("the token is no header's value".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
    }
    let request = request
        .body(Full::new(body))
        .map_err(|e| ProbeError::NoAnswer(format!("not a request: {e}")))?;
    let work = async {
        let response = sender.send_request(request).await.map_err(silence)?;
        let (head, body) = response.into_parts();
        // A body that breaks off or is too long is shown as far as it came.
        let mut body = Limited::new(body, BODY);
        let mut read = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                read.extend_from_slice(data);
            }
        }
        Ok(HttpResponse {
            status: head.status,
            headers: head.headers,
            body: read.into(),
        })
    };
    tokio::pin!(work);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut work => answer,
        ended = &mut connection => match ended {
            Ok(()) => work.await,
            Err(e) => Err(silence(e)),
        },
    }
}
