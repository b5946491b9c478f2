//! What it says of itself, and that looking changes nothing.

use super::super::{Kept, given, holds, must};
use super::trial::Trial;
use crate::contract::Backup;
use crate::model::Severity;

impl Trial {
    pub(super) async fn names_itself(&self) -> Kept {
        let (component, _) = self.process(&self.run().await?).await?;
        let (again, _) = self.process(&self.run().await?).await?;
        holds(
            "name, kind, stops and needs are the same whenever it is made",
            component.name() == again.name()
                && component.kind() == again.kind()
                && component.stops() == again.stops()
                && component.needs() == again.needs()
                && !component.name().is_empty(),
            format!("{:?} and {:?}", component.name(), again.name()),
        )?;
        let backup = given("backup", self.under_test.backup().await)?;
        let clause = "`artifacts` gives files that the backup has";
        let found = component.artifacts(&backup);
        holds(
            clause,
            !found.is_empty() && found.iter().all(|path| backup.file(path).is_some()),
            format!("{found:?}"),
        )?;
        let nothing = Backup::by_name(backup.store().clone(), backup.id().clone());
        let found = component.artifacts(&nothing);
        holds(
            "`artifacts` is empty where the backup has none for it",
            found.is_empty(),
            format!("{found:?}"),
        )
    }

    pub(super) async fn looks_only(&self) -> Kept {
        let run = self.run().await?;
        let (component, cx) = self.process(&run).await?;
        let clause = "`inspect` changes nothing";
        let inspection = must(clause, component.inspect(&cx).await)?;
        self.is(clause, &self.before).await?;
        self.nothing_beside(clause).await?;
        let errors: Vec<String> = inspection
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .map(|finding| finding.message.clone())
            .collect();
        holds(
            "`inspect` finds no error where nothing speaks against the run",
            errors.is_empty(),
            format!("{errors:?}"),
        )?;
        holds(
            "`inspect` names the artifacts that it would use",
            !inspection.artifacts.is_empty()
                && inspection
                    .artifacts
                    .iter()
                    .all(|path| run.backup.file(path).is_some()),
            format!("{:?}", inspection.artifacts),
        )
    }
}
