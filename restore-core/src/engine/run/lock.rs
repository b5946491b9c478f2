//! One run at a time: the lock of a site.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::Action;
use crate::model::{Error, ErrorKind, Result, Timestamp};
use crate::sys::trust::{self, Trust};

/// How messages name what is checked.
const WHAT: &str = "the state directory";

/// The lock of a site, held until dropped. The kernel releases it when the process dies, so it
/// is never stale.
#[derive(Debug)]
pub(crate) struct SiteLock {
    _file: File,
}

#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    action: Action,
    since: Timestamp,
}

impl SiteLock {
    /// Takes the lock of the site whose state is in `state`, or says who has it.
    pub(crate) async fn take(state: &Path, action: Action) -> Result<Self> {
        // A process that any thread of ours just forked shares our descriptors until it has
        // become another program: a lock that was given back may look held for that moment.
        for _ in 0..5 {
            match Self::try_take(state, action) {
                Err(error) if error.kind() == ErrorKind::Locked => {}
                other => return other,
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        Self::try_take(state, action)
    }

    /// Whether the lock could be taken now; says who has it where not. Writes nothing.
    pub(crate) async fn probe(state: &Path) -> Result<()> {
        for _ in 0..5 {
            match Self::try_probe(state) {
                Err(error) if error.kind() == ErrorKind::Locked => {}
                other => return other,
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        Self::try_probe(state)
    }

    /// Whether the process `pid` has the lock, in words that say what it does.
    pub(crate) async fn held_by(state: &Path, pid: u32) -> Option<String> {
        let error = Self::probe(state).await.err()?;
        if error.kind() != ErrorKind::Locked {
            return None;
        }
        let mut text = String::new();
        let mut file = open_to_look(&state.join("lock")).ok()??;
        file.read_to_string(&mut text).ok()?;
        let holder: Holder = serde_json::from_str(&text).ok()?;
        (holder.pid == pid).then(|| format!("{} (process {pid})", holder.action))
    }

    fn try_probe(state: &Path) -> Result<()> {
        let path = state.join("lock");
        let fail = |e| Error::io(format!("look at the lock {}", path.display()), e);
        // Who plans or tells of runs believes what lies there as much as who makes one.
        is_trusted(state)?;
        let Some(mut file) = open_to_look(&path).map_err(fail)? else {
            return Ok(());
        };
        // Shared, and given back at once: whoever takes the lock just now tries again.
        match file.try_lock_shared() {
            Ok(()) => Ok(()),
            Err(std::fs::TryLockError::WouldBlock) => Err(Self::held(&mut file, &path)),
            Err(std::fs::TryLockError::Error(e)) => Err(fail(e)),
        }
    }

    fn try_take(state: &Path, action: Action) -> Result<Self> {
        let path = state.join("lock");
        let fail = |e| Error::io(format!("take the lock {}", path.display()), e);
        check_above(state)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state)
            .map_err(fail)?;
        // What lies there decides what is moved and deleted, and which processes are ended.
        is_trusted(state)?;
        // Not truncated here: before the lock is ours, the content is the holder's. Whoever may open
        // the file, be it for reading, can hold the lock: nobody but us may.
        let mut options = OpenOptions::new();
        options
            .read(true)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let mut writable = options.clone();
        writable
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600);
        // On a disk that takes no more the lock can be had all the same, where there is one.
        let mut file = writable
            .open(&path)
            .or_else(|error| options.open(&path).map_err(|_| error))
            .map_err(fail)?;
        if file.metadata().map_err(fail)?.mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))
                .map_err(fail)?;
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(Self::held(&mut file, &path)),
            Err(std::fs::TryLockError::Error(e)) => return Err(fail(e)),
        }
        let holder = Holder {
            pid: std::process::id(),
            action,
            since: Timestamp::now(),
        };
        let text = serde_json::to_vec(&holder).unwrap_or_default();
        // Who holds it is for people: it is held also where that cannot be written.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(&text));
        Ok(Self { _file: file })
    }

    fn held(file: &mut File, path: &Path) -> Error {
        let mut text = String::new();
        let who = match file
            .read_to_string(&mut text)
            .ok()
            .and_then(|_| serde_json::from_str::<Holder>(&text).ok())
        {
            Some(holder) => format!(
                "a {} is under way since {} (process {})",
                holder.action, holder.since, holder.pid
            ),
            None => "another process works on this site".to_owned(),
        };
        Error::new(
            ErrorKind::Locked,
            "site.locked",
            format!("{who}; the lock is {}", path.display()),
        )
        .hint("wait until it ends; the lock goes away with its process")
        .retryable()
    }
}

