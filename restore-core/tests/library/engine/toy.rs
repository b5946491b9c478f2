//! A platform and components made of small files, whose every effect can be looked at: what the

//! engine does with them is what it does with databases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use restore_core::backup::{Backup, BackupId, BackupWriter};
use restore_core::component::{
    BackedUp, CheckOutcome, Component, ComponentDeps, Inspection, NeverBackedUp, Recovery,
    Registry, SharedComponent, Staged, Target,
};
use restore_core::config::{SiteConfig, Table};
use restore_core::maintenance::{Maintenance, Readiness};
use restore_core::platform::{
    Command, Discard, Endpoint, Platform, PlatformLock, Process, Program, Scratch, ServiceState,
    SwapScope, Volume,
};
use restore_core::run::{CutOver, RunContext, RunId};
use restore_core::{Error, ErrorKind, Finding, Result, Site, Timestamp};
use tokio::sync::Barrier;

/// A site of two toy components, `a` (stops `app`) and `b` (stops `app` and `db`).
pub struct Toy {
    pub dir: tempfile::TempDir,
    pub platform: Arc<ToyPlatform>,
}

/// Services are entries of a map; nothing runs.
pub struct ToyPlatform {
    pub services: Mutex<BTreeMap<String, u32>>,
    pub refuse_to_start: Mutex<Option<String>>,
    pub refuse_to_stop: Mutex<Option<String>>,
    /// The process dies as it is about to stop this one.
    pub dies_at_stop: Mutex<Option<String>>,
    /// What each service is started, stopped and asked after by.
    pub programs: Mutex<Vec<Program>>,
    /// How often more the platform's lock is held by another host.
    pub held: AtomicUsize,
    /// A service stops, or starts, only when so many do at the same time.
    pub together: Mutex<Option<Arc<Barrier>>>,
    /// What is said of `app` while it is down: its detail, and why it had to be killed.
    pub stopped: Mutex<Option<(String, Option<String>)>>,
    /// How many instances are wanted of a service of which other than so many run.
    pub wanted: Mutex<BTreeMap<String, u32>>,
    /// What services were scaled to by a plan, and how many instances were to run at least.
    pub asked: Mutex<Vec<(String, u32, u32)>>,
    /// How often services were given back what was taken from them.
    pub released: AtomicUsize,
}

const BACKUP: &str = "20240215-020000";

