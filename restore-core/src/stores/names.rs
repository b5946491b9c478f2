//! Backups of other tools: what a store has of them, and where.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::directory::{open, unreachable_store};
use super::patterns::{NamePattern, suggested};
use super::times::made_at;
use crate::contract::store::is_inside;
use crate::contract::{Manifest, OddEntry, PackedBackup, StoreReason};
use crate::model::{BackupId, Error, ErrorKind, Result, read_error};

/// So much of a manifest is looked through for when it was made.
const HEAD: u64 = 64 << 10;

/// So many strangers are told the pattern that would read them: nobody looks at more.
const SUGGESTED: usize = 100;

/// What a backup's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All of a folder.
    Folder(String),
    /// These of the store itself.
    Files(Vec<String>),
}

/// What is in a store.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) backups: BTreeMap<BackupId, Found>,
    /// What is no backup, and why.
    pub(super) strangers: Vec<OddEntry>,
}

/// What else has to be read before a survey is whole.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Folders to be looked into, each with a slash at its end.
    pub(super) folders: Vec<String>,
    /// Folders whose manifest says when they were made.
    pub(super) manifests: Vec<String>,
}

/// What an entry of a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    Folder,
    File,
    Link,
    Other,
}

/// Something in a folder of a store.
#[derive(Debug)]
pub(super) struct StoreEntry {
    /// `None`: no name that a file of ours could have.
    name: Option<String>,
    shown: String,
    kind: EntryKind,
    /// Seconds since 1970, where the store knows them.
    modified: Option<i64>,
}

impl StoreEntry {
    pub(super) fn new(name: &[u8], kind: EntryKind, modified: Option<i64>) -> Self {
        let plain = std::str::from_utf8(name)
            .ok()
            .filter(|name| is_inside(name) && !name.contains('/'));
        Self {
            name: plain.map(str::to_owned),
            shown: String::from_utf8_lossy(name).into_owned(),
            kind,
            modified,
        }
    }
}

impl NamePattern {
    /// Whether what is at the path `name` in the directory `root` is the backup, or one of its files.
    pub(super) fn is_of(&self, root: &Path, name: &str, id: &BackupId) -> bool {
        let Ok(meta) = std::fs::symlink_metadata(root.join(name)) else {
            return false;
        };
        let kind = meta.file_type();
        let kind = if self.files {
            kind.is_file()
        } else {
            kind.is_dir()
        };
        if self.is_of_manifests() {
            let made = manifest_head(root, name).and_then(|head| made_at(&head).ok());
            return kind && self.is_like(name) && made.as_ref() == Some(id);
        }
        kind && self.id(name, Some(meta.mtime())).as_ref() == Ok(id)
    }
}

/// The beginning of the manifest of the folder `name` in a directory, where it has one.
fn manifest_head(root: &Path, name: &str) -> Option<Vec<u8>> {
    let file = open(root, &format!("{name}/{}", Manifest::FILE_NAME), 0).ok()?;
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head).ok()?;
    Some(head)
}

