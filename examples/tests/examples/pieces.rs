//! The examples' component and store keep the contracts.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use restore_core::backup::Backup;
use restore_core::component::{ComponentDeps, Registry, SharedComponent};
use restore_core::config::SiteConfig;
use restore_core::conformance::{self, ComponentUnderTest, StoreUnderTest};
use restore_core::platform::local;
use restore_core::store::{BackupStore, DirectoryStore};
use restore_core::{BackupRequest, Error, ErrorKind, Result, RunOptions, Site};
use restore_examples::{Diary, FiledByYear, Flag, FreshFile, SearchIndex, SharedLock};
use restore_testing::run;

const ID: &str = "20240215-020000";
const GOOD: &str = "search-index 1\none\ntwo\n";

struct Trying {
    root: tempfile::TempDir,
}

impl Trying {
    fn new() -> Self {
        let trying = Self {
            root: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(trying.path("app")).unwrap();
        std::fs::write(trying.path("app/search.idx"), "search-index 1\nold\n").unwrap();
        let script = r#"
            mkdir -p "$1/search" && cd "$1" && printf "$2" | gzip -n >"search/search-$3.idx.gz"
            { echo "Backup ID: $3"; echo "search/search-$3.idx.gz|4.0K|$(sha256sum search/* | cut -d' ' -f1)"
              echo "Total Files: 1"; } >MANIFEST.txt
        "#;
        for (folder, content) in [("backups", GOOD), ("changed", "search-index 1\nevil\n")] {
            let mut command = std::process::Command::new("sh");
            let folder = trying.path(folder).join(ID);
            run(command
                .args(["-ec", script, "make"])
                .arg(folder)
                .args([content, ID]));
        }
        // The manifest of the good one, over what is another.
        let manifest = |folder: &str| trying.path(folder).join(ID).join("MANIFEST.txt");
        std::fs::copy(manifest("backups"), manifest("changed")).unwrap();
        trying
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    async fn open(&self, folder: &str) -> Result<Backup> {
        let store = Arc::new(DirectoryStore::new(self.path(folder)));
        Backup::open(store, ID.parse()?).await
    }
}

#[async_trait]
impl ComponentUnderTest for Trying {
    async fn component(&self) -> Result<SharedComponent> {
        let config = SiteConfig::from_toml(
            "[site]\nname = 'x'\nstate = 'state'\n[stores]\n[components.search]\n\
             kind = 'search-index'\nfile = 'app/search.idx'\n",
        )?;
        let platform = local::make(&config, self.root.path(), &self.path("state"))?;
        let parts = ComponentDeps::new(platform, self.root.path(), self.path("state/work"));
        let registry = Registry::empty().with(SearchIndex::KIND, Arc::new(SearchIndex::from_table));
        let table = config.components["search"].as_object().unwrap().clone();
        registry.make("search", table, &parts)
    }

    async fn backup(&self) -> Result<Backup> {
        self.open("backups").await
    }

    async fn changed_backup(&self) -> Result<Option<Backup>> {
        self.open("changed").await.map(Some)
    }

    async fn live(&self) -> Result<String> {
        Ok(format!(
            "{:?}",
            std::fs::read_to_string(self.path("app/search.idx")).ok()
        ))
    }

    async fn where_nothing_is_live(&self) -> Result<Option<Arc<dyn ComponentUnderTest>>> {
        let lost = Self::new();
        std::fs::remove_file(lost.path("app/search.idx")).unwrap();
        Ok(Some(Arc::new(lost)))
    }

    async fn beside(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.path("app")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "search.idx").collect();
        names.sort();
        Ok(names)
    }
}

#[tokio::test]
async fn the_search_index() {
    conformance::component(Arc::new(Trying::new()))
        .await
        .unwrap();
}

struct TryingYears(tempfile::TempDir);

#[async_trait]
impl StoreUnderTest for TryingYears {
    async fn open(&self) -> Result<Arc<dyn BackupStore>> {
        Ok(Arc::new(FiledByYear::new(self.0.path())))
    }

    async fn put(&self, folder: &str, path: &str, content: &[u8]) -> Result<()> {
        let year = folder.trim_start_matches("pre-restore-").get(..4);
        let path = self.0.path().join(year.unwrap()).join(folder).join(path);
        let put = || {
            std::fs::create_dir_all(path.parent().unwrap())?;
            std::fs::write(&path, content)
        };
        put().map_err(|e| Error::io(format!("put {}", path.display()), e))
    }

