//! Patterns in which other tools name their backups, and the time that such a name gives.

use std::collections::BTreeSet;

use jiff::civil::{Date, DateTime};

use crate::contract::store::is_inside;
use crate::model::{BackupId, Error, ErrorKind, Result};

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// So many digits, which say this.
    Digits(Said, usize),
    /// One digit or two, perhaps behind a space: what is around it are no digits.
    Short(Said),
    /// The name of a month, whole or cut to its first three letters.
    MonthName,
    /// AM or PM.
    Half,
    /// The name of a day of the week, which does not say of which week.
    Weekday,
    /// Any number, which says nothing of the time.
    Number,
    /// Anything, where the folder's manifest says the time.
    Manifest,
    /// Anything.
    Any,
}

/// What a name may say of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Year,
    /// The last two digits of a year.
    ShortYear,
    Month,
    Day,
    /// The day of the year, from 1.
    DayOfYear,
    /// From Monday, which is 0.
    Weekday,
    Hour,
    /// From 1 to 12.
    HourOfHalf,
    /// 0 before noon, 1 after it.
    Half,
    Minute,
    Second,
    /// Seconds since 1970.
    Epoch,
}

/// Words in braces, and how many digits each stands for.
const DIGITS: [(&str, Said, usize); 10] = [
    ("year", Said::Year, 4),
    ("yy", Said::ShortYear, 2),
    ("month", Said::Month, 2),
    ("day", Said::Day, 2),
    ("yday", Said::DayOfYear, 3),
    ("hour", Said::Hour, 2),
    ("hour12", Said::HourOfHalf, 2),
    ("minute", Said::Minute, 2),
    ("second", Said::Second, 2),
    ("epoch", Said::Epoch, 10),
];

/// Those of numbers that are written without their zeros.
const SHORT: [(&str, Said); 4] = [
    ("m", Said::Month),
    ("d", Said::Day),
    ("h", Said::Hour),
    ("h12", Said::HourOfHalf),
];

pub(super) const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

pub(super) const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

pub(super) const HALVES: [&str; 2] = ["am", "pm"];

const CONTRADICTION: &str = "its name says two different times";
const IMPOSSIBLE: &str = "its name has a date that does not exist";

/// Each way to write a pattern: `{date}` has several.
type Ways = Vec<Vec<Part>>;

/// How a store of another tool names its backups.
#[derive(Clone, Debug)]
pub(super) struct NamePattern {
    pattern: String,
    ways: Ways,
    /// Files are named so, and those of one time are a backup; else folders are.
    pub(super) files: bool,
    /// How the folders above these files are named, the uppermost first.
    above: Vec<Ways>,
}

impl NamePattern {
    /// What a pattern means. `files`: it is one of files.
    pub(super) fn parse(pattern: &str, files: bool) -> Result<Self> {
        let bad = |what: &str| {
            Error::new(
                ErrorKind::Config,
                "store.bad_pattern",
                format!("{pattern:?} is no pattern of names: {what}"),
            )
            .hint("it is text with {year} {month} {day} {hour} {minute} {second}, {yy}, {m} {d} {h} without zeros, {mon} for the name of a month, {hour12} {ampm}, {yday}, {date}, {time}, {epoch}, {weekday}, {n} for a number, {manifest} where the folder's manifest says the time, and * for anything, such as \"backup_{date}\"")
        };
        if !files && pattern.contains('/') {
            return Err(bad("a name has no slash"));
        }
        if !is_inside(pattern) {
            return Err(bad("it is made of plain names"));
        }
        let all = ways(pattern).map_err(|what| bad(&what))?;
        if files && !all.iter().all(|way| says_a_day(way)) {
            return Err(bad("files need a date or a day in their names"));
        }
        let parts = || all.iter().flatten();
        if parts().any(|part| *part == Part::Manifest) && (files || parts().any(says_time)) {
            return Err(bad("{manifest} is of folders, and instead of a date"));
        }
        let of_half = |part: &Part| {
            matches!(
                part,
                Part::Digits(Said::HourOfHalf, _) | Part::Short(Said::HourOfHalf)
            )
        };
        if parts().any(of_half) && !parts().any(|part| *part == Part::Half) {
            return Err(bad(
                "without {ampm} nobody knows which half of the day {hour12} is of",
            ));
        }
        if !all.iter().all(|way| ends_are_seen(way)) {
            return Err(bad(
                "before and after {m} {d} {h} {h12} there is text that is no digit, or nothing: nobody knows which digits are whose",
            ));
        }
        let above = pattern
            .match_indices('/')
            .map(|(at, _)| ways(pattern.get(..at).unwrap_or_default()))
            .collect::<Result<Vec<Ways>, String>>()
            .map_err(|what| bad(&what))?;
        Ok(Self {
            pattern: pattern.to_owned(),
            ways: all,
            files,
            above,
        })
    }

