//! A connection to a Redis server, and what it says of itself.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Cmd, FromRedisValue, RedisError, cmd};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::holders;
use super::scratch::SOCKET;
use crate::model::{Endpoint, Error, ErrorKind, Result};
use crate::swap::Dir;
use crate::sys::connect;
use crate::sys::connect::{Tls, connect_redis};

/// A server that may be asked; connects when asked, again after each loss.
pub(super) struct Client {
    server: connect::Redis,
    /// The directory in which its socket lies, of a scratch server.
    place: Option<Dir>,
    connection: Mutex<Option<MultiplexedConnection>>,
    what: String,
}

/// Why a server does not do what it is asked: the reason of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Unreachable,
    /// It does not know the user or the password.
    Auth,
    /// The user must not do that.
    Permission,
    /// It saves already.
    Busy,
    UnknownCommand,
    Other,
}

impl Refusal {
    /// From what the server says: it has no codes for these.
    fn from_words(words: &str) -> Self {
        match words {
            _ if words.contains("in progress") || words.contains("child process") => Self::Busy,
            _ if words.contains("unknown command") => Self::UnknownCommand,
            _ => Self::Other,
        }
    }
}

/// The next step where no server answers.
const UNREACHABLE: &str =
    "see whether the service runs and its endpoint in the configuration is right";

impl Client {
    /// A client of a server, called `what` in messages.
    pub(super) fn new(server: connect::Redis, what: impl Into<String>) -> Self {
        Self {
            server,
            place: None,
            connection: Mutex::new(None),
            what: what.into(),
        }
    }

    /// A client of the server behind a unix socket, which nobody has to sign in to.
    pub(super) fn of_socket(path: &Path, what: impl Into<String>, patience: Duration) -> Self {
        let server = connect::Redis {
            endpoint: Endpoint::new(path.to_string_lossy(), 0),
            username: None,
            password: None,
            tls: Tls::default(),
            patience,
        };
        Self::new(server, what)
    }

    /// A client of the scratch server in this directory, whose socket may be yet to come.
    pub(super) fn of_scratch(place: Dir, what: impl Into<String>, patience: Duration) -> Self {
        Self {
            place: Some(place),
            ..Self::of_socket(Path::new("/"), what, patience)
        }
    }

    /// Whom to connect to. What lies in a scratch server's directory is its user's, who could have
    /// put a link to the socket of another server there.
    fn target(&self) -> Result<(connect::Redis, Option<OwnedFd>)> {
        let mut server = self.server.clone();
        let Some(place) = &self.place else {
            return Ok((server, None));
        };
        let socket = holders::socket(place, Path::new(SOCKET)).ok_or_else(|| {
            Error::new(
                ErrorKind::Failed,
                "redis.unreachable",
                format!("cannot reach {}: it has no socket yet", self.what),
            )
            .because(Refusal::Unreachable)
            .hint(UNREACHABLE)
            .retryable()
        })?;
        let path = holders::address_of(&socket);
        server.endpoint = Endpoint::new(path.to_string_lossy(), 0);
        Ok((server, Some(socket)))
    }

    /// The connection, or a new one where the server has ended that.
    async fn connection(&self) -> Result<MultiplexedConnection> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_mut()
            && cmd("PING").query_async::<String>(connection).await.is_ok()
        {
            return Ok(connection.clone());
        }
        let (server, _held) = self.target()?;
        let connected = connect_redis(&server).await?;
        let connection = connected.map_err(|e| self.explain(e))?;
        *kept = Some(connection.clone());
        Ok(connection)
    }

    /// What messages call it.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        let mut connection = self.connection().await?;
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
            .because(Refusal::Auth)
            .hint("check username and password_file (or password_env) of the component")
            .source(error);
        }
        if code == "NOPERM" {
            return Error::new(
                ErrorKind::Preflight,
                "redis.permission",
                format!("{} refuses a command: {error}", self.what),
            )
            .because(Refusal::Permission)
            .hint("the user needs INFO, CONFIG|GET and MODULE|LIST, and BGSAVE to back up")
            .source(error);
        }
        if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
            return Error::new(
                ErrorKind::Failed,
                "redis.unreachable",
                format!("cannot reach {}: {error}", self.what),
            )
            .because(Refusal::Unreachable)
            .hint(UNREACHABLE)
            .retryable()
            .source(error);
        }
        Error::new(
            ErrorKind::Failed,
            "redis.refused",
            format!("{} answers: {error}", self.what),
        )
        .because(Refusal::from_words(&error.to_string()))
        .hint("the server's own log says more; fix the cause, then try again")
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
            Err(e) if e.is(&Refusal::Busy) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Begins to write the append-only file anew.
    pub(super) async fn rewrite(&self) -> Result<()> {
        self.query::<String>(&cmd("BGREWRITEAOF")).await.map(drop)
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

    /// Whether the user may have the server write its RDB, as far as the server tells without doing it.
    pub(super) async fn may_save(&self) -> bool {
        let user: String = match self.query(cmd("ACL").arg("WHOAMI")).await {
            Ok(user) => user,
            // Before Redis 6 there are no users.
            Err(error) => return !error.is(&Refusal::Permission),
        };
        for command in ["SAVE", "BGSAVE"] {
            let mut dry_run = cmd("ACL");
            dry_run.arg("DRYRUN").arg(&user).arg(command);
            match self.query::<String>(&dry_run).await {
                Ok(answer) if answer != "OK" => {}
                Ok(_) => return true,
                // Redis 6 cannot be asked.
                Err(error) => return !error.is(&Refusal::Permission),
            }
        }
        false
    }

    /// Writes the RDB now, the server answering nobody else meanwhile.
    pub(super) async fn save(&self) -> Result<()> {
        self.query(&cmd("SAVE")).await
    }

    /// Keeps back whatever would change its data, for so long at most (Redis 6.2).
    pub(super) async fn pause_writes(&self, longest: Duration) -> Result<()> {
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        let mut command = cmd("CLIENT");
        command.arg("PAUSE").arg(longest).arg("WRITE");
        self.query::<String>(&command).await.map(drop)
    }

    /// Ends that.
    pub(super) async fn resume_writes(&self) -> Result<()> {
        let mut command = cmd("CLIENT");
        command.arg("UNPAUSE");
        self.query::<String>(&command).await.map(drop)
    }

    /// Ends the server without saving, by what `SHUTDOWN` is called there. The connection breaks
    /// before an answer: whether it ended is for the caller to see.
    pub(super) async fn shutdown(&self, name: &str) {
        let _: Result<()> = self.query(cmd(name).arg("NOSAVE")).await;
    }

    /// Waits until the server answers and has loaded its data. `loading` is given the bytes
    /// loaded so far. An answer that will not get better ends the wait at once.
    pub(super) async fn loaded(
        &self,
        timeout: Duration,
        mut still: impl FnMut() -> Result<()> + Send,
        mut loading: impl FnMut(u64, u64) -> Result<()> + Send,
    ) -> Result<Info> {
        let deadline = Instant::now() + timeout;
        let mut pause = Duration::from_millis(10);
        loop {
            let seen = match self.info().await {
                Ok(info) if info.is_loading() => {
                    let bytes = info.number("loading_loaded_bytes").unwrap_or(0);
                    loading(bytes, info.number("used_memory").unwrap_or(0))?;
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
        let loaded = self.number("rdb_last_load_keys_loaded")?;
        Some(loaded.saturating_add(self.number("rdb_last_load_keys_expired")?))
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
}
