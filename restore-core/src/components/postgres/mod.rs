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
    BackedUp, Backup, BackupWriter, Component, ComponentDeps, Contents, Create, CutOver,
    Inspection, KeptByRun, Platform, Recovery, RunContext, SharedComponent, Staged, Table,
};
use crate::model::{CheckOutcome, Error, ErrorKind, Finding, Result, Timestamp};
use crate::swap::scope::Discard;
use crate::sys::retry::{Retry, while_failing};

mod anew;
mod back_up;
mod beside;
mod check;
mod client;
mod cluster;
mod cluster_directory;
mod compare;
mod config;
mod content;
mod contents;
mod database;
mod globals;
mod inspect;
mod inspect_cluster;
mod inspect_dump;
mod kept;
mod listing;
mod loss;
mod names;
mod new_cluster;
mod notes;
mod passfile;
mod piped;
mod point;
mod privileges;
mod roles;
mod room;
mod script;
mod search_paths;
mod sessions;
mod spool;
mod sql_dump;
mod stage;
mod swap;
mod tables;
mod toc;
mod tools;
mod unchanged;
mod views;
mod whole;

use client::{Login, Session, SessionError};
pub use cluster::Cluster;
use config::PostgresConfig;
use names::DatabaseNames;
use roles::Unusable;
use script::{Script, Skip};
use tools::{Input, Runner, ToolFailed, Tools};

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
    whole_dumps: whole::WholeDumps,
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
            whole_dumps: whole::WholeDumps::default(),
        }))
    }

    fn names(&self, cx: &RunContext) -> DatabaseNames {
        let names = DatabaseNames::new(&self.config.database, cx.run());
        match cx.restore_as() {
            Some(name) => names.beside(name),
            None => names,
        }
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
        let retry = Retry::within(STARTING, Duration::from_millis(200));
        let passes = |error: &Error| error.is(&SessionError::NotReady);
        while_failing(retry, passes, || self.on_maintenance(&login)).await
    }

    /// A session as [`maintenance`](Self::maintenance) gives it, for a look that nobody is to wait for.
    async fn glance(&self) -> Result<Session> {
        self.on_maintenance(&self.login().await?).await
    }

    /// The name of the database that a run keeps: the replaced one, or after an undo the restored.
    async fn kept_database(&self, session: &Session, cx: &RunContext) -> Result<Option<String>> {
        let names = self.names(cx);
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
                Err(error) if error.is(&SessionError::NotReady) => error,
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
            let refused = error.is(&SessionError::Auth)
                || error.is(&SessionError::NoDatabase)
                || error.is(&SessionError::Refused);
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
        let first = |patterns: &[String]| find_all(backup, &self.name, patterns).into_iter().next();
        Artifacts {
            dump: first(&self.config.dump),
            sql: first(&self.config.sql),
        }
    }

    /// That a pattern fits several dumps, of which the first by name may be another database's.
    fn ambiguous(&self, backup: &Backup) -> Option<Error> {
        let config = &self.config;
        let (key, found) = [("dump", &config.dump), ("sql", &config.sql)]
            .map(|(key, patterns)| (key, find_all(backup, &self.name, patterns)))
            .into_iter()
            .find(|(_, found)| found.len() > 1)?;
        let named: Vec<&str> = found.iter().take(10).map(String::as_str).collect();
        let more = match found.len().saturating_sub(named.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(
            Error::new(
                ErrorKind::Config,
                "postgres.several_dumps",
                format!(
                    "backup {} has several files that `{key}` fits, and only one is restored as {}: {}{more}",
                    backup.id(),
                    config.database,
                    named.join(", ")
                ),
            )
            .hint(format!(
                "make the pattern in `{key}` of [components.{}] fit the dump of this database only; of one in the directory format it names the folder",
                self.name
            )),
        )
    }

    fn no_artifact(&self, backup: &Backup) -> Error {
        let all: Vec<&str> = self
            .config
            .dump
            .iter()
            .chain(&self.config.sql)
            .map(String::as_str)
            .collect();
        // A name with each end that a compressed file may have is one name.
        let [_, packed @ ..] = config::PACKED;
        let is_twin = |pattern: &str| {
            let mut plain = packed.iter().filter_map(|end| pattern.strip_suffix(end));
            plain.any(|plain| all.contains(&plain))
        };
        let patterns: Vec<&str> = all.iter().copied().filter(|it| !is_twin(it)).collect();
        let compressed = match patterns.len() == all.len() {
            true => "",
            false => ", compressed or not",
        };
        Error::new(
            ErrorKind::Preflight,
            "postgres.no_artifact",
            format!(
                "backup {} has no dump of {} (looked for {}{compressed})",
                backup.id(),
                self.config.database,
                patterns.join(", ")
            ),
        )
        .hint("choose another backup, or leave the component out with --only")
    }

    /// What of a dump is left out, for a user with or without power over the whole server.
    fn skip(&self, cx: &RunContext, superuser: bool) -> Skip {
        Skip {
            only_rows: tables::entries(cx.tables()),
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
                script.filled = listing.data > 0;
                script.rows_of = listing.rows_of;
                script.large_objects = listing.large_objects;
                script.listed_objects = listing.objects;
                script.owners.extend(listing.owners.iter().cloned());
                script.roles.extend(listing.owners);
                if !listing.grants.is_empty() {
                    let grants = input.clone().only(Some(listing.grants));
                    let granted = runner.grants(tools, &grants).await?;
                    script.roles.extend(granted.roles);
                }
                script.skipped = listing.skipped;
                script.views = listing.views;
                script.listed = true;
                script.subscriptions = listing.subscriptions;
                Ok((tools.clone(), script, input))
            };
            match read.await {
                // The server's own version says best what is wrong, unless a newer one can read.
                Err(error) if Error::is(&error, &ToolFailed) => {
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

    /// The database that a run makes or replaces, in the words of plans and reports.
    fn database_words(&self, cx: &RunContext) -> String {
        let name = cx.restore_as().unwrap_or(&self.config.database);
        format!("database {name}")
    }

    fn named<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.in_component(&self.name))
    }
}

/// The dumps that the first pattern fits which fits any; a folder only where no file does.
fn find_all(backup: &Backup, component: &str, patterns: &[String]) -> Vec<String> {
    match backup.find_of(component, patterns) {
        found if found.is_empty() => spool::find_folders(backup, component, patterns),
        found => found,
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

    async fn lives_in(&self) -> Result<Vec<(String, PathBuf)>> {
        let told = async {
            let session = self.glance().await?;
            let told = inspect::lives_in(&session).await;
            session.close().await;
            told
        };
        let paths = self.named(told.await)?.into_iter();
        let service = &self.config.service;
        Ok(paths.map(|path| (service.clone(), path)).collect())
    }

    async fn wait_ready(&self, cx: &RunContext) -> Result<()> {
        let session = self.recovered(cx, &self.login().await?, true).await?;
        session.close().await;
        Ok(())
    }

    fn restores_beside(&self) -> bool {
        true
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
            found.extend(backup.find_of(&self.name, &self.config.globals));
        }
        found
    }

    fn contents(&self) -> Option<&dyn Contents> {
        Some(self)
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

    fn creator(&self) -> Option<&dyn Create> {
        Some(self)
    }

    async fn stage(&self, cx: &RunContext) -> Result<Staged> {
        self.named(stage::stage(self, cx).await)
    }

    async fn cut_over(&self, cx: &RunContext) -> Result<()> {
        self.named(match cx.tables() {
            [] => swap::cut_over(self, cx).await,
            _ => tables::cut_over(self, cx).await,
        })
    }

    async fn undo(&self, cx: &RunContext) -> Result<()> {
        self.named(match cx.tables() {
            [] => swap::undo(self, cx).await,
            _ => tables::undo(self, cx).await,
        })
    }

    async fn as_staged(&self, cx: &RunContext) -> Result<()> {
        match cx.tables() {
            [] => swap::as_staged(self, cx).await,
            _ => tables::as_staged(self, cx).await,
        }
    }

    async fn way_back(&self, cx: &RunContext) -> Result<()> {
        match cx.tables() {
            [] => swap::way_back(self, cx).await,
            _ => tables::way_back(self, cx).await,
        }
    }

    async fn can_undo(&self, cx: &RunContext) -> Result<()> {
        swap::can_undo(self, cx).await
    }

    async fn as_left(&self, cx: &RunContext) -> Result<()> {
        match cx.tables() {
            [] => swap::as_left(self, cx).await,
            _ => tables::as_left(self, cx).await,
        }
    }

    async fn kept_by_runs(&self) -> Result<Vec<KeptByRun>> {
        let session = self.glance().await?;
        let kept = kept::by_runs(&session, &self.config.database, &self.config.service).await;
        session.close().await;
        kept
    }

    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        self.named(match cx.tables() {
            [] => check::check(self, cx).await,
            _ => tables::check(self, cx).await,
        })
    }

    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
        let work = async {
            if new_cluster::is_removed(cx) {
                return self.forget_spool(cx.run()).await;
            }
            if let (Some(_), Some(cluster)) = (cx.target(), &self.cluster) {
                cluster.clear(cx, Discard::Staged).await?;
            }
            self.forget_spool(cx.run()).await?;
            match cx.tables() {
                [] => swap::discard(self, cx, what).await,
                _ => tables::discard(self, cx, what).await,
            }
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

/// For `fuzz/`: the table of contents of a dump in the directory format.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_contents(bytes: &[u8]) {
    toc::fuzz(bytes);
}

/// For `fuzz/`: what pg_dumpall writes of roles.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_globals(bytes: &[u8]) {
    globals::fuzz(bytes);
}

/// For `fuzz/`: the contents of an archive as pg_restore lists them.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_listing(bytes: &[u8]) {
    listing::fuzz(bytes);
}

/// For the comparison with psql: the first line that is refused.
#[cfg(feature = "fuzzing")]
pub(crate) fn refused(bytes: &[u8]) -> Option<u64> {
    script::refused(bytes)
}
