//! Redis answers, and holds something.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_redis::redis::{RedisError, cmd};
use serde::Deserialize;

use super::attempt::{Attempt, PATIENCE, until};
use crate::contract::{
    Check, ConfigDuration, Platform, RetryMode, SecretSource, Table, When, parse_section,
};
use crate::model::{CheckOutcome, Result, Timestamp};
use crate::sys::connect;
use crate::sys::connect::{Mode, Tls, TlsKeys, connect_redis};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    service: String,
    username: Option<String>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    tls: Option<Mode>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    min_keys: Option<u64>,
    key: Option<String>,
    timeout: Option<ConfigDuration>,
    when: Option<When>,
}

/// Pings the server, counts the keys of all its databases, and looks for one key in the first.
pub(crate) struct Redis {
    name: String,
    section: Section,
    password: SecretSource,
    tls: Tls,
    platform: Arc<dyn Platform>,
}

impl Redis {
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
        .read(&path, base)?
        .without_asking(&path)?;
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
        let service = &self.section.service;
        let endpoint = match self.platform.endpoint(service).await {
            Ok(endpoint) => endpoint,
            Err(e) => return Attempt::Failed(e.to_string()),
        };
        let password = match self.password.read() {
            Ok(password) => password,
            Err(e) => return Attempt::Failed(e.to_string()),
        };
        let server = connect::Redis {
            endpoint,
            username: self.section.username.clone(),
            password,
            tls: self.tls.clone(),
            patience: ANSWER,
        };
        let connected = match connect_redis(&server).await {
            Ok(connected) => connected,
            Err(e) => return Attempt::Failed(e.to_string()),
        };
        let ask = async {
            let mut connection = connected?;
            let _pong: String = cmd("PING").query_async(&mut connection).await?;
            let keyspace: String = cmd("INFO")
                .arg("keyspace")
                .query_async(&mut connection)
                .await?;
            let exists: Option<bool> = match &self.section.key {
                Some(key) => Some(cmd("EXISTS").arg(key).query_async(&mut connection).await?),
                None => None,
            };
            Ok::<_, RedisError>((keys(&keyspace), exists))
        };
        match ask.await {
            Ok((keys, exists)) => self.judge(keys, exists),
            Err(e) => {
                let detail = format!("{service} does not answer: {e}");
                match e.code() {
                    Some("NOAUTH" | "WRONGPASS" | "NOPERM") => Attempt::Failed(detail),
                    _ => Attempt::NotYet(detail),
                }
            }
        }
    }

    fn judge(&self, keys: u64, exists: Option<bool>) -> Attempt {
        let service = &self.section.service;
        if let Some(least) = self.section.min_keys
            && keys < least
        {
            return Attempt::Failed(format!("{service} holds {keys} keys, fewer than {least}"));
        }
        if let (Some(false), Some(key)) = (exists, &self.section.key) {
            return Attempt::Failed(format!("{service} has no key {key:?}"));
        }
        Attempt::Passed(format!("{service} answers and holds {keys} keys"))
    }
}

/// The sum over `db0:keys=5,expires=0,avg_ttl=0` and its like.
fn keys(keyspace: &str) -> u64 {
    keyspace
        .lines()
        .filter_map(|line| line.split_once(":keys=")?.1.split(',').next()?.parse().ok())
        .fold(0_u64, |sum, keys: u64| sum.saturating_add(keys))
}

#[async_trait]
impl Check for Redis {
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

#[cfg(test)]
mod tests {
    #[test]
    fn keys_of_all_databases_are_counted() {
        let info = "# Keyspace\r\ndb0:keys=5,expires=1,avg_ttl=0\r\ndb3:keys=2,expires=0\r\n";
        assert_eq!(super::keys(info), 7);
        assert_eq!(super::keys("# Keyspace\r\n"), 0);
    }
}
