//! A first `restore.toml`: what is found on a host, and what it is taken for.
//!
//! [`look`] lists what runs and what lies about; [`propose`] makes a configuration of such a listing, and asks
//! nobody: a listing can be saved, changed and tried. It looks whether directories are there, and which services
//! compose files in them name. Nothing here writes a file, and no secret is read: names of files and of settings are.

mod backups;
mod carried;
mod compose;
mod containers;
mod deployment;
mod emit;
mod engine;
mod local;
mod nearby;
mod owners;
mod processes;
mod store_section;
mod swarm;
mod trees;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Error, ErrorKind, Result};

pub use carried::{CarriedOptions, carried, carried_in, from_backup};
pub use store_section::StoreSection;

/// Where to look.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LookOptions {
    /// Only servers that work in this directory or have their data there; all of the host's where not given.
    pub below: Option<PathBuf>,
    /// A directory of backups.
    pub backups: Option<PathBuf>,
    /// The Docker engine's socket; the usual one where not given.
    pub socket: Option<PathBuf>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Discovery {
    /// What the site is called: the host's name, or that of the directory that was looked at.
    pub name: String,
    /// Servers that are processes of this host.
    pub processes: Vec<FoundProcess>,
    /// Services of the swarm that this host manages.
    pub services: Vec<FoundService>,
    /// The socket of the engine that has the services.
    pub socket: Option<PathBuf>,
    /// The address by which the other nodes of the swarm reach this one.
    pub address: Option<String>,
    /// Compose projects that run here, by name.
    pub compose: Vec<String>,
    /// Their services, where the engine manages no swarm.
    pub compose_services: Vec<FoundService>,
    /// Directories that look like volumes: neighbours of servers' data.
    pub directories: Vec<PathBuf>,
    /// Files in folders called `secrets`, near the servers or in the directory that was looked at. Only their
    /// names were read.
    pub secrets: Vec<PathBuf>,
    /// Crontabs: a file, or the user whose it is.
    pub crontab: Option<FoundCrontab>,
    /// The backups.
    pub backups: Option<FoundBackups>,
    /// Directories to which members of archives may be relative, likeliest first.
    pub roots: Vec<PathBuf>,
}

/// Whose crontab was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FoundCrontab {
    /// That of a user.
    User(String),
    /// A file.
    File(PathBuf),
}

/// A process that listens on a port, or talks to one that does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct FoundProcess {
    /// Its number.
    pub pid: u32,
    /// Program and arguments, as the process shows them.
    pub words: Vec<String>,
    /// The program's file.
    pub program: PathBuf,
    /// Its working directory.
    pub directory: PathBuf,
    /// The user that it runs as.
    pub user: String,
    /// The unit of systemd that it belongs to.
    pub unit: Option<String>,
    /// Where it listens: `127.0.0.1:5432`.
    pub listens: Vec<String>,
    /// The local ports of others that it is connected to.
    pub connected: Vec<u16>,
    /// A file that holds its number.
    pub pid_file: Option<PathBuf>,
    /// Whether that file is root's, though the process runs as somebody else: it was started by root, and gave
    /// that up by itself.
    pub from_root: bool,
    /// Who decides what it runs besides root and whoever looks, in words: `/tmp/nginx belongs to www-data`.
    pub foreign: Option<String>,
    /// The file that its output goes to.
    pub log: Option<PathBuf>,
    /// Its configuration, without secrets.
    pub config: Option<FoundConfig>,
    /// Databases that it serves, each with a user who is connected.
    pub databases: Vec<(String, String)>,
    /// Variables of its environment that name databases and users; never passwords.
    pub settings: Vec<(String, String)>,
}

/// A server's configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoundConfig {
    /// The file.
    pub path: PathBuf,
    /// Its text; of lines that hold a password only the first word.
    pub text: String,
}

