//! Redis answers, and holds something.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use deadpool_redis::redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisError, cmd};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::attempt::{Attempt, PATIENCE, until};
use super::{Check, Tries, When};
use crate::component::CheckOutcome;
use crate::config::{ConfigDuration, SecretSource, Table, parse_section};
use crate::error::Result;
use crate::platform::{Endpoint, Platform};
use crate::time::Timestamp;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    service: String,
    username: Option<String>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    min_keys: Option<u64>,
    key: Option<String>,
    timeout: Option<ConfigDuration>,
    when: Option<When>,
}

/// Pings the server, counts the keys of all its databases, and looks for one key in the first.
pub(super) struct Redis {
    name: String,
    section: Section,
    password: SecretSource,
    platform: Arc<dyn Platform>,
}

impl Redis {
    pub(super) fn new(
        name: &str,
        table: Table,
        platform: Arc<dyn Platform>,
        base: &Path,
    ) -> Result<Self> {
        let path = format!("checks.{name}");
        let section: Section = parse_section(&path, table)?;
        let file = section.password_file.as_ref().map(|file| base.join(file));
        Ok(Self {
            name: name.to_owned(),
            password: SecretSource::new(&path, file, section.password_env.clone())?,
            section,
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
        let ask = async {
            let info = address(&endpoint).into_connection_info()?;
            let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
            if let Some(username) = &self.section.username {
                settings = settings.set_username(username);
            }
            if let Some(password) = &password {
                settings = settings.set_password(password.expose_secret());
            }
            let client = Client::open(info.set_redis_settings(settings))?;
            let mut connection = client.get_multiplexed_async_connection().await?;
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

/// A host that starts with `/` is the unix socket, or the directory that holds it.
fn address(endpoint: &Endpoint) -> ConnectionAddr {
    if !endpoint.host.starts_with('/') {
        return ConnectionAddr::Tcp(endpoint.host.clone(), endpoint.port);
    }
    let path = PathBuf::from(&endpoint.host);
    let inside = ["redis-server.sock", "redis.sock"]
        .iter()
        .map(|name| path.join(name))
        .find(|socket| socket.exists());
    ConnectionAddr::Unix(inside.unwrap_or(path))
}

#[async_trait]
impl Check for Redis {
    fn name(&self) -> &str {
        &self.name
    }

    fn when(&self) -> When {
        self.section.when.unwrap_or(When::BeforeTraffic)
    }

    async fn run(&self, _since: Timestamp, tries: Tries) -> CheckOutcome {
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
