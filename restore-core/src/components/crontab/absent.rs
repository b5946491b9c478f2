//! A crontab that is not there, and the directory that its file would lie in.

use async_trait::async_trait;

use super::Crontab;
use crate::components::place;
use crate::contract::{Create, Inspection, RunContext};
use crate::model::{Finding, Result};

impl Crontab {
    /// Says what will be made; or that a file cannot be written where there is no directory.
    pub(super) async fn look_at_absent(
        &self,
        cx: &RunContext,
        there: bool,
        inspection: &mut Inspection,
    ) -> Result<()> {
        if there {
            return Ok(());
        }
        if let Some(at) = self.table.absent_directory().await? {
            if !cx.may_create() {
                let message = format!(
                    "there is no directory {}, so that {} cannot be written",
                    at.path().display(),
                    self.table.describe()
                );
                let finding = Finding::error("crontab.no_directory", &self.name, message);
                inspection.findings.push(finding.hint(
                    "is its disk mounted, and is `file` in the configuration right? `restore run ID --create` makes it",
                ));
                return Ok(());
            }
            place::announce(&at, inspection).await?;
        }
        inspection.creates.push(self.table.describe());
        Ok(())
    }
}

#[async_trait]
impl Create for Crontab {
    async fn create(&self, cx: &RunContext) -> Result<()> {
        match self.table.absent_directory().await.map_err(self.at())? {
            Some(at) => place::make(cx, &at, None).await.map_err(self.at()),
            None => Ok(()),
        }
    }

    async fn remove_created(&self, cx: &RunContext) -> Result<()> {
        let at = self.table.absent_directory().await.map_err(self.at())?;
        place::remove(cx, at).await.map_err(self.at())
    }
}
