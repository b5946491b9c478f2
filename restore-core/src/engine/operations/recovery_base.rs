//! Which backup a recovery begins from.

use super::*;
use crate::contract::Recovery;
use crate::contract::backup::DESCRIPTION;
use crate::model::{Recoverable, RecoveryPoint, RecoveryTarget};

impl Site {
    /// From when to when each cluster of the site can be recovered from a backup; empty where it
    /// holds no base backup. Where that cannot be told, the findings say why.
    pub async fn recoverable(&self, backup: &Backup) -> (Vec<Recoverable>, Vec<Finding>) {
        let (mut ranges, mut findings) = (Vec::new(), Vec::new());
        for component in &self.components {
            if component.recovery() != Recovery::Cluster {
                continue;
            }
            match component.recoverable(backup).await {
                Ok(range) => ranges.extend(range),
                Err(error) => findings.push(Finding::from_error(component.name(), &error)),
            }
        }
        (ranges, findings)
    }

    /// All backups on this host that hold a base backup, and when each of these ended; oldest
    /// first.
    pub(crate) async fn base_backups(&self) -> Result<Vec<(Backup, Timestamp)>> {
        let mut found: Vec<(Backup, Timestamp)> = Vec::new();
        for (_, store) in self
            .stores
            .iter()
            .filter(|(_, store)| store.directory().is_some())
        {
            for id in store.list().await? {
                // One that cannot be opened is no candidate.
                let Ok(backup) = Backup::open(store.clone(), id).await else {
                    continue;
                };
                for component in &self.components {
                    if component.recovery() != Recovery::Cluster
                        || component.artifacts(&backup).is_empty()
                        || backup.generation() != crate::contract::Generation::A
                    {
                        continue;
                    }
                    let mut files = component.artifacts(&backup);
                    files.push(DESCRIPTION.to_owned());
                    // One that a plan refuses leads nowhere.
                    let Ok(listing) = backup.verify_listing().await else {
                        continue;
                    };
                    if files.iter().any(|path| listing.is_wrong(path)) {
                        continue;
                    }
                    if let Ok(Some(ended)) = component.base_ended(&backup).await {
                        found.push((backup.clone(), ended));
                    }
                }
            }
        }
        found.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.id().cmp(b.0.id())));
        Ok(found)
    }

    /// Of backups with a base backup, the timeline of each that was left behind by the one that
    /// leads to the target; `None` for the others, and for all where that cannot be told: then the
    /// plan says so.
    pub(crate) async fn left_behind(
        &self,
        backups: &[Backup],
        target: &RecoveryTarget,
    ) -> Vec<Option<u32>> {
        let mut left = vec![None; backups.len()];
        for component in &self.components {
            if component.recovery() != Recovery::Cluster {
                continue;
            }
            let (at, having): (Vec<usize>, Vec<Backup>) = backups
                .iter()
                .enumerate()
                .filter(|(_, backup)| !component.artifacts(backup).is_empty())
                .map(|(at, backup)| (at, backup.clone()))
                .unzip();
            let Ok(of) = component.left_behind(&having, target).await else {
                continue;
            };
            for (at, timeline) in at.into_iter().zip(of) {
                if let Some(left) = left.get_mut(at) {
                    *left = left.or(timeline);
                }
            }
        }
        left
    }

    /// The backup to restore: `id`; for `latest` with a recovery target, the newest on this host
    /// whose base backup ended before the target and is of the timeline that leads to it.
    ///
    /// # Errors
    ///
    /// `NotFound` where there is none, with the earliest moment that can be reached as the hint.
    pub async fn backup_for(&self, id: &str, request: &PlanRequest) -> Result<Backup> {
        let Some(target) = request.target.as_ref().filter(|_| id == "latest") else {
            return self.backup(id).await;
        };
        let bases = self.base_backups().await?;
        let backups: Vec<Backup> = bases.iter().map(|(backup, _)| backup.clone()).collect();
        let left = self.left_behind(&backups, target).await;
        let mut leading = bases.iter().zip(&left).filter(|(_, left)| left.is_none());
        let earliest = leading.next().map(|((_, ended), _)| *ended);
        let mut passed_over = Vec::new();
        for ((backup, ended), left) in bases.into_iter().zip(left).rev() {
            let before = match &target.point {
                RecoveryPoint::Time(time) => ended <= *time,
                RecoveryPoint::Latest => true,
                // Only the log knows on which side of it they are.
                _ => left.is_some() || self.holds(&backup, target).await,
            };
            match left {
                None if before => return self.backup(backup.id().as_str()).await,
                Some(timeline) if before => passed_over.push((backup.id().clone(), timeline)),
                _ => {}
            }
        }
        if let Some((_, newest)) = passed_over.first() {
            let names: Vec<String> = passed_over
                .iter()
                .map(|(id, timeline)| format!("{id} (timeline {timeline})"))
                .collect();
            let which = match target.timeline {
                Some(timeline) => format!("timeline {timeline}"),
                None => "the live cluster's timeline".to_owned(),
            };
            return Err(Error::new(
                ErrorKind::NotFound,
                "target.no_base",
                format!(
                    "no base backup on this host ended before {target} and leads to {which}; these are of others, which a recovery or a rollback left behind: {}",
                    names.join(", ")
                ),
            )
            .hint(match earliest {
                Some(ended) => format!(
                    "the earliest time that can be reached is {}; --timeline {newest} brings back what was left behind",
                    ended.precise()
                ),
                None => format!("`restore backup --base` makes one that every later moment can be reached from; --timeline {newest} brings back what was left behind"),
            }));
        }
        Err(Error::new(
            ErrorKind::NotFound,
            "target.no_base",
            match earliest {
                None => format!(
                    "no backup on this host has a base backup: nothing can be recovered to {target}"
                ),
                Some(_) => {
                    format!("no base backup on this host ended before {target} and leads to it")
                }
            },
        )
        .hint(match earliest {
            None => {
                "`restore backup --base` makes one; from then on every later moment can be reached"
                    .to_owned()
            }
            Some(ended) => format!(
                "the earliest time that can be reached is {}",
                ended.precise()
            ),
        }))
    }

    /// Whether the log that leads on from a backup has the target in it.
    async fn holds(&self, backup: &Backup, target: &RecoveryTarget) -> bool {
        for component in &self.components {
            if component.recovery() == Recovery::Cluster
                && component.reaches(backup, target).await.is_ok_and(|it| it)
            {
                return true;
            }
        }
        false
    }
}
