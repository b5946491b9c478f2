//! The lines that a service has written to its log file since a moment.
//!
//! Lines that begin with a time are judged by it; a line without one belongs to the line before
//! it. Where no line has a time, what was appended counts: the size of the file is noted when
//! the platform is opened and at each look, so "since the run began" is known to the byte in the
//! process that began it. A moment before all that is taken as the opening of the platform.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use crate::model::{Error, Result};
use crate::sys::open_theirs;

/// Longer lines are cut here.
const LONGEST: u64 = 16 * 1024;

/// How many looks are remembered.
const MARKS: usize = 256;

/// A log file, and how long it was when.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    marks: Mutex<VecDeque<(SystemTime, u64)>>,
}

impl LogFile {
    /// The log at `path`, which need not exist yet; notes its size.
    pub(super) fn open(path: PathBuf) -> Self {
        let marks = Mutex::new(VecDeque::from([(SystemTime::now(), size(&path))]));
        Self { path, marks }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its size now.
    pub(super) fn size(&self) -> u64 {
        size(&self.path)
    }

    /// The last `limit` lines since `since`. Reads the file; not for an async thread.
    pub(super) fn since(&self, since: SystemTime, limit: usize) -> Result<Vec<String>> {
        let now = (SystemTime::now(), self.size());
        let (from, opened) = {
            let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
            let opened = marks.front().map_or(0, |mark| mark.1);
            let from = marks
                .iter()
                .rev()
                .find(|(at, _)| *at <= since)
                .map(|mark| mark.1);
            if marks.len() >= MARKS {
                // The first is the opening, which stays.
                marks.remove(1);
            }
            marks.push_back(now);
            (from, opened)
        };
        let (lines, dated) = self.lines(from.unwrap_or(0), Some(since), limit)?;
        if dated || from.is_some() {
            return Ok(lines);
        }
        Ok(self.lines(opened, None, limit)?.0)
    }

    /// The last `limit` lines from the byte `offset` on, for messages.
    pub(super) fn after(&self, offset: u64, limit: usize) -> Vec<String> {
        self.lines(offset, None, limit)
            .map(|found| found.0)
            .unwrap_or_default()
    }

    /// The lines from `offset` on that are not older than `since`, and whether any had a time.
    fn lines(
        &self,
        offset: u64,
        since: Option<SystemTime>,
        limit: usize,
    ) -> Result<(Vec<String>, bool)> {
        let failed = |e| Error::io(format!("read the log {}", self.path.display()), e);
        // A service's user may have put anything in its place.
        let mut file = match open_theirs(&self.path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), false)),
            other => other.map_err(failed)?,
        };
        let length = file.metadata().map_err(failed)?.len();
        // Shorter than it was: rotated, all of it is new.
        let start = if offset > length { 0 } else { offset };
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let mut reader = BufReader::with_capacity(1 << 16, file.take(length - start));
        let mut lines = VecDeque::new();
        let mut dated = false;
        let mut wanted = true;
        let mut line = Vec::new();
        let mut beginning = true;
        loop {
            line.clear();
            let read = (&mut reader)
                .take(LONGEST)
                .read_until(b'\n', &mut line)
                .map_err(failed)?;
            if read == 0 {
                break;
            }
            let was_beginning = beginning;
            beginning = line.ends_with(b"\n");
            if !was_beginning {
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            if let Some(since) = since
                && let Some(at) = Stamp::at_start_of(text)
            {
                if !dated {
                    // What came before the first time is older than it.
                    dated = true;
                    if at.before(since) {
                        lines.clear();
                    }
                }
                wanted = !at.before(since);
            }
            if wanted && limit > 0 {
                if lines.len() == limit {
                    lines.pop_front();
                }
                lines.push_back(text.to_owned());
            }
        }
        Ok((lines.into(), dated))
    }
}

fn size(path: &Path) -> u64 {
    let file = open_theirs(path).and_then(|file| file.metadata());
    file.map_or(0, |meta| meta.len())
}

/// The time at the start of a line.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    at: SystemTime,
    fraction: bool,
}

impl Stamp {
    fn before(&self, since: SystemTime) -> bool {
        if self.fraction {
            return self.at < since;
        }
        // 09:30:00 may be any moment of that second.
        self.at
            .checked_add(std::time::Duration::from_millis(999))
            .is_some_and(|last| last < since)
    }

