//! A Docker engine of the tests' own with a swarm of one node, and one tiny image.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use restore_core::Site;
use restore_core::component::Registry;
use restore_core::config::SiteConfig;
use restore_core::platform::Platform;
use restore_testing::{folder, run, text};

/// A shell and its tools in two megabytes.
pub const IMAGE: &str = "restore-test/tools:1";

/// An engine in a folder of its own, destroyed with it.
pub struct Engine {
    dir: PathBuf,
}

impl Engine {
    /// The one that the tests of this binary share while any of them runs.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Engine>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(engine) = shared.upgrade() {
            return engine;
        }
        let engine = Arc::new(Self::new());
        *shared = Arc::downgrade(&engine);
        engine
    }

    /// One that the caller may stop and restart.
    pub fn new() -> Self {
        let engine = Self { dir: folder() };
        engine.script(&["start"]);
        engine.import();
        engine
    }

    /// One that is in no swarm.
    pub fn without_swarm() -> Self {
        let engine = Self { dir: folder() };
        engine.script(&["start", "--no-swarm"]);
        engine.import();
        engine
    }

    /// One that is in no swarm yet, and ready for one.
    pub fn before_its_swarm() -> Self {
        let engine = Self { dir: folder() };
        engine.script(&["start", "--swarm-later"]);
        engine.import();
        engine
    }

    /// The same with the images of the example platform.
    pub fn without_swarm_with_images() -> Self {
        let engine = Self { dir: folder() };
        engine.script(&["start", "--no-swarm", "--images"]);
        engine.import();
        engine
    }

    /// One with so many further nodes, which have no image.
    pub fn with_workers(count: u32) -> Self {
        let engine = Self { dir: folder() };
        engine.script(&["start", "--workers", &count.to_string()]);
        engine.import();
        engine
    }

    /// A folder that goes with the engine.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// Runs the script that starts and stops engines.
    pub fn script(&self, args: &[&str]) -> String {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hosting-platform/engine");
        text(&run(Command::new(script)
            .arg("-d")
            .arg(&self.dir)
            .args(args)))
    }

    pub fn docker(&self, args: &[&str]) -> String {
        text(&run(&mut self.client(args))).trim().to_owned()
    }

    /// A command of the engine's own client.
    pub fn client(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(args)
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_CONFIG", self.dir.join("client"))
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_TLS_VERIFY");
        command
    }

    /// The image, from the host's own static busybox.
    fn import(&self) {
        let root = self.dir.join("image");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::create_dir_all(root.join("tmp")).unwrap();
        std::fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("/bin/busybox: scripts/setup.sh installs busybox-static");
        let listed = run(Command::new("/bin/busybox").arg("--list"));
        for tool in text(&listed).lines().filter(|tool| *tool != "busybox") {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(tool)).unwrap();
        }
        let mut tar = Command::new("tar")
            .args(["-C", root.to_str().unwrap(), "-c", "."])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        run(self
            .client(&["import", "-", IMAGE])
            .stdin(tar.stdout.take().unwrap()));
        assert!(tar.wait().unwrap().success());
    }

    /// Makes a service that runs a shell script, and waits for nothing.
    pub fn service(&self, name: &str, options: &[&str], script: &str) {
        self.service_from(IMAGE, name, options, script);
    }

    fn service_from(&self, image: &str, name: &str, options: &[&str], script: &str) {
        let mut args = vec!["service", "create", "--detach", "--no-resolve-image"];
        args.extend(["--name", name, "--network", "host"]);
        args.extend(options);
        args.extend([image, "sh", "-c", script]);
        self.docker(&args);
    }

    /// Where a volume's files are.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.dir.join("data/volumes").join(name).join("_data")
    }

    /// A service's containers that run, whatever the swarm says.
    pub fn containers(&self, service: &str) -> Vec<String> {
        let filter = format!("label=com.docker.swarm.service.name={service}");
        let listed = self.docker(&["ps", "-q", "--no-trunc", "--filter", &filter]);
        listed.lines().map(str::to_owned).collect()
    }

    /// A platform over this engine with these further sections.
    pub fn platform(&self, sections: &str) -> Arc<dyn Platform> {
        self.site(sections).platform().clone()
    }

    /// A site over this engine with these further sections.
    pub fn site(&self, sections: &str) -> Site {
        let text = format!(
            "[site]\nname = 'tests'\nstate = 'state'\n[stores.main]\nkind = 'directory'\npath = 'backups'\n\
             [platform]\nkind = 'swarm'\nsocket = '{}'\n[components]\n{sections}",
            self.socket().display()
        );
        let config = SiteConfig::from_toml(&text).unwrap();
        Site::from_config(config, &self.dir, &Registry::default()).unwrap()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.script(&["destroy"]);
    }
}

/// A service that lives as long as a test.
pub struct Service<'a> {
    engine: &'a Engine,
    pub name: &'a str,
}

impl<'a> Service<'a> {
    pub fn new(engine: &'a Engine, name: &'a str, options: &[&str], script: &str) -> Self {
        Self::from_image(engine, IMAGE, name, options, script)
    }

    /// The same from an image of another name.
    pub fn from_image(
        engine: &'a Engine,
        image: &str,
        name: &'a str,
        options: &[&str],
        script: &str,
    ) -> Self {
        engine.service_from(image, name, options, script);
        Self { engine, name }
    }

    /// Waits until so many containers run, and the swarm knows it.
    pub fn runs(&self, count: usize) {
        let states = ["service", "ps", "--format", "{{.CurrentState}}", self.name];
        until(&format!("{count} of {} run", self.name), || {
            let states = self.engine.docker(&states);
            let running = states.lines().filter(|state| state.starts_with("Running "));
            running.count() == count && self.engine.containers(self.name).len() == count
        });
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = self.engine.client(&["service", "rm", self.name]).output();
    }
}

#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    // Long: the machine may be slow, and whoever waits for nothing has failed anyhow.
    let deadline = Instant::now() + Duration::from_secs(240);
    // Each look starts a program or two.
    let mut pause = Duration::from_millis(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(250));
    }
}
