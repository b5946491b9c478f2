//! What a site does with runs: make, resume, roll back, confirm, tell.

use super::*;

/// The next step where no run, or another, is meant.
const HISTORY: &str = "`restore history` lists all runs and how they ended";
/// The next step where a run cannot be taken back.
const OTHER_WAY_BACK: &str = "`restore history` lists all runs; a safety backup, pre-restore-… in \
                              `restore list`, can be restored like any other";

impl Site {
    /// An error of kind [`Locked`](ErrorKind::Locked), naming who it is, where a run, a rollback
    /// or the like is under way. Changes nothing. Whatever is planned or previewed meanwhile would
    /// take the run under way for one that died.
    pub async fn ensure_idle(&self) -> Result<()> {
        SiteLock::probe(&self.state).await?;
        self.platform.ensure_unlocked().await
    }

    /// Does `work` with the locks of this host and of the platform held.
    pub(super) async fn locked<T>(
        &self,
        action: Action,
        work: impl AsyncFnOnce(SiteLock) -> Result<T>,
    ) -> Result<T> {
        let own = SiteLock::take(&self.state, action).await?;
        let all = self.platform.lock(&action.to_string()).await?;
        let done = work(own).await;
        if let Some(lock) = all
            && let Err(error) = lock.release().await
        {
            // What was done is done; who comes next finds a lock whose process is gone.
            return done.map_err(|first| first.context(error));
        }
        done
    }

    /// Executes a plan. `Err`: nothing was touched (the plan is refused or out of date, another
    /// run is under way). `Ok`: the run ended; [`Report::error`] tells whether as asked. It has
    /// always ended with the platform restored and checked, or as it was, or, where even undoing
    /// failed, [stuck](crate::run::Outcome::Stuck).
    ///
    /// Dropping the future stops the work where it is, like a crash: `resume` or `rollback`
    /// finishes it. To stop and undo, cancel [`RunOptions::cancel`] and await the report.
    pub async fn run(&self, plan: Plan, options: RunOptions) -> Result<Report> {
        self.ensure_idle().await?;
        if let Some(refusal) = plan.refusal() {
            return Err(refusal);
        }
        self.locked(Action::Run, async |lock| {
            self.run_locked(lock, plan, options).await
        })
        .await
    }

    async fn run_locked(&self, lock: SiteLock, plan: Plan, options: RunOptions) -> Result<Report> {
        let backup = self.backup(plan.backup.as_str()).await?;
        // The plan may be minutes old, and another run may have ended in between.
        let now = self.plan(&backup, plan.request.clone(), &options).await?;
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
        // Nothing that the checks look at changes in a drill.
        let checks = match now.request.drill {
            true => Vec::new(),
            false => self.baseline().await,
        };
        if options.cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        let begun = Record::Begun {
            at: Timestamp::now(),
            run: RunId::generate(),
            plan: Box::new(now),
            checks,
        };
        let journal = Journal::create(&self.runs(), begun, options.boundary.clone()).await?;
        Execution::new(self, lock, journal, Arc::new(backup), options)
            .run(Action::Run)
            .await
    }

    /// Finishes an unfinished run (`None`: the only one): forward where it went forward, back
    /// where it was being undone.
    pub async fn resume(&self, run: Option<RunId>, options: RunOptions) -> Result<Report> {
        self.locked(Action::Resume, async |lock| {
            self.resume_locked(lock, run, options).await
        })
        .await
    }

