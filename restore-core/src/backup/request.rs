//! What to back up, to where, and how.

use crate::archive::Compression;
use crate::model::Result;
use crate::model::error::nothing_selected;

/// What to back up, to where, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupRequest {
    /// Only these components; empty: all that the site has. Not public: an empty one of a caller's would
    /// be everything.
    pub(crate) only: Vec<String>,
    /// The name of the store to write to; `None`: the first on this host.
    pub to: Option<String>,
    /// How archives are compressed.
    pub compression: Compression,
    /// Also make base backups of database clusters, from which they can be recovered to any point
    /// in time.
    pub base: bool,
    /// Somebody chose among the components, and nothing was left.
    nothing: bool,
}

impl BackupRequest {
    /// Everything, to the site's first store, compressed by gzip.
    pub fn all() -> Self {
        Self::default()
    }

    /// The same request for these components only. With an empty selection nothing is backed up
    /// (`plan.nothing_selected`).
    #[must_use]
    pub fn only(mut self, components: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let components = components.into_iter();
        self.only = components.map(|name| name.as_ref().to_owned()).collect();
        self.nothing = self.only.is_empty();
        self
    }

    /// The components that were chosen; empty: nobody chose among them.
    pub fn selected_components(&self) -> &[String] {
        &self.only
    }

    /// Refuses an empty selection.
    pub(crate) fn ensure_something(&self) -> Result<()> {
        match self.nothing {
            true => Err(nothing_selected()),
            false => Ok(()),
        }
    }

    /// The same request to another store.
    #[must_use]
    pub fn to(mut self, store: impl Into<String>) -> Self {
        self.to = Some(store.into());
        self
    }

    /// The same request; base backups of database clusters are made too.
    #[must_use]
    pub fn base(mut self, base: bool) -> Self {
        self.base = base;
        self
    }

    /// The same request with another compression.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }
}
