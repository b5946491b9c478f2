//! Which containers this site has stopped, and what the engine did with them before.
//!
//! A run is told by number how many containers are to be started again; which ones, and which
//! had ended by themselves before, is written down here before anything is stopped, so that any
//! later process knows.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::ComposeName;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::blocking::blocking;
use crate::sys::private;

/// A container that was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stopped {
    pub(super) id: String,
    /// Its restart policy of before, where it was given another one for the time being.
    #[serde(default)]
    pub(super) policy: Option<Value>,
}

/// The record of one service: a file in the site's state directory.
pub(super) struct Record {
    path: PathBuf,
}

impl Record {
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
        let file = format!(
            "{}+{}.stopped.json",
            plain(&name.project),
            plain(&name.service)
        );
        Self {
            path: services.join(file),
        }
    }

    /// The containers that were stopped and not started again since, as far as is known; the last
    /// ones first.
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
        blocking(move || {
            let failed = |e| Error::io(format!("write {}", path.display()), e);
            let folder = path.parent().unwrap_or(Path::new("/"));
            let Some(content) = content else {
                return match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        Err(Error::io(format!("remove {}", path.display()), e))
                    }
                    _ => Ok(()),
                };
            };
            private::create_dir_all(folder).map_err(failed)?;
            let new = path.with_extension("new");
            private::write(&new, content).map_err(failed)?;
            let synced = std::fs::File::open(&new).and_then(|file| file.sync_all());
            synced.map_err(failed)?;
            std::fs::rename(&new, &path).map_err(failed)?;
            let folder = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
            folder.map_err(failed)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
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
            Record::of(&services, &name)
        };
        let record = of("a/b", "c d");
        assert_eq!(record.read().await.unwrap(), []);
        let stopped = [Stopped {
            id: "1".to_owned(),
            policy: Some(serde_json::json!({"Name": "always", "MaximumRetryCount": 0})),
        }];
        for _ in 0..2 {
            record.write(&stopped).await.unwrap();
            assert_eq!(record.read().await.unwrap(), stopped);
        }
        assert_eq!(of("a", "b/c d").read().await.unwrap(), []);
        std::fs::write(services.join("a%2fb+c%20d.stopped.json"), "{").unwrap();
        let error = record.read().await.unwrap_err();
        assert_eq!(error.code(), "compose.bad_record");
        record.write(&[]).await.unwrap();
        record.write(&[]).await.unwrap();
        assert_eq!(record.read().await.unwrap(), []);
        assert_eq!(std::fs::read_dir(&services).unwrap().count(), 0);
    }
}
