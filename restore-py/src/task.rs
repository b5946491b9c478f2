//! Work under way: the library's own handle, waited for by Python, blocking or on an asyncio loop.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use restore_core::run::{CallState, EventRecord, Events, Followed};
use restore_core::{CancellationToken, Result, Run, RunOptions};
use serde::Serialize;
use serde_json::Value;

use crate::convert::{dump, to_python};
use crate::error::{raise, value_of};
use crate::runtime::{Inside, is_forked, runtime};

/// How often a blocking wait looks for signals.
const LOOK: Duration = Duration::from_millis(50);
/// How often one must ask before an undo is left half done.
const LEAVE: u32 = 3;

/// What came of the work, to be made into a Python value by all who wait for it.
pub(crate) type Answer = Arc<dyn Fn(Python<'_>) -> PyResult<Py<PyAny>> + Send + Sync>;

/// Work that is begun by the first `start`, `wait` or `drain`.
#[pyclass(frozen, module = "restore._restore")]
pub(crate) struct Task {
    run: Run<Answer>,
    stop: CancellationToken,
    asked: Mutex<u32>,
    then: PyOnceLock<Py<PyAny>>,
}

/// The events of a task, from the first on: each follower hears all of them.
#[pyclass(frozen, module = "restore._restore")]
pub(crate) struct Follower {
    task: Py<Task>,
    events: Mutex<Events>,
}

/// What is under way, so that a program that ends waits for the undo.
static UNDER_WAY: Mutex<Vec<(CancellationToken, Events)>> = Mutex::new(Vec::new());

/// A value, to be told once Python asks for it.
pub(crate) fn told(value: impl Serialize + Send + Sync + 'static) -> Answer {
    Arc::new(move |py: Python<'_>| Ok(dump(py, &value)?.unbind()))
}

impl Task {
    /// Work that leaves no traces: to stop it is to drop it.
    pub(crate) fn reading<F>(work: impl FnOnce(RunOptions) -> F) -> Self
    where
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        Self::new(work, Run::reading)
    }

    /// Work that undoes itself when stopped, or that runs to its end.
    pub(crate) fn run<F>(work: impl FnOnce(RunOptions) -> F) -> Self
    where
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        Self::new(work, Run::new)
    }

    fn new<W>(work: W, make: impl FnOnce(RunOptions, W) -> Run<Answer>) -> Self {
        let stop = CancellationToken::new();
        Self {
            run: make(RunOptions::new().cancelled_by(stop.clone()), work),
            stop,
            asked: Mutex::new(0),
            then: PyOnceLock::new(),
        }
    }

    fn begin(&self, py: Python<'_>) -> PyResult<()> {
        let runtime = here(py)?;
        let _entered = runtime.enter();
        {
            let mut known = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|(_, events)| !matches!(past(events), Followed::Ended));
            known.push((self.stop.clone(), self.run.events()));
        }
        self.run.start().map_err(|error| raise(py, &error))
    }

    /// What is next of `events`. What a signal handler raises stops the work and is raised once the work
    /// has ended.
    fn following(&self, py: Python<'_>, events: &mut Events) -> PyResult<Option<Arc<EventRecord>>> {
        self.begin_once(py)?;
        let mut stopped: Option<PyErr> = None;
        loop {
            let next = py.detach(|| events.wait(LOOK));
            if let Err(error) = py.check_signals() {
                self.stop.cancel();
                let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                *asked += 1;
                if *asked >= LEAVE {
                    self.run.abandon();
                }
                stopped.get_or_insert(error);
            }
            match (next, stopped.take()) {
                (Followed::Event(record), None) => return Ok(Some(record)),
                (Followed::Ended, None) => return Ok(None),
                (Followed::Ended, Some(error)) => return Err(self.stopped_by(py, error)),
                (_, error) => stopped = error,
            }
        }
    }

    fn begin_once(&self, py: Python<'_>) -> PyResult<()> {
        // First: in a forked child nobody would ever answer, and whoever held a lock is not there.
        here(py)?;
        match self.run.state() {
            CallState::NotBegun => self.begin(py),
            _ => Ok(()),
        }
    }

    /// The exception that ends a task which was stopped by `error`: it says how the run ended.
    fn stopped_by(&self, py: Python<'_>, error: PyErr) -> PyErr {
        let ended = match self.answer(py) {
            Ok(answer) => answer,
            Err(failed) => failed.into_value(py).into_any(),
        };
        let raised = py
            .import("restore._errors")
            .and_then(|module| module.call_method1("stopped", (value_of(py, &error), ended)));
        match raised {
            Ok(raised) => PyErr::from_value(raised),
            Err(_) => error,
        }
    }

    fn answer(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        // Each gets values and exceptions of its own: an exception grows by each place that raises it.
        let answer = match self.run.result() {
            Some(Ok(answer)) => answer(py)?,
            Some(Err(error)) => return Err(raise(py, &error)),
            None => return Err(PyRuntimeError::new_err("it has not ended")),
        };
        match self.then.get(py) {
            Some(then) => then.call1(py, (answer,)),
            None => Ok(answer),
        }
    }
}

