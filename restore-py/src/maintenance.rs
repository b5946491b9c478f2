//! Maintenance modes written in Python.

use std::sync::Arc;

use async_trait::async_trait;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use restore_core::component::{ComponentDeps, MaintenanceFactory};
use restore_core::config::Table;
use restore_core::maintenance::Maintenance;
use restore_core::{Finding, Result, RunId, Timestamp};

use crate::convert::from_python;
use crate::part::{Object, Raised};

/// Where it stands in the configuration, which is its name too: there is one.
const PLACE: &str = "maintenance";

/// Makes maintenance modes of a Python class.
pub(crate) fn factory(class: Py<PyAny>, raised: Raised) -> MaintenanceFactory {
    Arc::new(move |table: Table, parts: &ComponentDeps| {
        let object = Object::make(PLACE, &class, PLACE, table, &parts.base, &raised)?;
        let mode: Arc<dyn Maintenance> = Arc::new(PyMaintenance(object));
        Ok(mode)
    })
}

struct PyMaintenance(Object);

#[async_trait]
impl Maintenance for PyMaintenance {
    async fn inspect(&self) -> Result<Vec<Finding>> {
        let found = self.0.call("inspect", |object| {
            let found = object.call_method0("_restore_inspect")?;
            serde_json::from_value::<Vec<Finding>>(from_python(&found)?).map_err(|e| {
                PyTypeError::new_err(format!("what inspect() returned does not fit: {e}"))
            })
        });
        found.await
    }

    async fn on(&self, run: &RunId, since: Timestamp) -> Result<()> {
        let given = (run.to_string(), since.to_string());
        let shown = self.0.call_in_run("on", move |object| {
            object.call_method1("_restore_on", given).map(drop)
        });
        shown.await
    }

    async fn off(&self, run: &RunId) -> Result<()> {
        let run = run.to_string();
        let hidden = self.0.call_in_run("off", move |object| {
            object.call_method1("off", (run,)).map(drop)
        });
        hidden.await
    }
}
