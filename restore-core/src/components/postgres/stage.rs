//! Restoring beside the live database: from the custom dump, or from an empty database again
//! from the SQL dump.

use std::ops::Range;

use serde_json::{Map, Value, json};

use super::client::{BROKEN, Login, Session, column};
use super::config::MissingRoles;
use super::content::{Content, Format};
use super::database::{Database, comment_sql};
use super::inspect_dump::LARGEST_SQL;
use super::names::{Names, ident};
use super::roles::Unusable;
use super::script::Script;
use super::sessions::drop_database;
use super::spool::{Spool, mismatch};
use super::swap::{Before, Found, mark};
use super::tools::{Edit, Input, Runner, Tools, tool_failed};
use super::unchanged::Unchanged;
use super::{Postgres, compare, privileges, room, sql_dump, views};
use crate::archive::{Source, hash_file};
use crate::contract::{RunContext, Staged};
use crate::model::{Error, ErrorKind, Finding, Result, Severity};
use crate::sys::random_name;

/// The fact under which is kept what was staged, for the check after the cut-over.
pub(super) const STAGED: &str = "staged";
/// The fact under which is kept what a database that did not exist is described as.
pub(super) const COMMENT: &str = "comment_of_dump";
/// The fact that the restored database does not get the settings of the live one.
pub(super) const OWN_SETTINGS: &str = "own_settings";

/// How psql runs a script.
const PSQL: [&str; 4] = [
    "--no-psqlrc",
    "--quiet",
    "--set=ON_ERROR_STOP=1",
    "--no-password",
];

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
    superuser: bool,
}

/// What was loaded, by which way.
pub(super) struct Loaded {
    script: Script,
    artifact: String,
    pub(super) findings: Vec<Finding>,
}

/// How it is known that what is read is what was hashed.
enum Verified {
    /// It is a copy of our own.
    Copy(Spool),
    /// Nobody else can change it; it is looked at again all the same.
    InPlace(Unchanged),
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
        let superuser: bool = column(
            &session
                .one(
                    "SELECT rolsuper FROM pg_roles WHERE rolname = current_user",
                    &[],
                )
                .await?,
            0,
        )?;
        let stage = Self {
            superuser,
            pg,
            cx,
            login,
            session,
            names,
            live: found.live,
            tools,
        };
        let loaded = tokio::select! {
            loaded = stage.load() => loaded?,
            error = room::exceeded(pg, cx, (&stage.names, stage.live.as_ref())) => {
                // The server goes on with the statement of a program that is gone.
                let _ = drop_database(&stage.session, &stage.names.staged).await;
                return Err(error);
            }
        };
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
        let mut labels = artifacts.all();
        let Some(first) = labels.next() else {
            return Err(self.pg.no_artifact(self.cx.backup()));
        };
        let failure = match self.load_one(first, true).await {
            Err(error) if artifacts.dump.is_some() => error.context(first),
            loaded => return loaded,
        };
        // Only what the tool says of the dump speaks for another dump of the same data.
        if !["postgres.tool_failed", "postgres.unknown_format"].contains(&failure.code()) {
            return Err(failure);
        }
        self.session.run("SELECT 1").await?;
        let Some(sql) = labels.next() else {
            return Err(
                failure.hint("this backup has no SQL dump to fall back to: choose another backup")
            );
        };
        let mut loaded = self
            .load_one(sql, false)
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

