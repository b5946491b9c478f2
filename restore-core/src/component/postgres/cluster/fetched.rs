//! The log out of an archive in a store, brought beside the staged data before a scratch server
//! replays it: what it needs and nothing else, in the files' own names, as if the archive were a
//! directory.
//!
//! The folder is not inside the run's own, which every attempt at staging begins anew: what a killed
//! process has fetched is kept, and goes when the run's staged data does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt};

use super::Cluster;
use super::base::Base;
use super::scratch::own;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Progress;
use crate::finding::Finding;
use crate::platform::Volume;
use crate::run::RunContext;
use crate::store::StoredFile;
use crate::target::RecoveryPoint;
use crate::wal::{
    Archive, ArchivedFile, Chain, Packing, Patience, Search, Shelf, WalSource, segment_of,
};

/// What the folder's name has behind that of the run's folder.
const SUFFIX: &str = ".wal";
/// What has been fetched whole, a line a file.
const LEDGER: &str = ".fetched";
/// Files at the same time: one connection rarely fills a line.
const JOBS: usize = 4;
/// How often a connection that was lost is made again without a byte coming over it.
const TRIES: u32 = 5;
/// How often the archive is asked whether it has more: a server that archives faster than we fetch
/// would never come to an end.
const ROUNDS: u32 = 16;

type Files = BTreeMap<String, StoredFile>;

impl Cluster {
    /// The archive as a directory of this host: the one that the component names, or what a recovery
    /// needs of one in a store, fetched.
    pub(super) async fn archive_here(
        &self,
        cx: &RunContext,
        base: &Base,
        owner: Option<(u32, u32)>,
    ) -> Result<Archive> {
        let Some(WalSource::Store(shelf)) = &self.config.wal_archive else {
            return self.archive(base).await;
        };
        let volume = self.volume().await?;
        let root = volume.path().unwrap_or_default();
        let fetching = Fetching {
            cluster: self,
            cx,
            base,
            shelf,
            volume: volume.as_ref(),
            dir: folder(&root, &cx.run().folder()),
            owner,
        };
        fetching.run().await?;
        let fetched = WalSource::Directory(fetching.dir);
        Archive::open(&fetched, base.facts.segment_size).await
    }

    /// Deletes what was fetched for the run whose folder in `root` is named so, and what was kept of
    /// the archive to look into.
    pub(super) fn forget_fetched(&self, root: &Path, run: &str) -> Result<()> {
        let dir = folder(root, run);
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format!("delete {}", dir.display()), e));
            }
            _ => {}
        }
        match &self.config.wal_archive {
            Some(WalSource::Store(shelf)) => shelf.forget(),
            _ => Ok(()),
        }
    }
}

fn folder(root: &Path, run: &str) -> PathBuf {
    root.join(format!("{run}{SUFFIX}"))
}

/// Bytes that lie beside the staged data while what leads on to a target in the segment `until` is
/// replayed out of an archive in a store: what is fetched, and where some of it is packed, all of
/// it unpacked.
pub(super) fn room(chain: &Chain, until: u64) -> u64 {
    let needed = || chain.files.iter().filter(|(name, _)| name.number <= until);
    let plain = |file: &ArchivedFile| file.packing == Packing::Plain && !file.partial;
    let packed = !needed().all(|(_, file)| plain(file));
    needed().fold(0, |sum, (_, file)| {
        let unpacked = if packed { chain.segment_size } else { 0 };
        sum.saturating_add(file.bytes).saturating_add(unpacked)
    })
}

/// What is in a store of these, by name.
fn stored<'a>(files: impl Iterator<Item = &'a ArchivedFile>) -> Files {
    files
        .filter_map(|file| file.elsewhere.as_ref())
        .map(|(_, stored)| (stored.file.path.clone(), stored.clone()))
        .collect()
}

/// Bringing what one recovery needs.
struct Fetching<'a> {
    cluster: &'a Cluster,
    cx: &'a RunContext,
    base: &'a Base,
    shelf: &'a Arc<Shelf>,
    volume: &'a dyn Volume,
    dir: PathBuf,
    owner: Option<(u32, u32)>,
}

