//! The library's errors as Python exceptions, and back.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use restore_core::{Error, ErrorKind};
use serde_json::Value;

use crate::convert::dump;

/// An error of the library as the exception that Python sees.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    match exception(py, error) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failed) => failed,
    }
}

/// The same, not raised; with its report, where a run did not end as asked, and with what a component has
/// raised in it.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let made = py.import("restore._errors")?.call_method1(
        "make",
        (
            kind_name(error.kind()),
            error.to_string(),
            error.code(),
            error.hint_text(),
            error.component(),
            error.is_retryable(),
            also(error),
        ),
    )?;
    if let Some(cause) = raised_in(error) {
        made.setattr("__cause__", value_of(py, cause))?;
    }
    if let Some(report) = error.report() {
        // It notes itself in its exception.
        let failing = report.is_failing();
        let values = (dump(py, report)?, report.to_text(), &made, failing);
        py.import("restore._report")?
            .getattr("Report")?
            .call1(values)?;
    }
    Ok(made)
}

/// The exception of a component that lies behind an error.
fn raised_in(error: &Error) -> Option<&PyErr> {
    let mut cause = std::error::Error::source(error);
    while let Some(known) = cause {
        match known.downcast_ref::<PyErr>() {
            Some(raised) => return Some(raised),
            None => cause = known.source(),
        }
    }
    None
}

/// What else a Python program would call it: `missing_file`, `timeout`.
fn also(error: &Error) -> Option<&'static str> {
    let mut cause = std::error::Error::source(error);
    while let Some(known) = cause {
        match known
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind)
        {
            Some(std::io::ErrorKind::NotFound) => return Some("missing_file"),
            Some(std::io::ErrorKind::TimedOut) => return Some("timeout"),
            _ => cause = known.source(),
        }
    }
    error.code().ends_with("timeout").then_some("timeout")
}

/// What a component written in Python raised, as an error of the library.
pub(crate) fn from_exception(py: Python<'_>, error: &PyErr) -> Error {
    let known = py
        .import("restore._errors")
        .and_then(|module| module.call_method1("describe", (value_of(py, error),)))
        .and_then(|known| known.extract::<Described>());
    match known {
        Ok(known) => {
            let kind = serde_json::from_value(Value::String(known.kind));
            let kind = kind.unwrap_or(ErrorKind::Failed);
            let mut made = Error::new(kind, interned(&known.code), known.message);
            if let Some(hint) = known.hint {
                made = made.hint(hint);
            }
            match known.retryable {
                true => made.retryable(),
                false => made,
            }
        }
        // The interpreter itself is in trouble; what it says is all there is.
        Err(_) => Error::new(ErrorKind::Failed, "python.exception", error.to_string()),
    }
}

/// The exception itself, which knows where it was raised.
pub(crate) fn value_of(py: Python<'_>, error: &PyErr) -> Py<PyBaseException> {
    error.clone_ref(py).into_value(py)
}

#[derive(FromPyObject)]
struct Described {
    kind: String,
    code: String,
    message: String,
    hint: Option<String>,
    retryable: bool,
}

fn kind_name(kind: ErrorKind) -> String {
    match serde_json::to_value(kind) {
        Ok(Value::String(name)) => name,
        _ => "internal".to_owned(),
    }
}

/// A name of the program that lives as long as it: codes of errors and kinds of components are
/// few, and each is kept once.
pub(crate) fn interned(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    match names.get(name) {
        Some(known) => known,
        None => {
            let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
            names.insert(kept);
            kept
        }
    }
}