    /// Whether a folder's name says nothing of its time, and its manifest does.
    pub(super) fn is_of_manifests(&self) -> bool {
        self.ways.iter().flatten().any(|it| *it == Part::Manifest)
    }

    /// Whether a name is as the pattern says, whatever its time.
    pub(super) fn is_like(&self, name: &str) -> bool {
        moment_in(&self.ways, name).is_some()
    }

    /// Whether files of backups may be below the folder at `path`.
    pub(super) fn is_above(&self, path: &str) -> bool {
        let ways = self.above.get(path.matches('/').count());
        ways.is_some_and(|ways| moment_in(ways, path).is_some())
    }

    /// Whether a name that fits is of one backup for all time.
    pub(super) fn is_lasting(&self) -> bool {
        self.ways.iter().all(|way| says_a_date(way))
    }

    pub(super) fn not_named(&self) -> String {
        format!("its name is not as {:?} says", self.pattern)
    }

    /// The id of the backup that has this name; the error says why it is none. What a name lacks of a date is
    /// that of the time at which it was last changed.
    pub(super) fn id(&self, name: &str, modified: Option<i64>) -> Result<BackupId, String> {
        let moment = moment_in(&self.ways, name).ok_or_else(|| self.not_named())?;
        let hour = moment.hour()?;
        let of_day = [hour, moment.get(Said::Minute)?, moment.get(Said::Second)?];
        let [hours, minutes, seconds] = of_day.map(|it| it.unwrap_or(0));
        let stamped = |date: Date| {
            format!(
                "{}-{hours:02}{minutes:02}{seconds:02}",
                date.strftime("%Y%m%d")
            )
            .parse::<BackupId>()
            .map_err(|_| IMPOSSIBLE.to_owned())
        };
        let given = moment.date()?;
        if let Some(epoch) = moment.get(Said::Epoch)? {
            // Its date may be that of another zone.
            let time = local(epoch).ok_or_else(|| IMPOSSIBLE.to_owned())?;
            let day = time.date();
            let near = [Ok(day), day.yesterday(), day.tomorrow()];
            return match near.into_iter().flatten().any(|day| moment.fits(day)) {
                true => id_of(time).ok_or_else(|| IMPOSSIBLE.to_owned()),
                false => Err(CONTRADICTION.to_owned()),
            };
        }
        if let Some(date) = given {
            return match moment.fits(date) {
                true => stamped(date),
                false => Err(CONTRADICTION.to_owned()),
            };
        }
        let Some(changed) = modified.and_then(local) else {
            return Err(
                "its name has no date, and the store does not say when it was changed".to_owned(),
            );
        };
        // What was begun before midnight is changed last after it.
        let day = [Ok(changed.date()), changed.date().yesterday()]
            .into_iter()
            .flatten()
            .find(|day| moment.fits(*day));
        let Some(day) = day else {
            return Err(format!(
                "its name says another day than {}, when it was last changed",
                changed.date()
            ));
        };
        let says_day = [Said::Day, Said::DayOfYear, Said::Weekday]
            .into_iter()
            .any(|what| moment.0.iter().any(|(said, _)| *said == what));
        if says_day && (self.files || hour.is_some()) {
            return stamped(day);
        }
        id_of(changed).ok_or_else(|| IMPOSSIBLE.to_owned())
    }
}

/// A pattern that reads names like this one, for whoever has written none; `None` where it has no date that begins
/// with the year, of which nobody can be mistaken.
pub(super) fn suggested(name: &str, files: bool) -> Option<String> {
    const TIMES: [&str; 6] = [
        "{date}-{time}",
        "{date}_{time}",
        "{date}T{time}",
        "{date}.{time}",
        "{date}{time}",
        "{date}",
    ];
    if name.contains(['{', '}', '*']) {
        return None;
    }
    let is_digit = |at: usize| name.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    // Each of them begins with a year of this age.
    let begins = |at: &usize| {
        let year = name
            .get(*at..*at + 2)
            .is_some_and(|it| ["19", "20"].contains(&it));
        year && (*at..*at + 4).all(is_digit) && (*at == 0 || !is_digit(*at - 1))
    };
    let starts: Vec<usize> = (0..name.len()).filter(begins).collect();
    let reads = |pattern: &String| {
        NamePattern::parse(pattern, files).is_ok_and(|it| it.id(name, None).is_ok())
    };
    TIMES.iter().find_map(|time| {
        starts.iter().find_map(|start| {
            let before = name.get(..*start)?;
            let patterns = match files {
                // Those of other parts are named alike.
                true => {
                    let mark = before.chars().last().filter(|it| !it.is_alphanumeric());
                    let mark = mark.map(String::from).unwrap_or_default();
                    let any = if before.is_empty() { "" } else { "*" };
                    [format!("{any}{mark}{time}.*"), format!("{any}{mark}{time}")]
                }
                false => [format!("{before}{time}"), format!("{before}{time}*")],
            };
            patterns.into_iter().find(reads)
        })
    })
}

