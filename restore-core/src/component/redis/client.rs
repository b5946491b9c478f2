//! A connection to a Redis server, and what it says of itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use deadpool_redis::redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, RedisError, cmd,
};
use deadpool_redis::{Manager, Pool, PoolError};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::platform::Endpoint;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// A server that may be asked; connects when asked, again after each loss.
pub(super) struct Client {
    pool: Pool,
    what: String,
}

/// Who to sign in as.
#[derive(Clone, Default)]
pub(super) struct Login {
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretString>,
}

/// The socket or the host and port behind an endpoint. A host that starts with `/` is the unix
/// socket itself; or, if it is a directory, the socket `redis.sock` or `redis-server.sock` in it,
/// whichever is there. The port is then not used.
pub(super) fn address(endpoint: &Endpoint) -> ConnectionAddr {
    if !endpoint.host.starts_with('/') {
        return ConnectionAddr::Tcp(endpoint.host.clone(), endpoint.port);
    }
    let path = PathBuf::from(&endpoint.host);
    if !path.is_dir() {
        return ConnectionAddr::Unix(path);
    }
    let debian = path.join("redis-server.sock");
    ConnectionAddr::Unix(if debian.exists() {
        debian
    } else {
        path.join("redis.sock")
    })
}

/// The next step where no server answers.
const UNREACHABLE: &str =
    "see whether the service runs and its endpoint in the configuration is right";

impl Client {
    /// A client of the server at `addr`, called `what` in messages; no answer may take longer
    /// than `patience`.
    pub(super) fn new(
        addr: ConnectionAddr,
        login: &Login,
        what: impl Into<String>,
        patience: Duration,
    ) -> Result<Self> {
        let what = what.into();
        let bad = |e: &dyn std::fmt::Display| {
            Error::new(
                ErrorKind::Config,
                "redis.bad_address",
                format!("cannot talk to {what}: {e}"),
            )
            .hint("correct the endpoint of the service in the configuration")
        };
        let info = addr.into_connection_info().map_err(|e| bad(&e))?;
        let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(username) = &login.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &login.password {
            settings = settings.set_password(password.expose_secret());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(patience));
        let manager = Manager::new_with_config(info.set_redis_settings(settings), config)
            .map_err(|e| bad(&e))?;
        let pool = Pool::builder(manager)
            .max_size(1)
            .build()
            .map_err(|e| bad(&e))?;
        Ok(Self { pool, what })
    }

