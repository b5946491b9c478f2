//! Runs: history, checks, and what is asked before a rollback or a confirmation.

use std::time::Duration;

use restore_core::Report;
use restore_core::component::CheckOutcome;
use restore_core::run::Outcome;

use crate::human::{self, Side};

/// All runs, oldest first.
pub(crate) fn history(reports: &[Report]) -> String {
    if reports.is_empty() {
        return "There is no run yet.\n".to_owned();
    }
    let mut rows = vec![
        ["RUN", "BACKUP", "STARTED", "DOWNTIME", "OUTCOME"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for report in reports {
        let kept = match (report.outcome, report.confirmed) {
            (_, true) => ", confirmed",
            (Outcome::Restored, false) => ", not confirmed",
            (Outcome::RolledBack, false)
                if report.components.iter().any(|part| part.kept_at.is_some()) =>
            {
                ", the restored data is kept"
            }
            _ => "",
        };
        rows.push(vec![
            report.run.to_string(),
            report.backup.to_string(),
            human::moment(&report.started.to_string()),
            report
                .downtime_seconds
                .map_or_else(|| "none".to_owned(), human::seconds),
            format!("{}{kept}", report.outcome),
        ]);
    }
    human::table(
        &[Side::Left, Side::Left, Side::Left, Side::Right, Side::Left],
        &rows,
    )
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
    format!(
        "Run {}: {} in {}; {downtime}.\n",
        report.run,
        report.outcome,
        human::seconds(took.as_secs_f64())
    )
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
    let swapped: Vec<_> = report
        .components
        .iter()
        .filter(|part| part.restored)
        .collect();
    if swapped.is_empty() {
        out += "No component's live data was replaced; what was staged is deleted.\n";
    } else {
        let names: Vec<&str> = swapped.iter().map(|part| part.name.as_str()).collect();
        out += &format!(
            "Swapped back to what was live before: {}\n",
            names.join(", ")
        );
    }
    if report.outcome == Outcome::Restored {
        out += "The restored data, with all that was written since the restore, leaves the live\n\
                platform; it is put aside, not deleted, until `restore confirm`.\n";
    }
    if !report.services.is_empty() {
        let names: Vec<&str> = report.services.keys().map(String::as_str).collect();
        out += &format!("Services stopped and started again: {}\n", names.join(", "));
    }
    out
}

/// What a confirmation would do.
pub(crate) fn confirm_question(report: &Report) -> String {
    let mut out = format!(
        "Confirmation of run {} (backup {}, {})\n",
        report.run, report.backup, report.outcome
    );
    let rolled_back = report.outcome == Outcome::RolledBack;
    out += match rolled_back {
        true => "Deleted for good, the restored data and what was written into it:\n",
        false => "Deleted for good, the data that the run replaced, and with it the way back:\n",
    };
    let rows: Vec<Vec<String>> = report
        .components
        .iter()
        .filter_map(|part| {
            let at = part.kept_at.as_ref()?;
            // The size of what a run replaced was never measured; that of what it staged was.
            let size = match rolled_back && part.bytes > 0 {
                true => format!("about {}", human::bytes(part.bytes)),
                false => String::new(),
            };
            Some(vec![format!("  {}", part.name), at.clone(), size])
        })
        .collect();
    if rows.is_empty() {
        return out + "  nothing is left to delete\n";
    }
    out + &human::table(&[Side::Left; 3], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn the_history() {
        let reports = [
            samples::report(|_| ()),
            samples::report(|value| {
                value["outcome"] = "undone".into();
                value["downtime_seconds"] = serde_json::Value::Null;
            }),
            samples::report(|value| value["confirmed"] = true.into()),
        ];
        assert_eq!(
            history(&reports),
            "\
RUN                   BACKUP           STARTED              DOWNTIME  OUTCOME
20240215-093000-7f3a  20240215-020000  2024-02-15 09:30:00     2.5 s  restored, not confirmed
20240215-093000-7f3a  20240215-020000  2024-02-15 09:30:00      none  undone
20240215-093000-7f3a  20240215-020000  2024-02-15 09:30:00     2.5 s  restored, confirmed
"
        );
        assert_eq!(history(&[]), "There is no run yet.\n");
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
    fn a_rollback_says_what_becomes_of_later_writes() {
        assert_eq!(
            rollback_question(&samples::report(|_| ())),
            "\
Rollback of run 20240215-093000-7f3a (backup 20240215-020000, restored since 2024-02-15 09:31:30)
Swapped back to what was live before: postgres
The restored data, with all that was written since the restore, leaves the live
platform; it is put aside, not deleted, until `restore confirm`.
Services stopped and started again: app
"
        );
        let unfinished = samples::report(|value| {
            value["outcome"] = "unfinished".into();
            value["ended"] = serde_json::Value::Null;
            value["components"][0]["restored"] = false.into();
            value["services"] = serde_json::json!({});
        });
        assert_eq!(
            rollback_question(&unfinished),
            "\
Rollback of run 20240215-093000-7f3a (backup 20240215-020000, unfinished)
No component's live data was replaced; what was staged is deleted.
"
        );
    }

    #[test]
    fn a_confirmation_says_what_it_deletes() {
        assert_eq!(
            confirm_question(&samples::report(|_| ())),
            "\
Confirmation of run 20240215-093000-7f3a (backup 20240215-020000, restored)
Deleted for good, the data that the run replaced, and with it the way back:
  postgres  database hosting_db__old
"
        );
        let back = samples::report(|value| value["outcome"] = "rolled_back".into());
        assert_eq!(
            confirm_question(&back),
            "\
Confirmation of run 20240215-093000-7f3a (backup 20240215-020000, rolled back)
Deleted for good, the restored data and what was written into it:
  postgres  database hosting_db__old  about 2.0 GiB
"
        );
    }
}