/// What a name says of the time.
#[derive(Debug, Default)]
struct Moment(Vec<(Said, i64)>);

impl Moment {
    /// What it says of this; an error where it says two things.
    fn get(&self, what: Said) -> Result<Option<i64>, String> {
        let mut values = self.0.iter().filter(|(said, _)| *said == what);
        let first = values.next().map(|(_, value)| *value);
        match values.all(|(_, value)| Some(*value) == first) {
            true => Ok(first),
            false => Err(CONTRADICTION.to_owned()),
        }
    }

    fn year(&self) -> Result<Option<i64>, String> {
        let short = match self.get(Said::ShortYear)? {
            Some(69..) => {
                return Err(
                    "its name has a year of two digits, which could be of either century"
                        .to_owned(),
                );
            }
            short => short.map(|year| 2000 + year),
        };
        Ok(self.get(Said::Year)?.or(short))
    }

    fn hour(&self) -> Result<Option<i64>, String> {
        let half = self.get(Said::Half)?;
        let of_half = match (self.get(Said::HourOfHalf)?, half) {
            (Some(hour @ 1..=12), Some(half)) => Some(hour % 12 + 12 * half),
            (Some(_), _) => return Err(IMPOSSIBLE.to_owned()),
            (None, _) => None,
        };
        let hour = self.get(Said::Hour)?;
        let differs = |one: Option<i64>, other: Option<i64>| {
            one.zip(other).is_some_and(|(one, other)| one != other)
        };
        if differs(hour, of_half) || differs(hour.map(|hour| hour / 12), half) {
            return Err(CONTRADICTION.to_owned());
        }
        Ok(hour.or(of_half))
    }

    /// The date that it gives by itself.
    fn date(&self) -> Result<Option<Date>, String> {
        let of_month = self.get(Said::Month)?.zip(self.get(Said::Day)?);
        let of_year = self.get(Said::DayOfYear)?;
        let Some(year) = self.year()? else {
            return Ok(None);
        };
        let date = match (of_month, of_year) {
            (Some((month, day)), _) => date_of(year, month, day),
            (None, Some(day)) => day_of_year(year, day),
            (None, None) => return Ok(None),
        };
        date.map(Some).ok_or_else(|| IMPOSSIBLE.to_owned())
    }

    /// Whether it says nothing of the day but what this one is.
    fn fits(&self, date: Date) -> bool {
        let year = i64::from(date.year());
        let facts = [
            (Said::Year, year),
            (Said::ShortYear, year % 100),
            (Said::Month, i64::from(date.month())),
            (Said::Day, i64::from(date.day())),
            (Said::DayOfYear, i64::from(date.day_of_year())),
            (
                Said::Weekday,
                i64::from(date.weekday().to_monday_zero_offset()),
            ),
        ];
        self.0.iter().all(|(said, value)| {
            facts
                .iter()
                .all(|(what, fact)| said != what || value == fact)
        })
    }
}

fn date_of(year: i64, month: i64, day: i64) -> Option<Date> {
    let year = i16::try_from(year).ok()?;
    let month = i8::try_from(month).ok()?;
    Date::new(year, month, i8::try_from(day).ok()?).ok()
}

fn day_of_year(year: i64, day: i64) -> Option<Date> {
    let first = date_of(year, 1, 1)?;
    let day = i16::try_from(day).ok()?;
    first.with().day_of_year(day).build().ok()
}

/// A time of this many seconds since 1970, as the clocks of this machine show it.
fn local(seconds: i64) -> Option<DateTime> {
    let stamp = jiff::Timestamp::from_second(seconds).ok()?;
    Some(stamp.to_zoned(jiff::tz::TimeZone::system()).datetime())
}

/// The id of a backup of this local time.
pub(super) fn id_of(time: DateTime) -> Option<BackupId> {
    time.strftime("%Y%m%d-%H%M%S").to_string().parse().ok()
}

