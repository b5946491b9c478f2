//! What a stack that is not there is made from: staged with its tree, planned from the files that links lead to,
//! and backed up with any tree.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use restore_core::component::Registry;
use restore_core::config::SiteConfig;
use restore_core::platform::{
    Command, Discard, Endpoint, Platform, Process, Scratch, ServiceState, StackPart, StackPlan,
    StackSource, Stacks, Volume, local,
};
use restore_core::{
    BackupRequest, Error, ErrorKind, Finding, Result, RunOptions, Severity, Site as Whole,
    Timestamp,
};
use restore_testing::archives::{ID, Site, put};
use serde_json::{Value, json};

const CONFIG: &str = "
    [components.it]
    kind = 'files'
    archive = ['configs/shop-{id}.tar.gz']
    root = '@/host'
    tree = 'srv/shop'
    redeploy = true
    stack = 'shop'
    compose = ['compose.yml', 'more/compose.yml']
";

const CONFIGS: &str = "configs/swarm-config-site.json";

/// A platform of whose stack nothing is there, or all.
struct Toy {
    host: Arc<dyn Platform>,
    is_there: bool,
    tells_of_missing: bool,
    /// What stacks were planned and made from.
    sources: Arc<Mutex<Vec<StackSource>>>,
    answers: bool,
}

#[async_trait]
impl Stacks for Toy {
    async fn is_absent(&self, _stack: &str) -> Result<bool> {
        Ok(!self.is_there)
    }

    fn plans_missing(&self) -> bool {
        self.tells_of_missing
    }

    async fn plan_missing(&self, _stack: &str, source: &StackSource) -> Result<StackPlan> {
        self.sources.lock().unwrap().push(source.clone());
        Ok(StackPlan::default())
    }

    fn reads(&self) -> &'static [&'static str] {
        &["configs/swarm-config-*.json"]
    }

    async fn records(&self) -> Result<Vec<(String, Vec<u8>)>> {
        match self.answers {
            true => Ok(vec![(CONFIGS.to_owned(), b"[]".to_vec())]),
            false => Err(Error::new(ErrorKind::Failed, "toy.away", "it is away")),
        }
    }

    async fn plan(&self, _stack: &str, source: &StackSource) -> Result<StackPlan> {
        self.sources.lock().unwrap().push(source.clone());
        let mut plan = StackPlan::default();
        let parts = source.files.keys();
        let parts = parts.map(|path| StackPart::new("config", path).external());
        plan.parts.extend(parts);
        Ok(plan)
    }

    async fn make_parts(&self, source: &StackSource, _parts: &[StackPart]) -> Result<()> {
        self.sources.lock().unwrap().push(source.clone());
        Ok(())
    }

    async fn inspect(&self, _stack: &str) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn snapshot(&self, _stack: &str) -> Result<Value> {
        Ok(json!({}))
    }

    async fn deploy(&self, _stack: &str, _files: &[PathBuf], _snapshot: &Value) -> Result<()> {
        Ok(())
    }

    async fn put_back(&self, _stack: &str, _snapshot: &Value) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Platform for Toy {
    fn describe(&self) -> String {
        "a toy".to_owned()
    }

    fn stacks(&self) -> Option<&dyn Stacks> {
        Some(self)
    }

    fn services(&self) -> Vec<String> {
        self.host.services()
    }

    async fn service(&self, name: &str) -> Result<ServiceState> {
        self.host.service(name).await
    }

    async fn scale(&self, name: &str, replicas: u32) -> Result<()> {
        self.host.scale(name, replicas).await
    }

    async fn exec(&self, service: &str, command: Command) -> Result<Box<dyn Process>> {
        self.host.exec(service, command).await
    }

    async fn logs(&self, service: &str, since: Timestamp, limit: usize) -> Result<Vec<String>> {
        self.host.logs(service, since, limit).await
    }

    async fn endpoint(&self, service: &str) -> Result<Endpoint> {
        self.host.endpoint(service).await
    }

    async fn volume(&self, name: &str) -> Result<Arc<dyn Volume>> {
        self.host.volume(name).await
    }

    async fn scratch(&self, service: &str, command: Command) -> Result<Box<dyn Scratch>> {
        self.host.scratch(service, command).await
    }

    async fn path_in(&self, service: &str, host_path: &Path) -> Result<Option<PathBuf>> {
        self.host.path_in(service, host_path).await
    }

    async fn owner(&self, service: &str) -> Result<Option<(u32, u32)>> {
        self.host.owner(service).await
    }
}

