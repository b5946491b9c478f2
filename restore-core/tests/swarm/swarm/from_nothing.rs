//! An engine that is in no swarm, without volumes and trees: a stack is made from the compose files of a
//! backup, with what they say is made elsewhere, and removed again where that is taken back.

use std::path::PathBuf;
use std::sync::Arc;

use restore_core::component::Registry;
use restore_core::plan::Plan;
use restore_core::platform::SecretFiles;
use restore_core::run::{Boundary, Outcome};
use restore_core::{BackupRequest, PlanRequest, Report, RunOptions, Site};
use restore_testing::{At, Ended as _, Sample, Share, boundaries, crash, run};

use super::engine::{Engine, IMAGE, until};

const STACK: &str = r#"version: "3.8"
x-outside: &outside {external: true}
services:
  web:
    image: IMAGE
    command: [sh, -c, "echo page > /pages/page; trap 'exit 0' TERM; sleep 100000 & wait"]
    configs: [{source: site, target: /site.conf}]
    secrets: [tls.key, own]
    volumes:
      - pages:/pages
      - shared:/shared
      - {type: bind, source: ROOT/disk, target: /disk}
    networks: [inner, front]
    stop_grace_period: 1s
    deploy: {endpoint_mode: dnsrr, restart_policy: {delay: 200ms, max_attempts: 3}}
  once_more:
    image: IMAGE
    command: [sh, -c, "trap 'exit 0' TERM; sleep 100000 & wait"]
    secrets: [{source: word, target: word}]
    networks: [inner]
    stop_grace_period: 1s
    deploy: {endpoint_mode: dnsrr}
networks:
  inner: {driver: overlay}
  front: *outside
volumes:
  pages:
  shared: {external: true, name: shared_pages}
configs:
  site: {external: true, name: site.conf}
secrets:
  tls.key: *outside
  word: {external: true, name: db.word}
  own: {file: ROOT/secrets/own}
"#;

const CONFIG: &str = r#"
[site]
name = "ruins"
state = "state"
safety_backup = false
[stores.main]
kind = "directory"
path = "backups"
[platform]
kind = "swarm"
socket = "SOCKET"
advertise = "127.0.0.1"
listen = "127.0.0.1:2377"
[services.shop_web]
start_timeout = "20s"
[components.stacks]
kind = "files"
root = "ROOT"
tree = "opt/stacks"
archive = ["configs/stacks-{id}.tar.gz"]
stops = []
redeploy = true
stack = "shop"
compose = ["shop.yml"]
[components.pages]
kind = "volume"
volume = "shop_pages"
archive = ["volumes/pages-{id}.tar.gz"]
stops = ["shop_web"]
"#;

/// What no plan, journal, report or log may hold.
const VALUES: [&str; 2] = ["the key of the door", "a word"];

/// All that the plan says it makes, besides directories.
const PARTS: [&str; 12] = [
    "swarm at 127.0.0.1",
    "network front",
    "volume shared_pages",
    "config site.conf",
    "secret tls.key",
    "secret db.word",
    "stack shop",
    "network shop_inner",
    "volume shop_pages",
    "secret shop_own",
    "service shop_web",
    "service shop_once_more",
];

struct Ruins {
    engine: Engine,
    root: PathBuf,
}

impl Ruins {
    /// A backup of a platform of which nothing is left but the engine, its image and the secrets.
    async fn new() -> Self {
        let ruins = Self::living().await;
        ruins.die();
        ruins
    }

