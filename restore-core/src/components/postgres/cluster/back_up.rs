//! Making a base backup: the server's own programs stream it, nothing is kept in between.

use async_compression::Level;
use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use tokio::io::{AsyncRead, BufReader};

use super::super::client::{Session, column};
use super::super::names::{conninfo_value, literal};
use super::Cluster;
use super::base::BaseFacts;
use super::programs::Programs;
use crate::archive::Compression;
use crate::contract::{BackedUp, BackupWriter};
use crate::model::{Error, ErrorKind, Finding, Lsn, Result, Timestamp};
use crate::sys::process::command::Exit;

/// From here on a base backup has a manifest of its own and can be taken as one stream.
const OLDEST: u32 = 13;

/// See [`Component::live_bytes`](crate::component::Component::live_bytes).
pub(super) async fn live_bytes(cluster: &Cluster) -> Result<u64> {
    let session = cluster.session().await?;
    let bytes = size(&session).await?;
    session.close().await;
    Ok(bytes)
}

pub(super) async fn size(session: &Session) -> Result<u64> {
    let row = session
        .one(
            "SELECT coalesce(sum(pg_database_size(oid)), 0)::int8 FROM pg_database",
            &[],
        )
        .await?;
    let bytes: i64 = column(&row, 0)?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// See [`Component::back_up`](crate::component::Component::back_up).
pub(super) async fn back_up(cluster: &Cluster, writer: &BackupWriter) -> Result<BackedUp> {
    // Whatever is under way ends by being dropped: programs are killed, connections closed.
    tokio::select! {
        biased;
        () = writer.cancelled().cancelled() => Err(Error::interrupted()),
        done = make(cluster, writer) => done,
    }
}

async fn make(cluster: &Cluster, writer: &BackupWriter) -> Result<BackedUp> {
    let (path, compression) = writer.archive(&cluster.config.base)?;
    let login = cluster.login().await?;
    let session = cluster.session().await?.patient().await?;
    let mut done = BackedUp::default();
    let major = session.version() / 10_000;
    refuse(cluster, &session).await?;
    let programs = Programs::find(cluster, major).await?;
    done.findings.extend(archiving(cluster, &session).await?);
    let row = session
        .one(
            "SELECT current_setting('server_version'), \
             (SELECT system_identifier::text FROM pg_control_system()), \
             pg_size_bytes(current_setting('wal_segment_size'))::int8",
            &[],
        )
        .await?;
    let (server, system_identifier): (String, String) = (column(&row, 0)?, column(&row, 1)?);
    let segment_size: i64 = column(&row, 2)?;
    let bytes = size(&session).await?;
    // Keeps the log of the time that it takes until this session ends. Where none may be made, a
    // backup that the server has not kept the log for fails, and says so.
    let slot = format!("restore_{}", writer.id().as_str().replace('-', "_"));
    let _ = session
        .attempt(&format!(
            "SELECT pg_create_physical_replication_slot({}, true, true)",
            literal(&slot)
        ))
        .await;
    let started = now(&session).await?;
    let conninfo = format!(
        "--dbname=host={} port={} user={} connect_timeout=10 application_name=restore",
        conninfo_value(&login.inside.host),
        login.inside.port,
        conninfo_value(&login.user),
    );
    let label = format!("--label=restore {}", writer.id());
    let args = [
        "--pgdata=-",
        "--format=tar",
        "--wal-method=fetch",
        "--checkpoint=fast",
        "--manifest-checksums=SHA256",
        "--verbose",
        "--no-password",
        &label,
        &conninfo,
    ];
    let artifact = writer.private_artifact(&path).await?;
    let mut process = programs.signed_in(&login, "pg_basebackup", &args).await?;
    drop(process.stdin());
    let stdout = process.stdout().ok_or_else(|| {
        Error::new(
            ErrorKind::Internal,
            "cluster.no_output",
            "a program without an output",
        )
    })?;
    let progress = writer.progress("base backup", Some(bytes));
    let mut packed = pack(stdout, compression);
    let artifact = artifact.fill(&mut packed, &progress).await?;
    let exit = process.wait().await?;
    if !exit.success() {
        return Err(failed(&exit));
    }
    let stopped = now(&session).await?;
    session.close().await;
    let (timeline, start_lsn, stop_lsn) = bounds(&exit.stderr).ok_or_else(|| {
        Error::new(
            ErrorKind::Failed,
            "cluster.unclear_base",
            "pg_basebackup does not say where in the log the backup begins and ends",
        )
    })?;
    progress.finish();
    artifact.finish().await?;
    done.facts = BaseFacts {
        server,
        major,
        system_identifier,
        timeline,
        start_lsn,
        stop_lsn,
        started,
        stopped,
        segment_size: u64::try_from(segment_size).unwrap_or(16 << 20),
        bytes,
    }
    .as_map();
    Ok(done)
}

/// The server's clock, which is the one that commits are told by.
async fn now(session: &Session) -> Result<Timestamp> {
    let row = session
        .one(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8 - 946684800000000",
            &[],
        )
        .await?;
    Timestamp::of_postgres(column(&row, 0)?).ok_or_else(|| {
        Error::new(
            ErrorKind::Failed,
            "cluster.clock",
            "the server's clock tells an impossible time",
        )
    })
}

/// What a base backup cannot hold, or should not.
async fn refuse(cluster: &Cluster, session: &Session) -> Result<()> {
    let new = |code, message: String| Error::new(ErrorKind::Preflight, code, message);
    let major = session.version() / 10_000;
    if major < OLDEST {
        return Err(new(
            "cluster.old_server",
            format!(
                "the server is PostgreSQL {major}: base backups are supported from {OLDEST} on"
            ),
        ));
    }
    let row = session.one("SELECT pg_is_in_recovery()", &[]).await?;
    if column::<bool>(&row, 0)? {
        return Err(new(
            "cluster.standby",
            "the server is a standby: what is recovered from it would not be the primary's data"
                .to_owned(),
        )
        .hint("make base backups of the primary"));
    }
    let rows = session
        .rows(
            "SELECT spcname::text FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')",
            &[],
        )
        .await?;
    let names = rows
        .iter()
        .map(|row| column(row, 0))
        .collect::<Result<Vec<String>>>()?;
    if !names.is_empty() {
        return Err(new(
            "cluster.tablespaces",
            format!(
                "the cluster has tablespaces outside its data directory, which base backups do not support yet: {}",
                names.join(", ")
            ),
        )
        .hint("back its databases up as components of kind postgres"));
    }
    // pg_basebackup copies whatever lies in the data directory.
    let volume = cluster.volume().await?;
    if let Ok(dir) = cluster.data_dir(volume.as_ref())
        && let Some(run) = run_folder(&dir)
    {
        return Err(new(
            "cluster.run_inside",
            format!(
                "run {run} keeps data in the data directory, and the base backup would copy it: {}",
                dir.display()
            ),
        )
        .hint(format!(
            "`restore confirm {run}` or `restore rollback {run}` first"
        )));
    }
    Ok(())
}

fn run_folder(dir: &std::path::Path) -> Option<String> {
    let names = std::fs::read_dir(dir).ok()?;
    names
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find_map(|name| {
            let run = name.strip_prefix(".restore-")?;
            Some(
                run.trim_end_matches(".trash")
                    .trim_end_matches(".wal")
                    .to_owned(),
            )
        })
}

/// Without archiving a base backup leads nowhere but to its own end.
async fn archiving(cluster: &Cluster, session: &Session) -> Result<Option<Finding>> {
    let row = session
        .one("SELECT current_setting('archive_mode')", &[])
        .await?;
    let mode: String = column(&row, 0)?;
    let warn = |message: &str, hint: &str| {
        Finding::warning("cluster.no_archiving", &cluster.name, message).hint(hint)
    };
    if mode == "off" {
        return Ok(Some(warn(
            "the server archives no log (archive_mode is off): the base backup can be restored, and recovered to no later time",
            "set archive_mode = on and an archive_command, and name the directory, or the store, as wal_archive",
        )));
    }
    if cluster.config.wal_archive.is_none() {
        return Ok(Some(warn(
            "the component does not say where the server archives its log: the base backup can be restored, and recovered to no later time",
            "name the directory, or the store, as wal_archive in the component's section",
        )));
    }
    let row = session
        .one(
            "SELECT last_failed_wal::text, last_archived_time IS NULL OR last_failed_time > last_archived_time \
             FROM pg_stat_archiver",
            &[],
        )
        .await?;
    let failed: Option<String> = column(&row, 0)?;
    Ok(match (failed, column::<Option<bool>>(&row, 1)?) {
        (Some(wal), Some(true)) => Some(warn(
            &format!("the server cannot archive its log: {wal} failed"),
            "see the server's log for what its archive_command says",
        )),
        _ => None,
    })
}

fn pack(
    reader: Box<dyn AsyncRead + Send + Unpin>,
    compression: Compression,
) -> Box<dyn AsyncRead + Send + Unpin> {
    let reader = BufReader::with_capacity(256 * 1024, reader);
    match compression {
        Compression::Gzip(level) => Box::new(GzipEncoder::with_quality(
            reader,
            Level::Precise(level.into()),
        )),
        Compression::Zstd(level) => Box::new(ZstdEncoder::with_quality(
            reader,
            Level::Precise(level.into()),
        )),
        Compression::None => Box::new(reader),
    }
}

/// Timeline, start and end, as `pg_basebackup --verbose` tells them.
fn bounds(said: &str) -> Option<(u32, Lsn, Lsn)> {
    let after = |words: &str| {
        said.lines()
            .find_map(|line| Some(line.split_once(words)?.1.trim()))
    };
    let (start, timeline) = after("write-ahead log start point: ")?.split_once(" on timeline ")?;
    let end = after("write-ahead log end point: ")?;
    Some((
        timeline.trim().parse().ok()?,
        start.parse().ok()?,
        end.parse().ok()?,
    ))
}

fn failed(exit: &Exit) -> Error {
    let line = exit
        .stderr
        .lines()
        .find_map(|line| line.split_once("error: ").map(|(_, why)| why))
        .or_else(|| exit.stderr.lines().rfind(|line| !line.trim().is_empty()))
        .unwrap_or("it printed nothing");
    let line: String = line.trim().chars().take(300).collect();
    let error = Error::new(
        ErrorKind::Failed,
        "cluster.basebackup_failed",
        format!("pg_basebackup failed (exit code {}): {line}", exit.code),
    );
    if line.contains("pg_hba.conf") || line.contains("replication") || line.contains("permission") {
        return error.hint("a base backup takes a role with REPLICATION (or a superuser), and a line for the database `replication` in pg_hba.conf");
    }
    if line.contains("has already been removed") {
        return error.hint("the server removed the log of the time that it took: set wal_keep_size, or let the role make replication slots (max_replication_slots)");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_bounds_are_read_from_what_it_says() {
        let said = "pg_basebackup: checkpoint completed\n\
            pg_basebackup: write-ahead log start point: 0/2000028 on timeline 3\n\
            pg_basebackup: write-ahead log end point: 0/2000100\n";
        assert_eq!(bounds(said), Some((3, Lsn(0x200_0028), Lsn(0x200_0100))));
        assert_eq!(bounds(""), None);
    }
}
