//! Restoring beside the live database: from the custom dump, or from an empty database again
//! from the SQL dump.

mod finish;
mod guard;
mod load;
mod properties;
mod tables;

use super::beside::name_taken;
use super::client::{Login, Session, column};
use super::content::{Content, Format, UnknownFormat};
use super::database::Database;
use super::inspect_dump::LARGEST_SQL;
use super::names::DatabaseNames;
use super::script::Script;
use super::sessions::drop_database;
use super::spool::Spool;
use super::swap::{Before, Found};
use super::tools::{Runner, ToolFailed, Tools};
use super::unchanged::Unchanged;
use super::{Postgres, room, whole};
use crate::archive::Source;
use crate::contract::{RunContext, Staged};
use crate::model::{Error, ErrorKind, Finding, Result};
use crate::sys::on_heap::on_heap;

/// The fact under which is kept what was staged, for the check after the cut-over.
pub(super) const STAGED: &str = "staged";
/// The fact under which is kept what a database that did not exist is described as.
pub(super) const COMMENT: &str = "comment_of_dump";
/// The fact that the restored database does not get the settings of the live one.
pub(super) const OWN_SETTINGS: &str = "own_settings";

/// See [`Component::stage`](crate::component::Component::stage).
pub(super) async fn stage(pg: &Postgres, cx: &RunContext) -> Result<Staged> {
    // Whatever is under way ends by being dropped: programs are killed, connections closed.
    tokio::select! {
        biased;
        () = cx.cancelled().cancelled() => Err(Error::interrupted()),
        staged = on_heap(|| Stage::begin(pg, cx)) => staged,
    }
}

pub(super) use load::PSQL;

pub(super) struct Stage<'a> {
    pub(super) pg: &'a Postgres,
    pub(super) cx: &'a RunContext,
    login: Login,
    /// On the maintenance database.
    session: Session,
    names: DatabaseNames,
    /// The database that the site has now.
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
        let names = pg.names(cx);
        let found = Found::look(&session, &names).await?;
        if found.replaced.is_some() || found.is_cut_over(Before::recall(cx)?.as_ref()) {
            return Err(Error::new(
                ErrorKind::Failed,
                "postgres.already_cut_over",
                format!("run {} has put {} in place already", cx.run(), names.live),
            )
            .hint("`restore confirm` or `restore rollback` that run"));
        }
        // That which is live is what a database beside it is made like.
        let live = match cx.restore_as() {
            Some(name) if found.live.is_some() => return Err(name_taken(pg, name)),
            Some(_) => Database::find(&session, &pg.config.database).await?,
            None => found.live,
        };
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
            live,
            tools,
        };
        let loaded = tokio::select! {
            loaded = on_heap(|| stage.load()) => loaded?,
            error = room::exceeded(pg, cx, (&stage.names, stage.live.as_ref())) => {
                // The server goes on with the statement of a program that is gone.
                let _ = drop_database(&stage.session, &stage.names.staged).await;
                return Err(error);
            }
        };
        let staged = match cx.tables() {
            [] => on_heap(|| stage.finish(loaded)).await?,
            _ => on_heap(|| stage.take_tables(loaded)).await?,
        };
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
            return on_heap(|| self.load_recovered(target)).await;
        }
        if let Some(error) = self.pg.ambiguous(self.cx.backup()) {
            return Err(error);
        }
        let artifacts = self.pg.find_artifacts(self.cx.backup());
        let mut labels = artifacts.all();
        let Some(first) = labels.next() else {
            return Err(self.pg.no_artifact(self.cx.backup()));
        };
        let failure = match on_heap(|| self.load_one(first, true)).await {
            Err(error) if artifacts.dump.is_some() => error.context(first),
            loaded => return loaded,
        };
        // Only what the tool says of the dump speaks for another dump of the same data.
        if !failure.is(&ToolFailed) && !failure.is(&UnknownFormat) {
            return Err(failure);
        }
        self.session.run("SELECT 1").await?;
        let Some(sql) = labels.next() else {
            return Err(
                failure.hint("this backup has no SQL dump to fall back to: choose another backup")
            );
        };
        let mut loaded = on_heap(|| self.load_one(sql, false))
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
            let done = on_heap(|| self.load_archive(&source, &input, known)).await;
            drop(spool);
            return done;
        }
        let source = self.cx.source(label)?;
        let looked = Content::of(source.path(), source.label()).await;
        if looked.as_ref().is_ok_and(|it| it.format == Format::Folder) {
            // Hashed while it is unpacked to a place of our own, before anything of it is run.
            let (spool, input) = self.pg.unpacked_folder(self.cx, source.clone()).await?;
            let done = on_heap(|| self.load_archive(&source, &input, false)).await;
            drop(spool);
            return done;
        }
        let parallel = looked.as_ref().is_ok_and(|it| !it.packed && !it.is_sql());
        let (verified, input) = self.verify(&source, parallel).await?;
        // What is said of a file that is not the one that was made is worth nothing.
        let content = looked?;
        let input = input.packed(content.packed);
        let loading = async {
            if content.is_sql() {
                let known = first && source.size().unwrap_or(0) <= LARGEST_SQL;
                return on_heap(|| self.run_sql(&source, &input, known)).await;
            }
            let known = &self.pg.whole_dumps;
            whole::check(&input, content, label, known, self.cx.cancelled()).await?;
            on_heap(|| self.load_archive(&source, &input, first)).await
        };
        let done = loading.await;
        self.proven(verified, &source, done).await?
    }
}
