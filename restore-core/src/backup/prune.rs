//! Which old backups to delete: decided here, by what is known of each; done elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Backup, BackupId, Generation};
use crate::error::{Error, ErrorKind, Result};

/// Which backups of a store may be deleted. What is asked for must hold altogether.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneRequest {
    /// The name of the store; `None`: the first on this host.
    pub store: Option<String>,
    /// All but so many of the newest finished backups, and what is newer than those.
    pub keep: Option<usize>,
    /// Only what is older.
    pub older_than: Option<Duration>,
}

impl PruneRequest {
    /// All but the newest `count` finished backups; safety backups and unfinished ones go with the
    /// backups that they are older than.
    pub fn keep(count: usize) -> Self {
        Self {
            keep: Some(count),
            ..Self::default()
        }
    }

    /// Whatever is older than this.
    pub fn older_than(age: Duration) -> Self {
        Self {
            older_than: Some(age),
            ..Self::default()
        }
    }

    /// The same request for another store than the first.
    #[must_use]
    pub fn store(mut self, name: impl Into<String>) -> Self {
        self.store = Some(name.into());
        self
    }

    fn check(&self) -> Result<()> {
        let message = match (self.keep, self.older_than) {
            (None, None) => "nothing says which backups are to be deleted",
            (Some(0), _) => "at least one backup is always kept",
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Config, "prune.request", message)
            .hint("--keep N keeps the newest N, --older-than 30d deletes what is older"))
    }
}

/// One backup in a [`PrunePlan`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pruned {
    /// Its id.
    pub id: BackupId,
    /// Its bytes.
    pub bytes: u64,
    /// Why it stays, or what it is.
    pub why: String,
}

/// What pruning would delete. Making one changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PrunePlan {
    /// The store's name.
    pub store: String,
    /// The store, for people.
    pub place: String,
    /// What would be deleted, oldest first.
    pub delete: Vec<Pruned>,
    /// What stays, oldest first.
    pub keep: Vec<Pruned>,
}

impl PrunePlan {
    /// Bytes that it frees.
    pub fn bytes(&self) -> u64 {
        self.delete.iter().map(|it| it.bytes).sum()
    }
}

/// What is known of a backup.
pub(crate) struct Known {
    pub(crate) id: BackupId,
    pub(crate) bytes: u64,
    pub(crate) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Finished, and every file there with the size that it should have.
    Whole,
    /// Finished once, but files are missing or not of their size.
    Incomplete,
    Unfinished,
    /// It does not even open.
    Damaged,
}

impl Known {
    /// By its listing and its manifest.
    pub(crate) fn of(id: BackupId, opened: Result<Backup>) -> Self {
        let Ok(backup) = opened else {
            return Self {
                id,
                bytes: 0,
                state: State::Damaged,
            };
        };
        let whole = backup.manifest().is_some_and(|manifest| {
            !manifest.truncated
                && manifest.entries.iter().all(|entry| {
                    backup.file(&entry.path).is_some_and(|file| {
                        entry.size.bytes().is_none_or(|bytes| bytes == file.size)
                    })
                })
        });
        let state = match (backup.generation(), whole) {
            (Generation::Unfinished, _) => State::Unfinished,
            (_, true) => State::Whole,
            (_, false) => State::Incomplete,
        };
        Self {
            id,
            bytes: backup.summary().bytes,
            state,
        }
    }
}

