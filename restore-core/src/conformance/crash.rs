//! Crashes: futures that are dropped in their middle, at each of their steps, in a runtime of their
//! own that ends with them, as the threads of a process do.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::Notify;

use super::{Kept, broken};
use crate::contract::FactStore;
use crate::model::Result;

/// Does something as a process of its own: once this returns, nothing of it works any more. What
/// blocked a thread when the rest died has come to its end, what waited for a thread never began.
pub(super) async fn process<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Kept<T>
where
    T: Send + 'static,
    F: Future<Output = Kept<T>>,
{
    let failed = |e: &dyn std::fmt::Display| broken("the suite can start threads of its own", e);
    let ended = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| failed(&e))?;
        runtime.block_on(work())
    });
    match ended.await {
        Ok(ended) => ended,
        Err(panicked) => Err(broken("no method panics", panicked)),
    }
}

/// Polls so often, then drops the future; its output where it had one by then.
pub(super) async fn polls<F: Future>(so_often: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = so_often;
    std::future::poll_fn(|cx| {
        let Some(fewer) = left.checked_sub(1) else {
            return Poll::Ready(None);
        };
        left = fewer;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // Nobody would wake it for having had its last poll.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// After how many polls to crash: each of the first, then further and further apart.
pub(super) fn moments() -> impl Iterator<Item = usize> {
    [
        1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 17, 22, 30, 45, 70, 110, 180, 300,
    ]
    .into_iter()
}

/// Where a process dies around the keeping of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// The fact is not kept.
    Before,
    /// It is kept, and nothing else happens any more.
    After,
}

/// Facts of a run that outlive the processes which work on it, and that can end one: `record`
/// then never returns, and whoever waits is told to drop it.
pub(super) struct Facts {
    kept: Mutex<BTreeMap<(String, String), Value>>,
    dies: Mutex<Option<(usize, Death)>>,
    died: Notify,
}

impl Facts {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::default(),
            dies: Mutex::new(None),
            died: Notify::new(),
        })
    }

    /// The process dies at its fact number `at` (from 0).
    pub(super) fn die_at(&self, at: usize, death: Death) {
        *self.dies.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, death));
    }

    /// Runs a future until its end (its output) or until the process dies (`None`).
    pub(super) async fn until_death<F: Future>(&self, work: F) -> Option<F::Output> {
        let output = tokio::select! {
            biased;
            () = self.died.notified() => None,
            output = work => Some(output),
        };
        *self.dies.lock().unwrap_or_else(PoisonError::into_inner) = None;
        output
    }

    /// Whether the next fact is the last thing that happens, and how.
    fn next_death(&self) -> Option<Death> {
        let mut dies = self.dies.lock().unwrap_or_else(PoisonError::into_inner);
        match dies.as_mut() {
            Some((0, death)) => Some(*death),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        }
    }

    fn keep(&self, component: &str, key: &str, value: Value) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entry((component.to_owned(), key.to_owned()))
            .or_insert(value);
    }
}

#[async_trait]
impl FactStore for Facts {
    async fn record(&self, component: &str, key: &str, value: Value) -> Result<()> {
        let death = self.next_death();
        if death != Some(Death::Before) {
            self.keep(component, key, value);
        }
        if death.is_some() {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    fn recall(&self, component: &str, key: &str) -> Option<Value> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&(component.to_owned(), key.to_owned())).cloned()
    }
}
