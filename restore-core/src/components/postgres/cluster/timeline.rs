//! Which timeline a recovery follows.
//!
//! Each recovery, and each one that is rolled back, leaves history behind that the live cluster
//! does not come from. It stays in the archive and in base backups, and is followed only where
//! somebody says so.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::client::column;
use super::Cluster;
use super::base::Base;
use super::control::Control;
use super::programs::Programs;
use crate::components::postgres::wal::{Ancestors, Archive, BaseBackupRange, parse_history};
use crate::contract::Backup;
use crate::model::{Error, ErrorKind, Finding, RecoveryTarget, Result};
use crate::sys::{open_to_read_below, read_small_from};

/// The reason of an error: what the live timeline says against a recovery along it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LiveTimeline {
    /// It does not lead on from a base backup.
    Abandoned,
    Unknown,
}

/// The timeline that the live cluster is on.
enum Live {
    /// As the server says.
    Asked(u32),
    /// The server cannot be asked: as its files say.
    Files(u32),
    /// Neither can be read.
    Unknown(Error),
}

/// The timeline to follow, and what a person should know of how it was found.
pub(super) struct Followed {
    pub(super) timeline: u32,
    pub(super) noted: Option<Finding>,
}

impl Cluster {
    /// The timeline to follow: the one asked for, else the one that the live server is on.
    ///
    /// # Errors
    ///
    /// Where the live timeline does not lead on from the base backup, and where it cannot be told
    /// and there are several.
    pub(super) async fn follows(
        &self,
        base: &Base,
        archive: &mut Archive,
        wanted: Option<u32>,
    ) -> Result<Followed> {
        if let Some(timeline) = wanted {
            // Its history may not be archived yet.
            self.adopt(archive, timeline).await?;
            return Ok(Followed {
                timeline,
                noted: None,
            });
        }
        let live = self.live_timeline(base.facts.major).await;
        let origin = base.facts.origin();
        let (timeline, noted) = match live {
            Live::Asked(live) => (live, None),
            Live::Files(live) => (
                live,
                Some(Finding::info(
                    "cluster.timeline_of_files",
                    &self.name,
                    format!(
                        "the live server cannot be asked for its timeline: its files say that it is on {live}, which is followed"
                    ),
                )),
            ),
            Live::Unknown(why) => {
                let only = only_timeline(archive, &origin).ok_or_else(|| unknown(archive, &why))?;
                let noted = Finding::warning(
                    "cluster.timeline_assumed",
                    &self.name,
                    format!(
                        "which timeline the live cluster is on cannot be told ({why}): {only} is followed, the only one that the archive has"
                    ),
                );
                (only, Some(noted))
            }
        };
        self.adopt(archive, timeline).await?;
        if is_left_behind(archive, &origin, timeline) {
            return Err(abandoned(&origin, timeline));
        }
        Ok(Followed { timeline, noted })
    }

    /// Of backups with a base backup, the timeline of each from which the one that would be
    /// followed does not lead on.
    pub(super) async fn timelines_left(
        &self,
        backups: &[Backup],
        target: &RecoveryTarget,
    ) -> Result<Vec<Option<u32>>> {
        let mut origins = Vec::new();
        let mut last: Option<Base> = None;
        for backup in backups {
            let base = self.base(backup).await?;
            origins.push(base.facts.origin());
            last = Some(base);
        }
        let Some(base) = last else {
            return Ok(Vec::new());
        };
        let mut archive = self.archive(&base).await?;
        let timeline = match target.timeline {
            Some(timeline) => timeline,
            None => match self.live_timeline(base.facts.major).await {
                Live::Asked(live) | Live::Files(live) => live,
                Live::Unknown(why) => return Err(unknown(&archive, &why)),
            },
        };
        self.adopt(&mut archive, timeline).await?;
        Ok(origins
            .iter()
            .map(|origin| is_left_behind(&archive, origin, timeline).then_some(origin.timeline))
            .collect())
    }

    async fn live_timeline(&self, major: u32) -> Live {
        match self.asked().await {
            Ok(live) => Live::Asked(live),
            Err(asked) => match self.of_files(major).await {
                Ok(live) => Live::Files(live),
                Err(files) => Live::Unknown(files.context(asked.message().to_owned())),
            },
        }
    }

    async fn asked(&self) -> Result<u32> {
        let session = self.session().await?;
        // A standby writes on no timeline, and is on the one that it replays.
        let row = session
            .one(
                "SELECT CASE WHEN pg_is_in_recovery() THEN \
                   (SELECT greatest(c.timeline_id, r.min_recovery_end_timeline)::int8 \
                      FROM pg_control_checkpoint() c, pg_control_recovery() r) \
                 ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int8 \
                 END",
                &[],
            )
            .await?;
        let timeline: i64 = column(&row, 0)?;
        session.close().await;
        Ok(u32::try_from(timeline).unwrap_or(0))
    }

