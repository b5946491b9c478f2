//! A volume that is a directory of this host.

use std::io::ErrorKind as ErrorKindIo;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rustix::io::Errno;

use super::swap::{
    Area, FOLDER_PREFIX, Hands, IN_THE_WAY, Keep, LEFT_OUT, Meta, Phase, Place, REPLACED, Record,
    STAGED,
};
use super::swap::{below_directories, plan, plan_undo};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Progress;
use crate::platform::{Compared, Discard, Space, SwapScope, SwapState, Volume};
use crate::run::RunId;
use crate::stream::{Source, UnpackPolicy, Unpacked};

/// A directory of this host as a volume.
///
/// A run keeps everything in `.restore-RUN` inside it: `staged`, `replaced`, and during and
/// after a swap `swap.json`, the list of what was moved.
#[derive(Clone, Debug)]
pub struct LocalVolume {
    root: PathBuf,
}

impl LocalVolume {
    /// The volume in the existing directory `root`. Every method fails with `volume.missing`
    /// where there is none; none ever makes it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
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

    /// The same for work that moves or deletes: one at a time on a volume. The work of a caller
    /// who went away goes on; whoever comes next waits for its end.
    async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.blocking(move |volume| {
            let _held = volume.hold()?;
            work(volume)
        })
        .await
    }

    /// Holds the volume until what is returned is dropped. `None` where its file system has no
    /// such locks, or where there is no volume: the work itself says so.
    fn hold(&self) -> Result<Option<std::fs::File>> {
        let failed = |e| Error::io(format!("lock {}", self.root.display()), e);
        let root = match std::fs::File::open(&self.root) {
            Ok(root) => root,
            Err(e) if matches!(e.kind(), ErrorKindIo::NotFound | ErrorKindIo::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(failed(e)),
        };
        loop {
            match root.lock() {
                Ok(()) => return Ok(Some(root)),
                Err(e) if e.kind() == ErrorKindIo::Interrupted => {}
                // NFS takes exclusive locks on writable files alone, and no directory is one.
                Err(e)
                    if matches!(
                        Errno::from_io_error(&e),
                        Some(Errno::BADF | Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP)
                    ) =>
                {
                    return Ok(None);
                }
                Err(e) => return Err(failed(e)),
            }
        }
    }

    /// Opens the live tree.
    pub(crate) fn open(&self) -> Result<Place> {
        Place::open(&self.root).map_err(|e| match e {
            Errno::NOENT | Errno::NOTDIR => Error::new(
                ErrorKind::NotFound,
                "volume.missing",
                format!("there is no directory {}", self.root.display()),
            )
            .hint("is it mounted, and is its path in the configuration right? it is never created by a restore"),
            e => Error::io(format!("open {}", self.root.display()), e.into()),
        })
    }

    pub(super) fn look(&self, run: &RunId) -> Result<SwapState> {
        let Some(folder) = self.open()?.sub(run.folder())? else {
            return Ok(SwapState::Nothing);
        };
        Ok(match Record::read(&folder)?.map(|record| record.phase) {
            Some(Phase::Swapped) => SwapState::Swapped,
            Some(Phase::Swapping | Phase::Undoing) => SwapState::Swapping,
            None if folder.has(Path::new(STAGED))? => SwapState::Staged,
            None => SwapState::Nothing,
        })
    }

    pub(super) fn make_staged(&self, run: &RunId) -> Result<PathBuf> {
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
            .map_or_else(Meta::private, |entry| entry.meta);
        let folder = live.sub_made(&run.folder())?;
        // The owner of the volume gets in (a server that loads staged data runs as it), nobody
        // else: what is staged and replaced is no more public than the volume.
        folder.set_meta(
            Path::new(""),
            &Meta {
                mode: 0o700,
                ..meta
            },
        )?;
        let staged = folder.sub_made(STAGED)?;
        staged.set_meta(Path::new(""), &meta)?;
        staged.sync()?;
        folder.sync()?;
        live.sync()?;
        Ok(staged.path().to_owned())
    }

    fn area(live: Place, folder: Place, run: &RunId) -> Result<Area> {
        let staged = folder.sub(STAGED)?.ok_or_else(|| {
            Error::new(
                ErrorKind::Failed,
                "volume.nothing_staged",
                format!("{} has nothing staged of run {run}", live.path().display()),
            )
            .hint("stage again; nothing was moved")
        })?;
        Ok(Area {
            replaced: folder.sub_made(REPLACED)?,
            left_out: folder.sub_made(LEFT_OUT)?,
            in_the_way: folder.sub_made(IN_THE_WAY)?,
            live,
            folder,
            staged,
        })
    }

    pub(super) fn swap_now(&self, run: &RunId, scope: &SwapScope, hands: &mut Hands) -> Result<()> {
        let live = self.open()?;
        let Some(folder) = live.sub(run.folder())? else {
            return Err(Error::new(
                ErrorKind::Failed,
                "volume.nothing_staged",
                format!("{} has nothing staged of run {run}", self.root.display()),
            )
            .hint("stage again; nothing was moved"));
        };
        let mut known = Record::read(&folder)?;
        if known
            .as_ref()
            .is_some_and(|record| record.phase == Phase::Swapped)
        {
            return Ok(());
        }
        let area = Self::area(live, folder, run)?;
        if let Some(record) = known.take_if(|record| record.phase == Phase::Undoing) {
            hands.unswap(&area, &record)?;
            return self.swap_now(run, scope, hands);
        }
        let mut record = match known {
            Some(record) => record,
            None => {
                let record = plan(&area, scope, hands)?;
                hands.begin(&record, &area.folder)?;
                record
            }
        };
        hands.swap(&area, &mut record)
    }

    pub(super) fn unswap_now(&self, run: &RunId, hands: &mut Hands) -> Result<()> {
        let live = self.open()?;
        let Some(folder) = live.sub(run.folder())? else {
            return Ok(());
        };
        let Some(mut record) = Record::read(&folder)? else {
            return Ok(());
        };
        let area = Self::area(live, folder, run)?;
        if record.phase != Phase::Undoing {
            record.undo = plan_undo(&area, &record)?;
            record.phase = Phase::Undoing;
            hands.turn_round(&record, &area.folder)?;
        }
        hands.unswap(&area, &record)
    }

    fn discard_now(&self, run: &RunId, what: Discard) -> Result<()> {
        let live = self.open()?;
        match (self.look(run)?, what) {
            (SwapState::Swapping, _) => Err(begun(&self.root, run)),
            (SwapState::Swapped, Discard::Staged) | (SwapState::Staged, Discard::Replaced) => {
                Ok(())
            }
            (SwapState::Nothing, _)
            | (SwapState::Staged, Discard::Staged)
            | (SwapState::Swapped, Discard::Replaced) => self.delete_folder(&live, run),
        }
    }

    /// Deletes the folder of a run. It first goes away as one, so that no half-deleted tree is
    /// ever taken for a staged one, or for a way back.
    fn delete_folder(&self, live: &Place, run: &RunId) -> Result<()> {
        let trash = format!("{}.trash", run.folder());
        let delete = || {
            let path = self.root.join(&trash);
            match std::fs::remove_dir_all(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::io(format!("delete {}", path.display()), e))
                }
                _ => Ok(()),
            }
        };
        delete()?;
        if live.has(Path::new(&run.folder()))? {
            live.rename(&run.folder(), &trash)?;
            live.sync()?;
            delete()?;
        }
        live.sync()
    }

    /// Looks which of the entries that the swap of a run made live are there.
    fn compare_now(&self, run: &RunId) -> Result<Compared> {
        let mut compared = Compared::default();
        let live = self.open()?;
        let Some(folder) = live.sub(run.folder())? else {
            return Ok(compared);
        };
        let Some(record) = Record::read(&folder)? else {
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

    fn run_folders_now(&self) -> Result<Vec<String>> {
        let failed = |e| Error::io(format!("look into {}", self.root.display()), e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(failed)? {
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string()
                && name.starts_with(FOLDER_PREFIX)
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

    fn leave_out_now(&self, run: &RunId, patterns: &[String]) -> Result<Vec<PathBuf>> {
        let keep = Keep::new(patterns)?;
        let live = self.open()?;
        let Some(folder) = live.sub(run.folder())? else {
            return Ok(Vec::new());
        };
        let area = Self::area(live, folder, run)?;
        let mut left_out = Vec::new();
        let mut open = vec![PathBuf::new()];
        while let Some(path) = open.pop() {
            for name in area.staged.names(&path)? {
                let child = path.join(name);
                if keep.holds(&child) {
                    Hands::default().leave_out(&area, &child)?;
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

#[async_trait]
impl Volume for LocalVolume {
    fn describe(&self) -> String {
        format!("directory {}", self.root.display())
    }

    fn path(&self) -> Option<PathBuf> {
        Some(self.root.clone())
    }

    async fn free_space(&self) -> Result<Space> {
        self.blocking(|volume| {
            let live = volume.open()?;
            let failed =
                |e: Errno| Error::io(format!("measure {}", volume.root.display()), e.into());
            let room = rustix::fs::fstatvfs(&live).map_err(failed)?;
            let device = rustix::fs::fstat(&live).map_err(failed)?.st_dev;
            Ok(Space::new(
                room.f_bavail.saturating_mul(room.f_frsize),
                // Some file systems make inodes as they need them and count none.
                if room.f_files == 0 {
                    u64::MAX
                } else {
                    room.f_favail
                },
                format!(
                    "device {}:{}",
                    rustix::fs::major(device),
                    rustix::fs::minor(device)
                ),
            ))
        })
        .await
    }

    async fn state(&self, run: &RunId) -> Result<SwapState> {
        let run = run.clone();
        self.blocking(move |volume| volume.look(&run)).await
    }

    async fn stage_dir(&self, run: &RunId) -> Result<PathBuf> {
        let run = run.clone();
        self.alone(move |volume| volume.make_staged(&run)).await
    }

    async fn unpack(
        &self,
        run: &RunId,
        source: Source,
        policy: &UnpackPolicy,
        progress: Progress,
    ) -> Result<Unpacked> {
        let target = self.stage_dir(run).await?;
        match crate::stream::unpack(source, &target, policy, progress).await {
            Ok(unpacked) => Ok(unpacked),
            Err(error) => {
                // The reason matters more than what becomes of the leftovers: a later discard
                // finds those.
                let _ = self.discard(run, Discard::Staged).await;
                Err(error)
            }
        }
    }

    async fn leave_out(&self, run: &RunId, patterns: &[String]) -> Result<Vec<PathBuf>> {
        let (run, patterns) = (run.clone(), patterns.to_vec());
        self.alone(move |volume| volume.leave_out_now(&run, &patterns))
            .await
    }

    async fn run_folders(&self) -> Result<Vec<String>> {
        self.blocking(Self::run_folders_now).await
    }

    async fn swap(&self, run: &RunId, scope: &SwapScope) -> Result<()> {
        let (run, scope) = (run.clone(), scope.clone());
        self.alone(move |volume| volume.swap_now(&run, &scope, &mut Hands::default()))
            .await
    }

    async fn unswap(&self, run: &RunId) -> Result<()> {
        let run = run.clone();
        self.alone(move |volume| volume.unswap_now(&run, &mut Hands::default()))
            .await
    }

    async fn discard(&self, run: &RunId, what: Discard) -> Result<()> {
        let run = run.clone();
        self.alone(move |volume| volume.discard_now(&run, what))
            .await
    }

    async fn compare(&self, run: &RunId) -> Result<Compared> {
        let run = run.clone();
        self.blocking(move |volume| volume.compare_now(&run)).await
    }

    fn replaced_at(&self, run: &RunId) -> String {
        self.folder(run).join(REPLACED).display().to_string()
    }
}
