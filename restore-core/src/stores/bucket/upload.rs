//! Making a backup in a bucket: each file goes up in parts while it is written.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{BucketStore, MARKER};
use crate::archive::SinkFile;
use crate::contract::store::is_inside;
use crate::contract::{BackupFolder, Manifest};
use crate::model::{BackupId, Error, ErrorKind, Result};

/// Parts of a file on their way at the same time; one more waits and one more is being filled.
const FLYING: usize = 2;
/// What S3 and Google take; Azure takes more.
const PARTS: usize = 10_000;

/// A backup that is being made in a bucket.
struct BucketFolder {
    store: BucketStore,
    client: Arc<dyn ObjectStore>,
    id: BackupId,
    /// What was begun, and what came to be: its size.
    files: Arc<Mutex<BTreeMap<String, Option<u64>>>>,
    uploads: TaskTracker,
}

/// Puts the marker of a new backup.
pub(super) async fn begin(store: &BucketStore, id: &BackupId) -> Result<Arc<dyn BackupFolder>> {
    let exists = || {
        Error::new(
            ErrorKind::Preflight,
            "backup.exists",
            format!(
                "there is a backup {id} already in {}",
                super::place(store.config())
            ),
        )
        .hint("a backup is never written over: try again in a moment")
    };
    if !store.objects(id).await?.is_empty() {
        return Err(exists());
    }
    let client = store.client().await?.clone();
    let key = store.key(&format!("{id}/{MARKER}"))?;
    let text = || PutPayload::from("This backup is being made, or was broken off.\n");
    let create = PutOptions::from(PutMode::Create);
    use object_store::Error::{AlreadyExists, NotImplemented, Precondition};
    let begun = match client.put_opts(&key, text(), create).await {
        // Not every server has it; that there was nothing is known from above.
        Err(NotImplemented { .. }) => client.put(&key, text()).await,
        begun => begun,
    };
    match begun {
        Ok(_) => {}
        Err(AlreadyExists { .. } | Precondition { .. }) => return Err(exists()),
        Err(error) => return Err(store.failed(format!("begin backup {id}"), &error)),
    }
    Ok(Arc::new(BucketFolder {
        store: store.clone(),
        client,
        id: id.clone(),
        files: Arc::default(),
        uploads: TaskTracker::new(),
    }))
}

impl BucketFolder {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Option<u64>>> {
        lock(&self.files)
    }

