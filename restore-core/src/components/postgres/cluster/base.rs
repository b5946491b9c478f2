//! Base backups: what is known of them without unpacking them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Cluster;
use crate::components::postgres::wal::BaseBackupRange;
use crate::contract::backup::DESCRIPTION;
use crate::contract::{Backup, expand_pattern};
use crate::model::{Error, ErrorKind, Lsn, Result, Timestamp};

/// The reason of an error: a backup has no base backup of the cluster, or one of which nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoBase;

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
    pub(super) fn origin(&self) -> BaseBackupRange {
        BaseBackupRange {
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
        let found = backup.find_of(&self.name, &self.config.base);
        let [artifact] = found.as_slice() else {
            let tried: Vec<String> = self
                .config
                .base
                .iter()
                .map(|pattern| expand_pattern(pattern, backup.id()))
                .collect();
            return Err(Error::new(
                ErrorKind::Preflight,
                "cluster.no_base",
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
            .because(NoBase)
            .hint("`restore run latest --to TIME` chooses the newest backup that has one; `restore backup --base` makes one"));
        };
        let facts = facts(backup, artifact).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::Preflight,
                "cluster.undescribed",
                format!(
                    "backup {} does not say in {DESCRIPTION} when and where in the log {artifact} was taken",
                    backup.id()
                ),
            )
            .because(NoBase)
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
    let facts = backup.described(artifact).await?;
    Ok(facts.and_then(|facts| serde_json::from_value(facts.into()).ok()))
}