    /// A backup of a platform that runs.
    async fn living() -> Self {
        let engine = Engine::before_its_swarm();
        let root = engine.folder("ruins");
        for folder in ["backups", "opt/stacks", "secrets", "disk", "shared"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let ruins = Self { engine, root };
        for (name, value) in [("tls.key", VALUES[0]), ("db.word", VALUES[1]), ("own", "x")] {
            let path = ruins.root.join("secrets").join(name);
            std::fs::write(&path, value).unwrap();
            run(std::process::Command::new("chmod").arg("600").arg(&path));
        }
        let root = ruins.root.to_str().unwrap();
        let text = STACK.replace("IMAGE", IMAGE).replace("ROOT", root);
        std::fs::write(ruins.root.join("opt/stacks/shop.yml"), text).unwrap();
        let socket = ruins.engine.socket();
        let text = CONFIG.replace("SOCKET", socket.to_str().unwrap());
        std::fs::write(ruins.config(), text.replace("ROOT", root)).unwrap();
        ruins.live().await;
        ruins
    }

    fn config(&self) -> PathBuf {
        self.root.join("restore.toml")
    }

    /// The platform as somebody had made it, backed up.
    async fn live(&self) {
        let docker = |args: &[&str]| self.engine.docker(args);
        let swarm = [
            "--advertise-addr",
            "127.0.0.1",
            "--listen-addr",
            "127.0.0.1:2377",
        ];
        docker(&[&["swarm", "init"], &swarm[..]].concat());
        let kept = ["--label", "kept=yes"];
        let network = ["--attachable", "--subnet", "10.99.0.0/24", "front"];
        docker(&[&["network", "create", "-d", "overlay"], &kept[..], &network].concat());
        let device = format!("device={}", self.root.join("shared").display());
        let volume = [
            "-o",
            "type=none",
            "-o",
            "o=bind",
            "-o",
            device.as_str(),
            "shared_pages",
        ];
        docker(&[&["volume", "create"], &kept[..], &volume].concat());
        let file = |name: &str| self.root.join("secrets").join(name).display().to_string();
        docker(&["secret", "create", "tls.key", &file("tls.key")]);
        docker(&["secret", "create", "db.word", &file("db.word")]);
        // Which no stack's files name.
        docker(&["secret", "create", "other", &file("own")]);
        let site = self.root.join("site.conf");
        std::fs::write(&site, "server_name shop;\n").unwrap();
        let label = ["--label", "kept=yes"];
        let config = ["config", "create", "site.conf", site.to_str().unwrap()];
        docker(&[&config[..2], &label, &config[2..]].concat());
        let stack = self.root.join("opt/stacks/shop.yml");
        let deploy = ["stack", "deploy", "--resolve-image", "never", "-c"];
        docker(&[&deploy[..], &[stack.to_str().unwrap(), "shop"]].concat());
        until("the website runs", || {
            self.engine.containers("shop_web").len() == 1 && self.page().exists()
        });
        std::fs::write(self.order(), "of a user").unwrap();
        let site = self.site().await;
        let made = site.back_up(BackupRequest::all(), RunOptions::new());
        made.await.unwrap();
    }

    fn lose_the_swarm(&self) {
        // In good order: an engine forgets no network that a container is in.
        self.engine.docker(&["stack", "rm", "shop"]);
        until("no container is left", || {
            self.engine.docker(&["ps", "-aq"]).is_empty()
        });
        until("no network is left", || {
            let _ = self.engine.client(&["network", "rm", "front"]).output();
            let overlay = ["network", "ls", "-q", "--filter", "driver=overlay"];
            self.engine.docker(&overlay).lines().count() == 1
        });
        self.engine.docker(&["swarm", "leave", "--force"]);
    }

    fn die(&self) {
        self.lose_the_swarm();
        for volume in self.engine.docker(&["volume", "ls", "-q"]).lines() {
            self.engine.docker(&["volume", "rm", volume]);
        }
        for folder in ["opt", "state"] {
            let _ = std::fs::remove_dir_all(self.root.join(folder));
        }
        self.is_gone("destroyed");
    }

    /// What the service writes when it starts.
    fn page(&self) -> PathBuf {
        self.engine.volume("shop_pages").join("page")
    }

    /// What a user wrote.
    fn order(&self) -> PathBuf {
        self.engine.volume("shop_pages").join("order")
    }

    async fn site(&self) -> Site {
        Site::open(&self.config()).await.unwrap()
    }

    async fn plan(&self, request: PlanRequest) -> Plan {
        self.plan_of("latest", request).await
    }

    async fn plan_of(&self, id: &str, request: PlanRequest) -> Plan {
        let site = self.site().await;
        let backup = site.backup(id).await.unwrap();
        let options = RunOptions::new();
        site.plan_with(&backup, request, &options).await.unwrap()
    }

    /// The files of the backup in another one of this id, as by the runbook's commands, changed by shell code:
    /// its compose file is `t/shop.yml` there.
    fn changed_backup(&self, id: &str, change: &str) {
        let script = r#"set -eu; from=$(ls -d 2*-*/ | tail -n 1); mkdir "$1"; cp -a "$from/configs" "$1"; cd "$1"
            mkdir t; tar -xzf configs/stacks-*.tar.gz -C t; rm configs/stacks-*.tar.gz
            at=$(find t -name shop.yml); mv "$at" t/shop.yml
            eval "$2"
            mv t/shop.yml "$at"; tar -C t -czf "configs/stacks-$1.tar.gz" $(ls -A t); rm -r t
            files=$(find configs -type f | sort)
            { echo "=== Backup Manifest ==="; echo "Backup ID: $1"; echo "Created: Wed Jan 1 00:00:00 UTC 2020"
              for f in $files; do echo "$f|$(du -h "$f" | cut -f1)|$(sha256sum "$f" | cut -d' ' -f1)"; done
              echo "=== Summary ==="; echo "Total Files: $(echo "$files" | wc -l)"; } >MANIFEST.txt"#;
        run(std::process::Command::new("sh")
            .args(["-c", script, "sh", id, change])
            .current_dir(self.root.join("backups")));
    }

    /// What brings the files and the stack back.
    fn request(&self) -> PlanRequest {
        let secrets = SecretFiles::default().in_directory(self.root.join("secrets"));
        let request = PlanRequest::all().only(["stacks"]);
        request.create(true).secrets(secrets)
    }

    async fn run(&self) -> Report {
        let plan = self.plan(self.request()).await;
        assert!(plan.refusal().is_none(), "{:?}", plan.findings);
        let site = self.site().await;
        site.run(plan, RunOptions::new()).await.ended().unwrap()
    }

    async fn roll_back(&self) -> Report {
        let site = self.site().await;
        site.rollback(None, RunOptions::new()).await.unwrap()
    }

    async fn confirm(&self, what: &str) {
        match self.site().await.confirm(None, RunOptions::new()).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.code(), "run.none_to_confirm", "{what}: {error}"),
        }
    }

    fn is_in_a_swarm(&self) -> bool {
        let state = ["info", "-f", "{{.Swarm.LocalNodeState}}"];
        self.engine.docker(&state) == "active"
    }

    #[track_caller]
    fn is_there(&self, what: &str) {
        assert!(self.is_in_a_swarm(), "{what}");
        let web = self.engine.containers("shop_web");
        assert_eq!(web.len(), 1, "{what}");
        assert_eq!(self.engine.containers("shop_once_more").len(), 1, "{what}");
        let files = "cat /site.conf /run/secrets/tls.key";
        let seen = self.engine.docker(&["exec", &web[0], "sh", "-c", files]);
        assert_eq!(seen, format!("server_name shop;\n{}", VALUES[0]), "{what}");
        let label = [
            "config",
            "inspect",
            "-f",
            "{{.Spec.Labels.kept}}",
            "site.conf",
        ];
        assert_eq!(self.engine.docker(&label), "yes", "{what}");
        let network =
            "{{.Driver}} {{.Attachable}} {{(index .IPAM.Config 0).Subnet}} {{.Labels.kept}}";
        let network = self
            .engine
            .docker(&["network", "inspect", "-f", network, "front"]);
        assert_eq!(network, "overlay true 10.99.0.0/24 yes", "{what}");
        let volume = "{{.Driver}} {{.Options.o}} {{.Options.device}} {{.Labels.kept}}";
        let volume = self
            .engine
            .docker(&["volume", "inspect", "-f", volume, "shared_pages"]);
        let device = self.root.join("shared").display().to_string();
        assert_eq!(volume, format!("local bind {device} yes"), "{what}");
        assert!(self.root.join("opt/stacks/shop.yml").exists(), "{what}");
    }

    #[track_caller]
    fn is_gone(&self, what: &str) {
        assert!(!self.is_in_a_swarm(), "{what}");
        let volumes = self.engine.docker(&["volume", "ls", "-q"]);
        assert_eq!(volumes, "", "{what}");
        let networks = ["network", "ls", "--format", "{{.Name}}"];
        let networks = self.engine.docker(&networks);
        let mut networks: Vec<&str> = networks.lines().collect();
        networks.retain(|name| !["docker_gwbridge", "host", "none", "bridge"].contains(name));
        assert_eq!(networks, [""; 0], "{what}");
        assert_eq!(self.engine.docker(&["ps", "-aq"]), "", "{what}");
        assert!(!self.root.join("opt").exists(), "{what}");
    }

    /// The run that makes the stack, killed there.
    #[track_caller]
    fn crash(&self, when: &str) -> String {
        let action = format!("create:stacks:{}", self.root.join("secrets").display());
        crash(&self.config(), &[&action, when, "latest"])
    }

    /// No value of a secret got into anything that is kept.
    #[track_caller]
    fn no_values(&self) {
        for value in VALUES {
            let found = std::process::Command::new("grep")
                .args(["-rlF", value])
                .args([self.root.join("state"), self.root.join("backups")])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{value}");
        }
    }
}

