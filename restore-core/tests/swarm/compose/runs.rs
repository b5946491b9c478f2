//! Whole runs over a small project: a database, a cache, a website whose files are a directory of
//! the host.

use std::path::{Path, PathBuf};
use std::process::Command;

use restore_core::{BackupRequest, Outcome, PlanRequest, RunOptions, Site};
use restore_testing::{Ended as _, assert_same, run, text, write_secret};

use super::project::{OBEYS, Project};
use crate::swarm::engine::{Engine, IMAGE, until};

const CONFIG: &str = r#"
[site]
name = "shop"
state = "state"
jobs = 1
safety_backup = false

[stores.main]
kind = "directory"
path = "backups"

[platform]
kind = "compose"
project = "shop"
socket = "@SOCKET@"

[services.db]
port = 5432
ready = "tcp"

[services.cache]
port = 6379
ready = "tcp"

[services.web]

# Of the host itself.
[services.cron]
start = ["touch", "@ROOT@/cron-is-up"]
stop = ["rm", "-f", "@ROOT@/cron-is-up"]
status = ["test", "-e", "@ROOT@/cron-is-up"]

[volumes.pages]
path = "@ROOT@/pages"

[components.db]
kind = "postgres"
service = "db"
database = "shop"
user = "shop"
password_file = "postgres.pass"
stops = ["web"]

[components.cache]
kind = "redis"
service = "cache"
volume = "cache_data"
stops = ["web"]

[components.pages]
kind = "volume"
volume = "pages"
archive = ["volumes/pages-{id}.tar.gz"]
stops = ["web", "cron"]

[checks.web]
kind = "command"
service = "web"
command = ["cat", "/pages/page"]
timeout = "10s"
"#;

/// A project in one of its states.
pub struct Shop<'a> {
    pub project: Project<'a>,
    pub root: PathBuf,
    /// Two containers that run, and a third that has ended.
    web: [String; 3],
    db: String,
    cache: String,
}

impl<'a> Shop<'a> {
    pub async fn new(engine: &'a Engine) -> Self {
        let root = engine.folder("shop");
        for folder in ["backups", "pages"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("cron-is-up"), "").unwrap();
        write_secret(root.join("postgres.pass"), "geheim");
        let config = CONFIG
            .replace("@SOCKET@", engine.socket().to_str().unwrap())
            .replace("@ROOT@", root.to_str().unwrap());
        std::fs::write(root.join("restore.toml"), config).unwrap();

        let project = Project::new(engine, "shop");
        project.volume("db_data");
        project.volume("cache_data");
        let secret = format!("{}:/secret:ro", root.join("postgres.pass").display());
        let options = [
            "--restart",
            "always",
            "-v",
            "shop_db_data:/var/lib/postgresql/data",
            "-v",
            &secret,
            "-e",
            "POSTGRES_USER=shop",
            "-e",
            "POSTGRES_PASSWORD_FILE=/secret",
            "-e",
            "POSTGRES_DB=shop",
            "--stop-signal",
            "SIGINT",
        ];
        let db = project.create("db", 1, &options, &["restore-example/postgres:15"]);
        let options = ["--restart", "unless-stopped", "-v", "shop_cache_data:/data"];
        let redis = [
            "restore-example/redis:7.0",
            "redis-server",
            "--appendonly",
            "yes",
            "--protected-mode",
            "no",
        ];
        let cache = project.create("cache", 1, &options, &redis);
        let pages = format!("{}:/pages", root.join("pages").display());
        let web = [1, 2, 3].map(|number| {
            let ended = number == 2;
            let policy = if ended { "no" } else { "always" };
            let script = if ended { "exit 0" } else { OBEYS };
            let options = ["--restart", policy, "-v", &pages];
            project.create("web", number, &options, &[IMAGE, "sh", "-c", script])
        });
        for id in [&db, &cache].into_iter().chain(&web) {
            engine.docker(&["start", id]);
        }
        let shop = Self {
            project,
            root,
            web,
            db,
            cache,
        };
        until("the database answers", || {
            let mut asked = shop.inside(
                &shop.db,
                &["psql", "-h", "127.0.0.1", "-U", "shop", "-c", "SELECT 1"],
            );
            asked.output().unwrap().status.success()
        });
        until("the cache answers", || {
            let mut asked = shop.inside(&shop.cache, &["redis-cli", "ping"]);
            asked.output().unwrap().stdout == b"PONG\n"
        });
        shop
    }

