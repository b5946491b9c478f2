//! The time that a manifest of another tool says that it was made, as people and programs write it.

use jiff::civil::{Date, DateTime, Time};

use super::patterns::{HALVES, MONTHS, WEEKDAYS, id_of};
use crate::contract::Manifest;
use crate::model::BackupId;

/// So much of a value that is not understood is shown.
const SHOWN: usize = 60;

/// The id of the backup whose manifest begins so: the one that it gives, or that of its time. The error says
/// why there is none.
pub(super) fn made_at(head: &[u8]) -> Result<BackupId, String> {
    let head = String::from_utf8_lossy(head);
    let value = |key: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            (name.trim().eq_ignore_ascii_case(key) && !value.is_empty()).then_some(value)
        })
    };
    if let Some(id) = value("Backup ID").and_then(|id| id.parse().ok()) {
        return Ok(id);
    }
    let mut unread = None;
    for key in ["Created", "Created At", "Date"] {
        let Some(text) = value(key) else {
            continue;
        };
        match time_of(text) {
            Some(id) => return Ok(id),
            None => unread = unread.or(Some((key, text))),
        }
    }
    Err(match unread {
        Some((key, text)) => {
            let shown: String = text.chars().take(SHOWN).collect();
            format!(
                "its {} says `{key}:` {shown:?}, which is not understood as a time: such as 2024-02-15 02:30:00",
                Manifest::FILE_NAME
            )
        }
        None => format!(
            "its {} says neither `Backup ID:` nor `Created:`, from which its time would be known",
            Manifest::FILE_NAME
        ),
    })
}

/// The id of a time: with an offset, without one (local time), in seconds since 1970, or as `date` writes it.
fn time_of(text: &str) -> Option<BackupId> {
    if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        return id_of(local(stamp));
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return id_of(time);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return id_of(local(jiff::Timestamp::from_second(seconds).ok()?));
    }
    let mut words = Words::default();
    text.split([' ', '\t', ','])
        .filter(|word| !word.is_empty())
        .try_for_each(|word| words.take(word))?;
    id_of(words.time()?)
}

fn local(stamp: jiff::Timestamp) -> DateTime {
    stamp.to_zoned(jiff::tz::TimeZone::system()).datetime()
}

/// What each word of a time says, in whatever order they stand.
#[derive(Default)]
struct Words {
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    weekday: Option<i8>,
    time: Option<(i8, i8, i8)>,
    /// 0 before noon, 1 after it.
    half: Option<i8>,
    /// `+01:00` or `Z`.
    offset: Option<String>,
    /// The name of a zone, which says nothing: it is this machine's.
    zone: Option<()>,
}

impl Words {
    /// Takes one in; `None` where it says nothing that is known, or what an earlier one has said.
    fn take(&mut self, word: &str) -> Option<()> {
        if let Ok(date) = word.parse::<Date>() {
            once(&mut self.year, date.year())?;
            once(&mut self.month, date.month())?;
            return once(&mut self.day, date.day());
        }
        if let Some(at) = place(&HALVES, word) {
            return once(&mut self.half, at);
        }
        if let Some(at) = place(&WEEKDAYS, word) {
            return once(&mut self.weekday, at);
        }
        if let Some(at) = place(&MONTHS, word) {
            return once(&mut self.month, at + 1);
        }
        if let Some(offset) = offset(word) {
            return once(&mut self.offset, offset);
        }
        if word.contains(':') {
            return once(&mut self.time, clock(word)?);
        }
        if word.bytes().all(|byte| byte.is_ascii_digit()) {
            return match word.len() {
                1 | 2 => once(&mut self.day, word.parse().ok()?),
                4 => once(&mut self.year, word.parse().ok()?),
                _ => None,
            };
        }
        let is_zone = word.len() <= 5 && word.bytes().all(|byte| byte.is_ascii_uppercase());
        is_zone.then_some(())?;
        once(&mut self.zone, ())
    }

    /// The local time that they say; `None` where there is none, or two of them do not fit.
    fn time(self) -> Option<DateTime> {
        let date = Date::new(self.year?, self.month?, self.day?).ok()?;
        let weekday = date.weekday().to_monday_zero_offset();
        if self.weekday.is_some_and(|said| said != weekday) {
            return None;
        }
        let (hour, minute, second) = self.time?;
        let hour = match self.half {
            Some(half) if (1..=12).contains(&hour) => hour % 12 + 12 * half,
            Some(_) => return None,
            None => hour,
        };
        let time = date.to_datetime(Time::new(hour, minute, second, 0).ok()?);
        match self.offset {
            Some(offset) => Some(local(format!("{time}{offset}").parse().ok()?)),
            None => Some(time),
        }
    }
}

