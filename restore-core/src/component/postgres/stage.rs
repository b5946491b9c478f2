//! Restoring beside the live database: from the custom dump, or from an empty database again
//! from the SQL dump.

use std::future::Future;

use serde_json::{Map, Value, json};

use super::Postgres;
use super::client::{Login, Session, column};
use super::compare;
use super::config::MissingRoles;
use super::database::{Database, comment_sql};
use super::names::{Names, ident};
use super::privileges;
use super::script::Script;
use super::sessions::drop_database;
use super::sql_dump;
use super::swap::{Before, Found, mark};
use super::tools::{Input, Runner, Tools, tool_failed};
use super::unchanged::Unchanged;
use crate::component::Staged;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::Finding;
use crate::run::RunContext;
use crate::stream::{Source, hash_file};

/// The fact under which is kept what was staged, for the check after the cut-over.
pub(super) const STAGED: &str = "staged";

/// See [`Component::stage`](crate::component::Component::stage).
pub(super) async fn stage(pg: &Postgres, cx: &RunContext) -> Result<Staged> {
    // Whatever is under way ends by being dropped: programs are killed, connections closed.
    tokio::select! {
        biased;
        () = cx.cancelled().cancelled() => Err(Error::interrupted()),
        staged = Stage::begin(pg, cx) => staged,
    }
}

pub(super) struct Stage<'a> {
    pub(super) pg: &'a Postgres,
    pub(super) cx: &'a RunContext,
    login: Login,
    /// On the maintenance database.
    session: Session,
    names: Names,
    live: Option<Database>,
    tools: Vec<Tools>,
}

/// What was loaded, by which way.
pub(super) struct Loaded {
    script: Script,
    artifact: String,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Stage<'a> {
    async fn begin(pg: &'a Postgres, cx: &'a RunContext) -> Result<Staged> {
        let session = pg.working(cx).await?.patient().await?;
        let names = pg.names(cx.run());
        let found = Found::look(&session, &names).await?;
        if found.replaced.is_some() || found.is_cut_over(Before::recall(cx)?.as_ref()) {
            return Err(Error::new(
                ErrorKind::Failed,
                "postgres.already_cut_over",
                format!("run {} has put {} in place already", cx.run(), names.live),
            )
            .hint("`restore confirm` or `restore rollback` that run"));
        }
        let login = pg.login().await?;
        let runner = Runner {
            platform: pg.platform.as_ref(),
            login: &login,
            cancel: cx.cancelled(),
        };
        let tools = runner
            .find(pg.config.bin.as_deref(), session.version() / 10_000)
            .await?;
        let stage = Self {
            pg,
            cx,
            login,
            session,
            names,
            live: found.live,
            tools,
        };
        let loaded = stage.load().await?;
        let staged = stage.finish(loaded).await?;
        stage.session.close().await;
        Ok(staged)
    }

