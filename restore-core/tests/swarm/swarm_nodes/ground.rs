//! A platform on three nodes, its backup, and what it is before a restore.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use restore_core::platform::{Command, Platform};
use restore_core::{Plan, PlanRequest, RunOptions, Site};
use restore_testing::sshd::Sshd;
use restore_testing::{Swarm, example, run, text};
use tokio::io::AsyncReadExt;

pub struct Ground {
    pub swarm: Swarm,
    /// How many nodes there are beside the manager.
    pub workers: u32,
    /// What the platform held when it was backed up, and since it was damaged.
    pub at_backup: String,
    pub damaged: String,
    pub ssh_config: PathBuf,
    /// It knows no host.
    pub strange_config: PathBuf,
    _sshd: Sshd,
}

impl Ground {
    /// A platform that was backed up and then damaged.
    pub fn new(workers: u32) -> Self {
        let mut ground = Self::started(workers);
        ground.swarm.back_up();
        ground.at_backup = ground.swarm.fingerprint();
        ground.swarm.damage();
        ground.damaged = ground.swarm.fingerprint();
        assert_ne!(ground.at_backup, ground.damaged);
        ground
    }

    /// A platform that is as it was backed up, without images.
    pub fn whole(workers: u32) -> Self {
        let ground = Self::started(workers);
        ground.swarm.back_up_without_images();
        ground
    }

