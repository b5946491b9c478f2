//! Which entries a swap moves, found by comparing the live and the staged tree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::dir::{Dir, Entry};
use super::mounts::{mounted, refuse_mounts};
use super::record::{DirRecord, Move, RelPath};
use super::scope::SwapScope;
use super::{SwapDirs, SwapExecutor};
use crate::archive::path_set::{PathSet, relative};
use crate::model::{Error, ErrorKind, Result, RunId};

/// Compares the trees and lists the moves. Nothing live changes; staged entries that the scope
/// leaves out are moved aside.
pub(crate) fn plan(
    area: &SwapDirs,
    scope: &SwapScope,
    hands: &mut SwapExecutor,
) -> Result<(Vec<DirRecord>, Vec<Move>)> {
    let mut planner = Planner::new(area, scope)?;
    refuse_mounts(&area.live, scope, |path| planner.kept(path))?;
    let root = Path::new("");
    match scope {
        SwapScope::Everything => {
            planner.note_directory(root, true)?;
            for path in planner.children(root)? {
                if planner.kept(&path) {
                    planner.leave_out(&path, hands)?;
                } else {
                    planner.exchange(&path)?;
                }
            }
        }
        SwapScope::Entries(names) => {
            planner.note_live_directory(root)?;
            for name in names {
                let path = relative(name)?;
                if path.components().count() != 1 || planner.kept(&path) {
                    return Err(Error::new(
                        ErrorKind::Internal,
                        "swap.bad_entry",
                        format!("{name:?} is not an entry of a volume that can be swapped"),
                    ));
                }
                planner.exchange(&path)?;
            }
        }
        SwapScope::Tree { .. } => {
            planner.leave_kept_out(root, hands)?;
            planner.merge(root)?;
        }
        SwapScope::Paths { paths, .. } => {
            let paths = planner.check_paths(paths)?;
            planner.leave_others_out(&paths, hands)?;
            let mut seen = BTreeSet::new();
            for path in paths {
                planner.leave_kept_out(&path, hands)?;
                let top = planner.topmost_missing(&path)?;
                if seen.insert(top.clone()) {
                    planner.note_way_to(&top)?;
                    planner.visit(&top)?;
                }
            }
        }
    }
    Ok((planner.dirs, planner.moves))
}

struct Planner<'a> {
    area: &'a SwapDirs,
    keep: PathSet,
    /// The device that everything must be on.
    device: u64,
    /// Whether names of a mount's own (`lost+found`) are at the top.
    mount_root: bool,
    dirs: Vec<DirRecord>,
    moves: Vec<Move>,
}

impl<'a> Planner<'a> {
    fn new(area: &'a SwapDirs, scope: &SwapScope) -> Result<Self> {
        let device = entry_of(&area.live, Path::new(""))?.device;
        let above = rustix::fs::statat(&area.live, "..", rustix::fs::AtFlags::empty())
            .map(|stat| stat.st_dev)
            .unwrap_or(device);
        Ok(Self {
            area,
            keep: keep_of(scope)?,
            device,
            mount_root: above != device,
            dirs: Vec::new(),
            moves: Vec::new(),
        })
    }

    /// Whether the entry stays, on both sides.
    fn kept(&self, path: &Path) -> bool {
        is_own(path)
            || (self.mount_root && path == Path::new("lost+found"))
            || self.keep.holds(path)
    }

    fn children(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let mut names = self.area.live.names(path)?;
        names.extend(self.area.staged.names(path)?);
        Ok(names.into_iter().map(|name| path.join(name)).collect())
    }

    fn live(&self, path: &Path) -> Result<Option<Entry>> {
        let entry = self.area.live.entry(path)?;
        if entry.is_some_and(|entry| entry.device != self.device) {
            return Err(mounted(&self.area.live.path().join(path)));
        }
        Ok(entry)
    }

    /// A directory that both trees have: it stays, with the staged one's owner and mode.
    fn note_directory(&mut self, path: &Path, whole: bool) -> Result<()> {
        let new = self.area.staged.entry(path)?.map(|entry| entry.meta);
        let new_acl = match new {
            Some(_) => Some(self.area.staged.acl(path)?),
            None => None,
        };
        self.dirs.push(DirRecord {
            path: RelPath(path.to_owned()),
            old: entry_of(&self.area.live, path)?.meta,
            new,
            whole,
            old_acl: Some(self.area.live.acl(path)?),
            new_acl,
        });
        Ok(())
    }

