//! A PostgreSQL database, restored beside the live one and renamed into its place.
//!
//! Staged as a second database of the same server; cut over by two renames in one transaction,
//! after the door was shut and every session ended; undone by the same renames back. Which of
//! the databases exist tells how far a run has come.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::backup::{Backup, BackupWriter};
use crate::component::{
    BackedUp, CheckOutcome, Component, Inspection, Parts, Recovery, SharedComponent, Staged,
};
use crate::config::Table;
use crate::error::{Error, ErrorKind, Result};
use crate::platform::{Discard, Platform};
use crate::run::{RunContext, RunId};
use crate::time::Timestamp;

mod back_up;
mod check;
mod client;
mod cluster;
mod compare;
mod config;
mod database;
mod inspect;
mod inspect_dump;
mod names;
mod point;
mod privileges;
mod roles;
mod script;
mod sessions;
mod sql_dump;
mod stage;
mod swap;
mod tools;
mod unchanged;

use client::{Login, Session};
pub use cluster::Cluster;
use config::PostgresConfig;
use names::Names;
use roles::Unusable;
use script::Script;
use tools::{Input, Runner, Tools};

/// A PostgreSQL database, restored beside the live one and renamed into its place.
pub struct Postgres {
    name: String,
    config: PostgresConfig,
    platform: Arc<dyn Platform>,
    /// The cluster that it can be recovered out of.
    cluster: Option<Cluster>,
}

/// The files of a backup that it would use.
struct Artifacts {
    dump: Option<String>,
    sql: Option<String>,
}

impl Postgres {
    /// The component `name` from its table in the configuration.
    pub fn from_table(name: &str, table: Table, parts: &Parts) -> Result<SharedComponent> {
        let config = PostgresConfig::from_table(name, table, parts)?;
        let cluster = match &config.cluster {
            Some(cluster) => Some(point::cluster_of(name, cluster, parts)?),
            None => None,
        };
        Ok(Arc::new(Self {
            name: name.to_owned(),
            config,
            platform: parts.platform.clone(),
            cluster,
        }))
    }

    fn names(&self, run: &RunId) -> Names {
        Names::new(&self.config.database, run)
    }

    async fn login(&self) -> Result<Login> {
        Ok(Login {
            service: self.config.service.clone(),
            endpoint: self.platform.endpoint(&self.config.service).await?,
            inside: self.platform.endpoint_inside(&self.config.service).await?,
            user: self.config.user.clone(),
            password: self.config.password.read()?,
            application: "restore".to_owned(),
        })
    }

    async fn session(&self, database: &str) -> Result<Session> {
        Session::open(&self.login().await?, database).await
    }

    /// A session from which to look at databases.
    async fn maintenance(&self) -> Result<Session> {
        self.on_maintenance(&self.login().await?).await
    }

    /// A session from which databases are made and renamed for a run, once nothing that a killed
    /// process began for it goes on any more.
    async fn working(&self, cx: &RunContext) -> Result<Session> {
        let mut login = self.login().await?;
        login.application = names::application(&self.config.database, cx.run());
        let session = self.on_maintenance(&login).await?;
        sessions::end_leftovers(&session, &login.application).await?;
        Ok(session)
    }

