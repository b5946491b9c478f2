//! One run of the component over a server and a backup, method by method.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use restore_core::backup::Backup;
use restore_core::component::{CheckOutcome, ComponentDeps, Registry, SharedComponent, Staged};
use restore_core::run::{MemoryFacts, RunContext, RunId};
use restore_core::store::DirectoryStore;
use restore_core::{NoEvents, Severity};
use tokio_util::sync::CancellationToken;

use super::platform::OneServer;
use super::{BACKUP, Server};

/// A server, a backup, and one run of a component over both.
pub struct Case {
    pub platform: Arc<OneServer>,
    pub component: SharedComponent,
    pub backups: tempfile::TempDir,
    pub facts: Arc<MemoryFacts>,
    pub run: RunId,
    pub cancel: CancellationToken,
}

impl Case {
    /// A case over a server that is not started, with more lines for the component's section.
    pub fn new(server: Server, section: &str) -> Self {
        Self::with(server, section, false)
    }

    /// The same where the server's files are another machine's.
    pub fn elsewhere(server: Server, section: &str) -> Self {
        Self::with(server, section, true)
    }

    fn with(server: Server, section: &str, elsewhere: bool) -> Self {
        let backups = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(backups.path().join(BACKUP).join("redis")).unwrap();
        let mut text = format!(
            "kind = 'redis'\nservice = 'redis'\nvolume = 'redis_data'\nload_timeout = '20s'\n{section}\n"
        );
        if server.password.is_some() {
            text.push_str(&format!(
                "password_file = '{}'\n",
                server.password_file().display()
            ));
        }
        let platform = Arc::new(OneServer {
            server,
            started: Mutex::default(),
            elsewhere,
            leave_scratch: Mutex::new(false),
        });
        let parts = ComponentDeps::new(platform.clone(), backups.path(), backups.path());
        let table = toml::from_str(&text).unwrap();
        Self {
            component: Registry::default().make("cache", table, &parts).unwrap(),
            platform,
            backups,
            facts: Arc::default(),
            run: RunId::generate(),
            cancel: CancellationToken::new(),
        }
    }

    pub fn server(&self) -> &Server {
        &self.platform.server
    }

    /// Where the backup's file of that name is.
    pub fn artifact(&self, name: &str) -> PathBuf {
        self.backups.path().join(BACKUP).join("redis").join(name)
    }

    /// Writes a manifest over the backup's files as they are now.
    pub fn seal(&self) {
        let root = self.backups.path().join(BACKUP);
        let mut text = format!("Backup ID: {BACKUP}\n=== Files ===\n");
        for entry in std::fs::read_dir(root.join("redis")).unwrap() {
            let name = format!("redis/{}", entry.unwrap().file_name().to_str().unwrap());
            let output = std::process::Command::new("sha256sum")
                .arg(root.join(&name))
                .output()
                .unwrap();
            let hash = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
            let size = root.join(&name).metadata().unwrap().len();
            text.push_str(&format!("{name}|{size}|{hash}\n"));
        }
        std::fs::write(root.join("MANIFEST.txt"), text).unwrap();
    }

    pub async fn cx(&self) -> RunContext {
        let store = Arc::new(DirectoryStore::new(self.backups.path()));
        let backup = Backup::open(store, BACKUP.parse().unwrap()).await.unwrap();
        RunContext::new(
            self.run.clone(),
            "cache",
            Arc::new(backup),
            self.facts.clone(),
            Arc::new(NoEvents),
            self.cancel.clone(),
        )
    }

    /// Stages, after an inspection that has nothing against it.
    pub async fn stage(&self) -> Staged {
        let cx = self.cx().await;
        let inspection = self.component.inspect(&cx).await.unwrap();
        let against: Vec<_> = inspection
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .collect();
        assert!(against.is_empty(), "{against:?}");
        self.component.stage(&cx).await.unwrap()
    }

    pub async fn cut_over(&self) {
        self.server().stop();
        self.component.cut_over(&self.cx().await).await.unwrap();
        self.server().start().unwrap();
    }

    pub async fn undo(&self) {
        self.server().stop();
        self.component.undo(&self.cx().await).await.unwrap();
        self.server().start().unwrap();
    }

    pub async fn check(&self) -> Vec<CheckOutcome> {
        self.component.check(&self.cx().await).await.unwrap()
    }

    pub async fn assert_checked(&self) {
        let outcomes = self.check().await;
        assert_eq!(outcomes.len(), 3, "{outcomes:?}");
        assert!(outcomes.iter().all(|o| o.passed), "{outcomes:?}");
    }

    /// The whole way.
    pub async fn restore(&self) -> Staged {
        let staged = self.stage().await;
        self.cut_over().await;
        self.assert_checked().await;
        staged
    }
}
