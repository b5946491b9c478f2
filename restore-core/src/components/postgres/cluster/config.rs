//! `[components.NAME]` with `kind = "postgres_cluster"`.

use std::path::{Component, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::backup::remote::Folder;
use crate::components::postgres::wal::{RemoteWalArchive, WalSource};
use crate::contract::{ComponentDeps, SecretSource, Table, parse_section};
use crate::model::{Error, ErrorKind, Result};
use crate::stores::config::folder;
use crate::sys::connect::{Mode, Tls, TlsKeys};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    service: String,
    volume: String,
    #[serde(default)]
    data_dir: PathBuf,
    user: String,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    tls: Option<Mode>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    #[serde(default = "postgres")]
    maintenance_database: String,
    #[serde(default)]
    stops: Vec<String>,
    #[serde(default = "default_base")]
    base: Vec<String>,
    wal_archive: Option<Value>,
    bin: Option<PathBuf>,
    #[serde(default)]
    max_bytes: u64,
}

fn postgres() -> String {
    "postgres".to_owned()
}

fn default_base() -> Vec<String> {
    vec!["postgres/base-{id}.tar.gz".to_owned()]
}

/// A path, or a table that describes a store.
fn wal_archive(name: &str, value: Value, parts: &ComponentDeps) -> Result<WalSource> {
    let path = format!("components.{name}.wal_archive");
    match value {
        Value::String(dir) => Ok(WalSource::Directory(parts.path(dir))),
        Value::Object(table) => Ok(match folder(&path, table, &parts.base)? {
            Folder::Here(dir) => WalSource::Directory(dir),
            Folder::Elsewhere(remote) => {
                // Deleted as a whole: whatever the name is, the folder is its own.
                let of = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
                let folder = format!("wal-{}", name.chars().map(of).collect::<String>());
                let kept = parts.scratch.join(folder);
                WalSource::Store(Arc::new(RemoteWalArchive::new(remote, kept)))
            }
        }),
        _ => Err(Error::new(
            ErrorKind::Config,
            "config.bad_value",
            format!("[components.{name}] `wal_archive`: neither a path in quotes nor a table"),
        )
        .hint("name a directory, or a store by kind and the keys of that kind: wal_archive = { kind = \"ssh\", host = \"…\", path = \"…\" }")),
    }
}

/// The section, checked.
#[derive(Clone, Debug)]
pub(super) struct ClusterConfig {
    pub(super) service: String,
    pub(super) volume: String,
    /// Within the volume; empty: its root.
    pub(super) data_dir: PathBuf,
    pub(super) user: String,
    pub(super) password: SecretSource,
    pub(super) tls: Tls,
    pub(super) maintenance: String,
    stops: Vec<String>,
    pub(super) base: Vec<String>,
    pub(super) wal_archive: Option<WalSource>,
    pub(super) bin: Option<PathBuf>,
    /// So many bytes a base backup may unpack to; 0: what was known of it, and a margin.
    pub(super) max_bytes: u64,
}

impl ClusterConfig {
    pub(super) fn from_table(name: &str, table: Table, parts: &ComponentDeps) -> Result<Self> {
        let path = format!("components.{name}");
        let section: Section = parse_section(&path, table)?;
        let data_dir: PathBuf = section
            .data_dir
            .components()
            .filter(|part| !matches!(part, Component::CurDir))
            .collect();
        if !data_dir
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!(
                    "[{path}] data_dir = {:?} is no folder of the volume",
                    section.data_dir
                ),
            )
            .hint("name the data directory's path within the volume, without a / in front; leave it away where the volume is the data directory"));
        }
        Ok(Self {
            service: section.service,
            volume: section.volume,
            data_dir,
            user: section.user,
            password: SecretSource::new(
                &path,
                section.password_file.map(|path| parts.path(path)),
                section.password_env,
            )?,
            tls: TlsKeys {
                tls: section.tls,
                ca_file: section.ca_file,
                cert_file: section.cert_file,
                key_file: section.key_file,
            }
            .read(&path, &parts.base)?,
            maintenance: section.maintenance_database,
            stops: section.stops,
            base: section.base,
            wal_archive: match section.wal_archive {
                Some(value) => Some(wal_archive(name, value, parts)?),
                None => None,
            },
            bin: section.bin.map(|path| parts.path(path)),
            max_bytes: section.max_bytes,
        })
    }

    /// The further services and the server's own, each once.
    pub(super) fn stops(&self) -> Vec<String> {
        let mut all = self.stops.clone();
        if !all.contains(&self.service) {
            all.push(self.service.clone());
        }
        all
    }
}
