//! Stores written in Python.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use restore_core::backup::{BackupFile, BackupId};
use restore_core::component::StoreFactory;
use restore_core::config::Table;
use restore_core::platform::Space;
use restore_core::store::{BackupFolder, BackupStore};
use restore_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::part::{Object, Raised, attached, broken_off, failed};
use crate::store_write::Folder;

/// How much is asked of a file at once.
const PIECE: usize = 256 << 10;

/// Makes stores of a Python class.
pub(crate) fn factory(class: Py<PyAny>, raised: Raised) -> StoreFactory {
    Arc::new(move |name: &str, table: Table, base: &Path| {
        let place = format!("stores.{name}");
        let object = Object::make(&place, &class, name, table, base, &raised)?;
        let described: String = object
            .now(|object| object.call_method0("_restore_describe")?.extract())
            .map_err(|error| error.context(format!("[{place}]")))?;
        let store: Arc<dyn BackupStore> = Arc::new(PyStore { described, object });
        Ok(store)
    })
}

struct PyStore {
    described: String,
    object: Object,
}

#[async_trait]
impl BackupStore for PyStore {
    fn describe(&self) -> String {
        self.described.clone()
    }

    async fn list(&self) -> Result<Vec<BackupId>> {
        let listed = self.object.call("ids", |object| {
            object
                .call_method0("_restore_ids")?
                .extract::<Vec<String>>()
        });
        // What has another name is no backup.
        let names = listed.await?;
        let mut ids: Vec<BackupId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    async fn files(&self, id: &BackupId) -> Result<Vec<BackupFile>> {
        let id = id.to_string();
        let listed = self.object.call("files", move |object| {
            object
                .call_method1("_restore_files", (id,))?
                .extract::<Vec<(String, u64)>>()
        });
        let mut files = Vec::new();
        for (path, size) in listed.await? {
            if !is_inside(&path) {
                return Err(bad_path(&path));
            }
            files.push(BackupFile { path, size });
        }
        files.sort();
        Ok(files)
    }

    async fn read(
        &self,
        id: &BackupId,
        path: &str,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        if !is_inside(path) {
            return Err(bad_path(path));
        }
        let asked = (id.to_string(), path.to_owned(), offset);
        let opened = self.object.call("read", move |object| {
            Ok(object.call_method1("_restore_read", asked)?.unbind())
        });
        Ok(Box::new(Reader {
            file: Arc::new(opened.await?),
            handle: Handle::current(),
            pending: None,
            piece: Vec::new(),
            taken: 0,
        }))
    }

    fn local_path(&self, id: &BackupId, path: &str) -> Option<PathBuf> {
        if !is_inside(path) {
            return None;
        }
        let found = self.object.now(|object| {
            object
                .call_method1("_restore_local_path", (id.as_str(), path))?
                .extract::<Option<PathBuf>>()
        });
        // What cannot say where it is, is not here: it is read, or fetched, which says why.
        found.unwrap_or_default()
    }

    /// Nobody knows of an end.
    async fn room(&self) -> Result<Option<Space>> {
        let asked = self.object.call("create", |object| {
            object.call_method0("_restore_writable").map(drop)
        });
        asked.await?;
        Ok(None)
    }

    async fn begin(&self, id: &BackupId) -> Result<Arc<dyn BackupFolder>> {
        let asked = id.to_string();
        let begun = self.object.call("create", move |object| {
            object.call_method1("_restore_create", (asked,)).map(drop)
        });
        begun.await?;
        Ok(Arc::new(Folder {
            object: self.object.clone(),
            id: id.to_string(),
            store: self.described.clone(),
        }))
    }

    async fn remove(&self, id: &BackupId) -> Result<()> {
        let id = id.to_string();
        let removed = self.object.call("remove", move |object| {
            object.call_method1("remove", (id,)).map(drop)
        });
        removed.await
    }
}

/// Whether `path` is relative and made of plain names alone.
fn is_inside(path: &str) -> bool {
    !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn bad_path(path: &str) -> Error {
    Error::new(
        ErrorKind::Verification,
        "store.bad_path",
        format!("{path:?} is not a path inside a backup's folder"),
    )
    .hint("paths are relative to the backup's folder and have no `..`")
}

/// A binary file of Python's, read piece by piece on threads that may block.
struct Reader {
    file: Arc<Py<PyAny>>,
    handle: Handle,
    pending: Option<JoinHandle<Result<Vec<u8>>>>,
    piece: Vec<u8>,
    /// How much of the piece was given on.
    taken: usize,
}

fn read(file: &Py<PyAny>) -> Result<Vec<u8>> {
    attached(|py| {
        let given = || -> PyResult<Vec<u8>> {
            let piece = file.bind(py).call_method1("read", (PIECE,))?;
            match piece.cast::<PyBytes>() {
                Ok(bytes) => Ok(bytes.as_bytes().to_vec()),
                Err(_) => Err(PyTypeError::new_err(format!(
                    "read() of a store's file gave {}, not bytes: open it in binary mode",
                    piece.get_type().name()?
                ))),
            }
        };
        given().map_err(|error| failed(py, error))
    })
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        loop {
            let rest = this.piece.get(this.taken..).unwrap_or_default();
            if !rest.is_empty() || buf.remaining() == 0 {
                let (now, _) = rest.split_at(rest.len().min(buf.remaining()));
                buf.put_slice(now);
                this.taken += now.len();
                return Poll::Ready(Ok(()));
            }
            let (file, handle) = (&this.file, &this.handle);
            let pending = this.pending.get_or_insert_with(|| {
                let file = Arc::clone(file);
                handle.spawn_blocking(move || read(&file))
            });
            let ended = ready!(Pin::new(pending).poll(cx));
            this.pending = None;
            let piece = ended.unwrap_or_else(|e| Err(broken_off("read", &e)));
            this.piece = piece.map_err(std::io::Error::other)?;
            this.taken = 0;
            if this.piece.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Drop for Reader {
    /// Closed on a thread that may block, after what is read of it just now.
    fn drop(&mut self) {
        let (file, pending) = (Arc::clone(&self.file), self.pending.take());
        self.handle.spawn(async move {
            if let Some(pending) = pending {
                let _ = pending.await;
            }
            let closed = tokio::task::spawn_blocking(move || {
                attached(|py| {
                    // Whoever reads has all that was asked for, or an error already.
                    let _ = file.bind(py).call_method0("close");
                    Ok(())
                })
            });
            let _ = closed.await;
        });
    }
}
