//! What the dump is, and what it needs that the server may lack.

use std::collections::BTreeMap;

use serde_json::json;

use super::client::{Session, column};
use super::config::MissingRoles;
use super::content::{Content, Format, made_by};
use super::database::Database;
use super::globals::Role;
use super::inspect::Inspect;
use super::script::{Script, Skip, major};
use super::tools::{Input, Runner, Tools};
use super::{Artifacts, sql_dump, toc, whole};
use crate::model::{Error, ErrorKind, Finding, Result};

/// The largest SQL dump that is read to its end before a run, to find the roles that it names.
pub(super) const LARGEST_SQL: u64 = 4 << 30;

impl Inspect<'_> {
    /// `session` on the server of that major version, where there is one already.
    pub(super) async fn dump(
        &mut self,
        (session, server): (Option<&Session>, u32),
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
                let finding = Finding::info(
                    "postgres.newer_tools",
                    &self.pg.name,
                    format!(
                        "pg_restore {} is newer than the server ({server}): an archive is loaded through SQL, by one job, without settings that the server does not know",
                        first.version
                    ),
                );
                self.out.findings.push(finding);
            }
        }
        let mut labels = artifacts.all().peekable();
        let mut failed: Option<(String, Error)> = None;
        while let Some(label) = labels.next() {
            let read = self.read(label, (&runner, &tools), (session, live)).await;
            let error = match read {
                Ok(found) => {
                    if let Some((first, error)) = failed {
                        self.warn(
                            "postgres.dump_unreadable",
                            format!("{first} cannot be read, {label} would be used: {error}"),
                        );
                    }
                    if let Some(sql) = labels.next() {
                        self.sql_end(sql).await?;
                    }
                    return match found {
                        Some((script, from_sql)) => match session {
                            Some(session) => {
                                self.script(session, (&script, from_sql), live).await?;
                                if live.is_some() {
                                    self.fewer_rows(label, (&script, from_sql)).await;
                                }
                                Ok(())
                            }
                            None => self.script_anew(&script, server).await,
                        },
                        None => Ok(()),
                    };
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(error) => error,
            };
            match (failed.is_some(), labels.peek().is_some()) {
                (false, true) => failed = Some((label.clone(), error)),
                // The first one says best what is wrong.
                (true, _) => self.warn(error.code(), error.message().to_owned()),
                (false, false) if artifacts.dump.is_some() => failed = Some((label.clone(), error)),
                (false, false) => self.error(&error.with_kind(ErrorKind::Preflight)),
            }
        }
        if let Some((label, error)) = failed {
            let newest = tools.iter().map(|tools| tools.major).max().unwrap_or(0);
            let hint = match (self.needed(&label, newest).await, error.hint_text()) {
                (Some(needed), _) => needed,
                (None, Some(hint)) => hint.to_owned(),
                (None, None) => {
                    "choose another backup; a dump of a newer pg_dump needs a newer pg_restore"
                        .to_owned()
                }
            };
            self.refuse(
                "postgres.dump_unreadable",
                format!("{label} cannot be read: {error}"),
                &hint,
            );
        }
        Ok(())
    }

    /// That the dump has far fewer rows than the live database, where the dump or the backup's own description tells how
    /// many it has.
    async fn fewer_rows(&mut self, label: &str, (script, from_sql): (&Script, bool)) {
        let rows = match from_sql && !script.inserts {
            true => Some(script.rows),
            false => self.described_rows(label).await,
        };
        // Of one without any that is said already.
        if let Some(rows) = rows.filter(|rows| *rows > 0) {
            let told = self.pg.far_fewer_rows(self.cx, rows).await;
            self.out.findings.extend(told);
        }
    }

    /// How many rows the backup's own description says that a dump has.
    async fn described_rows(&self, label: &str) -> Option<u64> {
        let facts = self.cx.backup().described(label).await.ok()??;
        match facts.contains_key("uncounted_tables") {
            true => None,
            false => facts.get("total_rows")?.as_u64(),
        }
    }

    /// Which programs an archive needs, where there are none as new as those that made it.
    async fn needed(&self, label: &str, newest: u32) -> Option<String> {
        let source = self.cx.source(label).ok()?;
        let version = made_by(source.path()).await?;
        let needed = major(&version).filter(|needed| *needed > newest)?;
        Some(format!(
            "pg_dump {version} made it, which needs pg_restore {needed} or later: install postgresql-client-{needed}, or name the directory of such programs with bin"
        ))
    }

    /// What one dump holds, and whether that is SQL; `None` where it is not read before the run.
    async fn read(
        &mut self,
        label: &str,
        (runner, tools): (&Runner<'_>, &[Tools]),
        (session, live): (Option<&Session>, Option<&Database>),
    ) -> Result<Option<(Script, bool)>> {
        let superuser = self.out.facts.get("superuser") == Some(&json!(true));
        let skip = self.pg.skip(self.cx, superuser);
        let is_folder = self.cx.backup().file(label).is_none();
        let (path, content) = if is_folder {
            let contents = self.cx.source(&format!("{label}/toc.dat"))?;
            let path = contents.path().parent().unwrap_or(contents.path());
            (path.to_owned(), None)
        } else {
            let source = self.cx.source(label)?;
            let content = Content::of(source.path(), label).await?;
            (source.path().to_owned(), Some(content))
        };
        match content {
            Some(content) if content.is_sql() => {
                let input = Input::new(&path, None).packed(content.packed);
                let Some(script) = self.read_sql(label, &input, skip).await? else {
                    return Ok(None);
                };
                let settings = match session {
                    Some(session) => sql_dump::left_out(&script, session).await?.1,
                    None => Vec::new(),
                };
                let notes = self.pg.notes(&script, &settings);
                self.out.findings.extend(notes);
                if let Err(error) = runner.restrictable(tools).await {
                    self.error(&error);
                }
                Ok(Some((script, true)))
            }
            Some(content) if content.format != Format::Folder => {
                let input = self.pg.input(&path).await?.packed(content.packed);
                let size = self.cx.source(label)?.size().unwrap_or(0);
                if !content.packed || size <= LARGEST_SQL {
                    let known = &self.pg.whole_dumps;
                    whole::check(&input, content, label, known, self.cx.cancelled()).await?;
                }
                self.read_archive(&input, (runner, tools), (live.is_none(), &skip))
                    .await
            }
            _ => {
                self.pg.sees_folders(self.cx, label).await?;
                let input = self.pg.input(&path).await?;
                if !is_folder || input.seen.is_none() {
                    let finding = Finding::info(
                        "postgres.folder_not_read",
                        &self.pg.name,
                        format!(
                            "{label} is a dump in the directory format that must be unpacked or copied first: what it needs is found while staging"
                        ),
                    );
                    self.out.findings.push(finding);
                    return Ok(None);
                }
                toc::check(&path, label).await?;
                self.read_archive(&input, (runner, tools), (live.is_none(), &skip))
                    .await
            }
        }
    }

    async fn read_archive(
        &mut self,
        input: &Input,
        (runner, tools): (&Runner<'_>, &[Tools]),
        how: (bool, &Skip),
    ) -> Result<Option<(Script, bool)>> {
        let (_, script, _) = self.pg.read_archive(runner, tools, input, how).await?;
        let notes = self.pg.notes(&script, &[]);
        self.out.findings.extend(notes);
        Ok(Some((script, false)))
    }

    /// With what power the dump is run.
    pub(super) fn power(&mut self) {
        if self.out.facts.get("superuser") != Some(&json!(true)) {
            return;
        }
        let message = format!(
            "{} is a superuser: statements of the dump have power over the whole server, and over its host (COPY … PROGRAM)",
            self.pg.config.user
        );
        let finding = Finding::warning("postgres.superuser", &self.pg.name, message);
        self.out.findings.push(finding.hint("restore only dumps that you trust; or let the component sign in as the database's owner, with CREATEDB"));
    }

    /// Whether the SQL beside a dump is whole, as far as its end tells.
    async fn sql_end(&mut self, label: &str) -> Result<()> {
        let Ok(source) = self.cx.source(label) else {
            return Ok(());
        };
        let error = match Content::of(source.path(), label).await {
            Ok(content) if content.packed || !content.is_sql() => return Ok(()),
            Ok(_) if sql_dump::is_complete(source.path()).await? => return Ok(()),
            Ok(_) => sql_dump::cut(label),
            Err(error) => error,
        };
        self.warn(error.code(), error.message().to_owned());
        Ok(())
    }

    async fn read_sql(&mut self, label: &str, input: &Input, skip: Skip) -> Result<Option<Script>> {
        let source = self.cx.source(label)?;
        if !input.packed && !sql_dump::is_complete(source.path()).await? {
            return Err(sql_dump::cut(label));
        }
        if source.size().unwrap_or(0) > LARGEST_SQL {
            self.warn(
                "postgres.sql_not_read",
                format!("{label} is too large to be read before the run: missing roles and extensions are found while staging"),
            );
            return Ok(None);
        }
        let wanted = (self.pg.config.dumped_as.as_str(), skip);
        let script = sql_dump::read(input, label, wanted, self.cx.cancelled()).await?;
        sql_dump::refuse(&script, label)?;
        Ok(Some(script))
    }

    /// Of which server the dump is.
    fn origin(&mut self, script: &Script, server: u32) {
        self.fact("dump_entries", json!(script.kinds()));
        if let Some(version) = &script.server {
            self.fact("dump_server", json!(version));
        }
        if let Some(dumped) = script.server_major().filter(|dumped| *dumped > server) {
            self.warn(
                "postgres.newer_dump",
                format!("the dump is of PostgreSQL {dumped}, the server is {server}: it may use what the server does not know; staging will tell, before anything live is touched"),
            );
        }
    }

    /// What the dump needs of a cluster that is still to be made. Its extensions are found while staging.
    async fn script_anew(&mut self, script: &Script, server: u32) -> Result<()> {
        self.origin(script, server);
        self.out.findings.extend(self.pg.rows_alone(script));
        let mut needed: Vec<String> = script.roles.union(&script.named).cloned().collect();
        needed.retain(|role| *role != self.pg.config.user && !role.starts_with("pg_"));
        let creation = match self.pg.creation_anew(self.cx, &needed).await {
            Ok((creation, told)) => {
                self.out.findings.extend(told);
                creation
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            // A dump that names none needs none.
            Err(error)
                if needed.is_empty()
                    || (self.pg.config.missing_roles == MissingRoles::Ignore
                        && script.named.is_empty()) =>
            {
                self.out.findings.push(self.pg.not_created(&error));
                None
            }
            Err(error) => {
                self.error(&error);
                None
            }
        };
        if let Some(creation) = creation {
            self.out.findings.extend(creation.findings(&self.pg.name));
            self.out.creates.extend(creation.words());
            if !self.out.artifacts.contains(&creation.label) {
                self.out.artifacts.push(creation.label);
            }
        }
        if !script.tablespaces.is_empty() {
            let names: Vec<&str> = script.tablespaces.iter().map(String::as_str).collect();
            self.refuse(
                "postgres.missing_tablespaces",
                format!(
                    "the dump names tablespaces, which a new cluster lacks: {}",
                    names.join(", ")
                ),
                "make the cluster by hand with initdb, start it, create them with CREATE TABLESPACE, and plan again",
            );
        }
        Ok(())
    }

    /// What the dump needs and the server may lack.
    async fn script(
        &mut self,
        session: &Session,
        (script, from_sql): (&Script, bool),
        live: Option<&Database>,
    ) -> Result<()> {
        self.origin(script, session.version() / 10_000);
        let mut roles = self.pg.unusable_roles(session, script).await?;
        // Those are told of as what the dump needs.
        let mut needed: BTreeMap<String, Role> = BTreeMap::new();
        needed.extend(roles.missing.iter().map(|it| (it.clone(), Role::default())));
        if !roles.missing.is_empty() && self.pg.creates_roles(self.cx) {
            match self.pg.creation(session, self.cx, &roles.missing).await {
                Ok(creation)
                    if self.pg.config.missing_roles == MissingRoles::Ignore
                        && let Some(error) = creation.refusal() =>
                {
                    self.out.findings.push(self.pg.not_created(&error));
                }
                Ok(creation) => {
                    self.out.findings.extend(creation.findings(&self.pg.name));
                    self.out.creates.extend(creation.words());
                    if !self.out.artifacts.contains(&creation.label) {
                        self.out.artifacts.push(creation.label);
                    }
                    needed.extend(creation.roles);
                    roles.missing.clear();
                    roles.named.clear();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                // They are not needed then.
                Err(error) if self.pg.config.missing_roles == MissingRoles::Ignore => {
                    self.out.findings.push(self.pg.not_created(&error));
                }
                Err(error) => {
                    self.error(&error);
                    roles.missing.clear();
                    roles.named.clear();
                }
            }
        }
        self.other_roles(session, &needed, live.is_some()).await?;
        let mut maker = None;
        if !roles.is_empty() {
            let ignored = self.pg.config.missing_roles == MissingRoles::Ignore;
            if ignored && roles.named.is_empty() && !from_sql {
                maker = live.map(|live| live.owner.as_str());
                self.warn(
                    roles.code(),
                    format!(
                        "{}: it would be restored without owners and privileges",
                        roles.describe()
                    ),
                );
            } else {
                self.refuse(roles.code(), roles.describe(), roles.hint());
            }
        }
        self.extensions(session, script, maker).await?;
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
        self.tables_beside(script);
        let losses = self.pg.losses(self.cx, script).await;
        self.out.findings.extend(losses);
        Ok(())
    }

    /// What becomes of roles that only the backup's globals name. They stop no run.
    async fn other_roles(
        &mut self,
        session: &Session,
        needed: &BTreeMap<String, Role>,
        live: bool,
    ) -> Result<()> {
        let others = match self.pg.others(session, self.cx, (needed, live)).await {
            Ok(Some(others)) => others,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.out.findings.push(self.pg.not_created(&error));
                return Ok(());
            }
        };
        if let Some(made) = others.made {
            self.out.findings.extend(made.findings(&self.pg.name));
            self.out.creates.extend(made.words());
            if !self.out.artifacts.contains(&made.label) {
                self.out.artifacts.push(made.label);
            }
        }
        self.out.findings.extend(others.left);
        Ok(())
    }

    /// Whether its extensions can be made by `maker`, where everything is made by that role.
    async fn extensions(
        &mut self,
        session: &Session,
        script: &Script,
        maker: Option<&str>,
    ) -> Result<()> {
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
        if script.extensions.contains("pg_cron") {
            self.refuse(
                "postgres.pg_cron",
                format!(
                    "the dump has the extension pg_cron, which can only be made in the one database that cron.database_name names: not beside {}",
                    self.pg.config.database
                ),
                "skip = [\"EXTENSION - pg_cron\", \"* cron *\"] of the component restores everything else; afterwards CREATE EXTENSION pg_cron, and cron.schedule the jobs anew (the table cron.job of the replaced database has them until the run is confirmed)",
            );
        }
        if session.version() < 130_000 {
            return Ok(());
        }
        let maker = maker.unwrap_or(&self.pg.config.user);
        let triggers: Vec<&str> = script
            .objects
            .keys()
            .filter(|object| object.kind == "EVENT TRIGGER")
            .map(|object| object.name.as_str())
            .collect();
        let superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = $1::text::name";
        if !triggers.is_empty() && !column::<bool>(&session.one(superuser, &[&maker]).await?, 0)? {
            self.refuse(
                "postgres.closed_event_triggers",
                format!(
                    "only a superuser can create event triggers of the dump, which would be made by {maker}: {}",
                    triggers.join(", ")
                ),
                "let the component connect as a superuser; or leave them out: skip = [\"EVENT TRIGGER - *\"]",
            );
        }
        let rows = session
            .rows(
                "SELECT v.name::text FROM pg_available_extension_versions v \
                 JOIN pg_available_extensions e \
                 ON e.name = v.name AND e.default_version = v.version \
                 WHERE v.superuser AND NOT v.trusted AND NOT \
                 (SELECT rolsuper FROM pg_roles WHERE rolname = $1::text::name)",
                &[&maker],
            )
            .await?;
        let closed = rows
            .iter()
            .map(|row| column(row, 0))
            .collect::<Result<Vec<String>>>()?;
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
                    "only a superuser can create extensions of the dump, which would be made by {maker}: {}",
                    closed.join(", ")
                ),
                "let the component connect as a superuser, with all roles of the dump on the server (`restore run ID --create` makes them, or roles = \"create\")",
            );
        }
        Ok(())
    }
}

async fn names(session: &Session, sql: &str) -> Result<Vec<String>> {
    let rows = session.rows(sql, &[]).await?;
    rows.iter().map(|row| column(row, 0)).collect()
}
