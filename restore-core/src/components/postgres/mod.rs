//! A PostgreSQL database, restored beside the live one and renamed into its place.
//!
//! Staged as a second database of the same server; cut over by two renames in one transaction,
//! after the door was shut and every session ended; undone by the same renames back. Which of
//! the databases exist tells how far a run has come.

pub(crate) mod wal;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::archive::UnpackPolicy;
use crate::contract::{
    BackedUp, Backup, BackupWriter, Component, ComponentDeps, CutOver, Inspection, KeptByRun,
    Platform, Recovery, RunContext, SharedComponent, Staged, Table,
};
use crate::model::{CheckOutcome, Error, ErrorKind, Finding, Result, RunId, Timestamp};
use crate::swap::scope::Discard;

mod anew;
mod back_up;
mod check;
mod client;
mod cluster;
mod compare;
mod config;
mod content;
mod database;
mod globals;
mod inspect;
mod inspect_dump;
mod kept;
mod listing;
mod loss;
mod names;
mod notes;
mod passfile;
mod piped;
mod point;
mod privileges;
mod roles;
mod script;
mod sessions;
mod spool;
mod sql_dump;
mod stage;
mod swap;
mod tools;
mod unchanged;
mod views;

use client::{Login, Session};
pub use cluster::Cluster;
use config::PostgresConfig;
use names::Names;
use roles::Unusable;
use script::{Script, Skip};
use tools::{Input, Runner, Tools};

/// How long a server may take to recover from a crash before it lets anybody in.
const RECOVERY: Duration = Duration::from_secs(30 * 60);

/// How long one that was just started may take to let somebody in, where it is only looked at.
const STARTING: Duration = Duration::from_secs(60);

/// A PostgreSQL database, restored beside the live one and renamed into its place.
pub struct Postgres {
    name: String,
    config: PostgresConfig,
    platform: Arc<dyn Platform>,
    /// The cluster that it can be recovered out of.
    cluster: Option<Cluster>,
    /// Where dumps are copied to that others could change.
    scratch: PathBuf,
}

/// The files of a backup that it would use; what they are, their content says.
struct Artifacts {
    /// A file, or the folder of a dump in pg_dump's directory format.
    dump: Option<String>,
    sql: Option<String>,
}

impl Artifacts {
    /// Best first.
    fn all(&self) -> impl Iterator<Item = &String> {
        self.dump.iter().chain(&self.sql)
    }
}

