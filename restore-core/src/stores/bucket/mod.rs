//! Backups in object storage: S3 and what is compatible with it, Azure, Google Cloud.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ListResult, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::io::AsyncRead;
use tokio::sync::OnceCell;
use tokio_util::io::StreamReader;

use crate::contract::store::{bad_path, is_inside};
use crate::contract::{BackupFolder, BackupStore, Manifest, OddEntry, PackedBackup, StoredFile};
use crate::model::{BackupFile, BackupId, Error, ErrorKind, Result};
use crate::stores::names::{EntryKind, Found, Naming, StoreEntry, Survey, head_of, not_ours};
use crate::stores::patterns::NamePattern;
use crate::sys::space::Space;

mod config;
mod failed;
mod folder;
mod http;
mod section;
mod upload;

pub use config::{BucketConfig, BucketService, SignIn};

pub(crate) use section::from_table;

use self::http::Left;
use failed::failed;

/// What lies in a backup's folder from its beginning until its manifest does: who lists sees that
/// it was begun, and of two who begin the same one only one may. Never shown as a file of it.
const MARKER: &str = ".unfinished";

/// How long to wait before a question is asked again.
const AGAIN: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// How long a list may take, how many names it may have, which are kept in memory, and how many bytes its answers
/// may have together.
const LISTING: Duration = Duration::from_secs(10 * 60);
const OBJECTS: usize = 1_000_000;
const ANSWERS: u64 = 512 << 20;

/// Objects deleted at the same time.
const DELETES: usize = 8;

/// A bucket with the files of each backup under keys that begin with its id.
///
/// Every read of a file is of the version that was listed: another one is an error with the code
/// `store.changed`. Connects, and reads its secrets, when first needed.
#[derive(Clone)]
pub struct BucketStore {
    shared: Arc<Shared>,
}

struct Shared {
    config: BucketConfig,
    root: Path,
    naming: Naming,
    client: OnceCell<Arc<dyn ObjectStore>>,
}

impl std::fmt::Debug for BucketStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BucketStore")
            .field(&place(self.config()))
            .finish()
    }
}

/// Where it is, for people.
fn place(config: &BucketConfig) -> String {
    let mut place = format!("{}://{}", config.service.name(), config.bucket);
    let prefix = config.prefix.trim_matches('/');
    if !prefix.is_empty() {
        place.push('/');
        place.push_str(prefix);
    }
    if let Some(endpoint) = &config.endpoint {
        place.push_str(" at ");
        place.push_str(endpoint);
    }
    place
}

impl BucketStore {
    /// The store that `config` describes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] where the configuration cannot be meant.
    pub fn new(config: BucketConfig) -> Result<Self> {
        config.check()?;
        let root = Path::parse(&config.prefix).map_err(|_| {
            Error::new(
                ErrorKind::Config,
                "config.bad_value",
                "a prefix is made of plain names with slashes between them",
            )
        })?;
        Ok(Self::named_by(config, root, Naming::default()))
    }

