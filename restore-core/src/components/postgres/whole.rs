//! Whether dumps are whole that pg_restore does not read to their end: it takes what there is of a cut
//! archive in the tar format, and of a cut file in the directory format, for all that there was; some cut
//! archives it reads for ever.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::content::{Content, Format, Pieces, UnknownFormat};
use super::tools::Input;
use crate::contract::backup::tar_dump::{self, Rows, TarDump, cut_rows, rows_file};
use crate::model::{Error, ErrorKind, Result};

/// How many dumps are remembered.
const REMEMBERED: usize = 100;

/// Which file it is, and when it was changed last.
type State = [i64; 5];

/// Dumps that were found to be whole: all of a compressed one is read for that, and a run plans twice before it
/// stages it.
#[derive(Default)]
pub(super) struct WholeDumps(Mutex<BTreeSet<State>>);

impl WholeDumps {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, state: State) {
        let mut known = self.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(state);
    }
}

/// `None` where it cannot be opened.
fn state_of(input: &Input) -> Option<State> {
    let meta = input.open().and_then(|file| file.metadata()).ok()?;
    Some([
        meta.dev().cast_signed(),
        meta.ino().cast_signed(),
        meta.size().cast_signed(),
        meta.ctime(),
        meta.ctime_nsec(),
    ])
}

/// Refuses an archive in the tar format that is cut, before any program reads it; `label` is what people
/// call it. One that is `known` to be whole, and is the same file still, is not read again.
pub(super) async fn check(
    input: &Input,
    content: Content,
    label: &str,
    known: &WholeDumps,
    cancel: &CancellationToken,
) -> Result<()> {
    if content.format != Format::Tar {
        return Ok(());
    }
    let state = state_of(input);
    if state.is_some_and(|state| known.lock().contains(&state)) {
        return Ok(());
    }
    read_through(input, content, label, cancel).await?;
    if let Some(state) = state {
        known.note(state);
    }
    Ok(())
}

async fn read_through(
    input: &Input,
    content: Content,
    label: &str,
    cancel: &CancellationToken,
) -> Result<()> {
    let told = match content.packed {
        true => {
            let mut pieces = input.pieces()?;
            let mut archive = TarDump::default();
            while let Some(piece) = pieces.next().await? {
                if cancel.is_cancelled() {
                    return Err(Error::interrupted());
                }
                archive.feed(piece);
            }
            archive.finish()
        }
        false => {
            let failed = |e| Error::io(format!("read {label}"), e);
            let mut file = input.open().map_err(failed)?;
            let stop = cancel.clone();
            let read = blocking(move || tar_dump::check(&mut file, || stop.is_cancelled())).await?;
            if cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            read.map_err(failed)?
        }
    };
    told.map_err(|why| cut(label, &why))
}

/// Refuses a folder in which the rows of a table are cut, or a compressed large object is. All of what is
/// compressed is read; `label` is what people call the folder.
pub(super) async fn check_folder(
    folder: &Path,
    label: &str,
    cancel: &CancellationToken,
) -> Result<()> {
    let within = folder.to_owned();
    let files = blocking(move || data_files(&within)).await?;
    let failed = |path: &Path, e| Error::io(format!("read {}", path.display()), e);
    for (path, name) in files.map_err(|e| failed(folder, e))? {
        if cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        let mut file = crate::sys::open_to_read(&path).map_err(|e| failed(&path, e))?;
        let whole = match rows_file(&name) {
            Some("") => blocking(move || tar_dump::check_rows(&mut file))
                .await?
                .map_err(|e| failed(&path, e))?,
            packed => {
                let some = file.metadata().map_err(|e| failed(&path, e))?.len() > 0;
                let mut pieces = Pieces::begin(file, &format!("{label}/{name}"), true)?;
                let mut rows = Rows::default();
                // A dump of the same data in another file may be a good one.
                let damaged = |error: Error| match error.kind() {
                    ErrorKind::Verification => error.because(UnknownFormat),
                    _ => error,
                };
                while let Some(piece) = pieces.next().await.map_err(damaged)? {
                    if cancel.is_cancelled() {
                        return Err(Error::interrupted());
                    }
                    rows.feed(piece);
                }
                // Of a large object its compression alone tells.
                some && (packed.is_none() || rows.is_whole())
            }
        };
        if !whole {
            return Err(cut(label, &cut_rows(&name)));
        }
    }
    Ok(())
}

/// The files of a folder that tell whether they are whole, in their order.
fn data_files(folder: &Path) -> std::io::Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let packed_object = name.starts_with("blob_")
            && [".dat.gz", ".dat.lz4", ".dat.zst"]
                .iter()
                .any(|end| name.ends_with(end));
        if packed_object || rows_file(&name).is_some() {
            files.push((entry.path(), name));
        }
    }
    files.sort();
    Ok(files)
}

fn cut(label: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::Verification,
        "postgres.dump_cut",
        format!("{label} is no whole dump: {why}"),
    )
    // A dump of the same data in another file may be a good one.
    .because(UnknownFormat)
    .hint("choose another backup (`restore list`), or fetch this one again from its origin")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "postgres.task",
            format!("reading a file ended unexpectedly: {e}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::backup::tar_dump::tests::archive;

    #[tokio::test]
    async fn a_dump_is_read_once_for_as_long_as_it_is_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump.tar");
        let whole = archive(b"1\n2\n\\.\n\n\n");
        std::fs::write(&path, &whole).unwrap();
        let input = Input::new(&path, None);
        let content = Content {
            format: Format::Tar,
            packed: false,
        };
        let known = WholeDumps::default();
        let go = CancellationToken::new();
        let first = check(&input, content, "dump.tar", &known, &go).await;
        first.unwrap();
        // Who is stopped reads nothing.
        let stopped = CancellationToken::new();
        stopped.cancel();
        let fresh = WholeDumps::default();
        let error = check(&input, content, "dump.tar", &fresh, &stopped).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Interrupted);
        let again = check(&input, content, "dump.tar", &known, &stopped).await;
        again.unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = check(&input, content, "dump.tar", &known, &go).await;
        assert_eq!(error.unwrap_err().code(), "postgres.dump_cut");
    }
}
