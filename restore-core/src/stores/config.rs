//! `[stores.NAME]`: which store it describes, and how what is in it is unlocked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::directory::DirectoryStore;
use super::patterns::NamePattern;
use super::ssh::{SshConfig, SshStore};
use crate::backup::remote::Folder;
use crate::backup::unlock::{StoreKeys, Unlock};
use crate::contract::registry::take_known_kind;
use crate::contract::{BackupStore, Registry, SecretSource, Table, config};
use crate::model::{Error, ErrorKind, Result};
use crate::sys::trust;
use crate::sys::trust::Trust;

/// The kinds of stores that the library has.
pub const KINDS: [&str; 5] = ["directory", "ssh", "s3", "azure", "gcs"];

/// A store as it was configured.
pub(crate) struct Configured {
    pub(crate) store: Arc<dyn BackupStore>,
    pub(crate) keys: StoreKeys,
}

/// The keys that every kind has.
pub(crate) struct Keys {
    pub(crate) passphrase_file: Option<PathBuf>,
    pub(crate) passphrase_env: Option<String>,
    pub(crate) gnupg_home: Option<PathBuf>,
    pub(crate) signed_by: Vec<String>,
    pub(crate) require_signature: bool,
    pub(crate) sign_with: Option<String>,
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
            require_signature: bool,
            #[serde(default)]
            sign_with: Option<String>,
        }

        impl $name {
            fn keys(&mut self) -> $crate::stores::config::Keys {
                $crate::stores::config::Keys {
                    passphrase_file: self.passphrase_file.take(),
                    passphrase_env: self.passphrase_env.take(),
                    gnupg_home: self.gnupg_home.take(),
                    signed_by: std::mem::take(&mut self.signed_by),
                    require_signature: self.require_signature,
                    sign_with: self.sign_with.take(),
                }
            }
        }
    };
}

#[cfg(feature = "object-store")]
pub(crate) use section;

section!(Common {});

section!(Directory {
    path: PathBuf,
    #[serde(default)]
    unlocked: bool,
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    files: Option<String>,
    #[serde(default)]
    follow: bool,
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
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    files: Option<String>,
});

/// Makes the store that the section `name` describes; relative paths are taken from `base`.
pub(crate) fn make(
    name: &str,
    value: &Value,
    registry: &Registry,
    base: &Path,
) -> Result<Configured> {
    let path = format!("stores.{name}");
    let mut table = config::table(&path, value)?;
    let kind = take_known_kind(&path, &mut table, &KINDS, registry.stores())?;
    if let Some(factory) = registry.stores().get(&kind) {
        let unlock = take_common(&path, &mut table)?.unlock(&path, base)?;
        let store = factory(name, table, base)?;
        let keys = StoreKeys {
            unlock,
            unlocked: false,
        };
        return Ok(Configured { store, keys });
    }
    let (store, keys, unlocked): (Arc<dyn BackupStore>, Keys, bool) = match kind.as_str() {
        "directory" => {
            let mut directory: Directory = config::parse_section(&path, table)?;
            let keys = directory.keys();
            let mut store =
                DirectoryStore::new(base.join(directory.path)).followed(directory.follow);
            if let Some(group) = &directory.group {
                store = store.readable_by(group_id(&path, group)?);
            }
            if let Some(names) = pattern(&path, (&directory.id, &directory.files))? {
                store = store.with_names(names);
            }
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

/// What `id` and `files` of the section at `path` say of the names of another tool's backups.
pub(super) fn pattern(
    path: &str,
    keys: (&Option<String>, &Option<String>),
) -> Result<Option<NamePattern>> {
    let pattern = match keys {
        (None, None) => return Ok(None),
        (Some(id), None) => NamePattern::parse(id, false),
        (None, Some(files)) => NamePattern::parse(files, true),
        (Some(_), Some(_)) => {
            return Err(Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!("[{path}] `id` names folders and `files` files: a store has one of them"),
            )
            .hint("describe them as two stores of the same path"));
        }
    };
    let pattern = pattern.map_err(|error| error.context(format!("[{path}]")))?;
    Ok(Some(pattern))
}

/// The keys that every kind has, out of the section of a kind that is not the library's.
fn take_common(path: &str, table: &mut Table) -> Result<Keys> {
    let mut common = Table::new();
    for key in [
        "passphrase_file",
        "passphrase_env",
        "gnupg_home",
        "signed_by",
        "require_signature",
        "sign_with",
    ] {
        if let Some(value) = table.remove(key) {
            common.insert(key.to_owned(), value);
        }
    }
    let mut common: Common = config::parse_section(path, common)?;
    Ok(common.keys())
}

fn group_id(path: &str, name: &str) -> Result<u32> {
    let group = nix::unistd::Group::from_name(name)
        .map_err(|e| Error::io(format!("look up the group {name:?}"), e.into()))?;
    group.map(|group| group.gid.as_raw()).ok_or_else(|| {
        Error::new(
            ErrorKind::Config,
            "config.unknown_group",
            format!("[{path}] names the group {name:?}, which this machine does not have"),
        )
        .hint("correct `group`, or make the group (groupadd)")
    })
}

fn ssh(path: &str, table: config::Table, base: &Path) -> Result<(Arc<SshStore>, Keys)> {
    let mut ssh: Ssh = config::parse_section(path, table)?;
    let keys = ssh.keys();
    let names = pattern(path, (&ssh.id, &ssh.files))?;
    let mut store = SshStore::new(SshConfig {
        host: ssh.host,
        path: ssh.path,
        user: ssh.user,
        port: ssh.port,
        config: ssh.config.map(|file| base.join(file)),
        sftp_server: ssh.sftp_server,
    })
    .map_err(|error| error.context(format!("[{path}]")))?;
    if let Some(names) = names {
        store = store.with_names(names);
    }
    Ok((Arc::new(store), keys))
}

/// The folder that the section at `path` describes, by the same keys as a store's: what it names
/// is the folder itself.
pub(crate) fn folder(path: &str, mut table: config::Table, base: &Path) -> Result<Folder> {
    let kind = config::take_kind(path, &mut table, &KINDS)?;
    if ["id", "files"].iter().any(|key| table.contains_key(*key)) {
        return Err(Error::new(
            ErrorKind::Config,
            "config.bad_value",
            format!("[{path}] `id` and `files` are of backups alone"),
        )
        .hint("leave them away"));
    }
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
            ("require_signature", self.require_signature),
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
        let home = at(self.gnupg_home);
        if let Some(home) = &home {
            // gpg.conf there names programs, and the keys there say whose signature counts.
            trust::check(home, "the keyring of gpg", Trust::Obeyed)?;
        }
        Ok(Unlock {
            passphrase: SecretSource::new(path, at(self.passphrase_file), self.passphrase_env)?,
            home,
            signed_by: self.signed_by,
            require_signature: self.require_signature,
            sign_with: self.sign_with,
        })
    }
}
