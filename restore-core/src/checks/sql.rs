//! A query gives the expected answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::ExposeSecret;
use serde::Deserialize;
use tokio_postgres::SimpleQueryMessage;

use super::attempt::{Attempt, PATIENCE, until};
use crate::contract::{
    Check, ConfigDuration, Platform, RetryMode, SecretSource, Table, When, parse_section,
};
use crate::model::{CheckOutcome, Result, Timestamp};
use crate::sys::connect::{ConnectError, Mode, Tls, TlsKeys, asked_in_the_clear, connect_postgres};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    service: String,
    database: String,
    user: String,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    tls: Option<Mode>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    query: String,
    expect: Option<String>,
    timeout: Option<ConfigDuration>,
    when: Option<When>,
}

/// Compares the first column of a query's first row, as text, with what is expected; where
/// nothing is, there must be a row whose first column is not null. Connecting is tried until the
/// deadline; an answer is final.
pub(crate) struct Sql {
    name: String,
    section: Section,
    password: SecretSource,
    tls: Tls,
    platform: Arc<dyn Platform>,
}

impl Sql {
    pub(crate) fn new(
        name: &str,
        table: Table,
        platform: Arc<dyn Platform>,
        base: &Path,
    ) -> Result<Self> {
        let path = format!("checks.{name}");
        let mut section: Section = parse_section(&path, table)?;
        let tls = TlsKeys {
            tls: section.tls,
            ca_file: section.ca_file.take(),
            cert_file: section.cert_file.take(),
            key_file: section.key_file.take(),
        }
        .read(&path, base)?;
        let file = section.password_file.as_ref().map(|file| base.join(file));
        Ok(Self {
            name: name.to_owned(),
            password: SecretSource::new(&path, file, section.password_env.clone())?,
            section,
            tls,
            platform,
        })
    }

    async fn attempt(&self) -> Attempt {
        let endpoint = match self.platform.endpoint(&self.section.service).await {
            Ok(endpoint) => endpoint,
            Err(e) => return Attempt::Failed(e.to_string()),
        };
        let mut config = tokio_postgres::Config::new();
        config
            .dbname(&self.section.database)
            .user(&self.section.user)
            .application_name("restore");
        match self.password.read() {
            Ok(Some(password)) => {
                config.password(password.expose_secret());
            }
            Ok(None) => {}
            Err(e) => return Attempt::Failed(e.to_string()),
        }
        let failed = |why: String| {
            format!(
                "cannot connect to the database {} of {}: {why}",
                self.section.database, self.section.service
            )
        };
        let (client, connection) = match connect_postgres(&config, &endpoint, &self.tls).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(ConnectError::Driver(e))) if asked_in_the_clear(&e) => {
                return Attempt::Failed(failed(words(&e)));
            }
            Ok(Err(ConnectError::Driver(e))) => return Attempt::NotYet(failed(words(&e))),
            Ok(Err(ConnectError::Io(e))) => return Attempt::NotYet(failed(e.to_string())),
            Err(e) => return Attempt::Failed(failed(e.to_string())),
        };
        let _connection = Connection(tokio::spawn(async move {
            // Its end shows in the query.
            let _ = connection.await;
        }));
        match client.simple_query(&self.section.query).await {
            Ok(messages) => self.judge(&messages),
            Err(e) if e.as_db_error().is_none() => Attempt::NotYet(words(&e)),
            Err(e) => Attempt::Failed(format!("the query failed: {}", words(&e))),
        }
    }

    fn judge(&self, messages: &[SimpleQueryMessage]) -> Attempt {
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let Some(row) = row else {
            return Attempt::Failed("the query gave no row".to_owned());
        };
        let value = row.try_get(0).unwrap_or_default();
        match (value, &self.section.expect) {
            (Some(value), Some(expected)) if value == expected => {
                Attempt::Passed(format!("the query gave {value:?}"))
            }
            (Some(value), None) => Attempt::Passed(format!("the query gave {value:?}")),
            (Some(value), Some(expected)) => {
                Attempt::Failed(format!("the query gave {value:?} instead of {expected:?}"))
            }
            (None, _) => Attempt::Failed("the query gave null".to_owned()),
        }
    }
}

/// Ends the connection's task with the attempt.
struct Connection(tokio::task::JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the server says, else what the client does.
fn words(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        return server.message().to_owned();
    }
    let cause = std::error::Error::source(error);
    match (cause, error.to_string()) {
        (None, text) => text,
        (Some(cause), text) if text == "error connecting to server" => cause.to_string(),
        (Some(cause), text) => format!("{text}: {cause}"),
    }
}

#[async_trait]
impl Check for Sql {
    fn name(&self) -> &str {
        &self.name
    }

    fn when(&self) -> When {
        self.section.when.unwrap_or(When::BeforeTraffic)
    }

    async fn run(&self, _since: Timestamp, tries: RetryMode) -> CheckOutcome {
        let patience = self.section.timeout.unwrap_or(PATIENCE).0;
        until(&self.name, patience, tries, || self.attempt()).await
    }
}
