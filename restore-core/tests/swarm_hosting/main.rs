//! The runbook's platform on a real swarm: restored, taken back, killed in the middle.
#![expect(clippy::unwrap_used, reason = "tests")]

mod checks;
mod ground;
#[path = "../support/sshd.rs"]
#[expect(dead_code, reason = "shared")]
mod sshd;
mod stack;
mod traffic;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ground::Ground;
use restore_core::run::{Boundary, Outcome};
use restore_core::{
    BackupRequest, ErrorKind, PlanRequest, RecoveryPoint, RecoveryTarget, RunOptions,
};
use restore_testing::assert_same;

/// One stack for all of this: making one takes longer than restoring it.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_platform_is_restored_and_taken_back() {
    let mut ground = Ground::whole(&[]);
    checks::all_pass(&ground).await;
    traffic::users_meet_the_page_or_the_platform(&ground).await;
    ground.damage();
    everything(&ground).await;
    parts(&ground).await;
    checks::fail_by_name(&ground).await;
    a_failed_check(&ground).await;
    traffic::the_page_is_everywhere(&ground).await;
    stack::redeployed_and_taken_back(&ground).await;
    point_in_time(&ground).await;
    another_host(&ground).await;
    ours(&ground).await;
}

/// A backup that the library makes of the platform, images and all, brings it back; then the
/// platform is as it was before the damage.
async fn ours(ground: &Ground) {
    let site = ground.site().await;
    ground
        .run(&site, PlanRequest::all(), RunOptions::new())
        .await;
    ground.confirm(&site).await;
    ground.is(&ground.at_backup, "before it is backed up");
    let text = std::fs::read_to_string(ground.swarm.config()).unwrap();
    let archive = "archive = [\"app/docker-image-*.tar.gz\"]\n";
    assert!(text.contains(archive));
    let app = ground.swarm.docker(&[
        "service",
        "inspect",
        "--format",
        "{{.Spec.TaskTemplate.ContainerSpec.Image}}",
        "hosting_app",
    ]);
    let name = app.split('@').next().unwrap();
    let path = ground.swarm.root().join("ours.toml");
    let images = format!("{archive}images = [\"{name}\"]\n");
    std::fs::write(&path, text.replace(archive, &images)).unwrap();
    let site = restore_core::Site::open(&path).await.unwrap();
    let made = site
        .back_up(restore_core::BackupRequest::all(), RunOptions::new())
        .await
        .unwrap();
    assert_eq!(made.missing, [], "{made:?}");
    ground.is(&ground.at_backup, "backed up: nothing is changed by that");
    ground.swarm.damage();
    let report = ground
        .run(&site, PlanRequest::all(), RunOptions::new())
        .await;
    assert_eq!(report.backup, made.id);
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    ground.is(&ground.at_backup, "restored from ours");
    ground.confirm(&site).await;
}

/// By itself: it leaves nginx without its ports.
#[tokio::test(flavor = "multi_thread")]
async fn every_replica_of_nginx_shows_the_page() {
    traffic::every_replica_shows_the_page(&Ground::whole(&[])).await;
}

/// Trap 26 with it: this Redis has an append-only file, beside which a restored RDB counts for nothing.
async fn everything(ground: &Ground) {
    let site = ground.site().await;
    let report = ground
        .run(&site, PlanRequest::all(), RunOptions::new())
        .await;
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    ground.is(&ground.at_backup, "a full restore");
    ground.back(&site, "a full restore").await;
}

