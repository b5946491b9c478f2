//! A dump in SQL: read to its end before anything of it is run.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::script::{Script, ScriptReader};
use crate::error::{Error, ErrorKind, Result};

/// How much of the end is looked at for the last line.
const TAIL: u64 = 4096;

/// What pg_dump writes when everything is written.
const COMPLETE: &str = "-- PostgreSQL database dump complete";

/// Reads the whole file, off the async threads.
pub(super) async fn read(path: &Path, cancel: &CancellationToken) -> Result<Script> {
    let (path, cancel) = (path.to_owned(), cancel.clone());
    blocking(move || {
        let what = || format!("read {}", path.display());
        let mut file = std::fs::File::open(&path).map_err(|e| Error::io(what(), e))?;
        let mut reader = ScriptReader::default();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            if cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            let count = file.read(&mut buffer).map_err(|e| Error::io(what(), e))?;
            if count == 0 {
                break;
            }
            reader.feed(buffer.get(..count).unwrap_or_default());
        }
        Ok(reader.finish())
    })
    .await
}

/// Whether its end is the one that pg_dump writes last; reads only the end.
pub(super) async fn is_complete(path: &Path) -> Result<bool> {
    let path = path.to_owned();
    blocking(move || {
        let what = || format!("read {}", path.display());
        let mut file = std::fs::File::open(&path).map_err(|e| Error::io(what(), e))?;
        let size = file.metadata().map_err(|e| Error::io(what(), e))?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))
            .map_err(|e| Error::io(what(), e))?;
        let mut tail = Vec::new();
        file.take(TAIL)
            .read_to_end(&mut tail)
            .map_err(|e| Error::io(what(), e))?;
        let mut last = tail
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii_end)
            .filter(|line| !matches!(*line, b"" | b"--") && !line.starts_with(b"\\unrestrict "));
        Ok(last.next_back() == Some(COMPLETE.as_bytes()))
    })
    .await
}

/// What speaks against running it. `label` is its path in the backup.
pub(super) fn refuse(script: &Script, label: &str) -> Result<()> {
    if !script.complete {
        return Err(cut(label));
    }
    if let Some((command, line)) = &script.command {
        return Err(Error::new(
            ErrorKind::Verification,
            "postgres.sql_command",
            format!(
                "{label} has {command} in line {line}: psql would obey it, and could reach the live database or this host"
            ),
        )
        .hint("make SQL dumps with pg_dump without --create, not with pg_dumpall; an old dump can be cleaned by hand"));
    }
    Ok(())
}

/// The error for a script without its last line.
pub(super) fn cut(label: &str) -> Error {
    Error::new(
        ErrorKind::Verification,
        "postgres.sql_cut",
        format!("{label} does not end with \"PostgreSQL database dump complete\": it was cut off"),
    )
    .hint("choose another backup")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "postgres.task",
            format!("reading a file ended unexpectedly: {e}"),
        )
    })?
}