    /// That what was written is there, with its size.
    async fn look(&self) -> Result<()> {
        let there: BTreeMap<String, u64> = self
            .store
            .objects(&self.id)
            .await?
            .into_iter()
            .map(|(path, meta)| (path, meta.size))
            .collect();
        for (path, size) in self.files().iter() {
            let Some(size) = size else { continue };
            let found = there.get(path);
            if found != Some(size) {
                let found = found.map_or("nothing".to_owned(), |size| format!("{size} bytes"));
                return Err(Error::new(
                    ErrorKind::Failed,
                    "object.lost",
                    format!(
                        "{path} was written to {} with {size} bytes, and {found} is there",
                        self.describe()
                    ),
                )
                .hint("does anything else write or delete there? Make the backup again"));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl BackupFolder for BucketFolder {
    fn describe(&self) -> String {
        format!("{} (backup {})", super::place(self.store.config()), self.id)
    }

    /// All objects are for whoever may read the bucket: `private` says nothing here.
    async fn file(&self, path: &str, _private: bool) -> Result<Box<dyn SinkFile>> {
        if !is_inside(path) || path == MARKER {
            return Err(Error::new(
                ErrorKind::Internal,
                "store.bad_path",
                format!("{path:?} is not a path inside a backup's folder"),
            ));
        }
        let key = self.store.key(&format!("{}/{path}", self.id))?;
        {
            let mut files = self.files();
            if files.contains_key(path) {
                return Err(Error::new(
                    ErrorKind::Config,
                    "backup.name_taken",
                    format!("two parts of the backup are both to be written to {path}"),
                )
                .hint("give one of the components other file names in restore.toml"));
            }
            files.insert(path.to_owned(), None);
        }
        let part = usize::try_from(self.store.config().part_mib << 20).unwrap_or(usize::MAX);
        let (send, receive) = mpsc::channel(1);
        let (tell, done) = oneshot::channel();
        let stop = CancellationToken::new();
        let (store, client) = (self.store.clone(), self.client.clone());
        let (files, path) = (self.files.clone(), path.to_owned());
        let stopped = stop.clone();
        self.uploads.spawn(async move {
            let upload = Upload {
                client,
                key,
                stopped,
            };
            let done = match upload.run(receive).await {
                Ok(Some(bytes)) => {
                    lock(&files).insert(path, Some(bytes));
                    Ok(())
                }
                Ok(None) => {
                    // Given up: the name is free again.
                    lock(&files).remove(&path);
                    Ok(())
                }
                Err(Broken::TooLarge) => Err(too_large(&path, &store)),
                Err(Broken::Store(error)) => Err(store.failed(format!("write {path}"), &error)),
            };
            let _ = tell.send(done);
        });
        Ok(Box::new(BucketFile {
            part,
            buffer: BytesMut::new(),
            send,
            done: Some(done),
            begun: false,
            _stop: stop.drop_guard(),
        }))
    }

    async fn publish(&self, manifest: &str) -> Result<()> {
        self.look().await?;
        let path = Manifest::FILE_NAME;
        let key = self.store.key(&format!("{}/{path}", self.id))?;
        let text = PutPayload::from(manifest.to_owned());
        let put = self.client.put(&key, text).await;
        put.map_err(|e| self.store.failed(format!("write {path}"), &e))?;
        // From here on it is finished; the marker is not shown, whether it goes or stays.
        let marker = self.store.key(&format!("{}/{MARKER}", self.id))?;
        let _ = self.client.delete(&marker).await;
        Ok(())
    }

    async fn abandon(&self) {
        self.uploads.close();
        self.uploads.wait().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn too_large(path: &str, store: &BucketStore) -> Error {
    let part = store.config().part_mib;
    Error::new(
        ErrorKind::Failed,
        "object.too_large",
        format!("{path} is larger than {PARTS} parts of {part} MiB"),
    )
    .hint("set a larger part_mib for the store")
}

/// What comes from the writer of a file.
enum Piece {
    /// A part, with others after it.
    Part(Bytes),
    /// The last one, maybe empty.
    Last(Bytes),
}

enum Broken {
    Store(object_store::Error),
    TooLarge,
}

impl From<object_store::Error> for Broken {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error)
    }
}

/// One file on its way up.
struct Upload {
    client: Arc<dyn ObjectStore>,
    key: Path,
    stopped: CancellationToken,
}

impl Upload {
    /// Puts all that comes; its size. `None`: it was given up, and nothing of it stays.
    async fn run(&self, mut pieces: mpsc::Receiver<Piece>) -> Result<Option<u64>, Broken> {
        let first = tokio::select! {
            biased;
            () = self.stopped.cancelled() => None,
            first = pieces.recv() => first,
        };
        match first {
            None => Ok(None),
            // Small enough for one request, which is whole or nothing.
            Some(Piece::Last(bytes)) => {
                let size = bytes.len() as u64;
                self.client.put(&self.key, bytes.into()).await?;
                Ok(Some(size))
            }
            Some(Piece::Part(bytes)) => {
                let mut upload = self.client.put_multipart(&self.key).await?;
                let done = match self.parts(upload.as_mut(), bytes, &mut pieces).await {
                    Ok(Some(size)) => match upload.complete().await {
                        Ok(_) => return Ok(Some(size)),
                        Err(error) => Err(error.into()),
                    },
                    done => done,
                };
                // Parts that are no object are paid for, and shown by hardly any tool.
                let _ = upload.abort().await;
                done
            }
        }
    }

    async fn parts(
        &self,
        upload: &mut dyn MultipartUpload,
        first: Bytes,
        pieces: &mut mpsc::Receiver<Piece>,
    ) -> Result<Option<u64>, Broken> {
        let mut size = first.len() as u64;
        let mut count = 1;
        let mut last = false;
        let mut flying = FuturesUnordered::new();
        flying.push(upload.put_part(first.into()));
        loop {
            if last && flying.is_empty() {
                return Ok(Some(size));
            }
            let piece = tokio::select! {
                biased;
                () = self.stopped.cancelled() => return Ok(None),
                Some(done) = flying.next(), if !flying.is_empty() => {
                    done?;
                    continue;
                }
                piece = pieces.recv(), if !last && flying.len() < FLYING => piece,
            };
            let bytes = match piece {
                None => return Ok(None),
                Some(Piece::Part(bytes)) => bytes,
                Some(Piece::Last(bytes)) => {
                    last = true;
                    bytes
                }
            };
            if bytes.is_empty() {
                continue;
            }
            count += 1;
            if count > PARTS {
                return Err(Broken::TooLarge);
            }
            size += bytes.len() as u64;
            flying.push(upload.put_part(bytes.into()));
        }
    }
}

/// Where a file of a backup is written to. Dropped unsealed, its upload is broken off.
struct BucketFile {
    part: usize,
    buffer: BytesMut,
    send: mpsc::Sender<Piece>,
    done: Option<oneshot::Receiver<Result<()>>>,
    /// A part was sent already.
    begun: bool,
    _stop: DropGuard,
}

impl BucketFile {
    fn send(&mut self, piece: Piece) -> io::Result<()> {
        match self.send.blocking_send(piece) {
            Ok(()) => Ok(()),
            // It has ended, and says why.
            Err(_) => Err(self.wait().err().unwrap_or_else(broken_off)),
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        match self.done.take().map(oneshot::Receiver::blocking_recv) {
            Some(Ok(done)) => done.map_err(io::Error::other),
            _ => Err(broken_off()),
        }
    }
}

fn broken_off() -> io::Error {
    io::Error::other("the upload was broken off")
}

impl Write for BucketFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= self.part {
            let part = self.buffer.split().freeze();
            self.begun = true;
            self.send(Piece::Part(part))?;
        }
        // Grown as needed for small files, made once for those that have parts.
        if self.begun {
            self.buffer.reserve(self.part - self.buffer.len());
        }
        let take = bytes.len().min(self.part - self.buffer.len());
        let (taken, _) = bytes.split_at(take);
        self.buffer.extend_from_slice(taken);
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SinkFile for BucketFile {
    fn seal(mut self: Box<Self>) -> io::Result<()> {
        let last = self.buffer.split().freeze();
        self.send(Piece::Last(last))?;
        self.wait()
    }
}
