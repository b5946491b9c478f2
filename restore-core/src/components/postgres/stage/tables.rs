//! Tables of a dump, taken out of what was staged: moved into schemas of their own, which are then
//! copied beside the live tables.

use serde_json::{Map, Value, json};

use super::super::client::{Session, column};
use super::super::names::{ident, literal, schema_beside};
use super::super::tables::{SCHEMAS, Table, copying, without_rows};
use super::{Loaded, STAGED, Stage};
use crate::contract::Staged;
use crate::model::{Error, ErrorKind, Finding, Result, Severity};

/// Foreign keys are not loaded; what else would act on, or for, the live tables is taken off.
const TAKEN_OFF: &str = "SELECT 'TRIGGER', tgname::text FROM pg_trigger \
    WHERE tgrelid = $1 AND NOT tgisinternal \
    UNION ALL SELECT 'RULE', rulename::text FROM pg_rewrite WHERE ev_class = $1 \
    UNION ALL SELECT 'POLICY', polname::text FROM pg_policy WHERE polrelid = $1";

/// Checks, indexes and generated columns whose expressions would do in the live database, while rows are
/// copied there, more than say what is to be stored: the dump's author has written them, and a name means
/// there whatever the live database has of that name. Of those that come with the server, what has effects
/// is volatile, or queries what it is told to. Operators, types and operator classes of the server are its own.
fn acting(version: u32) -> String {
    // Before 12 there are no generated columns.
    let generated = match version >= 120_000 {
        true => {
            "UNION ALL SELECT 'column', a.attname::text, 'pg_attrdef'::regclass::oid, d.oid, d.adbin::text \
             FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
             WHERE d.adrelid = $1 AND a.attgenerated <> ''"
        }
        false => "",
    };
    format!(
        "WITH code (kind, name, catalog, object, tree) AS ( \
           SELECT 'constraint', conname::text, 'pg_constraint'::regclass::oid, oid, conbin::text \
           FROM pg_constraint WHERE conrelid = $1 AND contype = 'c' \
           UNION ALL SELECT CASE WHEN k.oid IS NULL THEN 'index' ELSE 'constraint' END, \
             coalesce(k.conname, c.relname)::text, 'pg_class'::regclass::oid, c.oid, \
             coalesce(i.indexprs::text, '') || coalesce(i.indpred::text, '') \
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
           LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid \
             AND k.contype IN ('p', 'u', 'x') \
           WHERE i.indrelid = $1 AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) \
           {generated}) \
         SELECT kind, name FROM code WHERE EXISTS ( \
           SELECT FROM pg_depend d WHERE d.classid = code.catalog AND d.objid = code.object \
           AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)) \
         OR EXISTS ( \
           SELECT FROM regexp_matches(code.tree, ':(?:funcid|opfuncid) ([0-9]+)', 'g') AS called (found) \
           JOIN pg_proc p ON p.oid = (called.found)[1]::oid \
           WHERE p.provolatile = 'v' OR p.proname ~ '_to_xml')"
    )
}

/// Tables that it is a part of: partitioned ones, and those that it inherits from.
const PARENTS: &str = "SELECT n.nspname::text, p.relname::text, c.relispartition \
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
    JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace n ON n.oid = p.relnamespace \
    WHERE i.inhrelid = $1";

impl Stage<'_> {
    /// Leaves of the staged database only the tables that are wanted, ready to be copied.
    pub(super) async fn take_tables(&self, loaded: Loaded) -> Result<Staged> {
        let Loaded {
            script,
            artifact,
            mut findings,
        } = loaded;
        let staged = self.pg.session(&self.names.staged).await?.patient().await?;
        staged.run("SET search_path = pg_catalog").await?;
        let mut tables = Vec::new();
        for wanted in self.cx.tables() {
            let table = Table::find(&staged, wanted, &artifact).await?;
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        let (mut taken_off, mut code) = (Vec::new(), Vec::new());
        for table in &tables {
            taken_off.extend(release(&staged, table).await?);
            code.extend(leave_code_out(&staged, table).await?);
        }
        if !code.is_empty() {
            findings.push(
                Finding::warning(
                    "postgres.table_code",
                    &self.pg.name,
                    format!(
                        "left out: {}; what they call is not the server's own, or has effects, and would be called in the live database",
                        code.join(", ")
                    ),
                )
                .hint("where they are needed, add them to the restored table by hand; --as NAME restores all of the database beside the live one, as it was"),
            );
        }
        for found in without_rows(self.pg, self.cx, (&script, &artifact)) {
            if found.severity == Severity::Error {
                let error = Error::new(ErrorKind::Preflight, found.code, found.message);
                return Err(error.hint(found.hint.unwrap_or_default()));
            }
            findings.push(found);
        }
        let (owner, run) = (ident(self.owner()), self.cx.run().sql());
        let mut schemas: Vec<String> = Vec::new();
        let mut rows = Map::new();
        for table in &tables {
            let beside = schema_beside(&table.schema, &run);
            let schema = ident(&beside);
            if !schemas.contains(&beside) {
                staged
                    .run(&format!(
                        "CREATE SCHEMA {schema} AUTHORIZATION {owner}; COMMENT ON SCHEMA {schema} IS {}",
                        literal(&copying(self.cx))
                    ))
                    .await
                    .map_err(|e| e.context(format!("cannot make the schema {beside}")))?;
                schemas.push(beside);
            }
            staged
                .run(&format!(
                    "ALTER TABLE {} SET SCHEMA {schema}",
                    table.quoted()
                ))
                .await
                .map_err(|e| e.context(format!("cannot take {table} out of what was restored")))?;
            let count = format!("SELECT count(*) FROM {schema}.{}", ident(&table.name));
            let count: i64 = column(&staged.one(&count, &[]).await?, 0)?;
            rows.insert(table.to_string(), json!(count));
        }
        let bytes: i64 = column(
            &staged
                .one("SELECT pg_database_size(current_database())", &[])
                .await?,
            0,
        )?;
        staged.close().await;
        let more = match taken_off.is_empty() {
            true => String::new(),
            false => format!("; also left out: {}", taken_off.join(", ")),
        };
        findings.push(Finding::info(
            "postgres.tables_beside",
            &self.pg.name,
            format!(
                "the tables come with their indexes, checks, defaults and own sequences, without \
                 foreign keys, triggers, rules, policies, comments and privileges{more}"
            ),
        ));
        let total: u64 = rows.values().filter_map(Value::as_u64).sum();
        let mut facts = Map::new();
        facts.insert("from".to_owned(), json!(artifact));
        facts.insert("tables".to_owned(), json!(tables.len()));
        facts.insert("total_rows".to_owned(), json!(total));
        facts.insert("rows".to_owned(), Value::Object(rows));
        self.cx.record(SCHEMAS, json!(schemas)).await?;
        self.cx.record(STAGED, Value::Object(facts.clone())).await?;
        Ok(Staged {
            bytes: u64::try_from(bytes).unwrap_or(0),
            facts,
            findings,
        })
    }
}

