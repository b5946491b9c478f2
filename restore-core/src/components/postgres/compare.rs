//! Is everything in the restored database that the dump says, and valid? And what is in it?

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::client::{Session, column};
use super::names::{ident, literal};
use super::script::{Object, Script};
use crate::model::{Error, ErrorKind, Result};

/// How many tables are named with their rows in the facts; the totals count all.
const NAMED: usize = 200;

/// Schemas of users: everything but the server's own.
const OURS: &str = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

/// Every object of the kinds that are compared, as pg_dump names them. Line ends in names are
/// spaces there.
const OBJECTS: &str = "
WITH objects(kind, schema, name) AS (
  SELECT CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'p' THEN 'TABLE' WHEN 'v' THEN 'VIEW'
           WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE'
           ELSE 'INDEX' END, n.nspname::text, c.relname::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r','p','v','m','S','f','i','I')
  UNION ALL
  SELECT CASE k.contype WHEN 'f' THEN 'FK CONSTRAINT' WHEN 'c' THEN 'CHECK CONSTRAINT'
           ELSE 'CONSTRAINT' END,
         n.nspname::text, coalesce(c.relname, t.typname)::text || ' ' || k.conname::text
    FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
    LEFT JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_type t ON t.oid = k.contypid
    WHERE coalesce(c.relname, t.typname) IS NOT NULL
  UNION ALL
  SELECT 'TRIGGER', n.nspname::text, c.relname::text || ' ' || g.tgname::text
    FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT g.tgisinternal
  UNION ALL
  SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END,
         n.nspname::text, split_part(p.proname::text, '(', 1)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  UNION ALL
  SELECT CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, n.nspname::text, t.typname::text
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
  UNION ALL SELECT 'SCHEMA', '-', n.nspname::text FROM pg_namespace n
  UNION ALL SELECT 'EXTENSION', '-', e.extname::text FROM pg_extension e
)
SELECT kind, translate(schema, E'\\n\\r', '  '), translate(name, E'\\n\\r', '  '), count(*)
FROM objects GROUP BY 1, 2, 3";

/// Kinds of the dump that [`OBJECTS`] finds.
const KINDS: [&str; 17] = [
    "TABLE",
    "VIEW",
    "MATERIALIZED VIEW",
    "SEQUENCE",
    "FOREIGN TABLE",
    "INDEX",
    "CONSTRAINT",
    "FK CONSTRAINT",
    "CHECK CONSTRAINT",
    "TRIGGER",
    "FUNCTION",
    "PROCEDURE",
    "AGGREGATE",
    "TYPE",
    "DOMAIN",
    "SCHEMA",
    "EXTENSION",
];

/// Fails, naming what lacks, unless the database has every object that the dump has.
pub(super) async fn complete(session: &Session, script: &Script) -> Result<()> {
    let mut found: BTreeMap<Object, i64> = BTreeMap::new();
    for row in session.rows(OBJECTS, &[]).await? {
        let object = Object {
            kind: column(&row, 0)?,
            schema: column(&row, 1)?,
            name: column(&row, 2)?,
        };
        *found.entry(object).or_default() += column::<i64>(&row, 3)?;
    }
    let lacking: Vec<String> = script
        .objects
        .iter()
        .filter(|(object, count)| {
            KINDS.contains(&object.kind.as_str())
                // Names that could not be decoded cannot be compared.
                && !object.name.contains('\u{fffd}')
                && !object.schema.contains('\u{fffd}')
                && found.get(*object).copied().unwrap_or(0) < i64::from(**count)
        })
        .map(|(object, _)| object.to_string())
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let named: Vec<&str> = lacking.iter().take(5).map(String::as_str).collect();
    Err(Error::new(
        ErrorKind::Failed,
        "postgres.incomplete",
        format!(
            "the restored database lacks {} of the dump's objects: {}{}",
            lacking.len(),
            named.join(", "),
            if lacking.len() > named.len() {
                ", …"
            } else {
                ""
            }
        ),
    )
    .hint("choose another backup; the live database was not touched"))
}

