//! The `restore.toml` that a backup carries, for a machine that has none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::{Proposal, StoreSection};
use crate::archive::Digest;
use crate::backup::unlock::{Unlock, check_signature};
use crate::contract::backup::CONFIGURATION;
use crate::contract::{Backup, BackupStore, Manifest, Registry};
use crate::model::{Error, ErrorKind, Result};
use crate::stores;
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

/// The keys that say which place a store is.
const PLACE: [&str; 7] = [
    "kind",
    "host",
    "path",
    "bucket",
    "prefix",
    "account",
    "container",
];

/// Where a backup is taken from.
enum Place<'a> {
    Directory(&'a Path),
    /// A store: in words, and as it is described.
    Store(String, &'a Value),
}

impl Place<'_> {
    fn words(&self) -> String {
        match self {
            Self::Directory(backups) => backups.display().to_string(),
            Self::Store(words, _) => words.clone(),
        }
    }
}

/// How the `restore.toml` of a backup is taken out of it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CarriedOptions {
    /// Fingerprints of keys of which one must have signed the backup's manifest; empty: those that the store's
    /// description names, and without any a signature is not looked at.
    pub signed_by: Vec<String>,
    /// Where `gpg` keeps those keys; where the store's description says, or it always does, if not given.
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
    let unlock = Unlock::default();
    taken(store, unlock, &Place::Directory(backups), id, options).await
}

/// The same from any store: a host that is reached by ssh, a bucket. `registry` knows its kind.
///
/// # Errors
///
/// Those of [`carried`]; those of the store's description, and of reaching it.
pub async fn carried_in(
    store: &StoreSection,
    registry: &Registry,
    id: &str,
    options: &CarriedOptions,
) -> Result<Proposal> {
    let made = stores::config::make(&store.name, &store.section, registry, &store.base)?;
    let place = Place::Store(made.store.describe(), &store.section);
    taken(made.store, made.keys.unlock, &place, id, options).await
}

