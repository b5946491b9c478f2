//! What services have said.

use bollard::query_parameters::LogsOptionsBuilder;

use super::snapshot::ServiceSnapshot;
use crate::model::{Error, Result, Timestamp};
use crate::platforms::docker::engine::Engine;
use crate::platforms::docker::logs::{collect, log_time, newest};

/// How long a node that holds some of the log may take to answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// The log lines of all tasks of a service since `since`, at most the last `limit`, in the order
/// of their times.
pub(super) async fn of_service(
    engine: &Engine,
    view: &ServiceSnapshot,
    since: Timestamp,
    limit: usize,
) -> Result<Vec<String>> {
    let what = format!("read the log of the service {}", view.name);
    let from = log_time(since);
    let options = LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .timestamps(true)
        // Whole seconds only: what is too early is left out below.
        .since(i32::try_from(from.as_second()).unwrap_or(i32::MAX))
        .build();
    let said = engine.docker().await?.service_logs(&view.id, Some(options));
    let mut lines = Vec::new();
    let reading = collect(said, from, limit, &mut lines);
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(read) => read.map_err(|e| engine.refused(&what, e))?,
        Err(_) => {
            return Err(Error::new(
                crate::model::ErrorKind::Failed,
                "swarm.log",
                format!("cannot {what}: not all of it came within {PATIENCE:?}"),
            )
            .hint("a node that is down keeps the log of its tasks to itself: `docker node ls`"));
        }
    }
    Ok(newest(lines, limit))
}
