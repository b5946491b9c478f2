//! Backups on another host, read over the operator's own `ssh`, by SFTP.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;
use tokio_util::task::AbortOnDropHandle;

use crate::contract::store::is_inside;
use crate::contract::{BackupStore, Manifest, OddEntry, PackedBackup, StoreReason, StoredFile};
use crate::model::{BackupFile, BackupId, Error, ErrorKind, Result};
use crate::stores::names::{
    EntryKind, Found, Known, Naming, StoreEntry, Survey, head_of, is_manifest_of,
};
use crate::stores::patterns::NamePattern;

pub(crate) mod connect;
mod folder;
mod session;
mod wire;

use session::{Entry, Refused, Session};
use wire::{Type, status};

/// Sessions kept open for the next call.
const IDLE: usize = 4;

/// Pieces of a file between the connection and its reader.
const DEPTH: usize = 8;

/// More files, folders and other entries than any backup has; more bytes of their paths; and a longer path than a
/// file system takes. A server may show one more folder in each.
const ENTRIES: usize = 1_000_000;
const PATHS: usize = 256 << 20;
const LONGEST: usize = 4096;

/// Work in a session, which comes back with what it gave.
type Working<T> = BoxFuture<'static, (Result<T, Refused>, Session)>;

/// How a host is reached; everything that is not here is `ssh`'s own configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SshConfig {
    /// The host, or its alias in ssh's configuration.
    pub host: String,
    /// The directory there that holds the backups; relative to the home directory of the user.
    pub path: String,
    /// The user there; `None`: what ssh's configuration says.
    pub user: Option<String>,
    /// The port; `None`: what ssh's configuration says.
    pub port: Option<u16>,
    /// A configuration file for ssh instead of its usual ones (`ssh -F`).
    pub config: Option<PathBuf>,
    /// The SFTP server's command there; `None`: sshd's own subsystem.
    pub sftp_server: Option<String>,
}

impl SshConfig {
    /// What can be said of it without connecting.
    fn check(&self) -> Result<()> {
        let bad = |text: &str| text.is_empty() || text.starts_with('-');
        if bad(&self.host) || self.user.as_deref().is_some_and(bad) || self.path.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "config.bad_value",
                "host, user and path of an ssh store must not be empty, and host and user not \
                 begin with a dash",
            ));
        }
        Ok(())
    }
}

/// A directory of another host with one folder a backup.
///
/// Host keys are checked strictly, whatever ssh's configuration says; nobody is ever asked. Only
/// reads. What is there and no regular file is reported, never followed.
#[derive(Clone)]
pub struct SshStore {
    shared: Arc<Shared>,
}

struct Shared {
    config: SshConfig,
    naming: Naming,
    idle: Mutex<Vec<Session>>,
}

impl SshStore {
    /// The store that `config` describes; connects when first needed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] where the configuration cannot be meant.
    pub fn new(config: SshConfig) -> Result<Self> {
        config.check()?;
        Ok(Self::named_by(config, Naming::default()))
    }

