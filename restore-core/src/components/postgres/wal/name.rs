//! Places in the log, and the names of its segments.

use crate::model::Lsn;

/// A segment of the log on one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentName {
    pub(crate) timeline: u32,
    pub(crate) number: u64,
}

/// The number of the segment that a place lies in.
pub(crate) fn segment_of(lsn: Lsn, size: u64) -> u64 {
    lsn.0.checked_div(size).unwrap_or(0)
}

impl SegmentName {
    /// `000000010000000A000000FF`; `size` is the size of a segment.
    pub(crate) fn parse(text: &str, size: u64) -> Option<Self> {
        if text.len() != 24 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')) {
            return None;
        }
        let part = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok();
        let per_log = 0x1_0000_0000_u64.checked_div(size)?;
        let (log, segment) = (u64::from(part(8)?), u64::from(part(16)?));
        (segment < per_log).then_some(Self {
            timeline: part(0)?,
            number: log * per_log + segment,
        })
    }

    /// The file's name.
    pub(crate) fn file(self, size: u64) -> String {
        let per_log = 0x1_0000_0000_u64.checked_div(size).unwrap_or(1).max(1);
        format!(
            "{:08X}{:08X}{:08X}",
            self.timeline,
            self.number / per_log,
            self.number % per_log
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_as_they_are_written() {
        for text in ["0/0", "0/2000028", "1F/A2000028", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        for text in ["", "1", "/", "0/", "x/1", "0/123456789", "+1/0", "0/0/0"] {
            assert_eq!(
                text.parse::<Lsn>().unwrap_err().code(),
                "target.bad_lsn",
                "{text}"
            );
        }
        let json = serde_json::to_string(&Lsn(0x2_0000_0028)).unwrap();
        assert_eq!(json, "\"2/28\"");
        assert_eq!(
            serde_json::from_str::<Lsn>(&json).unwrap(),
            Lsn(0x2_0000_0028)
        );
    }

    #[test]
    fn segments_count_through_the_logs() {
        let size = 16 << 20;
        let name = SegmentName::parse("0000000200000001000000FF", size).unwrap();
        assert_eq!((name.timeline, name.number), (2, 0x1FF));
        assert_eq!(name.file(size), "0000000200000001000000FF");
        let next = SegmentName {
            number: name.number + 1,
            ..name
        };
        assert_eq!(next.file(size), "000000020000000200000000");
        assert_eq!(segment_of(Lsn(0x1_FF00_0000), size), 0x1FF);
        for bad in [
            "000000020000000100000100",
            "00000002000000010000000",
            "0000000200000001000000fF",
            "00000002.history",
        ] {
            assert_eq!(SegmentName::parse(bad, size), None, "{bad}");
        }
    }
}
