//! `[components.NAME] kind = "redis"`.

use std::path::PathBuf;

use serde::Deserialize;

use super::client::Info;
use crate::contract::{ComponentDeps, ConfigDuration, SecretSource, Table, parse_section};
use crate::model::{Error, ErrorKind, Result};
use crate::sys::connect::{Mode, Tls, TlsKeys};

/// Which of a backup's files is used where it has several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Prefer {
    #[default]
    Rdb,
    Aof,
}

/// The section as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    /// The service that runs the server.
    pub(super) service: String,
    /// The volume that is the server's data directory.
    pub(super) volume: String,
    /// The user to sign in as; without one, the default user.
    #[serde(default)]
    pub(super) username: Option<String>,
    #[serde(default)]
    password_file: Option<PathBuf>,
    #[serde(default)]
    password_env: Option<String>,
    /// Made of the two.
    #[serde(skip)]
    password: SecretSource,
    #[serde(default)]
    tls: Option<Mode>,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    #[serde(default)]
    cert_file: Option<PathBuf>,
    #[serde(default)]
    key_file: Option<PathBuf>,
    /// Made of the four.
    #[serde(skip)]
    pub(super) transport: Tls,
    /// Further services to stop; the server itself always is.
    #[serde(default)]
    stops: Vec<String>,
    /// The RDB's name in a backup, best first.
    #[serde(default = "rdb")]
    pub(super) rdb: Vec<String>,
    /// The single-file AOF's.
    #[serde(default = "aof")]
    pub(super) aof: Vec<String>,
    /// The packed multi-part AOF's.
    #[serde(default = "aof_dir")]
    pub(super) aof_dir: Vec<String>,
    #[serde(default)]
    pub(super) prefer: Prefer,
    /// Whether the server starts with `appendonly yes`; only asked where the server itself
    /// cannot be.
    #[serde(default)]
    pub(super) appendonly: Option<bool>,
    /// The program for scratch servers: of the same version as the service. Not given: what the service's
    /// product calls its own.
    #[serde(default)]
    pub(super) server_binary: Option<String>,
    /// Modules that a scratch server may load besides those that nobody but root can have put there.
    #[serde(default)]
    pub(super) modules: Vec<PathBuf>,
    /// How long loading the data may take, while staging and after the cut-over.
    #[serde(default = "load_timeout")]
    pub(super) load_timeout: ConfigDuration,
    /// So many bytes a file of it may unpack to, and its data may take in memory; 0: what its size
    /// makes likely.
    #[serde(default)]
    pub(super) max_bytes: u64,
}

fn rdb() -> Vec<String> {
    vec!["redis/redis-{id}.rdb".to_owned()]
}
fn aof() -> Vec<String> {
    vec!["redis/redis-{id}.aof".to_owned()]
}
fn aof_dir() -> Vec<String> {
    vec!["redis/appendonlydir-{id}.tar.gz".to_owned()]
}
fn load_timeout() -> ConfigDuration {
    ConfigDuration::from_secs(30 * 60)
}

impl Section {
    /// The program that a server which says this is started with, as far as that can be told.
    pub(super) fn program(&self, info: Option<&Info>) -> &str {
        let is_valkey = info.is_some_and(|info| info.text("valkey_version").is_some());
        let own = if is_valkey {
            "valkey-server"
        } else {
            "redis-server"
        };
        self.server_binary.as_deref().unwrap_or(own)
    }

    /// Reads the section of the component `name`.
    pub(super) fn parse(name: &str, table: Table, parts: &ComponentDeps) -> Result<Self> {
        let path = format!("components.{name}");
        let mut section: Self = parse_section(&path, table)?;
        if let Some(module) = section.modules.iter().find(|path| !path.is_absolute()) {
            return Err(Error::new(
                ErrorKind::Config,
                "redis.module_relative",
                format!("{path}: modules names {}, which is no absolute path", module.display()),
            )
            .hint("name the module's file as the server does: `MODULE LIST` of redis-cli shows its path"));
        }
        section.password = SecretSource::new(
            &path,
            section.password_file.take().map(|file| parts.path(file)),
            section.password_env.take(),
        )?;
        section.transport = TlsKeys {
            tls: section.tls,
            ca_file: section.ca_file.take(),
            cert_file: section.cert_file.take(),
            key_file: section.key_file.take(),
        }
        .read(&path, &parts.base)?
        .without_asking(&path)?;
        Ok(section)
    }

    /// Where the password is.
    pub(super) fn password(&self) -> SecretSource {
        self.password.clone()
    }

    /// The server's own service and the further ones, each once.
    pub(super) fn stops(&self) -> Vec<String> {
        let mut all = self.stops.clone();
        if !all.contains(&self.service) {
            all.push(self.service.clone());
        }
        all
    }
}