    fn inside(&self, container: &str, argv: &[&str]) -> Command {
        let mut args = vec!["exec", "-e", "PGPASSWORD=geheim", container];
        args.extend(argv);
        self.project.engine.client(&args)
    }

    fn sql(&self, sql: &str) -> String {
        let argv = ["psql", "-h", "127.0.0.1", "-U", "shop", "-At", "-c", sql];
        text(&run(&mut self.inside(&self.db, &argv)))
    }

    async fn site(&self) -> Site {
        Site::open(&self.root.join("restore.toml")).await.unwrap()
    }

    pub fn become_version(&self, version: &str) {
        self.sql(&format!(
            "DROP TABLE IF EXISTS orders; CREATE TABLE orders AS SELECT n, '{version}' AS who FROM generate_series(1, 500) n"
        ));
        let set = ["redis-cli", "set", "version", version];
        run(&mut self.inside(&self.cache, &set));
        let only = format!("only:{version}");
        run(&mut self.inside(&self.cache, &["redis-cli", "flushall"]));
        for key in ["version", &only] {
            run(&mut self.inside(&self.cache, &["redis-cli", "set", key, version]));
        }
        let pages = self.root.join("pages");
        for entry in std::fs::read_dir(&pages).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        std::fs::write(pages.join("page"), version).unwrap();
        std::fs::write(pages.join(format!(".{version}")), version).unwrap();
    }

    async fn back_up(&self) -> String {
        let site = self.site().await;
        let report = site.back_up(BackupRequest::all(), RunOptions::new()).await;
        report.unwrap().id.to_string()
    }

    /// Everything that a restore may touch, and how everything is described that runs.
    pub fn fingerprint(&self) -> String {
        let mut found = String::new();
        found += "=== orders \n";
        found += &self.sql("SELECT who, count(*), sum(n) FROM orders GROUP BY who");
        found += "=== cache \n";
        let keys = text(&run(
            &mut self.inside(&self.cache, &["redis-cli", "keys", "*"])
        ));
        let mut keys: Vec<&str> = keys.lines().collect();
        keys.sort_unstable();
        for key in keys {
            let value = text(&run(
                &mut self.inside(&self.cache, &["redis-cli", "get", key])
            ));
            found += &format!("{key} {value}");
        }
        found += "=== pages \n";
        found += &files(&self.root.join("pages"));
        found += &format!("=== cron {}\n", self.root.join("cron-is-up").exists());
        for id in [&self.db, &self.cache].into_iter().chain(&self.web) {
            found += &format!("=== container \n{}\n", self.project.described(id));
        }
        found += &format!("=== running \n{}\n", self.project.running().join("\n"));
        let all = ["ps", "-aq", "--no-trunc"];
        let all = self.project.engine.docker(&all);
        let mut all: Vec<&str> = all.lines().collect();
        all.sort_unstable();
        found += &format!("=== all \n{}\n", all.join("\n"));
        found
    }

    #[track_caller]
    pub fn is(&self, wanted: &str, what: &str) {
        assert_same(wanted, &self.fingerprint(), what);
    }
}

