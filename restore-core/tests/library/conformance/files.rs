//! Components of files.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use restore_core::Result;
use restore_core::backup::Backup;
use restore_core::component::SharedComponent;
use restore_core::conformance::{self, ComponentUnderTest};
use restore_core::store::DirectoryStore;
use restore_testing::archives::{ID, Site, put};
use restore_testing::nodes::TwoNodes;
use restore_testing::trees::fingerprint;

struct OfFiles {
    site: Site,
    config: &'static str,
    artifact: String,
    /// What is live: a file or a directory.
    live: &'static str,
    /// The same after a loss.
    lost: Option<fn() -> OfFiles>,
}

impl OfFiles {
    /// What is below a directory, of runs only or all, by path.
    fn names(&self, root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![root.to_owned()];
        while let Some(directory) = open.pop() {
            let Ok(entries) = std::fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    open.push(path.clone());
                }
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
        found.sort();
        found
    }
}

#[async_trait]
impl ComponentUnderTest for OfFiles {
    async fn component(&self) -> Result<SharedComponent> {
        let config = self.config;
        match config.contains("node = ") {
            true => {
                let nodes = |host| TwoNodes::made(host, &["worker"]);
                self.site.component_on(config, nodes)
            }
            false => self.site.try_component(config),
        }
    }

    async fn backup(&self) -> Result<Backup> {
        let store = Arc::new(DirectoryStore::new(self.site.path("backups")));
        Backup::open(store, ID.parse()?).await
    }

    async fn changed_backup(&self) -> Result<Option<Backup>> {
        let other = self.site.path("changed");
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(self.site.path("backups"))
            .arg(&other)
            .status();
        assert!(copied.unwrap().success());
        let artifact = other.join(ID).join(&self.artifact);
        let mut bytes = std::fs::read(&artifact).unwrap();
        // In gzip's header, where it changes nothing but the hash; in a text, a letter.
        bytes[4] ^= 1;
        std::fs::write(&artifact, bytes).unwrap();
        let store = Arc::new(DirectoryStore::new(other));
        Ok(Some(Backup::open(store, ID.parse()?).await?))
    }

    async fn live(&self) -> Result<String> {
        let path = self.site.path(self.live);
        Ok(if path.is_dir() {
            format!("{:#?}", fingerprint(&path))
        } else {
            format!("{:?}", std::fs::read_to_string(path).ok())
        })
    }

    async fn where_nothing_is_live(&self) -> Result<Option<Arc<dyn ComponentUnderTest>>> {
        Ok(self.lost.map(|make| Arc::new(make()) as _))
    }

    async fn beside(&self) -> Result<Vec<String>> {
        let root = self.site.path("");
        let all = self.names(&root).into_iter();
        Ok(all
            .filter(|name| name.contains(".restore-") || name.contains("state/scratch/"))
            // Locks are not taken away: somebody else may be about to take them.
            .filter(|name| !name.ends_with(".lock") && !name.ends_with("scratch/swaps"))
            .collect())
    }
}

#[tokio::test]
async fn a_volume() {
    let site = Site::new();
    let volume = site.path("volume");
    put(volume.join("data.db"), "good");
    put(volume.join(".hidden/state"), "good");
    let artifact = format!("volumes/data-{ID}.tar.gz");
    site.pack(&artifact, &volume, &["."]);
    put(volume.join("data.db"), "damaged");
    put(volume.join(".stray"), "not in the backup");
    let under_test = OfFiles {
        site,
        config: "
            [volumes.data]
            path = '@/volume'
            [components.it]
            kind = 'volume'
            volume = 'data'
            stops = ['app']
        ",
        artifact,
        live: "volume",
        lost: None,
    };
    conformance::component(Arc::new(under_test)).await.unwrap();
}

fn tree(config: &'static str) -> OfFiles {
    let site = Site::new();
    let tree = site.path("host/etc/app");
    put(tree.join("app.conf"), "good");
    put(tree.join("conf.d/api.conf"), "good");
    let artifact = format!("configs/app-{ID}.tar.gz");
    site.pack(&artifact, &site.path("host"), &["etc/app"]);
    put(tree.join("app.conf"), "damaged");
    put(tree.join("stray/file"), "not in the backup");
    OfFiles {
        site,
        config,
        artifact,
        live: "host/etc/app",
        lost: None,
    }
}

#[tokio::test]
async fn a_tree_of_files() {
    let under_test = tree(
        "
            [components.it]
            kind = 'files'
            archive = ['configs/app-{id}.tar.gz']
            root = '@/host'
            tree = 'etc/app'
            stops = []
        ",
    );
    conformance::component(Arc::new(under_test)).await.unwrap();
}

#[tokio::test]
async fn a_tree_of_another_node() {
    let under_test = tree(
        "
            [components.it]
            kind = 'files'
            archive = ['configs/app-{id}.tar.gz']
            root = '@/host'
            tree = 'etc/app'
            node = 'worker'
            stops = []
        ",
    );
    conformance::component(Arc::new(under_test)).await.unwrap();
}

fn crontab(live: Option<&str>) -> OfFiles {
    let site = Site::new();
    let artifact = format!("configs/crontab-{ID}.txt");
    std::fs::write(site.artifact(&artifact), "1 2 * * * good\n").unwrap();
    site.list();
    if let Some(live) = live {
        std::fs::write(site.path("crontab"), live).unwrap();
    }
    OfFiles {
        site,
        config: "
            [components.it]
            kind = 'crontab'
            file = '@/crontab'
        ",
        artifact,
        live: "crontab",
        lost: Some(|| crontab(None)),
    }
}

#[tokio::test]
async fn a_crontab() {
    let under_test = crontab(Some("3 4 * * * damaged\n"));
    conformance::component(Arc::new(under_test)).await.unwrap();
}
