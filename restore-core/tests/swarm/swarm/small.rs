//! A platform that stops and starts in a second or two: a stack of a website and of what watches

//! it, a volume each, the stack's own file, a crontab with a cron.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use restore_core::backup::BackupRequest;
use restore_core::{RunOptions, Site};
use restore_testing::{assert_same, run, text};

use super::engine::{Engine, IMAGE, until};

const CONFIG: &str = r#"
[site]
name = "small"
state = "state"
jobs = 1
safety_backup = false
background = ["mini_metrics"]

[stores.main]
kind = "directory"
path = "backups"

[platform]
kind = "swarm"
socket = "@SOCKET@"

[services.mini_web]
start_timeout = "15s"
[services.mini_metrics]

# Of the host itself.
[services.cron]
start = ["touch", "@ROOT@/cron-is-up"]
stop = ["rm", "-f", "@ROOT@/cron-is-up"]
status = ["test", "-e", "@ROOT@/cron-is-up"]

[components.data]
kind = "volume"
volume = "mini_data"
archive = ["volumes/data-{id}.tar.gz"]
stops = ["mini_web"]

[components.metrics]
kind = "volume"
volume = "mini_metrics"
archive = ["volumes/metrics-{id}.tar.gz"]
stops = ["mini_metrics"]

[components.compose]
kind = "files"
archive = ["configs/compose-{id}.tar.gz"]
root = "@ROOT@"
tree = "compose"
stops = []
redeploy = true
stack = "mini"
compose = ["stack.yml"]

[components.crontab]
kind = "crontab"
file = "crontab"
stops = ["cron"]

[checks.web]
kind = "command"
service = "mini_web"
command = ["sh", "-c", "cat /data/page; echo $VERSION"]
timeout = "5s"
"#;

const STACK: &str = r#"
version: "3.8"
services:
  web:
    image: @IMAGE@
    command: [sh, -c, "trap 'exit 0' TERM; echo @VERSION@ serves; sleep 100000 & wait"]
    environment: {VERSION: "@VERSION@", PASSWORD: geheim}
    volumes: ["data:/data"]
    networks: [outside]
    stop_grace_period: 2s
@HEALTH@
    deploy: &quick
      replicas: 2
      endpoint_mode: dnsrr
      restart_policy: {delay: 200ms}
      update_config: {monitor: 100ms, parallelism: 0}
  metrics:
    image: @IMAGE@
    command: [sh, -c, "trap 'exit 0' TERM; sleep 100000 & wait"]
    volumes: ["metrics:/metrics"]
    networks: [outside]
    stop_grace_period: 2s
    deploy: {<<: *quick, replicas: 1}
networks:
  outside: {external: true, name: host}
volumes:
  data:
  metrics:
"#;

/// Each look costs the engine as much as a container's start does.
const HEALTH: &str = "    healthcheck: {test: [CMD, test, -e, /data/page], interval: 300ms, timeout: 1s, retries: 100}";

/// The platform in one state, with backups of two.
pub struct Small {
    pub engine: Arc<Engine>,
    root: PathBuf,
    health: &'static str,
    /// The ids of the backups, and what the platform holds with each.
    pub states: [(String, String); 2],
}

impl Small {
    /// In the second of its states.
    pub async fn new(engine: Arc<Engine>) -> Self {
        Self::made(engine, "").await
    }

    /// The same with a website whose health is checked.
    pub async fn with_health_check(engine: Arc<Engine>) -> Self {
        Self::made(engine, HEALTH).await
    }

