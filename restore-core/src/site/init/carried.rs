//! The `restore.toml` that a backup carries, for a machine that has none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::Proposal;
use crate::archive::Digest;
use crate::backup::unlock::{Unlock, check_signature};
use crate::contract::backup::CONFIGURATION;
use crate::contract::{Backup, BackupStore, Manifest};
use crate::model::{Error, ErrorKind, Result};
use crate::stores::directory::DirectoryStore;

/// No configuration is nearly as large.
const LARGEST: u64 = 16 << 20;

/// The keys of files that hold secrets.
const SECRETS: [&str; 8] = [
    "access_key_file",
    "key_file",
    "passphrase_file",
    "password_file",
    "sas_token_file",
    "secret_key_file",
    "service_account_file",
    "session_token_file",
];

/// How the `restore.toml` of a backup is taken out of it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CarriedOptions {
    /// Fingerprints of keys of which one must have signed the backup's manifest; empty: a signature is
    /// not looked at.
    pub signed_by: Vec<String>,
    /// Where `gpg` keeps those keys; where it always does if not given.
    pub gnupg_home: Option<PathBuf>,
    /// The folder in which the file will lie: relative paths in it are taken from there.
    pub base: Option<PathBuf>,
}

/// The `restore.toml` that a backup of the directory `backups` carries, by the backup's id or as
/// `latest`: of the newest that carries one and was not made by a run. It is what the manifest says, and the manifest is that of
/// this backup, signed by one of the keys where the options name any. What is left to do says who made
/// it, and which files with passwords are to be made.
///
/// # Errors
///
/// `NotFound` where there is no such backup, or it carries none; `Verification` where it is not what the
/// manifest says, or that is not signed as it must be.
pub async fn carried(backups: &Path, id: &str, options: &CarriedOptions) -> Result<Proposal> {
    let store: Arc<dyn BackupStore> = Arc::new(DirectoryStore::new(backups));
    let candidates = match id {
        "latest" => {
            let mut ids = store.list().await?;
            // Copies that runs made of what they replaced hold a part of it at most: they come last.
            ids.sort_by_key(|id| (!id.is_safety(), id.clone()));
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
        let unlock = Unlock {
            home: options.gnupg_home.clone(),
            signed_by: options.signed_by.clone(),
            ..Unlock::default()
        };
        let signer = check_signature(&backup, &unlock).await?;
        let text = read(&backup).await?;
        let mut todo = vec![whose(&backup, signer.as_deref(), backups)];
        todo.extend(left_to_do(&text, backups, options.base.as_deref()));
        return Ok(Proposal {
            text,
            todo,
            backup: Some(backup.id().to_string()),
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

/// The same, whoever has signed it.
///
/// # Errors
///
/// Those of [`carried`].
pub async fn from_backup(backups: &Path, id: &str) -> Result<Proposal> {
    carried(backups, id, &CarriedOptions::default()).await
}

/// Its text, which is what the manifest says.
async fn read(backup: &Backup) -> Result<String> {
    let id = backup.id();
    let refused = |code, what: String| {
        Error::new(ErrorKind::Verification, code, what).hint("take that of another backup")
    };
    let said_id = backup.manifest().and_then(|it| it.value("Backup ID"));
    if let Some(other) = said_id.filter(|said| *said != id.as_str()) {
        return Err(refused(
            "init.other_backup",
            format!("the manifest of backup {id} is that of backup {other}"),
        ));
    }
    let Some(expected) = backup.expected_digest(CONFIGURATION) else {
        return Err(refused(
            "init.no_checksum",
            format!("the manifest of backup {id} has no checksum of {CONFIGURATION}"),
        ));
    };
    let failed = |e| Error::io(format!("read {CONFIGURATION} of backup {id}"), e);
    let mut bytes = Vec::new();
    let mut reader = backup.store().read(id, CONFIGURATION, 0).await?;
    (&mut reader)
        .take(LARGEST)
        .read_to_end(&mut bytes)
        .await
        .map_err(failed)?;
    if Digest(Sha256::digest(&bytes).into()) != expected {
        return Err(refused(
            "backup.mismatch",
            format!("{CONFIGURATION} of backup {id} is not what its manifest says"),
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Who made it, as far as that is known.
fn whose(backup: &Backup, signer: Option<&str>, backups: &Path) -> String {
    let id = backup.id();
    let mut names = Manifest::SIGNATURES.into_iter();
    match (signer, names.find(|name| backup.file(name).is_some())) {
        (Some(key), _) => format!("it is that of backup {id}, signed by {key}"),
        (None, Some(name)) => format!(
            "it is that of backup {id}, which is signed; the signature ({name}) was not checked: --signed-by FINGERPRINT does"
        ),
        (None, None) => format!(
            "it is that of backup {id}, which is not signed: whoever can write to {} can have written it, so read it before you use it",
            backups.display()
        ),
    }
}

/// The files and variables that it names and that are not there, and the store that has moved.
fn left_to_do(text: &str, backups: &Path, base: Option<&Path>) -> Vec<String> {
    let Ok(table) = text.parse::<toml::Table>() else {
        return vec!["it is no TOML: `restore config check` says where".to_owned()];
    };
    let here = |path: &str| base.unwrap_or(Path::new("")).join(path);
    let mut todo = Vec::new();
    let mut open = vec![(String::new(), &table)];
    let mut named: Vec<(String, &str, &str)> = Vec::new();
    while let Some((section, table)) = open.pop() {
        // Last in, first out: in the order of the names.
        for (key, value) in table.iter().rev() {
            match value {
                toml::Value::Table(inner) if section.is_empty() => open.push((key.clone(), inner)),
                toml::Value::Table(inner) => open.push((format!("{section}.{key}"), inner)),
                toml::Value::String(value) => named.push((section.clone(), key, value)),
                _ => {}
            }
        }
    }
    for (section, key, value) in &named {
        if key.ends_with("_file") && *key != "pid_file" && here(value).symlink_metadata().is_err() {
            let mode = match SECRETS.contains(key) {
                true => ", readable by nobody else (mode 0600)",
                false => "",
            };
            todo.push(format!(
                "make {}: {key} of [{section}]{mode}",
                here(value).display()
            ));
        }
        if key.ends_with("_env") {
            todo.push(format!(
                "set the environment variable {value}: {key} of [{section}]"
            ));
        }
    }
    let kinds = named
        .iter()
        .filter(|it| it.1 == "kind" && it.2 == "directory");
    let stores: Vec<(&String, PathBuf)> = kinds
        .filter(|it| it.0.starts_with("stores."))
        .filter_map(|(section, ..)| {
            let mut paths = named.iter().filter(|it| it.0 == *section && it.1 == "path");
            paths.next().map(|it| (section, here(it.2)))
        })
        .collect();
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if !stores.is_empty() && stores.iter().all(|(_, path)| real(path) != real(backups)) {
        let named: Vec<String> = stores
            .iter()
            .map(|(section, path)| format!("{} of [{section}]", path.display()))
            .collect();
        todo.push(format!(
            "it has its backups in {}, and these are in {}: mount them there, or change its path",
            named.join(" and "),
            real(backups).display()
        ));
    }
    todo
}
