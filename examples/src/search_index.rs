//! A component of one's own: a search index, which is one file that a service reads.
//!
//! ```toml
//! [components.search]
//! kind = "search-index"
//! file = "/srv/app/search.idx"
//! stops = ["app"]
//! ```
//!
//! Staged as a file beside the live one, swapped by renames, undone by the same renames. Each
//! method looks at what is there before it acts, so that each can be called again after a crash.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use restore_core::backup::{Backup, BackupWriter};
use restore_core::component::{
    BackedUp, CheckOutcome, Component, ComponentDeps, Inspection, SharedComponent, Staged,
};
use restore_core::config::{Table, parse_section};
use restore_core::platform::Discard;
use restore_core::run::RunContext;
use restore_core::stream::copy_verified;
use restore_core::{Error, ErrorKind, Finding, Result};
use serde::Deserialize;

/// The first line of every index.
const MAGIC: &str = "search-index 1";
/// Whether there was an index before: once it is renamed, nothing else would tell.
const EXISTED: &str = "existed";
/// How many documents were staged: what `check` compares with.
const DOCUMENTS: &str = "documents";
/// What a backup has of it.
const ARTIFACT: &str = "search/search-{id}.idx.gz";

/// The search index of a site.
pub struct SearchIndex {
    name: String,
    file: PathBuf,
    stops: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    file: PathBuf,
    #[serde(default)]
    stops: Vec<String>,
}

impl SearchIndex {
    /// The kind, as the configuration names it.
    pub const KIND: &'static str = "search-index";

    /// A factory for [`Registry::with`](restore_core::component::Registry::with).
    pub fn from_table(name: &str, table: Table, parts: &ComponentDeps) -> Result<SharedComponent> {
        let section: Section = parse_section(&format!("components.{name}"), table)?;
        Ok(Arc::new(Self {
            name: name.to_owned(),
            file: parts.path(section.file),
            stops: section.stops,
        }))
    }

    fn beside(&self, cx: &RunContext, what: &str) -> PathBuf {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        self.file
            .with_file_name(format!(".{name}.{what}-{}", cx.run()))
    }

    fn staged(&self, cx: &RunContext) -> PathBuf {
        self.beside(cx, "staged")
    }

    fn replaced(&self, cx: &RunContext) -> PathBuf {
        self.beside(cx, "replaced")
    }

    /// Renames are durable once their folder is.
    async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let what = || format!("rename {} to {}", from.display(), to.display());
        tokio::fs::rename(from, to)
            .await
            .map_err(|e| Error::io(what(), e))?;
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let folder = tokio::fs::File::open(folder).await;
        let synced = match folder {
            Ok(folder) => folder.sync_all().await,
            Err(e) => Err(e),
        };
        synced.map_err(|e| Error::io(what(), e))
    }
}

async fn exists(path: &Path) -> Result<bool> {
    let found = tokio::fs::try_exists(path).await;
    found.map_err(|e| Error::io(format!("look at {}", path.display()), e))
}

async fn remove(path: &Path) -> Result<()> {
    match tokio::fs::remove_file(path).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("delete {}", path.display()), e))
        }
        _ => Ok(()),
    }
}

/// How many documents an index has.
async fn documents(path: &Path) -> Result<usize> {
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|e| Error::io(format!("read {}", path.display()), e))?;
    let mut lines = text.lines();
    if lines.next() != Some(MAGIC) {
        return Err(Error::new(
            ErrorKind::Verification,
            "search.not_an_index",
            format!("{} is not a search index", path.display()),
        ));
    }
    Ok(lines.count())
}

#[async_trait]
impl Component for SearchIndex {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn stops(&self) -> Vec<String> {
        self.stops.clone()
    }

    fn artifacts(&self, backup: &Backup) -> Vec<String> {
        backup.find(&[ARTIFACT.to_owned()])
    }