    async fn made(engine: Arc<Engine>, health: &'static str) -> Self {
        let root = engine.folder("small");
        std::fs::create_dir_all(root.join("backups")).unwrap();
        let mut small = Self {
            engine,
            root,
            health,
            states: Default::default(),
        };
        let config = CONFIG
            .replace("@SOCKET@", small.engine.socket().to_str().unwrap())
            .replace("@ROOT@", small.root.to_str().unwrap());
        std::fs::write(small.config(), config).unwrap();
        std::fs::write(small.root.join("cron-is-up"), "").unwrap();
        for (at, version) in ["one", "two"].into_iter().enumerate() {
            small.become_version(version);
            let report = small
                .site()
                .await
                .back_up(BackupRequest::all(), RunOptions::new())
                .await
                .unwrap();
            small.states[at] = (report.id.to_string(), small.fingerprint());
        }
        small
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn config(&self) -> PathBuf {
        self.root.join("restore.toml")
    }

    pub async fn site(&self) -> Site {
        Site::open(&self.config()).await.unwrap()
    }

    fn become_version(&self, version: &str) {
        let compose = self.root.join("compose");
        std::fs::create_dir_all(&compose).unwrap();
        let stack = STACK
            .replace("@IMAGE@", IMAGE)
            .replace("@HEALTH@", self.health)
            .replace("@VERSION@", version);
        std::fs::write(compose.join("stack.yml"), stack).unwrap();
        std::fs::write(compose.join(format!("{version}.only")), "").unwrap();
        let crontab = format!("@daily echo {version}\n");
        std::fs::write(self.root.join("crontab"), crontab).unwrap();
        for volume in ["mini_data", "mini_metrics"] {
            self.engine.docker(&["volume", "create", volume]);
            let data = self.volume(volume);
            std::fs::write(data.join("page"), version).unwrap();
            std::fs::write(data.join(format!(".{version}")), version).unwrap();
        }
        let stack = compose.join("stack.yml");
        self.engine.docker(&[
            "stack",
            "deploy",
            "--resolve-image",
            "never",
            "-c",
            stack.to_str().unwrap(),
            "mini",
        ]);
        self.runs();
    }

    /// Waits until all of it does.
    pub fn runs(&self) {
        for (service, count) in [("mini_web", 2), ("mini_metrics", 1)] {
            let state = [
                "service",
                "inspect",
                "-f",
                "{{json .UpdateStatus}}",
                service,
            ];
            until(&format!("{service} runs"), || {
                self.engine.containers(service).len() == count
                    && !self.engine.docker(&state).contains("updating")
            });
        }
    }

    pub fn volume(&self, name: &str) -> PathBuf {
        self.engine.volume(name)
    }

    /// Everything that a restore may touch; what runs keep aside is left out.
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        for place in [
            self.volume("mini_data"),
            self.volume("mini_metrics"),
            self.root.join("compose"),
        ] {
            text += &format!("=== {} \n", place.display());
            let found = run(Command::new("find").arg(&place).args([
                "-name",
                ".restore-*",
                "-prune",
                "-o",
                "-type",
                "f",
                "-exec",
                "sha256sum",
                "{}",
                "+",
            ]));
            let mut lines: Vec<String> = restore_testing::text(&found)
                .lines()
                .map(str::to_owned)
                .collect();
            lines.sort();
            text += &(lines.join("\n") + "\n");
        }
        text += &std::fs::read_to_string(self.root.join("crontab")).unwrap();
        text += &format!("cron {}\n", self.root.join("cron-is-up").exists());
        let services = ["mini_web", "mini_metrics"];
        let inspect = ["service", "inspect", "-f", "{{json .Spec}}"];
        let specs = self.engine.docker(&[&inspect[..], &services].concat());
        for (service, spec) in services.into_iter().zip(specs.lines()) {
            text += &format!("=== {service} \n{spec}\n");
            text += &format!("{} run\n", self.engine.containers(service).len());
        }
        for things in ["network", "secret", "config", "volume"] {
            text += &format!(
                "=== {things} \n{}\n",
                self.engine.docker(&[things, "ls", "-q"])
            );
        }
        text
    }

    #[track_caller]
    pub fn is(&self, wanted: &str, what: &str) {
        assert_same(wanted, &self.fingerprint(), what);
    }

    /// Deletes what the last run keeps, if anything; then nothing of any run is left.
    pub async fn confirm(&self, what: &str) {
        match self.site().await.confirm(None, RunOptions::new()).await {
            Ok(report) => assert!(report.confirmed),
            Err(error) => assert_eq!(error.code(), "run.none_to_confirm", "{what}: {error}"),
        }
        let mut find = Command::new("find");
        find.args([
            self.volume("mini_data"),
            self.volume("mini_metrics"),
            self.root.clone(),
        ]);
        find.args(["-name", ".restore-*", "-o", "-name", "*.stack.json"]);
        assert_eq!(text(&run(&mut find)), "", "{what}: files are left");
    }

    /// No secret of a service's environment is in what runs write down.
    pub fn no_secrets(&self) {
        let found = Command::new("grep")
            .args(["-rl", "geheim"])
            .arg(self.root.join("state"))
            .output()
            .unwrap();
        assert_eq!(text(&found), "");
    }

    /// Runs the example `crash`; what it printed.
    pub fn crash(&self, action: &str, when: &str, backup: &str) -> String {
        restore_testing::crash(&self.config(), &[action, when, backup])
    }

    /// The same where it may end before that; whether it was killed.
    pub fn crash_if_reached(&self, action: &str, when: &str, backup: &str) -> (bool, String) {
        restore_testing::crash_if_reached(&self.config(), &[action, when, backup])
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = self.engine.client(&["stack", "rm", "mini"]).output();
        let gone = || {
            let containers: usize = ["mini_web", "mini_metrics"]
                .iter()
                .map(|name| self.engine.containers(name).len())
                .sum();
            containers == 0
        };
        if !std::thread::panicking() {
            until("the stack is gone", gone);
        }
    }
}
