//! One engine: what it is asked, and what its refusals mean.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as Refusal;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::address::Address;
use super::transport::{Transport, carrier};
use crate::model::{Error, ErrorKind, Result};

/// The oldest interface that this is made for: Docker 20.10.
const OLDEST: u32 = 41;

/// The newest that is known; newer engines speak it too.
const NEWEST: u32 = 53;

/// How long an answer may take to begin. Waits for containers and logs begin at once.
const ANSWER: u64 = 60;

/// How long a swarm without a leader, or a manager that is restarted, is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the engine of another node is. A node that stays away longer is not restarted, it is
/// away; once that is known nothing waits for it again until it answers.
const PATIENCE_ELSEWHERE: Duration = Duration::from_secs(20);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// No answer is larger.
const LARGEST: usize = 64 << 20;

/// One engine. Nothing is connected to before it is first asked.
#[derive(Debug)]
pub(crate) struct Engine {
    place: String,
    /// Its processes and files are this host's.
    here: bool,
    /// Where a person changes how it is reached.
    section: String,
    transport: Arc<Transport>,
    docker: OnceCell<Docker>,
}

impl Engine {
    /// The engine of `[platform]`.
    pub(crate) fn manager(address: Address) -> Self {
        Self {
            place: address.to_string(),
            // Whoever forwards a socket says so by naming an endpoint.
            here: matches!(address, Address::Unix(_)),
            section: "platform".to_owned(),
            transport: Arc::new(Transport::new(address, PATIENCE, false)),
            docker: OnceCell::new(),
        }
    }

    /// The engine of another node, of the section `nodes.NAME`.
    pub(crate) fn of_node(name: &str, address: Address) -> Self {
        Self {
            place: format!("{address} (node {name})"),
            here: false,
            section: format!("nodes.{name}"),
            transport: Arc::new(Transport::new(address, PATIENCE_ELSEWHERE, true)),
            docker: OnceCell::new(),
        }
    }

    /// Whether what it says of processes and files is about this host's.
    pub(crate) fn is_here(&self) -> bool {
        self.here
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The engine's client, at a version that both speak.
    pub(crate) async fn docker(&self) -> Result<&Docker> {
        self.docker
            .get_or_try_init(|| async {
                let docker = Docker::connect_with_custom_transport(
                    carrier(self.transport.clone()),
                    Some("http://engine"),
                    ANSWER,
                    bollard::API_DEFAULT_VERSION,
                )
                .map_err(|e| self.refused("talk to it", e))?;
                let version = self.get("ask for its version", "/version").await?;
                let minor = version
                    .get("ApiVersion")
                    .and_then(Value::as_str)
                    .and_then(|text| text.strip_prefix("1."))
                    .and_then(|text| text.parse::<u32>().ok())
                    .unwrap_or(0);
                if minor < OLDEST {
                    return Err(Error::new(
                        ErrorKind::Preflight,
                        "swarm.old_engine",
                        format!(
                            "the engine at {} speaks version 1.{minor} of its interface, 1.{OLDEST} is needed",
                            self.place
                        ),
                    )
                    .hint("upgrade it to Docker 20.10 or later"));
                }
                self.transport.agree(minor.min(NEWEST));
                Ok(docker)
            })
            .await
    }

    /// What the engine answers to a question, whole and with fields that no version of ours
    /// knows: what is read to be written back must not lose any.
    pub(crate) async fn get(&self, what: &str, path: &str) -> Result<Value> {
        let request = Request::get(format!("http://engine{path}"))
            .body(Full::new(Bytes::new()))
            .map_err(|e| self.refused(what, e.into()))?;
        self.call(what, request).await
    }

    /// Asks the engine to do something.
    pub(crate) async fn post(&self, what: &str, path: &str, body: &Value) -> Result<Value> {
        let request = Request::post(format!("http://engine{path}"))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|e| self.refused(what, e.into()))?;
        self.call(what, request).await
    }

    /// Asks the engine to delete something.
    pub(crate) async fn delete(&self, what: &str, path: &str) -> Result<()> {
        let request = Request::delete(format!("http://engine{path}"))
            .body(Full::new(Bytes::new()))
            .map_err(|e| self.refused(what, e.into()))?;
        self.call(what, request).await.map(drop)
    }

