//! The safety backup: a copy of what is live, put aside before anything is replaced.

use std::sync::Arc;

use super::Record;
use super::execution::{RunExecutor, StepResult};
use crate::archive::Compression;
use crate::contract::{FactStore, SharedComponent};
use crate::engine::backup_job::BackupJob;
use crate::engine::operations::free_id;
use crate::engine::plan::Step;
use crate::model::{
    BackupId, BackupReport, Error, ErrorKind, Finding, MissingComponent, Result, SafetyBackup,
};

/// The name under which a run records which folders it has begun.
pub(super) const FACTS: &str = "safety-backup";

/// What is left of the data that is in no safety backup.
const KEPT: &str = "what the run replaces is kept beside the live data until `restore confirm`; after \
                    that there is no copy of it";

/// The error of a safety backup that nobody agreed to do without.
fn incomplete(message: String) -> Error {
    Error::new(ErrorKind::Failed, "safety.incomplete", message)
        .hint("fix the cause and run again; --no-safety-backup restores without a safety backup")
}

impl RunExecutor<'_> {
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
            file: self.site.file(),
            platform: self.site.platform().as_ref(),
            whole: false,
            components,
            store_name: store_name.to_owned(),
            store: Arc::clone(store),
            unlock: self.site.keys_of(store_name).unlock,
            run: Some(run),
            without: planned.without.iter().map(|it| it.name.clone()).collect(),
            // People wait for it.
            compression: Compression::Gzip(1),
            jobs: self.site.jobs(),
            events: self.options.events.clone(),
            cancel: self.cancel.clone(),
        };
        match job.make(id).await {
            Ok(report) => {
                let new = |missing: &&MissingComponent| {
                    !missing.is_of_a_kind()
                        && planned.without.iter().all(|it| it.name != missing.name)
                };
                let missing: Vec<&MissingComponent> = report.missing.iter().filter(new).collect();
                self.agree_to_do_without(&missing, &report).await?;
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
                self.do_without(&error).await?;
                Ok(StepResult::default())
            }
            Err(error) if error.code() == "backup.nothing_read" => {
                let message = format!("there is no safety backup: {}", error.message());
                let question = Finding::warning("safety.incomplete", "safety backup", &message);
                if !self.agreed(question.hint(KEPT)).await? {
                    return Err(incomplete(message));
                }
                self.do_without(&error).await?;
                Ok(StepResult::default())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let hint = format!(
                    "{}; --no-safety-backup restores without one",
                    error.hint_text().unwrap_or("fix the cause and try again")
                );
                Err(error.hint(hint))
            }
        }
    }

    /// What the plan did not say is agreed to before users are turned away, or the run is undone.
    async fn agree_to_do_without(
        &self,
        missing: &[&MissingComponent],
        report: &BackupReport,
    ) -> Result<()> {
        let Some(first) = missing.first() else {
            return Ok(());
        };
        let others: Vec<&str> = missing.iter().skip(1).map(|it| it.name.as_str()).collect();
        let others = match others.is_empty() {
            true => String::new(),
            false => format!(", and nothing of {}", others.join(", ")),
        };
        let message = format!(
            "the safety backup {} has nothing of {}: {}{others}",
            report.id, first.name, first.reason
        );
        let question = Finding::warning("safety.incomplete", "safety backup", &message);
        match self.agreed(question.hint(KEPT)).await? {
            true => Ok(()),
            false => Err(incomplete(message)),
        }
    }

    /// Tells that no safety backup is made.
    async fn do_without(&self, error: &Error) -> Result<()> {
        let finding = Finding::warning("backup.nothing", "safety backup", error.message());
        self.notice(finding.hint(KEPT)).await
    }

    /// Asks whoever wants the run, where there is somebody to ask.
    async fn agreed(&self, question: Finding) -> Result<bool> {
        let Some(ask) = self.options.asked.clone() else {
            return Ok(false);
        };
        let answer = tokio::task::spawn_blocking(move || ask(&question));
        tokio::select! {
            answer = answer => Ok(answer.unwrap_or(false)),
            () = self.cancel.cancelled() => Err(Error::interrupted()),
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
