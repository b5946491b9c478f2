//! The safety backup: a copy of what is live, put aside before anything is replaced.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Record;
use super::execution::{RunExecutor, StepResult};
use crate::archive::Compression;
use crate::contract::{Backup, FactStore, Generation, SharedComponent};
use crate::engine::backup_job::{BackupJob, NothingBackedUp, SAFETY_BACKUP, not_taken};
use crate::engine::operations::free_id;
use crate::engine::plan::{PlannedSafety, Step};
use crate::model::{
    BackupId, BackupReport, Error, ErrorKind, Finding, MissingComponent, Result, SafetyBackup,
};

/// The name under which a run records which folders it has begun.
pub(super) const FACTS: &str = "safety-backup";

/// What is left of the data that is in no safety backup.
const KEPT: &str = "whatever the run replaces is kept beside the live data until `restore confirm`; after \
                    that there is no copy of it";

/// How long a store may take to delete what was not finished.
const CLEAR: Duration = Duration::from_secs(30);

/// The error of a safety backup that nobody agreed to do without.
fn incomplete(message: String) -> Error {
    Error::new(ErrorKind::Failed, "safety.incomplete", message)
        .hint("fix the cause and run again; --no-safety-backup restores without a safety backup")
}

/// What a safety backup has nothing of although the plan did not say so.
fn unplanned<'a>(
    report: &'a BackupReport,
    planned: &'a PlannedSafety,
) -> impl Iterator<Item = &'a MissingComponent> {
    let known = |missing: &MissingComponent| {
        missing.is_of_a_kind() || planned.without.iter().any(|it| it.name == missing.name)
    };
    report.missing.iter().filter(move |missing| !known(missing))
}

/// Whether somebody has to agree to what was made.
fn needs_a_word(made: &Result<BackupReport>, planned: &PlannedSafety) -> bool {
    match made {
        Ok(report) => unplanned(report, planned).next().is_some(),
        Err(error) => error.is(&NothingBackedUp::Unexpected),
    }
}

impl RunExecutor<'_> {
    /// Makes the safety backup that the plan has, unless this run made it before. One that a killed
    /// process left unfinished is deleted, and another is made.
    /// What the plan did not say is asked once `staged` says that nothing is staged any more: nobody reads
    /// a question between lines of progress.
    pub(super) async fn safety_backup(
        &self,
        staged: &CancellationToken,
    ) -> Result<(), (String, Error)> {
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
        self.step(&id, step.describe(), self.make_safety_backup(staged))
            .await
            .map_err(|error| (id, error))
    }

    async fn make_safety_backup(&self, staged: &CancellationToken) -> Result<StepResult> {
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
        self.clear_unfinished().await;
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
            // People wait for it: the fastest there is, on several cores.
            compression: Compression::Zstd(1),
            jobs: self.site.jobs(),
            events: self.options.events.clone(),
            cancel: self.cancel.clone(),
        };
        let made = job.make(id).await;
        if self.options.asked.is_some() && needs_a_word(&made, &planned) {
            staged.cancelled().await;
        }
        match made {
            Ok(report) => {
                let missing: Vec<&MissingComponent> = unplanned(&report, &planned).collect();
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
            Err(error) if error.is(&NothingBackedUp::Expected) => {
                self.clear_unfinished().await;
                self.do_without(&error).await?;
                Ok(StepResult::default())
            }
            Err(error) if error.is(&NothingBackedUp::Unexpected) => {
                self.clear_unfinished().await;
                let message = format!("there is no safety backup: {}", error.message());
                let question = Finding::warning("safety.incomplete", "safety backup", &message);
                if !self.agreed(question.hint(KEPT)).await? {
                    return Err(incomplete(message));
                }
                self.do_without(&error).await?;
                Ok(StepResult::default())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.clear_unfinished().await;
                Err(Error::interrupted())
            }
            Err(error) => {
                // It may have filled the disk that it is on, which is often that of the platform.
                self.clear_unfinished().await;
                let hint = format!(
                    "{}; --no-safety-backup restores without one",
                    error.hint_text().unwrap_or("fix the cause and try again")
                );
                Err(error.hint(hint))
            }
        }
    }

    /// Deletes what is left of a safety backup that was not made, once the run is undone: by a process that
    /// was killed, or where the store let nothing be deleted then.
    pub(super) async fn clear_after_a_kill(&self) {
        let step = Step::SafetyBackup;
        let unmade = self
            .journal
            .with(|state| state.began(&step) && !state.is_done(&step));
        if unmade {
            self.clear_unfinished().await;
        }
    }

    /// Deletes the safety backups that this run has begun and not finished: nothing can be restored from
    /// them. One that cannot be deleted is told.
    async fn clear_unfinished(&self) {
        let begun: Vec<(BackupId, String)> = self.journal.with(|state| {
            let facts = state.facts.iter().filter(|((owner, _), _)| owner == FACTS);
            facts
                .filter_map(|((_, id), store)| Some((id.parse().ok()?, store.as_str()?.to_owned())))
                .collect()
        });
        for (id, store) in begun {
            let Ok((_, store)) = self.site.store(Some(&store)) else {
                continue;
            };
            match Backup::open(Arc::clone(store), id.clone()).await {
                Ok(backup) if backup.generation() == Generation::Unfinished => {}
                // Finished, or not there.
                _ => continue,
            }
            let why = match tokio::time::timeout(CLEAR, store.remove(&id)).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) if error.kind() == ErrorKind::NotFound => continue,
                Ok(Err(error)) => error.message().to_owned(),
                Err(_) => "the store does not answer".to_owned(),
            };
            let finding = Finding::warning(
                "safety.left",
                "safety backup",
                format!(
                    "{id} was not finished and stays in {}: {why}",
                    store.describe()
                ),
            );
            let finding =
                finding.hint("nothing needs it, and it is never restored: delete it there by hand");
            // It may have been tried before.
            if !self.journal.with(|state| state.findings.contains(&finding)) {
                self.record_best_effort(finding).await;
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

    /// Keeps for the report what was noticed; those who watch have heard all but what is missing.
    async fn keep(&self, report: &BackupReport) -> Result<()> {
        let missing = report.missing.iter();
        let missing: Vec<Finding> = missing.map(|it| not_taken(it, SAFETY_BACKUP)).collect();
        for finding in report.findings.iter().cloned() {
            if missing.contains(&finding) {
                self.notice(finding).await?;
            } else {
                self.journal.append(Record::Noticed { finding }).await?;
            }
        }
        Ok(())
    }
}
