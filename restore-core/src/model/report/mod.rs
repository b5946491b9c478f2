//! Reports: what a run did, from its journal, as a value; `text` makes words of it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    BackupId, CheckOutcome, Error, ErrorKind, Finding, Outcome, Result, RunId, SafetyBackup,
    Timestamp,
};

mod text;

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
    /// The component that it befell, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Whether another run may succeed without any change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retryable: bool,
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
            component: error.component().map(str::to_owned),
            retryable: error.is_retryable(),
        }
    }

    /// The error again, under another kind and code.
    fn error(&self, kind: ErrorKind, code: String) -> Error {
        let mut message = self.message.as_str();
        if let Some(component) = &self.component {
            // `Display` of the error says it.
            let rest = message.strip_prefix(component.as_str());
            message = rest.and_then(|it| it.strip_prefix(": ")).unwrap_or(message);
        }
        let mut error = Error::new(kind, code, message);
        if let Some(hint) = &self.hint {
            error = error.hint(hint.clone());
        }
        if let Some(component) = &self.component {
            error = error.in_component(component.clone());
        }
        match self.retryable {
            true => error.retryable(),
            false => error,
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
    /// Whether it failed; one that neither ended nor failed was broken off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
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
    /// Whether its restored data is live now, or there beside what is live.
    pub restored: bool,
    /// What it was restored as beside what is live, where it did not replace that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
    /// Bytes staged.
    pub bytes: u64,
    /// What was staged: tables, rows, keys, files.
    pub facts: Map<String, Value>,
    /// Where the other copy is kept (the replaced data, or after a rollback the restored), while
    /// there is one.
    pub kept_at: Option<String>,
    /// What is kept there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// About how many bytes are; measured only where somebody is about to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_bytes: Option<u64>,
    /// Why it cannot be told what is kept, or why it is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_unsure: Option<String>,
    /// Whether a confirmation has left that alone, as it was not what the run had left.
    #[serde(default)]
    pub left_alone: bool,
}

/// What a run keeps of a component beside the live data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kept {
    /// What was live before the run.
    Replaced,
    /// What the run had made live, and took away again.
    Restored,
    /// What the run staged and never made live.
    Staged,
}

impl Kept {
    /// In words: `replaced data`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Replaced => "replaced data",
            Self::Restored => "restored data",
            Self::Staged => "staged data",
        }
    }
}

/// Something that was absent before a run, and that the run made: a directory, a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Made {
    /// The component that it was made for.
    pub component: String,
    /// What it is, in a few words: `directory /srv/shop`.
    pub what: String,
    /// Whether the run has removed it again.
    pub removed: bool,
}

