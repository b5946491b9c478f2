//! `[stores.NAME]`: which store it describes, and how what is in it is unlocked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::{BackupStore, DirectoryStore, Folder, SshConfig, SshStore};
use crate::config::{self, SecretSource};
use crate::error::{Error, ErrorKind, Result};
use crate::unlock::Unlock;

const KINDS: [&str; 5] = ["directory", "ssh", "s3", "azure", "gcs"];

/// A store as it was configured.
pub(crate) struct Configured {
    pub(crate) store: Arc<dyn BackupStore>,
    pub(crate) keys: StoreKeys,
}

/// What a site knows of a store besides how to read it.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreKeys {
    /// How what is fetched from it is unlocked, and what is written to it signed.
    pub(crate) unlock: Unlock,
    /// Whether what was encrypted may lie in it in plain.
    pub(crate) unlocked: bool,
}

/// The keys that every kind has.
pub(super) struct Keys {
    pub(super) passphrase_file: Option<PathBuf>,
    pub(super) passphrase_env: Option<String>,
    pub(super) gnupg_home: Option<PathBuf>,
    pub(super) signed_by: Vec<String>,
    pub(super) sign_with: Option<String>,
}

/// The section of one kind, with the keys that every kind has. (Flattened, they would be missing
/// where an error lists the known ones.)
macro_rules! section {
    ($name:ident { $($key:tt)* }) => {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            $($key)*
            #[serde(default)]
            passphrase_file: Option<std::path::PathBuf>,
            #[serde(default)]
            passphrase_env: Option<String>,
            #[serde(default)]
            gnupg_home: Option<std::path::PathBuf>,
            #[serde(default)]
            signed_by: Vec<String>,
            #[serde(default)]
            sign_with: Option<String>,
        }

        impl $name {
            fn keys(&mut self) -> $crate::store::config::Keys {
                $crate::store::config::Keys {
                    passphrase_file: self.passphrase_file.take(),
                    passphrase_env: self.passphrase_env.take(),
                    gnupg_home: self.gnupg_home.take(),
                    signed_by: std::mem::take(&mut self.signed_by),
                    sign_with: self.sign_with.take(),
                }
            }
        }
    };
}

#[cfg(feature = "object-store")]
pub(super) use section;

section!(Directory {
    path: PathBuf,
    #[serde(default)]
    unlocked: bool,
});

section!(Ssh {
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
});

/// Makes the store that the section `name` describes; relative paths are taken from `base`.
pub(crate) fn make(name: &str, value: &Value, base: &Path) -> Result<Configured> {
    let path = format!("stores.{name}");
    let mut table = config::table(&path, value)?;
    let kind = config::take_kind(&path, &mut table, &KINDS)?;
    let (store, keys, unlocked): (Arc<dyn BackupStore>, Keys, bool) = match kind.as_str() {
        "directory" => {
            let mut directory: Directory = config::parse_section(&path, table)?;
            let keys = directory.keys();
            let store = DirectoryStore::new(base.join(directory.path));
            (Arc::new(store), keys, directory.unlocked)
        }
        "ssh" => {
            let (store, keys) = ssh(&path, table, base)?;
            (store, keys, false)
        }
        kind => {
            let (store, keys) = bucket(kind, &path, table, base)?;
            (store, keys, false)
        }
    };
    let unlock = keys.unlock(&path, base)?;
    let keys = StoreKeys { unlock, unlocked };
    Ok(Configured { store, keys })
}

fn ssh(path: &str, table: config::Table, base: &Path) -> Result<(Arc<SshStore>, Keys)> {
    let mut ssh: Ssh = config::parse_section(path, table)?;
    let keys = ssh.keys();
    let store = SshStore::new(SshConfig {
        host: ssh.host,
        path: ssh.path,
        user: ssh.user,
        port: ssh.port,
        config: ssh.config.map(|file| base.join(file)),
        sftp_server: ssh.sftp_server,
    })
    .map_err(|error| error.context(format!("[{path}]")))?;
    Ok((Arc::new(store), keys))
}

/// The folder that the section at `path` describes, by the same keys as a store's: what it names
/// is the folder itself.
pub(crate) fn folder(path: &str, mut table: config::Table, base: &Path) -> Result<Folder> {
    let kind = config::take_kind(path, &mut table, &KINDS)?;
    let (folder, keys) = match kind.as_str() {
        "directory" => {
            let mut directory: Directory = config::parse_section(path, table)?;
            let keys = directory.keys();
            (Folder::Here(base.join(directory.path)), keys)
        }
        "ssh" => {
            let (store, keys) = ssh(path, table, base)?;
            (Folder::Elsewhere(store), keys)
        }
        kind => {
            let (store, keys) = bucket(kind, path, table, base)?;
            (Folder::Elsewhere(store), keys)
        }
    };
    match keys.first() {
        None => Ok(folder),
        Some(key) => Err(Error::new(
            ErrorKind::Config,
            "config.bad_value",
            format!(
                "[{path}] `{key}` is of backups alone: what is here is neither encrypted nor signed"
            ),
        )
        .hint("leave it away")),
    }
}

#[cfg(feature = "object-store")]
use super::bucket::from_table as bucket;

#[cfg(not(feature = "object-store"))]
fn bucket(
    kind: &str,
    path: &str,
    _table: config::Table,
    _base: &Path,
) -> Result<(Arc<SshStore>, Keys)> {
    Err(Error::new(
        ErrorKind::Config,
        "config.no_object_storage",
        format!("[{path}] is of kind {kind:?}, and this program was built without object storage"),
    )
    .hint("build it with the feature object-store of restore-core"))
}

impl Keys {
    /// One that is set.
    fn first(&self) -> Option<&'static str> {
        [
            ("passphrase_file", self.passphrase_file.is_some()),
            ("passphrase_env", self.passphrase_env.is_some()),
            ("gnupg_home", self.gnupg_home.is_some()),
            ("signed_by", !self.signed_by.is_empty()),
            ("sign_with", self.sign_with.is_some()),
        ]
        .into_iter()
        .find_map(|(key, set)| set.then_some(key))
    }

    fn unlock(self, path: &str, base: &Path) -> Result<Unlock> {
        let at = |file: Option<PathBuf>| file.map(|file| base.join(file));
        if let Some(key) = &self.sign_with
            && (key.is_empty() || key.starts_with('-'))
        {
            return Err(Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!("[{path}] `sign_with`: not the fingerprint of a key"),
            ));
        }
        Ok(Unlock {
            passphrase: SecretSource::new(path, at(self.passphrase_file), self.passphrase_env)?,
            home: at(self.gnupg_home),
            signed_by: self.signed_by,
            sign_with: self.sign_with,
        })
    }
}