    async fn on_maintenance(&self, login: &Login) -> Result<Session> {
        let mut first = None;
        for database in &self.config.maintenance {
            let error = match Session::open(login, database).await {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            // Another database helps only where this one was refused.
            let refused = matches!(
                error.code(),
                "postgres.auth" | "postgres.no_database" | "postgres.refused"
            );
            first.get_or_insert(error);
            if !refused {
                break;
            }
        }
        Err(first.unwrap_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "postgres.no_maintenance",
                "there is no database to connect to but the one to restore",
            )
            .hint("name another one as maintenance_database")
        }))
    }

    fn find_artifacts(&self, backup: &Backup) -> Artifacts {
        let first = |patterns: &[String]| backup.find(patterns).into_iter().next();
        Artifacts {
            dump: first(&self.config.dump),
            sql: first(&self.config.sql),
        }
    }

    fn no_artifact(&self, backup: &Backup) -> Error {
        let patterns: Vec<&str> = self
            .config
            .dump
            .iter()
            .chain(&self.config.sql)
            .map(String::as_str)
            .collect();
        Error::new(
            ErrorKind::Preflight,
            "postgres.no_artifact",
            format!(
                "backup {} has no dump of {} (looked for {})",
                backup.id(),
                self.config.database,
                patterns.join(", ")
            ),
        )
        .hint("choose another backup, or leave the component out with --only")
    }

    async fn input(&self, path: &Path) -> Result<Input> {
        Ok(Input {
            path: path.to_owned(),
            seen: self.platform.path_in(&self.config.service, path).await?,
        })
    }

    /// The SQL of a custom dump, and the first of `tools` that can read it.
    async fn read_custom(
        &self,
        runner: &Runner<'_>,
        tools: &[Tools],
        input: &Input,
        create: bool,
    ) -> Result<(Tools, Script)> {
        let mut failure = None;
        for tools in tools {
            match runner.script(tools, input, create).await {
                Ok(script) => return Ok((tools.clone(), script)),
                // The server's own version says best what is wrong, unless a newer one can read.
                Err(error) if error.code() == "postgres.tool_failed" => {
                    failure.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "postgres.no_tools",
                "no pg_restore was found",
            )
        }))
    }

    async fn unusable_roles(&self, session: &Session, script: &Script) -> Result<Unusable> {
        Unusable::find(session, script).await
    }

    fn named<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.in_component(&self.name))
    }
}

#[async_trait]
impl Component for Postgres {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn stops(&self) -> Vec<String> {
        self.config.stops.clone()
    }

    fn needs(&self) -> Vec<String> {
        vec![self.config.service.clone()]
    }

    fn recovery(&self) -> Recovery {
        match &self.config.cluster {
            Some(cluster) => Recovery::PartOf(cluster.clone()),
            None => Recovery::None,
        }
    }

    async fn base_ended(&self, backup: &Backup) -> Result<Option<Timestamp>> {
        match &self.cluster {
            Some(cluster) => cluster.base_ended(backup).await,
            None => Ok(None),
        }
    }

    fn artifacts(&self, backup: &Backup) -> Vec<String> {
        let Artifacts { dump, sql } = self.find_artifacts(backup);
        dump.into_iter().chain(sql).collect()
    }

    async fn live_bytes(&self) -> Result<u64> {
        self.named(back_up::live_bytes(self).await)
    }

    async fn back_up(&self, writer: &BackupWriter) -> Result<BackedUp> {
        self.named(back_up::back_up(self, writer).await)
    }

    async fn inspect(&self, cx: &RunContext) -> Result<Inspection> {
        self.named(inspect::inspect(self, cx).await)
    }

    async fn stage(&self, cx: &RunContext) -> Result<Staged> {
        self.named(stage::stage(self, cx).await)
    }

    async fn cut_over(&self, cx: &RunContext) -> Result<()> {
        self.named(swap::cut_over(self, cx).await)
    }

    async fn undo(&self, cx: &RunContext) -> Result<()> {
        self.named(swap::undo(self, cx).await)
    }

    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        self.named(check::check(self, cx).await)
    }

    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
        let work = async {
            if let (Some(_), Some(cluster)) = (cx.target(), &self.cluster) {
                cluster.clear(cx, Discard::Staged).await?;
            }
            swap::discard(self, cx, what).await
        };
        self.named(work.await)
    }

    async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
        let look = async {
            let session = self.maintenance().await?;
            let names = self.names(cx.run());
            let found = database::Database::find(&session, &names.replaced).await?;
            session.close().await;
            Ok(found.map(|found| format!("database {} on {}", found.name, self.config.service)))
        };
        self.named(look.await)
    }
}