/// A service of a swarm, or of a Compose project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct FoundService {
    /// Its exact name.
    pub name: String,
    /// The image that it runs.
    pub image: String,
    /// The stack, or the Compose project, that it belongs to.
    pub stack: Option<String>,
    /// The networks that it is in, by id or name.
    pub networks: Vec<String>,
    /// Variables that name databases, users, hosts, and files with passwords; never passwords.
    pub settings: Vec<(String, String)>,
    /// What it mounts.
    pub mounts: Vec<FoundMount>,
    /// The secrets that its swarm gives it, as its containers call them.
    pub secrets: Vec<String>,
    /// The host's ports that it publishes.
    pub ports: Vec<u16>,
    /// The ports that it listens on inside its containers, as far as these say.
    pub listens: Vec<u16>,
    /// The services of its project that it depends on, where that is known.
    pub depends_on: Option<Vec<String>>,
    /// Whether its server asks for a password, where its arguments or its configuration say so.
    pub protected: Option<bool>,
    /// Whether its server is told to keep nothing on its disk: a Redis with `save ""`, and without a log.
    pub keeps_nothing: bool,
    /// Where the files are that describe it.
    pub described_in: Option<PathBuf>,
    /// Those files, in the order in which they were named.
    pub config_files: Vec<PathBuf>,
    /// The files with variables that were named for them.
    pub env_files: Vec<PathBuf>,
    /// Whether it is a job, which is neither stopped nor started.
    pub job: bool,
}

impl FoundService {
    fn setting(&self, name: &str) -> Option<String> {
        let found = self.settings.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    }
}

/// A mount of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct FoundMount {
    /// The volume's name, or the host's directory.
    pub source: String,
    /// What the compose files of the service's project call the volume.
    pub called: Option<String>,
    /// Where the service sees it.
    pub target: PathBuf,
    /// Whether `source` is a directory of the host.
    pub bind: bool,
    /// Whether the service cannot write it.
    pub read_only: bool,
}

/// A directory of backups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct FoundBackups {
    /// The directory.
    pub directory: PathBuf,
    /// The newest backup that has files.
    pub newest: Option<String>,
    /// Its files, relative to it, with `{id}` for its id.
    pub files: Vec<String>,
    /// The name of the first member of each archive.
    pub members: std::collections::BTreeMap<String, String>,
    /// The database that was dumped, and the role that owns what is in it, as its texts say.
    pub database: Option<String>,
    /// A superuser that its roles name.
    pub user: Option<String>,
}

/// The name of the JSON Schema's file, beside a `restore.toml`, whose first line names it for editors.
pub const SCHEMA_FILE: &str = "restore.schema.json";

/// A configuration that was made of a [`Discovery`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Proposal {
    /// The text of a `restore.toml`, with comments.
    pub text: String,
    /// What is left to do by hand: files with passwords to make, guesses to look at.
    pub todo: Vec<String>,
    /// The backup that it is of; `None`: it was made of what runs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
}

/// Looks at this host: processes, the Docker engine, backups. Changes nothing.
///
/// # Errors
///
/// Where `backups` is no directory that can be read. What else cannot be looked at is left out.
pub async fn look(options: &LookOptions) -> Result<Discovery> {
    let mut found = {
        let options = options.clone();
        tokio::task::spawn_blocking(move || processes::look(&options))
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, "init.panic", e.to_string()))??
    };
    engine::look(options, &mut found).await;
    Ok(found)
}

/// Refuses to write a file into a folder to which somebody else can lead the way: root would write what
/// its links name.
///
/// # Errors
///
/// `Preflight` with `path.untrusted`.
pub fn may_write(file: &Path) -> Result<()> {
    let Some(folder) = file.parent() else {
        return Ok(());
    };
    crate::sys::check_file(folder, false)
        .map(drop)
        .map_err(|e| e.hint("name a file with --output in a folder that nobody but you and root can replace, or see it with --print"))
}

/// What a host was found to be, as the text of a `restore.toml`.
pub fn propose(found: &Discovery) -> Proposal {
    let mut out = emit::Emit::default();
    // Databases of the host itself are not left out for a project beside them.
    let stateful = |it: &FoundProcess| local::is_postgres(it) || local::is_redis(it);
    let of_host = found.processes.iter().any(stateful);
    let of_compose = found.compose_services.iter().any(|it| !it.job);
    match (found.services.is_empty(), of_compose) {
        (false, _) => swarm::propose(found, &mut out),
        (true, true) if !of_host => compose::propose(found, &mut out),
        (true, _) => local::propose(found, &mut out),
    }
    out.end()
}

#[cfg(test)]
mod tests;
