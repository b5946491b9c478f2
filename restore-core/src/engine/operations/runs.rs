//! What a site does with runs: make, resume, roll back, confirm, abandon.

use super::*;
use crate::engine::run::{change_page, ensure_staged, ensure_way_back, not_as_left};

/// The next step where no run, or another, is meant.
const HISTORY: &str = "`restore history` lists all runs and how they ended";
/// The next step where a run cannot be taken back.
const OTHER_WAY_BACK: &str = "`restore history` lists all runs; a safety backup, pre-restore-… in \
                              `restore list`, can be restored like any other";

/// Where kept data is found that no journal tells of.
pub(super) const SEARCH: &str =
    "`restore history --search` lists what runs keep beside the live data, and how to put it back";

impl Site {
    /// An error of kind [`Locked`](ErrorKind::Locked), naming who it is, where a run, a rollback
    /// or the like is under way. Changes nothing. Whatever is planned or previewed meanwhile would
    /// take the run under way for one that died.
    pub async fn ensure_idle(&self) -> Result<()> {
        SiteLock::probe(&self.state).await?;
        self.platform.ensure_unlocked().await
    }

    /// The same for this host alone: for what has to work while the platform does not answer.
    pub async fn ensure_idle_here(&self) -> Result<()> {
        SiteLock::probe(&self.state).await
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

    /// Starts the services that the request's components need to be looked at at all and that do
    /// not run: a database server, say. Each is told; one that does not start is for the plan to
    /// tell, as is one that an open run has stopped: its data may be between two states.
    pub async fn start_what_is_needed(&self, request: &PlanRequest, options: &RunOptions) {
        let started = self.locked(Action::Run, async |_lock| {
            self.start_needed(request, options).await
        });
        if let Err(error) = started.await {
            let finding = Finding::warning("service.not_started", "services", error.message());
            options.events.emit(&Event::Finding { finding });
        }
    }

    async fn start_needed(&self, request: &PlanRequest, options: &RunOptions) -> Result<()> {
        let mut tried: Vec<String> = Vec::new();
        for open in Journal::all(&self.runs()).await? {
            let swapped = |name: &str| open.cut_over(name).is_begun();
            if open.is_open() {
                let components = open.plan.components.iter();
                let between = components.filter(|it| swapped(&it.name));
                tried.extend(between.flat_map(|it| it.stops.clone()));
            }
        }
        for component in &self.components {
            let name = component.name().to_owned();
            // Of paths nobody knows the components yet; none of them needs a service.
            let wanted = request.only.contains(&name)
                || (request.only.is_empty() && request.paths.is_empty());
            if !wanted {
                continue;
            }
            for service in component.needs() {
                let state = self.platform.service(&service).await;
                let down = state.is_ok_and(|state| state.running == 0);
                if !down || tried.contains(&service) {
                    continue;
                }
                tried.push(service.clone());
                let finding = match self.platform.scale(&service, 1).await {
                    Ok(()) => Finding::warning(
                        "service.started",
                        service,
                        format!(
                            "did not run, and {name} cannot be restored without it: it was started"
                        ),
                    ),
                    Err(error) => {
                        let finding = Finding::from_error(service.clone(), &error);
                        let known = self.not_started.lock();
                        let mut known = known.unwrap_or_else(PoisonError::into_inner);
                        known.insert(service, finding.clone());
                        finding
                    }
                };
                options.events.emit(&Event::Finding { finding });
            }
        }
        Ok(())
    }

    /// Executes a plan. `Ok`: the platform is restored and checked, or the drill has passed; where
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
        self.ensure_idle().await?;
        if let Some(refusal) = plan.refusal() {
            return Err(refusal);
        }
        self.locked(Action::Run, async |lock| {
            self.run_locked(lock, plan, options).await
        })
        .await?
        .into_forward()
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
        let over = match &now.request.over {
            // Also one whose journal is damaged: it is ended.
            Some(run) => Some(Journal::peek_at(&self.runs(), run).await?),
            None => None,
        };
        let over = over.filter(RunState::is_open);
        let checks = match (now.request.drill, &over) {
            (true, _) => Vec::new(),
            // Of a platform that is half stopped they would only say that it is.
            (false, Some(over)) if over.down_since.is_some() => over.checks_before.clone(),
            (false, _) => self.baseline().await,
        };
        if options.cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        let begun = Record::Begun {
            at: Timestamp::now(),
            run: RunId::generate(),
            plan: Box::new(now),
            checks,
            number: Some(self.next_number().await?),
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
        self.locked(Action::Resume, async |lock| {
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
            ensure_staged(self, &state).await?;
        }
        // What is to be undone does not need the backup, nor does what is staged wholly.
        let backup = match state.turned_back {
            Some(_) => self.backup_by_name(&state)?,
            None => match self.backup(state.plan.backup.as_str()).await {
                Ok(backup) => backup,
                Err(_) if state.is_staged() => self.backup_by_name(&state)?,
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

    /// Takes a run back: an unfinished one (`None`: that, if there is one), or the newest that is
    /// restored and not confirmed. What was written since the restore is put aside, not deleted.
    /// `Ok`: all that the run had moved is back; whether it works is for the report to
    /// [say](Report::is_failing).
    ///
    /// # Errors
    ///
    /// As of [`run`](Self::run): with a [report](Error::report) where the run is
    /// [stuck](crate::run::Outcome::Stuck); without, where nothing was done.
    pub async fn rollback(&self, run: Option<RunId>, options: RunOptions) -> Result<Report> {
        let report = self
            .locked(Action::Rollback, async |lock| {
                let state = self.rollback_candidate(run).await?;
                let backup = self.backup_by_name(&state)?;
                self.execution(lock, &state, backup, options)
                    .await?
                    .roll_back()
                    .await
            })
            .await?;
        // That the run had failed before is old news.
        match report.is_as_before() {
            true => Ok(report),
            false => report.into_result(),
        }
    }

    /// The report of the run that [`rollback`](Self::rollback) would take back; refuses what it
    /// would refuse. Changes nothing.
    pub async fn preview_rollback(&self, run: Option<RunId>) -> Result<Report> {
        Ok(self.weighed(&self.rollback_candidate(run).await?).await)
    }

    async fn rollback_candidate(&self, run: Option<RunId>) -> Result<RunState> {
        use crate::model::Outcome::{Abandoned, Restored};

        let can = |state: &RunState| {
            state.is_open() || (state.outcome == Restored && !state.is_confirmed_in_part())
        };
        let named = run.is_some();
        let state = match run {
            Some(run) => Journal::peek(&self.runs(), &run).await?,
            None => match self.newest(RunState::is_open).await? {
                Some(open) => open,
                None => match self.newest(can).await? {
                    Some(state) => state,
                    None => return Err(self.none_to_roll_back().await?),
                },
            },
        };
        // Whoever names a run that was abandoned has found what was missing.
        let again = named && state.outcome == Abandoned && !state.is_confirmed_in_part();
        if !can(&state) && !again {
            let why = if state.confirmed {
                "is confirmed: the data it replaced was deleted".to_owned()
            } else if state.is_half_confirmed() {
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
        let all = Journal::all(&self.runs()).await?;
        let at = all.iter().position(|known| known.run == state.run);
        for later in all.into_iter().skip(at.map_or(0, |at| at + 1)) {
            let left = |name: &str| {
                later.outcome == Abandoned && !later.confirmed && later.cut_over(name).is_begun()
            };
            let on_top = later.plan.components.iter().any(|component| {
                state.plan.component(&component.name).is_some()
                    && (later.outcome == Restored || later.is_open() || left(&component.name))
            });
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
                    error.hint(format!(
                        "that run is confirmed, and there is no way back past it. {OTHER_WAY_BACK}"
                    ))
                } else {
                    error.hint(format!("`restore rollback {}` first", later.run))
                });
            }
        }
        ensure_way_back(self, &state).await?;
        Ok(state)
    }

    /// Accepts a run (`None`: the newest unconfirmed): deletes what it had put aside. There is no
    /// way back afterwards. `Ok`: it is confirmed, however the run once ended.
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

    /// Ends an open run (`None`: the newest) as the platform stands: nothing is moved, no service is
    /// started or stopped, what the run keeps is kept and its report lists it. The maintenance page
    /// comes down. Works on a platform that does not. `Ok`: it is abandoned.
    pub async fn abandon(&self, run: Option<RunId>, options: RunOptions) -> Result<Report> {
        let own = SiteLock::take(&self.state, Action::Abandon).await?;
        let all = match self.platform.lock(&Action::Abandon.to_string()).await {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::Locked => return Err(error),
            // A platform that cannot even be asked for its lock does not keep a run open.
            Err(error) => {
                let finding = Finding::warning("platform.no_lock", "platform", error.message());
                options.events.emit(&Event::Finding { finding });
                None
            }
        };
        let done = async {
            let state = self.abandon_candidate(run).await?;
            let backup = self.backup_by_name(&state)?;
            let (runs, hook) = (self.runs(), options.boundary.clone());
            let journal = Journal::open(&runs, &state.run, hook, true).await?;
            let execution = RunExecutor::new(self, own, journal, Arc::new(backup), options);
            execution.abandon().await
        }
        .await;
        if let Some(lock) = all {
            // What was done is done; who comes next finds a lock whose process is gone.
            let _ = lock.release().await;
        }
        done
    }

    /// The report of the run that [`abandon`](Self::abandon) would end; refuses what it would
    /// refuse. Changes nothing.
    pub async fn preview_abandon(&self, run: Option<RunId>) -> Result<Report> {
        Ok(self.weighed(&self.abandon_candidate(run).await?).await)
    }

    async fn abandon_candidate(&self, run: Option<RunId>) -> Result<RunState> {
        let state = match run {
            // Also one whose journal is damaged: that it then stands in nobody's way is written into it.
            Some(run) => Journal::peek_at(&self.runs(), &run).await?,
            None => match self.newest(RunState::is_open).await? {
                Some(open) => open,
                None => {
                    // It is the only verb that ends one whose journal is damaged.
                    let damaged = |it: &RunState| it.damaged.is_some() && !it.is_settled();
                    let all = Journal::all(&self.runs()).await?;
                    all.into_iter().rfind(damaged).ok_or_else(|| {
                        Error::new(
                            ErrorKind::NotFound,
                            "run.none_to_abandon",
                            "there is no run to abandon: none is unfinished, stuck or damaged",
                        )
                        .hint(HISTORY)
                    })?
                }
            },
        };
        if state.is_open() || (state.damaged.is_some() && !state.is_settled()) {
            return Ok(state);
        }
        Err(Error::new(
            ErrorKind::Preflight,
            "run.finished",
            format!("run {} is {}: it has ended", state.run, state.outcome),
        )
        .hint(HISTORY))
    }

    /// Turns users away with the site's maintenance page, or lets them in again; idempotent. For
    /// the operator: a run does so by itself.
    pub async fn page(&self, up: bool) -> Result<()> {
        let Some(page) = self.maintenance() else {
            return Err(Error::new(
                ErrorKind::Config,
                "maintenance.none",
                "the site has no maintenance page",
            )
            .hint("[maintenance] in the configuration says how users are turned away"));
        };
        let own = SiteLock::take(&self.state, Action::Page).await?;
        let all = match self.platform.lock(&Action::Page.to_string()).await {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::Locked => return Err(error),
            // A platform that cannot even be asked for its lock does not keep users out.
            Err(_) => None,
        };
        let done = async {
            // The page names the run that has it up, where there is one, and whose journal tells of
            // it: an open one, or one that ended with its page up.
            let has_it = |it: &RunState| it.is_open() || (!up && it.page_up);
            if let Some(run) = self.newest(has_it).await? {
                return change_page(&self.runs(), &run.run, page.as_ref(), up).await;
            }
            let run = RunId::generate();
            match up {
                true => page.on(&run, Timestamp::now()).await,
                false => page.off(&run).await,
            }
        }
        .await;
        if let Some(lock) = all {
            // What was done is done; who comes next finds a lock whose process is gone.
            let _ = lock.release().await;
        }
        drop(own);
        done
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
        Ok(self.weighed(&self.confirm_candidate(run).await?).await)
    }

    async fn confirm_candidate(&self, run: Option<RunId>) -> Result<RunState> {
        let named = run.is_some();
        let state = match run {
            Some(run) => Journal::peek(&self.runs(), &run).await?,
            None => match self.newest(RunState::is_unconfirmed).await? {
                Some(state) => state,
                None => return Err(self.none_to_confirm().await?),
            },
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
        // Who names no run has not looked at it either.
        if !named && let Some((name, why)) = not_as_left(self, &state).await.into_iter().next() {
            let run = &state.run;
            return Err(Error::new(
                ErrorKind::Preflight,
                "run.not_as_left",
                format!("nothing was deleted: what run {run} put aside of {name} is not as the run left it: {why}"),
            )
            .hint(format!(
                "put that right, or `restore confirm {run}` accepts the run, deletes the rest, and leaves {name} alone"
            ))
            .source(why));
        }
        Ok(state)
    }

    /// Why there is nothing to confirm. What an abandoned run keeps may be the only copy of something, and is
    /// deleted only where the run is named.
    async fn none_to_confirm(&self) -> Result<Error> {
        let error = |message: &str, hint: String| {
            Error::new(ErrorKind::NotFound, "run.none_to_confirm", message).hint(hint)
        };
        let all = Journal::all(&self.runs()).await?;
        let last = |wanted: &dyn Fn(&RunState) -> bool| {
            all.iter().rfind(|it| wanted(it)).map(|it| &it.run)
        };
        let damaged = |it: &RunState| it.damaged.is_some();
        let abandoned = |it: &RunState| it.damaged.is_none() && it.is_abandoned();
        Ok(
            match (last(&RunState::is_open), last(&abandoned), last(&damaged)) {
                (Some(run), _, _) => error(
                    &format!("there is no run to confirm: run {run} is not finished"),
                    format!("`restore report {run}` says how it can go on"),
                ),
                (_, Some(run), _) => error(
                    &format!(
                        "there is no run to confirm, but run {run} was abandoned and keeps data"
                    ),
                    format!(
                        "`restore confirm {run}` deletes it; `restore rollback {run}` moves it back"
                    ),
                ),
                (_, _, Some(run)) => error(
                    &format!(
                        "there is no run to confirm whose journal can be read: that of run {run} cannot"
                    ),
                    format!("`restore report {run}` shows what is known of it; {SEARCH}"),
                ),
                _ => error(
                    "there is no run to confirm: each is confirmed, or keeps nothing",
                    HISTORY.to_owned(),
                ),
            },
        )
    }

    /// Why there is nothing to roll back.
    async fn none_to_roll_back(&self) -> Result<Error> {
        let error = |message: String, hint: String| {
            Error::new(ErrorKind::NotFound, "run.none_to_roll_back", message).hint(hint)
        };
        let all = Journal::all(&self.runs()).await?;
        let half = all.iter().rfind(|state| state.is_half_confirmed());
        if let Some(RunState { run, .. }) = half {
            return Ok(error(
                format!(
                    "there is no run to roll back: run {run} is half confirmed, and some of the \
                     data it replaced is deleted already"
                ),
                format!("`restore confirm {run}` finishes that. {OTHER_WAY_BACK}"),
            ));
        }
        let damaged = all.iter().rfind(|state| state.damaged.is_some());
        let lost = Journal::lost(&self.runs()).await?;
        let unreadable = damaged.map(|state| &state.run);
        if let Some(run) = unreadable.or(lost.last().map(|lost| &lost.run)) {
            return Ok(error(
                format!(
                    "there is no run to roll back whose journal can be read: that of run {run} cannot"
                ),
                format!("`restore report {run}` shows what is known of it; {SEARCH}"),
            ));
        }
        if all.is_empty() {
            return Ok(error(
                format!(
                    "there is no run to roll back: {} knows of none",
                    self.state.display()
                ),
                format!("is that the right state directory, and is it mounted? {SEARCH}"),
            ));
        }
        Ok(error(
            "there is no run to roll back: none is unfinished, and each restored one is confirmed \
             or rolled back already"
                .to_owned(),
            OTHER_WAY_BACK.to_owned(),
        ))
    }

    /// The place in the order of runs of one that begins now.
    async fn next_number(&self) -> Result<u64> {
        let all = Journal::all(&self.runs()).await?;
        let last = all.iter().filter_map(|state| state.number).max();
        Ok(last.unwrap_or(0).saturating_add(1))
    }

    /// The report of a run, with how much it keeps.
    async fn weighed(&self, state: &RunState) -> Report {
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
    if approved.services != now.services {
        return Some("the services to stop, or how many of them run, have changed");
    }
    (approved.steps != now.steps).then_some("the steps have changed")
}
