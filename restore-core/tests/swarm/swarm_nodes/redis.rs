//! A Redis on worker1: its data is staged and proven there.

use std::path::PathBuf;
use std::sync::Arc;

use restore_core::platform::Command;
use restore_core::run::Outcome;
use restore_core::{BackupRequest, Event, PlanRequest, RunOptions, Site};
use restore_testing::Ended as _;
use tokio_util::sync::CancellationToken;

use super::ground::{self, Ground};

const NAME: &str = "far-redis";

/// The id of the backups that are made by hand.
const PLAIN: &str = "20260101-000000";

pub async fn a_redis_elsewhere(ground: &Ground) {
    let far = Far::start(ground).await;
    far.there_and_back().await;
    far.an_append_only_file().await;
    far.damaged().await;
    far.without_a_server().await;
    far.cancelled().await;
    far.end().await;
}

struct Far<'a> {
    ground: &'a Ground,
    site: Site,
}

impl<'a> Far<'a> {
    async fn start(ground: &'a Ground) -> Self {
        ground.swarm.docker(&[
            "service",
            "create",
            "-q",
            "--detach",
            "--no-resolve-image",
            "--name",
            "far_redis",
            "--constraint",
            "node.hostname==worker1",
            "--publish",
            "mode=host,target=6379,published=16379",
            "--mount",
            "type=volume,source=far_cache,target=/data",
            "--network",
            "hosting_backend",
            "--endpoint-mode",
            "dnsrr",
            "restore-example/redis:7.0",
            "redis-server",
            "--appendonly",
            "yes",
            "--protected-mode",
            "no",
            "--save",
            "",
        ]);
        let site = Self::site(ground, &ground.nodes(), "rdb").await;
        site.platform().scale("far_redis", 1).await.unwrap();
        let far = Self { ground, site };
        let many = "for i = 1, 20000 do redis.call('SET', 'k' .. i, string.rep(i, 50)) end";
        far.cli(&["EVAL", many, "0"]).await;
        far
    }

    async fn site(ground: &Ground, nodes: &str, prefer: &str) -> Site {
        let more = format!(
            "{nodes}\n[services.far_redis]\nport = 6379\nready = 'tcp'\n[components.{NAME}]\nkind = 'redis'\n\
             service = 'far_redis'\nvolume = 'far_cache'\nprefer = '{prefer}'\nrdb = ['redis/far-{{id}}.rdb']\n\
             aof_dir = ['redis/far-{{id}}.tar.gz']\n"
        );
        ground.site("far-redis", &more).await
    }

    /// Where worker1 has the volume's files.
    fn files(&self) -> PathBuf {
        let socket = self.ground.swarm.worker_socket(1);
        let node = socket.parent().unwrap();
        node.join("data/volumes/far_cache/_data")
    }

    async fn cli(&self, args: &[&str]) -> String {
        let argv = ["redis-cli", "-e"].iter().chain(args).copied();
        let platform = self.site.platform().clone();
        let command = Command::new(argv);
        let (code, said) = ground::said(platform.as_ref(), "far_redis", command).await;
        assert_eq!(code, 0, "{args:?}: {said}");
        said.trim_end().to_owned()
    }

    /// How many keys there are, and whether they are those of the backup.
    async fn content(&self) -> (String, bool) {
        let seventh = self.cli(&["GET", "k7"]).await;
        (self.cli(&["DBSIZE"]).await, seventh == "7".repeat(50))
    }

