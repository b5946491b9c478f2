//! Backups of other tools: which one a name stands for, and what a store has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::directory::{open, unreachable_store};
use crate::contract::store::is_inside;
use crate::contract::{Manifest, OddEntry, PackedBackup, StoreReason};
use crate::model::{BackupId, Error, ErrorKind, Result, read_error};

/// So much of a manifest is looked through for when it was made.
const HEAD: u64 = 64 << 10;

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// So many digits of a date or time.
    Field(Field, usize),
    /// The last two digits of a year since 2000.
    ShortYear,
    /// The name of a month, whole or cut to its first three letters.
    MonthName,
    /// Seconds since 1970.
    Epoch,
    /// Any number, which says nothing of the time.
    Number,
    /// The name of a day of the week, which does not say of which week.
    Weekday,
    /// Anything, where the folder's manifest says the time.
    Manifest,
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

const MONTHS: [&str; 12] = [
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

const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// Each way to write a pattern: `{date}` has several.
type Ways = Vec<Vec<Part>>;

/// How a store of another tool names its backups.
#[derive(Clone, Debug)]
pub(super) struct NamePattern {
    pattern: String,
    ways: Ways,
    /// Files are named so, and those of one time are a backup; else folders are.
    files: bool,
    /// How the folders above these files are named, the uppermost first.
    above: Vec<Ways>,
}

/// What a name says of the time.
#[derive(Default)]
struct Moment {
    fields: [Option<i16>; 6],
    epoch: Option<i64>,
}

impl Moment {
    fn set(&mut self, field: Field, value: Option<i16>) {
        let at = FIELDS.iter().position(|(_, known, _)| *known == field);
        if let Some(slot) = at.and_then(|at| self.fields.get_mut(at)) {
            *slot = value;
        }
    }
}

/// Which of these words a name begins with, whole or its first three letters, in any case; and what comes after.
fn named<'a>(words: &[&str], name: &'a str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        for length in [word.len(), 3] {
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

/// What else has to be read before a survey is whole.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Folders to be looked into, each with a slash at its end.
    pub(super) folders: Vec<String>,
    /// Folders whose manifest says when they were made.
    pub(super) manifests: Vec<String>,
}

/// What an entry of a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    Folder,
    File,
    Link,
    Other,
}

/// Something in a folder of a store.
#[derive(Debug)]
pub(super) struct StoreEntry {
    /// `None`: no name that a file of ours could have.
    name: Option<String>,
    shown: String,
    kind: EntryKind,
    /// Seconds since 1970, where the store knows them.
    modified: Option<i64>,
}

impl StoreEntry {
    pub(super) fn new(name: &[u8], kind: EntryKind, modified: Option<i64>) -> Self {
        let plain = std::str::from_utf8(name)
            .ok()
            .filter(|name| is_inside(name) && !name.contains('/'));
        Self {
            name: plain.map(str::to_owned),
            shown: String::from_utf8_lossy(name).into_owned(),
            kind,
            modified,
        }
    }
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
            .hint("it is text with {year} {month} {day} {hour} {minute} {second}, {yy}, {mon} for the name of a month, {date}, {time}, {epoch}, {weekday}, {n} for a number, {manifest} where the folder's manifest says the time, and * for anything, such as \"backup_{date}\"")
        };
        if !files && pattern.contains('/') {
            return Err(bad("a name has no slash"));
        }
        if !is_inside(pattern) {
            return Err(bad("it is made of plain names"));
        }
        let all = ways(pattern).map_err(|what| bad(&what))?;
        if files && !are_dated(&all) {
            return Err(bad("files need a date in their names"));
        }
        let parts = || all.iter().flatten();
        if parts().any(|part| *part == Part::Manifest) && (files || parts().any(says_time)) {
            return Err(bad("{manifest} is of folders, and instead of a date"));
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
    fn is_of_manifests(&self) -> bool {
        self.ways.iter().flatten().any(|it| *it == Part::Manifest)
    }

    /// Whether files of backups may be below the folder at `path`.
    fn is_above(&self, path: &str) -> bool {
        let ways = self.above.get(path.matches('/').count());
        ways.is_some_and(|ways| moment_in(ways, path).is_some())
    }

    fn not_named(&self) -> String {
        format!("its name is not as {:?} says", self.pattern)
    }

    /// The id of the backup that has this name; the error says why it is none. A name without a date
    /// is of the time at which it was last changed.
    fn id(&self, name: &str, modified: Option<i64>) -> Result<BackupId, String> {
        let moment = moment_in(&self.ways, name).ok_or_else(|| self.not_named())?;
        let at = |seconds: i64| {
            let stamp = jiff::Timestamp::from_second(seconds).ok()?;
            id_of(stamp.to_zoned(jiff::tz::TimeZone::system()).datetime())
        };
        let [year, month, day, hour, minute, second] = moment.fields;
        let id = match (year, month, day, moment.epoch.or(modified)) {
            (Some(year), Some(month), Some(day), _) => {
                let [hour, minute, second] = [hour, minute, second].map(|it| it.unwrap_or(0));
                format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
                    .parse::<BackupId>()
                    .ok()
            }
            (.., Some(seconds)) => at(seconds),
            (.., None) => {
                return Err(
                    "its name has no date, and the store does not say when it was changed"
                        .to_owned(),
                );
            }
        };
        id.ok_or_else(|| "its name has a date that does not exist".to_owned())
    }

    /// Whether what is at the path `name` in the directory `root` is the backup, or one of its files.
    pub(super) fn is_of(&self, root: &Path, name: &str, id: &BackupId) -> bool {
        let Ok(meta) = std::fs::symlink_metadata(root.join(name)) else {
            return false;
        };
        let kind = meta.file_type();
        let kind = if self.files {
            kind.is_file()
        } else {
            kind.is_dir()
        };
        if self.is_of_manifests() {
            let made = manifest_head(root, name).and_then(|head| made_at(&head));
            return kind && moment_in(&self.ways, name).is_some() && made.as_ref() == Some(id);
        }
        kind && self.id(name, Some(meta.mtime())).as_ref() == Ok(id)
    }
}

