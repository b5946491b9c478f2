//! Confirmation: the run is accepted, what it had put aside is deleted.

use super::execution::RunExecutor;
use super::{Action, Record};
use crate::contract::CutOver;
use crate::model::{Finding, Report, Result, Timestamp};
use crate::swap::scope::Discard;

/// The fact that a confirmation leaves alone what a component put aside.
pub(super) const LEFT: &str = "confirm_left";

impl RunExecutor<'_> {
    /// Deletes what the run had put aside: the replaced data of a restored run, the restored data
    /// of a run that was rolled back. There is no way back afterwards. May be repeated after a
    /// crash or a failure in the middle.
    pub(crate) async fn confirm(self) -> Result<Report> {
        self.begin(Action::Confirm).await?;
        let names: Vec<String> = self.journal.with(|state| {
            let components = state.plan.components.iter();
            components.map(|component| component.name.clone()).collect()
        });
        for name in names {
            if self.is_left(&name).await? {
                continue;
            }
            self.discard(&name, Discard::Replaced).await?;
            self.discard(&name, Discard::Staged).await?;
        }
        self.remove_created().await;
        self.journal
            .append(Record::Confirmed {
                at: Timestamp::now(),
            })
            .await?;
        self.write_report().await
    }

    /// Whether what a component put aside is left alone, because it is not what the journal says, or
    /// because its swap was broken off in its middle: what lies there may be the only copy of
    /// something. Told once, and kept for the next attempt.
    async fn is_left(&self, name: &str) -> Result<bool> {
        let context = self.context_of_undo(name);
        if context.recall(LEFT).is_some() {
            return Ok(true);
        }
        let begun = self.journal.with(|state| state.deleted.contains(name));
        let why = match context.cut_over() {
            _ if begun => return Ok(false),
            CutOver::NotBegun | CutOver::TakenBack => return Ok(false),
            CutOver::Begun => "its swap was broken off in the middle".to_owned(),
            CutOver::Done => match self.component(name)?.way_back(&context).await {
                Ok(()) => return Ok(false),
                Err(error) => error.to_string(),
            },
        };
        context.record(LEFT, true).await?;
        let finding = Finding::warning(
            "confirm.left_alone",
            name,
            format!(
                "what it put aside is not as the run left it, and nothing of it is deleted: {why}"
            ),
        );
        self.notice(
            finding.hint("`restore history --search` lists what is there, and how to delete it"),
        )
        .await?;
        Ok(true)
    }
}
