//! The whole hosting platform of `examples/local-platform`, made for one test and destroyed with
//! it: real PostgreSQL, Redis, nginx and application, driven by the same scripts as the demo.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::prepared;

/// A running platform in a folder of its own.
pub struct Hosting {
    work: PathBuf,
    root: PathBuf,
}

impl Hosting {
    /// Creates and starts a platform with so many rows and megabytes of volumes.
    pub fn new(rows: u32, volume_mb: u32) -> Self {
        let work = folder_in(quick_directory());
        let hosting = Self {
            root: work.join("platform"),
            work,
        };
        let (rows, volume_mb) = (rows.to_string(), volume_mb.to_string());
        let cluster = cluster();
        let cluster = cluster.to_str().expect("a path in UTF-8");
        hosting.script(
            "platform",
            &[
                "create",
                "--rows",
                &rows,
                "--volume-mb",
                &volume_mb,
                "--cluster",
                cluster,
            ],
        );
        hosting
    }

    /// The folder that stands in for `/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The site's configuration.
    pub fn config(&self) -> PathBuf {
        self.root.join("restore.toml")
    }

    /// Changes the site's configuration.
    #[track_caller]
    pub fn configure(&self, from: &str, to: &str) {
        let before = std::fs::read_to_string(self.config()).expect("the configuration");
        assert!(before.contains(from), "restore.toml has no {from:?}");
        std::fs::write(self.config(), before.replace(from, to)).expect("the configuration");
    }

    /// A folder for the test's own files, gone with the platform.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Generation A, by plain shell commands; its id.
    pub fn back_up(&self) -> String {
        self.script("backup.sh", &[]).trim().to_owned()
    }

    /// Generation B, by plain shell commands; its id.
    pub fn back_up_by_cron(&self) -> String {
        self.script("backup-cron.sh", &[]).trim().to_owned()
    }

    /// Damages every part.
    pub fn damage(&self) {
        self.script("damage.sh", &[]);
    }

    /// Everything that the platform holds, a section a component.
    pub fn fingerprint(&self) -> String {
        self.script("platform", &["fingerprint"])
    }

    /// Starts or stops one service: `service("app", "stop")`.
    pub fn service(&self, name: &str, action: &str) {
        self.script("platform", &["service", name, action]);
    }

    /// A folder of one backup.
    pub fn backup_folder(&self, id: &str) -> PathBuf {
        self.root.join("backups").join(id)
    }

    /// Runs one of the platform's scripts and returns what it printed.
    pub fn script(&self, name: &str, args: &[&str]) -> String {
        let mut command = Command::new(scripts().join(name));
        command.arg("-d").arg(&self.root).args(args);
        text(&run(&mut command))
    }
}

impl Drop for Hosting {
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

/// The two fingerprints are the same, or the test fails with the lines that differ.
#[track_caller]
pub fn assert_same(wanted: &str, found: &str, what: &str) {
    if wanted == found {
        return;
    }
    let mut section = "";
    let mut difference = String::new();
    let wanted_lines: std::collections::HashSet<&str> = wanted.lines().collect();
    let found_lines: std::collections::HashSet<&str> = found.lines().collect();
    for (mark, text, other) in [('-', wanted, &found_lines), ('+', found, &wanted_lines)] {
        for line in text.lines() {
            if line.starts_with("=== ") {
                section = line;
            }
            if !other.contains(line) && difference.len() < 4000 {
                difference += &format!("{section} {mark} {line}\n");
            }
        }
    }
    panic!("{what}: the platform is not what it should be (- wanted, + found):\n{difference}");
}

/// Where the platforms' common start of a PostgreSQL cluster is kept.
fn cluster() -> PathBuf {
    let script = std::fs::read_to_string(scripts().join("platform")).expect("the script");
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL");
    let mut versions: Vec<String> = versions
        .map(|entry| entry.expect("an entry").path().join("bin/initdb"))
        .filter(|initdb| initdb.exists())
        .map(prepared::version)
        .collect();
    versions.sort();
    prepared::archive("platform", &format!("{versions:?}{script}"))
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/local-platform")
}

/// Runs a command that must succeed.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// What a command printed.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A new folder of the test's own, which is the caller's to delete. Open to all users: servers run as
/// users of their own, who must reach their folders. Sockets lie in it, whose paths must be short.
pub fn folder() -> PathBuf {
    folder_in(std::env::temp_dir())
}

/// In memory where the machine has plenty of it, so that nothing waits for a disk that others may be
/// busy with; else where all temporary folders are.
pub(crate) fn quick_directory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let good = rustix::fs::statvfs(&memory).is_ok_and(|it| {
        it.f_bavail * it.f_frsize > 4 << 30
            && !it.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC)
    });
    match good {
        true => memory,
        false => std::env::temp_dir(),
    }
}

fn folder_in(parent: PathBuf) -> PathBuf {
    let made = tempfile::Builder::new()
        .prefix("restore-test.")
        .rand_bytes(8)
        .tempdir_in(parent);
    let work = made.expect("a folder for a test").keep();
    run(Command::new("chmod").arg("755").arg(&work));
    work
}
