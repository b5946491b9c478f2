//! What speaks for and against a run, found without writing anything.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::client::{Session, SessionError, column};
use super::database::Database;
use super::names::ident;
use super::sessions::{NOT_OURS_HINT, PREPARED_HINT, not_ours, prepared};
use super::tools::ROW_SECURITY_HINT;
use super::{Artifacts, Postgres, compare, search_paths};
use crate::contract::{Inspection, RunContext, SpaceNeed};
use crate::model::{Error, Finding, Result};
use crate::sys::connect::is_socket;
use crate::sys::space::Space;

/// How many times its size a dump needs at least once restored, by experience: it is compressed,
/// and has no indexes.
pub(super) const UNPACKED: u64 = 4;

/// An inspection under way.
pub(super) struct Inspect<'a> {
    pub(super) pg: &'a Postgres,
    pub(super) cx: &'a RunContext,
    pub(super) out: Inspection,
}

/// What a look into the live database finds.
struct Inside {
    /// How many tables it has.
    tables: usize,
    /// Those of which not all rows may be read.
    closed: Vec<String>,
    /// What may need the `search_path` of the live database while a dump is loaded.
    in_need: Vec<String>,
}

/// See [`Component::inspect`](crate::component::Component::inspect).
pub(super) async fn inspect(pg: &Postgres, cx: &RunContext) -> Result<Inspection> {
    let names = pg.names(cx);
    let mut inspect = Inspect {
        pg,
        cx,
        out: Inspection {
            artifacts: Vec::new(),
            summary: pg.summary(cx),
            beside: pg.beside_words(cx),
            staged_at: format!("database {} on {}", names.staged, pg.config.service),
            read_bytes: 0,
            needs: Vec::new(),
            findings: Vec::new(),
            facts: serde_json::Map::new(),
            ..Inspection::default()
        },
    };
    if cx.target().is_some() {
        inspect.recovery().await?;
        return Ok(inspect.out);
    }
    let mut artifacts = pg.find_artifacts(cx.backup());
    let ambiguous = pg.ambiguous(cx.backup());
    if let Some(error) = &ambiguous {
        inspect.error(error);
        // What one of them holds says nothing.
        artifacts = Artifacts {
            dump: None,
            sql: None,
        };
    }
    let first = artifacts.dump.as_ref().or(artifacts.sql.as_ref());
    match first {
        Some(first) => {
            inspect.out.artifacts.push(first.clone());
            inspect.out.read_bytes = super::spool::files_of(cx.backup(), first)
                .iter()
                .filter_map(|path| cx.backup().file(path))
                .fold(0, |all: u64, file| all.saturating_add(file.size));
        }
        None if ambiguous.is_some() => {}
        None => {
            let error = pg.no_artifact(cx.backup());
            inspect.error(&error);
        }
    }
    match pg.maintenance().await {
        Ok(session) => {
            let live = inspect.live(&session).await?;
            let server = session.version() / 10_000;
            inspect
                .dump((Some(&session), server), &artifacts, live.as_ref())
                .await?;
            inspect.power();
            session.close().await;
        }
        Err(error) => {
            let error = inspect.with_globals(error);
            inspect.unreachable(error, &artifacts).await?;
        }
    }
    Ok(inspect.out)
}