    fn named_by(config: SshConfig, naming: Naming) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                naming,
                idle: Mutex::new(Vec::new()),
            }),
        }
    }

    /// The same store, whose folders another tool names: as
    /// [`DirectoryStore::named`](crate::store::DirectoryStore::named).
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
        Self::named_by(self.config().clone(), Naming::new(names))
    }

    fn config(&self) -> &SshConfig {
        &self.shared.config
    }

    fn path(&self, below: &str) -> Vec<u8> {
        let root = self.config().path.trim_end_matches('/');
        format!("{root}/{below}").into_bytes()
    }

    /// Does something in a session: in one that is open already where there is one. That may
    /// have been closed meanwhile; then a new one is opened, once.
    async fn with<T>(&self, work: impl Fn(Session) -> Working<T>) -> Result<(T, Session), Refused> {
        let known = {
            let mut idle = self
                .shared
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            idle.pop()
        };
        if let Some(session) = known {
            match work(session).await {
                (Err(Refused::Broken(_)), _) => {}
                (done, session) => return self.worked(done, session),
            }
        }
        let session = Session::connect(self.config()).await?;
        let (done, session) = work(session).await;
        self.worked(done, session)
    }

    fn worked<T>(
        &self,
        done: Result<T, Refused>,
        session: Session,
    ) -> Result<(T, Session), Refused> {
        match done {
            Ok(done) => Ok((done, session)),
            Err(refused) => {
                if matches!(refused, Refused::Status { .. }) {
                    self.shared.keep(session);
                }
                Err(refused)
            }
        }
    }

    async fn directory(&self, below: &str) -> Result<Vec<Entry>, Refused> {
        let path = self.path(below);
        let list = move |mut session: Session| -> Working<Vec<Entry>> {
            let path = path.clone();
            Box::pin(async move { (session.directory(&path).await, session) })
        };
        let (entries, session) = self.with(list).await?;
        self.shared.keep(session);
        Ok(entries)
    }

    /// The folders and packed backups at the top, or why there are none to see.
    async fn top(&self) -> Result<Vec<Entry>> {
        self.directory("").await.map_err(|refused| {
            let place = self.describe();
            match refused {
                Refused::Broken(error) => error,
                Refused::Status { code, .. } if code == status::NO_SUCH_FILE => Error::new(
                    ErrorKind::NotFound,
                    "store.absent",
                    format!("the backup store {place} does not exist"),
                )
                .because(StoreReason::Absent)
                .hint("is its file system mounted there? Compare with the store's path in restore.toml"),
                Refused::Status { code, .. } if code == status::PERMISSION_DENIED => Error::new(
                    ErrorKind::Failed,
                    "store.permission",
                    format!("the backup store {place} may not be read by the user there"),
                )
                .hint("let that user read it, or log in as another with the store's key user"),
                Refused::Status { message, .. } => Error::new(
                    ErrorKind::Failed,
                    "store.unreadable",
                    format!("cannot read the backup store {place}: {message}"),
                )
                .hint("look at it there with `ls`"),
            }
        })
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
            let entries = match folder.as_str() {
                "" => self.top().await?,
                folder => match self.directory(folder).await {
                    Ok(entries) => entries,
                    // Moved away just now.
                    Err(Refused::Status { code, .. }) if code == status::NO_SUCH_FILE => continue,
                    Err(refused) => {
                        return Err(self.failed(&format!("read the folder {folder}"), refused));
                    }
                },
            };
            seen += entries.len();
            if seen > ENTRIES {
                return Err(self.endless("the folders of backups"));
            }
            for entry in &entries {
                if let (Type::File, Ok(name)) =
                    (entry.attributes.kind(), std::str::from_utf8(&entry.name))
                {
                    let path = format!("{folder}{name}");
                    files.insert(path.clone(), stored(path, entry));
                }
            }
            let entries = entries.iter().map(store_entry).collect();
            let unread = survey.take(&folder, entries, self.shared.naming.pattern());
            if !all {
                continue;
            }
            todo.extend(unread.folders);
            for name in unread.manifests {
                let path = format!("{name}/{}", Manifest::FILE_NAME);
                let head = head_of(self.stream(path, 0, None).await).await?;
                survey.tell(&name, head.as_deref());
            }
        }
        Ok((survey.sorted(), files))
    }

    /// Where a backup still is that was there when the store was last looked through.
    async fn known(&self, id: &BackupId) -> Result<Option<Known>> {
        let known = self.shared.naming.known(id);
        if let Some(Known::ByManifest(name)) = &known {
            let path = format!("{name}/{}", Manifest::FILE_NAME);
            let head = head_of(self.stream(path, 0, None).await).await?;
            return Ok(known.filter(|_| is_manifest_of(head.as_deref(), id)));
        }
        Ok(known)
    }

    /// The place of a file of a backup, relative to the store.
    async fn place(&self, id: &BackupId, path: &str) -> Result<String> {
        let naming = &self.shared.naming;
        if let Some(place) = naming.lasting_place(id, path) {
            return Ok(place);
        }
        if self.known(id).await?.is_none() {
            self.survey().await?;
        }
        Ok(naming
            .place(id, path)
            .unwrap_or_else(|| format!("{id}/{path}")))
    }

    /// All files of a backup, and whatever else is there.
    async fn walk(&self, id: &BackupId) -> Result<(Vec<StoredFile>, Vec<OddEntry>)> {
        if self.shared.naming.pattern().is_none() {
            return self.walk_folder(id, id.as_str()).await;
        }
        // Whoever opens one backup after the other would have the whole store looked through for each.
        match self.known(id).await? {
            Some(Known::Folder(name) | Known::ByManifest(name)) => {
                match self.walk_folder(id, &name).await {
                    // It may be elsewhere by now.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    done => return done,
                }
            }
            Some(Known::Files(folders)) => {
                let (mut survey, mut files) = self.survey_from(folders, false).await?;
                if let Some(Found::Files(paths)) = survey.backups.remove(id) {
                    let found = paths.iter().filter_map(|path| files.remove(path));
                    return Ok((found.collect(), Vec::new()));
                }
            }
            None => {}
        }
        let (mut survey, mut files) = self.survey().await?;
        match survey.backups.remove(id) {
            Some(Found::Files(paths)) => {
                let found = paths.iter().filter_map(|path| files.remove(path));
                Ok((found.collect(), Vec::new()))
            }
            Some(Found::Folder(name)) => self.walk_folder(id, &name).await,
            None => self.walk_folder(id, id.as_str()).await,
        }
    }

    /// All files below the folder of a backup, and whatever else is there.
    async fn walk_folder(
        &self,
        id: &BackupId,
        top: &str,
    ) -> Result<(Vec<StoredFile>, Vec<OddEntry>)> {
        let (mut files, mut odd) = (Vec::new(), Vec::new());
        let mut todo = vec![String::new()];
        let (mut seen, mut paths) = (0, 0);
        while let Some(prefix) = todo.pop() {
            let entries = match self.directory(&format!("{top}/{prefix}")).await {
                Ok(entries) => entries,
                Err(Refused::Status { code, .. })
                    if code == status::NO_SUCH_FILE && prefix.is_empty() =>
                {
                    // An absent store has another remedy than an absent backup.
                    self.top().await?;
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        "store.no_such_backup",
                        format!("there is no backup {id} in {}", self.describe()),
                    )
                    .hint("`restore list` shows the backups that exist"));
                }
                Err(refused) => {
                    return Err(self.failed(&format!("read the folder {top}/{prefix}"), refused));
                }
            };
            seen += entries.len();
            paths += entries
                .iter()
                .map(|entry| prefix.len() + entry.name.len())
                .sum::<usize>();
            if seen > ENTRIES || paths > PATHS || prefix.len() > LONGEST {
                return Err(self.endless(&format!("what is in backup {id}")));
            }
            for entry in entries {
                let Ok(name) = std::str::from_utf8(&entry.name) else {
                    odd.push(OddEntry {
                        path: format!("{prefix}{}", String::from_utf8_lossy(&entry.name)),
                        what: "an entry whose name is not UTF-8".to_owned(),
                    });
                    continue;
                };
                let path = format!("{prefix}{name}");
                if !is_inside(name) || name.contains('/') {
                    return Err(self.failed(
                        &format!("read the folder {top}/{prefix}"),
                        Refused::Status {
                            code: 0,
                            message: format!("it has an entry named {name:?}"),
                        },
                    ));
                }
                let what = match entry.attributes.kind() {
                    Type::File => {
                        files.push(stored(path, &entry));
                        continue;
                    }
                    Type::Directory => {
                        todo.push(format!("{path}/"));
                        continue;
                    }
                    Type::Link => "a symbolic link, which is not followed",
                    Type::Other => "neither a file nor a folder",
                };
                odd.push(OddEntry {
                    path,
                    what: what.to_owned(),
                });
            }
        }
        files.sort();
        odd.sort();
        Ok((files, odd))
    }

    /// That the list of `what` does not come to its end.
    fn endless(&self, what: &str) -> Error {
        Error::new(
            ErrorKind::Failed,
            "ssh.too_many_entries",
            format!(
                "the list of {what} in {} does not come to its end: more than {ENTRIES} entries, or paths of more than {LONGEST} bytes",
                self.describe()
            ),
        )
        .hint("is `path` the directory of the backups? look there with `sftp`")
    }

    /// An error of doing `what`.
    fn failed(&self, what: &str, refused: Refused) -> Error {
        let place = self.describe();
        match refused {
            Refused::Broken(error) => error,
            Refused::Status { code, message } => {
                let (kind, code, hint) = match code {
                    status::NO_SUCH_FILE => (
                        ErrorKind::NotFound,
                        "store.vanished",
                        "something deletes there: try again, or choose another backup",
                    ),
                    status::PERMISSION_DENIED => (
                        ErrorKind::Failed,
                        "store.permission",
                        "let the user there read it, or log in as another with the store's key user",
                    ),
                    _ => (
                        ErrorKind::Failed,
                        "store.unreadable",
                        "look at it there with `ls`; its disk may be failing",
                    ),
                };
                let error = Error::new(kind, code, format!("cannot {what} in {place}: {message}"));
                let error = match kind {
                    ErrorKind::NotFound => error.because(StoreReason::Vanished),
                    _ => error,
                };
                error.hint(hint)
            }
        }
    }

    async fn stream(
        &self,
        path: String,
        offset: u64,
        size: Option<u64>,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let full = self.path(&path);
        let open = move |mut session: Session| -> Working<Bytes> {
            let full = full.clone();
            Box::pin(async move { (session.open(&full).await, session) })
        };
        let (handle, mut session) = self
            .with(open)
            .await
            .map_err(|refused| self.failed(&format!("open {path}"), refused))?;
        let (send, receive) = tokio::sync::mpsc::channel(DEPTH);
        let store = self.clone();
        // Dropping the reader ends the task, and with it `ssh`: an answer under way cannot be
        // called back.
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            match session.pump(&handle, offset, size, &send).await {
                Ok(true) => store.shared.keep(session),
                Ok(false) => {}
                Err(refused) => {
                    let error = store.failed(&format!("read {path}"), refused);
                    let _ = send.send(Err(std::io::Error::other(error))).await;
                }
            }
        }));
        let pieces = stream::unfold((receive, task), |(mut receive, task)| async move {
            Some((receive.recv().await?, (receive, task)))
        });
        Ok(Box::new(StreamReader::new(Box::pin(pieces))))
    }
}

