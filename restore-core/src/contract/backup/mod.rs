//! Backups: ids, files, manifests, the layouts of both generations, verification; and making them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt;

use super::BackupStore;
use crate::archive::{Digest, Source};
use crate::model::{BackupFile, BackupId, Error, ErrorKind, Result};

pub(crate) mod artifact;
pub(crate) mod layout;
mod manifest;
mod manifest_parse;
pub(crate) mod tar_dump;
mod writer;

pub use layout::{Generation, expand_pattern};
pub use manifest::{Manifest, ManifestEntry, ManifestSize};

pub(crate) use writer::NewBackup;
pub use writer::{Artifact, BackupWriter};

/// What a description of the backup is kept in, an entry of the manifest like any other.
pub(crate) const DESCRIPTION: &str = "restore.json";

/// The site's own configuration, so that a new machine can begin from a backup.
pub(crate) const CONFIGURATION: &str = "restore.toml";

/// More than this no description has.
const LARGEST: u64 = 64 << 20;

/// A backup that was opened: what is in it, and what its manifest says.
#[derive(Clone)]
pub struct Backup {
    id: BackupId,
    store: Arc<dyn BackupStore>,
    /// Sorted by path.
    files: Vec<BackupFile>,
    manifest: Option<Manifest>,
    /// Where in the manifest's entries a path is.
    listed: Arc<HashMap<String, usize>>,
    /// Of the manifest's bytes, as they were parsed.
    manifest_digest: Option<Digest>,
    /// The key by which its manifest is signed, where that was checked.
    signer: Option<String>,
}

impl Backup {
    /// Opens a backup: lists its files and reads its manifest, no artifact. A folder without a
    /// manifest opens too; verification then says that the backup is unfinished.
    pub async fn open(store: Arc<dyn BackupStore>, id: BackupId) -> Result<Self> {
        let mut files = store.files(&id).await?;
        files.sort();
        let manifest = Manifest::of(store.as_ref(), &id, &files).await?;
        let (manifest, manifest_digest) = match manifest {
            Some((manifest, digest)) => (Some(manifest), digest),
            None => (None, None),
        };
        let mut listed = HashMap::new();
        let entries = manifest.iter().flat_map(|it| &it.entries);
        for (at, entry) in entries.enumerate() {
            listed.entry(entry.path.clone()).or_insert(at);
        }
        Ok(Self {
            id,
            store,
            files,
            manifest,
            listed: Arc::new(listed),
            manifest_digest,
            signer: None,
        })
    }

    /// The same backup, whose manifest was found to be signed by one of the right keys.
    pub(crate) fn signed_by(mut self, signer: Option<String>) -> Self {
        self.signer = signer;
        self
    }

    /// The fingerprint of the key that signed its manifest. `None`: nobody knows who made it; its
    /// store asks for no signature.
    pub fn signer(&self) -> Option<&str> {
        self.signer.as_deref()
    }

