//! One engine: what it is asked, and what its refusals mean.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
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
use super::json::text;
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

/// How long a leader is waited for by who has not met the swarm with one: an election takes a few seconds, and
/// managers that are gone do not come back.
const ELECTION: Duration = Duration::from_secs(20);

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
    leader: Mutex<Leader>,
    /// How long a leader is waited for that was not met.
    election: Duration,
}

/// What this process knows of the leader of the swarm.
#[derive(Clone, Copy, Debug, Default)]
enum Leader {
    /// It has not asked for it yet.
    #[default]
    Unknown,
    /// There was one: should it be away, it is expected back.
    Met,
    /// It was waited for in vain, and there has been none since.
    GivenUp,
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
            leader: Mutex::default(),
            election: ELECTION,
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
            leader: Mutex::default(),
            election: ELECTION,
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
        let of_swarm = is_of_swarm(request.uri().path());
        match self.call_once(what, request).await {
            Err(refused) if refused.is(&Refused::NoSwarm) => {
                Err(self.whether_none(what, refused).await)
            }
            Ok(answer) => {
                if of_swarm {
                    self.note_leader(Leader::Met);
                }
                Ok(answer)
            }
            failed => failed,
        }
    }

    /// An engine says the same where it is in no swarm, and where its part of one has failed and is begun again:
    /// which of the two it is.
    async fn whether_none(&self, what: &str, refused: Error) -> Error {
        let asks = "ask the engine for its swarm";
        let request = Request::get("http://engine/info").body(Full::new(Bytes::new()));
        let info = match request {
            Ok(request) => self.call_once(asks, request).await,
            Err(e) => Err(self.refused(asks, e.into())),
        };
        match info {
            Ok(info) => self.not_up(what, &info).unwrap_or(refused),
            Err(error) => error,
        }
    }

    /// Why an engine that is in a swarm does not work for it now, by what it says of itself (`/info`) where it
    /// could not do `what`; `None`: it is in none.
    pub(crate) fn not_up(&self, what: &str, info: &Value) -> Option<Error> {
        let place = &self.place;
        let state = text(info, "/Swarm/LocalNodeState").unwrap_or_default();
        match state.as_str() {
            "" | "inactive" => None,
            "locked" => Some(locked(what, place)),
            state => {
                let why = text(info, "/Swarm/Error").filter(|why| !why.is_empty());
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                Some(
                    Error::new(
                        ErrorKind::Failed,
                        "swarm.not_up",
                        format!(
                            "cannot {what}: the engine at {place} is in a swarm, and its own part of that does not run (state {state}){why}"
                        ),
                    )
                    .because(Refused::NotUp)
                    .hint("`docker info` and the engine's log (`journalctl -u docker`) say more; it is begun again when the engine is restarted")
                    .retryable(),
                )
            }
        }
    }

    fn note_leader(&self, leader: Leader) {
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = leader;
    }

    /// How long a leader is waited for.
    fn patience_without_leader(&self) -> Duration {
        let leader = *self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        match leader {
            Leader::Met => PATIENCE,
            Leader::Unknown => self.election,
            Leader::GivenUp => Duration::ZERO,
        }
    }

    /// There was none in that time.
    fn give_up_leader(&self) {
        let mut leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*leader, Leader::Unknown) {
            *leader = Leader::GivenUp;
        }
    }

    async fn call_once(&self, what: &str, request: Request<Full<Bytes>>) -> Result<Value> {
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
                Err(error) if error.is(&Refused::NoLeader) => {
                    if Instant::now() + PAUSE >= begun + self.patience_without_leader() {
                        self.give_up_leader();
                        return Err(error);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) if error.is_retryable() => {
                    // It may be this call that has met it.
                    patience = patience.max(self.transport.patience());
                    if Instant::now() + PAUSE >= begun + patience {
                        self.transport.give_up();
                        return Err(error);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other,
            }
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
                let refused = Refused::of(*status_code, message);
                match refused {
                    Refused::NoLeader => return leaderless(what, place, message),
                    Refused::Locked => return locked(what, place),
                    _ => {}
                }
                let error = Error::new(
                    ErrorKind::Failed,
                    code_of(refused, *status_code),
                    format!("cannot {what}: the engine says: {message}"),
                )
                .because(refused);
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

/// Whether a request is one that only a swarm answers.
fn is_of_swarm(path: &str) -> bool {
    let kinds = ["configs", "nodes", "secrets", "services", "swarm", "tasks"];
    let kind = path.split('/').nth(1).unwrap_or_default();
    kinds.contains(&kind)
}

/// Too few managers are up, for good or for a moment.
fn leaderless(what: &str, place: &str, message: &str) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "swarm.no_leader",
        format!("cannot {what}: the swarm of the engine at {place} has no leader: the engine says: {message}"),
    )
    .because(Refused::NoLeader)
    .hint("start the engines of the other managers: more than half of all managers must be up (`docker info`); where they are gone for good, `docker swarm init --force-new-cluster --advertise-addr ADDRESS` on that engine's host goes on with it as the only manager and keeps services, configs and secrets; then try again")
    .retryable()
}

/// The manager waits for the key that its state is encrypted with.
fn locked(what: &str, place: &str) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "swarm.locked",
        format!("cannot {what}: the swarm is locked: since its last start the engine at {place} waits for the key"),
    )
    .because(Refused::Locked)
    .hint("`docker swarm unlock` on that engine's host asks for the key, which `docker swarm unlock-key` shows on another manager; then try again")
}

