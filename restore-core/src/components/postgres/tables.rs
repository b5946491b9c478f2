//! Tables of a dump that are left beside the live ones: in the live database, in a schema of their own.
//!
//! The dump is staged as a database, of all other tables without rows; its tables go into schemas
//! named after the run, and these are copied into the live database in one transaction. Whether the
//! schemas are there tells how far a run has come. No live table is touched.

use std::fmt;

use super::client::{Session, column};
use super::database::Database;
use super::globals::Made;
use super::inspect::Inspect;
use super::names::{application, conninfo_value, ident, literal, schema_beside, staged_suffix};
use super::script::Script;
use super::sessions::drop_database;
use super::sql_dump::known_settings;
use super::stage::{PSQL, STAGED};
use super::swap::{mark, not_staged, staged_gone};
use super::tools::{Runner, tool_failed};
use super::{Postgres, compare};
use crate::contract::{CutOver, RunContext};
use crate::model::{CheckOutcome, Error, ErrorKind, Finding, Result};
use crate::swap::scope::Discard;
use crate::sys::random_name;

/// What depends on a schema's tables and is in none of these schemas: it would be dropped with them. What
/// is a part of a table is in its schema.
const USES: &str = "WITH ours AS ( \
      SELECT 'pg_catalog.pg_class'::regclass::oid AS class, c.oid FROM pg_class c \
      JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 \
      UNION ALL SELECT 'pg_catalog.pg_type'::regclass::oid, t.oid FROM pg_type t \
      JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = $1) \
    SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) \
    FROM pg_depend d JOIN ours o ON d.refclassid = o.class AND d.refobjid = o.oid \
    WHERE d.deptype IN ('n', 'a') AND \
      ((pg_identify_object_as_address(d.classid, d.objid, d.objsubid)).object_names)[1] <> ALL ($2::text[]) \
    ORDER BY 1 LIMIT 10";

/// The relations of a schema that people make.
const RELATIONS: &str = "SELECT c.relname::text FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1";

/// The fact under which is kept which schemas a run makes.
pub(super) const SCHEMAS: &str = "schemas_beside";

/// What a name may mean, as schema and table: without a dot a table of `public`.
fn meanings(name: &str) -> Vec<(&str, &str)> {
    let dots = name.match_indices('.');
    let split: Vec<(&str, &str)> = dots
        .filter_map(|(at, _)| Some((name.get(..at)?, name.get(at + 1..)?)))
        .collect();
    match split.is_empty() {
        true => vec![("public", name)],
        false => split,
    }
}

/// The entries of a dump that have the rows of these tables; `None`: of all.
pub(super) fn entries(tables: &[String]) -> Option<Vec<String>> {
    let text = |(schema, name): (&str, &str)| format!("TABLE DATA {schema} {name}");
    let all = tables.iter().flat_map(|table| meanings(table));
    (!tables.is_empty()).then(|| all.map(text).collect())
}

/// The tables, and where they are left, in words: the run has no name yet.
pub(super) fn words(tables: &[String]) -> String {
    let named: Vec<String> = tables
        .iter()
        .map(|table| {
            let (schema, name) = meanings(table)
                .first()
                .copied()
                .unwrap_or(("public", table));
            format!("{}.{name}", schema_beside(schema, "RUN"))
        })
        .collect();
    match named.as_slice() {
        [one] => format!("table {one}"),
        several => format!("tables {}", several.join(", ")),
    }
}

/// A table of the staged database.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) partitioned: bool,
}

impl Table {
    /// The one of this name.
    pub(super) async fn find(session: &Session, wanted: &str, label: &str) -> Result<Self> {
        let sql = "SELECT c.oid, c.relkind = 'p' FROM pg_class c \
                   JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 \
                   AND c.relname = $2 AND c.relkind IN ('r', 'p')";
        for (schema, name) in meanings(wanted) {
            if let Some(row) = session.rows(sql, &[&schema, &name]).await?.first() {
                return Ok(Self {
                    oid: column(row, 0)?,
                    schema: schema.to_owned(),
                    name: name.to_owned(),
                    partitioned: column(row, 1)?,
                });
            }
        }
        Err(no_such_table(label, wanted))
    }

    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.name))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

fn no_such_table(label: &str, wanted: &str) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "postgres.no_such_table",
        format!("{label} has no table {wanted}"),
    )
    .hint("`restore show ID --files` lists its tables, each as SCHEMA.TABLE; upper and lower case count")
}

