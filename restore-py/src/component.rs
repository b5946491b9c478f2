//! Components written in Python.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pyo3::prelude::*;
use restore_core::backup::{Backup, BackupWriter};
use restore_core::component::{
    BackedUp, CheckOutcome, Component, ComponentDeps, ComponentFactory, Inspection, NeverBackedUp,
    SharedComponent, Staged,
};
use restore_core::config::Table;
use restore_core::platform::Discard;
use restore_core::run::RunContext;
use restore_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::backup;
use crate::context;
use crate::convert::{from_python, to_python};
use crate::error::{from_exception, interned};
use crate::part::{Raised, attached, broken_off, not_made};
use crate::writer::BackupContext;

/// Makes components of a Python class.
pub(crate) fn factory(kind: &str, class: Py<PyAny>, raised: Raised) -> ComponentFactory {
    let kind = interned(kind);
    Arc::new(move |name: &str, table: Table, parts: &ComponentDeps| {
        attached(|py| {
            make(py, &class, kind, name, table, parts, &raised)
                .map_err(|error| not_made(py, &raised, error, &format!("components.{name}")))
        })
    })
}

fn make(
    py: Python<'_>,
    class: &Py<PyAny>,
    kind: &'static str,
    name: &str,
    table: Table,
    parts: &ComponentDeps,
    raised: &Raised,
) -> PyResult<SharedComponent> {
    let options = to_python(py, &Value::Object(table))?;
    let object = class.bind(py).call1((name, options, &parts.base))?;
    let names = |method: &str| -> PyResult<Vec<String>> {
        object
            .call_method0(method)?
            .try_iter()?
            .map(|it| it?.extract())
            .collect()
    };
    Ok(Arc::new(PyComponent {
        name: name.to_owned(),
        kind,
        stops: names("stops")?,
        needs: names("needs")?,
        prefix: object.call_method0("path_prefix")?.extract()?,
        object: Arc::new(object.unbind()),
        raised: raised.clone(),
        artifacts_failed: Mutex::default(),
    }))
}

/// What a method is given.
enum Given {
    Nothing,
    Run(Box<RunContext>),
    Backup(BackupWriter),
}

impl Given {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(match self {
            Self::Nothing => py.None(),
            Self::Run(cx) => Py::new(py, context::RunContext(*cx))?.into_any(),
            Self::Backup(writer) => Py::new(py, BackupContext(writer))?.into_any(),
        })
    }
}

struct PyComponent {
    name: String,
    kind: &'static str,
    stops: Vec<String>,
    needs: Vec<String>,
    prefix: Option<String>,
    object: Arc<Py<PyAny>>,
    raised: Raised,
    /// `artifacts` has no way to fail: `inspect` says it.
    artifacts_failed: Mutex<Option<Error>>,
}

impl PyComponent {
    /// Calls a method on a thread that may block. `answer` reads what the class's own
    /// `_restore_call` made of the result.
    async fn call<T: DeserializeOwned + Send + 'static>(
        &self,
        method: &'static str,
        given: Given,
        what: Option<Discard>,
    ) -> Result<T> {
        let (object, raised) = (self.object.clone(), self.raised.clone());
        let called = tokio::task::spawn_blocking(move || {
            attached(|py| {
                let called = || -> PyResult<T> {
                    let given = given.into_python(py)?;
                    let what = what.map(|what| match what {
                        Discard::Replaced => "replaced",
                        _ => "staged",
                    });
                    let answer = object
                        .bind(py)
                        .call_method1("_restore_call", (method, given, what))?;
                    serde_json::from_value(from_python(&answer)?).map_err(|e| {
                        pyo3::exceptions::PyTypeError::new_err(format!(
                            "what {method}() returned does not fit: {e}"
                        ))
                    })
                };
                called().map_err(|error| {
                    let known = from_exception(py, &error);
                    // What only heard that another failed is not the cause.
                    if known.kind() != ErrorKind::Interrupted {
                        raised.keep(error);
                    }
                    known
                })
            })
        });
        called
            .await
            .unwrap_or_else(|e| Err(broken_off(method, &e)))
            .map_err(|error| error.in_component(self.name.as_str()))
    }
}

#[async_trait]
impl Component for PyComponent {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn stops(&self) -> Vec<String> {
        self.stops.clone()
    }

    fn needs(&self) -> Vec<String> {
        self.needs.clone()
    }

    fn path_prefix(&self) -> Option<String> {
        self.prefix.clone()
    }

    fn artifacts(&self, backup: &Backup) -> Vec<String> {
        let found = attached(|py| {
            let found = || -> PyResult<Vec<String>> {
                let backup = Py::new(py, backup::Backup(Arc::new(backup.clone())))?;
                self.object
                    .bind(py)
                    .call_method1("_restore_artifacts", (backup,))?
                    .extract()
            };
            found().map_err(|error| {
                let known = from_exception(py, &error);
                self.raised.keep(error);
                known
            })
        });
        let mut failed = self
            .artifacts_failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(found) => {
                *failed = None;
                found
            }
            Err(error) => {
                *failed = Some(error.in_component(self.name.as_str()));
                // With none it would be left out, and the run go on without it.
                vec!["(artifacts() failed)".to_owned()]
            }
        }
    }

    async fn live_bytes(&self) -> Result<u64> {
        self.call("live_bytes", Given::Nothing, None).await
    }

    async fn back_up(&self, writer: &BackupWriter) -> Result<BackedUp> {
        let done = self.call("back_up", Given::Backup(writer.clone()), None);
        // An exception has no other value to say this by than its code.
        done.await.map_err(|error| match error.code() {
            "component.no_back_up" => error.because(NeverBackedUp),
            _ => error,
        })
    }

    async fn inspect(&self, cx: &RunContext) -> Result<Inspection> {
        let failed = self
            .artifacts_failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match failed {
            Some(error) => Err(error),
            None => {
                self.call("inspect", Given::Run(Box::new(cx.clone())), None)
                    .await
            }
        }
    }

    async fn stage(&self, cx: &RunContext) -> Result<Staged> {
        cx.check_cancelled()?;
        self.call("stage", Given::Run(Box::new(cx.clone())), None)
            .await
    }

    async fn cut_over(&self, cx: &RunContext) -> Result<()> {
        self.call("cut_over", Given::Run(Box::new(cx.clone())), None)
            .await
    }

    async fn undo(&self, cx: &RunContext) -> Result<()> {
        self.call("undo", Given::Run(Box::new(cx.clone())), None)
            .await
    }

    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        self.call("check", Given::Run(Box::new(cx.clone())), None)
            .await
    }

    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
        self.call("discard", Given::Run(Box::new(cx.clone())), Some(what))
            .await
    }

    async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
        self.call("replaced_at", Given::Run(Box::new(cx.clone())), None)
            .await
    }
}