/// Whether each of these ways says at least of which day a backup is.
fn are_dated(ways: &[Vec<Part>]) -> bool {
    let is_day = |part: &Part| matches!(part, Part::Field(Field::Day, _) | Part::Epoch);
    ways.iter().all(|way| way.iter().any(is_day))
}

/// Whether a name that is written in any of these ways says by itself of which time a backup is, so that it is
/// never another one's.
fn are_of_one_time(ways: &[Vec<Part>]) -> bool {
    ways.iter().all(|way| {
        let has = |wanted: &dyn Fn(&Part) -> bool| way.iter().any(wanted);
        let year = |it: &Part| matches!(it, Part::Field(Field::Year, _) | Part::ShortYear);
        let month = |it: &Part| matches!(it, Part::Field(Field::Month, _) | Part::MonthName);
        let day = |it: &Part| matches!(it, Part::Field(Field::Day, _));
        has(&|it: &Part| *it == Part::Epoch) || (has(&year) && has(&month) && has(&day))
    })
}

/// Whether a part says when a backup was made.
fn says_time(part: &Part) -> bool {
    matches!(
        part,
        Part::Field(..) | Part::ShortYear | Part::MonthName | Part::Epoch
    )
}

/// The time that a name gives which is written in one of these ways; `None` where it is not.
fn moment_in(ways: &[Vec<Part>], name: &str) -> Option<Moment> {
    ways.iter().find_map(|way| {
        let mut moment = Moment::default();
        matches(way, name, &mut moment, &mut BTreeSet::new()).then_some(moment)
    })
}

fn id_of(time: jiff::civil::DateTime) -> Option<BackupId> {
    time.strftime("%Y%m%d-%H%M%S").to_string().parse().ok()
}

/// The id of the backup whose manifest begins so: the one that it gives, or that of its time.
fn made_at(head: &[u8]) -> Option<BackupId> {
    let head = String::from_utf8_lossy(head);
    let value = |key: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            (name.trim().eq_ignore_ascii_case(key) && !value.is_empty()).then_some(value)
        })
    };
    if let Some(id) = value("Backup ID").and_then(|id| id.parse().ok()) {
        return Some(id);
    }
    let mut said = ["Created", "Created At", "Date"].into_iter();
    said.find_map(|key| time_of(value(key)?))
}

/// The id of a time as people and programs write it: with an offset, without one (local time), in seconds
/// since 1970, or as `date` writes it.
fn time_of(text: &str) -> Option<BackupId> {
    let local = |stamp: jiff::Timestamp| stamp.to_zoned(jiff::tz::TimeZone::system()).datetime();
    if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        return id_of(local(stamp));
    }
    if let Ok(time) = text.parse::<jiff::civil::DateTime>() {
        return id_of(time);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return id_of(local(jiff::Timestamp::from_second(seconds).ok()?));
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, month, day, time, .., year] = words.as_slice() else {
        return None;
    };
    let plain = format!("{month} {day:0>2} {time} {year}");
    let time = jiff::civil::DateTime::strptime("%b %d %H:%M:%S %Y", plain).ok()?;
    id_of(time)
}

