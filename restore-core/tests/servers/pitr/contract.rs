//! A cluster keeps the contract that every component is held to.

use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use restore_core::Result;
use restore_core::backup::Backup;
use restore_core::component::SharedComponent;
use restore_core::conformance::{self, ComponentUnderTest};
use restore_core::store::DirectoryStore;
use restore_testing::pitr::Ground;

struct OfCluster {
    ground: Ground,
    id: String,
}

#[async_trait]
impl ComponentUnderTest for OfCluster {
    async fn component(&self) -> Result<SharedComponent> {
        let site = self.ground.site().await;
        Ok(site.component("cluster").unwrap().clone())
    }

    async fn backup(&self) -> Result<Backup> {
        self.ground.site().await.backup(&self.id).await
    }

    async fn changed_backup(&self) -> Result<Option<Backup>> {
        let to = self.ground.path("changed");
        let _ = std::fs::remove_dir_all(&to);
        std::fs::create_dir(&to).unwrap();
        let from = self.ground.path("backups").join(&self.id);
        let copied = Command::new("cp").arg("-a").args([&from, &to]).status();
        assert!(copied.unwrap().success());
        let file = to
            .join(&self.id)
            .join(format!("postgres/base-{}.tar.gz", self.id));
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let store = Arc::new(DirectoryStore::new(to));
        Ok(Some(Backup::open(store, self.id.parse()?).await?))
    }

    async fn live(&self) -> Result<String> {
        // The suite asks while the server is down as well.
        let up = self.ground.try_sql("postgres", "SELECT 1").is_ok();
        if !up {
            self.start().await?;
        }
        let rows = self.ground.rows();
        if !up {
            self.stop().await?;
        }
        Ok(format!("{rows:?}"))
    }

    async fn beside(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.ground.path("volume")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(".restore-")).collect();
        names.sort();
        Ok(names)
    }

    fn crashes(&self) -> usize {
        1
    }

    async fn stop(&self) -> Result<()> {
        self.ground
            .site()
            .await
            .platform()
            .scale("postgres", 0)
            .await
    }

    async fn start(&self) -> Result<()> {
        let site = self.ground.site().await;
        site.platform().scale("postgres", 1).await?;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while self.ground.try_sql("postgres", "SELECT 1").is_err() {
            assert!(
                std::time::Instant::now() < deadline,
                "the server does not come up"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_the_contract() {
    let ground = Ground::quick().await;
    ground.write(1);
    let id = ground.back_up().await;
    ground.write(2);
    conformance::component(Arc::new(OfCluster { ground, id }))
        .await
        .unwrap();
}
