//! Runs: history, checks, and what is asked before a rollback or a confirmation.

use std::time::Duration;

use restore_core::component::CheckOutcome;
use restore_core::report::ComponentReport;
use restore_core::run::Outcome;
use restore_core::site::FoundData;
use restore_core::{Finding, Kept, Report, Severity};

use crate::human::{self, Side};
use crate::progress::finding_line;

/// All runs, oldest first; then those that nothing is known of.
pub(crate) fn history(reports: &[Report], unread: &[Finding]) -> String {
    let mut out = match reports {
        [] if unread.is_empty() => "There is no run yet.\n".to_owned(),
        [] => String::new(),
        reports => table(reports),
    };
    for finding in unread {
        if !out.is_empty() {
            out += "\n";
        }
        out += &format!("{}\n", finding_line(finding));
    }
    out
}

fn table(reports: &[Report]) -> String {
    let mut rows = vec![
        ["RUN", "BACKUP", "KIND", "STARTED", "DOWNTIME", "OUTCOME"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for report in reports {
        let kind = match (report.drill, report.beside()) {
            (true, _) => "drill",
            (false, Some(_)) => "beside",
            (false, None) => "restore",
        };
        rows.push(vec![
            report.run.to_string(),
            report.backup.to_string(),
            kind.to_owned(),
            human::moment(&report.started.to_string()),
            match (report.down_since, report.downtime_seconds) {
                (Some(_), _) => "now".to_owned(),
                (None, Some(seconds)) => human::seconds(seconds),
                (None, None) => "none".to_owned(),
            },
            outcome(report),
        ]);
    }
    let mut out = human::table(
        &[
            Side::Left,
            Side::Left,
            Side::Left,
            Side::Left,
            Side::Right,
            Side::Left,
        ],
        &rows,
    );
    for report in reports {
        if let Some(since) = report.down_since {
            out += &format!(
                "\nUsers are turned away since {} (run {}).\n",
                human::moment(&since.to_string()),
                report.run
            );
        }
    }
    out
}

/// How a run ended, in a few words, and what it still keeps.
fn outcome(report: &Report) -> String {
    let kept = report.components.iter().any(|part| part.kept_at.is_some());
    let mut words = match (report.outcome, &report.under_way) {
        (Outcome::Unfinished, Some(who)) => format!("under way: {who}"),
        (Outcome::Unfinished, None) => "unfinished, its process is gone".to_owned(),
        (Outcome::Drilled, _) => "passed".to_owned(),
        (Outcome::Undone, _) if report.drill => "failed".to_owned(),
        (outcome, _) => outcome.to_string(),
    };
    if report.is_failing() {
        words += ", checks fail";
    }
    words += match (report.outcome, report.confirmed) {
        (_, false) if report.confirming => ", half confirmed",
        (_, true) => ", confirmed",
        (Outcome::Restored, false) => ", not confirmed",
        (Outcome::RolledBack | Outcome::Undone, false) if kept => ", the restored data is kept",
        _ => "",
    };
    if report.damaged.is_some() {
        words += ", as far as its damaged journal tells";
    }
    words
}

/// What runs keep, found by looking.
pub(crate) fn found(found: &[FoundData]) -> String {
    if found.is_empty() {
        return "No component finds data that a run keeps.\n".to_owned();
    }
    let mut out = String::new();
    for data in found {
        if let Some(error) = &data.error {
            out += &format!("{}: could not look: {error}\n", data.component);
        }
        let Some(kept) = &data.kept else { continue };
        let run = &kept.run;
        let state = match data.outcome {
            Some(outcome) => outcome.to_string(),
            None => "no journal tells of it".to_owned(),
        };
        let ways = match data.by_hand {
            false => format!("  `restore report {run}` says what to do with it\n"),
            true => format!(
                "  to put it back: {}\n  to delete it: {}\n",
                kept.put_back, kept.delete
            ),
        };
        out += &format!(
            "{}: {}\n  of run {run}: {state}\n{ways}",
            data.component, kept.place
        );
    }
    out
}

/// The outcome of checks.
pub(crate) fn checks(outcomes: &[CheckOutcome]) -> String {
    if outcomes.is_empty() {
        return "The site has no checks.\n".to_owned();
    }
    let rows: Vec<Vec<String>> = outcomes
        .iter()
        .map(|check| {
            let mark = if check.passed { "ok" } else { "FAILED" };
            vec![mark.to_owned(), check.name.clone(), check.detail.clone()]
        })
        .collect();
    human::table(&[Side::Left; 3], &rows)
}

/// The last line of a run, a rollback or a resumption that took so long.
pub(crate) fn done_line(report: &Report, took: Duration) -> String {
    let downtime = match (report.down_since, report.downtime_seconds) {
        (Some(since), _) => format!(
            "users are turned away, since {}",
            human::moment(&since.to_string())
        ),
        (None, Some(seconds)) => format!("downtime {}", human::seconds(seconds)),
        (None, None) => "downtime none".to_owned(),
    };
    let failing = match report.is_failing() {
        true => format!("{}.\n", report.headline()),
        false => String::new(),
    };
    format!(
        "Run {}: {} in {}; {downtime}.\n{failing}",
        report.run,
        report.outcome,
        human::seconds(took.as_secs_f64())
    )
}

/// What was noticed, where nobody has seen it while it happened.
pub(crate) fn noticed(report: &Report) -> String {
    let noticed = report.noticed().into_iter();
    noticed.fold(String::new(), |out, it| out + &finding_line(it) + "\n")
}

/// What is kept of a component, where, and how much it is.
fn kept_row(part: &ComponentReport) -> Option<Vec<String>> {
    let at = match (&part.kept_at, &part.kept_unsure) {
        (Some(at), _) => at.clone(),
        (None, Some(why)) => format!("cannot be looked at: {why}"),
        (None, None) => return None,
    };
    let what = part.kept.map_or("", Kept::words);
    let size = part.kept_bytes.map_or_else(String::new, human::bytes);
    Some(vec![
        format!("  {}", part.name),
        part.kind.clone(),
        what.to_owned(),
        at,
        size,
    ])
}

/// The components of which something is kept, in a table.
fn kept_table<'a>(parts: impl Iterator<Item = &'a ComponentReport>) -> String {
    let rows: Vec<Vec<String>> = parts.filter_map(kept_row).collect();
    human::table(&[Side::Left; 5], &rows)
}

/// What a rollback would do.
pub(crate) fn rollback_question(report: &Report) -> String {
    let mut out = format!(
        "Rollback of run {} (backup {}, {}",
        report.run, report.backup, report.outcome
    );
    if let Some(ended) = report.ended {
        out += &format!(" since {}", human::moment(&ended.to_string()));
    }
    out += ")\n";
    let swapped = || report.components.iter().filter(|part| part.restored);
    let staged = || {
        let staged = |part: &&ComponentReport| part.kept == Some(Kept::Staged);
        report.components.iter().filter(staged)
    };
    if let (Some(what), Some(_)) = (report.beside(), swapped().next()) {
        out +=
            &format!("Taken away for good: {what}, which the run restored beside what is live\n");
    } else if swapped().next().is_none() {
        out += "No component's live data was replaced.\n";
    } else {
        let back = kept_table(swapped());
        if !back.is_empty() {
            out += "Moved back to where it was live before:\n";
            out += &back;
        }
        let new: Vec<&str> = swapped()
            .filter(|part| part.kept_at.is_none() && part.kept_unsure.is_none())
            .map(|part| part.name.as_str())
            .collect();
        if !new.is_empty() {
            out += &format!(
                "Nothing was live before of {}, and nothing is again\n",
                new.join(", ")
            );
        }
        out += match report.keeps_restored {
            true => {
                "The restored data, with all that was written since the restore, leaves the live\n\
                 platform; it is put aside, not deleted, until `restore confirm`.\n"
            }
            false => "The restored data is deleted: users have never been served by it.\n",
        };
    }
    if staged().next().is_some() {
        out += match report.keeps_restored {
            true => "Staged and never live, put aside until `restore confirm`:\n",
            false => "Deleted, staged and never live:\n",
        };
        out += &kept_table(staged());
    }
    if !report.services.is_empty() {
        let names: Vec<&str> = report.services.keys().map(String::as_str).collect();
        let what = match swapped().next() {
            Some(_) => "Services stopped and started again",
            None => "Services started again",
        };
        out += &format!("{what}: {}\n", names.join(", "));
    }
    out
}

/// What abandoning a run leaves as it is.
pub(crate) fn abandon_question(report: &Report) -> String {
    let mut out = format!(
        "Run {} (backup {}, {}) is ended as the platform stands: nothing is moved\n",
        report.run, report.backup, report.outcome
    );
    let rows: Vec<Vec<String>> = report
        .components
        .iter()
        .map(|part| {
            let live = match (part.restored, &part.beside) {
                (true, Some(what)) => format!("{what} is there"),
                (true, None) => "the restored data is live".to_owned(),
                (false, _) => "as before the run".to_owned(),
            };
            let size = part.kept_bytes.map_or_else(String::new, human::bytes);
            let kept = match (&part.kept_at, &part.kept_unsure) {
                (Some(at), _) => format!("kept: {} {at}", part.kept.map_or("", Kept::words)),
                (None, Some(why)) => format!("cannot be looked at: {why}"),
                (None, None) => String::new(),
            };
            vec![format!("  {}", part.name), live, kept, size]
        })
        .collect();
    out += &human::table(&[Side::Left; 4], &rows);
    if report.down_since.is_some() {
        out += "The maintenance page comes down.\n";
    }
    for service in &report.services_down {
        out += &format!("Service {} {}: it stays so.\n", service.name, service.error);
    }
    out
}

/// What a confirmation would do.
pub(crate) fn confirm_question(report: &Report) -> String {
    let mut out = format!(
        "Confirmation of run {} (backup {}, {})\n",
        report.run, report.backup, report.outcome
    );
    // What was not as the run left it is left alone; what cannot be looked at may well be deleted.
    let is_left = |part: &&ComponentReport| part.kept_at.is_some() && part.kept_unsure.is_some();
    let deleted = report.components.iter().filter(|part| !is_left(part));
    let table = kept_table(deleted);
    let stays = report
        .beside()
        .filter(|_| report.outcome == Outcome::Restored);
    if let Some(what) = stays {
        out += &format!("Kept for good: {what}; the run cannot be rolled back after that\n");
    }
    out += match (table.is_empty(), report.outcome) {
        (true, _) if stays.is_some() => "",
        (true, Outcome::Restored) if !report.components.iter().any(|part| is_left(&part)) => {
            "Nothing is left to delete: no component finds data that the run replaced\n\
             Once it is confirmed it cannot be rolled back any more\n"
        }
        (true, _) => "Nothing is left to delete: no component finds data that the run keeps\n",
        (false, Outcome::Restored) => "Deleted for good, and with it the way back:\n",
        (false, Outcome::RolledBack | Outcome::Undone) if report.keeps_restored => {
            "Deleted for good, what was restored and what was written into it:\n"
        }
        (false, _) => "Deleted for good:\n",
    };
    out += &table;
    for part in report.components.iter().filter(is_left) {
        out += &format!(
            "Left alone: {}, which is not as the run left it: {}\n",
            part.name,
            part.kept_unsure.as_deref().unwrap_or_default()
        );
    }
    out += &warned(report);
    out
}

/// So many warnings are repeated before a person accepts a run; the report has all.
const REPEATED: usize = 3;

/// What the run warned of: whoever accepts it without a way back may not have read it then.
fn warned(report: &Report) -> String {
    let warning = |finding: &&Finding| finding.severity == Severity::Warning;
    let warnings: Vec<&Finding> = report.noticed().into_iter().filter(warning).collect();
    let mut out = String::new();
    for warning in warnings.iter().take(REPEATED) {
        out += &format!("The run warned: {}\n", warning.line());
    }
    if let Some(more @ 1..) = warnings.len().checked_sub(REPEATED) {
        out += &format!("and {more} more: restore report {}\n", report.run);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    /// One without downtime that keeps nothing.
    fn ended(outcome: &str, drill: bool) -> Report {
        samples::report(|value| {
            value["outcome"] = outcome.into();
            value["drill"] = drill.into();
            value["downtime_seconds"] = serde_json::Value::Null;
            value["components"][0]["kept_at"] = serde_json::Value::Null;
        })
    }

    #[test]
    fn the_history() {
        let reports = [
            samples::report(|_| ()),
            ended("undone", false),
            samples::report(|value| value["confirmed"] = true.into()),
            ended("drilled", true),
            ended("undone", true),
            samples::report(|value| value["outcome"] = "rolled_back".into()),
            samples::report(|value| {
                value["outcome"] = "unfinished".into();
                value["down_since"] = "2024-02-15T09:31:00Z".into();
            }),
            samples::report(|value| {
                value["outcome"] = "unfinished".into();
                value["downtime_seconds"] = serde_json::Value::Null;
                value["under_way"] = "run (process 7)".into();
            }),
        ];
        assert_eq!(
            history(&reports, &[]),
            "\
RUN                   BACKUP           KIND     STARTED              DOWNTIME  OUTCOME
20240215-093000-7f3a  20240215-020000  restore  2024-02-15 09:30:00     2.5 s  restored, not confirmed
20240215-093000-7f3a  20240215-020000  restore  2024-02-15 09:30:00      none  undone
20240215-093000-7f3a  20240215-020000  restore  2024-02-15 09:30:00     2.5 s  restored, confirmed
20240215-093000-7f3a  20240215-020000  drill    2024-02-15 09:30:00      none  passed
20240215-093000-7f3a  20240215-020000  drill    2024-02-15 09:30:00      none  failed
20240215-093000-7f3a  20240215-020000  restore  2024-02-15 09:30:00     2.5 s  rolled back, the restored data is kept
20240215-093000-7f3a  20240215-020000  restore  2024-02-15 09:30:00       now  unfinished, its process is gone
20240215-093000-7f3a  20240215-020000  restore  2024-02-15 09:30:00      none  under way: run (process 7)

Users are turned away since 2024-02-15 09:31:00 (run 20240215-093000-7f3a).
"
        );
        assert_eq!(history(&[], &[]), "There is no run yet.\n");
        let unread = Finding::warning("run.unread", "20240215-090000-7f3a", "its journal is gone");
        let told = "warning: 20240215-090000-7f3a: its journal is gone\n";
        assert_eq!(history(&[], std::slice::from_ref(&unread)), told);
        assert!(history(&reports, &[unread]).ends_with(&format!("\n\n{told}")));
    }

    #[test]
    fn the_checks() {
        let outcomes = [
            CheckOutcome::new("health", true, "200"),
            CheckOutcome::new("users", false, "0 rows"),
        ];
        assert_eq!(
            checks(&outcomes),
            "ok      health  200\nFAILED  users   0 rows\n"
        );
    }

    #[test]
    fn the_last_line() {
        assert_eq!(
            done_line(&samples::report(|_| ()), Duration::from_secs(90)),
            "Run 20240215-093000-7f3a: restored in 1 min 30 s; downtime 2.5 s.\n"
        );
    }

    #[test]
    fn users_who_are_still_turned_away_are_no_downtime_of_none() {
        let report = samples::report(|value| {
            value["outcome"] = "unfinished".into();
            value["downtime_seconds"] = serde_json::Value::Null;
            value["down_since"] = "2024-02-15T09:31:00Z".into();
        });
        let text = history(&[report], &[]);
        assert!(
            text.contains("Users are turned away since 2024-02-15 09:31:00"),
            "{text}"
        );
        let half = samples::report(|value| value["confirming"] = true.into());
        assert!(history(&[half], &[]).contains("restored, half confirmed"));
    }

    #[test]
    fn abandoning_says_what_stays() {
        let report = samples::report(|value| {
            value["outcome"] = "stuck".into();
            value["down_since"] = "2024-02-15T09:31:00Z".into();
            value["services_down"] = serde_json::json!([{
                "name": "app", "error": "was stopped by the run and not started again",
                "hint": null, "ran_before": true,
            }]);
        });
        assert_eq!(
            abandon_question(&report),
            "\
Run 20240215-093000-7f3a (backup 20240215-020000, stuck) is ended as the platform stands: nothing is moved
  postgres  the restored data is live  kept: replaced data database hosting_db__old  1.5 GiB
The maintenance page comes down.
Service app was stopped by the run and not started again: it stays so.
"
        );
    }

    #[test]
    fn a_rollback_says_what_becomes_of_later_writes() {
        assert_eq!(
            rollback_question(&samples::report(|_| ())),
            "\
Rollback of run 20240215-093000-7f3a (backup 20240215-020000, restored since 2024-02-15 09:31:30)
Moved back to where it was live before:
  postgres  postgres  replaced data  database hosting_db__old  1.5 GiB
The restored data, with all that was written since the restore, leaves the live
platform; it is put aside, not deleted, until `restore confirm`.
Services stopped and started again: app
"
        );
        let unfinished = samples::report(|value| {
            value["outcome"] = "unfinished".into();
            value["ended"] = serde_json::Value::Null;
            value["keeps_restored"] = false.into();
            value["components"][0]["restored"] = false.into();
            value["components"][0]["kept"] = "staged".into();
        });
        assert_eq!(
            rollback_question(&unfinished),
            "\
Rollback of run 20240215-093000-7f3a (backup 20240215-020000, unfinished)
No component's live data was replaced.
Deleted, staged and never live:
  postgres  postgres  staged data  database hosting_db__old  1.5 GiB
Services started again: app
"
        );
        let unserved = samples::report(|value| {
            value["outcome"] = "stuck".into();
            value["keeps_restored"] = false.into();
            value["components"][0]["kept_at"] = serde_json::Value::Null;
        });
        let text = rollback_question(&unserved);
        assert!(
            text.contains("Nothing was live before of postgres"),
            "{text}"
        );
        assert!(text.contains("The restored data is deleted"), "{text}");
        assert!(!text.contains("Moved back"), "nothing is: {text}");
    }

    #[test]
    fn what_stands_beside_what_is_live_is_taken_away_or_stays() {
        let beside = samples::report(|value| {
            let part = &mut value["components"][0];
            part["beside"] = "database monday".into();
            part["kept_at"] = serde_json::Value::Null;
            part["kept"] = serde_json::Value::Null;
            value["services"] = serde_json::json!({});
            value["keeps_restored"] = false.into();
            value["findings"] = serde_json::json!([]);
        });
        let text = rollback_question(&beside);
        assert!(
            text.ends_with(
                "\nTaken away for good: database monday, which the run restored beside what is live\n"
            ),
            "{text}"
        );
        assert_eq!(
            confirm_question(&beside),
            "\
Confirmation of run 20240215-093000-7f3a (backup 20240215-020000, restored)
Kept for good: database monday; the run cannot be rolled back after that
"
        );
        assert!(history(&[beside], &[]).contains(" beside "));
    }

    #[test]
    fn a_confirmation_says_what_it_deletes() {
        assert_eq!(
            confirm_question(&samples::report(|_| ())),
            "\
Confirmation of run 20240215-093000-7f3a (backup 20240215-020000, restored)
Deleted for good, and with it the way back:
  postgres  postgres  replaced data  database hosting_db__old  1.5 GiB
"
        );
        let back = samples::report(|value| {
            value["outcome"] = "rolled_back".into();
            value["components"][0]["kept"] = "restored".into();
        });
        assert_eq!(
            confirm_question(&back),
            "\
Confirmation of run 20240215-093000-7f3a (backup 20240215-020000, rolled back)
Deleted for good, what was restored and what was written into it:
  postgres  postgres  restored data  database hosting_db__old  1.5 GiB
"
        );
        let unsure = samples::report(|value| {
            value["components"][0]["kept_at"] = serde_json::Value::Null;
            value["components"][0]["kept_unsure"] = "no connection".into();
        });
        let text = confirm_question(&unsure);
        assert!(
            text.contains("cannot be looked at: no connection"),
            "{text}"
        );
        let left = samples::report(|value| {
            value["components"][0]["kept_unsure"] = "it is gone".into();
        });
        let text = confirm_question(&left);
        assert!(text.contains("Nothing is left to delete"), "{text}");
        assert!(text.contains("Left alone: postgres"), "{text}");
        let none = samples::report(|value| {
            value["components"][0]["kept_at"] = serde_json::Value::Null;
        });
        let text = confirm_question(&none);
        assert!(text.contains("Nothing is left to delete"), "{text}");
        assert!(text.contains("cannot be rolled back"), "{text}");
        let nothing = samples::report(|value| {
            value["confirmed"] = true.into();
            value["replaced_nothing"] = true.into();
        });
        let words = "it had replaced nothing, and nothing was deleted\n";
        for text in [nothing.to_summary(), nothing.to_text()] {
            assert!(text.contains(words), "{text}");
        }
        let other = samples::report(|value| value["confirmed"] = true.into());
        let text = other.to_summary();
        assert!(
            text.contains("Confirmed: what it replaced is deleted\n"),
            "{text}"
        );
    }

    /// On a terminal of 80 columns and 24 lines the first line and what to type are seen, however much is said between.
    #[test]
    fn the_last_lines_fit_on_a_screen() {
        let words = |count: usize| "words of a server ".repeat(count);
        let run = "20240215-093000-7f3a";
        let long = samples::report(|value| {
            let failure = |step: &str, count: usize| {
                serde_json::json!({
                    "step": step, "kind": "failed", "code": "x.y", "message": words(count),
                    "hint": words(50),
                })
            };
            value["outcome"] = "stuck".into();
            value["failure"] = failure("stage:postgres", 50);
            value["stuck"] = failure("undo:cut-over:postgres", 200);
            let findings = (0..12).map(|at| {
                serde_json::json!({
                    "severity": "error", "code": "x.y", "subject": format!("component {at}"),
                    "message": words(50),
                })
            });
            value["findings"] = findings.collect();
            let checks = (0..12).map(|at| {
                serde_json::json!({"name": format!("c{at}"), "passed": false, "detail": words(30)})
            });
            value["checks_after"] = checks.collect();
            value["next"] = serde_json::json!([format!("restore rollback {run}"), words(20)]);
        });
        let text = long.to_summary();
        let rows: Vec<&str> = text.lines().collect();
        let seen: usize = rows
            .iter()
            .map(|line| crate::paint::wrapped(line, 80).lines().count())
            .sum();
        assert!(rows.len() <= 10 && seen <= 20, "{seen} rows:\n{text}");
        assert_eq!(rows[0], long.headline());
        assert!(
            text.contains(&format!("restore rollback {run}\n")),
            "{text}"
        );
        let end = format!("… (restore report {run})");
        assert!(text.contains(&end), "{text}");

        // Where there is room for it, nothing is cut off.
        let short = samples::report(|value| {
            value["outcome"] = "undone".into();
            value["failure"] = serde_json::json!({
                "step": "stage:postgres", "kind": "failed", "code": "x.y",
                "message": words(20).trim(), "hint": null,
            });
        });
        let text = short.to_summary();
        assert!(text.contains(words(20).trim()), "{text}");
    }

    #[test]
    fn a_step_that_was_broken_off_has_not_failed() {
        let with =
            |step: serde_json::Value| samples::report(|value| value["steps"] = step).to_text();
        let mut step = serde_json::json!([{
            "step": "stop:app", "started": "2024-02-15T09:30:00Z", "seconds": null,
        }]);
        let text = with(step.clone());
        assert!(
            text.contains("stop:app                         not ended\n"),
            "{text}"
        );
        step[0]["failed"] = true.into();
        let text = with(step);
        assert!(
            text.contains("stop:app                         failed\n"),
            "{text}"
        );
    }

    #[test]
    fn a_confirmation_repeats_what_the_run_warned_of() {
        let warned = |count: usize| {
            samples::report(|value| {
                let one = serde_json::json!({
                    "severity": "warning",
                    "code": "crontab.crlf",
                    "subject": "crontab",
                    "message": "it has the line ends of Windows",
                });
                value["findings"] = vec![one; count].into();
            })
        };
        let text = confirm_question(&warned(1));
        assert!(
            text.ends_with("The run warned: crontab: it has the line ends of Windows\n"),
            "{text}"
        );
        let text = confirm_question(&warned(5));
        assert_eq!(text.matches("The run warned: ").count(), 3, "{text}");
        assert!(
            text.ends_with("and 2 more: restore report 20240215-093000-7f3a\n"),
            "{text}"
        );
    }
}
