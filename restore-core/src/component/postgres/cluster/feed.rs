//! How the scratch server gets at the log: from the archive itself where it can read it there,
//! else from copies beside its data.

use std::path::{Path, PathBuf};

use super::Cluster;
use super::scratch::own;
use crate::error::{Error, Result};
use crate::run::RunContext;
use crate::wal::{Archive, ArchivedFile, Chain, Packing};

/// Where copies lie, inside the staged tree.
pub(super) const COPIES: &str = ".restore-wal";

/// Whether the server can read the archive as it is: every file under its own name, in a place
/// that it sees.
pub(super) async fn direct(
    cluster: &Cluster,
    archive: &Archive,
    chain: &Chain,
) -> Result<Option<PathBuf>> {
    let plain = |file: &ArchivedFile| file.packing == Packing::Plain && !file.partial;
    if !chain.files.iter().all(|(_, file)| plain(file)) || !archive.histories.iter().all(plain) {
        return Ok(None);
    }
    cluster
        .platform
        .path_in(&cluster.config.service, &archive.root)
        .await
}

/// The command that fetches a file for the server, by what it is to be fetched from.
pub(super) fn command(place: &Path) -> String {
    let place = place.to_string_lossy().replace('\'', r"'\''");
    // The server reads % as its own.
    format!("cp '{}'/%f '%p'", place.replace('%', "%%"))
}

/// Copies what is needed into the staged tree, unpacked, under the names that the server asks
/// for.
pub(super) async fn copy(
    cx: &RunContext,
    (archive, chain): (&Archive, &Chain),
    staged: &Path,
    owner: Option<(u32, u32)>,
) -> Result<PathBuf> {
    let target = staged.join(COPIES);
    let mut files: Vec<(String, ArchivedFile)> = chain
        .files
        .iter()
        .map(|(name, file)| (name.file(chain.segment_size), file.clone()))
        .collect();
    for file in &archive.histories {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(stem) = name.split_inclusive(".history").next() {
            files.push((stem.to_owned(), file.clone()));
        }
    }
    let progress = cx.progress("copy WAL", Some(chain.bytes()));
    let (cancel, made) = (cx.cancelled().clone(), target.clone());
    tokio::task::spawn_blocking(move || {
        std::fs::create_dir(&made).map_err(|e| Error::io(format!("make {}", made.display()), e))?;
        own(&made, owner)?;
        for (name, file) in files {
            if cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            let path = made.join(name);
            let failed = |e| Error::io(format!("copy {} here", file.path.display()), e);
            let mut out = std::fs::File::create(&path).map_err(failed)?;
            let bytes = std::io::copy(&mut file.open()?, &mut out).map_err(failed)?;
            own(&path, owner)?;
            progress.add(bytes);
        }
        progress.finish();
        Ok(())
    })
    .await
    .unwrap_or_else(|e| {
        Err(Error::new(
            crate::ErrorKind::Internal,
            "cluster.task",
            format!("copying the log broke off: {e}"),
        ))
    })?;
    Ok(target)
}
