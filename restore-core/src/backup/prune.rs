//! Which old backups to delete: decided here, by what is known of each; done elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::verification::{Verdict, Verification};
use crate::contract::{Backup, Generation};
use crate::model::{BackupId, Error, ErrorKind, Result, Severity};

/// Which backups of a store may be deleted: those that none of the rules keeps. Only full backups count, which have
/// something for every component of the site that backups of their time had, and which do not fail verification as
/// far as their listing tells; what else there is goes with the full ones that it is older than. The safety backup
/// of a run that came to nothing, which has put all back that it had replaced, goes first: no count keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneRequest {
    /// The name of the store; `None`: the first on this host.
    pub store: Option<String>,
    /// All but so many of the newest full backups, and what is newer than those.
    pub keep: Option<usize>,
    /// The newest of each of so many days that have one.
    pub keep_daily: Option<usize>,
    /// The newest of each of so many weeks.
    pub keep_weekly: Option<usize>,
    /// The newest of each of so many months.
    pub keep_monthly: Option<usize>,
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
        let counts = [
            self.keep,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
        ];
        let message = if counts.contains(&Some(0)) {
            "at least one backup is always kept"
        } else if counts.iter().all(Option::is_none) && self.older_than.is_none() {
            "nothing says which backups are to be deleted"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Config, "prune.request", message)
            .hint("--keep N keeps the newest N, --keep-daily N the newest of each of N days, --older-than 30d deletes what is older"))
    }

    /// Of full backups, oldest first, those that are the newest of a day, week or month that is kept, and why;
    /// and whether there are as many of these as are to be kept.
    fn periods(&self, full: &[&BackupId]) -> (BTreeMap<BackupId, String>, bool) {
        type Period = fn(jiff::civil::DateTime) -> String;
        let rules: [(Option<usize>, &str, Period); 3] = [
            (self.keep_daily, "day", |at| at.date().to_string()),
            (self.keep_weekly, "week", |at| {
                let week = at.date().iso_week_date();
                format!("{}-{}", week.year(), week.week())
            }),
            (self.keep_monthly, "month", |at| {
                format!("{}-{}", at.year(), at.month())
            }),
        ];
        let mut kept: BTreeMap<BackupId, String> = BTreeMap::new();
        let mut filled = true;
        for (count, name, period) in rules {
            let (mut left, mut last) = (count.unwrap_or(0), None);
            for id in full.iter().rev() {
                let made = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", id.stamp());
                let Some(of) = made.ok().map(period) else {
                    continue;
                };
                if left == 0 || last.as_ref() == Some(&of) {
                    continue;
                }
                left -= 1;
                last = Some(of);
                kept.entry((*id).clone())
                    .and_modify(|why| why.push_str(&format!(", {name}")))
                    .or_insert_with(|| format!("the newest of its {name}"));
            }
            filled &= left == 0;
        }
        (kept, filled)
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
    /// The site's components that it has nothing for.
    pub(crate) lacking: Vec<String>,
    /// What is wrong with it; empty: nothing.
    pub(crate) wrong: String,
    /// Of a safety backup that nothing needs any more: what it was made for.
    pub(crate) idle: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Finished, sound as far as its listing tells, with something for every component of the site.
    Whole,
    /// Finished and sound, with something for every component that older backups have: the site has grown since.
    Earlier,
    /// Finished and sound, with nothing for some of the site's components: no other is deleted for its sake.
    Partial,
    /// Finished once, but verification calls it failed: it is not restored, and none is deleted for its sake.
    Failed,
    Unfinished,
    /// It cannot be read, so that nothing is known of it.
    Damaged,
}

impl Known {
    /// By its manifest and its listing; `lacking`: the site's components that it has nothing for.
    pub(crate) fn of(backup: &Backup, listing: &Verification, lacking: Vec<String>) -> Self {
        let state = match (backup.generation(), listing.verdict()) {
            (Generation::Unfinished, _) | (_, Verdict::Unfinished) => State::Unfinished,
            (_, Verdict::Failed) => State::Failed,
            _ if !lacking.is_empty() && !backup.id().is_safety() => State::Partial,
            _ => State::Whole,
        };
        let error = |it: &crate::model::Finding| it.severity == Severity::Error;
        let wrong = listing.findings().into_iter().find(error);
        Self {
            id: backup.id().clone(),
            bytes: backup.summary().bytes,
            state,
            lacking,
            wrong: wrong.map(|it| it.message).unwrap_or_default(),
            idle: None,
        }
    }

    /// One that cannot be read.
    pub(crate) fn unreadable(id: BackupId, error: &Error) -> Self {
        Self {
            id,
            bytes: 0,
            state: State::Damaged,
            lacking: Vec::new(),
            wrong: error.message().to_owned(),
            idle: None,
        }
    }

    /// A restore refuses it for another reason than its listing.
    pub(crate) fn refused(&mut self, error: &Error) {
        if self.is_sound() {
            self.state = State::Failed;
            self.wrong = error.message().to_owned();
        }
    }