/// The component of a backup of the tree, into which `more` puts files besides the compose files; what its stack was
/// planned and made from.
fn component(
    more: impl Fn(&Path),
) -> (
    Site,
    restore_core::component::SharedComponent,
    Arc<Mutex<Vec<StackSource>>>,
) {
    component_where(None, more)
}

/// The same where the stack is `there`, and its platform tells what it misses or does not.
fn component_where(
    there: Option<bool>,
    more: impl Fn(&Path),
) -> (
    Site,
    restore_core::component::SharedComponent,
    Arc<Mutex<Vec<StackSource>>>,
) {
    let site = Site::new();
    let tree = site.path("host/srv/shop");
    put(tree.join("compose.yml"), "services: {}\n");
    put(tree.join("more/compose.yml"), "networks: {}\n");
    more(&tree);
    put(site.artifact(CONFIGS), "[]");
    let archive = format!("configs/shop-{ID}.tar.gz");
    site.pack(&archive, &site.path("host"), &["srv/shop"]);
    let sources = Arc::new(Mutex::new(Vec::new()));
    let seen = sources.clone();
    let component = site.component_on(CONFIG, |host| {
        Arc::new(Toy {
            host,
            is_there: there.is_some(),
            tells_of_missing: there == Some(true),
            sources: seen,
            answers: true,
        })
    });
    (site, component.unwrap(), sources)
}

#[tokio::test]
async fn a_stack_is_made_from_what_was_staged() {
    let (site, component, sources) = component(|_| {});
    let cx = site.context().await.with_create(true);
    let creates = component.inspect(&cx).await.unwrap().creates;
    assert_eq!(creates, [format!("config {CONFIGS}")]);
    component.stage(&cx).await.unwrap();
    // By now the store is away, or has another one.
    std::fs::remove_file(site.artifact(CONFIGS)).unwrap();
    component.cut_over(&cx).await.unwrap();
    component.deploy(&cx).await.unwrap();
    let made_from = sources.lock().unwrap().pop().unwrap();
    let content = made_from.files.get(CONFIGS).map(Vec::as_slice);
    assert_eq!(content, Some(&b"[]"[..]));
    let kept = || {
        let folder = site.path("state/scratch").join(site.run.as_str());
        let kept = std::fs::read_dir(folder).into_iter().flatten();
        kept.count()
    };
    assert!(kept() > 0);
    component.discard(&cx, Discard::Replaced).await.unwrap();
    assert_eq!(kept(), 0, "nothing is left of it");
}

#[tokio::test]
async fn a_run_that_may_make_nothing_does_not_make_a_stack_that_is_gone_since() {
    let (site, component, _) = component(|_| {});
    let cx = site.context().await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    let error = component.deploy(&cx).await.unwrap_err();
    assert_eq!(error.code(), "create.gone_since");
    assert!(error.message().contains("the stack shop"), "{error}");
}

#[tokio::test]
async fn a_compose_file_that_is_a_link_is_read_where_it_leads() {
    let linked = |to: &'static str| {
        move |tree: &Path| {
            put(tree.join("files/real.yml"), "services: {web: {}}\n");
            symlink("real.yml", tree.join("files/other.yml")).unwrap();
            std::fs::remove_file(tree.join("more/compose.yml")).unwrap();
            symlink(to, tree.join("more/compose.yml")).unwrap();
        }
    };
    let (site, component_of_it, sources) = component(linked("../files/real.yml"));
    let cx = site.context().await.with_create(true);
    let found = component_of_it.inspect(&cx).await.unwrap().findings;
    let is_error = |it: &Finding| it.severity == Severity::Error;
    assert!(!found.iter().any(is_error), "{found:?}");
    let planned = sources.lock().unwrap().pop().unwrap().compose;
    let tree = site.path("host/srv/shop");
    let wanted = [
        (tree.join("compose.yml"), "services: {}\n".to_owned()),
        (
            tree.join("more/compose.yml"),
            "services: {web: {}}\n".to_owned(),
        ),
    ];
    assert_eq!(planned, wanted);

    // Where another link follows, that is said, and not that there is none.
    let (site, component_of_it, _) = component(linked("../files/other.yml"));
    let cx = site.context().await.with_create(true);
    let found = component_of_it.inspect(&cx).await.unwrap().findings;
    let mut errors = found.iter().filter(|it| is_error(it));
    let told = errors.next().unwrap();
    assert_eq!(told.code, "files.compose_link", "{found:?}");
    assert!(told.message.contains("../files/other.yml"), "{told:?}");
    assert!(errors.next().is_none(), "{found:?}");
}

