//! Backups that are made in a store of Python's.

use std::io::{self, Write};

use async_trait::async_trait;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use restore_core::Result;
use restore_core::store::BackupFolder;
use restore_core::stream::SinkFile;

use crate::part::{Object, attached, failed};

/// A backup that is being made.
pub(crate) struct Folder {
    pub(crate) object: Object,
    pub(crate) id: String,
    /// What people call the store.
    pub(crate) store: String,
}

#[async_trait]
impl BackupFolder for Folder {
    fn describe(&self) -> String {
        format!("{} in {}", self.id, self.store)
    }

    async fn file(&self, path: &str, private: bool) -> Result<Box<dyn SinkFile>> {
        let asked = (self.id.clone(), path.to_owned(), private);
        let begun = self.object.call("write", move |object| {
            Ok(object.call_method1("_restore_write", asked)?.unbind())
        });
        Ok(Box::new(File(begun.await?)))
    }

    async fn publish(&self, manifest: &str) -> Result<()> {
        let asked = (self.id.clone(), manifest.to_owned());
        let published = self.object.call("publish", move |object| {
            object.call_method1("publish", asked).map(drop)
        });
        published.await
    }
}

/// A binary file of Python's. One that is dropped unsealed is left to Python: its backup is unfinished.
struct File(Py<PyAny>);

impl File {
    /// Does something with it; whoever writes is on a thread that may block.
    fn with<T>(&self, work: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>) -> io::Result<T> {
        attached(|py| work(self.0.bind(py)).map_err(|error| failed(py, error)))
            .map_err(io::Error::other)
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.with(|file| {
            let content = PyBytes::new(file.py(), bytes);
            file.call_method1("write", (content,))?.extract::<usize>()
        })?;
        Ok(written.min(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SinkFile for File {
    fn seal(self: Box<Self>) -> io::Result<()> {
        self.with(|file| file.call_method0("close").map(drop))
    }
}
