//! The segments that lead on from a base backup, and where they break off.

use serde::{Deserialize, Serialize};

use super::archive::{Archive, ArchivedFile};
use super::{Lsn, SegmentName, segment_of};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;

/// Where a base backup begins and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) timeline: u32,
    pub(crate) start: Lsn,
    pub(crate) stop: Lsn,
    pub(crate) stopped: Timestamp,
}

/// Segments that an archive lacks although it has later ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hole {
    /// The first missing file.
    pub first: String,
    /// The last missing file.
    pub last: String,
    /// How many there are.
    pub segments: u64,
}

/// From when to when a base backup can be recovered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recoverable {
    /// The component that is recovered from it.
    pub component: String,
    /// The earliest time: when the base backup ended.
    pub from: Timestamp,
    /// The place in the log where it ended.
    pub from_lsn: Lsn,
    /// The last transaction that the archive has; `None`: there was none since the base backup.
    pub until: Option<Timestamp>,
    /// Where the archive's last record that can be reached ends.
    pub until_lsn: Lsn,
    /// The timeline that is followed.
    pub timeline: u32,
    /// Segments to replay up to the end.
    pub segments: u64,
    /// Where the archive is; `None`: the component names none, and only the end of the base
    /// backup can be recovered.
    pub archive: Option<String>,
    /// What the archive lacks; nothing behind the first of them can be reached.
    pub holes: Vec<Hole>,
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
    /// Follows the archive from a base backup to the timeline `wanted`; without one, to the newest
    /// that the backup is on.
    pub(crate) fn follow(archive: &Archive, origin: &Origin, wanted: Option<u32>) -> Result<Self> {
        let from = (origin.timeline, origin.stop);
        let timelines = &archive.timelines;
        let timeline = wanted.unwrap_or_else(|| timelines.newest(from));
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
                "the base backup is of timeline {}",
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
            others: timelines
                .ids()
                .filter(|id| *id != timeline && timelines.leads(from, *id))
                .collect(),
            files: Vec::new(),
            holes: Vec::new(),
        };
        chain.gather(archive, origin);
        Ok(chain)
    }

    fn gather(&mut self, archive: &Archive, origin: &Origin) {
        let size = self.segment_size;
        let way = archive.timelines.way_to(self.timeline);
        // On each timeline, the segments from where it begins to where it was left.
        let mut spans: Vec<(u32, u64, u64)> = Vec::new();
        let mut begins = 0;
        for (id, left) in way {
            let ends = left.map_or(u64::MAX, |left| segment_of(left, size));
            spans.push((id, begins, ends));
            begins = ends;
        }
        let find = |number: u64| {
            let of = |&(timeline, begins, ends): &(u32, u64, u64)| {
                let name = SegmentName { timeline, number };
                let file = archive.segments.get(&name)?;
                (begins..=ends).contains(&number).then_some((name, file))
            };
            // The newest timeline's first: a segment in which it branched off is on both.
            spans.iter().rev().find_map(of)
        };
        let last = archive
            .segments
            .keys()
            .filter(|name| {
                spans.iter().any(|(id, begins, ends)| {
                    *id == name.timeline && (*begins..=*ends).contains(&name.number)
                })
            })
            .map(|name| name.number)
            .max();
        let first = segment_of(origin.start, size);
        // A base backup brings the log of the time that it took.
        let own = segment_of(Lsn(origin.stop.0.saturating_sub(1)), size);
        let mut missing: Option<(u64, u64)> = None;
        for number in first..=last.unwrap_or(0) {
            match find(number) {
                Some((name, file)) => {
                    self.close(&mut missing);
                    // A part is the end of all.
                    if self.holes.is_empty() {
                        self.files.push((name, file.clone()));
                    }
                }
                None if number <= own => {}
                None => {
                    let from = missing.map_or(number, |(from, _)| from);
                    missing = Some((from, number));
                }
            }
        }
    }

    fn close(&mut self, missing: &mut Option<(u64, u64)>) {
        let Some((first, last)) = missing.take() else {
            return;
        };
        let name = |number| {
            SegmentName {
                timeline: self.timeline,
                number,
            }
            .file(self.segment_size)
        };
        let hole = Hole {
            first: name(first),
            last: name(last),
            segments: last - first + 1,
        };
        self.holes.push(hole);
    }

    /// Bytes of log that the files hold, uncompressed.
    pub(crate) fn bytes(&self) -> u64 {
        let count = u64::try_from(self.files.len()).unwrap_or(u64::MAX);
        count.saturating_mul(self.segment_size)
    }
}
