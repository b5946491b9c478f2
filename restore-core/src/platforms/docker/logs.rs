//! Log lines of containers, read from the engine's streams.

use bollard::container::LogOutput;
use bollard::errors::Error as Refusal;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use crate::model::Timestamp;

/// A line and when it was written.
pub(crate) type TimedLine = (jiff::Timestamp, String);

/// A time as the engine's log lines have theirs.
pub(crate) fn log_time(since: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::try_from(std::time::SystemTime::from(since))
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// Adds to `lines` what a stream with timestamps says since `from`. Of a long one the last lines
/// are kept: at least `limit`.
pub(crate) async fn collect(
    mut said: impl Stream<Item = Result<LogOutput, Refusal>> + Unpin,
    from: jiff::Timestamp,
    limit: usize,
    lines: &mut Vec<TimedLine>,
) -> Result<(), Refusal> {
    while let Some(chunk) = said.next().await {
        for line in String::from_utf8_lossy(&bytes_of(chunk?)).lines() {
            let Some((time, text)) = line.split_once(' ') else {
                continue;
            };
            if let Ok(time) = time.parse::<jiff::Timestamp>()
                && time >= from
            {
                lines.push((time, text.to_owned()));
            }
        }
        if lines.len() > limit.saturating_mul(2).saturating_add(1024) {
            lines.sort();
            lines.drain(..lines.len().saturating_sub(limit));
        }
    }
    Ok(())
}

/// The last `limit` lines in the order of their times, without these.
pub(crate) fn newest(mut lines: Vec<TimedLine>, limit: usize) -> Vec<String> {
    lines.sort();
    let surplus = lines.len().saturating_sub(limit);
    lines
        .into_iter()
        .skip(surplus)
        .map(|(_, text)| text)
        .collect()
}

/// Log lines for a message, short.
pub(crate) fn last_lines(lines: &[String]) -> String {
    let short: Vec<String> = lines
        .iter()
        .map(|line| line.trim().chars().take(200).collect())
        .filter(|line: &String| !line.is_empty())
        .collect();
    if short.is_empty() {
        return "it said nothing".to_owned();
    }
    format!("its last words: {}", short.join("; "))
}

fn bytes_of(chunk: LogOutput) -> Bytes {
    match chunk {
        LogOutput::StdErr { message }
        | LogOutput::StdOut { message }
        | LogOutput::StdIn { message }
        | LogOutput::Console { message } => message,
    }
}
