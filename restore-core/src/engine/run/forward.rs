//! The way forward: a copy of what is live, stage everything, then the short bracket in which users are turned away.

use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::execution::{RunExecutor, StepResult};
use super::state::SUPERSEDE;
use super::{order, page};
use crate::contract::{HookMoment, NeedsAWord, When};
use crate::engine::plan::{Phase, PlannedService, Step};
use crate::model::{CheckOutcome, Error, ErrorKind, Finding, Result, Timestamp};
use crate::sys::on_heap::on_heap;

/// What to do about a service that had to be killed.
pub(super) const LONGER: &str = "give it longer to stop in the configuration";

/// A failed step's id and its error.
type StepError = (String, Error);

/// Whether two steps that follow each other are begun together: services stop, and start, in the
/// order in which they wait for each other.
fn are_together(one: &Step, next: &Step) -> bool {
    matches!(
        (one, next),
        (Step::Stop(_), Step::Stop(_)) | (Step::Start(_), Step::Start(_))
    )
}

impl RunExecutor<'_> {
    /// Does every step of the plan that is not done yet, in order.
    pub(super) async fn forward(&self) -> Result<(), StepError> {
        on_heap(|| self.save_and_stage()).await?;
        self.agree_to_what_was_staged().await?;
        let steps = self.journal.with(|state| state.plan.steps.clone());
        let mut services_started = Timestamp::now();
        // A hook may keep the run from beginning its swap. Until then the other run has all its ways on.
        let is_before = |step: &&Step| matches!(step, Step::Hook(HookMoment::BeforeStop, _));
        for step in steps.iter().filter(is_before) {
            self.forward_step(step.clone(), services_started).await?;
        }
        self.end_the_other().await?;
        let bracket: Vec<&Step> = steps
            .iter()
            .filter(|step| step.phase() > Phase::Stage)
            .collect();
        for together in bracket.chunk_by(|one, next| are_together(one, next)) {
            let Some(first) = together.first() else {
                continue;
            };
            if let Step::Deploy(_) | Step::Start(_) | Step::CheckInside = first {
                services_started = services_started.min(Timestamp::now());
            } else if first.phase() == Phase::CutOver && !matches!(first, Step::Hook(..)) {
                services_started = Timestamp::now();
            }
            let since = services_started;
            match first {
                Step::Stop(_) => {
                    let services = self.services_of(together);
                    order::stopping(&services, |at| {
                        self.forward_step(Step::Stop(services[at].name.clone()), since)
                    })
                    .await?;
                }
                Step::Start(_) => {
                    let services = self.services_of(together);
                    order::starting(&services, |at| {
                        self.forward_step(Step::Start(services[at].name.clone()), since)
                    })
                    .await?;
                }
                _ => self.forward_step((*first).clone(), since).await?,
            }
        }
        Ok(())
    }

    /// Backs up what is live and stages what is to be, side by side where neither changes what the other
    /// reads; the rest is staged once the backup is made. Where anything is made first, that it was absent
    /// is backed up before.
    async fn save_and_stage(&self) -> Result<(), StepError> {
        let staged = CancellationToken::new();
        let (creates, beside, after) = self.journal.with(|state| {
            let mut steps = state.plan.steps.iter();
            let creates =
                state.plan.request.create || steps.any(|step| matches!(step, Step::Create(_)));
            let saves = state.plan.steps.contains(&Step::SafetyBackup)
                && !state.is_done(&Step::SafetyBackup);
            let (mut beside, mut after) = (Vec::new(), Vec::new());
            for component in &state.plan.components {
                match saves && !creates && component.is_saved_first() {
                    true => after.push(component.name.clone()),
                    false => beside.push(component.name.clone()),
                }
            }
            (creates, beside, after)
        });
        if creates {
            staged.cancel();
            self.safety_backup(&staged).await?;
            self.create_all().await?;
            return self.stage_all(beside).await;
        }
        let save = async {
            // Boxed: each is large, and both are held at once.
            let saved = Box::pin(self.safety_backup(&staged)).await;
            if saved.is_err() {
                // What is staged beside it is for nothing.
                self.cancel.cancel();
            }
            saved
        };
        let stage = async {
            let done = Box::pin(self.stage_all(beside)).await;
            staged.cancel();
            done
        };
        let both = match tokio::join!(save, stage) {
            // The one that stops because the other failed is not the cause.
            (Err(saved), Err(staged)) if saved.1.kind() == ErrorKind::Interrupted => Err(staged),
            (saved, staged) => saved.and(staged),
        };
        both?;
        Box::pin(self.stage_all(after)).await
    }

    /// Ends the run that this one goes over. Not before everything is staged: until then the other
    /// keeps all its ways on.
    async fn end_the_other(&self) -> Result<(), StepError> {
        let over = self.journal.with(|state| {
            let over = state.plan.request.over.clone();
            over.filter(|_| !state.plan.request.drill && !state.done.contains(SUPERSEDE))
        });
        let Some(over) = over else {
            return Ok(());
        };
        let id = SUPERSEDE.to_owned();
        if self.cancel.is_cancelled() {
            return Err((id, Error::interrupted()));
        }
        let what = format!("end run {over}, over which this one goes");
        self.step(SUPERSEDE, what, self.supersede(&over))
            .await
            .map_err(|error| (id, error))
    }

    /// The services that these steps stop or start, in the order of stopping.
    fn services_of(&self, steps: &[&Step]) -> Vec<PlannedService> {
        let named = |service: &PlannedService| {
            steps.iter().any(
                |step| matches!(step, Step::Stop(name) | Step::Start(name) if *name == service.name),
            )
        };
        let services = self.services().into_iter();
        services.filter(named).collect()
    }

    /// Does one step, unless it is done and stays so.
    pub(super) async fn forward_step(&self, step: Step, since: Timestamp) -> Result<(), StepError> {
        if self.can_skip(&step) {
            return Ok(());
        }
        let id = step.to_string();
        if self.cancel.is_cancelled() {
            return Err((id, Error::interrupted()));
        }
        let work = self.bracket_step(&step, since);
        let what = self.journal.with(|state| state.plan.describe(&step));
        self.step(&id, what, work)
            .await
            .map_err(|error| (id, error))
    }

    /// A process that resumes a run repeats what time may have undone (a reboot starts
    /// services), and skips what stays done.
    fn can_skip(&self, step: &Step) -> bool {
        self.journal.with(|state| {
            state.is_done(step)
                && match step {
                    Step::Create(_) | Step::Stage(_) | Step::CutOver(_) | Step::Hook(..) => true,
                    Step::MaintenanceOn | Step::Stop(_) => state.swapped(state.plan.phase(step)),
                    _ => false,
                }
        })
    }

    /// Stages every one of these components that is not staged yet, some at the same time. The first
    /// failure stops the others, unless a word allows what failed: then all that need one are told at once.
    /// Returns when none works any more.
    async fn stage_all(&self, mut names: Vec<String>) -> Result<(), StepError> {
        self.journal
            .with(|state| names.retain(|name| !state.is_done(&Step::Stage(name.clone()))));
        let stop_others = self.cancel.clone();
        // A drill is made to learn what does not restore: one failure does not hide the next.
        let drill = self.journal.with(|state| state.plan.request.drill);
        let mut first: Option<StepError> = None;
        let mut running = futures_util::stream::iter(names)
            .map(|name| async move {
                let step = Step::Stage(name.clone());
                let result = if self.cancel.is_cancelled() {
                    Err(Error::interrupted())
                } else {
                    let work = self.stage(&name);
                    self.step(&step.to_string(), step.describe(), work).await
                };
                result.map_err(|error| (name, step.to_string(), error))
            })
            .buffer_unordered(self.site.jobs());
        let mut empty: Vec<String> = Vec::new();
        while let Some(result) = running.next().await {
            let Err((name, id, error)) = result else {
                continue;
            };
            if error.is(&NeedsAWord) {
                empty.push(name);
            } else if !drill {
                stop_others.cancel();
            }
            let tell = drill || !empty.is_empty();
            if first.is_some() && tell && error.kind() != ErrorKind::Interrupted {
                self.record_best_effort(Finding::from_error(id.clone(), &error))
                    .await;
            }
            // Those that stop because another failed are not the cause.
            first.get_or_insert((id, error));
        }
        let Some((id, error)) = first else {
            return Ok(());
        };
        if !drill {
            // Whatever goes on beside it is for nothing.
            stop_others.cancel();
        }
        let error = match error.is(&NeedsAWord) && empty.len() > 1 {
            true => error.hint(format!(
                "choose another backup; --allow-empty {} puts them in the place of what is live",
                empty.join(",")
            )),
            false => error,
        };
        Err((id, error))
    }

    async fn stage(&self, name: &str) -> Result<StepResult> {
        let component = self.component(name)?;
        let staged = component
            .stage(&self.context(name))
            .await
            .map_err(|error| error.in_component(name))?;
        for finding in &staged.findings {
            self.emit(&crate::model::Event::Finding {
                finding: finding.clone(),
            });
        }
        Ok(StepResult {
            staged: Some(staged),
            ..StepResult::default()
        })
    }

    async fn bracket_step(&self, step: &Step, since: Timestamp) -> Result<StepResult> {
        match step {
            Step::SafetyBackup | Step::Stage(_) => {}
            Step::Hook(when, name) => Box::pin(self.call_hook(*when, name)).await?,
            Step::Create(name) => self.create(name).await?,
            Step::MaintenanceOn => page::put_up(self.site, &self.journal).await?,
            Step::MaintenanceOff => self.take_page_down().await?,
            Step::Stop(name) => self.stop(name).await?,
            Step::Start(name) => {
                let services = self.services();
                let service = services.iter().find(|service| service.name == *name);
                // What did not run at all is to run by now.
                let (count, least) = service.map_or((1, 1), |service| {
                    (service.start, service.ran_before().max(1))
                });
                let platform = self.site.platform();
                platform
                    .scale_at_least(name, count, least.min(count))
                    .await?;
            }
            Step::CutOver(name) => {
                let component = self.component(name)?;
                component
                    .cut_over(&self.context(name))
                    .await
                    .map_err(|error| error.in_component(name.as_str()))?;
            }
            Step::Deploy(name) => {
                let component = self.component(name)?;
                component
                    .deploy(&self.context(name))
                    .await
                    .map_err(|error| error.in_component(name.as_str()))?;
            }
            Step::CheckInside => return self.check_inside(since).await,
            Step::CheckOutside => return self.check(When::AfterTraffic, since).await,
        }
        Ok(StepResult::default())
    }

    /// Stops a service; one that had to be killed is noticed: what it was about to write is lost.
    async fn stop(&self, name: &str) -> Result<()> {
        let platform = self.site.platform();
        self.make_durable(name, false).await?;
        platform.scale(name, 0).await?;
        let state = platform.service(name).await?;
        if let Some(why) = state.killed {
            let finding = Finding::killed(name, format!("killed: {why}")).hint(LONGER);
            self.notice(finding).await?;
        }
        Ok(())
    }

    /// Has every component of the site make durable what it has in a service that is about to be stopped.
    pub(super) async fn make_durable(&self, service: &str, undo: bool) -> Result<()> {
        for component in self.site.components() {
            let name = component.name();
            let context = match undo {
                true => self.context_of_undo(name),
                false => self.context(name),
            };
            component
                .before_stop(service, &context)
                .await
                .map_err(|error| error.in_component(name))?;
        }
        for guard in self.site.guards.iter().filter(|it| it.service() == service) {
            let planned = self.journal.with(|state| state.plan.findings.clone());
            guard.before_stop(&planned).await?;
        }
        Ok(())
    }

    /// Every component's own proof must hold; the site's checks must not have become worse. The
    /// proofs are made at the same time, as users wait, and all of them to their end: what a failed
    /// one leads to must not meet another that still looks. The site's checks may be anything, and
    /// write what a proof would find.
    async fn check_inside(&self, since: Timestamp) -> Result<StepResult> {
        let names: Vec<String> = self.journal.with(|state| {
            let components = state.plan.components.iter();
            components.map(|component| component.name.clone()).collect()
        });
        let proofs = names.iter().map(|name| self.prove(name));
        let mut outcomes = Vec::new();
        for proof in futures_util::future::join_all(proofs).await {
            outcomes.extend(proof?);
        }
        // What nothing uses yet changes nothing about the platform.
        if !self.journal.with(|state| state.plan.request.is_beside()) {
            let result = self.check(When::BeforeTraffic, since).await?;
            outcomes.extend(result.checks);
        }
        Ok(StepResult {
            checks: outcomes,
            ..StepResult::default()
        })
    }

    /// A component's own proof.
    async fn prove(&self, name: &str) -> Result<Vec<CheckOutcome>> {
        let component = self.component(name)?;
        let found = component
            .check(&self.context(name))
            .await
            .map_err(|error| error.in_component(name))?;
        if let Some(failed) = found.iter().find(|outcome| !outcome.passed) {
            let backup = self.journal.with(|state| state.plan.backup.clone());
            return Err(Error::new(
                ErrorKind::Failed,
                "check.component",
                format!("the check {} failed: {}", failed.name, failed.detail),
            )
            .hint(format!("read the backup through with `restore verify {backup} --deep`, look into the service's own log and configuration, then run again"))
            .in_component(name));
        }
        Ok(found)
    }

    /// Makes the site's checks of one kind. A check that failed before the run too is noticed;
    /// one that had not failed is an error.
    async fn check(&self, when: When, since: Timestamp) -> Result<StepResult> {
        let outcomes = tokio::select! {
            outcomes = self.checks(when, since) => outcomes,
            () = self.cancel.cancelled() => return Err(Error::interrupted()),
        };
        if let Some(failed) = self.blame(&outcomes) {
            return Err(Error::new(
                ErrorKind::Failed,
                "check.failed",
                format!("the check {} failed after the swap: {}", failed.name, failed.detail),
            )
            .hint("it did not fail before the restore; the backup may not fit the platform as it is now"));
        }
        for outcome in outcomes.iter().filter(|outcome| !outcome.passed) {
            self.notice(Finding::warning(
                "check.failed_before_too",
                outcome.name.clone(),
                format!(
                    "the check fails, as it did before the restore: {}",
                    outcome.detail
                ),
            ))
            .await?;
        }
        Ok(StepResult {
            checks: outcomes,
            ..StepResult::default()
        })
    }
}
