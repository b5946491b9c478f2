//! What is in a dump: its tables, with their rows where it tells.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio::sync::mpsc::channel;
use tokio_util::sync::CancellationToken;

use super::Postgres;
use super::client::{SessionError, column};
use super::content::{Content, Format};
use super::database::Database;
use super::script::{Properties, Script, ScriptReader};
use super::sql_dump::{not_in_dump, refuse_odd};
use super::tools::{Input, Runner, ToolFailed};
use crate::archive::{Source, forward_chunks, hash_file};
use crate::contract::{Backup, Contents, DumpedTable, RunContext};
use crate::model::{Difference, Error, ErrorKind, Progress, Result};

/// How many pieces of a script may be under way.
const DEPTH: usize = 4;

/// What a dump says of what it holds.
struct Dumped {
    tables: Tables,
    /// Of the database itself.
    properties: Properties,
}

/// Tables by schema and name, with their rows where these are known.
type Tables = BTreeMap<(String, String), Option<u64>>;

#[async_trait]
impl Contents for Postgres {
    async fn tables(
        &self,
        backup: &Backup,
        artifact: &str,
        cancel: &CancellationToken,
    ) -> Result<Option<Vec<DumpedTable>>> {
        let dumped = self.dumped(backup, artifact, cancel).await?;
        Ok(dumped.map(|dumped| of_tables(dumped.tables)))
    }

    async fn compare(&self, cx: &RunContext, most: usize) -> Result<Vec<Difference>> {
        let compared = async {
            if let Some(error) = self.ambiguous(cx.backup()) {
                return Err(error);
            }
            let artifacts = self.find_artifacts(cx.backup());
            let label = artifacts.all().next();
            let label = label.ok_or_else(|| self.no_artifact(cx.backup()))?;
            let dumped = self.dumped(cx.backup(), label, cx.cancelled()).await?;
            let dumped = dumped.ok_or_else(|| {
                Error::new(
                    ErrorKind::Preflight,
                    "diff.not_listed",
                    format!("{label} is in a format whose tables are not listed"),
                )
                .hint("`restore drill` restores it beside what is live, and counts")
            })?;
            let Dumped { tables, properties } = dumped;
            let live = self.live_tables().await?;
            let mut found = differences(of_tables(tables), &live, most);
            let names = setting_names(&properties);
            if !names.is_empty() {
                found.push(self.settings(names, most).await?);
            }
            Ok(found)
        };
        self.named(compared.await)
    }
}

fn of_tables(tables: Tables) -> Vec<DumpedTable> {
    let tables = tables.into_iter();
    tables
        .map(|((schema, name), rows)| DumpedTable::new(schema, name, rows))
        .collect()
}

/// The names of the settings that a dump has of its database; values may be secrets.
fn setting_names(properties: &Properties) -> Vec<String> {
    let statements = properties.statements.iter();
    let named = statements.filter_map(|(_, before, after)| {
        let (name, _) = after
            .trim_start()
            .strip_prefix("SET ")?
            .split_once(" TO ")?;
        let role = before
            .strip_prefix("ALTER ROLE ")
            .and_then(|rest| rest.trim_end().strip_suffix(" IN DATABASE"));
        // Those of extensions have a dot in their names, and are quoted.
        let name = name.trim_matches('"');
        Some(match role {
            Some(role) => format!("{name} of role {role}"),
            None => name.to_owned(),
        })
    });
    named.collect()
}

/// The live tables with about how many rows each has; `None`: never looked at. A dump has none that
/// belong to extensions.
const LIVE: &str = "SELECT n.nspname::text, c.relname::text, c.reltuples::float8 \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' \
    AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass \
    AND d.objid = c.oid AND d.deptype = 'e')";

/// How the tables of a dump differ from the live ones; rows are compared where both numbers are known.
fn differences(dumped: Vec<DumpedTable>, live: &Tables, most: usize) -> Vec<Difference> {
    let (mut tables, mut rows) = (Difference::new("tables"), Difference::new("rows"));
    let count = |count: usize| u64::try_from(count).ok();
    (tables.backup, tables.live) = (count(dumped.len()), count(live.len()));
    rows.estimated = true;
    let mut seen: BTreeMap<(String, String), ()> = BTreeMap::new();
    for DumpedTable {
        schema,
        name,
        rows: has,
    } in dumped
    {
        let shown = format!("{schema}.{name}");
        let there = live.get(&(schema.clone(), name.clone()));
        seen.insert((schema, name), ());
        rows.backup = sum(rows.backup, has);
        match (there, has) {
            (None, _) => tables.added.add(shown, most),
            (Some(Some(there)), Some(has)) if *there != has => {
                rows.changed
                    .add(format!("{shown}: {has}, live about {there}"), most);
            }
            _ => {}
        }
    }
    for ((schema, name), there) in live {
        rows.live = sum(rows.live, *there);
        if !seen.contains_key(&(schema.clone(), name.clone())) {
            tables.removed.add(format!("{schema}.{name}"), most);
        }
    }
    vec![tables, rows]
}