    async fn unreachable(&self) -> Result<Option<Arc<dyn BackupStore>>> {
        Ok(Some(Arc::new(FiledByYear::new(
            self.0.path().join("absent"),
        ))))
    }
}

#[tokio::test]
async fn the_store_filed_by_year() {
    let trying = TryingYears(tempfile::tempdir().unwrap());
    conformance::store(Arc::new(trying)).await.unwrap();
}

/// A site with a check and a platform of one's own.
fn own_kinds(trying: &Trying) -> Site {
    let config = SiteConfig::from_toml(
        "[site]\nname = 'x'\nstate = 'state'\n[platform]\nkind = 'local-shared'\n\
         [stores.main]\nkind = 'directory'\npath = 'backups'\n\
         [checks.ready]\nkind = 'fresh-file'\nfile = 'app/ready'\n\
         [components.search]\nkind = 'search-index'\nfile = 'app/search.idx'\n",
    )
    .unwrap();
    let registry = Registry::default()
        .with(SearchIndex::KIND, Arc::new(SearchIndex::from_table))
        .with_check(FreshFile::KIND, Arc::new(FreshFile::from_table))
        .with_platform(SharedLock::KIND, Arc::new(SharedLock::make));
    Site::from_config(config, trying.root.path(), &registry).unwrap()
}

#[tokio::test]
async fn the_check_of_a_fresh_file() {
    let trying = Trying::new();
    let site = own_kinds(&trying);
    let checked = site.check(&RunOptions::new()).await.unwrap();
    assert!(!checked[0].passed, "{checked:?}");
    std::fs::write(trying.path("app/ready"), "").unwrap();
    let checked = site.check(&RunOptions::new()).await.unwrap();
    assert!(checked[0].passed, "{checked:?}");
}

#[tokio::test]
async fn a_store_a_hook_and_a_page_by_their_kinds() {
    let trying = Trying::new();
    let year = trying.path("years/2024");
    std::fs::create_dir_all(&year).unwrap();
    std::fs::rename(trying.path("backups").join(ID), year.join(ID)).unwrap();
    let config = SiteConfig::from_toml(
        "[site]\nname = 'x'\nstate = 'state'\n\
         [stores.main]\nkind = 'directory'\npath = 'backups'\n\
         [stores.years]\nkind = 'filed-by-year'\nroot = 'years'\n\
         [hooks.diary]\nkind = 'diary'\nfile = 'diary'\nwhen = ['on-success']\n\
         [maintenance]\nkind = 'flag'\nfile = 'page.html'\n\
         [components.search]\nkind = 'search-index'\nfile = 'app/search.idx'\n",
    )
    .unwrap();
    let registry = Registry::default()
        .with(SearchIndex::KIND, Arc::new(SearchIndex::from_table))
        .with_store(FiledByYear::KIND, Arc::new(FiledByYear::from_table))
        .with_hook(Diary::KIND, Arc::new(Diary::from_table))
        .with_maintenance(Flag::KIND, Arc::new(Flag::from_table));
    let site = Site::from_config(config, trying.root.path(), &registry).unwrap();
    assert_eq!(site.backup("latest").await.unwrap().id().as_str(), ID);
    let made = site.begin().back_up(BackupRequest::all()).await.unwrap();
    let diary = std::fs::read_to_string(trying.path("diary")).unwrap();
    assert_eq!(
        diary,
        format!("on-success backup: x: Backup {} is made\n", made.id)
    );
    let page = trying.path("page.html");
    site.page(true).await.unwrap();
    assert!(page.exists());
    for _ in 0..2 {
        site.page(false).await.unwrap();
        assert!(!page.exists());
    }
}

#[tokio::test]
async fn the_lock_on_a_shared_disk() {
    let trying = Trying::new();
    let site = own_kinds(&trying);
    assert!(site.platform().describe().ends_with("one host at a time"));
    let held = site.platform().lock("backup").await.unwrap().unwrap();
    let error = site
        .begin()
        .back_up(BackupRequest::all())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(
        site.lock_holder()
            .await
            .unwrap()
            .unwrap()
            .starts_with("backup")
    );
    held.release().await.unwrap();
    let made = site.begin().back_up(BackupRequest::all()).await.unwrap();
    assert_eq!(made.kind, "full");
    assert_eq!(site.lock_holder().await.unwrap(), None);
}

/// `None` is no lock at all, and whoever hears it goes on without one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lock_that_is_given_back_just_then_is_taken_or_refused() {
    let trying = Trying::new();
    let inside = Arc::new(AtomicU32::new(0));
    let hosts = (0..4).map(|_| {
        let (site, inside) = (own_kinds(&trying), inside.clone());
        tokio::spawn(async move {
            for _ in 0..2_000 {
                match site.platform().lock("restore").await {
                    Ok(held) => {
                        let held = held.expect("there is a lock");
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        held.release().await.unwrap();
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Locked, "{error}"),
                }
            }
        })
    });
    for host in hosts.collect::<Vec<_>>() {
        host.await.unwrap();
    }
}

/// Whoever copies it has all of the platform that it stands before, also what the trait has a default for.
#[test]
fn all_else_is_handed_on() {
    let methods = |text: &str| -> BTreeSet<String> {
        text.lines()
            .filter_map(|line| line.trim().trim_start_matches("async ").strip_prefix("fn "))
            .filter_map(|line| Some(line.split_once('(')?.0.to_owned()))
            .collect()
    };
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).unwrap();
    let contract = read("restore-core/src/contract/platform.rs");
    let (platform, _) = contract.split_once("pub trait PlatformLock").unwrap();
    let (wanted, known) = (
        methods(platform),
        methods(&read("examples/src/shared_lock.rs")),
    );
    assert!(wanted.len() > 20);
    let missing: Vec<_> = wanted.difference(&known).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