/// The beginning of a manifest of a store elsewhere, which `opened` is; `None` where there is none.
pub(super) async fn head_of(
    opened: Result<Box<dyn AsyncRead + Send + Unpin>>,
) -> Result<Option<Vec<u8>>> {
    let reader = match opened {
        Ok(reader) => reader,
        Err(error) if error.is(&StoreReason::Vanished) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut head = Vec::new();
    let read = reader.take(HEAD).read_to_end(&mut head).await;
    match read {
        Ok(_) => Ok(Some(head)),
        Err(error) => {
            let error = read_error(Manifest::FILE_NAME, error);
            match error.is(&StoreReason::Vanished) {
                true => Ok(None),
                false => Err(error),
            }
        }
    }
}

#[cfg(test)]
std::thread_local! {
    /// How often a store was looked through by this thread.
    pub(super) static SURVEYS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Everything that is in the directory `root`.
pub(super) fn survey(root: &Path, names: Option<&NamePattern>) -> Result<Survey> {
    #[cfg(test)]
    SURVEYS.set(SURVEYS.get() + 1);
    let mut survey = Survey::default();
    let mut todo = vec![String::new()];
    while let Some(folder) = todo.pop() {
        let at = match folder.is_empty() {
            true => root.to_path_buf(),
            false => root.join(&folder),
        };
        let Some(entries) = entries(&at, folder.is_empty())? else {
            continue;
        };
        let unread = survey.take(&folder, entries, names);
        todo.extend(unread.folders);
        for name in unread.manifests {
            survey.tell(&name, manifest_head(root, &name).as_deref());
        }
    }
    Ok(survey.sorted())
}

/// What is in a directory; `None` where one that was there is gone.
fn entries(at: &Path, is_top: bool) -> Result<Option<Vec<StoreEntry>>> {
    use std::io::ErrorKind::NotFound;
    let mut entries = Vec::new();
    let listed = match std::fs::read_dir(at) {
        Ok(listed) => listed,
        Err(e) if e.kind() == NotFound && !is_top => return Ok(None),
        Err(e) => return Err(unreachable_store(at, e)),
    };
    for entry in listed {
        let entry = entry.map_err(|e| unreachable_store(at, e))?;
        // Not followed: a link is no backup.
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            // Moved away just now.
            Err(e) if e.kind() == NotFound => continue,
            Err(e) => return Err(unreachable_store(&entry.path(), e)),
        };
        let kind = match meta.file_type() {
            kind if kind.is_dir() => EntryKind::Folder,
            kind if kind.is_file() => EntryKind::File,
            kind if kind.is_symlink() => EntryKind::Link,
            _ => EntryKind::Other,
        };
        let name = entry.file_name();
        let entry = StoreEntry::new(name.as_encoded_bytes(), kind, Some(meta.mtime()));
        entries.push(entry);
    }
    Ok(Some(entries))
}

/// What becomes of an entry.
enum Taken {
    /// It is a backup, or a part of one.
    Known,
    /// It is a folder above files of backups.
    Above,
    /// It is a backup of a time that its manifest says.
    ByManifest,
}

impl Survey {
    /// Takes in what is in `folder` (`""`, `"a/"`), and says what else has to be read.
    pub(super) fn take(
        &mut self,
        folder: &str,
        mut entries: Vec<StoreEntry>,
        names: Option<&NamePattern>,
    ) -> Unread {
        entries.sort_by(|a, b| a.shown.cmp(&b.shown));
        let mut unread = Unread::default();
        for entry in entries {
            let top = folder.is_empty();
            if entry.shown.starts_with('.') || (top && entry.shown == "lost+found") {
                continue;
            }
            let path = format!("{folder}{}", entry.shown);
            match self.add(top, &path, &entry, names) {
                Ok(Taken::Known) => {}
                Ok(Taken::Above) => unread.folders.push(format!("{path}/")),
                Ok(Taken::ByManifest) => unread.manifests.push(path),
                Err(what) => self.strangers.push(OddEntry { path, what }),
            }
        }
        unread
    }

    /// Takes in what the manifest of the folder `name` begins with; `None`: it has none.
    pub(super) fn tell(&mut self, name: &str, head: Option<&[u8]>) {
        let made = head.map_or_else(
            || {
                Err(format!(
                    "it has no {}, from which its time would be known",
                    Manifest::FILE_NAME
                ))
            },
            made_at,
        );
        let added = made.and_then(|id| self.add_folder(name, id));
        if let Err(what) = added {
            let path = name.to_owned();
            self.strangers.push(OddEntry { path, what });
        }
    }

    /// The same with everything in order.
    pub(super) fn sorted(mut self) -> Self {
        self.strangers.sort();
        for found in self.backups.values_mut() {
            if let Found::Files(files) = found {
                files.sort();
            }
        }
        self
    }

    fn add(
        &mut self,
        top: bool,
        path: &str,
        entry: &StoreEntry,
        names: Option<&NamePattern>,
    ) -> Result<Taken, String> {
        let few = self.strangers.len() < SUGGESTED;
        let name = entry
            .name
            .as_deref()
            .ok_or("its name is not UTF-8, or no plain name")?;
        if top && name.ends_with(".partial") {
            return Err(
                "it is being fetched, or was never fetched wholly: `restore fetch` goes on"
                    .to_owned(),
            );
        }
        match entry.kind {
            EntryKind::Link => Err("it is a symbolic link, which is not followed".to_owned()),
            EntryKind::Folder => {
                let id = match (name.parse::<BackupId>().ok().filter(|_| top), names) {
                    (Some(id), _) => id,
                    (None, Some(names)) if names.files => {
                        return match names.is_above(path) {
                            true => Ok(Taken::Above),
                            false => Err("it is a folder, and `files` names files".to_owned()),
                        };
                    }
                    (None, Some(names)) if names.is_of_manifests() => {
                        return match names.is_like(name) {
                            true => Ok(Taken::ByManifest),
                            false => Err(names.not_named()),
                        };
                    }
                    (None, Some(names)) => names.id(name, entry.modified)?,
                    (None, None) => {
                        let what = "its name is no backup's id (20240215-020000)";
                        return Err(match few.then(|| suggested(name, false)).flatten() {
                            Some(pattern) => {
                                format!(
                                    "{what}: `id = {pattern:?}` in the store's section reads it"
                                )
                            }
                            None => {
                                format!("{what}: `id` of the store says how other names are read")
                            }
                        });
                    }
                };
                self.add_folder(name, id).map(|()| Taken::Known)
            }
            EntryKind::File if top && PackedBackup::of(name, 0, "").is_some() => Ok(Taken::Known),
            EntryKind::File | EntryKind::Other => match names {
                Some(names) if names.files && entry.kind == EntryKind::File => {
                    let id = names.id(path, entry.modified)?;
                    let found = self.backups.entry(id).or_insert(Found::Files(Vec::new()));
                    match found {
                        Found::Files(files) => files.push(path.to_owned()),
                        Found::Folder(other) => {
                            return Err(format!("it is of the same second as the folder {other}"));
                        }
                    }
                    Ok(Taken::Known)
                }
                _ => {
                    let what = "it is no folder, and no packed backup (backup-ID.tar.gz)";
                    let is_file = entry.kind == EntryKind::File && names.is_none();
                    Err(
                        match (few && is_file).then(|| suggested(name, true)).flatten() {
                            Some(pattern) => {
                                format!(
                                    "{what}: `files = {pattern:?}` in the store's section reads it"
                                )
                            }
                            None => what.to_owned(),
                        },
                    )
                }
            },
        }
    }

    /// Takes the folder `name` for the backup `id`.
    fn add_folder(&mut self, name: &str, id: BackupId) -> Result<(), String> {
        // One of our own names is what the id stands for.
        let own = id.as_str() == name;
        match self.backups.remove(&id) {
            Some(Found::Folder(other)) if other != name && !own => {
                let what = format!("it is of the same second as {other}");
                self.backups.insert(id, Found::Folder(other));
                return Err(what);
            }
            Some(Found::Folder(other)) if other != name => self.pass_over(other, name),
            Some(Found::Files(files)) => {
                for file in files {
                    self.pass_over(file, &format!("the folder {name}"));
                }
            }
            _ => {}
        }
        self.backups.insert(id, Found::Folder(name.to_owned()));
        Ok(())
    }

    /// What was taken for a backup, or a part of one, is none beside `other`.
    fn pass_over(&mut self, path: String, other: &str) {
        let what = format!("it is of the same second as {other}");
        self.strangers.push(OddEntry { path, what });
    }
}

/// Where a backup was when its store was last looked through.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In the folder of this name.
    Folder(String),
    /// Its files were in these folders of the store: `""`, `"a/"`.
    Files(BTreeSet<String>),
}