/// A plan, that of the run, and a link among the compose files: the archive is read once.
#[tokio::test]
async fn the_compose_files_of_a_backup_are_read_once_and_only_where_somebody_asks() {
    let linked = |tree: &Path| {
        put(tree.join("files/real.yml"), "services: {web: {}}\n");
        std::fs::remove_file(tree.join("more/compose.yml")).unwrap();
        symlink("../files/real.yml", tree.join("more/compose.yml")).unwrap();
    };
    let (site, component, sources) = component_where(Some(true), linked);
    component.inspect(&site.context().await).await.unwrap();
    let first = sources.lock().unwrap().pop().unwrap().compose;
    assert_eq!(first[1].1, "services: {web: {}}\n");
    // From here on there is nothing to be read.
    let archive = site.artifact(&format!("configs/shop-{ID}.tar.gz"));
    let size = std::fs::metadata(&archive).unwrap().len();
    std::fs::write(&archive, vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
    component.inspect(&site.context().await).await.unwrap();
    assert_eq!(sources.lock().unwrap().pop().unwrap().compose, first);
    // Another backup under the same id is another one.
    site.list();
    component.inspect(&site.context().await).await.unwrap();
    assert!(sources.lock().unwrap().is_empty());

    let (site, component, sources) = component_where(Some(false), linked);
    component.inspect(&site.context().await).await.unwrap();
    assert!(sources.lock().unwrap().is_empty(), "nobody asks");
}

const TREES: &str = "
    [site]
    name = 'test'
    state = '@/state'
    [stores.main]
    kind = 'directory'
    path = '@/backups'
    [components.one]
    kind = 'files'
    root = '@/host'
    tree = 'srv/one'
    stops = []
    [components.two]
    kind = 'files'
    root = '@/host'
    tree = 'srv/two'
    stops = []
";

/// Also where nothing is deployed: who begins from nothing may do it with another configuration.
#[tokio::test]
async fn what_stacks_need_is_backed_up_with_any_tree() {
    for answers in [true, false] {
        let folder = Site::new();
        for tree in ["one", "two"] {
            put(folder.path("host/srv").join(tree).join("file"), tree);
        }
        let base = folder.path("");
        let text = TREES.replace('@', base.to_str().unwrap().trim_end_matches('/'));
        let config = SiteConfig::from_toml(&text.replace("\n    ", "\n")).unwrap();
        let host = local::make(&config, &base, &folder.path("state")).unwrap();
        let platform = Arc::new(Toy {
            host,
            is_there: false,
            tells_of_missing: false,
            sources: Arc::default(),
            answers,
        });
        let site = Whole::with_platform(config, &base, &Registry::default(), platform).unwrap();
        let made = site.back_up(BackupRequest::all(), RunOptions::new());
        let report = made.await.unwrap();
        let codes: Vec<&str> = report.findings.iter().map(|it| it.code.as_str()).collect();
        let backup = folder.path("backups").join(report.id.to_string());
        let written = |name: &str| {
            let component = report.components.iter().find(|it| it.name == name).unwrap();
            let mut artifacts = component.artifacts.iter();
            artifacts.any(|it| it.path == CONFIGS)
        };
        assert!(!written("two"), "one tree is enough");
        assert_eq!(written("one"), answers);
        match answers {
            true => {
                assert!(!codes.contains(&"files.stacks_untold"), "{codes:?}");
                let meta = std::fs::metadata(backup.join(CONFIGS)).unwrap();
                assert_eq!(meta.permissions().mode() & 0o777, 0o600);
            }
            false => assert!(codes.contains(&"files.stacks_untold"), "{codes:?}"),
        }
    }
}
