//! Deleting old backups.

use std::collections::BTreeMap;

use super::*;
use crate::backup::{PrunePlan, PruneRequest, Pruned, prune};
use crate::component::Recovery;

impl Site {
    /// What pruning would delete, and why all else stays: always the newest finished backup,
    /// whatever a run that is not confirmed restored from or made first, and base backups without
    /// which a moment could not be recovered any more. Changes nothing.
    pub async fn plan_prune(&self, request: &PruneRequest) -> Result<PrunePlan> {
        let (name, store) = self.store(request.store.as_deref())?;
        let mut known = Vec::new();
        let mut whole = Vec::new();
        for id in store.list().await? {
            let opened = Backup::open(store.clone(), id.clone()).await;
            let backup = opened.as_ref().ok().cloned();
            let of = prune::Known::of(id, opened);
            whole.extend(backup.filter(|_| of.state == prune::State::Whole));
            known.push(of);
        }
        let mut needed = self.needed_to_recover(&whole).await;
        needed.extend(self.needed_by_runs().await?);
        prune::plan(request, (name, store.describe()), &known, &needed)
    }

    /// Deletes what `plan` would, save what is not to be deleted any more; what was deleted. One at
    /// a time, the oldest first: stopped or killed in between, at most one is half deleted, and
    /// everybody sees that it is unfinished.
    pub async fn prune(
        &self,
        request: &PruneRequest,
        plan: &PrunePlan,
        options: RunOptions,
    ) -> Result<Vec<Pruned>> {
        self.locked(Action::Prune, async |_lock| {
            self.prune_locked(request, plan, options).await
        })
        .await
    }

    async fn prune_locked(
        &self,
        request: &PruneRequest,
        plan: &PrunePlan,
        options: RunOptions,
    ) -> Result<Vec<Pruned>> {
        let now = self.plan_prune(request).await?;
        let (_, store) = self.store(Some(&now.store))?;
        let mut deleted = Vec::new();
        for backup in now.delete {
            if !plan.delete.iter().any(|planned| planned.id == backup.id) {
                continue;
            }
            if options.cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            let step = format!("delete:{}", backup.id);
            options.events.emit(&Event::StepStarted {
                step: step.clone(),
                what: format!("delete backup {}", backup.id),
            });
            let began = Timestamp::now();
            if let Err(error) = store.remove(&backup.id).await {
                let error = error.context(format!("backup {}", backup.id));
                options.events.emit(&Event::StepFailed {
                    step,
                    error: error.to_string(),
                });
                return Err(error);
            }
            let seconds = Timestamp::now().since(began).as_secs_f64();
            options.events.emit(&Event::StepFinished { step, seconds });
            deleted.push(backup);
        }
        Ok(deleted)
    }

    /// The base backups that recoveries to a point in time begin from.
    async fn needed_to_recover(&self, whole: &[Backup]) -> BTreeMap<BackupId, String> {
        let mut needed = BTreeMap::new();
        for component in &self.components {
            let having: Vec<Backup> = whole
                .iter()
                .filter(|backup| {
                    component.recovery() == Recovery::Cluster
                        && !component.artifacts(backup).is_empty()
                })
                .cloned()
                .collect();
            match component.must_keep(&having).await {
                Ok(keep) => needed.extend(keep),
                // An archive whose disk is not mounted makes no base backup needless.
                Err(error) => needed.extend(having.iter().map(|backup| {
                    let why = format!(
                        "it has a base backup, and whether that is needed is not known: {error}"
                    );
                    (backup.id().clone(), why)
                })),
            }
        }
        needed
    }

    /// What runs that have not ended, or keep data until they are confirmed, refer to.
    async fn needed_by_runs(&self) -> Result<BTreeMap<BackupId, String>> {
        let mut needed = BTreeMap::new();
        for state in Journal::all(&self.runs()).await? {
            if !state.is_open() && !state.is_unconfirmed() {
                continue;
            }
            let why = |what: &str| format!("{what} run {}, which is not confirmed", state.run);
            needed.insert(state.plan.backup.clone(), why("restored by"));
            if let Some(safety) = &state.safety {
                needed.insert(safety.id.clone(), why("made by"));
            }
        }
        Ok(needed)
    }
}