    /// A backup by its name only, nothing of it read: what undoing needs, which must work also
    /// when the store is gone.
    pub fn by_name(store: Arc<dyn BackupStore>, id: BackupId) -> Self {
        Self {
            id,
            store,
            files: Vec::new(),
            manifest: None,
            listed: Arc::default(),
            manifest_digest: None,
            signer: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> &BackupId {
        &self.id
    }

    /// The store it was opened from.
    pub fn store(&self) -> &Arc<dyn BackupStore> {
        &self.store
    }

    /// Every file that is really there, sorted by path, the manifest included.
    pub fn files(&self) -> &[BackupFile] {
        &self.files
    }

    /// The file of exactly this path.
    pub fn file(&self, path: &str) -> Option<&BackupFile> {
        let at = self
            .files
            .binary_search_by(|file| file.path.as_str().cmp(path));
        self.files.get(at.ok()?)
    }

    /// The artifacts that are encrypted one by one (`.gpg`), sorted; no component finds them.
    pub fn locked(&self) -> Vec<String> {
        self.files
            .iter()
            .filter_map(|file| {
                let plain = file.path.strip_suffix(".gpg")?;
                layout::looks_restorable(plain).then(|| file.path.clone())
            })
            .collect()
    }

    /// The same backup as its manifest lists it: with the files that it says and that are gone.
    pub(crate) fn as_listed(&self) -> Self {
        let mut listed = self.clone();
        let entries = self.manifest.iter().flat_map(|it| &it.entries);
        for entry in entries.filter(|entry| self.file(&entry.path).is_none()) {
            listed.files.push(BackupFile {
                path: entry.path.clone(),
                size: entry.size.bytes().unwrap_or(0),
            });
        }
        listed.files.sort();
        listed
    }

    /// The same backup as if it had files of these paths too.
    pub(crate) fn with_names<'a>(&self, paths: impl IntoIterator<Item = &'a String>) -> Self {
        let mut named = self.clone();
        for path in paths {
            if self.file(path).is_none() {
                let path = path.clone();
                named.files.push(BackupFile { path, size: 0 });
            }
        }
        named.files.sort();
        named
    }

    /// The manifest; `None` where the folder has none (an unfinished backup).
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// The SHA-256 of the bytes that the manifest was made of: whoever reads the file again must
    /// find the same.
    pub(crate) fn manifest_digest(&self) -> Option<Digest> {
        self.manifest_digest
    }

    /// What tells it from another backup that is put in its place under the same id: the digest of its
    /// manifest, which has those of its files. Without one, the paths and sizes of its files, and the hashes that its
    /// lists give.
    pub(crate) fn identity(&self) -> String {
        self.identity_with(|path| self.expected_digest(path))
    }

    /// Whether this is the identity of the backup, also as earlier versions told it, which left out the hashes of
    /// lists.
    pub(crate) fn is_identity(&self, identity: &str) -> bool {
        identity == self.identity() || identity == self.identity_with(|_| None)
    }

    fn identity_with(&self, digest: impl Fn(&str) -> Option<Digest>) -> String {
        if let Some(digest) = self.manifest_digest {
            return digest.to_string();
        }
        let mut files = Sha256::new();
        for file in &self.files {
            files.update(format!("{}|{}", file.path, file.size));
            if let Some(digest) = digest(&file.path) {
                files.update(format!("|{digest}"));
            }
            files.update("\n");
        }
        Digest(files.finalize().into()).to_string()
    }

    /// The components that its maker looked at and found nothing live of (no crontab): it has nothing for
    /// them, and is no less whole for that.
    pub fn nothing_live(&self) -> Vec<&str> {
        let value = self
            .manifest()
            .and_then(|it| it.value(Manifest::NOTHING_LIVE));
        let names = value.into_iter().flat_map(|names| names.split(','));
        names
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// The facts that its own description gives of the component that an artifact is of; `None` where
    /// it has no description, or that does not say.
    pub(crate) async fn described(&self, artifact: &str) -> Result<Option<Map<String, Value>>> {
        if self.file(DESCRIPTION).is_none() {
            return Ok(None);
        }
        let reader = self.store().read(self.id(), DESCRIPTION, 0).await?;
        let mut text = Vec::new();
        let read = reader.take(LARGEST).read_to_end(&mut text).await;
        read.map_err(|e| Error::io(format!("read {DESCRIPTION} of {}", self.id()), e))?;
        self.is_vouched_for(DESCRIPTION, &text)?;
        Ok(facts_of(&text, artifact))
    }

    /// Refuses content of a file that is not what the manifest says: for what is read by itself, and
    /// before the backup is verified. A manifest with hashes must have one of it.
    fn is_vouched_for(&self, path: &str, content: &[u8]) -> Result<()> {
        let Some(manifest) = self.manifest() else {
            return Ok(());
        };
        let what = match self.expected_digest(path) {
            Some(expected) if expected == Digest(Sha256::digest(content).into()) => return Ok(()),
            Some(_) => "is not what its manifest says",
            None if manifest.entries.is_empty() => return Ok(()),
            None if manifest.without_hash.iter().any(|it| it == path) => return Ok(()),
            None => "is not listed in its manifest",
        };
        Err(Error::new(
            ErrorKind::Verification,
            "backup.mismatch",
            format!("{path} of backup {} {what}", self.id()),
        )
        .hint("copy it again from where the backup was made, or choose another backup: `restore list`"))
    }

    /// Which scripts wrote it, told from what the manifest and the folder hold.
    pub fn generation(&self) -> Generation {
        Generation::of(self.manifest.as_ref(), &self.files)
    }

    /// Whether a file of it is its manifest or a part of that, and so no artifact.
    pub fn is_manifest(&self, path: &str) -> bool {
        match &self.manifest {
            Some(manifest) => manifest.is_own(path),
            None => path == Manifest::FILE_NAME || Manifest::SIGNATURES.contains(&path),
        }
    }

    /// The hash that the manifest gives for a file; `None` where it lists no such file.
    pub fn expected_digest(&self, path: &str) -> Option<Digest> {
        let entries = &self.manifest.as_ref()?.entries;
        let entry = entries.get(*self.listed.get(path)?)?;
        Some(entry.sha256)
    }

    /// Where this host can read a file of the backup itself.
    pub fn local_path(&self, path: &str) -> Option<PathBuf> {
        self.store.local_path(&self.id, path)
    }

    /// A file of the backup as something to be read once and verified in the same pass.
    ///
    /// # Errors
    ///
    /// `NotFound` where the backup has no such file; `Preflight` where the store is not on this
    /// host.
    pub fn source(&self, path: &str) -> Result<Source> {
        let Some(file) = self.file(path) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                "backup.no_such_file",
                format!("backup {} has no file {path}", self.id),
            )
            .hint("`restore show` lists the files of a backup"));
        };
        let Some(local) = self.local_path(path) else {
            return Err(Error::new(
                ErrorKind::Preflight,
                "backup.not_local",
                format!(
                    "backup {} is not on this host ({})",
                    self.id,
                    self.store.describe()
                ),
            )
            .hint("`restore fetch` brings it here"));
        };
        let expected = self.expected_digest(path);
        let root = self.store.directory();
        let root = root.filter(|root| local.starts_with(root));
        Ok(Source::new(&local, path, Some(file.size), expected).below(root))
    }

    /// The first of `patterns` (with `{id}` for the backup's id and `*` for anything but `/`)
    /// that the backup has a file for, together with all files that match it. A pattern that ends
    /// in `.tar.gz` stands for the same name with the ends of the other compressions (`.tar.zst`,
    /// `.tar.xz`, `.tar`) too.
    pub fn find(&self, patterns: &[String]) -> Vec<String> {
        self.first_fit(patterns, |_, found| found)
    }

    /// As [`find`](Self::find), of what may be the component's of this name: in a backup of ours what
    /// [`BackupWriter::name`] called after it by a pattern with `*`, and never what that called after others.
    pub fn find_of(&self, component: &str, patterns: &[String]) -> Vec<String> {
        self.first_fit(patterns, |pattern, found| {
            layout::of_component((pattern, component), &self.id, found)
        })
    }

    fn first_fit(
        &self,
        patterns: &[String],
        choose: impl Fn(&str, Vec<String>) -> Vec<String>,
    ) -> Vec<String> {
        let twins =
            |pattern: &String| std::iter::once(pattern.clone()).chain(layout::twins(pattern));
        for pattern in patterns.iter().flat_map(twins) {
            let found: Vec<String> = self
                .files
                .iter()
                .filter(|file| layout::matches(&expand_pattern(&pattern, &self.id), &file.path))
                .map(|file| file.path.clone())
                .collect();
            let found = choose(&pattern, found);
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup")
            .field("id", &self.id)
            .field("store", &self.store.describe())
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

/// The facts that a description gives of the component that an artifact is of.
fn facts_of(description: &[u8], artifact: &str) -> Option<Map<String, Value>> {
    let description: Value = serde_json::from_slice(description).ok()?;
    let components = description.get("components")?.as_array()?;
    let component = components.iter().find(|component| {
        let paths = component.get("artifacts").and_then(Value::as_array);
        paths.is_some_and(|paths| paths.iter().any(|path| path == artifact))
    })?;
    component.get("facts")?.as_object().cloned()
}

/// For `fuzz/`: the description of a backup.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_description(bytes: &[u8]) {
    for artifact in ["postgres/base.tar.gz", "volumes/data.tar.gz", ""] {
        let _ = facts_of(bytes, artifact);
    }
}
