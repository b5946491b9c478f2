//! A backup to try a component with.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::archive::Compression;
use crate::contract::Backup;
use crate::contract::backup::NewBackup;
use crate::model::{BackupId, Error, ErrorKind, NoEvents, Result, RunId};
use crate::stores::directory::DirectoryStore;

/// The id of every backup that [`backup`] makes.
const ID: &str = "20240215-020000";

/// Writes a finished backup of these files, with its manifest, in a folder of its own below the
/// directory `root`, and opens it. `{id}` in a path becomes the backup's id.
///
/// # Errors
///
/// Where it cannot be written.
pub async fn backup(root: &Path, files: &[(&str, &[u8])]) -> Result<Backup> {
    let folder = root.join(format!("backups-{}", RunId::generate()));
    std::fs::create_dir_all(&folder)
        .map_err(|e| Error::io(format!("create {}", folder.display()), e))?;
    let (store, id): (_, BackupId) = (Arc::new(DirectoryStore::new(folder)), ID.parse()?);
    let new = NewBackup::begin(
        store.as_ref(),
        id.clone(),
        Compression::None,
        Arc::new(NoEvents),
        CancellationToken::new(),
    )
    .await?;
    for (path, content) in files {
        let path = path.replace("{id}", id.as_str());
        new.writer("").text(&path, content.to_vec()).await?;
    }
    new.publish(&new.manifest(Vec::new())?).await?;
    Backup::open(store, id).await
}

/// Changes a byte of one of a backup's files, so that its hash no longer fits: what
/// [`changed_backup`](super::ComponentUnderTest::changed_backup) is about.
///
/// # Errors
///
/// Where this host has no such file, or it is empty.
pub fn change(backup: &Backup, path: &str) -> Result<()> {
    let path = path.replace("{id}", backup.id().as_str());
    let Some(file) = backup.local_path(&path) else {
        return Err(Error::new(
            ErrorKind::NotFound,
            "conformance.no_file",
            format!("backup {} has no file {path} on this host", backup.id()),
        )
        .hint("name a file as the backup does"));
    };
    let flip = || {
        let mut file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&file)?;
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        file.seek(SeekFrom::End(-1))?;
        file.write_all(&[last[0] ^ 1])
    };
    flip().map_err(|e| Error::io(format!("change {}", file.display()), e))
}
