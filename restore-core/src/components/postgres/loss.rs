//! What the live database has and a dump lacks: it would not be in the restored one.

use super::client::column;
use super::script::Script;
use super::{Postgres, compare};
use crate::contract::RunContext;
use crate::model::Finding;

impl Postgres {
    /// Whether the dump holds what a database is restored for: rows, and the tables that are live. Errors
    /// among the findings are what stops a run.
    pub(super) async fn losses(&self, cx: &RunContext, script: &Script) -> Vec<Finding> {
        let mut findings = Vec::new();
        let warning = |code: &str, message: String| Finding::warning(code, &self.name, message);
        // There is none, or that is said elsewhere.
        let Ok(live) = self.session(&self.config.database).await else {
            return findings;
        };
        let filled = compare::has_rows(&live).await.unwrap_or(false);
        let objects = match script.large_objects {
            true => 0,
            false => {
                let sql = "SELECT count(*) FROM pg_largeobject_metadata";
                let counted = live.one(sql, &[]).await;
                counted.and_then(|row| column::<i64>(&row, 0)).unwrap_or(0)
            }
        };
        let tables = compare::tables(&live).await.unwrap_or_default();
        live.close().await;
        if objects > 0 {
            findings.push(warning(
                "postgres.no_large_objects",
                format!("the dump has no large objects; the live database has {objects}, which will not be in the restored one"),
            ));
        }
        if script.data == 0 && filled {
            let message = format!(
                "the dump has no rows at all ({} tables: a dump of the schema only, or of an empty database); the live database has some",
                script.tables()
            );
            findings.push(match cx.allows_empty() {
                true => warning("postgres.no_rows", message),
                false => Finding::error("postgres.no_rows", &self.name, message).hint(format!(
                    "choose another backup; --allow-empty {} puts it in the place of the live rows",
                    self.name
                )),
            });
        }
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
            findings.push(warning(
                "postgres.fewer_tables",
                format!(
                    "the dump lacks tables that the live database has, which will not be in the restored one: {}{more}",
                    named.join(", ")
                ),
            ));
        }
        findings
    }
}
