//! What a site does with backups besides restoring them: make them.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::backup::request::BackupRequest;
use crate::backup::verification::{FileStatus, Verification};
use crate::backup::verify::VerifyOptions;
use crate::contract::Recovery;
use crate::engine::backup_job::BackupJob;
use crate::engine::plan::ensure_not_in_itself;
use crate::model::BackupReport;
use crate::model::text::needed_and_had;

impl Site {
    /// The store of that name; without one, the first on this host, or just the first.
    pub fn store(&self, name: Option<&str>) -> Result<(&str, &Arc<dyn BackupStore>)> {
        if let Some(name) = name {
            return self.named(name);
        }
        match self.here().or(self.stores.first()) {
            Some((name, store)) => Ok((name, store)),
            None => Err(Error::new(
                ErrorKind::Config,
                "config.no_store",
                "the configuration names no store",
            )
            .hint("add [stores.main] with kind = \"directory\" and path = \"…\"")),
        }
    }

    /// Verifies a backup as [`Backup::verify`] does; deep verification also finds what this site
    /// would refuse of its archives, and what its components would refuse because of what is in a file.
    ///
    /// # Errors
    ///
    /// As [`Backup::verify`].
    pub async fn verify(
        &self,
        backup: &Backup,
        mut options: VerifyOptions,
        events: Arc<dyn EventSink>,
        cancel: CancellationToken,
    ) -> Result<Verification> {
        if options.deep {
            for component in &self.components {
                // One whose live side cannot be looked at says so when a restore is planned.
                let policies = component.unpack_policies(backup).await;
                options.policies.extend(policies.unwrap_or_default());
            }
        }
        let deep = options.deep;
        let mut verification = backup.verify(options, events, cancel.clone()).await?;
        if deep {
            self.examine(backup, &mut verification, &cancel).await?;
        }
        Ok(verification)
    }

    /// Has components look into their files that are sound.
    async fn examine(
        &self,
        backup: &Backup,
        verification: &mut Verification,
        cancel: &CancellationToken,
    ) -> Result<()> {
        for component in &self.components {
            let Some(contents) = component.contents() else {
                continue;
            };
            for artifact in component.artifacts(backup) {
                let mut files = verification.files.iter_mut();
                let Some((_, status)) = files.find(|file| file.0 == artifact) else {
                    continue;
                };
                let sound = matches!(status, FileStatus::Verified | FileStatus::Unverifiable);
                if !sound || backup.local_path(&artifact).is_none() {
                    continue;
                }
                match contents.examine(backup, &artifact, cancel).await {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                    Err(error) => *status = FileStatus::unfit(&error, Vec::new()),
                }
            }
        }
        Ok(())
    }

    /// Makes a backup while the platform serves. Nothing live is changed, nothing is deleted.
    ///
    /// `Ok`: the backup is finished, durable, and may be the next `latest`. `Err`: it was not even
    /// begun, or is unfinished in its store, and everybody sees that it is. The same holds when the
    /// future is dropped, or the process dies. The components are each of one moment of their own.
    ///
    /// # Errors
    ///
    /// `Locked` while a run, or another backup, is under way. `Preflight` where the store has no
    /// room for it, or cannot be written, where it or the state lies in what is backed up (`backup.own_inside`),
    /// and for a full backup (`backup.halfway`) while a run that nobody
    /// works on is in its downtime or between two swaps: what is live is then a mixture that was never live
    /// before, and `latest` would mean it. `Interrupted` once [`RunOptions::cancel`] is cancelled.
    pub async fn back_up(
        &self,
        request: BackupRequest,
        options: RunOptions,
    ) -> Result<BackupReport> {
        let made = Box::pin(self.make_backup(request, options.clone())).await;
        Box::pin(self.after_backup(made, &options)).await
    }

    async fn make_backup(
        &self,
        request: BackupRequest,
        options: RunOptions,
    ) -> Result<BackupReport> {
        request.ensure_something()?;
        let (store_name, store) = self.store(request.to.as_deref())?;
        let mut components = self.chosen(&request.only)?;
        if request.only.is_empty() && !request.base {
            components.retain(|component| component.recovery() != Recovery::Cluster);
        }
        let clusters = components
            .iter()
            .any(|component| component.recovery() == Recovery::Cluster);
        if request.base && !clusters {
            return Err(Error::new(
                ErrorKind::Config,
                "backup.no_cluster",
                "there is no database cluster to make a base backup of",
            )
            .hint("describe it in restore.toml as a component with kind = \"postgres_cluster\", and name it where --only is given"));
        }
        self.locked(Action::Backup, &options.clone(), async |_lock| {
            self.back_up_locked(store_name, store, components, request, options)
                .await
        })
        .await
    }

