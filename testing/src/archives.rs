//! One component of a site, and a backup of a few files made with tar and sha256sum.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use restore_core::backup::{Backup, BackupId};
use restore_core::component::{ComponentDeps, Registry, SharedComponent};
use restore_core::config::SiteConfig;
use restore_core::platform::{Platform, local};
use restore_core::run::{FactStore, MemoryFacts, RunContext, RunId};
use restore_core::store::DirectoryStore;
use restore_core::{Event, EventSink, Finding};
use tokio_util::sync::CancellationToken;

pub const ID: &str = "20240215-020000";

/// A directory with everything of one test in it, gone when dropped.
pub struct Site {
    directory: tempfile::TempDir,
    facts: Arc<dyn FactStore>,
    pub run: RunId,
    pub cancel: CancellationToken,
    pub seen: Arc<Seen>,
}

/// The findings that were told while working.
#[derive(Default)]
pub struct Seen(pub Mutex<Vec<Finding>>);

impl EventSink for Seen {
    fn emit(&self, event: &Event) {
        if let Event::Finding { finding } = event {
            self.0.lock().unwrap().push(finding.clone());
        }
    }
}

impl Site {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("backups").join(ID)).unwrap();
        Self {
            directory,
            facts: Arc::new(MemoryFacts::default()),
            run: RunId::generate(),
            cancel: CancellationToken::new(),
            seen: Arc::default(),
        }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Writes `restore.toml`: this text, indented or not, in which `@` stands for this directory.
    pub fn configure(&self, config: &str) {
        let here = self.directory.path().to_str().unwrap();
        let config = config.replace('@', here).replace("\n    ", "\n");
        put(self.path("restore.toml"), &config);
    }

    /// The site of `restore.toml`.
    pub async fn open(&self) -> restore_core::Site {
        restore_core::Site::open(&self.path("restore.toml"))
            .await
            .unwrap()
    }

    /// The component `it` of a configuration in which `@` stands for this directory.
    pub fn component(&self, config: &str) -> SharedComponent {
        self.try_component(config).unwrap()
    }

    pub fn try_component(&self, config: &str) -> restore_core::Result<SharedComponent> {
        self.component_on(config, |platform| platform)
    }

    /// The same on a platform made of this host's.
    pub fn component_on(
        &self,
        config: &str,
        on: impl FnOnce(Arc<dyn Platform>) -> Arc<dyn Platform>,
    ) -> restore_core::Result<SharedComponent> {
        let here = self.directory.path().to_str().unwrap();
        let text = format!("[site]\nname = 'test'\nstate = '@/state'\n[stores]\n{config}")
            .replace('@', here);
        let config = SiteConfig::from_toml(&text).unwrap();
        let platform = local::make(&config, self.directory.path(), &self.path("state")).unwrap();
        let parts = ComponentDeps::new(
            on(platform),
            self.directory.path(),
            self.path("state/scratch"),
        );
        let table = config.components["it"].as_object().unwrap().clone();
        Registry::default().make("it", table, &parts)
    }

    /// A context of the run, with the facts of earlier ones.
    pub async fn context(&self) -> RunContext {
        let store = Arc::new(DirectoryStore::new(self.path("backups")));
        let id: BackupId = ID.parse().unwrap();
        let backup = Backup::open(store, id).await.unwrap();
        RunContext::new(
            self.run.clone(),
            "it",
            Arc::new(backup),
            self.facts.clone(),
            self.seen.clone(),
            self.cancel.clone(),
        )
    }

    pub fn artifact(&self, path: &str) -> PathBuf {
        let path = self.path("backups").join(ID).join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// Packs members of a directory as the operators' scripts do, and lists the archive.
    pub fn pack(&self, artifact: &str, directory: &Path, members: &[&str]) {
        let status = Command::new("tar")
            .arg("-czf")
            .arg(self.artifact(artifact))
            .arg("-C")
            .arg(directory)
            .arg("--")
            .args(members)
            .status()
            .unwrap();
        assert!(status.success());
        self.list();
    }

    /// Writes the manifest of what is in the backup now.
    pub fn list(&self) {
        let script = r#"
            set -euo pipefail
            cd "$1"
            { echo 'Backup ID: 20240215-020000'; echo '=== Files ==='
              find . -type f ! -name 'MANIFEST.*' | sed 's|^\./||' | sort | while read -r file; do
                echo "$file|$(du -h "$file" | cut -f1)|$(sha256sum "$file" | cut -d' ' -f1)"
              done
            } > MANIFEST.new
            mv MANIFEST.new MANIFEST.txt
        "#;
        let status = Command::new("bash")
            .args(["-c", script, "list"])
            .arg(self.path("backups").join(ID))
            .status()
            .unwrap();
        assert!(status.success());
    }
}

/// Writes a file of some whole second (tar keeps no others), with the directories above it.
pub fn put(path: impl AsRef<Path>, content: &str) {
    use std::time::{Duration, UNIX_EPOCH};
    let path = path.as_ref();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    let second = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + content.len() as u64);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(second).unwrap();
}

/// The code of the error.
pub fn code<T>(result: restore_core::Result<T>) -> String {
    match result {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.code().to_owned(),
    }
}
