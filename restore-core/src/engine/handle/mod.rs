//! One handle for every long call: begun, followed, stopped, waited for.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::plan::Plan;
use super::run::RunOptions;
use crate::model::{Error, ErrorKind, Report, Result, RunId};

mod begin;
mod estimate;
mod log;

pub use begin::{Begin, PlanBuilder, WhichBackup};
pub use estimate::RunProgress;
pub use log::{EventRecord, Events, Followed, ProgressUpdates};

use log::{Log, Watcher};

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallState {
    /// Nobody has begun it.
    NotBegun,
    /// It works.
    UnderWay,
    /// It was asked to stop: a run undoes itself.
    Stopping,
    /// It has ended as asked.
    Done,
    /// It has ended otherwise.
    Failed,
}

type Work<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// A long call: a restore, a drill, a backup, a verification, a fetch, a rollback, a confirmation.
///
/// Nothing is done before [`start`](Self::start), or until it is awaited; both need a tokio runtime. It
/// then goes on by itself, whoever watches. Clones are the same call: each may be awaited. When the last of
/// them is dropped, or the future of one that is awaited and has no clones, the call is stopped as
/// [`cancel`](Self::cancel) does: a run undoes itself, for as long as the runtime is there.
///
/// ```no_run
/// # use restore_core::{Result, Site};
/// # async fn bring_back(site: Site) -> Result<()> {
/// let run = site.plan("latest").run();
/// run.start()?;
/// let mut progress = run.progress();
/// while let Some(now) = progress.next().await {
///     println!("{:3.0} % {}", now.fraction * 100.0, now.what);
/// }
/// let report = run.await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is done before it is started or awaited"]
pub struct Run<T = Report>(Arc<Inner<T>>);

struct Inner<T> {
    log: Arc<Log>,
    work: Mutex<Option<Work<T>>>,
    result: Arc<Mutex<Option<Result<T>>>>,
    cancel: CancellationToken,
    /// Leaves no traces when it is dropped where it stands.
    reading: bool,
    abandon: CancellationToken,
}

impl<T> Clone for Run<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> std::fmt::Debug for Run<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.id();
        write!(
            f,
            "Run({}, {:?})",
            id.as_ref().map_or("no id yet", RunId::as_str),
            self.state()
        )
    }
}

impl<T> Run<T> {
    /// The id of the run, once there is one; what is no run has none.
    pub fn id(&self) -> Option<RunId> {
        self.0.log.run()
    }

    /// How far it is.
    pub fn state(&self) -> CallState {
        match self.0.log.ended() {
            Some(true) => CallState::Done,
            Some(false) => CallState::Failed,
            None if self.0.is_waiting() => CallState::NotBegun,
            None if self.0.cancel.is_cancelled() => CallState::Stopping,
            None => CallState::UnderWay,
        }
    }

    /// Stops it: a run undoes itself, whatever only reads ends at once. Await what comes of it.
    pub fn cancel(&self) {
        self.0.cancel.cancel();
    }

    /// Stops it where it stands, like a crash: `resume` or `rollback` finishes a run.
    pub fn abandon(&self) {
        self.0.cancel.cancel();
        self.0.abandon.cancel();
    }

    /// Its events from the first on.
    pub fn events(&self) -> Events {
        Events::new(self.0.log.clone())
    }

    /// How far it has come, from now to its end.
    pub fn progress(&self) -> ProgressUpdates {
        ProgressUpdates::new(self.0.log.clone())
    }

    /// How far it has come by now.
    pub fn progress_now(&self) -> RunProgress {
        self.0.log.progress()
    }
}

impl<T: Clone> Run<T> {
    /// What came of it, once it has ended: for all who ask, as often as they do.
    pub fn result(&self) -> Option<Result<T>> {
        let result = self.0.result.lock();
        result.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T: Send + 'static> Run<T> {
    /// A call that does `work`, given the options to do it with. What `options` have to watch it hears all;
    /// what stops them stops the call.
    pub fn new<F>(options: RunOptions, work: impl FnOnce(RunOptions) -> F) -> Self
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        Self::watched(options, Vec::new(), false, work)
    }

    /// As [`new`](Self::new), of work that leaves no traces: to stop it is to drop it.
    pub fn reading<F>(options: RunOptions, work: impl FnOnce(RunOptions) -> F) -> Self
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        Self::watched(options, Vec::new(), true, work)
    }

    fn watched<F>(
        options: RunOptions,
        watchers: Vec<Watcher>,
        reading: bool,
        work: impl FnOnce(RunOptions) -> F,
    ) -> Self
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let log = Arc::new(Log::new(watchers, options.events.clone()));
        let cancel = options.cancel.child_token();
        let mut inside = options;
        inside.events = log.clone();
        inside.cancel = cancel.clone();
        // Of a call within a call both are measured by the plan.
        let outer = inside.on_plan.take();
        inside.on_plan = Some({
            let log = log.clone();
            Arc::new(move |plan: &Plan| {
                log.planned(plan);
                if let Some(outer) = &outer {
                    outer(plan);
                }
            })
        });
        Self(Arc::new(Inner {
            work: Mutex::new(Some(Box::pin(work(inside)))),
            log,
            result: Arc::default(),
            cancel,
            reading,
            abandon: CancellationToken::new(),
        }))
    }

    /// Begins it, where nobody has. It goes on in a task of its own.
    ///
    /// # Errors
    ///
    /// Outside of a tokio runtime.
    pub fn start(&self) -> Result<()> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|e| {
            Error::new(
                ErrorKind::Config,
                "run.no_runtime",
                format!("cannot begin: {e}"),
            )
            .hint("call it from within a tokio runtime, `#[tokio::main]` for example")
        })?;
        let work = self
            .0
            .work
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(work) = work else { return Ok(()) };
        let abandon = self.0.abandon.clone();
        let (reading, cancel) = (self.0.reading, self.0.cancel.clone());
        let under_way = runtime.spawn(async move {
            tokio::select! {
                biased;
                ended = work => ended,
                () = abandon.cancelled() => Err(Error::interrupted()),
                () = cancel.cancelled(), if reading => Err(Error::interrupted()),
            }
        });
        let (log, result) = (self.0.log.clone(), self.0.result.clone());
        // Whatever happens to the work, also a panic, those who wait hear of it.
        runtime.spawn(async move {
            let ended = under_way.await.unwrap_or_else(|e| Err(panicked(e)));
            let well = ended.is_ok();
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
            log.end(well);
        });
        Ok(())
    }
}

/// What comes of a call that ended by a bug.
fn panicked(why: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Internal,
        "run.panic",
        format!("the library stopped in the middle: {why}"),
    )
    .hint("`restore history` shows whether a run is unfinished, `restore resume` finishes it; please report this")
}

impl<T: Clone + Send + 'static> IntoFuture for Run<T> {
    type Output = Result<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.start()?;
            let mut events = self.events();
            while events.next().await.is_some() {}
            self.result()
                .unwrap_or_else(|| Err(panicked("nothing came of it")))
        })
    }
}

impl<T> Inner<T> {
    fn is_waiting(&self) -> bool {
        self.work
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }
}

impl<T> Drop for Inner<T> {
    /// Nobody can wait for it any more.
    fn drop(&mut self) {
        if self.log.ended().is_none() && !self.is_waiting() {
            self.cancel.cancel();
        }
    }
}
