//! Attempts until a deadline.

use std::time::Duration;

use tokio::time::Instant;

use crate::contract::{ConfigDuration, RetryMode};
use crate::model::CheckOutcome;

/// How long a check goes on trying where the configuration does not say.
pub(crate) const PATIENCE: ConfigDuration = ConfigDuration::from_secs(30);

/// How long to wait between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// What one attempt showed, in one line.
pub(crate) enum Attempt {
    /// It works.
    Passed(String),
    /// It does not, yet.
    NotYet(String),
    /// It does not, and trying again will not help.
    Failed(String),
}

/// Makes attempts until one passes, one fails for good, or `patience` is over: then the last
/// cause is what the outcome tells. Never takes longer than `patience`.
pub(crate) async fn until<F>(
    name: &str,
    patience: Duration,
    tries: RetryMode,
    mut attempt: impl FnMut() -> F,
) -> CheckOutcome
where
    F: Future<Output = Attempt>,
{
    let deadline = Instant::now() + patience;
    let mut last: Option<String> = None;
    loop {
        match tokio::time::timeout_at(deadline, attempt()).await {
            Ok(Attempt::Passed(detail)) => return CheckOutcome::new(name, true, line(detail)),
            Ok(Attempt::Failed(detail)) => return CheckOutcome::new(name, false, line(detail)),
            Ok(Attempt::NotYet(detail)) => last = Some(detail),
            Err(_) => {
                last.get_or_insert_with(|| "no answer".to_owned());
            }
        }
        if tries == RetryMode::Once {
            return CheckOutcome::new(name, false, line(last.unwrap_or_default()));
        }
        if Instant::now() + PAUSE >= deadline {
            let last = last.unwrap_or_default();
            let detail = format!("{last}; tried for {patience:?}");
            return CheckOutcome::new(name, false, line(detail));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Servers answer in many lines; an outcome has one.
fn line(text: String) -> String {
    if !text.contains(['\n', '\r']) {
        return text;
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn once_is_once() {
        let mut made = 0;
        let outcome = until("x", Duration::from_secs(60), RetryMode::Once, || {
            made += 1;
            async { Attempt::NotYet("refused".to_owned()) }
        })
        .await;
        assert_eq!(
            (made, outcome.passed, outcome.detail.as_str()),
            (1, false, "refused")
        );
    }

    #[tokio::test]
    async fn it_ends_at_its_deadline_with_the_last_cause() {
        let begun = Instant::now();
        let mut first = true;
        let outcome = until(
            "x",
            Duration::from_millis(300),
            RetryMode::UntilDeadline,
            || {
                let now = std::mem::replace(&mut first, false);
                async move {
                    if now {
                        return Attempt::NotYet("refused\nby it".to_owned());
                    }
                    std::future::pending().await
                }
            },
        )
        .await;
        assert!(!outcome.passed);
        assert_eq!(outcome.detail, "refused; by it; tried for 300ms");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
