//! A dump in SQL: read to its end before anything of it is run.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::client::{Session, column};
use super::script::{Script, ScriptReader, Skip};
use super::tools::Input;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::open_to_read;

/// How much of the end is looked at for the last line.
const TAIL: u64 = 4096;

/// What pg_dump writes when everything is written.
const COMPLETE: &str = "-- PostgreSQL database dump complete";

/// What pg_dumpall does.
const CLUSTER_COMPLETE: &str = "-- PostgreSQL database cluster dump complete";

/// Reads the whole file, off the async threads, for what of it is for `database`; what `skip` names
/// is not.
///
/// # Errors
///
/// `postgres.not_in_dump` where it holds other databases; those of reading.
pub(super) async fn read(
    input: &Input,
    label: &str,
    (database, skip): (&str, Skip),
    cancel: &CancellationToken,
) -> Result<Script> {
    let cancel = cancel.clone();
    let (label, database) = (label.to_owned(), database.to_owned());
    let mut pieces = input.pieces()?;
    let runtime = tokio::runtime::Handle::current();
    blocking(move || {
        let mut reader = ScriptReader::skipping(skip);
        while let Some(bytes) = runtime.block_on(pieces.next())? {
            if cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            reader.feed(bytes);
            if reader.odd().is_some() {
                break;
            }
        }
        refuse_odd(&reader, &label)?;
        reader
            .finish_for(&database)
            .map_err(|databases| not_in_dump(&label, &database, &databases))
    })
    .await
}

/// That a script is of other databases.
pub(super) fn not_in_dump(label: &str, database: &str, databases: &[String]) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "postgres.not_in_dump",
        format!(
            "{label} has databases {}, and none called {database}",
            databases.join(", ")
        ),
    )
    .hint("name the one that is meant as `dumped_as` of the component, or choose another backup")
}

/// Refuses a script that no pg_dump writes: larger than its reading may take room for.
///
/// # Errors
///
/// `postgres.sql_odd`.
pub(super) fn refuse_odd(reader: &ScriptReader, label: &str) -> Result<()> {
    match reader.odd() {
        None => Ok(()),
        Some((what, line)) => Err(Error::new(
            ErrorKind::Verification,
            "postgres.sql_odd",
            format!("{label} has {what} in line {line}: it is not read any further"),
        )
        .hint("no pg_dump writes that: look into the file; or choose another backup")),
    }
}

/// What of it is not run on this server: what the script's reading found, and settings that the
/// server does not know, whose names are returned.
///
/// # Errors
///
/// Those of the connection.
pub(super) async fn left_out(
    script: &Script,
    session: &Session,
) -> Result<(Vec<Range<u64>>, Vec<String>)> {
    let mut ranges = script.left_out.clone();
    let mut unknown: Vec<String> = Vec::new();
    if !script.settings.is_empty() {
        let known = known_settings(session).await?;
        for (name, range) in &script.settings {
            if known.contains(name) {
                continue;
            }
            ranges.push(range.clone());
            if !unknown.contains(name) {
                unknown.push(name.clone());
            }
        }
    }
    Ok((ranges, unknown))
}

/// The settings that the server has.
pub(super) async fn known_settings(session: &Session) -> Result<Vec<String>> {
    let sql = "SELECT name::text FROM pg_settings";
    let rows = session.rows(sql, &[]).await?;
    rows.iter().map(|row| column(row, 0)).collect()
}

/// Whether its end is the one that pg_dump writes last; reads only the end.
pub(super) async fn is_complete(path: &Path) -> Result<bool> {
    let path = path.to_owned();
    blocking(move || {
        let what = || format!("read {}", path.display());
        let mut file = open_to_read(&path).map_err(|e| Error::io(what(), e))?;
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
        let last = last.next_back();
        Ok([COMPLETE, CLUSTER_COMPLETE]
            .iter()
            .any(|line| last == Some(line.as_bytes())))
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
        .hint("make SQL dumps with pg_dump or pg_dumpall, and add nothing to them; an old dump can be cleaned by hand"));
    }
    refuse_beyond(script, label)?;
    if let Some(line) = script.bare_drop {
        return Err(Error::new(
            ErrorKind::Verification,
            "postgres.sql_clean",
            format!(
                "{label} drops in line {line} what a new database does not have, and would fail there"
            ),
        )
        .hint("pg_dump --clean needs --if-exists as well; without either of them a dump restores just as well"));
    }
    Ok(())
}

/// What speaks against running a dump of any format: the way to other databases, and to the server.
pub(super) fn refuse_beyond(script: &Script, label: &str) -> Result<()> {
    if let Some((statement, line)) = &script.beyond {
        return Err(Error::new(
            ErrorKind::Verification,
            "postgres.sql_beyond",
            format!(
                "{label} has {statement} in line {line}: that reaches beyond the database that is restored"
            ),
        )
        .hint("make SQL dumps with pg_dump or pg_dumpall, and add nothing to them; an old dump can be cleaned by hand"));
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
