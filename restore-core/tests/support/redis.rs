//! A throwaway Redis, a platform of nothing but that one service, and backups of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use deadpool_redis::redis::{self, Connection, ConnectionAddr, IntoConnectionInfo, Value};
use restore_core::backup::Backup;
use restore_core::component::{CheckOutcome, Parts, Registry, SharedComponent, Staged};
use restore_core::platform::local::LocalVolume;
use restore_core::platform::{
    Command, Endpoint, Exit, Platform, Process, Scratch, ServiceState, Volume,
};
use restore_core::run::{MemoryFacts, RunContext, RunId};
use restore_core::store::DirectoryStore;
use restore_core::{Error, ErrorKind, NoEvents, Result, Severity, Timestamp};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

pub const BACKUP: &str = "20240215-020000";
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition, or panics with its name.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A Redis server on a unix socket or a port; ends when dropped.
pub struct Server {
    root: tempfile::TempDir,
    options: Mutex<Vec<String>>,
    password: Option<String>,
    port: u16,
    user: Option<(u32, u32)>,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// A stopped server with these configuration lines.
    pub fn new(options: &[&str]) -> Self {
        let root = tempfile::Builder::new().prefix("r").tempdir().unwrap();
        std::fs::create_dir(root.path().join("data")).unwrap();
        Self {
            root,
            options: Mutex::new(options.iter().map(|o| (*o).to_owned()).collect()),
            password: None,
            port: 0,
            user: None,
            child: Mutex::new(None),
        }
    }

