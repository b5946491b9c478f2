//! Backups of other tools in a directory: which one a name stands for.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::directory::unreachable_store;
use crate::contract::OddEntry;
use crate::model::{BackupId, Error, ErrorKind, Result};

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// So many digits of a date or time.
    Field(Field, usize),
    /// Seconds since 1970.
    Epoch,
    /// Any number, which says nothing of the time.
    Number,
    /// Anything.
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

const FIELDS: [(&str, Field, usize); 6] = [
    ("year", Field::Year, 4),
    ("month", Field::Month, 2),
    ("day", Field::Day, 2),
    ("hour", Field::Hour, 2),
    ("minute", Field::Minute, 2),
    ("second", Field::Second, 2),
];

/// How a store of another tool names its backups.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pattern: String,
    /// Each way to write it: `{date}` has several.
    ways: Vec<Vec<Part>>,
    /// Files are named so, and those of one time are a backup; else folders are.
    files: bool,
}

/// What a name says of the time.
#[derive(Default)]
struct Moment {
    fields: [Option<i16>; 6],
    epoch: Option<i64>,
}

/// What a backup's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All of a folder.
    Folder(String),
    /// These of the store itself.
    Files(Vec<String>),
}

/// What is in a store.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) backups: BTreeMap<BackupId, Found>,
    /// What is no backup, and why.
    pub(super) strangers: Vec<OddEntry>,
}

