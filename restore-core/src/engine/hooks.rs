//! Calling hooks: each within its deadline, and not a moment longer than somebody wants the work.

use tokio_util::sync::CancellationToken;

use super::plan::Step;
use crate::contract::{Hook, HookMoment, HookNotice, HookSubject};
use crate::model::{
    BackupReport, Error, ErrorKind, Event, EventSink, Failure, Finding, Report, Result,
};

/// What hooks are told.
pub(crate) struct Told<'a> {
    pub(crate) site: &'a str,
    pub(crate) subject: HookSubject,
    pub(crate) report: Option<&'a Report>,
    pub(crate) backup: Option<&'a BackupReport>,
    pub(crate) error: Option<&'a Error>,
}

impl Told<'_> {
    fn notice(&self, hook: &dyn Hook, when: HookMoment) -> HookNotice {
        let failed = self.error.map(|error| (error, self.subject));
        let what = match (self.report, self.backup, failed) {
            (Some(report), ..) if when.is_step() => {
                format!("run {} of backup {}: {when}", report.run, report.backup)
            }
            (Some(report), ..) => format!("{} ({})", report.headline(), report.run),
            (None, Some(backup), _) => format!("Backup {} is made", backup.id),
            (None, None, Some((error, HookSubject::Backup))) => format!("No backup: {error}"),
            (None, None, Some((error, subject))) => format!("No {subject}: {error}"),
            (None, None, None) => when.to_string(),
        };
        HookNotice {
            text: format!("{}: {what}", self.site),
            site: self.site.to_owned(),
            hook: hook.name().to_owned(),
            when,
            subject: self.subject,
            report: self.report.cloned(),
            backup: self.backup.cloned(),
            error: self
                .error
                .map(|error| Failure::of(self.subject.to_string(), error)),
        }
    }

    /// Calls one hook.
    pub(crate) async fn call(
        &self,
        hook: &dyn Hook,
        when: HookMoment,
        stop: &CancellationToken,
    ) -> Result<()> {
        let name = hook.name();
        let notice = self.notice(hook, when);
        let called = tokio::select! {
            called = tokio::time::timeout(hook.timeout(), hook.call(&notice)) => called,
            () = stop.cancelled() => return Err(Error::interrupted()),
        };
        let error = match called {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => Error::new(
                ErrorKind::Failed,
                "hook.timeout",
                format!("not done within {:?}, and stopped", hook.timeout()),
            )
            .hint("give it a longer `timeout`"),
        };
        let more = match error.hint_text() {
            Some(hint) => format!("{hint}, or"),
            None => format!("correct [hooks.{name}], or"),
        };
        let hint = format!("{more} take [hooks.{name}] out of restore.toml");
        Err(error
            .context(format!("the hook {name} ({when}) failed"))
            .hint(hint))
    }
}

/// That a hook at the end of something has failed: it is told, and changes nothing.
pub(crate) fn failed_at_end(hook: &dyn Hook, error: &Error) -> Finding {
    let finding = Finding::warning("hook.failed", hook.name(), error.message());
    match error.hint_text() {
        Some(hint) => finding.hint(hint),
        None => finding,
    }
}

/// Who may still stop the hooks at the end of something: nobody who has stopped that already.
pub(crate) fn may_stop(cancel: &CancellationToken) -> CancellationToken {
    match cancel.is_cancelled() {
        true => CancellationToken::new(),
        false => cancel.clone(),
    }
}

/// Calls the hooks of an end that no run's journal tells of; what failed of that is told and given.
pub(crate) async fn call_at_end(
    hooks: &[std::sync::Arc<dyn Hook>],
    told: &Told<'_>,
    when: HookMoment,
    (events, cancel): (&dyn EventSink, &CancellationToken),
) -> Vec<Finding> {
    let stop = may_stop(cancel);
    let mut findings = Vec::new();
    for hook in hooks {
        if !hook.is_called(when, told.subject) {
            continue;
        }
        let step = Step::Hook(when, hook.name().to_owned());
        events.emit(&Event::StepStarted {
            step: step.to_string(),
            what: step.describe(),
        });
        let began = std::time::Instant::now();
        match told.call(hook.as_ref(), when, &stop).await {
            Ok(()) => events.emit(&Event::StepFinished {
                step: step.to_string(),
                seconds: began.elapsed().as_secs_f64(),
            }),
            Err(error) => {
                events.emit(&Event::StepFailed {
                    step: step.to_string(),
                    error: error.to_string(),
                });
                let finding = failed_at_end(hook.as_ref(), &error);
                events.emit(&Event::Finding {
                    finding: finding.clone(),
                });
                findings.push(finding);
            }
        }
    }
    findings
}