/// The `restore.toml` that a backup of a store carries. `unlock` is what the store's own description says of
/// signatures.
async fn taken(
    store: Arc<dyn BackupStore>,
    mut unlock: Unlock,
    place: &Place<'_>,
    id: &str,
    options: &CarriedOptions,
) -> Result<Proposal> {
    if !options.signed_by.is_empty() {
        unlock.signed_by.clone_from(&options.signed_by);
    }
    if options.gnupg_home.is_some() {
        unlock.home.clone_from(&options.gnupg_home);
    }
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
        let signer = check_signature(&backup, &unlock).await?;
        let text = read(&backup).await?;
        let mut todo = vec![whose(&backup, signer.as_deref(), place)];
        let manifest = backup.manifest();
        let origin = manifest.and_then(|it| it.value(Manifest::CONFIGURED_IN));
        let base = options.base.as_deref();
        todo.extend(left_to_do(&text, place, base, origin.map(Path::new)));
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
            "latest" => format!("no backup in {} carries a {CONFIGURATION}", place.words()),
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
fn whose(backup: &Backup, signer: Option<&str>, place: &Place<'_>) -> String {
    let id = backup.id();
    let mut names = Manifest::SIGNATURES.into_iter();
    match (signer, names.find(|name| backup.file(name).is_some())) {
        (Some(key), _) => format!("it is that of backup {id}, signed by {key}"),
        (None, Some(name)) => format!(
            "it is that of backup {id}, which is signed; the signature ({name}) was not checked: --signed-by FINGERPRINT does"
        ),
        (None, None) => format!(
            "it is that of backup {id}, which is not signed: whoever can write to {} can have written it, so read it before you use it",
            place.words()
        ),
    }
}

/// The files and variables that it names and that are not there, what it lacks to make services anew, and the
/// store that has moved.
/// `origin` is the folder that the file lay in when the backup was made, where that is known.
fn left_to_do(
    text: &str,
    place: &Place<'_>,
    base: Option<&Path>,
    origin: Option<&Path>,
) -> Vec<String> {
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
    let all = |wanted: &dyn Fn(&str, &str) -> bool| {
        // Several sections may name one file: it is made once.
        let mut values: Vec<(&str, Vec<String>, bool)> = Vec::new();
        for (section, key, value) in named.iter().filter(|it| wanted(it.1, it.2)) {
            let at = match values.iter().position(|(known, ..)| known == value) {
                Some(at) => at,
                None => {
                    values.push((value, Vec::new(), false));
                    values.len() - 1
                }
            };
            if let Some((_, by, secret)) = values.get_mut(at) {
                by.push(format!("{key} of [{section}]"));
                *secret |= SECRETS.contains(key);
            }
        }
        values
    };
    let missing = |key: &str, value: &str| {
        key.ends_with("_file") && key != "pid_file" && here(value).symlink_metadata().is_err()
    };
    for (value, by, secret) in all(&missing) {
        let mode = match secret {
            true => ", readable by nobody else (mode 0600)",
            false => "",
        };
        todo.push(format!(
            "make {}: {}{mode}",
            here(value).display(),
            by.join(" and ")
        ));
    }
    for (value, by, _) in all(&|key, _| key.ends_with("_env")) {
        todo.push(format!(
            "set the environment variable {value}: {}",
            by.join(" and ")
        ));
    }
    todo.extend(moved(&named, base, origin));
    todo.extend(services_to_make(&table));
    match place {
        Place::Directory(backups) => todo.extend(mounted_elsewhere(&named, backups, &here)),
        Place::Store(words, section) => todo.extend(not_named(&table, words, section)),
    }
    // Whoever can write to the store has named these: none of them makes a line of its own.
    let shown = |what: &String| crate::model::text::shown(what).into_owned();
    todo.iter().map(shown).collect()
}

/// That none of its directories of backups is the one that it came from.
fn mounted_elsewhere(
    named: &[(String, &str, &str)],
    backups: &Path,
    here: &dyn Fn(&str) -> PathBuf,
) -> Option<String> {
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
    if stores.is_empty() || stores.iter().any(|(_, path)| real(path) == real(backups)) {
        return None;
    }
    let named: Vec<String> = stores
        .iter()
        .map(|(section, path)| format!("{} of [{section}]", path.display()))
        .collect();
    Some(format!(
        "it has its backups in {}, and these are in {}: mount them there, or change its path",
        named.join(" and "),
        real(backups).display()
    ))
}

/// That none of its stores is the one that it came from.
fn not_named(table: &toml::Table, words: &str, section: &Value) -> Option<String> {
    let stores = table.get("stores").and_then(toml::Value::as_table);
    let is_it = |store: &toml::Value| {
        PLACE.iter().all(|key| {
            let is = store.get(*key).and_then(toml::Value::as_str);
            let wanted = section.get(*key).and_then(Value::as_str);
            let plain = |text: Option<&str>| text.map(|it| it.trim_matches('/').to_owned());
            plain(is).unwrap_or_default() == plain(wanted).unwrap_or_default()
        })
    };
    if stores.is_some_and(|all| all.values().any(is_it)) {
        return None;
    }
    Some(format!(
        "none of its stores is where it came from ({words}): describe that in a section [stores.NAME], so that `restore fetch` and `restore run` find its backups"
    ))
}

/// What it lacks to bring back services of which nothing is left.
fn services_to_make(table: &toml::Table) -> Vec<String> {
    let section = |name: &str| table.get(name).and_then(toml::Value::as_table);
    let platform = section("platform");
    let kind = platform.and_then(|it| it.get("kind"));
    let noun = match kind.and_then(toml::Value::as_str) {
        Some("swarm") => "stack",
        Some("compose") => "project",
        _ => return Vec::new(),
    };
    let redeploys = |component: &toml::Value| {
        let redeploy = component.get("redeploy");
        redeploy.and_then(toml::Value::as_bool) == Some(true)
    };
    let mut lacks = Vec::new();
    if !section("components").is_some_and(|all| all.values().any(redeploys)) {
        lacks.push(format!(
            "where nothing is left of the {noun}: nothing in it says how its services are made, so set redeploy, stack and compose of the component with the compose files, or deploy them by hand before the restore"
        ));
    }
    if noun == "stack" && !platform.is_some_and(|it| it.contains_key("advertise")) {
        lacks.push(
            "where this engine is in no swarm: set advertise of [platform] to an address of this host, at which a run begins one, or begin it by hand (`docker swarm init`)".to_owned(),
        );
    }
    lacks
}

/// Keys of files and directories that are taken from where the configuration lies, besides those that end in
/// `_file`. `tree`, `prefix` and names of archives are relative to something else.
const PATHS: [&str; 14] = [
    "agent",
    "bin",
    "ca",
    "conf_dir",
    "config",
    "directory",
    "file",
    "gnupg_home",
    "log",
    "path",
    "root",
    "socket",
    "ssh_config",
    "state",
];

/// That relative paths mean other places than they did.
fn moved(
    named: &[(String, &str, &str)],
    base: Option<&Path>,
    origin: Option<&Path>,
) -> Option<String> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let base = base?;
    if origin.is_some_and(|origin| real(origin) == real(base)) {
        return None;
    }
    let relative = named.iter().filter(|(_, key, value)| {
        let names_a_path = PATHS.contains(key) || key.ends_with("_file");
        names_a_path && !value.is_empty() && !value.starts_with('/')
    });
    let relative: Vec<String> = relative
        .map(|(section, key, value)| format!("{key} = {value:?} of [{section}]"))
        .collect();
    if relative.is_empty() {
        return None;
    }
    let base = base.display();
    let relative = relative.join(", ");
    Some(match origin {
        Some(origin) => {
            let origin = origin.display();
            format!(
                "relative paths in it meant places below {origin}, and mean places below {base} now: write them in full, or have the file there (--output {origin}/{CONFIGURATION}): {relative}"
            )
        }
        None => format!(
            "relative paths in it mean places below {base} now; where the file lay elsewhere, write them in full: {relative}"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_lacks_to_make_services_anew_is_left_to_do() {
        let backups = Place::Directory(Path::new("/backups"));
        let todo = |text: &str| left_to_do(text, &backups, None, None);
        let starts = |text: &str, expected: &[&str]| {
            let todo = todo(text);
            let mut all = todo.iter().zip(expected);
            assert_eq!(todo.len(), expected.len(), "{text}: {todo:?}");
            assert!(all.all(|(it, start)| it.starts_with(start)), "{todo:?}");
        };
        let files = "[components.compose]\nkind = 'files'\nroot = '/'\ntree = 'opt'\n";
        let redeployed = format!("{files}redeploy = true\nstack = 's'\ncompose = ['c.yml']\n");
        let project = "where nothing is left of the project: nothing in it says how";
        let stack = "where nothing is left of the stack: nothing in it says how";
        let no_swarm = "where this engine is in no swarm: set advertise of [platform]";
        let compose = "[platform]\nkind = 'compose'\nproject = 's'\n";
        let swarm = "[platform]\nkind = 'swarm'\n";
        let advertised = format!("{swarm}advertise = '10.0.0.1'\n");
        starts(compose, &[project]);
        starts(&format!("{compose}{files}redeploy = false\n"), &[project]);
        starts(&format!("{compose}{redeployed}"), &[]);
        starts(&format!("{swarm}{files}"), &[stack, no_swarm]);
        starts(&format!("{swarm}{redeployed}"), &[no_swarm]);
        starts(&format!("{advertised}{files}"), &[stack]);
        starts(&format!("{advertised}{redeployed}"), &[]);
        // The store that it came from is one of its own.
        let section = serde_json::json!({"kind": "s3", "bucket": "b", "prefix": "p/"});
        let bucket = Place::Store("the bucket b".to_owned(), &section);
        let of_store = "[stores.cloud]\nkind = 's3'\nbucket = 'b'\nregion = 'x'\n";
        let named = format!("{of_store}prefix = 'p'\n");
        assert_eq!(left_to_do(&named, &bucket, None, None), [""; 0]);
        let other = left_to_do(of_store, &bucket, None, None);
        assert!(
            other[0].starts_with("none of its stores is where it came from (the bucket b)"),
            "{other:?}"
        );
        // Processes of this host are started by their commands.
        starts(files, &[]);
        starts(&format!("[platform]\nkind = 'local'\n{files}"), &[]);
    }
}
