//! Proof that what the server serves is what was staged.

use super::Redis;
use super::client::Info;
use super::data::Mode;
use super::record::{Record, kept};
use crate::component::CheckOutcome;
use crate::error::Result;
use crate::run::RunContext;

impl Redis {
    pub(super) async fn check_all(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        let name = |what: &str| format!("{}/{what}", self.name);
        let Some(record) = kept(cx) else {
            return Ok(vec![CheckOutcome::new(
                name("keys"),
                false,
                "this run has staged nothing to compare with",
            )]);
        };
        let timeout = self.section.load_timeout.0;
        let client = self.client().await?;
        let info = match client.loaded(timeout, || Ok(()), |_| {}).await {
            Ok(info) => info,
            Err(e) => return Ok(vec![CheckOutcome::new(name("loaded"), false, e.message())]),
        };
        let version = info.text("redis_version").unwrap_or("?");
        let mut outcomes = vec![CheckOutcome::new(
            name("loaded"),
            true,
            format!("Redis {version} has loaded its data"),
        )];
        let on = info.number("aof_enabled") == Some(1);
        let expected = match record.layout.mode {
            Mode::On => Some(true),
            Mode::Off => Some(false),
            Mode::Unknown => None,
        };
        let word = |on| if on { "yes" } else { "no" };
        outcomes.push(match expected {
            Some(expected) if expected != on => CheckOutcome::new(
                name("appendonly"),
                false,
                format!(
                    "appendonly is {}, it was {} before",
                    word(on),
                    word(expected)
                ),
            ),
            _ => CheckOutcome::new(
                name("appendonly"),
                true,
                format!("appendonly is {}", word(on)),
            ),
        });
        let (passed, detail) = compare(&record, &info);
        outcomes.push(CheckOutcome::new(name("keys"), passed, detail));
        Ok(outcomes)
    }
}

/// Compares what is served with what was staged. Keys that expire may be gone. Where clients
/// have already written, the counts say nothing, but the number of keys in the RDB that the
/// server loaded when it started still does.
fn compare(record: &Record, info: &Info) -> (bool, String) {
    let live = info.keyspace();
    let databases: std::collections::BTreeSet<u32> =
        record.keys.keys().chain(live.keys()).copied().collect();
    let mut wrong = Vec::new();
    for database in databases {
        let staged = record.keys.get(&database).copied().unwrap_or(0);
        let expires = record.expires.get(&database).copied().unwrap_or(0);
        let found = live.get(&database).map_or(0, |keys| keys.keys);
        if !(staged.saturating_sub(expires)..=staged).contains(&found) {
            wrong.push(format!(
                "database {database} has {found} keys, staged were {staged}"
            ));
        }
    }
    let found: u64 = live.values().map(|keys| keys.keys).sum();
    let total = record.total();
    if let (Some(staged), Some(loaded)) = (record.libraries, info.number("number_of_libraries"))
        && loaded < staged
    {
        wrong.push(format!("{loaded} function libraries, staged were {staged}"));
        return (false, wrong.join("; "));
    }
    if wrong.is_empty() {
        return (true, format!("{found} keys of {total} staged"));
    }
    let same_file =
        record.rdb_keys.is_some_and(|keys| keys > 0) && record.rdb_keys == info.rdb_keys();
    let written = info
        .number("rdb_changes_since_last_save")
        .is_some_and(|n| n > 0)
        || info.number("evicted_keys").is_some_and(|n| n > 0);
    if same_file && written {
        let loaded = record.rdb_keys.unwrap_or(0);
        return (
            true,
            format!(
                "the {loaded} keys staged were loaded; clients have written since: {found} keys now"
            ),
        );
    }
    (false, wrong.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::redis::data::Layout;

    fn record() -> Record {
        Record {
            layout: Layout::default(),
            keys: [(0, 10), (3, 2)].into(),
            expires: [(0, 4)].into(),
            rdb_keys: Some(13),
            libraries: Some(1),
        }
    }

    fn seen(db0: u64, db3: u64, more: &str) -> (bool, String) {
        let text = format!(
            "number_of_libraries:1\nrdb_last_load_keys_expired:1\ndb0:keys={db0},expires=0\ndb3:keys={db3},expires=0\n{more}"
        );
        compare(&record(), &Info::parse(&text))
    }

    #[test]
    fn only_expiring_keys_may_be_gone() {
        assert!(seen(10, 2, "").0);
        assert!(seen(6, 2, "").0);
        assert!(!seen(5, 2, "").0);
        assert!(!seen(10, 1, "").0);
        assert!(!seen(11, 2, "").0);
        assert!(!seen(10, 2, "db5:keys=1,expires=0\n").0);
        assert!(!seen(10, 2, "number_of_libraries:0\n").0);
    }

    #[test]
    fn clients_that_write_at_once_do_not_turn_a_restore_back() {
        let same = "rdb_last_load_keys_loaded:12\nrdb_changes_since_last_save:3\n";
        assert!(seen(11, 2, same).0);
        assert!(
            !seen(11, 2, "rdb_last_load_keys_loaded:12\n").0,
            "nobody wrote"
        );
        let other = "rdb_last_load_keys_loaded:7\nrdb_changes_since_last_save:3\n";
        assert!(!seen(11, 2, other).0, "another file was loaded");
    }
}
