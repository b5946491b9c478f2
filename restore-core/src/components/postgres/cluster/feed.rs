//! How the scratch server gets at the log: from the archive itself where it can read it there,
//! else from copies beside its data.

use std::path::{Path, PathBuf};

use super::Cluster;
use crate::components::postgres::wal::{Archive, ArchivedFile, Chain, Packing};
use crate::contract::RunContext;
use crate::model::{Error, ErrorKind, Result};
use crate::swap::Dir;

/// Where copies or links lie, inside the staged tree.
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

/// What the server may ask for, by the names that it asks for.
struct Files {
    segments: Vec<(String, ArchivedFile)>,
    histories: Vec<(String, ArchivedFile)>,
    /// Histories that only the live server has as yet.
    texts: Vec<(String, String)>,
}

impl Files {
    fn of(archive: &Archive, chain: &Chain) -> Self {
        let segments = chain.files.iter();
        let histories = archive.histories.iter().filter_map(|file| {
            let name = file.path.file_name()?.to_str()?;
            let name = name.split_inclusive(".history").next()?;
            Some((name.to_owned(), file.clone()))
        });
        let histories: Vec<_> = histories.collect();
        let texts = archive
            .timelines
            .ids()
            .map(|id| (format!("{id:08X}.history"), archive.timelines.text(id)))
            .filter(|(name, _)| !histories.iter().any(|(archived, _)| archived == name))
            .collect();
        Self {
            segments: segments
                .map(|(name, file)| (name.file(chain.segment_size), file.clone()))
                .collect(),
            histories,
            texts,
        }
    }

    /// Makes the folder, and writes what no file has.
    fn begin(&self, staged: &Dir, owner: Option<(u32, u32)>) -> Result<Dir> {
        let folder = staged.make_new(COPIES)?;
        for (name, text) in &self.texts {
            folder.put(name, text.as_bytes(), 0o600, owner)?;
        }
        // Whoever reads there changes nothing there.
        staged.give(COPIES, None, 0o711, 1)?;
        Ok(folder)
    }
}

/// Links what is needed into the staged tree: the server gets that and nothing else, whatever lies
/// in the archive besides. A segment that is being copied there has not its size yet, and those of
/// timelines that were left behind are not on the way.
pub(super) fn link(
    place: &Path,
    (archive, chain): (&Archive, &Chain),
    staged: &Dir,
    owner: Option<(u32, u32)>,
) -> Result<PathBuf> {
    let files = Files::of(archive, chain);
    let target = files.begin(staged, owner)?;
    for (name, file) in files.segments.iter().chain(&files.histories) {
        target.symlink(name, &place.join(file.path.file_name().unwrap_or_default()))?;
    }
    Ok(target.path().to_owned())
}

/// Copies what is needed into the staged tree, unpacked, under the names that the server asks
/// for.
pub(super) async fn copy(
    cx: &RunContext,
    (archive, chain): (&Archive, &Chain),
    staged: &Dir,
    owner: Option<(u32, u32)>,
) -> Result<PathBuf> {
    let target = staged.path().join(COPIES);
    let files = Files::of(archive, chain);
    let size = chain.segment_size;
    let progress = cx.progress("copy WAL", Some(chain.bytes()));
    let (cancel, staged) = (cx.cancelled().clone(), staged.again()?);
    tokio::task::spawn_blocking(move || {
        let made = files.begin(&staged, owner)?;
        let segments = files.segments.iter().map(|it| (it, Some(size)));
        let histories = files.histories.iter().map(|it| (it, None));
        for ((name, file), size) in segments.chain(histories) {
            if cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            let failed = |e| Error::io(format!("copy {} here", file.path.display()), e);
            let mut out = made.create(name)?;
            // One that is packed may unpack to anything.
            let most = size.unwrap_or(HISTORY);
            let mut content = std::io::Read::take(file.open()?, most.saturating_add(1));
            let bytes = match std::io::copy(&mut content, &mut out) {
                Ok(bytes) if bytes > most => {
                    return Err(damaged(file, &format!("holds more than {most} bytes")));
                }
                Ok(bytes) => bytes,
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Err(damaged(file, "breaks off"));
                }
                Err(e) => return Err(failed(e)),
            };
            if size.is_some_and(|size| size != bytes && !file.partial) {
                return Err(damaged(file, &format!("holds {bytes} bytes only")));
            }
            made.give(name, owner, 0o600, 1)?;
            progress.add(bytes);
        }
        progress.finish();
        Ok(())
    })
    .await
    .unwrap_or_else(|e| {
        Err(Error::new(
            ErrorKind::Internal,
            "cluster.task",
            format!("copying the log broke off: {e}"),
        ))
    })?;
    Ok(target)
}

/// No history of timelines is nearly as large.
const HISTORY: u64 = 1 << 20;

/// A server would take it for the end of all.
fn damaged(file: &ArchivedFile, what: &str) -> Error {
    Error::new(
        ErrorKind::Verification,
        "wal.damaged",
        format!("{} {what}: it is no whole segment", file.path.display()),
    )
    .hint("it was cut, or is being copied right now: copy it again from where it is whole, or try again in a moment")
}
