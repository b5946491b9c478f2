//! How much there is to pack, told without reading it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::walk::is_run_folder;
use crate::archive::path_set::PathSet;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::open_beneath_across;

/// The largest file, in bytes, that some file systems keep without a block.
const SMALL: u64 = 64 * 1024;

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
    let shown = root.to_owned();
    let open = move || {
        let opened = rustix::fs::open(&shown, DIRECTORY, Mode::empty());
        let failed =
            |e: Errno| Error::io(format!("read the directory {}", shown.display()), e.into());
        opened.map_err(failed).map(|fd| (fd, shown.clone()))
    };
    measured(open, except).await
}

/// As [`measure`], of a directory that is held open, which messages call `shown`.
pub(crate) async fn measure_dir(
    root: OwnedFd,
    shown: &Path,
    except: &[String],
) -> Result<Measured> {
    let shown = shown.to_owned();
    measured(move || Ok((root, shown)), except).await
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

async fn measured(
    open: impl FnOnce() -> Result<(OwnedFd, PathBuf)> + Send + 'static,
    except: &[String],
) -> Result<Measured> {
    let except = except.to_vec();
    tokio::task::spawn_blocking(move || {
        let (root, shown) = open()?;
        count(&root, &shown, &PathSet::new(&except)?)
    })
    .await
    .map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            "stream.panic",
            format!("measuring a tree broke down: {error}"),
        )
    })?
}

fn count(root: &OwnedFd, shown: &Path, keep: &PathSet) -> Result<Measured> {
    let mut measured = Measured::default();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let failed = |e: Errno| {
            let directory = shown.join(&path);
            Error::io(
                format!("read the directory {}", directory.display()),
                e.into(),
            )
        };
        let directory = match open_beneath_across(root.as_fd(), &path, DIRECTORY) {
            Ok(directory) => directory,
            Err(e) if gone(e) && !path.as_os_str().is_empty() => continue,
            Err(e) => return Err(failed(e)),
        };
        for entry in Dir::read_from(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let child = path.join(name);
            if is_run_folder(name.as_bytes()) || keep.holds(&child) {
                continue;
            }
            let stat = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(e) if gone(e) => continue,
                Err(e) => {
                    let child = shown.join(child);
                    return Err(Error::io(format!("look at {}", child.display()), e.into()));
                }
            };
            measured.entries += 1;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => todo.push(child),
                FileType::RegularFile => {
                    let size = u64::try_from(stat.st_size).unwrap_or(0);
                    let held = u64::try_from(stat.st_blocks)
                        .unwrap_or(0)
                        .saturating_mul(512);
                    // Some file systems keep small files where no block counts; a large one without any
                    // is a hole, however long it says it is.
                    let bytes = if held == 0 { size.min(SMALL) } else { held };
                    measured.bytes = measured.bytes.saturating_add(bytes.min(size));
                }
                _ => {}
            }
        }
    }
    Ok(measured)
}

fn gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}
