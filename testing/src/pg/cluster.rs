//! The server: made, started, reached by its own programs.

use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use restore_core::platform::Endpoint;

use super::BIN;
use super::initdb::{as_postgres, new_cluster_of, owner};
use crate::run;

/// A server of its own, run by the user `postgres`, stopped and deleted when dropped.
pub struct Cluster {
    dir: tempfile::TempDir,
    pub superuser: String,
    password: Option<String>,
    /// Where it listens, if it asks for a password.
    host: String,
    port: u16,
    server: Mutex<Option<Child>>,
    /// The folder of its programs.
    bin: String,
}

impl Cluster {
    /// A server reached over a unix socket by everybody as whoever they say, with a superuser of
    /// this name.
    pub fn start(superuser: &str) -> Self {
        Self::make(superuser, None, "", BIN)
    }

    /// The same of the version whose programs are in this folder.
    pub fn of_version(superuser: &str, bin: &Path) -> Self {
        Self::make(superuser, None, "", bin.to_str().unwrap())
    }

    /// A server reached over TCP that asks for a password.
    pub fn with_password(superuser: &str, password: &str) -> Self {
        Self::at("127.0.0.1", superuser, password)
    }

    /// The same at this address.
    pub fn at(host: &str, superuser: &str, password: &str) -> Self {
        Self::make(superuser, Some(password.to_owned()), host, BIN)
    }

