//! Backing up: both dumps of one moment, and the roles.

use std::fmt::Write as _;

use serde_json::{Map, json};

use super::client::{Login, Session, column};
use super::tools::{Runner, Tools, tool_failed};
use super::{Postgres, compare};
use crate::contract::{BackedUp, BackupWriter};
use crate::model::{Error, ErrorKind, Finding, Result, Timestamp};

/// How long a dump waits for a table that somebody has locked.
const LOCK_WAIT: &str = "--lock-wait-timeout=120s";

/// See [`Component::live_bytes`](crate::component::Component::live_bytes): the tables without their
/// indexes, which no dump holds. What becomes of them in a compressed dump and one of text is
/// about as much.
pub(super) async fn live_bytes(pg: &Postgres) -> Result<u64> {
    let session = pg.session(&pg.config.database).await?;
    let row = session
        .one(
            "SELECT coalesce(sum(pg_table_size(c.oid)), 0)::int8 FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' \
             AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_(catalog|temp)'",
            &[],
        )
        .await?;
    let bytes: i64 = column(&row, 0)?;
    session.close().await;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// See [`Component::back_up`](crate::component::Component::back_up).
pub(super) async fn back_up(pg: &Postgres, writer: &BackupWriter) -> Result<BackedUp> {
    // Whatever is under way ends by being dropped: programs are killed, connections closed.
    tokio::select! {
        biased;
        () = writer.cancelled().cancelled() => Err(Error::interrupted()),
        done = Dump::begin(pg, writer) => done,
    }
}

struct Dump<'a> {
    pg: &'a Postgres,
    writer: &'a BackupWriter,
    login: Login,
    tools: Tools,
}

/// The moment that everything is dumped of. It lasts as long as the session does.
struct Moment {
    session: Session,
    snapshot: String,
    superuser: bool,
    facts: Map<String, serde_json::Value>,
}

impl<'a> Dump<'a> {
    async fn begin(pg: &'a Postgres, writer: &'a BackupWriter) -> Result<BackedUp> {
        let dump_path = writer.name(&pg.config.dump)?;
        // A site that names none wants none.
        let sql_path = match pg.config.sql.as_slice() {
            // It would hold what the dump holds once more, and a run waits for its safety backup.
            _ if writer.id().is_safety() => None,
            [] => None,
            names => Some(writer.name(names)?),
        };
        let login = pg.login().await?;
        let moment = Moment::take(pg).await?;
        let runner = Runner {
            platform: pg.platform.as_ref(),
            login: &login,
            cancel: writer.cancelled(),
        };
        let server = moment.session.version() / 10_000;
        let tools = runner
            .find(pg.config.bin.as_deref(), server)
            .await?
            .into_iter()
            .next()
            .ok_or_else(|| {
                Error::new(
                    crate::model::ErrorKind::Internal,
                    "postgres.no_tools",
                    "no pg_dump was found",
                )
            })?;
        let dump = Self {
            pg,
            writer,
            login,
            tools,
        };
        let mut done = BackedUp::default();
        let sql = async {
            match &sql_path {
                Some(path) => {
                    let format = ["--clean", "--if-exists"];
                    dump.database(&moment, path, &format).await
                }
                None => Ok(()),
            }
        };
        let mut custom = vec!["--format=custom", "-b"];
        if writer.id().is_safety() {
            // It compresses on one core.
            custom.push("--compress=1");
        }
        let ((), (), counts) =
            tokio::try_join!(dump.database(&moment, &dump_path, &custom), sql, async {
                Ok(dump.counts(&moment).await)
            },)?;
        done.facts.clone_from(&moment.facts);
        match counts {
            Ok(counts) => done.facts.extend(counts),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            // The dumps are whole all the same.
            Err(error) => done.findings.push(Finding::warning(
                "postgres.not_counted",
                &pg.name,
                format!("the rows of its tables could not be counted: {error}"),
            )),
        }
        dump.globals(&sidecar(&dump_path, "globals", "sql"), &moment, &mut done)
            .await?;
        let metadata = metadata_name(&dump_path);
        writer.text(&metadata, dump.metadata(&moment)).await?;
        moment.session.close().await;
        Ok(done)
    }

    /// Counts the rows of the same moment, in a session of its own that holds locks on few tables at a time: those of two dumps of
    /// many tables are as many as the server may have.
    async fn counts(&self, moment: &Moment) -> Result<Map<String, serde_json::Value>> {
        let session = self
            .pg
            .session(&self.pg.config.database)
            .await?
            .patient()
            .await?;
        let cancel = self.writer.cancelled();
        let counts = compare::count(&session, Some(&moment.snapshot), cancel).await;
        session.close().await;
        counts.map(|counted| counted.facts)
    }