    /// What messages call it.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        let mut connection = self.pool.get().await.map_err(|e| match e {
            PoolError::Backend(e) => self.explain(e),
            other => Error::new(
                ErrorKind::Failed,
                "redis.unreachable",
                format!("cannot reach {}: {other}", self.what),
            )
            .hint(UNREACHABLE)
            .retryable(),
        })?;
        command
            .query_async(&mut connection)
            .await
            .map_err(|e| self.explain(e))
    }

    fn explain(&self, error: RedisError) -> Error {
        let code = error.code().unwrap_or_default().to_owned();
        let refused = matches!(code.as_str(), "NOAUTH" | "WRONGPASS")
            || error.kind() == deadpool_redis::redis::ErrorKind::AuthenticationFailed;
        if refused {
            return Error::new(
                ErrorKind::Preflight,
                "redis.auth",
                format!("{} does not let us in: {error}", self.what),
            )
            .hint("check username and password_file (or password_env) of the component")
            .source(error);
        }
        if code == "NOPERM" {
            return Error::new(
                ErrorKind::Preflight,
                "redis.permission",
                format!("{} refuses a command: {error}", self.what),
            )
            .hint("the user needs INFO, CONFIG|GET and MODULE|LIST, and BGSAVE to back up")
            .source(error);
        }
        if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
            return Error::new(
                ErrorKind::Failed,
                "redis.unreachable",
                format!("cannot reach {}: {error}", self.what),
            )
            .hint(UNREACHABLE)
            .retryable()
            .source(error);
        }
        Error::new(
            ErrorKind::Failed,
            "redis.refused",
            format!("{} answers: {error}", self.what),
        )
        .hint("the server's own log says more; mend that, then try again")
        .source(error)
    }

    /// `INFO`, all of its usual sections.
    pub(super) async fn info(&self) -> Result<Info> {
        let text: String = self.query(&cmd("INFO")).await?;
        Ok(Info::parse(&text))
    }

    /// `INFO` as it is, and read.
    pub(super) async fn info_text(&self) -> Result<(String, Info)> {
        let text: String = self.query(&cmd("INFO")).await?;
        let info = Info::parse(&text);
        Ok((text, info))
    }

    /// Begins to save in the background; false where the server does so already.
    pub(super) async fn bgsave(&self) -> Result<bool> {
        match self.query::<String>(&cmd("BGSAVE")).await {
            Ok(_) => Ok(true),
            Err(e)
                if e.code() == "redis.refused" && e.message().contains("already in progress")
                    || e.message().contains("child process") =>
            {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// One setting; `None` where the server does not know it.
    pub(super) async fn setting(&self, name: &str) -> Result<Option<String>> {
        let found: Vec<String> = self.query(cmd("CONFIG").arg("GET").arg(name)).await?;
        Ok(found.into_iter().nth(1))
    }

    /// The modules that the server has loaded.
    pub(super) async fn modules(&self) -> Result<Vec<Module>> {
        let list: Vec<BTreeMap<String, deadpool_redis::redis::Value>> =
            self.query(cmd("MODULE").arg("LIST")).await?;
        let text = |value: Option<&deadpool_redis::redis::Value>| {
            value.and_then(|v| String::from_redis_value_ref(v).ok())
        };
        Ok(list
            .iter()
            .map(|module| Module {
                name: text(module.get("name")).unwrap_or_default(),
                path: text(module.get("path")).filter(|path| path.starts_with('/')),
                args: module
                    .get("args")
                    .and_then(|v| Vec::<String>::from_redis_value_ref(v).ok())
                    .unwrap_or_default(),
            })
            .collect())
    }

    /// Writes the RDB now, the server answering nobody else meanwhile.
    pub(super) async fn save(&self) -> Result<()> {
        self.query(&cmd("SAVE")).await
    }

    /// Ends the server without saving. The connection breaks before an answer: whether it ended
    /// is for the caller to see.
    pub(super) async fn shutdown(&self) {
        let _: Result<()> = self.query(cmd("SHUTDOWN").arg("NOSAVE")).await;
    }

    /// Waits until the server answers and has loaded its data. `loading` is given the bytes
    /// loaded so far. An answer that will not get better ends the wait at once.
    pub(super) async fn loaded(
        &self,
        timeout: Duration,
        mut still: impl FnMut() -> Result<()> + Send,
        mut loading: impl FnMut(u64) + Send,
    ) -> Result<Info> {
        let deadline = Instant::now() + timeout;
        let mut pause = Duration::from_millis(10);
        loop {
            let seen = match self.info().await {
                Ok(info) if info.is_loading() => {
                    let bytes = info.number("loading_loaded_bytes").unwrap_or(0);
                    loading(bytes);
                    format!("{} is still loading ({bytes} bytes so far)", self.what)
                }
                Ok(info) => return Ok(info),
                Err(e) if e.is_retryable() => e.message().to_owned(),
                Err(e) => return Err(e),
            };
            still()?;
            if Instant::now() >= deadline {
                return Err(Error::new(
                    ErrorKind::Failed,
                    "redis.load_timeout",
                    format!("after {} s: {seen}", timeout.as_secs()),
                )
                .hint("look into its log; if it only needs longer, raise load_timeout"));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}

/// A module of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Module {
    pub(super) name: String,
    /// Its file; unknown before Redis 7.
    pub(super) path: Option<String>,
    /// May hold secrets: never shown.
    pub(super) args: Vec<String>,
}

/// Keys of one database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Keys {
    /// All.
    pub(super) keys: u64,
    /// Those of them that expire some day.
    pub(super) expires: u64,
}

/// What `INFO` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Info(BTreeMap<String, String>);

impl Info {
    /// Reads the text.
    pub(super) fn parse(text: &str) -> Self {
        Self(
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| line.trim_end().split_once(':'))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// A field as text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// A field as a number.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    /// Whether it is still loading its data.
    pub(super) fn is_loading(&self) -> bool {
        self.number("loading") == Some(1)
    }

    /// The keys of each database that has some, expired ones that were not yet removed included.
    pub(super) fn keyspace(&self) -> BTreeMap<u32, Keys> {
        self.0
            .iter()
            .filter_map(|(key, value)| {
                let database = key.strip_prefix("db")?.parse().ok()?;
                let field = |name: &str| {
                    value.split(',').find_map(|part| {
                        let (key, value) = part.split_once('=')?;
                        (key == name).then(|| value.parse().ok())?
                    })
                };
                Some((
                    database,
                    Keys {
                        keys: field("keys")?,
                        expires: field("expires").unwrap_or(0),
                    },
                ))
            })
            .collect()
    }

    /// How many keys the RDB had that was loaded at the start, expired ones included: the same
    /// for one file whenever it is loaded. `None` before Redis 7.
    pub(super) fn rdb_keys(&self) -> Option<u64> {
        Some(
            self.number("rdb_last_load_keys_loaded")?
                + self.number("rdb_last_load_keys_expired")?,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read() {
        let info = Info::parse(
            "# Server\r\nredis_version:7.0.15\r\n\r\n# Keyspace\r\ndb0:keys=201,expires=1,avg_ttl=9\r\ndb12:keys=1,expires=0,avg_ttl=0\r\nloading:1\r\nrdb_last_load_keys_loaded:7\r\nrdb_last_load_keys_expired:2\r\ndbx:keys=1\r\n",
        );
        assert_eq!(info.text("redis_version"), Some("7.0.15"));
        assert!(info.is_loading());
        assert_eq!(info.rdb_keys(), Some(9));
        let keys = info.keyspace();
        assert_eq!(keys.len(), 2);
        assert_eq!(
            keys[&0],
            Keys {
                keys: 201,
                expires: 1
            }
        );
        assert_eq!(
            keys[&12],
            Keys {
                keys: 1,
                expires: 0
            }
        );
    }

    #[test]
    fn an_endpoint_may_be_a_socket_or_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap().to_owned();
        let of = |host: &str| address(&Endpoint::new(host, 6379));
        assert_eq!(
            of("db.example"),
            ConnectionAddr::Tcp("db.example".into(), 6379)
        );
        assert_eq!(
            of(&path),
            ConnectionAddr::Unix(dir.path().join("redis.sock"))
        );
        std::fs::write(dir.path().join("redis-server.sock"), "").unwrap();
        let debian = dir.path().join("redis-server.sock");
        assert_eq!(of(&path), ConnectionAddr::Unix(debian.clone()));
        assert_eq!(
            of(debian.to_str().unwrap()),
            ConnectionAddr::Unix(debian.clone())
        );
    }
}