    fn named_by(config: BucketConfig, root: Path, naming: Naming) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                root,
                naming,
                client: OnceCell::new(),
            }),
        }
    }

    /// The same store, whose folders another tool names: as
    /// [`DirectoryStore::named`](crate::store::DirectoryStore::named). A folder of a bucket has no time: its name has
    /// a date, or its manifest says it.
    ///
    /// # Errors
    ///
    /// `Config` (`store.bad_pattern`) where it is no such pattern.
    pub fn named(self, pattern: &str) -> Result<Self> {
        Ok(self.with_names(NamePattern::parse(pattern, false)?))
    }

    /// The same store, in which files lie side by side: as
    /// [`DirectoryStore::of_files`](crate::store::DirectoryStore::of_files).
    ///
    /// # Errors
    ///
    /// As [`Self::named`]; also where the pattern has no date.
    pub fn of_files(self, pattern: &str) -> Result<Self> {
        Ok(self.with_names(NamePattern::parse(pattern, true)?))
    }

    pub(in crate::stores) fn with_names(self, names: NamePattern) -> Self {
        let (config, root) = (self.config().clone(), self.shared.root.clone());
        Self::named_by(config, root, Naming::new(names))
    }

    fn config(&self) -> &BucketConfig {
        &self.shared.config
    }

    async fn client(&self) -> Result<&Arc<dyn ObjectStore>> {
        let connect = || async {
            let config = self.config().clone();
            tokio::task::spawn_blocking(move || config.connect())
                .await
                .map_err(|e| {
                    Error::new(
                        ErrorKind::Internal,
                        "store.task",
                        format!("connecting to the store stopped: {e}"),
                    )
                })?
        };
        self.shared.client.get_or_try_init(connect).await
    }

    fn failed(&self, what: impl std::fmt::Display, error: &object_store::Error) -> Error {
        failed(self.config(), &what.to_string(), error)
    }

    /// A key below the store's prefix. `below` is made of plain names.
    fn key(&self, below: &str) -> Result<Path> {
        let root = self.shared.root.as_ref();
        let key = match root {
            "" => below.to_owned(),
            root => format!("{root}/{below}"),
        };
        // Taken as it is: other tools know these keys by the same names.
        Path::parse(key).map_err(|_| bad_path(below))
    }

    /// What lies right behind the prefix; `what` it is taken for.
    async fn top(&self, what: &str) -> Result<ListResult> {
        self.level(&self.shared.root, what).await
    }

    /// What lies right behind `folder`.
    async fn level(&self, folder: &Path, what: &str) -> Result<ListResult> {
        let folder = (!folder.as_ref().is_empty()).then_some(folder);
        let client = self.client().await?;
        let what = format!("list the {what}");
        let found = again(|| self.listed(&what, client.list_with_delimiter(folder))).await?;
        match found.objects.len() + found.common_prefixes.len() > OBJECTS {
            true => Err(self.endless()),
            false => Ok(found),
        }
    }

    /// Waits for a list of names, all its pages together, but not for ever.
    async fn listed<T>(
        &self,
        what: &str,
        list: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        let left = Left::of(ANSWERS);
        match tokio::time::timeout(LISTING, left.scope(list)).await {
            Ok(Err(_)) if left.is_spent() => Err(self.endless()),
            Ok(found) => found.map_err(|e| self.failed(what, &e)),
            Err(_) => Err(self.endless()),
        }
    }

    /// A list that does not come to its end.
    fn endless(&self) -> Error {
        Error::new(
            ErrorKind::Failed,
            "object.endless",
            format!(
                "the list of what is in {} does not come to its end: more than {OBJECTS} names, {} MB, or {} minutes",
                self.describe(),
                ANSWERS >> 20,
                LISTING.as_secs() / 60
            ),
        )
        .hint("is that the right bucket and prefix, and the right server? look there with its own tools")
    }

    /// Everything that the store has, and its files that are in no backup's folder.
    async fn survey(&self) -> Result<(Survey, BTreeMap<String, StoredFile>)> {
        let (mut survey, mut files) = (Survey::default(), BTreeMap::new());
        let mut todo = vec![String::new()];
        let mut seen = 0;
        while let Some(folder) = todo.pop() {
            let at = match folder.trim_end_matches('/') {
                "" => self.shared.root.clone(),
                folder => self.key(folder)?,
            };
            let found = self.level(&at, "backups").await?;
            seen += found.objects.len() + found.common_prefixes.len();
            if seen > OBJECTS {
                return Err(self.endless());
            }
            let start = match at.as_ref() {
                "" => String::new(),
                at => format!("{at}/"),
            };
            let folders: BTreeSet<&str> = found
                .common_prefixes
                .iter()
                .filter_map(Path::filename)
                .collect();
            let mut entries: Vec<StoreEntry> = folders
                .iter()
                .map(|name| StoreEntry::new(name.as_bytes(), EntryKind::Folder, None))
                .collect();
            for meta in &found.objects {
                // Consoles make empty objects that stand for folders.
                let name = meta.location.as_ref().strip_prefix(&start);
                let Some(name) = name.filter(|name| meta.size > 0 || !folders.contains(name))
                else {
                    continue;
                };
                let modified = Some(meta.last_modified.timestamp());
                entries.push(StoreEntry::new(name.as_bytes(), EntryKind::File, modified));
                let path = format!("{folder}{name}");
                files.insert(path.clone(), stored(path, meta));
            }
            let unread = survey.take(&folder, entries, self.shared.naming.pattern());
            todo.extend(unread.folders);
            for name in unread.manifests {
                let path = format!("{name}/{}", Manifest::FILE_NAME);
                let opened = self.get(&path, self.key(&path)?, 0, 0, "").await;
                let head = head_of(opened).await?;
                survey.tell(&name, head.as_deref());
            }
        }
        let survey = survey.sorted();
        self.shared.naming.remember(&survey);
        Ok((survey, files))
    }

    /// The key of a file of a backup.
    async fn place(&self, id: &BackupId, path: &str) -> Result<Path> {
        let naming = &self.shared.naming;
        if let Some(place) = naming.lasting_place(id, path) {
            return self.key(&place);
        }
        self.survey().await?;
        let place = naming.place(id, path);
        self.key(&place.unwrap_or_else(|| format!("{id}/{path}")))
    }

    /// All objects of a backup of a name of ours by their paths in it, the marker too; none where it is not there.
    async fn objects(&self, id: &BackupId) -> Result<Vec<(String, ObjectMeta)>> {
        self.objects_in(id, id.as_str()).await
    }

    /// The same of a backup that is in the folder `top`.
    async fn objects_in(&self, id: &BackupId, top: &str) -> Result<Vec<(String, ObjectMeta)>> {
        let folder = self.key(top)?;
        let start = format!("{folder}/");
        let client = self.client().await?;
        let what = format!("list the files of backup {id}");
        let all = || {
            client
                .list(Some(&folder))
                .take(OBJECTS + 1)
                .try_collect::<Vec<_>>()
        };
        let found = again(|| self.listed(&what, all())).await?;
        if found.len() > OBJECTS {
            return Err(self.endless());
        }
        let mut objects: Vec<(String, ObjectMeta)> = found
            .into_iter()
            .filter_map(|meta| {
                let path = meta.location.as_ref().strip_prefix(&start)?.to_owned();
                Some((path, meta))
            })
            .collect();
        objects.sort_by(|a, b| a.0.cmp(&b.0));
        // Consoles make empty objects that stand for folders.
        let folders: BTreeSet<String> = objects
            .iter()
            .flat_map(|(path, _)| path.match_indices('/').map(|(at, _)| path[..at].to_owned()))
            .collect();
        objects.retain(|(path, meta)| meta.size > 0 || !folders.contains(path));
        Ok(objects)
    }

    async fn walk(&self, id: &BackupId) -> Result<Vec<StoredFile>> {
        let mut top = id.as_str().to_owned();
        if self.shared.naming.pattern().is_some() {
            let (mut survey, mut files) = self.survey().await?;
            match survey.backups.remove(id) {
                Some(Found::Files(paths)) => {
                    let found = paths.iter().filter_map(|path| files.remove(path));
                    return Ok(found.collect());
                }
                Some(Found::Folder(name)) => top = name,
                None => {}
            }
        }
        let objects = self.objects_in(id, &top).await?;
        if objects.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "store.no_such_backup",
                format!("there is no backup {id} in {}", self.describe()),
            )
            .hint("`restore list` shows the backups that exist"));
        }
        Ok(objects
            .into_iter()
            .filter(|(path, _)| path != MARKER)
            .map(|(path, meta)| stored(path, &meta))
            .collect())
    }

    /// Reads an object from `offset` on; `size` and `version` are those that are meant.
    async fn get(
        &self,
        name: &str,
        key: Path,
        offset: u64,
        size: u64,
        version: &str,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        if offset > 0 && offset >= size {
            return Ok(Box::new(tokio::io::empty()));
        }
        let mut options =
            GetOptions::new().with_range((offset > 0).then_some(GetRange::Offset(offset)));
        // Where a server gives no tag, whoever reads compares what it lists afterwards.
        options.if_match = version.strip_prefix(TAG).map(str::to_owned);
        let got = self.client().await?.get_opts(&key, options).await;
        let got = got.map_err(|e| self.failed(format!("open {name}"), &e))?;
        let (store, name) = (self.clone(), name.to_owned());
        let pieces = got.into_stream().map(move |piece| {
            piece.map_err(|e| std::io::Error::other(store.failed(format!("read {name}"), &e)))
        });
        Ok(Box::new(StreamReader::new(pieces)))
    }

    async fn head(&self, name: &str, key: &Path) -> Result<ObjectMeta> {
        let found = self.client().await?.head(key).await;
        found.map_err(|e| self.failed(format!("open {name}"), &e))
    }

    async fn delete(&self, path: String, key: Path) -> Result<()> {
        match self.client().await?.delete(&key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(format!("delete {path}"), &error)),
        }
    }
}

