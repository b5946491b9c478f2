//! Processes at work in a data directory: a PostgreSQL server's working directory is its data
//! directory.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::contract::{RunContext, Volume};
use crate::model::{Error, ErrorKind, Result};
use crate::swap::Dir;
use crate::sys::retry::Retry;

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
            std::fs::read(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.starts_with(b"postgres") || name.starts_with(b"postmaster"))
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

fn scratch_below(staged: &Dir) -> Vec<i32> {
    let own = format!("/proc/self/fd/{}", staged.as_fd().as_raw_fd());
    let Ok(folder) = std::fs::read_link(own) else {
        return Vec::new();
    };
    let mut seen_inside: Vec<(u64, u64)> = Vec::new();
    // In a container the name of its directory is another one, but not what it is.
    let mut open = vec![(PathBuf::new(), 0)];
    while let Some((dir, depth)) = open.pop() {
        if let Ok(Some(entry)) = staged.entry(&dir) {
            seen_inside.push((entry.device, entry.inode));
        }
        if depth > 3 {
            continue;
        }
        for name in staged.names(&dir).unwrap_or_default() {
            let child = dir.join(name);
            if matches!(staged.entry(&child), Ok(Some(entry)) if entry.directory) {
                open.push((child, depth + 1));
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

/// The staged tree of the run, whatever its name leads to by now; `None` where there is none.
fn staged_of(root: &Path, cx: &RunContext) -> Result<Option<Dir>> {
    let live = match crate::sys::open_directory(root, true)? {
        Ok(live) => Dir::of(live, root.to_owned()),
        Err(_) => return Ok(None),
    };
    match live.there(cx.run().folder())? {
        Some(folder) => folder.there("staged"),
        None => Ok(None),
    }
}

/// Ends scratch servers of this run that a killed process left behind. Nothing that they write is
/// wanted any more.
pub(super) async fn end_scratch(cx: &RunContext, volume: &dyn Volume) -> Result<()> {
    let Some(root) = volume.path() else {
        return Ok(());
    };
    let Some(staged) = staged_of(&root, cx)? else {
        return Ok(());
    };
    let retry = Retry::within(GRACE, Duration::from_millis(50));
    let mut told = false;
    loop {
        let held = staged.again()?;
        let left = tokio::task::spawn_blocking(move || scratch_below(&held))
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
        if retry.is_over() {
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
        retry.pause().await;
    }
}
