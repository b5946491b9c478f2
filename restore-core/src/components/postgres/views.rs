//! Materialized views are filled when everything else is loaded: their functions may need names that
//! a dump's own empty `search_path` does not find.

use std::collections::BTreeSet;

use super::client::{Session, column};
use super::database::Database;
use super::listing;
use super::names::ident;
use super::script::{Skip, VIEW_DATA};
use crate::model::{Error, ErrorKind, Result};

/// The path by which the application finds names in the database.
pub(super) fn search_path(live: Option<&Database>) -> String {
    let path = live.and_then(Database::search_path);
    path.map_or_else(
        || "SET search_path TO DEFAULT".to_owned(),
        |path| format!("SET search_path TO {path}"),
    )
}

/// A view that is empty.
struct View {
    schema: String,
    name: String,
    /// How a dump names it.
    text: String,
    owner: String,
}

/// The views to fill, of these that are empty. `listed`: those that are wanted are named with their owners.
fn chosen(
    views: &[View],
    (wanted, listed): (&[String], bool),
    skip: &Skip,
) -> Vec<(String, String)> {
    // A name may go on after a blank as if an owner's name followed.
    let means = |entry: &String| -> Vec<usize> {
        let rests = views.iter().enumerate().filter_map(|(at, view)| {
            let rest = entry.strip_prefix(view.text.as_str())?;
            match listed {
                true => Some((at, rest.strip_prefix(' ')? == view.owner)),
                false => rest.is_empty().then_some((at, true)),
            }
        });
        let rests: Vec<(usize, bool)> = rests.collect();
        // Restored without owners they all belong to somebody else.
        let known = rests.iter().any(|(_, owned)| *owned);
        let meant = rests.iter().filter(|(_, owned)| *owned || !known);
        meant.map(|(at, _)| *at).collect()
    };
    let meant: Vec<Vec<usize>> = wanted.iter().map(means).collect();
    // Of very many not all are known by name, and a name that is not in UTF-8 is not known at all.
    let all = wanted.len() >= listing::NAMED || meant.iter().any(Vec::is_empty);
    let meant: BTreeSet<usize> = meant.into_iter().flatten().collect();
    let mut chosen = Vec::new();
    for (at, view) in views.iter().enumerate() {
        if meant.contains(&at) || (all && skip.named(&view.text).is_none()) {
            chosen.push((view.schema.clone(), view.name.clone()));
        }
    }
    chosen
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
    wanted: (&[String], bool),
    skip: &Skip,
) -> Result<()> {
    if wanted.0.is_empty() {
        return Ok(());
    }
    let rows = session
        .rows(
            "SELECT n.nspname::text, c.relname::text, \
             translate(n.nspname::text || ' ' || c.relname::text, E'\\n\\r', '  '), \
             translate(pg_get_userbyid(c.relowner)::text, E'\\n\\r', '  ') \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY c.oid",
            &[],
        )
        .await?;
    let mut views = Vec::new();
    for row in &rows {
        views.push(View {
            schema: column(row, 0)?,
            name: column(row, 1)?,
            text: format!("{VIEW_DATA}{}", column::<String>(row, 2)?),
            owner: column(row, 3)?,
        });
    }
    let mut waiting: Vec<(String, String)> = chosen(&views, wanted, skip);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_that_the_dump_names_otherwise_is_filled_all_the_same() {
        let view = |name: &str| View {
            schema: "public".to_owned(),
            name: name.to_owned(),
            text: format!("{VIEW_DATA}public {name}"),
            owner: "app".to_owned(),
        };
        let views = [view("a"), view("\u{e9}"), view("late"), view("a app")];
        let skip = Skip {
            patterns: vec![format!("{VIEW_DATA}public late")],
            ..Skip::default()
        };
        let names = |wanted: &[&str], listed: bool| -> Vec<String> {
            let wanted: Vec<String> = wanted
                .iter()
                .map(|it| format!("{VIEW_DATA}public {it}"))
                .collect();
            let chosen = chosen(&views, (wanted.as_slice(), listed), &skip);
            chosen.into_iter().map(|(_, name)| name).collect()
        };
        assert_eq!(names(&["a app"], true), ["a"]);
        assert_eq!(names(&["a app app"], true), ["a app"]);
        assert_eq!(names(&["a app"], false), ["a app"]);
        assert_eq!(names(&["a"], false), ["a"]);
        // Of another owner by now, and one that cannot be read.
        assert_eq!(names(&["a bob"], true), ["a"]);
        assert_eq!(
            names(&["a app", "\u{fffd} app"], true),
            ["a", "\u{e9}", "a app"]
        );
    }
}
