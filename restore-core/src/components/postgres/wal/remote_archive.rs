//! An archive in a store: its files are brought here to be read.
//!
//! Where a moment lies in the log is found by reading a few segments. They are kept for the next
//! question in a directory of small working files, up to a limit; losing it costs time alone.

use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::backup::remote::RemoteFolder;
use crate::contract::{StoreReason, StoredFile};
use crate::model::{Error, ErrorKind, Progress, Result, read_error};

/// Bytes of segments that are kept to be read again.
const KEPT: u64 = 256 << 20;
/// Bytes handed on at once.
const CHUNK: usize = 256 * 1024;
/// How often a connection that was lost is made again for a question.
const TRIES: u32 = 2;

/// An archive in a store.
pub(crate) struct RemoteWalArchive {
    remote: Arc<dyn RemoteFolder>,
    /// Where files are kept, for this archive alone.
    kept: PathBuf,
}

impl std::fmt::Debug for RemoteWalArchive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RemoteWalArchive")
            .field(&self.describe())
            .finish()
    }
}

/// How to go on when a connection is lost, and who is told.
pub(crate) struct RetryPolicy<'a> {
    /// How often without a byte coming over it.
    pub(crate) tries: u32,
    pub(crate) cancel: &'a CancellationToken,
    pub(crate) progress: &'a Progress,
    /// Told why, and at which byte it goes on.
    pub(crate) again: &'a (dyn Fn(&Error, u64) + Sync),
}

impl RemoteWalArchive {
    pub(crate) fn new(remote: Arc<dyn RemoteFolder>, kept: PathBuf) -> Self {
        Self { remote, kept }
    }

    /// The place, for people.
    pub(crate) fn describe(&self) -> String {
        self.remote.describe()
    }

    /// The same error, naming the archive and with what can be done about it there.
    fn named(&self, error: Error, file: Option<&StoredFile>) -> Error {
        let place = self.describe();
        let name = file.map_or("", |file| file.file.path.as_str());
        if error.is(&StoreReason::Vanished) {
            return Error::new(
                ErrorKind::NotFound,
                "wal.vanished",
                format!("{name} was in the WAL archive {place}, and is there no more"),
            )
            .hint("something deletes there: stop it, bring back what is missing, and try again");
        }
        if error.is(&StoreReason::Changed) {
            return self.changed(name);
        }
        // Only for people: the place is named once.
        let named = error.message().contains(&place);
        error.context(match named {
            true => "the WAL archive".to_owned(),
            false => format!("the WAL archive {place}"),
        })
    }

    /// That a file is not what it was when it was listed.
    pub(crate) fn changed(&self, name: &str) -> Error {
        Error::new(
            ErrorKind::Verification,
            "wal.changed",
            format!(
                "{name} in the WAL archive {} was changed while it was fetched",
                self.describe()
            ),
        )
        .hint("let whatever writes there end, and try again; an archive never gets another segment of the same name")
    }

    /// That a file is not there any more.
    pub(crate) fn vanished(&self, file: &StoredFile) -> Error {
        let gone = Error::new(ErrorKind::NotFound, "store.vanished", "");
        self.named(gone.because(StoreReason::Vanished), Some(file))
    }

