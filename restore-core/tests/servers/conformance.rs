//! The components of databases, on real servers.

use std::sync::Arc;

use async_trait::async_trait;
use restore_core::Result;
use restore_core::backup::Backup;
use restore_core::component::{ComponentDeps, Registry, SharedComponent};
use restore_core::config::Table;
use restore_core::conformance::{self, ComponentUnderTest};
use restore_core::store::DirectoryStore;
use restore_testing::pg::{Cluster, ID, Rig};
use restore_testing::redis::{BACKUP, Case, Form, Server, back_up};

/// The same backup in a folder of its own, with one byte of the artifact changed.
async fn changed(from: &std::path::Path, id: &str, artifact: &str) -> Result<Option<Backup>> {
    let to = from.join("changed");
    let _ = std::fs::remove_dir_all(&to);
    std::fs::create_dir(&to).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([from.join(id), to.join(id)])
        .status();
    assert!(copied.unwrap().success());
    let artifact = to.join(id).join(artifact);
    let mut bytes = std::fs::read(&artifact).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&artifact, bytes).unwrap();
    let store = Arc::new(DirectoryStore::new(to));
    Ok(Some(Backup::open(store, id.parse()?).await?))
}

struct OfPostgres(Rig);

#[async_trait]
impl ComponentUnderTest for OfPostgres {
    async fn component(&self) -> Result<SharedComponent> {
        Ok(self.0.component("database = 'live'\nstops = []"))
    }

    async fn backup(&self) -> Result<Backup> {
        Ok(self.0.cx().await.backup().clone())
    }

    async fn changed_backup(&self) -> Result<Option<Backup>> {
        let artifact = format!("postgres/postgres-{ID}.dump");
        changed(self.0.backups.path(), ID, &artifact).await
    }

    async fn live(&self) -> Result<String> {
        let cluster = &self.0.cluster;
        Ok(cluster.content("live") + &cluster.properties("live"))
    }

    async fn beside(&self) -> Result<Vec<String>> {
        Ok(self.0.cluster.databases())
    }

    fn crashes(&self) -> usize {
        3
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    let cluster = Cluster::start("boss");
    cluster.sql("template1", "CREATE DATABASE gold");
    cluster.sql(
        "gold",
        "CREATE TABLE users AS SELECT i FROM generate_series(1, 100) i",
    );
    let rig = Rig::new(cluster);
    rig.back_up("gold");
    std::fs::remove_file(rig.sql_file()).unwrap();
    rig.list();
    rig.cluster
        .sql("template1", "CREATE DATABASE live TEMPLATE template0");
    rig.cluster.sql("live", "CREATE TABLE other (id int)");
    conformance::component(Arc::new(OfPostgres(rig)))
        .await
        .unwrap();
}

struct OfRedis(Case);

#[async_trait]
impl ComponentUnderTest for OfRedis {
    async fn component(&self) -> Result<SharedComponent> {
        let text = "kind = 'redis'\nservice = 'redis'\nvolume = 'redis_data'";
        let table: Table = toml::from_str(text).unwrap();
        let here = self.0.backups.path();
        let parts = ComponentDeps::new(self.0.platform.clone(), here, here);
        Registry::default().make("cache", table, &parts)
    }

    async fn backup(&self) -> Result<Backup> {
        Ok(self.0.cx().await.backup().clone())
    }

    async fn changed_backup(&self) -> Result<Option<Backup>> {
        let artifact = format!("redis/redis-{BACKUP}.rdb");
        changed(self.0.backups.path(), BACKUP, &artifact).await
    }

    async fn live(&self) -> Result<String> {
        Ok(format!("{:#?}", self.0.server().content()))
    }

    async fn beside(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.0.server().data()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(".restore-")).collect();
        names.sort();
        Ok(names)
    }

    fn crashes(&self) -> usize {
        3
    }

    async fn stop(&self) -> Result<()> {
        self.0.server().stop();
        Ok(())
    }

    async fn start(&self) -> Result<()> {
        if !self.0.server().is_running() {
            self.0.server().start().unwrap();
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis() {
    let case = Case::new(Server::new(&["appendonly yes"]), "");
    back_up(&case, Form::Rdb);
    case.seal();
    case.server().start().unwrap();
    case.server().fill("old", 50);
    conformance::component(Arc::new(OfRedis(case)))
        .await
        .unwrap();
}