    /// A live directory that stays as it is.
    fn note_live_directory(&mut self, path: &Path) -> Result<()> {
        self.dirs.push(DirRecord {
            path: RelPath(path.to_owned()),
            old: entry_of(&self.area.live, path)?.meta,
            new: None,
            whole: false,
            old_acl: Some(self.area.live.acl(path)?),
            new_acl: None,
        });
        Ok(())
    }

    /// The live directories above a path, which stay as they are.
    fn note_way_to(&mut self, path: &Path) -> Result<()> {
        let mut way: Vec<&Path> = path.ancestors().skip(1).collect();
        way.reverse();
        for directory in way {
            if !self.dirs.iter().any(|dir| dir.path.0 == directory) {
                self.note_live_directory(directory)?;
            }
        }
        Ok(())
    }

    /// Swaps an entry as one, whatever it is.
    fn exchange(&mut self, path: &Path) -> Result<()> {
        let live = self.live(path)?;
        let staged = self.area.staged.entry(path)?;
        if live.is_some() || staged.is_some() {
            self.moves.push(Move {
                path: RelPath(path.to_owned()),
                live: live.is_some(),
                staged: staged.is_some(),
                directory: staged.is_some_and(|staged| staged.directory),
                over: matches!((live, staged), (Some(live), Some(staged))
                    if !live.directory && !staged.directory),
            });
        }
        Ok(())
    }

    /// Swaps the entries of a directory that both trees have, one by one.
    fn merge(&mut self, top: &Path) -> Result<()> {
        let mut open = vec![top.to_owned()];
        while let Some(path) = open.pop() {
            let staged = self.area.staged.has(&path)?;
            if staged {
                self.note_directory(&path, true)?;
            } else {
                self.dirs.push(DirRecord {
                    path: RelPath(path.clone()),
                    old: entry_of(&self.area.live, &path)?.meta,
                    new: None,
                    whole: true,
                    old_acl: Some(self.area.live.acl(&path)?),
                    new_acl: None,
                });
            }
            for child in self.children(&path)? {
                if self.kept(&child) {
                    continue;
                }
                if self.stays(&child)? {
                    open.push(child);
                } else {
                    self.exchange(&child)?;
                }
            }
        }
        Ok(())
    }

    /// Swaps one path, which both trees, or only one of them, may have.
    fn visit(&mut self, path: &Path) -> Result<()> {
        if self.stays(path)? {
            self.merge(path)
        } else {
            self.exchange(path)
        }
    }

    /// Whether the live entry stays and only its content is swapped: a directory in both trees,
    /// or a live one that holds something kept.
    fn stays(&self, path: &Path) -> Result<bool> {
        let Some(live) = self.live(path)? else {
            return Ok(false);
        };
        if !live.directory {
            return Ok(false);
        }
        let staged = self.area.staged.entry(path)?;
        if staged.is_some_and(|staged| staged.directory) {
            return Ok(true);
        }
        let holds = self.kept_below(path)?;
        match (holds, staged) {
            (Some(kept), Some(_)) => Err(Error::new(
                ErrorKind::Preflight,
                "swap.kept_in_the_way",
                format!(
                    "{} is a directory that holds {}, which stays, but the backup has a file of that name",
                    self.area.live.show(path),
                    kept.display(),
                ),
            )
            .hint("move the directory away by hand, or exclude the path")),
            (holds, _) => Ok(holds.is_some()),
        }
    }

    fn kept_below(&self, top: &Path) -> Result<Option<PathBuf>> {
        if !self.keep.has_anywhere() && !self.keep.may_hold_below(top) {
            return Ok(None);
        }
        let mut open = vec![top.to_owned()];
        while let Some(path) = open.pop() {
            for name in self.area.live.names(&path)? {
                let child = path.join(name);
                if self.keep.holds(&child) {
                    return Ok(Some(child));
                }
                if self.live(&child)?.is_some_and(|entry| entry.directory) {
                    open.push(child);
                }
            }
        }
        Ok(None)
    }

