//! One directory whose content is swapped: stage, swap, undo, discard.

use std::fs::File;
use std::io::ErrorKind as ErrorKindIo;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use super::kept::{kept_gone, lost};
use super::scope::{Compared, Discard, SwapScope, SwapState};
use super::{
    Dir, EntryMeta, Found, IN_THE_WAY, LEFT_OUT, Ledger, Phase, REPLACED, RecordKey, Records,
    STAGED, StagingDir, SwapDirs, SwapExecutor, SwapRecord, below_directories, claim, find,
    not_ours, plan, plan_undo,
};
use crate::archive::path_set::PathSet;
use crate::model::{Error, ErrorKind, Result, RunId};
use crate::sys::absent::AbsentDirectory;
use crate::sys::retry::Retry;

/// How long other work on the same volume is waited for.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How long it is waited for where the lock is one that whoever owns the volume can take, too.
const SHORT_PATIENCE: Duration = Duration::from_secs(60);

/// A directory of this host as a volume.
///
/// A run keeps its data in `.restore-RUN` inside it: `staged`, `replaced`. The list of what was
/// moved is kept in the directory of [`kept_in`](Self::kept_in), and without one in `.restore-RUN`
/// as well, where it is believed only while nobody else could write there.
///
/// The directories above it must belong to root or to us and be writable by nobody else, and the
/// directory itself must be no symbolic link, unless [`followed`](Self::followed).
#[derive(Clone, Debug)]
pub struct LocalVolume {
    root: PathBuf,
    records: Records,
    follow: bool,
}

