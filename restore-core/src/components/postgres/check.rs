//! Proofs after the cut-over. They take the same time whatever the size of the data, because
//! users wait meanwhile; the rows were counted when they were staged.

use serde_json::{Map, Value};

use super::stage::STAGED;
use super::swap::{Before, Found};
use super::{Postgres, compare};
use crate::contract::RunContext;
use crate::model::{CheckOutcome, Result};

/// See [`Component::check`](crate::component::Component::check).
pub(super) async fn check(pg: &Postgres, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
    let outcome = |what: &str, passed, detail: String| {
        CheckOutcome::new(format!("{}/{what}", pg.name), passed, detail)
    };
    let mut outcomes = Vec::new();

    let maintenance = pg.recovered(cx, &pg.login().await?, true).await?;
    let names = pg.names(cx);
    let found = Found::look(&maintenance, &names).await?;
    maintenance.close().await;
    let before = Before::recall(cx)?;
    let is_staged = found.is_cut_over(before.as_ref())
        && found.live.as_ref().map(|live| live.oid) == before.as_ref().map(|b| b.staged_oid);
    outcomes.push(outcome(
        "identity",
        is_staged,
        if is_staged {
            format!("{} is the database that this run staged", names.live)
        } else {
            format!("{} is not the database that this run staged", names.live)
        },
    ));

    let session = match pg.session(&names.live).await {
        Ok(session) => session,
        Err(error) => {
            outcomes.push(outcome("connect", false, error.to_string()));
            return Ok(outcomes);
        }
    };
    outcomes.push(outcome(
        "connect",
        true,
        format!("{} can connect", pg.config.user),
    ));

    let facts = cx.recall(STAGED).unwrap_or_default();
    let staged_tables = facts.get("tables").and_then(Value::as_u64).unwrap_or(0);
    let none = Map::new();
    let rows = facts
        .get("rows")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    let tables = compare::tables(&session).await?;
    let there: Vec<String> = tables
        .iter()
        .map(|(schema, table)| format!("{schema}.{table}"))
        .collect();
    let missing: Vec<&str> = rows
        .keys()
        .filter(|name| !there.contains(name))
        .map(String::as_str)
        .collect();
    let enough = u64::try_from(tables.len()).unwrap_or(u64::MAX) >= staged_tables;
    outcomes.push(outcome(
        "tables",
        missing.is_empty() && enough,
        if missing.is_empty() {
            format!("{} tables, {staged_tables} were restored", tables.len())
        } else {
            format!("missing: {}", missing.join(", "))
        },
    ));

    let had_rows: Vec<&str> = rows
        .iter()
        .filter(|(name, count)| count.as_u64().unwrap_or(0) > 0 && there.contains(name))
        .map(|(name, _)| name.as_str())
        .collect();
    // No table is read: a query of the application's tables would call functions of theirs as whom we sign in.
    let with_room = compare::with_room(&session, &had_rows).await?;
    let is_empty = |name: &&str| !with_room.contains(*name);
    let empty: Vec<&str> = had_rows.iter().copied().filter(is_empty).collect();
    // The application runs and may empty a table; it does not empty all of them.
    let total = facts.get("total_rows").and_then(Value::as_u64).unwrap_or(0);
    outcomes.push(outcome(
        "rows",
        had_rows.is_empty() || empty.len() < had_rows.len(),
        if empty.is_empty() {
            format!("{total} rows were restored; every table that had rows still holds data")
        } else {
            format!(
                "{total} rows were restored; empty since: {}",
                empty.join(", ")
            )
        },
    ));

    let validity = compare::validity(&session).await?;
    let unvalidated = facts
        .get("unvalidated")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    let sound = validity.invalid_indexes.is_empty()
        && u64::try_from(validity.unvalidated.len()).unwrap_or(u64::MAX) <= unvalidated;
    outcomes.push(outcome(
        "constraints",
        sound,
        if sound {
            format!(
                "{} constraints and {} indexes, all as valid as restored",
                validity.constraints, validity.indexes
            )
        } else {
            format!(
                "not valid: {}",
                [validity.invalid_indexes, validity.unvalidated]
                    .concat()
                    .join(", ")
            )
        },
    ));
    session.close().await;
    Ok(outcomes)
}
