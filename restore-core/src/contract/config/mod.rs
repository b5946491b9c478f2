//! `restore.toml`: what a site is made of, written down once.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::model::{Error, ErrorKind, Result};
use crate::sys::trust;
use crate::sys::trust::Trust;

mod duration;
mod lines;
mod order;
mod secret;
mod section;

pub use duration::ConfigDuration;
pub(crate) use lines::Lines;
pub(crate) use order::ServiceOrder;
pub use secret::{SecretSource, forget_secret, keep_secret};
pub use section::parse_section;
pub(crate) use section::suggestion;

/// What is wrong with a configuration: the [reason](Error::because) of an error after which a look at all of
/// it goes on in a way of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigFault {
    /// A service comes after one that is not named before it.
    ServiceOrder,
    /// There is no store.
    NoStore,
}

/// A table of the configuration whose keys the thing that it configures knows.
pub type Table = Map<String, Value>;

/// The configuration of a site, read but not yet built: see [`Site::from_config`](crate::Site::from_config).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SiteConfig {
    /// The site itself.
    pub site: SiteSection,
    /// Where backups are, by name.
    pub stores: Map<String, Value>,
    /// What runs the services.
    #[serde(default)]
    pub platform: Table,
    /// How engines of other nodes of a swarm are reached, by the nodes' names.
    #[serde(default)]
    pub nodes: Map<String, Value>,
    /// The services, by their exact names, in the order of starting; they stop in reverse.
    #[serde(default)]
    pub services: Map<String, Value>,
    /// The volumes, by their exact names.
    #[serde(default)]
    pub volumes: Map<String, Value>,
    /// The components, by name, in the order of their cut-overs.
    pub components: Map<String, Value>,
    /// The checks, by name.
    #[serde(default)]
    pub checks: Map<String, Value>,
    /// What is done, or told, at moments of runs, drills and backups, by name.
    #[serde(default)]
    pub hooks: Map<String, Value>,
    /// How users are turned away while the data is swapped.
    #[serde(default)]
    pub maintenance: Option<Table>,
}

/// `[site]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SiteSection {
    /// The site's name, for people.
    pub name: String,
    /// The directory for journals, reports and the lock. On a disk that survives the restore.
    pub state: PathBuf,
    /// A file to which each report is appended as text.
    #[serde(default)]
    pub log: Option<PathBuf>,
    /// How many components are staged at the same time; 2 where not given.
    #[serde(default)]
    pub jobs: Option<usize>,
    /// Services to stop during the cut-over besides those that the components name (workers,
    /// other writers). A run that stops nothing else does not stop them either.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Services that users do not see (monitoring). What stops only these is swapped before users
    /// are turned away.
    #[serde(default)]
    pub background: Vec<String>,
    /// Whether each run first backs up what it will replace; it does where not given.
    #[serde(default)]
    pub safety_backup: Option<bool>,
    /// The store that these backups go to; the first on this host where not given.
    #[serde(default)]
    pub safety_store: Option<String>,
}

impl SiteConfig {
    /// Reads the file. Relative paths in it are taken from the directory of the file by whoever
    /// uses them; `Site::open` does so.
    ///
    /// What it says is done, commands included: it, and each folder on the way to it, must belong
    /// to root or to the user who runs this, and others must not be able to write to them;
    /// otherwise an error with the code `config.not_trusted` says what to change.
    pub fn read(path: &Path) -> Result<Self> {
        let text = trust::read(path, "the configuration", Trust::Obeyed)?.map_err(|e| {
            Error::new(
                ErrorKind::Config,
                "config.unreadable",
                format!("cannot read the configuration {}: {e}", path.display()),
            )
            .hint("name it with --config FILE or in RESTORE_CONFIG")
            .source(e)
        })?;
        Self::from_toml(&text).map_err(|e| e.context(path.display()))
    }

    /// Reads the text of a `restore.toml`.
    pub fn from_toml(text: &str) -> Result<Self> {
        let value: Value = toml::from_str(text).map_err(|e| {
            let before = e.span().and_then(|span| text.get(..span.start));
            let line = before.map_or_else(String::new, |before| {
                format!("line {}: ", before.matches('\n').count() + 1)
            });
            let message = format!("{line}not TOML: {}", e.message());
            Error::new(ErrorKind::Config, "config.syntax", message).source(e)
        })?;
        Self::from_value(value)
    }

    /// Reads a value of the same shape as a `restore.toml`, for programs that keep their configuration
    /// elsewhere.
    pub fn from_value(value: Value) -> Result<Self> {
        let Value::Object(table) = value else {
            return Err(Error::new(
                ErrorKind::Config,
                "config.shape",
                "not a table of sections",
            ));
        };
        if let Some(site) = table.get("site") {
            // By itself first: an error in it then says where it is.
            section_of::<SiteSection>("site", site)?;
        }
        parse_section("", table)
    }
}

/// A sub-table of the configuration, with an error that names it when it is none.
pub(crate) fn table(path: &str, value: &Value) -> Result<Table> {
    match value {
        Value::Object(table) => Ok(table.clone()),
        _ => Err(Error::new(
            ErrorKind::Config,
            "config.shape",
            format!("[{path}] must be a table"),
        )),
    }
}

/// Takes the `kind` key out of a table; the error names the known kinds.
pub(crate) fn take_kind(path: &str, table: &mut Table, known: &[&str]) -> Result<String> {
    match table.remove("kind") {
        Some(Value::String(kind)) if known.contains(&kind.as_str()) => Ok(kind),
        Some(Value::String(kind)) => Err(Error::new(
            ErrorKind::Config,
            "config.unknown_kind",
            format!("[{path}] has the unknown kind {kind:?}"),
        )
        .hint(section::suggestion(&kind, known))),
        _ => Err(Error::new(
            ErrorKind::Config,
            "config.missing_key",
            format!("[{path}] needs kind = \"…\""),
        )
        .hint(format!("one of {}", known.join(", ")))),
    }
}

/// Reads a section into `T`; a convenience for [`parse_section`] on a borrowed value.
pub(crate) fn section_of<T: DeserializeOwned>(path: &str, value: &Value) -> Result<T> {
    parse_section(path, table(path, value)?)
}
