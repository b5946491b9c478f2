//! Proofs after the cut-over.

use std::time::Duration;

use serde_json::Value;

use super::super::client::{Session, column};
use super::Cluster;
use super::stage::STAGED;
use crate::components::archive;
use crate::contract::RunContext;
use crate::model::{CheckOutcome, Error, Result};
use crate::sys::retry::{Retry, while_failing};

/// How long a server that has just been started may take to let us in.
const PATIENCE: Duration = Duration::from_secs(60);

async fn patiently(cluster: &Cluster) -> Result<Session> {
    let retry = Retry::within(PATIENCE, Duration::from_millis(50));
    while_failing(retry, Error::is_retryable, || cluster.session()).await
}

/// See [`Component::check`](crate::component::Component::check).
pub(super) async fn check(cluster: &Cluster, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
    let outcome = |what: &str, passed, detail: String| {
        CheckOutcome::new(format!("{}/{what}", cluster.name), passed, detail)
    };
    let volume = cluster.volume().await?;
    let content = archive::check_swapped(cx, &cluster.name, volume.as_ref()).await?;
    let mut outcomes = vec![content];
    let session = match patiently(cluster).await {
        Ok(session) => session,
        Err(error) => {
            outcomes.push(outcome("connect", false, error.to_string()));
            return Ok(outcomes);
        }
    };
    outcomes.push(outcome(
        "connect",
        true,
        format!("{} can connect", cluster.config.user),
    ));
    let facts = cx.recall(STAGED).unwrap_or_default();
    let row = session
        .one(
            "SELECT pg_is_in_recovery(), (SELECT system_identifier::text FROM pg_control_system()), \
             (SELECT timeline_id::int8 FROM pg_control_checkpoint())",
            &[],
        )
        .await?;
    let recovering: bool = column(&row, 0)?;
    outcomes.push(outcome(
        "primary",
        !recovering,
        match recovering {
            true => "the server is still in recovery: nobody can write",
            false => "the server is out of recovery",
        }
        .to_owned(),
    ));
    let (system, timeline): (String, i64) = (column(&row, 1)?, column(&row, 2)?);
    let wanted = facts.get("system_identifier").and_then(Value::as_str);
    let branch = facts.get("timeline").and_then(Value::as_i64);
    outcomes.push(outcome(
        "identity",
        wanted == Some(&system) && branch == Some(timeline),
        format!(
            "cluster {system} on timeline {timeline}, recovered was {} on timeline {}",
            wanted.unwrap_or("none"),
            branch.unwrap_or(0)
        ),
    ));
    let rows = session
        .rows("SELECT datname::text FROM pg_database", &[])
        .await?;
    let there = rows
        .iter()
        .map(|row| column(row, 0))
        .collect::<Result<Vec<String>>>()?;
    session.close().await;
    let names = facts.get("databases").and_then(Value::as_array);
    let missing: Vec<&str> = names
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|name| !there.iter().any(|there| there == name))
        .collect();
    outcomes.push(outcome(
        "databases",
        missing.is_empty() && names.is_some(),
        match missing.as_slice() {
            [] => format!("{} databases", names.map_or(0, Vec::len)),
            missing => format!("missing: {}", missing.join(", ")),
        },
    ));
    Ok(outcomes)
}
