//! From `kind = "…"` to a component, a platform, a store, a check, a hook, a maintenance mode.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    BackupStore, Check, Hook, Maintenance, Platform, SharedComponent, SiteConfig, Table, config,
};
use crate::model::Result;

/// What a component, a check or a maintenance mode may need to build itself.
#[derive(Clone)]
#[non_exhaustive]
pub struct ComponentDeps {
    /// What runs the services.
    pub platform: Arc<dyn Platform>,
    /// The directory of the configuration file: relative paths are taken from it.
    pub base: PathBuf,
    /// A private directory for small working files, on a local disk: `work` in the site's `state`.
    /// Not made beforehand, shared by all components, and never cleared: whoever puts something
    /// there names it by the component (and the run), and deletes it.
    pub scratch: PathBuf,
    /// The sections of all components of the site, for one that belongs to another.
    pub sections: Arc<BTreeMap<String, Table>>,
}

impl ComponentDeps {
    /// The parts of a site.
    pub fn new(
        platform: Arc<dyn Platform>,
        base: impl Into<PathBuf>,
        scratch: impl Into<PathBuf>,
    ) -> Self {
        Self {
            platform,
            base: base.into(),
            scratch: scratch.into(),
            sections: Arc::default(),
        }
    }

    /// These parts, with the sections of the site's components.
    #[must_use]
    pub fn with_sections(mut self, sections: BTreeMap<String, Table>) -> Self {
        self.sections = Arc::new(sections);
        self
    }

    /// A path of the configuration, made absolute.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.base.join(path)
    }
}

/// Makes a platform of one kind from a site's configuration: its own section is
/// [`SiteConfig::platform`]. Given are also the directory that relative paths are taken from, and a
/// private directory for what it must remember.
pub type PlatformFactory =
    Arc<dyn Fn(&SiteConfig, &Path, &Path) -> Result<Arc<dyn Platform>> + Send + Sync>;

/// Makes a store of one kind from its name, its table (without `kind`, and without the keys that
/// every store has: passphrases and signatures) and the directory that relative paths are taken
/// from.
pub type StoreFactory =
    Arc<dyn Fn(&str, Table, &Path) -> Result<Arc<dyn BackupStore>> + Send + Sync>;

/// Makes a check of one kind from its name and its table (without `kind`).
pub type CheckFactory =
    Arc<dyn Fn(&str, Table, &ComponentDeps) -> Result<Arc<dyn Check>> + Send + Sync>;

/// Makes a hook of one kind from its name and its table (without `kind`).
pub type HookFactory =
    Arc<dyn Fn(&str, Table, &ComponentDeps) -> Result<Arc<dyn Hook>> + Send + Sync>;

/// Makes a maintenance mode of one kind from its table (without `kind`).
pub type MaintenanceFactory =
    Arc<dyn Fn(Table, &ComponentDeps) -> Result<Arc<dyn Maintenance>> + Send + Sync>;

/// Makes a component of one kind from its name and its table (without `kind`).
pub type ComponentFactory =
    Arc<dyn Fn(&str, Table, &ComponentDeps) -> Result<SharedComponent> + Send + Sync>;