/// An error of ours that came through a connection.
fn ours(error: &std::io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref::<Error>()
}

fn tls_error(error: &std::io::Error) -> Option<&tokio_rustls::rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Why an engine refused a request, as far as anything is decided by it: the reason of the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NotFound,
    Conflict,
    /// Somebody else has changed it since it was read.
    OutOfSequence,
    NoManager,
    /// It is in no swarm at all, by its own word.
    NoSwarm,
    /// It is in one, and its own part of that does not run now.
    NotUp,
    /// No manager leads the swarm: too few of them are up, or one is being elected.
    NoLeader,
    /// Its manager waits for the key that its state is encrypted with.
    Locked,
    /// The directory that was to be mounted is not there.
    NoSource,
    /// It is being removed already.
    Leaving,
    /// The log of a container that does not keep any.
    NoLog,
    /// The container was to be changed, and has ended by itself.
    Ended,
    /// The container was made, and the program put into it cannot be started there.
    NotStarted,
    Otherwise,
}

impl Refused {
    /// From what the engine answers: most reasons it gives in words only.
    fn of(status: u16, message: &str) -> Self {
        match status {
            _ if message.contains("bind source path does not exist") => Self::NoSource,
            _ if message.contains("does not support reading") => Self::NoLog,
            _ if message.contains("cannot update a stopped container") => Self::Ended,
            _ if message.contains("already in progress") => Self::Leaving,
            _ if message.contains("does not have a leader") => Self::NoLeader,
            // As long as it has nobody to ask, too.
            _ if message.contains("Manager is being prepared") => Self::NoLeader,
            _ if message.contains("needs to be unlocked") => Self::Locked,
            404 => Self::NotFound,
            409 => Self::Conflict,
            _ if message.contains("update out of sequence") => Self::OutOfSequence,
            _ if message.contains("already exists") => Self::Conflict,
            _ if message.contains("not a swarm manager")
                && message.contains("docker swarm init") =>
            {
                Self::NoSwarm
            }
            _ if message.contains("not part of a swarm") => Self::NoSwarm,
            _ if message.contains("not a swarm manager") => Self::NoManager,
            _ => Self::Otherwise,
        }
    }

    /// Whether a container was not started for its program: the engine says so in words only, which name
    /// the program then.
    pub(crate) fn for_its_program(refusal: &Refusal, program: &str) -> bool {
        let Refusal::DockerResponseServerError { message, .. } = refusal else {
            return false;
        };
        message.contains(program)
    }
}

fn code_of(refused: Refused, status: u16) -> &'static str {
    match refused {
        Refused::NotFound => "swarm.not_found",
        Refused::Conflict => "swarm.conflict",
        Refused::OutOfSequence => "swarm.out_of_sequence",
        Refused::NoManager | Refused::NoSwarm => "swarm.no_manager",
        Refused::NoLeader => "swarm.no_leader",
        Refused::Locked => "swarm.locked",
        Refused::NotUp => "swarm.not_up",
        // Decided by here, and not told apart for people.
        Refused::NoSource
        | Refused::Leaving
        | Refused::NoLog
        | Refused::Ended
        | Refused::NotStarted => match status {
            404 => "swarm.not_found",
            409 => "swarm.conflict",
            _ => "swarm.engine",
        },
        Refused::Otherwise => "swarm.engine",
    }
}

