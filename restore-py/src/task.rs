//! Work under way: waited for by Python, blocking or on an asyncio loop.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use restore_core::{Error, ErrorKind, Event, EventSink, Result, RunOptions};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::convert::dump;
use crate::error::{raise, value_of};
use crate::runtime::{Inside, is_forked, runtime};

/// How often a blocking wait looks for signals.
const LOOK: Duration = Duration::from_millis(50);
/// How often one must ask before an undo is left half done.
const LEAVE: u32 = 3;

/// What came of the work, to be made into a Python value by whoever waits for it.
pub(crate) type Answer = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;
type Work = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

/// Work that is begun by the first `start`, `wait` or `next`, and can be waited for once.
#[pyclass(frozen, module = "restore._restore")]
pub(crate) struct Task {
    shared: Arc<Shared>,
    work: Mutex<Option<Work>>,
    then: PyOnceLock<Py<PyAny>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    cancel: CancellationToken,
    /// Leaves no traces when it is dropped where it stands.
    reading: bool,
    abandon: CancellationToken,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    answer: Option<Result<Answer>>,
    begun: bool,
    ended: bool,
    /// Each is called once when there is something new, then forgotten.
    wakers: Vec<Py<PyAny>>,
}

/// What is under way, so that a program that ends waits for the undo.
static UNDER_WAY: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// A value, to be told once Python asks for it.
pub(crate) fn told(value: impl Serialize + Send + 'static) -> Answer {
    Box::new(move |py: Python<'_>| Ok(dump(py, &value)?.unbind()))
}

impl Task {
    /// Work that leaves no traces: to stop it is to drop it.
    pub(crate) fn reading<F>(work: impl FnOnce(RunOptions) -> F) -> Self
    where
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        Self::new(true, work)
    }

    /// Work that undoes itself when stopped, or that runs to its end.
    pub(crate) fn run<F>(work: impl FnOnce(RunOptions) -> F) -> Self
    where
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        Self::new(false, work)
    }

    fn new<F>(reading: bool, work: impl FnOnce(RunOptions) -> F) -> Self
    where
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        let cancel = CancellationToken::new();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            cancel: cancel.clone(),
            reading,
            abandon: CancellationToken::new(),
        });
        let options = RunOptions::new()
            .events(Arc::new(Sink(Arc::downgrade(&shared))))
            .cancelled_by(cancel);
        Self {
            work: Mutex::new(Some(Box::pin(work(options)))),
            shared,
            then: PyOnceLock::new(),
        }
    }

    fn begin(&self, py: Python<'_>) -> PyResult<()> {
        // First: in a forked child nobody would ever answer, and whoever held a lock is not there.
        let runtime = here(py)?;
        let work = self
            .work
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(work) = work else { return Ok(()) };
        self.shared.lock().begun = true;
        {
            let mut known = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|task| task.strong_count() > 0);
            known.push(Arc::downgrade(&self.shared));
        }
        let shared = self.shared.clone();
        // Whatever happens to the work, also a panic, those who wait hear of it.
        let under_way = runtime.spawn({
            let abandon = shared.abandon.clone();
            async move {
                tokio::select! {
                    biased;
                    answer = work => answer,
                    () = abandon.cancelled() => Err(Error::interrupted()),
                }
            }
        });
        runtime.spawn(async move {
            let answer = under_way.await.unwrap_or_else(|e| {
                Err(Error::new(
                    ErrorKind::Internal,
                    "python.panic",
                    format!("the library stopped in the middle: {e}"),
                )
                .hint(
                    "`resume` or `rollback` finishes a run that was under way; please report this",
                ))
            });
            shared.end(answer);
        });
        Ok(())
    }

    /// The next event, or `None` at the end. What a signal handler raises stops the work and is
    /// raised once the work has ended.
    fn following(&self, py: Python<'_>) -> PyResult<Option<Event>> {
        self.begin(py)?;
        let mut stopped: Option<PyErr> = None;
        let mut asked = 0;
        loop {
            let shared = &self.shared;
            let next = py.detach(|| shared.next(LOOK));
            if let Err(error) = py.check_signals() {
                asked += 1;
                self.shared.stop();
                if asked >= LEAVE {
                    self.shared.abandon.cancel();
                }
                stopped.get_or_insert(error);
            }
            match (next, stopped.take()) {
                (Next::Event(event), None) => return Ok(Some(event)),
                (Next::Ended, None) => return Ok(None),
                (Next::Ended, Some(error)) => return Err(self.stopped_by(py, error)),
                (_, error) => stopped = error,
            }
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
        let answer = self.shared.lock().answer.take();
        let answer = match answer {
            Some(Ok(answer)) => answer(py)?,
            Some(Err(error)) => return Err(raise(py, &error)),
            None => return Err(PyRuntimeError::new_err("the result was taken before")),
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

    /// Begins, waits for the end, and returns the result. `on_event` is called in this thread;
    /// what it raises, like what a signal handler raises, stops the work and is raised once the
    /// work has ended.
    #[pyo3(signature = (on_event=None))]
    fn wait(&self, py: Python<'_>, on_event: Option<Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        while let Some(event) = self.following(py)? {
            let Some(on_event) = &on_event else { continue };
            if let Err(error) = dump(py, &event).and_then(|event| on_event.call1((event,))) {
                self.shared.stop();
                return match self.drain(py) {
                    Ok(()) => Err(self.stopped_by(py, error)),
                    // A signal came too, and was answered with how it ended.
                    Err(signalled) => Err(signalled),
                };
            }
        }
        self.answer(py)
    }

    /// Waits for the next event; `None` at the end.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.following(py)? {
            Some(event) => Ok(Some(dump(py, &event)?.unbind())),
            None => Ok(None),
        }
    }

    /// Waits for the end without looking at the events.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        while self.following(py)?.is_some() {}
        Ok(())
    }

    /// Begins without waiting; `wake` is called once, from another thread, when there is an event
    /// or the end.
    fn start(&self, py: Python<'_>, wake: Py<PyAny>) -> PyResult<()> {
        self.begin(py)?;
        let mut state = self.shared.lock();
        if state.ended || !state.events.is_empty() {
            drop(state);
            wake.call0(py)?;
        } else {
            state.wakers.push(wake);
        }
        Ok(())
    }

    /// The events that have come since.
    fn events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        here(py)?;
        let events: Vec<Event> = self.shared.lock().events.drain(..).collect();
        let events: PyResult<Vec<_>> = events.iter().map(|event| dump(py, event)).collect();
        PyTuple::new(py, events?)
    }

    /// Whether the work was begun and has ended.
    #[getter]
    fn ended(&self, py: Python<'_>) -> PyResult<bool> {
        here(py)?;
        Ok(self.shared.lock().ended)
    }

    /// The result of work that has ended; to be asked once.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        here(py)?;
        self.answer(py)
    }

    /// Stops the work: a run undoes itself, whatever only reads ends at once.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        here(py)?;
        self.shared.stop();
        Ok(())
    }
}