/// Whether a part says when a backup was made.
fn says_time(part: &Part) -> bool {
    matches!(
        part,
        Part::Digits(..) | Part::Short(_) | Part::MonthName | Part::Half
    )
}

fn says(way: &[Part], what: Said) -> bool {
    way.iter().any(|part| match part {
        Part::Digits(said, _) | Part::Short(said) => *said == what,
        Part::MonthName => what == Said::Month,
        Part::Weekday => what == Said::Weekday,
        Part::Half => what == Said::Half,
        Part::Text(_) | Part::Number | Part::Manifest | Part::Any => false,
    })
}

/// Whether files that are named so are of one day, whichever that is.
fn says_a_day(way: &[Part]) -> bool {
    [Said::Day, Said::DayOfYear, Said::Weekday, Said::Epoch]
        .into_iter()
        .any(|what| says(way, what))
}

/// Whether what is named so needs nothing else to know its date.
fn says_a_date(way: &[Part]) -> bool {
    let year = says(way, Said::Year) || says(way, Said::ShortYear);
    let day = says(way, Said::Month) && says(way, Said::Day);
    says(way, Said::Epoch) || (year && (day || says(way, Said::DayOfYear)))
}

/// Whether each number that may have one digit or two begins and ends where it is seen to.
fn ends_are_seen(way: &[Part]) -> bool {
    let is_digit = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_digit());
    way.iter().enumerate().all(|(at, part)| {
        let before = at.checked_sub(1).and_then(|at| way.get(at));
        let begins = match before {
            None | Some(Part::MonthName | Part::Half | Part::Weekday) => true,
            Some(Part::Text(text)) => !is_digit(text.bytes().last()),
            Some(_) => false,
        };
        let ends = match way.get(at + 1) {
            None | Some(Part::MonthName | Part::Half | Part::Weekday) => true,
            Some(Part::Text(text)) => !is_digit(text.bytes().next()),
            Some(_) => false,
        };
        !matches!(part, Part::Short(_)) || (begins && ends)
    })
}

/// The time that a name gives which is written in one of these ways; `None` where it is not.
fn moment_in(ways: &[Vec<Part>], name: &str) -> Option<Moment> {
    ways.iter().find_map(|way| {
        let mut moment = Moment::default();
        matches(way, name, &mut moment, &mut BTreeSet::new()).then_some(moment)
    })
}

/// Which of these words a name begins with, its first three letters or whole, in any case; and what comes after.
fn named<'a>(words: &[&str], name: &'a str) -> Vec<(i64, &'a str)> {
    let mut found = Vec::new();
    for (at, word) in (0..).zip(words) {
        for length in [word.len().min(3), word.len()] {
            let begins = |(begin, _): &(&str, &str)| {
                word.get(..length)
                    .is_some_and(|word| word.eq_ignore_ascii_case(begin))
            };
            let split = name.split_at_checked(length).filter(begins);
            found.extend(split.map(|(_, after)| (at, after)));
        }
    }
    found
}

