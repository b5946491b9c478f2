//! Runs that go forward: made, and resumed.

use super::*;
use crate::engine::run::{ensure_staged, ensure_way_back, ensure_way_up};

/// The next step where no run, or another, is meant.
pub(super) const HISTORY: &str = "`restore history` lists all runs and how they ended";
/// Where kept data is found that no journal tells of.
pub(super) const SEARCH: &str =
    "`restore history --search` lists what runs keep beside the live data, and how to put it back";

impl Site {
    /// Starts the services that the request's components need to be looked at at all and that do
    /// not run: a database server, say. Each is told; one that does not start is for the plan to
    /// tell, as is one that an open run has stopped: its data may be between two states.
    pub async fn start_what_is_needed(&self, request: &PlanRequest, options: &RunOptions) {
        let started = self.locked(Action::Run, options, async |_lock| {
            self.start_needed(request, options).await
        });
        if let Err(error) = started.await {
            let finding = Finding::warning("service.not_started", "services", error.message());
            options.events.emit(&Event::Finding { finding });
        }
    }

    /// The services that open runs have stopped for components whose swap was begun: their data may be between two
    /// states, and nobody but those runs starts them.
    pub(crate) async fn between_swaps(&self) -> Result<Vec<String>> {
        let mut services: Vec<String> = Vec::new();
        for open in Journal::all(&self.runs()).await? {
            let swapped = |name: &str| open.cut_over(name).is_begun();
            if open.is_open() {
                let components = open.plan.components.iter();
                let between = components.filter(|it| swapped(&it.name));
                services.extend(between.flat_map(|it| it.stops.clone()));
            }
        }
        Ok(services)
    }

    async fn start_needed(&self, request: &PlanRequest, options: &RunOptions) -> Result<()> {
        let mut tried = self.between_swaps().await?;
        for component in &self.components {
            let name = component.name().to_owned();
            // Of paths nobody knows the components yet; none of them needs a service.
            let wanted = request.only.contains(&name)
                || (request.only.is_empty() && request.paths.is_empty());
            if !wanted || (request.is_beside() && !component.restores_beside()) {
                continue;
            }
            for service in component.needs() {
                let state = self.platform.service(&service).await;
                let down = state.is_ok_and(|state| state.running == 0);
                if !down || tried.contains(&service) {
                    continue;
                }
                tried.push(service.clone());
                let scaled = self.platform.scale(&service, 1).await;
                let known = self.not_started.lock();
                let mut known = known.unwrap_or_else(PoisonError::into_inner);
                let finding = match scaled {
                    Ok(()) => {
                        known.remove(&service);
                        Finding::warning(
                            "service.started",
                            service,
                            format!(
                                "did not run, and {name} cannot be restored without it: it was started"
                            ),
                        )
                    }
                    Err(error) => {
                        let finding = Finding::from_error(service.clone(), &error);
                        known.insert(service, finding.clone());
                        finding
                    }
                };
                drop(known);
                options.events.emit(&Event::Finding { finding });
            }
        }
        Ok(())
    }

    /// Executes a plan. A service that its components need and that is down is started first, and what is found out then
    /// may refuse it. `Ok`: the platform is restored and checked, or the drill has passed; where
    /// checks fail that failed before too, the report [says so](Report::is_failing).
    ///
    /// # Errors
    ///
    /// With a [report](Error::report): the run has ended otherwise, with the platform as it was,
    /// or, where even undoing failed, [stuck](crate::run::Outcome::Stuck). The error's code,
    /// component and hint are those of what failed; its kind says what became of the run, as
    /// [`Report::error`] does. Without one, nothing was touched: the plan is refused or out of
    /// date, another run is under way.
    ///
    /// Dropping the future stops the work where it is, like a crash: `resume` or `rollback`
    /// finishes it. To stop and undo, cancel [`RunOptions::cancel`] and await what comes of it.
    pub async fn run(&self, plan: Plan, options: RunOptions) -> Result<Report> {
        let drill = plan.request.drill;
        let ran = Box::pin(self.run_idle(plan, options.clone())).await;
        match ran.and_then(Report::into_forward) {
            Err(error) if drill && error.report().is_none() => {
                Box::pin(self.tell_refused_drill(&error, &options)).await;
                Err(error)
            }
            ran => ran,
        }
    }

    async fn run_idle(&self, plan: Plan, options: RunOptions) -> Result<Report> {
        until_unlocked(&options, || self.ensure_idle()).await?;
        if let Some(refusal) = plan.refusal() {
            return Err(refusal);
        }
        self.locked(Action::Run, &options.clone(), async |lock| {
            self.run_locked(lock, plan, options).await
        })
        .await
    }

