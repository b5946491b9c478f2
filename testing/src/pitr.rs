//! A site of one PostgreSQL server that archives its log.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use restore_core::run::Outcome;
use restore_core::{
    BackupRequest, Plan, PlanRequest, RecoveryPoint, RecoveryTarget, Report, RunOptions, Site,
};

use crate::hosting::quick_directory;
use crate::local;
use crate::pg::{self, BIN};

/// A site in a directory of its own; its server ends with it.
pub struct Ground {
    ground: local::Ground,
}

/// Moments of the server's life, in order.
#[derive(Debug)]
pub struct Moments {
    pub time: String,
    pub lsn: String,
    pub xid: u32,
}

impl Ground {
    /// A server whose data directory is the volume itself.
    pub async fn new() -> Self {
        Self::with("", "").await
    }

    /// The same with small segments of the log: to try much in little time.
    pub async fn quick() -> Self {
        Self::made("", "", "1").await
    }

    /// A server whose data directory is this folder of its volume; `more` is configured besides.
    pub async fn with(folder: &str, more: &str) -> Self {
        Self::made(folder, more, "16").await
    }

    async fn made(folder: &str, more: &str, segment: &str) -> Self {
        let ground = local::Ground::below(&quick_directory());
        let (uid, gid) = pg::owner();
        let this = Self { ground };
        for dir in ["volume", "archive", "sock", "backups"] {
            let path = this.path(dir);
            std::fs::create_dir(&path).unwrap();
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
        let data = this.path("volume").join(folder);
        let data = data.to_str().unwrap().trim_end_matches('/').to_owned();
        pg::new_cluster(Path::new(&data), "boss", segment);
        let conf = PathBuf::from(&data).join("postgresql.conf");
        let mut text = std::fs::read_to_string(&conf).unwrap();
        text += &format!(
            "\nlisten_addresses = ''\nunix_socket_directories = '{0}/sock'\nfsync = off\n\
             archive_mode = on\narchive_command = 'cp %p {0}/archive/%f'\nshared_buffers = '16MB'\n",
            this.root().display()
        );
        std::fs::write(&conf, text).unwrap();
        this.ground.file(
            "restore.toml",
            &format!(
                r#"
[site]
name = "pitr"
state = "state"
safety_backup = false

[stores.main]
kind = "directory"
path = "backups"

[services.postgres]
command = ["{BIN}/postgres", "-D", "{data}"]
user = "postgres"
endpoint = "{root}/sock:5432"
stop_signal = "SIGINT"

[volumes.pgdata]
path = "volume"

[components.cluster]
kind = "postgres_cluster"
service = "postgres"
volume = "pgdata"
data_dir = "{folder}"
user = "boss"
wal_archive = "archive"

[components.shop]
kind = "postgres"
service = "postgres"
database = "shop"
user = "boss"
cluster = "cluster"
stops = []
{more}
"#,
                root = this.root().display()
            ),
        );
        this.start().await;
        for database in ["shop", "other"] {
            this.sql("postgres", &format!("CREATE DATABASE {database}"));
            this.sql(
                database,
                "CREATE TABLE t (n int, at timestamptz DEFAULT clock_timestamp())",
            );
        }
        this
    }

    pub fn root(&self) -> &Path {
        self.ground.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("restore.toml")
    }

    pub async fn site(&self) -> Site {
        Site::open(&self.config()).await.unwrap()
    }

    /// Runs SQL that must succeed; what it prints.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql)
            .unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let out = Command::new(format!("{BIN}/psql"))
                .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "boss", "-h"])
                .arg(self.path("sock"))
                .args(["-d", database, "-c", sql])
                .output()
                .unwrap();
            if out.status.success() {
                return Ok(String::from_utf8(out.stdout).unwrap().trim_end().to_owned());
            }
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            // It has been told to start, and is not there yet.
            if !said.contains("is starting up") || Instant::now() > deadline {
                return Err(said);
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Writes one row, in a transaction of its own, into both databases; a moment after which
    /// nothing else has happened yet.
    pub fn write(&self, n: u32) -> Moments {
        self.sql("other", &format!("INSERT INTO t VALUES ({n})"));
        let xid = self.sql(
            "shop",
            &format!("INSERT INTO t VALUES ({n}) RETURNING pg_current_xact_id()::text"),
        );
        std::thread::sleep(Duration::from_millis(5));
        let moments = Moments {
            time: self.sql(
                "shop",
                "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || ' UTC'",
            ),
            lsn: self.sql("shop", "SELECT pg_current_wal_insert_lsn()"),
            xid: xid.parse().unwrap(),
        };
        std::thread::sleep(Duration::from_millis(5));
        moments
    }

    /// The rows of both databases.
    pub fn rows(&self) -> (String, String) {
        let of = |database| {
            self.sql(
                database,
                "SELECT string_agg(n::text, ' ' ORDER BY n) FROM t",
            )
        };
        (of("shop"), of("other"))
    }

    /// Has the server archive all that it has written.
    pub fn archive(&self) {
        let last = self.sql("postgres", "SELECT pg_walfile_name(pg_switch_wal())");
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.path("archive").join(&last).exists()
            || self.sql("postgres", "SELECT last_archived_wal FROM pg_stat_archiver") < last
        {
            assert!(Instant::now() < deadline, "{last} is not archived");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub async fn back_up(&self) -> String {
        let report = self
            .site()
            .await
            .back_up(BackupRequest::all().base(true), RunOptions::new())
            .await
            .unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        report.id.to_string()
    }

    /// Row 1 in a backup, rows 2 and 3 since then, all archived; the moment between the two.
    pub async fn past(&self) -> Moments {
        self.write(1);
        self.back_up().await;
        let here = self.write(2);
        self.write(3);
        self.archive();
        here
    }

    /// Stops and starts the server.
    pub async fn restart(&self) {
        let site = self.site().await;
        site.platform().scale("postgres", 0).await.unwrap();
        self.start().await;
    }

    pub async fn start(&self) {
        let site = self.site().await;
        site.platform().scale("postgres", 1).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.try_sql("postgres", "SELECT 1").is_err() {
            assert!(Instant::now() < deadline, "the server does not come up");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// The plan for the backup of this id.
    pub async fn plan_of(&self, id: &str, request: PlanRequest) -> Plan {
        let site = self.site().await;
        let backup = site.backup(id).await.unwrap();
        let plan = site.plan_with(&backup, request, &RunOptions::new()).await;
        plan.unwrap()
    }

    pub async fn plan(&self, request: PlanRequest) -> Plan {
        self.try_plan(request).await.unwrap()
    }

    pub async fn try_plan(&self, request: PlanRequest) -> restore_core::Result<Plan> {
        let site = self.site().await;
        let backup = site.backup_for("latest", &request).await?;
        site.plan_with(&backup, request, &RunOptions::new()).await
    }

    pub async fn run(&self, request: PlanRequest) -> Report {
        let plan = self.plan(request).await;
        self.carry_out(plan).await
    }

    pub async fn carry_out(&self, plan: Plan) -> Report {
        assert!(plan.refusal().is_none(), "{:?}", plan.findings);
        let report = self
            .site()
            .await
            .run(plan, RunOptions::new())
            .await
            .unwrap();
        assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
        report
    }

    /// Rolls the last run back and deletes what it had put aside.
    pub async fn back(&self) {
        let site = self.site().await;
        let report = site.rollback(None, RunOptions::new()).await.unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
        self.confirm().await;
    }

    pub async fn confirm(&self) {
        match self.site().await.confirm(None, RunOptions::new()).await {
            Ok(report) => assert!(report.confirmed),
            Err(error) => assert_eq!(error.code(), "run.none_to_confirm", "{error}"),
        }
        self.nothing_left();
    }

    /// No hidden folder, and no process but the live server's.
    pub fn nothing_left(&self) {
        let found = Command::new("find")
            .arg(self.path("volume"))
            .args(["-name", ".restore-*", "-prune", "-print"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
        let left = local::processes(&format!("{}/volume/.restore-", self.root().display()));
        assert!(left.is_empty(), "{left:?}");
    }

    /// The archive as nobody can read it directly: every segment packed.
    pub fn pack_archive(&self) {
        for entry in std::fs::read_dir(self.path("archive")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.len() == 24 {
                assert!(
                    Command::new("gzip")
                        .arg("-1")
                        .arg(&path)
                        .status()
                        .unwrap()
                        .success()
                );
            }
        }
    }

    pub fn mode(&self, path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }
}

pub fn to(point: RecoveryPoint) -> PlanRequest {
    PlanRequest::all().to(RecoveryTarget::new(point))
}

pub fn to_time(time: &str) -> PlanRequest {
    PlanRequest::all().to(time.parse::<RecoveryTarget>().unwrap())
}