    fn runner(&self) -> Runner<'_> {
        Runner {
            platform: self.pg.platform.as_ref(),
            login: &self.login,
            cancel: self.cx.cancelled(),
        }
    }

    async fn load(&self) -> Result<Loaded> {
        if let Some(target) = self.cx.target() {
            return self.load_recovered(target).await;
        }
        let artifacts = self.pg.find_artifacts(self.cx.backup());
        let Some(dump) = artifacts.dump else {
            let Some(sql) = artifacts.sql else {
                return Err(self.pg.no_artifact(self.cx.backup()));
            };
            return self.load_sql(&sql).await;
        };
        let source = self.cx.source(&dump)?;
        let failure = match self.verified(&source, self.load_custom(&source)).await? {
            Ok(loaded) => return Ok(loaded),
            Err(error) => error.context(&dump),
        };
        // Only what the tool says of the dump speaks for another dump of the same data.
        if failure.code() != "postgres.tool_failed" {
            return Err(failure);
        }
        self.session.run("SELECT 1").await?;
        let Some(sql) = artifacts.sql else {
            return Err(
                failure.hint("this backup has no SQL dump to fall back to: choose another backup")
            );
        };
        let mut loaded = self
            .load_sql(&sql)
            .await
            .map_err(|e| e.context(format!("{}; then {sql}", failure.message())))?;
        loaded.findings.insert(
            0,
            Finding::warning(
                "postgres.fallback",
                &self.pg.name,
                format!(
                    "restored from {sql} into an empty database, because {}",
                    failure.message()
                ),
            ),
        );
        Ok(loaded)
    }

    /// Hashes the whole file, and only then runs `work`: what a dump holds is executed, so not a
    /// word of one that is not the one that was made may reach the server. A file that was
    /// changed under the reader proves nothing either, whatever `work` says.
    async fn verified<T>(
        &self,
        source: &Source,
        work: impl Future<Output = Result<T>>,
    ) -> Result<Result<T>> {
        let seen = Unchanged::look(source).await?;
        if let Some(expected) = source.expected() {
            let progress = self.cx.progress("verify", source.size());
            let found = hash_file(source, progress).await?;
            if found != expected {
                return Err(Error::new(
                    ErrorKind::Verification,
                    "hash.mismatch",
                    format!(
                        "{} has the SHA-256 {found}, but the manifest says {expected}",
                        source.label()
                    ),
                )
                .hint("the file was changed or damaged since the backup was made: choose another backup, or fetch this one again"));
            }
            seen.still(source).await?;
        }
        let done = work.await;
        if matches!(&done, Err(error) if error.kind() == ErrorKind::Interrupted) {
            return Ok(done);
        }
        seen.still(source).await?;
        Ok(done)
    }

    pub(super) async fn load_custom(&self, source: &Source) -> Result<Loaded> {
        let runner = self.runner();
        let input = self.input(source).await?;
        let (tools, script) = self
            .pg
            .read_custom(&runner, &self.tools, &input, self.live.is_none())
            .await?;
        let mut findings = Vec::new();
        let roles = self.pg.unusable_roles(&self.session, &script).await?;
        let conninfo = runner.conninfo(&self.names.staged);
        let mut args = vec![
            "--exit-on-error".to_owned(),
            "--no-password".to_owned(),
            // One made anew would name the same slot at the publisher as the live database's.
            "--no-subscriptions".to_owned(),
            format!("--dbname={conninfo}"),
        ];
        if !roles.is_empty() {
            if self.pg.config.missing_roles == MissingRoles::Refuse {
                return Err(roles.as_error(source.label()));
            }
            args.extend(["--no-owner".to_owned(), "--no-privileges".to_owned()]);
            let owner = self.owner();
            if owner != self.pg.config.user {
                args.push(format!("--role={owner}"));
            }
            findings.push(Finding::warning(
                "postgres.without_owners",
                &self.pg.name,
                format!(
                    "restored without owners and privileges, everything belongs to {owner}: {}",
                    roles.describe()
                ),
            ));
        }
        if input.seen.is_some() {
            args.push(format!("--jobs={}", self.pg.config.jobs));
        }
        self.fresh(&script).await?;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let exit = runner
            .run(&tools, "pg_restore", &args, Some(&input), |_| {})
            .await?;
        if !exit.success() {
            return Err(tool_failed("pg_restore", &exit));
        }
        Ok(Loaded {
            script,
            artifact: source.label().to_owned(),
            findings,
        })
    }

    async fn load_sql(&self, path: &str) -> Result<Loaded> {
        let source = self.cx.source(path)?;
        self.verified(&source, self.run_sql(&source)).await?
    }

    async fn run_sql(&self, source: &Source) -> Result<Loaded> {
        let script = sql_dump::read(source.path(), self.cx.cancelled()).await?;
        sql_dump::refuse(&script, source.label())?;
        let roles = self.pg.unusable_roles(&self.session, &script).await?;
        if !roles.is_empty() {
            // psql cannot leave statements out.
            return Err(roles.as_error(source.label()));
        }
        let tools = self.tools.first().ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "postgres.no_tools",
                "no psql was found",
            )
        })?;
        self.fresh(&script).await?;
        let runner = self.runner();
        let input = self.input(source).await?;
        let conninfo = format!("--dbname={}", runner.conninfo(&self.names.staged));
        let file = if input.seen.is_some() {
            "--file"
        } else {
            "--file=-"
        };
        // Not in a single transaction: a database half restored is dropped anyway, and a dump of
        // many tables or large objects would need more locks than the server has.
        let args = [
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--no-password",
            &conninfo,
            file,
        ];
        let exit = runner
            .run(tools, "psql", &args, Some(&input), |_| {})
            .await?;
        if !exit.success() {
            return Err(tool_failed("psql", &exit));
        }
        Ok(Loaded {
            script,
            artifact: source.label().to_owned(),
            findings: Vec::new(),
        })
    }

    async fn input(&self, source: &Source) -> Result<Input> {
        self.pg.input(source.path()).await
    }

    fn owner(&self) -> &str {
        self.live
            .as_ref()
            .map_or(&self.pg.config.user, |live| &live.owner)
    }

    /// An empty staged database, of the live one's kind; an earlier attempt's is dropped first.
    async fn fresh(&self, script: &Script) -> Result<()> {
        drop_database(&self.session, &self.names.staged).await?;
        let options = match &self.live {
            Some(live) => live.create_options(),
            None => {
                let mut options = script.create.clone();
                options.push(("OWNER".to_owned(), ident(&self.pg.config.user)));
                options
            }
        };
        let options: Vec<String> = options
            .iter()
            .map(|(key, value)| format!("{key} = {value}"))
            .collect();
        self.session
            .run(&format!(
                "CREATE DATABASE {} WITH TEMPLATE template0 {}",
                ident(&self.names.staged),
                options.join(" ")
            ))
            .await
            .map_err(|e| e.context(format!("cannot create database {}", self.names.staged)))?;
        self.session
            .run(&comment_sql(&self.names.staged, Some(&mark(self.cx))))
            .await
    }

    /// Compares, analyses, counts, and gives the database the live one's properties.
    async fn finish(&self, loaded: Loaded) -> Result<Staged> {
        let Loaded {
            script,
            artifact,
            mut findings,
        } = loaded;
        let staged = self.pg.session(&self.names.staged).await?.patient().await?;
        compare::complete(&staged, &script).await?;
        self.mend(&staged, &mut findings).await?;
        let validity = compare::validity(&staged).await?;
        if !validity.invalid_indexes.is_empty() {
            return Err(Error::new(
                ErrorKind::Failed,
                "postgres.invalid",
                format!(
                    "indexes of the restored database are not valid: {}",
                    validity.invalid_indexes.join(", ")
                ),
            )
            .hint("try again; the live database was not touched"));
        }
        if !validity.unvalidated.is_empty() {
            findings.push(Finding::warning(
                "postgres.not_validated",
                &self.pg.name,
                format!(
                    "the dump has constraints that were never checked against all rows: {}",
                    validity.unvalidated.join(", ")
                ),
            ));
        }
        let path = staged.run("RESET search_path; ANALYZE").await;
        if let Err(error) = path {
            // The connection's end is found by the next query; anything else costs speed only.
            findings.push(Finding::warning(
                "postgres.not_analysed",
                &self.pg.name,
                format!("queries may be slow until ANALYZE was run: {error}"),
            ));
        }
        staged.run("SET search_path = pg_catalog").await?;
        let mut facts = Map::new();
        facts.insert("from".to_owned(), json!(artifact));
        facts.extend(compare::count(&staged, self.cx.cancelled()).await?);
        facts.insert("constraints".to_owned(), json!(validity.constraints));
        facts.insert("indexes".to_owned(), json!(validity.indexes));
        facts.insert("unvalidated".to_owned(), json!(validity.unvalidated.len()));
        let bytes: i64 = column(
            &staged
                .one("SELECT pg_database_size(current_database())", &[])
                .await?,
            0,
        )?;
        staged.close().await;
        self.carry_over().await?;
        self.cx.record(STAGED, Value::Object(facts.clone())).await?;
        Ok(Staged {
            bytes: u64::try_from(bytes).unwrap_or(0),
            facts,
            findings,
        })
    }

    /// What the site wants done to each restored database: privileges, new indexes. Then tells who
    /// would lose privileges all the same.
    async fn mend(&self, staged: &Session, findings: &mut Vec<Finding>) -> Result<()> {
        let config = &self.pg.config;
        if config.reindex {
            let database = ident(&self.names.staged);
            staged
                .run(&format!("REINDEX DATABASE {database}"))
                .await
                .map_err(|e| e.context("cannot rebuild the indexes (reindex = true)"))?;
        }
        for grant in &config.grants {
            staged
                .run(&format!("SET search_path TO DEFAULT; {grant}"))
                .await
                .map_err(|e| {
                    e.context(format!(
                        "cannot do `{grant}`, one of the component's grants"
                    ))
                    .hint("correct `grants`; the live database was not touched")
                })?;
        }
        staged.run("SET search_path = pg_catalog").await?;
        if self.live.is_none() {
            return Ok(());
        }
        // What cannot be compared is no reason not to restore.
        if let Ok(live) = self.pg.session(&self.names.live).await {
            let lost = privileges::lost(&live, staged).await.unwrap_or_default();
            live.close().await;
            findings.extend(lost.into_iter().map(|lost| {
                Finding::warning("postgres.privileges_lost", &self.pg.name, lost)
                    .hint("if that is not wanted, name them in `grants` of the component")
            }));
        }
        Ok(())
    }

    /// Already here, and not only at the cut-over, so that what the user may not do is found
    /// while users are still served.
    async fn carry_over(&self) -> Result<()> {
        let found = Found::look(&self.session, &self.names).await?;
        let (Some(live), Some(staged)) = (found.live, found.staged) else {
            return Ok(());
        };
        let sql = live.carry_over(&staged);
        if sql.is_empty() {
            return Ok(());
        }
        self.session
            .run(&format!("BEGIN; {}; COMMIT", sql.join("; ")))
            .await
            .map_err(|e| {
                e.context(format!(
                    "cannot give the restored database the settings and privileges of {}",
                    live.name
                ))
                .hint("let the component connect as a superuser, or as the owner of the database")
            })
    }
}
