//! Materialized views are filled when everything else is loaded: their functions may need names that
//! a dump's own empty `search_path` does not find.

use super::client::{Session, column};
use super::database::Database;
use super::listing;
use super::names::ident;
use super::script::VIEW_DATA;
use crate::model::{Error, ErrorKind, Result};

/// The path by which the application finds names in the database.
pub(super) fn search_path(live: Option<&Database>) -> String {
    let path = live.and_then(Database::search_path);
    path.map_or_else(
        || "SET search_path TO DEFAULT".to_owned(),
        |path| format!("SET search_path TO {path}"),
    )
}

/// Fills the materialized views that the dump would have filled, in the order in which they were
/// made, and as often as one waits for another.
///
/// # Errors
///
/// `postgres.not_filled` with the view and what the server says.
pub(super) async fn fill(
    session: &Session,
    live: Option<&Database>,
    wanted: &[String],
) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let rows = session
        .rows(
            "SELECT n.nspname::text, c.relname::text, \
             translate(n.nspname::text || ' ' || c.relname::text, E'\\n\\r', '  ') \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY c.oid",
            &[],
        )
        .await?;
    let mut waiting: Vec<(String, String)> = Vec::new();
    for row in &rows {
        let text = format!("{VIEW_DATA}{}", column::<String>(row, 2)?);
        let is_it = |entry: &String| {
            let rest = entry.strip_prefix(&text);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        // Of very many not all are known by name.
        if wanted.len() >= listing::NAMED || wanted.iter().any(is_it) {
            waiting.push((column(row, 0)?, column(row, 1)?));
        }
    }
    let path = search_path(live);
    while !waiting.is_empty() {
        let mut failed: Vec<((String, String), Error)> = Vec::new();
        let before = waiting.len();
        for (schema, name) in std::mem::take(&mut waiting) {
            let refresh = format!(
                "REFRESH MATERIALIZED VIEW {}.{}",
                ident(&schema),
                ident(&name)
            );
            // As pg_restore would first.
            if session.run(&refresh).await.is_ok() {
                continue;
            }
            session.run(&path).await?;
            let done = session.run(&refresh).await;
            session.run("SET search_path = pg_catalog").await?;
            if let Err(error) = done {
                failed.push(((schema, name), error));
            }
        }
        if failed.len() == before {
            let Some(((schema, name), error)) = failed.into_iter().next() else {
                return Ok(());
            };
            return Err(Error::new(
                ErrorKind::Failed,
                "postgres.not_filled",
                format!(
                    "materialized view {schema}.{name} cannot be filled: {}",
                    error.message()
                ),
            )
            .hint(format!(
                "skip = [\"{VIEW_DATA}{schema} {name}\"] of the component leaves it empty; after_load = [\"...\"] may fill it with what it needs"
            )));
        }
        waiting.extend(failed.into_iter().map(|(view, _)| view));
    }
    Ok(())
}
