//! Making a backup: artifacts go straight into the store, hashed and counted on their way; the
//! manifest comes last.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_compression::Level;
use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;

use super::layout::{archive_stem, expand_pattern, own_name};
use crate::archive::{Compression, Sink, Written};
use crate::contract::{BackupFolder, BackupStore, Manifest, ManifestEntry, ManifestSize};
use crate::model::{BackupId, Error, ErrorKind, EventSink, Progress, Result};

/// A backup that is being made. Without [`publish`](Self::publish) it stays as it is: unfinished, for
/// everybody to see.
#[derive(Clone)]
pub(crate) struct NewBackup {
    inner: Arc<Inner>,
}

struct Inner {
    id: BackupId,
    folder: Arc<dyn BackupFolder>,
    compression: Compression,
    events: Arc<dyn EventSink>,
    cancel: CancellationToken,
    entries: Mutex<BTreeMap<String, Entry>>,
    store_failed: Arc<AtomicBool>,
}

#[derive(Clone)]
struct Entry {
    component: String,
    written: Written,
}

impl NewBackup {
    /// Begins the backup `id` in `store`.
    pub(crate) async fn begin(
        store: &dyn BackupStore,
        id: BackupId,
        compression: Compression,
        events: Arc<dyn EventSink>,
        cancel: CancellationToken,
    ) -> Result<Self> {
        let folder = store.begin(&id).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                id,
                folder,
                compression,
                events,
                cancel,
                entries: Mutex::default(),
                store_failed: Arc::default(),
            }),
        })
    }

    /// Its id.
    pub(crate) fn id(&self) -> &BackupId {
        &self.inner.id
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        self.inner.folder.describe()
    }

    /// What a component writes with.
    pub(crate) fn writer(&self, component: &str) -> BackupWriter {
        BackupWriter {
            inner: self.inner.clone(),
            component: component.to_owned(),
        }
    }

    /// Whether the store could not be written to: then no component is at fault.
    pub(crate) fn store_failed(&self) -> bool {
        self.inner.store_failed.load(Ordering::Acquire)
    }

    /// The paths of what a component has written, with their sizes.
    pub(crate) fn artifacts(&self, component: &str) -> Vec<(String, u64)> {
        self.inner
            .entries()
            .iter()
            .filter(|(_, entry)| entry.component == component)
            .map(|(path, entry)| (path.clone(), entry.written.bytes))
            .collect()
    }

    /// How many files there are so far, and their bytes.
    pub(crate) fn written(&self) -> (u64, u64) {
        let entries = self.inner.entries();
        let bytes = entries.values().map(|entry| entry.written.bytes).sum();
        (u64::try_from(entries.len()).unwrap_or(u64::MAX), bytes)
    }

    /// Waits until what was being written when the backup failed has ended.
    pub(crate) async fn abandon(&self) {
        self.inner.folder.abandon().await;
    }

    /// The manifest of what was written, with `header` after its first lines.
    pub(crate) fn manifest(&self, header: Vec<(String, String)>) -> Result<String> {
        let mut manifest = Manifest {
            header: vec![("Backup ID".to_owned(), self.inner.id.to_string())],
            ..Manifest::default()
        };
        manifest.header.extend(header);
        manifest.entries = self
            .inner
            .entries()
            .iter()
            .map(|(path, entry)| ManifestEntry {
                path: path.clone(),
                size: ManifestSize::Bytes(entry.written.bytes),
                sha256: entry.written.digest,
            })
            .collect();
        manifest.to_text()
    }

    /// Puts a signature of the manifest beside where that will be.
    pub(crate) async fn put_signature(&self, signature: Vec<u8>) -> Result<()> {
        let [name, ..] = Manifest::SIGNATURES;
        let artifact = self.writer("").artifact(name).await?.put(signature).await?;
        // Not registered: it is of the manifest, and cannot be in it.
        let sink = artifact.into_sink();
        blocking(move || sink.seal()).await?;
        Ok(())
    }

    /// Puts the manifest in place. The backup is finished then.
    pub(crate) async fn publish(&self, manifest: &str) -> Result<()> {
        self.inner.folder.publish(manifest).await
    }
}

impl Inner {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a component is given to back itself up with.
#[derive(Clone)]
pub struct BackupWriter {
    inner: Arc<Inner>,
    component: String,
}

impl BackupWriter {
    /// The backup's id.
    pub fn id(&self) -> &BackupId {
        &self.inner.id
    }

    /// The name of the component that writes.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// Fires when the backup is to stop.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.inner.cancel
    }

