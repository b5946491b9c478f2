//! Whether what a swap put aside is still there.

use std::path::Path;

use super::record::{Move, SwapRecord};
use super::scope::Compared;
use super::undo::below_directories;
use super::{Dir, Found, LocalVolume, Phase, REPLACED, STAGED};
use crate::model::{Error, ErrorKind, Result, RunId};

impl LocalVolume {
    /// Looks which of the entries that the swap of a run put aside, or was about to, are there.
    pub(crate) fn kept_now(&self, run: &RunId) -> Result<Compared> {
        let mut compared = Compared::default();
        let live = self.open()?;
        let Some(Found { folder, record, .. }) = self.find(&live, run)? else {
            return Ok(compared);
        };
        let (staged, replaced) = (folder.sub(STAGED)?, folder.sub(REPLACED)?);
        let (swapped, gone) = lost(&record, &live, staged.as_ref(), replaced.as_ref())?;
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        compared.swapped = swapped;
        compared.present = swapped.saturating_sub(count(gone.len()));
        let shown = gone.iter().take(5);
        compared.gone = shown.map(|path| path.display().to_string()).collect();
        Ok(compared)
    }
}

/// How many entries were live when the swap began, and which of them are neither live nor put aside.
pub(super) fn lost<'a>(
    record: &'a SwapRecord,
    live: &Dir,
    staged: Option<&Dir>,
    replaced: Option<&Dir>,
) -> Result<(u64, Vec<&'a Path>)> {
    let has = |place: Option<&Dir>, path: &Path| place.map_or(Ok(false), |it| it.has(path));
    let mut all = 0_u64;
    let mut gone = Vec::new();
    match record.phase {
        // What is not put aside any more is back.
        Phase::Staged | Phase::Undoing => {}
        // Nobody but root can take single entries out of the folder yet: one that is nowhere was gone
        // before the swap came to it, deleted by whoever owns the volume.
        Phase::Swapping if replaced.is_some() => {}
        Phase::Swapping | Phase::Swapped => {
            for item in record.moves.iter().filter(|item| item.live) {
                all += 1;
                let path = item.path.0.as_path();
                let there = has(replaced, path)?
                    || (record.phase == Phase::Swapping && is_unmoved(item, live, staged)?);
                if !there {
                    gone.push(path);
                }
            }
        }
    }
    Ok((all, gone))
}

/// Whether a swap that was broken off had not come to an entry: what is to be live in its place is
/// still staged, or, where nothing is, the entry is live.
fn is_unmoved(item: &Move, live: &Dir, staged: Option<&Dir>) -> Result<bool> {
    let path = item.path.0.as_path();
    match (item.staged, staged) {
        (true, Some(staged)) => staged.has(path),
        (true, None) => Ok(false),
        (false, _) => Ok(below_directories(live, path)?.is_some()),
    }
}

/// The error of an undo that has nothing to move back.
pub(super) fn kept_gone(live: &Dir, all: u64, gone: &[&Path]) -> Error {
    let names: Vec<String> = gone
        .iter()
        .take(5)
        .map(|path| path.display().to_string())
        .collect();
    Error::new(
        ErrorKind::Failed,
        "volume.kept_gone",
        format!(
            "what the run replaced in {} is not all there: {} of {all} gone from where it was put: {}; nothing was moved",
            live.path().display(),
            gone.len(),
            names.join(", ")
        ),
    )
    .hint("somebody has deleted or moved them; put them back there")
}