/// Has something happen right after this record.
fn at(record: &'static str, happens: impl Fn() + Send + Sync + 'static) -> RunOptions {
    let hook = move |boundary: &Boundary| {
        if boundary.record == record {
            happens();
        }
        Ok(())
    };
    RunOptions::new().boundary(Arc::new(hook))
}

/// After the plan has been looked at again, and before anything is made.
fn before_the_deployment(happens: impl Fn() + Send + Sync + 'static) -> RunOptions {
    at("intent deploy:stacks", happens)
}

fn codes(plan: &Plan) -> Vec<&str> {
    plan.errors().map(|it| it.code.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_made_from_nothing_and_removed_again() {
    let ruins = Ruins::new().await;
    // That all is to be made yet is no mistake of the file.
    let options = RunOptions::new();
    let check = Site::check_config(&ruins.config(), &Registry::default(), &options).await;
    let check = check.unwrap();
    assert!(check.sound, "{:?}", check.findings);
    let told = check.findings.iter().map(|it| it.finding.code.as_str());
    let told: Vec<&str> = told.collect();
    assert_eq!(told, ["service.absent", "component.absent"]);
    // A plain plan names the commands.
    let plan = ruins.plan(PlanRequest::all()).await;
    let refused = plan.refusal().unwrap();
    let hint = refused.hint_text().unwrap();
    for only in ["stacks", "pages"] {
        let command = format!("`restore run {} --create --only {only}`", plan.backup);
        assert!(hint.contains(&command), "{hint}");
    }
    // So does one that asks for all of it at once.
    let plan = ruins.plan(PlanRequest::all().create(true)).await;
    assert!(
        codes(&plan).contains(&"plan.deploy_first"),
        "{:?}",
        plan.findings
    );
    // All values that are missing are named at once.
    let plan = ruins
        .plan(PlanRequest::all().only(["stacks"]).create(true))
        .await;
    assert_eq!(codes(&plan), ["swarm.secrets_missing"]);
    let missing = plan.errors().next().unwrap();
    assert!(
        missing.message.contains("tls.key") && missing.message.contains("db.word"),
        "{missing:?}"
    );
    let named = SecretFiles::default().with("db.word", ruins.root.join("secrets/db.word"));
    let some = PlanRequest::all()
        .only(["stacks"])
        .create(true)
        .secrets(named);
    let plan = ruins.plan(some).await;
    let missing = plan.errors().next().unwrap();
    assert!(!missing.message.contains("db.word"), "{missing:?}");
    let plan = ruins.plan(ruins.request()).await;
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let creates = &plan.component("stacks").unwrap().inspection.creates;
    for part in PARTS {
        assert!(creates.contains(&part.to_owned()), "{part}: {creates:?}");
    }
    let left = plan
        .findings
        .iter()
        .find(|it| it.code == "swarm.secrets_left");
    assert!(left.unwrap().message.contains("other"));
    let plain = plan
        .findings
        .iter()
        .find(|it| it.code == "swarm.made_plain");
    assert_eq!(plain, None, "the backup says how they were");
    ruins.is_gone("planned");

    let report = ruins.run().await;
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    ruins.is_there("restored");
    let made = |report: &Report, removed: bool| {
        let made = report.made.iter().filter(|it| it.removed == removed);
        let made: Vec<String> = made.map(|it| it.what.clone()).collect();
        for part in PARTS {
            assert!(made.contains(&part.to_owned()), "{part}: {made:?}");
        }
    };
    made(&report, false);
    ruins.no_values();

    // The data of the backup, over what the service began with.
    until("it has begun", || ruins.page().exists());
    assert!(!ruins.order().exists());
    let first = report.run.clone();
    let data = PlanRequest::all().only(["pages"]).create(true);
    let plan = ruins.plan(data).await;
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let site = ruins.site().await;
    site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(std::fs::read_to_string(ruins.order()).unwrap(), "of a user");
    // What lies in the services that a run made is rolled back before it.
    let over = site.rollback(Some(first.clone()), RunOptions::new()).await;
    assert_eq!(over.unwrap_err().code(), "run.covered");
    ruins.roll_back().await;
    assert!(!ruins.order().exists());
    ruins.confirm("the data").await;

    let report = site
        .rollback(Some(first.clone()), RunOptions::new())
        .await
        .unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    // Users may have written into its volumes.
    assert_eq!(ruins.engine.docker(&["volume", "ls", "-q"]), "shop_pages");
    assert_eq!(ruins.engine.docker(&["service", "ls", "-q"]), "");
    let report = site.confirm(Some(first), RunOptions::new()).await.unwrap();
    made(&report, true);
    ruins.is_gone("rolled back and confirmed");
}

/// What somebody has put into the swarm since stays, and with it the swarm.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_others_is_removed() {
    let ruins = Ruins::new().await;
    ruins.run().await;
    let theirs = ruins.root.join("secrets/own");
    ruins
        .engine
        .docker(&["secret", "create", "theirs", theirs.to_str().unwrap()]);
    ruins.roll_back().await;
    let site = ruins.site().await;
    let report = site.confirm(None, RunOptions::new()).await.unwrap();
    let told = report.findings.iter().find(|it| it.code == "create.in_use");
    assert!(
        told.unwrap().message.contains("swarm at 127.0.0.1"),
        "{}",
        report.to_text()
    );
    let secrets = ruins
        .engine
        .docker(&["secret", "ls", "--format", "{{.Name}}"]);
    assert_eq!(secrets, "theirs");
}

/// What an earlier run had made is another one's once the stack is there again, whether its tasks run or not.
#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_run_deletes_nothing_of_a_later_one() {
    let ruins = Ruins::new().await;
    let first = ruins.run().await.run;
    until("it has begun", || ruins.page().exists());
    // Full by now, so that it stays.
    ruins.roll_back().await;
    let plan = ruins.plan(ruins.request().over_unconfirmed(true)).await;
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let site = ruins.site().await;
    site.run(plan, RunOptions::new()).await.unwrap();
    std::fs::write(ruins.order(), "of a user").unwrap();
    let scale = ["service", "scale", "--detach", "shop_web=0"];
    ruins.engine.docker(&scale);
    until("no container uses its volume", || {
        let all = ["ps", "-aq", "--filter", "volume=shop_pages"];
        ruins.engine.docker(&all).is_empty()
    });
    let begun = std::time::Instant::now();
    let report = site.confirm(Some(first), RunOptions::new()).await.unwrap();
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    assert_eq!(std::fs::read_to_string(ruins.order()).unwrap(), "of a user");
    let told = report.findings.iter();
    let told = told.filter(|it| it.code == "create.in_use");
    let told: String = told.map(|it| format!("{}\n", it.message)).collect();
    for part in ["volume shop_pages", "stack shop", "secret tls.key"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    ruins
        .engine
        .docker(&["service", "scale", "--detach", "shop_web=1"]);
    until("it runs again", || {
        ruins.engine.containers("shop_web").len() == 1
    });
    ruins.is_there("after the earlier run was confirmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_does_not_come_up_is_removed_again() {
    let ruins = Ruins::new().await;
    // What is not there to be mounted is seen by the plan.
    let disk = ruins.root.join("disk");
    std::fs::remove_dir(&disk).unwrap();
    let plan = ruins.plan(ruins.request()).await;
    assert_eq!(codes(&plan), ["swarm.bind_missing"]);
    let missing = plan.errors().next().unwrap();
    let (message, hint) = (&missing.message, missing.hint.as_deref().unwrap());
    assert!(message.ends_with(disk.to_str().unwrap()), "{message}");
    assert!(hint.contains("`mkdir -p`"), "{hint}");
    std::fs::create_dir(&disk).unwrap();
    let plan = ruins.plan(ruins.request()).await;
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    // Its disk goes as it is about to be deployed.
    let goes = disk.clone();
    let options = before_the_deployment(move || std::fs::remove_dir(&goes).unwrap());
    let site = ruins.site().await;
    let report = site.run(plan, options).await.ended().unwrap();
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    let failure = report.failure.as_ref().unwrap();
    assert_eq!(failure.step, "deploy:stacks", "{failure:?}");
    assert!(failure.message.contains("shop_web"), "{failure:?}");
    // Others of it may have served users: what they wrote is put aside first.
    ruins.confirm("undone").await;
    ruins.is_gone("undone");
    ruins.no_values();
    std::fs::create_dir(&disk).unwrap();
    one_that_no_node_may_run(&ruins).await;
}

/// Changes the stack of a backup: one of its services runs where this holds.
fn bound_by(constraint: &str) -> String {
    format!(
        "sed -i 's/{{endpoint_mode: dnsrr}}$/{{endpoint_mode: dnsrr, placement: {{constraints: [\"{constraint}\"]}}}}/' t/shop.yml; grep -q constraints t/shop.yml"
    )
}

/// It is deployed on the node that has taken the place of that one, and only the files keep its name.
async fn one_whose_node_is_no_more(ruins: &Ruins) {
    let bound = "20200101-000003";
    ruins.changed_backup(bound, &bound_by("node.hostname == gone"));
    let host = ruins.engine.docker(&["info", "-f", "{{.Name}}"]);
    let request = |old: &str, new: &str| ruins.request().nodes([(old, new)]);
    let plan = ruins.plan_of(bound, ruins.request()).await;
    assert_eq!(codes(&plan), ["swarm.nowhere_to_run"]);
    let hint = plan.errors().next().unwrap().hint.clone().unwrap();
    assert!(hint.contains(&format!("--node gone={host} ")), "{hint}");
    let plan = ruins.plan_of(bound, request("lost", &host)).await;
    assert!(
        codes(&plan).contains(&"plan.node_unknown"),
        "{:?}",
        plan.findings
    );
    // What the stack is bound to is not read where it is not to be made, and nothing said against the name.
    let not_made = request("gone", &host).create(false);
    let plan = ruins.plan_of(bound, not_made).await;
    let refused = codes(&plan);
    assert!(refused.contains(&"files.not_deployed"), "{refused:?}");
    assert!(!refused.contains(&"plan.node_unknown"), "{refused:?}");
    let plan = ruins.plan_of(bound, request("gone", "lost")).await;
    let mut errors = plan.errors();
    let absent = errors.find(|it| it.code == "plan.node_absent").unwrap();
    assert!(
        absent.message.ends_with(&format!(": {host}")),
        "{}",
        absent.message
    );

    let plan = ruins.plan_of(bound, request("gone", &host)).await;
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let mut findings = plan.findings.iter();
    let told = findings.find(|it| it.code == "swarm.placement").unwrap();
    let says = format!("node.hostname == gone, deployed as node.hostname == {host}");
    assert!(told.message.contains(&says), "{}", told.message);
    let site = ruins.site().await;
    let report = site.run(plan, RunOptions::new()).await.ended().unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    ruins.is_there("on another node");
    let constraints = "{{.Spec.TaskTemplate.Placement.Constraints}}";
    let inspect = ["service", "inspect", "-f", constraints, "shop_once_more"];
    let is = ruins.engine.docker(&inspect);
    assert_eq!(is, format!("[node.hostname == {host}]"));
    let file = std::fs::read_to_string(ruins.root.join("opt/stacks/shop.yml")).unwrap();
    assert!(file.contains("node.hostname == gone"), "{file}");
    ruins.roll_back().await;
    ruins.confirm("on another node").await;
    ruins.is_gone("on another node");
}

/// Told by the plan, with commands that make a run of it. So is an image that would be pulled.
async fn one_that_no_node_may_run(ruins: &Ruins) {
    let (placed, pulled) = ("20200101-000001", "20200101-000002");
    ruins.changed_backup(placed, &bound_by("node.labels.db == yes"));
    ruins.changed_backup(
        pulled,
        "sed -i 's,image: .*,image: restore-test/elsewhere,' t/shop.yml",
    );
    let plan = ruins.plan_of(pulled, ruins.request()).await;
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let mut findings = plan.findings.iter();
    let image = findings.find(|it| it.code == "swarm.image_elsewhere");
    let message = &image.unwrap().message;
    assert!(
        message.ends_with(": restore-test/elsewhere:latest"),
        "{message}"
    );

    one_whose_node_is_no_more(ruins).await;

    let plan = ruins.plan_of(placed, ruins.request()).await;
    assert_eq!(codes(&plan), ["swarm.nowhere_to_run"]);
    let told = plan.errors().next().unwrap();
    let (message, hint) = (&told.message, told.hint.as_deref().unwrap());
    assert!(
        message.contains("shop_once_more (node.labels.db == yes)"),
        "{message}"
    );
    let host = ruins.engine.docker(&["info", "-f", "{{.Name}}"]);
    let init = "swarm init --advertise-addr 127.0.0.1";
    let label = format!("node update --label-add db=yes {host}");
    for command in [init, &label] {
        assert!(hint.contains(&format!("`docker {command}`")), "{hint}");
    }
    let mut init: Vec<&str> = init.split(' ').collect();
    init.extend(["--listen-addr", "127.0.0.1:2377"]);
    ruins.engine.docker(&init);
    let label: Vec<&str> = label.split(' ').collect();
    ruins.engine.docker(&label);
    let plan = ruins.plan_of(placed, ruins.request()).await;
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let site = ruins.site().await;
    let report = site.run(plan, RunOptions::new()).await.ended().unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    ruins.is_there("as told");
}

/// Of a stack that is there a service is gone, with what its files say is made elsewhere; and a volume.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_of_a_stack_is_made_again() {
    let ruins = Ruins::living().await;
    let gone = [
        ["network", "front"],
        ["volume", "shared_pages"],
        ["config", "site.conf"],
        ["secret", "tls.key"],
    ];
    let is_there = |kind: &str, name: &str| {
        let seen = ruins.engine.client(&[kind, "inspect", name]).output();
        seen.unwrap().status.success()
    };
    let remove = |kind: &str, name: &str| {
        until(&format!("the {kind} {name} is removed"), || {
            let users = format!("volume={name}");
            let users = ["ps", "-aq", "--filter", &users];
            for id in ruins.engine.docker(&users).lines() {
                let _ = ruins.engine.client(&["rm", "-f", id]).output();
            }
            let removed = ruins.engine.client(&[kind, "rm", name]).output();
            removed.unwrap().status.success()
        });
        // A node lets go of a network a moment after its swarm.
        until(&format!("the {kind} {name} is gone"), || {
            !is_there(kind, name)
        });
    };
    ruins.engine.docker(&["service", "rm", "shop_web"]);
    for [kind, name] in gone {
        remove(kind, name);
    }
    // All of it is named, and the command that makes it.
    let plan = ruins.plan(PlanRequest::all()).await;
    let error = |plan: &Plan, code: &str| {
        let found = plan.errors().find(|it| it.code == code).cloned();
        let found = found.unwrap_or_else(|| panic!("no {code}: {:?}", plan.findings));
        (found.message, found.hint.unwrap())
    };
    let (message, hint) = error(&plan, "files.parts_missing");
    assert!(
        message.ends_with(": network front, volume shared_pages, config site.conf"),
        "{message}"
    );
    let command = format!("`restore run {} --create", plan.backup);
    assert!(hint.contains(&format!("{command}`")), "{hint}");
    let (message, _) = error(&plan, "swarm.secrets_missing");
    assert!(message.ends_with(": tls.key"), "{message}");
    let (_, hint) = error(&plan, "platform.no_service");
    assert!(
        hint.contains(&format!("{command} --only stacks`")),
        "{hint}"
    );

    let secrets = SecretFiles::default().in_directory(ruins.root.join("secrets"));
    let all = PlanRequest::all().create(true).secrets(secrets);
    let plan = ruins.plan(all.clone()).await;
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let creates = &plan.component("stacks").unwrap().inspection.creates;
    let parts = gone.map(|[kind, name]| format!("{kind} {name}"));
    assert_eq!(creates[..], parts);
    let mut findings = plan.findings.iter();
    let absent = findings.find(|it| it.code == "service.absent").unwrap();
    assert_eq!(absent.subject, "shop_web");
    let site = ruins.site().await;
    let report = site.run(plan, RunOptions::new()).await.ended().unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    ruins.is_there("what was gone");
    ruins.no_values();
    // As it was: half gone.
    let report = ruins.roll_back().await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    ruins.confirm("half gone").await;
    for [kind, name] in gone.into_iter().chain([["service", "shop_web"]]) {
        assert!(!is_there(kind, name), "{kind} {name}");
    }
    assert_eq!(ruins.engine.containers("shop_once_more").len(), 1);

    // Where its volume is gone too, that comes with the service.
    remove("volume", "shop_pages");
    let plan = ruins.plan(all).await;
    let (_, hint) = error(&plan, "plan.deploy_first");
    let secrets = ruins.root.join("secrets").display().to_string();
    for only in [format!("stacks --secrets {secrets}"), "pages".to_owned()] {
        let command = format!("{command} --only {only}`");
        assert!(hint.contains(&command), "{hint}");
    }
    let report = ruins.run().await;
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    ruins.confirm("deployed again").await;
    let data = PlanRequest::all().only(["pages"]);
    let restored = async |request: PlanRequest| {
        let plan = ruins.plan(request).await;
        assert!(plan.refusal().is_none(), "{:?}", plan.findings);
        let report = site.run(plan, RunOptions::new()).await.ended().unwrap();
        assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
        assert_eq!(std::fs::read_to_string(ruins.order()).unwrap(), "of a user");
        ruins.confirm("the data").await;
    };
    restored(data.clone().create(true)).await;
    // Where only that is gone, a command makes it.
    let stop = ["service", "scale", "--detach", "shop_web=0"];
    ruins.engine.docker(&stop);
    until("it has stopped", || {
        ruins.engine.containers("shop_web").is_empty()
    });
    remove("volume", "shop_pages");
    let plan = ruins.plan(data.clone()).await;
    let (_, hint) = error(&plan, "platform.no_volume");
    assert!(hint.contains("`docker volume create shop_pages`"), "{hint}");
    ruins.engine.docker(&["volume", "create", "shop_pages"]);
    restored(data).await;
    assert_eq!(ruins.engine.containers("shop_web").len(), 1);
}

/// What it would take to make the stack and what cannot be known yet is said before anything is made.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stack_lacks_is_said_by_its_plan() {
    let ruins = Ruins::new().await;
    let has = |plan: &Plan, code: &str, words: &str| {
        let found = plan.findings.iter().find(|it| it.code == code);
        let found = found.unwrap_or_else(|| panic!("no {code}: {:?}", plan.findings));
        assert!(found.message.contains(words), "{words}: {found:?}");
        assert!(found.hint.is_some(), "{found:?}");
    };
    for (id, change, code, words) in [
        (
            "20200101-000001",
            "rm configs/swarm-config-site.conf.json",
            "swarm.configs_missing",
            "site.conf",
        ),
        (
            "20200101-000002",
            "echo '{' >configs/swarm-config-site.conf.json",
            "swarm.config_unreadable",
            "configs/swarm-config-site.conf.json does not describe a config",
        ),
        (
            "20200101-000003",
            "sed -i 's/name: shared_pages/name: \"${WHOSE}_pages\"/' t/shop.yml; grep -q WHOSE t/shop.yml",
            "swarm.name_unknown",
            "volumes: shared",
        ),
    ] {
        // Older than the one that is restored in the end.
        ruins.changed_backup(id, change);
        let plan = ruins.plan_of(id, ruins.request()).await;
        has(&plan, code, words);
        let refused = code != "swarm.name_unknown";
        assert_eq!(plan.refusal().is_some(), refused, "{:?}", plan.findings);
    }
    let own = ruins.root.join("secrets/own");
    std::fs::remove_file(&own).unwrap();
    let plan = ruins.plan(ruins.request()).await;
    assert_eq!(codes(&plan), ["swarm.file_missing"]);
    has(&plan, "swarm.file_missing", own.to_str().unwrap());
    ruins.is_gone("planned");
}