/// Decides, for backups in their order; `needed` says of some why they must stay.
pub(crate) fn plan(
    request: &PruneRequest,
    (store, place): (&str, String),
    known: &[Known],
    needed: &BTreeMap<BackupId, String>,
) -> Result<PrunePlan> {
    request.check()?;
    let whole: Vec<&BackupId> = known
        .iter()
        .filter(|it| it.state == State::Whole && !it.id.is_safety())
        .map(|it| &it.id)
        .collect();
    let last = whole.last();
    // With fewer than are to be kept nothing is old enough.
    let oldest_kept = request
        .keep
        .map(|count| whole.len().checked_sub(count).and_then(|at| whole.get(at)));
    let now = jiff::Zoned::now().datetime();
    let why_kept = |it: &Known| -> Option<String> {
        if let Some(why) = needed.get(&it.id) {
            return Some(why.clone());
        }
        if last.is_none() {
            return Some("there is no finished backup to keep instead".to_owned());
        }
        if last == Some(&&it.id) {
            return Some("the newest finished one".to_owned());
        }
        if it.state == State::Damaged {
            return Some("its manifest is damaged: look at it first".to_owned());
        }
        match oldest_kept {
            Some(None) => return Some("there are no more than are to be kept".to_owned()),
            Some(Some(oldest)) if it.id >= **oldest => {
                return Some("among the newest".to_owned());
            }
            _ => {}
        }
        let limit = request.older_than?;
        let made = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", it.id.stamp());
        let age = made.map(|made| Duration::try_from(now.duration_since(made)));
        match age {
            Ok(Ok(age)) if age > limit => None,
            // One from the future too.
            _ => Some("not old enough".to_owned()),
        }
    };
    let mut plan = PrunePlan {
        store: store.to_owned(),
        place,
        delete: Vec::new(),
        keep: Vec::new(),
    };
    for it in known {
        let entry = |why: String| Pruned {
            id: it.id.clone(),
            bytes: it.bytes,
            why,
        };
        match why_kept(it) {
            Some(why) => plan.keep.push(entry(why)),
            None => plan.delete.push(entry(
                match it.state {
                    State::Whole if it.id.is_safety() => "safety backup",
                    State::Whole => "finished",
                    State::Incomplete => "files are missing",
                    State::Unfinished => "unfinished",
                    State::Damaged => "damaged",
                }
                .to_owned(),
            )),
        }
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(list: &[(&str, State)]) -> Vec<Known> {
        list.iter()
            .map(|(id, state)| Known {
                id: id.parse().unwrap(),
                bytes: 1,
                state: *state,
            })
            .collect()
    }

    fn deleted(request: &PruneRequest, known: &[Known], needed: &[&str]) -> Vec<String> {
        let needed = needed
            .iter()
            .map(|id| (id.parse().unwrap(), "a run".to_owned()))
            .collect();
        let plan = plan(request, ("main", "x".into()), known, &needed).unwrap();
        assert_eq!(plan.delete.len() + plan.keep.len(), known.len());
        plan.delete.iter().map(|it| it.id.to_string()).collect()
    }

    #[test]
    fn the_newest_stay_and_what_is_newer_than_they() {
        let known = known(&[
            ("20240101-000000", State::Whole),
            ("20240102-000000", State::Unfinished),
            ("pre-restore-20240103-000000", State::Whole),
            ("20240104-000000", State::Whole),
            ("20240105-000000", State::Incomplete),
            ("20240106-000000", State::Whole),
            ("20240107-000000", State::Damaged),
            ("20240108-000000", State::Unfinished),
        ]);
        let keep = PruneRequest::keep;
        assert_eq!(
            deleted(&keep(2), &known, &[]),
            [
                "20240101-000000",
                "20240102-000000",
                "pre-restore-20240103-000000"
            ]
        );
        assert_eq!(deleted(&keep(1), &known, &[]).len(), 5);
        assert_eq!(deleted(&keep(4), &known, &[]), [""; 0]);
        assert_eq!(
            deleted(
                &keep(2),
                &known,
                &["20240101-000000", "pre-restore-20240103-000000"]
            ),
            ["20240102-000000"]
        );
    }

    #[test]
    fn the_last_good_one_stays_however_old() {
        let list = known(&[
            ("20230101-000000", State::Whole),
            ("20240101-000000", State::Whole),
            ("20240102-000000", State::Incomplete),
            ("20240103-000000", State::Unfinished),
        ]);
        let old = PruneRequest::older_than(Duration::from_secs(86400));
        assert_eq!(
            deleted(&old, &list, &[]),
            ["20230101-000000", "20240102-000000", "20240103-000000"]
        );
        // None good: none is deleted.
        let none = known(&[
            ("20230101-000000", State::Incomplete),
            ("20240103-000000", State::Unfinished),
        ]);
        assert_eq!(deleted(&old, &none, &[]), [""; 0]);
        let future = known(&[
            ("20230101-000000", State::Whole),
            ("29990101-000000", State::Whole),
        ]);
        assert_eq!(deleted(&old, &future, &[]), ["20230101-000000"]);
    }

    #[test]
    fn both_conditions_must_hold() {
        let list = known(&[
            ("20230101-000000", State::Whole),
            ("20240101-000000", State::Whole),
        ]);
        let mut request = PruneRequest::keep(1);
        request.older_than = Some(Duration::from_secs(u64::from(u32::MAX)));
        assert_eq!(deleted(&request, &list, &[]), [""; 0]);
        for bad in [PruneRequest::default(), PruneRequest::keep(0)] {
            assert!(plan(&bad, ("x", "x".into()), &list, &BTreeMap::new()).is_err());
        }
    }
}