    /// Moves a staged entry aside.
    fn leave_out(&self, path: &Path, hands: &mut SwapExecutor) -> Result<()> {
        if self.area.staged.has(path)? {
            hands.leave_out(self.area, path)?;
        }
        Ok(())
    }

    /// Moves aside what is kept at or below a staged path.
    fn leave_kept_out(&self, top: &Path, hands: &mut SwapExecutor) -> Result<()> {
        if !self
            .area
            .staged
            .entry(top)?
            .is_some_and(|entry| entry.directory)
        {
            return Ok(());
        }
        let mut open = vec![top.to_owned()];
        while let Some(path) = open.pop() {
            for name in self.area.staged.names(&path)? {
                let child = path.join(name);
                if self.kept(&child) {
                    self.leave_out(&child, hands)?;
                } else if self
                    .area
                    .staged
                    .entry(&child)?
                    .is_some_and(|entry| entry.directory)
                {
                    open.push(child);
                }
            }
        }
        Ok(())
    }

    /// The paths without those below others; errors for ones that neither tree has.
    fn check_paths(&self, paths: &[String]) -> Result<Vec<PathBuf>> {
        let mut checked: Vec<PathBuf> = Vec::new();
        let mut all = paths
            .iter()
            .map(|path| relative(path))
            .collect::<Result<Vec<_>>>()?;
        all.sort();
        for path in all {
            if checked.iter().any(|above| path.starts_with(above)) {
                continue;
            }
            if self.kept(&path) {
                return Err(Error::new(
                    ErrorKind::Config,
                    "swap.path_kept",
                    format!("{} is never restored", path.display()),
                )
                .hint("the component's configuration keeps it as it is; leave that path out"));
            }
            if !self.area.staged.has(&path)? && self.live(&path)?.is_none() {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "swap.path_missing",
                    format!(
                        "{} is neither in the backup nor below {}",
                        path.display(),
                        self.area.live.path().display()
                    ),
                )
                .hint("name it as the archive does: `tar -tzf` lists its members"));
            }
            checked.push(path);
        }
        Ok(checked)
    }

    /// Moves aside every staged entry that is neither on the way to one of the paths nor at or
    /// below it.
    fn leave_others_out(&self, paths: &[PathBuf], hands: &mut SwapExecutor) -> Result<()> {
        let mut open = vec![PathBuf::new()];
        while let Some(path) = open.pop() {
            for name in self.area.staged.names(&path)? {
                let child = path.join(name);
                if paths.iter().any(|path| child.starts_with(path)) {
                    continue;
                }
                if paths.iter().any(|path| path.starts_with(&child)) {
                    open.push(child);
                } else {
                    self.leave_out(&child, hands)?;
                }
            }
        }
        Ok(())
    }

    /// The path, or the topmost directory above it that the live tree lacks and that therefore
    /// comes with it.
    fn topmost_missing(&self, path: &Path) -> Result<PathBuf> {
        let mut at = PathBuf::new();
        for name in path.components() {
            at.push(name);
            if self.live(&at)?.is_none() {
                break;
            }
        }
        Ok(at)
    }
}

fn entry_of(place: &Dir, path: &Path) -> Result<Entry> {
    place.entry(path)?.ok_or_else(|| {
        Error::new(
            ErrorKind::Failed,
            "swap.vanished",
            format!("{} vanished while it was looked at", place.show(path)),
        )
        .hint("something else works on the tree: stop it and try again")
        .retryable()
    })
}

pub(super) fn keep_of(scope: &SwapScope) -> Result<PathSet> {
    match scope {
        SwapScope::Everything | SwapScope::Entries(_) => Ok(PathSet::default()),
        SwapScope::Tree { keep } | SwapScope::Paths { keep, .. } => PathSet::new(
            keep.iter()
                .cloned()
                .chain([format!("**/{}", crate::model::FILE_NAME)]),
        ),
    }
}

/// Whether it is the folder of a run.
pub(super) fn is_own(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    path.parent() == Some(Path::new("")) && RunId::of_folder(path.as_os_str().as_bytes()).is_some()
}
