//! Whether a store, a component, a volume or a platform of one's own keeps its trait's contract.
//!
//! The traits say what the engine relies on: that a method may be called twice, that a new process
//! finishes what a killed one began, that nothing live changes before the cut-over. The suites here
//! try it, from a test of the embedder's, on whatever the embedder makes:
//!
//! | for | suite | what it is given |
//! |---|---|---|
//! | [`BackupStore`](crate::store::BackupStore) | [`store`] | [`StoreUnderTest`] |
//! | [`Component`](crate::component::Component) | [`component`] | [`ComponentUnderTest`] |
//! | [`Volume`](crate::platform::Volume) | [`volume`] | [`VolumeUnderTest`] |
//! | [`Platform`](crate::platform::Platform) | [`platform`] | [`PlatformUnderTest`] |
//!
//! Each is an async function that ends with the first [`Broken`] clause. The library's own stores,
//! components and platforms run the same suites. A suite makes what it tests anew for each clause,
//! as a new process would. A crash is a future that is dropped in its middle, at each of its steps,
//! in a runtime of its own whose threads end with it. A step is what lies between two `await`s:
//! await each effect (`tokio::fs` instead of `std::fs`), or the suite cannot crash between two.
//!
//! They are tests of some seconds, need a tokio runtime of either flavour, and no site: a component
//! is made as its own constructor makes it. [`backup`] writes what it is to restore.
//!
//! # A component, whole, and its test
//!
//! One file, which some service reads, swapped by renames. Its crate needs, besides this one,
//! `async-trait`, `serde` with `derive`, and `tokio` with `fs`; this feature only for its tests:
//!
//! ```toml
//! [dependencies]
//! restore-core = "0.1"
//! [dev-dependencies]
//! restore-core = { version = "0.1", features = ["conformance"] }
//! ```
//!
//! ```
//! use std::path::{Path, PathBuf};
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use restore_core::backup::{Backup, BackupWriter};
//! use restore_core::component::{
//!     BackedUp, CheckOutcome, Component, Inspection, ComponentDeps, SharedComponent, SpaceNeed, Staged,
//! };
//! use restore_core::config::{Table, parse_section};
//! use restore_core::conformance::{self, ComponentUnderTest};
//! use restore_core::platform::{Discard, Space};
//! use restore_core::run::RunContext;
//! use restore_core::stream::{self, Digest, Source};
//! use restore_core::{Error, ErrorKind, Finding, Progress, Result};
//! use tokio::fs;
//!
//! /// What a backup has of it. Not compressed: its hash is that of the file.
//! const ARTIFACT: &str = "mine/mine-{id}.txt";
//! /// Facts: whether there was a file before; the hash of what was staged.
//! const EXISTED: &str = "existed";
//! const DIGEST: &str = "digest";
//!
//! struct OneFile {
//!     name: String,
//!     file: PathBuf,
//!     stops: Vec<String>,
//! }
//!
//! /// `[components.NAME]`
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Section {
//!     file: PathBuf,
//!     #[serde(default)]
//!     stops: Vec<String>,
//! }
//!
//! impl OneFile {
//!     /// The factory: `Registry::default().with("one-file", Arc::new(OneFile::from_table))`, for
//!     /// `Site::open_with`.
//!     fn from_table(name: &str, table: Table, parts: &ComponentDeps) -> Result<SharedComponent> {
//!         let section: Section = parse_section(&format!("components.{name}"), table)?;
//!         Ok(Arc::new(Self {
//!             name: name.to_owned(),
//!             file: parts.path(section.file),
//!             stops: section.stops,
//!         }))
//!     }
//!
//!     /// Beside the live file, so that a rename is a rename; with the run's id, so that runs do not
//!     /// meet and another process finds them.
//!     fn beside(&self, cx: &RunContext, what: &str) -> PathBuf {
//!         let name = self.file.file_name().unwrap_or_default().to_string_lossy();
//!         self.file.with_file_name(format!(".{name}.{what}-{}", cx.run()))
//!     }
//!
//!     fn folder(&self) -> &Path {
//!         self.file.parent().unwrap_or(Path::new("/"))
//!     }
//!
//!     /// Durable once the folder is.
//!     async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
//!         let renamed = async {
//!             fs::rename(from, to).await?;
//!             fs::File::open(self.folder()).await?.sync_all().await
//!         };
//!         let what = || format!("rename {} to {}", from.display(), to.display());
//!         renamed.await.map_err(|e| Error::io(what(), e))
//!     }
//! }
//!
//! async fn exists(path: &Path) -> Result<bool> {
//!     let found = fs::try_exists(path).await;
//!     found.map_err(|e| Error::io(format!("look at {}", path.display()), e))
//! }
//!
//! async fn remove(path: &Path) -> Result<()> {
//!     match fs::remove_file(path).await {
//!         Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
//!             Err(Error::io(format!("delete {}", path.display()), e))
//!         }
//!         _ => Ok(()), // Gone, now or before.
//!     }
//! }
//!
//! #[async_trait]
//! impl Component for OneFile {
//!     fn name(&self) -> &str {
//!         &self.name
//!     }
//!
//!     fn kind(&self) -> &'static str {
//!         "one-file"
//!     }
//!
//!     fn stops(&self) -> Vec<String> {
//!         self.stops.clone() // Whoever keeps the file open, or writes to it.
//!     }
//!
//!     fn artifacts(&self, backup: &Backup) -> Vec<String> {
//!         backup.find(&[ARTIFACT.to_owned()])
//!     }
//!
//!     async fn back_up(&self, writer: &BackupWriter) -> Result<BackedUp> {
//!         let mut done = BackedUp::default();
//!         if !exists(&self.file).await? {
//!             done.findings.push(Finding::info(
//!                 "mine.none",
//!                 self.name(),
//!                 format!("{} does not exist: there is nothing to back up", self.file.display()),
//!             ));
//!             return Ok(done);
//!         }
//!         // Whoever changes this file renames a whole one into place. A file that is written to
//!         // would need a snapshot first.
//!         let artifact = writer.name(&[ARTIFACT.to_owned()])?;
//!         writer.copy(&self.file, &artifact).await?;
//!         Ok(done)
//!     }
//!
//!     async fn inspect(&self, cx: &RunContext) -> Result<Inspection> {
//!         let mut found = Inspection::default();
//!         found.artifacts = self.artifacts(cx.backup());
//!         found.summary = format!("the file {}", self.file.display());
//!         found.staged_at = self.beside(cx, "staged").display().to_string();
//!         let Some(file) = found.artifacts.first().and_then(|path| cx.backup().file(path)) else {
//!             let message = format!("backup {} has no mine/mine-*.txt", cx.backup().id());
//!             let finding = Finding::error("mine.no_artifact", self.name(), message);
//!             found.findings.push(finding);
//!             return Ok(found);
//!         };
//!         found.read_bytes = file.size;
//!         let space = Space::of(self.folder())?;
//!         found.needs.push(SpaceNeed { space, bytes: file.size, inodes: 1 });
//!         Ok(found)
//!     }
//!
//!     async fn stage(&self, cx: &RunContext) -> Result<Staged> {
//!         let staged = self.beside(cx, "staged");
//!         remove(&staged).await?; // An earlier attempt's.
//!         let artifacts = self.artifacts(cx.backup());
//!         let path = artifacts.first().map(String::as_str).unwrap_or_default();
//!         // Compared with the manifest's hash in the same pass, and stopped with the run.
//!         let source = cx.source(path)?;
//!         let progress = cx.progress("copy", source.size());
//!         let (bytes, digest) = stream::copy_verified(source, &staged, 0o644, None, progress).await?;
//!         cx.record(DIGEST, digest.to_string()).await?; // For `check`.
//!         let mut done = Staged::default();
//!         done.bytes = bytes;
//!         Ok(done)
//!     }
//!
//!     async fn cut_over(&self, cx: &RunContext) -> Result<()> {
//!         let (staged, replaced) = (self.beside(cx, "staged"), self.beside(cx, "replaced"));
//!         if !exists(&staged).await? {
//!             return Ok(()); // Done already.
//!         }
//!         let existed = exists(&self.file).await?;
//!         cx.record(EXISTED, existed).await?; // The first rename destroys this fact.
//!         if existed && !exists(&replaced).await? {
//!             self.rename(&self.file, &replaced).await?;
//!         }
//!         self.rename(&staged, &self.file).await
//!     }
//!
//!     async fn undo(&self, cx: &RunContext) -> Result<()> {
//!         let (staged, replaced) = (self.beside(cx, "staged"), self.beside(cx, "replaced"));
//!         let Some(existed) = cx.recall(EXISTED) else {
//!             return Ok(()); // Nothing was cut over.
//!         };
//!         if existed == true && !exists(&replaced).await? {
//!             return Ok(()); // Undone already, or the first rename was never made.
//!         }
//!         if exists(&self.file).await? && !exists(&staged).await? {
//!             self.rename(&self.file, &staged).await?;
//!         }
//!         if existed == true {
//!             self.rename(&replaced, &self.file).await?;
//!         }
//!         Ok(())
//!     }
//!
//!     async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
//!         let live = Source::new(&self.file, self.file.to_string_lossy(), None, None);
//!         let live = live.cancelled_by(cx.cancelled().clone());
//!         let live: Digest = stream::hash_file(&live, Progress::hidden()).await?;
//!         let same = cx.recall(DIGEST).is_some_and(|staged| staged == live.to_string());
//!         let detail = match same {
//!             true => "the restored content is live",
//!             false => "what is live is not what was staged",
//!         };
//!         Ok(vec![CheckOutcome::new(format!("{}/content", self.name), same, detail)])
//!     }
//!
//!     async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
//!         match what {
//!             Discard::Staged => remove(&self.beside(cx, "staged")).await,
//!             Discard::Replaced => remove(&self.beside(cx, "replaced")).await,
//!             // Better than to delete what nobody named.
//!             other => Err(Error::new(
//!                 ErrorKind::Internal,
//!                 "mine.discard",
//!                 format!("{} does not know how to discard {other:?}", self.name),
//!             )),
//!         }
//!     }
//!
//!     async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
//!         let (staged, replaced) = (self.beside(cx, "staged"), self.beside(cx, "replaced"));
//!         if exists(&replaced).await? {
//!             return Ok(Some(replaced.display().to_string()));
//!         }
//!         // After an undo, the restored file is where it was staged.
//!         let put_aside = exists(&staged).await?;
//!         Ok(put_aside.then(|| staged.display().to_string()))
//!     }
//! }
//!
//! /// The test: how to make it, what it restores, and a look at its data behind its back.
//! struct Trying(tempfile::TempDir);
//!
//! impl Trying {
//!     fn with(live: Option<&str>) -> Self {
//!         let trying = Self(tempfile::tempdir().unwrap());
//!         if let Some(content) = live {
//!             std::fs::write(trying.0.path().join("mine"), content).unwrap();
//!         }
//!         trying
//!     }
//! }
//!
//! #[async_trait]
//! impl ComponentUnderTest for Trying {
//!     async fn component(&self) -> Result<SharedComponent> {
//!         let file = self.0.path().join("mine");
//!         Ok(Arc::new(OneFile { name: "mine".to_owned(), file, stops: Vec::new() }))
//!     }
//!     async fn backup(&self) -> Result<Backup> {
//!         conformance::backup(self.0.path(), &[(ARTIFACT, b"from the backup")]).await
//!     }
//!     async fn changed_backup(&self) -> Result<Option<Backup>> {
//!         let backup = self.backup().await?;
//!         conformance::change(&backup, ARTIFACT)?;
//!         Ok(Some(backup))
//!     }
//!     async fn live(&self) -> Result<String> {
//!         // The content, and whether there is a file at all.
//!         Ok(format!("{:?}", std::fs::read_to_string(self.0.path().join("mine")).ok()))
//!     }
//!     async fn beside(&self) -> Result<Vec<String>> {
//!         let entries = std::fs::read_dir(self.0.path()).unwrap();
//!         let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
//!         let mut names: Vec<String> = names.filter(|name| name.starts_with(".mine.")).collect();
//!         names.sort();
//!         Ok(names)
//!     }
//!     async fn where_nothing_is_live(&self) -> Result<Option<Arc<dyn ComponentUnderTest>>> {
//!         Ok(Some(Arc::new(Trying::with(None))))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // #[tokio::test]
//! let trying = Trying::with(Some("what is live"));
//! conformance::component(Arc::new(trying)).await.unwrap();
//! # let parts = |dir: &Path| -> Result<ComponentDeps> {
//! #     let config = restore_core::config::SiteConfig::from_toml("[site]\nname = 'x'\nstate = 'state'\n[stores]\n[components]\n")?;
//! #     let platform = restore_core::platform::local::make(&config, dir, &dir.join("state"))?;
//! #     Ok(ComponentDeps::new(platform, dir, dir.join("state/work")))
//! # };
//! # let dir = tempfile::tempdir().unwrap();
//! # let table = |key: &str| serde_json::json!({ key: "mine" }).as_object().unwrap().clone();
//! # let made = OneFile::from_table("it", table("file"), &parts(dir.path()).unwrap()).unwrap();
//! # assert_eq!(made.name(), "it");
//! # let unknown = OneFile::from_table("it", table("flie"), &parts(dir.path()).unwrap());
//! # assert_eq!(unknown.err().unwrap().code(), "config.unknown_key");
//! # }
//! ```

use std::fmt;

mod backup;
mod component;
mod crash;
mod platform;
mod store;
mod tar;
mod volume;

pub use backup::{backup, change};
pub use component::{ComponentUnderTest, component};
pub use platform::{PlatformUnderTest, platform};
pub use store::{StoreUnderTest, store};
pub use volume::{Files, VolumeUnderTest, volume};

/// The clause of a contract that does not hold, and what was seen instead.
#[derive(Clone, PartialEq, Eq)]
pub struct Broken {
    clause: String,
    seen: String,
}

impl Broken {
    /// The clause, in the words of the trait's documentation.
    pub fn clause(&self) -> &str {
        &self.clause
    }

    /// What was seen instead.
    pub fn seen(&self) -> &str {
        &self.seen
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not kept: {}; seen: {}", self.clause, self.seen)
    }
}

/// The same line: it is what `unwrap` shows.
impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Broken {}

/// The outcome of a suite.
pub type Kept<T = ()> = Result<T, Broken>;

/// The clause holds, or not and this was seen.
fn holds(clause: &str, kept: bool, seen: impl fmt::Display) -> Kept {
    if kept {
        return Ok(());
    }
    Err(broken(clause, seen))
}

fn broken(clause: &str, seen: impl fmt::Display) -> Broken {
    Broken {
        clause: clause.to_owned(),
        seen: seen.to_string(),
    }
}

/// An error of a call that the clause says must succeed.
fn must<T>(clause: &str, result: crate::model::Result<T>) -> Kept<T> {
    result.map_err(|error| broken(clause, format!("an error ({}): {error}", error.code())))
}

/// What went wrong in what the suite was given, not in what it tests.
fn given<T>(what: &str, result: crate::model::Result<T>) -> Kept<T> {
    must(&format!("what the suite is given works: {what}"), result)
}
