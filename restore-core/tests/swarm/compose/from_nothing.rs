//! A project of which nothing is left, neither its files nor containers, networks and volumes: made from the
//! compose files of a backup, and removed again where that is taken back.

use std::path::{Path, PathBuf};

use restore_core::component::Registry;
use restore_core::{BackupRequest, Finding, PlanRequest, Report, RunOptions, Severity, Site};
use restore_testing::{crash, run};
use serde_json::json;

use super::project::OBEYS;
use crate::swarm::engine::{Engine, IMAGE, until};

const COMPOSE: &str = r#"version: "3.4"
services:
  web:
    image: IMAGE
    command: [sh, -c, "OBEYS"]
    environment: {PAGE: "${PAGE}"}
    volumes: ["pages:/pages"]
    networks: [inner]
  once:
    image: IMAGE
    command: ["true"]
    networks: [inner]
volumes:
  pages:
    driver_opts: {type: none, o: bind, device: "ROOT/pages"}
    labels: {kept: "yes"}
networks:
  inner:
    labels: {kept: "yes"}
"#;

struct Nothing<'a> {
    engine: &'a Engine,
    name: &'a str,
    root: PathBuf,
    config: PathBuf,
}

/// What stands for something in a compose file, filled in.
fn filled(text: &str, root: &Path) -> String {
    text.replace("IMAGE", IMAGE)
        .replace("OBEYS", OBEYS)
        .replace("ROOT", root.to_str().unwrap())
}

impl<'a> Nothing<'a> {
    /// A backup of the project's directory, which is gone then.
    async fn new(engine: &'a Engine, name: &'a str, change: impl Fn(String) -> String) -> Self {
        let text = change(filled(COMPOSE, &engine.folder(name)));
        let env = "PAGE=one\n".to_owned();
        Self::of_files(engine, name, &[("docker-compose.yml", text), (".env", env)]).await
    }

