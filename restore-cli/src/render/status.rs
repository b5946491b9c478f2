//! One screen about a site: 80 columns, 24 lines with the prompt below.

use restore_core::site::{
    KeptData, LastDrill, NewestBackup, ProvenBackup, SiteStatus, UnfinishedRun,
};
use restore_core::{Finding, Outcome, Severity};

use crate::human;
use crate::paint::wrapped;
use crate::progress::finding_line;

const WIDTH: usize = 80;
/// The last line is the shell's prompt.
const LINES: usize = 23;
/// Of runs, stores and file systems, so many are named, and fewer where it would not fit.
const NAMED: usize = 3;
/// The verdict in two lines, and how many findings there are.
const VERDICT: usize = 3;
const LABEL: usize = 12;

/// The site, its newest backup and what it was proven by, its runs, its room, and what would stop a restore.
pub(crate) fn status(status: &SiteStatus) -> String {
    let fits = |out: &String| out.lines().count() + VERDICT <= LINES;
    let mut screens = (1..=NAMED).rev().map(|named| screen(status, named) + "\n");
    let out = screens
        .find(fits)
        .unwrap_or_else(|| screen(status, 1) + "\n");
    let left = LINES.saturating_sub(out.lines().count());
    out + &verdict(status, left)
}

/// All but the verdict; of several, so many are named.
fn screen(status: &SiteStatus, named: usize) -> String {
    let mut screen = Screen {
        text: String::new(),
        named,
    };
    screen.line("Site", format!("{} ({})", status.site, status.platform));
    if let Some(file) = &status.file {
        screen.line("Described", file.display().to_string());
    }
    screen.line("State", status.state.display().to_string());
    screen.line(
        "Has",
        format!(
            "{}, {}",
            human::count(status.components.len(), "component"),
            human::count(status.services.len(), "service")
        ),
    );
    let stores = status.stores.iter().map(|store| {
        let holds = match store.full_backups {
            Some(count) => human::count(count, "full backup"),
            None => "cannot be listed".to_owned(),
        };
        format!("{}: {}, {holds}", store.name, store.place)
    });
    screen.lines("Store", stores.collect(), "");
    screen.words("Newest", &newest(status.newest.as_ref()));
    screen.words(
        "Proven",
        &proven(status.proven.as_ref(), status.newest.as_ref()),
    );
    if let Some(last) = &status.drill {
        screen.line("Drill", drill(last));
    }
    let unfinished = status.unfinished.iter().map(unfinished);
    screen.lines("Unfinished", unfinished.collect(), "none");
    let kept = status.kept.iter().map(kept);
    screen.lines("Kept", kept.collect(), "nothing");
    let room = status.room.iter().map(|room| {
        let place = match room.space.place.as_str() {
            "" => room.space.file_system.as_str(),
            place => place,
        };
        let free = match room.space.read_only {
            true => "read-only".to_owned(),
            false => format!("{} free", human::bytes(room.space.free_bytes)),
        };
        format!("{place}: {free} ({})", few(&room.uses))
    });
    screen.lines("Room", room.collect(), "not known");
    screen.text
}

struct Screen {
    text: String,
    named: usize,
}

impl Screen {
    fn line(&mut self, label: &str, value: String) {
        let room = WIDTH - LABEL;
        self.text += &format!("{label:<LABEL$}{}\n", cut(&value, room));
    }

    /// A sentence, broken between words where it is too long.
    fn words(&mut self, label: &str, value: &str) {
        for (at, line) in wrapped(value, WIDTH - LABEL).lines().enumerate() {
            self.line(if at == 0 { label } else { "" }, line.to_owned());
        }
    }

    /// The first few of several, each on its line under one label.
    fn lines(&mut self, label: &str, mut values: Vec<String>, none: &str) {
        if values.len() > self.named {
            let kept = self.named.saturating_sub(1);
            let more = values.len() - kept;
            values.truncate(kept);
            values.push(format!("… and {more} more"));
        }
        if values.is_empty() {
            values.push(none.to_owned());
        }
        for (at, value) in values.into_iter().enumerate() {
            self.line(if at == 0 { label } else { "" }, value);
        }
    }
}