/// What has changed since the plan is no ground to build on: the run is undone, and nothing of others is taken.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_since_the_plan_is_seen() {
    let ruins = Ruins::new().await;
    let undone = |report: &Report, code: &str, words: &str| {
        assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
        let failure = report.failure.as_ref().unwrap();
        assert_eq!(
            (failure.code.as_str(), failure.step.as_str()),
            (code, "deploy:stacks"),
            "{failure:?}"
        );
        assert!(failure.message.contains(words), "{failure:?}");
        assert!(failure.hint.is_some(), "{failure:?}");
    };
    let run_it = async |plan: Plan, options: RunOptions| {
        let site = ruins.site().await;
        site.run(plan, options).await.ended().unwrap()
    };

    // Made by somebody as the run was about to make it: theirs.
    let make = ["volume", "create", "shared_pages"];
    let theirs = std::sync::Mutex::new(ruins.engine.client(&make));
    let options = at("fact stacks/deployment_parts", move || {
        run(&mut theirs.lock().unwrap());
    });
    let plan = ruins.plan(ruins.request()).await;
    let report = run_it(plan, options).await;
    undone(&report, "create.there_since", "volume shared_pages");
    ruins.confirm("there since").await;
    assert_eq!(ruins.engine.docker(&["volume", "ls", "-q"]), "shared_pages");
    ruins.engine.docker(&["volume", "rm", "shared_pages"]);
    ruins.is_gone("there since");

    // There when it was planned. Gone before the run begins, that does not begin.
    ruins.engine.docker(&make);
    let plan = ruins.plan(ruins.request()).await;
    let remove = ["volume", "rm", "shared_pages"];
    ruins.engine.docker(&remove);
    let site = ruins.site().await;
    let stale = site.run(plan, RunOptions::new()).await.unwrap_err();
    assert_eq!(stale.code(), "plan.stale", "{stale}");
    ruins.engine.docker(&make);
    let plan = ruins.plan(ruins.request()).await;
    let gone = std::sync::Mutex::new(ruins.engine.client(&remove));
    let options = before_the_deployment(move || {
        run(&mut gone.lock().unwrap());
    });
    let report = run_it(plan, options).await;
    undone(&report, "create.gone_since", "volume shared_pages");
    ruins.confirm("gone since").await;
    ruins.is_gone("gone since");

    // What a plan would refuse by now.
    let plan = ruins.plan(ruins.request()).await;
    let own = ruins.root.join("secrets/own");
    let goes = own.clone();
    let options = before_the_deployment(move || std::fs::remove_file(&goes).unwrap());
    let report = run_it(plan, options).await;
    undone(&report, "create.changed_since", own.to_str().unwrap());
    ruins.confirm("changed since").await;
    ruins.is_gone("changed since");
}

