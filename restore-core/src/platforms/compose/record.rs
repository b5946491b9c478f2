//! Which containers this site has stopped or keeps down, and what the engine did with them before.
//!
//! A run is told by number how many containers are to be started again; which ones, and which
//! had ended by themselves before, is written down here before anything is stopped, so that any
//! later process knows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::ComposeName;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::blocking::blocking;
use crate::sys::durable::{self, Access};
use crate::sys::private;

/// What a container that was stopped has meanwhile as its restart policy: with it, it stays so when
/// the engine starts, and comes back where this process died before it was stopped.
pub(super) const WHILE_DOWN: &str = "unless-stopped";

/// What one has meanwhile that was down already: whether somebody had stopped it, which the policy above
/// asks for, is told by no engine.
pub(super) const NEVER: &str = "no";

/// A container that was stopped, or that was down and is kept so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stopped {
    pub(super) id: String,
    /// Its restart policy of before, where it was given another one for the time being.
    #[serde(default)]
    pub(super) policy: Option<Value>,
    /// The name of that other one.
    #[serde(default = "while_down")]
    pub(super) meanwhile: String,
    /// Whether it was down before: then it is none of those that are started again.
    #[serde(default)]
    pub(super) was_down: bool,
}

fn while_down() -> String {
    WHILE_DOWN.to_owned()
}

impl Stopped {
    /// The policy to give back to its container, which has the policy `now`. None where somebody has
    /// changed that since: what an operator asks for stays.
    pub(super) fn owed(&self, now: &str) -> Option<&Value> {
        let now = if now.is_empty() { NEVER } else { now };
        self.policy.as_ref().filter(|_| now == self.meanwhile)
    }
}

/// The newest of this process' writes to each file. One whose caller is gone may still be under way
/// when the next begins: it must neither meet that nor come after it.
static WRITTEN: Mutex<BTreeMap<PathBuf, u64>> = Mutex::new(BTreeMap::new());

/// How many writes were asked for.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// How the names of the files end.
const SUFFIX: &str = ".stopped.json";

/// The record of one service: a file in the site's state directory.
pub(super) struct StopRecord {
    path: PathBuf,
}

impl StopRecord {
    /// That of a service, whatever the site calls it, below the directory `services`.
    pub(super) fn of(services: &Path, name: &ComposeName) -> Self {
        // A label may hold anything; a name of a file may not.
        let plain = |text: &str| -> String {
            text.bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                        char::from(byte).to_string()
                    }
                    byte => format!("%{byte:02x}"),
                })
                .collect()
        };
        let file = format!("{}+{}{SUFFIX}", plain(&name.project), plain(&name.service));
        Self {
            path: services.join(file),
        }
    }

    /// All that there are below the directory `services`, also of services that the site names no
    /// more.
    pub(super) async fn all(services: &Path) -> Result<Vec<Self>> {
        let services = services.to_owned();
        blocking(move || {
            let failed = |e| Error::io(format!("list {}", services.display()), e);
            let listed = match std::fs::read_dir(&services) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
                listed => listed.map_err(failed)?,
            };
            let mut all = Vec::new();
            for entry in listed {
                let path = entry.map_err(failed)?.path();
                if path.to_string_lossy().ends_with(SUFFIX) {
                    all.push(Self { path });
                }
            }
            all.sort_by(|a, b| a.path.cmp(&b.path));
            Ok(all)
        })
        .await
    }

    /// The containers that were stopped and not started again since, or are kept down, as far as is
    /// known; the last ones first.
    pub(super) async fn read(&self) -> Result<Vec<Stopped>> {
        let path = self.path.clone();
        blocking(move || {
            let content = match std::fs::read(&path) {
                Ok(content) => content,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(Error::io(format!("read {}", path.display()), e)),
            };
            serde_json::from_slice(&content).map_err(|e| {
                Error::new(
                    ErrorKind::Failed,
                    "compose.bad_record",
                    format!(
                        "{}, which says which containers were stopped, cannot be read: {e}",
                        path.display()
                    ),
                )
                .hint("start the containers that should run by hand (`docker start`), delete that file, then try again")
            })
        })
        .await
    }

    /// Writes it anew, whole and durable; no container: removes it.
    pub(super) async fn write(&self, stopped: &[Stopped]) -> Result<()> {
        let path = self.path.clone();
        let content = match stopped {
            [] => None,
            stopped => Some(serde_json::to_vec(stopped).map_err(|e| {
                Error::new(
                    ErrorKind::Internal,
                    "compose.record",
                    format!("the record of stopped containers cannot be written: {e}"),
                )
            })?),
        };
        let number = ASKED.fetch_add(1, Ordering::Relaxed);
        blocking(move || {
            let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = written.entry(path.clone()).or_default();
            if *newest > number {
                return Ok(());
            }
            *newest = number;
            let Some(content) = content else {
                // One that comes back after a power cut would tell of what is long over.
                return durable::remove(&path)
                    .map_err(|e| Error::io(format!("remove {}", path.display()), e));
            };
            write_down(&path, &content)
        })
        .await
    }
}

