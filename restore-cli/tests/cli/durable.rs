//! A Redis whose live data is only in its memory, or nearly: nothing of it is lost, and what is not
//! the backup's data does not pass for it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::site::{ID, Ran, command};

/// A server with a configuration of its own, and a site of it.
struct Ground {
    dir: tempfile::TempDir,
    port: u16,
}

impl Ground {
    /// A server with these lines in its configuration, and a backup of `SET restored 1` or of these commands.
    fn new(config: &str, backup: &[&str]) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ground = Self {
            dir: tempfile::tempdir().unwrap(),
            port: listener.local_addr().unwrap().port(),
        };
        drop(listener);
        for folder in ["vol", "gen"] {
            std::fs::create_dir(ground.path(folder)).unwrap();
        }
        ground.back_up(backup);
        let path = ground.path("").display().to_string();
        ground.write(
            "redis.conf",
            &format!(
                "port {}\nbind 127.0.0.1\ndir {path}vol\npidfile {path}r.pid\nlogfile {path}r.log\ndaemonize yes\n{config}\n",
                ground.port
            ),
        );
        ground.start();
        ground.site("", "", "");
        ground
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn start(&self) {
        let conf = self.path("redis.conf");
        let status = Command::new("redis-server").arg(conf).status().unwrap();
        assert!(status.success());
        until("the server answers", || self.redis("PING") == "PONG");
    }

    /// One command, and what the server says.
    fn redis(&self, words: &str) -> String {
        cli(&["-p", &self.port.to_string()], words)
    }

    /// The backup that another server made.
    fn back_up(&self, commands: &[&str]) {
        let socket = self.path("gen/s").display().to_string();
        let mut server = Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--unixsocket",
                &socket,
                "--dir",
            ])
            .arg(self.path("gen"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until("the other server answers", || {
            cli(&["-s", &socket], "PING") == "PONG"
        });
        for words in commands {
            cli(&["-s", &socket], words);
        }
        assert_eq!(cli(&["-s", &socket], "SAVE"), "OK");
        server.kill().unwrap();
        server.wait().unwrap();
        let file = format!("redis/redis-{ID}.rdb");
        std::fs::create_dir_all(self.path(&format!("b/{ID}/redis"))).unwrap();
        std::fs::copy(
            self.path("gen/dump.rdb"),
            self.path(&format!("b/{ID}/{file}")),
        )
        .unwrap();
        let script = format!(
            "cd b/{ID} && f={file} && printf 'Backup ID: {ID}\\n\\n%s|%s|%s\\n\\nTotal Files: 1\\n' $f \
             $(stat -c %s $f) $(sha256sum $f | cut -c1-64) > MANIFEST.txt"
        );
        let status = Command::new("sh")
            .args(["-ec", &script])
            .current_dir(self.dir.path())
            .status();
        assert!(status.unwrap().success());
    }

    /// The site's configuration, with more of its service, its component, and more sections.
    fn site(&self, service: &str, component: &str, more: &str) {
        let path = self.dir.path().display();
        let how = match service.contains("start") {
            true => String::new(),
            false => format!(
                "command = [\"redis-server\", \"{path}/redis.conf\", \"--daemonize\", \"no\"]\npid_file = \"r.pid\""
            ),
        };
        self.write(
            "restore.toml",
            &format!(
                "[site]\nname = \"t\"\nstate = \"state\"\nsafety_backup = false\n\
                 [stores.main]\nkind = \"directory\"\npath = \"b\"\n\
                 [services.redis]\n{how}\nendpoint = \"127.0.0.1:{}\"\nready = \"tcp\"\n{service}\n\
                 [volumes.v]\npath = \"vol\"\n\
                 [components.redis]\nkind = \"redis\"\nservice = \"redis\"\nvolume = \"v\"\n{component}\n{more}\n",
                self.port
            ),
        );
    }

    fn restore(&self, args: &[&str]) -> Ran {
        Ran::of(command(self.dir.path(), args).output().unwrap())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.path("r.pid")).unwrap_or_default();
        if !pid.trim().is_empty() {
            let _ended = Command::new("kill").args(["-9", pid.trim()]).status();
        }
    }
}

