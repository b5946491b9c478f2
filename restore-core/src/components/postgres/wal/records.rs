//! The records of segments, as far as recovery targets speak of them.

use std::io::Read;
use std::ops::ControlFlow;

use crate::model::{Lsn, Timestamp};

/// A record that recovery can stop at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Where the record ends.
    pub(crate) end: Lsn,
    pub(crate) what: MarkKind,
    pub(crate) time: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MarkKind {
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
/// As much of one that ends a prepared transaction: behind all that it tells besides, lists of
/// subtransactions and files, stands whose end it is.
const KEPT_OF_PREPARED: usize = 4 << 20;
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
fn mark(record: &[u8]) -> Option<(MarkKind, Timestamp)> {
    let (xid, info, manager) = (u32_at(record, 4)?, record.get(16)?, record.get(17)?);
    match (manager, info & 0xf0) {
        // The uppermost bit says that more follows; commit, abort, and both of prepared ones.
        (1, info) if matches!(info & 0x70, 0x00 | 0x20 | 0x30 | 0x40) => {
            let data = main_data(record)?;
            let prepared = matches!(info & 0x70, 0x30 | 0x40);
            // The record of a prepared one is written by another transaction, or by none.
            let xid = prepared
                .then(|| prepared_xid(data, info))
                .flatten()
                .unwrap_or(xid);
            Some((MarkKind::End { xid }, moment(data)?))
        }
        (0, 0x70) => {
            let data = main_data(record)?;
            let name = data.get(8..)?;
            let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
            let name = String::from_utf8_lossy(name.get(..end)?).into_owned();
            Some((MarkKind::Point { name }, moment(data)?))
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

/// Whose end a record of a prepared transaction tells. `info` is that of the record.
fn prepared_xid(data: &[u8], info: u8) -> Option<u32> {
    const HAS_INFO: u8 = 0x80;
    const TWO_PHASE: u32 = 1 << 4;
    if info & HAS_INFO == 0 {
        return None;
    }
    let told = u32_at(data, 8)?;
    let mut at = 12;
    // The database and its tablespace.
    if told & 1 != 0 {
        at += 8;
    }
    // Lists, each behind how many it has: subtransactions, files, statistics of what was dropped,
    // invalidations (of commits only).
    for (flag, size) in [(1 << 1, 4), (1 << 2, 12), (1 << 8, 12), (1 << 3, 16)] {
        if told & flag != 0 {
            let count = usize::try_from(u32_at(data, at)?).ok()?;
            at = count.checked_mul(size)?.checked_add(at + 4)?;
        }
    }
    (told & TWO_PHASE != 0).then(|| u32_at(data, at)).flatten()
}

/// Microseconds since the year 2000.
fn moment(data: &[u8]) -> Option<Timestamp> {
    let micros = i64::from_le_bytes(data.get(..8)?.try_into().ok()?);
    Timestamp::of_postgres(micros)
}

/// Takes more of a record that has begun with `kept`, as far as it is looked at.
fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let taken = fill_up(kept, bytes, KEPT);
    let ends_prepared = kept.get(17) == Some(&1)
        && kept
            .get(16)
            .is_some_and(|info| matches!(info & 0x70, 0x30 | 0x40));
    if ends_prepared {
        fill_up(
            kept,
            bytes.get(taken..).unwrap_or_default(),
            KEPT_OF_PREPARED,
        );
    }
}

fn fill_up(kept: &mut Vec<u8>, bytes: &[u8], limit: usize) -> usize {
    let room = limit.saturating_sub(kept.len()).min(bytes.len());
    kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
    room
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

/// Fills the page; `false` at the end. That a packed segment was cut is an error: it is no end.
fn filled(reader: &mut dyn Read, page: &mut [u8]) -> std::io::Result<bool> {
    let mut rest = page;
    while !rest.is_empty() {
        match reader.read(rest) {
            Ok(0) => return Ok(false),
            Ok(read) => rest = rest.get_mut(read..).unwrap_or_default(),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

/// For `fuzz/`: foreign bytes, in pieces and whole.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let mut marks = 0_u32;
    let mut report = |_: &Mark| {
        marks = marks.saturating_add(1);
        ControlFlow::Continue(())
    };
    let mut scanner = Scanner::new(1 << 20, &mut report);
    for (number, segment) in bytes.chunks(PAGE * 4).enumerate() {
        let mut segment = segment;
        let _ = scanner.segment(to_u64(number), &mut segment);
    }
    let text = String::from_utf8_lossy(bytes);
    let _ = super::parse_history(&text);
    for line in text.lines() {
        let name = super::SegmentName::parse(line, 1 << 24);
        if let Some(name) = name {
            let _ = name.file(1 << 24);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prepared_transaction_is_its_own() {
        let words = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        // Its time, then what it tells, in this order: the database, two subtransactions, a file,
        // the statistics of one thing, an invalidation, and whose end it is.
        let mut data = 7_i64.to_le_bytes().to_vec();
        data.extend(words(&[0b1_0001_1111, 5, 1663, 2, 801, 802]));
        data.extend(words(&[1, 1663, 5, 16384, 1, 1, 5, 16384]));
        data.extend(words(&[1, 1, 2, 3, 4, 800]));
        assert_eq!(prepared_xid(&data, 0xb0), Some(800));
        assert_eq!(prepared_xid(&data, 0x30), None);
        for cut in 0..data.len() {
            assert_eq!(prepared_xid(&data[..cut], 0xb0), None);
        }
        // A count that is no count.
        data[20..24].fill(0xff);
        assert_eq!(prepared_xid(&data, 0xb0), None);

        let mut record = vec![0; HEADER];
        record[4] = 9;
        (record[16], record[17]) = (0xb0, 1);
        record.extend([255, 0]);
        record.extend(words(&[7, 0, 1 << 4, 800]));
        assert!(matches!(
            mark(&record),
            Some((MarkKind::End { xid: 800 }, _))
        ));
        // Long ones are kept as far as they must be, in however many pieces they come.
        record.resize(3000, 1);
        let mut kept = Vec::new();
        for piece in record.chunks(10) {
            keep(&mut kept, piece);
        }
        assert_eq!(kept, record);
        record[16] = 0x80;
        kept.clear();
        keep(&mut kept, &record);
        assert_eq!(kept.len(), KEPT);
    }
}
