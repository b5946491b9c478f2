//! The way forward: a copy of what is live, stage everything, then the short bracket in which users are turned away.

use futures_util::StreamExt;

use super::execution::{RunExecutor, StepResult};
use super::order;
use super::state::SUPERSEDE;
use crate::contract::When;
use crate::engine::plan::{Phase, PlannedService, Step};
use crate::model::{CheckOutcome, Error, ErrorKind, Finding, Result, Timestamp};

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
        self.safety_backup().await?;
        self.create_all().await?;
        self.stage_all().await?;
        self.end_the_other().await?;
        let steps = self.journal.with(|state| state.plan.steps.clone());
        let mut services_started = Timestamp::now();
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
            } else if first.phase() == Phase::CutOver {
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
        self.step(&id, step.describe(), work)
            .await
            .map_err(|error| (id, error))
    }

    /// A process that resumes a run repeats what time may have undone (a reboot starts
    /// services), and skips what stays done.
    fn can_skip(&self, step: &Step) -> bool {
        self.journal.with(|state| {
            state.is_done(step)
                && match step {
                    Step::Create(_) | Step::Stage(_) | Step::CutOver(_) => true,
                    Step::MaintenanceOn | Step::Stop(_) => state.swapped(state.plan.phase(step)),
                    _ => false,
                }
        })
    }

    /// Stages every component that is not staged yet, some at the same time. The first failure
    /// stops the others; returns when none works any more.
    async fn stage_all(&self) -> Result<(), StepError> {
        let names: Vec<String> = self.journal.with(|state| {
            let names = state
                .plan
                .components
                .iter()
                .map(|component| component.name.clone());
            names
                .filter(|name| !state.is_done(&Step::Stage(name.clone())))
                .collect()
        });
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
                result.map_err(|error| (step.to_string(), error))
            })
            .buffer_unordered(self.site.jobs());
        while let Some(result) = running.next().await {
            let Err(error) = result else { continue };
            if !drill {
                stop_others.cancel();
            } else if first.is_some() && error.1.kind() != ErrorKind::Interrupted {
                self.notice_anyway(Finding::from_error(error.0.clone(), &error.1))
                    .await;
            }
            // Those that stop because another failed are not the cause.
            first.get_or_insert(error);
        }
        first.map_or(Ok(()), Err)
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
            Step::Create(name) => self.create(name).await?,
            Step::MaintenanceOn => {
                let (run, started) = self.journal.with(|s| (s.run.clone(), s.started));
                if let Some(maintenance) = self.site.maintenance() {
                    maintenance.on(&run, started).await?;
                }
            }
            Step::MaintenanceOff => {
                let run = self.journal.with(|s| s.run.clone());
                if let Some(maintenance) = self.site.maintenance() {
                    maintenance.off(&run).await?;
                }
            }
            Step::Stop(name) => self.stop(name).await?,
            Step::Start(name) => {
                let replicas = self
                    .services()
                    .iter()
                    .find(|service| service.name == *name)
                    .map_or(1, |service| service.start);
                self.site.platform().scale(name, replicas).await?;
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
        if state.detail.starts_with("killed") {
            let finding = Finding::warning("service.killed", name, state.detail)
                .hint("give it longer to stop in the configuration");
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
        let result = self.check(When::BeforeTraffic, since).await?;
        outcomes.extend(result.checks);
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
            return Err(Error::new(
                ErrorKind::Failed,
                "check.component",
                format!("the check {} failed: {}", failed.name, failed.detail),
            )
            .hint("read the backup through with `restore verify ID --deep`, look into the service's own log, then run again")
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
