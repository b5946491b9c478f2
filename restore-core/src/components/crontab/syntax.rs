//! Whether a text is a crontab. Gentle: what some cron understands passes; what no cron could
//! is refused before it replaces one that works. What some cron drops a whole file for is doubted.

use crate::model::{Error, ErrorKind, Result};

/// How many jobs a crontab has; `Verification` with the number of the first line that is none.
pub(super) fn jobs(text: &[u8], label: &str) -> Result<u64> {
    let mut jobs = 0;
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        match kind(line.trim()) {
            Kind::Nothing => {}
            Kind::Job => jobs += 1,
            Kind::Bad(why) => {
                return Err(Error::new(
                    ErrorKind::Verification,
                    "crontab.syntax",
                    // The line itself may hold a password.
                    format!("line {} of {label} is no crontab line: {why}", number + 1),
                )
                .hint("is it the output of `crontab -l`? mend the line in a copy of the backup, or leave the component out with --only"));
            }
        }
    }
    Ok(jobs)
}

/// Commands that are longer make Debian's cron drop the whole file.
const LONGEST_COMMAND: usize = 998;

/// What some crons drop a whole file for and others take, each with the number of its line.
pub(super) fn doubts(text: &[u8]) -> Vec<String> {
    let mut doubts = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        if !matches!(kind(line), Kind::Job) {
            continue;
        }
        let fields = if line.starts_with('@') {
            1
        } else {
            FIELDS.len()
        };
        let (times, command) = parted(line, fields);
        if command.len() > LONGEST_COMMAND {
            doubts.push(format!(
                "line {}: its command has {} bytes",
                number + 1,
                command.len()
            ));
        }
        let mut both = FIELDS.iter().zip(times);
        if fields > 1 && both.any(|(field, time)| field.is_reversed(time)) {
            doubts.push(format!(
                "line {}: a range of its times ends before it begins",
                number + 1
            ));
        }
    }
    doubts
}

/// The first so many words of a line, and what comes after them.
fn parted(line: &str, words: usize) -> (Vec<&str>, &str) {
    let mut rest = line;
    let mut first = Vec::new();
    for _ in 0..words {
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        first.push(word);
        rest = after.trim_start();
    }
    (first, rest)
}