impl Shared {
    fn keep(&self, session: Session) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(session);
        }
    }
}

fn store_entry(entry: &Entry) -> StoreEntry {
    let kind = match entry.attributes.kind() {
        Type::Directory => EntryKind::Folder,
        Type::File => EntryKind::File,
        Type::Link => EntryKind::Link,
        Type::Other => EntryKind::Other,
    };
    let modified = entry.attributes.modified.map(i64::from);
    StoreEntry::new(&entry.name, kind, modified)
}

fn stored(path: String, entry: &Entry) -> StoredFile {
    StoredFile {
        file: BackupFile {
            path,
            size: entry.attributes.size.unwrap_or_default(),
        },
        // Whole seconds are all that the protocol has.
        version: format!("{}", entry.attributes.modified.unwrap_or_default()),
    }
}

#[async_trait]
impl BackupStore for SshStore {
    fn describe(&self) -> String {
        let config = self.config();
        let user = config.user.as_ref().map(|user| format!("{user}@"));
        let port = config.port.map(|port| format!(" port {port}"));
        format!(
            "{} on {}{}{}",
            config.path,
            user.unwrap_or_default(),
            config.host,
            port.unwrap_or_default()
        )
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
        let (files, _) = self.walk(id).await?;
        Ok(files.into_iter().map(|stored| stored.file).collect())
    }