/// Tables that are wanted and of which the dump has no rows: whoever wants one wants those, and an empty
/// table in their place looks like success.
pub(super) fn without_rows(
    pg: &Postgres,
    cx: &RunContext,
    (script, label): (&Script, &str),
) -> Vec<Finding> {
    let has_rows = |wanted: &String| {
        let mut entries = entries(std::slice::from_ref(wanted)).into_iter().flatten();
        entries.any(|entry| script.rows_of.contains(&entry))
    };
    let lacking = cx.tables().iter().filter(|wanted| !has_rows(wanted));
    let told = lacking.map(|wanted| {
        let code = "postgres.no_rows_of_table";
        let message = format!(
            "{label} has the table {wanted} without its rows: it was made without them, or leaves them out, or they are in the table's partitions"
        );
        match cx.allows_empty() {
            true => Finding::warning(code, &pg.name, message),
            false => Finding::error(code, &pg.name, message).hint(format!(
                "choose another backup, or name the partitions; --allow-empty {} restores the table as it is",
                pg.name
            )),
        }
    });
    told.collect()
}

impl Inspect<'_> {
    /// Whether the dump has the tables that are wanted, with their rows.
    pub(super) fn tables_beside(&mut self, script: &Script) {
        let there = |(schema, name): &(&str, &str)| {
            let mut objects = script.objects.keys();
            objects.any(|it| it.kind == "TABLE" && it.schema == *schema && it.name == *name)
        };
        let cx = self.cx;
        let label = self.out.artifacts.first().cloned().unwrap_or_default();
        let mut all = true;
        for wanted in cx.tables() {
            if !meanings(wanted).iter().any(there) {
                all = false;
                self.error(&no_such_table(&label, wanted));
            }
        }
        if all {
            let told = without_rows(self.pg, cx, (script, &label));
            self.out.findings.extend(told);
        }
    }
}

impl Postgres {
    /// How many bytes the live tables of these names have, twice: they are staged, and copied from there.
    pub(super) async fn bytes_of(&self, tables: &[String]) -> Result<u64> {
        let session = self.session(&self.config.database).await?;
        let sql = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::int8 FROM pg_class c \
                   JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE n.nspname = $1 AND c.relname = $2";
        let mut bytes = 0_u64;
        for (schema, name) in tables.iter().flat_map(|table| meanings(table)) {
            let size: i64 = column(&session.one(sql, &[&schema, &name]).await?, 0)?;
            bytes = bytes.saturating_add(u64::try_from(size).unwrap_or(0).saturating_mul(2));
        }
        session.close().await;
        Ok(bytes)
    }

    /// The run's schemas that are in the live database, each with whether all of it is.
    async fn schemas_there(
        &self,
        session: &Session,
        cx: &RunContext,
    ) -> Result<Vec<(String, bool)>> {
        let sql = "SELECT nspname::text, obj_description(oid, 'pg_namespace') FROM pg_namespace \
                   WHERE nspname = $1";
        let mut there = Vec::new();
        for schema in schemas(cx)? {
            let rows = session.rows(sql, &[&schema]).await?;
            let Some(row) = rows.first() else { continue };
            let comment: Option<String> = column(row, 1)?;
            let whole = comment.as_ref() == Some(&left(cx));
            if !whole && comment != Some(copying(cx)) {
                return Err(Error::new(
                    ErrorKind::Failed,
                    "postgres.name_taken",
                    format!(
                        "there is a schema {schema} in database {} that this run has not made",
                        self.config.database
                    ),
                )
                .hint("rename or drop it by hand, and try again"));
            }
            there.push((schema, whole));
        }
        Ok(there)
    }
}

/// The schemas that a run makes, as it recorded them.
fn schemas(cx: &RunContext) -> Result<Vec<String>> {
    let Some(value) = cx.recall(SCHEMAS) else {
        return Ok(Vec::new());
    };
    serde_json::from_value(value).map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "postgres.fact",
            format!("the journal's record of the schemas cannot be read: {e}"),
        )
    })
}

/// How a schema is marked into which tables are copied: psql takes the end of its input for the end of
/// all, also where whoever gives it that was killed.
pub(super) fn copying(cx: &RunContext) -> String {
    format!("{}: being copied", left(cx))
}

/// How a schema is marked that has all its tables.
fn left(cx: &RunContext) -> String {
    format!(
        "restored from backup {} by restore run {}, beside the live tables",
        cx.backup().id(),
        cx.run()
    )
}