/// The beginning of the manifest of the folder `name` in a directory, where it has one.
fn manifest_head(root: &Path, name: &str) -> Option<Vec<u8>> {
    let file = open(root, &format!("{name}/{}", Manifest::FILE_NAME), 0).ok()?;
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head).ok()?;
    Some(head)
}

/// The beginning of a manifest of a store elsewhere, which `opened` is; `None` where there is none.
pub(super) async fn head_of(
    opened: Result<Box<dyn AsyncRead + Send + Unpin>>,
) -> Result<Option<Vec<u8>>> {
    let reader = match opened {
        Ok(reader) => reader,
        Err(error) if error.is(&StoreReason::Vanished) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut head = Vec::new();
    let read = reader.take(HEAD).read_to_end(&mut head).await;
    match read {
        Ok(_) => Ok(Some(head)),
        Err(error) => {
            let error = read_error(Manifest::FILE_NAME, error);
            match error.is(&StoreReason::Vanished) {
                true => Ok(None),
                false => Err(error),
            }
        }
    }
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
        "yy" => vec![vec![Part::ShortYear]],
        "mon" => vec![vec![Part::MonthName]],
        "weekday" => vec![vec![Part::Weekday]],
        "manifest" => vec![vec![Part::Manifest]],
        word => vec![vec![field(word)?]],
    })
}

/// Whether the whole of `name` is as the parts say; notes the time that it gives. `failed` has how many
/// parts come after each `*` that led nowhere. An earlier one that grows comes to it later in the name, where
/// it leads nowhere either: without that the time would multiply with each.
fn matches(parts: &[Part], name: &str, moment: &mut Moment, failed: &mut BTreeSet<usize>) -> bool {
    let Some((part, rest)) = parts.split_first() else {
        return name.is_empty();
    };
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    match part {
        Part::Text(text) => name
            .strip_prefix(text.as_str())
            .is_some_and(|after| matches(rest, after, moment, failed)),
        Part::Field(field, count) => {
            let Some((number, after)) = name.split_at_checked(*count).filter(|_| digits >= *count)
            else {
                return false;
            };
            moment.set(*field, number.parse().ok());
            matches(rest, after, moment, failed)
        }
        Part::ShortYear => {
            let Some((number, after)) = name.split_at_checked(2).filter(|_| digits >= 2) else {
                return false;
            };
            let year = number.parse::<i16>().ok();
            moment.set(Field::Year, year.map(|year| 2000 + year));
            matches(rest, after, moment, failed)
        }
        Part::MonthName => named(&MONTHS, name).into_iter().any(|(at, after)| {
            moment.set(Field::Month, i16::try_from(at + 1).ok());
            matches(rest, after, moment, failed)
        }),
        Part::Weekday => named(&WEEKDAYS, name)
            .into_iter()
            .any(|(_, after)| matches(rest, after, moment, failed)),
        Part::Epoch => {
            let Some((number, after)) = name.split_at_checked(10).filter(|_| digits >= 10) else {
                return false;
            };
            moment.epoch = number.parse().ok();
            matches(rest, after, moment, failed)
        }
        Part::Number => {
            digits > 0
                && name
                    .split_at_checked(digits)
                    .is_some_and(|(_, after)| matches(rest, after, moment, failed))
        }
        Part::Any | Part::Manifest => {
            // As elsewhere it stops at a slash.
            let end = name.find('/').unwrap_or(name.len());
            failed.insert(rest.len())
                && (0..=end)
                    .filter_map(|at| name.get(at..))
                    .any(|after| matches(rest, after, moment, failed))
        }
    }
}

