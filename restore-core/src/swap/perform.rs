//! Making the moves of a list, and taking them back. Every function here may be killed at any
//! point and called again.

use std::path::{Path, PathBuf};

use super::record::{Move, SwapRecord, UndoMove, UndoTarget};
use super::undo::below_directories;
use super::{Dir, Phase, REPLACED, RESERVE, SwapDirs};
use crate::model::Result;

/// What makes the changes. In tests it stops after so many of them, as a kill would.
#[derive(Debug, Default)]
pub(crate) struct SwapExecutor {
    #[cfg(test)]
    pub(crate) left: Option<u64>,
}

impl SwapExecutor {
    /// Called before each change.
    #[cfg_attr(
        not(test),
        expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests count")
    )]
    fn change(&mut self) -> Result<()> {
        #[cfg(test)]
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or_else(|| {
                crate::model::Error::new(crate::model::ErrorKind::Internal, "test.killed", "killed")
            })?;
        }
        Ok(())
    }

    /// Makes all moves of the list that are not made, and writes down that they are.
    pub(crate) fn swap(&mut self, area: &SwapDirs, record: &mut SwapRecord) -> Result<()> {
        for item in &mut record.moves {
            self.forth(area, item)?;
        }
        // Times last: each move above changed those of the directories around it.
        for dir in record.dirs.iter().rev() {
            if let Some(new) = &dir.new {
                self.change()?;
                area.live.set_meta(&dir.path.0, new, dir.new_acl.as_ref())?;
            }
        }
        area.live.sync()?;
        area.staged.sync()?;
        area.replaced.sync()?;
        record.phase = Phase::Swapped;
        self.change()?;
        area.ledger.write(record)
    }

    /// Writes a swap's list down, before the first of its moves, and sets room aside for its
    /// undo: for the list, and for the directories that it may have to make.
    pub(crate) fn begin(&mut self, record: &SwapRecord, area: &SwapDirs) -> Result<()> {
        const DIRECTORIES: usize = 256 * 1024;
        self.change()?;
        area.ledger.reserve(record)?;
        area.folder.write(RESERVE, &vec![0; DIRECTORIES])?;
        self.change()?;
        area.ledger.write(record)
    }

    /// Writes an undo's list down, before the first of its moves.
    pub(crate) fn turn_round(&mut self, record: &SwapRecord, area: &SwapDirs) -> Result<()> {
        self.change()?;
        area.ledger.release()?;
        area.folder.unlink(Path::new(RESERVE))?;
        self.change()?;
        area.ledger.write(record)
    }

    fn forth(&mut self, area: &SwapDirs, item: &mut Move) -> Result<()> {
        let path = item.path.0.as_path();
        // Once the staged entry has left its place, what is live is that one.
        let pending = !item.staged || area.staged.has(path)?;
        if item.live && pending && !area.replaced.has(path)? && area.live.has(path)? {
            self.make_parent(&area.replaced, path)?;
            self.change()?;
            if !(item.over && area.live.link_to(&area.replaced, path)?) {
                area.live.move_to(&area.replaced, path)?;
            }
        }
        if item.staged && area.staged.has(path)? {
            self.change()?;
            if item.over {
                area.staged.move_over(&area.live, path)?;
            } else {
                area.staged.move_to(&area.live, path)?;
            }
        }
        // Its owner deleted it before the swap came to it: there is nothing to move back.
        item.live = item.live && area.replaced.has(path)?;
        Ok(())
    }

    /// Makes all moves of the undo's list that are not made, and writes down that they are: what
    /// was live is live, and the rest is staged.
    pub(crate) fn unswap(&mut self, area: &SwapDirs, record: &mut SwapRecord) -> Result<()> {
        for dir in &record.dirs {
            self.have_directory(area, &dir.path.0)?;
        }
        for back in &record.undo {
            self.back(area, back)?;
        }
        for dir in record.dirs.iter().rev() {
            self.change()?;
            area.live
                .set_meta(&dir.path.0, &dir.old, dir.old_acl.as_ref())?;
            if let Some(new) = &dir.new {
                self.change()?;
                area.staged.make_directories(&dir.path.0)?;
                area.staged
                    .set_meta(&dir.path.0, new, dir.new_acl.as_ref())?;
            }
        }
        area.live.sync()?;
        area.staged.sync()?;
        area.in_the_way.sync()?;
        self.change()?;
        // Fails where something is left in it: then the undo is not what it claims to be.
        area.folder.remove_empty_tree(Path::new(REPLACED))?;
        area.folder.sync()?;
        self.change()?;
        record.is_back();
        area.ledger.write(record)
    }

    /// A directory that stayed must be there to take its entries back; a service may have
    /// removed it, or put something else in its place.
    fn have_directory(&mut self, area: &SwapDirs, path: &Path) -> Result<()> {
        match below_directories(&area.live, path)? {
            Some(entry) if entry.directory => return Ok(()),
            Some(_) => self.clear_the_way(area, path)?,
            None => {}
        }
        self.change()?;
        area.live.make_directories(path)
    }

    fn back(&mut self, area: &SwapDirs, back: &UndoMove) -> Result<()> {
        let path = back.path.0.as_path();
        if let Some(away) = back.away {
            let to = match away {
                UndoTarget::Staged => &area.staged,
                UndoTarget::InTheWay => &area.in_the_way,
            };
            if !to.has(path)? && area.live.has(path)? {
                self.make_parent(to, path)?;
                self.change()?;
                if !(back.over && area.live.link_to(to, path)?) {
                    area.live.move_to(to, path)?;
                }
            }
        }
        if back.restore && area.replaced.has(path)? {
            self.change()?;
            if back.over {
                area.replaced.move_over(&area.live, path)?;
                // Two names of one file: such a rename does nothing and says nothing.
                if area.replaced.has(path)? {
                    self.change()?;
                    area.replaced.unlink(path)?;
                }
            } else {
                area.replaced.move_to(&area.live, path)?;
            }
        }
        Ok(())
    }

    /// Moves a staged entry out of the way.
    pub(crate) fn leave_out(&mut self, area: &SwapDirs, path: &Path) -> Result<()> {
        self.make_parent(&area.left_out, path)?;
        self.change()?;
        area.staged.move_to(&area.left_out, path)
    }

    fn clear_the_way(&mut self, area: &SwapDirs, path: &Path) -> Result<()> {
        self.make_parent(&area.in_the_way, path)?;
        self.change()?;
        area.live.move_to(&area.in_the_way, path)
    }

    fn make_parent(&mut self, place: &Dir, path: &Path) -> Result<()> {
        let parent = path.parent().map(PathBuf::from).unwrap_or_default();
        if !parent.as_os_str().is_empty() && !place.has(&parent)? {
            self.change()?;
            place.make_directories(&parent)?;
        }
        Ok(())
    }
}
