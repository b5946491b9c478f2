//! The segments that lead on from a base backup, and where they break off.

use super::archive::{Archive, ArchivedFile};
use super::{SegmentName, segment_of};
use crate::model::{Error, ErrorKind, Hole, Lsn, Result, Timestamp};

/// Where a base backup begins and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseBackupRange {
    pub(crate) timeline: u32,
    pub(crate) start: Lsn,
    pub(crate) stop: Lsn,
    pub(crate) stopped: Timestamp,
}

/// What leads on from a base backup, without a gap.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) segment_size: u64,
    /// The timeline that is followed.
    pub(crate) timeline: u32,
    /// Other timelines that could have been.
    pub(crate) others: Vec<u32>,
    pub(crate) files: Vec<(SegmentName, ArchivedFile)>,
    pub(crate) holes: Vec<Hole>,
}

impl Chain {
    /// Follows the archive from a base backup to the timeline `timeline`.
    pub(crate) fn follow(
        archive: &Archive,
        origin: &BaseBackupRange,
        timeline: u32,
    ) -> Result<Self> {
        let from = (origin.timeline, origin.stop);
        let timelines = &archive.timelines;
        let leads = timelines.leads(from, timeline);
        let known = timeline == origin.timeline || timelines.ids().any(|id| id == timeline);
        if !known {
            return Err(Error::new(
                ErrorKind::Preflight,
                "wal.no_timeline",
                format!(
                    "the WAL archive {} has no timeline {timeline}",
                    archive.root.display()
                ),
            )
            .hint(format!(
                "the base backup is of timeline {}; {timeline:08X}.history, which the server of that timeline archives and has in pg_wal, would tell where it began",
                origin.timeline
            )));
        }
        if !leads {
            return Err(Error::new(
                ErrorKind::Preflight,
                "wal.timeline_unfit",
                format!(
                    "timeline {timeline} does not lead on from the base backup, which ended at {} of timeline {}",
                    origin.stop, origin.timeline
                ),
            )
            .hint("choose a base backup made before that timeline branched off, or another timeline"));
        }
        let mut chain = Self {
            segment_size: archive.segment_size,
            timeline,
            others: std::iter::once(origin.timeline)
                .chain(timelines.ids().filter(|id| *id != origin.timeline))
                .filter(|id| *id != timeline && timelines.leads(from, *id))
                .collect(),
            files: Vec::new(),
            holes: Vec::new(),
        };
        chain.gather(archive, origin);
        Ok(chain)
    }

    fn gather(&mut self, archive: &Archive, origin: &BaseBackupRange) {
        let size = self.segment_size;
        let way = archive.timelines.way_to(self.timeline);
        // Each timeline from the segment that it begins in: the segment in which it branched off
        // is on both, and what the older one's has behind the branch is abandoned history.
        let mut begin: Vec<(u64, u32)> = Vec::new();
        let mut begins = 0;
        for (id, left) in way {
            begin.push((begins, id));
            begins = left.map_or(u64::MAX, |left| segment_of(left, size));
        }
        let name = |number: u64| {
            let of = begin.iter().rev().find(|(begins, _)| *begins <= number);
            let timeline = of.map_or(self.timeline, |(_, id)| *id);
            SegmentName { timeline, number }
        };
        let archived = archive.segments.keys().rev();
        let last = archived.copied().find(|it| *it == name(it.number));
        // What it begins with is not at the archive's end where it is missing: without it even
        // the end of the timeline before cannot be reached.
        let branch = begin.last().map_or(0, |(begins, _)| *begins);
        let last = last.map_or(0, |it| it.number).max(branch);
        let first = segment_of(origin.start, size);
        // A base backup brings the log of the time that it took.
        let own = segment_of(Lsn(origin.stop.0.saturating_sub(1)), size);
        let mut holes: Vec<(SegmentName, SegmentName)> = Vec::new();
        let mut open = false;
        for name in (first..=last).map(name) {
            match archive.segments.get(&name) {
                Some(file) => {
                    open = false;
                    // A part is the end of all.
                    if holes.is_empty() {
                        self.files.push((name, file.clone()));
                    }
                }
                None if name.number <= own && name.timeline == origin.timeline => {}
                None => match holes.last_mut().filter(|_| open) {
                    Some(hole) => hole.1 = name,
                    None => {
                        holes.push((name, name));
                        open = true;
                    }
                },
            }
        }
        self.holes = holes
            .into_iter()
            .map(|(first, last)| Hole {
                first: first.file(size),
                last: last.file(size),
                segments: last.number - first.number + 1,
            })
            .collect();
    }

    /// The number of the last segment that can be reached.
    pub(crate) fn last(&self) -> Option<u64> {
        self.files.last().map(|(name, _)| name.number)
    }

    /// Bytes of log that the files hold, uncompressed.
    pub(crate) fn bytes(&self) -> u64 {
        let count = u64::try_from(self.files.len()).unwrap_or(u64::MAX);
        count.saturating_mul(self.segment_size)
    }
}
