//! A platform with a backup, the program run on it, and what is expected of both.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use restore_testing::{Hosting, assert_same, run, text};
use serde_json::Value;

/// How long anything may take that ends by itself.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// A platform with a backup of generation A.
pub struct Whole {
    pub hosting: Hosting,
    pub id: String,
    pub at_backup: String,
}

impl Whole {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    /// A platform that is `prepared` before its backup is made.
    pub fn with(prepare: impl FnOnce(&Hosting)) -> Self {
        let hosting = Hosting::new(40, 1);
        prepare(&hosting);
        let id = hosting.back_up();
        let at_backup = hosting.fingerprint();
        Self {
            hosting,
            id,
            at_backup,
        }
    }

    /// Damages the platform; what it holds then.
    pub fn damaged(&self) -> String {
        self.hosting.damage();
        let damaged = self.hosting.fingerprint();
        assert_ne!(self.at_backup, damaged);
        damaged
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_restore"));
        command.arg("--config").arg(self.hosting.config());
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn restore(&self, args: &[&str]) -> Ran {
        Ran::of(args, self.command(args).output().unwrap())
    }

    /// Starts the program; `--progress json` is added, so that its steps can be followed.
    pub fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.args(["--progress", "json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::of(command.spawn().unwrap())
    }

    #[track_caller]
    pub fn is(&self, wanted: &str, what: &str) {
        assert_same(wanted, &self.hosting.fingerprint(), what);
    }

    /// Neither files nor databases of any run are left beside the live ones, no page is up, no
    /// run is unfinished.
    #[track_caller]
    pub fn nothing_left(&self, what: &str) {
        let root = self.hosting.root();
        let found = run(Command::new("find").arg(root).args(["-name", ".restore-*"]));
        assert_eq!(text(&found), "", "{what}: files are left");
        let databases = self.sql(
            "postgres",
            "SELECT datname FROM pg_database WHERE datname ~ '_(restore|replaced)_'",
        );
        assert_eq!(databases, "", "{what}: databases are left");
        self.nothing_unfinished(what);
    }

    /// No run is unfinished.
    #[track_caller]
    pub fn nothing_unfinished(&self, what: &str) {
        let history = self.restore(&["history", "--json"]).exits(0).json();
        for run in history["runs"].as_array().unwrap() {
            assert!(
                ["restored", "undone", "rolled_back", "drilled"]
                    .contains(&run["outcome"].as_str().unwrap()),
                "{what}: {run}"
            );
        }
    }

    /// What a query of one column says, a row a line.
    pub fn sql(&self, database: &str, query: &str) -> String {
        let code = r#"load_platform; psql_ -d "$1" -At -c "$2""#;
        self.shell(code, &[database, query]).trim().to_owned()
    }

    /// Runs shell code with the platform's library at hand.
    pub fn shell(&self, code: &str, args: &[&str]) -> String {
        let library = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../examples/local-platform/lib.sh"
        );
        let code = format!("set -euo pipefail; . {library}; root=$1; shift; {code}");
        let mut command = Command::new("bash");
        command.args(["-c", &code, "bash"]).arg(self.hosting.root());
        text(&run(command.args(args)))
    }

    pub fn backup(&self) -> PathBuf {
        self.hosting.backup_folder(&self.id)
    }

    /// The backup's file whose name begins so: `postgres/postgres` is a dump of that id.
    pub fn artifact(&self, prefix: &str, ending: &str) -> (String, PathBuf) {
        let name = format!("{prefix}-{}{ending}", self.id);
        let path = self.backup().join(&name);
        (name, path)
    }

    /// Changes restore.toml.
    pub fn configure(&self, change: impl FnOnce(String) -> String) {
        let path = self.hosting.config();
        let before = std::fs::read_to_string(&path).unwrap();
        let after = change(before.clone());
        assert_ne!(before, after, "the change fits nothing in restore.toml");
        std::fs::write(path, after).unwrap();
    }

    /// Writes a file's present hash into the manifest, or takes its line out where it is gone:
    /// as if the backup had been made so.
    pub fn list_in_manifest(&self, name: &str) {
        let path = self.backup().join("MANIFEST.txt");
        let manifest = std::fs::read_to_string(&path).unwrap();
        let file = self.backup().join(name);
        let line = file.exists().then(|| {
            let sum = text(&run(Command::new("sha256sum").arg(&file)));
            format!("{name}|4K|{}", sum.split(' ').next().unwrap())
        });
        let mut lines: Vec<String> = Vec::new();
        let mut found = false;
        for old in manifest.lines() {
            if old.starts_with(&format!("{name}|")) {
                found = true;
                lines.extend(line.clone());
            } else if let Some(count) = old.strip_prefix("Total Files: ") {
                let count: u32 = count.parse().unwrap();
                let count = count - u32::from(line.is_none());
                lines.push(format!("Total Files: {count}"));
            } else {
                lines.push(old.to_owned());
            }
        }
        assert!(found, "the manifest has no {name}");
        std::fs::write(path, lines.join("\n") + "\n").unwrap();
    }
}

/// Gives the platform a table of so many rows, for a dump that is more than its table of contents.
pub fn bulk_table(hosting: &Hosting, rows: u32) {
    let sql = format!(
        "CREATE TABLE bulk AS SELECT n, md5(n::text) AS a, md5((n + 1)::text) AS b \
         FROM generate_series(1, {rows}) n"
    );
    prepare_database(hosting, &sql);
}

/// Runs SQL in the platform's main database.
pub fn prepare_database(hosting: &Hosting, sql: &str) {
    let library = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/local-platform/lib.sh"
    );
    let code =
        format!("set -e; . {library}; root=$1; load_platform; psql_ -d hosting_db -c \"$2\"");
    run(Command::new("bash")
        .args(["-c", &code, "bash"])
        .arg(hosting.root())
        .arg(sql));
}

