//! Proof from outside: what users are shown, for every address and every name.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use hyper::Method;
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;

use super::page::{MARK, places};
use super::servers::{ListenAddr, NameKind, Options, Server, kind};
use crate::checks::client::{HttpProbe, HttpResponse, ProbeError, ask};
use crate::model::{Endpoint, Error, ErrorKind, Result, RunId};
use crate::sys::connect::unverified;

/// The reason of an error: the page is not shown everywhere.
#[derive(Debug, PartialEq)]
pub(super) struct NotShown;

/// nginx hands over from old workers to new ones within this time, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(15);

/// Longer than that no answer is waited for.
const ANSWER: Duration = Duration::from_secs(2);

/// While old workers and new ones both accept connections, one proof in a row may be luck.
const IN_A_ROW: u32 = 4;

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(50);

/// How many questions are asked at the same time.
const AT_ONCE: usize = 16;

/// Of a range of ports only so many are asked.
const PORTS: u16 = 64;

/// Where users come in for a port that nginx listens on, where that is another place than this
/// host's own addresses: nginx runs behind published ports.
pub(crate) type PublishedPorts = std::collections::BTreeMap<u16, Vec<Endpoint>>;

/// The ports that servers listen on, of a wide range only as many as are asked.
pub(crate) fn ports(servers: &[Server]) -> std::collections::BTreeSet<u16> {
    places(servers)
        .into_iter()
        .flat_map(|(place, _, _)| asked(&place))
        .collect()
}

fn asked(place: &ListenAddr) -> std::ops::RangeInclusive<u16> {
    place.ports.0..=place.ports.1.min(place.ports.0.saturating_add(PORTS))
}

/// Everything that is asked.
#[derive(Debug)]
pub(crate) struct PageProbe {
    questions: Vec<HttpProbe>,
}

impl PageProbe {
    /// A proof for all servers, asked at the `probe` addresses where a server listens on all,
    /// else where it listens.
    pub(crate) fn new(
        servers: &[Server],
        probe: &[String],
        doors: &PublishedPorts,
        run: &RunId,
    ) -> Result<Self> {
        let tls = unverified()?;
        let mut questions = Vec::new();
        for (place, options, there) in places(servers) {
            if !options.tcp {
                // HTTP/3 alone: nothing here speaks it.
                continue;
            }
            let hosts = hosts(&there, run);
            for port in asked(&place) {
                let published = doors.get(&port).filter(|doors| !doors.is_empty());
                let at: Vec<(String, u16)> = match published {
                    Some(doors) => doors.iter().map(|at| (at.host.clone(), at.port)).collect(),
                    None => addresses(&place, options, probe)
                        .into_iter()
                        .map(|address| (address, port))
                        .collect(),
                };
                for (address, port) in at {
                    questions.extend(
                        hosts
                            .iter()
                            .map(|host| question(&address, port, options, &tls, host.clone())),
                    );
                }
            }
        }
        Ok(Self { questions })
    }

    /// The addresses and ports that nobody answers at.
    pub(crate) async fn unreachable(&self) -> Vec<String> {
        let mut asked: Vec<(String, u16)> = self
            .questions
            .iter()
            .map(|question| (question.address.clone(), question.port))
            .collect();
        asked.dedup();
        let mut silent = Vec::new();
        for (address, port) in asked {
            let connect = tokio::net::TcpStream::connect((address.as_str(), port));
            match tokio::time::timeout(ANSWER, connect).await {
                Ok(Ok(_)) => {}
                Ok(Err(e)) => silent.push(format!("{address}:{port} ({e})")),
                Err(_) => silent.push(format!("{address}:{port} (no answer)")),
            }
        }
        silent
    }

    /// Returns once every answer is the page of `run`, several times in a row.
    pub(crate) async fn shown(&self, run: &RunId) -> Result<()> {
        let judge = |answer: &std::result::Result<HttpResponse, ProbeError>| match answer {
            Ok(answer) if mark(answer) == Some(run.as_str()) && answer.status == 503 => None,
            Ok(answer) => Some(format!("still answers {}", answer.status.as_u16())),
            Err(silence) => Some(silence.to_string()),
        };
        self.until(judge).await.map_err(|left| {
            Error::new(
                ErrorKind::Failed,
                "maintenance.not_shown",
                format!("the maintenance page is not shown everywhere: {left}"),
            )
            .because(NotShown)
            .hint(
                "nginx must read the maintenance directory before all other servers (see its \
                 include lines), and be reachable at the `probe` addresses; where nginx hangs, \
                 restart it; --no-maintenance restores without a page",
            )
        })
    }

