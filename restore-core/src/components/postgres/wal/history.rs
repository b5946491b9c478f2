//! Timelines: each recovery begins a new one, and a small file says where it left the old one.

use std::collections::BTreeMap;

use crate::model::Lsn;

/// The ancestors of a timeline, oldest first, each with the place where it was left.
pub(crate) type Ancestors = Vec<(u32, Lsn)>;

/// The timelines that an archive has files of, by their histories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timelines(BTreeMap<u32, Ancestors>);

/// Reads a `.history` file; `None` where it is none, or is not whole: one that was cut while it was
/// copied would name another place.
pub(crate) fn parse(text: &str) -> Option<Ancestors> {
    let lines = text.strip_suffix('\n')?.lines().map(str::trim);
    let ancestors: Ancestors = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        })
        .collect::<Option<_>>()?;
    (!ancestors.is_empty()).then_some(ancestors)
}

impl Timelines {
    pub(crate) fn add(&mut self, timeline: u32, ancestors: Ancestors) {
        self.0.insert(timeline, ancestors);
    }

    /// The ancestors of a timeline that has a history.
    pub(crate) fn of(&self, timeline: u32) -> Option<&Ancestors> {
        self.0.get(&timeline)
    }

    /// The history of a timeline, as a server reads it.
    pub(crate) fn text(&self, timeline: u32) -> String {
        let line = |(id, left): &(u32, Lsn)| format!("{id}\t{left}\tas known\n");
        self.of(timeline).into_iter().flatten().map(line).collect()
    }

    /// The ids of those that have a history.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }

    /// The timelines on the way to `last`, oldest first, each with the place where the next one
    /// begins; the last one has no such place. A timeline without a history has no ancestors.
    pub(crate) fn way_to(&self, last: u32) -> Vec<(u32, Option<Lsn>)> {
        let ancestors = self.0.get(&last).into_iter().flatten();
        let mut way: Vec<(u32, Option<Lsn>)> =
            ancestors.map(|(id, left)| (*id, Some(*left))).collect();
        way.push((last, None));
        way
    }

    /// Whether a backup of `timeline` that ended at `end` can be followed to `last`.
    pub(crate) fn leads(&self, (timeline, end): (u32, Lsn), last: u32) -> bool {
        self.way_to(last)
            .iter()
            .any(|(id, left)| *id == timeline && left.is_none_or(|left| end <= left))
    }

    /// The newest timeline that a backup can be followed to.
    pub(crate) fn newest(&self, from: (u32, Lsn)) -> u32 {
        self.ids()
            .filter(|id| self.leads(from, *id))
            .max()
            .unwrap_or(from.0)
            .max(from.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_followed_over_the_branches_that_it_is_on() {
        let two = "# c\n1\t0/5000000\tbefore 2024-02-15 10:00:00.1+00\n\n";
        let three = "1\t0/5000000\tx\n2\t0/7000000\tno recovery target specified\n";
        let four = "1\t0/3000000\ty\n";
        let mut timelines = Timelines::default();
        for (id, text) in [(2, two), (3, three), (4, four)] {
            timelines.add(id, parse(text).unwrap());
        }
        assert_eq!(timelines.newest((1, Lsn(0x200_0000))), 4);
        assert_eq!(timelines.newest((1, Lsn(0x400_0000))), 3);
        assert_eq!(timelines.newest((1, Lsn(0x600_0000))), 1);
        assert_eq!(timelines.newest((2, Lsn(0x600_0000))), 3);
        assert!(!timelines.leads((2, Lsn(0x600_0000)), 4));
        assert_eq!(
            timelines.way_to(3),
            [
                (1, Some(Lsn(0x500_0000))),
                (2, Some(Lsn(0x700_0000))),
                (3, None)
            ]
        );
        assert_eq!(parse(&timelines.text(3)).as_ref(), timelines.of(3));
        assert_eq!(parse("no history\n"), None);
        // A copy that has only begun.
        assert_eq!(parse(""), None);
        assert_eq!(parse("1\t0/50"), None);
    }
}
