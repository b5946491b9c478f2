//! Whether what a swap put aside is still there.

use super::scope::Compared;
use super::{Found, LocalVolume, Phase, REPLACED};
use crate::model::{Result, RunId};

impl LocalVolume {
    /// Looks which of the entries that the swap of a run put aside are there. Of a swap that is not
    /// finished each entry is in one of two places, of which its own undo knows better.
    pub(crate) fn kept_now(&self, run: &RunId) -> Result<Compared> {
        let mut compared = Compared::default();
        let Some(Found { folder, record, .. }) = self.find(&self.open()?, run)? else {
            return Ok(compared);
        };
        if record.phase != Phase::Swapped {
            return Ok(compared);
        }
        let replaced = folder.sub(REPLACED)?;
        for item in record.moves.iter().filter(|item| item.live) {
            compared.swapped += 1;
            let there = match &replaced {
                Some(replaced) => replaced.has(&item.path.0)?,
                None => false,
            };
            if there {
                compared.present += 1;
            } else if compared.gone.len() < 5 {
                compared.gone.push(item.path.0.display().to_string());
            }
        }
        Ok(compared)
    }
}
