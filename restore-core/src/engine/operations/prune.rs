//! Deleting old backups.

use std::collections::BTreeMap;

use super::history::report_left;
use super::*;
use crate::backup::prune;
use crate::backup::prune::{PrunePlan, PruneRequest, Pruned};
use crate::backup::unlock::{Unlock, check_signature};
use crate::backup::verification::Verification;
use crate::contract::backup::DESCRIPTION;
use crate::contract::{Generation, Recovery};
use crate::model::Outcome;

/// A backup that could be read, and what is known of it.
struct Looked {
    backup: Backup,
    listing: Verification,
    sound: bool,
}

impl Looked {
    /// Whether a recovery could begin from what it has for a component, whatever is wrong with the rest of it.
    fn has_sound(&self, component: &SharedComponent) -> bool {
        let mut files = component.artifacts(&self.backup);
        if files.is_empty() || self.backup.generation() == Generation::Unfinished {
            return false;
        }
        files.push(DESCRIPTION.to_owned());
        !files.iter().any(|path| self.listing.is_wrong(path))
    }
}

impl Site {
    /// What pruning would delete, and why all else stays: always the newest full backup, whatever a
    /// run that is not confirmed restored from or made first, and base backups without which a moment
    /// could not be recovered any more. Changes nothing.
    pub async fn plan_prune(&self, request: &PruneRequest) -> Result<PrunePlan> {
        let (name, store) = self.store(request.store.as_deref())?;
        let unlock = self.keys_of(name).unlock;
        let (mut known, mut looked) = (Vec::new(), Vec::new());
        for id in store.list().await? {
            match self.look_at(store, &id, &unlock).await {
                Ok((of, found)) => {
                    known.push(of);
                    looked.push(found);
                }
                Err(error) => known.push(prune::Known::unreadable(id, &error)),
            }
        }
        prune::mark_earlier(&mut known, self.counted().count());
        let mut idle = self.idle_safety_backups().await?;
        for it in known.iter_mut().filter(|it| it.id.is_safety()) {
            it.idle = idle.remove(&it.id);
        }
        let mut needed = self.needed_to_recover(&looked).await;
        needed.extend(self.needed_by_runs().await?);
        prune::plan(request, (name, store.describe()), &known, &needed)
    }

    /// What is known of a backup without reading its files.
    async fn look_at(
        &self,
        store: &Arc<dyn BackupStore>,
        id: &BackupId,
        unlock: &Unlock,
    ) -> Result<(prune::Known, Looked)> {
        let backup = Backup::open(store.clone(), id.clone()).await?;
        let listing = backup.verify_listing().await?;
        let mut known = prune::Known::of(&backup, &listing, self.lacking(&backup));
        if known.is_sound() {
            match check_signature(&backup, unlock).await {
                Err(error) if error.kind() == ErrorKind::Verification => known.refused(&error),
                other => {
                    other?;
                }
            }
        }
        let sound = known.is_sound();
        let looked = Looked {
            backup,
            listing,
            sound,
        };
        Ok((known, looked))
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
        self.locked(Action::Prune, &options.clone(), async |_lock| {
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

    /// The base backups that recoveries to a point in time begin from, in whichever sort of backup.
    async fn needed_to_recover(&self, looked: &[Looked]) -> BTreeMap<BackupId, String> {
        let mut needed = BTreeMap::new();
        let clusters = self.components.iter();
        for component in clusters.filter(|it| it.recovery() == Recovery::Cluster) {
            let having = |all: bool| -> Vec<Backup> {
                let wanted = |it: &&Looked| (all || it.sound) && it.has_sound(component);
                let having = looked.iter().filter(wanted);
                having.map(|it| it.backup.clone()).collect()
            };
            // One of a backup that a whole restore refuses is needed too, but makes no other needless.
            let (sound, all) = (having(false), having(true));
            let more = (all.len() > sound.len()).then_some(all);
            for having in std::iter::once(sound).chain(more) {
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
        }
        needed
    }

    /// The safety backups of runs that came to nothing: all that these had replaced is back, works, and they
    /// keep nothing any more.
    async fn idle_safety_backups(&self) -> Result<BTreeMap<BackupId, String>> {
        let mut idle = BTreeMap::new();
        for state in Journal::all(&self.runs()).await? {
            if !state.came_to_nothing() || state.damaged.is_some() || !state.is_settled() {
                continue;
            }
            let why = format!("safety backup of run {}, which came to nothing", state.run);
            let ids = state.safety_backups().into_iter();
            idle.extend(ids.map(|id| (id, why.clone())));
        }
        Ok(idle)
    }

    /// What runs that have not ended, or keep data until they are confirmed, refer to.
    async fn needed_by_runs(&self) -> Result<BTreeMap<BackupId, String>> {
        let mut needed = BTreeMap::new();
        for state in Journal::all(&self.runs()).await? {
            // What a journal says that is damaged may not be all that happened.
            let unknown = state.damaged.is_some() && !state.confirmed;
            if !unknown && !state.is_open() && !state.is_unconfirmed() && !state.is_abandoned() {
                continue;
            }
            let how = match state.outcome {
                _ if state.damaged.is_some() => "whose journal is damaged",
                Outcome::Abandoned => "which was abandoned and is not confirmed",
                _ => "which is not confirmed",
            };
            let why = |what: &str| format!("{what} run {}, {how}", state.run);
            needed.insert(state.plan.backup.clone(), why("restored by"));
            for id in state.safety_backups() {
                needed.insert(id, why("made by"));
            }
        }
        for lost in Journal::lost(&self.runs()).await? {
            let Some(report) = report_left(&lost).await else {
                continue;
            };
            let keeps = match report.outcome {
                Outcome::RolledBack | Outcome::Undone | Outcome::Drilled => {
                    report.components.iter().any(|it| it.kept_at.is_some())
                }
                _ => true,
            };
            if report.confirmed || !keeps {
                continue;
            }
            let run = &lost.run;
            let folder = self.runs().join(run.as_str());
            let why = |what: &str| {
                format!(
                    "{what} run {run}, whose journal is lost; {} is all that is left of it",
                    folder.display()
                )
            };
            needed.insert(report.backup.clone(), why("restored by"));
            if let Some(safety) = &report.safety {
                needed.insert(safety.id.clone(), why("made by"));
            }
        }
        Ok(needed)
    }
}
