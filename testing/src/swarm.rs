//! The runbook's platform of `examples/hosting-platform`, made for one test and destroyed with it:
//! a real stack on a Docker engine that the tests have to themselves.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::hosting::{folder, run, text};

/// A running platform in a folder of its own.
///
/// Service names are the platform's own, so that an engine holds one platform at a time: with
/// [`Swarm::new`] tests of one binary take turns on one engine, which ends with the last of them;
/// with [`Swarm::alone`] a test has its own.
pub struct Swarm {
    work: PathBuf,
    root: PathBuf,
    engine: PathBuf,
    // Given back in this order, after the platform is gone: first the turn, then the engine.
    _turn: Option<MutexGuard<'static, ()>>,
    _shared: Option<Arc<SharedEngine>>,
}

impl Swarm {
    /// A platform with so many rows and megabytes of volumes, on the engine that the tests of this
    /// process share. Waits until it is free.
    pub fn new(rows: u32, volume_mb: u32) -> Self {
        Self::with(rows, volume_mb, &[])
    }

    /// The same with more of what `platform create` understands: `&["--appendonly", "no"]`.
    pub fn with(rows: u32, volume_mb: u32, options: &[&str]) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let shared = SharedEngine::get();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let engine = shared.dir.clone();
        let mut more = vec!["--engine", utf8(&engine)];
        more.extend(options);
        let mut swarm = Self::create(rows, volume_mb, &more);
        swarm.engine.clone_from(&engine);
        swarm._turn = Some(turn);
        swarm._shared = Some(shared);
        swarm
    }

    /// The same on an engine of its own: `&["--workers", "2", "--grafana-on", "worker1"]`.
    pub fn alone(rows: u32, volume_mb: u32, options: &[&str]) -> Self {
        Self::create(rows, volume_mb, options)
    }

    fn create(rows: u32, volume_mb: u32, options: &[&str]) -> Self {
        let work = folder();
        let root = work.join("platform");
        let swarm = Self {
            engine: root.join("engine"),
            root,
            work,
            _turn: None,
            _shared: None,
        };
        let (rows, volume_mb) = (rows.to_string(), volume_mb.to_string());
        let mut args = vec!["create", "--rows", &rows, "--volume-mb", &volume_mb];
        args.extend(options);
        swarm.script("platform", &args);
        swarm
    }

    /// The folder that stands in for `/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The site's configuration.
    pub fn config(&self) -> PathBuf {
        self.root.join("restore.toml")
    }

    /// A folder for the test's own files, gone with the platform.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Where the manager's engine listens.
    pub fn socket(&self) -> PathBuf {
        self.engine.join("docker.sock")
    }

    /// Where the engine of a worker, counted from 1, listens.
    pub fn worker_socket(&self, number: u32) -> PathBuf {
        self.engine.join(format!("workers/{number}/docker.sock"))
    }

    /// The folder with `ca.pem`, `cert.pem` and `key.pem` for `tcp://ADDRESS:2376` of the workers.
    pub fn tls(&self) -> PathBuf {
        self.engine.join("tls")
    }

    /// Generation A, by plain shell commands, with the application's image; its id.
    pub fn back_up(&self) -> String {
        self.script("backup.sh", &[]).trim().to_owned()
    }

    /// Generation A without images, which takes a part of the time; its id. The site's configuration says
    /// from now on that backups may lack them.
    pub fn back_up_without_images(&self) -> String {
        let text = std::fs::read_to_string(self.config()).expect("the configuration");
        let kind = "kind = \"image\"\n";
        let optional = format!("{kind}optional = true\n");
        if !text.contains(&optional) {
            let text = text.replace(kind, &optional);
            std::fs::write(self.config(), text).expect("the configuration");
        }
        self.script("backup.sh", &["--without-images"])
            .trim()
            .to_owned()
    }

    /// Generation B, by plain shell commands; its id.
    pub fn back_up_by_cron(&self) -> String {
        self.script("backup-cron.sh", &[]).trim().to_owned()
    }

    /// Has backups hold, and the configuration say, what a restore on a new engine takes.
    pub fn prepare_for_disaster(&self) {
        let code = r#"set -euo pipefail; . "$1"; parse_root -d "$2"; prepare_for_disaster"#;
        let mut command = Command::new("bash");
        command
            .args(["-c", code, "bash"])
            .arg(scripts().join("lib.sh"));
        run(command.arg(&self.root));
    }

    /// Damages every part.
    pub fn damage(&self) {
        self.script("damage.sh", &[]);
    }

    /// Everything that the platform holds, a section a component.
    pub fn fingerprint(&self) -> String {
        self.script("platform", &["fingerprint"])
    }

    /// Starts or stops one service by its exact name: `service("hosting_app", "stop")`.
    pub fn service(&self, name: &str, action: &str) {
        self.script("platform", &["service", name, action]);
    }

    /// A folder of one backup.
    pub fn backup_folder(&self, id: &str) -> PathBuf {
        self.root.join("backups").join(id)
    }

    /// A port or another setting of `platform.env`: `setting("HTTP_PORT")`.
    pub fn setting(&self, name: &str) -> String {
        let file = self.root.join("platform.env");
        let settings =
            std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let start = format!("{name}=");
        settings
            .lines()
            .find_map(|line| line.strip_prefix(&start))
            .unwrap_or_else(|| panic!("no {name} in {}", file.display()))
            .to_owned()
    }

    /// What `docker` prints on the manager, without the last line's end.
    pub fn docker(&self, args: &[&str]) -> String {
        text(&run(&mut self.client(args))).trim_end().to_owned()
    }

    /// The `docker` command, pointed at the manager and free of this user's settings.
    pub fn client(&self, args: &[&str]) -> Command {
        client(&self.engine, args)
    }

    /// Stops the engine as a service manager does, and starts it again; with it all containers.
    pub fn engine_restart(&self) {
        self.engine_script(&["restart"]);
    }

    /// The same for a hook, which outlives what it was made of.
    pub fn engine_restarter(&self) -> impl Fn() + Send + Sync + use<> {
        let engine = self.engine.clone();
        move || engine_script(&engine, &["restart"])
    }

    /// Kills the engine and starts it again: containers run on until it is back and replaces them.
    pub fn engine_crash(&self) {
        self.engine_script(&["restart", "--kill"]);
    }

    /// `worker(1, "kill")`: a node that goes away; `"stop"`: in good order; `"start"`: it is back.
    pub fn worker(&self, number: u32, action: &str) {
        self.engine_script(&["node", &number.to_string(), action]);
    }

    /// Runs one of the platform's scripts and returns what it printed.
    pub fn script(&self, name: &str, args: &[&str]) -> String {
        let mut command = Command::new(scripts().join(name));
        command.arg("-d").arg(&self.root).args(args);
        text(&run(&mut command))
    }

    fn engine_script(&self, args: &[&str]) {
        engine_script(&self.engine, args);
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        let destroyed = Command::new(scripts().join("platform"))
            .arg("-d")
            .arg(&self.root)
            .arg("destroy")
            .status();
        if destroyed.is_ok_and(|status| status.success()) {
            let _ = std::fs::remove_dir_all(&self.work);
        }
    }
}