    /// What the live data directory says: its last checkpoint, or the history of a timeline that
    /// it began after that.
    async fn of_files(&self, major: u32) -> Result<u32> {
        let programs = Programs::find(self, major).await?;
        let dir = self.data_dir(self.volume().await?.as_ref())?;
        let seen = self.seen(&dir).await?;
        let control = Control::read(&programs, &seen).await?;
        let last = control.timeline().ok_or_else(|| {
            Error::new(
                ErrorKind::Failed,
                "cluster.no_control",
                format!("pg_controldata tells no timeline of {}", dir.display()),
            )
        })?;
        let newer = histories(&dir)
            .filter(|(_, ancestors)| ancestors.iter().any(|(it, _)| *it == last))
            .map(|(id, _)| id);
        Ok(newer.max().unwrap_or(last).max(last))
    }

    /// The live server knows the history of its own timeline before the archive does.
    async fn adopt(&self, archive: &mut Archive, timeline: u32) -> Result<()> {
        // Where its files are not here, or gone with all of the volume, the archive is all there is.
        let volume = self.volume().await;
        let Ok(dir) = volume.and_then(|volume| self.data_dir(volume.as_ref())) else {
            return Ok(());
        };
        for (id, own) in histories(&dir) {
            match archive.timelines.of(id) {
                None => archive.timelines.add(id, own),
                Some(archived) if id != timeline || *archived == own => {}
                Some(_) => {
                    return Err(Error::new(
                        ErrorKind::Preflight,
                        "wal.timeline_clash",
                        format!(
                            "timeline {id} of the WAL archive {} is another one than the live server's of that number",
                            archive.root.display()
                        ),
                    )
                    .hint("two servers archive to the same place, or the archive is of another cluster: name the live server's own with wal_archive"));
                }
            }
        }
        Ok(())
    }
}

/// No history is longer: a line for each time that the cluster was recovered.
const HISTORY: u64 = 1 << 20;

/// The histories of timelines in a data directory.
fn histories(dir: &Path) -> impl Iterator<Item = (u32, Ancestors)> {
    let folder = dir.join("pg_wal");
    let entries = std::fs::read_dir(&folder);
    let entries = entries.into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let name = entry.file_name().into_string().ok()?;
        let id = u32::from_str_radix(name.strip_suffix(".history")?, 16).ok()?;
        // The server's user may have put anything there. Its log may be a link to another disk.
        let file = open_to_read_below(&folder, &entry.path()).ok()?;
        let text = read_small_from(file, HISTORY).ok()?;
        let text = String::from_utf8(text).ok()?;
        Some((id, parse_history(&text)?))
    })
}

/// Whether the timeline does not come from a base backup. Of one whose history nobody has that is
/// not known, and said when it is to be followed.
fn is_left_behind(archive: &Archive, origin: &BaseBackupRange, timeline: u32) -> bool {
    let from = (origin.timeline, origin.stop);
    let known = timeline < origin.timeline || archive.timelines.of(timeline).is_some();
    known && !archive.timelines.leads(from, timeline)
}

/// The timelines that an archive knows of.
fn known(archive: &Archive) -> BTreeSet<u32> {
    let segments = archive.segments.keys().map(|name| name.timeline);
    segments.chain(archive.timelines.ids()).collect()
}

/// The base backup's timeline, where there is nothing to choose from.
fn only_timeline(archive: &Archive, origin: &BaseBackupRange) -> Option<u32> {
    let known = known(archive);
    known
        .iter()
        .all(|id| *id == origin.timeline)
        .then_some(origin.timeline)
}

fn unknown(archive: &Archive, why: &Error) -> Error {
    let known: Vec<String> = known(archive).iter().map(ToString::to_string).collect();
    Error::new(
        ErrorKind::Preflight,
        "cluster.timeline_unknown",
        format!("which timeline the live cluster is on cannot be told: {why}"),
    )
    .because(LiveTimeline::Unknown)
    .hint(format!(
        "--timeline N says which one to follow; the archive has {}. One that a recovery or a rollback left behind holds what nobody wants back",
        known.join(", ")
    ))
}

fn abandoned(origin: &BaseBackupRange, live: u32) -> Error {
    let of = origin.timeline;
    Error::new(
        ErrorKind::Preflight,
        "cluster.abandoned",
        format!(
            "the base backup ended at {} of timeline {of}, which the live cluster, on timeline {live}, does not come from: a recovery or a rollback left it behind",
            origin.stop
        ),
    )
    .because(LiveTimeline::Abandoned)
    .hint(format!(
        "`restore run latest --to TIME` chooses a base backup of the live cluster's own past; --timeline {of} brings back what was left behind"
    ))
}
