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
use crate::stores::names::{
    EntryKind, Found, Known, Naming, StoreEntry, Survey, head_of, is_manifest_of, not_ours,
};
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
        let (survey, files) = self.survey_from(vec![String::new()], true).await?;
        self.shared.naming.remember(&survey);
        Ok((survey, files))
    }

    /// What is in these folders, `""` or `"a/"`, and with `all` in those that they lead to as well.
    async fn survey_from(
        &self,
        mut todo: Vec<String>,
        all: bool,
    ) -> Result<(Survey, BTreeMap<String, StoredFile>)> {
        let (mut survey, mut files) = (Survey::default(), BTreeMap::new());
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
            if !all {
                continue;
            }
            todo.extend(unread.folders);
            for name in unread.manifests {
                let head = self.manifest_head(&name).await?;
                survey.tell(&name, head.as_deref());
            }
        }
        Ok((survey.sorted(), files))
    }

    /// What the manifest of the folder `name` begins with, where it has one.
    async fn manifest_head(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = format!("{name}/{}", Manifest::FILE_NAME);
        let opened = self.get(&path, self.key(&path)?, 0, 0, "").await;
        head_of(opened).await
    }

    /// Where a backup still is that was there when the store was last looked through.
    async fn known(&self, id: &BackupId) -> Result<Option<Known>> {
        let known = self.shared.naming.known(id);
        if let Some(Known::ByManifest(name)) = &known {
            let head = self.manifest_head(name).await?;
            return Ok(known.filter(|_| is_manifest_of(head.as_deref(), id)));
        }
        Ok(known)
    }

    /// The key of a file of a backup.
    async fn place(&self, id: &BackupId, path: &str) -> Result<Path> {
        let naming = &self.shared.naming;
        if let Some(place) = naming.lasting_place(id, path) {
            return self.key(&place);
        }
        if self.known(id).await?.is_none() {
            self.survey().await?;
        }
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

    /// The files of a backup where it still is, as far as that is known; `None` where the whole store has to be looked
    /// through, as it would be for each of many backups that are opened one after the other.
    async fn walk_known(&self, id: &BackupId) -> Result<Option<Vec<StoredFile>>> {
        Ok(match self.known(id).await? {
            Some(Known::Folder(name) | Known::ByManifest(name)) => {
                let objects = self.objects_in(id, &name).await?;
                // It may be elsewhere by now.
                (!objects.is_empty()).then(|| files_of(objects))
            }
            Some(Known::Files(folders)) => {
                let (mut survey, mut files) = self.survey_from(folders, false).await?;
                match survey.backups.remove(id) {
                    Some(Found::Files(paths)) => {
                        let found = paths.iter().filter_map(|path| files.remove(path));
                        Some(found.collect())
                    }
                    _ => None,
                }
            }
            None => None,
        })
    }

    async fn walk(&self, id: &BackupId) -> Result<Vec<StoredFile>> {
        let mut top = id.as_str().to_owned();
        if self.shared.naming.pattern().is_some() {
            if let Some(files) = self.walk_known(id).await? {
                return Ok(files);
            }
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
        Ok(files_of(objects))
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

/// The files of a backup among its objects.
fn files_of(objects: Vec<(String, ObjectMeta)>) -> Vec<StoredFile> {
    let files = objects.into_iter().filter(|(path, _)| path != MARKER);
    files.map(|(path, meta)| stored(path, &meta)).collect()
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

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::stream::BoxStream;
    use object_store::memory::InMemory;
    use object_store::{
        CopyOptions, GetResult, MultipartUpload, PutMultipartOptions, PutOptions, PutPayload,
        PutResult,
    };
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::contract::SecretSource;

    /// A bucket in memory that counts what it is asked.
    #[derive(Debug, Default)]
    struct Counting {
        inner: InMemory,
        asked: AtomicUsize,
    }

    impl Counting {
        fn count(&self) {
            self.asked.fetch_add(1, Ordering::Relaxed);
        }

        async fn add(&self, key: &str, content: &str) {
            let payload = PutPayload::from(content.as_bytes().to_vec());
            self.inner.put(&Path::from(key), payload).await.unwrap();
        }
    }

    impl fmt::Display for Counting {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a bucket that counts")
        }
    }

    #[async_trait]
    impl ObjectStore for Counting {
        async fn put_opts(
            &self,
            location: &Path,
            payload: PutPayload,
            opts: PutOptions,
        ) -> object_store::Result<PutResult> {
            self.inner.put_opts(location, payload, opts).await
        }

        async fn put_multipart_opts(
            &self,
            location: &Path,
            opts: PutMultipartOptions,
        ) -> object_store::Result<Box<dyn MultipartUpload>> {
            self.inner.put_multipart_opts(location, opts).await
        }

        async fn get_opts(
            &self,
            location: &Path,
            options: GetOptions,
        ) -> object_store::Result<GetResult> {
            self.count();
            self.inner.get_opts(location, options).await
        }

        fn delete_stream(
            &self,
            locations: BoxStream<'static, object_store::Result<Path>>,
        ) -> BoxStream<'static, object_store::Result<Path>> {
            self.inner.delete_stream(locations)
        }

        fn list(
            &self,
            prefix: Option<&Path>,
        ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
            self.count();
            self.inner.list(prefix)
        }

        async fn list_with_delimiter(
            &self,
            prefix: Option<&Path>,
        ) -> object_store::Result<ListResult> {
            self.count();
            self.inner.list_with_delimiter(prefix).await
        }

        async fn copy_opts(
            &self,
            from: &Path,
            to: &Path,
            options: CopyOptions,
        ) -> object_store::Result<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }

    /// A store of another tool's backups in such a bucket.
    fn store(pattern: &str, files: bool) -> (BucketStore, Arc<Counting>) {
        let service = BucketService::S3 {
            region: None,
            virtual_hosted: false,
            access_key: SecretSource::default(),
            secret_key: SecretSource::default(),
            session_token: SecretSource::default(),
        };
        let naming = Naming::new(NamePattern::parse(pattern, files).unwrap());
        let config = BucketConfig::new(service, "backups");
        let store = BucketStore::named_by(config, Path::default(), naming);
        let bucket = Arc::new(Counting::default());
        let client: Arc<dyn ObjectStore> = bucket.clone();
        assert!(store.shared.client.set(client).is_ok());
        (store, bucket)
    }

    /// Opening one backup after the other would otherwise ask for all of them each time.
    #[tokio::test]
    async fn each_backup_costs_as_much_however_many_there_are() {
        for (pattern, files, path, each) in [
            ("b_{date}", false, "x", 2),
            // Whether it is still the same one its manifest says, before each answer.
            ("m-{manifest}", false, "x", 4),
            ("{date}/*.sql", true, "2024-02-DAY/db.sql", 2),
        ] {
            let (store, bucket) = store(pattern, files);
            for day in 1..=28 {
                let date = format!("2024-02-{day:02}");
                match pattern {
                    "b_{date}" => bucket.add(&format!("b_{date}/x"), &date).await,
                    "m-{manifest}" => {
                        let manifest = format!("Created: {date} 00:00:00\n");
                        let folder = format!("m-{day}");
                        bucket
                            .add(&format!("{folder}/MANIFEST.txt"), &manifest)
                            .await;
                        bucket.add(&format!("{folder}/x"), &date).await;
                    }
                    _ => bucket.add(&format!("{date}/db.sql"), &date).await,
                }
            }
            let ids = store.list().await.unwrap();
            assert_eq!(ids.len(), 28, "{pattern}");
            let before = bucket.asked.load(Ordering::Relaxed);
            for (at, id) in ids.iter().enumerate() {
                let day = format!("{:02}", at + 1);
                let path = path.replace("DAY", &day);
                let found = store.files(id).await.unwrap();
                assert!(found.iter().any(|it| it.path == path), "{found:?}");
                let mut text = String::new();
                let mut reader = store.read(id, &path, 0).await.unwrap();
                reader.read_to_string(&mut text).await.unwrap();
                assert_eq!(text, format!("2024-02-{day}"));
            }
            let asked = bucket.asked.load(Ordering::Relaxed) - before;
            assert_eq!(asked, 28 * each, "{pattern}");
        }
    }

    #[tokio::test]
    async fn what_is_elsewhere_by_now_is_found_there() {
        let (store, bucket) = store("m-{manifest}", false);
        bucket
            .add("m-1/MANIFEST.txt", "Created: 2024-02-15 00:00:00\n")
            .await;
        bucket.add("m-1/x", "old").await;
        let id = store.list().await.unwrap().remove(0);
        // The tool moves its backups on, and makes a new one of that name.
        bucket
            .add("m-2/MANIFEST.txt", "Created: 2024-02-15 00:00:00\n")
            .await;
        bucket.add("m-2/x", "old").await;
        bucket
            .add("m-1/MANIFEST.txt", "Created: 2024-02-16 00:00:00\n")
            .await;
        bucket.add("m-1/x", "new").await;
        bucket.add("m-1/y", "new").await;
        let mut text = String::new();
        let mut reader = store.read(&id, "x", 0).await.unwrap();
        reader.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "old");
        let found = store.files(&id).await.unwrap();
        let paths: Vec<&str> = found.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(paths, ["MANIFEST.txt", "x"]);
    }
}
