//! The server: its configuration, its process, connections to it.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use deadpool_redis::redis::{self, Connection, ConnectionAddr, IntoConnectionInfo, Value};
use restore_core::platform::Endpoint;

use super::PATIENCE;

/// A Redis server on a unix socket or a port; ends when dropped.
pub struct Server {
    root: tempfile::TempDir,
    options: Mutex<Vec<String>>,
    pub(super) password: Option<String>,
    port: u16,
    /// Where it listens with TLS.
    tls_port: Option<u16>,
    host: String,
    pub(super) user: Option<(u32, u32)>,
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
            tls_port: None,
            host: "127.0.0.1".to_owned(),
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
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(self.password_file(), closed).unwrap();
        self
    }

    /// The same at this address.
    pub fn at(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// The same, to be reached with TLS on another port.
    pub fn with_tls(mut self, certificates: &crate::tls::Certificates) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        certificates.install(self.root.path(), self.user);
        let mut options = self.options.lock().unwrap();
        options.push(format!("tls-port {port}"));
        for (name, file) in [
            ("tls-cert-file", "server.pem"),
            ("tls-key-file", "server.key"),
            ("tls-ca-cert-file", "ca.pem"),
        ] {
            options.push(format!("{name} {}", self.root.path().join(file).display()));
        }
        drop(options);
        self.tls_port = Some(port);
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
        match self.tls_port.unwrap_or(self.port) {
            0 => Endpoint::new(self.socket().to_str().unwrap(), 0),
            port => Endpoint::new(self.host.clone(), port),
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
            port => format!("bind {}\nport {port}", self.host),
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
            port => ConnectionAddr::Tcp(self.host.clone(), port),
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

pub(super) fn become_user(command: &mut std::process::Command, user: Option<(u32, u32)>) {
    use std::os::unix::process::CommandExt;
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
}