#[cfg(test)]
std::thread_local! {
    /// How often a store was looked through by this thread.
    pub(super) static SURVEYS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Everything that is in the directory `root`.
pub(super) fn survey(root: &Path, names: Option<&NamePattern>) -> Result<Survey> {
    #[cfg(test)]
    SURVEYS.set(SURVEYS.get() + 1);
    let mut survey = Survey::default();
    let mut todo = vec![String::new()];
    while let Some(folder) = todo.pop() {
        let at = match folder.is_empty() {
            true => root.to_path_buf(),
            false => root.join(&folder),
        };
        let Some(entries) = entries(&at, folder.is_empty())? else {
            continue;
        };
        let unread = survey.take(&folder, entries, names);
        todo.extend(unread.folders);
        for name in unread.manifests {
            survey.tell(&name, manifest_head(root, &name).as_deref());
        }
    }
    Ok(survey.sorted())
}

/// What is in a directory; `None` where one that was there is gone.
fn entries(at: &Path, is_top: bool) -> Result<Option<Vec<StoreEntry>>> {
    use std::io::ErrorKind::NotFound;
    let mut entries = Vec::new();
    let listed = match std::fs::read_dir(at) {
        Ok(listed) => listed,
        Err(e) if e.kind() == NotFound && !is_top => return Ok(None),
        Err(e) => return Err(unreachable_store(at, e)),
    };
    for entry in listed {
        let entry = entry.map_err(|e| unreachable_store(at, e))?;
        // Not followed: a link is no backup.
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            // Moved away just now.
            Err(e) if e.kind() == NotFound => continue,
            Err(e) => return Err(unreachable_store(&entry.path(), e)),
        };
        let kind = match meta.file_type() {
            kind if kind.is_dir() => EntryKind::Folder,
            kind if kind.is_file() => EntryKind::File,
            kind if kind.is_symlink() => EntryKind::Link,
            _ => EntryKind::Other,
        };
        let name = entry.file_name();
        let entry = StoreEntry::new(name.as_encoded_bytes(), kind, Some(meta.mtime()));
        entries.push(entry);
    }
    Ok(Some(entries))
}

/// What becomes of an entry.
enum Taken {
    /// It is a backup, or a part of one.
    Known,
    /// It is a folder above files of backups.
    Above,
    /// It is a backup of a time that its manifest says.
    ByManifest,
}

impl Survey {
    /// Takes in what is in `folder` (`""`, `"a/"`), and says what else has to be read.
    pub(super) fn take(
        &mut self,
        folder: &str,
        mut entries: Vec<StoreEntry>,
        names: Option<&NamePattern>,
    ) -> Unread {
        entries.sort_by(|a, b| a.shown.cmp(&b.shown));
        let mut unread = Unread::default();
        for entry in entries {
            let top = folder.is_empty();
            if entry.shown.starts_with('.') || (top && entry.shown == "lost+found") {
                continue;
            }
            let path = format!("{folder}{}", entry.shown);
            match self.add(top, &path, &entry, names) {
                Ok(Taken::Known) => {}
                Ok(Taken::Above) => unread.folders.push(format!("{path}/")),
                Ok(Taken::ByManifest) => unread.manifests.push(path),
                Err(what) => self.strangers.push(OddEntry { path, what }),
            }
        }
        unread
    }

    /// Takes in what the manifest of the folder `name` begins with; `None`: it has none.
    pub(super) fn tell(&mut self, name: &str, head: Option<&[u8]>) {
        let added = match (head, head.and_then(made_at)) {
            (_, Some(id)) => self.add_folder(name, id),
            (Some(_), None) => Err(format!(
                "its {} says neither `Backup ID:` nor `Created:`, from which its time would be known",
                Manifest::FILE_NAME
            )),
            (None, None) => Err(format!(
                "it has no {}, from which its time would be known",
                Manifest::FILE_NAME
            )),
        };
        if let Err(what) = added {
            let path = name.to_owned();
            self.strangers.push(OddEntry { path, what });
        }
    }

    /// The same with everything in order.
    pub(super) fn sorted(mut self) -> Self {
        self.strangers.sort();
        for found in self.backups.values_mut() {
            if let Found::Files(files) = found {
                files.sort();
            }
        }
        self
    }