impl Inspect<'_> {
    pub(super) fn error(&mut self, error: &Error) {
        let finding = Finding::from_error(&self.pg.name, error);
        self.out.findings.push(finding);
    }

    /// Says of a role that is not let in where the backup says what it was: nobody can be asked to make it again
    /// but the server that does not let us in.
    fn with_globals(&self, error: Error) -> Error {
        let (backup, pg) = (self.cx.backup(), self.pg);
        let file = pg.globals_file(backup).ok().flatten();
        let (true, Some(file), Some(hint)) = (
            error.is(&SessionError::Auth),
            file,
            error.hint_text().map(str::to_owned),
        ) else {
            return error;
        };
        error.hint(format!(
            "{hint}; or run the lines about {} in {file}, which has its password too: `restore get {} {file} --to DIR` brings the file out",
            pg.config.user,
            backup.id()
        ))
    }

    pub(super) fn warn(&mut self, code: &str, message: String) {
        let finding = Finding::warning(code, &self.pg.name, message);
        self.out.findings.push(finding);
    }

    pub(super) fn refuse(&mut self, code: &str, message: String, hint: &str) {
        let finding = Finding::error(code, &self.pg.name, message).hint(hint);
        self.out.findings.push(finding);
    }

    pub(super) fn fact(&mut self, key: &str, value: serde_json::Value) {
        self.out.facts.insert(key.to_owned(), value);
    }

    pub(super) async fn live(&mut self, session: &Session) -> Result<Option<Database>> {
        let row = session
            .one(
                "SELECT current_setting('server_version'), pg_is_in_recovery()",
                &[],
            )
            .await?;
        self.fact("server", json!(column::<String>(&row, 0)?));
        if column::<bool>(&row, 1)? {
            self.refuse(
                "postgres.standby",
                format!(
                    "the server of {} is a standby: nothing can be written to it",
                    self.pg.config.service
                ),
                "restore at its primary; or promote it first (pg_ctl promote), if the primary is gone",
            );
        }
        let live = Database::find(session, &self.pg.config.database).await?;
        self.fact("database_exists", json!(live.is_some()));
        self.privileges(session, live.as_ref()).await?;
        let mut size = 0;
        let beside = self.cx.restore_as();
        if let Some(live) = &live {
            size = self.live_facts(session, live).await?;
        }
        match (&live, beside) {
            (_, Some(name)) => {
                self.name_beside(session, name).await?;
                self.out.creates.push(self.pg.database_words(self.cx));
            }
            (live, None) if !self.cx.tables().is_empty() => self.database_there(live.is_some()),
            (Some(live), None) => self.obstacles(session, live).await?,
            (None, None) => {
                self.out.summary += ", which does not exist yet";
                self.out.creates.push(self.pg.database_words(self.cx));
            }
        }
        self.space(session, live.as_ref(), size).await?;
        Ok(live)
    }

    async fn privileges(&mut self, session: &Session, live: Option<&Database>) -> Result<()> {
        let row = session
            .one(
                "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles \
                 WHERE rolname = current_user",
                &[],
            )
            .await?;
        let (superuser, createdb): (bool, bool) = (column(&row, 0)?, column(&row, 1)?);
        let createrole: bool = column(&row, 2)?;
        self.fact("superuser", json!(superuser));
        if superuser {
            return Ok(());
        }
        let user = &self.pg.config.user;
        if !createdb {
            self.refuse(
                "postgres.no_createdb",
                format!("{user} may not create databases"),
                "as a superuser: ALTER ROLE … CREATEDB; or let the component connect as the role that POSTGRES_USER named",
            );
        }
        let Some(live) = live else {
            return Ok(());
        };
        let row = session
            .one(
                "SELECT pg_has_role(current_user, datdba, 'MEMBER') FROM pg_database \
                 WHERE oid = $1",
                &[&live.oid],
            )
            .await?;
        if !column::<bool>(&row, 0)? {
            let cannot = match (self.cx.restore_as(), self.cx.tables()) {
                (Some(_), _) => "make another like",
                (None, [_, ..]) => "make a schema in",
                (None, []) => "rename",
            };
            self.refuse(
                "postgres.not_owner",
                format!(
                    "{user} may not {cannot} database {}: it belongs to {}",
                    live.name, live.owner
                ),
                "let the component connect as the owner, with CREATEDB, or as a superuser",
            );
        }
        let others: Vec<&str> = live
            .roles_with_settings()
            .into_iter()
            .filter(|role| role != user)
            .collect();
        if !createrole && !others.is_empty() {
            self.refuse(
                "postgres.foreign_settings",
                format!(
                    "{user} may not carry over the settings of other roles in database {}: {}",
                    live.name,
                    others.join(", ")
                ),
                "let the component connect as a superuser",
            );
        }
        Ok(())
    }

    async fn live_facts(&mut self, session: &Session, live: &Database) -> Result<u64> {
        // The size is for members of the owner and pg_read_all_stats only.
        let size = match session
            .try_rows("SELECT pg_database_size($1::oid)", &[&live.oid])
            .await
        {
            Ok(rows) => match rows.first() {
                Some(row) => u64::try_from(column::<i64>(row, 0)?).unwrap_or(0),
                None => 0,
            },
            Err(_) => 0,
        };
        self.fact("database_bytes", json!(size));
        let row = session
            .one(
                "SELECT count(*) FROM pg_stat_activity WHERE datid = $1",
                &[&live.oid],
            )
            .await?;
        self.fact("sessions", json!(column::<i64>(&row, 0)?));
        if live.is_invalid() {
            self.warn(
                "postgres.live_broken",
                format!(
                    "database {} was being dropped when that was broken off: nobody can use it, and it is moved aside as it is",
                    live.name
                ),
            );
            return Ok(size);
        }
        if !live.allow_connections {
            self.warn(
                "postgres.closed",
                format!(
                    "database {} lets nobody in (ALLOW_CONNECTIONS false), as a restore that was broken off leaves it; the restored one will let users in",
                    live.name
                ),
            );
            return Ok(size);
        }
        // Superusers get in, and would not notice.
        if live.connection_limit == 0 {
            let finding = Finding::warning(
                "postgres.limit_zero",
                &self.pg.name,
                format!(
                    "database {} lets only superusers in (CONNECTION LIMIT 0), and so will the restored one",
                    live.name
                ),
            );
            self.out.findings.push(finding.hint(format!(
                "where that is not meant: ALTER DATABASE {} CONNECTION LIMIT -1",
                ident(&live.name)
            )));
        }
        match self.inside(&live.name).await {
            Ok(inside) => {
                self.fact("tables", json!(inside.tables));
                self.closed_rows(&live.name, &inside.closed);
                let told = self.pg.needs_search_path(&inside.in_need);
                self.out.findings.extend(told);
            }
            // It is moved aside by its name, and not read.
            Err(error) if error.is(&SessionError::Broken) => {
                self.warn(
                    "postgres.live_broken",
                    format!(
                        "database {} is broken and is moved aside as it is: {}",
                        live.name,
                        error.message()
                    ),
                );
            }
            Err(error) => self.error(&error),
        }
        Ok(size)
    }

    /// A look into a database.
    async fn inside(&self, database: &str) -> Result<Inside> {
        let session = self.pg.session(database).await?;
        let tables = compare::tables(&session).await;
        // What the catalogs do not tell hinders no plan.
        let closed = compare::with_closed_rows(&session).await;
        let in_need = search_paths::in_need(&session).await;
        session.close().await;
        Ok(Inside {
            tables: tables?.len(),
            closed: closed.unwrap_or_default(),
            in_need: in_need.unwrap_or_default(),
        })
    }

    /// That no dump can be made of a database, and so no backup of it.
    fn closed_rows(&mut self, database: &str, tables: &[String]) {
        if tables.is_empty() {
            return;
        }
        let named: Vec<&str> = tables.iter().take(10).map(String::as_str).collect();
        let more = match tables.len().saturating_sub(named.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "{} may not read all rows of tables in database {database} (row-level security), so no backup of it can be made, nor a run's safety backup: {}{more}",
            self.pg.config.user,
            named.join(", ")
        );
        let finding = Finding::warning("postgres.row_security", &self.pg.name, message);
        self.out.findings.push(finding.hint(ROW_SECURITY_HINT));
    }

    /// What holds on to the live database by name or by number.
    async fn obstacles(&mut self, session: &Session, live: &Database) -> Result<()> {
        let who = not_ours(session, &[live.oid]).await?;
        if !who.is_empty() {
            let finding = Finding::warning(
                "postgres.foreign_sessions",
                &self.pg.name,
                format!(
                    "there are sessions on database {} that {} may not end; while they last it cannot be replaced: {}",
                    live.name,
                    self.pg.config.user,
                    who.join(", ")
                ),
            );
            self.out.findings.push(finding.hint(NOT_OURS_HINT));
        }
        let prepared = prepared(session, &live.name).await?;
        if !prepared.is_empty() {
            self.refuse(
                "postgres.prepared_transactions",
                format!(
                    "prepared transactions hold database {}, which therefore cannot be renamed: {}",
                    live.name,
                    prepared.join(", ")
                ),
                PREPARED_HINT,
            );
        }
        let slots = names_of(
            session,
            "SELECT slot_name::text FROM pg_replication_slots WHERE database = $1",
            live,
        )
        .await?;
        if !slots.is_empty() {
            self.warn(
                "postgres.replication_slots",
                format!(
                    "logical replication slots belong to database {} and stay with the replaced one: {}; their subscribers get nothing of the restored one until they are set up again, and confirming the run deletes the slots",
                    live.name,
                    slots.join(", ")
                ),
            );
        }
        // Subscriptions are visible in every database, to superusers at least.
        let subscriptions = session
            .try_rows(
                "SELECT subname::text FROM pg_subscription WHERE subdbid = $1",
                &[&live.oid],
            )
            .await;
        if let Ok(rows) = subscriptions
            && !rows.is_empty()
        {
            let names = rows
                .iter()
                .map(|row| column(row, 0))
                .collect::<Result<Vec<String>>>()?;
            self.warn(
                "postgres.subscriptions",
                format!(
                    "database {} has subscriptions, which stay with the replaced one: the restored one receives nothing until they are made anew in it; confirming the run drops them: {}",
                    live.name,
                    names.join(", ")
                ),
            );
        }
        Ok(())
    }

    async fn space(&mut self, session: &Session, live: Option<&Database>, size: u64) -> Result<()> {
        let bytes = match self.cx.tables() {
            [] => size.max(self.out.read_bytes.saturating_mul(UNPACKED)),
            // Of the rest only the definitions are loaded. How much of a packed dump is theirs nothing
            // tells before it is read; live they may be gone or empty, for which they are restored.
            tables => {
                let live = self.pg.bytes_of(tables).await.unwrap_or(0);
                live.max(self.out.read_bytes.saturating_mul(2))
            }
        };
        self.fact("needs_bytes", json!(bytes));
        let place = place(session, live).await?;
        if let Some(space) = place.and_then(|place| Space::of(&place).ok()) {
            self.out.needs.push(SpaceNeed {
                space,
                bytes,
                inodes: 1000,
            });
        }
        Ok(())
    }
}