impl Place {
    fn of(found: &Found) -> Self {
        match found {
            Found::Folder(name) => Self::Folder(name.clone()),
            Found::Files(files) => {
                let folder = |file: &String| match file.rsplit_once('/') {
                    Some((folder, _)) => format!("{folder}/"),
                    None => String::new(),
                };
                Self::Files(files.iter().map(folder).collect())
            }
        }
    }
}

/// Where a backup is to be found without looking through its whole store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// In this folder: no other backup is ever of its name.
    Folder(String),
    /// In this folder, where its manifest still [says so](is_manifest_of).
    ByManifest(String),
    /// Its files are in these folders, `""` or `"a/"`, and say by their names that they are its.
    Files(Vec<String>),
}

/// Whether what a manifest begins with, where there is one, is of this backup.
pub(super) fn is_manifest_of(head: Option<&[u8]>, id: &BackupId) -> bool {
    head.is_some_and(|head| made_at(head).is_ok_and(|made| made == *id))
}

/// How a store elsewhere names its backups, and where they were when it was last looked through.
#[derive(Debug, Default)]
pub(super) struct Naming {
    pattern: Option<NamePattern>,
    places: Mutex<HashMap<BackupId, Place>>,
}

impl Naming {
    pub(super) fn new(pattern: NamePattern) -> Self {
        Self {
            pattern: Some(pattern),
            places: Mutex::default(),
        }
    }

    pub(super) fn pattern(&self) -> Option<&NamePattern> {
        self.pattern.as_ref()
    }

