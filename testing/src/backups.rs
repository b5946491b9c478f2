//! Backups of both generations, made by plain shell commands from real servers.
//!
//! The servers run once on a machine; each test gets files of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::prepared;

/// The id that the backups are made under.
pub const ID: &str = "20240215-020000";

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Both backups' files, kept in memory so that nothing stays behind on the disk.
struct Templates {
    a: Files,
    b: Files,
}

/// Writes a backup by hand, with checksums, to `store/id`; returns its folder.
pub fn generation_a(store: &Path, id: &str) -> PathBuf {
    write(&templates().a, store, id)
}

/// Writes a backup by cron, without checksums, to `store/id`; returns its folder.
pub fn generation_b(store: &Path, id: &str) -> PathBuf {
    write(&templates().b, store, id)
}

/// Replaces the line of `path` in the manifest of the backup at `folder` by one for the file as
/// it is now: a damage that the checksums do not show.
pub fn relist(folder: &Path, path: &str) {
    let script = r#"
        set -euo pipefail
        cd "$1"
        awk -v path="$2|" 'index($0, path) != 1' MANIFEST.txt > MANIFEST.new
        line="$2|$(du -h "$2" | cut -f1)|$(sha256sum "$2" | cut -d' ' -f1)"
        awk -v line="$line" '{ print } /^=== Files/ { print line }' MANIFEST.new > MANIFEST.txt
        rm MANIFEST.new
    "#;
    let status = Command::new("bash")
        .args(["-c", script, "relist"])
        .arg(folder)
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

fn write(files: &Files, store: &Path, id: &str) -> PathBuf {
    let folder = store.join(id);
    for (path, content) in files {
        let path = folder.join(path.to_str().unwrap().replace(ID, id));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.ends_with("MANIFEST.txt") {
            let text = String::from_utf8(content.clone()).unwrap();
            std::fs::write(path, text.replace(ID, id)).unwrap();
        } else {
            std::fs::write(path, content).unwrap();
        }
    }
    folder
}

fn templates() -> &'static Templates {
    static TEMPLATES: OnceLock<Templates> = OnceLock::new();
    TEMPLATES.get_or_init(read)
}

const SERVERS: &str = include_str!("backups/servers.sh");
const GENERATIONS: [(&str, &str); 2] = [
    ("a", include_str!("backups/generation_a.sh")),
    ("b", include_str!("backups/generation_b.sh")),
];

fn read() -> Templates {
    let work = tempfile::tempdir().unwrap();
    let pg_bin = pg_bin();
    let versions = [pg_bin.join("postgres"), "redis-server".into()].map(prepared::version);
    let key = format!("{versions:?}{SERVERS}{GENERATIONS:?}");
    prepared::unpack("backups", &key, work.path(), |into| {
        let servers = Servers::start(pg_bin);
        for (name, script) in GENERATIONS {
            servers.shell(script, &into.join(name));
        }
    });
    let [a, b] = GENERATIONS.map(|(name, _)| {
        let mut files = Files::new();
        let folder = work.path().join(name);
        collect(&folder, &folder, &mut files);
        files
    });
    Templates { a, b }
}

fn pg_bin() -> PathBuf {
    std::fs::read_dir("/usr/lib/postgresql")
        .unwrap()
        .map(|entry| entry.unwrap().path().join("bin"))
        .find(|bin| bin.join("initdb").exists())
        .unwrap()
}

/// The servers that are backed up; stopped when dropped.
struct Servers {
    directory: tempfile::TempDir,
    pg_bin: PathBuf,
}

impl Servers {
    fn start(pg_bin: PathBuf) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        // The user postgres has to reach its own folder in it.
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let servers = Self { directory, pg_bin };
        servers.shell(SERVERS, Path::new("/nowhere"));
        servers
    }

    fn shell(&self, script: &str, backup: &Path) {
        let path = |name: &str| self.directory.path().join(name);
        let output = Command::new("bash")
            .args(["-c", script])
            .env("LC_ALL", "C.UTF-8")
            .env("BACKUP_ID", ID)
            .env("BACKUP_DIR", backup)
            .env("SITE", path("site"))
            .env("PGBIN", &self.pg_bin)
            .env("PGSOCKET", path("pg"))
            .env("REDIS_DIR", path("redis"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let stop = r#"
            redis-cli -s "$1/redis/redis.sock" SHUTDOWN NOSAVE 2> /dev/null
            cd / && runuser -u postgres -- "$0/pg_ctl" -D "$1/pg/data" -m immediate -w stop > /dev/null 2>&1
        "#;
        let _ = Command::new("bash")
            .args(["-c", stop])
            .arg(&self.pg_bin)
            .arg(self.directory.path())
            .status();
    }
}

fn collect(root: &Path, folder: &Path, files: &mut Files) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_owned();
            files.insert(name, std::fs::read(path).unwrap());
        }
    }
}
