//! A Redis whose live data is only in its memory, or nearly: nothing of it is lost, and what is not
//! the backup's data does not pass for it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use restore_testing::tls::Certificates;

use crate::site::{ID, Ran, command};

/// A server with a configuration of its own, and a site of it.
pub(crate) struct Ground {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Ground {
    /// A server with these lines in its configuration, and a backup of `SET restored 1` or of these commands.
    pub(crate) fn new(config: &str, backup: &[&str]) -> Self {
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

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, text: &str) {
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
    pub(crate) fn redis(&self, words: &str) -> String {
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

    pub(crate) fn restore(&self, args: &[&str]) -> Ran {
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

/// The safety backup is made while users are served: what is written since then is kept by what is moved aside.
#[test]
fn what_is_written_after_the_safety_backup_comes_back_too() {
    let ground = Ground::new("save \"\"", &["SET restored 1"]);
    let (path, port) = (ground.dir.path().display(), ground.port);
    ground.write("app.up", "");
    let app = format!(
        "[services.app]\nafter = [\"redis\"]\nstart = [\"touch\", \"{path}/app.up\"]\n\
         stop = [\"sh\", \"-c\", \"redis-cli -p {port} SET lastorder 42; rm -f {path}/app.up\"]\n\
         status = [\"test\", \"-e\", \"{path}/app.up\"]"
    );
    ground.site("", "stops = [\"app\"]", &app);
    let text = std::fs::read_to_string(ground.path("restore.toml")).unwrap();
    let text = text.replace("safety_backup = false", "safety_backup = true");
    ground.write("restore.toml", &text);
    ground.redis("SET live 1");
    let ran = ground.restore(&["run", ID, "--yes"]).exits(0);
    assert!(ran.out.contains("Safety backup: "), "{}", ran.out);
    assert_eq!(ground.redis("EXISTS restored"), "1");
    ground.restore(&["rollback", "--yes"]).exits(0);
    assert_eq!(ground.redis("GET lastorder"), "42");
    assert_eq!(ground.redis("DBSIZE"), "2");
}

/// A port that speaks TLS only is told from a server that is slow to load, before the downtime.
#[test]
fn a_port_that_speaks_tls_only_is_refused_in_the_plan() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let keys = tempfile::tempdir().unwrap();
    Certificates::new("IP:127.0.0.1", "restore").install(keys.path(), None);
    let file = |name: &str| keys.path().join(name).display().to_string();
    let ground = Ground::new(
        &format!(
            "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}",
            file("server.pem"),
            file("server.key"),
            file("ca.pem")
        ),
        &["SET restored 1"],
    );
    let text = std::fs::read_to_string(ground.path("restore.toml")).unwrap();
    let plain = format!("endpoint = \"127.0.0.1:{}\"", ground.port);
    let text = text.replace(&plain, &format!("endpoint = \"127.0.0.1:{port}\""));
    ground.write("restore.toml", &text);
    let began = Instant::now();
    let ran = ground.restore(&["plan", ID]).exits(4);
    assert!(ran.out.contains("runs, but does not answer"), "{}", ran.out);
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// Between its save and its stop a server still takes writes from whoever the run does not stop.
#[test]
fn what_is_acknowledged_until_it_stops_is_kept() {
    let ground = Ground::new("save \"\"", &["SET restored 1"]);
    let (path, port) = (ground.dir.path().display(), ground.port);
    let writer = format!(
        "i=0; while :; do i=$((i+1)); \
         test \"$(redis-cli -p {port} SET k:$i x 2>&1)\" = OK || exit 0; echo $i >{path}/acknowledged; done"
    );
    let mut writer = Command::new("sh").args(["-c", &writer]).spawn().unwrap();
    until("it writes", || ground.path("acknowledged").exists());
    ground.restore(&["run", ID, "--yes"]).exits(0);
    writer.wait().unwrap();
    ground.restore(&["rollback", "--yes"]).exits(0);
    let all = std::fs::read_to_string(ground.path("acknowledged")).unwrap();
    assert_eq!(ground.redis(&format!("EXISTS k:{}", all.trim())), "1");
    assert_eq!(ground.redis("DBSIZE"), all.trim());
}

/// Nobody is kept waiting by a run that turned back.
#[test]
fn a_server_that_is_not_stopped_after_all_is_written_into() {
    let ground = Ground::new("save \"\"", &["SET restored 1"]);
    let path = ground.dir.path().display();
    ground.site(
        &format!(
            "start = [\"redis-server\", \"{path}/redis.conf\"]\nstop = [\"sh\", \"-c\", \"echo not now >&2; exit 1\"]\n\
             status = [\"sh\", \"-c\", \"kill -0 $(cat {path}/r.pid)\"]\nstop_timeout = \"1s\"\nstart_timeout = \"1s\""
        ),
        "",
        "",
    );
    ground.redis("SET live 1");
    let ran = ground.restore(&["run", ID, "--yes"]).exits(5);
    assert!(ran.out.contains("not now"), "{}", ran.out);
    let port = ground.port.to_string();
    let write = Command::new("timeout")
        .args(["5", "redis-cli", "-p", &port, "SET", "since", "1"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&write.stdout).trim(), "OK");
    assert_eq!(ground.redis("DBSIZE"), "2");
}

/// A replica that is cut off from its master lacks what was written since, and does not say so by itself.
#[test]
fn a_replica_that_is_cut_off_is_not_backed_up() {
    let master = Ground::new("repl-diskless-sync no", &["SET restored 1"]);
    master.redis("SET order 42");
    let ground = Ground::new("replicaof 127.0.0.1 1", &["SET restored 1"]);
    let ran = ground.restore(&["backup"]);
    assert_ne!(ran.code, Some(0), "{ran:#?}");
    let words = "redis is a replica of 127.0.0.1 and has been cut off from it";
    assert!(ran.err.contains(words), "{}", ran.err);
    ground.redis(&format!("REPLICAOF 127.0.0.1 {}", master.port));
    until("it follows", || {
        ground
            .redis("INFO replication")
            .contains("master_link_status:up")
    });
    let made = ground.restore(&["backup", "--json"]).exits(0).json();
    let text = made.to_string();
    assert!(text.contains("redis.of_replica"), "{text}");
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

/// It saves well, to a file that it does not look at when it starts again.
#[test]
fn a_server_that_would_load_other_files_is_refused() {
    let ground = Ground::new("save \"\"", &["SET restored 1"]);
    ground.redis("SET live 1");
    let conf = std::fs::read_to_string(ground.path("redis.conf")).unwrap();
    ground.write("redis.conf", &format!("{conf}dbfilename other.rdb\n"));
    let ran = ground.restore(&["run", ID, "--yes"]).exits(4);
    for word in ["other.rdb and not dump.rdb", "write `dbfilename dump.rdb`"] {
        assert!(ran.out.contains(word) || ran.err.contains(word), "{ran:#?}");
    }
    // Also where the run only has to stop it.
    ground.write("live/app/x", "x");
    ground.write("made/app/x", "y");
    let tree = "[components.tree]\nkind = \"files\"\nroot = \"live\"\ntree = \"app\"\nstops = [\"redis\"]\narchive = [\"app-{id}.tar.gz\"]\n";
    ground.site("", "", tree);
    let script = format!(
        "tar -C made -czf b/{ID}/app-{ID}.tar.gz app && cd b/{ID} && f=app-{ID}.tar.gz && \
         sed -i \"s/^Total Files.*/$f|$(stat -c %s $f)|$(sha256sum $f | cut -c1-64)\\n\\nTotal Files: 2/\" MANIFEST.txt"
    );
    let made = Command::new("sh")
        .args(["-ec", &script])
        .current_dir(ground.dir.path())
        .status();
    assert!(made.unwrap().success());
    let ran = ground.restore(&["plan", ID, "--only", "tree"]).exits(4);
    assert!(
        ran.out.contains("other.rdb and not dump.rdb"),
        "{}",
        ran.out
    );
    assert_eq!(ground.redis("GET live"), "1");
    // As the hint says.
    ground.write("redis.conf", &format!("{conf}dbfilename dump.rdb\n"));
    ground
        .restore(&["run", ID, "--only", "tree", "--yes"])
        .exits(0);
    assert_eq!(ground.redis("GET live"), "1");
}

/// A unit or a script may name what the configuration file does not.
#[test]
fn a_server_that_is_started_with_more_than_its_file_is_restored() {
    let ground = Ground::new("enable-protected-configs yes", &["SET restored 1"]);
    assert_eq!(ground.redis("CONFIG SET dbfilename other.rdb"), "OK");
    ground.redis("SET live 1");
    let path = ground.dir.path().display();
    ground.site(
        &format!(
            "start = [\"sh\", \"-c\", \"exec redis-server {path}/redis.conf --dbfilename other.rdb\"]\n\
             stop = [\"sh\", \"-c\", \"kill $(cat {path}/r.pid)\"]\n\
             status = [\"sh\", \"-c\", \"kill -0 $(cat {path}/r.pid)\"]"
        ),
        "",
        "",
    );
    let ran = ground.restore(&["plan", ID]).exits(0);
    assert!(
        ran.out.contains("unless what starts redis says so"),
        "{}",
        ran.out
    );
    ground.restore(&["run", ID, "--yes"]).exits(0);
    assert_eq!(ground.redis("GET restored"), "1");
    ground.restore(&["rollback", "--yes"]).exits(0);
    assert_eq!(ground.redis("GET live"), "1");
}

/// Somebody puts another file where the server has saved, or where it will look next time: by a copy as good as
/// its own.
#[test]
fn a_file_put_there_since_the_last_save_is_not_taken_for_it() {
    let config = "save \"\"\nenable-protected-configs yes";
    let ground = Ground::new(config, &["SET restored 1"]);
    let put = |name: &str| {
        let other = ground.path("gen/dump.rdb");
        std::fs::copy(other, ground.path("vol").join(name)).unwrap();
    };
    for n in 0..100 {
        ground.redis(&format!("SET live:{n} x"));
    }
    assert_eq!(ground.redis("SAVE"), "OK");
    put("dump.rdb");
    ground.restore(&["run", ID, "--yes"]).exits(0);
    assert_eq!(ground.redis("DBSIZE"), "1");
    ground.restore(&["rollback", "--yes"]).exits(0);
    assert_eq!(ground.redis("DBSIZE"), "100");
    ground.restore(&["confirm", "--yes"]).exits(0);

    assert_eq!(ground.redis("SAVE"), "OK");
    put("live.rdb");
    assert_eq!(ground.redis("CONFIG SET dbfilename live.rdb"), "OK");
    assert_eq!(ground.redis("CONFIG REWRITE"), "OK");
    ground.restore(&["run", ID, "--yes"]).exits(0);
    assert_eq!(ground.redis("DBSIZE"), "1");
    ground.restore(&["rollback", "--yes"]).exits(0);
    assert_eq!(ground.redis("DBSIZE"), "100");
}

#[test]
fn an_append_only_file_put_there_beneath_it_is_written_anew() {
    let ground = Ground::new("appendonly yes\nsave \"\"", &["SET restored 1"]);
    let live = ground.path("vol/appendonlydir");
    for n in 0..200 {
        ground.redis(&format!("SET old:{n} x"));
    }
    let copied = Command::new("cp")
        .arg("-r")
        .args([&live, &ground.path("old")])
        .status();
    assert!(copied.unwrap().success());
    ground.redis("FLUSHALL");
    ground.redis("BGREWRITEAOF");
    until("the AOF is written anew", || {
        ground
            .redis("INFO persistence")
            .contains("aof_rewrite_in_progress:0")
    });
    for n in 0..50 {
        ground.redis(&format!("SET live:{n} x"));
    }
    std::fs::remove_dir_all(&live).unwrap();
    std::fs::rename(ground.path("old"), &live).unwrap();
    ground.restore(&["run", ID, "--yes"]).exits(0);
    assert_eq!(ground.redis("GET restored"), "1");
    ground.restore(&["rollback", "--yes"]).exits(0);
    assert_eq!(ground.redis("DBSIZE"), "50");
    assert_eq!(ground.redis("GET live:1"), "x");
}

/// What a server does when it starts again may be said in a file that its own includes.
#[test]
fn what_an_included_file_says_counts() {
    let ground = Ground::new("", &["SET restored 1"]);
    ground.redis("SET live 1");
    let conf = std::fs::read_to_string(ground.path("redis.conf")).unwrap();
    let all = format!("include {}", ground.path("more/*.conf").display());
    // The second from the server's directory.
    for include in [all.as_str(), "include ../more/1.conf"] {
        ground.write("redis.conf", &format!("{conf}{include}\n"));
        for (line, word) in [
            ("appendonly yes", "appendonly yes and not no"),
            ("dbfilename other.rdb", "other.rdb and not dump.rdb"),
        ] {
            ground.write("more/1.conf", &format!("{line}\n"));
            let ran = ground.restore(&["run", ID, "--yes"]).exits(4);
            let said = ran.out + &ran.err;
            assert!(said.contains(word), "{include}: {said}");
        }
        ground.write("more/1.conf", "maxmemory 100mb\n");
        let ran = ground.restore(&["plan", ID]).exits(0);
        assert!(!ran.out.contains("is not known"), "{}", ran.out);
    }
    // From where the server is started.
    ground.write("redis.conf", &format!("include more/1.conf\n{conf}"));
    let ran = ground.restore(&["plan", ID]).exits(0);
    let said = "includes more/1.conf, and what that says is not known";
    assert!(ran.out.contains(said), "{}", ran.out);
    assert_eq!(ground.redis("GET live"), "1");
}

/// It runs well, and what its configuration names is gone or wrong since.
#[test]
fn a_server_that_could_not_start_again_is_refused() {
    let ground = Ground::new("", &["SET restored 1"]);
    ground.redis("SET live 1");
    let read = |name: &str| std::fs::read_to_string(ground.path(name)).unwrap();
    let (conf, pid, log) = (read("redis.conf"), read("r.pid"), read("r.log"));
    let path = ground.dir.path().display().to_string();
    ground.write("users", "user x on >hidden ~* +nocommand\n");
    ground.write("good", "user default on nopass ~* &* +@all\n");
    ground.write("empty.so", "");
    let broken = [
        ("include PATH/gone.conf", "it includes PATH/gone.conf"),
        ("include PATH/empty.so\nmaxmemory lots", "maxmemory"),
        ("aclfile PATH/gone", "it names PATH/gone"),
        ("aclfile PATH/users", "line 1 of its aclfile"),
        ("loadmodule PATH/gone.so", "it names PATH/gone.so"),
        ("loadmodule PATH/empty.so", "loadmodule PATH/empty.so"),
        ("logfile PATH/gone/r.log", "logfile PATH/gone/r.log"),
        ("unixsocket PATH/gone/s", "unixsocket PATH/gone/s"),
        // An address for documents: nobody has it.
        ("bind 192.0.2.1", "bind 192.0.2.1"),
        (
            "tls-port 1\ntls-cert-file PATH/gone\ntls-key-file PATH/gone",
            "would not start again",
        ),
        (
            "tls-port 1\ntls-auth-clients no\ntls-cert-file PATH/good\ntls-key-file PATH/good",
            "would not start again",
        ),
    ];
    for (lines, word) in broken {
        let (lines, word) = (lines.replace("PATH", &path), word.replace("PATH", &path));
        ground.write("redis.conf", &format!("{conf}{lines}\n"));
        let ran = ground.restore(&["plan", ID]).exits(4);
        let said = ran.out + &ran.err;
        assert!(said.contains(&word), "{lines}: {said}");
        assert!(!said.contains("hidden"), "{said}");
    }
    let good = "aclfile PATH/good\nunixsocket PATH/s\nbind 127.0.0.1 -192.0.2.1";
    let good = good.replace("PATH", &path);
    ground.write("redis.conf", &format!("{conf}{good}\n"));
    ground.restore(&["plan", ID]).exits(0);
    // Nothing of the one that runs was touched.
    assert_eq!((read("r.pid"), read("r.log")), (pid, log));
    assert!(!ground.path("s").exists());
    assert_eq!(ground.redis("GET live"), "1");

    // Nor is it stopped for a way back.
    ground.restore(&["run", ID, "--yes"]).exits(0);
    std::fs::remove_file(ground.path("good")).unwrap();
    let ran = ground.restore(&["rollback", "--yes"]).exits(4);
    let said = ran.out + &ran.err;
    assert!(said.contains(&format!("it names {path}/good")), "{said}");
    assert_eq!(ground.redis("GET restored"), "1");
    ground.write("redis.conf", &conf);
    ground.restore(&["rollback", "--yes"]).exits(0);
    assert_eq!(ground.redis("GET live"), "1");
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
