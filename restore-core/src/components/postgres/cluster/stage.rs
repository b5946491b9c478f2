//! Staging: recovered, shut down, and compared with the live side.

use std::path::Path;

use serde_json::{Value, json};

use super::Cluster;
use crate::components::place;
use crate::contract::{RunContext, Staged};
use crate::model::{Error, Finding, Result};
use crate::swap::scope::Discard;
use crate::sys::{open_to_read_below, read_small_from};

/// The fact under which is kept what was staged, for the check after the cut-over.
pub(super) const STAGED: &str = "staged";

/// The configuration that lies in a data directory and comes back with it.
const CONFIGURATION: [&str; 4] = [
    "postgresql.conf",
    "postgresql.auto.conf",
    "pg_hba.conf",
    "pg_ident.conf",
];

/// See [`Component::stage`](crate::component::Component::stage).
pub(super) async fn stage(cluster: &Cluster, cx: &RunContext) -> Result<Staged> {
    // Whatever is under way ends by being dropped: the scratch server is killed.
    let done = tokio::select! {
        biased;
        () = cx.cancelled().cancelled() => Err(Error::interrupted()),
        done = work(cluster, cx) => done,
    };
    if done.is_err() {
        // What cannot be removed now, `discard` finds.
        let _ = cluster.clear(cx, Discard::Staged).await;
    }
    done
}

async fn work(cluster: &Cluster, cx: &RunContext) -> Result<Staged> {
    place::ensure_ours(cx).await?;
    let (reached, dir) = cluster.recover(cx).await?.finish().await?;
    let mut staged = Staged {
        bytes: reached.bytes,
        ..Staged::default()
    };
    staged.facts = match serde_json::to_value(&reached) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let live = cluster.data_dir(cluster.volume().await?.as_ref())?;
    staged.findings.extend(configuration(cluster, &live, &dir));
    let what = match (&reached.target, reached.last_transaction) {
        (Some(target), Some(time)) => format!(
            "recovered to {target}: the last transaction is of {}, at {} of what is now timeline {}",
            time.precise(),
            reached.lsn,
            reached.timeline
        ),
        (Some(target), None) => format!(
            "recovered to {target}: no transaction since the base backup, now timeline {}",
            reached.timeline
        ),
        (None, _) => format!(
            "recovered to the end of the base backup, at {} of what is now timeline {}",
            reached.lsn, reached.timeline
        ),
    };
    staged
        .findings
        .push(Finding::info("cluster.reached", &cluster.name, what));
    cx.record(STAGED, json!(staged.facts)).await?;
    // Or the live server writes all that it has changed while it is being stopped, which is
    // downtime. That it cannot be asked costs that time, and nothing else.
    if let Ok(session) = cluster.session().await
        && let Ok(session) = session.patient().await
    {
        let _ = session.run("CHECKPOINT").await;
        session.close().await;
    }
    Ok(staged)
}

/// No configuration file of a server is longer.
const LONGEST: u64 = 4 << 20;

fn configuration(cluster: &Cluster, live: &Path, staged: &Path) -> Option<Finding> {
    let differ: Vec<&str> = CONFIGURATION
        .into_iter()
        .filter(|name| {
            // Both are the server's user's, who may have put anything there.
            let read = |dir: &Path| {
                let file = open_to_read_below(dir, &dir.join(name)).ok()?;
                read_small_from(file, LONGEST).ok()
            };
            read(live) != read(staged)
        })
        .collect();
    if differ.is_empty() {
        return None;
    }
    Some(
        Finding::warning(
            "cluster.configuration",
            &cluster.name,
            format!(
                "the configuration in the data directory comes back as it was when the base backup was made, which is another than now: {}",
                differ.join(", ")
            ),
        )
        .hint("the present files are kept with the replaced data: compare them after the run"),
    )
}
