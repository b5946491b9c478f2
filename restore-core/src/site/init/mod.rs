//! A first `restore.toml`: what is found on a host, and what it is taken for.
//!
//! [`look`] lists what runs and what lies about; [`propose`] makes a configuration of such a listing. The
//! second is a pure function: a listing can be saved, changed and tried. Nothing here writes a
//! file, and no secret is read: names of files and of settings are.

mod backups;
mod compose;
mod containers;
mod emit;
mod engine;
mod local;
mod processes;
mod swarm;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use crate::archive::Digest;
use crate::contract::backup::CONFIGURATION;
use crate::contract::{Backup, BackupStore};
use crate::model::{Error, ErrorKind, Result};
use crate::stores::directory::DirectoryStore;

/// No configuration is nearly as large.
const LARGEST: u64 = 16 << 20;

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
    /// Compose projects that run here, by name.
    pub compose: Vec<String>,
    /// Their services, where the engine manages no swarm.
    pub compose_services: Vec<FoundService>,
    /// Directories that look like volumes: neighbours of servers' data.
    pub directories: Vec<PathBuf>,
    /// Files in folders called `secrets`, near the servers. Only their names were read.
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
    /// The host's ports that it publishes.
    pub ports: Vec<u16>,
    /// The ports that it listens on inside its containers, as far as these say.
    pub listens: Vec<u16>,
    /// The services of its project that it depends on, where that is known.
    pub depends_on: Option<Vec<String>>,
    /// Whether its server asks for a password, where its arguments or its configuration say so.
    pub protected: Option<bool>,
    /// Where the files are that describe it.
    pub described_in: Option<PathBuf>,
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

/// A configuration that was made of a [`Discovery`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Proposal {
    /// The text of a `restore.toml`, with comments.
    pub text: String,
    /// What is left to do by hand: files with passwords to make, guesses to look at.
    pub todo: Vec<String>,
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

/// The `restore.toml` that a backup of the directory `backups` carries, by the backup's id or as
/// `latest`: of the newest that carries one. It is checked against the backup's checksum.
///
/// # Errors
///
/// `NotFound` where there is no such backup, or it carries none; `Verification` where it is not what the
/// manifest says.
pub async fn from_backup(backups: &Path, id: &str) -> Result<Proposal> {
    let store: Arc<dyn BackupStore> = Arc::new(DirectoryStore::new(backups));
    let candidates = match id {
        "latest" => {
            let mut ids = store.list().await?;
            ids.sort();
            ids.reverse();
            ids
        }
        id => vec![id.parse()?],
    };
    for candidate in candidates {
        let backup = match Backup::open(store.clone(), candidate).await {
            Ok(backup) => backup,
            Err(_) if id == "latest" => continue,
            Err(error) => return Err(error),
        };
        // What nobody finished may hold anything.
        if backup.file(CONFIGURATION).is_none() || backup.manifest().is_none() {
            continue;
        }
        let mut text = Vec::new();
        let failed = |e| Error::io(format!("read {CONFIGURATION} of backup {}", backup.id()), e);
        let mut reader = store.read(backup.id(), CONFIGURATION, 0).await?;
        (&mut reader)
            .take(LARGEST)
            .read_to_end(&mut text)
            .await
            .map_err(failed)?;
        if let Some(expected) = backup.expected_digest(CONFIGURATION)
            && Digest(Sha256::digest(&text).into()) != expected
        {
            return Err(Error::new(
                ErrorKind::Verification,
                "backup.mismatch",
                format!(
                    "{CONFIGURATION} of backup {} is not what its manifest says",
                    backup.id()
                ),
            )
            .hint("take that of another backup"));
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        return Ok(Proposal {
            text,
            todo: vec![format!(
                "it is that of backup {}: make the directories, and the files with passwords, that it names",
                backup.id()
            )],
        });
    }
    Err(Error::new(
        ErrorKind::NotFound,
        "init.none_carried",
        match id {
            "latest" => format!(
                "no backup in {} carries a {CONFIGURATION}",
                backups.display()
            ),
            id => format!("backup {id} carries no {CONFIGURATION}"),
        },
    )
    .hint("those that `restore backup` makes do; without --from one is made of what runs here"))
}

#[cfg(test)]
mod tests;
