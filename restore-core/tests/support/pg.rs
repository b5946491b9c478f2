//! Throwaway PostgreSQL clusters, a platform of nothing but one of them, and backups of it.

use std::collections::BTreeMap;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Std, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use restore_core::backup::Backup;
use restore_core::component::{Inspection, Parts, Postgres, SharedComponent};
use restore_core::config::Table;
use restore_core::platform::{
    Command, Endpoint, Exit, Platform, Process, Scratch, ServiceState, Volume,
};
use restore_core::run::{MemoryFacts, RunContext, RunId};
use restore_core::store::DirectoryStore;
use restore_core::{Error, ErrorKind, NoEvents, Result, Timestamp};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_util::sync::CancellationToken;

pub(crate) const BIN: &str = "/usr/lib/postgresql/15/bin";
pub(crate) const ID: &str = "20240215-020000";
const RUN: &str = "20240216-093000-7f3a";

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

    fn tool(&self, name: &str, database: &str) -> Std {
        let endpoint = self.endpoint();
        let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        let mut command = Std::new(format!("{BIN}/{name}"));
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
    pub(crate) fn psql_command(&self, database: &str, sql: &str) -> Std {
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

    /// Every database but the server's own.
    pub(crate) fn databases(&self) -> Vec<String> {
        self.sql(
            "template1",
            "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1",
        )
        .lines()
        .map(str::to_owned)
        .collect()
    }

    /// Rows, definitions, owners, privileges, large objects: all that a dump brings.
    pub(crate) fn content(&self, database: &str) -> String {
        let tables = self.sql(
            database,
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^(pg_|information)' ORDER BY 1",
        );
        let rows: Vec<String> = tables
            .lines()
            .map(|table| {
                format!(
                    "SELECT '{}', count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t",
                    table.replace('\'', "''")
                )
            })
            .collect();
        let rows = self.sql(database, &rows.join(" UNION ALL "));
        let definitions = self.sql(
            database,
            "SELECT 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated
               FROM pg_constraint WHERE connamespace::regnamespace::text !~ '^(pg_|information)' ORDER BY conrelid::regclass::text, conname;
             SELECT 'index', indexrelid::regclass, pg_get_indexdef(indexrelid), indisvalid
               FROM pg_index JOIN pg_class c ON c.oid = indexrelid
               WHERE c.relnamespace::regnamespace::text !~ '^pg_' ORDER BY 3;
             SELECT 'trigger', tgrelid::regclass, pg_get_triggerdef(oid) FROM pg_trigger
               WHERE NOT tgisinternal ORDER BY 3;
             SELECT 'view', viewname, definition FROM pg_views
               WHERE schemaname !~ '^(pg_|information)' ORDER BY 2;
             SELECT 'function', p.oid::regprocedure, pg_get_userbyid(proowner), md5(prosrc) FROM pg_proc p
               WHERE pronamespace::regnamespace::text !~ '^(pg_|information)' AND NOT EXISTS
                 (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
               ORDER BY p.oid::regprocedure::text;
             SELECT 'relation', oid::regclass, relkind, pg_get_userbyid(relowner), relacl FROM pg_class
               WHERE relnamespace::regnamespace::text !~ '^(pg_|information)' ORDER BY oid::regclass::text;
             SELECT 'sequence', schemaname, sequencename, last_value FROM pg_sequences ORDER BY 2, 3;
             SELECT 'large object', m.oid, pg_get_userbyid(lomowner), md5(lo_get(m.oid))
               FROM pg_largeobject_metadata m ORDER BY 2;
             SELECT 'extension', extname FROM pg_extension ORDER BY 2",
        );
        format!("{rows}\n{definitions}")
    }

    /// What belongs to the database itself and not to a dump's content.
    pub(crate) fn properties(&self, database: &str) -> String {
        let name = database.replace('\'', "''");
        self.sql(
            "template1",
            &format!(
                "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype,
                   datlocprovider, daticulocale, datallowconn, datconnlimit, dattablespace,
                   shobj_description(oid, 'pg_database'),
                   (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(datacl) a)
                 FROM pg_database WHERE datname = '{name}';
                 SELECT setrole::regrole, setconfig FROM pg_db_role_setting s
                   JOIN pg_database d ON d.oid = setdatabase WHERE datname = '{name}' ORDER BY 1"
            ),
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Ok(mut server) = self.server.lock()
            && let Some(mut child) = server.take()
        {
            let pid = child.id().to_string();
            let _stopped = Std::new("kill").args(["-QUIT", &pid]).status();
            let _gone = child.wait();
        }
    }
}

/// The user and group `postgres`.
fn owner() -> (u32, u32) {
    let id = |flag: &str| {
        let out = Std::new("id").args([flag, "postgres"]).output().unwrap();
        String::from_utf8(out.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    (id("-u"), id("-g"))
}

fn as_postgres(program: &str) -> Std {
    let (uid, gid) = owner();
    let mut command = Std::new(program);
    command.uid(uid).gid(gid).env("LC_ALL", "C.UTF-8");
    command
}

/// A platform of one PostgreSQL that runs programs as plain processes and remembers them.
pub(crate) struct OneServer {
    endpoint: Endpoint,
    /// Whether programs have to be fed the backup's files.
    pub(crate) stream: bool,
    /// Arguments and environment of every program run.
    pub(crate) ran: Arc<Mutex<Vec<Command>>>,
}

fn unused<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Internal, "test.unused", "not here"))
}

#[async_trait]
impl Platform for OneServer {
    fn describe(&self) -> String {
        "one server".to_owned()
    }
    fn services(&self) -> Vec<String> {
        vec!["postgres".to_owned()]
    }
    async fn service(&self, _name: &str) -> Result<ServiceState> {
        unused()
    }
    async fn scale(&self, _name: &str, _replicas: u32) -> Result<()> {
        unused()
    }
    async fn exec(&self, _service: &str, command: Command) -> Result<Box<dyn Process>> {
        self.ran.lock().unwrap().push(command.clone());
        let child = tokio::process::Command::new(&command.argv[0])
            .args(&command.argv[1..])
            .envs(&command.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Error::io(format!("run {}", command.argv[0]), e))?;
        Ok(Box::new(Running(child)))
    }
    async fn logs(&self, _: &str, _: Timestamp, _: usize) -> Result<Vec<String>> {
        unused()
    }
    async fn endpoint(&self, _service: &str) -> Result<Endpoint> {
        Ok(self.endpoint.clone())
    }
    async fn volume(&self, _name: &str) -> Result<Arc<dyn Volume>> {
        unused()
    }
    async fn scratch(&self, _: &str, _: Command) -> Result<Box<dyn Scratch>> {
        unused()
    }
    async fn path_in(&self, _service: &str, host_path: &Path) -> Result<Option<PathBuf>> {
        Ok((!self.stream).then(|| host_path.to_owned()))
    }
    async fn owner(&self, _service: &str) -> Result<Option<(u32, u32)>> {
        Ok(Some(owner()))
    }
}

struct Running(tokio::process::Child);

#[async_trait]
impl Process for Running {
    fn stdin(&mut self) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
        self.0.stdin.take().map(|pipe| Box::new(pipe) as _)
    }
    fn stdout(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
        self.0.stdout.take().map(|pipe| Box::new(pipe) as _)
    }
    async fn wait(&mut self) -> Result<Exit> {
        let mut stderr = Vec::new();
        if let Some(mut pipe) = self.0.stderr.take() {
            pipe.read_to_end(&mut stderr).await.unwrap();
        }
        let status = self.0.wait().await.unwrap();
        Ok(Exit::new(
            status.code().unwrap_or(137),
            String::from_utf8_lossy(&stderr),
        ))
    }
}

/// A component over a cluster, a backup folder, and one run.
pub(crate) struct Rig {
    pub(crate) cluster: Cluster,
    pub(crate) backups: tempfile::TempDir,
    pub(crate) facts: Arc<MemoryFacts>,
    pub(crate) cancel: CancellationToken,
    pub(crate) ran: Arc<Mutex<Vec<Command>>>,
    pub(crate) run: RunId,
}

impl Rig {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let rig = Self {
            cluster,
            backups: tempfile::tempdir().unwrap(),
            facts: Arc::default(),
            cancel: CancellationToken::new(),
            ran: Arc::default(),
            run: RUN.parse().unwrap(),
        };
        std::fs::create_dir_all(rig.folder().join("postgres")).unwrap();
        rig
    }

    /// The backup's folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.backups.path().join(ID)
    }

    pub(crate) fn dump_file(&self) -> PathBuf {
        self.folder().join(format!("postgres/postgres-{ID}.dump"))
    }

    pub(crate) fn sql_file(&self) -> PathBuf {
        self.folder().join(format!("postgres/postgres-{ID}.sql"))
    }

    /// Dumps a database as the operators' scripts do.
    pub(crate) fn back_up(&self, database: &str) {
        self.cluster
            .dump(database, &["-Fc", "-b"], &self.dump_file());
        self.cluster
            .dump(database, &["--clean", "--if-exists"], &self.sql_file());
    }

    /// Lists what is in the backup now, with checksums.
    pub(crate) fn list(&self) {
        let script = r#"cd "$1" && { echo "Backup ID: x"; for f in postgres/*; do
            echo "$f|$(stat -c %s "$f")|$(sha256sum "$f" | cut -d' ' -f1)"; done; } > MANIFEST.txt"#;
        let status = Std::new("sh")
            .args(["-c", script, "list"])
            .arg(self.folder())
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// A component as configured by these lines.
    pub(crate) fn component(&self, lines: &str) -> SharedComponent {
        self.over(lines, false)
    }

    /// The same, whose programs are fed the backup's files.
    pub(crate) fn streaming(&self, lines: &str) -> SharedComponent {
        self.over(lines, true)
    }

    fn over(&self, lines: &str, stream: bool) -> SharedComponent {
        let mut table: Table = toml::from_str(lines).unwrap();
        table
            .entry("service")
            .or_insert(Value::String("postgres".to_owned()));
        table
            .entry("user")
            .or_insert(Value::String(self.cluster.superuser.clone()));
        Postgres::from_table("db", table, &self.parts(stream)).unwrap()
    }

    /// What a component is made of.
    pub(crate) fn parts(&self, stream: bool) -> Parts {
        let platform = OneServer {
            endpoint: self.cluster.endpoint(),
            stream,
            ran: self.ran.clone(),
        };
        Parts::new(Arc::new(platform), self.backups.path(), self.backups.path())
    }

    /// What a process that works for the run is given; called again for a new process.
    pub(crate) async fn cx(&self) -> RunContext {
        let store = Arc::new(DirectoryStore::new(self.backups.path()));
        let backup = Backup::open(store, ID.parse().unwrap()).await.unwrap();
        RunContext::new(
            self.run.clone(),
            "db",
            Arc::new(backup),
            self.facts.clone(),
            Arc::new(NoEvents),
            self.cancel.clone(),
        )
    }

    /// The same run without what earlier processes recorded.
    pub(crate) fn forget(&mut self) {
        self.facts = Arc::default();
    }

    /// A directory with client programs, of which `pg_restore` first runs `before` when it is
    /// asked to restore.
    pub(crate) fn programs(&self, before: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let dir = self.backups.path().join("bin");
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("pg_restore");
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *--exit-on-error*) {before};; esac\nexec {BIN}/pg_restore \"$@\"\n"
        );
        std::fs::write(&file, script).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(format!("{BIN}/psql"), dir.join("psql")).unwrap();
        dir
    }
}

/// The codes of the findings that stop a run, and of those that do not.
pub(crate) fn codes(inspection: &Inspection) -> BTreeMap<&str, &str> {
    inspection
        .findings
        .iter()
        .map(|finding| {
            let severity = match finding.severity {
                restore_core::Severity::Error => "error",
                _ => "warning",
            };
            (finding.code.as_str(), severity)
        })
        .collect()
}
