//! Ending a run as the platform stands.

use super::runs::HISTORY;
use super::*;

impl Site {
    /// Ends an open run (`None`: the newest) as the platform stands: nothing is moved, no service is
    /// started or stopped, what the run keeps is kept and its report lists it. The maintenance page
    /// comes down. Works on a platform that does not. `Ok`: it is abandoned.
    pub async fn abandon(&self, run: Option<RunId>, options: RunOptions) -> Result<Report> {
        let take = || async {
            let own = SiteLock::take(&self.state, Action::Abandon).await?;
            match self.platform.lock(&Action::Abandon.to_string()).await {
                Err(error) if error.kind() == ErrorKind::Locked => Err(error),
                all => Ok((own, all)),
            }
        };
        let (own, all) = until_unlocked(&options, take).await?;
        let all = match all {
            Ok(lock) => lock,
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
}
