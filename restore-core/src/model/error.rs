//! The one error type of the library: what happened, to what, what to do next.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::Report;
use super::text::shown;

/// What a caller can do about an [`Error`]; each kind has one exit code in the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration or an argument is wrong; nothing was tried.
    Config,
    /// A named backup, run, component, service or volume does not exist.
    NotFound,
    /// The backup is not what it claims to be (missing, changed, short, unreadable, refused member).
    Verification,
    /// A condition for starting is not met; nothing was touched.
    Preflight,
    /// Another run holds the site's lock.
    Locked,
    /// The caller asked to stop.
    Interrupted,
    /// The operating system, a server or a tool refused or failed.
    Failed,
    /// An undo failed: the platform is neither as it was nor restored, and needs a hand.
    Stuck,
    /// A contract inside the library was broken; please report it.
    Internal,
}

/// The result of every fallible call of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with a stable code, one line of explanation and, where there is one, the next step.
///
/// `Display` is one line: what happened and to what, the cause included. The hint is kept
/// apart so that each program can show it in its own way; the alternate form (`{:#}`) has it in
/// parentheses.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    code: Cow<'static, str>,
    message: String,
    hint: Option<String>,
    component: Option<String>,
    retryable: bool,
    reason: Option<Arc<dyn Reason>>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    report: Option<BoxedReport>,
}

/// A value that callers of one family of errors decide by.
trait Reason: Any + fmt::Debug + Send + Sync {}

impl<T: Any + fmt::Debug + Send + Sync> Reason for T {}

/// What a run did. A report is long: `unwrap` and `{:?}` show its first line.
#[derive(Clone)]
struct BoxedReport(Box<Report>);

impl fmt::Debug for BoxedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {}: {}", self.0.run, self.0.headline())
    }
}

impl Error {
    /// An error of `kind` with the stable `code` (`area.what`, lower case) and a message that
    /// names what happened and to what, in words that can be read aloud.
    pub fn new(
        kind: ErrorKind,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            code: code.into(),
            message: one_line(message.into()),
            hint: None,
            component: None,
            retryable: false,
            reason: None,
            source: None,
            report: None,
        }))
    }

    /// Shorthand for an I/O failure on a named thing: `what` reads like "read /path/file".
    pub fn io(what: impl fmt::Display, source: std::io::Error) -> Self {
        let hint = match source.kind() {
            std::io::ErrorKind::PermissionDenied => {
                Some("run as a user who may, usually root".to_owned())
            }
            std::io::ErrorKind::StorageFull => Some("free some space and try again".to_owned()),
            _ => None,
        };
        let mut error = Self::new(
            ErrorKind::Failed,
            match source.kind() {
                std::io::ErrorKind::StorageFull => "io.disk_full",
                std::io::ErrorKind::PermissionDenied => "io.permission",
                std::io::ErrorKind::NotFound => "io.not_found",
                _ => "io.failed",
            },
            format!("cannot {what}: {source}"),
        )
        .because(source.kind())
        .source(source);
        error.0.hint = hint;
        error
    }

    /// The caller asked to stop (`code` `run.interrupted`).
    pub fn interrupted() -> Self {
        Self::new(
            ErrorKind::Interrupted,
            "run.interrupted",
            "interrupted before it was done",
        )
    }

    /// The same error with the next step for whoever reads it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(one_line(hint.into()));
        self
    }

    /// The same error, attributed to a component.
    #[must_use]
    pub fn in_component(mut self, component: impl Into<String>) -> Self {
        self.0.component.get_or_insert(component.into());
        self
    }

    /// The same error with its cause. The cause is not repeated by `Display`: whatever of it a
    /// person needs belongs into the message.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source: Box<dyn std::error::Error + Send + Sync> = source.into();
        self.0.source = Some(source.into());
        self
    }

    /// The same error, marked as worth another try without any change.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.0.retryable = true;
        self
    }

    /// The same error with a value that says what it was, for callers that go on in another way then:
    /// they ask with [`is`](Self::is), and never compare codes or messages. One stays, the last. An error
    /// of [`io`](Self::io) has its [`std::io::ErrorKind`].
    #[must_use]
    pub fn because<T: PartialEq + fmt::Debug + Send + Sync + 'static>(mut self, reason: T) -> Self {
        self.0.reason = Some(Arc::new(reason));
        self
    }

    /// The same error under another kind, for a caller that knows more about what it means.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The same error with `context` and a colon before its message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = one_line(format!("{context}: {}", self.0.message));
        self
    }

    /// The same error with `more` behind its message, after a semicolon.
    #[must_use]
    pub(crate) fn with_more(mut self, more: impl fmt::Display) -> Self {
        self.0.message = one_line(format!("{}; {more}", self.0.message));
        self
    }

    /// The same error, as what a run came to.
    #[must_use]
    pub(super) fn with_report(mut self, report: Report) -> Self {
        self.0.report = Some(BoxedReport(Box::new(report)));
        self
    }

    /// What the run did that did not end as asked; `None` where no run was begun or taken up, so
    /// that nothing was touched.
    pub fn report(&self) -> Option<&Report> {
        self.0.report.as_ref().map(|report| &*report.0)
    }

    /// As [`report`](Self::report), by value; the error itself where there is no report.
    pub fn into_report(mut self) -> Result<Report> {
        match self.0.report.take() {
            Some(report) => Ok(*report.0),
            None => Err(self),
        }
    }

    /// What can be done about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The stable code, `area.what`; it never changes its meaning between versions.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// The one-line message, as `Display` gives it.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The next step, where there is one, in the words of the command line: its verbs in backticks, its
    /// options as they are typed. What an option means for a library call is told where the option is:
    /// `--allow-unverified` is `PlanRequest::allow_unverified`.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The component that it befell, where it was one.
    pub fn component(&self) -> Option<&str> {
        self.0.component.as_deref()
    }

    /// Whether it has this value, given by [`because`](Self::because).
    pub fn is<T: PartialEq + fmt::Debug + Send + Sync + 'static>(&self, reason: &T) -> bool {
        let known: Option<&dyn Any> = self.0.reason.as_deref().map(|it| it as &dyn Any);
        known.and_then(<dyn Any>::downcast_ref) == Some(reason)
    }

    /// Whether the same call may succeed when simply made again.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(component) = &self.0.component {
            write!(f, "{component}: ")?;
        }
        f.write_str(&self.0.message)?;
        match &self.0.hint {
            Some(hint) if f.alternate() => write!(f, " ({hint})"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    /// The hint, where there is one, then the cause: programs that print chains of causes, as `anyhow` does
    /// with `{:#}` and `{:?}`, show it.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.0.hint {
            Some(_) => Some(&*self.0),
            None => std::error::Error::source(&*self.0),
        }
    }
}

