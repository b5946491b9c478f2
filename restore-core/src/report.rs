//! Reports: what a run did, from its journal; as a value and as text.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::backup::BackupId;
use crate::component::CheckOutcome;
use crate::error::{Error, ErrorKind};
use crate::finding::Finding;
use crate::run::{Outcome, RunId, SafetyBackup};
use crate::time::Timestamp;

/// Why a run did not end as asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The step that failed, as its id, or what else went on.
    pub step: String,
    /// The error's kind.
    pub kind: ErrorKind,
    /// The error's stable code.
    pub code: String,
    /// The error's line.
    pub message: String,
    /// The next step, where there is one.
    pub hint: Option<String>,
}

impl Failure {
    /// The error that befell `step`.
    pub fn of(step: impl Into<String>, error: &Error) -> Self {
        Self {
            step: step.into(),
            kind: error.kind(),
            code: error.code().to_owned(),
            message: error.to_string(),
            hint: error.hint_text().map(str::to_owned),
        }
    }
}

/// How long a step took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepTime {
    /// The step's id; an undo's starts with `undo:`.
    pub step: String,
    /// When it began.
    pub started: Timestamp,
    /// Seconds; `None` where it did not end well.
    pub seconds: Option<f64>,
}

/// What became of one component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ComponentReport {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The backup's files that it was restored from.
    pub artifacts: Vec<String>,
    /// Whether its restored data is live now.
    pub restored: bool,
    /// Bytes staged.
    pub bytes: u64,
    /// What was staged: tables, rows, keys, files.
    pub facts: Map<String, Value>,
    /// Where the other copy is kept (the replaced data, or after a rollback the restored), while
    /// there is one.
    pub kept_at: Option<String>,
}

/// What a run did, as far as it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The site's name.
    pub site: String,
    /// The run's id.
    pub run: RunId,
    /// The backup.
    pub backup: BackupId,
    /// Where it was.
    pub store: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it was a drill, which replaces nothing.
    #[serde(default)]
    pub drill: bool,
    /// Whether its replaced data has been deleted on request.
    pub confirmed: bool,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; `None` while it has not.
    pub ended: Option<Timestamp>,
    /// Seconds in which users were turned away, all attempts and undos added up; `None` where
    /// they never were.
    pub downtime_seconds: Option<f64>,
    /// Since when users are turned away, where they still are: those seconds are in no sum yet.
    #[serde(default)]
    pub down_since: Option<Timestamp>,
    /// Why it did not end as asked.
    pub failure: Option<Failure>,
    /// What stands in the way of undoing it, where it is stuck.
    pub stuck: Option<Failure>,
    /// The safety backup that it made first.
    #[serde(default)]
    pub safety: Option<SafetyBackup>,
    /// Its components.
    pub components: Vec<ComponentReport>,
    /// Its services with the instances that were recorded.
    pub services: Map<String, Value>,
    /// The checks before the run.
    pub checks_before: Vec<CheckOutcome>,
    /// The last outcome of each check after it.
    pub checks_after: Vec<CheckOutcome>,
    /// Its steps in the order in which they began.
    pub steps: Vec<StepTime>,
    /// Everything noticed.
    pub findings: Vec<Finding>,
    /// What to type next.
    pub next: Vec<String>,
}

impl Report {
    /// The error of a run that did not end as asked; what the command line makes its exit code
    /// of. A run that was taken back on request ended as asked.
    pub fn error(&self) -> Option<Error> {
        let (kind, code, failure) = match (&self.outcome, &self.stuck, &self.failure) {
            (Outcome::Restored | Outcome::RolledBack | Outcome::Drilled, ..) => return None,
            (Outcome::Unfinished, ..) => {
                return Some(
                    Error::new(
                        ErrorKind::Stuck,
                        "run.unfinished",
                        format!("run {} has not ended", self.run),
                    )
                    .hint(format!(
                        "`restore resume {0}` finishes it, `restore rollback {0}` undoes it",
                        self.run
                    )),
                );
            }
            (Outcome::Stuck, Some(stuck), _) => (ErrorKind::Stuck, "run.stuck", stuck),
            (_, _, Some(failure)) => {
                let kind = match failure.kind {
                    kind @ (ErrorKind::Verification | ErrorKind::Interrupted) => kind,
                    _ => ErrorKind::Failed,
                };
                (kind, "run.failed", failure)
            }
            // Taken back on request before anything had failed.
            _ => return None,
        };
        let mut error = Error::new(kind, code, failure.message.clone());
        if let Some(hint) = &failure.hint {
            error = error.hint(hint.clone());
        }
        Some(error)
    }