    async fn resume_locked(
        &self,
        lock: SiteLock,
        run: Option<RunId>,
        options: RunOptions,
    ) -> Result<Report> {
        let state = match run {
            Some(run) => Journal::peek(&self.runs(), &run).await?,
            None => self.newest(RunState::is_open).await?.ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    "run.none_unfinished",
                    "there is no unfinished run to resume",
                )
                .hint(HISTORY)
            })?,
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
        // What is to be undone does not need the backup; what goes forward says if it lacks it.
        let backup = match state.turned_back {
            Some(_) => self.backup_by_name(&state)?,
            None => match self.backup(state.plan.backup.as_str()).await {
                Ok(backup) => backup,
                Err(_) => self.backup_by_name(&state)?,
            },
        };
        self.execution(lock, &state, backup, options)
            .await?
            .run(Action::Resume)
            .await
    }

    /// Takes a run back: an unfinished one (`None`: that, if there is one), or the newest that is
    /// restored and not confirmed. What was written since the restore is put aside, not deleted.
    pub async fn rollback(&self, run: Option<RunId>, options: RunOptions) -> Result<Report> {
        self.locked(Action::Rollback, async |lock| {
            let state = self.rollback_candidate(run).await?;
            let backup = self.backup_by_name(&state)?;
            self.execution(lock, &state, backup, options)
                .await?
                .roll_back()
                .await
        })
        .await
    }

    /// The report of the run that [`rollback`](Self::rollback) would take back; refuses what it
    /// would refuse. Changes nothing.
    pub async fn preview_rollback(&self, run: Option<RunId>) -> Result<Report> {
        Ok(report_of(self, &self.rollback_candidate(run).await?).await)
    }

    async fn rollback_candidate(&self, run: Option<RunId>) -> Result<RunState> {
        let can = |state: &RunState| {
            state.is_open() || (state.outcome == crate::run::Outcome::Restored && !state.confirming)
        };
        let state = match run {
            Some(run) => Journal::peek(&self.runs(), &run).await?,
            None => match self.newest(RunState::is_open).await? {
                Some(open) => open,
                None => self.newest(can).await?.ok_or_else(|| {
                    Error::new(
                        ErrorKind::NotFound,
                        "run.none_to_roll_back",
                        "there is no run to roll back: none is unfinished, and each restored one \
                         is confirmed or rolled back already",
                    )
                    .hint(OTHER_WAY_BACK)
                })?,
            },
        };
        if !can(&state) {
            let why = if state.confirmed {
                "is confirmed: the data it replaced was deleted".to_owned()
            } else if state.confirming {
                "is half confirmed: some of the data it replaced is deleted already; `restore \
                 confirm` finishes that"
                    .to_owned()
            } else {
                format!("is {} already", state.outcome)
            };
            return Err(Error::new(
                ErrorKind::Preflight,
                "run.cannot_roll_back",
                format!("run {} {why}", state.run),
            )
            .hint(OTHER_WAY_BACK));
        }
        for later in Journal::all(&self.runs()).await? {
            let on_top = later.started > state.started
                && (later.outcome == crate::run::Outcome::Restored || later.is_open())
                && later
                    .plan
                    .components
                    .iter()
                    .any(|component| state.plan.component(&component.name).is_some());
            if on_top {
                let error = Error::new(
                    ErrorKind::Preflight,
                    "run.covered",
                    format!(
                        "run {} restored the same components after run {}",
                        later.run, state.run
                    ),
                );
                return Err(if later.is_open() {
                    error.hint(format!(
                        "that run is not finished: `restore rollback {}` first",
                        later.run
                    ))
                } else if later.confirmed {
                    error.hint("that run is confirmed; there is no way back past it")
                } else {
                    error.hint(format!("roll back run {} first", later.run))
                });
            }
        }
        Ok(state)
    }

    /// Accepts a run (`None`: the newest unconfirmed): deletes what it had put aside. There is no
    /// way back afterwards.
    pub async fn confirm(&self, run: Option<RunId>, options: RunOptions) -> Result<Report> {
        self.locked(Action::Confirm, async |lock| {
            let state = self.confirm_candidate(run).await?;
            let backup = self.backup_by_name(&state)?;
            self.execution(lock, &state, backup, options)
                .await?
                .confirm()
                .await
        })
        .await
    }

    /// Who holds the platform's lock, in words; `None`: nobody, or the platform has none.
    pub async fn lock_holder(&self) -> Result<Option<String>> {
        self.platform.lock_holder().await
    }

    /// Takes the platform's lock away from a process of another host, on the caller's word that
    /// it is gone for good. A process that lives there all the same would go on restoring.
    /// Refused while a process of this host works on the site.
    pub async fn unlock(&self) -> Result<()> {
        SiteLock::probe(&self.state).await?;
        self.platform.break_lock().await
    }

    /// The report of the run that [`confirm`](Self::confirm) would accept; refuses what it would
    /// refuse. Changes nothing.
    pub async fn preview_confirm(&self, run: Option<RunId>) -> Result<Report> {
        Ok(report_of(self, &self.confirm_candidate(run).await?).await)
    }

    async fn confirm_candidate(&self, run: Option<RunId>) -> Result<RunState> {
        let state = match run {
            Some(run) => Journal::peek(&self.runs(), &run).await?,
            None => self
                .newest(RunState::is_unconfirmed)
                .await?
                .ok_or_else(|| {
                    Error::new(
                        ErrorKind::NotFound,
                        "run.none_to_confirm",
                        "there is no run to confirm: each is confirmed, or keeps nothing",
                    )
                    .hint(HISTORY)
                })?,
        };
        if state.is_open() {
            return Err(Error::new(
                ErrorKind::Preflight,
                "run.unfinished",
                format!(
                    "run {} is {}; it cannot be confirmed",
                    state.run, state.outcome
                ),
            )
            .hint(format!(
                "`restore resume {0}` or `restore rollback {0}` first",
                state.run
            )));
        }
        Ok(state)
    }

    /// The reports of all runs, oldest first.
    pub async fn history(&self) -> Result<Vec<Report>> {
        let mut reports = Vec::new();
        for state in Journal::all(&self.runs()).await? {
            reports.push(report_of(self, &state).await);
        }
        Ok(reports)
    }

    /// The report of a run (`None`: the newest).
    pub async fn report(&self, run: Option<RunId>) -> Result<Report> {
        let state = match run {
            Some(run) => Journal::peek(&self.runs(), &run).await?,
            None => self.newest(|_| true).await?.ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "run.none", "there is no run yet")
                    .hint("`restore run latest` makes one, after it has shown what it would do")
            })?,
        };
        Ok(report_of(self, &state).await)
    }

    async fn newest(&self, wanted: impl Fn(&RunState) -> bool) -> Result<Option<RunState>> {
        Ok(Journal::all(&self.runs()).await?.into_iter().rfind(wanted))
    }

    fn backup_by_name(&self, state: &RunState) -> Result<Backup> {
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

    async fn execution(
        &self,
        lock: SiteLock,
        state: &RunState,
        backup: Backup,
        options: RunOptions,
    ) -> Result<Execution<'_>> {
        let hook = options.boundary.clone();
        let journal = Journal::open(&self.runs(), &state.run, hook).await?;
        Ok(Execution::new(
            self,
            lock,
            journal,
            Arc::new(backup),
            options,
        ))
    }
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
    let timelines = |plan: &Plan| -> Vec<Option<u32>> {
        let targets = plan.components.iter().map(|c| plan.target_of(&c.name));
        targets.map(|target| target?.timeline).collect()
    };
    if timelines(approved) != timelines(now) {
        return Some("the timeline that the live cluster is on has changed");
    }
    if approved.services != now.services {
        return Some("the services to stop, or how many of them run, have changed");
    }
    (approved.steps != now.steps).then_some("the steps have changed")
}
