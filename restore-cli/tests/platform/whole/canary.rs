//! Each secret of a site is a canary: in no argument and no environment of a program that is
//! started, in no journal, report, log, output or error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use restore_testing::run;

use super::support::{Ran, Whole, contents};

/// The secrets, by what they are.
struct Canaries(BTreeMap<&'static str, String>);

impl Canaries {
    /// The secret of which a text has a part that gives it away.
    fn found(&self, text: &str) -> Option<&'static str> {
        let mut secrets = self.0.iter();
        secrets.find_map(|(what, secret)| text.contains(secret.as_str()).then_some(*what))
    }

    #[track_caller]
    fn absent(&self, text: &str, place: &str) {
        if let Some(what) = self.found(text) {
            panic!("{what} is in {place}");
        }
    }
}

fn read(pid: &str, name: &str) -> String {
    let bytes = std::fs::read(Path::new("/proc").join(pid).join(name)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn program(pid: &str) -> PathBuf {
    std::fs::read_link(Path::new("/proc").join(pid).join("exe")).unwrap_or_default()
}

/// Who started a process: the fourth word, behind a name that may hold anything.
fn parent(pid: &str) -> Option<String> {
    let stat = read(pid, "stat");
    let rest = stat.rsplit_once(") ")?.1;
    Some(rest.split(' ').nth(1)?.to_owned())
}

/// Whether a process was started by `root`, and not by one of the platform's own scripts, which hand
/// passwords to their clients.
fn is_of(pid: &str, root: &str) -> bool {
    let mut at = pid.to_owned();
    for _ in 0..20 {
        if at == root {
            return true;
        }
        if read(&at, "cmdline").contains("local-platform/platform") {
            return false;
        }
        match parent(&at) {
            Some(above) if above != "0" => at = above,
            _ => return false,
        }
    }
    false
}

/// What was seen of a program's children: how many, and the first that shows a secret.
#[derive(Default)]
struct Seen {
    children: std::collections::BTreeSet<String>,
    shown: Option<String>,
}

/// Looks at all that `root` has started, until told to stop.
fn watch(root: u32, canaries: Arc<Canaries>, stop: Arc<AtomicBool>) -> JoinHandle<Seen> {
    let (root, own) = (
        root.to_string(),
        PathBuf::from(env!("CARGO_BIN_EXE_restore")),
    );
    std::thread::spawn(move || {
        let mut seen = Seen::default();
        while !stop.load(Ordering::Relaxed) && seen.shown.is_none() {
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let pid = entry.file_name().to_string_lossy().into_owned();
                if !pid.bytes().all(|byte| byte.is_ascii_digit()) || !is_of(&pid, &root) {
                    continue;
                }
                let arguments = read(&pid, "cmdline");
                if let Some(what) = canaries.found(&arguments) {
                    seen.shown = Some(format!("{what} among the arguments {arguments}"));
                }
                // Before it becomes another program a child is still a copy of its parent.
                let before = program(&pid);
                let environment = read(&pid, "environ");
                if pid == root || before == own || program(&pid) == own {
                    continue;
                }
                seen.children.insert(pid);
                if let Some(what) = canaries.found(&environment) {
                    seen.shown = Some(format!("{what} in the environment of {arguments}"));
                }
            }
            // Short enough to see what lives for a moment only.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        seen
    })
}

struct Watched {
    whole: Whole,
    canaries: Arc<Canaries>,
    children: usize,
}

impl Watched {
    /// Runs the program to its end, all that it starts and says looked through.
    fn restore(&mut self, args: &[&str]) -> Ran {
        let mut command = self.whole.command(args);
        command.env("REDIS_SECRET", &self.canaries.0["the password of Redis"]);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let watching = watch(child.id(), self.canaries.clone(), stop.clone());
        let output = child.wait_with_output().unwrap();
        stop.store(true, Ordering::Relaxed);
        let seen = watching.join().unwrap();
        assert_eq!(seen.shown, None, "{args:?}");
        self.children += seen.children.len();
        let ran = Ran::of(args, output);
        self.canaries
            .absent(&ran.out, &format!("what {args:?} prints"));
        self.canaries
            .absent(&ran.err, &format!("what {args:?} says"));
        ran
    }

    /// Nothing that is kept has a secret.
    fn look_at_files(&self) {
        let root = self.whole.hosting.root();
        let mut looked = 0;
        for folder in ["state", "log"] {
            for (path, content) in contents(&root.join(folder)) {
                self.canaries.absent(&content, &path.display().to_string());
                looked += 1;
            }
        }
        // What a backup says of itself.
        for (path, content) in contents(&root.join("backups")) {
            if path.ends_with("restore.json") || path.ends_with("MANIFEST.txt") {
                self.canaries.absent(&content, &path.display().to_string());
                looked += 1;
            }
        }
        assert!(looked > 10, "{looked}");
    }
}

fn secret_file(folder: &Path, name: &str, content: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// Two more stores: an encrypted backup, and a bucket that nobody serves.
fn watched() -> Watched {
    let whole = Whole::new();
    let root = whole.hosting.root().to_owned();
    let secrets = root.join("secrets");
    let password = |name: &str| {
        let text = std::fs::read_to_string(secrets.join(name)).unwrap();
        let text = text.trim().to_owned();
        assert!(text.len() >= 8, "too short to be looked for: {text}");
        text
    };
    let canaries = BTreeMap::from([
        ("the password of PostgreSQL", password("postgres.pass")),
        ("the password of Redis", password("redis.pass")),
        ("the passphrase", "c4nary-passphrase".to_owned()),
        ("the key of the bucket", "C4NARYKEYOFBUCKET".to_owned()),
        ("the secret key", "c4nary-secret-key".to_owned()),
        ("the wrong password", "c4nary-wrong-password".to_owned()),
    ]);
    let file = |name: &str, what: &str| secret_file(&secrets, name, &canaries[what]);
    let passphrase = file("passphrase", "the passphrase");
    let (key, secret) = (
        file("key", "the key of the bucket"),
        file("secret", "the secret key"),
    );
    file("wrong.pass", "the wrong password");
    let locked = root.join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::create_dir(root.join("locked-plain")).unwrap();
    let id = &whole.id;
    run(Command::new("bash").args(["-ec", &format!(
        "tar -C {root}/backups -czf - {id} | gpg --batch --pinentry-mode loopback --passphrase-file {passphrase} --symmetric -o {locked}/backup-{id}.tar.gz.gpg",
        root = root.display(),
        locked = locked.display(),
    )]));
    whole.configure(|toml| {
        let redis = format!("password_file = \"{}\"", secrets.join("redis.pass").display());
        let more = format!(
            "\n[stores.locked]\nkind = \"directory\"\npath = \"{0}\"\npassphrase_file = \"{passphrase}\"\n\
             [stores.unpacked]\nkind = \"directory\"\npath = \"{0}-plain\"\nunlocked = true\n\
             [stores.bucket]\nkind = \"s3\"\nbucket = \"b\"\nregion = \"r\"\nendpoint = \"http://127.0.0.1:9\"\n\
             allow_http = true\naccess_key_file = \"{key}\"\nsecret_key_file = \"{secret}\"\n",
            locked.display()
        );
        toml.replace(&redis, "password_env = \"REDIS_SECRET\"") + &more
    });
    Watched {
        whole,
        canaries: Arc::new(Canaries(canaries)),
        children: 0,
    }
}

#[test]
fn no_secret_is_seen_anywhere() {
    let mut site = watched();
    site.restore(&["backup", "--json"]).exits(0);
    let id = site.whole.id.clone();
    site.restore(&["plan", &id, "--json"]).exits(0);
    site.restore(&["drill", &id, "--only", "postgres,redis"])
        .exits(0);
    site.whole.hosting.damage();
    site.restore(&["run", &id, "--yes", "--json"]).restored();
    site.restore(&["rollback", "--yes", "--json"]).taken_back();
    site.restore(&["report"]).exits(0);

    // The encrypted one, and what cannot be reached.
    let (folder, aside) = (site.whole.backup(), site.whole.hosting.root().join("aside"));
    std::fs::rename(&folder, &aside).unwrap();
    site.restore(&[
        "fetch", &id, "--from", "locked", "--to", "unpacked", "--json",
    ])
    .exits(0);
    std::fs::rename(&aside, &folder).unwrap();
    let bucket = site.restore(&["fetch", &id, "--from", "bucket"]);
    assert_ne!(bucket.code, Some(0), "nobody serves the bucket");

    // A run that fails at its end, and one that is let in nowhere.
    site.whole.configure(|toml| {
        toml + "\n[checks.never]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"echo never; exit 1\"]\n"
    });
    let failed = site.restore(&["run", &id, "--yes", "--only", "postgres,redis"]);
    assert_ne!(failed.code, Some(0), "{failed:?}");
    site.whole
        .configure(|toml| toml.replace("/postgres.pass", "/wrong.pass"));
    let refused = site.restore(&["run", &id, "--yes", "--json"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    site.look_at_files();
    assert!(
        site.children > 20,
        "only {} children were seen",
        site.children
    );
}
