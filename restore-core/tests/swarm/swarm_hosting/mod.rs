//! The runbook's platform on a real swarm: restored, taken back, killed in the middle.

mod checks;
mod disaster;
mod ground;
mod init;
mod stack;
mod traffic;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ground::Ground;
use restore_core::backup::BackupId;
use restore_core::run::{Boundary, Outcome};
use restore_core::{
    BackupRequest, ErrorKind, PlanRequest, RecoveryPoint, RecoveryTarget, RunOptions, Site,
};
use restore_testing::{Sample, Share, assert_same, boundaries};

// Each on a platform of its own, with what takes little together: making one takes as long as
// restoring it twice.

/// On a platform that is well. nginx is left without its ports at the end.
#[tokio::test(flavor = "multi_thread")]
async fn users_meet_the_page_or_the_platform() {
    let ground = Ground::whole(&[]);
    init::a_first_configuration_needs_no_edit(&ground).await;
    checks::all_pass(&ground).await;
    traffic::users_meet_the_page_or_the_platform(&ground).await;
    traffic::the_page_is_everywhere(&ground).await;
    another_host(&ground).await;
    traffic::every_replica_shows_the_page(&ground).await;
}

/// From the runbook's backup, and from one of our own that is made before the damage.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_platform_is_restored_and_taken_back() {
    let mut ground = Ground::whole(&[]);
    let (site, made) = backed_up_by_us(&ground).await;
    ground.damage();
    everything(&ground).await;
    images(&ground).await;
    a_failed_check(&ground).await;
    restored_from_ours(&ground, &site, &made).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_platform_is_restored_and_taken_back() {
    let ground = Ground::without_images(&[]);
    checks::fail_by_name(&ground).await;
    parts(&ground).await;
    traffic::a_broken_web_server_serves_on(&ground).await;
    stack::redeployed_and_taken_back(&ground).await;
}

/// From the runbook's backup, and from one of our own.
#[tokio::test(flavor = "multi_thread")]
async fn a_platform_of_which_nothing_is_left_is_brought_back() {
    disaster::everything_is_brought_back_on_a_new_engine().await;
}

/// Servers that publish no port are spoken to at their containers' own addresses.
#[tokio::test(flavor = "multi_thread")]
async fn databases_without_ports_are_recovered_to_a_point_in_time() {
    let ground = Ground::without_images(&["--closed"]);
    without_ports(&ground).await;
    point_in_time(&ground).await;
}

/// A backup that the library makes of the platform, images and all, and the site that makes it.
async fn backed_up_by_us(ground: &Ground) -> (Site, BackupId) {
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
    let site = Site::open(&path).await.unwrap();
    let made = site
        .back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap();
    assert_eq!(made.missing, [], "{made:?}");
    ground.is(&ground.at_backup, "backed up: nothing is changed by that");
    (site, made.id)
}

/// It brings the platform back as it was before the damage.
async fn restored_from_ours(ground: &Ground, site: &Site, made: &BackupId) {
    let report = ground
        .run_of(made.as_str(), site, PlanRequest::all(), RunOptions::new())
        .await;
    assert_eq!(report.backup, *made);
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    ground.is(&ground.at_backup, "restored from ours");
    ground.confirm(site).await;
}

/// This Redis has an append-only file, beside which a restored RDB counts for nothing.
async fn everything(ground: &Ground) {
    let site = ground.site().await;
    let report = ground
        .run(&site, PlanRequest::all(), RunOptions::new())
        .await;
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    ground.is(&ground.at_backup, "a full restore");
    ground.back(&site, "a full restore").await;
}