/// A service that the way back could not start on its old data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceDown {
    /// Its name.
    pub name: String,
    /// Why it did not start.
    pub error: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
    /// Whether it ran before the run.
    pub ran_before: bool,
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
    /// Whether that was begun and not finished: some of it is gone, so that there is no way back.
    #[serde(default)]
    pub confirming: bool,
    /// Whether its confirmation found nothing that it had replaced: all was absent that it made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaced_nothing: bool,
    /// Whether the maintenance page is up, or may be.
    #[serde(default)]
    pub page_up: bool,
    /// Why its journal cannot be believed wholly: all else is what can be read of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
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
    /// Who is at work on it right now, in words; `None`: nobody, so that one which has not ended
    /// waits for somebody to finish it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_way: Option<String>,
    /// Whether what it restored is put aside, and not deleted, when it is taken back: users may
    /// have written into it.
    #[serde(default)]
    pub keeps_restored: bool,
    /// Whether it is being taken back, or was: one that has not ended goes on that way and no other.
    #[serde(default)]
    pub turned_back: bool,
    /// Whether somebody asked for that, as of a run which had failed and did not get back by itself.
    #[serde(default)]
    pub asked_back: bool,
    /// Why it did not end as asked.
    pub failure: Option<Failure>,
    /// What stands in the way of undoing it, where it is stuck.
    pub stuck: Option<Failure>,
    /// The safety backup that it made first.
    #[serde(default)]
    pub safety: Option<SafetyBackup>,
    /// Its components.
    pub components: Vec<ComponentReport>,
    /// What was absent and it made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<Made>,
    /// The services that it stopped, with the instances that were recorded.
    pub services: Map<String, Value>,
    /// Services that did not start when the run was taken back.
    #[serde(default)]
    pub services_down: Vec<ServiceDown>,
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
    /// of. Its code, component and hint are those of what failed, its kind says what became of the
    /// run. A run that was taken back on request ended as asked.
    pub fn error(&self) -> Option<Error> {
        let (kind, code, failure) = match (&self.outcome, &self.stuck, &self.failure) {
            (
                Outcome::Restored | Outcome::RolledBack | Outcome::Drilled | Outcome::Abandoned,
                ..,
            ) => return None,
            (Outcome::Unfinished, ..) => {
                return Some(
                    Error::new(
                        ErrorKind::Stuck,
                        "run.unfinished",
                        format!("run {} has not ended", self.run),
                    )
                    .hint(match self.turned_back {
                        true => format!(
                            "it is being taken back: `restore rollback {}` finishes that",
                            self.run
                        ),
                        false => format!(
                            "`restore resume {0}` finishes it, `restore rollback {0}` undoes it",
                            self.run
                        ),
                    }),
                );
            }
            (Outcome::Stuck, None, None) => {
                return Some(
                    Error::new(
                        ErrorKind::Stuck,
                        "run.stuck",
                        format!(
                            "run {} is stuck, and its journal could not take why",
                            self.run
                        ),
                    )
                    .hint(format!(
                        "`restore report {}` shows how far it came",
                        self.run
                    )),
                );
            }
            (Outcome::Stuck, Some(stuck), _) => (ErrorKind::Stuck, "run.stuck".to_owned(), stuck),
            (_, _, Some(failure)) => {
                let kind = match failure.kind {
                    kind @ (ErrorKind::Verification | ErrorKind::Interrupted) => kind,
                    _ => ErrorKind::Failed,
                };
                (kind, failure.code.clone(), failure)
            }
            // Taken back on request before anything had failed.
            _ => return None,
        };
        Some(failure.error(kind, code))
    }

    /// Itself where the run ended as asked; else [its error](Self::error), with the report inside.
    pub fn into_result(self) -> Result<Self> {
        match self.error() {
            None => Ok(self),
            Some(error) => Err(error.with_report(self)),
        }
    }

    /// As [`into_result`](Self::into_result), for a run that nobody has asked to take back.
    pub(crate) fn into_forward(self) -> Result<Self> {
        let report = self.into_result()?;
        if report.is_as_before() {
            // The decision to turn back could not be written down, and how it ended could.
            let error = Error::new(
                ErrorKind::Failed,
                "run.undone",
                format!(
                    "run {} was taken back, and its journal does not say why",
                    report.run
                ),
            )
            .hint("`restore report` has its steps; free some space where the site's state is");
            return Err(error.with_report(report));
        }
        Ok(report)
    }

    /// The report of a run however it ended: for a program that shows reports, and asks
    /// [`error`](Self::error) afterwards. `Err`: no run was begun or taken up.
    ///
    /// ```no_run
    /// # use restore_core::{Plan, Report, Result, RunOptions, Site};
    /// # async fn show(site: &Site, plan: Plan) -> Result<()> {
    /// let report = Report::however_ended(site.run(plan, RunOptions::new()).await)?;
    /// println!("{}", report.to_text());
    /// # Ok(())
    /// # }
    /// ```
    pub fn however_ended(ended: Result<Self>) -> Result<Self> {
        ended.or_else(Error::into_report)
    }

    /// The checks that fail now, each with whether it failed before the run too.
    pub fn failing_checks(&self) -> impl Iterator<Item = (&CheckOutcome, bool)> {
        let before = |name: &str| {
            let mut known = self.checks_before.iter();
            known.any(|check| check.name == name && !check.passed)
        };
        let failing = self.checks_after.iter().filter(|check| !check.passed);
        failing.map(move |check| (check, before(&check.name)))
    }

    /// Whether the run ended and the platform does not work all the same: a check fails, a service
    /// did not start on its old data, or the maintenance page did not come down.
    pub fn is_failing(&self) -> bool {
        match self.outcome {
            Outcome::Restored | Outcome::RolledBack | Outcome::Undone => {
                self.page_up
                    || !self.services_down.is_empty()
                    || self.failing_checks().next().is_some()
            }
            // What does not work then is no business of the run's any more, but its page is.
            Outcome::Abandoned => self.page_up,
            _ => false,
        }
    }

    /// What does not work, in a few words: `2 checks fail, 1 service does not start`.
    fn failing(&self) -> Option<String> {
        if !self.is_failing() {
            return None;
        }
        let mut parts = Vec::new();
        if self.page_up {
            parts.push("the maintenance page may still be up".to_owned());
        }
        if self.outcome == Outcome::Abandoned {
            return Some(parts.join(", "));
        }
        let checks: Vec<bool> = self.failing_checks().map(|(_, before)| before).collect();
        if !checks.is_empty() {
            let before = match checks.iter().filter(|before| **before).count() {
                0 => "",
                all if all == checks.len() => ", as before the run",
                _ => ", some of them as before the run",
            };
            parts.push(match checks.len() {
                1 => format!("1 check fails{before}"),
                many => format!("{many} checks fail{before}"),
            });
        }
        match self.services_down.len() {
            0 => {}
            1 => parts.push("1 service does not start".to_owned()),
            many => parts.push(format!("{many} services do not start")),
        }
        Some(parts.join(", "))
    }

    /// What the run restores beside what is live and leaves there, in words; `None`: it replaces what is live.
    pub fn beside(&self) -> Option<&str> {
        self.components.iter().find_map(|it| it.beside.as_deref())
    }

    /// The first line of the report: how it ended, and whether the platform works.
    pub fn headline(&self) -> String {
        let stopped = self
            .failure
            .as_ref()
            .is_some_and(|failure| failure.kind == ErrorKind::Interrupted);
        let failing = self.failing();
        match (self.outcome, failing) {
            (Outcome::Unfinished, _) if self.under_way.is_some() => {
                format!("{} under way", if self.drill { "Drill" } else { "Restore" })
            }
            (Outcome::Unfinished, _) if self.drill => "Drill NOT FINISHED".to_owned(),
            (Outcome::Restored, Some(failing)) => format!("Restored, but {failing}"),
            (Outcome::RolledBack, None) if self.drill => {
                "Drill taken back; nothing live was touched".to_owned()
            }
            (Outcome::RolledBack, Some(failing)) => {
                format!("Rolled back: what was live before the restore is back, but {failing}")
            }
            // What was asked for comes first: that the restore had failed is no news.
            (Outcome::Undone, failing) if self.asked_back && !self.drill => {
                let had = if stopped { "was stopped" } else { "had failed" };
                match failing {
                    Some(failing) => format!(
                        "Rolled back: what was live before the restore, which {had}, is back, but {failing}"
                    ),
                    None => format!("{}, which {had}", Outcome::RolledBack.headline()),
                }
            }
            (Outcome::Abandoned, Some(failing)) => {
                format!("{}, but {failing}", Outcome::Abandoned.headline())
            }
            (Outcome::Undone, failing) => {
                let line = match (self.drill, stopped) {
                    (true, true) => "Drill interrupted; the platform is as it was",
                    (false, true) => "Restore interrupted; the platform is as it was",
                    (true, false) => {
                        "Drill FAILED: the backup does not restore; nothing live was touched"
                    }
                    (false, false) => "Restore FAILED; the platform is as it was",
                };
                match failing {
                    Some(failing) => format!(
                        "{}, but {failing}",
                        line.replace("the platform is as it was", "what was live before is back",)
                    ),
                    None => line.to_owned(),
                }
            }
            (Outcome::Restored, None) => match self.beside() {
                Some(what) => format!("Restored and checked: {what}; nothing live was touched"),
                None => Outcome::Restored.headline().to_owned(),
            },
            (outcome, _) => outcome.headline().to_owned(),
        }
    }

    /// Everything noticed but what says that a check fails, which is told where the checks are.
    pub fn noticed(&self) -> Vec<&Finding> {
        let failing: Vec<&str> = self
            .failing_checks()
            .map(|(check, _)| check.name.as_str())
            .collect();
        let told = |finding: &&Finding| {
            !finding.tells_of_a_check() || !failing.contains(&finding.subject.as_str())
        };
        self.findings.iter().filter(told).collect()
    }

    /// Whether the platform is as it was before the run: what a rollback is asked for.
    pub fn is_as_before(&self) -> bool {
        matches!(self.outcome, Outcome::Undone | Outcome::RolledBack)
    }
}