fn cli(to: &[&str], words: &str) -> String {
    let out = Command::new("redis-cli")
        .args(to)
        .args(words.split(' '))
        .stderr(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_without_save_points_loses_nothing() {
    let ground = Ground::new("save \"\"", &["SET restored 1"]);
    for n in 0..100 {
        ground.redis(&format!("SET live:{n} x"));
    }
    ground.restore(&["run", ID, "--yes"]).exits(0);
    assert_eq!(ground.redis("DBSIZE"), "1");
    // What users wrote into the restored data is kept as well.
    ground.redis("SET since 1");
    ground.restore(&["rollback", "--yes"]).exits(0);
    assert_eq!(ground.redis("DBSIZE"), "100");
    let kept = find(&ground.path("vol"), "dump.rdb");
    assert!(
        kept.iter().any(|file| has(file, b"since")),
        "{kept:?} of the undone run"
    );
    ground.restore(&["confirm", "--yes"]).exits(0);

    // One that fails after the swap.
    let check = format!(
        "[checks.no]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"test $(redis-cli -p {} exists restored) = 0\"]\ntimeout = \"1s\"\nwhen = \"before-traffic\"",
        ground.port
    );
    ground.site("", "", &check);
    ground.redis("SET last-order 42");
    ground.restore(&["run", ID, "--yes"]).exits(5);
    assert_eq!(ground.redis("GET last-order"), "42");
    assert_eq!(ground.redis("DBSIZE"), "101");
}

#[test]
fn a_server_that_still_ends_is_started_again() {
    // A save of these keys takes longer than the service is given to stop.
    let ground = Ground::new("rdb-key-save-delay 3000", &["SET restored 1"]);
    let path = ground.dir.path().display();
    ground.site(
        &format!(
            "start = [\"redis-server\", \"{path}/redis.conf\"]\nstop = [\"sh\", \"-c\", \"kill $(cat {path}/r.pid)\"]\n\
             status = [\"sh\", \"-c\", \"kill -0 $(cat {path}/r.pid)\"]\nstop_timeout = \"1s\""
        ),
        "",
        "",
    );
    for n in 0..700 {
        ground.redis(&format!("SET live:{n} x"));
    }
    ground.restore(&["run", ID, "--yes"]).exits(5);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(ground.redis("DBSIZE"), "700");
}

#[test]
fn an_old_file_is_not_backed_up_for_a_new_one() {
    let ground = Ground::new(
        "dbfilename live.rdb\nrename-command CONFIG \"\"",
        &["SET ancient 1"],
    );
    std::fs::copy(ground.path("gen/dump.rdb"), ground.path("vol/dump.rdb")).unwrap();
    ground.redis("SET order 42");
    let ran = ground.restore(&["backup"]);
    assert_ne!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.err.contains("has not changed"), "{}", ran.err);
}

#[test]
fn keys_that_expire_do_not_pass_for_expired_where_they_were_never_loaded() {
    let ground = Ground::new(
        "dbfilename live.rdb\nrename-command CONFIG \"\"",
        &[
            "SET session:1 restored EX 86400",
            "SET session:2 restored EX 86400",
        ],
    );
    ground.redis("SET session:1 damaged EX 86400");
    let ran = ground.restore(&["run", ID, "--yes"]).exits(5);
    assert!(ran.out.contains("it loads other files"), "{}", ran.out);
    assert_eq!(ground.redis("GET session:1"), "damaged");
}

#[test]
fn appendonly_by_config_set_is_told_and_restored() {
    let ground = Ground::new("", &["SET restored 1"]);
    ground.redis("SET live 1");
    ground.redis("CONFIG SET appendonly yes");
    until("the AOF is there", || {
        ground.path("vol/appendonlydir").is_dir()
            && ground
                .redis("INFO persistence")
                .contains("aof_rewrite_in_progress:0")
    });
    let ran = ground.restore(&["plan", ID]).exits(0);
    assert!(
        ran.out.contains("its configuration file says no"),
        "{}",
        ran.out
    );
    ground.restore(&["run", ID, "--yes"]).exits(0);
    assert_eq!(ground.redis("GET restored"), "1");
    ground.restore(&["rollback", "--yes"]).exits(0);
    assert_eq!(ground.redis("GET live"), "1");
}

#[test]
fn a_server_that_runs_and_does_not_answer_is_refused() {
    let ground = Ground::new("", &["SET restored 1"]);
    let text = std::fs::read_to_string(ground.path("restore.toml")).unwrap();
    let wrong = format!("127.0.0.1:{}", ground.port);
    let text = text
        .replace(&wrong, "127.0.0.1:1")
        .replace("ready = \"tcp\"", "");
    ground.write("restore.toml", &text);
    let ran = ground.restore(&["plan", ID]).exits(4);
    assert!(ran.out.contains("runs, but does not answer"), "{}", ran.out);
}

fn find(dir: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(find(&path, name));
        } else if path.ends_with(name) {
            found.push(path);
        }
    }
    found
}

fn has(file: &Path, bytes: &[u8]) -> bool {
    let text = std::fs::read(file).unwrap();
    text.windows(bytes.len()).any(|window| window == bytes)
}
