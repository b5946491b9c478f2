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
//! One file, which some service reads, swapped by renames:
//!
//! ```
//! use std::path::{Path, PathBuf};
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use restore_core::backup::{Backup, BackupWriter};
//! use restore_core::component::{
//!     BackedUp, CheckOutcome, Component, Inspection, SharedComponent, SpaceNeed, Staged,
//! };
//! use restore_core::conformance::{self, ComponentUnderTest};
//! use restore_core::platform::{Discard, Space};
//! use restore_core::run::RunContext;
//! use restore_core::{Error, Finding, Result, stream};
//!
//! struct OneFile {
//!     file: PathBuf,
//! }
//!
//! impl OneFile {
//!     /// Beside the live file, so that a rename is a rename; with the run's id, so that runs do not
//!     /// meet and another process finds them.
//!     fn beside(&self, cx: &RunContext, what: &str) -> PathBuf {
//!         self.file.with_extension(format!("{what}-{}", cx.run()))
//!     }
//!     fn rename(&self, from: &Path, to: &Path) -> Result<()> {
//!         std::fs::rename(from, to)
//!             // Durable once the folder is.
//!             .and_then(|()| std::fs::File::open(to.parent().unwrap_or(to))?.sync_all())
//!             .map_err(|e| Error::io(format!("rename {}", from.display()), e))
//!     }
//! }
//!
//! #[async_trait]
//! impl Component for OneFile {
//!     fn name(&self) -> &str {
//!         "mine"
//!     }
//!     fn kind(&self) -> &'static str {
//!         "one-file"
//!     }
//!     fn stops(&self) -> Vec<String> {
//!         Vec::new() // Or the service that keeps the file open.
//!     }
//!     fn artifacts(&self, backup: &Backup) -> Vec<String> {
//!         backup.find(&["mine/mine-{id}.txt".to_owned()])
//!     }
//!     async fn back_up(&self, writer: &BackupWriter) -> Result<BackedUp> {
//!         let artifact = writer.name(&["mine/mine-{id}.txt".to_owned()])?;
//!         writer.copy(&self.file, &artifact).await?;
//!         Ok(BackedUp::default())
//!     }
//!     async fn inspect(&self, cx: &RunContext) -> Result<Inspection> {
//!         let mut found = Inspection::default();
//!         found.artifacts = self.artifacts(cx.backup());
//!         let file = found.artifacts.first().and_then(|path| cx.backup().file(path));
//!         match file {
//!             Some(file) => {
//!                 let space = Space::of(self.file.parent().unwrap_or(Path::new("/")))?;
//!                 found.needs.push(SpaceNeed { space, bytes: file.size, inodes: 1 });
//!                 found.read_bytes = file.size;
//!             }
//!             None => found.findings.push(Finding::error(
//!                 "mine.no_artifact",
//!                 self.name(),
//!                 "the backup has no mine/mine-*.txt",
//!             )),
//!         }
//!         Ok(found)
//!     }
//!     async fn stage(&self, cx: &RunContext) -> Result<Staged> {
//!         let staged = self.beside(cx, "staged");
//!         let _ = std::fs::remove_file(&staged); // An earlier attempt's.
//!         let path = self.artifacts(cx.backup()).concat();
//!         // Compared with the manifest's hash in the same pass, and stopped with the run.
//!         let source = cx.source(&path)?;
//!         let progress = cx.progress("copy", source.size());
//!         let (bytes, _) = stream::copy_verified(source, &staged, 0o644, None, progress).await?;
//!         let mut done = Staged::default();
//!         done.bytes = bytes;
//!         Ok(done)
//!     }
//!     async fn cut_over(&self, cx: &RunContext) -> Result<()> {
//!         let (staged, replaced) = (self.beside(cx, "staged"), self.beside(cx, "replaced"));
//!         if !staged.exists() {
//!             return Ok(()); // Done already.
//!         }
//!         // The first rename destroys this fact.
//!         cx.record("existed", self.file.exists()).await?;
//!         if self.file.exists() && !replaced.exists() {
//!             self.rename(&self.file, &replaced)?;
//!         }
//!         self.rename(&staged, &self.file)
//!     }
//!     async fn undo(&self, cx: &RunContext) -> Result<()> {
//!         let (staged, replaced) = (self.beside(cx, "staged"), self.beside(cx, "replaced"));
//!         let Some(existed) = cx.recall("existed") else {
//!             return Ok(()); // Nothing was cut over.
//!         };
//!         if existed == true && !replaced.exists() {
//!             return Ok(()); // Undone already, or the first rename was never made.
//!         }
//!         if self.file.exists() && !staged.exists() {
//!             self.rename(&self.file, &staged)?;
//!         }
//!         if existed == true {
//!             self.rename(&replaced, &self.file)?;
//!         }
//!         Ok(())
//!     }
//!     async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
//!         let swapped = self.file.exists() && !self.beside(cx, "staged").exists();
//!         Ok(vec![CheckOutcome::new("mine/live", swapped, "the restored file is live")])
//!     }
//!     async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
//!         let path = match what {
//!             Discard::Staged => self.beside(cx, "staged"),
//!             _ => self.beside(cx, "replaced"),
//!         };
//!         match std::fs::remove_file(&path) {
//!             Err(e) if path.exists() => Err(Error::io(format!("delete {}", path.display()), e)),
//!             _ => Ok(()),
//!         }
//!     }
//!     async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
//!         let replaced = self.beside(cx, "replaced");
//!         Ok(replaced.exists().then(|| replaced.display().to_string()))
//!     }
//! }
//!
//! /// The test: how to make it, what it restores, and a look at its data behind its back.
//! struct Trying(tempfile::TempDir);
//!
//! #[async_trait]
//! impl ComponentUnderTest for Trying {
//!     async fn component(&self) -> Result<SharedComponent> {
//!         Ok(Arc::new(OneFile { file: self.0.path().join("mine") }))
//!     }
//!     async fn backup(&self) -> Result<Backup> {
//!         conformance::backup(self.0.path(), &[("mine/mine-{id}.txt", b"from the backup")]).await
//!     }
//!     async fn changed_backup(&self) -> Result<Option<Backup>> {
//!         let backup = self.backup().await?;
//!         conformance::change(&backup, "mine/mine-{id}.txt")?;
//!         Ok(Some(backup))
//!     }
//!     async fn live(&self) -> Result<String> {
//!         Ok(std::fs::read_to_string(self.0.path().join("mine")).unwrap_or_default())
//!     }
//!     async fn beside(&self) -> Result<Vec<String>> {
//!         let entries = std::fs::read_dir(self.0.path()).unwrap();
//!         let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
//!         Ok(names.filter(|name| name.starts_with("mine.")).collect())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // #[tokio::test]
//! let trying = Trying(tempfile::tempdir().unwrap());
//! std::fs::write(trying.0.path().join("mine"), "what is live").unwrap();
//! conformance::component(Arc::new(trying)).await.unwrap();
//! # }
//! ```

use std::fmt;

mod backs_up;
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
fn must<T>(clause: &str, result: crate::Result<T>) -> Kept<T> {
    result.map_err(|error| broken(clause, format!("an error ({}): {error}", error.code())))
}

/// What went wrong in what the suite was given, not in what it tests.
fn given<T>(what: &str, result: crate::Result<T>) -> Kept<T> {
    must(&format!("what the suite is given works: {what}"), result)
}