/// What is in a directory, but for what runs keep aside.
fn files(place: &Path) -> String {
    let mut find = Command::new("find");
    find.arg(place);
    find.args(["-name", ".restore-*", "-prune", "-o", "-type", "f"]);
    find.args(["-exec", "sha256sum", "{}", "+"]);
    let found = text(&run(&mut find));
    let mut lines: Vec<&str> = found.lines().collect();
    lines.sort_unstable();
    lines.join("\n") + "\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_restored_and_taken_back() {
    let engine = Engine::without_swarm_with_images();
    let shop = Shop::new(&engine).await;
    shop.become_version("one");
    let one = shop.fingerprint();
    let backup = shop.back_up().await;
    shop.become_version("two");
    let two = shop.fingerprint();
    assert_ne!(one, two);

    let site = shop.site().await;
    let taken = site.backup(&backup).await.unwrap();
    let plan = site
        .plan_with(&taken, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap();
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let stopped: Vec<(&str, u32)> = plan
        .services
        .iter()
        .map(|it| (it.name.as_str(), it.replicas))
        .collect();
    assert_eq!(stopped, [("cron", 1), ("web", 2), ("cache", 1)]);
    let report = site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    shop.is(&one, "restored");

    // Another process takes it back.
    let site = shop.site().await;
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    shop.is(&two, "rolled back");
    site.confirm(None, RunOptions::new()).await.unwrap();
    let left = Command::new("find")
        .args([&shop.root, &engine.volume("shop_cache_data")])
        .args(["-name", ".restore-*", "-o", "-name", "*.stopped.json"])
        .output()
        .unwrap();
    assert_eq!(text(&left), "", "files are left");
}

/// A service that does not come up on the restored data turns the run back.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_does_not_come_up_turns_the_run_back() {
    let engine = Engine::without_swarm();
    let project = Project::new(&engine, "picky");
    let data = project.volume("data");
    std::fs::create_dir_all(engine.folder("site-picky/backups")).unwrap();
    let script = format!("grep -q good /data/page || {{ echo bad data; exit 5; }}; {OBEYS}");
    let write_page = |word: &str| std::fs::write(data.join("page"), word).unwrap();
    write_page("bad");
    let site = || {
        project.site(
            "[components.data]\nkind = 'volume'\nvolume = 'data'\narchive = ['volumes/data-{id}.tar.gz']\nstops = ['web']\n[services.web]\nstart_timeout = '10s'\n",
        )
    };
    let backup = site()
        .back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap();
    write_page("good");
    let id = project.run(
        "web",
        1,
        &["-v", "picky_data:/data", "--restart", "always"],
        &script,
    );
    let before = project.described(&id);
    let site = site();
    let taken = site.backup(backup.id.as_str()).await.unwrap();
    let request = PlanRequest::all().no_safety_backup(true);
    let plan = site
        .plan_with(&taken, request, &RunOptions::new())
        .await
        .unwrap();
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let report = site.run(plan, RunOptions::new()).await.ended().unwrap();
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    assert!(
        report.to_text().contains("bad data"),
        "{}",
        report.to_text()
    );
    assert_eq!(std::fs::read_to_string(data.join("page")).unwrap(), "good");
    assert_eq!(project.running(), [id.as_str()]);
    assert_eq!(project.described(&id), before);
    assert_eq!(project.records(), 0);
}