    /// The same of a directory with these files.
    async fn of_files(engine: &'a Engine, name: &'a str, files: &[(&str, String)]) -> Self {
        let root = engine.folder(name);
        for folder in ["backups", "pages", "opt/project"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let mut compose = Vec::new();
        for (file, text) in files {
            std::fs::write(root.join("opt/project").join(file), text).unwrap();
            if file.ends_with(".yml") {
                compose.push(*file);
            }
        }
        // Where somebody else can write, the files are deployed from copies.
        if compose.len() > 1 {
            let owner = Some(65534);
            std::os::unix::fs::chown(root.join("opt/project"), owner, owner).unwrap();
        }
        let config = root.join("restore.toml");
        let text = format!(
            "[site]\nname = '{name}'\nstate = 'state'\nsafety_backup = false\n[stores.main]\nkind = 'directory'\npath = 'backups'\n\
             [platform]\nkind = 'compose'\nproject = '{name}'\nsocket = '{}'\n[services.web]\nstart_timeout = '15s'\n\
             [components.project]\nkind = 'files'\nroot = '{}'\ntree = 'opt/project'\narchive = ['configs/project-{{id}}.tar.gz']\n\
             stops = []\nredeploy = true\nstack = '{name}'\ncompose = {compose:?}\n",
            engine.socket().display(),
            root.display()
        );
        std::fs::write(&config, text).unwrap();
        let nothing = Self {
            engine,
            name,
            root,
            config,
        };
        let made = nothing
            .site()
            .await
            .back_up(BackupRequest::all(), RunOptions::new())
            .await;
        made.unwrap();
        std::fs::remove_dir_all(nothing.root.join("opt")).unwrap();
        nothing
    }

    async fn site(&self) -> Site {
        Site::open(&self.config).await.unwrap()
    }

    /// What `restore config check` finds.
    async fn check(&self) -> Vec<Finding> {
        let options = RunOptions::new();
        let check = Site::check_config(&self.config, &Registry::default(), &options).await;
        let found = check.unwrap().findings.into_iter();
        found.map(|it| it.finding).collect()
    }

    /// A run that makes what is absent.
    async fn run(&self, backup: &str) -> Report {
        let site = self.site().await;
        let backup = site.backup(backup).await.unwrap();
        let request = PlanRequest::all().create(true);
        let options = RunOptions::new();
        let plan = site.plan_with(&backup, request, &options).await.unwrap();
        assert!(plan.refusal().is_none(), "{:?}", plan.findings);
        site.run(plan, RunOptions::new()).await.unwrap()
    }

    async fn roll_back(&self, what: &str) {
        let site = self.site().await;
        site.rollback(None, RunOptions::new()).await.unwrap();
        self.confirm(what).await;
        self.is_gone(what);
    }

    /// Docker Compose in the project's directory, as its operators call it.
    fn compose(&self, args: &[&str]) {
        let either = r#"docker compose version >/dev/null 2>&1 && exec docker compose "$@"
            exec docker-compose "$@""#;
        let socket = format!("unix://{}", self.engine.socket().display());
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", either, "sh", "-p", self.name])
            .args(args)
            .current_dir(self.root.join("opt/project"))
            .env("DOCKER_HOST", socket);
        run(&mut command);
    }

    /// Nothing is left of it but its backups.
    fn destroy(&self) {
        let own = format!("label=com.docker.compose.project={}", self.name);
        let all = self.engine.docker(&["ps", "-aq", "--filter", &own]);
        let all: Vec<&str> = all.lines().collect();
        self.engine.docker(&[&["rm", "-f"], &all[..]].concat());
        for kind in ["network", "volume"] {
            for name in self.listed(kind) {
                self.engine.docker(&[kind, "rm", &name]);
            }
        }
        std::fs::remove_dir_all(self.root.join("opt")).unwrap();
        self.is_gone("destroyed");
    }

    /// The containers of a service, by whether they run or have ended.
    fn count(&self, service: &str, state: &str) -> usize {
        let all = self.listed("container");
        let of_service = all.iter().filter(|it| it.contains(service));
        of_service.filter(|it| it.ends_with(state)).count()
    }

    fn listed(&self, kind: &str) -> Vec<String> {
        let own = format!("label=com.docker.compose.project={}", self.name);
        let mut args = match kind {
            "container" => vec!["ps", "-a", "--format", "{{.Names}} {{.State}}"],
            kind => vec![kind, "ls", "--format", "{{.Name}}"],
        };
        args.extend(["--filter", &own]);
        let listed = self.engine.docker(&args);
        listed.lines().map(str::to_owned).collect()
    }

    fn is_there(&self, what: &str) {
        let containers = self.listed("container");
        let is = |service: &str, state: &str| {
            let mut all = containers.iter();
            all.any(|it| it.contains(service) && it.ends_with(state))
        };
        assert_eq!(containers.len(), 2, "{what}: {containers:?}");
        assert!(
            is("web", " running") && is("once", " exited"),
            "{what}: {containers:?}"
        );
        let volume = format!("{}_pages", self.name);
        let format = "{{.Driver}} {{.Options.o}} {{.Labels.kept}}";
        let seen = self
            .engine
            .docker(&["volume", "inspect", "-f", format, &volume]);
        assert_eq!(seen, "local bind yes", "{what}");
        let network = format!("{}_inner", self.name);
        let seen = self
            .engine
            .docker(&["network", "inspect", "-f", "{{.Labels.kept}}", &network]);
        assert_eq!(seen, "yes", "{what}");
        let web = containers.iter().find(|it| it.contains("web")).unwrap();
        let web = web.split(' ').next().unwrap();
        let environment = self
            .engine
            .docker(&["inspect", "-f", "{{.Config.Env}}", web]);
        assert!(environment.contains("PAGE=one"), "{what}: {environment}");
    }

    fn is_gone(&self, what: &str) {
        for kind in ["container", "network", "volume"] {
            assert_eq!(self.listed(kind), [""; 0], "{what}: {kind}");
        }
        assert!(!self.root.join("opt").exists(), "{what}");
    }

    async fn confirm(&self, what: &str) {
        match self.site().await.confirm(None, RunOptions::new()).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.code(), "run.none_to_confirm", "{what}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_made_from_its_restored_files_and_removed_again() {
    let engine = super::project::shared();
    let nothing = Nothing::new(&engine, "neu", |text| text).await;
    let site = nothing.site().await;
    let backup = site.backup("latest").await.unwrap();
    let options = RunOptions::new();
    let plan = site
        .plan_with(&backup, PlanRequest::all(), &options)
        .await
        .unwrap();
    let refused = plan.refusal().unwrap();
    assert!(
        refused.hint_text().unwrap().contains("--create"),
        "{refused}"
    );
    // With its files there, the project is what is absent.
    std::fs::create_dir_all(nothing.root.join("opt/project")).unwrap();
    let plan = site
        .plan_with(&backup, PlanRequest::all(), &options)
        .await
        .unwrap();
    let codes: Vec<&str> = plan.errors().map(|it| it.code.as_str()).collect();
    assert_eq!(codes, ["files.not_deployed"]);
    std::fs::remove_dir_all(nothing.root.join("opt")).unwrap();
    nothing.is_gone("refused");
    // That it is to be made yet is no mistake of the file.
    let found = nothing.check().await;
    let told: Vec<(Severity, &str)> = found
        .iter()
        .map(|it| (it.severity, it.code.as_str()))
        .collect();
    let wanted = ["service.absent", "component.absent"].map(|code| (Severity::Warning, code));
    assert_eq!(told, wanted, "{found:?}");
    assert_eq!(
        found[0].message,
        "there is no project neu yet, and so no service web"
    );

    let plan = async || {
        let request = PlanRequest::all().create(true);
        site.plan_with(&backup, request, &options).await.unwrap()
    };
    let planned = plan().await;
    assert!(planned.refusal().is_none(), "{:?}", planned.findings);
    let component = planned.component("project").unwrap();
    let creates = &component.inspection.creates;
    assert!(creates.contains(&"project neu".to_owned()), "{creates:?}");
    let deploys = component.deploys.as_deref().unwrap();
    assert!(deploys.starts_with("the project neu"), "{deploys}");
    nothing.is_gone("planned");
    let report = site.run(planned, RunOptions::new()).await.unwrap();
    nothing.is_there("restored");
    // Of a project that is there, a wrong name is one.
    let text = std::fs::read_to_string(&nothing.config).unwrap();
    let wrong = text.replace("[services.web]", "[services.wbe]");
    std::fs::write(&nothing.config, wrong).unwrap();
    let found = nothing.check().await;
    let mut errors = found.iter().filter(|it| it.severity == Severity::Error);
    assert_eq!(errors.next().unwrap().code, "platform.no_service");
    assert_eq!(errors.next(), None);
    std::fs::write(&nothing.config, text).unwrap();
    let made = |report: &Report, removed: bool| {
        let mut all = report.made.iter();
        all.any(|it| it.what == "project neu" && it.removed == removed)
    };
    assert!(made(&report, false), "{:?}", report.made);

    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert!(made(&report, true), "{:?}", report.made);
    nothing.confirm("rolled back").await;
    nothing.is_gone("rolled back");

    // What users have put into a volume stays, and is told.
    site.run(plan().await, RunOptions::new()).await.unwrap();
    std::fs::write(nothing.root.join("pages/page"), "theirs").unwrap();
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    let mut told = report.findings.iter();
    assert!(told.any(|it| it.code == "files.deployment_left" && it.message.contains("volume neu_pages")));
    assert_eq!(nothing.listed("volume"), ["neu_pages"]);
    assert_eq!(nothing.listed("container"), [""; 0]);
    engine.docker(&["volume", "rm", "neu_pages"]);
}

/// Files that add to each other, a profile that `.env` turns on, and a service that begins once another is well.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_means_what_docker_compose_reads() {
    let engine = super::project::shared();
    let root = engine.folder("zwei");
    let more = r#"version: "3.4"
services:
  web:
    command: [sh, -c, "test -e /pages/well && touch /pages/after; OBEYS"]
    environment: {SECOND: "1"}
    depends_on: {db: {condition: service_healthy}}
  db:
    image: IMAGE
    command: [sh, -c, "sleep 0.8; touch /pages/well; OBEYS"]
    healthcheck: {test: test -e /pages/well, interval: 200ms, timeout: 10s, retries: 100}
    volumes: ["pages:/pages"]
    networks: [inner]
  tool:
    image: IMAGE
    command: [sh, -c, "OBEYS"]
    profiles: [tools]
    networks: [inner]
  other:
    image: IMAGE
    command: [sh, -c, "OBEYS"]
    profiles: [others]
    networks: [inner]
"#;
    let files = [
        ("docker-compose.yml", filled(COMPOSE, &root)),
        ("more.yml", filled(more, &root)),
        (".env", "PAGE=one\nCOMPOSE_PROFILES=tools\n".to_owned()),
    ];
    let nothing = Nothing::of_files(&engine, "zwei", &files).await;
    nothing.run("latest").await;
    let all = nothing.listed("container");
    assert_eq!(all.len(), 4, "{all:?}");
    for service in ["web", "db", "tool"] {
        assert_eq!(nothing.count(service, " running"), 1, "{service}: {all:?}");
    }
    let after = root.join("pages/after");
    assert!(after.exists(), "web began before db was well");
    let web = all.iter().find(|it| it.contains("web")).unwrap();
    let web = web.split(' ').next().unwrap();
    let environment = engine.docker(&["inspect", "-f", "{{.Config.Env}}", web]);
    for variable in ["PAGE=one", "SECOND=1"] {
        assert!(environment.contains(variable), "{environment}");
    }
    // What lies in a volume would stay.
    for file in ["well", "after"] {
        std::fs::remove_file(root.join("pages").join(file)).unwrap();
    }
    nothing.roll_back("rolled back").await;
}

/// How many containers a service had and which profiles were on, no file of a project says.
#[tokio::test(flavor = "multi_thread")]
async fn counts_and_profiles_come_back_from_a_backup_of_what_ran() {
    let engine = super::project::shared();
    let tool = format!(
        "  tool:\n    image: {IMAGE}\n    command: [sh, -c, \"{OBEYS}\"]\n    profiles: [tools]\n    networks: [inner]\nvolumes:\n"
    );
    let change = |text: String| text.replacen("volumes:\n  pages:", &format!("{tool}  pages:"), 1);
    let nothing = Nothing::new(&engine, "zahl", change).await;
    let before = nothing.site().await.backup("latest").await.unwrap();
    nothing.run("latest").await;
    nothing.confirm("made").await;
    assert_eq!(nothing.count("tool", ""), 0);

    let up = ["--profile", "tools", "up", "-d", "--scale", "web=2"];
    nothing.compose(&up);
    until("it has ended", || nothing.count("once", " exited") == 1);
    let site = nothing.site().await;
    let made = site.back_up(BackupRequest::all(), RunOptions::new()).await;
    let id = made.unwrap().id;
    let file = format!("backups/{id}/configs/compose-zahl.json");
    let text = std::fs::read_to_string(nothing.root.join(file)).unwrap();
    let counts: serde_json::Value = serde_json::from_str(&text).unwrap();
    let wanted = json!({"services": {"once": 0, "tool": 1, "web": 2}});
    assert_eq!(counts, wanted);
    nothing.destroy();

    let report = nothing.run(id.as_str()).await;
    let all = nothing.listed("container");
    assert_eq!(nothing.count("web", " running"), 2, "{all:?}");
    assert_eq!(nothing.count("tool", " running"), 1, "{all:?}");
    assert_eq!(nothing.count("once", " exited"), 1, "{all:?}");
    let codes = ["compose.services_absent", "compose.fewer_containers"];
    let mut told = report.findings.iter();
    let told = told.find(|it| codes.contains(&it.code.as_str()));
    assert_eq!(told, None);
    nothing.roll_back("rolled back").await;

    // Of a backup that does not tell, what is missing is told.
    let text = std::fs::read_to_string(&nothing.config).unwrap();
    std::fs::write(&nothing.config, text + "[services.tool]\n").unwrap();
    let report = nothing.run(before.id().as_str()).await;
    assert_eq!(nothing.count("web", " running"), 1);
    let mut told = report.findings.iter();
    let told = told.find(|it| it.code == codes[0]).unwrap();
    assert!(told.message.ends_with(": tool"), "{told:?}");
    nothing.roll_back("rolled back once more").await;
}

/// Docker Compose makes nothing of which the files say that it is made elsewhere, and starts nothing without.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_elsewhere_is_made_where_it_is_gone() {
    let engine = super::project::shared();
    let change = |text: String| {
        text.replacen("networks: [inner]", "networks: [inner, vorn]", 1)
            .replace(
                "[\"pages:/pages\"]",
                "[\"pages:/pages\", \"draussen:/shared\"]",
            )
            .replacen(
                "volumes:\n  pages:",
                "volumes:\n  draussen: {external: true}\n  pages:",
                1,
            )
            .replacen(
                "networks:\n  inner:",
                "networks:\n  vorn: {external: true}\n  inner:",
                1,
            )
    };
    let nothing = Nothing::new(&engine, "extern", change).await;
    let there = || {
        [("network", "vorn"), ("volume", "draussen")].map(|(kind, name)| {
            let mut look = engine.client(&[kind, "inspect", name]);
            look.output().unwrap().status.success()
        })
    };
    assert_eq!(there(), [false, false]);
    let site = nothing.site().await;
    let backup = site.backup("latest").await.unwrap();
    let request = PlanRequest::all().create(true);
    let options = RunOptions::new();
    let plan = site.plan_with(&backup, request, &options).await.unwrap();
    let creates = &plan.component("project").unwrap().inspection.creates;
    for part in ["network vorn", "volume draussen", "project extern"] {
        assert!(creates.contains(&part.to_owned()), "{part}: {creates:?}");
    }
    let mut plain = plan.findings.iter();
    let plain = plain.find(|it| it.code == "compose.made_plain").unwrap();
    let both = "without options: network vorn, volume draussen";
    assert!(plain.message.ends_with(both), "{plain:?}");