/// The text in so many columns; its middle is left out where it is longer.
fn cut(text: &str, columns: usize) -> String {
    let length = text.chars().count();
    if length <= columns {
        return text.to_owned();
    }
    let head = columns / 2;
    let tail = columns - head - 1;
    let mut out: String = text.chars().take(head).collect();
    out.push('…');
    out.extend(text.chars().skip(length - tail));
    out
}

/// The first of some names.
fn few(names: &[String]) -> String {
    const FEW: usize = 4;
    let mut out = names
        .iter()
        .take(FEW)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > FEW {
        out += &format!(", {} more", names.len() - FEW);
    }
    out
}

fn newest(newest: Option<&NewestBackup>) -> String {
    let Some(newest) = newest else {
        return "no full backup".to_owned();
    };
    let mut out = newest.id.to_string();
    match newest.age_seconds {
        Some(seconds) if seconds < 0 => out += ", from the future",
        Some(seconds) => out += &format!(", {} old", age(seconds)),
        None => {}
    }
    if let Some(bytes) = newest.bytes {
        out += &format!(", {}", human::bytes(bytes));
    }
    out += &format!(", in {}", newest.store);
    if !newest.local {
        out += " (is fetched first)";
    }
    out
}

/// `45 min`, `3 h`, `12 days`.
fn age(seconds: i64) -> String {
    match seconds {
        ..60 => "less than a minute".to_owned(),
        60..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

fn proven(proven: Option<&ProvenBackup>, newest: Option<&NewestBackup>) -> String {
    let Some(proven) = proven else {
        return "never: `restore drill latest` proves the newest backup".to_owned();
    };
    let by = match (proven.drill, proven.whole) {
        (true, true) => "drill",
        (true, false) => "drill of a part",
        (false, true) => "restore",
        (false, false) => "restore of a part",
    };
    let which = match newest {
        Some(newest) if newest.id == proven.backup => "the newest".to_owned(),
        _ => format!("{}, not the newest", proven.backup),
    };
    format!(
        "{which}, by a {by} on {}",
        human::moment(&proven.at.to_string())
    )
}

/// The newest drill, and how it ended.
fn drill(drill: &LastDrill) -> String {
    let how = match (drill.passed, drill.whole) {
        (true, true) => "passed",
        (true, false) => "of a part passed",
        (false, _) => "FAILED",
    };
    format!(
        "the newest {how}, on {}, of {}",
        human::moment(&drill.at.to_string()),
        drill.backup
    )
}

fn unfinished(run: &UnfinishedRun) -> String {
    let mut out = match (&run.under_way, run.outcome) {
        (Some(who), _) => format!("{}: {who}", run.run),
        (None, outcome) => format!("{}: {outcome}", run.run),
    };
    if run.down_since.is_some() || run.page_up {
        out += ", users are turned away";
    }
    out
}

fn kept(kept: &KeptData) -> String {
    let size = kept
        .bytes
        .map_or_else(|| "size not known".to_owned(), human::bytes);
    let outcome = match kept.outcome {
        Outcome::Restored => "not confirmed".to_owned(),
        other => other.to_string(),
    };
    format!(
        "{}: {size} of {}, {outcome}",
        kept.run,
        human::count(kept.components.len(), "component"),
    )
}

/// Whether a restore could begin, and what was noticed, in so many lines.
fn verdict(status: &SiteStatus, lines: usize) -> String {
    let told = |is_so: fn(&Finding) -> bool| status.findings.iter().any(is_so);
    let mut out = match (status.ready, &status.newest) {
        (true, Some(newest)) if told(Finding::tells_of_a_lost_run) => format!(
            "A restore could begin now (`restore run {}`), but a run that nothing is known of\n\
             left data beside what is live, which may be half swapped:\n",
            newest.id
        ),
        (true, Some(newest)) if told(Finding::tells_of_an_unread_run) => format!(
            "A restore could begin now (`restore run {}`), but of a run nothing can\n\
             be read, which may have ended while users were turned away:\n",
            newest.id
        ),
        (true, Some(newest)) => {
            format!("A restore could begin now: `restore run {}`.\n", newest.id)
        }
        _ => "A restore could NOT begin now.\n".to_owned(),
    };
    let noticed: Vec<&Finding> = status
        .findings
        .iter()
        .filter(|finding| finding.severity > Severity::Info)
        .collect();
    let mut room = lines.saturating_sub(out.lines().count());
    for (at, finding) in noticed.iter().enumerate() {
        let mut told = String::new();
        for line in finding_line(finding).lines() {
            for line in wrapped(line, WIDTH - 2).lines() {
                told += &format!("  {line}\n");
            }
        }
        let last = at + 1 == noticed.len();
        let needed = told.lines().count();
        // One line is kept for how many more there are.
        if needed > room.saturating_sub(usize::from(!last)) {
            let more = human::count(noticed.len() - at, "finding");
            out += &format!("  … and {more}: `restore plan latest` shows them\n");
            break;
        }
        room -= needed;
        out += &told;
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sample(change: impl FnOnce(&mut Value)) -> SiteStatus {
        let space = restore_core::platform::Space::new(12 << 30, 0, "device 8:1");
        let mut value = json!({
            "site": "demo", "platform": "local processes of this machine",
            "file": "/etc/restore/restore.toml", "state": "/var/lib/restore",
            "at": "2024-02-15T05:30:00Z", "ready": true,
            "components": ["postgres", "redis"], "services": ["postgres", "redis", "app"],
            "stores": [{"name": "main", "place": "directory /mnt/backups", "full_backups": 3}],
            "newest": {"id": "20240215-020000", "store": "main", "local": true,
                       "bytes": 1_288_490_189, "age_seconds": 12_600, "proven": true},
            "proven": {"backup": "20240215-020000", "run": "20240215-030000-7f3a", "drill": true,
                       "whole": true, "at": "2024-02-15T03:00:00Z"},
            "unfinished": [], "kept": [],
            "room": [{"uses": ["state", "store main"], "space": space}],
            "under_way": null, "findings": [],
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_site_that_is_well_is_told_in_one_look() {
        assert_eq!(
            status(&sample(|_| {})),
            "\
Site        demo (local processes of this machine)
Described   /etc/restore/restore.toml
State       /var/lib/restore
Has         2 components, 3 services
Store       main: directory /mnt/backups, 3 full backups
Newest      20240215-020000, 3 h old, 1.2 GiB, in main
Proven      the newest, by a drill on 2024-02-15 03:00:00
Unfinished  none
Kept        nothing
Room        device 8:1: 12.0 GiB free (state, store main)

A restore could begin now: `restore run 20240215-020000`.
"
        );
    }

    #[test]
    fn data_of_a_run_that_nothing_is_known_of_is_told_with_the_verdict() {
        let shown = status(&sample(|value| {
            value["findings"] = json!([{
                "severity": "warning", "code": "run.lost", "subject": "redis",
                "message": "/srv/redis/.restore-x is kept by run x", "hint": "search",
            }]);
        }));
        assert!(
            shown.contains("may be half swapped:\n  warning: redis: /srv"),
            "{shown}"
        );
    }

    #[test]
    fn a_drill_that_failed_is_told_beside_the_one_that_passed() {
        let shown = status(&sample(|value| {
            value["drill"] = json!({
                "backup": "20240216-020000", "run": "20240216-030000-7f3a", "passed": false,
                "whole": true, "at": "2024-02-16T03:00:00Z", "failure": "no room",
            });
        }));
        let line = "Drill       the newest FAILED, on 2024-02-16 03:00:00, of 20240216-020000\n";
        assert!(shown.contains(line), "{shown}");
    }

    #[test]
    fn sentences_are_broken_between_words() {
        let shown = status(&sample(|value| {
            value["newest"]["id"] = "20240216-020000".into();
            value["proven"]["whole"] = false.into();
            value["proven"]["drill"] = false.into();
        }));
        let told = "\
Proven      20240215-020000, not the newest, by a restore of a part on
                2024-02-15 03:00:00
";
        assert!(shown.contains(told), "{shown}");
    }

    #[test]
    fn all_that_there_can_be_fits_on_a_screen() {
        for code in ["run.lost", "a.b"] {
            let shown = status(&sample(|value| {
                let run = json!({
                    "run": "20240215-093000-7f3a", "backup": "20240215-020000",
                    "outcome": "stuck", "under_way": null, "down_since": null, "page_up": false,
                });
                let kept = json!({
                    "run": "20240215-093000-7f3a", "outcome": "restored", "components": ["redis"],
                    "bytes": 1024,
                });
                let finding = json!({
                    "severity": "warning", "code": code, "subject": "redis",
                    "message": "/srv/redis/.restore-x is kept by run x", "hint": "search",
                });
                let last = json!({
                    "backup": "20240216-020000", "run": "20240216-030000-7f3a", "passed": false,
                    "whole": true, "at": "2024-02-16T03:00:00Z", "failure": "no room",
                });
                value["drill"] = last;
                value["newest"]["store"] = "a-store-on-another-host-with-a-long-name".into();
                value["newest"]["local"] = false.into();
                value["proven"]["backup"] = "20240214-020000".into();
                value["proven"]["whole"] = false.into();
                value["proven"]["drill"] = false.into();
                for (part, one) in [("unfinished", run), ("kept", kept), ("findings", finding)] {
                    value[part] = vec![one; 7].into();
                }
                for part in ["stores", "room"] {
                    let one = value[part][0].clone();
                    value[part] = vec![one; 7].into();
                }
            }));
            assert!(shown.lines().count() <= LINES, "{code}\n{shown}");
            for part in [
                "Room        ",
                "… and 6 more\n",
                "A restore could begin now",
                " findings: `restore plan latest` shows them",
            ] {
                assert!(shown.contains(part), "{part}\n{shown}");
            }
        }
    }

    #[test]
    fn what_stops_a_restore_is_told_and_all_of_it_fits_on_a_screen() {
        let shown = status(&sample(|value| {
            value["ready"] = false.into();
            value["proven"] = Value::Null;
            value["file"] = format!("/srv/{}/restore.toml", "long/".repeat(30)).into();
            let finding = json!({
                "severity": "error", "code": "a.b", "subject": "redis",
                "message": "its file system is read-only here, so that nothing can be staged beside the live data",
                "hint": "mount it for writing, or leave the component out with --only",
            });
            value["findings"] = vec![finding; 9].into();
            let run = json!({
                "run": "20240215-093000-7f3a", "backup": "20240215-020000", "outcome": "stuck",
                "under_way": null, "down_since": "2024-02-15T09:30:00Z", "page_up": true,
            });
            value["unfinished"] = vec![run; 7].into();
            value["kept"] = vec![
                json!({
                    "run": "20240215-093000-7f3a", "outcome": "restored", "components": ["redis"],
                    "bytes": 1024,
                });
                7
            ]
            .into();
        }));
        assert!(shown.lines().count() <= LINES, "{shown}");
        for line in shown.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        for part in [
            "Proven      never",
            "stuck, users are turned away",
            "… and 5 more",
            "20240215-093000-7f3a: 1.0 KiB of 1 component, not confirmed",
            "A restore could NOT begin now.",
            "  error: redis: its file system is read-only",
            "findings: `restore plan latest` shows them",
        ] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
    }
}