    fn add(
        &mut self,
        top: bool,
        path: &str,
        entry: &StoreEntry,
        names: Option<&NamePattern>,
    ) -> Result<Taken, String> {
        let name = entry
            .name
            .as_deref()
            .ok_or("its name is not UTF-8, or no plain name")?;
        if top && name.ends_with(".partial") {
            return Err(
                "it is being fetched, or was never fetched wholly: `restore fetch` goes on"
                    .to_owned(),
            );
        }
        match entry.kind {
            EntryKind::Link => Err("it is a symbolic link, which is not followed".to_owned()),
            EntryKind::Folder => {
                let id = match (name.parse::<BackupId>().ok().filter(|_| top), names) {
                    (Some(id), _) => id,
                    (None, Some(names)) if names.files => {
                        return match names.is_above(path) {
                            true => Ok(Taken::Above),
                            false => Err("it is a folder, and `files` names files".to_owned()),
                        };
                    }
                    (None, Some(names)) if names.is_of_manifests() => {
                        return match moment_in(&names.ways, name) {
                            Some(_) => Ok(Taken::ByManifest),
                            None => Err(names.not_named()),
                        };
                    }
                    (None, Some(names)) => names.id(name, entry.modified)?,
                    (None, None) => {
                        return Err(
                            "its name is no backup's id (20240215-020000): `id` of the store says how other names are read"
                                .to_owned(),
                        );
                    }
                };
                self.add_folder(name, id).map(|()| Taken::Known)
            }
            EntryKind::File if top && PackedBackup::of(name, 0, "").is_some() => Ok(Taken::Known),
            EntryKind::File | EntryKind::Other => match names {
                Some(names) if names.files && entry.kind == EntryKind::File => {
                    let id = names.id(path, entry.modified)?;
                    let found = self.backups.entry(id).or_insert(Found::Files(Vec::new()));
                    match found {
                        Found::Files(files) => files.push(path.to_owned()),
                        Found::Folder(other) => {
                            return Err(format!("it is of the same second as the folder {other}"));
                        }
                    }
                    Ok(Taken::Known)
                }
                _ => Err("it is no folder, and no packed backup (backup-ID.tar.gz)".to_owned()),
            },
        }
    }

    /// Takes the folder `name` for the backup `id`.
    fn add_folder(&mut self, name: &str, id: BackupId) -> Result<(), String> {
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
        self.backups.insert(id, Found::Folder(name.to_owned()));
        Ok(())
    }

    /// What was taken for a backup, or a part of one, is none beside `other`.
    fn pass_over(&mut self, path: String, other: &str) {
        let what = format!("it is of the same second as {other}");
        self.strangers.push(OddEntry { path, what });
    }
}

/// Where a backup was when its store was last looked through.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In the folder of this name.
    Folder(String),
    /// Its files were in these folders of the store: `""`, `"a/"`.
    Files(BTreeSet<String>),
}

impl Place {
    fn of(found: &Found) -> Self {
        match found {
            Found::Folder(name) => Self::Folder(name.clone()),
            Found::Files(files) => {
                let folder = |file: &String| match file.rsplit_once('/') {
                    Some((folder, _)) => format!("{folder}/"),
                    None => String::new(),
                };
                Self::Files(files.iter().map(folder).collect())
            }
        }
    }
}

/// Where a backup is to be found without looking through its whole store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// In this folder: no other backup is ever of its name.
    Folder(String),
    /// In this folder, where its manifest still [says so](is_manifest_of).
    ByManifest(String),
    /// Its files are in these folders, `""` or `"a/"`, and say by their names that they are its.
    Files(Vec<String>),
}

/// Whether what a manifest begins with, where there is one, is of this backup.
pub(super) fn is_manifest_of(head: Option<&[u8]>, id: &BackupId) -> bool {
    head.and_then(made_at).as_ref() == Some(id)
}

/// How a store elsewhere names its backups, and where they were when it was last looked through.
#[derive(Debug, Default)]
pub(super) struct Naming {
    pattern: Option<NamePattern>,
    places: Mutex<HashMap<BackupId, Place>>,
}

impl Naming {
    pub(super) fn new(pattern: NamePattern) -> Self {
        Self {
            pattern: Some(pattern),
            places: Mutex::default(),
        }
    }

    pub(super) fn pattern(&self) -> Option<&NamePattern> {
        self.pattern.as_ref()
    }

