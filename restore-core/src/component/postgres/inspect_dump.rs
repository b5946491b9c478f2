//! What the dump is, and what it needs that the server may lack (trap 25).

use serde_json::json;

use super::client::{Session, column};
use super::config::MissingRoles;
use super::database::Database;
use super::inspect::Inspect;
use super::roles::Unusable;
use super::script::Script;
use super::tools::Runner;
use super::{Artifacts, sql_dump};
use crate::error::{ErrorKind, Result};

/// The largest SQL dump that is read to its end before a run, to find the roles that it names.
const LARGEST_SQL: u64 = 4 << 30;

impl Inspect<'_> {
    pub(super) async fn dump(
        &mut self,
        session: &Session,
        artifacts: &Artifacts,
        live: Option<&Database>,
    ) -> Result<()> {
        if artifacts.dump.is_none() && artifacts.sql.is_none() {
            return Ok(());
        }
        let login = self.pg.login().await?;
        let runner = Runner {
            platform: self.pg.platform.as_ref(),
            login: &login,
            cancel: self.cx.cancelled(),
        };
        let server = session.version() / 10_000;
        let tools = match runner.find(self.pg.config.bin.as_deref(), server).await {
            Ok(tools) => tools,
            Err(error) => {
                self.error(&error);
                return Ok(());
            }
        };
        if let Some(first) = tools.first() {
            self.fact("tools", json!(first.version));
            if first.major > server {
                self.warn(
                    "postgres.newer_tools",
                    format!(
                        "pg_restore {} is newer than the server ({server}) and may use settings that the server does not know",
                        first.version
                    ),
                );
            }
        }
        let sql_usable = match &artifacts.sql {
            Some(sql) => self.sql_end(sql, artifacts.dump.is_some()).await?,
            None => false,
        };
        let script = match &artifacts.dump {
            Some(dump) => {
                let source = self.cx.source(dump)?;
                let input = self.pg.input(source.path()).await?;
                let read = self
                    .pg
                    .read_custom(&runner, &tools, &input, live.is_none())
                    .await;
                match read {
                    Ok((_, script)) => Some(script),
                    Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                    Err(error) if sql_usable => {
                        self.warn(
                            "postgres.dump_unreadable",
                            format!("{dump} cannot be read, the SQL dump would be used: {error}"),
                        );
                        None
                    }
                    Err(error) => {
                        self.refuse(
                            "postgres.dump_unreadable",
                            format!("{dump} cannot be read: {error}"),
                            "choose another backup; a dump of a newer pg_dump needs a newer pg_restore",
                        );
                        return Ok(());
                    }
                }
            }
            None => None,
        };
        let from_sql = script.is_none();
        let script = match script {
            Some(script) => script,
            None => match self.sql_script(artifacts).await? {
                Some(script) => script,
                None => return Ok(()),
            },
        };
        self.script(session, &script, from_sql).await
    }

    /// Whether the SQL dump is whole, as far as its end tells.
    async fn sql_end(&mut self, sql: &str, beside_dump: bool) -> Result<bool> {
        let source = self.cx.source(sql)?;
        let whole = sql_dump::is_complete(source.path()).await?;
        if !whole {
            let error = sql_dump::cut(sql);
            if beside_dump {
                self.warn(error.code(), error.message().to_owned());
            } else {
                self.error(&error);
            }
        }
        Ok(whole)
    }

    async fn sql_script(&mut self, artifacts: &Artifacts) -> Result<Option<Script>> {
        let Some(sql) = &artifacts.sql else {
            return Ok(None);
        };
        let source = self.cx.source(sql)?;
        if source.size().unwrap_or(0) > LARGEST_SQL {
            self.warn(
                "postgres.sql_not_read",
                format!("{sql} is too large to be read before the run: missing roles and extensions are found while staging"),
            );
            return Ok(None);
        }
        let script = sql_dump::read(source.path(), self.cx.cancelled()).await?;
        if script.complete
            && let Err(error) = sql_dump::refuse(&script, sql)
        {
            self.error(&error);
        }
        Ok(Some(script))
    }

    /// What the dump needs and the server may lack.
    async fn script(&mut self, session: &Session, script: &Script, from_sql: bool) -> Result<()> {
        self.fact("dump_entries", json!(script.kinds()));
        if let Some(version) = &script.server {
            self.fact("dump_server", json!(version));
        }
        let server = session.version() / 10_000;
        if let Some(dumped) = script.server_major().filter(|dumped| *dumped > server) {
            self.warn(
                "postgres.newer_dump",
                format!("the dump is of PostgreSQL {dumped}, the server is {server}: it may use what the server does not know; staging will tell, before anything live is touched"),
            );
        }
        let roles = self.pg.unusable_roles(session, script).await?;
        if !roles.is_empty() {
            if self.pg.config.missing_roles == MissingRoles::Ignore && !from_sql {
                self.warn(
                    roles.code(),
                    format!(
                        "{}: it would be restored without owners and privileges",
                        roles.describe()
                    ),
                );
            } else {
                self.refuse(roles.code(), roles.describe(), Unusable::HINT);
            }
        }
        self.extensions(session, script).await?;
        let known = names(session, "SELECT spcname::text FROM pg_tablespace").await?;
        let missing: Vec<&str> = script
            .tablespaces
            .iter()
            .filter(|name| !known.contains(name))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            self.refuse(
                "postgres.missing_tablespaces",
                format!(
                    "the dump names tablespaces that the server lacks: {}",
                    missing.join(", ")
                ),
                "create them with CREATE TABLESPACE",
            );
        }
        Ok(())
    }

    async fn extensions(&mut self, session: &Session, script: &Script) -> Result<()> {
        let known = names(session, "SELECT name::text FROM pg_available_extensions").await?;
        let missing: Vec<&str> = script
            .extensions
            .iter()
            .filter(|name| !known.contains(name))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            self.refuse(
                "postgres.missing_extensions",
                format!(
                    "the dump needs extensions that the server lacks: {}",
                    missing.join(", ")
                ),
                "install their packages on the database server",
            );
        }
        if session.version() < 130_000 {
            return Ok(());
        }
        let closed = names(
            session,
            "SELECT v.name::text FROM pg_available_extension_versions v \
             JOIN pg_available_extensions e ON e.name = v.name AND e.default_version = v.version \
             WHERE v.superuser AND NOT v.trusted AND NOT \
             (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
        )
        .await?;
        let closed: Vec<&str> = script
            .extensions
            .iter()
            .filter(|name| closed.contains(name))
            .map(String::as_str)
            .collect();
        if !closed.is_empty() {
            self.refuse(
                "postgres.closed_extensions",
                format!(
                    "only a superuser can create extensions of the dump: {}",
                    closed.join(", ")
                ),
                "let the component connect as a superuser",
            );
        }
        Ok(())
    }
}

async fn names(session: &Session, sql: &str) -> Result<Vec<String>> {
    let rows = session.rows(sql, &[]).await?;
    rows.iter().map(|row| column(row, 0)).collect()
}
