//! Proof that what the server serves is what was staged.

use super::Redis;
use super::client::Info;
use super::data::Mode;
use super::record::{StagedRecord, kept};
use crate::contract::RunContext;
use crate::model::{CheckOutcome, Error, ErrorKind, Result};

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
        let loaded = client.loaded(timeout, || cx.check_cancelled(), |_, _| Ok(()));
        let info = tokio::select! {
            loaded = loaded => loaded,
            gone = self.until_gone() => Err(gone),
        };
        let info = match info {
            Ok(info) => info,
            Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
            Err(e) => return Ok(vec![CheckOutcome::new(name("loaded"), false, e.message())]),
        };
        let version = info.text("redis_version").unwrap_or("?");
        let mut outcomes = vec![CheckOutcome::new(
            name("loaded"),
            true,
            format!("Redis {version} has loaded its data"),
        )];
        if info.text("role") == Some("slave") {
            let master = info.text("master_host").unwrap_or("?");
            outcomes.push(CheckOutcome::new(
                name("role"),
                false,
                format!(
                    "the server has become a replica of {master}, whose data replaces what was restored: while it was down another one was made the master (a failover)"
                ),
            ));
        }
        let on = info.number("aof_enabled") == Some(1);
        let expected = match record.layout.mode {
            Mode::On => Some(true),
            Mode::Off => Some(false),
            Mode::Unknown => None,
        };
        let word = |on| if on { "yes" } else { "no" };
        let (passed, detail) = compare(&record, &info);
        outcomes.push(match expected {
            // Each kind of file was staged with the same data: what counts is that it was loaded.
            Some(expected) if expected != on => CheckOutcome::new(
                name("appendonly"),
                passed,
                format!(
                    "appendonly is {}, it was {} before: set with CONFIG SET, such a setting is lost when the server stops",
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
        outcomes.push(CheckOutcome::new(name("keys"), passed, detail));
        Ok(outcomes)
    }
}

impl Redis {
    /// Returns once the server that is to load its data has ended: nothing loads it then. A platform
    /// that does not answer says nothing about that.
    async fn until_gone(&self) -> Error {
        let mut down = 0_u32;
        loop {
            tokio::time::sleep(LOOK).await;
            let state = self.platform.service(&self.section.service).await;
            down = match &state {
                Ok(state) if state.running == 0 => down.saturating_add(1),
                _ => 0,
            };
            // Whoever watches over it may be about to start it again.
            if down > TIMES {
                let what = state.map_or_else(|_| String::new(), |state| state.detail);
                return Error::new(
                    ErrorKind::Failed,
                    "redis.gone",
                    format!(
                        "{} has ended since it was started ({what})",
                        self.section.service
                    ),
                )
                .hint("its own log says why");
            }
        }
    }
}

/// How often is looked whether the server still runs, and how often in a row it must not.
const LOOK: std::time::Duration = std::time::Duration::from_millis(500);
const TIMES: u32 = 6;

/// Compares what is served with what was staged. What counts is the number of keys in the file that the
/// server loaded when it started: keys that expire may be gone since, clients may have written, a cache may have
/// evicted some. Only a server that does not tell it (before Redis 7) is judged by what it has now.
fn compare(record: &StagedRecord, info: &Info) -> (bool, String) {
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
    let found: u64 = live
        .values()
        .fold(0_u64, |sum, keys| sum.saturating_add(keys.keys));
    let total = record.total();
    if let (Some(staged), Some(loaded)) = (record.libraries, info.number("number_of_libraries"))
        && loaded < staged
    {
        wrong.push(format!("{loaded} function libraries, staged were {staged}"));
        return (false, wrong.join("; "));
    }
    let same_file = match (record.rdb_keys, info.rdb_keys()) {
        (Some(staged), Some(loaded)) if staged != loaded => {
            return (
                false,
                format!(
                    "the server has loaded a file of {loaded} keys, the staged one has {staged}: it loads other files than those that were put in place"
                ),
            );
        }
        (Some(staged), Some(_)) => Some(staged),
        _ => None,
    };
    if same_file.is_none() && found == 0 && total > 0 {
        return (false, format!("none of the {total} keys staged is there"));
    }
    if wrong.is_empty() {
        return (true, format!("{found} keys of {total} staged"));
    }
    let Some(loaded) = same_file.filter(|keys| *keys > 0) else {
        return (false, wrong.join("; "));
    };
    let evicted = info.number("evicted_keys").unwrap_or(0);
    if evicted > 0 {
        let limit = info.text("maxmemory").unwrap_or("?");
        let policy = info.text("maxmemory_policy").unwrap_or("?");
        // What evicts any key is a cache, which does so every day.
        return (
            policy.starts_with("allkeys"),
            format!(
                "the {loaded} keys staged were loaded, and {evicted} evicted since (maxmemory {limit}, {policy}): {found} keys now"
            ),
        );
    }
    if info
        .number("rdb_changes_since_last_save")
        .is_some_and(|n| n > 0)
    {
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
    use super::super::data::DataLayout;
    use super::*;

    fn record() -> StagedRecord {
        StagedRecord {
            layout: DataLayout::default(),
            keys: [(0, 10), (3, 2)].into(),
            expires: [(0, 4)].into(),
            rdb_keys: Some(13),
            libraries: Some(1),
        }
    }

    fn seen(db0: u64, db3: u64, more: &str) -> (bool, String) {
        let loaded = match more.contains("keys_loaded") {
            true => "",
            false => "rdb_last_load_keys_loaded:12\n",
        };
        let text = format!(
            "{loaded}number_of_libraries:1\nrdb_last_load_keys_expired:1\ndb0:keys={db0},expires=0\ndb3:keys={db3},expires=0\n{more}"
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

    #[test]
    fn a_server_that_loaded_another_file_does_not_pass_as_expired() {
        let mut sessions = record();
        sessions.expires = sessions.keys.clone();
        let of = |text: &str| compare(&sessions, &Info::parse(text)).0;
        let libraries = "number_of_libraries:1\n";
        let nothing = "rdb_last_load_keys_loaded:0\nrdb_last_load_keys_expired:0\n";
        assert!(!of(&format!("{libraries}{nothing}")));
        let all = "rdb_last_load_keys_loaded:13\nrdb_last_load_keys_expired:0\n";
        assert!(of(&format!("{libraries}{all}")), "all have expired since");
        assert!(!of(libraries), "a server that does not tell");
    }

    #[test]
    fn eviction_is_not_taken_for_clients() {
        let evicted =
            "rdb_last_load_keys_loaded:12\nevicted_keys:8\nrdb_changes_since_last_save:9\n";
        let of = |policy: &str| seen(2, 2, &format!("{evicted}maxmemory_policy:{policy}\n"));
        assert!(!of("volatile-lru").0);
        let (passed, said) = of("allkeys-lru");
        assert!(passed && said.contains("8 evicted since"), "{said}");
    }
}
