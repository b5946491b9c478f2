//! A backup.

use std::sync::Arc;

use pyo3::prelude::*;
use restore_core::backup::{Verification, VerifyOptions};
use serde_json::{Value, json};

use crate::convert::{dump, to_python};
use crate::error::exception;
use crate::task::{Answer, Task};

/// A backup that was opened.
#[pyclass(frozen, module = "restore._restore")]
pub(crate) struct Backup(pub(crate) Arc<restore_core::backup::Backup>);

#[pymethods]
impl Backup {
    #[getter]
    fn id(&self) -> &str {
        self.0.id().as_str()
    }

    #[getter]
    fn store(&self) -> String {
        self.0.store().describe()
    }

    /// What is told without reading any artifact.
    fn describe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let value = json!({
            "summary": self.0.summary(), "files": self.0.files(), "manifest": self.0.manifest(),
        });
        to_python(py, &value)
    }

    /// Where this host can read a file of the backup itself.
    fn local_path(&self, path: &str) -> Option<std::path::PathBuf> {
        self.0.local_path(path)
    }

    /// The first of the patterns that the backup has files for, and these files.
    fn find(&self, patterns: Vec<String>) -> Vec<String> {
        self.0.find(&patterns)
    }

    fn verify(&self, deep: bool, jobs: usize) -> Task {
        let backup = self.0.clone();
        Task::reading(|options| async move {
            let mut how = VerifyOptions::default();
            how.deep = deep;
            how.jobs = jobs;
            let result = backup.verify(how, options.events, options.cancel).await?;
            Ok(Arc::new(move |py: Python<'_>| {
                let error = match result.clone().into_result() {
                    Ok(_) => None,
                    Err(error) => Some(exception(py, &error)?),
                };
                let pair = (dump(py, &value(&result))?, error);
                Ok(pair.into_pyobject(py)?.into_any().unbind())
            }) as Answer)
        })
    }
}

fn value(result: &Verification) -> Value {
    let files: Vec<Value> = result
        .files
        .iter()
        .map(|(path, status)| json!({ "path": path, "status": status }))
        .collect();
    json!({
        "backup": result.id, "generation": result.generation, "verdict": result.verdict(),
        "deep": result.deep, "deeply_verified": result.deeply_verified(), "bytes": result.bytes,
        "files": files, "findings": result.findings(),
    })
}
