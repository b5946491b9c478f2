//! The log out of an archive in a store, brought beside the staged data before a scratch server
//! replays it: what it needs and nothing else, in the files' own names, as if the archive were a
//! directory.
//!
//! The folder is not inside the run's own, which every attempt at staging begins anew: what a killed
//! process has fetched is kept, and goes when the run's staged data does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt};

use super::Cluster;
use super::base::Base;
use crate::components::postgres::wal::{
    Archive, ArchivedFile, Chain, Packing, RemoteWalArchive, RetryPolicy, Search, WalSource,
    segment_of,
};
use crate::contract::{RunContext, StoredFile, Volume};
use crate::model::{Error, ErrorKind, Finding, Progress, RecoveryPoint, Result};
use crate::swap::Dir;

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
        let Some(WalSource::Store(remote)) = &self.config.wal_archive else {
            return self.archive(base).await;
        };
        let volume = self.volume().await?;
        let root = volume.path().unwrap_or_default();
        let dir = folder(&root, &cx.run().folder());
        let fetching = Fetching {
            cluster: self,
            cx,
            base,
            remote,
            volume: volume.as_ref(),
            place: make_dir(&root, &dir)?,
            dir,
            owner,
        };
        fetching.run().await?;
        let held = fetching.place.again()?.into_fd();
        Archive::of_directory(held, fetching.dir, base.facts.segment_size).await
    }

    /// Deletes what was fetched for the run whose folder in `root` is named so, and what was kept of
    /// the archive to look into.
    pub(super) fn forget_fetched(&self, root: &Path, run: &str) -> Result<()> {
        live(root)?.remove_tree(&format!("{run}{SUFFIX}"))?;
        match &self.config.wal_archive {
            Some(WalSource::Store(remote)) => remote.forget(),
            _ => Ok(()),
        }
    }
}

/// The volume, held open.
fn live(root: &Path) -> Result<Dir> {
    // Whether the way there can be trusted was asked when the volume was opened.
    let opened = crate::sys::open_directory(root, true)?;
    let live = opened.map_err(|e| Error::io(format!("open {}", root.display()), e.into()))?;
    Ok(Dir::of(live, root.to_owned()))
}

/// Makes the folder, where there is none of ours: the server's user reads what is in it by name and
/// changes nothing.
fn make_dir(root: &Path, dir: &Path) -> Result<Dir> {
    let live = live(root)?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let place = match live.there(name.as_ref())? {
        Some(place) if place.is_ours()? => place,
        _ => live.make_new(&name)?,
    };
    place.take()?;
    place.open_for_passing()?;
    Ok(place)
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
        .filter_map(ArchivedFile::stored)
        .map(|stored| (stored.file.path.clone(), stored.clone()))
        .collect()
}

/// Bringing what one recovery needs.
struct Fetching<'a> {
    cluster: &'a Cluster,
    cx: &'a RunContext,
    base: &'a Base,
    remote: &'a Arc<RemoteWalArchive>,
    volume: &'a dyn Volume,
    dir: PathBuf,
    place: Dir,
    owner: Option<(u32, u32)>,
}

impl Fetching<'_> {
    async fn run(&self) -> Result<()> {
        let mut until = None;
        let mut known = Files::new();
        for round in 0..ROUNDS {
            let mut archive = self.cluster.archive(self.base).await?;
            let there: Files = stored(archive.files());
            for (name, file) in &known {
                match there.get(name) {
                    Some(now) if now == file => {}
                    Some(_) => return Err(self.remote.changed(name)),
                    None => return Err(self.remote.vanished(file)),
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
        for name in self.place.names(Path::new(""))? {
            let keep = name
                .to_str()
                .is_some_and(|name| name == LEDGER || wanted.contains_key(name));
            if !keep {
                self.place.unlink(Path::new(&name))?;
            }
        }
        Ok(())
    }

    /// What is here whole already. A file is durable before its line is written.
    fn kept(&self) -> BTreeSet<StoredFile> {
        let text = match self.place.read(LEDGER) {
            Ok(Some((bytes, true))) => String::from_utf8(bytes).unwrap_or_default(),
            _ => String::new(),
        };
        let files = text
            .lines()
            .filter_map(|line| serde_json::from_str::<StoredFile>(line).ok());
        files
            .filter(|stored| {
                let entry = self.place.entry(Path::new(&stored.file.path));
                matches!(entry, Ok(Some(it)) if it.regular && it.size == stored.file.size)
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
            let (needed, free) = crate::model::text::needed_and_had(needed, free);
            return Err(self.no_room(&format!("{needed} are to come, {free} are free")));
        }
        let ledger = self.place.append(LEDGER)?;
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
        // Of this name the archive itself has nothing, and whoever looks at the folder knows it for
        // unfinished.
        let part = format!(".{name}.part");
        let failed = |e| Error::io(format!("write {}", self.dir.join(&part).display()), e);
        self.place.unlink(Path::new(&part))?;
        let mut file = tokio::fs::File::from_std(self.place.create(&part)?);
        let again = |error: &Error, at: u64| {
            let message = format!("{error}; going on at byte {at}");
            self.cx
                .notice(Finding::info("fetch.again", name.clone(), message));
        };
        let patience = RetryPolicy {
            tries: TRIES,
            cancel: self.cx.cancelled(),
            progress,
            again: &again,
        };
        let pulled = self.remote.pull(&stored, &mut file, &patience).await;
        pulled.map_err(|error| match error.is(&std::io::ErrorKind::StorageFull) {
            true => self.no_room(error.message()),
            false => error,
        })?;
        file.sync_data().await.map_err(failed)?;
        drop(file);
        self.place.give(&part, self.owner, 0o600, 1)?;
        self.place.rename(&part, name)?;
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
                self.remote.describe()
            ),
        )
        .hint("free some space where the volume is, and try again")
    }
}
