//! What containers have said.

use bollard::query_parameters::LogsOptionsBuilder;

use super::containers::Container;
use crate::model::{Error, ErrorKind, Result, Timestamp};
use crate::platforms::docker::engine::{Engine, Refused};
use crate::platforms::docker::logs::{collect, log_time, newest};

/// How long reading the logs of a service may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// The log lines of these containers since `since`, at most the last `limit`, in the order of
/// their times. A container whose log goes where it cannot be read from has none.
pub(super) async fn of_containers<'a>(
    engine: &Engine,
    containers: impl Iterator<Item = &'a Container> + Send,
    since: Timestamp,
    limit: usize,
) -> Result<Vec<String>> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let from = log_time(since);
    let options = LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .timestamps(true)
        .tail(&limit.to_string())
        // Whole seconds only: what is too early is left out below.
        .since(i32::try_from(from.as_second()).unwrap_or(i32::MAX))
        .build();
    let ids: Vec<(&str, &str)> = containers
        .map(|it| (it.id.as_str(), it.name.as_str()))
        .collect();
    let mut lines = Vec::new();
    for (id, name) in ids {
        let what = format!("read the log of the container {name}");
        let said = engine.docker().await?.logs(id, Some(options.clone()));
        let reading = collect(said, from, limit, &mut lines);
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => {
                let error = engine.refused(&what, e);
                if !error.is(&Refused::NoLog) && !error.is(&Refused::NotFound) {
                    return Err(error);
                }
            }
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Failed,
                    "compose.log",
                    format!("cannot {what}: not all of it came within {PATIENCE:?}"),
                )
                .hint("is the disk that the engine keeps its logs on very busy?"));
            }
        }
    }
    Ok(newest(lines, limit))
}
