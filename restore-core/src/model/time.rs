//! Moments: a UTC time that serialises as RFC 3339.

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Serialize};

use super::{Error, ErrorKind, Result};

/// A moment in UTC; displayed and serialised as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// The present.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::try_from(self.0.duration_since(earlier.0)).unwrap_or_default()
    }

    /// Reads a date and a time of day with the zone that they are meant in: `2024-02-15 10:00:00
    /// UTC`, `2024-02-15T10:00:00.25Z`, `2024-02-15 11:00 +01:00`, `2024-02-15 11:00:00
    /// Europe/Berlin`. Down to microseconds.
    ///
    /// # Errors
    ///
    /// `Config`: it is no time, it has no zone, or it is an hour that a change of clocks makes
    /// come twice or not at all.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let bad = |code: &'static str, why: &str| {
            Error::new(ErrorKind::Config, code, format!("{text:?} {why}"))
                .hint("write it like '2024-02-15 10:00:00 UTC' or '2024-02-15 11:00:00+01:00'")
        };
        // A date has dashes too, so the zone is looked for behind the time of day.
        let colon = text
            .find(':')
            .ok_or_else(|| bad("target.bad_time", "is no date with a time of day"))?;
        let (front, back) = text.split_at(colon);
        let zone_at = back
            .find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.'))
            .unwrap_or(back.len());
        let (clock, zone) = back.split_at(zone_at);
        let civil = format!("{front}{clock}").replacen(' ', "T", 1);
        let civil: DateTime = civil
            .parse()
            .map_err(|_| bad("target.bad_time", "is no date with a time of day"))?;
        let zone = match zone.trim() {
            "" => {
                return Err(bad(
                    "target.no_zone",
                    "does not say in which time zone it is meant",
                ));
            }
            "Z" | "z" | "UTC" | "utc" | "GMT" => TimeZone::UTC,
            zone => offset(zone)
                .or_else(|| TimeZone::get(zone).ok())
                .ok_or_else(|| bad("target.bad_zone", "names no time zone that is known here"))?,
        };
        let time = zone
            .to_ambiguous_timestamp(civil)
            .unambiguous()
            .map_err(|_| {
                bad(
                    "target.ambiguous",
                    "comes twice or never: the clocks are changed then",
                )
            })?;
        Ok(Self(time))
    }

    /// A moment as PostgreSQL counts it: microseconds since the year 2000.
    pub(crate) fn of_postgres(micros: i64) -> Option<Self> {
        const YEAR_2000: i64 = 946_684_800_000_000;
        let micros = micros.checked_add(YEAR_2000)?;
        Some(Self(jiff::Timestamp::from_microsecond(micros).ok()?))
    }

    /// Seconds since 1970.
    pub(crate) fn of_unix(seconds: i64) -> Option<Self> {
        Some(Self(jiff::Timestamp::from_second(seconds).ok()?))
    }

    /// Whole seconds since 1970.
    pub(crate) fn seconds(self) -> i64 {
        self.0.as_second()
    }

    /// The microsecond before.
    pub(crate) fn just_before(self) -> Self {
        Self(
            jiff::Timestamp::from_microsecond(self.0.as_microsecond().saturating_sub(1))
                .unwrap_or(self.0),
        )
    }

    /// For people and for PostgreSQL, down to the microsecond where there is one:
    /// `2024-02-15 10:00:00.25 UTC`.
    pub fn precise(self) -> String {
        let text = self.0.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string();
        format!("{} UTC", text.trim_end_matches('0').trim_end_matches('.'))
    }

    /// `YYYYMMDD-HHMMSS` in UTC, the form of backup ids and run ids.
    pub fn compact(self) -> String {
        self.0.strftime("%Y%m%d-%H%M%S").to_string()
    }
}

/// `+01`, `+0100`, `-03:30`.
fn offset(text: &str) -> Option<TimeZone> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits: String = text.get(1..)?.chars().filter(|c| *c != ':').collect();
    let number = |range: std::ops::Range<usize>| digits.get(range)?.parse::<i32>().ok();
    let (hours, minutes) = match digits.len() {
        2 => (number(0..2)?, 0),
        4 => (number(0..2)?, number(2..4)?),
        _ => return None,
    };
    if minutes > 59 {
        return None;
    }
    let offset = Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()?;
    Some(TimeZone::fixed(offset))
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        // Milliseconds are what a person compares; more digits only get in the way.
        let time = jiff::Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time);
        Self(time)
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        time.0.into()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_a_zone() {
        for (text, utc) in [
            ("2024-02-15 10:00:00 UTC", "2024-02-15 10:00:00 UTC"),
            ("2024-02-15T10:00:00Z", "2024-02-15 10:00:00 UTC"),
            ("2024-02-15 11:30+01:30", "2024-02-15 10:00:00 UTC"),
            (
                "2024-02-15 10:00:00.123456 +00",
                "2024-02-15 10:00:00.123456 UTC",
            ),
            (
                "2024-07-01 12:00:00 Europe/Berlin",
                "2024-07-01 10:00:00 UTC",
            ),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().precise(), utc, "{text}");
        }
        for (text, code) in [
            ("", "target.bad_time"),
            ("yesterday", "target.bad_time"),
            ("2024-02-30 10:00:00 UTC", "target.bad_time"),
            ("2024-02-15 10:00:00", "target.no_zone"),
            ("2024-02-15 10:00:00 Europe/Berlim", "target.bad_zone"),
            ("2024-10-27 02:30:00 Europe/Berlin", "target.ambiguous"),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap_err().code(), code, "{text}");
        }
        let last = Timestamp::parse("2024-02-15 10:00:00 UTC").unwrap();
        assert_eq!(
            last.just_before().precise(),
            "2024-02-15 09:59:59.999999 UTC"
        );
    }
}