/// Asks once more where a connection was lost in the middle of an answer: the crate repeats only
/// what had no answer yet.
async fn again<T, F>(ask: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    for wait in AGAIN {
        match ask().await {
            Err(error) if error.is_retryable() => tokio::time::sleep(wait).await,
            done => return done,
        }
    }
    ask().await
}

/// What begins a version that is a server's tag.
const TAG: &str = "tag ";

fn version(meta: &ObjectMeta) -> String {
    match &meta.e_tag {
        Some(tag) => format!("{TAG}{tag}"),
        None => format!("time {}", meta.last_modified.to_rfc3339()),
    }
}

fn stored(path: String, meta: &ObjectMeta) -> StoredFile {
    StoredFile {
        version: version(meta),
        file: BackupFile {
            path,
            size: meta.size,
        },
    }
}

#[async_trait]
impl BackupStore for BucketStore {
    fn describe(&self) -> String {
        place(self.config())
    }

    async fn list(&self) -> Result<Vec<BackupId>> {
        let (survey, _) = self.survey().await?;
        Ok(survey.backups.into_keys().collect())
    }

    fn lists_nothing(&self, id: &BackupId) -> bool {
        self.shared.naming.is_foreign(id)
    }

    async fn strangers(&self) -> Result<Vec<OddEntry>> {
        Ok(self.survey().await?.0.strangers)
    }