async fn names_of(session: &Session, sql: &str, database: &Database) -> Result<Vec<String>> {
    let rows = session.rows(sql, &[&database.name]).await?;
    rows.iter().map(|row| column(row, 0)).collect()
}

/// Where the server keeps the files of a new database, when it is a place of this host that may be
/// known.
pub(super) async fn place(session: &Session, live: Option<&Database>) -> Result<Option<PathBuf>> {
    let mut place = String::new();
    if let Some(live) = live {
        let row = session
            .one(
                "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = $1",
                &[&live.tablespace],
            )
            .await?;
        place = column(&row, 0)?;
    }
    if place.is_empty() {
        // Only some roles may ask; then the room is not known.
        let asked = session
            .try_rows("SELECT current_setting('data_directory')", &[])
            .await;
        if let Ok(Some(row)) = asked.as_ref().map(|rows| rows.first()) {
            place = column(row, 0)?;
        }
    }
    Ok(here(PathBuf::from(place)))
}

/// The directories of this host in which the server has its data, its log and its tablespaces, and the sockets that
/// it listens at.
pub(super) async fn lives_in(session: &Session) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    // Only some roles may ask for these.
    let asked = session
        .try_rows(
            "SELECT current_setting('data_directory') AS data, \
             current_setting('unix_socket_directories') AS sockets, \
             current_setting('port') AS port",
            &[],
        )
        .await;
    if let Ok(Some(row)) = asked.as_ref().map(|rows| rows.first()) {
        if let Some(data) = here(PathBuf::from(column::<String>(row, 0)?)) {
            // The log may lie on another disk.
            let log = std::fs::read_link(data.join("pg_wal")).ok();
            let log = log.map(|log| data.join(log));
            found.push(data);
            found.extend(log);
        }
        let name = format!(".s.PGSQL.{}", column::<String>(row, 2)?);
        let directories: String = column(row, 1)?;
        let sockets = directories
            .split(',')
            .map(|directory| Path::new(directory.trim().trim_matches('"')).join(&name));
        found.extend(sockets.filter(|socket| is_socket(socket)));
    }
    let rows = session
        .rows(
            "SELECT pg_tablespace_location(oid) AS place FROM pg_tablespace ORDER BY oid",
            &[],
        )
        .await?;
    for row in &rows {
        found.extend(here(PathBuf::from(column::<String>(row, 0)?)));
    }
    Ok(found)
}

/// A data directory or tablespace, when it is one of this host.
fn here(place: PathBuf) -> Option<PathBuf> {
    if !place.is_absolute() {
        return None;
    }
    // A path of a container may name something else here.
    let ours = place.join("PG_VERSION").exists()
        || std::fs::read_dir(&place)
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .any(|name| name.starts_with("PG_"));
    ours.then_some(place)
}