/// All ways to write a pattern; the error says what is wrong with it.
fn ways(pattern: &str) -> Result<Ways, String> {
    let mut ways = vec![Vec::new()];
    let mut rest = pattern;
    while !rest.is_empty() {
        let (choices, after): (Ways, &str) = if let Some(after) = rest.strip_prefix('*') {
            (vec![vec![Part::Any]], after)
        } else if let Some(inner) = rest.strip_prefix('{') {
            let (word, after) = inner.split_once('}').ok_or("a { is not closed")?;
            let choices = choices(word).ok_or_else(|| format!("{{{word}}} is unknown"))?;
            (choices, after)
        } else {
            let end = rest.find(['{', '*']).unwrap_or(rest.len());
            let (text, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            (vec![vec![Part::Text(text.to_owned())]], after)
        };
        ways = ways
            .iter()
            .flat_map(|way| {
                choices
                    .iter()
                    .map(move |more| [&way[..], &more[..]].concat())
            })
            .collect();
        rest = after;
    }
    Ok(ways)
}

/// The ways to write what a word in braces stands for.
fn choices(word: &str) -> Option<Ways> {
    let digits = |name: &str| {
        let (_, said, count) = DIGITS.iter().find(|(known, ..)| *known == name)?;
        Some(Part::Digits(*said, *count))
    };
    let short = |name: &str| {
        let (_, said) = SHORT.iter().find(|(known, _)| *known == name)?;
        Some(Part::Short(*said))
    };
    let joined = |names: &[&str], with: &str| {
        let mut parts = Vec::new();
        for (at, name) in names.iter().enumerate() {
            if at > 0 && !with.is_empty() {
                parts.push(Part::Text(with.to_owned()));
            }
            parts.extend(digits(name));
        }
        parts
    };
    let each = |names: &[&str], separators: &[&str]| -> Ways {
        separators.iter().map(|with| joined(names, with)).collect()
    };
    Some(match word {
        "date" => each(&["year", "month", "day"], &["-", "", "_", "."]),
        "time" => [
            each(&["hour", "minute", "second"], &["-", "", "_", ":", "."]),
            each(&["hour", "minute"], &["-", "", "_", ":", "."]),
        ]
        .concat(),
        "n" => vec![vec![Part::Number]],
        "mon" => vec![vec![Part::MonthName]],
        "ampm" => vec![vec![Part::Half]],
        "weekday" => vec![vec![Part::Weekday]],
        "manifest" => vec![vec![Part::Manifest]],
        word => vec![vec![digits(word).or_else(|| short(word))?]],
    })
}

/// Whether the whole of `name` is as the parts say; notes the time that it gives. `failed` has how many
/// parts come after each `*` that led nowhere. An earlier one that grows comes to it later in the name, where
/// it leads nowhere either: without that the time would multiply with each.
fn matches(parts: &[Part], name: &str, moment: &mut Moment, failed: &mut BTreeSet<usize>) -> bool {
    let Some((part, rest)) = parts.split_first() else {
        return name.is_empty();
    };
    let digits = |name: &str| name.bytes().take_while(u8::is_ascii_digit).count();
    let number = |said: Said, number: &str| number.parse::<i64>().ok().map(|value| (said, value));
    match part {
        Part::Text(text) => name
            .strip_prefix(text.as_str())
            .is_some_and(|after| goes_on(None, rest, after, moment, failed)),
        Part::Digits(said, count) => {
            let there = |_: &(&str, &str)| digits(name) >= *count;
            let Some((found, after)) = name.split_at_checked(*count).filter(there) else {
                return false;
            };
            goes_on(number(*said, found), rest, after, moment, failed)
        }
        Part::Short(said) => {
            let name = name.strip_prefix(' ').unwrap_or(name);
            let count = digits(name);
            let there = |_: &(&str, &str)| matches!(count, 1 | 2);
            let Some((found, after)) = name.split_at_checked(count).filter(there) else {
                return false;
            };
            goes_on(number(*said, found), rest, after, moment, failed)
        }
        Part::MonthName => named(&MONTHS, name)
            .into_iter()
            .any(|(at, after)| goes_on(Some((Said::Month, at + 1)), rest, after, moment, failed)),
        Part::Half => named(&HALVES, name)
            .into_iter()
            .any(|(at, after)| goes_on(Some((Said::Half, at)), rest, after, moment, failed)),
        Part::Weekday => named(&WEEKDAYS, name)
            .into_iter()
            .any(|(at, after)| goes_on(Some((Said::Weekday, at)), rest, after, moment, failed)),
        Part::Number => {
            let count = digits(name);
            count > 0
                && name
                    .split_at_checked(count)
                    .is_some_and(|(_, after)| goes_on(None, rest, after, moment, failed))
        }
        Part::Any | Part::Manifest => {
            // As elsewhere it stops at a slash.
            let end = name.find('/').unwrap_or(name.len());
            failed.insert(rest.len())
                && (0..=end)
                    .filter_map(|at| name.get(at..))
                    .any(|after| goes_on(None, rest, after, moment, failed))
        }
    }
}

/// The same of what comes after a part that says this, which is forgotten where that does not fit.
fn goes_on(
    said: Option<(Said, i64)>,
    rest: &[Part],
    after: &str,
    moment: &mut Moment,
    failed: &mut BTreeSet<usize>,
) -> bool {
    let before = moment.0.len();
    moment.0.extend(said);
    let fits = matches(rest, after, moment, failed);
    if !fits {
        moment.0.truncate(before);
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pattern: &str, files: bool, name: &str, modified: Option<i64>) -> Option<String> {
        let names = NamePattern::parse(pattern, files).unwrap();
        let id = names.id(name, modified).ok()?;
        Some(id.as_str().to_owned())
    }

    /// Seconds since 1970 of a local time, for what was changed then.
    fn at(local: &str) -> Option<i64> {
        let time: DateTime = local.parse().unwrap();
        let zoned = time.to_zoned(jiff::tz::TimeZone::system()).unwrap();
        Some(zoned.timestamp().as_second())
    }

    #[test]
    fn a_pattern_of_many_stars_is_answered_at_once() {
        let names = NamePattern::parse("*a*a*a*a*a*a*a*b", false).unwrap();
        let begun = std::time::Instant::now();
        assert!(names.id(&"a".repeat(255), Some(0)).is_err());
        assert!(
            names
                .id(&("a".repeat(254) + "b"), Some(1_700_000_000))
                .is_ok()
        );
        let dated = NamePattern::parse("*-*-{date}*", false).unwrap();
        let id = dated.id("a-b-c-2024-02-15-d", Some(0)).unwrap();
        assert_eq!(id.as_str(), "20240215-000000");
        assert!(begun.elapsed() < std::time::Duration::from_secs(2));
    }

    #[test]
    fn names_of_other_tools_are_read() {
        for (pattern, name, want) in [
            (
                "{year}-{month}-{day}_{hour}-{minute}",
                "2024-02-15_02-30",
                Some("20240215-023000"),
            ),
            ("backup_{date}", "backup_20240215", Some("20240215-000000")),
            (
                "backup_{date}",
                "backup_2024-02-15",
                Some("20240215-000000"),
            ),
            ("backup_{date}", "backup_2024-02-31", None),
            ("backup_{date}", "backup_2024-02-15x", None),
            (
                "{date}T{time}Z",
                "2024-02-15T02:30:07Z",
                Some("20240215-023007"),
            ),
            (
                "*-{date}-{time}.sql.*",
                "shop-20240215-0230.sql.gz",
                Some("20240215-023000"),
            ),
            ("*{date}*", "a1-20240215.tar", Some("20240215-000000")),
            ("daily.{n}", "daily.x", None),
            (
                "shop-{day}{mon}{yy}",
                "shop-05Feb24",
                Some("20240205-000000"),
            ),
            (
                "{mon} {day}, {year}",
                "September 09, 2023",
                Some("20230909-000000"),
            ),
            ("{day}-{mon}-{yy}", "31-feb-24", None),
            ("{day}-{mon}-{yy}", "01-Fev-24", None),
            (
                "{date}_{weekday}",
                "2024-02-15_Thursday",
                Some("20240215-000000"),
            ),
            (
                "{date}_{weekday}",
                "2024-02-15_THU",
                Some("20240215-000000"),
            ),
            ("{date}_{weekday}", "2024-02-15_Donnerstag", None),
        ] {
            let names = NamePattern::parse(pattern, false).unwrap();
            let id = names.id(name, Some(0)).ok();
            assert_eq!(id.as_ref().map(BackupId::as_str), want, "{pattern} {name}");
        }
        let names = NamePattern::parse("daily.{n}", false).unwrap();
        assert!(
            names
                .id("daily.12", Some(1_700_000_000))
                .unwrap()
                .as_str()
                .starts_with("202311")
        );
        let names = NamePattern::parse("b{epoch}", false).unwrap();
        assert!(
            names
                .id("b1700000000", Some(0))
                .unwrap()
                .as_str()
                .starts_with("202311")
        );
        for (pattern, files) in [
            ("", false),
            ("a/b", false),
            ("{yer}", false),
            ("{date", false),
            ("{n}", true),
            ("{manifest}", true),
            ("{manifest}-{date}", false),
            ("../{date}", true),
            ("{date}/", true),
        ] {
            assert_eq!(
                NamePattern::parse(pattern, files).unwrap_err().code(),
                "store.bad_pattern"
            );
        }
    }

    #[test]
    fn a_day_of_the_week_is_of_the_time_of_its_folder() {
        let names = NamePattern::parse("{weekday}", false).unwrap();
        // A Tuesday; east of Greenwich the Wednesday after it.
        let id = names.id("Tuesday", Some(1_700_000_000)).unwrap();
        assert!(id.as_str().starts_with("202311"), "{id}");
        let why = names.id("Monday", None).unwrap_err();
        assert!(why.contains("does not say when"), "{why}");
    }

    #[test]
    fn what_date_writes_is_understood_or_said_not_to_be() {
        for (pattern, name, want) in [
            // %Y-%m-%d_%I-%M-%S_%p, %d%b%Y-%I%P
            (
                "{date}_{hour12}-{minute}-{second}_{ampm}",
                "2024-02-15_02-30-07_PM",
                Some("20240215-143007"),
            ),
            (
                "{date}_{hour12}-{minute}-{second}_{ampm}",
                "2024-02-15_12-30-07_AM",
                Some("20240215-003007"),
            ),
            (
                "{date} {hour12}{ampm}",
                "2024-02-15 12pm",
                Some("20240215-120000"),
            ),
            ("{date} {hour12}{ampm}", "2024-02-15 13PM", None),
            ("{date} {hour12}{ampm}", "2024-02-15 00AM", None),
            ("{date} {hour12}{ampm}", "2024-02-15 02", None),
            (
                "{date} {hour}{ampm}",
                "2024-02-15 14PM",
                Some("20240215-140000"),
            ),
            ("{date} {hour}{ampm}", "2024-02-15 02PM", None),
            // cPanel; `date` with a locale of the United States, and its default.
            (
                "backup-{m}.{d}.{year}_{time}_*.tar.gz",
                "backup-2.5.2024_02-30-07_shop.tar.gz",
                Some("20240205-023007"),
            ),
            (
                "backup-{m}.{d}.{year}_{time}_*.tar.gz",
                "backup-11.25.2024_02-30-07_shop.tar.gz",
                Some("20241125-023007"),
            ),
            (
                "backup-{m}.{d}.{year}_{time}_*.tar.gz",
                "backup-13.2.2024_02-30-07_shop.tar.gz",
                None,
            ),
            (
                "{weekday} {mon} {d} {time} * {year}",
                "Mon Feb  5 02:30:07 CET 2024",
                Some("20240205-023007"),
            ),
            (
                "{weekday} {d} {mon} {year} {h12}:{minute}:{second} {ampm} *",
                "Mon 05 Feb 2024  2:30:07 PM CET",
                Some("20240205-143007"),
            ),
            // %j
            ("{year}{yday}", "2024046", Some("20240215-000000")),
            ("{year}{yday}", "2023366", None),
            ("{year}{yday}", "2024000", None),
            // autopostgresqlbackup, by day and by month
            (
                "*_{year}-{month}-{day}_{hour}h{minute}m.{weekday}.sql.*",
                "shop_2024-02-15_02h30m.Thursday.sql.gz",
                Some("20240215-023000"),
            ),
            (
                "*_{year}-{month}-{day}_{hour}h{minute}m.{mon}.sql.*",
                "shop_2024-03-01_02h30m.March.sql.gz",
                Some("20240301-023000"),
            ),
            // What contradicts itself.
            ("{date}_{weekday}", "2024-02-15_Monday", None),
            ("{date}-{mon}", "2024-02-15-March", None),
            ("{year}-{date}", "2023-2024-02-15", None),
            ("{date}-{yday}", "2024-02-15-047", None),
            ("{epoch}-{date}", "1707964207-2024-01-15", None),
            ("{yy}{month}{day}", "680215", Some("20680215-000000")),
            ("{yy}{month}{day}", "980215", None),
            // A later part that fits better than the first that fits.
            ("{day}{mon}*{year}", "05march-2024", Some("20240305-000000")),
        ] {
            let id = read(pattern, false, name, Some(0));
            assert_eq!(id.as_deref(), want, "{pattern} {name}");
        }
        for pattern in [
            "{date} {hour12}",
            "{d}{m}{year}",
            "*{d}-{mon}",
            "1{d}-{mon}",
            "{d}{n}",
            "{ampm}-{manifest}",
        ] {
            assert_eq!(
                NamePattern::parse(pattern, false).unwrap_err().code(),
                "store.bad_pattern",
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_pattern_is_suggested_where_a_name_has_a_plain_date() {
        for (name, files, want) in [
            ("2024-02-15_02-30", false, Some("{date}_{time}")),
            ("backup_2024-02-15", false, Some("backup_{date}")),
            (
                "web1-20240215023007-full",
                false,
                Some("web1-{date}{time}*"),
            ),
            ("shop-20240215-0230.sql.gz", true, Some("*-{date}-{time}.*")),
            ("2024-02-15.tar", true, Some("{date}.*")),
            ("15-02-2024", false, None),
            ("2024-02-31", false, None),
            ("daily.0", false, None),
            ("{date}", false, None),
        ] {
            assert_eq!(suggested(name, files).as_deref(), want, "{name}");
        }
    }

    /// Each of these files is of the time that its name says, and docs/backup-format.md has the pattern.
    #[test]
    fn files_of_well_known_tools_can_be_described() {
        const DOCUMENT: &str = include_str!("../../../docs/backup-format.md");
        for (pattern, name, want) in [
            (
                "backup-{date}T{time}.tar.gz",
                "backup-2024-02-15T02-30-07.tar.gz",
                "20240215-023007",
            ),
            (
                "*/*_{date}_{hour}h{minute}m.{weekday}.sql.*",
                "shop/shop_2024-02-15_02h30m.Thursday.sql.gz",
                "20240215-023000",
            ),
            (
                "*/*_week.{n}.{date}_{hour}h{minute}m.sql.*",
                "shop/shop_week.07.2024-02-15_02h30m.sql.gz",
                "20240215-023000",
            ),
            (
                "*_{date}T{time}*.dump",
                "shop_2024-02-15T02:30:07+01:00.dump",
                "20240215-023007",
            ),
            (
                "daily/*-{date}.sql.gz",
                "daily/shop-20240215.sql.gz",
                "20240215-000000",
            ),
            (
                "backup-{m}.{d}.{year}_{time}_*.tar.gz",
                "backup-2.15.2024_02-30-07_shop.tar.gz",
                "20240215-023007",
            ),
            (
                "backup_{yy}{month}{day}{hour}{minute}.tar",
                "backup_2402150230.tar",
                "20240215-023000",
            ),
            (
                "*.{date}_{time}.tar",
                "shop.2024-02-15_02-30-07.tar",
                "20240215-023007",
            ),
            (
                "vzdump-*-{n}-{date}-{time}.tar.zst",
                "vzdump-lxc-101-2024_02_15-02_30_07.tar.zst",
                "20240215-023007",
            ),
            (
                "*-{date}-{time}-v*.tar.gz",
                "shop-2024-02-15-023007-v20240101000000.tar.gz",
                "20240215-023007",
            ),
            (
                "backup_{date}-{time}_*",
                "backup_2024-02-15-0230_Shop_a1b2c3-db.gz",
                "20240215-023000",
            ),
            (
                "shop_{day}-{month}-{year}_{hour12}-{minute}-{second}_{ampm}.sql",
                "shop_15-02-2024_02-30-07_PM.sql",
                "20240215-143007",
            ),
            (
                "shop_{day}{mon}{year}.sql",
                "shop_15Feb2024.sql",
                "20240215-000000",
            ),
        ] {
            let id = read(pattern, true, name, None);
            assert_eq!(id.as_deref(), Some(want), "{pattern} {name}");
            assert!(DOCUMENT.contains(&format!("`{pattern}`")), "{pattern}");
        }
        let gitlab = "{epoch}_{date}_*_gitlab_backup.tar";
        assert!(DOCUMENT.contains(&format!("`{gitlab}`")));
        let name = "nextcloud-28.0.1-1707964207";
        let nextcloud = read("nextcloud-*-{epoch}", false, name, None);
        assert!(nextcloud.unwrap().starts_with("2024021"));
    }

    /// As of GitLab: two of one day are two.
    #[test]
    fn seconds_since_1970_say_more_than_a_date_beside_them() {
        let files = "{epoch}_{date}_*_gitlab_backup.tar";
        let name = "1707964207_2024_02_15_16.8.1_gitlab_backup.tar";
        let of_seconds = read("{epoch}", false, "1707964207", None);
        assert!(of_seconds.is_some());
        assert_eq!(read(files, true, name, None), of_seconds);
    }

    #[test]
    fn what_a_name_lacks_of_a_date_is_of_when_it_was_changed_and_fits_it() {
        // Thursday
        let changed = at("2024-02-15T00:10:00");
        for (pattern, name, files, want) in [
            ("{weekday}", "Thu", false, Some("20240215-001000")),
            // Begun before midnight.
            ("{weekday}", "wednesday", false, Some("20240215-001000")),
            ("{weekday}", "Tue", false, None),
            ("{weekday}-{hour}", "Wed-23", false, Some("20240214-230000")),
            ("{day}", "15", false, Some("20240215-001000")),
            ("{day}", "17", false, None),
            ("{month}-{day}", "02-14", false, Some("20240215-001000")),
            ("{month}-{day}", "03-14", false, None),
            ("{hour}", "23", false, Some("20240215-001000")),
            // Files of one night are one backup, whenever each was finished.
            (
                "*-{weekday}.sql",
                "shop-Wed.sql",
                true,
                Some("20240214-000000"),
            ),
            ("*-{weekday}.sql", "shop-Fri.sql", true, None),
            (
                "*-{month}{day}.*",
                "a-0214.tar",
                true,
                Some("20240214-000000"),
            ),
        ] {
            let id = read(pattern, files, name, changed);
            assert_eq!(id.as_deref(), want, "{pattern} {name}");
        }
        let names = NamePattern::parse("{day}", false).unwrap();
        let why = names.id("17", changed).unwrap_err();
        assert!(why.contains("another day than 2024-02-15"), "{why}");
        let lasting = |pattern: &str| NamePattern::parse(pattern, false).unwrap().is_lasting();
        assert!(lasting("{date}") && lasting("{year}{yday}") && lasting("b{epoch}"));
        assert!(!lasting("{weekday}") && !lasting("{month}-{day}") && !lasting("{year}"));
    }
}