    /// Loads one dump, whatever its format; `first`: it is the one that the plan has read, if it was
    /// not to be unpacked or too large.
    async fn load_one(&self, label: &str, first: bool) -> Result<Loaded> {
        if self.cx.backup().file(label).is_none() {
            let contents = self.cx.source(&format!("{label}/toc.dat"))?;
            let folder = contents.path().parent().unwrap_or(contents.path());
            let known = first && self.pg.input(folder).await?.seen.is_some();
            let (spool, input) = self.pg.spooled_folder(self.cx, label).await?;
            let source = Source::new(&input.path, label, None, None);
            let done = self.load_archive(&source, &input, known).await;
            drop(spool);
            return done;
        }
        let source = self.cx.source(label)?;
        let looked = Content::of(source.path(), source.label()).await;
        if looked.as_ref().is_ok_and(|it| it.format == Format::Folder) {
            // Hashed while it is unpacked to a place of our own, before anything of it is run.
            let (spool, input) = self.pg.unpacked_folder(self.cx, source.clone()).await?;
            let done = self.load_archive(&source, &input, false).await;
            drop(spool);
            return done;
        }
        let parallel = looked.as_ref().is_ok_and(|it| !it.packed && !it.is_sql());
        let (verified, input) = self.verify(&source, parallel).await?;
        // What is said of a file that is not the one that was made is worth nothing.
        let content = looked?;
        let input = input.packed(content.packed);
        let done = match content.is_sql() {
            true => {
                let known = first && source.size().unwrap_or(0) <= LARGEST_SQL;
                self.run_sql(&source, &input, known).await
            }
            false => self.load_archive(&source, &input, first).await,
        };
        self.proven(verified, &source, done).await?
    }

    /// Hashes the whole file before anything of it is run: what a dump holds is executed, so not a
    /// word of one that is not the one that was made may reach the server. What others could change
    /// in between is [copied](super::spool), and read from there.
    async fn verify(&self, source: &Source, parallel: bool) -> Result<(Verified, Input)> {
        if let Some((spool, input)) = self.pg.spooled(self.cx, source, parallel).await? {
            return Ok((Verified::Copy(spool), input));
        }
        let seen = Unchanged::look(source).await?;
        if let Some(expected) = source.expected() {
            let progress = self.cx.progress("verify", source.size());
            let found = hash_file(source, progress).await?;
            if found != expected {
                return Err(mismatch(source, found, expected));
            }
            seen.still(source).await?;
        }
        let input = match parallel {
            true => self.pg.input(source.path()).await?,
            false => Input::new(source.path(), None),
        };
        Ok((Verified::InPlace(seen), input))
    }

    /// What came of running it. A file that was changed under the reader proves nothing, whatever
    /// the reader says.
    async fn proven<T>(
        &self,
        verified: Verified,
        source: &Source,
        done: Result<T>,
    ) -> Result<Result<T>> {
        match verified {
            Verified::InPlace(seen) if !matches!(&done, Err(error) if error.kind() == ErrorKind::Interrupted) =>
            {
                seen.still(source).await?;
            }
            Verified::InPlace(_) => {}
            Verified::Copy(spool) => drop(spool),
        }
        Ok(done)
    }

