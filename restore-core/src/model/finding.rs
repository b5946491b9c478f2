//! Findings: what an inspection noticed, typed, all of them and not only the first.

use serde::{Deserialize, Serialize};

use super::text::shown;
use super::{ErrorKind, RunId};

/// Whether a [`Finding`] stops a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a decision; the run goes on.
    Warning,
    /// The run does not start.
    Error,
}

/// One thing that an inspection noticed about a backup, a component or the platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// Whether it stops a run.
    pub severity: Severity,
    /// Stable, `area.what`.
    pub code: String,
    /// The file, component, service or check it is about.
    pub subject: String,
    /// One line: what is so, and why it matters.
    pub message: String,
    /// The next step, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    /// The kind of the error that it was, where that is known: what a run that it stops ends with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<ErrorKind>,
    /// Whether a run goes on only with a yes to it: it is asked once all is staged, before users are turned
    /// away.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub asks: bool,
    #[serde(skip)]
    bearing: Bearing,
}

/// What a plan must know of a finding, beyond its severity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Bearing {
    #[default]
    None,
    KeptBy(RunId),
    StopsDeployment,
}

const KILLED: &str = "service.killed";
const LOST: &str = "run.lost";
const UNREAD: &str = "run.unread";
/// Areas in which the subject is a check that fails.
const OF_CHECKS: [&str; 2] = ["check.", "undo.check_"];

impl Finding {
    /// A finding that stops a run.
    pub fn error(code: &str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, subject, message)
    }

    /// A finding worth a decision.
    pub fn warning(code: &str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, subject, message)
    }

    /// A finding worth knowing.
    pub fn info(code: &str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Info, code, subject, message)
    }

    fn new(
        severity: Severity,
        code: &str,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            code: code.to_owned(),
            subject: shown(&Into::<String>::into(subject)).into_owned(),
            message: shown(&Into::<String>::into(message)).into_owned(),
            hint: None,
            kind: None,
            asks: false,
            bearing: Bearing::None,
        }
    }

    /// The same finding with the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(shown(&Into::<String>::into(hint)).into_owned());
        self
    }

    /// The same finding, as one that a run goes on with only after a yes.
    #[must_use]
    pub fn asking(mut self) -> Self {
        self.asks = true;
        self
    }

    /// That a service had to be killed.
    pub(crate) fn killed(service: &str, detail: impl Into<String>) -> Self {
        Self::warning(KILLED, service, detail)
    }

    /// Whether it is one of [`killed`](Self::killed), also as a journal or a report has it.
    pub(crate) fn tells_of_a_kill(&self) -> bool {
        self.code == KILLED
    }

    /// Whether its subject is a check, and it says that this fails.
    pub fn tells_of_a_check(&self) -> bool {
        OF_CHECKS.iter().any(|area| self.code.starts_with(area))
    }

    /// Whether it tells of data that a run keeps of which nothing is known.
    pub fn tells_of_a_lost_run(&self) -> bool {
        self.code == LOST
    }

    /// Whether it tells of a run whose journal cannot be read.
    pub fn tells_of_an_unread_run(&self) -> bool {
        self.code == UNREAD
    }

    /// What it is about and what is so, in one line: a message that names its subject is not told twice whose
    /// it is.
    pub fn line(&self) -> String {
        match names(&self.message, &self.subject) {
            true => self.message.clone(),
            false => format!("{}: {}", self.subject, self.message),
        }
    }

    /// The same finding, as the error of a kind: one of [`Verification`](ErrorKind::Verification) says that
    /// the backup is not what it claims to be.
    #[must_use]
    pub fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// The same finding, as one that tells only of data which an earlier run keeps: a plan that tells of
    /// that run leaves it out.
    #[must_use]
    pub fn kept_by(mut self, run: RunId) -> Self {
        self.bearing = Bearing::KeptBy(run);
        self
    }

    /// The run whose data it tells of, where it tells of nothing else.
    pub fn keeper(&self) -> Option<&RunId> {
        match &self.bearing {
            Bearing::KeptBy(run) => Some(run),
            _ => None,
        }
    }

    /// The same finding, as one that stops a run which deploys: in a plan of such a run it is an error.
    #[must_use]
    pub fn stops_deployment(mut self) -> Self {
        self.bearing = Bearing::StopsDeployment;
        self
    }

    /// The same finding, as it is in the plan of a run that deploys.
    pub(crate) fn with_deployment(mut self) -> Self {
        if self.bearing == Bearing::StopsDeployment {
            self.severity = Severity::Error;
        }
        self
    }

    /// An [`Error`](crate::Error) as a finding that stops a run.
    pub fn from_error(subject: impl Into<String>, error: &crate::model::Error) -> Self {
        let mut finding = Self::error(error.code(), subject, error.message());
        finding.hint = error.hint_text().map(str::to_owned);
        finding.of_kind(error.kind())
    }
}

/// Whether a message begins with its subject, or names it anywhere where that is a path: any word could be
/// the name of a component.
fn names(message: &str, subject: &str) -> bool {
    let ends = |rest: &str| rest.starts_with([' ', ':', ',', ';', ')']) || rest.is_empty();
    if message.strip_prefix(subject).is_some_and(ends) {
        return !subject.is_empty();
    }
    subject.contains('/')
        && message
            .match_indices(&format!(" {subject}"))
            .any(|(at, found)| message.get(at + found.len()..).is_some_and(ends))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_named_once() {
        let line = |subject: &str, message: &str| Finding::error("x.y", subject, message).line();
        let (file, missing) = ("redis/a.rdb", "redis/a.rdb is listed and is not there");
        assert_eq!(line(file, missing), missing);
        let inside = "line 1 of redis/a.rdb is no line";
        assert_eq!(line(file, inside), inside);
        assert_eq!(line("app", "does not run"), "app: does not run");
        let other = "redis/a.rdb.gz is not there";
        assert_eq!(line(file, other), format!("{file}: {other}"));
        // A name that is a word of the sentence says nothing.
        let word = "the service redis does not answer";
        assert_eq!(line("redis", word), format!("redis: {word}"));
        assert_eq!(line("", "it is so"), ": it is so");
    }
}