/// The database alone, one file, one volume, the images.
async fn parts(ground: &Ground) {
    // What is not restored goes on failing its checks: that need not take long to be seen.
    let site = ground
        .site_but(|text| text.replace("timeout = \"20s\"", "timeout = \"8s\""))
        .await;
    for (only, changed) in [
        ("postgres", &["postgres"][..]),
        ("grafana", &["grafana_data", "grafana"]),
        ("nginx-logs", &["nginx_logs", "nginx-logs"]),
        ("images", &["images", "services"]),
    ] {
        let (options, seen_down) = worker_is_down(ground);
        let report = ground
            .run(&site, PlanRequest::all().only([only]), options)
            .await;
        assert_eq!(
            report.outcome,
            Outcome::Restored,
            "{only}: {}",
            report.to_text()
        );
        if only == "postgres" {
            assert!(seen_down.load(Ordering::Relaxed), "the worker was stopped");
            assert_ne!(ground.containers("hosting_app_worker").len(), 0);
        }
        ground.is_restored_in(changed, only);
        if only == "nginx-logs" {
            traffic::logs_are_written(ground);
        }
        ground.back(&site, only).await;
    }
    let path = "mnt/nfs/nginx/conf.d/limits.conf";
    let file = ground.swarm.root().join(path);
    assert!(!file.exists());
    let report = ground
        .run(&site, PlanRequest::all().paths([path]), RunOptions::new())
        .await;
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert!(file.exists());
    // That file as at the backup, and all else as it was.
    let now = ground.swarm.fingerprint();
    let is_file = |line: &&str| line.starts_with("nginx/conf.d/limits.conf: ");
    let title = |line: &&str| line.starts_with("=== nginx-config ");
    let restored: Vec<&str> = now.lines().filter(is_file).collect();
    assert_eq!(restored.len(), 1, "{now}");
    let backed_up: Vec<&str> = ground.at_backup.lines().filter(is_file).collect();
    assert_eq!(restored, backed_up);
    let rest = |text: &str| {
        let lines = text.lines().filter(|line| !is_file(line) && !title(line));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_same(&rest(&ground.damaged), &rest(&now), "all but one file");
    ground.back(&site, "one file").await;
}

/// Trap 12: the worker writes too, and only `[site] stop` names it; while the database is swapped
/// nothing of it runs.
fn worker_is_down(ground: &Ground) -> (RunOptions, Arc<AtomicBool>) {
    assert_ne!(ground.containers("hosting_app_worker").len(), 0);
    let filter = "label=com.docker.swarm.service.name=hosting_app_worker";
    let list = ground.swarm.client(&["ps", "-q", "--filter", filter]);
    let list = std::sync::Mutex::new(list);
    let seen = Arc::new(AtomicBool::new(false));
    let noted = seen.clone();
    let hook = move |boundary: &Boundary| {
        if boundary.record == "intent cut-over:postgres" {
            let listed = list.lock().unwrap().output().unwrap();
            assert!(listed.status.success());
            assert_eq!(restore_testing::text(&listed), "", "the worker runs");
            noted.store(true, Ordering::Relaxed);
        }
        Ok(())
    };
    (RunOptions::new().boundary(Arc::new(hook)), seen)
}

/// The whole cluster out of an archive on another host, and the one database out of the directory,
/// to a moment between two rows.
async fn point_in_time(ground: &Ground) {
    let site = ground.site().await;
    let request = BackupRequest::all().only(["cluster"]).base(true);
    let made = site.back_up(request, RunOptions::new()).await.unwrap();
    let sql = |sql: &str| ground.sql(sql);
    sql("CREATE TABLE moments (n int)");
    let xid = sql("INSERT INTO moments VALUES (1) RETURNING pg_current_xact_id()");
    let lsn = sql("SELECT pg_create_restore_point('here'), pg_current_wal_lsn()");
    let (_, lsn) = lsn.split_once('|').unwrap();
    let time = sql(
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || ' UTC'",
    );
    sql("INSERT INTO moments VALUES (2)");
    sql("SELECT pg_switch_wal()");
    let archived = || {
        sql(
            "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1) FROM pg_stat_archiver",
        )
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while archived() != "t" {
        assert!(std::time::Instant::now() < deadline, "not archived");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let sshd = sshd::Sshd::start();
    let path = format!("\"{}/srv/wal\"", ground.swarm.root().display());
    let table = format!(
        "{{ kind = \"ssh\", host = \"nas\", path = {path}, config = \"{}\" }}",
        sshd.good_client(sshd.port).display()
    );
    let stored = ground.site_but(|text| text.replace(&path, &table)).await;
    let time: RecoveryTarget = time.parse().unwrap();
    let point = RecoveryTarget::new;
    for (only, site, target, rows) in [
        ("cluster", &stored, time.clone(), "1"),
        ("postgres", &site, time, "1"),
        (
            "cluster",
            &site,
            point(RecoveryPoint::Lsn(lsn.parse().unwrap())),
            "1",
        ),
        (
            "cluster",
            &site,
            point(RecoveryPoint::Xid(xid.parse().unwrap())),
            "1",
        ),
        (
            "cluster",
            &site,
            point(RecoveryPoint::Name("here".to_owned())),
            "1",
        ),
        ("cluster", &site, point(RecoveryPoint::Latest), "1 2"),
    ] {
        let only_to = format!("{only} to {target}");
        let request = PlanRequest::all()
            .only([only])
            .no_safety_backup(true)
            .to(target);
        let backup = site.backup_for("latest", &request).await.unwrap();
        assert_eq!(*backup.id(), made.id);
        let plan = site
            .plan(&backup, request, &RunOptions::new())
            .await
            .unwrap();
        assert!(plan.refusal().is_none(), "{only_to}: {:?}", plan.findings);
        let report = site.run(plan, RunOptions::new()).await.unwrap();
        assert_eq!(
            report.outcome,
            Outcome::Restored,
            "{only_to}: {}",
            report.to_text()
        );
        assert_eq!(
            sql("SELECT string_agg(n::text, ' ') FROM moments"),
            rows,
            "{only_to}"
        );
        let report = site.rollback(None, RunOptions::new()).await.unwrap();
        assert_eq!(
            report.outcome,
            Outcome::RolledBack,
            "{only_to}: {}",
            report.to_text()
        );
        assert_eq!(
            sql("SELECT string_agg(n::text, ' ') FROM moments"),
            "1 2",
            "{only_to}"
        );
        ground.confirm(site).await;
    }
    sql("DROP TABLE moments");
    // What the others go on with is the backup of everything.
    std::fs::remove_dir_all(ground.swarm.backup_folder(made.id.as_str())).unwrap();
}

async fn a_failed_check(ground: &Ground) {
    let check = format!(
        "[checks.picky]\nkind = 'sql'\nservice = 'hosting_postgres'\ndatabase = 'hosting_db'\nuser = 'hosting_user'\n\
         password_file = '{}/secrets/postgres.pass'\ntimeout = '2s'\n\
         query = \"SELECT count(*) = 0 FROM pg_database WHERE datname LIKE 'hosting_db_replaced_%'\"\nexpect = 't'",
        ground.swarm.root().display()
    );
    let site = ground.site_with(&check).await;
    let (options, met) = traffic::kept_out_from_the_checks_on(ground);
    let report = ground.run(&site, PlanRequest::all(), options).await;
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    // The record of the checks, what follows their failure, and the way back's own lifting.
    assert!(met.load(Ordering::Relaxed) > 2);
    assert!(report.to_text().contains("picky"));
    ground.is(&ground.damaged, "undone after a failed check");
    ground.confirm(&site).await;
}

/// Trap 40, for the whole swarm: another manager has a state folder of its own.
async fn another_host(ground: &Ground) {
    let site = ground.site().await;
    let text = std::fs::read_to_string(ground.swarm.config()).unwrap();
    let path = ground.swarm.root().join("elsewhere.toml");
    let state = format!("state = \"{}/state\"", ground.swarm.root().display());
    assert!(text.contains(&state));
    std::fs::write(&path, text.replace(&state, "state = \"elsewhere\"")).unwrap();
    let other = restore_core::Site::open(&path).await.unwrap();
    let backup = other.backup("latest").await.unwrap();
    let plan = other
        .plan(
            &backup,
            PlanRequest::all().only(["scripts"]),
            &RunOptions::new(),
        )
        .await
        .unwrap();
    let refused = Arc::new(AtomicBool::new(false));
    let (seen, handle) = (refused.clone(), tokio::runtime::Handle::current());
    let other = Arc::new(other);
    let (there, hook_plan) = (other.clone(), plan.clone());
    let hook = move |boundary: &Boundary| {
        if boundary.record == "intent stage:postgres" {
            let error = tokio::task::block_in_place(|| {
                handle.block_on(there.run(hook_plan.clone(), RunOptions::new()))
            })
            .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
            assert!(error.message().contains("a run is under way"), "{error}");
            seen.store(true, Ordering::Relaxed);
        }
        Ok(())
    };
    let options = RunOptions::new().boundary(Arc::new(hook));
    let report = ground
        .run(&site, PlanRequest::all().only(["postgres"]), options)
        .await;
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert!(refused.load(Ordering::Relaxed));
    ground.back(&site, "locked").await;

    // A lock of a host that nobody sees any more is taken away by a word only.
    let name = lock_name(ground, &site).await;
    ground.swarm.docker(&[
        "config",
        "create",
        "--label",
        "restore.host=gone",
        "--label",
        "restore.boot=x",
        "--label",
        "restore.space=y",
        "--label",
        "restore.pid=1",
        "--label",
        "restore.start=2",
        "--label",
        "restore.action=run",
        "--label",
        "restore.since=2026-01-01T00:00:00Z",
        "--label",
        "restore.seen=2026-01-01T00:00:00Z",
        &name,
        "/etc/hostname",
    ]);
    let error = other.ensure_idle().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    assert!(error.message().contains("has not been heard of"), "{error}");
    let error = other.run(plan, RunOptions::new()).await.unwrap_err();
    assert!(
        error.hint_text().unwrap().contains("restore unlock"),
        "{error}"
    );
    assert!(other.lock_holder().await.unwrap().unwrap().contains("gone"));
    other.unlock().await.unwrap();
    other.ensure_idle().await.unwrap();
    ground.nothing_left();
}

/// The name that a site gives its lock, seen while it holds it.
async fn lock_name(ground: &Ground, site: &restore_core::Site) -> String {
    let lock = site.platform().lock("test").await.unwrap().unwrap();
    let name = ground
        .swarm
        .docker(&["config", "ls", "--format", "{{.Name}}"]);
    lock.release().await.unwrap();
    name
}

/// Killed at some of the boundaries, on a stack whose Redis has no append-only file.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_it_is_finished_or_taken_back() {
    let ground = Ground::new(&["--appendonly", "no"]);
    let site = ground.site().await;
    let counted = ground.crash("run", "never");
    assert!(counted.contains("outcome restored"), "{counted}");
    ground.is(&ground.at_backup, "without faults");
    ground.back(&site, "without faults").await;
    let boundaries: Vec<&str> = counted
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    let at = |record: &str| {
        boundaries
            .iter()
            .position(|line| line.split_once(' ').unwrap().1 == record)
            .unwrap_or_else(|| panic!("{record}: {boundaries:?}"))
    };
    // Each kind of step once; those of the components themselves are killed on the local platform.
    for (record, action) in [
        ("done stage:images", "rollback"),
        ("intent stop:hosting_app", "resume"),
        ("intent cut-over:images", "rollback"),
        ("done cut-over:images", "resume"),
        ("intent start:hosting_redis", "rollback"),
        ("intent maintenance:off", "rollback"),
    ] {
        let killed = at(record).to_string();
        ground.crash("run", &killed);
        let done = ground.crash(action, "never");
        let what = format!("{action} after a kill at {record}");
        if action == "resume" {
            assert!(done.contains("outcome restored"), "{what}: {done}");
            ground.is(&ground.at_backup, &what);
            ground.back(&site, &what).await;
        } else {
            assert!(done.contains("outcome rolled back"), "{what}: {done}");
            ground.is(&ground.damaged, &what);
            ground.confirm(&site).await;
        }
    }
    the_engine_is_restarted(&ground).await;
}

/// All containers end with the engine, in the middle of the swap; nginx comes back with the page.
async fn the_engine_is_restarted(ground: &Ground) {
    let site = ground.site().await;
    let restart = ground.swarm.engine_restarter();
    let page = traffic::page_is_back(ground);
    let restarted = Arc::new(AtomicBool::new(false));
    let noted = restarted.clone();
    let hook = move |boundary: &Boundary| {
        if boundary.record == "done cut-over:postgres" {
            tokio::task::block_in_place(|| {
                restart();
                page();
            });
            noted.store(true, Ordering::Relaxed);
        }
        Ok(())
    };
    let options = RunOptions::new().boundary(Arc::new(hook));
    let report = ground
        .run(&site, PlanRequest::all().only(["postgres"]), options)
        .await;
    assert!(restarted.load(Ordering::Relaxed));
    let what = "the engine restarted in the middle";
    println!("{what}: {}", report.outcome);
    match report.outcome {
        Outcome::Restored => ground.back(&site, what).await,
        Outcome::Undone => {
            ground.is(&ground.damaged, what);
            ground.confirm(&site).await;
        }
        other => panic!("{what}: {other}: {}", report.to_text()),
    }
}

/// Servers that publish no port are spoken to at their containers' own addresses.
#[tokio::test(flavor = "multi_thread")]
async fn databases_without_ports_are_reached_all_the_same() {
    let ground = Ground::new(&["--closed"]);
    for service in ["hosting_postgres", "hosting_redis"] {
        let ports = "{{json .Endpoint.Ports}}";
        let published = ground
            .swarm
            .docker(&["service", "inspect", "-f", ports, service]);
        assert!(["null", "[]"].contains(&published.as_str()), "{published}");
    }
    let site = ground.site().await;
    let request = PlanRequest::all().only(["postgres", "redis"]);
    let report = ground.run(&site, request, RunOptions::new()).await;
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    ground.is_restored_in(&["postgres", "redis"], "closed");
    ground.back(&site, "closed").await;
}