    fn runner(&self) -> Runner<'_> {
        Runner {
            platform: self.pg.platform.as_ref(),
            login: &self.login,
            cancel: self.writer.cancelled(),
        }
    }

    /// One dump of the moment.
    async fn database(&self, moment: &Moment, path: &str, format: &[&str]) -> Result<()> {
        let snapshot = format!("--snapshot={}", moment.snapshot);
        let database = format!(
            "--dbname={}",
            self.runner().conninfo(&self.pg.config.database)
        );
        let mut args = vec!["--no-password", LOCK_WAIT, &snapshot, &database];
        args.extend(format);
        self.program("pg_dump", &args, path, false).await
    }

    /// Runs a program whose output is an artifact, which it only is when the program says that
    /// all went well.
    async fn program(&self, name: &str, args: &[&str], path: &str, private: bool) -> Result<()> {
        let artifact = match private {
            true => self.writer.private_artifact(path).await?,
            false => self.writer.artifact(path).await?,
        };
        let mut process = self.runner().start(&self.tools, name, args, None).await?;
        drop(process.stdin());
        let progress = self.writer.progress(&format!("write {path}"), None);
        let filled = match process.stdout() {
            Some(mut output) => artifact.fill(&mut output, &progress).await,
            None => Ok(artifact),
        };
        // A store that takes no more breaks the pipe, and the program complains of that.
        let artifact = filled?;
        let exit = process.wait().await?;
        progress.finish();
        if !exit.success() {
            return Err(tool_failed(name, &exit));
        }
        artifact.finish().await.map(drop)
    }

    /// The roles and tablespaces of the server, with the roles' passwords where we may read them.
    async fn globals(&self, path: &str, moment: &Moment, done: &mut BackedUp) -> Result<()> {
        let runner = self.runner();
        let maintenance = self.pg.config.maintenance.first();
        let database = maintenance.unwrap_or(&self.pg.config.database);
        let conninfo = format!("--dbname={}", runner.conninfo(database));
        let first = format!("--database={database}");
        let mut args = vec![
            "--no-password",
            "--globals-only",
            LOCK_WAIT,
            &conninfo,
            &first,
        ];
        if !moment.superuser {
            args.push("--no-role-passwords");
            done.findings.push(
                Finding::warning(
                    "postgres.no_role_passwords",
                    &self.pg.name,
                    format!(
                        "{} may not read the roles' passwords: {path} is without them",
                        self.pg.config.user
                    ),
                )
                .hint("only a superuser may; a restore into this same server does not need them"),
            );
        }
        self.program("pg_dumpall", &args, path, true).await
    }

    fn metadata(&self, moment: &Moment) -> String {
        let mut text = String::new();
        let server = moment.facts.get("server").and_then(|it| it.as_str());
        for (key, value) in [
            ("Backup Date", Timestamp::now().to_string()),
            ("Database", self.pg.config.database.clone()),
            ("PostgreSQL Version", server.unwrap_or_default().to_owned()),
            ("Dumped With", format!("pg_dump {}", self.tools.version)),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key}: {}", value.replace(['\n', '\r'], " "));
        }
        text
    }
}

impl Moment {
    /// Holds the present of the database still, for us and for every program that is told of it.
    async fn take(pg: &Postgres) -> Result<Self> {
        let session = pg.session(&pg.config.database).await?.patient().await?;
        // Whoever holds a snapshot only seems idle.
        session
            .run("SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '120s'")
            .await?;
        if session.version() >= 170_000 {
            session.run("SET transaction_timeout = 0").await?;
        }
        let mut facts = Map::new();
        let row = session
            .one(
                "SELECT current_setting('server_version'), \
                 (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), \
                 pg_encoding_to_char(encoding)::text FROM pg_database \
                 WHERE datname = current_database()",
                &[],
            )
            .await?;
        facts.insert("server".to_owned(), json!(column::<String>(&row, 0)?));
        facts.insert("database".to_owned(), json!(pg.config.database));
        facts.insert("encoding".to_owned(), json!(column::<String>(&row, 2)?));
        let superuser = column::<Option<bool>>(&row, 1)?.unwrap_or(false);
        session
            .run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        let row = session
            .one("SELECT pg_export_snapshot()::text", &[])
            .await?;
        let snapshot = column(&row, 0)?;
        Ok(Self {
            session,
            snapshot,
            superuser,
            facts,
        })
    }
}

/// `postgres/postgres-globals-ID.sql` beside `postgres/postgres-ID.dump`.
pub(super) fn sidecar(dump: &str, what: &str, ending: &str) -> String {
    let stem = dump.rsplit_once('.').map_or(dump, |(stem, _)| stem);
    let (folder, file) = stem
        .rsplit_once('/')
        .map_or(("", stem), |(folder, file)| (folder, file));
    let (name, id) = file.split_once('-').unwrap_or((file, ""));
    let slash = if folder.is_empty() { "" } else { "/" };
    let dash = if id.is_empty() { "" } else { "-" };
    format!("{folder}{slash}{name}-{what}{dash}{id}.{ending}")
}

/// `postgres/metadata.txt`; beside a dump of another name than the usual, one of its own.
fn metadata_name(dump: &str) -> String {
    let (folder, file) = dump.rsplit_once('/').unwrap_or(("", dump));
    let slash = if folder.is_empty() { "" } else { "/" };
    match file.split_once('-') {
        Some(("postgres", _)) => format!("{folder}{slash}metadata.txt"),
        _ => sidecar(dump, "metadata", "txt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_dump_is_named_after_it() {
        let dump = "postgres/postgres-20240215-020000.dump";
        assert_eq!(
            sidecar(dump, "globals", "sql"),
            "postgres/postgres-globals-20240215-020000.sql"
        );
        assert_eq!(metadata_name(dump), "postgres/metadata.txt");
        let other = "postgres/metrics-pre-restore-20240215-020000.dump";
        assert_eq!(
            sidecar(other, "globals", "sql"),
            "postgres/metrics-globals-pre-restore-20240215-020000.sql"
        );
        assert_eq!(
            metadata_name(other),
            "postgres/metrics-metadata-pre-restore-20240215-020000.txt"
        );
        assert_eq!(sidecar("x.dump", "globals", "sql"), "x-globals.sql");
    }
}
