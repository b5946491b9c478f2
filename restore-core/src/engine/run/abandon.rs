//! A run is ended as the platform stands: where it can be neither finished nor undone, or where
//! somebody has put things right by hand.

use std::future::Future;
use std::path::Path;

use super::execution::{RunExecutor, StepResult};
use super::state::{PAGE_LEFT, PAGE_OFF, PAGE_ON};
use super::{Action, Journal, Record, RunState};
use crate::contract::Maintenance;
use crate::engine::plan::Step;
use crate::model::{Error, ErrorKind, Failure, Finding, Outcome, Report, Result, RunId, Timestamp};

impl RunExecutor<'_> {
    /// Ends the run as the platform stands. No data is moved and no service touched; what the run
    /// keeps is kept. Only the page comes down, where the run had put it up: it stays up only as
    /// long as there is a run that takes it down.
    pub(crate) async fn abandon(self) -> Result<Report> {
        self.begin(Action::Abandon).await?;
        // That of a run which this one went over is its own since then.
        let took_over = self.took_over().await;
        let (run, page_was_up) = self.journal.with(|state| {
            let inherited = took_over && state.plan.maintenance;
            // Left to a run that went over this one, and has not come to ending it.
            let left = state.intents.contains(PAGE_LEFT);
            (state.run.clone(), state.page_up || inherited || left)
        });
        if let Some(page) = self.site.maintenance().filter(|_| page_was_up) {
            let lifting = async { page.off(&run).await.map(|()| StepResult::default()) };
            let what = Step::MaintenanceOff.describe();
            if let Err(error) = self.undoing(PAGE_OFF, what, lifting).await {
                self.notice_anyway(page_up("abandon.page_up", &error)).await;
            }
        }
        self.end(Ok(Outcome::Abandoned)).await
    }

    /// Ends an open run as it stands because this one goes over it. Its page is this run's from then
    /// on, which shows its own in its downtime and takes it down; where it shows none, the page comes
    /// down now.
    pub(super) async fn supersede(&self, over: &RunId) -> Result<StepResult> {
        let (by, shows_page) = self
            .journal
            .with(|state| (state.run.clone(), state.plan.maintenance));
        let journal = Journal::open(&self.site.runs(), over, None, true).await?;
        if !journal.with(RunState::is_open) {
            return Ok(StepResult::default());
        }
        let at = Timestamp::now();
        let (pid, action) = (std::process::id(), Action::Abandon);
        journal.append(Record::Attempt { at, action, pid }).await?;
        if journal.with(|state| state.page_up) {
            let moved = match self.site.maintenance().filter(|_| !shows_page) {
                Some(page) => change(&journal, PAGE_OFF, page.off(over)).await,
                None => change(&journal, PAGE_LEFT, async { Ok(()) }).await,
            };
            if let Err(error) = moved {
                self.notice(page_up("run.page_up", &error)).await?;
            }
        }
        let finding = Finding::info(
            "run.superseded",
            over.as_str(),
            format!("run {by} goes over it; what it keeps is kept"),
        );
        journal.append(Record::Noticed { finding }).await?;
        let outcome = Outcome::Abandoned;
        journal.append(Record::Ended { at, outcome }).await?;
        Ok(StepResult::default())
    }
}

/// Puts the page up, or takes it down, for an operator while the run is open: it is in its journal.
pub(crate) async fn change_page(
    runs: &Path,
    run: &RunId,
    page: &dyn Maintenance,
    up: bool,
) -> Result<()> {
    let journal = match Journal::open(runs, run, None, false).await {
        Err(error) if !up => return page.off(run).await.and(Err(unwritten(&error))),
        journal => journal?,
    };
    match up {
        true => change(&journal, PAGE_ON, page.on(run, Timestamp::now())).await,
        false => change(&journal, PAGE_OFF, page.off(run)).await,
    }
}

/// Said of a page that came down all the same.
fn unwritten(error: &Error) -> Error {
    Error::new(
        ErrorKind::Failed,
        "maintenance.unwritten",
        format!(
            "the maintenance page is down, and the journal of its run does not say so: {error}"
        ),
    )
    .hint("see that the state directory can be written to, then `restore page off` once more")
}

/// Does something to the page of a run, written down before and after. A journal that cannot be
/// written does not keep users out.
async fn change(
    journal: &Journal,
    step: &str,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    let (at, id) = (Timestamp::now(), step.to_owned());
    let written = journal.append(Record::Intent { at, step: id }).await;
    if step == PAGE_ON {
        written?;
    } else if let Err(error) = written {
        return work.await.and(Err(unwritten(&error)));
    }
    let done = work.await;
    let (at, id) = (Timestamp::now(), step.to_owned());
    let record = match &done {
        Ok(()) => Record::Done {
            at,
            step: id,
            staged: None,
            checks: Vec::new(),
            safety: None,
        },
        Err(error) => Record::Failed {
            at,
            step: id,
            failure: Failure::of(step, error),
        },
    };
    journal.append(record).await?;
    done
}

/// What is said of a page that does not come down.
fn page_up(code: &'static str, error: &Error) -> Finding {
    let hint = error.hint_text().map(|hint| format!("{hint}; then "));
    Finding::warning(code, "maintenance", error.message()).hint(format!(
        "{}`restore page off` takes the page down",
        hint.unwrap_or_default()
    ))
}
