//! The way in: a site, its backups, its runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backup::{Backup, BackupId, Manifest};
use crate::check::{self, Check, Tries};
use crate::component::{CheckOutcome, Parts, Registry, SharedComponent};
use crate::config::{self, ServiceOrder, SiteConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::finding::Finding;
use crate::maintenance::{self, Maintenance};
use crate::plan::{Plan, PlanRequest, Preflight};
use crate::platform::{self, Platform};
use crate::report::Report;
use crate::run::{
    Action, Execution, Journal, Record, RunId, RunOptions, RunState, SiteLock, report_of,
};
use crate::store::{self, BackupStore, StoreKeys};
use crate::time::Timestamp;

mod backups;
mod fetch;
mod moment;
mod prune;
mod runs;

pub(crate) use backups::{free_id, live_bytes};

/// How long each check may take before a run: it tells only what was so already.
const BASELINE: Duration = Duration::from_secs(3);

/// One configured platform with its components and its stores.
pub struct Site {
    config: SiteConfig,
    order: ServiceOrder,
    state: PathBuf,
    log: Option<PathBuf>,
    platform: Arc<dyn Platform>,
    stores: Vec<(String, Arc<dyn BackupStore>)>,
    /// What else is configured of each store, in the same order.
    keys: Vec<StoreKeys>,
    components: Vec<SharedComponent>,
    checks: Vec<Arc<dyn Check>>,
    maintenance: Option<Arc<dyn Maintenance>>,
}

/// A backup in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListedBackup {
    /// Its id.
    pub id: BackupId,
    /// The name of the store that it is in.
    pub store: String,
}

impl Site {
    /// Opens the site that the `restore.toml` at `path` describes. Reads no password
    /// yet, connects to nothing and writes nothing.
    pub async fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &Registry::default())
    }

    /// The same with kinds of components of the caller's own: `registry` knows them all.
    pub fn open_with(path: &Path, registry: &Registry) -> Result<Self> {
        let config = SiteConfig::read(path)?;
        // A bare file name has an empty parent, which means here.
        let base = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Self::from_config(config, base, registry).map_err(|error| error.context(path.display()))
    }

    /// The same from a configuration at hand; relative paths in it are taken from `base`.
    /// `registry` knows the kinds of components.
    pub fn from_config(config: SiteConfig, base: &Path, registry: &Registry) -> Result<Self> {
        let base = std::path::absolute(base)
            .map_err(|e| Error::io(format!("find the directory {}", base.display()), e))?;
        let state = base.join(&config.site.state);
        let platform = platform::make(&config, &base, &state)?;
        Self::with_platform(config, &base, registry, platform)
    }

    /// The same on a platform of the caller's own making.
    pub fn with_platform(
        config: SiteConfig,
        base: &Path,
        registry: &Registry,
        platform: Arc<dyn Platform>,
    ) -> Result<Self> {
        let order = ServiceOrder::read(&config)?;
        let state = base.join(&config.site.state);
        let sections = config
            .components
            .iter()
            .map(|(name, value)| {
                let table = config::table(&format!("components.{name}"), value)?;
                Ok((name.clone(), table))
            })
            .collect::<Result<_>>()?;
        let parts = Parts::new(platform.clone(), base, state.join("work")).with_sections(sections);
        let mut components = Vec::new();
        for (name, value) in &config.components {
            let table = config::table(&format!("components.{name}"), value)?;
            components.push(registry.make(name, table, &parts)?);
        }
        let mut stores: Vec<(String, Arc<dyn BackupStore>)> = Vec::new();
        let mut keys = Vec::new();
        for (name, value) in &config.stores {
            let made = store::make(name, value, base)?;
            stores.push((name.clone(), made.store));
            keys.push(made.keys);
        }
        if stores.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "config.no_store",
                "the configuration names no store",
            )
            .hint("add [stores.main] with kind = \"directory\" and path = \"…\""));
        }
        if let Some(safety) = &config.site.safety_store
            && !stores.iter().any(|(name, _)| name == safety)
        {
            let known: Vec<&str> = stores.iter().map(|(name, _)| name.as_str()).collect();
            return Err(Error::new(
                ErrorKind::Config,
                "store.unknown",
                format!("[site] safety_store names the store {safety:?}, which there is not"),
            )
            .hint(format!("the site has {}", known.join(", "))));
        }
        let mut checks = Vec::new();
        for (name, value) in &config.checks {
            checks.push(check::make(name, value, &platform, base)?);
        }
        let maintenance = match &config.maintenance {
            Some(table) => Some(maintenance::make(table.clone(), &platform, base)?),
            None => None,
        };
        Ok(Self {
            log: config.site.log.as_ref().map(|log| base.join(log)),
            config,
            order,
            state,
            platform,
            stores,
            keys,
            components,
            checks,
            maintenance,
        })
    }

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

    /// The site's name.
    pub fn name(&self) -> &str {
        &self.config.site.name
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

    pub(crate) fn checks(&self) -> &[Arc<dyn Check>] {
        &self.checks
    }

    pub(crate) fn maintenance(&self) -> Option<&Arc<dyn Maintenance>> {
        self.maintenance.as_ref()
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

    pub(crate) fn runs(&self) -> PathBuf {
        self.state.join("runs")
    }

    pub(crate) fn log_path(&self) -> Option<PathBuf> {
        self.log.clone()
    }

    /// All backups of all stores, oldest first. One that several stores hold is listed for each.
    pub async fn backups(&self) -> Result<Vec<ListedBackup>> {
        let mut backups = Vec::new();
        for (name, store) in &self.stores {
            for id in store.list().await? {
                backups.push(ListedBackup {
                    id,
                    store: name.clone(),
                });
            }
        }
        backups.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(backups)
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
    pub async fn plan(
        &self,
        backup: &Backup,
        request: PlanRequest,
        options: &RunOptions,
    ) -> Result<Plan> {
        if backup.local_path(Manifest::FILE_NAME).is_none() {
            return Err(not_local(backup));
        }
        Preflight::new(self, backup, request, options).plan().await
    }

    /// Makes all checks once, at the same time, each with its own deadline.
    pub async fn check(&self, options: &RunOptions) -> Result<Vec<CheckOutcome>> {
        let since = Timestamp::now();
        let made = futures_util::future::join_all(self.checks.iter().map(|check| async move {
            let outcome = check.run(since, Tries::Once).await;
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
            tokio::time::timeout(BASELINE, check.run(since, Tries::Once))
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