/// The engine's swarm is lost, and volumes and trees are there: they are used as they are, and stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_is_made_around_volumes_that_are_there() {
    let ruins = Ruins::living().await;
    ruins.lose_the_swarm();
    let volumes = || {
        let listed = ruins.engine.docker(&["volume", "ls", "-q"]);
        let mut volumes: Vec<String> = listed.lines().map(str::to_owned).collect();
        volumes.sort();
        volumes
    };
    assert_eq!(volumes(), ["shared_pages", "shop_pages"]);
    let plan = ruins.plan(ruins.request()).await;
    let creates = &plan.component("stacks").unwrap().inspection.creates;
    for part in PARTS {
        let made = !part.starts_with("volume ");
        assert_eq!(
            creates.contains(&part.to_owned()),
            made,
            "{part}: {creates:?}"
        );
    }
    let report = ruins.run().await;
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    ruins.is_there("around its volumes");
    assert_eq!(std::fs::read_to_string(ruins.order()).unwrap(), "of a user");
    ruins.roll_back().await;
    ruins.confirm("around its volumes").await;
    assert!(!ruins.is_in_a_swarm(), "{}", report.to_text());
    assert_eq!(volumes(), ["shared_pages", "shop_pages"]);
    assert_eq!(std::fs::read_to_string(ruins.order()).unwrap(), "of a user");
    assert!(ruins.root.join("opt/stacks/shop.yml").exists());
}

