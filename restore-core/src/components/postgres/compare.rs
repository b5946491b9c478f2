//! Is everything in the restored database that the dump says, and valid? And what is in it?

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

use super::client::{Session, TOLD, column};
use super::names::{ident, literal};
use super::script::{Object, Script};
use crate::model::{Error, ErrorKind, Result};

/// How many tables are named with their rows in the facts; the totals count all.
const NAMED: usize = 200;

/// Schemas of users: everything but the server's own.
pub(super) const OURS: &str = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

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
    tables_that(session, "true", &[]).await
}

/// Those of them of which this is true.
async fn tables_that(
    session: &Session,
    wanted: &str,
    args: &[&(dyn ToSql + Sync)],
) -> Result<Vec<(String, String)>> {
    session
        .rows(
            &format!(
                "SELECT n.nspname::text, c.relname::text FROM pg_class c \
                 JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OURS} AND {wanted} ORDER BY 1, 2"
            ),
            args,
        )
        .await?
        .iter()
        .map(|row| Ok((column(row, 0)?, column(row, 1)?)))
        .collect()
}

/// A table, and the column of it that is read to count its rows.
struct Counting {
    schema: String,
    table: String,
    column: Option<String>,
}

impl Counting {
    /// The tables that hold rows themselves and of which this is true, each with the column that may be read and is the
    /// least to send.
    async fn those(
        session: &Session,
        wanted: &str,
        args: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Self>> {
        // Of one that is generated nothing is copied.
        let stored = match session.version() >= 120_000 {
            true => "AND a.attgenerated = ''",
            false => "",
        };
        let told = match session.any_bytes() {
            true => format!("AND a.attname::text ~ {TOLD}"),
            false => String::new(),
        };
        session
            .rows(
                &format!(
                    "SELECT n.nspname::text, c.relname::text, \
                     (SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid \
                      AND a.attnum > 0 AND NOT a.attisdropped {stored} {told} \
                      ORDER BY has_column_privilege(c.oid, a.attnum, 'SELECT') DESC, \
                      a.attlen < 0, a.attlen, a.attnum LIMIT 1) \
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                     WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OURS} AND {wanted} \
                     ORDER BY 1, 2"
                ),
                args,
            )
            .await?
            .iter()
            .map(|row| {
                Ok(Self {
                    schema: column(row, 0)?,
                    table: column(row, 1)?,
                    column: column(row, 2)?,
                })
            })
            .collect()
    }

    /// What sends a line for each row. Not a query: to plan one, the server calls functions of the table's indexes
    /// as whoever asks, and where the name became a view's meanwhile, those of the view. The table may belong to
    /// somebody who is to become no superuser by that. A copy takes tables only, and calls nothing.
    fn copy(&self) -> String {
        let only = self.column.as_deref().map(|it| format!(" ({})", ident(it)));
        // Nothing is converted: what cannot be is counted like all else.
        format!(
            "COPY {}.{}{} TO STDOUT (ENCODING 'SQL_ASCII')",
            ident(&self.schema),
            ident(&self.table),
            only.unwrap_or_default()
        )
    }
}

/// How many tables are counted in one transaction: each holds a lock until it ends.
const AT_ONCE: usize = 100;

/// About how many rows the tables have, as the server keeps account of them: for nothing more than a glance.
pub(super) async fn about_rows(session: &Session) -> Result<u64> {
    let sql = format!(
        "SELECT coalesce(sum(greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)), 0)::bigint \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OURS}"
    );
    let rows: i64 = column(&session.one(&sql, &[]).await?, 0)?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// What was counted.
pub(super) struct Counted {
    /// For reports: not all tables by their names.
    pub(super) facts: Map<String, Value>,
    /// All tables that have no row.
    pub(super) empty: BTreeSet<String>,
}

/// Counts every table's rows, exactly, of a snapshot that another session holds where one is named. Tables that the user may not
/// read, or not all of (row security), are left out, as are those whose policies fail.
pub(super) async fn count(
    session: &Session,
    snapshot: Option<&str>,
    cancel: &CancellationToken,
) -> Result<Counted> {
    // Where a policy would hide rows the count is an error, not another number.
    session.run("SET row_security = off").await?;
    let tables = Counting::those(session, "true", &[]).await?;
    let mut rows = Map::new();
    let mut empty = BTreeSet::new();
    let mut total: u64 = 0;
    let mut uncounted: u64 = 0;
    for some in tables.chunks(AT_ONCE) {
        let mut within = false;
        for counting in some {
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
            match session.copied(&counting.copy()).await {
                Ok(count) => {
                    let name = format!("{}.{}", counting.schema, counting.table);
                    total = total.saturating_add(count);
                    if count == 0 {
                        empty.insert(name.clone());
                    }
                    if rows.len() < NAMED {
                        rows.insert(name, json!(count));
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
    Ok(Counted { facts, empty })
}

/// How many rows this table has; `None` if there is none that may be read.
pub(super) async fn rows_of(session: &Session, schema: &str, table: &str) -> Result<Option<u64>> {
    let wanted = "n.nspname::text = $1 AND c.relname::text = $2";
    let found = Counting::those(session, wanted, &[&schema, &table]).await?;
    let Some(counting) = found.first() else {
        return Ok(None);
    };
    match session.copied(&counting.copy()).await {
        Ok(rows) => Ok(Some(rows)),
        Err(error) if error.is_closed() => Err(session.failed(&error)),
        Err(_) => Ok(None),
    }
}

/// The tables with rows among those that are `asked` for, as the server keeps account of them. Those of which it has
/// none, and that take up room, are taken to have some.
pub(super) async fn filled(
    session: &Session,
    asked: impl Fn(&String) -> bool,
) -> Result<Vec<String>> {
    let has_rows = "pg_relation_size(c.oid) > 0 \
         AND (greatest(c.reltuples, pg_stat_get_live_tuples(c.oid)) > 0 \
         OR ((c.reltuples < 0 OR c.relpages = 0) AND pg_stat_get_tuples_inserted(c.oid) = 0))";
    let all = tables_that(session, has_rows, &[]).await?;
    let named = all
        .into_iter()
        .map(|(schema, table)| format!("{schema}.{table}"));
    Ok(named.filter(asked).collect())
}

/// Those of the tables of these names that take up room: one from which all rows were taken at once does not.
pub(super) async fn with_room(session: &Session, names: &[&str]) -> Result<BTreeSet<String>> {
    // Only these are asked for their size, which waits for whoever has locked a table.
    let wanted = "CASE WHEN n.nspname::text || '.' || c.relname::text = ANY ($1::text[]) \
         THEN pg_relation_size(c.oid) > 0 ELSE false END";
    let found = tables_that(session, wanted, &[&names]).await?;
    let named = found
        .into_iter()
        .map(|(schema, table)| format!("{schema}.{table}"));
    Ok(named.collect())
}

/// The tables of which the user of the session may not see all rows, as policies hold for it. Asked of the catalogs: no
/// policy is run.
pub(super) async fn with_closed_rows(session: &Session) -> Result<Vec<String>> {
    let closed = "c.relrowsecurity AND row_security_active(c.oid)";
    let tables = tables_that(session, closed, &[]).await?.into_iter();
    Ok(tables
        .map(|(schema, table)| format!("{schema}.{table}"))
        .collect())
}

/// Whether any table of users takes up room: without reading one, whether there are rows.
pub(super) async fn has_rows(session: &Session) -> Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OURS} AND pg_relation_size(c.oid) > 0)"
    );
    column(&session.one(&sql, &[]).await?, 0)
}
