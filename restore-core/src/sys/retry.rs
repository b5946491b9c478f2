//! Looking again, with a pause between two looks, until a deadline.

use std::time::Duration;

use tokio::time::Instant;

/// How long something is waited for, and how often it is looked at. It begins when it is made.
///
/// Whoever waits looks first, gives up where this [is over](Self::is_over), and [pauses](Self::pause) else:
/// so there is a look after the deadline has passed, also where one takes long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    deadline: Instant,
    every: Duration,
}

impl Retry {
    /// For this long from now, with such a pause between two looks.
    pub(crate) fn within(patience: Duration, every: Duration) -> Self {
        Self {
            deadline: Instant::now() + patience,
            every,
        }
    }

    /// Whether the time is up.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Waits until it is time to look again.
    pub(crate) async fn pause(&self) {
        tokio::time::sleep(self.every).await;
    }

    /// As [`pause`](Self::pause), for a thread that may block.
    pub(crate) fn pause_blocking(&self) {
        std::thread::sleep(self.every);
    }
}

/// Does something again while it fails in a way that `passes`, until the time is up; its last result.
pub(crate) async fn while_failing<T, E, F>(
    retry: Retry,
    passes: impl Fn(&E) -> bool,
    attempt: impl Fn() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    loop {
        match attempt().await {
            Err(error) if passes(&error) && !retry.is_over() => {}
            done => return done,
        }
        retry.pause().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Fails so often with the number of the attempt, then succeeds; what came of it.
    async fn attempts(patience: Duration, failures: u32, passing: u32) -> Result<u32, u32> {
        let count = AtomicU32::new(0);
        let retry = Retry::within(patience, Duration::from_millis(1));
        while_failing(
            retry,
            |number| *number <= passing,
            || async {
                let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                match number <= failures {
                    true => Err(number),
                    false => Ok(number),
                }
            },
        )
        .await
    }

    #[tokio::test]
    async fn it_is_tried_again_until_it_succeeds_or_fails_for_good_or_the_time_is_up() {
        let long = Duration::from_secs(600);
        assert_eq!(attempts(long, 3, u32::MAX).await, Ok(4));
        assert_eq!(attempts(long, 3, 1).await, Err(2));
        // Once in any case.
        assert_eq!(attempts(Duration::ZERO, 3, u32::MAX).await, Err(1));
        assert_eq!(attempts(Duration::ZERO, 0, u32::MAX).await, Ok(1));
    }

    #[test]
    fn a_thread_pauses_as_well() {
        let over = Retry::within(Duration::ZERO, Duration::ZERO);
        over.pause_blocking();
        assert!(over.is_over());
    }
}
