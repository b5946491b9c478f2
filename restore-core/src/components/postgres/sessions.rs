//! Ending sessions, and what can be done to a database only once nobody is on it.

use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;

use super::client::{Session, column};
use super::database::{Database, allow_sql};
use super::names::ident;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::retry::Retry;

/// How long sessions may take to end, and renames to succeed.
const LIMIT: Duration = Duration::from_secs(40);
/// How long the server may take to drop a database whose files are many.
const DROPPING: Duration = Duration::from_secs(15 * 60);
/// How long sessions that may not be ended may take to leave, before the door is shut.
const LEAVING: Duration = Duration::from_secs(3);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Drops a database of ours, whoever is connected to it. Not there: done.
pub(super) async fn drop_database(session: &Session, name: &str) -> Result<()> {
    let Some(database) = Database::find(session, name).await? else {
        return Ok(());
    };
    let quoted = ident(name);
    // One that a server was broken off at dropping can be dropped, and nothing else.
    if !database.is_invalid() {
        session
            .run(&format!(
                "ALTER DATABASE {quoted} WITH ALLOW_CONNECTIONS false IS_TEMPLATE false"
            ))
            .await?;
    }
    let drop = if session.version() >= 130_000 {
        format!("DROP DATABASE {quoted} WITH (FORCE)")
    } else {
        format!("DROP DATABASE {quoted}")
    };
    let retry = Retry::within(LIMIT, LOOK);
    loop {
        end_sessions(session, &[&database], retry).await?;
        match session.attempt(&drop).await {
            Ok(()) => return Ok(()),
            Err(error) if passing(&error) && !retry.is_over() => retry.pause().await,
            Err(error) => {
                return Err(session
                    .failed(&error)
                    .context(format!("cannot drop database {name}")));
            }
        }
    }
}

/// Ends what a killed process left running for the same run: the server finishes a statement
/// whose client is gone, and a rename must not happen after it was looked for. Returns once
/// nothing of it is left.
///
/// Only sessions that began before this one are ended: what is left of another process may itself
/// be in the middle of this, and must not end whoever comes after it. The others end by themselves.
pub(super) async fn end_leftovers(session: &Session, application: &str) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let long = Instant::now() + DROPPING;
    loop {
        let rows = session
            .rows(
                // Ended in its middle, a DROP DATABASE leaves one that nobody can use.
                "SELECT other.query ILIKE 'DROP DATABASE%', \
                 CASE WHEN other.backend_start < own.backend_start \
                 AND other.query NOT ILIKE 'DROP DATABASE%' \
                 THEN pg_terminate_backend(other.pid) END \
                 FROM pg_stat_activity own, pg_stat_activity other \
                 WHERE own.pid = pg_backend_pid() AND other.pid <> own.pid \
                 AND other.usename = current_user AND other.application_name = $1",
                &[&application],
            )
            .await?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut dropping = true;
        for row in &rows {
            dropping &= column::<Option<bool>>(row, 0)?.unwrap_or(false);
        }
        let (limit, deadline) = match dropping {
            true => (DROPPING, long),
            false => (LIMIT, deadline),
        };
        if Instant::now() >= deadline {
            return Err(Error::new(
                ErrorKind::Failed,
                "postgres.in_use",
                format!(
                    "a statement of an earlier attempt (pg_stat_activity: {application}) did not \
                     end within {} s",
                    limit.as_secs()
                ),
            )
            .hint("wait until it is done, and try again")
            .retryable());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Prepared transactions hold on to a database without any session, and only a person can end
/// them: found before the door is shut.
pub(super) async fn no_prepared(session: &Session, busy: &[&Database]) -> Result<()> {
    for database in busy {
        let prepared = prepared(session, &database.name).await?;
        if !prepared.is_empty() {
            return Err(Error::new(
                ErrorKind::Failed,
                "postgres.prepared_transactions",
                format!(
                    "prepared transactions hold database {}: {}",
                    database.name,
                    prepared.join(", ")
                ),
            )
            .hint(PREPARED_HINT));
        }
    }
    Ok(())
}

/// What to do about prepared transactions.
pub(super) const PREPARED_HINT: &str =
    "end each with COMMIT PREPARED 'its id' or ROLLBACK PREPARED 'its id', inside that database";

/// The ids of the database's prepared transactions.
pub(super) async fn prepared(session: &Session, database: &str) -> Result<Vec<String>> {
    session
        .rows(
            "SELECT gid FROM pg_prepared_xacts WHERE database = $1 ORDER BY 1",
            &[&database],
        )
        .await?
        .iter()
        .map(|row| column(row, 0))
        .collect()
}

/// Shuts the door of `busy`, ends their sessions, and runs `sql` in one transaction, trying again
/// while something is still on its way out.
pub(super) async fn in_one_transaction(
    session: &Session,
    busy: &[&Database],
    sql: &[String],
) -> Result<()> {
    let retry = Retry::within(LIMIT, LOOK);
    no_prepared(session, busy).await?;
    let oids: Vec<u32> = busy.iter().map(|database| database.oid).collect();
    let leaving = Retry::within(LEAVING, LOOK);
    loop {
        let who = not_ours(session, &oids).await?;
        if who.is_empty() {
            break;
        }
        if leaving.is_over() {
            return Err(Error::new(
                ErrorKind::Failed,
                "postgres.in_use",
                format!(
                    "there are sessions on database {} that may not be ended: {}",
                    busy.first().map_or("", |database| &database.name),
                    who.join(", ")
                ),
            )
            .hint(NOT_OURS_HINT)
            .retryable());
        }
        leaving.pause().await;
    }
    // Nobody gets into one that was half dropped, and it can only be renamed and dropped.
    for database in busy.iter().filter(|database| !database.is_invalid()) {
        session.run(&allow_sql(&database.name, false)).await?;
    }
    let transaction = format!("BEGIN; {}; COMMIT", sql.join("; "));
    loop {
        end_sessions(session, busy, retry).await?;
        let Err(error) = session.attempt(&transaction).await else {
            return Ok(());
        };
        if !error.is_closed() {
            // Outside a transaction this is a warning and nothing else.
            session.run("ROLLBACK").await?;
        }
        if !passing(&error) || retry.is_over() {
            return Err(session.failed(&error).context(format!(
                "cannot rename database {}{}",
                busy.first().map_or("", |database| &database.name),
                detail(&error)
            )));
        }
        retry.pause().await;
    }
}

/// What to do about sessions that the user may not end.
pub(super) const NOT_OURS_HINT: &str = "end them (name their services under stops), or let the component connect as a superuser, or as a member of pg_signal_backend where they are no superuser's";

/// The sessions on databases that the user may not end: the door is not shut for these.
pub(super) async fn not_ours(session: &Session, databases: &[u32]) -> Result<Vec<String>> {
    session
        .rows(
            "SELECT a.usename::text || ' from ' || coalesce(host(a.client_addr), 'this host') \
                    || ' (' || coalesce(nullif(a.application_name, ''), '?') || ')' \
             FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid, \
                  pg_roles me \
             WHERE a.datid = ANY($1) AND a.pid <> pg_backend_pid() AND me.rolname = current_user \
               AND NOT (me.rolsuper OR (NOT r.rolsuper \
                        AND (pg_has_role(me.oid, r.oid, 'USAGE') \
                             OR pg_has_role(me.oid, 'pg_signal_backend', 'USAGE')))) \
             LIMIT 5",
            &[&databases],
        )
        .await?
        .iter()
        .map(|row| column(row, 0))
        .collect()
}

/// "There is 1 other session using the database.", where the server says so.
fn detail(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) if *db.code() == SqlState::OBJECT_IN_USE => db
            .detail()
            .map(|detail| format!(" ({})", detail.trim_end_matches('.')))
            .unwrap_or_default(),
        _ => String::new(),
    }
}

