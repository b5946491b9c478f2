//! Confirmation: the run is accepted, what it had put aside is deleted.

use super::execution::Execution;
use super::{Action, Record};
use crate::error::Result;
use crate::platform::Discard;
use crate::report::Report;
use crate::time::Timestamp;

impl Execution<'_> {
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
            self.discard(&name, Discard::Replaced).await?;
            self.discard(&name, Discard::Staged).await?;
        }
        self.journal
            .append(Record::Confirmed {
                at: Timestamp::now(),
            })
            .await?;
        self.write_report().await
    }
}