/// What is not valid: indexes, and constraints that were never checked against all rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) invalid_indexes: Vec<String>,
    pub(super) unvalidated: Vec<String>,
    pub(super) constraints: i64,
    pub(super) indexes: i64,
}

/// Looks for what is not valid.
pub(super) async fn validity(session: &Session) -> Result<Validity> {
    let indexes = session
        .rows(
            &format!(
                "SELECT n.nspname::text || '.' || c.relname::text, i.indisvalid OR c.relkind = 'I' \
                 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS} ORDER BY 1"
            ),
            &[],
        )
        .await?;
    let constraints = session
        .rows(
            &format!(
                "SELECT n.nspname::text || '.' || k.conname::text, k.convalidated \
                 FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace \
                 WHERE {OURS} ORDER BY 1"
            ),
            &[],
        )
        .await?;
    let bad = |rows: &[tokio_postgres::Row]| -> Result<Vec<String>> {
        let mut names = Vec::new();
        for row in rows {
            if !column::<bool>(row, 1)? {
                names.push(column(row, 0)?);
            }
        }
        Ok(names)
    };
    Ok(Validity {
        invalid_indexes: bad(&indexes)?,
        unvalidated: bad(&constraints)?,
        constraints: i64::try_from(constraints.len()).unwrap_or(i64::MAX),
        indexes: i64::try_from(indexes.len()).unwrap_or(i64::MAX),
    })
}

/// The tables that hold rows themselves: schema and name.
pub(super) async fn tables(session: &Session) -> Result<Vec<(String, String)>> {
    session
        .rows(
            &format!(
                "SELECT n.nspname::text, c.relname::text FROM pg_class c \
                 JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OURS} ORDER BY 1, 2"
            ),
            &[],
        )
        .await?
        .iter()
        .map(|row| Ok((column(row, 0)?, column(row, 1)?)))
        .collect()
}

/// How many tables are counted in one transaction: each holds a lock until it ends.
const AT_ONCE: usize = 100;

/// Counts every table's rows, exactly, of a snapshot that another session holds where one is named. Tables that the user may not
/// read, or not all of (row security), are left out, as are those whose policies fail.
pub(super) async fn count(
    session: &Session,
    snapshot: Option<&str>,
    cancel: &CancellationToken,
) -> Result<Map<String, Value>> {
    // Where a policy would hide rows the count is an error, not another number.
    session.run("SET row_security = off").await?;
    let tables = tables(session).await?;
    let mut rows = Map::new();
    let mut total: i64 = 0;
    let mut uncounted: u64 = 0;
    for some in tables.chunks(AT_ONCE) {
        let mut within = false;
        for (schema, table) in some {
            if cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            if let (false, Some(snapshot)) = (within, snapshot) {
                let set = format!(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
                    literal(snapshot)
                );
                session.run(&set).await?;
                within = true;
            }
            let sql = format!("SELECT count(*) FROM {}.{}", ident(schema), ident(table));
            match session.try_rows(&sql, &[]).await {
                Ok(found) => {
                    let count: i64 = match found.first() {
                        Some(row) => column(row, 0)?,
                        None => 0,
                    };
                    total = total.saturating_add(count);
                    if rows.len() < NAMED {
                        rows.insert(format!("{schema}.{table}"), json!(count));
                    }
                }
                Err(error) if error.is_closed() => return Err(session.failed(&error)),
                Err(_) => {
                    uncounted += 1;
                    if within {
                        session.run("ROLLBACK").await?;
                        within = false;
                    }
                }
            }
        }
        if within {
            session.run("COMMIT").await?;
        }
    }
    let mut facts = Map::new();
    facts.insert("tables".to_owned(), json!(tables.len()));
    facts.insert("total_rows".to_owned(), json!(total));
    if uncounted > 0 {
        facts.insert("uncounted_tables".to_owned(), json!(uncounted));
    }
    facts.insert("rows".to_owned(), Value::Object(rows));
    Ok(facts)
}

/// Whether any table of users takes up room: without reading one, whether there are rows.
pub(super) async fn has_rows(session: &Session) -> Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OURS} AND pg_relation_size(c.oid) > 0)"
    );
    column(&session.one(&sql, &[]).await?, 0)
}