impl Drop for Task {
    /// Nobody can wait for it any more: what is under way undoes itself.
    fn drop(&mut self) {
        // What was forked has a copy of the handle and not the work.
        if is_forked() {
            return;
        }
        let state = self.shared.lock();
        let under_way = state.begun && !state.ended;
        drop(state);
        if under_way {
            self.shared.stop();
        }
    }
}

enum Next {
    Event(Event),
    Ended,
    Nothing,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, patience: Duration) -> Next {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some(event) = state.events.pop_front() {
                return Next::Event(event);
            }
            if state.ended {
                return Next::Ended;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Nothing;
            }
            state = match self.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn stop(&self) {
        self.cancel.cancel();
        if self.reading {
            self.abandon.cancel();
        }
    }

    fn end(&self, answer: Result<Answer>) {
        // Before anybody hears that it has ended: whoever then ends the interpreter waits for us.
        let _inside = Inside::enter();
        let mut state = self.lock();
        state.answer = Some(answer);
        state.ended = true;
        self.tell(state);
    }

    fn tell(&self, mut state: MutexGuard<'_, State>) {
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.changed.notify_all();
        if !wakers.is_empty() {
            let _inside = Inside::enter();
            // An interpreter that is ending needs no waking; nor does a loop that was closed.
            Python::try_attach(|py| {
                for waker in wakers {
                    let _ = waker.call0(py);
                }
            });
        }
    }
}

/// Weak: a task that nobody holds any more needs no events.
struct Sink(Weak<Shared>);

impl EventSink for Sink {
    fn emit(&self, event: &Event) {
        let Some(shared) = self.0.upgrade() else {
            return;
        };
        let mut state = shared.lock();
        // Who is slow gets the newest count of each piece of work instead of all of them.
        if let (
            Event::Progress {
                subject, action, ..
            },
            Some(Event::Progress {
                subject: last_subject,
                action: last_action,
                ..
            }),
        ) = (event, state.events.back())
            && subject == last_subject
            && action == last_action
        {
            state.events.pop_back();
        }
        state.events.push_back(event.clone());
        shared.tell(state);
    }
}

/// The threads of this process; what to raise where it was forked.
fn here(py: Python<'_>) -> PyResult<&'static tokio::runtime::Runtime> {
    runtime().map_err(|error| raise(py, &error))
}

/// Stops all work under way, in whatever thread it is waited for, without waiting: what a signal
/// handler does.
#[pyfunction]
pub(crate) fn cancel_all() {
    if is_forked() {
        return;
    }
    let known: Vec<_> = {
        let known = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter_map(Weak::upgrade).collect()
    };
    for task in known {
        task.stop();
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
        known.drain(..).filter_map(|task| task.upgrade()).collect()
    };
    for task in &known {
        task.stop();
    }
    py.detach(|| {
        for task in known {
            while !matches!(task.next(Duration::from_secs(1)), Next::Ended) {}
        }
        Inside::wait_for_all();
    });
}
