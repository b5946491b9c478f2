//! What a component written in Python is given to back itself up with.

use std::path::PathBuf;

use pyo3::prelude::*;
use restore_core::backup::BackupWriter;

use crate::context::{Progress, wait};
use crate::error::raise;

/// What a component backs itself up with: see `restore.BackupContext`.
#[pyclass(frozen, module = "restore._restore")]
pub(crate) struct BackupContext(pub(crate) BackupWriter);

#[pymethods]
impl BackupContext {
    #[getter]
    fn id(&self) -> &str {
        self.0.id().as_str()
    }

    #[getter]
    fn component(&self) -> &str {
        self.0.component()
    }

    #[getter]
    fn cancelled(&self) -> bool {
        self.0.cancelled().is_cancelled()
    }

    fn check_cancelled(&self, py: Python<'_>) -> PyResult<()> {
        self.0.check_cancelled().map_err(|error| raise(py, &error))
    }

    fn progress(&self, action: &str, total: Option<u64>) -> Progress {
        Progress(self.0.progress(action, total))
    }

    /// The first of the patterns that says one name, with the backup's id in it.
    fn name(&self, py: Python<'_>, patterns: Vec<String>) -> PyResult<String> {
        self.0.name(&patterns).map_err(|error| raise(py, &error))
    }

    /// Copies a file of this host as an artifact; the artifact's bytes.
    fn copy(&self, py: Python<'_>, source: PathBuf, artifact: &str) -> PyResult<u64> {
        let written = wait(py, self.0.copy(&source, artifact))?;
        Ok(written.bytes)
    }

    /// Writes some bytes as an artifact.
    fn write(
        &self,
        py: Python<'_>,
        artifact: &str,
        content: Vec<u8>,
        private: bool,
    ) -> PyResult<()> {
        let writer = &self.0;
        wait(py, async move {
            let begun = if private {
                writer.private_artifact(artifact).await?
            } else {
                writer.artifact(artifact).await?
            };
            begun.put(content).await?.finish().await.map(drop)
        })
    }
}