    fn make(superuser: &str, password: Option<String>, host: &str, bin: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (uid, gid) = owner();
        chown(dir.path(), Some(uid), Some(gid)).unwrap();
        let data = dir.path().join("data");
        if let Some(password) = &password {
            let file = dir.path().join("pw");
            std::fs::write(&file, password).unwrap();
            chown(&file, Some(uid), Some(gid)).unwrap();
            run(as_postgres(&format!("{BIN}/initdb"))
                .args(["--no-sync", "-E", "UTF8", "--locale=C.UTF-8"])
                .args(["-U", superuser, "-A", "scram-sha-256", "--pwfile"])
                .arg(file)
                .arg("-D")
                .arg(&data));
            let hba = data.join("pg_hba.conf");
            let mut lines = std::fs::read_to_string(&hba).unwrap();
            lines += "host all all all scram-sha-256\n";
            std::fs::write(hba, lines).unwrap();
        } else {
            new_cluster_of(bin, &data, superuser, "1");
        }
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
            host: host.to_owned(),
            port,
            server: Mutex::new(None),
            bin: bin.to_owned(),
        };
        cluster.run_server();
        cluster
    }

    /// Starts the server, also again after it died.
    pub fn run_server(&self) {
        self.start_server(&[]);
        self.until("the server lets nobody in", |answer| {
            answer.is_ok_and(|answer| answer == "1")
        });
    }

    /// Stops the server, and starts it with these arguments besides.
    pub fn restart_with(&self, more: &[&str]) {
        run(Command::new("kill").args(["-INT", &self.pid().to_string()]));
        self.start_server(more);
        self.until("the server lets nobody in", |answer| {
            answer.is_ok_and(|answer| answer == "1")
        });
    }

    /// Breaks the server off, and starts it so that it is recovering from that until
    /// [`end_recovery`](Self::end_recovery): it answers, and lets nobody in.
    pub fn begin_recovery(&self) {
        // Else sequences would skip numbers.
        self.sql("template1", "CHECKPOINT");
        run(Command::new("kill").args(["-QUIT", &self.pid().to_string()]));
        let signal = self.dir.path().join("data/standby.signal");
        std::fs::write(&signal, "").unwrap();
        let (uid, gid) = owner();
        chown(&signal, Some(uid), Some(gid)).unwrap();
        self.start_server(&["-c", "hot_standby=off"]);
        self.until("the server does not recover", |answer| {
            answer.is_err_and(|said| said.contains("the database system is"))
        });
    }

    /// Lets a server that recovers come to its end; does not wait for it.
    pub fn end_recovery(&self) {
        std::fs::write(self.dir.path().join("data/promote"), "").unwrap();
        run(Command::new("kill").args(["-USR1", &self.pid().to_string()]));
    }

    fn start_server(&self, more: &[&str]) {
        let mut server = self.server.lock().unwrap();
        if let Some(mut old) = server.take() {
            old.wait().unwrap();
        }
        let dir = self.dir.path();
        let listen = &format!("listen_addresses={}", self.host);
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = as_postgres(&format!("{}/postgres", self.bin))
            .current_dir(dir)
            .args(["-D", "data", "-k"])
            .arg(dir)
            .args(["-p", &self.port.to_string(), "-c", listen])
            .args(["-c", "fsync=off", "-c", "max_prepared_transactions=5"])
            .args(["-c", "wal_level=logical", "-c", "max_connections=40"])
            .args(more)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        *server = Some(child);
    }

    /// Waits until the server gives such an answer.
    fn until(&self, never: &str, gives: impl Fn(Result<String, String>) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !gives(self.psql("template1", "SELECT 1")) {
            assert!(Instant::now() < deadline, "{never}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.server.lock().unwrap().as_ref().unwrap().id()
    }

    pub fn endpoint(&self) -> Endpoint {
        if self.password.is_some() {
            Endpoint::new(self.host.clone(), self.port)
        } else {
            Endpoint::new(self.dir.path().to_str().unwrap(), self.port)
        }
    }

    fn tool(&self, name: &str, database: &str) -> Command {
        let endpoint = self.endpoint();
        let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        let mut command = Command::new(format!("{}/{name}", self.bin));
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
    pub fn psql_command(&self, database: &str, sql: &str) -> Command {
        let mut psql = self.tool("psql", database);
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        psql
    }

    pub fn psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let out = self.psql_command(database, sql).output().unwrap();
        if out.status.success() {
            Ok(String::from_utf8(out.stdout).unwrap().trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&out.stderr).into_owned())
        }
    }

    /// Runs SQL that must succeed, as the superuser, and gives what it prints.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.psql(database, sql)
            .unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// Replaces the lines by which it lets in, but for those of ours by its socket.
    pub fn let_in(&self, lines: &str) {
        let hba = self.dir.path().join("data/pg_hba.conf");
        std::fs::write(hba, format!("local all all trust\n{lines}\n")).unwrap();
        self.reload();
    }

    /// Has the server read its configuration again; from then on every session sees it.
    fn reload(&self) {
        let loaded = || self.by_socket("template1", "SELECT pg_conf_load_time()");
        let before = loaded();
        self.by_socket("template1", "SELECT pg_reload_conf()");
        let deadline = Instant::now() + Duration::from_secs(30);
        while loaded() == before {
            assert!(Instant::now() < deadline, "it reads nothing again");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Turns TLS on.
    pub fn secure(&self, certificates: &crate::tls::Certificates) {
        certificates.install(&self.dir.path().join("data"), Some(owner()));
        for (name, value) in [
            ("ssl_cert_file", "server.pem"),
            ("ssl_key_file", "server.key"),
            ("ssl_ca_file", "ca.pem"),
            ("ssl", "on"),
        ] {
            let sql = format!("ALTER SYSTEM SET {name} = '{value}'");
            self.by_socket("template1", &sql);
        }
        self.reload();
    }

    /// Runs SQL as the superuser, whoever else is let in how.
    pub fn by_socket(&self, database: &str, sql: &str) -> String {
        let output = crate::run(
            Command::new(format!("{}/psql", self.bin))
                .args(["-XAtqw", "-v", "ON_ERROR_STOP=1", "-d", database])
                .args(["-U", &self.superuser, "-p", &self.port.to_string(), "-h"])
                .arg(self.dir.path())
                .args(["-c", sql])
                .env("PGPASSWORD", self.password.as_deref().unwrap_or_default()),
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// `pg_dumpall` with these arguments into a file.
    pub fn dump_all(&self, args: &[&str], file: &Path) {
        let out = self
            .tool("pg_dumpall", "template1")
            .args(args)
            .arg("-f")
            .arg(file)
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
    }

    /// `pg_dump` with these arguments into a file.
    pub fn dump(&self, database: &str, args: &[&str], file: &Path) {
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