    /// A backup with one file, the hash of which fits.
    fn by_hand(&self, name: &str, content: &[u8]) {
        let folder = self.ground.swarm.backup_folder(PLAIN);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("redis")).unwrap();
        let path = folder.join("redis").join(name);
        std::fs::write(&path, content).unwrap();
        let sum = restore_testing::run(std::process::Command::new("sha256sum").arg(&path));
        let hash = restore_testing::text(&sum)[..64].to_owned();
        let manifest = format!(
            "Backup ID: {PLAIN}\n=== Files ===\nredis/{name}|{}|{hash}\n=== Summary ===\n",
            content.len()
        );
        std::fs::write(folder.join("MANIFEST.txt"), manifest).unwrap();
    }

    async fn run(&self, site: &Site, backup: &str, options: RunOptions) -> restore_core::Report {
        let backup = site.backup(backup).await.unwrap();
        let request = PlanRequest::all().only([NAME]).no_safety_backup(true);
        let plan = site
            .plan_with(&backup, request, &RunOptions::new())
            .await
            .unwrap();
        assert!(plan.refusal().is_none(), "{:#?}", plan.findings);
        site.run(plan, options).await.ended().unwrap()
    }

    async fn roll_back(&self, site: &Site) {
        let report = site.rollback(None, RunOptions::new()).await.unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
        assert_eq!(self.content().await, ("1".to_owned(), false));
        self.ground.confirm(site).await;
        self.nothing_left().await;
    }

    /// Nothing was changed, and nothing is left of what was tried.
    async fn untouched(&self, report: &restore_core::Report, code: &str) {
        let text = report.to_text();
        assert_eq!(report.outcome, Outcome::Undone, "{text}");
        let failure = report.failure.as_ref().unwrap();
        assert_eq!(failure.code, code, "{text}");
        assert_eq!(report.downtime_seconds, None, "{text}");
        assert_eq!(self.content().await, ("1".to_owned(), false));
        self.nothing_left().await;
    }

    async fn nothing_left(&self) {
        let names = std::fs::read_dir(self.files()).unwrap();
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.retain(|name| name.starts_with(".restore"));
        assert_eq!(names, Vec::<String>::new());
        self.ground.nothing_left().await;
    }

    async fn there_and_back(&self) {
        let request = BackupRequest::all().only([NAME]);
        let made = self.site.back_up(request, RunOptions::new()).await.unwrap();
        self.cli(&["FLUSHALL"]).await;
        self.cli(&["SET", "other", "1"]).await;
        let report = self.run(&self.site, made.id.as_str(), RunOptions::new());
        let report = report.await;
        assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
        assert_eq!(self.content().await, ("20000".to_owned(), true));
        let kept = report.components.iter().find(|it| it.name == NAME).unwrap();
        let kept_at = kept.kept_at.clone().unwrap();
        assert!(
            kept_at.contains("far_cache of the node worker1"),
            "{kept_at}"
        );
        // As the server's own files, so that it may also write them.
        let owners =
            restore_testing::run(std::process::Command::new("find").arg(self.files()).args([
                "-name",
                ".restore-*",
                "-prune",
                "-o",
                "-printf",
                "%U\n",
            ]));
        let owners = restore_testing::text(&owners);
        let mut owners: Vec<&str> = owners.lines().collect();
        owners.dedup();
        assert_eq!(owners.len(), 1, "{owners:?}");
        self.roll_back(&self.site).await;
        std::fs::remove_dir_all(self.ground.swarm.backup_folder(made.id.as_str())).unwrap();
    }

    /// What is packed there is turned into an RDB there.
    async fn an_append_only_file(&self) {
        let keys = "for i = 1, 2000 do redis.call('SET', 'k' .. i, string.rep(i, 50)) end";
        self.cli(&["EVAL", keys, "0"]).await;
        let archive = restore_testing::run(
            std::process::Command::new("tar")
                .arg("-C")
                .arg(self.files())
                .args(["-cz", "appendonlydir"]),
        );
        self.cli(&["FLUSHALL"]).await;
        self.cli(&["SET", "other", "1"]).await;
        self.by_hand(&format!("far-{PLAIN}.tar.gz"), &archive.stdout);
        let site = Self::site(self.ground, &self.ground.nodes(), "aof").await;
        let report = self.run(&site, PLAIN, RunOptions::new()).await;
        assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
        assert_eq!(self.content().await, ("2001".to_owned(), true));
        self.roll_back(&site).await;
    }

    /// Whose hash is right, and which no server loads.
    async fn damaged(&self) {
        self.cli(&["SAVE"]).await;
        let mut rdb = std::fs::read(self.files().join("dump.rdb")).unwrap();
        *rdb.last_mut().unwrap() ^= 1;
        self.by_hand(&format!("far-{PLAIN}.rdb"), &rdb);
        let report = self.run(&self.site, PLAIN, RunOptions::new()).await;
        self.untouched(&report, "redis.damaged").await;
        *rdb.last_mut().unwrap() ^= 1;
        self.by_hand(&format!("far-{PLAIN}.rdb"), &rdb);
    }

    /// The container beside the volume is of an image without the server.
    async fn without_a_server(&self) {
        let nodes = self.ground.nodes().replace(
            "[nodes.worker1]",
            "[nodes.worker1]\nimage = 'restore-example/tools:1'",
        );
        let site = Self::site(self.ground, &nodes, "rdb").await;
        let report = self.run(&site, PLAIN, RunOptions::new()).await;
        self.untouched(&report, "redis.no_server_binary").await;
        let hint = report.failure.and_then(|failure| failure.hint).unwrap();
        assert!(hint.contains("[nodes]"), "{hint}");
    }

    /// While a server loads the staged data there.
    async fn cancelled(&self) {
        let cancel = CancellationToken::new();
        let seen = cancel.clone();
        let options = RunOptions::new()
            .events(Arc::new(move |event: &Event| {
                if matches!(event, Event::Progress { subject, action, .. } if subject == NAME && action == "load") {
                    seen.cancel();
                }
            }))
            .cancelled_by(cancel.clone());
        let report = self.run(&self.site, PLAIN, options).await;
        assert!(cancel.is_cancelled());
        self.untouched(&report, "run.interrupted").await;
    }

    async fn end(self) {
        let swarm = &self.ground.swarm;
        swarm.docker(&["service", "rm", "far_redis"]);
        std::fs::remove_dir_all(swarm.backup_folder(PLAIN)).unwrap();
        let socket = format!("unix://{}", swarm.worker_socket(1).display());
        ground::patiently(async || {
            let mut command = std::process::Command::new("docker");
            command.args(["--host", &socket, "volume", "rm", "far_cache"]);
            command.output().unwrap().status.success()
        })
        .await;
    }
}
