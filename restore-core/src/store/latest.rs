//! Which backup `latest` means.

use super::BackupStore;
use crate::backup::{BackupId, Generation, Manifest};
use crate::error::{ErrorKind, Result};

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
        if !files.iter().any(|file| file.path == Manifest::FILE_NAME) {
            continue;
        }
        match Manifest::read(store, &id).await {
            Ok(manifest) if Generation::of(Some(&manifest), &files) == Generation::Unfinished => {}
            Ok(_) => return Ok(Some(id)),
            Err(e) if e.kind() == ErrorKind::Verification => return Ok(Some(id)),
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}
