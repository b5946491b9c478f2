//! Work that has to be done where a volume's files are.

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::archive::Source;
use crate::model::{Progress, RunId};

/// Makes the progress of a step: what is done (a verb), and bytes in all where known.
pub type Steps<'a> = &'a (dyn Fn(&str, Option<u64>) -> Progress + Send + Sync);

/// Work of a component that has to be done where a volume's files are: what it does there by
/// itself with a directory and with programs that are installed beside it. See
/// [`Volume::dispatch`](super::Volume::dispatch).
#[non_exhaustive]
pub struct RemoteTask<'a> {
    /// The kind of the component, one that is built in.
    pub kind: &'static str,
    /// The run that it is done for.
    pub run: Option<RunId>,
    /// What to do, in the component's own words. May hold secrets: never shown.
    pub order: Value,
    /// A file of the backup that goes along, to be read once and verified there.
    pub source: Option<Source>,
    /// Makes the progress of each step that the work has.
    pub steps: Steps<'a>,
    /// Stops it.
    pub cancel: CancellationToken,
    /// What programs that it starts may take in memory, in bytes; 0: it starts none that take much.
    pub memory: u64,
}

impl<'a> RemoteTask<'a> {
    /// A remote task without a file, of which nobody sees the progress.
    pub fn new(kind: &'static str, order: Value) -> Self {
        Self {
            kind,
            run: None,
            order,
            source: None,
            steps: &|_, _| Progress::hidden(),
            cancel: CancellationToken::new(),
            memory: 0,
        }
    }

    /// The same remote task for a run.
    #[must_use]
    pub fn of(mut self, run: Option<RunId>) -> Self {
        self.run = run;
        self
    }

    /// The same remote task with a file of the backup.
    #[must_use]
    pub fn with(mut self, source: Option<Source>) -> Self {
        self.source = source;
        self
    }

    /// The same remote task, whose programs may take so many bytes of memory.
    #[must_use]
    pub fn taking(mut self, memory: u64) -> Self {
        self.memory = memory;
        self
    }

    /// The same remote task, watched and stopped by others.
    #[must_use]
    pub fn watched(mut self, steps: Steps<'a>, cancel: CancellationToken) -> Self {
        self.steps = steps;
        self.cancel = cancel;
        self
    }
}
