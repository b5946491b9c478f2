//! What all parts of a site have in common that are written in Python.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use restore_core::config::{Table, parse_section};
use restore_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::convert::to_python;
use crate::error::from_exception;
use crate::runtime::Inside;

/// The first exception that a part raised: the cause of the error that the caller sees.
#[derive(Clone, Default)]
pub(crate) struct Raised(Arc<Mutex<Option<PyErr>>>);

impl Raised {
    pub(crate) fn keep(&self, error: PyErr) {
        self.lock().get_or_insert(error);
    }

    pub(crate) fn clear(&self) {
        let old = self.lock().take();
        drop(old);
    }

    /// It, for whoever tells how the work has ended.
    pub(crate) fn take(&self) -> Option<PyErr> {
        self.lock().take()
    }

    /// The error with the exception that lies behind it, where there is one.
    pub(crate) fn blame(&self, py: Python<'_>, error: PyErr) -> PyErr {
        let cause = self.take();
        if cause.is_some() {
            error.set_cause(py, cause);
        }
        error
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<PyErr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of a part whose class cannot make it of the section `place`.
pub(crate) fn not_made(py: Python<'_>, raised: &Raised, error: PyErr, place: &str) -> Error {
    let known = from_exception(py, &error);
    let known = if known.code() == "python.exception" {
        known.with_kind(ErrorKind::Config)
    } else {
        known
    };
    raised.keep(error);
    known.context(format!("[{place}]"))
}

/// Takes the keys out of a table that the library reads itself, whatever the class knows.
pub(crate) fn take_common<T: DeserializeOwned>(
    place: &str,
    table: &mut Table,
    keys: &[&str],
) -> Result<T> {
    let mut common = Table::new();
    for key in keys {
        if let Some(value) = table.remove(*key) {
            common.insert((*key).to_owned(), value);
        }
    }
    parse_section(place, common)
}

/// An object of a class of the caller's. The interpreter is held while a method of it works, on a thread that may
/// block, and never by a thread of the event loop that waits for it.
#[derive(Clone)]
pub(crate) struct Object {
    object: Arc<Py<PyAny>>,
    raised: Raised,
}

impl Object {
    /// Makes one of the section `place`, which is of the part `name`.
    pub(crate) fn make(
        place: &str,
        class: &Py<PyAny>,
        name: &str,
        table: Table,
        base: &Path,
        raised: &Raised,
    ) -> Result<Self> {
        let object = attached(|py| {
            let made = || -> PyResult<Py<PyAny>> {
                let options = to_python(py, &Value::Object(table))?;
                Ok(class.bind(py).call1((name, options, base))?.unbind())
            };
            made().map_err(|error| not_made(py, raised, error, place))
        })?;
        Ok(Self {
            object: Arc::new(object),
            raised: raised.clone(),
        })
    }

    /// Does something with it at once, in this thread.
    pub(crate) fn now<T>(&self, work: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>) -> Result<T> {
        attached(|py| work(self.object.bind(py)).map_err(|error| failed(py, error)))
    }

    /// Calls `method`, as `work` does it, on a thread that may block. The error has what was raised as its cause.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        method: &'static str,
        work: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T> + Send + 'static,
    ) -> Result<T> {
        let object = self.object.clone();
        let called = tokio::task::spawn_blocking(move || {
            attached(|py| work(object.bind(py)).map_err(|error| failed(py, error)))
        });
        called.await.unwrap_or_else(|e| Err(broken_off(method, &e)))
    }

    /// As [`call`](Self::call), of what a run turns back for: its journal has the error without its cause, which is
    /// kept for the exception of the run.
    pub(crate) async fn call_in_run<T: Send + 'static>(
        &self,
        method: &'static str,
        work: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T> + Send + 'static,
    ) -> Result<T> {
        let raised = self.raised.clone();
        self.call(method, move |object| {
            work(object).inspect_err(|error| raised.keep(error.clone_ref(object.py())))
        })
        .await
    }
}

/// What was raised as an error of the library, with the exception as its cause.
pub(crate) fn failed(py: Python<'_>, error: PyErr) -> Error {
    from_exception(py, &error).source(error)
}

/// The thread that called `method` has ended without an answer.
pub(crate) fn broken_off(method: &str, error: &tokio::task::JoinError) -> Error {
    Error::new(
        ErrorKind::Internal,
        "python.task",
        format!("{method} stopped in the middle: {error}"),
    )
}

/// Does something in the interpreter; one that is ending does nothing any more.
pub(crate) fn attached<T>(work: impl FnOnce(Python<'_>) -> Result<T>) -> Result<T> {
    let _inside = Inside::enter();
    Python::try_attach(work)
        .unwrap_or_else(|| Err(Error::interrupted().context("the Python interpreter is ending")))
}