    /// What is in it.
    pub(crate) async fn files(&self) -> Result<Vec<StoredFile>> {
        let found = match self.remote.files().await {
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.remote.files().await
            }
            found => found,
        };
        found.map_err(|error| match error.is(&StoreReason::Absent) {
            true => Error::new(
                ErrorKind::Preflight,
                "wal.no_archive",
                format!("the WAL archive {} does not exist", self.describe()),
            )
            .hint("is it mounted there, and is wal_archive in the component's section right?"),
            false => self.named(error, None),
        })
    }

    /// Writes a file into `to`, going on where a connection was lost, and sees that it has the size
    /// that was listed.
    pub(crate) async fn pull(
        &self,
        file: &StoredFile,
        to: &mut (impl AsyncWrite + Send + Unpin),
        patience: &RetryPolicy<'_>,
    ) -> Result<()> {
        let (mut got, mut futile) = (0, 0);
        loop {
            let before = got;
            let done = tokio::select! {
                done = self.attempt(file, to, &mut got, patience.progress) => done,
                () = patience.cancel.cancelled() => Err(Error::interrupted()),
            };
            let error = match done {
                Ok(()) if got == file.file.size => return Ok(()),
                Ok(()) => return Err(self.changed(&file.file.path)),
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(error) => self.named(error, Some(file)),
            };
            futile = if got > before { 1 } else { futile + 1 };
            if !error.is_retryable() || futile > patience.tries {
                return Err(error);
            }
            (patience.again)(&error, got);
            let wait = Duration::from_secs(15.min(1 << (futile - 1).min(4)));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = patience.cancel.cancelled() => return Err(Error::interrupted()),
            }
        }
    }

    /// One connection's worth.
    async fn attempt(
        &self,
        file: &StoredFile,
        to: &mut (impl AsyncWrite + Send + Unpin),
        got: &mut u64,
        progress: &Progress,
    ) -> Result<()> {
        let name = &file.file.path;
        let mut reader = self.remote.read(file, *got).await?;
        let mut buffer = vec![0; CHUNK];
        // One that grows while it is read is not what was listed, however far it goes.
        while *got <= file.file.size {
            let read = reader.read(&mut buffer).await;
            let read = read.map_err(|e| read_error(name, e))?;
            if read == 0 {
                break;
            }
            let piece = buffer.get(..read).unwrap_or_default();
            let write = to.write_all(piece).await;
            write.map_err(|e| Error::io(format!("keep {name} here"), e))?;
            *got += u64::try_from(read).unwrap_or(u64::MAX);
            progress.add(u64::try_from(read).unwrap_or(u64::MAX));
        }
        to.flush()
            .await
            .map_err(|e| Error::io(format!("keep {name} here"), e))
    }

    /// The content of a file as it is stored. Not for an async thread.
    pub(super) fn open(
        &self,
        file: &StoredFile,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn Read + Send>> {
        let handle = Handle::try_current().map_err(|_| {
            Error::new(
                ErrorKind::Internal,
                "wal.task",
                "an archive in a store is read without a runtime",
            )
        })?;
        handle.block_on(self.content(file, cancel))
    }

    /// The content of a file as it is stored: as it is kept here, or brought here now.
    pub(super) async fn content(
        &self,
        file: &StoredFile,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn Read + Send>> {
        let size = file.file.size;
        let path = self.kept.join(self.key(file));
        if let Ok(kept) = File::open(&path)
            && kept.metadata().is_ok_and(|meta| meta.len() == size)
        {
            let _ = kept.set_modified(SystemTime::now());
            return Ok(Box::new(kept));
        }
        let patience = RetryPolicy {
            tries: TRIES,
            cancel,
            progress: &Progress::hidden(),
            again: &|_, _| {},
        };
        // Who only looks may not be allowed to keep anything.
        let Ok((kept, draft)) = self.draft(size) else {
            let mut bytes = Vec::new();
            self.pull(file, &mut bytes, &patience).await?;
            return Ok(Box::new(Cursor::new(bytes)));
        };
        let mut to = tokio::fs::File::from_std(kept);
        let pulled = self.pull(file, &mut to, &patience).await;
        let mut kept = to.into_std().await;
        if pulled.is_err() || std::fs::rename(&draft, &path).is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        pulled?;
        let again = kept.rewind();
        again.map_err(|e| Error::io(format!("read {}", file.file.path), e))?;
        Ok(Box::new(kept))
    }

    /// What one version of one file is kept as.
    fn key(&self, file: &StoredFile) -> String {
        let of = format!("{}\0{}\0{}", self.describe(), file.file.size, file.version);
        let hash = Sha256::digest(of.as_bytes());
        let short: String = hash.iter().take(8).map(|b| format!("{b:02x}")).collect();
        format!("{}-{short}", file.file.path)
    }

    /// A new file to be kept, after older ones made room for it.
    fn draft(&self, size: u64) -> std::io::Result<(File, PathBuf)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // What is in the log is no more public than the data.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.kept)?;
        make_room(&self.kept, size)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // In two containers two processes may have the same id.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |it| it.as_nanos());
        let name = format!(".{}-{now}-{count}", std::process::id());
        let draft = self.kept.join(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        Ok((file, draft))
    }

    /// Deletes all that is kept.
    pub(crate) fn forget(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.kept) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("delete {}", self.kept.display()), e))
            }
            _ => Ok(()),
        }
    }
}

/// Deletes the oldest files until `size` more bytes fit within the limit. Whoever reads one of them
/// has it open.
fn make_room(dir: &Path, size: u64) -> std::io::Result<()> {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = std::fs::read_dir(dir)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let meta = entry.metadata().ok()?;
            Some((meta.modified().ok()?, meta.len(), entry.path()))
        })
        .collect();
    files.sort();
    let mut all = files
        .iter()
        .fold(size, |sum, (_, len, _)| sum.saturating_add(*len));
    for (_, len, path) in files {
        if all <= KEPT {
            break;
        }
        let _ = std::fs::remove_file(path);
        all = all.saturating_sub(len);
    }
    Ok(())
}
