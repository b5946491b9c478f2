//! What is in a dump: its tables, with their rows where it tells.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio::sync::mpsc::channel;
use tokio_util::sync::CancellationToken;

use super::Postgres;
use super::content::{Content, Format};
use super::script::ScriptReader;
use super::sql_dump::refuse_odd;
use super::tools::{Input, Runner, tool_failed};
use crate::archive::{Source, hand_on, hash_file};
use crate::contract::{Backup, Contents, DumpedTable};
use crate::model::{Error, ErrorKind, Progress, Result};

/// How much of a line of a listing is looked at: names are shorter.
const LINE: usize = 1024;

/// How many tables are kept of what strangers may have written.
const MOST: usize = 1_000_000;

/// How many pieces of a script may be under way.
const DEPTH: usize = 4;

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
        let is_dump = self.find_artifacts(backup).all().any(|it| it == artifact);
        if !is_dump {
            return Ok(None);
        }
        let source = backup.source(artifact)?.cancelled_by(cancel.clone());
        let content = Content::of(source.path(), artifact).await?;
        let mut tables = match content.format {
            Format::Sql => of_script(source).await?,
            Format::Custom | Format::Tar => self.of_archive(source, content.packed, cancel).await?,
            // A tar archive of a folder has members like any other.
            Format::Folder => return Ok(None),
        };
        let described = backup.described(artifact).await?.unwrap_or_default();
        if let Some(rows) = described.get("rows").and_then(|it| it.as_object()) {
            for ((schema, name), known) in &mut tables {
                let said = rows.get(&format!("{schema}.{name}"));
                *known = known.or(said.and_then(serde_json::Value::as_u64));
            }
        }
        let tables = tables
            .into_iter()
            .map(|((schema, name), rows)| DumpedTable::new(schema, name, rows));
        Ok(Some(tables.collect()))
    }
}

/// Reads a script to its end, hashing it meanwhile.
async fn of_script(source: Source) -> Result<Tables> {
    let label = source.label().to_owned();
    let (send, mut pieces) = channel(DEPTH);
    let reading = tokio::spawn(hand_on(source, Progress::hidden(), send));
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
    let mut tables = Tables::new();
    for object in reader.finish().objects.into_keys() {
        if object.kind == "TABLE" {
            tables.insert((object.schema, object.name), None);
        }
    }
    for (schema, name, rows) in counted {
        tables.insert((schema, name), rows);
    }
    Ok(tables)
}

impl Postgres {
    /// Hashes an archive, and has its table of contents read.
    async fn of_archive(
        &self,
        source: Source,
        packed: bool,
        cancel: &CancellationToken,
    ) -> Result<Tables> {
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
            let mut reader = ContentsReader::default();
            let read = |bytes: &[u8]| reader.feed(bytes);
            let exit = runner
                .run(tools, "pg_restore", &["--list"], Some(&input), read)
                .await?;
            if exit.success() {
                return Ok(reader.finish());
            }
            failure.get_or_insert_with(|| tool_failed("pg_restore", &exit));
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

/// Reads what `pg_restore --list` prints, as it comes.
#[derive(Default)]
struct ContentsReader {
    line: Vec<u8>,
    tables: Tables,
}

impl ContentsReader {
    fn feed(&mut self, bytes: &[u8]) {
        let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = lines.next() {
            let room = LINE.saturating_sub(self.line.len()).min(part.len());
            self.line
                .extend_from_slice(part.get(..room).unwrap_or_default());
            if lines.peek().is_some() {
                self.end_line();
            }
        }
    }

    /// "3341; 1259 16386 TABLE public users app".
    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        let table = || {
            let (id, rest) = line.split_once("; ")?;
            id.parse::<u32>().ok()?;
            let (rest, _owner) = rest.splitn(3, ' ').nth(2)?.rsplit_once(' ')?;
            let rest = rest.strip_prefix("TABLE ")?;
            let (schema, name) = rest.strip_prefix("DATA ").unwrap_or(rest).split_once(' ')?;
            // Entries of other kinds begin with the same word.
            let other = schema == "ATTACH" && !rest.starts_with("DATA ");
            (!other).then(|| (schema.to_owned(), name.to_owned()))
        };
        if let Some(table) = table().filter(|_| self.tables.len() < MOST) {
            self.tables.entry(table).or_default();
        }
    }

    fn finish(mut self) -> Tables {
        self.end_line();
        self.tables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_has_tables_wherever_its_pieces_end() {
        let list = "; TABLE public no app\n;\n215; 1259 16386 TABLE public users app\n\
            3341; 0 16386 TABLE DATA public users app\n216; 1259 1 TABLE ATTACH public part app\n\
            217; 1259 1 TABLE public two words app\n218; 1259 1 VIEW public v app\n";
        for size in [1, 7, list.len()] {
            let mut reader = ContentsReader::default();
            for piece in list.as_bytes().chunks(size) {
                reader.feed(piece);
            }
            let tables: Vec<_> = reader.finish().into_keys().collect();
            let named = |name: &str| ("public".to_owned(), name.to_owned());
            assert_eq!(tables, [named("two words"), named("users")]);
        }
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
            let table = |schema: &str, name: &str, rows| (schema.to_owned(), name.to_owned(), rows);
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