    /// The same on a port of the loopback, with a password.
    pub fn with_password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        self.port = listener.local_addr().unwrap().port();
        std::fs::write(self.password_file(), format!("{password}\n")).unwrap();
        self
    }

    /// The same as another user than we are.
    pub fn with_user(mut self, uid: u32, gid: u32) -> Self {
        use std::os::unix::fs::{PermissionsExt, chown};
        self.user = Some((uid, gid));
        chown(self.root.path(), Some(uid), Some(gid)).unwrap();
        chown(self.data(), Some(uid), Some(gid)).unwrap();
        std::fs::set_permissions(self.data(), std::fs::Permissions::from_mode(0o750)).unwrap();
        self
    }

    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub fn password_file(&self) -> PathBuf {
        self.root.path().join("password")
    }

    fn socket(&self) -> PathBuf {
        self.root.path().join("redis.sock")
    }

    /// Replaces an option, or adds it.
    pub fn set(&self, name: &str, value: &str) {
        let mut options = self.options.lock().unwrap();
        options.retain(|line| !line.starts_with(&format!("{name} ")));
        options.push(format!("{name} {value}"));
    }

    pub fn endpoint(&self) -> Endpoint {
        match self.port {
            0 => Endpoint::new(self.socket().to_str().unwrap(), 0),
            port => Endpoint::new("127.0.0.1", port),
        }
    }

    pub fn start(&self) -> std::result::Result<(), String> {
        let mut running = self.child.lock().unwrap();
        if running.is_some() {
            return Ok(());
        }
        let config = self.root.path().join("redis.conf");
        let mut lines = self.options.lock().unwrap().clone();
        lines.push(format!("dir {}", self.data().display()));
        lines.push(match self.port {
            0 => format!("port 0\nunixsocket {}", self.socket().display()),
            port => format!("bind 127.0.0.1\nport {port}"),
        });
        if let Some(password) = &self.password {
            lines.push(format!("requirepass {password}"));
        }
        std::fs::write(&config, lines.join("\n") + "\n").unwrap();
        let log = std::fs::File::create(self.root.path().join("redis.log")).unwrap();
        let mut command = std::process::Command::new("redis-server");
        command
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        become_user(&mut command, self.user);
        *running = Some(command.spawn().unwrap());
        drop(running);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut connection) = self.try_connect(0)
                && redis::cmd("PING").query::<String>(&mut connection).is_ok()
            {
                return Ok(());
            }
            let ended = match self.child.lock().unwrap().as_mut() {
                Some(child) => child.try_wait().unwrap().is_some(),
                None => true,
            };
            if ended || Instant::now() > deadline {
                self.child.lock().unwrap().take();
                let log = std::fs::read_to_string(self.root.path().join("redis.log")).unwrap();
                return Err(log);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM, then waits: a server with save points saves.
    pub fn stop(&self) {
        let Some(mut child) = self.child.lock().unwrap().take() else {
            return;
        };
        terminate(&child);
        child.wait().unwrap();
    }

    pub fn restart(&self) {
        self.stop();
        self.start().unwrap();
    }

    pub fn is_running(&self) -> bool {
        self.child.lock().unwrap().is_some()
    }

    fn try_connect(&self, database: i64) -> redis::RedisResult<Connection> {
        let addr = match self.port {
            0 => ConnectionAddr::Unix(self.socket()),
            port => ConnectionAddr::Tcp("127.0.0.1".to_owned(), port),
        };
        let info = addr.into_connection_info()?;
        let mut settings = info.redis_settings().clone().set_db(database);
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        redis::Client::open(info.set_redis_settings(settings))?.get_connection()
    }

    pub fn connect(&self, database: i64) -> Connection {
        self.try_connect(database).unwrap()
    }

    /// Commands as words separated by blanks, in one database.
    pub fn run(&self, database: i64, commands: &[&str]) {
        let mut connection = self.connect(database);
        for line in commands {
            let mut words = line.split(' ');
            let mut command = redis::cmd(words.next().unwrap());
            for word in words {
                command.arg(word);
            }
            command
                .query::<Value>(&mut connection)
                .unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    /// Every type of value, times to live, functions, several databases; `mark` tells data sets
    /// apart.
    pub fn fill(&self, mark: &str, many: usize) {
        let mut connection = self.connect(0);
        let mut pipe = redis::pipe();
        for n in 0..many {
            pipe.cmd("SET").arg(format!("{mark}:{n}")).arg(n).ignore();
        }
        pipe.query::<()>(&mut connection).unwrap();
        let lines = [
            "SET {m}:string hello",
            "SET {m}:expires soon EX 86400",
            "SET {m}:gone gone PX 1",
            "RPUSH {m}:list a b c",
            "HSET {m}:hash a 1 b 2",
            "EXPIRE {m}:hash 86400",
            "SADD {m}:ints 3 1 2",
            "SADD {m}:set x y z",
            "ZADD {m}:zset 1 one 2.5 two",
            "XADD {m}:stream 1-1 field value",
            "XADD {m}:stream 2-1 field other",
            "XGROUP CREATE {m}:stream group 0",
            "XREADGROUP GROUP group me COUNT 1 STREAMS {m}:stream >",
            "PFADD {m}:hll a b c",
        ];
        let lines: Vec<String> = lines.iter().map(|l| l.replace("{m}", mark)).collect();
        self.run(0, &lines.iter().map(String::as_str).collect::<Vec<_>>());
        self.run(7, &[&format!("SET {mark}:in7 x"), "SET common 7"]);
        let code = format!(
            "#!lua name={mark}\nredis.register_function('{mark}', function() return 1 end)"
        );
        redis::cmd("FUNCTION")
            .arg("LOAD")
            .arg(code)
            .query::<()>(&mut connection)
            .unwrap();
        // The key of one millisecond is gone for everyone from here on.
        until("the short-lived key is gone", || {
            let exists = redis::cmd("EXISTS")
                .arg(format!("{mark}:gone"))
                .query::<u8>(&mut connection);
            exists.unwrap() == 0
        });
    }

    /// Everything: by database and key its type, value and moment of expiry; the functions.
    pub fn content(&self) -> BTreeMap<String, String> {
        let mut content = BTreeMap::new();
        for database in 0..16 {
            let mut connection = self.connect(database);
            let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
            for key in keys {
                let mut ask = |name: &str| -> Value {
                    redis::cmd(name).arg(&key).query(&mut connection).unwrap()
                };
                let kind = ask("TYPE");
                let expiry = ask("PEXPIRETIME");
                // A set of strings has no order, and so no one serialised form; a stream's has
                // the moments at which its consumers were seen, which an AOF does not keep.
                let value = if key.ends_with(":set") {
                    let mut members: Vec<String> =
                        redis::from_redis_value(ask("SMEMBERS")).unwrap();
                    members.sort();
                    format!("{members:?}")
                } else if key.ends_with(":stream") {
                    let mut ask = |name: &str, more: &[&str]| -> Value {
                        let mut command = redis::cmd(name);
                        command.arg(&key).arg(more);
                        command.query(&mut connection).unwrap()
                    };
                    let (all, pending) = (ask("XRANGE", &["-", "+"]), ask("XPENDING", &["group"]));
                    format!("{all:?} {pending:?}")
                } else {
                    format!("{:?}", ask("DUMP"))
                };
                content.insert(
                    format!("{database}/{key}"),
                    format!("{kind:?} {expiry:?} {value}"),
                );
            }
        }
        let mut connection = self.connect(0);
        let functions: Value = redis::cmd("FUNCTION")
            .arg("LIST")
            .arg("WITHCODE")
            .query(&mut connection)
            .unwrap();
        content.insert("functions".to_owned(), format!("{functions:?}"));
        content
    }

    /// The files of the data directory, by path, with their content.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn walk(dir: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, into);
                } else {
                    into.insert(path.clone(), std::fs::read(&path).unwrap());
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(&self.data(), &mut files);
        files
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.get_mut().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

fn become_user(command: &mut std::process::Command, user: Option<(u32, u32)>) {
    use std::os::unix::process::CommandExt;
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
}

/// Says in a few words how two contents differ, instead of printing both.
pub fn assert_same(found: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) {
    let keys: std::collections::BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    let mut differ = keys
        .into_iter()
        .filter(|key| found.get(*key) != wanted.get(*key))
        .map(|key| format!("{key}: {:?}, wanted {:?}", found.get(key), wanted.get(key)));
    let some: Vec<String> = differ.by_ref().take(3).collect();
    let more = differ.count();
    assert!(some.is_empty(), "{some:#?} and {more} more");
}

/// A platform with the service `redis` and the volume `redis_data`.
pub struct OneServer {
    pub server: Server,
    /// Every program that was started, arguments and all.
    pub started: Mutex<Vec<Vec<String>>>,
    /// Scratch servers are left running when dropped, as when we are killed.
    pub leave_scratch: Mutex<bool>,
}

struct Ran(std::process::Output, Option<std::io::Cursor<Vec<u8>>>);

#[async_trait]
impl Process for Ran {
    fn stdin(&mut self) -> Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>> {
        None
    }
    fn stdout(&mut self) -> Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>> {
        Some(Box::new(self.1.take()?))
    }
    async fn wait(&mut self) -> Result<Exit> {
        let stderr = String::from_utf8_lossy(&self.0.stderr).into_owned();
        Ok(Exit::new(self.0.status.code().unwrap_or(128), stderr))
    }
}

struct PlainScratch {
    child: Mutex<Option<tokio::process::Child>>,
    log: Arc<Mutex<String>>,
}

#[async_trait]
impl Scratch for PlainScratch {
    async fn stop(self: Box<Self>, grace: Duration) -> Result<()> {
        let Some(mut child) = self.child.lock().unwrap().take() else {
            return Ok(());
        };
        if let Some(pid) = child
            .id()
            .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()))
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(grace, child.wait()).await.is_err() {
            child.kill().await.unwrap();
        }
        Ok(())
    }
    fn log_tail(&self) -> String {
        self.log.lock().unwrap().clone()
    }
    fn is_running(&self) -> bool {
        let mut child = self.child.lock().unwrap();
        child
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
    }
}

#[async_trait]
impl Platform for OneServer {
    fn describe(&self) -> String {
        "one server".to_owned()
    }
    fn services(&self) -> Vec<String> {
        vec!["redis".to_owned()]
    }
    async fn service(&self, name: &str) -> Result<ServiceState> {
        assert_eq!(name, "redis");
        let running = u32::from(self.server.is_running());
        let state = serde_json::json!({
            "name": name, "desired": running, "running": running, "detail": "a test",
        });
        Ok(serde_json::from_value(state).unwrap())
    }
    async fn scale(&self, _name: &str, replicas: u32) -> Result<()> {
        if replicas == 0 {
            self.server.stop();
            return Ok(());
        }
        self.server
            .start()
            .map_err(|log| Error::new(ErrorKind::Failed, "test.start", log))
    }
    async fn exec(&self, _service: &str, command: Command) -> Result<Box<dyn Process>> {
        self.started.lock().unwrap().push(command.argv.clone());
        let output = std::process::Command::new(&command.argv[0])
            .args(&command.argv[1..])
            .output()
            .map_err(|e| Error::io(format!("run {}", command.argv[0]), e))?;
        let stdout = std::io::Cursor::new(output.stdout.clone());
        Ok(Box::new(Ran(output, Some(stdout))))
    }
    async fn logs(&self, _: &str, _: Timestamp, _: usize) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    async fn endpoint(&self, _service: &str) -> Result<Endpoint> {
        Ok(self.server.endpoint())
    }
    async fn volume(&self, name: &str) -> Result<Arc<dyn Volume>> {
        assert_eq!(name, "redis_data");
        Ok(Arc::new(LocalVolume::new(self.server.data())))
    }
    async fn scratch(&self, _service: &str, command: Command) -> Result<Box<dyn Scratch>> {
        self.started.lock().unwrap().push(command.argv.clone());
        let mut std = std::process::Command::new(&command.argv[0]);
        std.args(&command.argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        become_user(&mut std, self.server.user);
        let mut child = tokio::process::Command::from(std)
            .kill_on_drop(!*self.leave_scratch.lock().unwrap())
            .spawn()
            .map_err(|e| Error::io(format!("run {}", command.argv[0]), e))?;
        let log = Arc::new(Mutex::new(String::new()));
        let (mut stdout, into) = (child.stdout.take().unwrap(), log.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stdout.read(&mut buffer).await {
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                into.lock().unwrap().push_str(&text);
            }
        });
        Ok(Box::new(PlainScratch {
            child: Mutex::new(Some(child)),
            log,
        }))
    }
    async fn path_in(&self, _service: &str, host_path: &Path) -> Result<Option<PathBuf>> {
        Ok(Some(host_path.to_owned()))
    }
    async fn owner(&self, _service: &str) -> Result<Option<(u32, u32)>> {
        Ok(self.server.user)
    }
}

/// A server, a backup, and one run of a component over both.
pub struct Case {
    pub platform: Arc<OneServer>,
    pub component: SharedComponent,
    pub backups: tempfile::TempDir,
    pub facts: Arc<MemoryFacts>,
    pub run: RunId,
    pub cancel: CancellationToken,
}

impl Case {
    /// A case over a server that is not started, with more lines for the component's section.
    pub fn new(server: Server, section: &str) -> Self {
        let backups = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(backups.path().join(BACKUP).join("redis")).unwrap();
        let mut text = format!(
            "kind = 'redis'\nservice = 'redis'\nvolume = 'redis_data'\nload_timeout = '20s'\n{section}\n"
        );
        if server.password.is_some() {
            text.push_str(&format!(
                "password_file = '{}'\n",
                server.password_file().display()
            ));
        }
        let platform = Arc::new(OneServer {
            server,
            started: Mutex::default(),
            leave_scratch: Mutex::new(false),
        });
        let parts = Parts::new(platform.clone(), backups.path(), backups.path());
        let table = toml::from_str(&text).unwrap();
        Self {
            component: Registry::default().make("cache", table, &parts).unwrap(),
            platform,
            backups,
            facts: Arc::default(),
            run: RunId::generate(),
            cancel: CancellationToken::new(),
        }
    }

    pub fn server(&self) -> &Server {
        &self.platform.server
    }

    /// Where the backup's file of that name is.
    pub fn artifact(&self, name: &str) -> PathBuf {
        self.backups.path().join(BACKUP).join("redis").join(name)
    }

    /// Writes a manifest over the backup's files as they are now.
    pub fn seal(&self) {
        let root = self.backups.path().join(BACKUP);
        let mut text = format!("Backup ID: {BACKUP}\n=== Files ===\n");
        for entry in std::fs::read_dir(root.join("redis")).unwrap() {
            let name = format!("redis/{}", entry.unwrap().file_name().to_str().unwrap());
            let output = std::process::Command::new("sha256sum")
                .arg(root.join(&name))
                .output()
                .unwrap();
            let hash = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
            let size = root.join(&name).metadata().unwrap().len();
            text.push_str(&format!("{name}|{size}|{hash}\n"));
        }
        std::fs::write(root.join("MANIFEST.txt"), text).unwrap();
    }

    pub async fn cx(&self) -> RunContext {
        let store = Arc::new(DirectoryStore::new(self.backups.path()));
        let backup = Backup::open(store, BACKUP.parse().unwrap()).await.unwrap();
        RunContext::new(
            self.run.clone(),
            "cache",
            Arc::new(backup),
            self.facts.clone(),
            Arc::new(NoEvents),
            self.cancel.clone(),
        )
    }

    /// Stages, after an inspection that has nothing against it.
    pub async fn stage(&self) -> Staged {
        let cx = self.cx().await;
        let inspection = self.component.inspect(&cx).await.unwrap();
        let against: Vec<_> = inspection
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .collect();
        assert!(against.is_empty(), "{against:?}");
        self.component.stage(&cx).await.unwrap()
    }

    pub async fn cut_over(&self) {
        self.server().stop();
        self.component.cut_over(&self.cx().await).await.unwrap();
        self.server().start().unwrap();
    }

    pub async fn undo(&self) {
        self.server().stop();
        self.component.undo(&self.cx().await).await.unwrap();
        self.server().start().unwrap();
    }

    pub async fn check(&self) -> Vec<CheckOutcome> {
        self.component.check(&self.cx().await).await.unwrap()
    }

    pub async fn assert_checked(&self) {
        let outcomes = self.check().await;
        assert_eq!(outcomes.len(), 3, "{outcomes:?}");
        assert!(outcomes.iter().all(|o| o.passed), "{outcomes:?}");
    }

    /// The whole way.
    pub async fn restore(&self) -> Staged {
        let staged = self.stage().await;
        self.cut_over().await;
        self.assert_checked().await;
        staged
    }
}

/// How a backup holds the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Rdb,
    Aof,
    AofDir,
}