    /// Sends a request of any kind, however long its answer takes.
    pub(crate) async fn send<B>(
        &self,
        request: Request<B>,
    ) -> std::result::Result<hyper::Response<hyper::body::Incoming>, Refusal>
    where
        B: hyper::body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.transport.send(request).await
    }

    async fn call(&self, what: &str, request: Request<Full<Bytes>>) -> Result<Value> {
        let work = async {
            let response = self.transport.send(request).await?;
            let status = response.status();
            let body = http_body_util::Limited::new(response.into_body(), LARGEST)
                .collect()
                .await
                .map_err(|e| std::io::Error::other(e.to_string()))?
                .to_bytes();
            let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            if status.is_success() {
                return Ok(value);
            }
            let message = value.get("message").and_then(Value::as_str).map_or_else(
                || String::from_utf8_lossy(&body).into_owned(),
                str::to_owned,
            );
            Err(Refusal::DockerResponseServerError {
                status_code: status.as_u16(),
                message,
            })
        };
        match tokio::time::timeout(Duration::from_secs(ANSWER), work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(e)) => Err(self.refused(what, e)),
            Err(_) => Err(self.refused(what, Refusal::RequestTimeoutError)),
        }
    }

    /// Makes a call again while the engine or the swarm is on its way back up. Only for calls
    /// that may be repeated.
    pub(crate) async fn patiently<T, F, Fut>(&self, call: F) -> Result<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let begun = Instant::now();
        // An engine that this process has never met is not on its way back.
        let mut patience = self.transport.patience();
        loop {
            match call().await {
                Err(error) if error.is_retryable() => {
                    if Instant::now() + PAUSE >= begun + patience {
                        self.transport.give_up();
                        return Err(error);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other,
            }
            patience = patience.max(self.transport.patience());
        }
    }

    /// A refusal of the engine as an error of ours; `what` reads like "stop the service x".
    pub(crate) fn refused(&self, what: &str, refusal: Refusal) -> Error {
        let place = &self.place;
        if let Refusal::IOError { err } = &refusal
            && let Some(known) = ours(err)
        {
            let error = Error::new(
                known.kind(),
                known.code().to_owned(),
                format!(
                    "cannot {what}: no way to the engine at {place}: {}",
                    known.message()
                ),
            )
            .hint(known.hint_text().unwrap_or("does the engine run there?"));
            return match known.is_retryable() {
                true => error.retryable(),
                false => error,
            };
        }
        match &refusal {
            Refusal::DockerResponseServerError {
                status_code,
                message,
            } => {
                let message = message.trim();
                let error = Error::new(
                    ErrorKind::Failed,
                    code_of(*status_code, message),
                    format!("cannot {what}: the engine says: {message}"),
                );
                if message.contains("not a swarm manager") && !message.contains("restarting") {
                    return error
                        .with_kind(ErrorKind::Preflight)
                        .hint("run this on a manager of the swarm, or name a manager's socket under [platform]");
                }
                match comes_back(*status_code, message) {
                    true => error.retryable(),
                    false => error,
                }
            }
            Refusal::IOError { err } if err.kind() == std::io::ErrorKind::PermissionDenied => {
                Error::new(
                    ErrorKind::Failed,
                    "io.permission",
                    format!("cannot {what}: the engine's socket {place} refuses us"),
                )
                .hint("run as root, or as a user who may use Docker")
                .source(refusal)
            }
            Refusal::IOError { err } if tls_error(err).is_some() => Error::new(
                ErrorKind::Config,
                "swarm.tls_refused",
                format!("cannot {what}: no TLS with the engine at {place}: {err}"),
            )
            .hint(format!(
                "compare ca, cert and key of [{}] with those that the engine was started with; the certificate must name the host of the endpoint",
                self.section
            ))
            .source(refusal),
            Refusal::IOError { .. }
            | Refusal::HyperResponseError { .. }
            | Refusal::RequestTimeoutError => Error::new(
                ErrorKind::Failed,
                "swarm.unreachable",
                format!("cannot {what}: no answer from the engine at {place}: {refusal}"),
            )
            .hint(match self.transport.address() {
                Address::Unix(_) => "does the engine run? (systemctl status docker); is `socket` under [platform] right?".to_owned(),
                _ => format!("does the engine run there? (systemctl status docker); is `endpoint` of [{}] right?", self.section),
            })
            .retryable()
            .source(refusal),
            _ => Error::new(
                ErrorKind::Failed,
                "swarm.engine",
                format!("cannot {what}: {refusal}"),
            )
            .source(refusal),
        }
    }
}

/// An error of ours that came through a connection.
fn ours(error: &std::io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref::<Error>()
}

fn tls_error(error: &std::io::Error) -> Option<&tokio_rustls::rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Refusals that others decide by have a code of their own.
fn code_of(status: u16, message: &str) -> &'static str {
    match status {
        404 => "swarm.not_found",
        409 => "swarm.conflict",
        _ if message.contains("update out of sequence") => "swarm.out_of_sequence",
        _ if message.contains("already exists") => "swarm.conflict",
        _ if message.contains("not a swarm manager") => "swarm.no_manager",
        _ => "swarm.engine",
    }
}

/// Whether the same call may succeed a little later: the swarm elects a leader, or its manager
/// has only just started.
fn comes_back(status: u16, message: &str) -> bool {
    status == 503
        || [
            "does not have a leader",
            "deadline exceeded",
            "connection refused",
            "context canceled",
            "restarting",
            "is not yet ready",
            "Unavailable",
        ]
        .iter()
        .any(|words| message.contains(words))
}
