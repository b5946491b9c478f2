//! File systems mounted inside a tree: a rename cannot cross them.

use std::path::{Path, PathBuf};

use super::dir::Dir;
use super::plan::is_own;
use super::scope::SwapScope;
use crate::archive::path_set::relative;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::mount_table::unescape;

/// Refuses where something is mounted at or below what would be moved: a rename would fail
/// half-way, or carry the mount along.
pub(super) fn refuse_mounts(
    live: &Dir,
    scope: &SwapScope,
    kept: impl Fn(&Path) -> bool,
) -> Result<()> {
    let root = live.path();
    let root = std::fs::canonicalize(root)
        .map_err(|e| Error::io(format!("look at {}", root.display()), e))?;
    for mount in mounts_below(&root) {
        let Ok(path) = mount.strip_prefix(&root) else {
            continue;
        };
        let concerned = match scope {
            SwapScope::Everything => !path.iter().next().is_some_and(|n| is_own(Path::new(n))),
            SwapScope::Entries(names) => names
                .iter()
                .any(|name| path.starts_with(name.trim_matches('/'))),
            SwapScope::Tree { .. } => !path.ancestors().any(&kept),
            SwapScope::Paths { paths, .. } => {
                !path.ancestors().any(&kept)
                    && paths
                        .iter()
                        .filter_map(|p| relative(p).ok())
                        .any(|wanted| path.starts_with(&wanted) || wanted.starts_with(path))
            }
        };
        if concerned {
            return Err(mounted(&mount));
        }
    }
    Ok(())
}

pub(super) fn mounted(path: &Path) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "swap.mount_inside",
        format!(
            "another file system is mounted at {}, and a rename cannot cross it",
            path.display()
        ),
    )
    .hint("unmount it for the restore, or exclude the path and make it a component of its own")
}

/// Mount points strictly below `root`, bind mounts included; none where the system does not tell.
fn mounts_below(root: &Path) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
        .filter(|path| path.starts_with(root) && path != root)
        .collect()
}