/// What is known of both together.
fn sum(known: Option<u64>, more: Option<u64>) -> Option<u64> {
    match (known, more) {
        (Some(known), Some(more)) => Some(known.saturating_add(more)),
        (known, more) => known.or(more),
    }
}

/// Reads a script to its end, hashing it meanwhile: what of it is for `database`.
async fn of_script(source: Source, database: &str) -> Result<Dumped> {
    let label = source.label().to_owned();
    let file = source
        .open()
        .map_err(|e| Error::io(format!("read {label}"), e))?;
    // Its first bytes say how it is compressed, whatever its name claims.
    let source = Source::from_file(
        file,
        format!("{label} (dump)"),
        source.size(),
        source.expected(),
    )
    .cancelled_by(source.cancel().clone());
    let (send, mut pieces) = channel(DEPTH);
    let reading = tokio::spawn(forward_chunks(source, Progress::hidden(), send));
    let counting = tokio::task::spawn_blocking(move || {
        let mut reader = ScriptReader::counting();
        while let Some(piece) = pieces.blocking_recv() {
            reader.feed(&piece);
            if reader.odd().is_some() {
                break;
            }
        }
        reader
    });
    let broken = |e: tokio::task::JoinError| {
        Error::new(
            ErrorKind::Internal,
            "postgres.task",
            format!("reading a dump ended unexpectedly: {e}"),
        )
    };
    let mut reader = counting.await.map_err(broken)?;
    // What is too odd to be read on ends the other as well.
    refuse_odd(&reader, &label)?;
    reading.await.map_err(broken)??;
    let counted = reader.counted();
    let script = reader
        .finish_for(database)
        .map_err(|databases| not_in_dump(&label, database, &databases))?;
    // Of a script that connects to databases only what goes to the one that is restored counts.
    let only = match script.databases.is_empty() {
        true => None,
        false => Some(script.taken_from.clone().unwrap_or(database.to_owned())),
    };
    let Dumped {
        mut tables,
        properties,
    } = of_objects(script);
    for table in counted {
        if only.is_none() || table.database == only {
            tables.insert((table.schema, table.name), table.rows);
        }
    }
    Ok(Dumped { tables, properties })
}

/// The tables that a script makes, and what it says of the database itself.
fn of_objects(script: Script) -> Dumped {
    let objects = script.objects.into_keys();
    let tables = objects.filter(|object| object.kind == "TABLE");
    Dumped {
        tables: tables
            .map(|object| ((object.schema, object.name), None))
            .collect(),
        properties: script.properties,
    }
}

impl Postgres {
    /// What is in an artifact; `None` where that is no dump of this database, or in a format that is not listed.
    async fn dumped(
        &self,
        backup: &Backup,
        artifact: &str,
        cancel: &CancellationToken,
    ) -> Result<Option<Dumped>> {
        let is_dump = self.find_artifacts(backup).all().any(|it| it == artifact);
        if !is_dump {
            return Ok(None);
        }
        let source = backup.source(artifact)?.cancelled_by(cancel.clone());
        let content = Content::of(source.path(), artifact).await?;
        let mut dumped = match content.format {
            Format::Sql => of_script(source, &self.config.dumped_as).await?,
            Format::Custom | Format::Tar => self.of_archive(source, content.packed, cancel).await?,
            // A tar archive of a folder has members like any other.
            Format::Folder => return Ok(None),
        };
        let described = backup.described(artifact).await?.unwrap_or_default();
        if let Some(rows) = described.get("rows").and_then(|it| it.as_object()) {
            for ((schema, name), known) in &mut dumped.tables {
                let said = rows.get(&format!("{schema}.{name}"));
                *known = known.or(said.and_then(serde_json::Value::as_u64));
            }
        }
        Ok(Some(dumped))
    }

    /// How the settings of the database itself (`ALTER DATABASE … SET`) would change. Those of a live database stay, so a
    /// dump brings its own only where there is none.
    async fn settings(&self, names: Vec<String>, most: usize) -> Result<Difference> {
        let session = self.maintenance().await?;
        let live = Database::find(&session, &self.config.database).await;
        session.close().await;
        let live = live?;
        let count = |count: usize| u64::try_from(count).ok();
        let mut settings = Difference::new("settings");
        settings.backup = count(names.len());
        settings.live = count(live.as_ref().map_or(0, |live| live.setting_names().len()));
        if live.is_none() {
            for name in names {
                settings.added.add(name, most);
            }
        }
        Ok(settings)
    }