/// See [`Component::cut_over`](crate::component::Component::cut_over).
pub(super) async fn cut_over(pg: &Postgres, cx: &RunContext) -> Result<()> {
    let session = pg.working(cx).await?.patient().await?;
    let staged = pg.names(cx).staged;
    let live = pg.session(&pg.config.database).await?;
    let (wanted, there) = (schemas(cx)?, pg.schemas_there(&live, cx).await?);
    if there.len() != wanted.len() || !there.iter().all(|(_, whole)| *whole) {
        drop_schemas(pg, cx, &live).await?;
        if Database::find(&session, &staged).await?.is_none() {
            return Err(not_staged(&pg.names(cx)));
        }
        copy(pg, cx, &live).await?;
        let marks: Vec<String> = wanted
            .iter()
            .map(|schema| {
                let (schema, mark) = (ident(schema), literal(&left(cx)));
                format!("COMMENT ON SCHEMA {schema} IS {mark}")
            })
            .collect();
        live.run(&format!("BEGIN; {}; COMMIT", marks.join("; ")))
            .await?;
    }
    for schema in wanted {
        let sql = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n \
                   ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'r'";
        for row in live.rows(sql, &[&schema]).await? {
            let name: String = column(&row, 0)?;
            live.run(&format!("ANALYZE {}.{}", ident(&schema), ident(&name)))
                .await?;
        }
    }
    live.close().await;
    drop_database(&session, &staged).await?;
    session.close().await;
    Ok(())
}

/// Copies the schemas out of the staged database.
async fn copy(pg: &Postgres, cx: &RunContext, live: &Session) -> Result<()> {
    let login = pg.login().await?;
    let runner = Runner {
        platform: pg.platform.as_ref(),
        login: &login,
        cancel: cx.cancelled(),
    };
    let found = runner
        .find(pg.config.bin.as_deref(), live.version() / 10_000)
        .await?;
    let tools = runner.restrictable(&found).await?;
    let known = known_settings(live).await?;
    let from = format!("--dbname={}", runner.conninfo(&pg.names(cx).staged));
    // By its name it is found, and ended, by whoever comes after a kill.
    let into = format!(
        "--dbname={} application_name={}",
        runner.conninfo(&pg.config.database),
        conninfo_value(&application(&pg.config.database, cx.run()))
    );
    let schemas = schemas(cx)?;
    let named: Vec<String> = schemas
        .iter()
        .map(|schema| format!("--schema={}", ident(schema)))
        .collect();
    let mut dump = vec![
        "--no-password",
        "--no-privileges",
        "--no-publications",
        "--no-subscriptions",
        from.as_str(),
    ];
    dump.extend(named.iter().map(String::as_str));
    let mut psql: Vec<&str> = PSQL.to_vec();
    psql.extend(["--single-transaction", into.as_str(), "--file=-"]);
    let key = random_name()?;
    let (dumped, loaded) = runner
        .pipe(
            tools,
            ("pg_dump", dump.as_slice(), psql.as_slice()),
            None,
            (known.as_slice(), key.as_str(), None),
        )
        .await?;
    let failed = match (dumped.success(), loaded.success()) {
        (true, true) => return Ok(()),
        (_, false) => tool_failed("psql", &loaded),
        (false, true) => tool_failed("pg_dump", &dumped),
    };
    Err(failed.hint(
        "the live database lacks something that the tables need, such as a type or a function; \
         --as NAME restores the whole database beside it",
    ))
}

async fn drop_schemas(pg: &Postgres, cx: &RunContext, live: &Session) -> Result<()> {
    for (schema, _) in pg.schemas_there(live, cx).await? {
        live.run(&format!("DROP SCHEMA {} CASCADE", ident(&schema)))
            .await
            .map_err(|e| e.context(format!("cannot drop the schema {schema}")))?;
    }
    Ok(())
}

/// See [`Component::as_staged`](crate::component::Component::as_staged).
pub(super) async fn as_staged(pg: &Postgres, cx: &RunContext) -> Result<()> {
    let names = pg.names(cx);
    match staged_there(pg, cx).await {
        Some(false) => Err(not_staged(&names)),
        _ => Ok(()),
    }
}

/// See [`Component::way_back`](crate::component::Component::way_back): schemas that are gone need none.
pub(super) async fn way_back(pg: &Postgres, cx: &RunContext) -> Result<()> {
    let Ok(live) = pg.session(&pg.config.database).await else {
        return Ok(());
    };
    let there = pg.schemas_there(&live, cx).await;
    live.close().await;
    there.map(drop)
}

/// See [`Component::as_left`](crate::component::Component::as_left). The cut-over itself drops the
/// database that was staged, once its tables are copied, and an undo their schemas: what is gone then was
/// taken away by the run.
pub(super) async fn as_left(pg: &Postgres, cx: &RunContext) -> Result<()> {
    if cx.cut_over() != CutOver::NotBegun {
        return Ok(());
    }
    match staged_there(pg, cx).await {
        Some(false) => Err(staged_gone(pg, &pg.names(cx))),
        _ => Ok(()),
    }
}

/// Whether the staged database is there; `None`: nobody can look.
async fn staged_there(pg: &Postgres, cx: &RunContext) -> Option<bool> {
    let session = pg.glance().await.ok()?;
    let found = Database::find(&session, &pg.names(cx).staged).await.ok();
    session.close().await;
    found.map(|found| found.is_some())
}