    nothing.run("latest").await;
    nothing.is_there("with what is made elsewhere");
    assert_eq!(there(), [true, true]);
    nothing.roll_back("with what is made elsewhere").await;
    assert_eq!(there(), [false, false]);

    // What is there is somebody's, and stays.
    engine.docker(&["network", "create", "vorn"]);
    engine.docker(&["volume", "create", "draussen"]);
    nothing.run("latest").await;
    nothing.is_there("with what was there");
    nothing.roll_back("with what was there").await;
    assert_eq!(there(), [true, true]);
    engine.docker(&["network", "rm", "vorn"]);
    engine.docker(&["volume", "rm", "draussen"]);
}

/// What the image's own volume holds has no name, and was nobody's before. A container that somebody started by
/// hand of an image that Compose has built carries the project's label, and is not the project's.
#[tokio::test(flavor = "multi_thread")]
async fn volumes_without_a_name_and_containers_of_others_stay() {
    let engine = super::project::shared();
    let change = |text: String| text.replace("[\"pages:/pages\"]", "[\"pages:/pages\", \"/data\"]");
    let nothing = Nothing::new(&engine, "namenlos", change).await;
    let label = "com.docker.compose.project=namenlos";
    engine.docker(&["run", "--name", "by-hand", "--label", label, IMAGE, "true"]);
    let site = nothing.site().await;
    let backup = site.backup("latest").await.unwrap();
    let plan = async || {
        let request = PlanRequest::all().create(true);
        let options = RunOptions::new();
        site.plan_with(&backup, request, &options).await.unwrap()
    };
    let anonymous = || {
        let web = engine.docker(&["ps", "-q", "--filter", &format!("label={label}")]);
        let format =
            "{{range .Mounts}}{{if eq .Destination \"/data\"}}{{.Name}} {{.Source}}{{end}}{{end}}";
        let seen = engine.docker(&["inspect", "-f", format, &web]);
        let (name, path) = seen.split_once(' ').unwrap();
        (name.to_owned(), PathBuf::from(path))
    };
    let names = || engine.docker(&["volume", "ls", "-q"]);
    site.run(plan().await, RunOptions::new()).await.unwrap();
    let (empty, _) = anonymous();
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert!(!names().contains(&empty), "{:?}", report.findings);
    nothing.confirm("rolled back").await;

    site.run(plan().await, RunOptions::new()).await.unwrap();
    let (full, path) = anonymous();
    std::fs::write(path.join("order"), "theirs").unwrap();
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    let mut told = report.findings.iter();
    let told = told.any(|it| it.code == "files.deployment_left" && it.message.contains(&full));
    assert!(told, "{:?}", report.findings);
    assert_eq!(
        std::fs::read_to_string(path.join("order")).unwrap(),
        "theirs"
    );
    nothing.confirm("rolled back once more").await;
    engine.docker(&["volume", "rm", &full]);
    assert!(engine.docker(&["ps", "-a"]).contains("by-hand"));
    engine.docker(&["rm", "by-hand"]);
    nothing.is_gone("in the end");
}

