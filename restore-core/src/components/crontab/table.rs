//! Where a crontab lives: with cron, under a user's name, or in a file.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::model::{Error, ErrorKind, Result, RunId};
use crate::sys::absent::AbsentDirectory;
use crate::sys::{check_file, child, read_small};

const PATIENCE: Duration = Duration::from_secs(30);

/// A crontab that can be read and replaced.
#[derive(Clone, Debug)]
pub(super) enum Table {
    /// A user's, through crontab(1).
    User(String),
    /// A plain file.
    File {
        path: PathBuf,
        /// Wherever its path leads.
        follow: bool,
    },
}

/// No crontab is longer.
const LARGEST: u64 = 16 << 20;

impl Table {
    /// A file of our own, in the state directory.
    pub(super) fn kept(path: PathBuf) -> Self {
        Self::File { path, follow: true }
    }

    /// Whether its jobs may run as root; those of a file run as whom each of them names.
    pub(super) fn is_of_root(&self) -> bool {
        match self {
            Self::User(user) => user == "root",
            Self::File { .. } => true,
        }
    }

    /// The directory that a file lies in, where it is not there: without it the file cannot be written.
    pub(super) async fn absent_directory(&self) -> Result<Option<AbsentDirectory>> {
        let Self::File { path, follow } = self else {
            return Ok(None);
        };
        let Some(above) = path.parent() else {
            return Ok(None);
        };
        let at = AbsentDirectory::new(above).followed(*follow);
        match tokio::fs::metadata(above).await {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Some(at)),
            _ => Ok(None),
        }
    }

    /// A few words for people.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::User(user) => format!("the crontab of {user}"),
            Self::File { path, .. } => format!("the crontab file {}", path.display()),
        }
    }

    /// The present text; `None` where there is no crontab, which is not an empty one.
    pub(super) async fn read(&self) -> Result<Option<Vec<u8>>> {
        match self {
            Self::User(user) => {
                let output = crontab(user, "-l", None).await?;
                if output.status.success() {
                    return Ok(Some(output.stdout));
                }
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                if said.to_ascii_lowercase().contains("no crontab for") {
                    return Ok(None);
                }
                Err(refused(&format!("crontab -u {user} -l"), &said))
            }
            Self::File { path, follow } => {
                let (path, follow) = (path.clone(), *follow);
                blocking(move || {
                    let real = check_file(&path, follow)?;
                    match read_small(&real, LARGEST) {
                        Ok(text) => Ok(Some(text)),
                        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                        Err(e) => Err(Error::io(format!("read {}", path.display()), e)),
                    }
                })
                .await
            }
        }
    }

    /// Replaces the text; `None` removes the crontab. Whole or not at all, durable for a file.
    pub(super) async fn write(&self, run: &RunId, text: Option<Vec<u8>>) -> Result<()> {
        match (self, text) {
            (Self::User(user), Some(text)) => {
                let output = crontab(user, "-", Some(&text)).await?;
                if output.status.success() {
                    return Ok(());
                }
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                Err(refused(&format!("crontab -u {user} -"), &said))
            }
            (Self::User(user), None) => {
                if self.read().await?.is_none() {
                    return Ok(());
                }
                let output = crontab(user, "-r", None).await?;
                if output.status.success() {
                    return Ok(());
                }
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                Err(refused(&format!("crontab -u {user} -r"), &said))
            }
            (Self::File { path, follow }, text) => {
                let (path, follow, run) = (path.clone(), *follow, run.clone());
                blocking(move || {
                    // In a directory of somebody else's, a link could lead root anywhere.
                    let real = check_file(&path, follow)?;
                    match text {
                        // Through a link: what it leads to is what cron, or whoever, reads.
                        Some(text) => replace(&real, &run, &text),
                        None => remove(&path),
                    }
                })
                .await
            }
        }
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "crontab.task",
            format!("work on a file ended unexpectedly: {e}"),
        )
    })?
}

async fn crontab(user: &str, action: &str, input: Option<&[u8]>) -> Result<std::process::Output> {
    let shown = format!("crontab -u {user} {action}");
    let failed = |e: std::io::Error| {
        Error::new(
            ErrorKind::Failed,
            "crontab.unstartable",
            format!("cannot run `{shown}`: {e}"),
        )
        .hint("is cron installed here? otherwise name the crontab's `file`")
        .source(e)
    };
    let work = async {
        let mut child = child::tokio_command("crontab")
            .args(["-u", user, action])
            // Told apart by its words: they must be the untranslated ones.
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take();
        let feed = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // It may refuse without reading to the end; its exit code tells.
                let _ = stdin.write_all(input).await;
                let _ = stdin.shutdown().await;
            }
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        output.map_err(failed)
    };
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(output) => output,
        Err(_) => Err(Error::new(
            ErrorKind::Failed,
            "crontab.hangs",
            format!("`{shown}` did not end within {} s", PATIENCE.as_secs()),
        )
        .hint("run it by hand to see what it waits for, then try again")),
    }
}

fn refused(shown: &str, said: &str) -> Error {
    Error::new(
        ErrorKind::Failed,
        "crontab.refused",
        format!("`{shown}` failed: {}", said.trim()),
    )
    .hint("does the user exist, and do we run as root?")
}

/// Where what is to replace a file is written first. cron reads no file whose name begins with a dot.
pub(super) fn beside(path: &Path, run: &RunId) -> PathBuf {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent.join(format!("{}-{name}", run.folder()))
}

/// Writes a file beside the one it replaces and renames it, with the owner and mode of the
/// latter; a new one is for its owner alone.
pub(super) fn replace(path: &Path, run: &RunId, text: &[u8]) -> Result<()> {
    let failed = |e| Error::io(format!("write {}", path.display()), e);
    let beside = beside(path, run);
    let old = std::fs::symlink_metadata(path).ok();
    // A link that leads nowhere has no mode to keep.
    let old = old.filter(std::fs::Metadata::is_file);
    let _ = std::fs::remove_file(&beside);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&beside)
        .map_err(failed)?;
    let mode = old.as_ref().map_or(0o600, |old| old.mode() & 0o7777);
    file.set_permissions(PermissionsExt::from_mode(0o600))
        .map_err(failed)?;
    file.write_all(text).map_err(failed)?;
    if let Some(old) = &old {
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid())).map_err(failed)?;
    }
    file.set_permissions(PermissionsExt::from_mode(mode))
        .map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)?;
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_directory(path.parent().unwrap_or(Path::new("/"))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io(format!("remove {}", path.display()), e)),
    }
}

fn sync_directory(path: &Path) -> Result<()> {
    std::fs::File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| Error::io(format!("make {} durable", path.display()), e))
}
