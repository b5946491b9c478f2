//! The way in: a site, its backups, its runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::{Plan, PlanRequest, Preflight};
use super::run::{
    Action, Journal, Record, RunExecutor, RunOptions, RunState, SiteLock, report_of, weigh,
};
use crate::backup::fetch::OpenDirectory;
use crate::backup::unlock::StoreKeys;
use crate::contract::config::ServiceOrder;
use crate::contract::{
    Backup, BackupStore, Check, Hook, Maintenance, Manifest, Platform, Recovery, RetryMode,
    SharedComponent, SiteConfig, StopGuard, Table,
};
use crate::model::{
    BackupId, CheckOutcome, Error, ErrorKind, Event, EventSink, Finding, Report, Result, RunId,
    Timestamp,
};

mod abandon;
mod backups;
mod confirm;
mod difference;
mod fetch;
mod get;
mod history;
mod hooks;
mod listing;
mod lock;
mod members;
mod own;
mod page;
mod prune;
mod recovery_base;
mod rollback;
mod runs;
mod status;
mod watch;

pub(crate) use backups::free_id;
pub use difference::{ComponentDifference, SiteDifference};
pub use get::{GetReport, GetRequest, Gotten};
pub use history::FoundData;
pub use listing::{BackupKind, BackupListing, ListedBackup};
pub(crate) use lock::until_unlocked;
pub use members::{MembersReport, MembersRequest};
pub use status::{
    KeptData, LastDrill, NewestBackup, ProvenBackup, Room, SiteStatus, StoreStatus, UnfinishedRun,
};

/// How long each check may take before a run: it tells only what was so already.
const BASELINE: Duration = Duration::from_secs(3);

/// One configured platform with its components and its stores. A clone is the same site.
#[derive(Clone)]
pub struct Site {
    pub(crate) config: SiteConfig,
    pub(crate) order: ServiceOrder,
    /// The file that describes it, where there is one.
    pub(crate) file: Option<PathBuf>,
    /// What relative paths are taken from.
    pub(crate) base: PathBuf,
    /// The components that a backup may be without.
    pub(crate) optional: BTreeSet<String>,
    pub(crate) state: PathBuf,
    pub(crate) log: Option<PathBuf>,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) stores: Vec<(String, Arc<dyn BackupStore>)>,
    /// What else is configured of each store, in the same order.
    pub(crate) keys: Vec<StoreKeys>,
    /// Opens a directory of this host as a store.
    pub(crate) open_directory: OpenDirectory,
    pub(crate) components: Vec<SharedComponent>,
    pub(crate) checks: Vec<Arc<dyn Check>>,
    pub(crate) hooks: Vec<Arc<dyn Hook>>,
    pub(crate) maintenance: Option<Arc<dyn Maintenance>>,
    /// Makes a page that the configuration had once.
    pub(crate) make_page: MakePage,
    /// What sees to services that no component restores, before they are stopped.
    pub(crate) guards: Vec<Arc<dyn StopGuard>>,
    /// The services that were to be started for the next plan and did not start, and why.
    pub(crate) not_started: Arc<Mutex<BTreeMap<String, Finding>>>,
    /// Paths that were found in archives of backups: a plan that is made once more does not read for them again.
    pub(crate) found_paths: Arc<Mutex<BTreeSet<FoundPaths>>>,
}

/// Makes a page of a section of the configuration.
pub(crate) type MakePage = Arc<dyn Fn(Table) -> Result<Arc<dyn Maintenance>> + Send + Sync>;

/// A backup, an archive of it, and paths that are all in it.
pub(crate) type FoundPaths = (BackupId, String, Vec<String>);

impl Site {
    /// The same site with a store of the caller's own, which is asked first; it takes the place of
    /// a configured one of that name.
    #[must_use]
    pub fn with_store(mut self, name: impl Into<String>, store: Arc<dyn BackupStore>) -> Self {
        let name = name.into();
        if let Some(at) = self.stores.iter().position(|(known, _)| *known == name) {
            self.stores.remove(at);
            self.keys.remove(at);
        }
        self.stores.insert(0, (name, store));
        // Those of the configuration belong to the others, each to its own.
        self.keys.insert(0, StoreKeys::default());
        self
    }

    /// The same site with a way of the caller's own to turn users away, whatever its configuration
    /// says of that.
    #[must_use]
    pub fn with_maintenance(mut self, page: Arc<dyn Maintenance>) -> Self {
        self.maintenance = Some(page);
        self
    }

    /// The site's name.
    pub fn name(&self) -> &str {
        &self.config.site.name
    }

    /// The file that describes it, where there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What runs its services.
    pub fn platform(&self) -> &Arc<dyn Platform> {
        &self.platform
    }

    /// Its stores by name, in the order of the configuration.
    pub fn stores(&self) -> &[(String, Arc<dyn BackupStore>)] {
        &self.stores
    }

    /// Its components, in the order of their cut-overs.
    pub fn components(&self) -> &[SharedComponent] {
        &self.components
    }

    /// The component of that name.
    pub fn component(&self, name: &str) -> Option<&SharedComponent> {
        self.components
            .iter()
            .find(|component| component.name() == name)
    }

