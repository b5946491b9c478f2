//! A stack is deployed from the compose files that were restored, whoever can write to the tree.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use restore_core::platform::{
    Command, Endpoint, Platform, Process, Scratch, ServiceState, Stacks, Volume,
};
use restore_core::{Error, ErrorKind, Finding, Result, Timestamp};
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
    compose = ['compose.yml', 'more/compose.yml', 'link.yml']
";

/// What was given to a deployment: files, and the paths, modes and contents that count.
type Deployed = (Vec<PathBuf>, Vec<(PathBuf, u32, String)>);

/// A platform whose stack is there, and on which somebody does something between the swap and the deployment.
struct Toy {
    host: Arc<dyn Platform>,
    meanwhile: Box<dyn Fn() + Send + Sync>,
    deployed: Arc<Mutex<Vec<Deployed>>>,
}

#[async_trait]
impl Stacks for Toy {
    async fn inspect(&self, _stack: &str) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn snapshot(&self, _stack: &str) -> Result<Value> {
        (self.meanwhile)();
        Ok(json!({}))
    }

    async fn deploy(&self, stack: &str, files: &[PathBuf], snapshot: &Value) -> Result<()> {
        self.deploy_held(stack, files, files, snapshot).await
    }

    async fn deploy_held(
        &self,
        _stack: &str,
        files: &[PathBuf],
        held: &[PathBuf],
        _snapshot: &Value,
    ) -> Result<()> {
        let read = held.iter().map(|path| {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            let text = std::fs::read_to_string(path).unwrap();
            (path.clone(), mode & 0o777, text)
        });
        let deployed = (files.to_vec(), read.collect());
        self.deployed.lock().unwrap().push(deployed);
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

/// A run of a tree that belongs to `owner`, in which `meanwhile` happens before the stack is deployed: what
/// the deployment got or why there is none, what the plan said, and the site.
async fn run(
    owner: u32,
    meanwhile: impl Fn(&Path) + Send + Sync + 'static,
) -> (std::result::Result<Deployed, Error>, Vec<String>, Site) {
    run_of(owner, &[], meanwhile).await
}

/// The same of these paths in the tree; of none: of all.
async fn run_of(
    owner: u32,
    paths: &[&str],
    meanwhile: impl Fn(&Path) + Send + Sync + 'static,
) -> (std::result::Result<Deployed, Error>, Vec<String>, Site) {
    let site = Site::new();
    let tree = site.path("host/srv/shop");
    put(tree.join("compose.yml"), "services: {}\n");
    put(tree.join("more/compose.yml"), "networks: {}\n");
    put(tree.join("more/led.yml"), "volumes: {}\n");
    symlink("more/led.yml", tree.join("link.yml")).unwrap();
    let files = ["compose.yml", "more/compose.yml", "more/led.yml"];
    for path in ["", "more"].iter().chain(&files) {
        chown(tree.join(path), Some(owner), Some(owner)).unwrap();
    }
    site.pack(
        &format!("configs/shop-{ID}.tar.gz"),
        &site.path("host"),
        &["srv/shop"],
    );
    put(tree.join("compose.yml"), "services: {old: {}}\n");
    let paths = paths
        .iter()
        .map(|path| tree.join(path).display().to_string());
    let paths: Vec<String> = paths.collect();
    let deployed = Arc::new(Mutex::new(Vec::new()));
    let seen = deployed.clone();
    let component = site.component_on(CONFIG, |host| {
        Arc::new(Toy {
            host,
            meanwhile: Box::new(move || meanwhile(&tree)),
            deployed: seen,
        })
    });
    let component = component.unwrap();
    let cx = site.context().await.with_paths(paths);
    let found = component.inspect(&cx).await.unwrap().findings;
    let codes = found.into_iter().map(|it| it.code).collect();
    let done = async {
        component.stage(&cx).await?;
        component.cut_over(&cx).await?;
        component.deploy(&cx).await
    };
    let done = done.await;
    let deployed = deployed.lock().unwrap().pop();
    let done = done.map(|()| deployed.clone().unwrap());
    assert_eq!(done.is_ok(), deployed.is_some());
    (done, codes, site)
}

#[tokio::test]
async fn what_root_alone_can_change_is_deployed_where_it_is() {
    let (done, codes, site) = run(0, |_| {}).await;
    let (files, held) = done.unwrap();
    let tree = site.path("host/srv/shop");
    let names = ["compose.yml", "more/compose.yml", "link.yml"];
    assert_eq!(files, names.map(|name| tree.join(name)));
    let held: Vec<PathBuf> = held.into_iter().map(|(path, ..)| path).collect();
    assert_eq!(held, files);
    assert!(codes.is_empty(), "{codes:?}");
}

#[tokio::test]
async fn what_others_can_change_is_deployed_from_a_private_copy() {
    let (done, codes, site) = run(65534, |_| {}).await;
    let (files, held) = done.unwrap();
    assert!(files[0].starts_with(site.path("host")), "{files:?}");
    let contents: Vec<&str> = held.iter().map(|(_, _, text)| text.as_str()).collect();
    let all = ["services: {}\n", "networks: {}\n", "volumes: {}\n"];
    assert_eq!(contents, all);
    for (path, mode, _) in &held {
        assert!(path.starts_with(site.path("state")), "{path:?}");
        assert_eq!(*mode, 0o600);
        assert!(!path.exists(), "{path:?}");
    }
    assert_eq!(codes, ["files.obeyed_open"]);
}

/// What somebody does to a tree.
type Way = Box<dyn Fn(&Path) + Send + Sync>;

#[tokio::test]
async fn a_compose_file_that_is_no_more_the_restored_one_is_not_deployed() {
    let evil = "services: {evil: {privileged: true}}\n";
    let ways: [Way; 4] = [
        Box::new(move |tree| std::fs::write(tree.join("compose.yml"), evil).unwrap()),
        Box::new(|tree| {
            let file = tree.join("more/compose.yml");
            let away = tree.join("away.yml");
            std::fs::rename(&file, &away).unwrap();
            symlink(away, file).unwrap();
        }),
        Box::new(|tree| std::fs::remove_file(tree.join("compose.yml")).unwrap()),
        Box::new(move |tree| std::fs::write(tree.join("more/led.yml"), evil).unwrap()),
    ];
    for way in ways {
        let (done, _, site) = run(65534, way).await;
        let error = done.unwrap_err();
        assert_eq!(error.code(), "files.compose_changed", "{error}");
        assert_eq!(error.kind(), ErrorKind::Verification);
        assert!(error.hint_text().is_some());
        let folder = site.path("state/scratch").join(site.run.as_str());
        let left = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let left: Vec<_> = left.map(|it| it.file_name()).collect();
        assert!(
            !left.iter().any(|it| it.to_string_lossy().contains("yml")),
            "{left:?}"
        );
    }
}

#[tokio::test]
async fn what_is_not_restored_is_deployed_only_where_root_alone_can_change_it() {
    let (done, ..) = run_of(0, &["more"], |_| {}).await;
    let (_, held) = done.unwrap();
    let contents: Vec<&str> = held.iter().map(|(_, _, text)| text.as_str()).collect();
    let live = "services: {old: {}}\n";
    assert_eq!(contents, [live, "networks: {}\n", "volumes: {}\n"]);

    let (done, codes, _) = run_of(65534, &["more"], |_| {}).await;
    let error = done.unwrap_err();
    assert_eq!(error.code(), "files.compose_changed", "{error}");
    assert!(error.message().contains("does not restore it"), "{error}");
    // The plan says so already.
    assert!(
        codes.iter().any(|it| it == "files.compose_changed"),
        "{codes:?}"
    );
}

/// A hook that adapts what was restored is root's own doing.
#[tokio::test]
async fn what_root_alone_can_have_changed_is_deployed_as_it_is() {
    let adapted = "services: {adapted: {}}\n";
    let ways: [Way; 2] = [
        Box::new(move |tree| std::fs::write(tree.join("more/led.yml"), adapted).unwrap()),
        Box::new(move |tree| {
            std::fs::remove_file(tree.join("link.yml")).unwrap();
            put(tree.join("link.yml"), adapted);
        }),
    ];
    for way in ways {
        let (done, ..) = run(0, way).await;
        let (files, held) = done.unwrap();
        let contents: Vec<&str> = held.iter().map(|(_, _, text)| text.as_str()).collect();
        assert_eq!(contents, ["services: {}\n", "networks: {}\n", adapted]);
        assert!(held.iter().map(|(path, ..)| path).eq(&files));
    }
    let gone = |tree: &Path| std::fs::remove_file(tree.join("compose.yml")).unwrap();
    let (done, ..) = run(0, gone).await;
    assert_eq!(done.unwrap_err().code(), "files.compose_changed");
}
