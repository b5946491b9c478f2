//! What a component written in Python is given while it works for a run.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use restore_core::stream::{self, UnpackPolicy};
use restore_core::{Error, ErrorKind, Finding, Result};

use crate::backup::Backup;
use crate::convert::{dump, from_python, to_python};
use crate::error::raise;
use crate::runtime::runtime;

/// What a component is given: see `restore.RunContext`.
#[pyclass(frozen, module = "restore._restore")]
pub(crate) struct RunContext(pub(crate) restore_core::run::RunContext);

#[pymethods]
impl RunContext {
    #[getter]
    fn run(&self) -> &str {
        self.0.run().as_str()
    }

    #[getter]
    fn component(&self) -> &str {
        self.0.component()
    }

    #[getter]
    fn backup(&self) -> Backup {
        Backup(Arc::new(self.0.backup().clone()))
    }

    #[getter]
    fn paths(&self) -> Vec<String> {
        self.0.paths().to_vec()
    }

    #[getter]
    fn maintenance(&self) -> bool {
        self.0.maintenance()
    }

    #[getter]
    fn cancelled(&self) -> bool {
        self.0.cancelled().is_cancelled()
    }

    fn check_cancelled(&self, py: Python<'_>) -> PyResult<()> {
        self.0.check_cancelled().map_err(|error| raise(py, &error))
    }

    fn record(&self, py: Python<'_>, key: String, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let value = from_python(value)?;
        wait(py, self.0.record(&key, value))
    }

    fn recall<'py>(&self, py: Python<'py>, key: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let value = self.0.recall(key);
        value.map(|value| to_python(py, &value)).transpose()
    }

    fn notice(&self, finding: &Bound<'_, PyAny>) -> PyResult<()> {
        let finding: Finding = serde_json::from_value(from_python(finding)?)
            .map_err(|e| pyo3::exceptions::PyValueError::new_err(e.to_string()))?;
        self.0.notice(finding);
        Ok(())
    }

    fn progress(&self, action: &str, total: Option<u64>) -> Progress {
        Progress(self.0.progress(action, total))
    }

    /// Copies an artifact, decompressed, verified in the same pass; the bytes written.
    fn copy(&self, py: Python<'_>, path: &str, target: PathBuf, mode: u32) -> PyResult<u64> {
        let source = self.0.source(path).map_err(|error| raise(py, &error))?;
        let progress = self.0.progress("copy", source.size());
        let copied = wait(py, async move {
            stream::copy_verified(source, &target, mode, None, progress).await
        })?;
        Ok(copied.0)
    }

    /// Unpacks an artifact into a directory, verified in the same pass; what was unpacked.
    fn unpack<'py>(
        &self,
        py: Python<'py>,
        path: &str,
        target: PathBuf,
        prefix: String,
        live_root: PathBuf,
    ) -> PyResult<Bound<'py, PyAny>> {
        let source = self.0.source(path).map_err(|error| raise(py, &error))?;
        let progress = self.0.progress("unpack", source.size());
        let mut policy = UnpackPolicy::default();
        policy.prefix = prefix;
        policy.live_root = live_root;
        let unpacked = wait(py, async move {
            stream::unpack(source, &target, &policy, progress).await
        })?;
        dump(py, &unpacked)
    }
}

/// Counts what is done of one piece of work.
#[pyclass(frozen, module = "restore._restore")]
pub(crate) struct Progress(pub(crate) restore_core::Progress);

#[pymethods]
impl Progress {
    /// Adds so many bytes.
    fn add(&self, bytes: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(count) = bytes.extract::<u64>() else {
            let error = Error::new(
                ErrorKind::Config,
                "python.argument",
                format!("bytes must be a whole number of 0 or more, not {bytes:?}"),
            );
            return Err(raise(bytes.py(), &error));
        };
        self.0.add(count);
        Ok(())
    }

    /// Tells the present count at once.
    fn finish(&self) {
        self.0.finish();
    }
}

/// Waits on a thread of the library's for blocking work, without holding up Python's others.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    work: impl Future<Output = Result<T>> + Send,
) -> PyResult<T> {
    let runtime = runtime().map_err(|error| raise(py, &error))?;
    py.detach(|| runtime.block_on(work))
        .map_err(|error| raise(py, &error))
}