#[pymethods]
impl Task {
    /// The same task; its result goes through `then`.
    fn then<'py>(slf: Bound<'py, Self>, then: Py<PyAny>) -> Bound<'py, Self> {
        let _ = slf.get().then.set(slf.py(), then);
        slf
    }

    /// Begins it, where nobody has.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        self.begin_once(py)
    }

    /// The run's id, once there is one.
    #[getter]
    fn id(&self, py: Python<'_>) -> PyResult<Option<String>> {
        here(py)?;
        Ok(self.run.id().map(|id| id.to_string()))
    }

    /// How far it is: `not_begun`, `under_way`, `stopping`, `done`, `failed`.
    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        here(py)?;
        dump(py, &self.run.state())
    }

    /// How far it has come by now.
    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        here(py)?;
        dump(py, &self.run.progress_now())
    }

    /// Its events from the first on.
    fn follow(slf: Bound<'_, Self>) -> Follower {
        Follower {
            events: Mutex::new(slf.get().run.events()),
            task: slf.unbind(),
        }
    }

    /// Begins, waits for the end, and returns the result. `on_event` is called in this thread;
    /// what it raises, like what a signal handler raises, stops the work and is raised once the
    /// work has ended.
    #[pyo3(signature = (on_event=None))]
    fn wait(&self, py: Python<'_>, on_event: Option<Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let mut events = self.run.events();
        while let Some(record) = self.following(py, &mut events)? {
            let Some(on_event) = &on_event else { continue };
            if let Err(error) = value(py, &record).and_then(|event| on_event.call1((event,))) {
                self.stop.cancel();
                return match self.drain(py) {
                    Ok(()) => Err(self.stopped_by(py, error)),
                    // A signal came too, and was answered with how it ended.
                    Err(signalled) => Err(signalled),
                };
            }
        }
        self.answer(py)
    }

    /// Begins, and waits for the end without looking at the events.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        let mut events = self.run.events();
        while self.following(py, &mut events)?.is_some() {}
        Ok(())
    }

    /// The result of work that has ended, for all who ask.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        here(py)?;
        self.answer(py)
    }

    /// Stops the work: a run undoes itself, whatever only reads ends at once.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        here(py)?;
        self.stop.cancel();
        Ok(())
    }
}

impl Drop for Task {
    /// Nobody can wait for it any more: what is under way undoes itself.
    fn drop(&mut self) {
        // What was forked has a copy of the handle and not the work.
        if is_forked() {
            std::mem::forget(self.run.clone());
        }
    }
}

#[pymethods]
impl Follower {
    /// Begins the task, and waits for the next event; `None` at the end.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let task = self.task.get();
        // Not held while it waits: another thread may ask as well.
        let mut events = self.lock().clone();
        let next = task.following(py, &mut events)?;
        *self.lock() = events;
        match next {
            Some(record) => Ok(Some(value(py, &record)?.unbind())),
            None => Ok(None),
        }
    }

    /// Begins the task without waiting; `wake` is called once, from another thread, when there is an event
    /// or the end.
    fn wake(&self, py: Python<'_>, wake: Py<PyAny>) -> PyResult<()> {
        let task = self.task.get();
        task.begin_once(py)?;
        let mut events = self.lock().clone();
        here(py)?.spawn(async move {
            let _ = events.next().await;
            let _inside = Inside::enter();
            // An interpreter that is ending needs no waking; nor does a loop that was closed.
            Python::try_attach(|py| {
                let _ = wake.call0(py);
            });
        });
        Ok(())
    }

    /// The events that have come since, and whether they are the last.
    fn ready<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, bool)> {
        here(py)?;
        let mut found = Vec::new();
        let over = loop {
            let next = self.lock().ready();
            match next {
                Followed::Event(record) => found.push(value(py, &record)?),
                other => break other == Followed::Ended,
            }
        };
        Ok((PyTuple::new(py, found)?, over))
    }
}

impl Follower {
    fn lock(&self) -> std::sync::MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event with its time, run and phase beside what it has itself.
fn value<'py>(py: Python<'py>, record: &EventRecord) -> PyResult<Bound<'py, PyAny>> {
    let fail = |e: serde_json::Error| pyo3::exceptions::PyValueError::new_err(e.to_string());
    let mut value = serde_json::to_value(&record.event).map_err(fail)?;
    if let Value::Object(table) = &mut value {
        for (name, told) in [
            ("at", serde_json::to_value(record.at)),
            ("run", serde_json::to_value(&record.run)),
            ("phase", serde_json::to_value(record.phase)),
        ] {
            table.entry(name).or_insert(told.map_err(fail)?);
        }
    }
    to_python(py, &value)
}

/// The threads of this process; what to raise where it was forked.
fn here(py: Python<'_>) -> PyResult<&'static tokio::runtime::Runtime> {
    runtime().map_err(|error| raise(py, &error))
}

/// Where a follower that has heard nothing stands: whether all is over.
fn past(events: &Events) -> Followed {
    let mut events = events.clone();
    loop {
        match events.ready() {
            Followed::Event(_) => {}
            other => return other,
        }
    }
}

/// Stops all work under way, in whatever thread it is waited for, without waiting: what a signal
/// handler does.
#[pyfunction]
pub(crate) fn cancel_all() {
    if is_forked() {
        return;
    }
    let known = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    for (stop, _) in known.iter() {
        stop.cancel();
    }
}

/// Stops all work under way and waits until it has ended: what a program does at its exit.
#[pyfunction]
pub(crate) fn stop_all(py: Python<'_>) {
    // A forked child has none of the threads that would end it.
    if is_forked() {
        return;
    }
    let known: Vec<_> = {
        let mut known = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
        known.drain(..).collect()
    };
    for (stop, _) in &known {
        stop.cancel();
    }
    py.detach(|| {
        for (_, mut events) in known {
            while !matches!(events.wait(Duration::from_secs(1)), Followed::Ended) {}
        }
        Inside::wait_for_all();
    });
}
