//! Hooks written in Python.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pyo3::prelude::*;
use restore_core::component::{ComponentDeps, HookFactory};
use restore_core::config::Table;
use restore_core::hook::{Hook, HookCalls, HookMoment, HookNotice, HookSubject};
use restore_core::{Error, ErrorKind, Result};

use crate::convert::to_python;
use crate::part::{Object, Raised};

/// Makes hooks of a Python class.
pub(crate) fn factory(class: Py<PyAny>, raised: Raised) -> HookFactory {
    Arc::new(move |name: &str, mut table: Table, parts: &ComponentDeps| {
        let calls = HookCalls::take(name, &mut table)?;
        let place = format!("hooks.{name}");
        let object = Object::make(&place, &class, name, table, &parts.base, &raised)?;
        let hook: Arc<dyn Hook> = Arc::new(PyHook {
            name: name.to_owned(),
            calls,
            object,
        });
        Ok(hook)
    })
}

struct PyHook {
    name: String,
    calls: HookCalls,
    object: Object,
}

#[async_trait]
impl Hook for PyHook {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_called(&self, when: HookMoment, subject: HookSubject) -> bool {
        self.calls.has(when, subject)
    }

    fn timeout(&self) -> Duration {
        self.calls.timeout()
    }

    async fn call(&self, notice: &HookNotice) -> Result<()> {
        let is_step = notice.when.is_step();
        let value = serde_json::to_value(notice).map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                "python.notice",
                format!("the notice is no value for Python: {error}"),
            )
        })?;
        let work = move |object: &Bound<'_, PyAny>| -> PyResult<()> {
            let notice = to_python(object.py(), &value)?;
            object.call_method1("_restore_call", (notice,)).map(drop)
        };
        match is_step {
            true => self.object.call_in_run("call", work).await,
            // The run has ended, by something else.
            false => self.object.call("call", work).await,
        }
    }
}
