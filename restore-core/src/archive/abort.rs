//! What stops all threads of one read: the caller's wish, or the first error of any of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::model::{Error, ErrorKind, Result};

/// Shared by the threads of one read. A thread that fails calls [`PipelineAbort::fail`] *before* it drops
/// its end of a channel: so whoever sees the channel end can tell the end of the data from a
/// failure.
#[derive(Clone)]
pub(super) struct PipelineAbort {
    inner: Arc<Inner>,
}

struct Inner {
    cancel: CancellationToken,
    failed: AtomicBool,
    first: Mutex<Option<Error>>,
}

/// The thread has nothing more to do: the reason is kept in [`PipelineAbort`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Aborted;

impl PipelineAbort {
    pub(super) fn new(cancel: CancellationToken) -> Self {
        Self {
            inner: Arc::new(Inner {
                cancel,
                failed: AtomicBool::new(false),
                first: Mutex::new(None),
            }),
        }
    }

    /// Records `error` unless there is one already, and stops all.
    pub(super) fn fail(&self, error: Error) -> Aborted {
        self.inner
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.inner.failed.store(true, Ordering::Release);
        Aborted
    }

    /// Whether to go on; called once a chunk.
    pub(super) fn check(&self) -> std::result::Result<(), Aborted> {
        if self.inner.failed.load(Ordering::Acquire) {
            return Err(Aborted);
        }
        if self.inner.cancel.is_cancelled() {
            return Err(self.fail(Error::interrupted()));
        }
        Ok(())
    }

    /// Whether something failed or was cancelled.
    pub(super) fn is_halted(&self) -> bool {
        self.check().is_err()
    }

    /// What every thread's end comes to: `value`, or the first error. Called when all threads
    /// have ended.
    pub(super) fn outcome<T>(&self, value: std::result::Result<T, Aborted>) -> Result<T> {
        let first = self
            .inner
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match (first, value) {
            (Some(error), _) => Err(error),
            (None, Ok(value)) => Ok(value),
            (None, Err(Aborted)) => Err(Error::new(
                ErrorKind::Internal,
                "stream.halted",
                "the data path stopped without saying why",
            )),
        }
    }

    /// Waits for a thread; a panic in it is an error like any other.
    pub(super) fn join<T>(
        &self,
        thread: std::thread::ScopedJoinHandle<'_, std::result::Result<T, Aborted>>,
    ) -> std::result::Result<T, Aborted> {
        thread.join().unwrap_or_else(|_| {
            Err(self.fail(Error::new(
                ErrorKind::Internal,
                "stream.panic",
                "a thread of the data path broke down; please report it",
            )))
        })
    }
}
