//! From `restore.toml` to a site.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::contract::config::{ConfigFault, ServiceOrder};
use crate::contract::{BackupStore, ComponentDeps, Platform, Registry, SiteConfig, config};
use crate::engine::operations::{MakePage, Site};
use crate::model::{Error, ErrorKind, Result};
use crate::stores::directory::DirectoryStore;
use crate::{checks, hooks, maintenance, platforms, stores};

impl Site {
    /// Opens the site that the `restore.toml` at `path` describes. Reads no password
    /// yet, connects to nothing and writes nothing.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Registry::default())
    }

    /// As [`open`](Self::open), with kinds of components, platforms, stores, checks, hooks or maintenance modes of
    /// the caller's own, which `registry` knows.
    pub fn open_with(path: impl AsRef<Path>, registry: &Registry) -> Result<Self> {
        let path = path.as_ref();
        let config = SiteConfig::read(path)?;
        // A bare file name has an empty parent, which means here.
        let base = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut site = Self::from_config(config, base, registry)
            .map_err(|error| error.context(path.display()))?;
        site.file = std::path::absolute(path).ok();
        Ok(site)
    }

    /// As [`open_with`](Self::open_with), from a configuration at hand; relative paths in it are taken from `base`.
    /// `registry` knows the kinds of what a site has.
    pub fn from_config(config: SiteConfig, base: &Path, registry: &Registry) -> Result<Self> {
        let base = std::path::absolute(base)
            .map_err(|e| Error::io(format!("find the directory {}", base.display()), e))?;
        let state = base.join(&config.site.state);
        let platform = platforms::kinds::make(&config, registry, &base, &state)?;
        Self::with_platform(config, &base, registry, platform)
    }

    /// As [`from_config`](Self::from_config), on a platform of the caller's own making.
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
        let parts =
            ComponentDeps::new(platform.clone(), base, state.join("work")).with_sections(sections);
        let mut components = Vec::new();
        let mut optional = BTreeSet::new();
        for (name, value) in &config.components {
            let place = format!("components.{name}");
            let mut table = config::table(&place, value)?;
            if take_optional(&place, &mut table)? {
                optional.insert(name.clone());
            }
            components.push(registry.make(name, table, &parts)?);
        }
        let mut stores: Vec<(String, Arc<dyn BackupStore>)> = Vec::new();
        let mut keys = Vec::new();
        for (name, value) in &config.stores {
            let made = stores::config::make(name, value, registry, base)?;
            stores.push((name.clone(), made.store));
            keys.push(made.keys);
        }
        if stores.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "config.no_store",
                "the configuration names no store",
            )
            .because(ConfigFault::NoStore)
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
            checks.push(checks::kinds::make_registered(
                name, value, registry, &parts,
            )?);
        }
        let mut made_hooks = Vec::new();
        for (name, value) in &config.hooks {
            made_hooks.push(hooks::kinds::make(name, value, registry, &parts)?);
        }
        let maintenance = match &config.maintenance {
            Some(table) => Some(maintenance::kinds::make_registered(
                table.clone(),
                registry,
                &parts,
            )?),
            None => None,
        };
        let (kinds, of_pages) = (registry.clone(), parts.clone());
        let make_page: MakePage =
            Arc::new(move |table| maintenance::kinds::make_registered(table, &kinds, &of_pages));
        let guards = crate::components::redis::unlisted(&config, &platform, base);
        Ok(Self {
            log: config.site.log.as_ref().map(|log| base.join(log)),
            config,
            order,
            file: None,
            base: std::path::absolute(base).unwrap_or_else(|_| base.to_owned()),
            optional,
            state,
            platform,
            stores,
            keys,
            open_directory: |path| Arc::new(DirectoryStore::new(path)),
            components,
            checks,
            hooks: made_hooks,
            maintenance,
            make_page,
            guards,
            not_started: Default::default(),
            found_paths: Default::default(),
        })
    }
}

/// Takes the key that every component has out of its section: whether a backup may be without it.
pub(super) fn take_optional(place: &str, table: &mut config::Table) -> Result<bool> {
    match table.remove("optional") {
        None => Ok(false),
        Some(serde_json::Value::Bool(optional)) => Ok(optional),
        Some(other) => Err(Error::new(
            ErrorKind::Config,
            "config.bad_value",
            format!("[{place}] optional = {other} is neither true nor false"),
        )
        .hint("optional = true lets a backup be without this component")),
    }
}
