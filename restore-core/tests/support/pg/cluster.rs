//! The server: made, started, reached by its own programs.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use restore_core::platform::Endpoint;

use super::BIN;

/// A server of its own, run by the user `postgres`, stopped and deleted when dropped.
pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    pub(crate) superuser: String,
    password: Option<String>,
    port: u16,
    server: Mutex<Option<Child>>,
}

impl Cluster {
    /// A server reached over a unix socket by everybody as whoever they say, with a superuser of
    /// this name.
    pub(crate) fn start(superuser: &str) -> Self {
        Self::make(superuser, None)
    }

    /// A server reached over TCP that asks for a password.
    pub(crate) fn with_password(superuser: &str, password: &str) -> Self {
        Self::make(superuser, Some(password.to_owned()))
    }

    fn make(superuser: &str, password: Option<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (uid, gid) = owner();
        chown(dir.path(), Some(uid), Some(gid)).unwrap();
        let mut initdb = as_postgres(&format!("{BIN}/initdb"));
        initdb
            .current_dir(dir.path())
            .args([
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "-U",
                superuser,
            ])
            .args(["-D", "data"]);
        if let Some(password) = &password {
            let file = dir.path().join("pw");
            std::fs::write(&file, password).unwrap();
            chown(&file, Some(uid), Some(gid)).unwrap();
            initdb.args(["-A", "scram-sha-256", "--pwfile", "pw"]);
        } else {
            initdb.args(["-A", "trust"]);
        }
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let port = match &password {
            // In a directory of its own the socket's port is nobody else's.
            None => 5432,
            Some(_) => std::net::TcpListener::bind("127.0.0.1:0")
                .and_then(|l| l.local_addr())
                .unwrap()
                .port(),
        };
        let cluster = Self {
            dir,
            superuser: superuser.to_owned(),
            password,
            port,
            server: Mutex::new(None),
        };
        cluster.run_server();
        cluster
    }

    /// Starts the server, also again after it died.
    pub(crate) fn run_server(&self) {
        let mut server = self.server.lock().unwrap();
        if let Some(mut old) = server.take() {
            old.wait().unwrap();
        }
        let dir = self.dir.path();
        let listen = if self.password.is_some() {
            "listen_addresses=127.0.0.1"
        } else {
            "listen_addresses="
        };
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = as_postgres(&format!("{BIN}/postgres"))
            .current_dir(dir)
            .args(["-D", "data", "-k"])
            .arg(dir)
            .args(["-p", &self.port.to_string(), "-c", listen])
            .args(["-c", "fsync=off", "-c", "max_prepared_transactions=5"])
            .args(["-c", "wal_level=logical", "-c", "max_connections=40"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        *server = Some(child);
        drop(server);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self
            .psql("template1", "SELECT 1")
            .is_ok_and(|answer| answer == "1")
        {
            assert!(
                Instant::now() < deadline,
                "{}",
                std::fs::read_to_string(dir.join("log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.server.lock().unwrap().as_ref().unwrap().id()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        if self.password.is_some() {
            Endpoint::new("127.0.0.1", self.port)
        } else {
            Endpoint::new(self.dir.path().to_str().unwrap(), self.port)
        }
    }

    fn tool(&self, name: &str, database: &str) -> Command {
        let endpoint = self.endpoint();
        let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        let mut command = Command::new(format!("{BIN}/{name}"));
        command.arg("-w").arg("-d").arg(format!(
            "host={} port={} user={} dbname={}",
            quote(&endpoint.host),
            endpoint.port,
            quote(&self.superuser),
            quote(database)
        ));
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password);
        }
        command
    }

    /// A psql process on the database, not yet started.
    pub(crate) fn psql_command(&self, database: &str, sql: &str) -> Command {
        let mut psql = self.tool("psql", database);
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        psql
    }

    pub(crate) fn psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let out = self.psql_command(database, sql).output().unwrap();
        if out.status.success() {
            Ok(String::from_utf8(out.stdout).unwrap().trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&out.stderr).into_owned())
        }
    }

    /// Runs SQL that must succeed, as the superuser, and gives what it prints.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        self.psql(database, sql)
            .unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// `pg_dump` with these arguments into a file.
    pub(crate) fn dump(&self, database: &str, args: &[&str], file: &Path) {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let out = self
            .tool("pg_dump", database)
            .args(args)
            .arg("-f")
            .arg(file)
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Ok(mut server) = self.server.lock()
            && let Some(mut child) = server.take()
        {
            let pid = child.id().to_string();
            let _stopped = Command::new("kill").args(["-QUIT", &pid]).status();
            let _gone = child.wait();
        }
    }
}

/// The user and group `postgres`.
pub(super) fn owner() -> (u32, u32) {
    let id = |flag: &str| {
        let out = Command::new("id")
            .args([flag, "postgres"])
            .output()
            .unwrap();
        String::from_utf8(out.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    (id("-u"), id("-g"))
}

fn as_postgres(program: &str) -> Command {
    let (uid, gid) = owner();
    let mut command = Command::new(program);
    command.uid(uid).gid(gid).env("LC_ALL", "C.UTF-8");
    command
}