/// Opens the lock to look at it: neither through a link nor, as a pipe, for ever. `None`: there is none.
fn open_to_look(path: &Path) -> std::io::Result<Option<File>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = match options.open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    match file.metadata()?.is_file() {
        true => Ok(Some(file)),
        false => Err(std::io::Error::other("it is no file")),
    }
}

/// Whether nobody else can have put anything there. What is refused was refused before anything was touched.
fn is_trusted(state: &Path) -> Result<()> {
    trust::check(state, WHAT, Trust::Obeyed).map_err(|error| error.with_kind(ErrorKind::Preflight))
}

/// Refuses to make the state directory below one that somebody else could bend: it would be made wherever they lead.
fn check_above(state: &Path) -> Result<()> {
    let mut above = state.ancestors();
    let Some(there) = above.find(|path| path.symlink_metadata().is_ok()) else {
        return Ok(());
    };
    if there == state {
        return Ok(());
    }
    let us = rustix::process::geteuid().as_raw();
    // In /tmp everybody makes what is then their own.
    let is_shared = there.symlink_metadata().is_ok_and(|meta| {
        meta.is_dir() && meta.mode() & 0o1000 != 0 && [0, us].contains(&meta.uid())
    });
    let checked = match is_shared {
        true => there.parent().unwrap_or(there),
        false => there,
    };
    trust::check(
        checked,
        "the directory above the state directory",
        Trust::Obeyed,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_that_is_no_file_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock");
        let made = std::process::Command::new("mkfifo").arg(&lock).status();
        assert!(made.unwrap().success());
        let error = SiteLock::probe(dir.path()).await.unwrap_err();
        assert!(error.to_string().contains("it is no file"), "{error}");
        assert_eq!(SiteLock::held_by(dir.path(), 1).await, None);
    }

    #[tokio::test]
    async fn nothing_is_looked_at_or_made_where_somebody_else_leads() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        std::fs::set_permissions(&theirs, Permissions::from_mode(0o777)).unwrap();
        let state = theirs.join("deep/state");
        let error = SiteLock::take(&state, Action::Run).await.unwrap_err();
        assert_eq!(error.code(), "config.not_trusted", "{error}");
        assert!(!theirs.join("deep").exists());
        std::fs::create_dir_all(&state).unwrap();
        let error = SiteLock::probe(&state).await.unwrap_err();
        assert_eq!(error.code(), "config.not_trusted", "{error}");
        assert_eq!(error.kind(), ErrorKind::Preflight);
        // Where everybody makes what is their own, so do we.
        std::fs::remove_dir_all(theirs.join("deep")).unwrap();
        std::fs::set_permissions(&theirs, Permissions::from_mode(0o1777)).unwrap();
        SiteLock::take(&state, Action::Run).await.unwrap();
    }

    #[tokio::test]
    async fn a_second_lock_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let first = SiteLock::take(dir.path(), Action::Rollback).await.unwrap();
        let error = SiteLock::take(dir.path(), Action::Run).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert!(
            error.to_string().contains("a rollback is under way"),
            "{error}"
        );
        assert!(error.to_string().contains(&std::process::id().to_string()));
        drop(first);
        SiteLock::take(dir.path(), Action::Run).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_else_can_open_a_lock() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock");
        let mode = || lock.metadata().unwrap().mode() & 0o777;
        drop(SiteLock::take(dir.path(), Action::Run).await.unwrap());
        assert_eq!(mode(), 0o600);
        // What an earlier version made is closed.
        std::fs::set_permissions(&lock, Permissions::from_mode(0o644)).unwrap();
        drop(SiteLock::take(dir.path(), Action::Run).await.unwrap());
        assert_eq!(mode(), 0o600);
        std::fs::remove_file(&lock).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &lock).unwrap();
        assert!(SiteLock::take(dir.path(), Action::Run).await.is_err());
        assert!(!dir.path().join("elsewhere").exists());
    }

    #[tokio::test]
    async fn looking_at_a_lock_neither_makes_nor_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        SiteLock::probe(dir.path()).await.unwrap();
        assert!(!dir.path().join("lock").exists());
        let held = SiteLock::take(dir.path(), Action::Run).await.unwrap();
        let error = SiteLock::probe(dir.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        drop(held);
        SiteLock::probe(dir.path()).await.unwrap();
        SiteLock::take(dir.path(), Action::Run).await.unwrap();
    }
}
