//! The suites notice what is not kept, and say which clause it is.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use restore_core::backup::{Backup, BackupFile, BackupId, BackupWriter};
use restore_core::component::{
    BackedUp, CheckOutcome, Component, Inspection, SharedComponent, Staged,
};
use restore_core::conformance::{self, ComponentUnderTest, StoreUnderTest};
use restore_core::platform::Discard;
use restore_core::run::RunContext;
use restore_core::store::{BackupStore, DirectoryStore};
use restore_core::{Error, Result};
use restore_testing::archives::{ID, Site};
use tokio::io::AsyncRead;

/// A component of one file that does everything right, but for one thing.
struct Faulty {
    fault: &'static str,
    dir: PathBuf,
}

impl Faulty {
    fn has(&self, fault: &str) -> bool {
        self.fault == fault
    }

    fn paths(&self, cx: &RunContext) -> [PathBuf; 3] {
        let beside = |kind: &str| self.dir.join(format!("{kind}-{}", cx.run()));
        [self.dir.join("live"), beside("staged"), beside("replaced")]
    }
}

fn io<T>(result: std::io::Result<T>) -> Result<T> {
    result.map_err(|e| Error::io("do it", e))
}

#[async_trait]
impl Component for Faulty {
    fn name(&self) -> &str {
        "it"
    }
    fn kind(&self) -> &'static str {
        "faulty"
    }
    fn stops(&self) -> Vec<String> {
        Vec::new()
    }
    fn artifacts(&self, backup: &Backup) -> Vec<String> {
        backup.find(&["it.txt".to_owned()])
    }
    async fn back_up(&self, writer: &BackupWriter) -> Result<BackedUp> {
        let live = self.dir.join("live");
        if self.has("back_up touches live") {
            io(std::fs::write(&live, "touched"))?;
        }
        if !live.exists() {
            return Ok(BackedUp::default());
        }
        let name = if self.has("back_up under another name") {
            "other.txt"
        } else {
            "it.txt"
        };
        if self.has("back_up of something else") {
            writer.text(name, "something else").await?;
        } else {
            writer.copy(&live, name).await?;
        }
        Ok(BackedUp::default())
    }
    async fn inspect(&self, cx: &RunContext) -> Result<Inspection> {
        let mut inspection = Inspection::default();
        inspection.artifacts = self.artifacts(cx.backup());
        if self.has("inspect writes") {
            io(std::fs::write(self.dir.join("staged-x"), ""))?;
        }
        Ok(inspection)
    }
    async fn stage(&self, cx: &RunContext) -> Result<Staged> {
        let [live, staged, _] = self.paths(cx);
        if !self.has("deaf") {
            cx.check_cancelled()?;
        }
        let source = cx.source("it.txt")?;
        if self.has("unverified") || self.has("deaf") {
            io(std::fs::copy(source.path(), &staged))?;
        } else {
            let _ = std::fs::remove_file(&staged);
            let progress = restore_core::Progress::hidden();
            restore_core::stream::copy_verified(source, &staged, 0o600, None, progress).await?;
        }
        if self.has("stage touches live") {
            io(std::fs::write(live, "touched"))?;
        }
        Ok(Staged::default())
    }
    async fn cut_over(&self, cx: &RunContext) -> Result<()> {
        let [live, staged, replaced] = self.paths(cx);
        if self.has("not twice") && replaced.exists() {
            return io(std::fs::rename(&staged, &live));
        }
        if self.has("fact too late") {
            if staged.exists() {
                io(std::fs::rename(&live, &replaced))?;
                cx.record("replaced", true).await?;
                io(std::fs::rename(&staged, &live))?;
            }
            return Ok(());
        }
        cx.record("replaced", live.exists()).await?;
        if staged.exists() {
            if live.exists() && !replaced.exists() {
                io(std::fs::rename(&live, &replaced))?;
            }
            tokio::task::yield_now().await;
            io(std::fs::rename(&staged, &live))?;
        }
        Ok(())
    }
    async fn undo(&self, cx: &RunContext) -> Result<()> {
        let [live, staged, replaced] = self.paths(cx);
        if self.has("fact too late") && cx.recall("replaced").is_none() {
            return Ok(());
        }
        if replaced.exists() {
            if live.exists() && !self.has("undo loses the other") {
                io(std::fs::rename(&live, &staged))?;
            }
            io(std::fs::rename(&replaced, &live))?;
        } else if cx.recall("replaced") == Some(false.into()) {
            if live.exists() && !self.has("undo leaves what is new") {
                io(std::fs::rename(&live, &staged))?;
            }
        } else if self.has("undo where nothing is") {
            return Err(Error::interrupted());
        }
        Ok(())
    }
    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        let [live, ..] = self.paths(cx);
        let text = io(std::fs::read_to_string(live))?;
        let passed = text == "good" || self.has("check is blind");
        Ok(vec![CheckOutcome::new("it/text", passed, text)])
    }
    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
        let [_, staged, replaced] = self.paths(cx);
        let path = match what {
            Discard::Staged => staged,
            _ => replaced,
        };
        if path.exists() && !self.has("discard forgets") {
            io(std::fs::remove_file(path))?;
        }
        Ok(())
    }
    async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
        let [.., replaced] = self.paths(cx);
        Ok(replaced.exists().then(|| replaced.display().to_string()))
    }
}