enum Kind {
    Nothing,
    Job,
    Bad(&'static str),
}

fn kind(line: &str) -> Kind {
    if line.is_empty() || line.starts_with('#') || is_assignment(line) {
        return Kind::Nothing;
    }
    if line.contains('\0') {
        return Kind::Bad("it holds a zero byte");
    }
    if let Some(word) = line.strip_prefix('@') {
        let mut words = word.split_whitespace();
        let known = words.next().is_some_and(|word| {
            matches!(
                word.to_ascii_lowercase().as_str(),
                "reboot"
                    | "yearly"
                    | "annually"
                    | "monthly"
                    | "weekly"
                    | "daily"
                    | "midnight"
                    | "hourly"
            )
        });
        return match (known, words.next()) {
            (false, _) => Kind::Bad("its @word is unknown"),
            (true, None) => Kind::Bad("it has no command"),
            (true, Some(_)) => Kind::Job,
        };
    }
    let mut words = line.split_whitespace();
    for field in &FIELDS {
        match words.next() {
            Some(word) if is_time(word) && !field.takes(word) => return Kind::Bad(field.what),
            Some(word) if is_time(word) => {}
            Some(_) => return Kind::Bad("it does not begin with five fields of time"),
            None => return Kind::Bad("it has less than five fields of time"),
        }
    }
    if words.next().is_none() {
        return Kind::Bad("it has no command");
    }
    Kind::Job
}

/// `NAME = value`: a name is any word without blanks, or what stands in quotes.
fn is_assignment(line: &str) -> bool {
    let quoted = |quote: char| line.strip_prefix(quote)?.split_once(quote);
    if let Some((name, rest)) = quoted('"').or_else(|| quoted('\'')) {
        return !name.is_empty() && rest.trim_start().starts_with('=');
    }
    line.split_once('=').is_some_and(|(name, _)| {
        let name = name.trim();
        !name.is_empty() && !name.starts_with('@') && !name.contains(char::is_whitespace)
    })
}

/// A field of time: what it is called, its range, and whether names may stand in it.
struct Field {
    what: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        what: "its minute is invalid (0 to 59)",
        least: 0,
        most: 59,
        names: &[],
    },
    Field {
        what: "its hour is invalid (0 to 23)",
        least: 0,
        most: 23,
        names: &[],
    },
    Field {
        what: "its day of the month is invalid (1 to 31)",
        least: 1,
        most: 31,
        names: &[],
    },
    Field {
        what: "its month is invalid (1 to 12, or a name)",
        least: 1,
        most: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Field {
        what: "its day of the week is invalid (0 to 7, or a name)",
        least: 0,
        most: 7,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

/// Whether a word may be a field of time at all: a number, a name, `*`, and ranges, lists and steps of them.
fn is_time(field: &str) -> bool {
    field.starts_with(|first: char| {
        first.is_ascii_alphanumeric() || matches!(first, '*' | '?' | '~')
    }) && field.chars().all(|letter| {
        letter.is_ascii_alphanumeric() || matches!(letter, '*' | ',' | '-' | '/' | '~' | '?' | '#')
    }) && (field.contains(|c: char| c.is_ascii_digit() || matches!(c, '*' | '?' | '~'))
        || field
            .split([',', '-'])
            .all(|name| name.len() == 3 && name.chars().all(|c| c.is_ascii_alphabetic())))
}

impl Field {
    /// Whether a field of time is in its range. cron drops a whole file for one that is not.
    fn takes(&self, field: &str) -> bool {
        field.split(',').all(|part| {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, step.parse::<u32>().is_ok_and(|step| step > 0)),
                None => (part, true),
            };
            step && self.takes_range(range)
        })
    }

    fn takes_range(&self, range: &str) -> bool {
        // Extensions of some: any, random, the n-th weekday, the last.
        if matches!(range, "*" | "?" | "~" | "L" | "l") || range.contains('#') {
            return true;
        }
        let mut ends = range.splitn(2, ['-', '~']);
        let first = ends.next().unwrap_or_default();
        match (self.value(first), ends.next()) {
            (Some(_), None) => true,
            // One that ends before it begins is doubted: some crons take it.
            (Some(_), Some(to)) => self.value(to).is_some(),
            (None, Some(to)) => first.is_empty() && (to.is_empty() || self.value(to).is_some()),
            (None, None) => false,
        }
    }

    /// Whether a range in a field ends before it begins.
    fn is_reversed(&self, field: &str) -> bool {
        field.split(',').any(|part| {
            let range = part.split_once('/').map_or(part, |(range, _)| range);
            let Some((from, to)) = range.split_once('-') else {
                return false;
            };
            match (self.value(from), self.value(to)) {
                // A week may end with its Sunday.
                (Some(from), Some(to)) => from > to && !(self.most == 7 && to == 0),
                _ => false,
            }
        })
    }

    fn value(&self, word: &str) -> Option<u32> {
        if let Ok(number) = word.parse::<u32>() {
            return (self.least..=self.most).contains(&number).then_some(number);
        }
        let word = word.to_ascii_lowercase();
        let at = self.names.iter().position(|name| *name == word)?;
        Some(u32::try_from(at).ok()? + self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_COMMAND, doubts, jobs};

    #[test]
    fn what_cron_takes_is_counted() {
        let text = "# backups\nMAILTO=ops@example.org\n NAME = \"x y\"\n\n0 2 * * * /opt/scripts/backup.sh\n\
            */5 8-18/2 1,15 jan-mar MON,thu cd / && x=1 ./run\n@daily /bin/true\n@reboot x\n17 * * * * root run-parts\n\
            FOO-BAR=1\n\"a b\" = 2\n0~30 1,3-5/2 ? * sun-7 x\n~ ~5 * dec 5#3 x\n";
        assert_eq!(jobs(text.as_bytes(), "x").unwrap(), 7);
        assert_eq!(jobs(b"", "x").unwrap(), 0);
    }

    #[test]
    fn what_some_cron_drops_the_file_for_is_doubted() {
        let long = "y".repeat(LONGEST_COMMAND);
        let text = format!(
            "# {long}y\nMAILTO={long}y\n0 2 * * sat-sun {long}\n@daily {long}\n0\t22-6/2 * * * x\n\
             0 2 * * *  {long}y\n@daily {long}y\n"
        );
        assert_eq!(jobs(text.as_bytes(), "x").unwrap(), 5);
        assert_eq!(
            doubts(text.as_bytes()),
            [
                "line 5: a range of its times ends before it begins",
                "line 6: its command has 999 bytes",
                "line 7: its command has 999 bytes",
            ]
        );
    }

    #[test]
    fn what_no_cron_takes_is_refused_with_its_line() {
        for bad in [
            "0 2 * * *",
            "0 2 * *",
            "no crontab for root",
            "@fortnightly x",
            "@daily",
            "\u{1f}\u{8b}binary",
            "<html> <body> 1 2 3 4",
            "0 25 * * * x",
            "60 1 * * * x",
            "0 1 0 * * x",
            "0 1 * 13 * x",
            "0 1 * * 8 x",
            "@every_minute x",
            "*/0 * * * * x",
            "jan 1 * * * x",
        ] {
            let text = format!("# first\n{bad}\n");
            let error = jobs(text.as_bytes(), "configs/crontab.txt").unwrap_err();
            assert_eq!(error.code(), "crontab.syntax");
            assert!(
                error.message().contains("line 2 of configs/crontab.txt"),
                "{error}"
            );
        }
    }
}