/// Notes what was said, once.
fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

/// Which of these words this is, whole or its first three letters, in any case.
fn place(words: &[&str], word: &str) -> Option<i8> {
    let is = |part: Option<&str>| part.is_some_and(|part| part.eq_ignore_ascii_case(word));
    let at = words
        .iter()
        .position(|known| is(known.get(..)) || is(known.get(..3)))?;
    i8::try_from(at).ok()
}

/// An offset from UTC, `+0100` or `-01:00`, or UTC itself.
fn offset(word: &str) -> Option<String> {
    if matches!(word, "UTC" | "GMT" | "Z") {
        return Some("Z".to_owned());
    }
    let digits: String = word
        .strip_prefix(['+', '-'])?
        .chars()
        .filter(|it| *it != ':')
        .collect();
    let is_offset = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let (hours, minutes) = digits.split_at_checked(2).filter(|_| is_offset)?;
    let sign = word.get(..1)?;
    Some(format!("{sign}{hours}:{minutes}"))
}

/// `2:30`, `02:30:07` or `02:30:07.123`.
fn clock(word: &str) -> Option<(i8, i8, i8)> {
    let plain = word.split_once('.').map_or(word, |(plain, _)| plain);
    let mut numbers = plain.split(':').map(|number| number.parse::<i8>().ok());
    let (hour, minute) = (numbers.next()??, numbers.next()??);
    let second = match numbers.next() {
        Some(second) => second?,
        None => 0,
    };
    numbers.next().is_none().then_some((hour, minute, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_says_when_it_was_made_in_any_of_the_usual_ways() {
        for (text, want) in [
            (
                "Backup ID: 20240215-023007\nCreated: 1999-01-01",
                "20240215-023007",
            ),
            (
                "=== x ===\nCreated: 2024-02-15 02:30:07\n",
                "20240215-023007",
            ),
            ("created: 2024-02-15T02:30:07", "20240215-023007"),
            (
                "Backup ID: 17\nDate: Thu Feb 15 02:30:07 CET 2024",
                "20240215-023007",
            ),
            ("Date: Mon Feb  5 02:30:07 2024", "20240205-023007"),
            // In the United States, by old and by new libraries; in Britain.
            ("Date: Thu Feb 15 02:30:07 PM CET 2024", "20240215-143007"),
            ("Date: Thu 15 Feb 2024 12:30:07 AM CET", "20240215-003007"),
            ("Date: Thu 15 Feb 02:30:07 CET 2024", "20240215-023007"),
            ("Created: February 15, 2024 2:30 pm", "20240215-143000"),
            ("Created: 2024-02-15 02:30:07 CET", "20240215-023007"),
            (
                "Created: yesterday\nDate: 2024-02-15 02:30",
                "20240215-023000",
            ),
        ] {
            let id = made_at(text.as_bytes());
            assert_eq!(id.unwrap().as_str(), want, "{text}");
        }
        let utc = made_at(b"Created: 2024-02-15T02:30:07Z").unwrap();
        for text in [
            "Created: Thu, 15 Feb 2024 03:30:07 +0100",
            "Created: 2024-02-15 03:30:07 +01:00",
            "Date: Thu Feb 15 02:30:07 UTC 2024",
            "Created: 1707964207",
        ] {
            assert_eq!(made_at(text.as_bytes()).unwrap(), utc, "{text}");
        }
        for text in [
            "",
            "Created:",
            "Created: now",
            "Created: a b c d e",
            // Of which of the two months?
            "Created: 02/03/2024 02:30",
            "Created: Monday 15 Feb 2024 02:30",
            "Created: Thu Feb 15 14:30:07 PM 2024",
            "Created: 31 Feb 2024 02:30",
            "Created: jeu. 15 févr. 2024 02:30:07",
        ] {
            assert!(made_at(text.as_bytes()).is_err(), "{text}");
        }
        let why = made_at(b"Created: 02/03/2024 02:30").unwrap_err();
        assert!(why.contains("\"02/03/2024 02:30\""), "{why}");
    }
}