impl Postgres {
    /// The component `name` from its table in the configuration.
    pub fn from_table(name: &str, table: Table, parts: &ComponentDeps) -> Result<SharedComponent> {
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
            scratch: parts.scratch.clone(),
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
            tls: self.config.tls.clone(),
            application: "restore".to_owned(),
        })
    }

    async fn session(&self, database: &str) -> Result<Session> {
        Session::open(&self.login().await?, database).await
    }

    /// A session from which to look at databases, also of a server that was started a moment ago.
    async fn maintenance(&self) -> Result<Session> {
        let login = self.login().await?;
        let deadline = tokio::time::Instant::now() + STARTING;
        loop {
            match self.on_maintenance(&login).await {
                Err(error)
                    if error.code() == client::NOT_READY
                        && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                opened => return opened,
            }
        }
    }

    /// The same for a look that nobody is to wait for.
    async fn glance(&self) -> Result<Session> {
        self.on_maintenance(&self.login().await?).await
    }

    /// The name of the database that a run keeps: the replaced one, or after an undo the restored.
    async fn kept_database(&self, session: &Session, cx: &RunContext) -> Result<Option<String>> {
        let names = self.names(cx.run());
        let name = match cx.cut_over() {
            CutOver::TakenBack => &names.staged,
            CutOver::NotBegun | CutOver::Begun | CutOver::Done => &names.replaced,
        };
        let found = database::Database::find(session, name).await?;
        Ok(found.map(|found| found.name))
    }

    /// A session from which databases are made and renamed for a run, once nothing that a killed
    /// process began for it goes on any more.
    async fn working(&self, cx: &RunContext) -> Result<Session> {
        let mut login = self.login().await?;
        login.application = names::application(&self.config.database, cx.run());
        // Only what goes forward is broken off on request.
        let forward = !cx.cut_over().is_begun();
        let session = self.recovered(cx, &login, forward).await?;
        sessions::end_leftovers(&session, &login.application).await?;
        Ok(session)
    }

    /// A session, also of a server that is still recovering from a crash: it answers, and lets
    /// nobody in yet. `stops`: the wait for it is broken off with the run.
    async fn recovered(&self, cx: &RunContext, login: &Login, stops: bool) -> Result<Session> {
        let deadline = tokio::time::Instant::now() + RECOVERY;
        let mut told = false;
        loop {
            let error = match self.on_maintenance(login).await {
                Err(error) if error.code() == client::NOT_READY => error,
                opened => return opened,
            };
            if tokio::time::Instant::now() >= deadline {
                return Err(error);
            }
            if !std::mem::replace(&mut told, true) {
                cx.notice(Finding::info(
                    "postgres.not_ready",
                    &self.name,
                    error.message(),
                ));
            }
            tokio::select! {
                () = cx.cancelled().cancelled(), if stops => return Err(Error::interrupted()),
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
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
        let first = |patterns: &[String]| {
            let file = backup.find(patterns).into_iter().next();
            file.or_else(|| spool::find_folder(backup, patterns))
        };
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

    /// What of a dump is left out, for a user with or without power over the whole server.
    fn skip(&self, superuser: bool) -> Skip {
        Skip {
            patterns: self.config.skip.clone(),
            unfit: true,
            views: true,
            extension_comments: !superuser,
        }
    }

    /// The SQL of an archive, the first of `tools` that can read it, and the archive without what
    /// is left out.
    async fn read_archive(
        &self,
        runner: &Runner<'_>,
        tools: &[Tools],
        input: &Input,
        (create, skip): (bool, &Skip),
    ) -> Result<(Tools, Script, Input)> {
        let mut failure = None;
        for tools in tools {
            let read = async {
                let listing = runner.listing(tools, input, (create, skip)).await?;
                let input = input.clone().only(listing.only);
                let mut script = runner.script(tools, &input, create).await?;
                script.data = listing.data;
                script.large_objects = listing.large_objects;
                script.skipped = listing.skipped;
                script.views = listing.views;
                script.subscriptions = listing.subscriptions;
                Ok((tools.clone(), script, input))
            };
            match read.await {
                // The server's own version says best what is wrong, unless a newer one can read.
                Err(error) if Error::code(&error) == "postgres.tool_failed" => {
                    failure.get_or_insert(error);
                }
                read => return read,
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

    /// Whether roles that a dump needs and the server lacks are created: the site says so, or whoever
    /// asked for the run.
    fn creates_roles(&self, cx: &RunContext) -> bool {
        self.config.roles == config::Roles::Create || cx.may_create()
    }

    /// The database in the words of plans and reports.
    fn database_words(&self) -> String {
        format!("database {}", self.config.database)
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

    async fn wait_ready(&self, cx: &RunContext) -> Result<()> {
        let session = self.recovered(cx, &self.login().await?, true).await?;
        session.close().await;
        Ok(())
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

    async fn unpack_policies(&self, backup: &Backup) -> Result<Vec<(String, UnpackPolicy)>> {
        match &self.cluster {
            Some(cluster) => cluster.unpack_policies(backup).await,
            None => Ok(Vec::new()),
        }
    }

    fn artifacts(&self, backup: &Backup) -> Vec<String> {
        let mut found: Vec<String> = self
            .find_artifacts(backup)
            .all()
            .flat_map(|label| spool::files_of(backup, label))
            .collect();
        if self.config.roles == config::Roles::Create {
            found.extend(backup.find(&self.config.globals).into_iter().next());
        }
        found
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

    async fn way_back(&self, cx: &RunContext) -> Result<()> {
        swap::way_back(self, cx).await
    }

    async fn as_left(&self, cx: &RunContext) -> Result<()> {
        swap::as_left(self, cx).await
    }

    async fn kept_by_runs(&self) -> Result<Vec<KeptByRun>> {
        let session = self.glance().await?;
        let kept = kept::by_runs(&session, &self.config.database, &self.config.service).await;
        session.close().await;
        kept
    }

    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        self.named(check::check(self, cx).await)
    }

    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
        let work = async {
            if let (Some(_), Some(cluster)) = (cx.target(), &self.cluster) {
                cluster.clear(cx, Discard::Staged).await?;
            }
            self.forget_spool(cx.run()).await?;
            swap::discard(self, cx, what).await
        };
        self.named(work.await)
    }

    async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
        let look = async {
            let session = self.glance().await?;
            let kept = self.kept_database(&session, cx).await;
            session.close().await;
            Ok(kept?.map(|name| format!("database {name} on {}", self.config.service)))
        };
        self.named(look.await)
    }

    async fn kept_bytes(&self, cx: &RunContext) -> Result<Option<u64>> {
        let look = async {
            let session = self.glance().await?;
            let bytes = match self.kept_database(&session, cx).await? {
                Some(name) => {
                    let sql = "SELECT pg_database_size($1::text::name)::int8";
                    let bytes: i64 = client::column(&session.one(sql, &[&name]).await?, 0)?;
                    u64::try_from(bytes).ok()
                }
                None => None,
            };
            session.close().await;
            Ok(bytes)
        };
        self.named(look.await)
    }
}

/// For `fuzz/`: a dump in SQL.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    script::fuzz(bytes);
}