impl LocalVolume {
    /// The volume in the existing directory `root`. Every method fails with `volume.missing`
    /// where there is none; none ever makes it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            records: Records::Beside(None),
            follow: false,
        }
    }

    /// The same volume; what is believed of its swaps is kept in `directory`, which is made for our
    /// eyes alone and must stay for as long as any run on the volume.
    #[must_use]
    pub fn kept_in(self, directory: impl Into<PathBuf>) -> Self {
        Self {
            records: Records::In(directory.into()),
            ..self
        }
    }

    /// The same volume; what is believed of its swaps lies in it, sealed with a key.
    #[must_use]
    pub(crate) fn sealed_with(self, key: Option<RecordKey>) -> Self {
        Self {
            records: Records::Beside(key),
            ..self
        }
    }

    /// The same volume, whoever could lead its path elsewhere, and where it leads now.
    #[must_use]
    pub fn followed(self, follow: bool) -> Self {
        Self { follow, ..self }
    }

    /// The directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory as one that could be made, where it is not there.
    pub(crate) fn absent(&self) -> AbsentDirectory {
        AbsentDirectory::new(&self.root).followed(self.follow)
    }

    /// The folder of a run.
    pub(crate) fn folder(&self, run: &RunId) -> PathBuf {
        self.root.join(run.folder())
    }

    /// Does blocking work on the volume to its end, also when the caller goes away.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let volume = self.clone();
        tokio::task::spawn_blocking(move || work(&volume))
            .await
            .map_err(|e| {
                Error::new(
                    ErrorKind::Internal,
                    "volume.task",
                    format!("work on a volume ended unexpectedly: {e}"),
                )
            })?
    }

    /// As `blocking`, for work that moves or deletes: one at a time on a volume. The work of a caller
    /// who went away goes on; whoever comes next waits for its end.
    pub(crate) async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let gone = Arc::new(AtomicBool::new(false));
        let _told = Gone(gone.clone());
        self.blocking(move |volume| {
            let _held = volume.hold(&gone)?;
            work(volume)
        })
        .await
    }

    /// Holds the volume until what is returned is dropped. `None` where its file system has no
    /// such locks, or where there is no volume: the work itself says so. Waits no longer than
    /// somebody waits for it.
    pub(crate) fn hold(&self, gone: &AtomicBool) -> Result<Option<File>> {
        let failed = |e| Error::io(format!("lock {}", self.root.display()), e);
        let (file, patience) = match self.records.apart_in(&self.root, true)? {
            Some((place, name)) => (place.lock_file(&format!("{name}.lock"))?, PATIENCE),
            // Anybody who may look into the volume can have this lock.
            None => match crate::sys::open_directory(&self.root, self.follow)? {
                Ok(root) => (root.into(), SHORT_PATIENCE),
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(e) => return Err(failed(e.into())),
            },
        };
        let retry = Retry::within(patience, Duration::from_millis(5));
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(std::fs::TryLockError::WouldBlock) => {}
                Err(std::fs::TryLockError::Error(e)) if e.kind() == ErrorKindIo::Interrupted => {}
                // NFS takes exclusive locks on writable files alone, and no directory is one.
                Err(std::fs::TryLockError::Error(e))
                    if matches!(
                        Errno::from_io_error(&e),
                        Some(Errno::BADF | Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP)
                    ) =>
                {
                    return Ok(None);
                }
                Err(std::fs::TryLockError::Error(e)) => return Err(failed(e)),
            }
            if gone.load(Ordering::Acquire) {
                return Err(Error::interrupted());
            }
            if retry.is_over() {
                return Err(Error::new(
                    ErrorKind::Failed,
                    "volume.locked",
                    format!(
                        "another process holds the lock of {} and does not let go",
                        self.root.display()
                    ),
                )
                .hint("`lslocks` shows who it is; end it and try again (`restore resume`)")
                .retryable());
            }
            retry.pause_blocking();
        }
    }

    /// Opens the live tree.
    pub(crate) fn open(&self) -> Result<Dir> {
        let opened = crate::sys::open_directory(&self.root, self.follow)?;
        let fd = opened.map_err(|e| match e {
            // Something else stands in its place, which nothing here takes away.
            Errno::NOTDIR if self.root.symlink_metadata().is_ok() => Error::new(
                ErrorKind::NotFound,
                "volume.missing",
                format!("{} is not a directory", self.root.display()),
            )
            .hint("move away what has its name; then `restore run ID --create` makes the directory"),
            Errno::NOENT | Errno::NOTDIR => Error::new(
                ErrorKind::NotFound,
                "volume.missing",
                format!("there is no directory {}", self.root.display()),
            )
            .hint("is it mounted, and is its path in the configuration right? it is only made with `restore run ID --create`"),
            e => Error::io(format!("open {}", self.root.display()), e.into()),
        })?;
        Ok(Dir::of(fd, self.root.clone()))
    }

    /// What is known of a run; changes nothing.
    pub(crate) fn find(&self, live: &Dir, run: &RunId) -> Result<Option<Found>> {
        find(&self.records, &self.root, live, run)
    }

    /// As `find`, for work that moves or deletes: see [`claim`].
    pub(crate) fn claim(&self, live: &Dir, run: &RunId) -> Result<Option<Found>> {
        claim(&self.records, &self.root, live, run)
    }

    pub(crate) fn look(&self, run: &RunId) -> Result<SwapState> {
        let Some(found) = self.find(&self.open()?, run)? else {
            return Ok(SwapState::Nothing);
        };
        Ok(match found.record.phase {
            Phase::Swapped => SwapState::Swapped,
            Phase::Swapping | Phase::Undoing => SwapState::Swapping,
            Phase::Staged if found.folder.has(Path::new(STAGED))? => SwapState::Staged,
            Phase::Staged => SwapState::Nothing,
        })
    }

    #[cfg(test)]
    pub(crate) fn make_staged(&self, run: &RunId) -> Result<PathBuf> {
        Ok(self.stage_now(run)?.path().to_owned())
    }

    /// Makes the staging folder, for us alone: the owner of the volume gets in when it is swapped,
    /// or is let in before by whoever needs that.
    pub(crate) fn stage_now(&self, run: &RunId) -> Result<StagingDir> {
        let live = self.open()?;
        match self.look(run)? {
            SwapState::Nothing | SwapState::Staged => {}
            SwapState::Swapping | SwapState::Swapped => {
                return Err(begun(&self.root, run));
            }
        }
        self.delete_folder(&live, run)?;
        let meta = live
            .entry(Path::new(""))?
            .map_or_else(EntryMeta::private, |entry| entry.meta);
        let folder = live.make_new(&run.folder())?;
        let staged = folder.make_new(STAGED)?;
        // What is unpacked must not inherit the volume's access control lists: its own come with it.
        let meta = live.acl(Path::new(""))?.without(meta);
        staged.set_meta(Path::new(""), &meta, None)?;
        staged.sync()?;
        folder.sync()?;
        live.sync()?;
        let record = SwapRecord::staged(run, folder.inode()?, staged.inode()?);
        Ledger::of(&self.records, &self.root, run, &folder)?.write(&record)?;
        Ok(StagingDir::of(folder, staged))
    }

    /// The staging folder that there is.
    pub(crate) fn staged_now(&self, run: &RunId) -> Result<StagingDir> {
        let live = self.open()?;
        let found = self
            .claim(&live, run)?
            .ok_or_else(|| nothing_staged(&self.root, run))?;
        let staged = staged_in(&live, &found, run)?;
        Ok(StagingDir::of(found.folder, staged))
    }

    fn area(live: Dir, found: Found, run: &RunId) -> Result<(SwapDirs, SwapRecord)> {
        // Since the swap it was its data's owner's.
        found.folder.take()?;
        let staged = staged_in(&live, &found, run)?;
        let Found {
            folder,
            record,
            ledger,
            ..
        } = found;
        let area = SwapDirs {
            replaced: folder.sub_made(REPLACED)?,
            left_out: folder.sub_made(LEFT_OUT)?,
            in_the_way: folder.sub_made(IN_THE_WAY)?,
            live,
            folder,
            staged,
            ledger,
        };
        Ok((area, record))
    }

    /// After a swap the folder holds nothing but data of the volume's owner, and is theirs: whatever
    /// walks over the volume in their name (a base backup, the entry point of a container) meets
    /// nothing that it cannot read. Where the list lies in it, it stays ours.
    fn hand_over(area: &SwapDirs) -> Result<()> {
        if !area.ledger.apart {
            return Ok(());
        }
        match area.live.entry(Path::new(""))? {
            Some(live) => area.folder.belong_to(live.meta.uid, live.meta.gid, 0o700),
            None => Ok(()),
        }
    }

    pub(crate) fn swap_now(
        &self,
        run: &RunId,
        scope: &SwapScope,
        hands: &mut SwapExecutor,
    ) -> Result<()> {
        let live = self.open()?;
        let found = self
            .claim(&live, run)?
            .ok_or_else(|| nothing_staged(&self.root, run))?;
        if found.record.phase == Phase::Swapped {
            return Ok(());
        }
        let (area, mut record) = Self::area(live, found, run)?;
        if record.phase == Phase::Undoing {
            hands.unswap(&area, &mut record)?;
            return self.swap_now(run, scope, hands);
        }
        if record.phase == Phase::Staged {
            let (dirs, moves) = plan(&area, scope, hands)?;
            record.begin(scope.clone(), dirs, moves);
            hands.begin(&record, &area)?;
        }
        hands.swap(&area, &mut record)?;
        Self::hand_over(&area)
    }

    pub(crate) fn unswap_now(&self, run: &RunId, hands: &mut SwapExecutor) -> Result<()> {
        let live = self.open()?;
        let Some(found) = self.claim(&live, run)? else {
            return Ok(());
        };
        if found.record.phase == Phase::Staged {
            return Ok(());
        }
        // Moving away what is live, with nothing to take its place, is no undo.
        let (staged, replaced) = (found.folder.sub(STAGED)?, found.folder.sub(REPLACED)?);
        let (all, gone) = lost(&found.record, &live, staged.as_ref(), replaced.as_ref())?;
        if !gone.is_empty() {
            return Err(kept_gone(&live, all, &gone));
        }
        let (area, mut record) = Self::area(live, found, run)?;
        if record.phase != Phase::Undoing {
            record.undo = plan_undo(&area, &record)?;
            record.phase = Phase::Undoing;
            hands.turn_round(&record, &area)?;
        }
        hands.unswap(&area, &mut record)
    }

    pub(crate) fn discard_now(&self, run: &RunId, what: Discard) -> Result<()> {
        let live = self.open()?;
        match (self.look(run)?, what) {
            (SwapState::Swapping, _) => Err(begun(&self.root, run)),
            (SwapState::Swapped, Discard::Staged) | (SwapState::Staged, Discard::Replaced) => {
                Ok(())
            }
            _ => self.delete_folder(&live, run),
        }
    }

    /// Deletes the folder of a run, under another name first: killed meanwhile, what is left of it
    /// is nothing of the run any more. What has its name and is not known is deleted as well, but
    /// not where it holds something that was live and that the list knows nothing of.
    fn delete_folder(&self, live: &Dir, run: &RunId) -> Result<()> {
        let (folder, trash) = (run.folder(), format!("{}.trash", run.folder()));
        let known = self.claim(live, run)?;
        let has_replaced = known
            .as_ref()
            .is_some_and(|found| found.record.phase == Phase::Swapped);
        if !has_replaced
            && let Some(stranger) = live.there(&folder)?
            && !stranger
                .names(Path::new(REPLACED))
                .unwrap_or_default()
                .is_empty()
        {
            return Err(not_ours(live, &folder));
        }
        live.remove_tree(&trash)?;
        if live.has(Path::new(&folder))? {
            live.rename(&folder, &trash)?;
        }
        live.sync()?;
        // Before the folder is gone: the number of a deleted directory is soon another's, and a list
        // that is left would be taken for that one's.
        if let Some(found) = known
            && found.ledger.apart_from_folder()
        {
            found.ledger.forget()?;
        }
        live.remove_tree(&trash)?;
        live.sync()
    }

    /// Looks which of the entries that the swap of a run made live are there.
    pub(crate) fn compare_now(&self, run: &RunId) -> Result<Compared> {
        let mut compared = Compared::default();
        let live = self.open()?;
        let Some(Found { record, .. }) = self.find(&live, run)? else {
            return Ok(compared);
        };
        for (path, directory) in record.made_live() {
            compared.swapped += 1;
            let there = below_directories(&live, path)?;
            if there.is_some_and(|entry| entry.directory == directory) {
                compared.present += 1;
                continue;
            }
            compared.directories_gone += u64::from(directory);
            if compared.gone.len() < 5 {
                compared.gone.push(path.display().to_string());
            }
        }
        Ok(compared)
    }

    pub(crate) fn run_folders_now(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for name in self.open()?.names(Path::new(""))? {
            if let Ok(name) = name.into_string()
                && RunId::of_folder(name.as_bytes()).is_some()
                // About to be deleted, and the log that a recovery fetches.
                && !name.ends_with(".trash")
                && !name.ends_with(".wal")
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    pub(crate) fn leave_out_now(&self, run: &RunId, patterns: &[String]) -> Result<Vec<PathBuf>> {
        let keep = PathSet::new(patterns)?;
        let live = self.open()?;
        let Some(found) = self.claim(&live, run)? else {
            return Ok(Vec::new());
        };
        let (area, _) = Self::area(live, found, run)?;
        let mut left_out = Vec::new();
        let mut open = vec![PathBuf::new()];
        while let Some(path) = open.pop() {
            for name in area.staged.names(&path)? {
                let child = path.join(name);
                if keep.holds(&child) {
                    SwapExecutor::default().leave_out(&area, &child)?;
                    left_out.push(child);
                } else if area
                    .staged
                    .entry(&child)?
                    .is_some_and(|entry| entry.directory)
                {
                    open.push(child);
                }
            }
        }
        area.staged.sync()?;
        left_out.sort();
        Ok(left_out)
    }
}

/// Where what is believed of swaps is kept: in a component's private directory
/// ([`ComponentDeps::scratch`](crate::component::ComponentDeps::scratch)), `work` in the site's `state`.
pub(crate) fn records_in(scratch: &Path) -> PathBuf {
    scratch.join("swaps")
}

/// Tells work that nobody waits for it any more.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The staged tree in the folder of a run: the directory that was made.
fn staged_in(live: &Dir, found: &Found, run: &RunId) -> Result<Dir> {
    let staged = found
        .folder
        .there(STAGED)?
        .ok_or_else(|| nothing_staged(live.path(), run))?;
    match found.record.staged_tree() {
        Some(known) if known.inode != staged.inode()?.inode => Err(not_ours(&found.folder, STAGED)),
        _ => Ok(staged),
    }
}

fn nothing_staged(root: &Path, run: &RunId) -> Error {
    Error::new(
        ErrorKind::Failed,
        "volume.nothing_staged",
        format!("{} has nothing staged of run {run}", root.display()),
    )
    .hint("stage again; nothing was moved")
}

fn begun(root: &Path, run: &RunId) -> Error {
    Error::new(
        ErrorKind::Failed,
        "volume.swap_begun",
        format!("the swap of run {run} on {} was begun", root.display()),
    )
    .hint(format!(
        "`restore resume {run}` finishes it, `restore rollback {run}` takes it back"
    ))
}