    fn started(workers: u32) -> Self {
        let sshd = Sshd::start();
        let count = workers.to_string();
        let swarm = Swarm::alone(200, 1, &["--workers", &count, "--grafana-on", "worker1"]);
        let other = swarm.tls().join("other.pem");
        run(std::process::Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ])
            .args(["-subj", "/CN=nobody", "-keyout", "/dev/null", "-out"])
            .arg(other));
        let strange = sshd.client("nas", sshd.port, None, "client");
        let strange_config = strange.with_file_name("strange");
        std::fs::copy(&strange, &strange_config).unwrap();
        let text = std::fs::read_to_string(&strange_config).unwrap();
        std::fs::write(
            &strange_config,
            text.replace("known_hosts-nas", "known_hosts-none"),
        )
        .unwrap();
        std::fs::write(sshd.path("known_hosts-none"), "").unwrap();
        Self {
            ssh_config: sshd.good_client(sshd.port),
            strange_config,
            swarm,
            workers,
            at_backup: String::new(),
            damaged: String::new(),
            _sshd: sshd,
        }
    }

    /// Where the other nodes reach a worker.
    pub fn address(&self, number: u32) -> String {
        let name = format!("worker{number}");
        self.swarm
            .docker(&["node", "inspect", "-f", "{{.Status.Addr}}", &name])
    }

    /// How the workers are reached: one by TCP, one by ssh.
    pub fn nodes(&self) -> String {
        let tls = self.swarm.tls();
        let mut nodes = format!(
            "[nodes.worker1]\nendpoint = 'tcp://{}:2376'\nca = '{tls}/ca.pem'\ncert = '{tls}/cert.pem'\nkey = '{tls}/key.pem'\n",
            self.address(1),
            tls = tls.display(),
        );
        if self.workers > 1 {
            nodes += &format!(
                "[nodes.worker2]\nendpoint = 'ssh://nas{}'\nssh_config = '{}'\n",
                self.swarm.worker_socket(2).display(),
                self.ssh_config.display(),
            );
        }
        nodes
    }

    /// The platform's site with more in its configuration.
    pub async fn site(&self, name: &str, more: &str) -> Site {
        let socket = format!("socket = '{}'", self.swarm.socket().display());
        self.made(name, &socket, &example("volume_agent"), more)
            .await
    }

    /// The same with other keys of `[platform]`.
    pub async fn site_at(&self, name: &str, platform: &str, more: &str) -> Site {
        self.made(name, platform, &example("volume_agent"), more)
            .await
    }

    /// The same with another agent.
    pub async fn site_with_agent(&self, agent: &str, more: &str) -> Site {
        let socket = format!("socket = '{}'", self.swarm.socket().display());
        self.made("agent", &socket, Path::new(agent), more).await
    }

    /// The same with another `redeploy = …`.
    pub async fn site_but(&self, name: &str, redeploy: &str, more: &str) -> Site {
        self.site(name, more).await;
        let path = self.swarm.root().join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("redeploy = false"));
        std::fs::write(&path, text.replace("redeploy = false", redeploy)).unwrap();
        Site::open(&path).await.unwrap()
    }

    async fn made(&self, name: &str, platform: &str, agent: &Path, more: &str) -> Site {
        let text = std::fs::read_to_string(self.swarm.config()).unwrap();
        let socket = format!("socket = \"{}\"", self.swarm.socket().display());
        assert!(text.contains(&socket));
        let platform = format!("{platform}\nagent = '{}'", agent.display());
        let text = text
            .replace(&socket, &platform)
            // A node that is away would be waited for.
            .replace(
                "[services.grafana]\n",
                "[services.grafana]\nstart_timeout = '15s'\n",
            );
        let path = self.swarm.root().join(format!("{name}.toml"));
        std::fs::write(&path, format!("{text}\n{more}\n")).unwrap();
        Site::open(&path).await.unwrap()
    }

    pub async fn plan(&self, site: &Site, request: PlanRequest) -> Plan {
        let backup = site.backup("latest").await.unwrap();
        let plan = site
            .plan_with(&backup, request, &RunOptions::new())
            .await
            .unwrap();
        assert!(plan.refusal().is_none(), "{:#?}", plan.findings);
        plan
    }

    /// Deletes what the last run keeps, if anything.
    pub async fn confirm(&self, site: &Site) {
        match site.confirm(None, RunOptions::new()).await {
            Ok(report) => assert!(report.confirmed),
            Err(error) => assert_eq!(error.code(), "run.none_to_confirm", "{error}"),
        }
    }

    /// What stands beside a volume of the manager can do only what its work needs.
    pub fn agents_are_confined(&self) {
        let docker = |args: &[&str]| self.swarm.docker(args);
        let agents = docker(&["ps", "-q", "--filter", "label=restore.site"]);
        assert!(!agents.trim().is_empty(), "no agent runs");
        let format = "{{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} \
            {{.HostConfig.NetworkMode}} {{.HostConfig.Privileged}} {{.HostConfig.PidsLimit}} \
            {{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.ReadonlyRootfs}}";
        for agent in agents.split_whitespace() {
            let limits = docker(&["inspect", "--format", format, agent]);
            let (bytes, processes) = (512 << 20, 1024);
            assert_eq!(
                limits.trim(),
                format!("[ALL] [no-new-privileges] none false {processes} {bytes} {bytes} true")
            );
        }
    }

    /// On no node is anything left of any run, or will be in a moment.
    pub async fn nothing_left(&self) {
        let mut sockets = vec![self.swarm.socket()];
        sockets.extend((1..=self.workers).map(|number| self.swarm.worker_socket(number)));
        for socket in sockets {
            let docker = |args: &[&str]| {
                let mut command = std::process::Command::new("docker");
                command
                    .arg("--host")
                    .arg(format!("unix://{}", socket.display()));
                text(&run(command.args(args)))
            };
            let images = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
            assert!(
                !images.contains("restore/"),
                "{}: {images}",
                socket.display()
            );
            patiently(async || docker(&["ps", "-aq", "--filter", "label=restore.site"]).is_empty())
                .await;
            let volumes = ["volume", "ls", "-q", "--filter", "label=restore.site"];
            patiently(async || docker(&volumes).is_empty()).await;
        }
        assert_eq!(
            self.swarm.docker(&["config", "ls", "-q"]),
            "",
            "a lock is left"
        );
    }
}

pub async fn patiently(mut holds: impl AsyncFnMut() -> bool) {
    // Long: the machine may be slow, and whoever waits for nothing has failed anyhow.
    let deadline = Instant::now() + Duration::from_secs(240);
    let mut pause = Duration::from_millis(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "never");
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(250));
    }
}

/// The exit code and the output of a program of a service.
pub async fn said(platform: &dyn Platform, service: &str, command: Command) -> (i32, String) {
    let Ok(mut process) = platform.exec(service, command).await else {
        return (-1, String::new());
    };
    let mut said = String::new();
    process
        .stdout()
        .unwrap()
        .read_to_string(&mut said)
        .await
        .unwrap();
    (process.wait().await.unwrap().code, said)
}

/// One section of a fingerprint.
pub fn section(fingerprint: &str, name: &str) -> String {
    let from = fingerprint
        .find(&format!("=== {name} "))
        .unwrap_or_else(|| panic!("no section {name}"));
    let text = &fingerprint[from..];
    text[..text[4..].find("\n=== ").map_or(text.len(), |at| at + 4)].to_owned()
}
