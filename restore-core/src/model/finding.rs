//! Findings: what an inspection noticed, typed, all of them and not only the first.

use serde::{Deserialize, Serialize};

use super::ErrorKind;
use super::text::shown;

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
}

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
        }
    }

    /// The same finding with the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(shown(&Into::<String>::into(hint)).into_owned());
        self
    }

    /// The same finding, as the error of a kind: one of [`Verification`](ErrorKind::Verification) says that
    /// the backup is not what it claims to be.
    #[must_use]
    pub fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// An [`Error`](crate::Error) as a finding that stops a run.
    pub fn from_error(subject: impl Into<String>, error: &crate::model::Error) -> Self {
        let mut finding = Self::error(error.code(), subject, error.message());
        finding.hint = error.hint_text().map(str::to_owned);
        finding.of_kind(error.kind())
    }
}