/// Restart policies of containers that were down before, and of those that a run has stopped, are what
/// they were however the run ends; what an operator has changed since stays.
#[tokio::test(flavor = "multi_thread")]
async fn policies_come_back_however_a_run_ends() {
    let engine = Engine::without_swarm();
    let project = Project::new(&engine, "policies");
    let data = project.volume("data");
    let root = engine.folder("policies");
    let config = root.join("restore.toml");
    std::fs::create_dir_all(root.join("backups")).unwrap();
    let text = format!(
        "[site]\nname = 'policies'\nstate = 'state'\nsafety_backup = false\n[stores.main]\nkind = 'directory'\npath = 'backups'\n\
         [platform]\nkind = 'compose'\nproject = 'policies'\nsocket = '{}'\n[services.web]\n[services.idle]\n\
         [components.data]\nkind = 'volume'\nvolume = 'data'\narchive = ['volumes/data-{{id}}.tar.gz']\nstops = ['web', 'idle']\n",
        engine.socket().display()
    );
    std::fs::write(&config, text).unwrap();
    let options = ["-v", "policies_data:/data", "--restart", "always"];
    let up = project.run("web", 1, &options, OBEYS);
    let ended = project.run("web", 2, &options, "exec sleep 1000");
    let idle = project.run("idle", 1, &options, "exec sleep 1000");
    engine.docker(&["stop", "-t", "0", &ended, &idle]);
    let described = || [&up, &ended, &idle].map(|id| project.described(id));
    let before = described();
    std::fs::write(data.join("page"), "one").unwrap();
    let site = Site::open(&config).await.unwrap();
    let made = site.back_up(BackupRequest::all(), RunOptions::new()).await;
    let backup = made.unwrap().id.to_string();
    let crash =
        |action: &str, when: &str| restore_testing::crash(&config, &[action, when, &backup]);
    let changed = || described() != before;

    // Taken back: what was down as a whole is still down.
    crash("run", "intent cut-over:data");
    assert!(changed());
    let done = crash("rollback", "never");
    assert!(done.contains("outcome rolled back"), "{done}");
    assert_eq!(project.running(), [up.as_str()]);
    assert_eq!(described(), before, "rolled back");
    site.confirm(None, RunOptions::new()).await.unwrap();
    assert_eq!(
        std::fs::read_dir(root.join("state/services"))
            .unwrap()
            .count(),
        0
    );

    // Ended as it stands: nothing is started.
    crash("run", "intent cut-over:data");
    assert!(changed());
    let report = site.abandon(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Abandoned, "{}", report.to_text());
    assert_eq!(project.running(), Vec::<String>::new());
    assert_eq!(described(), before, "abandoned");

    // With an engine that does not answer it is left to the next run; what somebody asks for meanwhile
    // stays.
    engine.docker(&["start", &up]);
    crash("run", "intent cut-over:data");
    assert!(changed());
    engine.script(&["stop"]);
    // One that has met the engine would wait for it.
    let site = Site::open(&config).await.unwrap();
    let report = site.abandon(None, RunOptions::new()).await.unwrap();
    let told = report.findings.iter();
    let told = told.filter(|it| it.code == "platform.unreleased").count();
    assert_eq!(told, 1, "{}", report.to_text());
    engine.script(&["start"]);
    engine.docker(&["update", "--restart", "on-failure:7", &ended]);
    let done = crash("run", "never");
    assert!(done.contains("outcome restored"), "{done}");
    assert_eq!(project.policy(&up), "always");
    assert_eq!(project.policy(&ended), "on-failure");
    assert_eq!(project.policy(&idle), "always");
    // That which the runs had stopped runs, and the other stays down; what was down as a whole is
    // started by a restore.
    assert_eq!(project.running(), [idle.as_str(), up.as_str()]);
    assert_eq!(
        std::fs::read_dir(root.join("state/services"))
            .unwrap()
            .count(),
        0
    );
}

/// A project that has containers is not made anew: the plan says so, and the run restores the files alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_is_there_is_not_deployed() {
    let engine = super::project::shared();
    let project = Project::new(&engine, "deployed");
    let folder = engine.folder("site-deployed");
    std::fs::create_dir_all(folder.join("backups")).unwrap();
    std::fs::create_dir_all(folder.join("tree")).unwrap();
    let file = folder.join("tree/compose.yml");
    std::fs::write(&file, "services: {}\n").unwrap();
    let web = project.run("web", 1, &[], OBEYS);
    let described = project.described(&web);
    let site = project.site(&format!(
        "[components.tree]\nkind = 'files'\nroot = '{}'\ntree = 'tree'\narchive = ['configs/tree-{{id}}.tar.gz']\nstops = []\nredeploy = true\nstack = 'deployed'\ncompose = ['compose.yml']\n[services.web]\n",
        folder.display()
    ));
    let made = site
        .back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap();
    std::fs::write(&file, "services: 1\n").unwrap();
    let backup = site.backup(made.id.as_str()).await.unwrap();
    let request = PlanRequest::all().no_safety_backup(true);
    let plan = site
        .plan_with(&backup, request, &RunOptions::new())
        .await
        .unwrap();
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let code = "compose.not_redeployed";
    let told = plan.findings.iter().find(|it| it.code == code);
    assert!(told.is_some(), "{:?}", plan.findings);
    let report = site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, "services: {}\n");
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    assert_eq!(project.described(&web), described);
    assert_eq!(project.running(), [web]);
}