    /// Returns once no answer is a page of ours any more, several times in a row.
    pub(crate) async fn gone(&self) -> Result<()> {
        let judge = |answer: &std::result::Result<HttpResponse, ProbeError>| match answer {
            Ok(answer) => mark(answer).map(|run| format!("still shows the page of run {run}")),
            Err(silence @ ProbeError::Unreachable(_)) => Some(silence.to_string()),
            // Whatever closes, rejects or takes its time is not the page.
            Err(ProbeError::Handshake(_) | ProbeError::NoAnswer(_)) => None,
        };
        self.until(judge).await.map_err(|left| {
            Error::new(
                ErrorKind::Failed,
                "maintenance.not_gone",
                format!("users are not let in everywhere: {left}"),
            )
            .hint("see nginx's error log: did it refuse the reload?")
            .retryable()
        })
    }

    /// Asks all, round after round, until `judge` finds nothing wrong often enough; the error
    /// says what was left in the last round.
    async fn until(
        &self,
        judge: impl Fn(&std::result::Result<HttpResponse, ProbeError>) -> Option<String>,
    ) -> std::result::Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        let mut in_a_row = 0;
        loop {
            let mut left = Vec::new();
            let mut round = futures_util::stream::iter(self.questions.clone())
                .map(|question| async move {
                    let answer = answer(&question).await;
                    (question, answer)
                })
                .buffer_unordered(AT_ONCE);
            while let Some((question, answer)) = round.next().await {
                if let Some(why) = judge(&answer) {
                    left.push(format!("{} {why}", shown(&question)));
                }
            }
            if left.is_empty() {
                in_a_row += 1;
                if in_a_row >= IN_A_ROW {
                    return Ok(());
                }
            } else {
                in_a_row = 0;
                if Instant::now() >= deadline {
                    left.sort();
                    let more = left.len().saturating_sub(3);
                    left.truncate(3);
                    let more = match more {
                        0 => String::new(),
                        more => format!(", and {more} more"),
                    };
                    return Err(format!("{}{more}", left.join(", ")));
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn answer(question: &HttpProbe) -> std::result::Result<HttpResponse, ProbeError> {
    match tokio::time::timeout(ANSWER, ask(question)).await {
        Ok(answer) => answer,
        Err(_) => Err(ProbeError::NoAnswer(format!("within {ANSWER:?}"))),
    }
}

fn mark(answer: &HttpResponse) -> Option<&str> {
    answer.headers.get(MARK)?.to_str().ok()
}

fn shown(question: &HttpProbe) -> String {
    let scheme = if question.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let address = &question.address;
    let address = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.clone()
    };
    let host = match &question.host {
        Some(host) => format!("for the host {host}"),
        None => "without a host".to_owned(),
    };
    format!("{scheme}://{address}:{} {host}", question.port)
}

fn question(
    address: &str,
    port: u16,
    options: Options,
    tls: &Arc<ClientConfig>,
    host: Option<String>,
) -> HttpProbe {
    let name = host.clone().unwrap_or_else(|| address.to_owned());
    HttpProbe {
        address: address.to_owned(),
        port,
        tls: options.ssl.then(|| (tls.clone(), name)),
        proxy_protocol: options.proxy_protocol,
        method: Method::HEAD,
        path: "/".to_owned(),
        host,
        posted: None,
    }
}

/// Every name that a user can come with: the exact ones, one for each wildcard, one that nobody
/// has, and none at all.
fn hosts(servers: &[&Server], run: &RunId) -> Vec<Option<String>> {
    let some = format!("restore-{}", run.as_str());
    let mut hosts: Vec<String> = Vec::new();
    for name in servers.iter().flat_map(|server| &server.names) {
        match kind(name) {
            // `$hostname` is nginx's own; `_` and its like are no names anybody comes with.
            NameKind::Exact if name.contains(['$', '_', '"']) => {}
            NameKind::Exact => hosts.push(name.clone()),
            NameKind::Wildcard => {
                if let Some(domain) = name.strip_prefix('.') {
                    hosts.push(domain.to_owned());
                    hosts.push(format!("{some}.{domain}"));
                } else {
                    hosts.push(name.replace('*', &some));
                }
            }
            NameKind::Regex => {}
        }
    }
    hosts.push(format!("{some}.invalid"));
    hosts.sort();
    hosts.dedup();
    hosts.retain(|host| !host.is_empty());
    hosts.into_iter().map(Some).chain([None]).collect()
}

/// Where a place is reached from here.
fn addresses(place: &ListenAddr, options: Options, probe: &[String]) -> Vec<String> {
    let bare = |host: &str| host.trim_matches(['[', ']']).to_owned();
    let (six, four): (Vec<String>, Vec<String>) = probe
        .iter()
        .map(|host| bare(host))
        .partition(|host| host.contains(':'));
    match place.host.as_str() {
        "*" => four,
        "[::]" => {
            let mut six = six;
            if six.is_empty() && four.iter().any(|host| host.starts_with("127.")) {
                six.push("::1".to_owned());
            }
            if options.both_families {
                six.extend(four);
            }
            six
        }
        host => vec![bare(host)],
    }
}
