//! Findings: what an inspection noticed, typed, all of them and not only the first.

use serde::{Deserialize, Serialize};

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
            subject: subject.into(),
            message: message.into(),
            hint: None,
        }
    }

    /// The same finding with the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An [`Error`](crate::Error) as a finding that stops a run.
    pub fn from_error(subject: impl Into<String>, error: &crate::Error) -> Self {
        let mut finding = Self::error(error.code(), subject, error.message());
        finding.hint = error.hint_text().map(str::to_owned);
        finding
    }
}
