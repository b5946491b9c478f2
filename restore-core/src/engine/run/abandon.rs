//! A run is ended as the platform stands: where it can be neither finished nor undone, or where
//! somebody has put things right by hand.

use std::future::Future;
use std::time::Duration;

use super::execution::{RunExecutor, StepResult};
use super::state::{PAGE_LEFT, PAGE_OFF, PAGE_ON};
use super::{Action, Journal, Record, RunState, keeps_page, page};
use crate::engine::operations::Site;
use crate::engine::plan::Step;
use crate::model::{Error, ErrorKind, Failure, Finding, Outcome, Report, Result, RunId, Timestamp};

/// How long it may take to have a service go on.
const GOES_ON: Duration = Duration::from_secs(20);

impl RunExecutor<'_> {
    /// Takes the run's page down, as it was put up.
    pub(super) async fn take_page_down(&self) -> Result<()> {
        let state = self.journal.state();
        let down = page::take_down(self.site, &state, Some(&self.journal), &state.run);
        self.tell_left_up(&down.await?).await;
        Ok(())
    }

    /// Tells of pages that stayed up where that of the configuration came down.
    async fn tell_left_up(&self, left: &[Error]) {
        for error in left {
            self.record_best_effort(page_up("run.page_up", error)).await;
        }
    }

    /// Ends the run as the platform stands. No data is moved and no service stopped or started; what the run
    /// keeps is kept. Only the page comes down, where the run had put it up: it stays up only as
    /// long as there is a run that takes it down. And what was done to services that were to be stopped and were
    /// not, such as that nothing is written into them, is taken back.
    pub(crate) async fn abandon(self) -> Result<Report> {
        self.begin(Action::Abandon).await?;
        // That of a run which this one went over is its own since then.
        let took_over = self.took_over().await;
        let configured = self.site.maintenance().is_some();
        let page_was_up = self.journal.with(|state| {
            let inherited = took_over && state.plan.maintenance;
            // Left to a run that went over this one, and has not come to ending it.
            let left = state.intents.contains(PAGE_LEFT);
            let known = configured || keeps_page(state);
            state.page_up || (known && (inherited || left))
        });
        if page_was_up {
            let lifting = async { self.take_page_down().await.map(|()| StepResult::default()) };
            let what = Step::MaintenanceOff.describe();
            if let Err(error) = self.undoing(PAGE_OFF, what, lifting).await {
                self.record_best_effort(page_up("abandon.page_up", &error))
                    .await;
            }
        }
        self.let_all_go_on(&self.journal.state()).await;
        self.end(Ok(Outcome::Abandoned)).await
    }

    /// Has services go on that a run may hold, as it was about to stop them. It ends where the platform does not
    /// answer.
    async fn let_all_go_on(&self, state: &RunState) {
        let services = state.plan.services.iter();
        for service in services.filter(|it| state.may_be_held(&it.name)) {
            let _ = tokio::time::timeout(GOES_ON, self.let_go_on(&service.name)).await;
        }
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
        let other = journal.state();
        if other.page_up {
            let moved = match shows_page {
                true => {
                    // This one takes it down, wherever it was put up.
                    page::inherit(&self.journal, &other).await?;
                    change(&journal, PAGE_LEFT, async { Ok(()) }).await
                }
                false => {
                    let down = async {
                        let left = page::take_down(self.site, &other, Some(&journal), over);
                        self.tell_left_up(&left.await?).await;
                        Ok::<(), Error>(())
                    };
                    change(&journal, PAGE_OFF, down).await
                }
            };
            if let Err(error) = moved {
                self.notice(page_up("run.page_up", &error)).await?;
            }
        }
        self.let_all_go_on(&other).await;
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
pub(crate) async fn change_page(site: &Site, state: &RunState, up: bool) -> Result<()> {
    let run = &state.run;
    let journal = match Journal::open(&site.runs(), run, None, false).await {
        Err(error) if !up => {
            let down = page::take_down(site, state, None, run).await;
            return down.and_then(page::all_down).and(Err(unwritten(&error)));
        }
        journal => journal?,
    };
    match (up, site.maintenance()) {
        (true, Some(shown)) => {
            page::keep(&journal, shown.as_ref()).await?;
            change(&journal, PAGE_ON, shown.on(run, Timestamp::now())).await
        }
        (true, None) => Ok(()),
        (false, _) => {
            let down = page::take_down(site, state, Some(&journal), run);
            let down = async { down.await.and_then(page::all_down) };
            change(&journal, PAGE_OFF, down).await
        }
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
