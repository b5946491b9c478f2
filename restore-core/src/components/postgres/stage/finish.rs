//! What is done once the rows are in: compared, analysed, counted, granted.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::super::client::{Session, column};
use super::super::names::ident;
use super::super::{compare, privileges, views};
use super::{Loaded, STAGED, Stage};
use crate::contract::Staged;
use crate::model::{Error, ErrorKind, Finding, Result};

impl Stage<'_> {
    /// Compares, analyses, counts, and gives the database the live one's properties.
    pub(super) async fn finish(&self, loaded: Loaded) -> Result<Staged> {
        let Loaded {
            script,
            artifact,
            mut findings,
        } = loaded;
        let staged = self.pg.session(&self.names.staged).await?.patient().await?;
        let skip = self.pg.skip(self.cx, self.superuser);
        let wanted = (script.views.as_slice(), script.listed);
        views::fill(&staged, self.live.as_ref(), wanted, &skip).await?;
        let path = views::search_path(self.live.as_ref());
        for sql in &self.pg.config.after_load {
            staged.run(&format!("{path}; {sql}")).await.map_err(|e| {
                e.context(format!(
                    "cannot do `{sql}`, one of the component's after_load"
                ))
                .hint("correct `after_load`; the live database was not touched")
            })?;
        }
        staged.run("SET search_path = pg_catalog").await?;
        compare::complete(&staged, &script).await?;
        self.mend(&staged, &mut findings).await?;
        let validity = compare::validity(&staged).await?;
        if !validity.invalid_indexes.is_empty() {
            return Err(Error::new(
                ErrorKind::Failed,
                "postgres.invalid",
                format!(
                    "indexes of the restored database are not valid: {}",
                    validity.invalid_indexes.join(", ")
                ),
            )
            .hint("try again; the live database was not touched"));
        }
        if !validity.unvalidated.is_empty() {
            findings.push(Finding::warning(
                "postgres.not_validated",
                &self.pg.name,
                format!(
                    "the dump has constraints that were never checked against all rows: {}",
                    validity.unvalidated.join(", ")
                ),
            ));
        }
        // Two messages: in one with another statement it would be one transaction, with a lock on every table.
        staged.run("RESET search_path").await?;
        if let Err(error) = staged.run("ANALYZE").await {
            // The connection's end is found by the next query; anything else costs speed only.
            findings.push(Finding::warning(
                "postgres.not_analysed",
                &self.pg.name,
                format!("queries may be slow until ANALYZE was run: {error}"),
            ));
        }
        staged.run("SET search_path = pg_catalog").await?;
        let mut facts = Map::new();
        facts.insert("from".to_owned(), json!(artifact));
        let counted = compare::count(&staged, None, self.cx.cancelled()).await?;
        facts.extend(counted.facts);
        findings.extend(self.without_rows(&counted.empty).await);
        findings.extend(self.far_fewer_rows(&facts).await);
        facts.insert("constraints".to_owned(), json!(validity.constraints));
        facts.insert("indexes".to_owned(), json!(validity.indexes));
        facts.insert("unvalidated".to_owned(), json!(validity.unvalidated.len()));
        let bytes: i64 = column(
            &staged
                .one("SELECT pg_database_size(current_database())", &[])
                .await?,
            0,
        )?;
        staged.close().await;
        match self.live {
            Some(_) => self.carry_over(&script, &mut findings).await?,
            None => self.take_over(&script, &mut findings).await?,
        }
        self.cx.record(STAGED, Value::Object(facts.clone())).await?;
        Ok(Staged {
            bytes: u64::try_from(bytes).unwrap_or(0),
            facts,
            findings,
        })
    }

    /// Tables of which the restored database has no row and the live one has some: rows that the dump was
    /// told to leave out, or that came since.
    async fn without_rows(&self, empty: &BTreeSet<String>) -> Option<Finding> {
        if empty.is_empty() || self.live.is_none() {
            return None;
        }
        let live = self.pg.session(&self.names.live).await.ok()?;
        let filled = compare::filled(&live, |table| empty.contains(table)).await;
        live.close().await;
        let filled = filled.ok().filter(|filled| !filled.is_empty())?;
        let more = match filled.len().saturating_sub(10) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named: Vec<&str> = filled.iter().take(10).map(String::as_str).collect();
        Some(
            Finding::warning(
                "postgres.tables_without_rows",
                &self.pg.name,
                format!(
                    "the dump has no row of tables of which the live database has some: {}{more}",
                    named.join(", ")
                ),
            )
            .hint("if they are wanted, choose another backup, or restore the whole database beside the live one (--as NAME) and copy from there"),
        )
    }

    /// That the restored database has far fewer rows than the live one, which says about how many it has. Nothing
    /// where some of the restored ones could not be counted: the live one's are.
    async fn far_fewer_rows(&self, facts: &Map<String, Value>) -> Option<Finding> {
        if facts.contains_key("uncounted_tables") {
            return None;
        }
        let restored = facts.get("total_rows")?.as_u64()?;
        match self.live {
            Some(_) => self.pg.far_fewer_rows(self.cx, restored).await,
            None => None,
        }
    }

    /// What the site wants done to each restored database: privileges, new indexes. Then tells who
    /// would lose privileges all the same.
    async fn mend(&self, staged: &Session, findings: &mut Vec<Finding>) -> Result<()> {
        let config = &self.pg.config;
        if config.reindex {
            let database = ident(&self.names.staged);
            staged
                .run(&format!("REINDEX DATABASE {database}"))
                .await
                .map_err(|e| e.context("cannot rebuild the indexes (reindex = true)"))?;
        }
        for grant in &config.grants {
            staged
                .run(&format!("SET search_path TO DEFAULT; {grant}"))
                .await
                .map_err(|e| {
                    e.context(format!(
                        "cannot do `{grant}`, one of the component's grants"
                    ))
                    .hint("correct `grants`; the live database was not touched")
                })?;
        }
        staged.run("SET search_path = pg_catalog").await?;
        // What is left beside the live one takes nothing from anybody.
        if self.live.is_none() || self.cx.restore_as().is_some() {
            return Ok(());
        }
        // What cannot be compared is no reason not to restore, and is told.
        let compared = match self.pg.session(&self.names.live).await {
            Ok(live) => {
                let changed = privileges::changed(&live, staged).await;
                live.close().await;
                changed
            }
            Err(error) => Err(error),
        };
        if let Err(error) = &compared {
            findings.push(
                Finding::warning(
                    "postgres.privileges_unknown",
                    &self.pg.name,
                    format!(
                        "whether anybody may do less or more in the restored database than in {} could not be compared: {error}",
                        self.names.live
                    ),
                )
                .hint("compare them by hand (`\\dp` and `\\ddp` in psql) before `restore confirm`"),
            );
        }
        if let Ok(changes) = compared {
            findings.extend(changes.owners.into_iter().map(|owners| {
                Finding::warning("postgres.owners_changed", &self.pg.name, owners).hint(
                    "if that is not wanted, ALTER … OWNER TO in `after_load` of the component",
                )
            }));
            findings.extend(changes.row_security.into_iter().map(|rules| {
                Finding::warning("postgres.row_security_changed", &self.pg.name, rules).hint(
                    "if that is not wanted, ALTER TABLE and CREATE POLICY in `after_load` of the component",
                )
            }));
            findings.extend(changes.runs_as.into_iter().map(|changed| {
                Finding::warning("postgres.runs_as_changed", &self.pg.name, changed).hint(
                    "if that is not wanted, ALTER FUNCTION … SECURITY DEFINER or INVOKER, or ALTER VIEW … SET (security_invoker = …), in `after_load` of the component",
                )
            }));
            findings.extend(changes.missing.into_iter().map(|missing| {
                Finding::warning("postgres.objects_missing", &self.pg.name, missing).hint(
                    "make what is still needed anew by hand, or in `after_load` of the component",
                )
            }));
            findings.extend(changes.lost.into_iter().map(|lost| {
                Finding::warning("postgres.privileges_lost", &self.pg.name, lost)
                    .hint("if that is not wanted, name them in `grants` of the component")
            }));
            findings.extend(changes.gained.into_iter().map(|gained| {
                Finding::warning("postgres.privileges_gained", &self.pg.name, gained)
                    .hint("if that is not wanted, revoke them in `grants` of the component")
            }));
        }
        Ok(())
    }
}