/// At each kind of boundary; all of them with `RESTORE_TEST_EXHAUSTIVE=1`.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_stack_is_made_from_nothing() {
    let ruins = Ruins::new().await;
    let counted = ruins.crash("never");
    assert!(counted.contains("outcome restored"), "{counted}");
    ruins.is_there("without faults");
    ruins.roll_back().await;
    ruins.confirm("without faults").await;
    ruins.is_gone("without faults");
    let all = boundaries(&counted, &ruins.config());
    for record in [
        "intent create:stacks",
        "fact stacks/foundation",
        "intent stage:stacks",
        "intent cut-over:stacks",
        "intent deploy:stacks",
        "fact stacks/deployment_parts",
        "fact stacks/made:secret tls.key",
        "fact stacks/deployed_over",
        "intent check:inside",
    ] {
        assert!(
            all.iter().any(|at| at.record == record),
            "{record}: {counted}"
        );
    }
    let kills = all.iter().flat_map(|at| {
        let actions: &[&str] = match at.record.split_once(' ') {
            Some(("intent", _)) => &["resume"],
            Some(("done", _)) => &["rollback"],
            Some(("fact", _)) => &["resume", "rollback"],
            _ => &[],
        };
        actions.iter().map(move |action| (at, *action))
    });
    let kills = Sample::of_this_run().one_kind_of(3).choose(
        kills,
        |(at, action): &(&At, &str)| format!("{action} after {}", at.record),
        |(at, _)| at.kind.clone(),
        0,
        Share::WHOLE,
    );
    for (at, then) in kills {
        let what = format!("killed at {}, {then}", at.record);
        println!("{what}");
        ruins.crash(&at.record);
        if then == "resume" {
            let site = ruins.site().await;
            site.resume(None, RunOptions::new()).await.unwrap();
            ruins.is_there(&what);
        }
        ruins.roll_back().await;
        ruins.confirm(&what).await;
        ruins.is_gone(&what);
        ruins.no_values();
    }
    // All of it was staged: where the store is by now does not matter.
    ruins.crash("intent cut-over:stacks");
    let (store, away) = (ruins.root.join("backups"), ruins.root.join("away"));
    std::fs::rename(&store, &away).unwrap();
    let resumed = ruins.site().await.resume(None, RunOptions::new()).await;
    std::fs::rename(&away, &store).unwrap();
    resumed.unwrap();
    ruins.is_there("resumed without its backup");
    ruins.roll_back().await;
    ruins.confirm("resumed without its backup").await;
    ruins.is_gone("resumed without its backup");
    // Given up in the middle: what was made stays, and is removed by its name.
    ruins.crash("fact stacks/deployed_over");
    let site = ruins.site().await;
    let report = site.abandon(None, RunOptions::new()).await.unwrap();
    assert!(ruins.is_in_a_swarm(), "nothing is moved");
    site.rollback(Some(report.run.clone()), RunOptions::new())
        .await
        .unwrap();
    site.confirm(Some(report.run), RunOptions::new())
        .await
        .unwrap();
    ruins.is_gone("abandoned, and rolled back");
}
