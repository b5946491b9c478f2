//! One run of the component over a server and a backup of it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use restore_core::backup::Backup;
use restore_core::component::{ComponentDeps, Postgres, SharedComponent};
use restore_core::config::Table;
use restore_core::platform::Command;
use restore_core::run::{MemoryFacts, RunContext, RunId};
use restore_core::store::DirectoryStore;
use restore_core::{EventSink, NoEvents};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::platform::OneServer;
use super::{BIN, Cluster, ID};

const RUN: &str = "20240216-093000-7f3a";

/// A component over a cluster, a backup folder, and one run.
pub struct Rig {
    pub cluster: Cluster,
    pub backups: tempfile::TempDir,
    pub facts: Arc<MemoryFacts>,
    pub cancel: CancellationToken,
    pub ran: Arc<Mutex<Vec<Command>>>,
    pub run: RunId,
}

impl Rig {
    pub fn new(cluster: Cluster) -> Self {
        let rig = Self {
            cluster,
            backups: tempfile::tempdir().unwrap(),
            facts: Arc::default(),
            cancel: CancellationToken::new(),
            ran: Arc::default(),
            run: RUN.parse().unwrap(),
        };
        std::fs::create_dir_all(rig.folder().join("postgres")).unwrap();
        rig
    }

    /// The backup's folder.
    pub fn folder(&self) -> PathBuf {
        self.backups.path().join(ID)
    }

    pub fn dump_file(&self) -> PathBuf {
        self.folder().join(format!("postgres/postgres-{ID}.dump"))
    }

    pub fn sql_file(&self) -> PathBuf {
        self.folder().join(format!("postgres/postgres-{ID}.sql"))
    }

    /// Dumps a database as the operators' scripts do.
    pub fn back_up(&self, database: &str) {
        self.cluster
            .dump(database, &["-Fc", "-b"], &self.dump_file());
        self.cluster
            .dump(database, &["--clean", "--if-exists"], &self.sql_file());
    }

    /// Lists what is in the backup now, with checksums.
    pub fn list(&self) {
        let script = r#"cd "$1" && { echo "Backup ID: x"; find postgres -type f | sort | while read -r f; do
            echo "$f|$(stat -c %s "$f")|$(sha256sum "$f" | cut -d' ' -f1)"; done; } > MANIFEST.txt"#;
        let status = std::process::Command::new("sh")
            .args(["-c", script, "list"])
            .arg(self.folder())
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// A component as configured by these lines.
    pub fn component(&self, lines: &str) -> SharedComponent {
        self.over(lines, false)
    }

    /// The same, whose programs are fed the backup's files.
    pub fn streaming(&self, lines: &str) -> SharedComponent {
        self.over(lines, true)
    }

    fn over(&self, lines: &str, stream: bool) -> SharedComponent {
        let mut table: Table = toml::from_str(lines).unwrap();
        table
            .entry("service")
            .or_insert(Value::String("postgres".to_owned()));
        table
            .entry("user")
            .or_insert(Value::String(self.cluster.superuser.clone()));
        Postgres::from_table("db", table, &self.parts(stream)).unwrap()
    }

    /// What a component is made of.
    pub fn parts(&self, stream: bool) -> ComponentDeps {
        let platform = OneServer {
            endpoint: self.cluster.endpoint(),
            stream,
            ran: self.ran.clone(),
        };
        ComponentDeps::new(Arc::new(platform), self.backups.path(), self.backups.path())
    }

    /// What a process that works for the run is given; called again for a new process.
    pub async fn cx(&self) -> RunContext {
        self.cx_with(self.facts.clone()).await
    }

    /// The same for another component of the run, which knows other facts.
    pub async fn cx_with(&self, facts: Arc<MemoryFacts>) -> RunContext {
        self.cx_of(facts, Arc::new(NoEvents)).await
    }

    /// The same, whose findings and progress are told.
    pub async fn cx_telling(&self, events: Arc<dyn EventSink>) -> RunContext {
        self.cx_of(self.facts.clone(), events).await
    }

    async fn cx_of(&self, facts: Arc<MemoryFacts>, events: Arc<dyn EventSink>) -> RunContext {
        let store = Arc::new(DirectoryStore::new(self.backups.path()));
        let backup = Backup::open(store, ID.parse().unwrap()).await.unwrap();
        RunContext::new(
            self.run.clone(),
            "db",
            Arc::new(backup),
            facts,
            events,
            self.cancel.clone(),
        )
    }

    /// The same run without what earlier processes recorded.
    pub fn forget(&mut self) {
        self.facts = Arc::default();
    }

    /// A directory with client programs, of which `pg_restore` first runs `before` when it is
    /// asked to restore.
    pub fn programs(&self, before: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let dir = self.backups.path().join("bin");
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("pg_restore");
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *--exit-on-error*) {before};; esac\nexec {BIN}/pg_restore \"$@\"\n"
        );
        std::fs::write(&file, script).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(format!("{BIN}/psql"), dir.join("psql")).unwrap();
        dir
    }
}