    /// Understands RFC 3339, `2024-02-15 09:30:00.123 UTC` (PostgreSQL), `2024/02/15 09:30:00`
    /// (nginx) and `123:M 15 Feb 2024 09:30:00.123` (Redis). A time without a zone, or with
    /// another name than UTC, is this machine's.
    fn at_start_of(line: &str) -> Option<Self> {
        let line = line.trim_start_matches(['[', '"', '(']);
        let (date, rest) = match line.split_once(' ') {
            Some((process, rest))
                if process.split_once(':').is_some_and(|(pid, role)| {
                    pid.bytes().all(|byte| byte.is_ascii_digit()) && role.len() == 1
                }) =>
            {
                redis_date(rest)?
            }
            _ => numeric_date(line)?,
        };
        let (time, zone) = rest.split_at(
            rest.find(|c: char| !c.is_ascii_digit() && c != ':')
                .unwrap_or(rest.len()),
        );
        let mut parts = time.split(':').map(str::parse::<i8>);
        let mut part = || parts.next()?.ok();
        let (hour, minute, second) = (part()?, part()?, part()?);
        let (fraction, zone) = match zone.strip_prefix(['.', ',']) {
            Some(rest) => rest.split_at(
                rest.find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(rest.len()),
            ),
            None => ("", zone),
        };
        let nanos: i32 = format!("{:0<9.9}", fraction).parse().ok()?;
        let (year, month, day) = date;
        let civil = DateTime::new(year, month, day, hour, minute, second, nanos).ok()?;
        let zoned = civil.to_zoned(zone_of(zone)).ok()?;
        Some(Self {
            at: zoned.timestamp().into(),
            fraction: !fraction.is_empty(),
        })
    }
}

type Date = (i16, i8, i8);

/// `2024-02-15T` or `2024/02/15 `, and what follows.
fn numeric_date(line: &str) -> Option<(Date, &str)> {
    let (date, rest) = (line.get(..10)?, line.get(10..)?);
    let mut parts = date.split(['-', '/']);
    let year = parts.next().filter(|year| year.len() == 4)?.parse().ok()?;
    let month = parts.next()?.parse().ok()?;
    let day = parts.next()?.parse().ok()?;
    Some(((year, month, day), rest.strip_prefix(['T', 't', ' '])?))
}

/// `15 Feb 2024 `, and what follows.
fn redis_date(line: &str) -> Option<(Date, &str)> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut parts = line.splitn(4, ' ');
    let day = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? + 1;
    let year = parts.next()?.parse().ok()?;
    Some(((year, i8::try_from(month).ok()?, day), parts.next()?))
}