impl Fetching<'_> {
    async fn run(&self) -> Result<()> {
        self.make_dir()?;
        let mut until = None;
        let mut known = Files::new();
        for round in 0..ROUNDS {
            let mut archive = self.cluster.archive(self.base).await?;
            let there: Files = stored(archive.files());
            for (name, file) in &known {
                match there.get(name) {
                    Some(now) if now == file => {}
                    Some(_) => return Err(self.shelf.changed(name)),
                    None => return Err(self.shelf.vanished(file)),
                }
            }
            let wanted = self.wanted(&mut archive, &mut until).await?;
            let new: Vec<StoredFile> = wanted
                .values()
                .filter(|file| !known.contains_key(&file.file.path))
                .cloned()
                .collect();
            // What was archived meanwhile counts: only when there is no more it is complete.
            if round > 0 && new.is_empty() {
                return Ok(());
            }
            if round == 0 {
                self.keep_only(&wanted)?;
            }
            self.fetch(new).await?;
            known = wanted;
        }
        Ok(())
    }

    fn make_dir(&self) -> Result<()> {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir);
        made.map_err(|e| Error::io(format!("make {}", self.dir.display()), e))?;
        own(&self.dir, self.owner)
    }

    /// What the server will ask for: the segments up to where it stops, and all histories, by which
    /// it also finds a new timeline's number.
    async fn wanted(&self, archive: &mut Archive, until: &mut Option<u64>) -> Result<Files> {
        let origin = self.base.facts.origin();
        let target = self.cx.target();
        let timeline = match target {
            Some(target) => target.timeline,
            None => Some(self.base.facts.timeline),
        };
        let followed = self.cluster.follows(self.base, archive, timeline).await?;
        let chain = Chain::follow(archive, &origin, followed.timeline)?;
        let latest = target.is_some_and(|it| it.point == RecoveryPoint::Latest);
        let last = match (target, *until) {
            (Some(_), Some(until)) if !latest => until,
            (Some(target), _) => {
                let cancel = self.cx.cancelled().clone();
                let search = Search::new(chain.clone(), origin, cancel);
                search.find(target).await?.until
            }
            // The base backup brings the log of its own time.
            (None, _) => segment_of(origin.stop, self.base.facts.segment_size),
        };
        *until = Some(last);
        let segments = chain.files.iter().filter(|(name, _)| name.number <= last);
        let files = segments.map(|(_, file)| file).chain(&archive.histories);
        Ok(stored(files))
    }

    /// Removes what an earlier attempt has left and is not wanted any more.
    fn keep_only(&self, wanted: &Files) -> Result<()> {
        let failed = |e| Error::io(format!("clear {}", self.dir.display()), e);
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let keep = name
                .to_str()
                .is_some_and(|name| name == LEDGER || wanted.contains_key(name));
            if !keep {
                std::fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// What is here whole already. A file is durable before its line is written.
    fn kept(&self) -> BTreeSet<StoredFile> {
        let text = std::fs::read_to_string(self.dir.join(LEDGER)).unwrap_or_default();
        let files = text
            .lines()
            .filter_map(|line| serde_json::from_str::<StoredFile>(line).ok());
        files
            .filter(|stored| {
                let meta = self.dir.join(&stored.file.path).symlink_metadata();
                meta.is_ok_and(|meta| meta.is_file() && meta.len() == stored.file.size)
            })
            .collect()
    }

    /// Fetches what is not here yet.
    async fn fetch(&self, files: Vec<StoredFile>) -> Result<()> {
        let sum = |files: &mut dyn Iterator<Item = &StoredFile>| {
            files.fold(0_u64, |sum, it| sum.saturating_add(it.file.size))
        };
        let kept = self.kept();
        let progress = self.cx.progress("fetch WAL", Some(sum(&mut files.iter())));
        progress.add(sum(&mut files.iter().filter(|it| kept.contains(it))));
        let missing: Vec<StoredFile> = files.into_iter().filter(|it| !kept.contains(it)).collect();
        let needed = sum(&mut missing.iter());
        let free = self.volume.free_space().await?.free_bytes;
        if needed > free {
            return Err(self.no_room(&format!("{needed} bytes are to come, {free} are free")));
        }
        let ledger = std::fs::File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.dir.join(LEDGER))
            .map_err(|e| Error::io(format!("write in {}", self.dir.display()), e))?;
        let ledger = &Mutex::new(ledger);
        let progress = &progress;
        let fetching = futures_util::stream::iter(missing)
            .map(|stored| self.file(stored, ledger, progress))
            .buffer_unordered(JOBS);
        fetching.try_collect::<()>().await?;
        progress.finish();
        Ok(())
    }

    async fn file(
        &self,
        stored: StoredFile,
        ledger: &Mutex<std::fs::File>,
        progress: &Progress,
    ) -> Result<()> {
        let name = &stored.file.path;
        let path = self.dir.join(name);
        // Of this name the archive itself has nothing, and whoever looks at the folder knows it for
        // unfinished.
        let part = self.dir.join(format!(".{name}.part"));
        let failed = |e| Error::io(format!("write {}", part.display()), e);
        let mut file = tokio::fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .await
            .map_err(failed)?;
        let again = |error: &Error, at: u64| {
            let message = format!("{error}; going on at byte {at}");
            self.cx
                .notice(Finding::info("fetch.again", name.clone(), message));
        };
        let patience = Patience {
            tries: TRIES,
            cancel: self.cx.cancelled(),
            progress,
            again: &again,
        };
        let pulled = self.shelf.pull(&stored, &mut file, &patience).await;
        pulled.map_err(|error| match error.code() {
            "io.disk_full" => self.no_room(error.message()),
            _ => error,
        })?;
        file.sync_data().await.map_err(failed)?;
        drop(file);
        own(&part, self.owner)?;
        std::fs::rename(&part, &path).map_err(failed)?;
        let line = serde_json::to_string(&stored).map_err(|e| failed(e.into()))?;
        let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(ledger, "{line}").map_err(failed)
    }

    fn no_room(&self, why: &str) -> Error {
        Error::new(
            ErrorKind::Failed,
            "wal.no_room",
            format!(
                "there is no room in {} for the log out of the WAL archive {}: {why}",
                self.dir.display(),
                self.shelf.describe()
            ),
        )
        .hint("free some space where the volume is, and try again")
    }
}
