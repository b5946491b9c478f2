//! The safety backup: a copy of what is live, put aside before anything is replaced.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::execution::{Execution, StepResult};
use super::{FactStore, Record};
use crate::backup::{BackupId, BackupJob, BackupReport, MissingComponent};
use crate::component::SharedComponent;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::Finding;
use crate::plan::Step;
use crate::site::free_id;
use crate::stream::Compression;

/// The name under which a run records which folders it has begun.
const FACTS: &str = "safety-backup";

/// The safety backup that a run has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SafetyBackup {
    /// Its id, to restore it by.
    pub id: BackupId,
    /// The name of the store that it is in.
    pub store: String,
    /// Where it is, for people.
    pub place: String,
    /// Its bytes.
    pub bytes: u64,
    /// Components that it is without, as they could not be read.
    pub missing: Vec<MissingComponent>,
}

impl Execution<'_> {
    /// Makes the safety backup that the plan has, unless this run made it before. One that a killed
    /// process left stays as it is, unfinished, and another is made.
    pub(super) async fn safety_backup(&self) -> Result<(), (String, Error)> {
        let step = Step::SafetyBackup;
        let due = self
            .journal
            .with(|state| state.plan.steps.contains(&step) && !state.is_done(&step));
        if !due {
            return Ok(());
        }
        let id = step.to_string();
        if self.cancel.is_cancelled() {
            return Err((id, Error::interrupted()));
        }
        self.step(&id, step.describe(), self.make_safety_backup())
            .await
            .map_err(|error| (id, error))
    }

    async fn make_safety_backup(&self) -> Result<StepResult> {
        let (run, planned, names) = self.journal.with(|state| {
            let names: Vec<String> = state
                .plan
                .components
                .iter()
                .map(|component| component.name.clone())
                .collect();
            (state.run.clone(), state.plan.safety.clone(), names)
        });
        let Some(planned) = planned else {
            return Ok(StepResult::default());
        };
        let (store_name, store) = self.site.store(Some(&planned.store))?;
        let components = names
            .iter()
            .map(|name| self.component(name))
            .collect::<Result<Vec<SharedComponent>>>()?;
        let id = free_id(store.as_ref(), BackupId::safety_now).await?;
        // Written down first: a folder without a manifest then has somebody who made it.
        self.journal
            .record(FACTS, id.as_str(), store_name.into())
            .await?;
        let job = BackupJob {
            site: self.site.name(),
            platform: self.site.platform().as_ref(),
            whole: false,
            components,
            store_name: store_name.to_owned(),
            store: Arc::clone(store),
            unlock: self.site.keys_of(store_name).unlock,
            run: Some(run),
            // People wait for it.
            compression: Compression::Gzip(1),
            jobs: self.site.jobs(),
            events: self.options.events.clone(),
            cancel: self.cancel.clone(),
        };
        match job.make(id).await {
            Ok(report) => {
                self.keep(&report).await?;
                Ok(StepResult {
                    safety: Some(SafetyBackup {
                        id: report.id,
                        store: report.store,
                        place: report.place,
                        bytes: report.bytes,
                        missing: report.missing,
                    }),
                    ..StepResult::default()
                })
            }
            // A platform of which nothing can be read is one that needs the restore most.
            Err(error) if error.code() == "backup.nothing" => {
                self.notice(
                    Finding::warning("backup.nothing", "safety backup", error.message()).hint(
                        "what the run replaces is kept all the same, until the run is confirmed",
                    ),
                )
                .await?;
                Ok(StepResult::default())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let hint = format!(
                    "{}; --no-safety-backup restores without one",
                    error.hint_text().unwrap_or("mend that and try again")
                );
                Err(error.hint(hint))
            }
        }
    }

    /// Keeps for the report what was noticed; those who watch have heard all but what is missing.
    async fn keep(&self, report: &BackupReport) -> Result<()> {
        for finding in report.findings.iter().cloned() {
            if finding.code == "backup.not_taken" {
                self.notice(finding).await?;
            } else {
                self.journal.append(Record::Noticed { finding }).await?;
            }
        }
        Ok(())
    }
}
