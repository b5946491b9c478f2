//! Processes at work in a data directory: a PostgreSQL server's working directory is its data
//! directory.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Error, ErrorKind, Result};
use crate::platform::Volume;
use crate::run::RunContext;

/// How long a server that was told to end at once may take.
const GRACE: Duration = Duration::from_secs(20);

/// The processes of this host whose working directory satisfies `wanted`, and which are
/// PostgreSQL's.
fn working(wanted: impl Fn(&Path) -> bool) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| wanted(Path::new(&format!("/proc/{pid}/cwd"))))
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.starts_with("postgres") || name.starts_with("postmaster"))
        })
        .collect()
}

/// The servers whose data directory is `dir`, for people. Compared by what the directory is, not
/// by its name: a server in a container sees it under another one.
pub(super) async fn servers_in(dir: &Path) -> Vec<String> {
    let dir = dir.to_owned();
    let look = move || {
        let Ok(wanted) = dir.metadata() else {
            return Vec::new();
        };
        working(|cwd| {
            cwd.metadata()
                .is_ok_and(|seen| (seen.dev(), seen.ino()) == (wanted.dev(), wanted.ino()))
        })
        .into_iter()
        .map(|pid| format!("postgres (process {pid})"))
        .collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

fn scratch_below(folder: &Path) -> Vec<i32> {
    let Ok(folder) = folder.canonicalize() else {
        return Vec::new();
    };
    let mut seen_inside: Vec<(u64, u64)> = Vec::new();
    // In a container the name of its directory is another one, but not what it is.
    let mut open = vec![(folder.clone(), 0)];
    while let Some((dir, depth)) = open.pop() {
        if let Ok(meta) = dir.metadata() {
            seen_inside.push((meta.dev(), meta.ino()));
        }
        if depth > 3 {
            continue;
        }
        let children = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        for child in children {
            if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push((child.path(), depth + 1));
            }
        }
    }
    working(|cwd| {
        cwd.read_link().is_ok_and(|cwd| cwd.starts_with(&folder))
            || cwd
                .metadata()
                .is_ok_and(|meta| seen_inside.contains(&(meta.dev(), meta.ino())))
    })
}

/// Ends scratch servers of this run that a killed process left behind. Nothing that they write is
/// wanted any more.
pub(super) async fn end_scratch(cx: &RunContext, volume: &dyn Volume) -> Result<()> {
    let Some(root) = volume.path() else {
        return Ok(());
    };
    let staged = root.join(cx.run().folder()).join("staged");
    let deadline = Instant::now() + GRACE;
    let mut told = false;
    loop {
        let folder: PathBuf = staged.clone();
        let left = tokio::task::spawn_blocking(move || scratch_below(&folder))
            .await
            .unwrap_or_default();
        if left.is_empty() {
            return Ok(());
        }
        if !told {
            for pid in left.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                let _ = kill_process(pid, Signal::QUIT);
            }
            told = true;
        }
        if Instant::now() > deadline {
            return Err(Error::new(
                ErrorKind::Failed,
                "cluster.leftover",
                format!(
                    "a scratch server of run {} does not end (process {left:?})",
                    cx.run()
                ),
            )
            .hint("end it by hand, then try again"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
