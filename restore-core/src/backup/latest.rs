//! Which backup `latest` means.

use std::sync::Arc;

use super::verification::Verdict;
use crate::contract::{Backup, BackupStore, Generation, Manifest};
use crate::model::{BackupId, ErrorKind, Result};

/// The newest finished backup that is not a safety backup; `None` where there is none.
///
/// An unfinished backup is passed over. One whose manifest is damaged is not: it was finished
/// once, and going back to an older one is for a person to decide, so opening it is left to say
/// what is wrong.
pub async fn latest(store: &dyn BackupStore) -> Result<Option<BackupId>> {
    let mut ids = store.list().await?;
    while let Some(id) = ids.pop() {
        if id.is_safety() {
            continue;
        }
        let files = match store.files(&id).await {
            Ok(files) => files,
            // Moved away since it was listed.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        match Manifest::of(store, &id, &files).await {
            Ok(None) => {}
            Ok(Some((manifest, _)))
                if Generation::of(Some(&manifest), &files) == Generation::Unfinished => {}
            Ok(_) => return Ok(Some(id)),
            Err(e) if e.kind() == ErrorKind::Verification => return Ok(Some(id)),
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// The newest backups of a store that hold what is wanted.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// The newest in whose listing nothing is wrong.
    pub(crate) sound: Option<BackupId>,
    /// The newest that a restore refuses by its listing, where it is newer than that one.
    pub(crate) damaged: Option<BackupId>,
}

/// The newest of these that is `wanted` by what it holds.
pub(crate) async fn latest_of(
    store: &Arc<dyn BackupStore>,
    mut wanted: impl FnMut(&Backup) -> bool + Send,
) -> Result<Newest> {
    let mut newest = Newest::default();
    let mut ids = store.list().await?;
    while let Some(id) = ids.pop() {
        if id.is_safety() {
            continue;
        }
        let backup = match Backup::open(store.clone(), id.clone()).await {
            Ok(backup) if backup.generation() == Generation::Unfinished => continue,
            Ok(backup) => backup,
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) if e.kind() == ErrorKind::Verification => {
                newest.damaged.get_or_insert(id);
                continue;
            }
            Err(e) => return Err(e),
        };
        if !wanted(&backup) {
            continue;
        }
        if backup.verify_listing().await?.verdict() == Verdict::Failed {
            newest.damaged.get_or_insert(id);
            continue;
        }
        newest.sound = Some(id);
        break;
    }
    Ok(newest)
}