/// The database alone, one file, one volume.
async fn parts(ground: &Ground) {
    let site = ground.impatient_site().await;
    for (only, changed) in [
        ("postgres", &["postgres"][..]),
        ("grafana", &["grafana_data", "grafana"]),
        ("nginx-logs", &["nginx_logs", "nginx-logs"]),
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

/// The images alone.
async fn images(ground: &Ground) {
    let site = ground.impatient_site().await;
    let request = PlanRequest::all().only(["images"]);
    let report = ground.run(&site, request, RunOptions::new()).await;
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    ground.is_restored_in(&["images", "services"], "images");
    ground.back(&site, "images").await;
}

/// The worker writes too, and only `[site] stop` names it; while the database is swapped
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
    let sshd = restore_testing::sshd::Sshd::start();
    let path = format!("\"{}/srv/wal\"", ground.swarm.root().display());
    let table = format!(
        "{{ kind = \"ssh\", host = \"nas\", path = {path}, config = \"{}\" }}",
        sshd.good_client(sshd.port).display()
    );
    let stored = ground.site_but(|text| text.replace(&path, &table)).await;
    let time: RecoveryTarget = time.parse().unwrap();
    let point = RecoveryTarget::new;
    let all = [
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
    ];
    // Every kind of moment has a test without a swarm.
    let chosen = Sample::of_this_run().choose(
        all,
        |(only, _, target, _)| format!("{only} to {target}"),
        |(only, ..)| (*only).to_owned(),
        0,
        Share::WHOLE,
    );
    for (only, site, target, rows) in chosen {
        let only_to = format!("{only} to {target}");
        let request = PlanRequest::all()
            .only([only])
            .no_safety_backup(true)
            .to(target);
        let backup = site.backup_for("latest", &request).await.unwrap();
        assert_eq!(*backup.id(), made.id);
        let plan = site
            .plan_with(&backup, request, &RunOptions::new())
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

/// For the whole swarm: another manager has a state folder of its own.
async fn another_host(ground: &Ground) {
    let site = ground.site().await;
    let text = std::fs::read_to_string(ground.swarm.config()).unwrap();
    let path = ground.swarm.root().join("elsewhere.toml");
    let state = format!("state = \"{}/state\"", ground.swarm.root().display());
    assert!(text.contains(&state));
    std::fs::write(&path, text.replace(&state, "state = \"elsewhere\"")).unwrap();
    let other = Site::open(&path).await.unwrap();
    let backup = other.backup("latest").await.unwrap();
    let plan = other
        .plan_with(
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
async fn lock_name(ground: &Ground, site: &Site) -> String {
    let lock = site.platform().lock("test").await.unwrap().unwrap();
    let name = ground
        .swarm
        .docker(&["config", "ls", "--format", "{{.Name}}"]);
    lock.release().await.unwrap();
    name
}

/// What comes after a kill.
#[derive(Clone, Copy, Debug)]
enum Then {
    Resume,
    RollBack,
}

/// Boundaries of what smaller platforms have not.
const OWN: [&str; 6] = [
    "done stage:images",
    "intent stop:hosting_app",
    "intent cut-over:images",
    "done cut-over:images",
    "intent start:hosting_redis",
    "intent maintenance:off",
];

/// Killed at two of these boundaries, on a stack whose Redis has no append-only file; at every one
/// of the run, and both gone on with and taken back, where `RESTORE_TEST_EXHAUSTIVE=1` says so.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_it_is_finished_or_taken_back() {
    let ground = Ground::new(&["--appendonly", "no"]);
    let site = ground.site().await;
    let sample = Sample::of_this_run();
    let records = match sample.is_exhaustive() {
        true => every_boundary(&ground, &site).await,
        false => OWN.map(str::to_owned).to_vec(),
    };
    let cases = records
        .iter()
        .flat_map(|record| [Then::Resume, Then::RollBack].map(|then| (record, then)));
    let chosen = sample.choose(
        cases,
        |(record, then)| format!("{then:?} after {record}"),
        |(_, then)| format!("{then:?}"),
        0,
        Share::WHOLE,
    );
    for (record, then) in chosen {
        ground.crash("run", record);
        let what = format!("{then:?} after a kill at {record}");
        println!("{what}");
        match then {
            Then::Resume => {
                let done = ground.crash("resume", "never");
                assert!(done.contains("outcome restored"), "{what}: {done}");
                ground.is(&ground.at_backup, &what);
                ground.back(&site, &what).await;
            }
            Then::RollBack => {
                let done = ground.crash("rollback", "never");
                assert!(done.contains("outcome rolled back"), "{what}: {done}");
                ground.is(&ground.damaged, &what);
                ground.confirm(&site).await;
            }
        }
    }
    the_engine_is_restarted(&ground).await;
}

/// What a run without faults writes down, without its end.
async fn every_boundary(ground: &Ground, site: &Site) -> Vec<String> {
    let counted = ground.crash("run", "never");
    assert!(counted.contains("outcome restored"), "{counted}");
    ground.is(&ground.at_backup, "without faults");
    ground.back(site, "without faults").await;
    let all = boundaries(&counted, &ground.swarm.config());
    let mut records: Vec<String> = all.into_iter().map(|at| at.record).collect();
    for own in OWN {
        assert!(records.iter().any(|it| it == own), "{own}: {counted}");
    }
    records.pop();
    records
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

/// They have none, and are restored all the same.
async fn without_ports(ground: &Ground) {
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