    /// Remembers where everything is.
    pub(super) fn remember(&self, survey: &Survey) {
        if self.pattern.is_none() {
            return;
        }
        let places = survey.backups.iter();
        let places = places.map(|(id, found)| (id.clone(), Place::of(found)));
        let places = places.collect();
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// As [`place`](Self::place), where that holds without a look.
    pub(super) fn lasting_place(&self, id: &BackupId, path: &str) -> Option<String> {
        let lasts = self.pattern.is_none() || !matches!(self.known(id)?, Known::ByManifest(_));
        self.place(id, path).filter(|_| lasts)
    }

    /// Where a backup still is that was there when the store was last looked through, or where that can be told from
    /// its manifest. `None` where its name, such as `daily.0`, is used again and again.
    pub(super) fn known(&self, id: &BackupId) -> Option<Known> {
        let pattern = self.pattern.as_ref()?;
        let lasts = pattern.is_lasting();
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        match places.get(id)? {
            Place::Folder(name) if lasts || name == id.as_str() => {
                Some(Known::Folder(name.clone()))
            }
            Place::Folder(name) if pattern.is_of_manifests() => {
                Some(Known::ByManifest(name.clone()))
            }
            Place::Files(folders) if lasts => Some(Known::Files(folders.iter().cloned().collect())),
            _ => None,
        }
    }

    /// The place of a file of a backup, relative to the store, when that was last looked through; `None` where it
    /// was not there.
    pub(super) fn place(&self, id: &BackupId, path: &str) -> Option<String> {
        if self.pattern.is_none() {
            return Some(format!("{id}/{path}"));
        }
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        Some(match places.get(id)? {
            Place::Folder(folder) => format!("{folder}/{path}"),
            Place::Files(_) => path.to_owned(),
        })
    }

    /// Whether a backup that was found is another tool's, and not of a name of ours.
    pub(super) fn is_foreign(&self, id: &BackupId) -> bool {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.get(id);
        place.is_some_and(|place| !matches!(place, Place::Folder(name) if name == id.as_str()))
    }
}

/// That a backup of another tool is not deleted.
pub(super) fn not_ours(id: &BackupId, place: &str) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "store.not_ours",
        format!("backup {id} in {place} is another tool's, and is not deleted"),
    )
    .hint("let the tool that made it delete it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_strangers_are_told_at_once() {
        let named = |number: u32| {
            let name = format!(
                "{number:08x}-7b5d-4e8a-20{:02}-1920240215.json",
                number % 100
            );
            StoreEntry::new(name.as_bytes(), EntryKind::File, None)
        };
        let begun = std::time::Instant::now();
        let mut survey = Survey::default();
        survey.take("", (0..20_000).map(named).collect(), None);
        assert_eq!(survey.strangers.len(), 20_000);
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    }

    #[test]
    fn a_backup_is_found_again_where_its_name_or_its_manifest_still_says_so() {
        let known = |pattern: &str, files: bool, found: Found| {
            let id: BackupId = "20240215-000000".parse().unwrap();
            let naming = Naming::new(NamePattern::parse(pattern, files).unwrap());
            assert_eq!(naming.known(&id), None, "nothing was looked at yet");
            let mut survey = Survey::default();
            survey.backups.insert(id.clone(), found);
            naming.remember(&survey);
            let place = naming.lasting_place(&id, "x");
            (naming.known(&id), place)
        };
        let folder = |name: &str| Found::Folder(name.to_owned());
        let files = |names: &[&str]| {
            let names = names.iter().map(|it| (*it).to_owned());
            Found::Files(names.collect())
        };
        let is = |known: Known, place: &str| (Some(known), Some(place.to_owned()));
        assert_eq!(
            known("b_{date}", false, folder("b_2024-02-15")),
            is(Known::Folder("b_2024-02-15".to_owned()), "b_2024-02-15/x")
        );
        assert_eq!(
            known(
                "*/db-{date}.*",
                true,
                files(&["a/db-20240215.sql", "b/db-20240215.gz"])
            ),
            is(Known::Files(vec!["a/".to_owned(), "b/".to_owned()]), "x")
        );
        assert_eq!(
            known("db-{date}.*", true, files(&["db-20240215.sql"])),
            is(Known::Files(vec![String::new()]), "x")
        );
        assert_eq!(
            known("full-{manifest}", false, folder("full-1")),
            (Some(Known::ByManifest("full-1".to_owned())), None)
        );
        // One of a name of ours, beside those of another tool.
        assert_eq!(
            known("daily.{n}", false, folder("20240215-000000")),
            is(
                Known::Folder("20240215-000000".to_owned()),
                "20240215-000000/x"
            )
        );
        for pattern in ["daily.{n}", "{weekday}", "{day}-{n}"] {
            let found = known(pattern, false, folder("another"));
            assert_eq!(found, (None, None), "{pattern}");
        }
    }
}
