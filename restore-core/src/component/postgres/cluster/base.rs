//! Base backups: what is known of them without unpacking them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt;

use super::Cluster;
use crate::backup::{Backup, DESCRIPTION, expand_pattern};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;
use crate::wal::{Lsn, Origin};

/// The backup has no base backup of the cluster.
pub(super) const NO_BASE: &str = "cluster.no_base";
/// It has one of which nothing is known.
pub(super) const UNDESCRIBED: &str = "cluster.undescribed";

/// More than this no description has.
const LARGEST: u64 = 64 << 20;

/// What was written down of a base backup when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BaseFacts {
    /// `15.4`.
    pub(super) server: String,
    pub(super) major: u32,
    pub(super) system_identifier: String,
    pub(super) timeline: u32,
    pub(super) start_lsn: Lsn,
    pub(super) stop_lsn: Lsn,
    pub(super) started: Timestamp,
    pub(super) stopped: Timestamp,
    pub(super) segment_size: u64,
    /// About as much as it unpacks to.
    pub(super) bytes: u64,
}

/// A base backup in a backup.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) artifact: String,
    pub(super) facts: BaseFacts,
}

impl BaseFacts {
    pub(super) fn origin(&self) -> Origin {
        Origin {
            timeline: self.timeline,
            start: self.start_lsn,
            stop: self.stop_lsn,
            stopped: self.stopped,
        }
    }

    pub(super) fn as_map(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        }
    }
}

impl Cluster {
    /// The base backup that the backup has.
    pub(super) async fn base(&self, backup: &Backup) -> Result<Base> {
        let found = backup.find(&self.config.base);
        let [artifact] = found.as_slice() else {
            let tried: Vec<String> = self
                .config
                .base
                .iter()
                .map(|pattern| expand_pattern(pattern, backup.id()))
                .collect();
            return Err(Error::new(
                ErrorKind::Preflight,
                NO_BASE,
                match found.len() {
                    0 => format!(
                        "backup {} has no base backup (looked for {})",
                        backup.id(),
                        tried.join(", ")
                    ),
                    _ => format!(
                        "backup {} has several base backups: {}",
                        backup.id(),
                        found.join(", ")
                    ),
                },
            )
            .hint("`restore run latest --to …` chooses the newest backup that has one; `restore backup --base` makes one"));
        };
        let facts = facts(backup, artifact).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::Preflight,
                UNDESCRIBED,
                format!(
                    "backup {} does not say in {DESCRIPTION} when and where in the log {artifact} was taken",
                    backup.id()
                ),
            )
            .hint("only base backups made by `restore backup --base` can be recovered")
        })?;
        Ok(Base {
            artifact: artifact.clone(),
            facts,
        })
    }
}

/// What the backup's description says of the artifact.
async fn facts(backup: &Backup, artifact: &str) -> Result<Option<BaseFacts>> {
    if backup.file(DESCRIPTION).is_none() {
        return Ok(None);
    }
    let reader = backup.store().read(backup.id(), DESCRIPTION, 0).await?;
    let mut text = Vec::new();
    reader
        .take(LARGEST)
        .read_to_end(&mut text)
        .await
        .map_err(|e| Error::io(format!("read {DESCRIPTION} of {}", backup.id()), e))?;
    let read = || {
        let description: Value = serde_json::from_slice(&text).ok()?;
        let component = description
            .get("components")?
            .as_array()?
            .iter()
            .find(|component| {
                component
                    .get("artifacts")
                    .and_then(Value::as_array)
                    .is_some_and(|paths| paths.iter().any(|path| path == artifact))
            })?;
        serde_json::from_value(component.get("facts")?.clone()).ok()
    };
    Ok(read())
}
