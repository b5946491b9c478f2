//! Whether dumps are whole that pg_restore does not read to their end: it takes what there is of a cut
//! archive in the tar format, and of a cut file in the directory format, for all that there was; some cut
//! archives it reads for ever.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::content::{Content, Format, Pieces, UnknownFormat};
use super::tools::Input;
use crate::contract::backup::tar_dump::{self, Rows, TarDump, cut_rows, rows_file};
use crate::model::{Error, ErrorKind, Result};

/// Refuses an archive in the tar format that is cut, before any program reads it; `label` is what people
/// call it.
pub(super) async fn check(
    input: &Input,
    content: Content,
    label: &str,
    cancel: &CancellationToken,
) -> Result<()> {
    if content.format != Format::Tar {
        return Ok(());
    }
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
