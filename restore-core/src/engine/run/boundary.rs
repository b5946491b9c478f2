//! How a run is watched, stopped, and tried for what happens when it dies.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::plan::Plan;
use crate::model::{Event, EventSink, Finding, NoEvents, Result};

/// A moment at which the journal of a run has just become durable: between any two of them lies
/// at most one effect of each work that goes on side by side. What a crash can do to a run is shown by
/// crashing at each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Boundary {
    /// Counts from 0 in each process that works on the run.
    pub index: usize,
    /// The record that was written: `intent cut-over:redis`, `fact postgres/acl`.
    pub record: String,
}

/// Called at each [`Boundary`]; an error counts as a failure of what comes next.
pub type BoundaryHook = dyn Fn(&Boundary) -> Result<()> + Send + Sync;

/// Whether to go on in spite of a finding that the plan did not have. May take as long as a person
/// does.
pub type Ask = dyn Fn(&Finding) -> bool + Send + Sync;

/// Keeps a panic of whoever watches from the run, whose downtime would not end.
#[derive(Default)]
pub(crate) struct WatcherGuard {
    /// It has panicked, and may not be what it was.
    gone: AtomicBool,
}

impl WatcherGuard {
    /// Calls it, unless it has panicked before.
    pub(crate) fn call(&self, tell: impl FnOnce()) {
        if self.gone.load(Ordering::Relaxed) {
            return;
        }
        if catch_unwind(AssertUnwindSafe(tell)).is_err() {
            self.gone.store(true, Ordering::Relaxed);
            tracing::error!("who watches has panicked and is told nothing more");
        }
    }
}

/// A sink whose panics are its own affair.
pub(crate) struct GuardedSink<S> {
    sink: S,
    guard: WatcherGuard,
}

impl<S> GuardedSink<S> {
    pub(crate) fn new(sink: S) -> Self {
        Self {
            sink,
            guard: WatcherGuard::default(),
        }
    }
}

impl<S: EventSink> EventSink for GuardedSink<S> {
    fn emit(&self, event: &Event) {
        self.guard.call(|| self.sink.emit(event));
    }
}

/// Takes the plan of a run.
pub(crate) type OnPlan = dyn Fn(&Plan) + Send + Sync;

/// Who watches a run, and what stops it.
#[derive(Clone)]
#[non_exhaustive]
pub struct RunOptions {
    /// Takes the run's events.
    pub events: Arc<dyn EventSink>,
    /// Stops the run, which then undoes itself.
    pub cancel: CancellationToken,
    /// Called at each boundary; for fault injection.
    pub boundary: Option<Arc<BoundaryHook>>,
    /// Asked about what a run meets that its plan did not say; `None`: the answer is no.
    pub asked: Option<Arc<Ask>>,
    /// How long to wait where another process holds a lock; not at all where it is zero.
    pub wait: Duration,
    /// Told the plan that is executed, once it is known.
    pub(crate) on_plan: Option<Arc<OnPlan>>,
}

impl RunOptions {
    /// Nobody watches, nothing stops it.
    pub fn new() -> Self {
        Self {
            events: Arc::new(NoEvents),
            cancel: CancellationToken::new(),
            boundary: None,
            asked: None,
            wait: Duration::ZERO,
            on_plan: None,
        }
    }

    /// The same options with someone who watches. One that panics is told nothing more, and the run goes
    /// on.
    #[must_use]
    pub fn events(mut self, events: impl EventSink + 'static) -> Self {
        self.events = Arc::new(GuardedSink::new(events));
        self
    }

    /// The same options; cancelling `cancel` stops the run, which then undoes itself.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// The same options; waits for so long where another process holds a lock.
    #[must_use]
    pub fn wait(mut self, longest: Duration) -> Self {
        self.wait = longest;
        self
    }

    /// Says what is going to be done.
    pub(crate) fn planned(&self, plan: &Plan) {
        if let Some(told) = &self.on_plan {
            told(plan);
        }
    }

    /// The same options with a hook for fault injection.
    #[must_use]
    pub fn boundary(mut self, hook: Arc<BoundaryHook>) -> Self {
        self.boundary = Some(hook);
        self
    }

    /// The same options with someone to ask about what the plan did not say, before users are
    /// turned away. Without, or where the answer is no, the run is undone instead.
    #[must_use]
    pub fn asked(mut self, ask: Arc<Ask>) -> Self {
        self.asked = Some(ask);
        self
    }
}

impl Default for RunOptions {
    fn default() -> Self {
        Self::new()
    }
}
