//! All files of a backup, several at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::artifacts::unlock_artifacts;
use super::place::PartialBackup;
use super::pump::{FetchSource, RetryPolicy, pump};
use super::write::Part;
use super::{FetchOptions, OpenDirectory};
use crate::archive::Digest;
use crate::backup::unlock::{Unlock, check_signature};
use crate::backup::verification::Verdict;
use crate::contract::{Backup, BackupStore, Generation, Manifest, StoreReason, StoredFile};
use crate::model::{BackupId, Error, ErrorKind, Finding, Progress, Result};
use crate::sys::private;

/// Files at the same time where nothing else is said. One connection rarely fills a line.
const JOBS: usize = 4;

/// Pieces of a file between its connection and its writer.
const DEPTH: usize = 8;

/// Fetches one backup, file by file.
pub(crate) struct Transfer<'a> {
    source: &'a Backup,
    options: &'a FetchOptions,
    unlock: &'a Unlock,
    /// Encrypted artifacts are decrypted.
    decrypt: bool,
    open_directory: OpenDirectory,
    /// Ends the threads that work for it, whatever ends this.
    cancel: CancellationToken,
    received: AtomicU64,
    kept: AtomicU64,
}

/// What it came to.
pub(crate) struct Transferred {
    pub(crate) path: PathBuf,
    pub(crate) generation: Generation,
    pub(crate) verdict: Verdict,
    pub(crate) findings: Vec<Finding>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) received: u64,
    pub(crate) kept: u64,
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(
        source: &'a Backup,
        options: &'a FetchOptions,
        unlock: &'a Unlock,
        decrypt: bool,
        open_directory: OpenDirectory,
    ) -> Self {
        Self {
            source,
            options,
            unlock,
            decrypt,
            open_directory,
            cancel: options.cancel.child_token(),
            received: AtomicU64::new(0),
            kept: AtomicU64::new(0),
        }
    }

    /// Removes what is left of an earlier fetch of a backup that is there.
    pub(crate) fn sweep(root: &std::path::Path, id: &BackupId) {
        PartialBackup::sweep(root, id);
    }

    /// Fetches the backup into the directory `root`.
    pub(crate) async fn run(self, root: PathBuf) -> Result<Transferred> {
        let _stop = self.cancel.clone().drop_guard();
        let id = self.source.id().clone();
        self.look_at_source()?;
        let stored = self.source.store().stored_files(&id).await?;
        let place = {
            let (id, stored) = (id.clone(), stored.clone());
            blocking(move || {
                let place = PartialBackup::open(&root, &id)?;
                let wanted: BTreeSet<_> = stored.iter().map(|it| it.file.path.as_str()).collect();
                place.clear_all_but(|path| wanted.contains(path))?;
                Ok(Arc::new(place))
            })
            .await?
        };
        let bytes = stored
            .iter()
            .fold(0_u64, |sum, s| sum.saturating_add(s.file.size));
        self.look_at_space(&place, &stored)?;
        let progress = Progress::new(
            self.options.events.clone(),
            format!("backup {id}"),
            "fetch",
            Some(bytes),
        );
        let (mut manifest, mut others): (Vec<_>, Vec<_>) = stored
            .iter()
            .cloned()
            .partition(|stored| stored.file.path == Manifest::FILE_NAME);
        others.sort_by(|a, b| b.file.size.cmp(&a.file.size).then_with(|| a.cmp(b)));
        let jobs = match self.options.jobs {
            0 => JOBS,
            jobs => jobs,
        };
        let (this, progress) = (&self, &progress);
        let mut fetching = futures_util::stream::iter(others)
            .map(|stored| this.file(&place, stored, progress))
            .buffer_unordered(jobs);
        let (mut digests, mut failed) = (BTreeMap::new(), None);
        while let Some(fetched) = fetching.next().await {
            match fetched {
                Ok((path, digest)) => {
                    digests.insert(path, digest);
                }
                // The others end too, and are waited for: what they have is noted then, and the
                // place is free for the next fetch.
                Err(error) => {
                    failed.get_or_insert(error);
                    self.cancel.cancel();
                }
            }
        }
        drop(fetching);
        if let Some(error) = failed {
            return Err(error);
        }
        // Last, as whoever made the backup did.
        if let Some(manifest) = manifest.pop() {
            let (path, digest) = this.file(&place, manifest, progress).await?;
            digests.insert(path, digest);
        } else if let Some(text) = self.list_of_foreign()? {
            let place = place.clone();
            blocking(move || {
                let path = place.path(Manifest::FILE_NAME)?;
                private::write(&path, text)
                    .map_err(|e| Error::io(format!("write {}", path.display()), e))
            })
            .await?;
        }
        progress.finish();
        self.look_again(&place, &stored).await?;
        let here = (self.open_directory)(place.work().to_owned());
        let here = Backup::open(here, id).await?;
        check_signature(&here, self.unlock).await?;
        let verification = here.verify_known(&digests).await?.into_result()?;
        let mut findings = verification.findings();
        let locked = here.locked();
        if self.decrypt && !locked.is_empty() {
            unlock_artifacts(&place, &here, self.unlock).await?;
        } else if let Some(first) = locked.first() {
            let message = format!(
                "{} of its artifacts are encrypted and stay so: {first} …",
                locked.len()
            );
            findings.push(
                Finding::warning("backup.locked", here.id().as_str(), message)
                    .hint("fetch it into a directory store with unlocked = true"),
            );
        }
        let path = blocking(move || place.finish()).await?;
        Ok(Transferred {
            path,
            generation: verification.generation,
            verdict: verification.verdict(),
            findings,
            files: here.files().len() as u64,
            bytes,
            received: self.received.load(Ordering::Relaxed),
            kept: self.kept.load(Ordering::Relaxed),
        })
    }

    /// What would come out at the end anyway, said before hours of transfer.
    fn look_at_source(&self) -> Result<()> {
        let (id, place) = (self.source.id(), self.source.store().describe());
        let manifest = match self.source.manifest() {
            Some(manifest) if self.source.generation() != Generation::Unfinished => manifest,
            _ => {
                return Err(Error::new(
                    ErrorKind::Verification,
                    "verify.unfinished",
                    format!("backup {id} in {place} is unfinished: it has no whole manifest, which is written last"),
                )
                .hint("it may be being made right now; else choose another backup: `restore list`"));
            }
        };
        if manifest.truncated {
            return Err(Error::new(
                ErrorKind::Verification,
                "verify.manifest_cut",
                format!("backup {id} in {place} has a MANIFEST.txt without an end: what should be there is not known"),
            )
            .hint("choose another backup, or copy this one by hand and restore it with --allow-unverified"));
        }
        for entry in &manifest.entries {
            let found = self.source.file(&entry.path).map(|file| file.size);
            let what = match (found, entry.size.bytes()) {
                (None, _) => "is not there".to_owned(),
                (Some(found), Some(listed)) if found != listed => {
                    format!("has {found} bytes instead of {listed}")
                }
                _ => continue,
            };
            return Err(Error::new(
                ErrorKind::Verification,
                "fetch.source_incomplete",
                format!(
                    "backup {id} in {place} is not whole: {}, which its manifest lists, {what}",
                    entry.path
                ),
            )
            .hint("fetch it from another store with --from, or choose another backup"));
        }
        Ok(())
    }

    /// A list of the files of a backup that another tool made without any: here it is what says that the backup is
    /// whole. It has no sums, as nobody knows them.
    fn list_of_foreign(&self) -> Result<Option<String>> {
        let source = self.source;
        let mut files = source.files().iter();
        let Some(manifest) = source.manifest() else {
            return Ok(None);
        };
        if !source.store().lists_nothing(source.id())
            || files.any(|file| source.is_manifest(&file.path))
        {
            return Ok(None);
        }
        let mut manifest = manifest.clone();
        let id = ("Backup ID".to_owned(), source.id().to_string());
        manifest.header.push(id);
        let size_of = |path: &str| source.file(path).map_or(0, |file| file.size);
        manifest.to_text_sized(size_of).map(Some)
    }

    fn look_at_space(&self, place: &PartialBackup, stored: &[StoredFile]) -> Result<()> {
        let mut needed = 0_u64;
        for stored in stored {
            let there = std::fs::metadata(place.path(&stored.file.path)?).map_or(0, |m| m.len());
            needed = needed.saturating_add(stored.file.size.saturating_sub(there));
        }
        let free = place.free()?;
        if needed <= free {
            return Ok(());
        }
        Err(no_room(self.source.id(), place, needed, free))
    }

    async fn file(
        &self,
        place: &Arc<PartialBackup>,
        stored: StoredFile,
        progress: &Progress,
    ) -> Result<(String, Digest)> {
        let id = self.source.id();
        let path = stored.file.path.clone();
        if self.cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        let part = {
            let (place, stored, cancel) = (place.clone(), stored.clone(), self.cancel.clone());
            blocking(move || Part::open(place, stored, &cancel)).await?
        };
        self.kept.fetch_add(part.bytes, Ordering::Relaxed);
        progress.add(part.bytes);
        let offset = part.bytes;
        let (send, receive) = tokio::sync::mpsc::channel(DEPTH);
        let writing = {
            let progress = progress.clone();
            tokio::task::spawn_blocking(move || part.write(receive, &progress))
        };
        let patience = RetryPolicy {
            tries: self.options.tries,
            events: self.options.events.as_ref(),
            cancel: &self.cancel,
        };
        let store = self.source.store().as_ref();
        let read = if offset == stored.file.size && offset > 0 {
            drop(send);
            Ok(())
        } else {
            let origin = FetchSource::File(id, &stored);
            let (sent, read) = pump(store, origin, offset, send, &patience).await;
            self.received.fetch_add(sent, Ordering::Relaxed);
            read
        };
        let (part, written) = writing.await.map_err(|e| task_failed(&e))?;
        // A full disk ends the reading too, which then has nothing to say.
        written?;
        if let Err(error) = read {
            return Err(match error.is(&StoreReason::Changed) {
                true => changed(&store.describe(), &path),
                false => error,
            });
        }
        let (found, digest) = (part.bytes, part.digest());
        let expected = self.source.expected_digest(&path);
        if found == stored.file.size && expected.is_none_or(|expected| expected == digest) {
            return Ok((path, digest));
        }
        blocking(move || {
            part.discard();
            Ok(())
        })
        .await?;
        Err(self.wrong(store, &stored, found).await)
    }

    /// Why a file is not what was wanted: it was changed meanwhile, or was wrong all along.
    async fn wrong(&self, store: &dyn BackupStore, stored: &StoredFile, found: u64) -> Error {
        let path = &stored.file.path;
        let now = match store.stored_files(self.source.id()).await {
            Ok(now) => now,
            Err(error) => return error,
        };
        if !now.contains(stored) || found != stored.file.size {
            return changed(&store.describe(), path);
        }
        Error::new(
            ErrorKind::Verification,
            "fetch.mismatch",
            format!(
                "{path} in {} is not what was backed up: its SHA-256 is not the manifest's",
                store.describe()
            ),
        )
        .hint("it is damaged there: fetch it from another store with --from, or choose another backup")
    }

    /// Whether the backup is still what it was at the beginning; else what we have is a mixture.
    async fn look_again(&self, place: &Arc<PartialBackup>, before: &[StoredFile]) -> Result<()> {
        let store = self.source.store();
        let now = store.stored_files(self.source.id()).await?;
        let (was, is): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), now.iter().collect());
        let other = was.symmetric_difference(&is);
        let mut first = None;
        for stored in other {
            let path = place.path(&stored.file.path)?;
            let _ = std::fs::remove_file(path);
            first.get_or_insert(&stored.file.path);
        }
        match first {
            Some(path) => Err(changed(&store.describe(), path)),
            None => Ok(()),
        }
    }
}

pub(super) fn no_room(id: &BackupId, place: &PartialBackup, needed: u64, free: u64) -> Error {
    let (needed, free) = crate::model::text::needed_and_had(needed, free);
    Error::new(
        ErrorKind::Preflight,
        "fetch.no_room",
        format!(
            "there is no room for backup {id} in {}: {needed} are to come, {free} are free",
            place.work().display()
        ),
    )
    .hint("free some space, or fetch into another directory store with --to")
}

pub(super) fn changed(place: &str, path: &str) -> Error {
    Error::new(
        ErrorKind::Verification,
        "fetch.changed",
        format!("{path} in {place} was changed while the backup was fetched"),
    )
    .hint("let whatever writes there end, and fetch again: what is unchanged is kept")
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| task_failed(&e))?
}

fn task_failed(error: &tokio::task::JoinError) -> Error {
    Error::new(
        ErrorKind::Internal,
        "fetch.task",
        format!("a thread of the fetch broke down: {error}"),
    )
}