/// The kinds of things that a site may have: [`Registry::default`] has the library's own, to which
/// [`with`](Self::with) adds a kind of components, and the others one of platforms, stores, checks,
/// hooks and maintenance modes.
///
/// ```
/// use std::path::{Path, PathBuf};
/// use std::sync::Arc;
///
/// use restore_core::component::{Component, ComponentDeps, Registry, SharedComponent};
/// use restore_core::config::{Table, parse_section};
/// use restore_core::{Result, Site};
///
/// # use async_trait::async_trait;
/// # use restore_core::backup::Backup;
/// # use restore_core::component::{CheckOutcome, Inspection, Staged};
/// # use restore_core::{platform::Discard, run::RunContext};
/// # struct Sqlite { name: String, file: PathBuf, stops: Vec<String> }
/// # #[async_trait]
/// # impl Component for Sqlite {
/// #     fn name(&self) -> &str { &self.name }
/// #     fn kind(&self) -> &'static str { "sqlite" }
/// #     fn stops(&self) -> Vec<String> { self.stops.clone() }
/// #     fn artifacts(&self, _: &Backup) -> Vec<String> { vec![self.file.display().to_string()] }
/// #     async fn inspect(&self, _: &RunContext) -> Result<Inspection> { Ok(Inspection::default()) }
/// #     async fn stage(&self, _: &RunContext) -> Result<Staged> { Ok(Staged::default()) }
/// #     async fn cut_over(&self, _: &RunContext) -> Result<()> { Ok(()) }
/// #     async fn undo(&self, _: &RunContext) -> Result<()> { Ok(()) }
/// #     async fn check(&self, _: &RunContext) -> Result<Vec<CheckOutcome>> { Ok(Vec::new()) }
/// #     async fn discard(&self, _: &RunContext, _: Discard) -> Result<()> { Ok(()) }
/// #     async fn replaced_at(&self, _: &RunContext) -> Result<Option<String>> { Ok(None) }
/// # }
/// /// `[components.NAME]`, without its `kind`. Unknown keys are errors, as everywhere.
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Section {
///     file: PathBuf,
///     /// The services to stop during the swap, as the library's own components call them.
///     #[serde(default)]
///     stops: Vec<String>,
/// }
///
/// fn make(name: &str, table: Table, parts: &ComponentDeps) -> Result<SharedComponent> {
///     let section: Section = parse_section(&format!("components.{name}"), table)?;
///     Ok(Arc::new(Sqlite {
///         name: name.to_owned(),
///         file: parts.path(section.file), // Relative ones are below the configuration's folder.
///         stops: section.stops,
///     }))
/// }
///
/// let registry = Registry::default().with("sqlite", Arc::new(make));
/// let site = Site::open_with("restore.toml", &registry);
/// # assert!(site.is_err());
/// ```
#[derive(Clone)]
pub struct Registry {
    components: BTreeMap<String, ComponentFactory>,
    platforms: BTreeMap<String, PlatformFactory>,
    stores: BTreeMap<String, StoreFactory>,
    checks: BTreeMap<String, CheckFactory>,
    hooks: BTreeMap<String, HookFactory>,
    maintenance: BTreeMap<String, MaintenanceFactory>,
}

impl Registry {
    /// No kinds of components at all. Of all else a site has the library's own in any case.
    pub fn empty() -> Self {
        Self {
            components: BTreeMap::new(),
            platforms: BTreeMap::new(),
            stores: BTreeMap::new(),
            checks: BTreeMap::new(),
            hooks: BTreeMap::new(),
            maintenance: BTreeMap::new(),
        }
    }

    /// This registry with one more kind of components, or another factory for a known one.
    #[must_use]
    pub fn with(mut self, kind: &str, factory: ComponentFactory) -> Self {
        self.components.insert(kind.to_owned(), factory);
        self
    }

    /// This registry with one more kind of platforms, `[platform] kind = "…"`, or another factory for one
    /// of the library's.
    #[must_use]
    pub fn with_platform(mut self, kind: &str, factory: PlatformFactory) -> Self {
        self.platforms.insert(kind.to_owned(), factory);
        self
    }

    /// This registry with one more kind of stores, `[stores.NAME] kind = "…"`, or another factory for one of
    /// the library's.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use restore_core::component::Registry;
    /// use restore_core::config::parse_section;
    /// use restore_core::store::{BackupStore, DirectoryStore};
    ///
    /// /// A directory that is found by the name of a host.
    /// #[derive(serde::Deserialize)]
    /// #[serde(deny_unknown_fields)]
    /// struct Section {
    ///     of: String,
    /// }
    ///
    /// let registry = Registry::default().with_store(
    ///     "of-host",
    ///     Arc::new(|name, table, base| {
    ///         let section: Section = parse_section(&format!("stores.{name}"), table)?;
    ///         let store: Arc<dyn BackupStore> = Arc::new(DirectoryStore::new(base.join(section.of)));
    ///         Ok(store)
    ///     }),
    /// );
    /// # let toml = "[site]\nname = \"shop\"\nstate = \"state\"\n[components]\n[stores.main]\nkind = \"of-host\"\nof = \"db1\"\n";
    /// # let config = restore_core::config::SiteConfig::from_toml(toml).unwrap();
    /// # let site = restore_core::Site::from_config(config, "/srv".as_ref(), &registry).unwrap();
    /// # assert_eq!(site.stores()[0].1.directory(), Some("/srv/db1".as_ref()));
    /// ```
    #[must_use]
    pub fn with_store(mut self, kind: &str, factory: StoreFactory) -> Self {
        self.stores.insert(kind.to_owned(), factory);
        self
    }

    /// This registry with one more kind of checks, `[checks.NAME] kind = "…"`, or another factory for one of
    /// the library's.
    #[must_use]
    pub fn with_check(mut self, kind: &str, factory: CheckFactory) -> Self {
        self.checks.insert(kind.to_owned(), factory);
        self
    }

    /// This registry with one more kind of hooks, `[hooks.NAME] kind = "…"`, or another factory for one of the
    /// library's.
    #[must_use]
    pub fn with_hook(mut self, kind: &str, factory: HookFactory) -> Self {
        self.hooks.insert(kind.to_owned(), factory);
        self
    }

    /// This registry with one more kind of maintenance modes, `[maintenance] kind = "…"`, or another factory
    /// for one of the library's.
    #[must_use]
    pub fn with_maintenance(mut self, kind: &str, factory: MaintenanceFactory) -> Self {
        self.maintenance.insert(kind.to_owned(), factory);
        self
    }

    /// Whether it has this kind of components.
    pub fn contains(&self, kind: &str) -> bool {
        self.components.contains_key(kind)
    }

    /// Makes the component `name` from its table.
    pub fn make(
        &self,
        name: &str,
        mut table: Table,
        parts: &ComponentDeps,
    ) -> Result<SharedComponent> {
        let known: Vec<&str> = self.components.keys().map(String::as_str).collect();
        let kind = config::take_kind(&format!("components.{name}"), &mut table, &known)?;
        match self.components.get(&kind) {
            Some(factory) => factory(name, table, parts),
            None => Err(crate::model::Error::new(
                crate::model::ErrorKind::Internal,
                "registry.lost",
                format!("the kind {kind} has no factory"),
            )),
        }
    }

    pub(crate) fn platforms(&self) -> &BTreeMap<String, PlatformFactory> {
        &self.platforms
    }

    pub(crate) fn stores(&self) -> &BTreeMap<String, StoreFactory> {
        &self.stores
    }

    pub(crate) fn checks(&self) -> &BTreeMap<String, CheckFactory> {
        &self.checks
    }

    pub(crate) fn hooks(&self) -> &BTreeMap<String, HookFactory> {
        &self.hooks
    }

    pub(crate) fn maintenance(&self) -> &BTreeMap<String, MaintenanceFactory> {
        &self.maintenance
    }
}

/// Takes the kind out of a table: one of the library's, or of those that were added.
pub(crate) fn take_known_kind<F>(
    path: &str,
    table: &mut Table,
    own: &[&str],
    added: &BTreeMap<String, F>,
) -> Result<String> {
    let added = added.keys().map(String::as_str);
    let mut known: Vec<&str> = own.iter().copied().chain(added).collect();
    known.sort_unstable();
    known.dedup();
    config::take_kind(path, table, &known)
}
