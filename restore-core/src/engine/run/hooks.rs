//! The hooks of a run: steps of it, which turn it back, and at its end, where they change nothing.

use std::sync::Arc;

use super::execution::{RunExecutor, StepResult};
use super::{KeptAt, RunState, report_of, report_with};
use crate::contract::{Hook, HookMoment, HookSubject};
use crate::engine::hooks::{Told, failed_at_end, may_stop};
use crate::engine::operations::Site;
use crate::engine::plan::Step;
use crate::model::{Finding, Outcome, Report, Result};

/// What the end that a report tells of is to hooks; `None`: nothing.
fn end_of(report: &Report) -> Option<(HookMoment, HookSubject)> {
    let open = matches!(report.outcome, Outcome::Unfinished | Outcome::Stuck);
    let when = match report.outcome {
        // Ended by hand, where nothing has to work.
        Outcome::Abandoned => return None,
        _ if open || report.is_failing() || report.error().is_some() => HookMoment::OnFailure,
        _ => HookMoment::OnSuccess,
    };
    let subject = match report.drill {
        true => HookSubject::Drill,
        false => HookSubject::Run,
    };
    Some((when, subject))
}

/// The hooks that are called at the end that a report tells of.
pub(super) fn end_hooks<'a>(
    site: &'a Site,
    report: &Report,
) -> impl Iterator<Item = &'a Arc<dyn Hook>> + use<'a> {
    let end = end_of(report);
    let hooks = site.hooks().iter();
    hooks.filter(move |hook| end.is_some_and(|(when, subject)| hook.is_called(when, subject)))
}

/// Whether hooks of the end that the run has come to are not called yet, or not at their end.
pub(crate) fn has_hooks_left(site: &Site, state: &RunState) -> bool {
    // Where components keep what they do decides nothing about hooks.
    let report = report_with(state, &KeptAt::new());
    let (Some((when, _)), Some(ended)) = (end_of(&report), state.ended) else {
        return false;
    };
    let mut hooks = end_hooks(site, &report);
    hooks.any(|hook| {
        let step = Step::Hook(when, hook.name().to_owned()).to_string();
        let mut since = state.steps.iter().filter(|it| it.started >= ended);
        !since.any(|it| it.step == step && (it.failed || it.seconds.is_some()))
    })
}

impl RunExecutor<'_> {
    /// Calls a hook that is a step of the plan. One that the configuration no longer has is not called:
    /// taking it out is how a run is finished in spite of it.
    pub(super) async fn call_hook(&self, when: HookMoment, name: &str) -> Result<()> {
        let Some(hook) = self.site.hooks().iter().find(|hook| hook.name() == name) else {
            let message = "is not in the configuration any more, and is not called";
            return self.notice(Finding::info("hook.gone", name, message)).await;
        };
        let report = report_of(self.site, &self.journal.state()).await;
        let told = self.told(&report, HookSubject::Run);
        told.call(hook.as_ref(), when, &self.cancel).await
    }

    /// Calls the hooks of the run's end, as its journal tells it. They are in the journal behind it, so
    /// that nothing about them changes what the run came to.
    pub(super) async fn call_end_hooks(&self, kept_at: &KeptAt) {
        let report = report_with(&self.journal.state(), kept_at);
        let Some((when, subject)) = end_of(&report) else {
            return;
        };
        let told = self.told(&report, subject);
        let stop = may_stop(&self.options.cancel);
        for hook in end_hooks(self.site, &report) {
            let step = Step::Hook(when, hook.name().to_owned());
            let call = async {
                told.call(hook.as_ref(), when, &stop).await?;
                Ok(StepResult::default())
            };
            // Whoever is to be told that the disk is full is told.
            let called = self.undoing(&step.to_string(), step.describe(), call).await;
            if let Err(error) = called {
                self.record_best_effort(failed_at_end(hook.as_ref(), &error))
                    .await;
            }
        }
    }

    fn told<'a>(&'a self, report: &'a Report, subject: HookSubject) -> Told<'a> {
        Told {
            site: self.site.name(),
            subject,
            report: Some(report),
            backup: None,
            error: None,
        }
    }
}
