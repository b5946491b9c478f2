//! What the live database has and a dump lacks: it would not be in the restored one.

use super::client::{Session, TOLD, column};
use super::script::Script;
use super::{Postgres, compare};
use crate::components::far_less::{FEW, far_less};
use crate::contract::RunContext;
use crate::model::Finding;

/// Kinds of entries that make indexes.
const INDEXES: [&str; 3] = ["INDEX", "CONSTRAINT", "FK CONSTRAINT"];

/// Of how many live tables one looks whether far fewer come.
const FEW_TABLES: u64 = 10;

/// How many indexes the tables of users have.
const LIVE_INDEXES: &str = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND c.relpersistence <> 't' \
    AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass \
    AND d.objid = c.oid AND d.deptype = 'e')";

/// How many tables have names that are no UTF-8.
fn untold_tables() -> String {
    format!(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
         AND (n.nspname::text || c.relname::text) !~ {TOLD}"
    )
}

/// What a query counts; 0 where that cannot be asked.
async fn count(live: &Session, sql: &str) -> u64 {
    let counted = live.one(sql, &[]).await;
    let counted = counted.and_then(|row| column::<i64>(&row, 0));
    u64::try_from(counted.unwrap_or(0)).unwrap_or(0)
}

/// About how many rows there are, where the server keeps account of any.
fn rows_in_words(about: u64) -> String {
    match about {
        0 => "rows".to_owned(),
        about => format!("about {about} rows"),
    }
}

impl Postgres {
    /// That a dump which says how many rows it has, has far fewer than the live database, as the server keeps account
    /// of those. A run asks once it has counted what was restored.
    pub(super) async fn far_fewer_rows(&self, cx: &RunContext, dumped: u64) -> Option<Finding> {
        if cx.restore_as().is_some() || !cx.tables().is_empty() {
            return None;
        }
        let live = self.session(&self.config.database).await.ok()?;
        let there = compare::about_rows(&live).await;
        live.close().await;
        let there = there.ok().filter(|there| far_less(dumped, *there, FEW))?;
        let message = format!("the dump has {dumped} rows, and the live database about {there}");
        Some(Finding::warning("postgres.far_fewer_rows", &self.name, message).asking())
    }

    /// That a dump has rows, and nothing that they could be put into. The rows of an extension's tables come
    /// without these.
    pub(super) fn rows_alone(&self, script: &Script) -> Option<Finding> {
        let makes = ["TABLE", "FOREIGN TABLE", "EXTENSION"];
        let kinds = script.kinds();
        let alone = script.data > 0
            && script.extensions.is_empty()
            && !script.undecoded
            && !makes.iter().any(|kind| kinds.contains_key(kind));
        alone.then(|| {
            let message = format!(
                "the dump has rows of {} tables, and none of the tables themselves (pg_dump --data-only or --section=data): they cannot be put into a new database",
                script.data
            );
            Finding::error("postgres.rows_alone", &self.name, message).hint(
                "choose a backup whose dump has both; without --data-only and --section pg_dump writes all into one file",
            )
        })
    }

    /// Whether the dump holds what a database is restored for: rows, and the tables that are live. Errors
    /// among the findings are what stops a run.
    pub(super) async fn losses(&self, cx: &RunContext, script: &Script) -> Vec<Finding> {
        let mut findings = Vec::new();
        // What is left beside the live tables takes the place of none.
        if !cx.tables().is_empty() {
            return findings;
        }
        if let Some(finding) = self.rows_alone(script) {
            findings.push(finding);
            return findings;
        }
        let warning = |code: &str, message: String| Finding::warning(code, &self.name, message);
        // There is none, or that is said elsewhere.
        let Ok(live) = self.session(&self.config.database).await else {
            return findings;
        };
        let filled = compare::has_rows(&live).await.unwrap_or(false);
        let about = compare::about_rows(&live).await.unwrap_or(0);
        let objects = count(&live, "SELECT count(*) FROM pg_largeobject_metadata").await;
        let indexes = match INDEXES.iter().any(|kind| script.kinds().contains_key(kind)) {
            true => 0,
            false => count(&live, LIVE_INDEXES).await,
        };
        let untold = match live.any_bytes() {
            true => count(&live, &untold_tables()).await,
            false => 0,
        };
        let tables = compare::tables(&live).await.unwrap_or_default();
        live.close().await;
        match script.count_large_objects() {
            Some(0) if objects > 0 => findings.push(warning(
                "postgres.no_large_objects",
                format!("the dump has no large objects; the live database has {objects}, which will not be in the restored one"),
            )),
            Some(dumped) if u64::from(dumped) < objects => findings.push(warning(
                "postgres.fewer_large_objects",
                format!("the dump has fewer large objects than the live database: {dumped}, and {objects} are live"),
            )),
            Some(_) | None => {}
        }
        if untold > 0 {
            findings.push(warning(
                "postgres.untold_names",
                format!("{untold} live tables have names that are no UTF-8: such tables are restored like all others, and neither counted nor compared"),
            ));
        }
        if indexes > 0 && script.tables() > 0 {
            findings.push(warning(
                "postgres.no_indexes",
                format!("the dump has no indexes and no keys (a dump without --section=post-data?); the live database has {indexes} indexes, which will not be in the restored one"),
            ));
        }
        if !script.filled && filled {
            let message = format!(
                "the dump has no rows at all ({} tables: a dump of the schema only, or of an empty database); the live database has {} tables with {}",
                script.tables(),
                tables.len(),
                rows_in_words(about)
            );
            findings.push(match cx.allows_empty() {
                true => warning("postgres.no_rows", message),
                false => Finding::error("postgres.no_rows", &self.name, message).hint(format!(
                    "choose another backup; --allow-empty {} puts it in the place of the live rows",
                    self.name
                )),
            });
        }
        let there = u64::try_from(tables.len()).unwrap_or(u64::MAX);
        let lacking: Vec<String> = tables
            .into_iter()
            .filter(|(schema, table)| {
                !script.objects.keys().any(|object| {
                    object.kind == "TABLE" && object.schema == *schema && object.name == *table
                })
            })
            .map(|(schema, table)| format!("{schema}.{table}"))
            .collect();
        if !lacking.is_empty() && script.data + script.tables() > 0 {
            let more = match lacking.len().saturating_sub(10) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let named: Vec<&str> = lacking.iter().take(10).map(String::as_str).collect();
            let told = warning(
                "postgres.fewer_tables",
                format!(
                    "the dump has {} tables, and lacks {} of the {there} of the live database, which will not be in the restored one: {}{more}",
                    script.tables(),
                    lacking.len(),
                    named.join(", ")
                ),
            );
            findings.push(
                match far_less(u64::from(script.tables()), there, FEW_TABLES) {
                    true => told.asking(),
                    false => told,
                },
            );
        }
        findings
    }
}