    async fn back_up_locked(
        &self,
        store_name: &str,
        store: &Arc<dyn BackupStore>,
        components: Vec<SharedComponent>,
        request: BackupRequest,
        options: RunOptions,
    ) -> Result<BackupReport> {
        let whole = self
            .components
            .iter()
            .filter(|component| component.recovery() != Recovery::Cluster)
            .all(|component| components.iter().any(|it| it.name() == component.name()));
        ensure_not_in_itself(self, &components).await?;
        let mut findings = self.unfinished_runs(whole).await?;
        findings.extend(self.room_for(store.as_ref(), &components).await?);
        for finding in &findings {
            let finding = finding.clone();
            options.events.emit(&Event::Finding { finding });
        }
        let job = BackupJob {
            site: self.name(),
            file: self.file(),
            platform: self.platform.as_ref(),
            whole,
            components,
            store_name: store_name.to_owned(),
            store: store.clone(),
            unlock: self.keys_of(store_name).unlock,
            run: None,
            without: Vec::new(),
            compression: request.compression,
            jobs: self.jobs(),
            events: options.events.clone(),
            cancel: options.cancel.clone(),
        };
        let mut report = job
            .make(free_id(store.as_ref(), BackupId::now).await?)
            .await?;
        report.findings.splice(0..0, findings);
        Ok(report)
    }

    /// The first store that is a directory of this host.
    pub(crate) fn here(&self) -> Option<&(String, Arc<dyn BackupStore>)> {
        let mut stores = self.stores.iter();
        stores.find(|(_, store)| store.directory().is_some())
    }

    /// The components of these names, in the site's order; all where none is named.
    pub(super) fn chosen(&self, only: &[String]) -> Result<Vec<SharedComponent>> {
        let known: Vec<&str> = self.components.iter().map(|it| it.name()).collect();
        if let Some(unknown) = only.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(Error::new(
                ErrorKind::Config,
                "plan.unknown_component",
                format!("this site has no component {unknown:?}"),
            )
            .hint(format!("it has {}", known.join(", "))));
        }
        let wanted = |component: &&SharedComponent| {
            only.is_empty() || only.contains(&component.name().to_owned())
        };
        Ok(self.components.iter().filter(wanted).cloned().collect())
    }

    /// What a run left half done is half done in a backup as well. A `whole` one would be the next
    /// `latest`, and is refused; a partial one never is, and may be what somebody needs to put things right.
    async fn unfinished_runs(&self, whole: bool) -> Result<Vec<Finding>> {
        let runs = Journal::all(&self.runs()).await?;
        let open = runs.iter().filter(|state| state.is_open());
        if let Some(halfway) = open.clone().find(|state| state.is_halfway() && whole) {
            let run = &halfway.run;
            return Err(Error::new(
                ErrorKind::Preflight,
                "backup.halfway",
                format!(
                    "run {run} is {} and was cut off in the middle: what is live now is a mixture of before and after, and a full backup of it would be the next `latest`",
                    halfway.outcome
                ),
            )
            .hint(format!(
                "{}; back up then. --only with some of the components makes a partial backup now, which `latest` never means",
                halfway.ways_on()
            )));
        }
        Ok(open
            .map(|state| {
                Finding::warning(
                    "run.unfinished",
                    state.run.as_str(),
                    format!(
                        "the run is {}: the backup holds what it left half done",
                        state.outcome
                    ),
                )
                .hint(format!("{}; back up again then", state.ways_on()))
            })
            .collect())
    }

    /// Whether the store has room. How far the data shrinks is not known before: what certainly
    /// suffices is asked for.
    async fn room_for(
        &self,
        store: &dyn BackupStore,
        components: &[SharedComponent],
    ) -> Result<Option<Finding>> {
        let Some(space) = store.room().await? else {
            return Ok(None);
        };
        let bytes = live_bytes(components).await;
        if bytes <= space.free_bytes {
            return Ok(None);
        }
        let (needed, had) = needed_and_had(bytes, space.free_bytes);
        let message = format!(
            "{} needs up to {needed}, as much as there is to back up before it is compressed, has {had}",
            space.shown()
        );
        // Dumps, logs and metrics shrink to a third or less; to a tenth hardly anything does.
        if bytes / 10 > space.free_bytes {
            return Err(
                Error::new(ErrorKind::Preflight, "space.short", message)
                    .hint("free room there (`restore prune` deletes old backups), or write to another store with --to"),
            );
        }
        Ok(Some(Finding::warning(
            "space.tight",
            store.describe(),
            message,
        )))
    }
}

/// About how many bytes the components' live data has; one that does not tell counts for nothing.
async fn live_bytes(components: &[SharedComponent]) -> u64 {
    let mut sum = 0_u64;
    for component in components {
        sum = sum.saturating_add(component.live_bytes().await.unwrap_or(0));
    }
    sum
}

/// An id that no backup of the store has yet: ids count seconds.
pub(crate) async fn free_id(
    store: &dyn BackupStore,
    now: impl Fn() -> BackupId,
) -> Result<BackupId> {
    let known = store.list().await?;
    loop {
        let id = now();
        if !known.contains(&id) {
            return Ok(id);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
