//! The records of segments, as far as recovery targets speak of them.

use std::io::Read;
use std::ops::ControlFlow;

use super::Lsn;
use crate::time::Timestamp;

/// A record that recovery can stop at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Where the record ends.
    pub(crate) end: Lsn,
    pub(crate) what: What,
    pub(crate) time: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A transaction ended, committed or not.
    End { xid: u32 },
    /// `pg_create_restore_point`.
    Point { name: String },
}

/// How far the records of a segment go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// Where the last whole record ends; `None`: there was none.
    pub(crate) end: Option<Lsn>,
    /// The log goes on behind the segment: it is filled, or was closed before it was.
    pub(crate) whole: bool,
}

const HEADER: usize = 24;
/// As much of a record as is looked at.
const KEPT: usize = 256;
/// The page size of every build that there is; a long header says if it is another one.
const PAGE: usize = 8192;

/// Reads segments one after the other; records may begin in one and end in the next.
pub(crate) struct Scanner<'a> {
    segment_size: u64,
    report: &'a mut (dyn FnMut(&Mark) -> ControlFlow<()> + Send),
    /// The record that has begun: its first bytes, and how many are still to come.
    begun: Option<(Vec<u8>, usize)>,
    last: Option<Lsn>,
    stopped: bool,
}

impl<'a> Scanner<'a> {
    /// Each mark is given to `report`, which may end the reading.
    pub(crate) fn new(
        segment_size: u64,
        report: &'a mut (dyn FnMut(&Mark) -> ControlFlow<()> + Send),
    ) -> Self {
        Self {
            segment_size,
            report,
            begun: None,
            last: None,
            stopped: false,
        }
    }

    /// Whether `report` has ended the reading.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Reads the segment of this number. One that ends early, as a partial one does, is read as
    /// far as it goes.
    pub(crate) fn segment(
        &mut self,
        number: u64,
        reader: &mut dyn Read,
    ) -> std::io::Result<Scanned> {
        let start = number.saturating_mul(self.segment_size);
        let mut scanned = Scanned::default();
        let mut page = vec![0; PAGE];
        let mut at = 0;
        while at < self.segment_size && !self.stopped {
            if !filled(reader, &mut page)? {
                return Ok(scanned);
            }
            match self.page(&page, start.saturating_add(at)) {
                Page::Records => scanned.end = self.last.or(scanned.end),
                Page::Closed => {
                    scanned.end = self.last.or(scanned.end);
                    scanned.whole = true;
                    return Ok(scanned);
                }
                Page::Foreign => {
                    scanned.end = self.last.or(scanned.end);
                    return Ok(scanned);
                }
            }
            at += PAGE as u64;
        }
        scanned.whole = true;
        Ok(scanned)
    }

    fn page(&mut self, page: &[u8], address: u64) -> Page {
        let (Some(info), Some(written), Some(rest)) =
            (u16_at(page, 2), u64_at(page, 8), u32_at(page, 16))
        else {
            return Page::Foreign;
        };
        // What an earlier life of the file has left.
        if written != address {
            return Page::Foreign;
        }
        let mut at = if info & 2 == 0 { HEADER } else { 40 };
        let rest = usize::try_from(rest).unwrap_or(usize::MAX);
        if info & 1 == 0 {
            self.begun = None;
        } else {
            let here = rest.min(page.len().saturating_sub(at));
            let bytes = page.get(at..at + here).unwrap_or_default();
            if let Some((mut kept, missing)) = self.begun.take() {
                keep(&mut kept, bytes);
                let missing = missing.saturating_sub(here);
                if missing == 0 {
                    self.record(&kept, address + to_u64(at + here));
                } else {
                    self.begun = Some((kept, missing));
                }
            }
            at += here;
            if rest > here {
                return Page::Records;
            }
        }
        while !self.stopped {
            at = at.next_multiple_of(8);
            let Some(length) = u32_at(page, at) else {
                return Page::Records;
            };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length == 0 {
                return Page::Closed;
            }
            if length < HEADER {
                return Page::Foreign;
            }
            let here = length.min(page.len() - at);
            let mut kept = Vec::new();
            keep(&mut kept, page.get(at..at + here).unwrap_or_default());
            if here == length {
                self.record(&kept, address + to_u64(at + length));
            } else {
                self.begun = Some((kept, length - here));
                return Page::Records;
            }
            at += length;
        }
        Page::Records
    }

    fn record(&mut self, kept: &[u8], end: u64) {
        let end = Lsn(end.next_multiple_of(8));
        self.last = Some(end);
        if let Some((what, time)) = mark(kept)
            && (self.report)(&Mark { end, what, time }).is_break()
        {
            self.stopped = true;
        }
    }
}

enum Page {
    /// Records fill it to its end.
    Records,
    /// The segment was closed here.
    Closed,
    /// It is not of this log.
    Foreign,
}

/// Transactions are resource manager 1, the log itself is 0.
fn mark(record: &[u8]) -> Option<(What, Timestamp)> {
    let (xid, info, manager) = (u32_at(record, 4)?, record.get(16)?, record.get(17)?);
    match (manager, info & 0xf0) {
        // The uppermost bit says that more follows; commit, abort, and both of prepared ones.
        (1, info) if matches!(info & 0x70, 0x00 | 0x20 | 0x30 | 0x40) => {
            let time = moment(main_data(record)?)?;
            Some((What::End { xid }, time))
        }
        (0, 0x70) => {
            let data = main_data(record)?;
            let name = data.get(8..)?;
            let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
            let name = String::from_utf8_lossy(name.get(..end)?).into_owned();
            Some((What::Point { name }, moment(data)?))
        }
        _ => None,
    }
}

/// The record's own data, behind the headers of its parts.
fn main_data(record: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER;
    loop {
        at += match record.get(at)? {
            255 => return record.get(at + 2..),
            254 => return record.get(at + 5..),
            253 => 3,
            252 => 5,
            // It speaks of blocks: none of the records that we look for does.
            _ => return None,
        };
    }
}

/// Microseconds since the year 2000.
fn moment(data: &[u8]) -> Option<Timestamp> {
    let micros = i64::from_le_bytes(data.get(..8)?.try_into().ok()?);
    Timestamp::of_postgres(micros)
}

fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = KEPT.saturating_sub(kept.len()).min(bytes.len());
    kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Fills the page; `false` at the end.
fn filled(reader: &mut dyn Read, page: &mut [u8]) -> std::io::Result<bool> {
    match reader.read_exact(page) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}