impl Toy {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backup = dir.path().join("backups").join(BACKUP);
        std::fs::create_dir_all(&backup).unwrap();
        for name in ["a", "b"] {
            std::fs::write(
                backup.join(format!("{name}.txt")),
                format!("restored {name}"),
            )
            .unwrap();
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("live"), format!("old {name}")).unwrap();
        }
        let lines: String = ["a", "b"]
            .iter()
            .map(|name| {
                let hash = sha256(format!("restored {name}").as_bytes());
                format!("{name}.txt|4.0K|{hash}\n")
            })
            .collect();
        std::fs::write(
            backup.join("MANIFEST.txt"),
            format!("Backup ID: {BACKUP}\n=== Files ===\n{lines}=== Summary ===\nTotal Files: 2\n"),
        )
        .unwrap();
        let platform = Arc::new(ToyPlatform {
            services: Mutex::new([("db".to_owned(), 1), ("app".to_owned(), 5)].into()),
            refuse_to_start: Mutex::default(),
            refuse_to_stop: Mutex::default(),
            dies_at_stop: Mutex::default(),
            programs: Mutex::default(),
            held: AtomicUsize::new(0),
            together: Mutex::default(),
            stopped: Mutex::default(),
            wanted: Mutex::default(),
            asked: Mutex::default(),
            released: AtomicUsize::new(0),
        });
        Self { dir, platform }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn site(&self) -> Site {
        self.site_of(
            r#"
            [components.a]
            kind = "toy"
            stops = ["app"]
            [components.b]
            kind = "toy"
            stops = ["app", "db"]
            "#,
            "",
        )
    }

    /// The same site with a page: a file that is there while it is up.
    pub fn site_with_page(&self) -> Site {
        self.site().with_maintenance(self.maintenance())
    }

    /// The same with a page and these hooks.
    pub fn site_with_hooks(&self, hooks: &str) -> Site {
        self.site_of_both(hooks)
            .with_maintenance(self.maintenance())
    }

    fn site_of_both(&self, more: &str) -> Site {
        let components = r#"
            [components.a]
            kind = "toy"
            stops = ["app"]
            [components.b]
            kind = "toy"
            stops = ["app", "db"]
            "#;
        self.site_of(&format!("{components}{more}"), "")
    }

    /// A page for any site of this toy; files `fail-page-on` and `fail-page-off` keep it from
    /// changing.
    pub fn maintenance(&self) -> Arc<dyn Maintenance> {
        Arc::new(ToyPage {
            dir: self.path().to_owned(),
            file: "page".to_owned(),
            kept: false,
            server: None,
        })
    }

    /// A site whose configuration says in which file its page is; a run keeps that.
    pub fn site_with_page_in(&self, file: Option<&str>) -> Site {
        let page = file.map_or_else(String::new, |file| {
            format!("[maintenance]\nkind = \"toy\"\nfile = \"{file}\"\n")
        });
        self.site_of_both(&page)
    }

    /// The same, whose page the server `watch` shows, while it runs.
    pub fn site_with_web_server(&self) -> Site {
        let mut services = self.platform.services.lock().unwrap();
        services.entry("watch".to_owned()).or_insert(1);
        drop(services);
        self.site_of_both("[maintenance]\nkind = \"toy\"\nfile = \"page\"\nservice = \"watch\"\n")
    }

    pub fn page_is_up(&self) -> bool {
        self.path().join("page").exists()
    }

    /// The same components, of which `a` needs a server that is not stopped for it.
    pub fn site_with_needs(&self) -> Site {
        let mut services = self.platform.services.lock().unwrap();
        services.entry("watch".to_owned()).or_insert(1);
        drop(services);
        self.site_of(
            r#"
            [components.a]
            kind = "toy"
            stops = ["app"]
            needs = "watch"
            [components.b]
            kind = "toy"
            stops = ["app", "db"]
            "#,
            "",
        )
    }

    /// The same components, of which `a` stops what users do not see, a service more, and `b`
    /// deploys itself.
    pub fn site_behind(&self) -> Site {
        let mut services = self.platform.services.lock().unwrap();
        services.entry("watch".to_owned()).or_insert(2);
        drop(services);
        self.site_of(
            r#"
            [components.b]
            kind = "toy"
            stops = ["app", "db"]
            deploys = true
            [components.a]
            kind = "toy"
            stops = ["watch"]
            "#,
            "background = ['watch']",
        )
    }

    /// The same components; `app` comes after `db` as these keys say.
    pub fn site_ordered(&self, keys: &str) -> Site {
        self.site_of(
            &format!(
                r#"
                [components.a]
                kind = "toy"
                stops = ["app"]
                [components.b]
                kind = "toy"
                stops = ["app", "db"]
                [services.db]
                [services.app]
                {keys}
                "#
            ),
            "",
        )
    }

    /// The component `a`, and a cluster `p` that is recovered by base backups.
    pub fn site_with_cluster(&self) -> Site {
        std::fs::create_dir_all(self.path().join("p")).unwrap();
        self.site_of(
            r#"
            [components.a]
            kind = "toy"
            stops = ["app"]
            [components.p]
            kind = "toy"
            stops = ["db"]
            cluster = true
            "#,
            "",
        )
    }

    /// The same site, whose safety backups go to a store of their own, `safe`.
    pub fn site_with_safety_store(&self) -> Site {
        std::fs::create_dir_all(self.path().join("safe")).unwrap();
        self.site_of(
            r#"
            [stores.safe]
            kind = "directory"
            path = "safe"
            [components.a]
            kind = "toy"
            stops = ["app"]
            [components.b]
            kind = "toy"
            stops = ["app", "db"]
            "#,
            "safety_store = 'safe'",
        )
    }

    /// The component `a` alone.
    pub fn site_of_one(&self) -> Site {
        self.site_of("[components.a]\nkind = 'toy'\nstops = ['app']", "")
    }

    /// A backup with exact sizes that has something for these components; its folder.
    pub fn backup(&self, id: &str, names: &[&str]) -> PathBuf {
        let folder = self.path().join("backups").join(id);
        std::fs::create_dir_all(&folder).unwrap();
        let lines: String = names
            .iter()
            .map(|name| {
                let text = format!("restored {name}");
                std::fs::write(folder.join(format!("{name}.txt")), &text).unwrap();
                let hash = sha256(text.as_bytes());
                format!("{name}.txt|{}|{hash}\n", text.len())
            })
            .collect();
        let count = names.len();
        let header = format!("Backup ID: {id}\nSize Unit: bytes\n");
        let text = format!("{header}=== Files ===\n{lines}=== Summary ===\nTotal Files: {count}\n");
        std::fs::write(folder.join("MANIFEST.txt"), text).unwrap();
        folder
    }

    fn site_of(&self, components: &str, more: &str) -> Site {
        let text = format!(
            r#"
            [site]
            name = "toy"
            state = "state"
            log = "restore.log"
            {more}
            [stores.main]
            kind = "directory"
            path = "backups"
            {components}
            "#
        );
        let config = SiteConfig::from_toml(&text).unwrap();
        let registry = Registry::empty().with(
            "toy",
            Arc::new(|name, table, parts: &ComponentDeps| {
                let stops = table["stops"].as_array().unwrap();
                Ok(Arc::new(ToyComponent {
                    name: name.to_owned(),
                    stops: stops
                        .iter()
                        .map(|s| s.as_str().unwrap().to_owned())
                        .collect(),
                    deploys: table.contains_key("deploys"),
                    cluster: table.contains_key("cluster"),
                    needs: table
                        .get("needs")
                        .map_or_else(Vec::new, |it| vec![it.as_str().unwrap().to_owned()]),
                    dir: parts.path(name),
                    platform: parts.platform.clone(),
                }) as SharedComponent)
            }),
        );
        let registry = registry.with_maintenance(
            "toy",
            Arc::new(|table, parts: &ComponentDeps| {
                Ok(Arc::new(ToyPage {
                    dir: parts.base.clone(),
                    file: table["file"].as_str().unwrap().to_owned(),
                    kept: true,
                    server: table.get("service").map(|it| {
                        let name = it.as_str().unwrap().to_owned();
                        (parts.platform.clone(), name)
                    }),
                }) as Arc<dyn Maintenance>)
            }),
        );
        Site::with_platform(config, self.path(), &registry, self.platform.clone()).unwrap()
    }

    /// Everything live: each component's data, and how many of each service run.
    pub fn live(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.path().join(name).join("live"));
        let services = self.platform.services.lock().unwrap().clone();
        format!("{:?} {:?} {services:?}", read("a").ok(), read("b").ok())
    }

    pub const OLD: &'static str = r#"Some("old a") Some("old b") {"app": 5, "db": 1}"#;
    pub const NEW: &'static str = r#"Some("restored a") Some("restored b") {"app": 5, "db": 1}"#;

    /// Names of what lies beside the live data.
    pub fn leftovers(&self) -> Vec<String> {
        let mut names: Vec<String> = ["a", "b"]
            .iter()
            .flat_map(|name| {
                std::fs::read_dir(self.path().join(name))
                    .unwrap()
                    .map(move |entry| {
                        format!("{name}/{}", entry.unwrap().file_name().to_string_lossy())
                    })
            })
            .filter(|name| !name.ends_with("/live"))
            .collect();
        names.sort();
        names
    }

    /// Makes a component misbehave: a file `fail-METHOD` in its folder.
    pub fn sabotage(&self, component: &str, method: &str) {
        std::fs::write(
            self.path().join(component).join(format!("fail-{method}")),
            "",
        )
        .unwrap();
    }

    pub fn mend(&self, component: &str, method: &str) {
        std::fs::remove_file(self.path().join(component).join(format!("fail-{method}"))).unwrap();
    }
}