    async fn run_locked(&self, lock: SiteLock, plan: Plan, options: RunOptions) -> Result<Report> {
        // Before anything is looked at again, and whoever else looks in between.
        let nodes = self.platform.nodes();
        let _nodes = nodes.map(|nodes| nodes.hold(&plan.request.nodes));
        let backup = self.backup(plan.backup.as_str()).await?;
        // What could not be looked at for the plan because its server was down is looked at now.
        if !plan.request.drill {
            self.start_needed(&plan.request, &options).await?;
        }
        // The plan may be minutes old, and another run may have ended in between.
        let now = self
            .plan_with(&backup, plan.request.clone(), &options)
            .await?;
        if let Some(refusal) = now.refusal() {
            return Err(refusal);
        }
        if let Some(difference) = difference(&plan, &now) {
            return Err(Error::new(
                ErrorKind::Preflight,
                "plan.stale",
                format!("not started: {difference} since the plan was made"),
            )
            .hint("look at a new plan and run that"));
        }
        options.planned(&now);
        // Nothing that the checks look at changes in a drill, or beside what is live.
        let over = match &now.request.over {
            // Also one whose journal is damaged: it is ended.
            Some(run) => Some(Journal::peek_at(&self.runs(), run).await?),
            None => None,
        };
        let over = over.filter(RunState::is_open);
        let checks = match (now.request.drill || now.request.is_beside(), &over) {
            (true, _) => Vec::new(),
            // Of a platform that is half stopped they would only say that it is.
            (false, Some(over)) if over.down_since.is_some() => over.checks_before.clone(),
            (false, _) => self.baseline().await,
        };
        if options.cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        if now.request.drill {
            // What cannot be deleted holds nothing up.
            let _ = Journal::forget_drills(&self.runs()).await;
        }
        let begun = Record::Begun {
            at: Timestamp::now(),
            run: RunId::generate(),
            plan: Box::new(now),
            checks,
            number: Some(self.next_number().await?),
            identity: Some(backup.identity()),
        };
        let journal = Journal::create(&self.runs(), begun, options.boundary.clone()).await?;
        RunExecutor::new(self, lock, journal, Arc::new(backup), options)
            .run(Action::Run)
            .await
    }

    /// Finishes an unfinished run (`None`: the only one): forward where it went forward, back
    /// where it was being undone. `Ok`: it ended as asked, also where a rollback that somebody had
    /// asked for is what was left to finish: the [outcome](Report::outcome) says which.
    ///
    /// # Errors
    ///
    /// As of [`run`](Self::run): with a [report](Error::report) where the run did not end as asked;
    /// without, where nothing was done.
    pub async fn resume(&self, run: Option<RunId>, options: RunOptions) -> Result<Report> {
        self.locked(Action::Resume, &options.clone(), async |lock| {
            self.resume_locked(lock, run, options).await
        })
        .await?
        .into_result()
    }

    async fn resume_locked(
        &self,
        lock: SiteLock,
        run: Option<RunId>,
        options: RunOptions,
    ) -> Result<Report> {
        let state = match run {
            Some(run) => Journal::peek(&self.runs(), &run).await?,
            None => match self.newest(RunState::is_open).await? {
                Some(state) => state,
                None => return Err(self.none_unfinished().await),
            },
        };
        if !state.is_open() {
            return Err(Error::new(
                ErrorKind::Preflight,
                "run.finished",
                format!(
                    "run {} is {}: there is nothing to resume",
                    state.run, state.outcome
                ),
            )
            .hint(HISTORY));
        }
        // In both directions: a disk that is not mounted is found here, and not by services that are
        // started on nothing.
        ensure_way_back(self, &state).await?;
        if state.turned_back.is_none() {
            ensure_way_up(self, &state)?;
            ensure_staged(self, &state).await?;
        }
        // What is to be undone does not need the backup, nor does what is staged wholly.
        let backup = match state.turned_back {
            Some(_) => self.backup_by_name(&state)?,
            None => match self.backup(state.plan.backup.as_str()).await {
                Ok(backup) if !is_another(&state, &backup) => backup,
                // All of it was staged from the one that was planned, which was verified then.
                _ if state.is_staged() => self.backup_by_name(&state)?,
                // The rest would be of another one than what is staged already.
                Ok(_) => return Err(backup_changed(&state)),
                // A run that cannot go on now is not given up for that.
                Err(error) => return Err(no_backup(&state, &error)),
            },
        };
        self.execution(lock, &state, backup, options)
            .await?
            .run(Action::Resume)
            .await
    }

