//! Loading one dump into an empty database beside the live one, by pg_restore or psql.

use std::ops::Range;

use super::super::config::MissingRoles;
use super::super::database::comment_sql;
use super::super::names::ident;
use super::super::script::Script;
use super::super::sessions::drop_database;
use super::super::spool::mismatch;
use super::super::sql_dump;
use super::super::swap::mark;
use super::super::tools::{Edit, Input, Tools};
use super::super::unchanged::Unchanged;
use super::super::views;
use super::{Loaded, Stage, Verified};
use crate::archive::{Source, hash_file};
use crate::model::{Error, ErrorKind, Finding, Result};
use crate::sys::random_name;

/// How psql runs a script.
pub(in super::super) const PSQL: [&str; 4] = [
    "--no-psqlrc",
    "--quiet",
    "--set=ON_ERROR_STOP=1",
    "--no-password",
];

impl Stage<'_> {
    /// Hashes the whole file before anything of it is run: what a dump holds is executed, so not a
    /// word of one that is not the one that was made may reach the server. What others could change
    /// in between is [copied](super::spool), and read from there.
    pub(super) async fn verify(
        &self,
        source: &Source,
        parallel: bool,
    ) -> Result<(Verified, Input)> {
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
    pub(super) async fn proven<T>(
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
    pub(in crate::components::postgres) async fn load_archive(
        &self,
        source: &Source,
        input: &Input,
        known: bool,
    ) -> Result<Loaded> {
        let runner = self.runner();
        let skip = self.pg.skip(self.cx, self.superuser);
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
        let without = !roles.is_empty();
        let parallel = input.seen.is_some() && is_custom(input, source.path()).await?;
        // What pg_restore runs by itself has an empty path.
        let by_pipe = self.pg.config.search_path || tools.major > self.session.version() / 10_000;
        match by_pipe {
            true => self.pipe(&tools, &script, args, input).await?,
            false => {
                let again = self
                    .run_restore(&tools, &script, (args, parallel), input)
                    .await?;
                findings.extend(again);
            }
        }
        self.open_public(&script, without).await?;
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
            false => Err(self.pg.load_failed(program, &exit)),
        }
    }

    /// The statement that makes the path by which names are found, where that is not to be empty.
    fn search_path(&self) -> Option<String> {
        let wanted = self.pg.config.search_path;
        wanted.then(|| views::search_path(self.live.as_ref()))
    }

    /// Loads an archive through SQL: by programs that are newer than the server, or with another path.
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
        let path = self.search_path();
        self.fresh(script).await?;
        let (restored, run) = runner
            .pipe(
                tools,
                ("pg_restore", restore.as_slice(), psql.as_slice()),
                Some(input),
                (known.as_slice(), key.as_str(), path.as_deref()),
            )
            .await?;
        if !run.success() {
            return Err(self.pg.load_failed("psql", &run));
        }
        match restored.success() {
            true => Ok(()),
            false => Err(self.pg.load_failed("pg_restore", &restored)),
        }
    }

    pub(super) async fn run_sql(
        &self,
        source: &Source,
        input: &Input,
        known: bool,
    ) -> Result<Loaded> {
        let skip = self.pg.skip(self.cx, self.superuser);
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
        let mut first = format!("\\restrict {}\n", random_name()?);
        if let Some(path) = self.search_path().filter(|_| !script.paths.is_empty()) {
            first += &format!("{path};\n");
            without.extend(script.paths.iter().cloned());
        }
        let input = Input {
            // Under a key that no dump can know, psql obeys no command of its own until the end,
            // whatever it takes for one.
            edit: Edit {
                first: first.into_bytes(),
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
            return Err(self.pg.load_failed("psql", &exit));
        }
        self.open_public(&script, false).await?;
        Ok(Loaded {
            script,
            artifact: source.label().to_owned(),
            findings,
        })
    }

    /// Gives everybody what everybody has on the schema `public` of a new database, where the dump made that
    /// schema anew: pg_dump says only how its privileges differ from these. `all`: it says nothing of them.
    async fn open_public(&self, script: &Script, all: bool) -> Result<()> {
        if !script.makes_public {
            return Ok(());
        }
        let taken = |what: &str| !all && script.takes_of_public.contains(what);
        let mut given = vec!["USAGE"];
        if self.session.version() < 150_000 {
            given.push("CREATE");
        }
        given.retain(|what| !taken("ALL") && !taken(what));
        if given.is_empty() {
            return Ok(());
        }
        let staged = self.pg.session(&self.names.staged).await?;
        let grant = format!("GRANT {} ON SCHEMA public TO PUBLIC", given.join(", "));
        // Whoever may not is told how privileges differ.
        let _ = staged.attempt(&grant).await;
        staged.close().await;
        Ok(())
    }

    /// An empty staged database, of the live one's kind; an earlier attempt's is dropped first.
    async fn fresh(&self, script: &Script) -> Result<()> {
        drop_database(&self.session, &self.names.staged).await?;
        if self.live.is_none() || self.cx.restore_as().is_some() {
            let words = self.pg.database_words(self.cx);
            self.cx.record_made(&words).await?;
        }
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