    /// Whether the platform is as it was before the run: what a rollback is asked for.
    pub fn is_as_before(&self) -> bool {
        matches!(self.outcome, Outcome::Undone | Outcome::RolledBack)
    }

    /// The report as text, in the spirit of the runbook's log entry: what a person reads, and
    /// what is appended to the site's log.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let rule = "=".repeat(64);
        writeln!(out, "{rule}")?;
        let stopped = self
            .failure
            .as_ref()
            .is_some_and(|failure| failure.kind == ErrorKind::Interrupted);
        if self.outcome == Outcome::Undone && stopped {
            let what = if self.drill { "Drill" } else { "Restore" };
            writeln!(out, "{what} stopped on request; the platform is as it was")?;
        } else if self.outcome == Outcome::Undone && self.drill {
            writeln!(
                out,
                "Drill FAILED: the backup does not restore; nothing live was touched"
            )?;
        } else {
            writeln!(out, "{}", self.outcome.headline())?;
        }
        writeln!(out, "{rule}")?;
        writeln!(out, "Site:          {}", self.site)?;
        writeln!(out, "Run:           {}", self.run)?;
        writeln!(
            out,
            "{:<14} backup {} in {}",
            if self.drill {
                "Drilled:"
            } else {
                "Restored from:"
            },
            self.backup,
            self.store
        )?;
        writeln!(out, "Started:       {}", moment(self.started))?;
        match self.ended {
            Some(ended) => writeln!(
                out,
                "Ended:         {} ({})",
                moment(ended),
                seconds(ended.since(self.started).as_secs_f64())
            )?,
            None => writeln!(out, "Ended:         not yet")?,
        }
        match (self.down_since, self.downtime_seconds) {
            (Some(since), _) => writeln!(
                out,
                "Downtime:      users are turned away, since {}",
                moment(since)
            )?,
            (None, Some(s)) => writeln!(out, "Downtime:      {}", seconds(s))?,
            (None, None) => writeln!(out, "Downtime:      none")?,
        }
        if let Some(safety) = &self.safety {
            writeln!(out, "Safety backup: {} in {}", safety.id, safety.place)?;
            for missing in &safety.missing {
                writeln!(out, "               without {}", missing.name)?;
            }
        }
        if self.confirmed {
            let what = if self.is_as_before() {
                "had restored"
            } else {
                "replaced"
            };
            writeln!(out, "Confirmed:     yes; what it {what} is deleted")?;
        }
        if let Some(failure) = &self.failure {
            writeln!(out, "\nWhat went wrong, at {}:", failure.step)?;
            writeln!(out, "  {}", failure.message)?;
            if let Some(hint) = &failure.hint {
                writeln!(out, "  {hint}")?;
            }
        }
        if let Some(stuck) = &self.stuck {
            writeln!(
                out,
                "\nWhat stands in the way of undoing it, at {}:",
                stuck.step
            )?;
            writeln!(out, "  {}", stuck.message)?;
            if let Some(hint) = &stuck.hint {
                writeln!(out, "  {hint}")?;
            }
        }
        writeln!(out, "\nComponents:")?;
        for component in &self.components {
            let mark = if self.outcome == Outcome::Drilled {
                "restores"
            } else if component.restored {
                "restored"
            } else {
                "as before"
            };
            writeln!(
                out,
                "  {:<20} {mark:<10} {}",
                component.name,
                component.artifacts.join(", ")
            )?;
            let facts: Vec<String> = component
                .facts
                .iter()
                .filter(|(_, value)| !component.artifacts.iter().any(|path| *value == path))
                .filter_map(|(key, value)| fact(key, value))
                .collect();
            if !facts.is_empty() {
                writeln!(out, "  {:<20} {}", "", facts.join(", "))?;
            }
            if let Some(kept) = &component.kept_at {
                let which = if component.restored {
                    "replaced data"
                } else {
                    "restored data"
                };
                writeln!(out, "  {:<20} {which} kept in {kept}", "")?;
            }
        }
        if !self.services.is_empty() {
            let services: Vec<String> = self
                .services
                .iter()
                .map(|(name, replicas)| format!("{name} ({replicas})"))
                .collect();
            writeln!(
                out,
                "\nServices stopped and started: {}",
                services.join(", ")
            )?;
        }
        self.write_checks(out)?;
        self.write_steps(out)?;
        if !self.findings.is_empty() {
            writeln!(out, "\nNoticed:")?;
        }
        for finding in &self.findings {
            writeln!(out, "  {}: {}", finding.subject, finding.message)?;
            if let Some(hint) = &finding.hint {
                writeln!(out, "    {hint}")?;
            }
        }
        if !self.next.is_empty() {
            writeln!(out, "\nNext:")?;
        }
        for line in &self.next {
            writeln!(out, "  {line}")?;
        }
        Ok(())
    }

    /// Each check once: as it was at last, with a word where it failed before the run.
    fn write_checks(&self, out: &mut String) -> std::fmt::Result {
        let of = |checks: &[CheckOutcome], name: &str, passed: bool| {
            checks
                .iter()
                .any(|check| check.name == name && check.passed == passed)
        };
        let line = |out: &mut String, check: &CheckOutcome, before: &str| {
            let mark = if check.passed { "ok    " } else { "FAILED" };
            writeln!(out, "  {mark} {:<24} {}{before}", check.name, check.detail)
        };
        if !self.checks_after.is_empty() {
            writeln!(out, "\nChecks:")?;
        }
        for check in &self.checks_after {
            let before = match of(&self.checks_before, &check.name, false) {
                true if check.passed => " (failed before the run)",
                true => " (as before the run)",
                false => "",
            };
            line(out, check, before)?;
        }
        let only_before: Vec<&CheckOutcome> = self
            .checks_before
            .iter()
            .filter(|check| {
                !self
                    .checks_after
                    .iter()
                    .any(|after| after.name == check.name)
            })
            .collect();
        if !only_before.is_empty() {
            writeln!(out, "\nChecks made before the run only:")?;
        }
        for check in only_before {
            line(out, check, "")?;
        }
        Ok(())
    }

    /// The steps that a person asks about: those that took time, and those that failed. All of
    /// them are in the report as a value.
    fn write_steps(&self, out: &mut String) -> std::fmt::Result {
        let told = |step: &&StepTime| step.seconds.is_none_or(|seconds| seconds >= LONG);
        let quick = self.steps.iter().filter(|step| !told(step)).count();
        writeln!(out, "\nSteps:")?;
        for step in self.steps.iter().filter(told) {
            let took = step.seconds.map_or_else(|| "failed".to_owned(), seconds);
            writeln!(out, "  {} {:<32} {took}", clock(step.started), step.step)?;
        }
        match (quick, quick == self.steps.len()) {
            (0, _) => Ok(()),
            (_, true) => writeln!(out, "  {quick}, each in less than {LONG:.0} s"),
            (_, false) => writeln!(out, "  {quick} more, each in less than {LONG:.0} s"),
        }
    }
}

