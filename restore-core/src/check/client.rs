//! One HTTP request to one address, whatever its name: for checks, and for the proof that the
//! maintenance page is up.

use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderMap, USER_AGENT};
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::error::{Error, ErrorKind, Result};

/// More of a body is not read.
const BODY: usize = 1 << 20;

/// What to ask, and where.
#[derive(Clone, Debug)]
pub(crate) struct Question {
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
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The first MiB of the body.
    pub(crate) body: Bytes,
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nobody accepts the connection.
    Unreachable(String),
    /// The TLS handshake failed.
    Handshake(String),
    /// The connection was accepted, and no answer came of it.
    NoAnswer(String),
}

impl std::fmt::Display for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "cannot connect: {why}"),
            Self::Handshake(why) => write!(f, "no TLS connection: {why}"),
            Self::NoAnswer(why) => write!(f, "no answer: {why}"),
        }
    }
}

/// Asks once. The caller sets the deadline.
pub(crate) async fn ask(question: &Question) -> std::result::Result<Answer, Silence> {
    let mut stream = TcpStream::connect((question.address.as_str(), question.port))
        .await
        .map_err(|e| Silence::Unreachable(e.to_string()))?;
    if question.proxy_protocol {
        stream
            .write_all(b"PROXY UNKNOWN\r\n")
            .await
            .map_err(|e| Silence::NoAnswer(e.to_string()))?;
    }
    match &question.tls {
        None => exchange(stream, question).await,
        Some((config, name)) => {
            let name = ServerName::try_from(name.clone())
                .map_err(|e| Silence::Handshake(format!("{name:?}: {e}")))?;
            let stream = TlsConnector::from(config.clone())
                .connect(name, stream)
                .await
                .map_err(|e| Silence::Handshake(e.to_string()))?;
            exchange(stream, question).await
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    question: &Question,
) -> std::result::Result<Answer, Silence> {
    let silence = |e: hyper::Error| Silence::NoAnswer(e.to_string());
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
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|e| Silence::NoAnswer(format!("not a request: {e}")))?;
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
        Ok(Answer {
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

fn tls_builder(what: &str) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| {
            Error::new(
                ErrorKind::Internal,
                "http.tls",
                format!("cannot use TLS for {what}: {e}"),
            )
        })
}

/// TLS that trusts whom this machine trusts, or the certificates in `ca_file` alone. Reads
/// files; not for an async thread.
pub(crate) fn trusting(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let bad = |e: &dyn std::fmt::Display| {
                Error::new(
                    ErrorKind::Config,
                    "http.bad_ca_file",
                    format!("cannot use the certificates in {}: {e}", path.display()),
                )
                .hint("name a file of certificates in PEM form as ca_file")
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| bad(&e))? {
                let certificate = certificate.map_err(|e| bad(&e))?;
                roots.add(certificate).map_err(|e| bad(&e))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err(Error::new(
            ErrorKind::Config,
            "http.no_ca",
            "no certificate authority is known, so no https address can be trusted",
        )
        .hint("install ca-certificates, or name one with ca_file"));
    }
    let config = tls_builder("https")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// TLS that asks for no proof of identity: only to see which page a server of ours shows under a
/// name, never to send anything that matters.
pub(crate) fn unverified() -> Result<Arc<ClientConfig>> {
    let verifier = Arc::new(AnyCertificate(Arc::new(ring::default_provider())));
    let config = tls_builder("the proof of the maintenance page")?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