    /// That there is no unfinished run, or that one whose journal is not believed may be one.
    async fn none_unfinished(&self) -> Error {
        let lost = Journal::lost(&self.runs()).await.unwrap_or_default();
        let unread = lost.into_iter().map(|run| run.error);
        let mut unread = unread.filter(|error| error.kind() == ErrorKind::Config);
        unread.next().unwrap_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "run.none_unfinished",
                "there is no unfinished run to resume",
            )
            .hint(HISTORY)
        })
    }

    /// The place in the order of runs of one that begins now.
    async fn next_number(&self) -> Result<u64> {
        let all = Journal::all(&self.runs()).await?;
        let last = all.iter().filter_map(|state| state.number).max();
        Ok(last.unwrap_or(0).saturating_add(1))
    }

    /// The report of a run, with how much it keeps.
    pub(super) async fn weighed(&self, state: &RunState) -> Report {
        let mut report = report_of(self, state).await;
        weigh(self, state, &mut report).await;
        report
    }

    pub(super) async fn newest(
        &self,
        wanted: impl Fn(&RunState) -> bool,
    ) -> Result<Option<RunState>> {
        let wanted = |state: &RunState| state.damaged.is_none() && wanted(state);
        Ok(Journal::all(&self.runs()).await?.into_iter().rfind(wanted))
    }

    pub(super) fn backup_by_name(&self, state: &RunState) -> Result<Backup> {
        let (_, store) = self.stores.first().ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "config.no_store",
                "the configuration names no store",
            )
            .hint("add [stores.main] with kind = \"directory\" and path = \"…\"")
        })?;
        Ok(Backup::by_name(store.clone(), state.plan.backup.clone()))
    }

    pub(super) async fn execution(
        &self,
        lock: SiteLock,
        state: &RunState,
        backup: Backup,
        options: RunOptions,
    ) -> Result<RunExecutor<'_>> {
        let hook = options.boundary.clone();
        let journal = Journal::open(&self.runs(), &state.run, hook, false).await?;
        Ok(RunExecutor::new(
            self,
            lock,
            journal,
            Arc::new(backup),
            options,
        ))
    }
}

/// Whether what has the id of the run's backup now is not what the run began with.
fn is_another(state: &RunState, backup: &Backup) -> bool {
    let began_with = state.identity.as_ref();
    began_with.is_some_and(|identity| !backup.is_identity(identity))
}

/// Why a run whose backup was exchanged does not go on.
fn backup_changed(state: &RunState) -> Error {
    let (run, backup) = (&state.run, &state.plan.backup);
    Error::new(
        ErrorKind::Preflight,
        "run.backup_changed",
        format!(
            "run {run} cannot go on, and nothing was touched: backup {backup} is not what it was when \
             the run began, and the rest would be restored from another one than what is staged"
        ),
    )
    .hint(format!(
        "`restore rollback {run}` takes the run back and needs no backup, then `restore run {backup}` \
         restores what it is now; or put back what it was, and `restore resume {run}` goes on"
    ))
}

/// Why an unfinished run cannot go on now.
fn no_backup(state: &RunState, error: &Error) -> Error {
    let run = &state.run;
    Error::new(
        ErrorKind::Preflight,
        "run.no_backup",
        format!(
            "run {run} is not finished: its backup {} is needed and cannot be read; nothing was \
             touched: {error}",
            state.plan.backup
        ),
    )
    .hint(format!(
        "mount or reach its store and try again; `restore rollback {run}` needs no backup"
    ))
}

/// What the approved plan and the present one differ in, in words; sizes and facts may.
fn difference(approved: &Plan, now: &Plan) -> Option<&'static str> {
    let components = |plan: &Plan| {
        plan.components
            .iter()
            .map(|c| {
                (
                    c.name.clone(),
                    c.paths.clone(),
                    c.inspection.artifacts.clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    if components(approved) != components(now) {
        return Some("what the backup holds for the components has changed");
    }
    let absent = |plan: &Plan| -> Vec<Vec<String>> {
        let components = plan.components.iter();
        components.map(|it| it.inspection.creates.clone()).collect()
    };
    if absent(approved) != absent(now) {
        return Some("what is absent and would be made has changed");
    }
    let timelines = |plan: &Plan| -> Vec<Option<u32>> {
        let targets = plan.components.iter().map(|c| plan.target_of(&c.name));
        targets.map(|target| target?.timeline).collect()
    };
    if timelines(approved) != timelines(now) {
        return Some("the timeline that the live cluster is on has changed");
    }
    let without = |plan: &Plan| -> Vec<String> {
        let safety = plan.safety.iter();
        let missing = safety.flat_map(|safety| &safety.without);
        missing.map(|missing| missing.name.clone()).collect()
    };
    let agreed = without(approved);
    if without(now).iter().any(|name| !agreed.contains(name)) {
        return Some("what the safety backup cannot hold has changed");
    }
    // How many of those that are wanted run changes by itself where some fail.
    let services = |plan: &Plan| {
        let mut services = plan.services.clone();
        services.iter_mut().for_each(|service| service.ran = None);
        services
    };
    if services(approved) != services(now) {
        return Some("the services to stop, or how many of them run, have changed");
    }
    (approved.steps != now.steps).then_some("the steps have changed")
}