/// One that its engine starts again and again is up at many a look.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_is_started_again_and_again_does_not_count() {
    let engine = super::project::shared();
    let change = |text: String| {
        text.replace(
            "command: [\"true\"]",
            "restart: always\n    command: [sh, -c, \"sleep 0.3; exit 0\"]",
        )
    };
    let nothing = Nothing::new(&engine, "wieder", change).await;
    let site = nothing.site().await;
    let backup = site.backup("latest").await.unwrap();
    let request = PlanRequest::all().create(true);
    let options = RunOptions::new();
    let plan = site.plan_with(&backup, request, &options).await.unwrap();
    let error = site.run(plan, RunOptions::new()).await.unwrap_err();
    assert_eq!(error.code(), "compose.not_up", "{error}");
    nothing.confirm("undone").await;
    nothing.is_gone("undone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_does_not_come_up_is_removed_again() {
    let engine = super::project::shared();
    let change = |text: String| {
        text.replace(
            "command: [\"true\"]",
            "command: [sh, -c, \"echo no disk; exit 3\"]",
        )
    };
    let nothing = Nothing::new(&engine, "krank", change).await;
    let site = nothing.site().await;
    let backup = site.backup("latest").await.unwrap();
    let request = PlanRequest::all().create(true);
    let plan = site
        .plan_with(&backup, request, &RunOptions::new())
        .await
        .unwrap();
    let error = site.run(plan, RunOptions::new()).await.unwrap_err();
    assert_eq!(error.code(), "compose.not_up", "{error}");
    assert!(error.message().contains("no disk"), "{error}");
    // No page kept users out, so that what they may have met is put aside first.
    nothing.confirm("undone").await;
    nothing.is_gone("undone");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_project_is_made() {
    let engine = super::project::shared();
    let nothing = Nothing::new(&engine, "kaputt", |text| text).await;
    let deploy = "intent deploy:project";
    let deployed = "done deploy:project";
    let kept = "fact project/deployed_over";
    for (when, then) in [
        (deploy, "resume"),
        (deploy, "rollback"),
        (kept, "resume"),
        (kept, "rollback"),
        (deployed, "resume"),
        (deployed, "rollback"),
    ] {
        let what = format!("killed at {when}, {then}");
        println!("{what}");
        crash(&nothing.config, &["create", when, "latest"]);
        match then {
            "resume" => {
                nothing
                    .site()
                    .await
                    .resume(None, RunOptions::new())
                    .await
                    .unwrap();
                nothing.is_there(&what);
                nothing
                    .site()
                    .await
                    .rollback(None, RunOptions::new())
                    .await
                    .unwrap();
            }
            _ => {
                nothing
                    .site()
                    .await
                    .rollback(None, RunOptions::new())
                    .await
                    .unwrap();
            }
        }
        nothing.confirm(&what).await;
        nothing.is_gone(&what);
    }
    // And in the middle of the way back.
    crash(&nothing.config, &["create", "never", "latest"]);
    nothing.is_there("restored");
    crash(
        &nothing.config,
        &["rollback", "intent undo:deploy:project", "latest"],
    );
    nothing
        .site()
        .await
        .resume(None, RunOptions::new())
        .await
        .unwrap();
    nothing.confirm("killed in its rollback").await;
    nothing.is_gone("killed in its rollback");
}
