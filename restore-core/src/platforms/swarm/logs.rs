//! What services have said.

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;

use super::view::ServiceSnapshot;
use crate::model::{Error, Result, Timestamp};
use crate::platforms::docker::engine::Engine;

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
    let from = jiff::Timestamp::try_from(std::time::SystemTime::from(since))
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let options = LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .timestamps(true)
        // Whole seconds only: what is too early is left out below.
        .since(i32::try_from(from.as_second()).unwrap_or(i32::MAX))
        .build();
    let mut said = engine.docker().await?.service_logs(&view.id, Some(options));
    let mut lines: Vec<(jiff::Timestamp, String)> = Vec::new();
    let reading = async {
        while let Some(chunk) = said.next().await {
            let chunk = chunk.map_err(|e| engine.refused(&what, e))?;
            for line in String::from_utf8_lossy(&chunk_bytes(chunk)).lines() {
                let Some((time, text)) = line.split_once(' ') else {
                    continue;
                };
                if let Ok(time) = time.parse::<jiff::Timestamp>()
                    && time >= from
                {
                    lines.push((time, text.to_owned()));
                }
            }
            // Bounded, and the last ones are kept.
            if lines.len() > limit.saturating_mul(2).saturating_add(1024) {
                lines.sort();
                lines.drain(..lines.len().saturating_sub(limit));
            }
        }
        Ok::<(), Error>(())
    };
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(read) => read?,
        Err(_) => {
            return Err(Error::new(
                crate::model::ErrorKind::Failed,
                "swarm.log",
                format!("cannot {what}: not all of it came within {PATIENCE:?}"),
            )
            .hint("a node that is down keeps the log of its tasks to itself: `docker node ls`"));
        }
    }
    lines.sort();
    let surplus = lines.len().saturating_sub(limit);
    Ok(lines
        .into_iter()
        .skip(surplus)
        .map(|(_, text)| text)
        .collect())
}

fn chunk_bytes(chunk: LogOutput) -> bytes::Bytes {
    match chunk {
        LogOutput::StdErr { message }
        | LogOutput::StdOut { message }
        | LogOutput::StdIn { message }
        | LogOutput::Console { message } => message,
    }
}
