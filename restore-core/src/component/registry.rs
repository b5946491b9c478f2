//! From `kind = "…"` to a component.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::SharedComponent;
use crate::config::{self, Table};
use crate::error::Result;
use crate::platform::Platform;

/// What a component may need to build itself.
#[derive(Clone)]
#[non_exhaustive]
pub struct Parts {
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

impl Parts {
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

    /// The same with the sections of the site's components.
    #[must_use]
    pub fn with_sections(mut self, sections: BTreeMap<String, Table>) -> Self {
        self.sections = Arc::new(sections);
        self
    }

    /// A path of the configuration, made absolute.
    pub fn path(&self, path: impl AsRef<std::path::Path>) -> PathBuf {
        self.base.join(path)
    }
}

/// Makes a component of one kind from its name and its table (without `kind`).
pub type ComponentFactory =
    Arc<dyn Fn(&str, Table, &Parts) -> Result<SharedComponent> + Send + Sync>;

/// The kinds of components that a site may have: [`Registry::default`] has the library's own, to
/// which [`with`](Self::with) adds one.
///
/// ```
/// use std::path::PathBuf;
/// use std::sync::Arc;
///
/// use restore_core::component::{Component, Parts, Registry, SharedComponent};
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
/// fn make(name: &str, table: Table, parts: &Parts) -> Result<SharedComponent> {
///     let section: Section = parse_section(&format!("components.{name}"), table)?;
///     Ok(Arc::new(Sqlite {
///         name: name.to_owned(),
///         file: parts.path(section.file), // Relative ones are below the configuration's folder.
///         stops: section.stops,
///     }))
/// }
///
/// let registry = Registry::default().with("sqlite", Arc::new(make));
/// let site = Site::open_with("restore.toml".as_ref(), &registry);
/// # assert!(site.is_err());
/// ```
#[derive(Clone)]
pub struct Registry(BTreeMap<String, ComponentFactory>);

impl Registry {
    /// No kinds at all.
    pub fn empty() -> Self {
        Self(BTreeMap::new())
    }

    /// The same with one more kind, or another factory for a known one.
    #[must_use]
    pub fn with(mut self, kind: &str, factory: ComponentFactory) -> Self {
        self.0.insert(kind.to_owned(), factory);
        self
    }

    /// Makes the component `name` from its table.
    pub fn make(&self, name: &str, mut table: Table, parts: &Parts) -> Result<SharedComponent> {
        let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let kind = config::take_kind(&format!("components.{name}"), &mut table, &known)?;
        match self.0.get(&kind) {
            Some(factory) => factory(name, table, parts),
            None => Err(crate::Error::new(
                crate::ErrorKind::Internal,
                "registry.lost",
                format!("the kind {kind} has no factory"),
            )),
        }
    }
}

impl Default for Registry {
    /// The kinds of this library: `postgres`, `postgres_cluster`, `redis`, `volume`, `files`,
    /// `crontab`, `image`.
    fn default() -> Self {
        fn of(make: fn(&str, Table, &Parts) -> Result<SharedComponent>) -> ComponentFactory {
            Arc::new(make)
        }
        Self::empty()
            .with("postgres", of(super::Postgres::from_table))
            .with("postgres_cluster", of(super::Cluster::from_table))
            .with("redis", of(super::Redis::from_table))
            .with("volume", of(super::VolumeComponent::from_table))
            .with("files", of(super::Files::from_table))
            .with("crontab", of(super::Crontab::from_table))
            .with("image", of(super::ImageComponent::from_table))
    }
}