/// An engine that the tests of one process take turns on; destroyed when none needs it any more.
struct SharedEngine {
    dir: PathBuf,
    work: Option<PathBuf>,
}

impl SharedEngine {
    fn get() -> Arc<Self> {
        static SHARED: Mutex<Weak<SharedEngine>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let engine = Arc::new(Self::start());
            *shared = Arc::downgrade(&engine);
            engine
        })
    }

    /// Where several test programs run one after the other, `RESTORE_TEST_ENGINE` may name the
    /// folder of an engine that outlives them.
    fn start() -> Self {
        let engine = match std::env::var_os("RESTORE_TEST_ENGINE") {
            Some(dir) => Self {
                dir: PathBuf::from(dir),
                work: None,
            },
            None => {
                let work = folder();
                Self {
                    dir: work.join("engine"),
                    work: Some(work),
                }
            }
        };
        engine_script(&engine.dir, &["start", "--images"]);
        engine
    }
}

impl Drop for SharedEngine {
    fn drop(&mut self) {
        let Some(work) = &self.work else { return };
        let destroyed = Command::new(scripts().join("engine"))
            .arg("-d")
            .arg(&self.dir)
            .arg("destroy")
            .status();
        if destroyed.is_ok_and(|status| status.success()) {
            let _ = std::fs::remove_dir_all(work);
        }
    }
}

fn engine_script(dir: &Path, args: &[&str]) {
    run(Command::new(scripts().join("engine"))
        .arg("-d")
        .arg(dir)
        .args(args));
}

fn client(engine: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    for name in ["DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        command.env_remove(name);
    }
    command
        .env(
            "DOCKER_HOST",
            format!("unix://{}/docker.sock", utf8(engine)),
        )
        .env("DOCKER_CONFIG", engine.join("client"))
        .args(args);
    command
}

fn utf8(path: &Path) -> &str {
    path.to_str()
        .unwrap_or_else(|| panic!("{} is not UTF-8", path.display()))
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hosting-platform")
}
