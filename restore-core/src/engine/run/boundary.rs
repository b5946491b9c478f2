//! How a run is watched, stopped, and tried for what happens when it dies.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::model::{EventSink, Finding, NoEvents, Result};

/// A moment at which the journal of a run has just become durable: between any two of them lies
/// at most one effect. What a crash can do to a run is shown by crashing at each.
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
}

impl RunOptions {
    /// Nobody watches, nothing stops it.
    pub fn new() -> Self {
        Self {
            events: Arc::new(NoEvents),
            cancel: CancellationToken::new(),
            boundary: None,
            asked: None,
        }
    }

    /// The same options with someone who watches.
    #[must_use]
    pub fn events(mut self, events: Arc<dyn EventSink>) -> Self {
        self.events = events;
        self
    }

    /// The same options; cancelling `cancel` stops the run, which then undoes itself.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
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
