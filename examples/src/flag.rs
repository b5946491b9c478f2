//! A maintenance mode of one's own, for a web server that shows a page while a file of that name is there.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use restore_core::component::ComponentDeps;
use restore_core::config::{Table, parse_section};
use restore_core::maintenance::Maintenance;
use restore_core::{Error, Finding, Result, RunId, Timestamp};
use serde::Deserialize;

/// `[maintenance]` with `kind = "flag"` and `file = "/srv/www/maintenance.html"`.
pub struct Flag {
    file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    file: PathBuf,
}

impl Flag {
    /// As written in the configuration.
    pub const KIND: &'static str = "flag";

    /// Makes one from its section.
    pub fn from_table(table: Table, parts: &ComponentDeps) -> Result<Arc<dyn Maintenance>> {
        let section: Section = parse_section("maintenance", table)?;
        Ok(Arc::new(Self {
            file: parts.path(section.file),
        }))
    }
}

#[async_trait]
impl Maintenance for Flag {
    async fn inspect(&self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    /// A real one asks the web server as a user would, and returns once it gets the page.
    async fn on(&self, _run: &RunId, since: Timestamp) -> Result<()> {
        let page = format!("<p>Back soon (since {since}).</p>\n");
        tokio::fs::write(&self.file, page)
            .await
            .map_err(|e| Error::io(format!("write {}", self.file.display()), e))
    }

    async fn off(&self, _run: &RunId) -> Result<()> {
        match tokio::fs::remove_file(&self.file).await {
            // Done already.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|e| Error::io(format!("delete {}", self.file.display()), e)),
        }
    }
}