    async fn back_up(&self, writer: &BackupWriter) -> Result<BackedUp> {
        // Whoever writes an index renames a whole one into place: what is opened stays as it is.
        let mut done = BackedUp::default();
        if !exists(&self.file).await? {
            done.findings.push(Finding::info(
                "search.none",
                &self.name,
                format!(
                    "{} does not exist: there is nothing to back up",
                    self.file.display()
                ),
            ));
            return Ok(done);
        }
        let count = documents(&self.file).await?;
        done.facts.insert("documents".to_owned(), count.into());
        let artifact = writer.name(&[ARTIFACT.to_owned()])?;
        writer.copy(&self.file, &artifact).await?;
        Ok(done)
    }

    async fn inspect(&self, cx: &RunContext) -> Result<Inspection> {
        let mut inspection = Inspection::default();
        inspection.artifacts = self.artifacts(cx.backup());
        inspection.summary = format!("the search index {}", self.file.display());
        inspection.staged_at = self.staged(cx).display().to_string();
        match inspection.artifacts.first() {
            None => inspection.findings.push(Finding::error(
                "search.no_artifact",
                &self.name,
                format!("backup {} has no search index", cx.backup().id()),
            )),
            Some(path) => {
                inspection.read_bytes = cx.backup().file(path).map_or(0, |file| file.size);
            }
        }
        Ok(inspection)
    }

    async fn stage(&self, cx: &RunContext) -> Result<Staged> {
        cx.check_cancelled()?;
        let staged = self.staged(cx);
        remove(&staged).await?;
        let artifacts = self.artifacts(cx.backup());
        let path = artifacts.first().map(String::as_str).unwrap_or_default();
        // Stops when the run is cancelled, and knows the hash that the manifest gives.
        let source = cx.source(path)?;
        let progress = cx.progress("copy", source.size());
        let (bytes, _) = copy_verified(source, &staged, 0o644, None, progress).await?;
        let mut found = Staged::default();
        found.bytes = bytes;
        let count = documents(&staged).await?;
        cx.record(DOCUMENTS, count).await?;
        found.facts.insert("documents".to_owned(), count.into());
        Ok(found)
    }

    async fn cut_over(&self, cx: &RunContext) -> Result<()> {
        let (staged, replaced) = (self.staged(cx), self.replaced(cx));
        if !exists(&staged).await? {
            return Ok(()); // Done already.
        }
        let existed = exists(&self.file).await?;
        cx.record(EXISTED, existed).await?;
        if existed && !exists(&replaced).await? {
            self.rename(&self.file, &replaced).await?;
        }
        self.rename(&staged, &self.file).await
    }

    async fn undo(&self, cx: &RunContext) -> Result<()> {
        let (staged, replaced) = (self.staged(cx), self.replaced(cx));
        let Some(existed) = cx.recall(EXISTED) else {
            return Ok(()); // Nothing was cut over.
        };
        if existed == true && !exists(&replaced).await? {
            return Ok(()); // Undone already, or the first rename was never made.
        }
        if exists(&self.file).await? && !exists(&staged).await? {
            self.rename(&self.file, &staged).await?;
        }
        if existed == true {
            self.rename(&replaced, &self.file).await?;
        }
        Ok(())
    }

    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        let live = documents(&self.file).await?;
        let swapped = !exists(&self.staged(cx)).await?;
        let staged = cx.recall(DOCUMENTS).and_then(|count| count.as_u64());
        let same = staged == u64::try_from(live).ok();
        Ok(vec![CheckOutcome::new(
            format!("{}/documents", self.name),
            swapped && same,
            format!("{live} documents, {} were staged", staged.unwrap_or(0)),
        )])
    }

    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
        match what {
            Discard::Staged => remove(&self.staged(cx)).await,
            Discard::Replaced => remove(&self.replaced(cx)).await,
            // Better than to delete what nobody named.
            other => Err(Error::new(
                ErrorKind::Internal,
                "search.discard",
                format!("{} does not know how to discard {other:?}", self.name),
            )),
        }
    }

    async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
        let (staged, replaced) = (self.staged(cx), self.replaced(cx));
        if exists(&replaced).await? {
            return Ok(Some(replaced.display().to_string()));
        }
        // After an undo, the restored index is where it was staged.
        let put_aside = exists(&staged).await?;
        Ok(put_aside.then(|| staged.display().to_string()))
    }
}
