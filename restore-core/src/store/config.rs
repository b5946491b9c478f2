//! `[stores.NAME]`: which store it describes, and how what is in it is unlocked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{BackupStore, DirectoryStore, SshConfig, SshStore};
use crate::config::{self, SecretSource};
use crate::error::Result;
use crate::unlock::Unlock;

const KINDS: [&str; 2] = ["directory", "ssh"];

/// A store as it was configured.
pub(crate) struct Configured {
    pub(crate) store: Arc<dyn BackupStore>,
    pub(crate) keys: StoreKeys,
}

/// What a site knows of a store besides how to read it.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreKeys {
    /// How what is fetched from it is unlocked.
    pub(crate) unlock: Unlock,
    /// Whether what was encrypted may lie in it in plain.
    pub(crate) unlocked: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Directory {
    path: PathBuf,
    #[serde(default)]
    unlocked: bool,
    #[serde(default)]
    passphrase_file: Option<PathBuf>,
    #[serde(default)]
    passphrase_env: Option<String>,
    #[serde(default)]
    gnupg_home: Option<PathBuf>,
    #[serde(default)]
    signed_by: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ssh {
    host: String,
    path: String,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    config: Option<PathBuf>,
    #[serde(default)]
    sftp_server: Option<String>,
    #[serde(default)]
    passphrase_file: Option<PathBuf>,
    #[serde(default)]
    passphrase_env: Option<String>,
    #[serde(default)]
    gnupg_home: Option<PathBuf>,
    #[serde(default)]
    signed_by: Vec<String>,
}

/// Makes the store that the section `name` describes; relative paths are taken from `base`.
pub(crate) fn make(name: &str, value: &Value, base: &Path) -> Result<Configured> {
    let path = format!("stores.{name}");
    let mut table = config::table(&path, value)?;
    let kind = config::take_kind(&path, &mut table, &KINDS)?;
    let at = |file: Option<PathBuf>| file.map(|file| base.join(file));
    if kind == "ssh" {
        let ssh: Ssh = config::parse_section(&path, table)?;
        let config = SshConfig {
            host: ssh.host,
            path: ssh.path,
            user: ssh.user,
            port: ssh.port,
            config: at(ssh.config),
            sftp_server: ssh.sftp_server,
        };
        let store = SshStore::new(config).map_err(|error| error.context(format!("[{path}]")))?;
        return Ok(Configured {
            store: Arc::new(store),
            keys: StoreKeys {
                unlock: Unlock {
                    passphrase: SecretSource::new(
                        &path,
                        at(ssh.passphrase_file),
                        ssh.passphrase_env,
                    )?,
                    home: at(ssh.gnupg_home),
                    signed_by: ssh.signed_by,
                },
                unlocked: false,
            },
        });
    }
    let directory: Directory = config::parse_section(&path, table)?;
    Ok(Configured {
        store: Arc::new(DirectoryStore::new(base.join(directory.path))),
        keys: StoreKeys {
            unlock: Unlock {
                passphrase: SecretSource::new(
                    &path,
                    at(directory.passphrase_file),
                    directory.passphrase_env,
                )?,
                home: at(directory.gnupg_home),
                signed_by: directory.signed_by,
            },
            unlocked: directory.unlocked,
        },
    })
}