/// Frees a table of what ties it to others; what was taken off, in words.
async fn release(session: &Session, table: &Table) -> Result<Vec<String>> {
    if table.partitioned {
        return Err(Error::new(
            ErrorKind::Failed,
            "postgres.partitioned",
            format!("{table} is partitioned: its rows are in its partitions"),
        )
        .hint("name the partitions with --table (`restore show ID --files` lists them), or restore the whole database beside the live one: --as NAME"));
    }
    let quoted = table.quoted();
    for row in session.rows(PARENTS, &[&table.oid]).await? {
        let (schema, name): (String, String) = (column(&row, 0)?, column(&row, 1)?);
        let parent = format!("{}.{}", ident(&schema), ident(&name));
        let sql = match column(&row, 2)? {
            true => format!("ALTER TABLE {parent} DETACH PARTITION {quoted}"),
            false => format!("ALTER TABLE {quoted} NO INHERIT {parent}"),
        };
        session.run(&sql).await?;
    }
    let mut taken_off = Vec::new();
    for row in session.rows(TAKEN_OFF, &[&table.oid]).await? {
        let (kind, name): (String, String) = (column(&row, 0)?, column(&row, 1)?);
        session
            .run(&format!("DROP {kind} {} ON {quoted}", ident(&name)))
            .await?;
        taken_off.push(format!("{} {name} of {table}", kind.to_lowercase()));
    }
    Ok(taken_off)
}

/// Takes off what would act in the live database; what that was, in words. The values of a generated column
/// stay, as values.
async fn leave_code_out(session: &Session, table: &Table) -> Result<Vec<String>> {
    let quoted = table.quoted();
    let acting = acting(session.version());
    let mut left_out = Vec::new();
    for row in session.rows(&acting, &[&table.oid]).await? {
        let (kind, name): (String, String) = (column(&row, 0)?, column(&row, 1)?);
        let item = ident(&name);
        let sql = match kind.as_str() {
            "constraint" => format!("ALTER TABLE {quoted} DROP CONSTRAINT {item}"),
            "index" => format!("DROP INDEX {}.{item}", ident(&table.schema)),
            _ => format!("ALTER TABLE {quoted} ALTER COLUMN {item} DROP EXPRESSION"),
        };
        session.run(&sql).await.map_err(|e| {
            e.context(format!(
                "{kind} {name} of {table} cannot be left out, and would act in the live database"
            ))
        })?;
        left_out.push(match kind.as_str() {
            "column" => format!("what generates the column {name} of {table}"),
            _ => format!("{kind} {name} of {table}"),
        });
    }
    // Whoever owns it is bound by no policy.
    session
        .run(&format!("ALTER TABLE {quoted} NO FORCE ROW LEVEL SECURITY"))
        .await?;
    // One whose name cannot be told is not among them.
    let left = format!("SELECT count(*) FROM ({acting} UNION ALL {TAKEN_OFF}) AS still");
    let left: i64 = column(&session.one(&left, &[&table.oid]).await?, 0)?;
    if left > 0 {
        return Err(Error::new(
            ErrorKind::Failed,
            "postgres.table_code_stays",
            format!("{table} has {left} checks, indexes, triggers or the like that would act in the live database, and whose names cannot be told"),
        )
        .hint("restore the whole database beside the live one: --as NAME"));
    }
    Ok(left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_columns_are_asked_for_where_there_are_any() {
        assert!(!acting(110_022).contains("attgenerated"));
        assert!(acting(120_000).contains("attgenerated"));
    }
}