    /// The services that were to be started for a plan and did not start, and why: for that plan, as the next
    /// one may find that they do.
    pub(crate) fn take_not_started(&self) -> BTreeMap<String, Finding> {
        let known = self.not_started.lock();
        std::mem::take(&mut *known.unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether these paths were found before.
    pub(crate) fn has_paths(&self, found: &FoundPaths) -> bool {
        let known = self.found_paths.lock();
        known
            .unwrap_or_else(PoisonError::into_inner)
            .contains(found)
    }

    /// Takes note of paths that were found.
    pub(crate) fn note_paths(&self, found: FoundPaths) {
        let known = self.found_paths.lock();
        known.unwrap_or_else(PoisonError::into_inner).insert(found);
    }

    /// Whether a backup may be without the component of that name.
    pub(crate) fn is_optional(&self, name: &str) -> bool {
        self.optional.contains(name)
    }

    /// The components that a backup has nothing for and should have: none of them, and it is a full one.
    /// What its manifest lists counts: a file that is gone makes a backup damaged, not partial.
    /// Database clusters are restored only to a moment, and components that are `optional` may be left out.
    pub fn lacking(&self, backup: &Backup) -> Vec<String> {
        let nothing_live = backup.nothing_live();
        let listed = backup.as_listed();
        let components = self.counted().filter(|component| {
            !nothing_live.contains(&component.name()) && component.artifacts(&listed).is_empty()
        });
        components
            .map(|component| component.name().to_owned())
            .collect()
    }

    /// The components that a full backup has something for.
    fn counted(&self) -> impl Iterator<Item = &SharedComponent> {
        self.components.iter().filter(|component| {
            component.recovery() != Recovery::Cluster && !self.is_optional(component.name())
        })
    }

    pub(crate) fn checks(&self) -> &[Arc<dyn Check>] {
        &self.checks
    }

    pub(crate) fn hooks(&self) -> &[Arc<dyn Hook>] {
        &self.hooks
    }

    pub(crate) fn maintenance(&self) -> Option<&Arc<dyn Maintenance>> {
        self.maintenance.as_ref()
    }

    /// A page that the configuration had when a run put it up, whatever it has now.
    pub(crate) fn page_of(&self, section: Table) -> Result<Arc<dyn Maintenance>> {
        (self.make_page)(section)
    }

    /// The name of the store that safety backups go to; `None` where the site wants none.
    pub(crate) fn safety_store(&self) -> Option<&str> {
        if self.config.site.safety_backup == Some(false) {
            return None;
        }
        let named = self.config.site.safety_store.as_deref();
        let usual = || self.here().or(self.stores.first());
        named.or_else(|| usual().map(|(name, _)| name.as_str()))
    }

    pub(crate) fn jobs(&self) -> usize {
        self.config.site.jobs.unwrap_or(2).max(1)
    }

    pub(crate) fn stop(&self) -> &[String] {
        &self.config.site.stop
    }

    pub(crate) fn background(&self) -> &[String] {
        &self.config.site.background
    }

    pub(crate) fn service_order(&self) -> &ServiceOrder {
        &self.order
    }

    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.state.join("runs")
    }

    pub(crate) fn log_path(&self) -> Option<PathBuf> {
        self.log.clone()
    }

    fn places(&self) -> String {
        let places: Vec<String> = self
            .stores
            .iter()
            .map(|(_, store)| store.describe())
            .collect();
        places.join(", ")
    }

    /// What restoring `backup` would do. Changes nothing; what speaks against it is among the
    /// plan's findings, an error of a component's `inspect` included.
    ///
    /// # Errors
    ///
    /// Where there is no sense in a plan: `Config` with `plan.unknown_service`, where a component
    /// of the plan or the site says that it stops a service that the site does not have;
    /// `plan.unknown_component` and `plan.unknown_path`, where the request names what there is not; a
    /// backup that has nothing for this site, or is not on this host; `Interrupted`.
    pub async fn plan_with(
        &self,
        backup: &Backup,
        request: PlanRequest,
        options: &RunOptions,
    ) -> Result<Plan> {
        self.ensure_plannable(backup).await?;
        Preflight::new(self, backup, request, options).plan().await
    }

    /// As [`plan_with`](Self::plan_with), without what is known only once artifacts are read.
    async fn plan_quickly(
        &self,
        backup: &Backup,
        request: PlanRequest,
        options: &RunOptions,
    ) -> Result<Plan> {
        self.ensure_plannable(backup).await?;
        let preflight = Preflight::new(self, backup, request, options);
        preflight.quick().plan().await
    }

    async fn ensure_plannable(&self, backup: &Backup) -> Result<()> {
        if backup.local_path(Manifest::FILE_NAME).is_none() {
            return Err(not_local(backup));
        }
        self.ensure_own(backup).await
    }

    /// Makes all checks once, at the same time, each with its own deadline.
    pub async fn check(&self, options: &RunOptions) -> Result<Vec<CheckOutcome>> {
        let since = Timestamp::now();
        let made = futures_util::future::join_all(self.checks.iter().map(|check| async move {
            let outcome = check.run(since, RetryMode::Once).await;
            options.events.emit(&Event::Check {
                name: outcome.name.clone(),
                passed: outcome.passed,
                detail: outcome.detail.clone(),
            });
            outcome
        }));
        tokio::select! {
            outcomes = made => Ok(outcomes),
            () = options.cancel.cancelled() => Err(Error::interrupted()),
        }
    }

    /// Makes all checks now, none for longer than [`BASELINE`].
    async fn baseline(&self) -> Vec<CheckOutcome> {
        let since = Timestamp::now();
        futures_util::future::join_all(self.checks.iter().map(|check| async move {
            tokio::time::timeout(BASELINE, check.run(since, RetryMode::Once))
                .await
                .unwrap_or_else(|_| {
                    CheckOutcome::new(
                        check.name(),
                        false,
                        format!("not passed within {} s", BASELINE.as_secs()),
                    )
                })
        }))
        .await
    }
}

/// What is elsewhere is not looked into: that would transfer all of it.
fn not_local(backup: &Backup) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "backup.not_local",
        format!(
            "backup {} is not on this host ({})",
            backup.id(),
            backup.store().describe()
        ),
    )
    .hint(format!(
        "`restore fetch {}` brings it here; `restore run` does so by itself",
        backup.id()
    ))
}