/// See [`Component::undo`](crate::component::Component::undo).
pub(super) async fn undo(pg: &Postgres, cx: &RunContext) -> Result<()> {
    // Whatever a killed process has psql do yet would come after it.
    pg.working(cx).await?.close().await;
    let live = pg.session(&pg.config.database).await?.patient().await?;
    let users = users(pg, cx, &live).await?;
    if !users.is_empty() {
        return Err(Error::new(
            ErrorKind::Failed,
            "postgres.tables_in_use",
            format!(
                "what somebody has made since would be dropped with the tables that the run left beside the live ones: {}",
                users.join(", ")
            ),
        )
        .hint("drop that, or move it elsewhere; then `restore rollback`"));
    }
    drop_schemas(pg, cx, &live).await?;
    live.close().await;
    Ok(())
}

/// What others have made in the run's schemas, or of what is in them.
async fn users(pg: &Postgres, cx: &RunContext, live: &Session) -> Result<Vec<String>> {
    let schemas = schemas(cx)?;
    let facts = cx.recall(STAGED).unwrap_or_default();
    let rows = facts.get("rows").and_then(|rows| rows.as_object());
    let run = cx.run().sql();
    let is_ours = |schema: &str, relation: &str| {
        let mut tables = rows.into_iter().flatten();
        tables.any(|(table, _)| {
            let mut meant = meanings(table).into_iter();
            meant.any(|(of, name)| name == relation && schema_beside(of, &run) == schema)
        })
    };
    let mut users = Vec::new();
    for (schema, _) in pg.schemas_there(live, cx).await? {
        for row in live.rows(USES, &[&schema, &schemas]).await? {
            users.push(column(&row, 0)?);
        }
        for row in live.rows(RELATIONS, &[&schema]).await? {
            let relation: String = column(&row, 0)?;
            if !is_ours(&schema, &relation) {
                users.push(format!("{schema}.{relation}"));
            }
        }
    }
    Ok(users)
}

/// See [`Component::check`](crate::component::Component::check). Nobody waits for it, so that rows are
/// counted.
pub(super) async fn check(pg: &Postgres, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
    let live = pg.session(&pg.config.database).await?.patient().await?;
    // Where a policy would hide rows there is an error, and not another number.
    live.run("SET row_security = off").await?;
    let facts = cx.recall(STAGED).unwrap_or_default();
    let rows = facts.get("rows").and_then(|rows| rows.as_object());
    let run = cx.run().sql();
    let mut outcomes = Vec::new();
    for (table, wanted) in rows.into_iter().flatten() {
        let mut found = None;
        for (schema, name) in meanings(table) {
            let beside = schema_beside(schema, &run);
            if let Some(count) = compare::rows_of(&live, &beside, name).await? {
                let shown = format!("{}.{}", ident(&beside), ident(name));
                found = Some((shown, count));
                break;
            }
        }
        let (passed, detail) = match found {
            Some((beside, count)) => (
                wanted.as_u64() == Some(count),
                format!("{beside} has {count} rows; {wanted} were restored"),
            ),
            None => (false, "is not there".to_owned()),
        };
        outcomes.push(CheckOutcome::new(
            format!("{}/{table}", pg.name),
            passed,
            detail,
        ));
    }
    live.close().await;
    Ok(outcomes)
}

/// See [`Component::discard`](crate::component::Component::discard).
pub(super) async fn discard(pg: &Postgres, cx: &RunContext, what: Discard) -> Result<()> {
    let session = pg.working(cx).await?.patient().await?;
    Made::of(cx)?.discarding(cx, what).await?;
    let staged = pg.names(cx).staged;
    if let Some(found) = Database::find(&session, &staged).await? {
        // Without a mark it was killed while making it.
        if found.comment.is_some_and(|comment| comment != mark(cx)) {
            return Err(Error::new(
                ErrorKind::Failed,
                "postgres.ambiguous",
                format!("{staged} is not what this run has made"),
            )
            .hint("look into it, rename or drop it by hand, and try again"));
        }
        drop_database(&session, &staged).await?;
    }
    if what == Discard::Staged {
        match cx.cut_over().is_begun() {
            true => pg.keep_roles(&session, cx).await?,
            false => {
                pg.forget_roles(&session, cx, &staged_suffix(cx.run()))
                    .await?;
            }
        }
    }
    session.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_a_listing_shows() {
        assert_eq!(meanings("orders"), [("public", "orders")]);
        assert_eq!(meanings("shop.orders"), [("shop", "orders")]);
        assert_eq!(meanings("a.b.c"), [("a", "b.c"), ("a.b", "c")]);
        assert_eq!(entries(&[]), None);
        assert_eq!(
            entries(&["orders".to_owned(), "s.t".to_owned()]).unwrap(),
            ["TABLE DATA public orders", "TABLE DATA s t"]
        );
        assert_eq!(
            words(&["orders".to_owned()]),
            "table public_restored_RUN.orders"
        );
    }
}