/// The program, at its end.
#[derive(Debug)]
pub struct Ran {
    pub what: String,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(args: &[&str], output: Output) -> Self {
        Self {
            what: args.join(" "),
            code: output.status.code(),
            out: text(&output),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Restored; whether checks fail that failed before is the platform's own affair.
    #[track_caller]
    pub fn restored(self) -> Self {
        self.taken_back()
    }

    /// Taken back: where the platform was damaged before the run its checks fail again.
    #[track_caller]
    pub fn taken_back(self) -> Self {
        let code = match self.code {
            Some(8) => 8,
            _ => 0,
        };
        self.exits(code)
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.what,
            self.out,
            self.err
        );
        self
    }

    /// Every one of these is to be read on stderr.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(
                self.err.contains(word),
                "{}: no {word:?}\n--- stdout\n{}\n--- stderr\n{}",
                self.what,
                self.out,
                self.err
            );
        }
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|e| panic!("{}: {e}: {}", self.what, self.out))
    }
}

/// The program at work, its events read as they come. Killed where a test ends without it.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    read: Vec<String>,
    stdout: Option<ChildStdout>,
}

impl Running {
    fn of(mut child: Child) -> Self {
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines() {
                if sender.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        Self {
            stdout: child.stdout.take(),
            child,
            lines,
            read: Vec::new(),
        }
    }

    /// Waits for an event: its `key` is `value`.
    #[track_caller]
    pub fn until(&mut self, event: &str, key: &str, value: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => panic!("no {event} {value}: {:?}", self.read),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended before {event} {value}: {:#?}", self.read)
                }
            };
            let seen: Value = serde_json::from_str(&line).unwrap();
            self.read.push(line);
            if seen["event"] == event && seen[key] == value {
                return;
            }
        }
    }

    /// Waits until a step begins.
    #[track_caller]
    pub fn until_step(&mut self, step: &str) {
        self.until("step_started", "step", step);
    }

    pub fn signal(&self, signal: &str) {
        let mut kill = Command::new("kill");
        run(kill.args([format!("-{signal}"), self.child.id().to_string()]));
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ran {
        let deadline = Instant::now() + PATIENCE;
        while self.is_running() {
            assert!(
                Instant::now() < deadline,
                "it does not end: {:#?}",
                self.read
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut out = String::new();
        let mut stdout = self.stdout.take().unwrap();
        stdout.read_to_string(&mut out).unwrap();
        self.read.extend(self.lines.iter());
        Ran {
            what: "the program that was started".to_owned(),
            code: self.child.wait().unwrap().code(),
            out,
            err: self.read.join("\n"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All files below a folder, by content.
pub fn contents(folder: &Path) -> Vec<(PathBuf, String)> {
    let found = run(Command::new("find").arg(folder).args(["-type", "f"]));
    let files = text(&found).lines().map(PathBuf::from).collect::<Vec<_>>();
    let read = |path: PathBuf| {
        let content = std::fs::read(&path).unwrap();
        (path, String::from_utf8_lossy(&content).into_owned())
    };
    files.into_iter().map(read).collect()
}