    /// `Err(Interrupted)` once the backup is to stop.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.inner.cancel.is_cancelled() {
            Err(Error::interrupted())
        } else {
            Ok(())
        }
    }

    /// Progress of doing `action` (a verb) for this component.
    pub fn progress(&self, action: &str, total: Option<u64>) -> Progress {
        let (events, name) = (self.inner.events.clone(), self.component.clone());
        Progress::new(events, name, action, total)
    }

    /// The name that the component's artifact gets: the first of the names that it looks for when
    /// it is restored (`{id}` is the backup's id) that says one name and not many. Where each has a `*`, which
    /// stands for what another tool writes there, the component's name is put in its place:
    /// [`Backup::find_of`](super::Backup::find_of) finds it again.
    pub fn name(&self, patterns: &[String]) -> Result<String> {
        let id = &self.inner.id;
        let mut plain = patterns.iter().filter(|pattern| !pattern.contains('*'));
        let mut own = patterns
            .iter()
            .filter_map(|pattern| own_name(pattern, &self.component, id));
        let name = plain.next().map(|pattern| expand_pattern(pattern, id));
        name.or_else(|| own.next()).ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "backup.no_name",
                format!(
                    "there is no name to write the backup of {} to: none of its patterns makes one",
                    self.component
                ),
            )
            .hint("put a name without * first in the component's section of restore.toml")
        })
    }

    /// The name of the component's archive, and how it is compressed: as the backup is to be, where
    /// the name leaves that open.
    pub fn archive(&self, patterns: &[String]) -> Result<(String, Compression)> {
        let name = self.name(patterns)?;
        let asked = self.inner.compression;
        // A plain one stays plain; what others compress in ways that are only read becomes gzip.
        let stem = archive_stem(&name).filter(|_| !name.ends_with(".tar"));
        Ok(match (stem, asked) {
            (Some(stem), Compression::Zstd(_)) => (format!("{stem}.tar.zst"), asked),
            (Some(stem), _) if name.ends_with(".zst") || name.ends_with(".zstd") => {
                (format!("{stem}.tar.zst"), Compression::Zstd(3))
            }
            (Some(stem), _) => {
                let gzip = match asked {
                    Compression::Gzip(_) => asked,
                    _ => Compression::default(),
                };
                match name.ends_with("gz") {
                    true => (name, gzip),
                    false => (format!("{stem}.tar.gz"), gzip),
                }
            }
            (None, _) if name.ends_with(".zst") => match asked {
                Compression::Zstd(_) => (name, asked),
                _ => (name, Compression::Zstd(3)),
            },
            (None, _) if name.ends_with(".gz") => (name, Compression::default()),
            (None, _) => (name, Compression::None),
        })
    }

    /// Begins the artifact `path`. Dropped unfinished, it is none, and nothing of it stays.
    pub async fn artifact(&self, path: &str) -> Result<Artifact> {
        self.begin(path, false).await
    }

    /// As [`artifact`](Self::artifact), for what nobody else may read: passwords are in it.
    pub async fn private_artifact(&self, path: &str) -> Result<Artifact> {
        self.begin(path, true).await
    }

    async fn begin(&self, path: &str, private: bool) -> Result<Artifact> {
        self.check_cancelled()?;
        let file = self
            .inner
            .folder
            .file(path, private)
            .await
            .inspect_err(|_| {
                self.inner.store_failed.store(true, Ordering::Release);
            })?;
        let label = format!("{}/{path}", self.inner.folder.describe());
        let sink = Sink::new(label, file).telling(self.inner.store_failed.clone());
        Ok(Artifact {
            writer: self.clone(),
            path: path.to_owned(),
            sink,
        })
    }

    /// Writes a small text as an artifact.
    pub async fn text(&self, path: &str, text: impl Into<Vec<u8>> + Send) -> Result<()> {
        let artifact = self.artifact(path).await?;
        artifact.put(text.into()).await?.finish().await.map(drop)
    }

    /// Copies the file `from` of this host as the artifact `path`, compressed where that name ends in
    /// `.gz` or `.zst`, readable by as few as `from` is. Read once, in pieces; the caller sees to it
    /// that nobody writes to it meanwhile: where somebody may, of a snapshot (see
    /// [`Component::back_up`](crate::component::Component::back_up)), which stays the caller's to delete.
    ///
    /// # Errors
    ///
    /// `Failed` (`io.*`) where the file cannot be read or the store not be written; `Interrupted`.
    pub async fn copy(&self, from: &Path, path: &str) -> Result<Written> {
        const PIECE: usize = 256 * 1024;
        let failed = |e| Error::io(format!("read {}", from.display()), e);
        let file = tokio::fs::File::open(from).await.map_err(failed)?;
        let there = file.metadata().await.map_err(failed)?;
        let progress = self.progress("copy", Some(there.len()));
        let counter = progress.clone();
        let file = InspectReader::new(file, move |bytes: &[u8]| {
            counter.add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        });
        let file = BufReader::with_capacity(PIECE, file);
        let private = there.mode() & 0o004 == 0;
        let artifact = self.begin(path, private).await?;
        // What is read was counted already.
        let hidden = Progress::hidden();
        let extension = Path::new(path).extension().and_then(OsStr::to_str);
        let artifact = match (extension, self.inner.compression) {
            (Some("gz"), asked) => {
                let level = match asked {
                    Compression::Gzip(level) => Level::Precise(level.min(9).into()),
                    _ => Level::Default,
                };
                let mut packed = GzipEncoder::with_quality(file, level);
                artifact.fill(&mut packed, &hidden).await?
            }
            (Some("zst"), asked) => {
                let level = match asked {
                    Compression::Zstd(level) => Level::Precise(level.min(19).into()),
                    _ => Level::Default,
                };
                let mut packed = ZstdEncoder::with_quality(file, level);
                artifact.fill(&mut packed, &hidden).await?
            }
            _ => {
                let mut file = file;
                artifact.fill(&mut file, &hidden).await?
            }
        };
        progress.finish();
        artifact.finish().await
    }

    /// Takes an artifact that was written through its [sink](Artifact::into_sink) into the manifest.
    pub fn register(&self, path: &str, written: Written) {
        let component = self.component.clone();
        let entry = Entry { component, written };
        self.inner.entries().insert(path.to_owned(), entry);
    }
}