fn sha256(bytes: &[u8]) -> String {
    use std::io::Write;
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let out = child.wait_with_output().unwrap().stdout;
    String::from_utf8(out).unwrap()[..64].to_owned()
}

struct ToyPage {
    dir: PathBuf,
    file: String,
    /// Whether runs keep what takes it down.
    kept: bool,
    /// What shows it.
    server: Option<(Arc<dyn Platform>, String)>,
}

impl ToyPage {
    fn fail(&self, what: &str) -> Result<()> {
        match self.dir.join(format!("fail-page-{what}")).exists() {
            true => Err(Error::new(
                ErrorKind::Failed,
                "toy.page",
                format!("the page does not go {what}"),
            )),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Maintenance for ToyPage {
    async fn inspect(&self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }
    fn section(&self) -> Option<Table> {
        let of = |value: &str| serde_json::Value::from(value);
        let section = [("kind", of("toy")), ("file", of(&self.file))];
        let section = section.map(|(key, value)| (key.to_owned(), value));
        self.kept.then(|| section.into_iter().collect())
    }
    fn reads(&self) -> Vec<PathBuf> {
        vec![self.dir.join("a/live")]
    }
    async fn readiness(&self) -> Readiness {
        if self.dir.join("page-broken").exists() {
            let why = "nobody can read its words".to_owned();
            return Readiness::Broken { why };
        }
        match &self.server {
            Some((platform, name)) if platform.service(name).await.unwrap().running == 0 => {
                let service = name.clone();
                Readiness::Down { service }
            }
            _ => Readiness::Ready,
        }
    }
    async fn on(&self, run: &RunId, _since: Timestamp) -> Result<()> {
        self.fail("on")?;
        if self.readiness().await != Readiness::Ready {
            return Err(Error::new(ErrorKind::Failed, "toy.page", "nobody shows it"));
        }
        std::fs::write(self.dir.join(&self.file), run.as_str()).unwrap();
        Ok(())
    }
    async fn off(&self, _run: &RunId) -> Result<()> {
        self.fail("off")?;
        match std::fs::remove_file(self.dir.join(&self.file)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{e}"),
            _ => Ok(()),
        }
    }
}

struct ToyComponent {
    name: String,
    stops: Vec<String>,
    needs: Vec<String>,
    deploys: bool,
    cluster: bool,
    dir: PathBuf,
    platform: Arc<dyn Platform>,
}

impl ToyComponent {
    fn paths(&self, cx: &RunContext) -> (PathBuf, PathBuf, PathBuf) {
        let beside = |kind: &str| self.dir.join(format!("{kind}-{}", cx.run()));
        (self.dir.join("live"), beside("staged"), beside("replaced"))
    }

    fn fail(&self, method: &str) -> Result<()> {
        if self.dir.join(format!("fail-{method}")).exists() {
            return Err(Error::new(
                ErrorKind::Failed,
                "toy.sabotaged",
                format!("{method} fails"),
            ));
        }
        Ok(())
    }

    async fn ensure_needs(&self) -> Result<()> {
        for service in &self.needs {
            if self.platform.service(service).await?.running == 0 {
                return Err(Error::new(
                    ErrorKind::Failed,
                    "toy.needs",
                    format!("{service} does not run"),
                ));
            }
        }
        Ok(())
    }

    async fn services_are_down(&self) {
        for service in &self.stops {
            let state = self.platform.service(service).await.unwrap();
            assert_eq!(
                state.running, 0,
                "{service} runs while {} is swapped",
                self.name
            );
        }
    }
}

#[async_trait]
impl Component for ToyComponent {
    fn name(&self) -> &str {
        &self.name
    }
    fn kind(&self) -> &'static str {
        "toy"
    }
    fn stops(&self) -> Vec<String> {
        self.stops.clone()
    }
    fn needs(&self) -> Vec<String> {
        self.needs.clone()
    }
    async fn targets(&self, _paths: &[String]) -> Result<Vec<Target>> {
        if !self.dir.join("is-target").exists() {
            return Ok(Vec::new());
        }
        let scope = SwapScope::Entries(vec!["live".to_owned()]);
        Ok(vec![Target::new(&self.dir, scope)])
    }
    fn artifacts(&self, backup: &Backup) -> Vec<String> {
        backup.find(&[format!("{}.txt", self.name)])
    }
    fn recovery(&self) -> Recovery {
        match self.cluster {
            true => Recovery::Cluster,
            false => Recovery::None,
        }
    }
    async fn must_keep(&self, backups: &[Backup]) -> Result<Vec<(BackupId, String)>> {
        let newest = backups.last().map(|it| it.id().clone());
        Ok(newest
            .map(|id| (id, "a base".to_owned()))
            .into_iter()
            .collect())
    }
    async fn live_bytes(&self) -> Result<u64> {
        self.fail("live_bytes")?;
        Ok(8)
    }
    async fn back_up(&self, writer: &BackupWriter) -> Result<BackedUp> {
        self.fail("back_up")?;
        if self.dir.join("fail-slow_back_up").exists() {
            writer.cancelled().cancelled().await;
            return Err(Error::interrupted());
        }
        if self.dir.join("back_up-waits").exists() {
            // Until something is staged beside it, or nobody wants it any more.
            let staged = || {
                let mut names = std::fs::read_dir(&self.dir).unwrap();
                names.any(|it| {
                    it.unwrap()
                        .file_name()
                        .to_string_lossy()
                        .starts_with("staged-")
                })
            };
            let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
            while !staged() || self.dir.join("fail-stage").exists() {
                writer.check_cancelled()?;
                assert!(tokio::time::Instant::now() < deadline, "nothing is staged");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        if self.dir.join("fail-no_back_up").exists() {
            return Err(Error::new(
                ErrorKind::Preflight,
                "component.no_back_up",
                "toys are not backed up",
            )
            .because(NeverBackedUp));
        }
        let text = std::fs::read(self.dir.join("live"))
            .map_err(|e| Error::io(format!("read {}", self.dir.display()), e))?;
        writer.text(&format!("{}.txt", self.name), text).await?;
        Ok(BackedUp::default())
    }
    async fn inspect(&self, cx: &RunContext) -> Result<Inspection> {
        self.ensure_needs().await?;
        let mut inspection = Inspection::default();
        inspection.artifacts = self.artifacts(cx.backup());
        // A folder that it would use, too.
        if let Ok(folder) = std::fs::read_to_string(self.dir.join("uses-folder")) {
            inspection.artifacts.push(folder);
        }
        inspection.save_first = self.dir.join("saved-first").exists();
        if self.dir.join("creates").exists() {
            inspection.creates.push(format!("role {}", self.name));
        }
        Ok(inspection)
    }
    async fn stage(&self, cx: &RunContext) -> Result<Staged> {
        let (_, staged, _) = self.paths(cx);
        // Until somebody says so.
        while self.dir.join("stage-waits").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let source = cx.source(&self.artifacts(cx.backup())[0])?;
        std::fs::copy(source.path(), staged).unwrap();
        if self.dir.join("fail-slow").exists() {
            tokio::select! {
                () = cx.cancelled().cancelled() => return Err(Error::interrupted()),
                () = tokio::time::sleep(Duration::from_secs(60)) => {}
            }
        }
        self.fail("stage")?;
        let mut staged = Staged::default();
        if self.dir.join("notice-far-less").exists() {
            let told = Finding::warning("toy.far_less", &self.name, "one row, and 5,000 are live");
            staged.findings.push(told.asking());
        }
        Ok(staged)
    }
    async fn cut_over(&self, cx: &RunContext) -> Result<()> {
        self.services_are_down().await;
        if self.dir.join("fail-slow_cut_over").exists() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let (live, staged, replaced) = self.paths(cx);
        cx.record("present", true).await?;
        if !replaced.exists() {
            std::fs::rename(&live, &replaced).unwrap();
        }
        self.fail("cut_over")?;
        if staged.exists() {
            std::fs::rename(&staged, &live).unwrap();
        }
        Ok(())
    }
    async fn before_stop(&self, service: &str, _cx: &RunContext) -> Result<()> {
        if self.dir.join("holds").exists() {
            std::fs::write(self.dir.join(format!("held-{service}")), "").unwrap();
        }
        Ok(())
    }
    async fn not_stopped(&self, service: &str) {
        let _ = std::fs::remove_file(self.dir.join(format!("held-{service}")));
    }
    async fn undo(&self, cx: &RunContext) -> Result<()> {
        self.services_are_down().await;
        assert!(!self.dir.join("looking").exists(), "undone while it looks");
        if self.dir.join("notice-undo").exists() {
            cx.notice(Finding::warning("toy.noticed", &self.name, "left undone"));
        }
        self.fail("undo")?;
        self.ensure_needs().await?;
        let (live, staged, replaced) = self.paths(cx);
        if replaced.exists() {
            if live.exists() {
                std::fs::rename(&live, &staged).unwrap();
            }
            std::fs::rename(&replaced, &live).unwrap();
        }
        Ok(())
    }
    async fn way_back(&self, cx: &RunContext) -> Result<()> {
        let (_, _, replaced) = self.paths(cx);
        if cx.cut_over() == CutOver::Done && !replaced.exists() {
            return Err(Error::new(
                ErrorKind::Failed,
                "toy.gone",
                format!("{} is gone", replaced.display()),
            ));
        }
        Ok(())
    }
    async fn can_undo(&self, _cx: &RunContext) -> Result<()> {
        self.fail("can_undo")
    }
    fn deploys(&self) -> Option<String> {
        self.deploys.then(|| self.name.clone())
    }
    async fn deploy(&self, cx: &RunContext) -> Result<()> {
        let live = std::fs::read_to_string(self.dir.join("live")).unwrap();
        cx.record("deployed", true).await?;
        std::fs::write(self.dir.join("deployed"), live).unwrap();
        self.fail("deploy")
    }
    async fn undeploy(&self, cx: &RunContext) -> Result<()> {
        self.services_are_down().await;
        if cx.recall("deployed").is_some() && self.dir.join("deployed").exists() {
            // Before the files are, which a deployment reads.
            let live = std::fs::read_to_string(self.dir.join("live")).unwrap();
            assert!(live.starts_with("restored"), "{live}");
            std::fs::remove_file(self.dir.join("deployed")).unwrap();
        }
        Ok(())
    }
    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        let (live, ..) = self.paths(cx);
        let text = std::fs::read_to_string(live).unwrap();
        if self.dir.join("fail-slow_check").exists() {
            // It looks for so long, and is not to be met by an undo meanwhile.
            std::fs::write(self.dir.join("looking"), "").unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            std::fs::remove_file(self.dir.join("looking")).unwrap();
        }
        let right = text.starts_with("restored") && !self.dir.join("fail-check").exists();
        Ok(vec![CheckOutcome::new(
            format!("{}/live", self.name),
            right,
            text,
        )])
    }
    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
        let (live, staged, replaced) = self.paths(cx);
        self.fail("discard")?;
        if replaced.exists() && !live.exists() {
            return Err(Error::new(
                ErrorKind::Failed,
                "toy.half_swapped",
                format!("{} may be the only copy", replaced.display()),
            ));
        }
        let path = if what == Discard::Staged {
            staged
        } else {
            replaced
        };
        if path.exists() {
            std::fs::remove_file(path).unwrap();
        }
        Ok(())
    }
    async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
        let asked = self.dir.join("asked");
        if let Ok(before) = std::fs::read_to_string(&asked) {
            std::fs::write(asked, before + "x").unwrap();
        }
        let (_, staged, replaced) = self.paths(cx);
        let kept = [replaced, staged].into_iter().find(|path| path.exists());
        Ok(kept.map(|path| path.display().to_string()))
    }
}

#[async_trait]
impl Platform for ToyPlatform {
    fn describe(&self) -> String {
        "a toy".to_owned()
    }
    fn services(&self) -> Vec<String> {
        let services = self.services.lock().unwrap();
        let known = ["db", "app", "watch"].iter();
        known
            .filter(|name| services.contains_key(**name))
            .map(|name| (*name).to_owned())
            .collect()
    }
    async fn service(&self, name: &str) -> Result<ServiceState> {
        let running = self.services.lock().unwrap()[name];
        let stopped = self.stopped.lock().unwrap().clone();
        Ok(match stopped.filter(|_| name == "app" && running == 0) {
            Some((detail, killed)) => ServiceState::new(name, 0, 0, detail).killed(killed),
            None => {
                let wanted = self.wanted.lock().unwrap().get(name).copied();
                ServiceState::new(name, wanted.unwrap_or(running), running, "")
            }
        })
    }
    async fn scale(&self, name: &str, replicas: u32) -> Result<()> {
        let refused = self.refuse_to_start.lock().unwrap().as_deref() == Some(name);
        if refused && replicas > 0 {
            return Err(Error::new(
                ErrorKind::Failed,
                "toy.no_start",
                format!("the service {name} does not start"),
            ));
        }
        let dies = self.dies_at_stop.lock().unwrap().as_deref() == Some(name);
        assert!(!dies || replicas > 0, "died");
        let busy = self.refuse_to_stop.lock().unwrap().as_deref() == Some(name);
        if busy && replicas == 0 {
            return Err(Error::new(
                ErrorKind::Failed,
                "toy.no_stop",
                format!("the service {name} is busy"),
            ));
        }
        let together = self.together.lock().unwrap().clone();
        if let Some(together) = together {
            let all = tokio::time::timeout(Duration::from_secs(10), together.wait());
            all.await.unwrap_or_else(|_| panic!("{name} is alone"));
        }
        self.services
            .lock()
            .unwrap()
            .insert(name.to_owned(), replicas);
        Ok(())
    }
    async fn scale_at_least(&self, name: &str, replicas: u32, least: u32) -> Result<()> {
        let asked = (name.to_owned(), replicas, least);
        self.asked.lock().unwrap().push(asked);
        self.scale(name, replicas).await
    }
    fn programs(&self, _: &str) -> Vec<Program> {
        self.programs.lock().unwrap().clone()
    }
    async fn lock(&self, _: &str) -> Result<Option<Box<dyn PlatformLock>>> {
        let one_less = |left: usize| left.checked_sub(1);
        match self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
        {
            Ok(_) => Err(Error::new(
                ErrorKind::Locked,
                "toy.locked",
                "another host works on the site",
            )),
            Err(_) => Ok(None),
        }
    }
    async fn release(&self) -> Result<()> {
        self.released.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    async fn exec(&self, _: &str, _: Command) -> Result<Box<dyn Process>> {
        unreachable!("toys do not run programs")
    }
    async fn logs(&self, _: &str, _: Timestamp, _: usize) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    async fn endpoint(&self, _: &str) -> Result<Endpoint> {
        unreachable!("toys have no endpoints")
    }
    async fn volume(&self, _: &str) -> Result<Arc<dyn Volume>> {
        unreachable!("toys have no volumes")
    }
    async fn scratch(&self, _: &str, _: Command) -> Result<Box<dyn Scratch>> {
        unreachable!("toys have no servers")
    }
    async fn path_in(&self, _: &str, path: &Path) -> Result<Option<PathBuf>> {
        Ok(Some(path.to_owned()))
    }
    async fn owner(&self, _: &str) -> Result<Option<(u32, u32)>> {
        Ok(None)
    }
}
