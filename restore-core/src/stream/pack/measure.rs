//! How much there is to pack, told without reading it.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::walk::is_run_folder;
use crate::error::{Error, ErrorKind, Result};
use crate::platform::local::TreePatterns;

/// What there is to pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Measured {
    /// Bytes of content, holes left out.
    pub bytes: u64,
    /// Files, directories, links.
    pub entries: u64,
}

/// Measures what [`pack`](super::pack) would read of the tree below `root`, with what it leaves
/// out (`except`). What vanishes meanwhile does not count.
pub async fn measure(root: &Path, except: &[String]) -> Result<Measured> {
    let (root, except) = (root.to_owned(), except.to_vec());
    tokio::task::spawn_blocking(move || count(&root, &TreePatterns::new(&except)?))
        .await
        .map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                "stream.panic",
                format!("measuring a tree broke down: {error}"),
            )
        })?
}

fn count(root: &Path, keep: &TreePatterns) -> Result<Measured> {
    let mut measured = Measured::default();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let directory = root.join(&path);
        let failed = |e| Error::io(format!("read the directory {}", directory.display()), e);
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(e) if gone(&e) && !path.as_os_str().is_empty() => continue,
            Err(e) => return Err(failed(e)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let child = path.join(&name);
            if is_run_folder(name.as_bytes()) || keep.holds(&child) {
                continue;
            }
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                Err(e) if gone(&e) => continue,
                Err(e) => {
                    return Err(Error::io(format!("look at {}", entry.path().display()), e));
                }
            };
            measured.entries += 1;
            if meta.is_dir() {
                todo.push(child);
            } else if meta.is_file() {
                let held = meta.blocks().saturating_mul(512);
                // Some file systems keep small files where no block counts.
                let bytes = if held == 0 { meta.len() } else { held };
                measured.bytes = measured.bytes.saturating_add(bytes.min(meta.len()));
            }
        }
    }
    Ok(measured)
}

fn gone(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
    )
}
