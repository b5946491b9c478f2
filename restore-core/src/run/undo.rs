//! The way back: everything that was begun is taken back, in reverse.

use std::future::Future;
use std::time::Duration;

use super::execution::{Execution, StepResult};
use super::order;
use super::{Outcome, RunState};
use crate::check::When;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::Finding;
use crate::plan::{Phase, PlannedService, Step};
use crate::platform::Discard;
use crate::time::Timestamp;

/// How long to wait before each further try of an undo that failed.
const RETRIES: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(2)];

impl Execution<'_> {
    /// Takes everything back. `keep`: users have been served by the restored data, which is put
    /// aside instead of deleted. `Err`: an undo failed for good, and the run is stuck with users
    /// turned away.
    pub(super) async fn unwind(&self, keep: bool) -> Result<Outcome> {
        let (cut_over, page_was_up, touched) = self.journal.with(|state| {
            let stopped = state
                .plan
                .services
                .iter()
                .any(|service| state.began(&Step::Stop(service.name.clone())));
            let cut_over = state.cut_over_begun();
            let page_was_up = state.began(&Step::MaintenanceOn);
            let touched = stopped || page_was_up || !cut_over.is_empty();
            (cut_over, page_was_up, touched)
        });
        if touched {
            self.bring_back(&cut_over, page_was_up).await?;
        }
        if !keep {
            self.discard_staged().await;
        }
        // A failure is told as a failure, also when a later process finished the undo.
        Ok(match self.journal.with(|state| state.failure.is_some()) {
            true => Outcome::Undone,
            false => Outcome::RolledBack,
        })
    }

    async fn bring_back(&self, cut_over: &[String], page_was_up: bool) -> Result<()> {
        let (run, started) = self
            .journal
            .with(|state| (state.run.clone(), state.started));
        let (page_came_up, page_was_lifted) = self.journal.with(|state| {
            let lifted = format!("undo:{}", Step::MaintenanceOff);
            let page_was_lifted =
                state.began(&Step::MaintenanceOff) || state.intents.contains(&lifted);
            (state.is_done(&Step::MaintenanceOn), page_was_lifted)
        });
        let maintenance = self.site.maintenance().filter(|_| page_was_up);
        let unseen: Vec<String> = self.journal.with(|state| {
            let phase = |name: &String| state.plan.phase(&Step::CutOver(name.clone()));
            let unseen = cut_over
                .iter()
                .filter(|name| phase(name) == Phase::Background);
            unseen.cloned().collect()
        });
        let seen: Vec<String> = cut_over
            .iter()
            .filter(|name| !unseen.contains(name))
            .cloned()
            .collect();
        let visible = async {
            // It is still up, unless the run had come to taking it down. Putting it up needs a web
            // server whose configuration reads, and the very undo may be what makes it readable.
            if let Some(maintenance) = maintenance.filter(|_| page_was_lifted && !seen.is_empty()) {
                let up = self
                    .undo_step(&Step::MaintenanceOn, || maintenance.on(&run, started))
                    .await;
                if let Err(error) = up {
                    self.notice_anyway(Finding::warning(
                        "undo.no_page",
                        "maintenance",
                        format!("the old data is swapped back without a maintenance page: {error}"),
                    ))
                    .await;
                }
            }
            self.swap_back(&seen, Phase::CutOver, page_was_up).await
        };
        // At the same time: neither waits for the other, and an undo that fails behind the scenes
        // does not keep users out.
        let behind = self.swap_back(&unseen, Phase::Background, false);
        let deployed = self.journal.with(|state| {
            let mut components = state.plan.components.iter();
            components.any(|it| state.began(&Step::Deploy(it.name.clone())))
        });
        let (visible, behind) = match deployed {
            // The way back of a deployment starts all of its stack as it was described.
            true => (visible.await, behind.await),
            false => tokio::join!(visible, behind),
        };
        let since = match &behind {
            Ok(behind) => visible?.max(*behind),
            Err(_) => visible?,
        };
        self.undo_step(&Step::CheckInside, || {
            self.must_be_as_before(When::BeforeTraffic, since)
        })
        .await?;
        if let Some(maintenance) = maintenance {
            let lifted = self
                .undo_step(&Step::MaintenanceOff, || maintenance.off(&run))
                .await;
            match lifted {
                // It never came up: whatever keeps it from being lifted does not keep users out.
                Err(error) if !page_came_up => {
                    self.notice_anyway(Finding::warning(
                        "undo.page_unsure",
                        "maintenance",
                        format!(
                            "the maintenance page had not come up; taking it down says: {error}"
                        ),
                    ))
                    .await;
                }
                lifted => lifted?,
            }
        }
        self.undo_step(&Step::CheckOutside, || {
            self.must_be_as_before(When::AfterTraffic, since)
        })
        .await?;
        behind.map(drop)
    }

    /// Swaps components of one part of the run back, in reverse, with that part's services down,
    /// and starts these as they were; gives the moment from which on they were started. Where
    /// nothing of that part was begun (`begun`: something that no step of it tells) it does
    /// nothing: a service that was never stopped is not waited for.
    async fn swap_back(&self, cut_over: &[String], phase: Phase, begun: bool) -> Result<Timestamp> {
        let platform = self.site.platform();
        let services: Vec<PlannedService> = self
            .services()
            .into_iter()
            .filter(|service| service.background == (phase == Phase::Background))
            .collect();
        if !cut_over.is_empty() {
            order::stopping(&services, |at| {
                let name = services[at].name.clone();
                async move {
                    let step = Step::Stop(name.clone());
                    self.undo_step(&step, || platform.scale(&name, 0)).await
                }
            })
            .await?;
            for name in cut_over.iter().rev() {
                let deploy = Step::Deploy(name.clone());
                // Once is enough: again, it would start what another attempt has stopped since.
                let undone = format!("undo:{deploy}");
                let undeploy =
                    |state: &RunState| state.began(&deploy) && !state.done.contains(&undone);
                if self.journal.with(undeploy) {
                    self.undo_component(&deploy, name).await?;
                }
            }
            for name in cut_over.iter().rev() {
                self.undo_component(&Step::CutOver(name.clone()), name)
                    .await?;
            }
        }
        let stopped = |service: &PlannedService| {
            self.journal
                .with(|state| state.began(&Step::Stop(service.name.clone())))
        };
        let since = Timestamp::now();
        if begun || !cut_over.is_empty() || services.iter().any(stopped) {
            order::starting(&services, |at| {
                let (name, replicas) = (services[at].name.clone(), services[at].replicas);
                async move {
                    let step = Step::Start(name.clone());
                    self.undo_step(&step, || platform.scale(&name, replicas))
                        .await
                }
            })
            .await?;
        }
        Ok(since)
    }

    /// Undoes what one component did in a step.
    async fn undo_component(&self, step: &Step, name: &str) -> Result<()> {
        let component = self.component(name)?;
        let context = self.context(name);
        self.undo_step(step, || {
            let (component, context) = (component.clone(), context.clone());
            async move {
                match step {
                    Step::Deploy(_) => component.undeploy(&context).await,
                    _ => component.undo(&context).await,
                }
                .map_err(|error| error.in_component(context.component()))
            }
        })
        .await
    }

    /// What passed before the run must pass again: only then is the platform shown to be as it
    /// was.
    async fn must_be_as_before(&self, when: When, since: Timestamp) -> Result<()> {
        // A check that failed before would be waited for in vain, with users turned away.
        let outcomes = self.checks(when, since, false).await;
        match self.blame(&outcomes) {
            None => Ok(()),
            Some(failed) => Err(Error::new(
                ErrorKind::Failed,
                "undo.check_failed",
                format!(
                    "after the undo the check {} fails, which passed before the run: {}",
                    failed.name, failed.detail
                ),
            )
            .hint("the old data is back in place; find out why the service does not work with it, then repeat the rollback")),
        }
    }

    /// An undo step, tried again a few times.
    async fn undo_step<F, Fut>(&self, step: &Step, work: F) -> Result<()>
    where
        F: Fn() -> Fut + Send,
        Fut: Future<Output = Result<()>> + Send,
    {
        let id = format!("undo:{step}");
        let mut waits = RETRIES.iter();
        loop {
            let work = work();
            let result = self
                .undoing(&id, format!("undo: {}", step.describe()), async {
                    work.await.map(|()| StepResult::default())
                })
                .await;
            match (result, waits.next()) {
                (Ok(()), _) => return Ok(()),
                (Err(_), Some(wait)) => tokio::time::sleep(*wait).await,
                (Err(error), None) => return Err(error),
            }
        }
    }

    /// Deletes what was staged. Leftovers cost room and nothing else: noticed, not fatal.
    pub(super) async fn discard_staged(&self) {
        let names: Vec<String> = self.journal.with(|state| {
            let components = state
                .plan
                .components
                .iter()
                .map(|component| component.name.clone());
            components
                .filter(|name| state.began(&Step::Stage(name.clone())))
                .collect()
        });
        for name in names {
            if let Err(error) = self.discard(&name, Discard::Staged).await {
                let finding = Finding::warning(
                    "run.leftover",
                    name.clone(),
                    format!("what was staged could not be deleted: {error}"),
                )
                .hint(
                    "it takes up room and does no harm; `restore confirm` of this run tries again",
                );
                self.notice_anyway(finding).await;
            }
        }
    }

    pub(super) async fn discard(&self, name: &str, what: Discard) -> Result<()> {
        let component = self.component(name)?;
        let verb = match what {
            Discard::Staged => "discard",
            Discard::Replaced => "delete",
        };
        self.step(
            &format!("{verb}:{name}"),
            format!("{verb} what {name} had put aside"),
            async {
                component
                    .discard(&self.context(name), what)
                    .await
                    .map_err(|error| error.in_component(name))?;
                Ok(StepResult::default())
            },
        )
        .await
    }
}