    async fn files(&self, id: &BackupId) -> Result<Vec<BackupFile>> {
        let files = self.walk(id).await?;
        Ok(files.into_iter().map(|stored| stored.file).collect())
    }

    async fn stored_files(&self, id: &BackupId) -> Result<Vec<StoredFile>> {
        self.walk(id).await
    }

    async fn read(
        &self,
        id: &BackupId,
        path: &str,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        if !is_inside(path) {
            return Err(bad_path(path));
        }
        let key = self.place(id, path).await?;
        if offset == 0 {
            return self.get(path, key, 0, 0, "").await;
        }
        let meta = self.head(path, &key).await?;
        self.get(path, key, offset, meta.size, &version(&meta))
            .await
    }

    async fn read_stored(
        &self,
        id: &BackupId,
        stored: &StoredFile,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let path = &stored.file.path;
        if !is_inside(path) {
            return Err(bad_path(path));
        }
        let key = self.place(id, path).await?;
        self.get(path, key, offset, stored.file.size, &stored.version)
            .await
    }

    async fn packed(&self) -> Result<Vec<PackedBackup>> {
        let mut found: Vec<PackedBackup> = self
            .top("backups")
            .await?
            .objects
            .iter()
            .filter_map(|meta| {
                PackedBackup::of(meta.location.filename()?, meta.size, version(meta))
            })
            .collect();
        found.sort();
        Ok(found)
    }

    async fn read_packed(
        &self,
        packed: &PackedBackup,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let key = self.key(&packed.name)?;
        self.get(&packed.name, key, offset, packed.size, &packed.version)
            .await
    }

    fn local_path(&self, _id: &BackupId, _path: &str) -> Option<PathBuf> {
        None
    }

    /// Nobody knows of an end.
    async fn room(&self) -> Result<Option<Space>> {
        Ok(None)
    }

    async fn begin(&self, id: &BackupId) -> Result<Arc<dyn BackupFolder>> {
        upload::begin(self, id).await
    }

    async fn remove(&self, id: &BackupId) -> Result<()> {
        if self.shared.naming.pattern().is_some() {
            self.survey().await?;
            if self.shared.naming.is_foreign(id) {
                return Err(not_ours(id, &self.describe()));
            }
        }
        let objects = self.objects(id).await?;
        // The manifest first: what is left then is unfinished.
        let (manifest, others): (Vec<_>, Vec<_>) = objects
            .into_iter()
            .partition(|(path, _)| path == Manifest::FILE_NAME);
        for (path, meta) in manifest {
            self.delete(path, meta.location).await?;
        }
        futures_util::stream::iter(others)
            .map(|(path, meta)| self.delete(path, meta.location))
            .buffer_unordered(DELETES)
            .try_collect()
            .await
    }
}
