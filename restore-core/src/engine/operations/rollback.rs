//! Taking a run back: which run that is, why none can be, and doing it.

use super::runs::SEARCH;
use super::*;
use crate::engine::run::ensure_way_back;

/// The next step where a run cannot be taken back.
const OTHER_WAY_BACK: &str = "`restore history` lists all runs; a safety backup, pre-restore-… in \
                              `restore list`, can be restored like any other";

impl Site {
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
            .locked(Action::Rollback, &options.clone(), async |lock| {
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
            let beside = state.plan.request.is_beside() || later.plan.request.is_beside();
            // What a later run has restored lies in the services that this one made.
            let made = state.makes_services();
            let on_top = !beside
                && later.plan.components.iter().any(|component| {
                    (made || state.plan.component(&component.name).is_some())
                        && (later.outcome == Restored || later.is_open() || left(&component.name))
                });
            if on_top {
                let error = Error::new(
                    ErrorKind::Preflight,
                    "run.covered",
                    match made {
                        true => format!(
                            "run {} restored what lies in the services that run {} made",
                            later.run, state.run
                        ),
                        false => format!(
                            "run {} restored the same components after run {}",
                            later.run, state.run
                        ),
                    },
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
            // Of one without even a report nothing can be shown.
            let known = damaged.is_some() || lost.last().is_some_and(|lost| lost.report.is_some());
            let show = match known {
                true => format!("`restore report {run}` shows what is known of it; "),
                false => String::new(),
            };
            return Ok(error(
                format!(
                    "there is no run to roll back whose journal can be read: that of run {run} cannot"
                ),
                format!("{show}{SEARCH}"),
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
}