    async fn stored_files(&self, id: &BackupId) -> Result<Vec<StoredFile>> {
        Ok(self.walk(id).await?.0)
    }

    async fn odd_entries(&self, id: &BackupId) -> Result<Vec<OddEntry>> {
        Ok(self.walk(id).await?.1)
    }

    async fn read(
        &self,
        id: &BackupId,
        path: &str,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        if !is_inside(path) {
            return Err(crate::contract::store::bad_path(path));
        }
        let place = self.place(id, path).await?;
        self.stream(place, offset, None).await
    }

    async fn read_stored(
        &self,
        id: &BackupId,
        stored: &StoredFile,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let path = &stored.file.path;
        if !is_inside(path) {
            return Err(crate::contract::store::bad_path(path));
        }
        let size = Some(stored.file.size);
        let place = self.place(id, path).await?;
        self.stream(place, offset, size).await
    }

    async fn packed(&self) -> Result<Vec<PackedBackup>> {
        let mut found: Vec<PackedBackup> = self
            .top()
            .await?
            .iter()
            .filter(|entry| entry.attributes.kind() == Type::File)
            .filter_map(|entry| {
                let stored = stored(String::new(), entry);
                let name = std::str::from_utf8(&entry.name).ok()?;
                PackedBackup::of(name, stored.file.size, stored.version)
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
        self.stream(packed.name.clone(), offset, None).await
    }

    fn local_path(&self, _id: &BackupId, _path: &str) -> Option<PathBuf> {
        None
    }
}

/// For `fuzz/`: what a server answers.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    wire::fuzz(bytes);
}
