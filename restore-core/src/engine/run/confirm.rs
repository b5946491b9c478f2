//! Confirmation: the run is accepted, what it had put aside is deleted.

use super::execution::RunExecutor;
use super::journal::REPORT;
use super::state::{DELETE, DISCARD};
use super::way_back::not_as_left;
use super::{Action, Record, RunState};
use crate::contract::FactStore;
use crate::model::{Event, Finding, Outcome, Report, Result, Timestamp};
use crate::swap::scope::Discard;
use crate::sys::read_small;

/// No report of a run is larger.
const LARGEST_REPORT: u64 = 64 << 20;

/// What a run is once it was confirmed, as its last event says it.
pub(crate) const CONFIRMED: &str = "confirmed";

/// The fact that a confirmation left alone what a component put aside.
pub(super) const LEFT: &str = "confirm_left";

/// The fact that a confirmation found nothing that the run had replaced, and under which name it is kept.
pub(super) const NOTHING: (&str, &str) = ("confirm", "replaced_nothing");

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
        if left.is_empty() && self.replaced_nothing(&state).await {
            let (owner, key) = NOTHING;
            // It is only told.
            let _ = self.journal.record(owner, key, true.into()).await;
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

    /// Whether a restored run keeps nothing that was live before it, as all was absent that it made. What
    /// cannot be looked at may be there; of what was begun to be deleted nobody knows any more.
    async fn replaced_nothing(&self, state: &RunState) -> bool {
        if state.outcome != Outcome::Restored || state.is_half_confirmed() {
            return false;
        }
        for name in state.plan.components.iter().map(|planned| &planned.name) {
            let Some(component) = self.site.component(name) else {
                return false;
            };
            let kept = component.replaced_at(&self.context_of_undo(name)).await;
            if !matches!(kept, Ok(None)) {
                return false;
            }
        }
        true
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
        let place = match self.kept_before(name).await {
            Some(place) => format!("; it was in {place}"),
            None => String::new(),
        };
        let finding = Finding::warning(
            "confirm.left_alone",
            name,
            format!(
                "what it put aside is not as the run left it, and nothing of it is deleted: {why}{place}"
            ),
        );
        self.notice(finding.hint(format!(
            "once it is as it was, `restore confirm {}` deletes it; `restore history --search` lists what is there, and how to put it back or delete it by hand",
            self.journal.with(|state| state.run.clone())
        )))
        .await
    }

    /// Where the run had put something aside of a component, as the report of its end has it: a component that is
    /// configured otherwise by now looks for it elsewhere, or is there no more.
    async fn kept_before(&self, name: &str) -> Option<String> {
        let path = self.journal.folder().join(REPORT);
        let read = tokio::task::spawn_blocking(move || read_small(&path, LARGEST_REPORT));
        let bytes = read.await.ok()?.ok()?;
        let report: Report = serde_json::from_slice(&bytes).ok()?;
        let mut components = report.components.into_iter();
        components.find(|it| it.name == name)?.kept_at
    }
}
