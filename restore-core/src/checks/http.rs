//! A web address answers as it should.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use hyper::{Method, Uri};
use serde::Deserialize;
use tokio::time::Instant;

use super::attempt::{Attempt, PATIENCE, until};
use super::client::{HttpProbe, HttpResponse, ask};
use crate::contract::{Check, ConfigDuration, RetryMode, Table, When, parse_section};
use crate::model::{CheckOutcome, Error, ErrorKind, Result, Timestamp};
use crate::sys::connect::trusting;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    url: String,
    host: Option<String>,
    #[serde(default = "ok")]
    status: u16,
    contains: Option<String>,
    ca_file: Option<PathBuf>,
    timeout: Option<ConfigDuration>,
    when: Option<When>,
}

const fn ok() -> u16 {
    200
}

/// Asks for an address until it answers as wanted. Redirects are answers, not followed.
pub(crate) struct Http {
    name: String,
    section: Section,
    ca_file: Option<PathBuf>,
    tls: bool,
    address: String,
    port: u16,
    path: String,
    host: String,
}

impl Http {
    pub(crate) fn new(name: &str, table: Table, base: &Path) -> Result<Self> {
        let section: Section = parse_section(&format!("checks.{name}"), table)?;
        let bad = |why: &str| {
            Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!("[checks.{name}] url {:?} {why}", section.url),
            )
            .hint("write it like http://127.0.0.1:8080/health")
        };
        let uri: Uri = section
            .url
            .parse()
            .map_err(|e| bad(&format!("is invalid: {e}")))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("is neither http nor https")),
        };
        let authority = uri.authority().ok_or_else(|| bad("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("holds a user or password"));
        }
        let address = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        Ok(Self {
            name: name.to_owned(),
            tls,
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            address: address.to_owned(),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            host: section
                .host
                .clone()
                .unwrap_or_else(|| authority.as_str().to_owned()),
            ca_file: section.ca_file.as_ref().map(|file| base.join(file)),
            section,
        })
    }

    async fn question(&self) -> Result<HttpProbe> {
        let tls = if self.tls {
            let ca_file = self.ca_file.clone();
            let config = tokio::task::spawn_blocking(move || trusting(ca_file.as_deref()))
                .await
                .map_err(|e| {
                    Error::new(
                        ErrorKind::Internal,
                        "http.tls",
                        format!("cannot read certificates: {e}"),
                    )
                })??;
            let name = match self.host.rsplit_once(':') {
                Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
                _ => self.host.as_str(),
            };
            let name = name.trim_start_matches('[').trim_end_matches(']');
            Some((config, name.to_owned()))
        } else {
            None
        };
        Ok(HttpProbe {
            address: self.address.clone(),
            port: self.port,
            tls,
            proxy_protocol: false,
            method: Method::GET,
            path: self.path.clone(),
            host: Some(self.host.clone()),
            posted: None,
        })
    }

    fn judge(&self, answer: &HttpResponse, took: std::time::Duration) -> Attempt {
        let url = &self.section.url;
        let status = answer.status.as_u16();
        let wanted = self.section.status;
        if status != wanted {
            let location = answer.headers.get(hyper::header::LOCATION);
            let to = location.map_or(String::new(), |to| {
                format!(" to {}", String::from_utf8_lossy(to.as_bytes()))
            });
            return Attempt::NotYet(format!("{url} answered {status}{to} instead of {wanted}"));
        }
        if let Some(text) = &self.section.contains
            && !String::from_utf8_lossy(&answer.body).contains(text)
        {
            let bytes = answer.body.len();
            return Attempt::NotYet(format!(
                "{url} answered {status}, but its {bytes} bytes do not contain {text:?}"
            ));
        }
        Attempt::Passed(format!(
            "{url} answered {status} in {} ms",
            took.as_millis()
        ))
    }
}

#[async_trait]
impl Check for Http {
    fn name(&self) -> &str {
        &self.name
    }

    fn when(&self) -> When {
        self.section.when.unwrap_or(When::AfterTraffic)
    }

    async fn run(&self, _since: Timestamp, tries: RetryMode) -> CheckOutcome {
        let question = match self.question().await {
            Ok(question) => question,
            Err(e) => return CheckOutcome::new(&self.name, false, e.to_string()),
        };
        let patience = self.section.timeout.unwrap_or(PATIENCE).0;
        until(&self.name, patience, tries, || async {
            let begun = Instant::now();
            match ask(&question).await {
                Ok(answer) => self.judge(&answer, begun.elapsed()),
                Err(silence) => Attempt::NotYet(format!("{}: {silence}", self.section.url)),
            }
        })
        .await
    }
}