/// Steps that took less are not listed one by one, in seconds.
const LONG: f64 = 1.0;

/// `2024-02-15 09:30:00 UTC`.
fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..19)) {
        (Some(date), Some(time)) => format!("{date} {time} UTC"),
        _ => text,
    }
}

/// `09:30:00`.
fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(11..19).unwrap_or(&text).to_owned()
}

/// A fact in words: `6 tables`, `4.2 MiB`, `proven with 7.0.15`; what there is none of is not
/// worth a word.
fn fact(key: &str, value: &Value) -> Option<String> {
    let words = key.replace('_', " ");
    match value {
        Value::String(text) => Some(format!("{words} {text}")),
        Value::Number(number) => match (number.as_u64()?, key) {
            (0, _) => None,
            (count, "bytes") => Some(bytes(count)),
            (1, _) => {
                let one = match (words.strip_suffix("ies"), words.strip_suffix('s')) {
                    (Some(stem), _) => format!("{stem}y"),
                    (None, Some(stem)) => stem.to_owned(),
                    (None, None) => words,
                };
                Some(format!("1 {one}"))
            }
            (count, _) => Some(format!("{count} {words}")),
        },
        _ => None,
    }
}

/// A number of bytes for people.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = UNITS[0];
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mut amount = count as f64;
    for next in UNITS.into_iter().skip(1) {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{count} B")
    } else {
        format!("{amount:.1} {unit}")
    }
}

fn seconds(s: f64) -> String {
    if s < 60.0 {
        format!("{s:.1} s")
    } else {
        format!("{} min {:.0} s", (s / 60.0).floor(), s % 60.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn facts_are_words() {
        let words = |key, value| fact(key, &value);
        assert_eq!(words("tables", json!(6)).as_deref(), Some("6 tables"));
        assert_eq!(
            words("total_rows", json!(1)).as_deref(),
            Some("1 total row")
        );
        assert_eq!(
            words("directories", json!(1)).as_deref(),
            Some("1 directory")
        );
        assert_eq!(words("bytes", json!(4_400_917)).as_deref(), Some("4.2 MiB"));
        assert_eq!(words("left_out", json!(0)), None);
        assert_eq!(
            words("proven_with", json!("7.0.15")).as_deref(),
            Some("proven with 7.0.15")
        );
        assert_eq!(words("whole", json!([1])), None);
    }
}
