//! Which base backups must not be deleted: without the first of them nothing of the log that is
//! still archived can be reached, and without the last there is no more recovery at all.

use std::collections::BTreeMap;

use super::Cluster;
use super::base::{Base, NoBase};
use crate::components::postgres::wal::{Archive, BaseBackupRange, Chain, SegmentName, segment_of};
use crate::contract::Backup;
use crate::model::{BackupId, Lsn, RecoveryPoint, RecoveryTarget, Result};

/// See [`Component::must_keep`](crate::component::Component::must_keep).
pub(super) async fn must_keep(
    cluster: &Cluster,
    backups: &[Backup],
) -> Result<Vec<(BackupId, String)>> {
    let mut bases: Vec<(Backup, Base)> = Vec::new();
    for backup in backups {
        match cluster.base(backup).await {
            Ok(base) => bases.push((backup.clone(), base)),
            // One that nothing can be recovered from keeps nothing.
            Err(error) if error.is(&NoBase) => {}
            // One that cannot be read just now may be the very one.
            Err(error) => return Err(error),
        }
    }
    bases.sort_by_key(|(_, base)| base.facts.stopped);
    let mut kept: BTreeMap<BackupId, String> = BTreeMap::new();
    if let Some((last, of)) = newest(cluster, &bases).await {
        kept.insert(last, format!("the newest base backup of {of}"));
    }
    // The archive is asked by the size of its segments, which one cluster never changes.
    if let Some((_, base)) = bases.last()
        && cluster.config.wal_archive.is_some()
    {
        let archive = cluster.archive(base).await?;
        for (at, (backup, base)) in bases.iter().enumerate() {
            let older = bases.iter().take(at).map(|(_, older)| older);
            if let Some(from) = alone(&archive, base, older) {
                kept.entry(backup.id().clone()).or_insert_with(|| {
                    format!(
                        "only from it can be reached what {} still has, from {from} on",
                        archive.root.display()
                    )
                });
            }
        }
    }
    Ok(kept.into_iter().collect())
}

/// The newest base backup that leads to the live timeline; where none does, or that cannot be
/// told, the newest of all.
async fn newest(cluster: &Cluster, bases: &[(Backup, Base)]) -> Option<(BackupId, String)> {
    let backups: Vec<Backup> = bases.iter().map(|(backup, _)| backup.clone()).collect();
    let latest = RecoveryTarget::new(RecoveryPoint::Latest);
    let left = cluster.timelines_left(&backups, &latest).await;
    let left = left.unwrap_or_else(|_| vec![None; backups.len()]);
    let leading = backups.iter().zip(&left).rev().find(|(_, it)| it.is_none());
    let (backup, of) = match leading {
        Some((backup, _)) => (backup, format!("the cluster {}", cluster.name)),
        None => (
            backups.last()?,
            format!(
                "the cluster {}, though of a timeline that was left behind",
                cluster.name
            ),
        ),
    };
    Some((backup.id().clone(), of))
}

/// The first segment that leads on from a base backup, where no older one leads there as well.
fn alone<'a>(
    archive: &Archive,
    base: &Base,
    mut older: impl Iterator<Item = &'a Base>,
) -> Option<String> {
    let origin = base.facts.origin();
    let size = archive.segment_size;
    let own = segment_of(Lsn(origin.stop.0.saturating_sub(1)), size);
    // On whichever of the timelines.
    let lines = || archive.timelines.ids().chain([origin.timeline]);
    let chains = lines().filter_map(|id| Chain::follow(archive, &origin, id).ok());
    let next: Option<SegmentName> = chains
        .filter_map(|chain| {
            chain
                .files
                .iter()
                .map(|(name, _)| *name)
                .find(|it| it.number > own)
        })
        .min_by_key(|name| name.number);
    let next = next?;
    let leads_here = |older: &BaseBackupRange| {
        older.stop <= origin.stop
            && Chain::follow(archive, older, origin.timeline)
                .is_ok_and(|chain| chain.last().is_some_and(|last| last >= own))
    };
    let covered = older.any(|older| leads_here(&older.facts.origin()));
    (!covered).then(|| next.file(size))
}