    /// The tables of the live database; none where there is no database.
    async fn live_tables(&self) -> Result<Tables> {
        let session = match self.session(&self.config.database).await {
            Ok(session) => session,
            Err(error) if error.is(&SessionError::NoDatabase) => return Ok(Tables::new()),
            Err(error) => return Err(error),
        };
        let found = session.rows(LIVE, &[]).await;
        let mut tables = Tables::new();
        for row in found? {
            let about: f64 = column(&row, 2)?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "not negative, and a float saturates"
            )]
            let about = (about >= 0.0).then_some(about as u64);
            tables.insert((column(&row, 0)?, column(&row, 1)?), about);
        }
        session.close().await;
        Ok(tables)
    }

    /// Hashes an archive, and has its table of contents read.
    async fn of_archive(
        &self,
        source: Source,
        packed: bool,
        cancel: &CancellationToken,
    ) -> Result<Dumped> {
        let label = source.label().to_owned();
        let digest = hash_file(&source, Progress::hidden()).await?;
        if let Some(expected) = source.expected().filter(|expected| *expected != digest) {
            return Err(super::spool::mismatch(&source, digest, expected));
        }
        let login = self.login().await?;
        let runner = Runner {
            platform: self.platform.as_ref(),
            login: &login,
            cancel,
        };
        // Any version that can read it will do.
        let found = runner.find(self.config.bin.as_deref(), 0).await?;
        let input = Input::new(source.path(), None).packed(packed);
        let mut failure = None;
        for tools in found.iter().rev() {
            // With what it says of the database itself.
            match runner.script(tools, &input, true).await {
                Err(error) if error.is(&ToolFailed) => {
                    failure.get_or_insert(error);
                }
                script => return Ok(of_objects(script?)),
            }
        }
        Err(failure
            .unwrap_or_else(|| {
                Error::new(
                    ErrorKind::Preflight,
                    "postgres.no_tools",
                    "there is no pg_restore to read it",
                )
            })
            .context(label))
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::Counted;
    use super::*;

    #[test]
    fn tables_and_rows_are_compared_where_both_are_known() {
        let dumped = [("a", Some(3)), ("b", None), ("new", Some(1))];
        let dumped = dumped.map(|(name, rows)| DumpedTable::new("public", name, rows));
        let live = [("a", Some(5)), ("b", Some(9)), ("gone", None)];
        let live = live.map(|(name, rows)| (("public".to_owned(), name.to_owned()), rows));
        let found = differences(dumped.to_vec(), &Tables::from(live), 10);
        let [tables, rows] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!((tables.backup, tables.live), (Some(3), Some(3)));
        assert_eq!(tables.added.names, ["public.new"]);
        assert_eq!(tables.removed.names, ["public.gone"]);
        assert_eq!((rows.backup, rows.live), (Some(4), Some(14)));
        assert_eq!(rows.changed.names, ["public.a: 3, live about 5"]);
    }

    #[test]
    fn a_script_has_rows_where_it_copies() {
        let script = "--\n-- PostgreSQL database dump\n--\n\n\
            --\n-- Name: a; Type: TABLE; Schema: public; Owner: app\n--\n\nCREATE TABLE public.a (n int);\n\n\
            --\n-- Data for Name: a; Type: TABLE DATA; Schema: public; Owner: app\n--\n\n\
            COPY public.a (n) FROM stdin;\n1\n2\n-- 3\n\\.\n\n\
            --\n-- Data for Name: b; Type: TABLE DATA; Schema: s; Owner: app\n--\n\n\
            INSERT INTO s.b VALUES (1);\n\n\
            --\n-- Data for Name: c; Type: TABLE DATA; Schema: s; Owner: app\n--\n\n\
            COPY s.c (n) FROM stdin;\n\\.\n";
        for size in [1, 5, script.len()] {
            let mut reader = ScriptReader::counting();
            for piece in script.as_bytes().chunks(size) {
                reader.feed(piece);
            }
            let table = |schema: &str, name: &str, rows| Counted {
                database: None,
                schema: schema.to_owned(),
                name: name.to_owned(),
                rows,
            };
            assert_eq!(
                reader.counted(),
                [
                    table("public", "a", Some(3)),
                    table("s", "b", None),
                    table("s", "c", Some(0))
                ]
            );
        }
    }
}
