//! The example platform of Docker Compose: the demo's stories, and a first configuration of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use restore_testing::{assert_same, folder, run, text};

use super::whole::support::Ran;

/// A running platform with a backup, in a folder of its own.
struct Compose {
    work: PathBuf,
    root: PathBuf,
    at_backup: String,
}

impl Compose {
    fn new() -> Self {
        let work = folder();
        let mut compose = Self {
            root: work.join("platform"),
            work,
            at_backup: String::new(),
        };
        compose.script("platform", &["create", "--rows", "40", "--volume-mb", "1"]);
        compose.script("backup.sh", &[]);
        compose.at_backup = compose.fingerprint();
        compose
    }

    fn script(&self, name: &str, args: &[&str]) -> String {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/compose-platform");
        let mut command = Command::new(scripts.join(name));
        command.arg("-d").arg(&self.root).args(args);
        text(&run(&mut command))
    }

    fn fingerprint(&self) -> String {
        self.script("platform", &["fingerprint"])
    }

    /// Damages the platform; what it holds then.
    fn damaged(&self) -> String {
        self.script("damage.sh", &[]);
        let damaged = self.fingerprint();
        assert_ne!(self.at_backup, damaged);
        damaged
    }

    fn path(&self, name: &str) -> String {
        self.root.join(name).to_str().unwrap().to_owned()
    }

    #[track_caller]
    fn is(&self, wanted: &str, what: &str) {
        assert_same(wanted, &self.fingerprint(), what);
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        self.script("platform", &["destroy"]);
        let _ = std::fs::remove_dir_all(&self.work);
    }
}

fn restore(args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restore"));
    command.args(args).stdin(Stdio::null());
    Ran::of(args, command.output().unwrap())
}

#[test]
fn the_example_is_restored_and_taken_back() {
    let compose = Compose::new();
    let config = compose.path("restore.toml");
    let restore = |args: &[&str]| restore(&[&["--config", &config], args].concat());
    let ran = restore(&["config", "check"]).exits(0);
    assert!(ran.out.contains("is sound.\n"), "{}", ran.out);
    compose.damaged();
    restore(&["run", "latest", "--yes"]).exits(0);
    compose.is(&compose.at_backup, "restored");
    restore(&["confirm", "--yes"]).exits(0);
    let damaged = compose.damaged();
    restore(&["run", "latest", "--yes"]).exits(0);
    // What was damaged before the run fails its checks again.
    restore(&["rollback", "--yes"]).exits(8);
    compose.is(&damaged, "rolled back");
    restore(&["confirm", "--yes"]).exits(0);
    let left = run(Command::new("find").arg(&compose.root).args([
        "-name",
        ".restore-*",
        "-o",
        "-name",
        "*.stopped.json",
    ]));
    assert_eq!(text(&left), "", "files are left");
}

#[test]
fn a_first_configuration_of_it_needs_no_edit() {
    let compose = Compose::new();
    let file = compose.path("first.toml");
    let args = [
        "init",
        "--below",
        &compose.path(""),
        "--socket",
        &compose.path("engine/docker.sock"),
        "--backups",
        &compose.path("backups"),
        "-o",
        &file,
        "--json",
    ];
    let init = restore(&args).exits(0).json();
    assert_eq!(init["init"]["todo"], serde_json::json!([]), "{init}");
    let text = std::fs::read_to_string(&file).unwrap();
    for secret in ["postgres.pass", "redis.pass"] {
        let password = std::fs::read_to_string(compose.path("secrets/") + secret).unwrap();
        assert!(!text.contains(password.trim()), "{secret}");
        assert!(text.contains(&compose.path("secrets/")), "{secret}: {text}");
    }
    // What brings each project back where nothing is left of it.
    for keys in [
        "redeploy = true\nstack = \"hosting\"\ncompose = [\"hosting/docker-compose.yml\"]\n",
        "redeploy = true\nstack = \"monitoring\"\ncompose = [\"docker-compose.yml\"]\n",
    ] {
        assert!(text.contains(keys), "{keys}: {text}");
    }
    // A test leaves nothing outside of its folder.
    let state = text
        .lines()
        .find(|line| line.starts_with("state = "))
        .unwrap();
    std::fs::write(&file, text.replace(state, "state = \"first-state\"")).unwrap();

    let restore = |args: &[&str]| restore(&[&["--config", &file], args].concat());
    let ran = restore(&["config", "check"]).exits(0);
    assert!(ran.out.contains("is sound.\n"), "{}\n{text}", ran.out);
    let ran = restore(&["status"]).exits(0);
    assert!(ran.out.contains("A restore could begin now"), "{}", ran.out);
    let plan = restore(&["plan", "latest", "--json"]).exits(0).json();
    let mut deploys = Vec::new();
    for component in plan["plan"]["components"].as_array().unwrap() {
        deploys.extend(component["deploys"].as_str());
    }
    assert_eq!(
        deploys,
        [
            "the project hosting from hosting/docker-compose.yml",
            "the project monitoring from docker-compose.yml"
        ]
    );
    compose.damaged();
    restore(&["run", "latest", "--yes"]).exits(0);
    compose.is(&compose.at_backup, "restored by the first configuration");
    restore(&["confirm", "--yes"]).exits(0);
    // The first backup of its own, proven.
    restore(&["backup"]).exits(0);
    restore(&["drill", "latest"]).exits(0);
    everything_is_brought_back_on_a_new_engine(&compose);
}

/// The engine's data are destroyed, and all trees: three commands bring back all of it.
fn everything_is_brought_back_on_a_new_engine(compose: &Compose) {
    let library = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/compose-platform/lib.sh"
    );
    let prepare = r#"set -euo pipefail; . "$1"; parse_root -d "$2"; prepare_for_disaster"#;
    let mut command = Command::new("bash");
    command.args(["-c", prepare, "bash", library]);
    run(command.arg(&compose.root));
    let (config, backups) = (compose.path("restore.toml"), compose.path("backups"));
    let made = restore(&["--config", &config, "backup", "--json"]).exits(0);
    let id = made.json()["backup"]["id"].as_str().unwrap().to_owned();
    let at_backup = compose.script("platform", &["fingerprint", "--anew"]);
    compose.script("disaster.sh", &[]);
    assert!(!Path::new(&config).exists());
    restore(&["init", "--from", &backups, "latest", "--output", &config]).exits(0);
    let files = "images,docker-compose,docker-compose-monitoring,nginx-config,prometheus-config,scripts,applications,crontab";
    let data = "postgres,metrics,redis,grafana,nginx-logs,nginx-cache";
    let run = [
        "--config", &config, "run", &id, "--create", "--yes", "--only",
    ];
    // Checks of the data fail until the second.
    restore(&[&run[..], &[files]].concat()).restored();
    restore(&[&run[..], &[data]].concat()).exits(0);
    let now = compose.script("platform", &["fingerprint", "--anew"]);
    assert_same(&at_backup, &now, "brought back on a new engine");
}
