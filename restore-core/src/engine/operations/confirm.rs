//! Accepting a run, which deletes what it had put aside.

use super::runs::{HISTORY, SEARCH};
use super::*;
use crate::engine::run::not_as_left;

impl Site {
    /// Accepts a run (`None`: the newest unconfirmed): deletes what it had put aside. There is no
    /// way back afterwards. `Ok`: it is confirmed, however the run once ended.
    pub async fn confirm(&self, run: Option<RunId>, options: RunOptions) -> Result<Report> {
        self.locked(Action::Confirm, &options.clone(), async |lock| {
            let state = self.confirm_candidate(run).await?;
            let backup = self.backup_by_name(&state)?;
            self.execution(lock, &state, backup, options)
                .await?
                .confirm()
                .await
        })
        .await
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
            .hint(format!("{}; confirm it then", state.ways_on())));
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
                _ if all.is_empty() => error(
                    &format!(
                        "there is no run to confirm: {} knows of none",
                        self.state.display()
                    ),
                    format!("is that the right state directory, and is it mounted? {SEARCH}"),
                ),
                _ => error(
                    "there is no run to confirm: each is confirmed, or keeps nothing",
                    HISTORY.to_owned(),
                ),
            },
        )
    }
}