    /// Loads an archive; `known`: the plan has told what is in it.
    pub(super) async fn load_archive(
        &self,
        source: &Source,
        input: &Input,
        known: bool,
    ) -> Result<Loaded> {
        let runner = self.runner();
        let skip = self.pg.skip(self.superuser);
        // What it says of the database itself is needed then.
        let create = self.live.is_none() || self.is_shut_out().await;
        let (tools, script, input) = self
            .pg
            .read_archive(&runner, &self.tools, input, (create, &skip))
            .await?;
        let input = &input;
        // With what makes the database itself, it reaches beyond it.
        match create {
            false => sql_dump::refuse_beyond(&script, source.label())?,
            true => {
                let plain = runner.script(&tools, input, false).await?;
                sql_dump::refuse_beyond(&plain, source.label())?;
            }
        }
        let mut findings = self.guard(&script, &[], known).await?;
        let roles = self.roles(&script, &mut findings).await?;
        // One made anew would name the same slot at the publisher as the live database's.
        let mut args = vec!["--no-subscriptions".to_owned()];
        if !roles.is_empty() {
            if self.pg.config.missing_roles == MissingRoles::Refuse || !roles.named.is_empty() {
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
        let parallel = input.seen.is_some() && is_custom(input, source.path()).await?;
        match tools.major > self.session.version() / 10_000 {
            true => self.pipe(&tools, &script, args, input).await?,
            false => {
                let again = self
                    .run_restore(&tools, &script, (args, parallel), input)
                    .await?;
                findings.extend(again);
            }
        }
        Ok(Loaded {
            script,
            artifact: source.label().to_owned(),
            findings,
        })
    }

    /// Loads an archive by pg_restore itself; what it had to do a second time.
    async fn run_restore(
        &self,
        tools: &Tools,
        script: &Script,
        (mut args, parallel): (Vec<String>, bool),
        input: &Input,
    ) -> Result<Option<Finding>> {
        let runner = self.runner();
        let conninfo = runner.conninfo(&self.names.staged);
        args.extend([
            "--exit-on-error".to_owned(),
            "--no-password".to_owned(),
            format!("--dbname={conninfo}"),
        ]);
        let one: Vec<&str> = args.iter().map(String::as_str).collect();
        let jobs = format!("--jobs={}", self.pg.config.jobs);
        let mut all = one.clone();
        all.extend(parallel.then_some(jobs.as_str()));
        self.fresh(script).await?;
        let program = "pg_restore";
        let mut exit = runner
            .run(tools, program, &all, Some(input), |_| {})
            .await?;
        let mut again = None;
        // Tables that are loaded at the same time may need each other.
        if !exit.success() && parallel && exit.stderr.contains("deadlock detected") {
            self.fresh(script).await?;
            exit = runner
                .run(tools, program, &one, Some(input), |_| {})
                .await?;
            again = Some(Finding::info(
                "postgres.deadlock",
                &self.pg.name,
                "several jobs of pg_restore waited for each other: the dump was loaded by one",
            ));
        }
        match exit.success() {
            true => Ok(again),
            false => Err(tool_failed(program, &exit)),
        }
    }

    /// Loads an archive by programs that are newer than the server.
    async fn pipe(
        &self,
        tools: &Tools,
        script: &Script,
        mut args: Vec<String>,
        input: &Input,
    ) -> Result<()> {
        let runner = self.runner();
        let tools = runner.restrictable(std::slice::from_ref(tools)).await?;
        let known = sql_dump::known_settings(&self.session).await?;
        args.push("--file=-".to_owned());
        let restore: Vec<&str> = args.iter().map(String::as_str).collect();
        let conninfo = format!("--dbname={}", runner.conninfo(&self.names.staged));
        let mut psql: Vec<&str> = PSQL.to_vec();
        psql.extend([conninfo.as_str(), "--file=-"]);
        let key = random_name()?;
        self.fresh(script).await?;
        let (restored, run) = runner
            .pipe(
                tools,
                (restore.as_slice(), psql.as_slice()),
                input,
                (known.as_slice(), key.as_str()),
            )
            .await?;
        if !run.success() {
            return Err(tool_failed("psql", &run));
        }
        match restored.success() {
            true => Ok(()),
            false => Err(tool_failed("pg_restore", &restored)),
        }
    }

    async fn run_sql(&self, source: &Source, input: &Input, known: bool) -> Result<Loaded> {
        let skip = self.pg.skip(self.superuser);
        let wanted = (self.pg.config.dumped_as.as_str(), skip);
        let script = sql_dump::read(input, source.label(), wanted, self.cx.cancelled()).await?;
        sql_dump::refuse(&script, source.label())?;
        let (mut without, unknown) = sql_dump::left_out(&script, &self.session).await?;
        let mut findings = self.guard(&script, &unknown, known).await?;
        let roles = self.roles(&script, &mut findings).await?;
        if !roles.is_empty() {
            // psql cannot leave statements out.
            return Err(roles.as_error(source.label()));
        }
        let runner = self.runner();
        let tools = runner.restrictable(&self.tools).await?;
        self.fresh(&script).await?;
        // In place of an empty comment, so that lines keep their numbers.
        if let Some(first) = script.first_line.clone() {
            without.insert(0, first);
        }
        let input = Input {
            // Under a key that no dump can know, psql obeys no command of its own until the end,
            // whatever it takes for one.
            edit: Edit {
                first: format!("\\restrict {}\n", random_name()?).into_bytes(),
                without: merged(without),
                returns: script.returns,
            },
            ..input.clone()
        };
        let conninfo = format!("--dbname={}", runner.conninfo(&self.names.staged));
        let (as_owner, told) = self.owner_of_sql(&script, source.label()).await?;
        findings.extend(told);
        // Not in a single transaction: a database half restored is dropped anyway, and a dump of
        // many tables or large objects would need more locks than the server has.
        let mut args: Vec<&str> = PSQL.to_vec();
        args.push(&conninfo);
        args.extend(as_owner.as_deref());
        args.push("--file=-");
        let exit = runner
            .run(tools, "psql", &args, Some(&input), |_| {})
            .await?;
        if !exit.success() {
            return Err(tool_failed("psql", &exit));
        }
        Ok(Loaded {
            script,
            artifact: source.label().to_owned(),
            findings,
        })
    }

    /// Roles of the dump that cannot be used here, once those are created that the site wants to be.
    async fn roles(&self, script: &Script, findings: &mut Vec<Finding>) -> Result<Unusable> {
        if self.pg.creates_roles(self.cx) {
            let created = self.pg.create_roles(&self.session, self.cx, script).await;
            let ignored = self.pg.config.missing_roles == MissingRoles::Ignore;
            match created {
                Ok(told) => findings.extend(told),
                Err(error) if error.kind() == ErrorKind::Interrupted || !ignored => {
                    return Err(error);
                }
                Err(error) => findings.push(self.pg.not_created(&error)),
            }
        }
        self.pg.unusable_roles(&self.session, script).await
    }

    /// What the plan would have refused and told, where it could not read the dump. What would take the
    /// place of live rows without any of its own is refused in any case.
    async fn guard(
        &self,
        script: &Script,
        unknown: &[String],
        known: bool,
    ) -> Result<Vec<Finding>> {
        let mut findings = self.pg.losses(self.cx, script).await;
        let stops = |it: &&Finding| it.severity == Severity::Error;
        if let Some(found) = findings.iter().find(stops) {
            let error = Error::new(
                ErrorKind::Preflight,
                found.code.clone(),
                found.message.clone(),
            );
            return Err(error.hint(found.hint.clone().unwrap_or_default()));
        }
        findings.extend(self.pg.notes(script, unknown));
        if known {
            findings.clear();
        }
        Ok(findings)
    }

    /// Who makes the objects of an SQL dump that names no owners: the database's owner, whose application uses them. Only
    /// where it makes extensions that may not be that one's to make does everything stay ours, and is told.
    async fn owner_of_sql(
        &self,
        script: &Script,
        label: &str,
    ) -> Result<(Option<String>, Vec<Finding>)> {
        let (owner, user) = (self.owner().to_owned(), &self.pg.config.user);
        if owner == *user || !script.owners.is_empty() || script.objects.is_empty() {
            return Ok((None, Vec::new()));
        }
        let row = self
            .session
            .one(
                "SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = $1",
                &[&owner],
            )
            .await?;
        let nothing = script.extensions.is_empty();
        if nothing && column::<bool>(&row, 0)? {
            let finding = Finding::info(
                "postgres.owner_chosen",
                &self.pg.name,
                format!(
                    "{label} names no owners: everything belongs to {owner}, the database's owner"
                ),
            );
            return Ok((
                Some(format!("--command=SET ROLE {}", ident(&owner))),
                vec![finding],
            ));
        }
        let finding = Finding::warning(
            "postgres.without_owners",
            &self.pg.name,
            format!("{label} names no owners, and everything in it belongs to {user}: {owner}, the database's owner, may be locked out"),
        )
        .hint("name what it may do in `grants` of the component, or make dumps with owners (pg_dump without --no-owner)");
        Ok((None, vec![finding]))
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
                self.cx.record_made(&self.pg.database_words()).await?;
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
            .await?;
        if script.makes_public {
            let staged = self.pg.session(&self.names.staged).await?;
            staged
                .run("DROP SCHEMA public")
                .await
                .map_err(|e| e.context("the dump makes the schema public, and the new database's own cannot be dropped"))?;
            staged.close().await;
        }
        Ok(())
    }

    /// Compares, analyses, counts, and gives the database the live one's properties.
    async fn finish(&self, loaded: Loaded) -> Result<Staged> {
        let Loaded {
            script,
            artifact,
            mut findings,
        } = loaded;
        let staged = self.pg.session(&self.names.staged).await?.patient().await?;
        let skip = self.pg.skip(self.superuser);
        views::fill(&staged, self.live.as_ref(), &script.views, &skip).await?;
        let path = views::search_path(self.live.as_ref());
        for sql in &self.pg.config.after_load {
            staged.run(&format!("{path}; {sql}")).await.map_err(|e| {
                e.context(format!(
                    "cannot do `{sql}`, one of the component's after_load"
                ))
                .hint("correct `after_load`; the live database was not touched")
            })?;
        }
        staged.run("SET search_path = pg_catalog").await?;
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
        // Two messages: in one with another statement it would be one transaction, with a lock on every table.
        staged.run("RESET search_path").await?;
        if let Err(error) = staged.run("ANALYZE").await {
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
        facts.extend(compare::count(&staged, None, self.cx.cancelled()).await?);
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
        match &self.live {
            Some(_) => self.carry_over(&script, &mut findings).await?,
            None => self.take_over(&script, &mut findings).await?,
        }
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
        // What cannot be compared is no reason not to restore, and is told.
        let compared = match self.pg.session(&self.names.live).await {
            Ok(live) => {
                let changed = privileges::changed(&live, staged).await;
                live.close().await;
                changed
            }
            Err(error) => Err(error),
        };
        if let Err(error) = &compared {
            findings.push(
                Finding::warning(
                    "postgres.privileges_unknown",
                    &self.pg.name,
                    format!(
                        "whether anybody may do less or more in the restored database than in {} could not be compared: {error}",
                        self.names.live
                    ),
                )
                .hint("compare them by hand (`\\dp` and `\\ddp` in psql) before `restore confirm`"),
            );
        }
        if let Ok((lost, gained)) = compared {
            findings.extend(lost.into_iter().map(|lost| {
                Finding::warning("postgres.privileges_lost", &self.pg.name, lost)
                    .hint("if that is not wanted, name them in `grants` of the component")
            }));
            findings.extend(gained.into_iter().map(|gained| {
                Finding::warning("postgres.privileges_gained", &self.pg.name, gained)
                    .hint("if that is not wanted, revoke them in `grants` of the component")
            }));
        }
        Ok(())
    }

    /// Where there is no live database its properties are the dump's. What of them cannot be had is told.
    async fn take_over(&self, script: &Script, findings: &mut Vec<Finding>) -> Result<()> {
        let (properties, name) = (&script.properties, &self.names.live);
        let user = &self.pg.config.user;
        if properties.is_empty() {
            findings.push(
                Finding::warning(
                    "postgres.properties_unknown",
                    &self.pg.name,
                    format!("database {name} did not exist, and the dump does not say its owner, settings and privileges: it belongs to {user}, with the server's defaults"),
                )
                .hint("set them by hand (ALTER DATABASE … OWNER TO …), or restore from a custom dump"),
            );
            return Ok(());
        }
        let staged = ident(&self.names.staged);
        let mut failed: Vec<String> = Vec::new();
        if let Some(owner) = properties.owner.as_ref().filter(|owner| *owner != user) {
            let sql = format!("ALTER DATABASE {staged} OWNER TO {}", ident(owner));
            if let Err(error) = self.session.run(&sql).await {
                failed.push(format!("its owner {owner}: {error}"));
            }
        }
        for (grantor, before, after) in &properties.statements {
            let mut sql = format!("{before}{staged}{after}");
            let what = format!("{before}{name}{after}");
            if let Some(grantor) = grantor {
                sql = format!("BEGIN; SET LOCAL ROLE {}; {sql}; COMMIT", ident(grantor));
            }
            if let Err(error) = self.session.run(&sql).await {
                self.session.run("ROLLBACK").await?;
                // Values may be secrets.
                let what = what.split(" TO ").next().unwrap_or_default();
                failed.push(format!("`{what} …`: {error}"));
            }
        }
        if properties.unread {
            failed.push("a setting or comment over several lines".to_owned());
        }
        self.cx.record(COMMENT, json!(properties.comment)).await?;
        findings.push(Finding::info(
            "postgres.properties_of_dump",
            &self.pg.name,
            format!(
                "database {name} did not exist: its owner ({}), settings and privileges are those of the dump",
                properties.owner.as_deref().unwrap_or(user)
            ),
        ));
        if !failed.is_empty() {
            findings.push(
                Finding::warning(
                    "postgres.properties_lost",
                    &self.pg.name,
                    format!(
                        "of the properties of database {name} in the dump these could not be had: {}",
                        failed.join("; ")
                    ),
                )
                .hint("set them by hand; `pg_restore --create --schema-only --file=-` of the dump shows them"),
            );
        }
        Ok(())
    }

    /// Already here, and not only at the cut-over, so that what the user may not do is found
    /// while users are still served.
    async fn carry_over(&self, script: &Script, findings: &mut Vec<Finding>) -> Result<()> {
        let found = Found::look(&self.session, &self.names).await?;
        let (Some(live), Some(staged)) = (found.live, found.staged) else {
            return Ok(());
        };
        self.give(&live, &staged).await?;
        // Nobody gets into a live database with settings that cannot be had: the restored one is
        // to be used.
        let error = match self.pg.session(&self.names.staged).await {
            Ok(session) => {
                session.close().await;
                return Ok(());
            }
            Err(error) if [BROKEN, "postgres.refused"].contains(&error.code()) => error,
            Err(error) => return Err(error),
        };
        let settings = live.setting_names().join(", ");
        if settings.is_empty() {
            return Err(error);
        }
        let found = Found::look(&self.session, &self.names).await?;
        let given = found.staged.unwrap_or_else(|| staged.clone());
        self.give(&live.clone().with_settings_of(&staged), &given)
            .await?;
        self.cx.record(OWN_SETTINGS, json!(true)).await?;
        let name = ident(&self.names.staged);
        let mut lost = Vec::new();
        for (_, before, after) in &script.properties.statements {
            if !after.trim_start().starts_with("SET ") {
                continue;
            }
            if let Err(error) = self.session.run(&format!("{before}{name}{after}")).await {
                // Values may be secrets.
                let what = after.split(" TO ").next().unwrap_or_default();
                lost.push(format!("`{} …`: {error}", what.trim()));
            }
        }
        let of_dump = match script.properties.is_empty() {
            true => "none, and the dump tells of none".to_owned(),
            false if lost.is_empty() => "those of the dump".to_owned(),
            false => format!("those of the dump but {}", lost.join("; ")),
        };
        findings.push(
            Finding::warning(
                "postgres.settings_left",
                &self.pg.name,
                format!(
                    "nobody gets into a database with the settings of the live {} ({settings}): {}; the restored one has {of_dump}",
                    live.name,
                    error.message()
                ),
            )
            .hint("ALTER DATABASE … SET sets what is missing"),
        );
        Ok(())
    }

    /// Whether nobody gets into the live database, as far as that can be asked.
    async fn is_shut_out(&self) -> bool {
        match self.pg.session(&self.names.live).await {
            Ok(session) => {
                session.close().await;
                false
            }
            Err(_) => true,
        }
    }

    /// Gives one database the properties of another.
    async fn give(&self, live: &Database, staged: &Database) -> Result<()> {
        let sql = live.carry_over(staged);
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

/// Ranges in their order, none of which reaches into the next.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// Whether a dump can be read by several at once, as all but tar's format can.
async fn is_custom(input: &Input, path: &std::path::Path) -> Result<bool> {
    use tokio::io::AsyncReadExt;
    let failed = |e| Error::io(format!("read {}", path.display()), e);
    // A folder is none, and is read by several at once as well.
    if input.path.is_dir() {
        return Ok(true);
    }
    let mut head = Vec::new();
    // A copy lies in a folder of the service's user; what it was made of does not.
    let file = match input.is_held() {
        true => input.open(),
        false => crate::sys::open_to_read(path),
    };
    let file = file.map_err(failed)?;
    let file = tokio::fs::File::from_std(file);
    file.take(5).read_to_end(&mut head).await.map_err(failed)?;
    Ok(head == b"PGDMP")
}