struct Trying {
    site: Site,
    fault: &'static str,
}

impl Trying {
    fn new(fault: &'static str) -> Self {
        let site = Site::new();
        std::fs::write(site.artifact("it.txt"), "good").unwrap();
        site.list();
        std::fs::create_dir(site.path("data")).unwrap();
        std::fs::write(site.path("data/live"), "old").unwrap();
        Self { site, fault }
    }

    fn after_a_loss(fault: &'static str) -> Self {
        let trying = Self::new(fault);
        std::fs::remove_file(trying.site.path("data/live")).unwrap();
        trying
    }
}

#[async_trait]
impl ComponentUnderTest for Trying {
    async fn component(&self) -> Result<SharedComponent> {
        let (fault, dir) = (self.fault, self.site.path("data"));
        Ok(Arc::new(Faulty { fault, dir }))
    }
    async fn backup(&self) -> Result<Backup> {
        std::fs::write(self.site.artifact("it.txt"), "good").unwrap();
        let store = Arc::new(DirectoryStore::new(self.site.path("backups")));
        Backup::open(store, ID.parse()?).await
    }
    async fn changed_backup(&self) -> Result<Option<Backup>> {
        let backup = self.backup().await?;
        std::fs::write(self.site.artifact("it.txt"), "evil").unwrap();
        Ok(Some(backup))
    }
    async fn live(&self) -> Result<String> {
        io(std::fs::read_to_string(self.site.path("data/live"))).or_else(|_| Ok(String::new()))
    }
    async fn beside(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.site.path("data")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        Ok(names.filter(|name| name != "live").collect())
    }
    async fn where_nothing_is_live(&self) -> Result<Option<Arc<dyn ComponentUnderTest>>> {
        Ok(Some(Arc::new(Self::after_a_loss(self.fault))))
    }
}

#[tokio::test]
async fn each_fault_of_a_component_is_named() {
    conformance::component(Arc::new(Trying::new("none")))
        .await
        .unwrap();
    for (fault, clause) in [
        ("inspect writes", "`inspect` changes nothing"),
        ("stage touches live", "`stage` leaves the live data alone"),
        ("back_up touches live", "`back_up` changes nothing live"),
        (
            "back_up under another name",
            "`artifacts` finds what `back_up` wrote",
        ),
        (
            "back_up of something else",
            "what `back_up` wrote restores what was live",
        ),
        ("unverified", "`stage` verifies what it reads"),
        ("deaf", "a cancelled `stage` ends soon"),
        ("not twice", "`cut_over` called again changes nothing"),
        ("undo where nothing is", "`undo` and `discard` do nothing"),
        ("undo loses the other", "kept as staged"),
        ("check is blind", "`check` does not pass"),
        ("discard forgets", "leaves nothing"),
        ("fact too late", "another process"),
        ("undo leaves what is new", "where nothing is live"),
    ] {
        let broken = conformance::component(Arc::new(Trying::new(fault))).await;
        let broken = broken.expect_err(fault);
        assert!(broken.clause().contains(clause), "{fault}: {broken}");
        assert!(!broken.seen().is_empty(), "{fault}: {broken}");
    }
}

/// A directory that misbehaves in one way.
struct FaultyStore(DirectoryStore, &'static str);

#[async_trait]
impl BackupStore for FaultyStore {
    fn describe(&self) -> String {
        self.0.describe()
    }
    async fn list(&self) -> Result<Vec<BackupId>> {
        let mut ids = self.0.list().await?;
        if self.1 == "by name" {
            ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        }
        Ok(ids)
    }
    async fn files(&self, id: &BackupId) -> Result<Vec<BackupFile>> {
        match self.0.files(id).await {
            Err(_) if self.1 == "empty" => Ok(Vec::new()),
            other => other,
        }
    }
    async fn read(
        &self,
        id: &BackupId,
        path: &str,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let offset = if self.1 == "no offset" { 0 } else { offset };
        self.0.read(id, path, offset).await
    }
    fn local_path(&self, id: &BackupId, path: &str) -> Option<PathBuf> {
        match self.1 {
            "leads out" => Some(PathBuf::from("/backups").join(id.as_str()).join(path)),
            _ => self.0.local_path(id, path),
        }
    }
}

struct TryingStore(super::stores::Directory, &'static str);

#[async_trait]
impl StoreUnderTest for TryingStore {
    async fn open(&self) -> Result<Arc<dyn BackupStore>> {
        let store = DirectoryStore::new(self.0.0.path());
        Ok(Arc::new(FaultyStore(store, self.1)))
    }
    async fn put(&self, folder: &str, path: &str, content: &[u8]) -> Result<()> {
        self.0.put(folder, path, content).await
    }
    async fn unreachable(&self) -> Result<Option<Arc<dyn BackupStore>>> {
        Ok(None)
    }
}

#[tokio::test]
async fn each_fault_of_a_store_is_named() {
    for (fault, clause) in [
        ("by name", "oldest first"),
        ("empty", "is `NotFound`"),
        ("no offset", "from `offset` on"),
        ("leads out", "`local_path`"),
    ] {
        let directory = super::stores::Directory(tempfile::tempdir().unwrap());
        let broken = conformance::store(Arc::new(TryingStore(directory, fault))).await;
        let broken = broken.expect_err(fault);
        assert!(broken.clause().contains(clause), "{fault}: {broken}");
    }
}
