//! What a run tells while it works: events for whoever watches, never needed for correctness.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Finding, Timestamp};

/// One thing that happened. Events carry no secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A run, a rollback or a resumption begins.
    RunStarted {
        /// The run's id.
        run: String,
        /// The backup's id.
        backup: String,
        /// `run`, `drill`, `resume`, `rollback`, `confirm` or `abandon`.
        action: String,
        /// When.
        at: Timestamp,
    },
    /// A backup is begun.
    BackupStarted {
        /// The backup's id.
        backup: String,
        /// Where it is written to.
        place: String,
        /// When.
        at: Timestamp,
    },
    /// The making of a backup ended.
    BackupFinished {
        /// The backup's id.
        backup: String,
        /// `finished`, or `unfinished`: it stays where it is, and is never restored.
        outcome: String,
        /// When.
        at: Timestamp,
    },
    /// A step of the plan begins.
    StepStarted {
        /// The step's id, `stage:postgres`.
        step: String,
        /// The step in words.
        what: String,
    },
    /// A step is done.
    StepFinished {
        /// The step's id.
        step: String,
        /// How long it took.
        seconds: f64,
    },
    /// A step failed; what follows undoes the run, unless it is itself an undo.
    StepFailed {
        /// The step's id.
        step: String,
        /// Why, in one line.
        error: String,
    },
    /// Work of known or unknown size goes on.
    Progress {
        /// What is worked on: a component's name or a file.
        subject: String,
        /// What is done with it, a verb: `verify`, `unpack`.
        action: String,
        /// Bytes done.
        done: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// Users are turned away from here on.
    DowntimeStarted {
        /// When.
        at: Timestamp,
    },
    /// Users are let in again.
    DowntimeEnded {
        /// When.
        at: Timestamp,
        /// How long they were not.
        seconds: f64,
    },
    /// Something noticed along the way.
    Finding {
        /// What.
        finding: Finding,
    },
    /// A check was made.
    Check {
        /// Its name.
        name: String,
        /// Whether it passed.
        passed: bool,
        /// What it saw, in one line.
        detail: String,
    },
    /// The run ended, or its rollback, resumption or confirmation did: the last event of each.
    RunFinished {
        /// The run's id.
        run: String,
        /// `restored`, `drilled`, `undone`, `rolled back`, `stuck`, `abandoned`, `confirmed`.
        outcome: String,
        /// When.
        at: Timestamp,
    },
}

/// Takes events. Called from any task or thread, often; it must return at once.
pub trait EventSink: Send + Sync {
    /// Takes one event; must not block.
    fn emit(&self, event: &Event);
}

/// Drops every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn emit(&self, _event: &Event) {}
}

impl<F: Fn(&Event) + Send + Sync> EventSink for F {
    fn emit(&self, event: &Event) {
        self(event);
    }
}

impl<S: EventSink + ?Sized> EventSink for Arc<S> {
    fn emit(&self, event: &Event) {
        (**self).emit(event);
    }
}

/// Counts bytes of one piece of work and emits [`Event::Progress`] at most ten times a second.
/// Cheap to clone; safe to use from blocking threads.
///
/// What it tells never exceeds its total: where there turns out to be more to do, the total grows.
#[derive(Clone)]
pub struct Progress {
    inner: Arc<ProgressInner>,
    /// One piece of several: its end is not that of the whole.
    part: bool,
}

struct ProgressInner {
    sink: Arc<dyn EventSink>,
    subject: String,
    action: String,
    total: Option<u64>,
    done: std::sync::atomic::AtomicU64,
    started: std::time::Instant,
    last_ms: std::sync::atomic::AtomicU64,
}

impl Progress {
    /// Progress of doing `action` (a verb) to `subject`, with `total` bytes where known.
    pub fn new(
        sink: Arc<dyn EventSink>,
        subject: impl Into<String>,
        action: impl Into<String>,
        total: Option<u64>,
    ) -> Self {
        Self {
            inner: Arc::new(ProgressInner {
                sink,
                subject: subject.into(),
                action: action.into(),
                total,
                done: 0.into(),
                started: std::time::Instant::now(),
                last_ms: 0.into(),
            }),
            part: false,
        }
    }

    /// The same count, for one piece of the work: finishing it does not end the whole.
    #[must_use]
    pub fn part(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            part: true,
        }
    }

    /// Progress that nobody sees.
    pub fn hidden() -> Self {
        Self::new(Arc::new(NoEvents), "", "", None)
    }

    /// Adds `bytes` to what is done.
    pub fn add(&self, bytes: u64) {
        use std::sync::atomic::Ordering::Relaxed;
        let inner = &self.inner;
        let done = inner.done.fetch_add(bytes, Relaxed) + bytes;
        let now = u64::try_from(inner.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = inner.last_ms.load(Relaxed);
        if now.saturating_sub(last) >= 100
            && inner
                .last_ms
                .compare_exchange(last, now, Relaxed, Relaxed)
                .is_ok()
        {
            self.emit(done, inner.total);
        }
    }

    /// Ends it: the last event says that all is done, and how much that was. Of a
    /// [part](Self::part) the present count.
    pub fn finish(&self) {
        let done = self.inner.done.load(std::sync::atomic::Ordering::Relaxed);
        match self.part {
            true => self.emit(done, self.inner.total),
            false => self.emit(done, Some(done)),
        }
    }

    fn emit(&self, done: u64, total: Option<u64>) {
        let inner = &self.inner;
        inner.sink.emit(&Event::Progress {
            subject: inner.subject.clone(),
            action: inner.action.clone(),
            done,
            // What is read may be more than what was announced; a bar beyond its end helps nobody.
            total: total.map(|total| total.max(done)),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// What was told of the work, as done and total.
    fn told(work: impl FnOnce(Progress), total: Option<u64>) -> Vec<(u64, Option<u64>)> {
        let told: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = told.clone();
        let sink = move |event: &Event| {
            if let Event::Progress { done, total, .. } = event {
                seen.lock().unwrap().push((*done, *total));
            }
        };
        work(Progress::new(Arc::new(sink), "redis", "load", total));
        std::mem::take(&mut *told.lock().unwrap())
    }

    #[test]
    fn it_ends_with_all_done_and_never_goes_beyond() {
        // Less was there than had been announced, more, and what nobody knew.
        for (total, done) in [(Some(100), 60), (Some(100), 160), (None, 60), (Some(0), 0)] {
            let last = told(
                |progress| {
                    progress.add(done);
                    progress.finish();
                },
                total,
            );
            assert_eq!(last, [(done, Some(done))]);
        }
    }

    #[test]
    fn one_piece_of_several_does_not_end_it() {
        let all = told(
            |progress| {
                for bytes in [60, 60] {
                    let part = progress.part();
                    part.add(bytes);
                    part.clone().finish();
                }
                progress.finish();
            },
            Some(100),
        );
        assert_eq!(all, [(60, Some(100)), (120, Some(120)), (120, Some(120))]);
    }
}