    /// Whether it is finished, with nothing wrong that its listing would tell.
    pub(crate) fn is_sound(&self) -> bool {
        matches!(self.state, State::Whole | State::Earlier | State::Partial)
    }

    /// Whether it counts among those that are to be kept.
    fn is_full(&self) -> bool {
        matches!(self.state, State::Whole | State::Earlier) && !self.id.is_safety()
    }

    fn was_finished(&self) -> bool {
        self.is_sound() || self.state == State::Failed
    }
}

/// Finds, among backups in their order, those that were full when they were made: that a component was added to
/// the site since makes them no less a history. `components`: how many a backup must have something for.
pub(crate) fn mark_earlier(known: &mut [Known], components: usize) {
    let mut not_yet: BTreeSet<String> = known.iter().flat_map(|it| it.lacking.clone()).collect();
    for it in known.iter_mut().filter(|it| it.was_finished()) {
        if it.state == State::Partial
            && it.lacking.len() < components
            && it.lacking.iter().all(|name| not_yet.contains(name))
        {
            it.state = State::Earlier;
        }
        not_yet.retain(|name| it.lacking.contains(name));
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
    let full: Vec<&BackupId> = known
        .iter()
        .filter(|it| it.is_full())
        .map(|it| &it.id)
        .collect();
    let last = known
        .iter()
        .rfind(|it| it.state == State::Whole && it.is_full())
        .map(|it| &it.id);
    // With fewer than are to be kept nothing is old enough.
    let oldest_kept = request
        .keep
        .map(|count| full.len().checked_sub(count).and_then(|at| full.get(at)));
    // A store of safety backups never has a full one: what nothing needs goes without.
    let only_safety = known.iter().all(|it| it.id.is_safety());
    let (periods, filled) = request.periods(&full);
    let now = jiff::Zoned::now().datetime();
    let why_kept = |it: &Known| -> Option<String> {
        if let Some(why) = needed.get(&it.id) {
            return Some(why.clone());
        }
        if last.is_none() && !(only_safety && it.idle.is_some()) {
            let newest = known
                .iter()
                .rfind(|it| it.was_finished() && !it.id.is_safety());
            return Some(match newest {
                Some(failed) if failed.state == State::Failed => format!(
                    "there is no full backup to keep instead: the newest, {}, fails verification: {}",
                    failed.id, failed.wrong
                ),
                Some(partial) => format!(
                    "there is no full backup to keep instead: the newest, {}, has nothing for {}",
                    partial.id,
                    partial.lacking.join(", ")
                ),
                None => "there is no finished backup to keep instead".to_owned(),
            });
        }
        if last == Some(&it.id) {
            return Some("the newest full one".to_owned());
        }
        if it.state == State::Damaged {
            return Some(format!("it cannot be read: {}", it.wrong));
        }
        if it.idle.is_none() {
            match oldest_kept {
                Some(None) => {
                    return Some("there are no more full ones than are to be kept".to_owned());
                }
                Some(Some(oldest)) if it.id >= **oldest => {
                    return Some("among the newest".to_owned());
                }
                _ => {}
            }
            if let Some(why) = periods.get(&it.id) {
                return Some(why.clone());
            }
            // What is no full backup goes with the full ones that it is older than.
            if let Some(oldest) = periods.keys().next().filter(|_| !it.is_full()) {
                if it.id >= *oldest {
                    return Some("newer than the oldest full one that is kept".to_owned());
                }
                if !filled {
                    return Some("there are fewer full ones yet than are to be kept".to_owned());
                }
            }
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
            None => plan.delete.push(entry(match it.state {
                State::Whole if it.id.is_safety() => match &it.idle {
                    Some(idle) => idle.clone(),
                    None => "safety backup".to_owned(),
                },
                State::Whole => "full".to_owned(),
                State::Earlier => {
                    format!("full for its time ({} came later)", it.lacking.join(", "))
                }
                State::Partial => {
                    format!("partial: nothing for {}", it.lacking.join(", "))
                }
                State::Failed => format!("fails verification: {}", it.wrong),
                State::Unfinished => "unfinished".to_owned(),
                State::Damaged => "damaged".to_owned(),
            })),
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
                lacking: match state {
                    State::Partial => vec!["redis".to_owned()],
                    _ => Vec::new(),
                },
                wrong: String::new(),
                idle: None,
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
            ("20240105-000000", State::Failed),
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

    /// Thirty runs that were undone leave thirty of them, all newer than the newest full backup.
    #[test]
    fn safety_backups_of_runs_that_came_to_nothing_go_first() {
        let mut list = known(&[
            ("20240101-000000", State::Whole),
            ("20240102-000000", State::Whole),
            ("pre-restore-20240103-000000", State::Whole),
            ("pre-restore-20240104-000000", State::Whole),
            ("pre-restore-20240105-000000", State::Whole),
        ]);
        for it in &mut list[2..4] {
            it.idle = Some("of run x, which came to nothing".to_owned());
        }
        let idle = ["pre-restore-20240103-000000", "pre-restore-20240104-000000"];
        assert_eq!(deleted(&PruneRequest::keep(5), &list, &[]), idle);
        // One that a run needs stays all the same.
        assert_eq!(
            deleted(&PruneRequest::keep(5), &list, &[idle[1]]),
            idle[..1]
        );
        let mut request = PruneRequest::keep(1);
        request.older_than = Some(Duration::from_secs(u64::from(u32::MAX)));
        assert_eq!(deleted(&request, &list, &[]), [""; 0], "not old enough");
        let plan = plan(
            &PruneRequest::keep(5),
            ("x", "x".into()),
            &list,
            &BTreeMap::new(),
        );
        assert!(plan.unwrap().delete[0].why.contains("came to nothing"));
        // Where there is nothing full nothing goes, unless there never is.
        list.remove(0);
        list[0].state = State::Failed;
        assert_eq!(deleted(&PruneRequest::keep(1), &list, &[]), [""; 0]);
        list.remove(0);
        assert_eq!(deleted(&PruneRequest::keep(1), &list, &[]), idle);
    }

    #[test]
    fn the_last_good_one_stays_however_old() {
        let list = known(&[
            ("20230101-000000", State::Whole),
            ("20240101-000000", State::Whole),
            ("20240102-000000", State::Failed),
            ("20240103-000000", State::Unfinished),
        ]);
        let old = PruneRequest::older_than(Duration::from_secs(86400));
        assert_eq!(
            deleted(&old, &list, &[]),
            ["20230101-000000", "20240102-000000", "20240103-000000"]
        );
        // None good: none is deleted.
        let none = known(&[
            ("20230101-000000", State::Failed),
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

    #[test]
    fn partial_ones_do_not_count() {
        let list = known(&[
            ("20240101-000000", State::Whole),
            ("20240102-000000", State::Partial),
            ("20240103-000000", State::Whole),
            ("20240104-000000", State::Partial),
        ]);
        let one = PruneRequest::keep(1);
        assert_eq!(
            deleted(&one, &list, &[]),
            ["20240101-000000", "20240102-000000"]
        );
        let none = known(&[
            ("20240101-000000", State::Partial),
            ("20240102-000000", State::Partial),
        ]);
        let plan = plan(&one, ("x", "x".into()), &none, &BTreeMap::new()).unwrap();
        assert!(plan.delete.is_empty());
        assert!(plan.keep[0].why.contains("has nothing for redis"));
    }

    #[test]
    fn what_was_full_before_the_site_grew_counts() {
        let of = |id: &str, state, lacking: &[&str]| Known {
            lacking: lacking.iter().map(|name| (*name).to_owned()).collect(),
            ..known(&[(id, state)]).remove(0)
        };
        let mut list = vec![
            // Nothing of this site's at all, and so of another one's.
            of(
                "20240101-000000",
                State::Partial,
                &["db", "redis", "grafana"],
            ),
            of("20240102-000000", State::Partial, &["redis", "grafana"]),
            of("20240103-000000", State::Unfinished, &[]),
            of("20240104-000000", State::Partial, &["grafana"]),
            // It had redis by then.
            of("20240105-000000", State::Partial, &["redis", "grafana"]),
            // Damaged as it is it tells that there was grafana.
            of("20240106-000000", State::Failed, &[]),
            of("20240107-000000", State::Partial, &["grafana"]),
            of("20240108-000000", State::Whole, &[]),
        ];
        mark_earlier(&mut list, 3);
        let states: Vec<State> = list.iter().map(|it| it.state).collect();
        use State::*;
        assert_eq!(
            states,
            [
                Partial, Earlier, Unfinished, Earlier, Partial, Failed, Partial, Whole
            ]
        );
        let gone = deleted(&PruneRequest::keep(2), &list, &[]);
        assert_eq!(
            gone,
            ["20240101-000000", "20240102-000000", "20240103-000000"]
        );
        assert_eq!(deleted(&PruneRequest::keep(4), &list, &[]), [""; 0]);
    }

    #[test]
    fn days_weeks_and_months_are_kept() {
        let ids: Vec<String> =
            (1..=12)
                .flat_map(|month| [1, 15, 28].map(|day| format!("2023{month:02}{day:02}-020000")))
                .chain((1..=9).flat_map(|day| {
                    ["020000", "140000"].map(|time| format!("202401{day:02}-{time}"))
                }))
                .collect();
        let mut list = known(
            &ids.iter()
                .map(|id| (id.as_str(), State::Whole))
                .collect::<Vec<_>>(),
        );
        list.insert(
            0,
            known(&[("20221201-000000", State::Unfinished)]).remove(0),
        );
        let request = PruneRequest {
            keep_daily: Some(3),
            keep_weekly: Some(2),
            keep_monthly: Some(4),
            ..PruneRequest::default()
        };
        let gone = deleted(&request, &list, &[]);
        let kept: Vec<&str> = ids
            .iter()
            .map(String::as_str)
            .filter(|id| !gone.iter().any(|it| it == id))
            .collect();
        assert_eq!(
            kept,
            [
                "20231028-020000",
                "20231128-020000",
                "20231228-020000",
                "20240107-140000",
                "20240108-140000",
                "20240109-140000"
            ]
        );
        assert!(gone.contains(&"20221201-000000".to_owned()));
    }
}
