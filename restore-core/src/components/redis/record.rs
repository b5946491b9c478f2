//! What was staged, as a run's journal keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::client::Keys;
use super::data::{DataLayout, Mode};
use super::scratch::Loaded;
use crate::contract::RunContext;
use crate::model::{Error, ErrorKind, Result};

/// What `cut_over` and `check` need to know of what was staged; kept in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StagedRecord {
    pub(super) layout: DataLayout,
    /// Keys by database.
    pub(super) keys: BTreeMap<u32, u64>,
    /// Those of them that expire some day.
    pub(super) expires: BTreeMap<u32, u64>,
    pub(super) rdb_keys: Option<u64>,
    pub(super) libraries: Option<u64>,
}

impl StagedRecord {
    pub(super) fn of(layout: &DataLayout, loaded: &Loaded) -> Self {
        let each = |pick: fn(&Keys) -> u64| {
            loaded
                .keys
                .iter()
                .map(|(database, keys)| (*database, pick(keys)))
                .collect()
        };
        Self {
            layout: layout.clone(),
            keys: each(|keys| keys.keys),
            expires: each(|keys| keys.expires),
            rdb_keys: loaded.rdb_keys,
            libraries: loaded.libraries,
        }
    }

    /// Keys of all databases.
    pub(super) fn total(&self) -> u64 {
        self.keys
            .values()
            .fold(0_u64, |sum, keys| sum.saturating_add(*keys))
    }

    /// The facts for the report.
    pub(super) fn facts(&self, version: &str) -> Map<String, Value> {
        let value = json!({
            "keys": self.keys,
            "expires": self.expires,
            "total_keys": self.total(),
            "function_libraries": self.libraries,
            "proven_with": format!("Redis {version}"),
            "laid_out_as": match self.layout.mode {
                Mode::On => "appendonly directory with the same RDB beside it",
                Mode::Off => "RDB",
                Mode::Unknown => "appendonly directory and RDB of the same content",
            },
        });
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// The key of the n-th record: a journal keeps the first value of a key, and staging may be
/// repeated when the server's settings have changed in between.
fn key(n: u32) -> String {
    format!("staged-{n}")
}

/// Keeps a record; the last one kept counts.
pub(super) async fn keep(cx: &RunContext, record: &StagedRecord) -> Result<()> {
    let value = serde_json::to_value(record).map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "redis.record",
            format!("cannot keep what was staged: {e}"),
        )
    })?;
    let mut n = 1;
    while let Some(kept) = cx.recall(&key(n)) {
        if kept == value && cx.recall(&key(n + 1)).is_none() {
            return Ok(());
        }
        n += 1;
    }
    cx.record(&key(n), value).await
}

/// The record of what is staged; `None` where this run has staged nothing.
pub(super) fn kept(cx: &RunContext) -> Option<StagedRecord> {
    (1..)
        .map_while(|n| cx.recall(&key(n)))
        .last()
        .and_then(|value| serde_json::from_value(value).ok())
}
