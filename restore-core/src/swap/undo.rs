//! Which entries an undo moves, found by looking at what became of those of the swap.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::SwapDirs;
use super::dir::{Dir, Entry};
use super::plan::{is_own, keep_of};
use super::record::{RelPath, SwapRecord, UndoMove, UndoTarget};
use super::scope::SwapScope;
use crate::archive::path_set::{PathSet, relative};
use crate::model::Result;

/// Looks at what became of a swap's entries, finished or not, and lists how each gets back.
pub(crate) fn plan_undo(area: &SwapDirs, record: &SwapRecord) -> Result<Vec<UndoMove>> {
    let keep = keep_of(&record.scope)?;
    let mut backs = Vec::new();
    let known: BTreeSet<&Path> = record
        .moves
        .iter()
        .map(|item| item.path.0.as_path())
        .chain(record.dirs.iter().map(|dir| dir.path.0.as_path()))
        .collect();
    for path in strays(area, record, &keep, &known)? {
        backs.push(UndoMove {
            away: Some(if area.staged.has(&path)? {
                UndoTarget::InTheWay
            } else {
                UndoTarget::Staged
            }),
            path: RelPath(path),
            restore: false,
            over: false,
        });
    }
    for item in record.moves.iter().rev() {
        let path = item.path.0.as_path();
        let live = below_directories(&area.live, path)?;
        let staged = area.staged.entry(path)?;
        let replaced = area.replaced.entry(path)?;
        let away = match (live, staged, replaced) {
            (Some(_), None, _) if item.staged || replaced.is_some() => Some(UndoTarget::Staged),
            // Linked to `replaced`, and not yet replaced: it is what was live.
            (Some(live), Some(_), Some(replaced)) if live.inode != replaced.inode => {
                Some(UndoTarget::InTheWay)
            }
            _ => None,
        };
        if away.is_some() || replaced.is_some() {
            backs.push(UndoMove {
                path: item.path.clone(),
                away,
                restore: replaced.is_some(),
                over: matches!((live, replaced), (Some(live), Some(replaced))
                    if !live.directory && !replaced.directory),
            });
        }
    }
    Ok(backs)
}

/// Live entries that were in neither tree when the swap began: made by a service since.
fn strays(
    area: &SwapDirs,
    record: &SwapRecord,
    keep: &PathSet,
    known: &BTreeSet<&Path>,
) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if let SwapScope::Entries(names) = &record.scope {
        for name in names {
            let path = relative(name)?;
            if !known.contains(path.as_path()) && area.live.has(&path)? {
                found.push(path);
            }
        }
    }
    for dir in record.dirs.iter().filter(|dir| dir.whole) {
        let path = dir.path.0.as_path();
        if !below_directories(&area.live, path)?.is_some_and(|entry| entry.directory) {
            continue;
        }
        for name in area.live.names(path)? {
            let child = path.join(name);
            let stays = known.contains(child.as_path())
                || is_own(&child)
                || child == Path::new("lost+found")
                || keep.holds(&child);
            if !stays {
                found.push(child);
            }
        }
    }
    Ok(found)
}

/// The live entry, where the directories above it are still directories; a service may have
/// put something else there.
pub(crate) fn below_directories(live: &Dir, path: &Path) -> Result<Option<Entry>> {
    let mut at = PathBuf::new();
    for name in path.parent().unwrap_or(Path::new("")).components() {
        at.push(name);
        if !live.entry(&at)?.is_some_and(|entry| entry.directory) {
            return Ok(None);
        }
    }
    live.entry(path)
}
