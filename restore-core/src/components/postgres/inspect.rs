//! What speaks for and against a run, found without writing anything.

use std::path::PathBuf;

use serde_json::json;

use super::anew::ClusterPlace;
use super::client::{BROKEN, Session, column};
use super::database::Database;
use super::names::ident;
use super::sessions::{NOT_OURS_HINT, PREPARED_HINT, not_ours, prepared};
use super::{Postgres, compare};
use crate::contract::{Inspection, RunContext, SpaceNeed};
use crate::model::{Error, Finding, Result};
use crate::sys::process::account::Account;
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

/// See [`Component::inspect`](crate::component::Component::inspect).
pub(super) async fn inspect(pg: &Postgres, cx: &RunContext) -> Result<Inspection> {
    let names = pg.names(cx.run());
    let mut inspect = Inspect {
        pg,
        cx,
        out: Inspection {
            artifacts: Vec::new(),
            summary: format!("database {}", pg.config.database),
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
    let artifacts = pg.find_artifacts(cx.backup());
    let first = artifacts.dump.as_ref().or(artifacts.sql.as_ref());
    match first {
        Some(first) => {
            inspect.out.artifacts.push(first.clone());
            inspect.out.read_bytes = super::spool::files_of(cx.backup(), first)
                .iter()
                .filter_map(|path| cx.backup().file(path))
                .fold(0, |all: u64, file| all.saturating_add(file.size));
        }
        None => {
            let error = pg.no_artifact(cx.backup());
            inspect.error(&error);
        }
    }
    match pg.maintenance().await {
        Ok(session) => {
            let live = inspect.live(&session).await?;
            inspect.dump(&session, &artifacts, live.as_ref()).await?;
            inspect.power();
            session.close().await;
        }
        Err(error) => {
            inspect.error(&error);
            inspect.no_cluster().await;
        }
    }
    Ok(inspect.out)
}

impl Inspect<'_> {
    pub(super) fn error(&mut self, error: &Error) {
        let finding = Finding::from_error(&self.pg.name, error);
        self.out.findings.push(finding);
    }

    /// What is not made even where a run may create: a server needs a cluster to start at all.
    async fn no_cluster(&mut self) {
        let service = &self.pg.config.service;
        let down = self.pg.platform.service(service).await;
        if !self.cx.may_create() || down.is_ok_and(|state| state.running > 0) {
            return;
        }
        let place = ClusterPlace::of(&self.pg.platform.start_command(service));
        let state = place
            .as_ref()
            .map(|place| format!(", and {}", place.state()));
        let message = format!(
            "{service} does not run{}: --create makes roles and databases in a server that runs, and no cluster for it",
            state.unwrap_or_default()
        );
        let anew = match &place {
            Some(place) => format!(
                "`{}` as root makes an empty one; then `restore run ID --create` starts it, and makes the roles and {} in it; other databases that were in it are no part of that",
                self.commands(place).await,
                self.pg.database_words()
            ),
            None => format!(
                "make one as the service's user with `initdb` of its version and {} as its superuser (an image of PostgreSQL makes one itself where it starts on an empty volume: move aside what is in it), start {service}, and plan again",
                self.pg.config.user
            ),
        };
        let hint = match &self.pg.config.cluster {
            Some(cluster) => format!(
                "where its data directory is gone or damaged, recover it from a base backup first (`restore run ID --create --only {cluster}`); where there are only dumps: {anew}"
            ),
            None => format!("where its data directory is gone or damaged beyond repair: {anew}"),
        };
        self.refuse("postgres.no_cluster", message, &hint);
    }

    /// How a cluster is made there by hand.
    async fn commands(&self, place: &ClusterPlace) -> String {
        let pg = self.pg;
        let service = &pg.config.service;
        let owner = pg.platform.owner(service).await.ok().flatten();
        // No server runs as root.
        let account = owner.filter(|(uid, _)| *uid != 0).map_or_else(
            || "postgres".to_owned(),
            |(uid, gid)| Account::of(uid, gid).name,
        );
        let endpoint = pg.platform.endpoint(service).await.ok();
        place.commands(
            &account,
            &pg.config.user,
            pg.config.password.file(),
            endpoint.as_ref(),
        )
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
        if let Some(live) = &live {
            size = self.live_facts(session, live).await?;
            self.obstacles(session, live).await?;
        } else {
            self.out.summary += ", which does not exist yet";
            self.out.creates.push(self.pg.database_words());
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
            self.refuse(
                "postgres.not_owner",
                format!(
                    "{user} may not rename database {}: it belongs to {}",
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
        match self.tables_of(&live.name).await {
            Ok(tables) => self.fact("tables", json!(tables)),
            // It is moved aside by its name, and not read.
            Err(error) if error.code() == BROKEN => {
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

    /// How many tables a database has.
    async fn tables_of(&self, database: &str) -> Result<usize> {
        let inside = self.pg.session(database).await?;
        let tables = compare::tables(&inside).await;
        inside.close().await;
        tables.map(|tables| tables.len())
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
        let bytes = size.max(self.out.read_bytes.saturating_mul(UNPACKED));
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