/// Whether an error may be gone a moment later.
fn passing(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::OBJECT_IN_USE,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::QUERY_CANCELED,
        ]
        .contains(code)
    })
}

/// Ends every session on the databases, again and again until none is left. Autovacuum is left
/// to the rename itself, which sends it away.
async fn end_sessions(session: &Session, busy: &[&Database], retry: Retry) -> Result<()> {
    let oids: Vec<u32> = busy.iter().map(|database| database.oid).collect();
    loop {
        let rows = session
            .rows(
                "SELECT pid, coalesce(usename::text, backend_type), \
                        coalesce(nullif(application_name, ''), '?'), \
                        coalesce(host(client_addr), 'this host'), datname::text \
                 FROM pg_stat_activity WHERE datid = ANY($1) AND pid <> pg_backend_pid() \
                 AND coalesce(backend_type, '') <> 'autovacuum worker'",
                &[&oids],
            )
            .await?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut refused = None;
        for row in &rows {
            let pid: i32 = column(row, 0)?;
            // One that may not be ended must not keep the others from being ended.
            if let Err(error) = session
                .try_rows("SELECT pg_terminate_backend($1)", &[&pid])
                .await
            {
                refused = Some(session.failed(&error));
            }
        }
        if retry.is_over() {
            let who = rows
                .iter()
                .take(3)
                .map(|row| {
                    let (user, program): (String, String) = (column(row, 1)?, column(row, 2)?);
                    let host: String = column(row, 3)?;
                    Ok(format!("{user} from {host} ({program})"))
                })
                .collect::<Result<Vec<_>>>()?
                .join(", ");
            let name: String = match rows.first() {
                Some(row) => column(row, 4)?,
                None => String::new(),
            };
            let why = refused.map(|e| format!(": {e}")).unwrap_or_default();
            return Err(Error::new(
                ErrorKind::Failed,
                "postgres.in_use",
                format!(
                    "{} sessions on database {name} did not end within {} s: {who}{why}",
                    rows.len(),
                    LIMIT.as_secs()
                ),
            )
            .hint("stop these programs (name their services under stops), or give the component a user who may end their sessions")
            .retryable());
        }
        retry.pause().await;
    }
}