/// An artifact that is being written.
pub struct Artifact {
    writer: BackupWriter,
    path: String,
    sink: Sink,
}

impl Artifact {
    /// Appends some bytes.
    pub async fn put(self, bytes: Vec<u8>) -> Result<Self> {
        let Self {
            writer,
            path,
            mut sink,
        } = self;
        let sink = blocking(move || sink.put(&bytes).map(|()| sink)).await?;
        Ok(Self { writer, path, sink })
    }

    /// Appends all that `reader` gives, in pieces, never more than a few of them in memory.
    pub async fn fill<R: AsyncRead + Unpin + Send + ?Sized>(
        self,
        reader: &mut R,
        progress: &Progress,
    ) -> Result<Self> {
        const PIECE: usize = 256 * 1024;
        let Self {
            writer,
            path,
            mut sink,
        } = self;
        let label = sink.label().to_owned();
        let (send, mut receive) = tokio::sync::mpsc::channel::<bytes::Bytes>(4);
        let writing = tokio::spawn(blocking(move || {
            while let Some(piece) = receive.blocking_recv() {
                sink.put(&piece)?;
            }
            Ok(sink)
        }));
        let reading = async {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(PIECE);
                let read = reader
                    .read_buf(&mut buffer)
                    .await
                    .map_err(|e| Error::io(format!("read what goes into {label}"), e))?;
                if read == 0 {
                    return Ok(());
                }
                progress.add(u64::try_from(read).unwrap_or(u64::MAX));
                // Whoever writes has failed, and says why.
                if send.send(buffer.split().freeze()).await.is_err() {
                    return Ok(());
                }
            }
        };
        let read = tokio::select! {
            biased;
            () = writer.cancelled().cancelled() => Err(Error::interrupted()),
            read = reading => read,
        };
        drop(send);
        let sink = writing.await.unwrap_or_else(|e| Err(broken(&e)))?;
        read?;
        Ok(Self { writer, path, sink })
    }

    /// Where to write it, for whoever writes on threads of their own; then to be
    /// [registered](BackupWriter::register).
    pub fn into_sink(self) -> Sink {
        self.sink
    }

    /// Makes it durable and a part of the backup.
    pub async fn finish(self) -> Result<Written> {
        let Self { writer, path, sink } = self;
        let written = blocking(move || sink.seal()).await?;
        writer.register(&path, written);
        Ok(written)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(broken(&e)))
}

fn broken(error: &tokio::task::JoinError) -> Error {
    Error::new(
        ErrorKind::Internal,
        "backup.task",
        format!("writing an artifact broke off: {error}"),
    )
}
