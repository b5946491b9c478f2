//! The staging folder of a run, held open while it is worked in.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Uid};

use super::{Dir, STAGED};
use crate::model::{Error, ErrorKind, Result, RunId};

/// The staging folder of a run and the folder of the run around it, held open: whatever is done
/// meanwhile to the names that lead there, it is the directory that was made.
#[derive(Debug)]
pub struct StagingDir {
    folder: OwnedFd,
    staged: OwnedFd,
    path: PathBuf,
}

impl StagingDir {
    pub(crate) fn of(folder: Dir, staged: Dir) -> Self {
        let path = staged.path().to_owned();
        Self {
            folder: folder.into_fd(),
            staged: staged.into_fd(),
            path,
        }
    }

    /// Opens the staging folder of `run` in the volume at `root`, just made by
    /// [`Volume::stage_dir`](crate::platform::Volume::stage_dir). It must be ours, or the
    /// volume's owner's, who is then us.
    pub(crate) fn open(root: &Path, run: &RunId) -> Result<Self> {
        let live = crate::sys::open_directory(root, true)?
            .map_err(|e| Error::io(format!("open {}", root.display()), e.into()))?;
        let live = Dir::of(live, root.to_owned());
        let missing = || {
            Error::new(
                ErrorKind::Failed,
                "volume.nothing_staged",
                format!("{} has nothing staged of run {run}", root.display()),
            )
            .hint("stage again; nothing was moved")
        };
        let folder = live.there(run.folder())?.ok_or_else(missing)?;
        if !folder.is_ours()? {
            return Err(super::not_ours(&live, &run.folder()));
        }
        let staged = folder.there(STAGED)?.ok_or_else(missing)?;
        Ok(Self::of(folder, staged))
    }

    /// Where it is, for messages and for programs of other users: names may lead elsewhere by now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path by which this process, and none of its children, reaches it for as long as this value
    /// lives. What is below it is only as safe as whoever can write there.
    pub fn here(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.staged.as_raw_fd()))
    }

    /// A descriptor of it.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.staged.as_fd()
    }

    /// A descriptor of its own.
    pub(crate) fn dup(&self) -> Result<OwnedFd> {
        self.staged
            .try_clone()
            .map_err(|e| Error::io(format!("open {}", self.path.display()), e))
    }

    /// Lets other users into the folder of the run, where they can list and change nothing, and
    /// gives the staging folder itself to `owner`, with `mode`.
    pub(crate) fn let_in(&self, owner: Option<(u32, u32)>, mode: u32) -> Result<()> {
        self.give(owner, mode)?;
        self.through()
    }

    /// Lets other users pass through both folders, in neither of which they can list or change
    /// anything.
    pub(crate) fn let_through(&self) -> Result<()> {
        let own = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        self.give(Some(own), 0o711)?;
        self.through()
    }

    fn give(&self, owner: Option<(u32, u32)>, mode: u32) -> Result<()> {
        let given = || {
            if let Some((uid, gid)) = owner {
                let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                rustix::fs::fchown(&self.staged, Some(uid), Some(gid))?;
            }
            rustix::fs::fchmod(&self.staged, Mode::from_raw_mode(mode))
        };
        given().map_err(|e| Error::io(format!("give {} its owner", self.path.display()), e.into()))
    }

    fn through(&self) -> Result<()> {
        rustix::fs::fchmod(&self.folder, Mode::from_raw_mode(0o711))
            .map_err(|e| Error::io(format!("let others into {}", self.path.display()), e.into()))
    }

    /// The permissions of the staging folder: those of the volume.
    pub(crate) fn mode(&self) -> Result<u32> {
        let stat = rustix::fs::fstat(&self.staged)
            .map_err(|e| Error::io(format!("look at {}", self.path.display()), e.into()))?;
        Ok(stat.st_mode & 0o7777)
    }

    /// The folder of the run.
    pub(crate) fn folder(&self) -> Result<Dir> {
        let path = self.path.parent().unwrap_or(Path::new("/")).to_owned();
        let folder = self
            .folder
            .try_clone()
            .map_err(|e| Error::io(format!("open {}", path.display()), e))?;
        Ok(Dir::of(folder, path))
    }

    /// Lets nobody else pass any more.
    pub(crate) fn shut(&self) -> Result<()> {
        rustix::fs::fchmod(&self.folder, Mode::RWXU)
            .map_err(|e| Error::io(format!("shut {}", self.path.display()), e.into()))
    }

    /// It as a place to work in.
    pub(crate) fn place(&self) -> Result<Dir> {
        Ok(Dir::of(self.dup()?, self.path.clone()))
    }
}