pub const FORMS: [Form; 3] = [Form::Rdb, Form::Aof, Form::AofDir];

/// Puts a backup of a full server into the case, in one form; returns the content.
pub fn back_up(case: &Case, form: Form) -> BTreeMap<String, String> {
    let source = Server::new(&[
        "save \"\"",
        match form {
            Form::Rdb => "appendonly no",
            Form::Aof | Form::AofDir => "appendonly yes",
        },
        match form {
            // As before Redis 7: one file of commands.
            Form::Aof => "aof-use-rdb-preamble no",
            _ => "aof-use-rdb-preamble yes",
        },
    ]);
    source.start().unwrap();
    source.fill("backup", 300);
    if form != Form::Rdb {
        source.run(0, &["BGREWRITEAOF"]);
        until("rewritten", || {
            let info: String = redis::cmd("INFO")
                .arg("persistence")
                .query(&mut source.connect(0))
                .unwrap();
            info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrites:1")
        });
        // Something in the increment too.
        source.run(0, &["SET backup:late late", "DEL backup:0"]);
    }
    let content = source.content();
    match form {
        Form::Rdb => {
            source.run(0, &["SAVE"]);
            let name = format!("redis-{BACKUP}.rdb");
            std::fs::copy(source.data().join("dump.rdb"), case.artifact(&name)).unwrap();
        }
        Form::Aof => {
            source.stop();
            let mut parts: Vec<(PathBuf, Vec<u8>)> = source
                .files()
                .into_iter()
                .filter(|(path, _)| path.extension().is_some_and(|ext| ext == "aof"))
                .collect();
            parts.sort_by_key(|(path, _)| !path.to_str().unwrap().contains(".base."));
            let all: Vec<u8> = parts.into_iter().flat_map(|(_, bytes)| bytes).collect();
            assert!(all.starts_with(b"*"));
            std::fs::write(case.artifact(&format!("redis-{BACKUP}.aof")), all).unwrap();
        }
        Form::AofDir => {
            source.stop();
            let name = format!("appendonlydir-{BACKUP}.tar.gz");
            let tar = std::process::Command::new("tar")
                .arg("-czf")
                .arg(case.artifact(&name))
                .arg("-C")
                .arg(source.data())
                .arg("appendonlydir")
                .status()
                .unwrap();
            assert!(tar.success());
        }
    }
    content
}