fn zone_of(text: &str) -> TimeZone {
    let text = text.trim_start();
    if ["Z", "z", "UTC", "GMT", "Etc/UTC"]
        .iter()
        .any(|utc| text.starts_with(utc))
    {
        return TimeZone::UTC;
    }
    let sign = match text.bytes().next() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return TimeZone::system(),
    };
    let digits: Vec<i32> = text
        .chars()
        .skip(1)
        .filter(|c| *c != ':')
        .map_while(|c| c.to_digit(10)?.try_into().ok())
        .take(4)
        .collect();
    let minutes = match *digits.as_slice() {
        [a, b] => (10 * a + b) * 60,
        [a, b, c, d] => (10 * a + b) * 60 + 10 * c + d,
        _ => return TimeZone::system(),
    };
    Offset::from_seconds(sign * minutes * 60).map_or_else(|_| TimeZone::system(), TimeZone::fixed)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    fn at(text: &str) -> SystemTime {
        text.parse::<jiff::Timestamp>().unwrap().into()
    }

    #[test]
    fn the_times_of_the_usual_servers_are_understood() {
        let moment = at("2024-02-15T09:30:00.250Z");
        for line in [
            "2024-02-15T09:30:00.25Z INFO up",
            "2024-02-15T10:30:00.250+01:00 up",
            "[2024-02-15 08:30:00,250 -0100] up",
            "2024-02-15 09:30:00.250 UTC [77] LOG:  ready",
        ] {
            let stamp = Stamp::at_start_of(line).unwrap();
            assert_eq!((stamp.at, stamp.fraction), (moment, true), "{line}");
        }
        let local = |text: &str| -> SystemTime {
            let civil: DateTime = text.parse().unwrap();
            civil
                .to_zoned(TimeZone::system())
                .unwrap()
                .timestamp()
                .into()
        };
        let whole = local("2024-02-15T09:30:00");
        let nginx = Stamp::at_start_of("2024/02/15 09:30:00 [notice] 1#1: x").unwrap();
        assert_eq!((nginx.at, nginx.fraction), (whole, false));
        assert!(!nginx.before(whole + Duration::from_millis(900)));
        assert!(nginx.before(whole + Duration::from_millis(1000)));
        let redis = Stamp::at_start_of("77:M 15 Feb 2024 09:30:00.250 * Ready").unwrap();
        assert_eq!(redis.at, whole + Duration::from_millis(250));
        for line in [
            "",
            "  at x.py:3",
            "2024-02-15",
            "20240215 x",
            "9999-99-99 99:99:99",
            "é",
        ] {
            assert_eq!(Stamp::at_start_of(line), None, "{line}");
        }
    }

    fn log(dir: &Path, text: &str) -> (PathBuf, LogFile) {
        let path = dir.join("x.log");
        std::fs::write(&path, text).unwrap();
        (path.clone(), LogFile::open(path))
    }

    fn append(path: &Path, text: &str) {
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn lines_with_times_are_judged_by_them() {
        let dir = tempfile::tempdir().unwrap();
        let (_, log) = log(
            dir.path(),
            "2024-02-15T09:00:00Z old\n  trace of old\n2024-02-15T09:30:00Z new\n  trace of new\n",
        );
        let lines = log.since(at("2024-02-15T09:10:00Z"), 10).unwrap();
        assert_eq!(lines, ["2024-02-15T09:30:00Z new", "  trace of new"]);
        let last = log.since(at("2024-02-15T08:00:00Z"), 1).unwrap();
        assert_eq!(last, ["  trace of new"]);
    }

    #[test]
    fn lines_without_times_count_from_the_opening_or_the_last_look_before() {
        let dir = tempfile::tempdir().unwrap();
        let (path, log) = log(dir.path(), "old\n");
        let run = SystemTime::now();
        append(&path, "one\n");
        assert_eq!(log.since(run, 10).unwrap(), ["one"]);
        let later = SystemTime::now();
        append(&path, "two\n");
        assert_eq!(log.since(later, 10).unwrap(), ["two"]);
        assert_eq!(log.since(run, 10).unwrap(), ["one", "two"]);
        // Before anything this process knows of: what it saw being written.
        let before = run - Duration::from_secs(3600);
        assert_eq!(log.since(before, 10).unwrap(), ["one", "two"]);
        std::fs::write(&path, "x\n").unwrap();
        assert_eq!(log.since(run, 10).unwrap(), ["x"], "rotated");
    }

    /// The user of a service must not get at what only root reads, by way of errors and reports.
    #[test]
    fn a_log_in_a_folder_of_others_is_no_link_to_a_file_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "secret\n").unwrap();
        let folder = dir.path().join("logs");
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink("../secret", folder.join("x.log")).unwrap();
        let log = LogFile::open(folder.join("x.log"));
        let since = at("2024-02-15T09:00:00Z");
        // The link is ours: whoever made it means it.
        assert_eq!(log.after(0, 5), ["secret"]);
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&folder, open).unwrap();
        assert_eq!(log.size(), 0);
        assert!(log.after(0, 5).is_empty());
        let error = log.since(since, 5).unwrap_err();
        assert!(error.message().contains("symbolic link"), "{error}");
        std::fs::remove_file(folder.join("x.log")).unwrap();
        std::fs::hard_link(dir.path().join("secret"), folder.join("x.log")).unwrap();
        assert!(log.after(0, 5).is_empty() && log.since(since, 5).is_err());
        std::fs::remove_file(folder.join("x.log")).unwrap();
        std::fs::write(folder.join("x.log"), "own\n").unwrap();
        assert_eq!(log.after(0, 5), ["own"]);
    }

    #[test]
    fn a_long_line_is_cut_and_a_missing_file_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let long = "y".repeat(100_000);
        let (path, log) = log(dir.path(), "");
        append(&path, &format!("{long}\nnext\n"));
        let lines = log.after(0, 10);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), 16 * 1024);
        std::fs::remove_file(&path).unwrap();
        assert!(log.after(0, 10).is_empty());
    }
}