/// Whether the same call may succeed a little later: the swarm elects a leader, or its manager
/// has only just started.
fn comes_back(status: u16, message: &str) -> bool {
    status == 503
        || [
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::fake::{FakeEngine, NO_MANAGER};
    use super::*;

    fn info(state: &str, error: &str) -> (u16, String) {
        let swarm = serde_json::json!({"LocalNodeState": state, "Error": error});
        (200, serde_json::json!({"Swarm": swarm}).to_string())
    }

    async fn services(engine: &Engine) -> Result<Value> {
        engine
            .patiently(|| async {
                engine.docker().await?;
                engine.get("list the services", "/services").await
            })
            .await
    }

    fn engine(fake: &FakeEngine) -> Engine {
        Engine::manager(Address::Unix(fake.socket()))
    }

    #[tokio::test]
    async fn a_manager_that_is_begun_again_is_waited_for_and_is_in_a_swarm() {
        let asked = AtomicUsize::new(0);
        let fake = FakeEngine::new(move |request| match request {
            "GET /info" => info("error", "context deadline exceeded"),
            _ if asked.fetch_add(1, Ordering::Relaxed) < 2 => (503, NO_MANAGER.to_owned()),
            _ => (200, r#"["web"]"#.to_owned()),
        });
        let listed = services(&engine(&fake)).await.unwrap();
        assert_eq!(listed, serde_json::json!(["web"]));

        let fake = FakeEngine::new(|request| match request {
            "GET /info" => info("error", "context deadline exceeded"),
            _ => (503, NO_MANAGER.to_owned()),
        });
        let engine = engine(&fake);
        engine.docker().await.unwrap();
        let error = engine.get("list the services", "/services").await;
        let error = error.unwrap_err();
        assert_eq!(error.code(), "swarm.not_up");
        assert!(error.is_retryable() && !error.is(&Refused::NoSwarm));
        assert!(
            error
                .message()
                .contains("(state error): context deadline exceeded"),
            "{error}"
        );
    }

    #[test]
    fn a_container_that_ended_before_it_was_changed_has_a_reason_of_its_own() {
        let message = "Cannot update container 1a: cannot update a stopped container";
        for (status, code) in [(409, "swarm.conflict"), (500, "swarm.engine")] {
            let refused = Refused::of(status, message);
            assert_eq!(refused, Refused::Ended);
            assert_eq!(code_of(refused, status), code);
        }
    }

    #[tokio::test]
    async fn an_engine_in_no_swarm_says_so() {
        let fake = FakeEngine::new(|request| match request {
            "GET /info" => info("inactive", ""),
            _ => (503, NO_MANAGER.to_owned()),
        });
        let error = services(&engine(&fake)).await.unwrap_err();
        assert!(
            error.is(&Refused::NoSwarm) && !error.is_retryable(),
            "{error}"
        );
        assert_eq!(error.code(), "swarm.no_manager");
    }

    #[tokio::test]
    async fn a_swarm_without_a_leader_is_not_waited_for_twice() {
        let led = Arc::new(AtomicUsize::new(0));
        let now = led.clone();
        let fake = FakeEngine::new(move |_| {
            match now.load(Ordering::Relaxed) {
            0 => (
                500,
                r#"{"message": "rpc error: code = Unknown desc = The swarm does not have a leader."}"#.to_owned(),
            ),
            _ => (200, "[]".to_owned()),
        }
        });
        let mut engine = engine(&fake);
        engine.election = Duration::from_millis(900);
        let asked = || fake.asked().len();
        let error = services(&engine).await.unwrap_err();
        assert_eq!(error.code(), "swarm.no_leader");
        assert!(
            error
                .hint_text()
                .unwrap()
                .contains("docker swarm init --force-new-cluster")
        );
        let first = asked();
        assert!(first > 1, "an election is waited for");
        services(&engine).await.unwrap_err();
        assert_eq!(asked(), first + 1);
        led.store(1, Ordering::Relaxed);
        services(&engine).await.unwrap();
        assert_eq!(
            engine.patience_without_leader(),
            PATIENCE,
            "it is expected back"
        );
    }

    #[tokio::test]
    async fn a_locked_swarm_is_not_waited_for() {
        let fake = FakeEngine::new(|_| {
            let message = "Swarm is encrypted and needs to be unlocked before it can be used. Please use \\\"docker swarm unlock\\\" to unlock it.";
            (503, format!("{{\"message\": \"{message}\"}}"))
        });
        let error = services(&engine(&fake)).await.unwrap_err();
        assert_eq!(error.code(), "swarm.locked");
        assert!(error.hint_text().unwrap().contains("`docker swarm unlock`"));
        let info = serde_json::json!({"Swarm": {"LocalNodeState": "locked"}});
        let error = engine(&fake).not_up("look", &info).unwrap();
        assert_eq!(error.code(), "swarm.locked");
    }
}