impl Names {
    /// What a pattern means. `files`: it is one of files.
    pub(super) fn parse(pattern: &str, files: bool) -> Result<Self> {
        let bad = |what: &str| {
            Error::new(
                ErrorKind::Config,
                "store.bad_pattern",
                format!("{pattern:?} is no pattern of names: {what}"),
            )
            .hint("it is text with {year} {month} {day} {hour} {minute} {second}, {date}, {time}, {epoch}, {n} for a number and * for anything, such as \"backup_{date}\"")
        };
        if pattern.contains('/') || pattern.is_empty() {
            return Err(bad("a name has no slash"));
        }
        let mut ways = vec![Vec::new()];
        let mut rest = pattern;
        while !rest.is_empty() {
            let (choices, after): (Vec<Vec<Part>>, &str) =
                if let Some(after) = rest.strip_prefix('*') {
                    (vec![vec![Part::Any]], after)
                } else if let Some(inner) = rest.strip_prefix('{') {
                    let (word, after) = inner
                        .split_once('}')
                        .ok_or_else(|| bad("a { is not closed"))?;
                    let choices =
                        choices(word).ok_or_else(|| bad(&format!("{{{word}}} is unknown")))?;
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
        let dated = |way: &Vec<Part>| {
            let mut parts = way.iter();
            parts.any(|part| matches!(part, Part::Field(Field::Day, _) | Part::Epoch))
        };
        if files && !ways.iter().all(dated) {
            return Err(bad("files need a date in their names"));
        }
        Ok(Self {
            pattern: pattern.to_owned(),
            ways,
            files,
        })
    }

    /// The id of the backup that has this name; the error says why it is none. A name without a date
    /// is of the time at which it was last changed.
    fn id(&self, name: &str, mtime: i64) -> Result<BackupId, String> {
        let found = self.ways.iter().find_map(|way| {
            let mut moment = Moment::default();
            matches(way, name, &mut moment).then_some(moment)
        });
        let Some(moment) = found else {
            return Err(format!("its name is not as {:?} says", self.pattern));
        };
        let at = |seconds: i64| {
            let stamp = jiff::Timestamp::from_second(seconds).ok()?;
            let local = stamp.to_zoned(jiff::tz::TimeZone::system());
            local
                .strftime("%Y%m%d-%H%M%S")
                .to_string()
                .parse::<BackupId>()
                .ok()
        };
        let [year, month, day, hour, minute, second] = moment.fields;
        let id = match (year, month, day) {
            (Some(year), Some(month), Some(day)) => {
                let [hour, minute, second] = [hour, minute, second].map(|it| it.unwrap_or(0));
                format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
                    .parse::<BackupId>()
                    .ok()
            }
            _ => at(moment.epoch.unwrap_or(mtime)),
        };
        id.ok_or_else(|| "its name has a date that does not exist".to_owned())
    }

    /// Whether what is at `path` under that name is the backup, or one of its files.
    pub(super) fn is_of(&self, path: &Path, name: &str, id: &BackupId) -> bool {
        let Ok(meta) = std::fs::symlink_metadata(path) else {
            return false;
        };
        let kind = meta.file_type();
        let kind = if self.files {
            kind.is_file()
        } else {
            kind.is_dir()
        };
        kind && !name.contains('/') && self.id(name, meta.mtime()).as_ref() == Ok(id)
    }
}

/// The ways to write what a word in braces stands for.
fn choices(word: &str) -> Option<Vec<Vec<Part>>> {
    let field = |name: &str| {
        let (_, field, digits) = FIELDS.iter().find(|(known, ..)| *known == name)?;
        Some(Part::Field(*field, *digits))
    };
    let joined = |names: &[&str], with: &str| {
        let mut parts = Vec::new();
        for (at, name) in names.iter().enumerate() {
            if at > 0 && !with.is_empty() {
                parts.push(Part::Text(with.to_owned()));
            }
            parts.extend(field(name));
        }
        parts
    };
    let each = |names: &[&str], separators: &[&str]| -> Vec<Vec<Part>> {
        separators.iter().map(|with| joined(names, with)).collect()
    };
    Some(match word {
        "date" => each(&["year", "month", "day"], &["-", "", "_", "."]),
        "time" => [
            each(&["hour", "minute", "second"], &["-", "", "_", ":", "."]),
            each(&["hour", "minute"], &["-", "", "_", ":", "."]),
        ]
        .concat(),
        "epoch" => vec![vec![Part::Epoch]],
        "n" => vec![vec![Part::Number]],
        word => vec![vec![field(word)?]],
    })
}

/// Whether the whole of `name` is as the parts say; notes the time that it gives.
fn matches(parts: &[Part], name: &str, moment: &mut Moment) -> bool {
    let Some((part, rest)) = parts.split_first() else {
        return name.is_empty();
    };
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    match part {
        Part::Text(text) => name
            .strip_prefix(text.as_str())
            .is_some_and(|after| matches(rest, after, moment)),
        Part::Field(field, count) => {
            let Some((number, after)) = name.split_at_checked(*count).filter(|_| digits >= *count)
            else {
                return false;
            };
            let at = FIELDS.iter().position(|(_, known, _)| known == field);
            if let Some(slot) = at.and_then(|at| moment.fields.get_mut(at)) {
                *slot = number.parse().ok();
            }
            matches(rest, after, moment)
        }
        Part::Epoch => {
            let Some((number, after)) = name.split_at_checked(10).filter(|_| digits >= 10) else {
                return false;
            };
            moment.epoch = number.parse().ok();
            matches(rest, after, moment)
        }
        Part::Number => {
            digits > 0
                && name
                    .split_at_checked(digits)
                    .is_some_and(|(_, after)| matches(rest, after, moment))
        }
        Part::Any => (0..=name.len())
            .filter_map(|at| name.get(at..))
            .any(|after| matches(rest, after, moment)),
    }
}

#[cfg(test)]
std::thread_local! {
    /// How often a store was looked through by this thread.
    pub(super) static SURVEYS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Everything that is in the directory `root`.
pub(super) fn survey(root: &Path, names: Option<&Names>) -> Result<Survey> {
    #[cfg(test)]
    SURVEYS.set(SURVEYS.get() + 1);
    let mut survey = Survey::default();
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(root).map_err(|e| unreachable_store(root, e))? {
        let entry = entry.map_err(|e| unreachable_store(root, e))?;
        // Not followed: a link is no backup.
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            // Moved away just now.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(unreachable_store(&entry.path(), e)),
        };
        entries.push((entry.file_name(), meta));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, meta) in entries {
        let shown = name.to_string_lossy().into_owned();
        if shown.starts_with('.') || shown == "lost+found" {
            continue;
        }
        let kind = meta.file_type();
        if let Err(what) = survey.add(&shown, name.to_str(), &kind, meta.mtime(), names) {
            survey.strangers.push(OddEntry { path: shown, what });
        }
    }
    survey.strangers.sort();
    Ok(survey)
}

impl Survey {
    fn add(
        &mut self,
        shown: &str,
        name: Option<&str>,
        kind: &std::fs::FileType,
        mtime: i64,
        names: Option<&Names>,
    ) -> Result<(), String> {
        let name = name.ok_or("its name is not UTF-8")?;
        if name.ends_with(".partial") {
            return Err(
                "it is being fetched, or was never fetched wholly: `restore fetch` goes on"
                    .to_owned(),
            );
        }
        if kind.is_symlink() {
            return Err("it is a symbolic link, which is not followed".to_owned());
        }
        if kind.is_dir() {
            let id = match (name.parse(), names) {
                (Ok(id), _) => id,
                (Err(_), Some(names)) if !names.files => names.id(name, mtime)?,
                (Err(_), Some(_)) => {
                    return Err("it is a folder, and `files` names files".to_owned());
                }
                (Err(_), None) => {
                    return Err(
                        "its name is no backup's id (20240215-020000): `id` of the store says how other names are read"
                            .to_owned(),
                    );
                }
            };
            // One of our own names is what the id stands for.
            let own = id.as_str() == name;
            match self.backups.remove(&id) {
                Some(Found::Folder(other)) if other != name && !own => {
                    let what = format!("it is of the same second as {other}");
                    self.backups.insert(id, Found::Folder(other));
                    return Err(what);
                }
                Some(Found::Folder(other)) if other != name => self.pass_over(other, name),
                Some(Found::Files(files)) => {
                    for file in files {
                        self.pass_over(file, &format!("the folder {name}"));
                    }
                }
                _ => {}
            }
            self.backups.insert(id, Found::Folder(shown.to_owned()));
            return Ok(());
        }
        if crate::contract::PackedBackup::of(name, 0, "").is_some() {
            return Ok(());
        }
        match names {
            Some(names) if names.files && kind.is_file() => {
                let id = names.id(name, mtime)?;
                let found = self.backups.entry(id).or_insert(Found::Files(Vec::new()));
                match found {
                    Found::Files(files) => files.push(name.to_owned()),
                    Found::Folder(other) => {
                        return Err(format!("it is of the same second as the folder {other}"));
                    }
                }
                Ok(())
            }
            _ => Err("it is no folder, and no packed backup (backup-ID.tar.gz)".to_owned()),
        }
    }
}

impl Survey {
    /// What was taken for a backup, or a part of one, is none beside `other`.
    fn pass_over(&mut self, path: String, other: &str) {
        let what = format!("it is of the same second as {other}");
        self.strangers.push(OddEntry { path, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            let names = Names::parse(pattern, false).unwrap();
            let id = names.id(name, 0).ok();
            assert_eq!(id.as_ref().map(BackupId::as_str), want, "{pattern} {name}");
        }
        let names = Names::parse("daily.{n}", false).unwrap();
        assert!(
            names
                .id("daily.12", 1_700_000_000)
                .unwrap()
                .as_str()
                .starts_with("202311")
        );
        let names = Names::parse("b{epoch}", false).unwrap();
        assert!(
            names
                .id("b1700000000", 0)
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
        ] {
            assert_eq!(
                Names::parse(pattern, files).unwrap_err().code(),
                "store.bad_pattern"
            );
        }
    }
}