/// As a link of the chain of causes it is the hint.
impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hint: {}", self.hint.as_deref().unwrap_or_default())
    }
}

impl std::error::Error for Inner {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Messages of servers and tools carry line breaks; a report and a log have one line an error. What
/// else could pass for more than words is escaped.
fn one_line(text: String) -> String {
    let text = match text.contains(['\n', '\r']) {
        false => text,
        true => text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("; "),
    };
    let clean = match shown(&text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(clean) => Some(clean),
    };
    clean.unwrap_or(text)
}

/// That components or paths were chosen, and none is left: to take that for everything would
/// restore what nobody asked for.
pub(crate) fn nothing_selected() -> Error {
    Error::new(
        ErrorKind::Config,
        "plan.nothing_selected",
        "an empty selection of components or paths: nothing would be done",
    )
    .hint("name at least one, or select nothing at all for everything that the site has")
}

/// What went wrong while reading from a store, `what` being what was read: the store's own error
/// where it is one.
pub fn read_error(what: impl std::fmt::Display, error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::io(format!("read {what}"), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_line_and_names_the_component() {
        let error = Error::new(ErrorKind::Failed, "x.y", "first\n  second\n")
            .in_component("redis")
            .hint("try\nthis");
        assert_eq!(error.to_string(), "redis: first; second");
        assert_eq!(error.hint_text(), Some("try; this"));
        assert_eq!(format!("{error:#}"), "redis: first; second (try; this)");
    }

    #[test]
    fn a_chain_of_causes_has_the_hint() {
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let error = Error::io("read x", denied);
        let mut chain = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(known) = cause {
            chain += &format!(": {known}");
            cause = known.source();
        }
        assert_eq!(
            chain,
            "cannot read x: permission denied: hint: run as a user who may, usually root: \
             permission denied"
        );
    }

    #[test]
    fn what_it_was_stays_with_an_error_that_is_told_in_other_words() {
        #[derive(Debug, PartialEq)]
        enum Why {
            Gone,
            Changed,
        }
        let error = Error::interrupted().because(Why::Gone).context("there");
        let error = error.hint("look").with_kind(ErrorKind::NotFound);
        assert!(error.is(&Why::Gone) && !error.is(&Why::Changed) && !error.is(&"Gone"));
        let full = Error::io("write", std::io::ErrorKind::StorageFull.into());
        assert!(full.is(&std::io::ErrorKind::StorageFull));
        assert!(!Error::interrupted().is(&Why::Gone));
    }

    #[test]
    fn the_innermost_component_wins() {
        let error = Error::interrupted()
            .in_component("inner")
            .in_component("outer");
        assert_eq!(error.component(), Some("inner"));
    }
}
