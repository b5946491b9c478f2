//! The way back: everything that was begun is taken back, in reverse.

use std::future::Future;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::execution::{RunExecutor, StepResult};
use super::forward::LONGER;
use super::state::{LOOK, SUPERSEDE};
use super::way_back::not_as_left;
use super::{Journal, RunState, keeps_page, order, page};
use crate::contract::{Target, When};
use crate::engine::plan::{Phase, PlannedService, Step, moves};
use crate::model::step_id::undo_of;
use crate::model::{Error, Finding, Outcome, Result, Timestamp};
use crate::swap::scope::Discard;

/// Everything is moved back and only the page is still up: users are turned away, so that this is
/// no end yet.
fn page_stays(error: Error) -> Error {
    let hint = error.hint_text().unwrap_or_default().to_owned();
    let hint = match hint.is_empty() {
        true => "`restore page off` takes it down".to_owned(),
        false => format!("{hint}: `restore page off` takes the page down"),
    };
    error
        .context("everything is moved back, and the maintenance page does not go")
        .hint(hint)
}

/// How long to wait before each further try of an undo that failed.
const RETRIES: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(2)];

impl RunExecutor<'_> {
    /// Takes everything back. `keep`: users have been served by the restored data, which is put
    /// aside instead of deleted. `Err`: an undo failed for good, and the run is stuck with users
    /// turned away.
    pub(super) async fn unwind(&self, keep: bool) -> Result<Outcome> {
        self.start_what_is_needed(|state, name| state.began(&Step::Stage(name.to_owned())))
            .await;
        let took_over = self.took_over().await;
        let (cut_over, page_was_up, touched) = self.journal.with(|state| {
            let stopped = state
                .plan
                .services
                .iter()
                .any(|service| state.began(&Step::Stop(service.name.clone())));
            let begun = state.cut_over_begun();
            let page_was_up =
                state.began(&Step::MaintenanceOn) || (took_over && state.plan.maintenance);
            let touched = took_over || stopped || page_was_up || !begun.is_empty();
            // Moved back by an earlier attempt: what has become of that since is no business of
            // this run, and nothing has to be down for it.
            let undone = |name: &String| {
                let step = Step::CutOver(name.clone());
                state.done.contains(&undo_of(&step))
            };
            let left = begun
                .into_iter()
                .filter(|name| !undone(name))
                .collect::<Vec<_>>();
            (left, page_was_up, touched)
        });
        if touched {
            self.bring_back(&cut_over, page_was_up, took_over).await?;
        }
        match keep {
            true => self.tell_kept_creations().await,
            false => {
                self.discard_staged().await;
                self.remove_created(&[]).await;
                self.clear_after_a_kill().await;
            }
        }
        // A failure is told as a failure, also when a later process finished the undo.
        Ok(match self.journal.with(|state| state.failure.is_some()) {
            true => Outcome::Undone,
            false => Outcome::RolledBack,
        })
    }

    /// Whether the run that this one goes over is ended: the services that it had stopped, and its
    /// page, are this one's then.
    pub(super) async fn took_over(&self) -> bool {
        let over = self.journal.with(|state| {
            let over = state.plan.request.over.clone();
            over.filter(|_| state.intents.contains(SUPERSEDE))
        });
        let Some(over) = over else { return false };
        let other = Journal::peek_at(&self.site.runs(), &over).await;
        other.is_ok_and(|other| !other.is_open())
    }

    async fn bring_back(
        &self,
        cut_over: &[String],
        page_was_up: bool,
        took_over: bool,
    ) -> Result<()> {
        let (run, started) = self
            .journal
            .with(|state| (state.run.clone(), state.started));
        let (page_came_up, page_was_lifted) = self.journal.with(|state| {
            let lifted = undo_of(Step::MaintenanceOff);
            let page_was_lifted = state.was_let_in()
                || state.began(&Step::MaintenanceOff)
                || state.intents.contains(&lifted);
            (state.is_done(&Step::MaintenanceOn), page_was_lifted)
        });
        let maintenance = self.site.maintenance().filter(|_| page_was_up);
        let (page_up, kept) = self
            .journal
            .with(|state| (state.page_up, keeps_page(state)));
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
                // It goes up also where the journal cannot take how it comes down.
                let _ = page::keep(&self.journal, maintenance.as_ref()).await;
                let up = self
                    .undo_step(&Step::MaintenanceOn, || maintenance.on(&run, started))
                    .await;
                if let Err(error) = up {
                    self.record_best_effort(Finding::warning(
                        "undo.no_page",
                        "maintenance",
                        format!("the old data is swapped back without a maintenance page: {error}"),
                    ))
                    .await;
                }
            }
            let begun = page_was_up || took_over;
            self.swap_back(&seen, Phase::CutOver, begun).await
        };
        // At the same time: neither waits for the other, and an undo that fails behind the scenes
        // does not keep users out.
        let behind = self.swap_back(&unseen, Phase::Background, took_over);
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
        self.look_after_undo(&Step::CheckInside, When::BeforeTraffic, since)
            .await;
        if page_was_up && (maintenance.is_some() || page_up || kept) {
            let lifted = self
                .undo_step(&Step::MaintenanceOff, || self.take_page_down())
                .await;
            match lifted {
                // It never came up: whatever keeps it from being lifted does not keep users out.
                Err(error) if !page_came_up => {
                    self.record_best_effort(Finding::warning(
                        "undo.page_unsure",
                        "maintenance",
                        format!(
                            "the maintenance page had not come up; taking it down says: {error}"
                        ),
                    ))
                    .await;
                }
                lifted => lifted.map_err(page_stays)?,
            }
        }
        self.look_after_undo(&Step::CheckOutside, When::AfterTraffic, since)
            .await;
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
            // What users have written into the restored data is kept with it.
            let keep = self
                .journal
                .with(|state| state.keeps_what_it_restored() == Some(true));
            let without_programs = Mutex::new(Vec::new());
            order::stopping(&services, |at| {
                let name = services[at].name.clone();
                let without_programs = &without_programs;
                async move {
                    if keep && let Err(error) = self.make_durable(&name, true).await {
                        self.record_best_effort(Finding::from_error(name.clone(), &error))
                            .await;
                    }
                    let Err(error) = self.stop_again(&name).await else {
                        return Ok(());
                    };
                    // What would stop it may lie in what is about to be moved back.
                    if !self.lost_its_programs(&name, cut_over).await {
                        return Err(error);
                    }
                    let finding = Finding::warning(
                        "undo.no_program",
                        name.clone(),
                        format!("is not stopped before the old data is moved back, as its own program is gone: {error}"),
                    );
                    self.record_best_effort(finding).await;
                    let without = without_programs.lock();
                    without.unwrap_or_else(PoisonError::into_inner).push(name);
                    Ok(())
                }
            })
            .await?;
            for name in cut_over.iter().rev() {
                let deploy = Step::Deploy(name.clone());
                // Once is enough: again, it would start what another attempt has stopped since.
                let undone = undo_of(&deploy);
                let undeploy =
                    |state: &RunState| state.began(&deploy) && !state.done.contains(&undone);
                if self.journal.with(undeploy) {
                    self.undo_component(&deploy, name).await?;
                }
            }
            // One that cannot be moved back does not keep the others from it.
            let mut first = None;
            for name in cut_over.iter().rev() {
                let step = Step::CutOver(name.clone());
                if let Err(error) = self.undo_component(&step, name).await {
                    first.get_or_insert(error);
                }
            }
            if let Some(error) = first {
                return Err(error);
            }
            // It may have run on, on what is no longer there: what does not stop now is no end.
            let again = without_programs.into_inner();
            for name in again.unwrap_or_else(PoisonError::into_inner) {
                self.stop_again(&name).await?;
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
                let ran = services[at].ran_before();
                async move {
                    let step = Step::Start(name.clone());
                    // What did not run before either keeps nobody waiting.
                    let scale = || platform.scale_at_least(&name, replicas, ran);
                    // Each try waits for it to be ready, with users turned away.
                    if let Err(error) = self.undo_tries(&step, &RETRIES[..1], scale).await {
                        self.tell_down(&name, ran, &error).await;
                    }
                    let stop = Step::Stop(name.clone());
                    let halfway = |state: &RunState| state.began(&stop) && !state.is_done(&stop);
                    if self.journal.with(halfway) {
                        self.let_go_on(&name).await;
                    }
                    // Whatever became of it, the others are started.
                    Ok::<(), Error>(())
                }
            })
            .await?;
        }
        Ok(since)
    }

    /// Has components take back what they did to a service before it was to be stopped, where that did not come about.
    pub(super) async fn let_go_on(&self, name: &str) {
        for component in self.site.components() {
            component.not_stopped(name).await;
        }
        for guard in self.site.guards.iter().filter(|it| it.service() == name) {
            guard.not_stopped().await;
        }
    }

    /// Stops a service on the way back. One that had to be killed for that is told of: what users have just
    /// written is kept without what it was about to write. One that does not stop goes on.
    async fn stop_again(&self, name: &str) -> Result<()> {
        let platform = self.site.platform();
        // One that is down already may have been killed as it was stopped before, which was told then.
        let before = platform.service(name).await;
        let ran = before.is_ok_and(|state| state.running > 0);
        let step = Step::Stop(name.to_owned());
        let stopped = self.undo_step(&step, || platform.scale(name, 0)).await;
        // That it cannot be looked at holds up no undo.
        if ran
            && let Ok(state) = platform.service(name).await
            && let Some(why) = state.killed
        {
            let detail = format!("killed on the way back: {why}");
            let finding = Finding::killed(name, detail).hint(LONGER);
            self.record_best_effort(finding).await;
        }
        if stopped.is_err() {
            self.let_go_on(name).await;
        }
        stopped
    }

    /// Whether a program that the service is started, stopped or asked after by is gone from where these
    /// components are about to move the old data back to. What one is called with does not count: it may be
    /// what the service makes. Nor does any of it for a service that is seen to run.
    async fn lost_its_programs(&self, service: &str, cut_over: &[String]) -> bool {
        let platform = self.site.platform();
        if matches!(platform.service(service).await, Ok(state) if state.running > 0) {
            return false;
        }
        let mut targets = Vec::new();
        for name in cut_over {
            if let Some(component) = self.site.component(name) {
                let paths = self
                    .journal
                    .with(|state| state.plan.component(name).map(|it| it.paths.clone()));
                let paths = paths.unwrap_or_default();
                targets.extend(component.targets(&paths).await.unwrap_or_default());
            }
        }
        platform.programs(service).iter().any(|it| {
            let path = Path::new(&it.program);
            let returns = |target: &Target| {
                let inside = path.strip_prefix(&target.path);
                inside.is_ok_and(|inside| moves(&target.scope, inside))
            };
            it.service.is_none() && !path.exists() && targets.iter().any(returns)
        })
    }

    /// Undoes what one component did in a step.
    async fn undo_component(&self, step: &Step, name: &str) -> Result<()> {
        let component = self.component(name)?;
        let context = self.context_of_undo(name);
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

    /// A service that does not start on its old data: everything was moved back, so this is told
    /// and holds up nothing.
    async fn tell_down(&self, name: &str, ran: u32, error: &Error) {
        let before = match ran {
            0 => "it did not run before the run either",
            _ => "it ran before the run",
        };
        let finding = Finding::warning(
            "undo.service_down",
            name,
            format!("does not start on its old data, which is back in place ({before}): {error}"),
        );
        let hint = error.hint_text().unwrap_or("its own log says why");
        self.record_best_effort(
            finding.hint(format!("{hint}; start it by hand once that is fixed")),
        )
        .await;
    }

    /// Makes the checks after an undo. What fails is told, and turns nothing: everything that was
    /// moved is back, whether it works or not.
    async fn look_after_undo(&self, step: &Step, when: When, since: Timestamp) {
        // The platform was no part of it.
        if self.journal.with(|state| state.plan.request.is_beside()) {
            return;
        }
        let id = undo_of(step);
        let outcomes = self.checks_after_undo(when, since).await;
        let before = self.journal.with(|state| state.checks_before.clone());
        let failing: Vec<_> = outcomes.iter().filter(|it| !it.passed).cloned().collect();
        // Each is told of before its outcome is, as what there is to say of it says more.
        let made = async {
            for check in failing {
                let then = before.iter().find(|then| then.name == check.name);
                let (code, words, hint) = match then {
                    Some(then) if !then.passed => (
                        "undo.check_failed_before_too",
                        "fails, as it did before the run",
                        "the run has changed nothing about it",
                    ),
                    _ => (
                        "undo.check_failed",
                        "fails, though it passed before the run",
                        "the old data is back in place: look into the log of the service that the check asks",
                    ),
                };
                let message = format!("the check {words}: {}", check.detail);
                self.record_best_effort(Finding::warning(code, check.name, message).hint(hint))
                    .await;
            }
            Ok(StepResult {
                checks: outcomes,
                ..StepResult::default()
            })
        };
        // All that can fail here is the journal, without which an undo goes on too.
        let _ = self
            .undoing(&id, format!("undo: {}", step.describe()), made)
            .await;
    }

    /// An undo step, tried again a few times.
    async fn undo_step<F, Fut>(&self, step: &Step, work: F) -> Result<()>
    where
        F: Fn() -> Fut + Send,
        Fut: Future<Output = Result<()>> + Send,
    {
        self.undo_tries(step, &RETRIES, work).await
    }

    /// An undo step, tried again after each of these waits.
    async fn undo_tries<F, Fut>(&self, step: &Step, waits: &[Duration], work: F) -> Result<()>
    where
        F: Fn() -> Fut + Send,
        Fut: Future<Output = Result<()>> + Send,
    {
        let id = undo_of(step);
        let mut waits = waits.iter();
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

    /// Deletes what was staged, once it is seen to be there: what lies on a disk that is not mounted
    /// is not deleted. Leftovers cost room and nothing else: noticed, not fatal.
    pub(super) async fn discard_staged(&self) {
        let state = self.journal.with(RunState::clone);
        let mut left = not_as_left(self.site, &state).await;
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
            let unseen = left.iter().position(|(other, _)| *other == name);
            let deleted = match unseen.map(|at| left.swap_remove(at)) {
                None => self.delete(&name, Discard::Staged).await,
                Some((_, why)) => {
                    let step = format!("{LOOK}{name}");
                    self.step(&step, format!("look for what {name} had staged"), async {
                        Err(why)
                    })
                    .await
                }
            };
            if let Err(error) = deleted {
                let finding = Finding::warning(
                    "run.leftover",
                    name.clone(),
                    format!("what was staged could not be deleted: {error}"),
                )
                .hint(
                    "it takes up room and does no harm; `restore confirm` of this run tries again",
                );
                self.record_best_effort(finding).await;
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
