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
        /// `run`, `drill`, `resume` or `rollback`.
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
        /// The same in words.
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
    /// The run ended.
    RunFinished {
        /// The run's id.
        run: String,
        /// `restored`, `drilled`, `undone`, `rolled back`, `stuck`.
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

/// Counts bytes of one piece of work and emits [`Event::Progress`] at most ten times a second.
/// Cheap to clone; safe to use from blocking threads.
#[derive(Clone)]
pub struct Progress {
    inner: Arc<ProgressInner>,
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
            self.emit(done);
        }
    }

    /// Emits the present count whatever the time since the last; call it at the end.
    pub fn finish(&self) {
        self.emit(self.inner.done.load(std::sync::atomic::Ordering::Relaxed));
    }

    fn emit(&self, done: u64) {
        let inner = &self.inner;
        inner.sink.emit(&Event::Progress {
            subject: inner.subject.clone(),
            action: inner.action.clone(),
            done,
            total: inner.total,
        });
    }
}