    /// Remembers where everything is.
    pub(super) fn remember(&self, survey: &Survey) {
        if self.pattern.is_none() {
            return;
        }
        let places = survey.backups.iter();
        let places = places.map(|(id, found)| (id.clone(), Place::of(found)));
        let places = places.collect();
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// As [`place`](Self::place), where that holds without a look.
    pub(super) fn lasting_place(&self, id: &BackupId, path: &str) -> Option<String> {
        let lasts = self.pattern.is_none() || !matches!(self.known(id)?, Known::ByManifest(_));
        self.place(id, path).filter(|_| lasts)
    }

    /// Where a backup still is that was there when the store was last looked through, or where that can be told from
    /// its manifest. `None` where its name, such as `daily.0`, is used again and again.
    pub(super) fn known(&self, id: &BackupId) -> Option<Known> {
        let pattern = self.pattern.as_ref()?;
        let lasts = are_of_one_time(&pattern.ways);
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        match places.get(id)? {
            Place::Folder(name) if lasts || name == id.as_str() => {
                Some(Known::Folder(name.clone()))
            }
            Place::Folder(name) if pattern.is_of_manifests() => {
                Some(Known::ByManifest(name.clone()))
            }
            Place::Files(folders) if lasts => {
                Some(Known::Files(folders.iter().cloned().collect()))
            }
            _ => None,
        }
    }

    /// The place of a file of a backup, relative to the store, when that was last looked through; `None` where it
    /// was not there.
    pub(super) fn place(&self, id: &BackupId, path: &str) -> Option<String> {
        if self.pattern.is_none() {
            return Some(format!("{id}/{path}"));
        }
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        Some(match places.get(id)? {
            Place::Folder(folder) => format!("{folder}/{path}"),
            Place::Files(_) => path.to_owned(),
        })
    }

    /// Whether a backup that was found is another tool's, and not of a name of ours.
    pub(super) fn is_foreign(&self, id: &BackupId) -> bool {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.get(id);
        place.is_some_and(|place| !matches!(place, Place::Folder(name) if name == id.as_str()))
    }
}

/// That a backup of another tool is not deleted.
pub(super) fn not_ours(id: &BackupId, place: &str) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "store.not_ours",
        format!("backup {id} in {place} is another tool's, and is not deleted"),
    )
    .hint("let the tool that made it delete it")
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("{weekday}", true),
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
    fn a_backup_is_found_again_where_its_name_or_its_manifest_still_says_so() {
        let known = |pattern: &str, files: bool, found: Found| {
            let id: BackupId = "20240215-000000".parse().unwrap();
            let naming = Naming::new(NamePattern::parse(pattern, files).unwrap());
            assert_eq!(naming.known(&id), None, "nothing was looked at yet");
            let mut survey = Survey::default();
            survey.backups.insert(id.clone(), found);
            naming.remember(&survey);
            let place = naming.lasting_place(&id, "x");
            (naming.known(&id), place)
        };
        let folder = |name: &str| Found::Folder(name.to_owned());
        let files = |names: &[&str]| {
            let names = names.iter().map(|it| (*it).to_owned());
            Found::Files(names.collect())
        };
        let is = |known: Known, place: &str| (Some(known), Some(place.to_owned()));
        assert_eq!(
            known("b_{date}", false, folder("b_2024-02-15")),
            is(Known::Folder("b_2024-02-15".to_owned()), "b_2024-02-15/x")
        );
        assert_eq!(
            known("*/db-{date}.*", true, files(&["a/db-20240215.sql", "b/db-20240215.gz"])),
            is(Known::Files(vec!["a/".to_owned(), "b/".to_owned()]), "x")
        );
        assert_eq!(
            known("db-{date}.*", true, files(&["db-20240215.sql"])),
            is(Known::Files(vec![String::new()]), "x")
        );
        assert_eq!(
            known("full-{manifest}", false, folder("full-1")),
            (Some(Known::ByManifest("full-1".to_owned())), None)
        );
        // One of a name of ours, beside those of another tool.
        assert_eq!(
            known("daily.{n}", false, folder("20240215-000000")),
            is(Known::Folder("20240215-000000".to_owned()), "20240215-000000/x")
        );
        for pattern in ["daily.{n}", "{weekday}", "{day}-{n}"] {
            let found = known(pattern, false, folder("another"));
            assert_eq!(found, (None, None), "{pattern}");
        }
    }

    #[test]
    fn a_day_of_the_week_is_of_the_time_of_its_folder() {
        let names = NamePattern::parse("{weekday}", false).unwrap();
        let id = names.id("Monday", Some(1_700_000_000)).unwrap();
        assert!(id.as_str().starts_with("202311"), "{id}");
        let why = names.id("Monday", None).unwrap_err();
        assert!(why.contains("does not say when"), "{why}");
    }

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
        ] {
            let id = made_at(text.as_bytes());
            assert_eq!(id.unwrap().as_str(), want, "{text}");
        }
        for text in ["Created: 2024-02-15T02:30:07Z", "Created: 1707964207"] {
            let id = made_at(text.as_bytes()).unwrap();
            assert!(id.as_str().starts_with("2024021"), "{id}");
        }
        for text in ["", "Created:", "Created: now", "Created: a b c d e"] {
            assert_eq!(made_at(text.as_bytes()), None, "{text}");
        }
    }
}
