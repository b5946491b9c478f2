//! From when to when a backup can be recovered.

use restore_core::Finding;
use restore_core::wal::Recoverable;

use super::findings;
use crate::human;

/// The ranges, what the archives lack, and what is not known. Nothing where there is no base
/// backup.
pub(crate) fn recoverable(ranges: &[Recoverable], noticed: &[Finding]) -> String {
    let mut out = String::new();
    for range in ranges {
        out += &format!("\nPoint in time: {} can be recovered\n", range.component);
        out += &format!("  from  {} ({})\n", range.from.precise(), range.from_lsn);
        let Some(archive) = &range.archive else {
            out += "  to no later moment: the component names no WAL archive\n";
            continue;
        };
        out += &match range.until {
            Some(until) => format!("  to    {} ({})\n", until.precise(), range.until_lsn),
            None => format!(
                "  to    {}: no transaction since the base backup\n",
                range.until_lsn
            ),
        };
        let segments = usize::try_from(range.segments).unwrap_or(usize::MAX);
        out += &format!(
            "  along timeline {}, {} in {archive}\n",
            range.timeline,
            human::count(segments, "segment")
        );
        if let Some(why) = &range.needs_timeline {
            out += &format!("  ONLY with --timeline {}: {why}\n", range.timeline);
        }
        for (at, hole) in range.holes.iter().enumerate() {
            let missing = match hole.segments {
                1 => hole.first.clone(),
                n => format!("{} to {} ({n} segments)", hole.first, hole.last),
            };
            out += &match at {
                0 => format!("  HOLE: {missing} missing; nothing behind it can be reached\n"),
                _ => format!("  HOLE: {missing} missing\n"),
            };
        }
    }
    if !noticed.is_empty() {
        out += &findings("Findings:", noticed);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_and_a_hole() {
        let range: Recoverable = serde_json::from_value(serde_json::json!({
            "component": "cluster", "from": "2024-02-15T02:00:10Z", "from_lsn": "0/2000100",
            "until": "2024-02-15T10:00:00.25Z", "until_lsn": "0/5000060", "timeline": 1,
            "segments": 4, "archive": "/srv/wal",
            "holes": [{"first": "000000010000000000000006", "last": "000000010000000000000007",
                       "segments": 2}],
            "needs_timeline": "the live cluster does not come from it",
        }))
        .unwrap();
        assert_eq!(
            recoverable(&[range], &[]),
            "
Point in time: cluster can be recovered
  from  2024-02-15 02:00:10 UTC (0/2000100)
  to    2024-02-15 10:00:00.25 UTC (0/5000060)
  along timeline 1, 4 segments in /srv/wal
  ONLY with --timeline 1: the live cluster does not come from it
  HOLE: 000000010000000000000006 to 000000010000000000000007 (2 segments) missing; nothing behind it can be reached
"
        );
        assert_eq!(recoverable(&[], &[]), "");
    }
}
