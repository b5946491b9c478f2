//! Whether a text is a crontab. Gentle: what some cron understands passes; what no cron could
//! is refused before it replaces one that works.

use crate::error::{Error, ErrorKind, Result};

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
                    | "every_minute"
            )
        });
        return match (known, words.next()) {
            (false, _) => Kind::Bad("its @word is unknown"),
            (true, None) => Kind::Bad("it has no command"),
            (true, Some(_)) => Kind::Job,
        };
    }
    let mut words = line.split_whitespace();
    for _ in 0..5 {
        match words.next() {
            Some(field) if is_time(field) => {}
            Some(_) => return Kind::Bad("it does not begin with five fields of time"),
            None => return Kind::Bad("it has less than five fields of time"),
        }
    }
    if words.next().is_none() {
        return Kind::Bad("it has no command");
    }
    Kind::Job
}

fn is_assignment(line: &str) -> bool {
    line.split_once('=').is_some_and(|(name, _)| {
        let name = name.trim().trim_matches(['"', '\'']);
        !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    })
}

/// A number, a name of a month or day, `*`, and ranges, lists and steps of them.
fn is_time(field: &str) -> bool {
    field.starts_with(|first: char| first.is_ascii_alphanumeric() || matches!(first, '*' | '?'))
        && field.chars().all(|letter| {
            letter.is_ascii_alphanumeric()
                || matches!(letter, '*' | ',' | '-' | '/' | '~' | '?' | '#')
        })
        && (field.contains(|c: char| c.is_ascii_digit() || c == '*' || c == '?')
            || field
                .split([',', '-'])
                .all(|name| name.len() == 3 && name.chars().all(|c| c.is_ascii_alphabetic())))
}

#[cfg(test)]
mod tests {
    use super::jobs;

    #[test]
    fn what_cron_takes_is_counted() {
        let text = "# backups\nMAILTO=ops@example.org\n NAME = \"x y\"\n\n0 2 * * * /opt/scripts/backup.sh\n\
            */5 8-18/2 1,15 jan-mar MON,thu cd / && x=1 ./run\n@daily /bin/true\n@reboot x\n17 * * * * root run-parts\n";
        assert_eq!(jobs(text.as_bytes(), "x").unwrap(), 5);
        assert_eq!(jobs(b"", "x").unwrap(), 0);
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
