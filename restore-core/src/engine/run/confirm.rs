//! Confirmation: the run is accepted, what it had put aside is deleted.

use super::execution::RunExecutor;
use super::state::{DELETE, DISCARD};
use super::way_back::not_as_left;
use super::{Action, Record, RunState};
use crate::model::{Event, Finding, Report, Result, Timestamp};
use crate::swap::scope::Discard;

/// What a run is once it was confirmed, as its last event says it.
pub(crate) const CONFIRMED: &str = "confirmed";

/// The fact that a confirmation left alone what a component put aside.
pub(super) const LEFT: &str = "confirm_left";

impl RunExecutor<'_> {
    /// Deletes what the run had put aside: the replaced data of a restored run, the restored data
    /// of a run that was rolled back. There is no way back afterwards. All components are looked at
    /// before anything is deleted; what is not as the run left it is left alone, told, and looked at
    /// again by the next confirmation. May be repeated after a crash or a failure in the middle.
    pub(crate) async fn confirm(self) -> Result<Report> {
        self.begin(Action::Confirm).await?;
        let done = self.delete_all().await;
        let (run, outcome) = self
            .journal
            .with(|state| (state.run.to_string(), state.outcome));
        self.emit(&Event::RunFinished {
            run,
            outcome: match &done {
                Ok(()) => CONFIRMED.to_owned(),
                Err(_) => outcome.to_string(),
            },
            at: Timestamp::now(),
        });
        done?;
        self.write_report().await
    }

    async fn delete_all(&self) -> Result<()> {
        let state = self.journal.with(RunState::clone);
        let left = not_as_left(self.site, &state).await;
        for (name, why) in &left {
            self.leave(name, &why.to_string()).await?;
        }
        for name in state.plan.components.iter().map(|planned| &planned.name) {
            if left.iter().any(|(other, _)| other == name)
                || self.site.component(name).is_none()
                || !state.keeps_data(name)
            {
                continue;
            }
            self.delete(name, Discard::Replaced).await?;
            self.delete(name, Discard::Staged).await?;
        }
        self.remove_created(&left).await;
        self.journal
            .append(Record::Confirmed {
                at: Timestamp::now(),
            })
            .await
    }

    /// Deletes what the run put aside of a component. Where that fails, it counts as begun unless
    /// all of it is still there: a way back that is not whole is none, and what is left of it is not
    /// looked for any more.
    pub(super) async fn delete(&self, name: &str, what: Discard) -> Result<()> {
        let failed = match self.discard(name, what).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let state = self.journal.with(RunState::clone);
        let mut now = not_as_left(self.site, &state).await.into_iter();
        if now.any(|(other, _)| other == name) {
            let step = match what {
                Discard::Replaced => format!("{DELETE}{name}"),
                Discard::Staged => format!("{DISCARD}{name}"),
            };
            let at = Timestamp::now();
            // The failure is what is to be told.
            let _ = self.journal.append(Record::Intent { at, step }).await;
        }
        Err(failed)
    }

    /// Leaves alone what a component put aside. Told once.
    async fn leave(&self, name: &str, why: &str) -> Result<()> {
        let context = self.context_of_undo(name);
        if context.recall(LEFT).is_some() {
            return Ok(());
        }
        context.record(LEFT, true).await?;
        let finding = Finding::warning(
            "confirm.left_alone",
            name,
            format!(
                "what it put aside is not as the run left it, and nothing of it is deleted: {why}"
            ),
        );
        self.notice(finding.hint(format!(
            "once it is as it was, `restore confirm {}` deletes it; `restore history --search` lists what is there, and how to put it back or delete it by hand",
            self.journal.with(|state| state.run.clone())
        )))
        .await
    }
}