/// Gives a file of the site's state this content, whole and durable, and makes its folder where there is none.
pub(super) fn write_down(path: &Path, content: &[u8]) -> Result<()> {
    let failed = |e| Error::io(format!("write {}", path.display()), e);
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !folder.exists() {
        private::create_dir_all(folder).map_err(failed)?;
        durable::sync_directory_of(folder).map_err(failed)?;
    }
    let new = path.with_extension("new");
    durable::replace(path, &new, Access::PRIVATE, content).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_written_comes_back_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let services = folder.path().join("services");
        let of = |project: &str, service: &str| {
            let name = ComposeName {
                project: project.to_owned(),
                service: service.to_owned(),
            };
            StopRecord::of(&services, &name)
        };
        let record = of("a/b", "c d");
        assert_eq!(record.read().await.unwrap(), []);
        let stopped = [Stopped {
            id: "1".to_owned(),
            policy: Some(serde_json::json!({"Name": "always", "MaximumRetryCount": 0})),
            meanwhile: NEVER.to_owned(),
            was_down: true,
        }];
        for _ in 0..2 {
            record.write(&stopped).await.unwrap();
            assert_eq!(record.read().await.unwrap(), stopped);
        }
        let all = StopRecord::all(&services).await.unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].read().await.unwrap(), stopped);
        let none = StopRecord::all(&folder.path().join("none")).await.unwrap();
        assert!(none.is_empty());
        assert_eq!(of("a", "b/c d").read().await.unwrap(), []);
        std::fs::write(services.join("a%2fb+c%20d.stopped.json"), "{").unwrap();
        let error = record.read().await.unwrap_err();
        assert_eq!(error.code(), "compose.bad_record");
        record.write(&[]).await.unwrap();
        record.write(&[]).await.unwrap();
        assert_eq!(record.read().await.unwrap(), []);
        assert_eq!(std::fs::read_dir(&services).unwrap().count(), 0);
    }

    /// A run that is dropped leaves a write under way.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_write_whose_caller_is_gone_meets_no_later_one() {
        let folder = tempfile::tempdir().unwrap();
        let record = StopRecord {
            path: folder.path().join("services/web.stopped.json"),
        };
        let stopped = |id: String| Stopped {
            id,
            policy: None,
            meanwhile: while_down(),
            was_down: false,
        };
        for turn in 0..20 {
            let early = [stopped(format!("early {turn}"))];
            let _ = tokio::time::timeout(Duration::ZERO, record.write(&early)).await;
            let late = [stopped(format!("late {turn}"))];
            record.write(&late).await.unwrap();
            assert_eq!(record.read().await.unwrap(), late);
        }
    }

    #[test]
    fn what_an_operator_has_changed_is_not_owed() {
        let always = serde_json::json!({"Name": "always", "MaximumRetryCount": 0});
        // As earlier versions wrote it.
        let text = serde_json::json!({"id": "1", "policy": always});
        let stopped: Stopped = serde_json::from_value(text).unwrap();
        assert_eq!(stopped.owed(WHILE_DOWN), Some(&always));
        assert_eq!(stopped.owed("on-failure"), None);
        let idle = Stopped {
            meanwhile: NEVER.to_owned(),
            was_down: true,
            ..stopped
        };
        assert_eq!(idle.owed(""), Some(&always));
        assert_eq!(idle.owed(NEVER), Some(&always));
        assert_eq!(idle.owed(WHILE_DOWN), None);
        let none = Stopped {
            policy: None,
            ..idle
        };
        assert_eq!(none.owed(""), None);
    }
}
