//! What fails in the middle of a run, and what a run keeps its hands off.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use restore_core::plan::{Phase, Step};
use restore_core::run::{Boundary, Outcome};
use restore_core::{ErrorKind, Finding, PlanRequest, RunOptions, Site};
use restore_testing::Ended as _;

use super::engine::{Engine, IMAGE, Service, until};
use super::small::Small;

/// A whole run of the small platform, and its way back.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_platform_is_restored_and_taken_back() {
    let small = Small::with_health_check(Arc::new(Engine::new())).await;
    there_and_back(&small).await;
    nothing_said(&small).await;
    small.no_secrets();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_task_that_never_becomes_healthy_turns_the_run_back() {
    let small = Small::with_health_check(Arc::new(Engine::new())).await;
    never_healthy(&small).await;
    small.no_secrets();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_restarted_in_the_middle_is_waited_for() {
    let small = Small::new(Arc::new(Engine::new())).await;
    restarted(&small).await;
    small.no_secrets();
}

/// The plan says what is deployed and what costs no downtime. Cron, a service of the host
/// itself, is down while data is swapped. So is whatever else the site names.
async fn there_and_back(small: &Small) {
    let site = small.site().await;
    let backup = site.backup(&small.states[0].0).await.unwrap();
    let plan = site
        .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap();
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let steps: Vec<String> = plan.steps.iter().map(Step::to_string).collect();
    let from = steps
        .iter()
        .position(|it| it == "stop:mini_metrics")
        .unwrap();
    assert_eq!(
        steps[from..],
        [
            "stop:mini_metrics",
            "cut-over:metrics",
            "start:mini_metrics",
            "stop:cron",
            "stop:mini_web",
            "cut-over:data",
            "cut-over:compose",
            "cut-over:crontab",
            "deploy:compose",
            "start:mini_web",
            "start:cron",
            "check:inside",
            "check:outside",
        ]
    );
    assert_eq!(
        plan.phase(&Step::Stop("mini_metrics".into())),
        Phase::Background
    );
    assert_eq!(plan.phase(&Step::Stop("mini_web".into())), Phase::CutOver);
    let deploys = plan.component("compose").unwrap().deploys.clone().unwrap();
    assert_eq!(deploys, "the stack mini from stack.yml");

    let up = small.root().join("cron-is-up");
    // A boundary, whether cron is up, the containers of the website and of what watches it.
    type Seen = (String, bool, usize, usize);
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let (noted, engine, cron) = (seen.clone(), small.engine.clone(), up.clone());
    let hook = move |boundary: &Boundary| {
        if boundary.record.starts_with("intent cut-over:") || boundary.record == "done start:cron" {
            let web = engine.containers("mini_web").len();
            let metrics = engine.containers("mini_metrics").len();
            noted
                .lock()
                .unwrap()
                .push((boundary.record.clone(), cron.exists(), web, metrics));
        }
        Ok(())
    };
    let options = RunOptions::new().boundary(Arc::new(hook));
    let report = site.run(plan, options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    let seen = seen.lock().unwrap().clone();
    let expected = [
        // Users do not see it: they are served meanwhile. What is swapped has nobody running on it.
        ("intent cut-over:metrics", true, 2, 0),
        ("intent cut-over:data", false, 0, 1),
        ("intent cut-over:compose", false, 0, 1),
        ("intent cut-over:crontab", false, 0, 1),
        ("done start:cron", true, 2, 1),
    ];
    let seen: Vec<(&str, bool, usize, usize)> = seen
        .iter()
        .map(|(record, cron, web, metrics)| (record.as_str(), *cron, *web, *metrics))
        .collect();
    assert_eq!(seen, expected);
    small.is(&small.states[0].1, "restored");
    // Shorter than the whole of the swaps: what watches the site is no part of it.
    let stop = report
        .steps
        .iter()
        .find(|it| it.step == "stop:cron")
        .unwrap();
    let start = report
        .steps
        .iter()
        .find(|it| it.step == "start:cron")
        .unwrap();
    let down = start.started.since(stop.started).as_secs_f64() + start.seconds.unwrap();
    let told = report.downtime_seconds.unwrap();
    assert!((told - down).abs() < 0.5, "downtime {told}, but {down}");

    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    small.is(&small.states[1].1, "rolled back");
    small.confirm("rolled back").await;

    // Only what users do not see: no downtime at all, and nothing else is stopped.
    let plan = site
        .plan_with(
            &backup,
            PlanRequest::all().only(["metrics"]),
            &RunOptions::new(),
        )
        .await
        .unwrap();
    assert_eq!(plan.services.len(), 1);
    let report = site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_eq!(report.downtime_seconds, None);
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.downtime_seconds, None);
    small.is(&small.states[1].1, "what watches rolled back");
    small.confirm("what watches rolled back").await;
}

/// A service that has a swapped volume mounted goes on only where somebody says so.
async fn nothing_said(small: &Small) {
    let config = std::fs::read_to_string(small.config()).unwrap();
    let place = small.root().join("other.toml");
    let said = "stops = [\"mini_web\"]\n";
    assert_eq!(config.matches(said).count(), 1);
    for (instead, refused) in [("", true), ("stops = []\n", false), (said, false)] {
        std::fs::write(&place, config.replace(said, instead)).unwrap();
        let site = Site::open(&place).await.unwrap();
        let backup = site.backup(&small.states[0].0).await.unwrap();
        let plan = site
            .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
            .await
            .unwrap();
        let found: Vec<_> = plan
            .findings
            .iter()
            .filter(|it| it.code.starts_with("volume."))
            .collect();
        if !refused {
            assert!(found.is_empty() && plan.refusal().is_none(), "{found:?}");
            continue;
        }
        let [found] = found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(
            (found.code.as_str(), found.subject.as_str()),
            ("volume.in_use", "data")
        );
        assert!(found.message.contains("mini_web"), "{found:?}");
        let hint = found.hint.as_deref().unwrap();
        assert!(
            hint.contains("stops = [\"mini_web\"] in [components.data]"),
            "{hint}"
        );
        assert_eq!(plan.refusal().unwrap().kind(), ErrorKind::Preflight);
    }
    std::fs::remove_file(place).unwrap();
}

/// The restored data lacks what the service's health check looks for.
async fn never_healthy(small: &Small) {
    let data = small.volume("mini_data");
    std::fs::remove_file(data.join("page")).unwrap();
    let site = small.site().await;
    let request = restore_core::backup::BackupRequest::all().only(["data"]);
    let sick = site.back_up(request, RunOptions::new()).await.unwrap().id;
    std::fs::write(data.join("page"), "two").unwrap();
    let backup = site.backup(sick.as_str()).await.unwrap();
    let plan = site
        .plan_with(
            &backup,
            PlanRequest::all().only(["data"]),
            &RunOptions::new(),
        )
        .await
        .unwrap();
    let report = site.run(plan, RunOptions::new()).await.ended().unwrap();
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    let failure = report.failure.as_ref().unwrap();
    assert_eq!(failure.code, "swarm.not_ready", "{failure:?}");
    assert!(failure.message.contains("0 of 2 tasks run"), "{failure:?}");
    assert_eq!(report.error().unwrap().kind(), ErrorKind::Failed);
    small.is(&small.states[1].1, "undone, as it never became healthy");
    small.confirm("undone").await;
}

/// The engine goes away in the middle, in good order and not, and comes back: the run goes on.
async fn restarted(small: &Small) {
    for (record, how, from) in [
        ("done stop:mini_web", &["restart"][..], 1),
        ("done cut-over:compose", &["restart", "--kill"], 0),
    ] {
        let site = small.site().await;
        let backup = site.backup(&small.states[1 - from].0).await.unwrap();
        let plan = site
            .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
            .await
            .unwrap();
        let engine = small.engine.clone();
        let hook = move |boundary: &Boundary| {
            if boundary.record == record {
                tokio::task::block_in_place(|| engine.script(how));
            }
            Ok(())
        };
        let options = RunOptions::new().boundary(Arc::new(hook));
        let report = site.run(plan, options).await.unwrap();
        let text = report.to_text();
        assert_eq!(
            report.outcome,
            Outcome::Restored,
            "{record} {how:?}: {text}"
        );
        small.runs();
        small.is(&small.states[1 - from].1, &format!("{how:?} at {record}"));
        small.confirm("restarted").await;
    }
}

/// An archive of images that does not end, as `gunzip | docker load` would not tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_archive_of_images_changes_nothing() {
    let engine = Engine::shared();
    let root = engine.folder("images");
    let app = root.join("backups/20240215-020000/app");
    std::fs::create_dir_all(&app).unwrap();
    let _service = Service::new(&engine, "imaged", &[], "sleep 1000");
    let saved = root.join("saved.tar");
    engine.docker(&["save", "-o", saved.to_str().unwrap(), IMAGE]);
    let script = format!(
        "gzip -c {0} >{1}/whole.gz && head -c $(($(stat -c %s {1}/whole.gz) * 6 / 10)) {1}/whole.gz >{2}/docker-image-tools.tar.gz \
         && cd {2}/.. && {{ echo '=== Backup Manifest ==='; echo; sum=$(sha256sum app/docker-image-tools.tar.gz); \
         echo \"app/docker-image-tools.tar.gz|1K|${{sum%% *}}\"; echo '=== Summary ==='; echo 'Total Files: 1'; }} >MANIFEST.txt",
        saved.display(),
        root.display(),
        app.display()
    );
    restore_testing::run(std::process::Command::new("sh").args(["-c", &script]));
    let config = format!(
        "[site]\nname = 'images'\nstate = 'state'\nsafety_backup = false\n[stores.main]\nkind = 'directory'\npath = 'backups'\n\
         [platform]\nkind = 'swarm'\nsocket = '{}'\n[services.imaged]\n[components.images]\nkind = 'image'\nstops = ['imaged']\n",
        engine.socket().display()
    );
    std::fs::write(root.join("restore.toml"), config).unwrap();
    let site = Site::open(&root.join("restore.toml")).await.unwrap();
    let images = || {
        engine.docker(&[
            "images",
            "-a",
            "--no-trunc",
            "--format",
            "{{.Repository}}:{{.Tag}} {{.ID}}",
        ])
    };
    until("the service runs", || {
        !engine.containers("imaged").is_empty()
    });
    let (before, containers) = (images(), engine.containers("imaged"));
    let backup = site.backup("latest").await.unwrap();
    let plan = site
        .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap();
    let error = match plan.refusal() {
        Some(refusal) => refusal,
        None => {
            let report = site.run(plan, RunOptions::new()).await.ended().unwrap();
            assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
            assert_eq!(report.downtime_seconds, None);
            report.error().unwrap()
        }
    };
    assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
    assert_eq!(images(), before);
    assert_eq!(engine.containers("imaged"), containers, "it runs as it did");
}

const CROWDED: &str = "
[site]
name = 'crowded'
state = 'state'
safety_backup = false
[stores.main]
kind = 'directory'
path = 'backups'
[platform]
kind = 'swarm'
socket = '@SOCKET@'
[services.crowded]
[services.nowhere]
start_timeout = '3s'
[components.crowd]
kind = 'volume'
volume = 'crowded_data'
archive = ['volumes/crowd-{id}.tar.gz']
stops = ['crowded']
[components.rest]
kind = 'volume'
volume = 'nowhere_data'
archive = ['volumes/rest-{id}.tar.gz']
stops = ['nowhere']
";

/// What had no node to run on before need not have one afterwards: a plan tells of it, and neither the run nor
/// its way back waits.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_place_to_run_is_not_waited_for() {
    let engine = Engine::shared();
    let root = engine.folder("crowded");
    std::fs::create_dir_all(root.join("backups")).unwrap();
    let config = CROWDED.replace("@SOCKET@", engine.socket().to_str().unwrap());
    std::fs::write(root.join("restore.toml"), config).unwrap();
    let page = |volume: &str| engine.volume(volume).join("page");
    for volume in ["crowded_data", "nowhere_data"] {
        engine.docker(&["volume", "create", volume]);
        std::fs::write(page(volume), "one").unwrap();
    }
    let script = "trap 'exit 0' TERM; sleep 1000 & wait";
    let options = ["--replicas", "5", "--replicas-max-per-node", "3"];
    let crowded = Service::new(&engine, "crowded", &options, script);
    let options = ["--replicas", "5", "--constraint", "node.labels.none==yes"];
    let _nowhere = Service::new(&engine, "nowhere", &options, script);
    crowded.runs(3);
    let wanted = |service: &str| {
        let replicas = "{{.Spec.Mode.Replicated.Replicas}}";
        engine.docker(&["service", "inspect", "-f", replicas, service])
    };
    let site = Site::open(&root.join("restore.toml")).await.unwrap();
    let request = restore_core::backup::BackupRequest::all();
    let made = site.back_up(request, RunOptions::new()).await.unwrap();
    let backup = site.backup(made.id.as_str()).await.unwrap();
    std::fs::write(page("crowded_data"), "two").unwrap();
    let plan = async |component: &str| {
        let request = PlanRequest::all().only([component]);
        let options = RunOptions::new();
        site.plan_with(&backup, request, &options).await.unwrap()
    };
    let told = |findings: &[Finding], code: &str| {
        let found = findings.iter().find(|it| it.code == code);
        found.map(|it| format!("{}: {}", it.subject, it.message))
    };
    let is = |content: &str| {
        let there = std::fs::read_to_string(page("crowded_data")).unwrap();
        assert_eq!(there, content);
        assert_eq!(engine.containers("crowded").len(), 3, "{content}");
        assert_eq!(wanted("crowded"), "5", "{content}");
    };

    let begun = Instant::now();
    let short = plan("crowd").await;
    let words = told(&short.findings, "service.short").unwrap();
    assert!(words.starts_with("crowded: 3 of 5 instances"), "{words}");
    let report = site.run(short, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    is("one");
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    assert_eq!(told(&report.findings, "undo.service_down"), None);
    is("two");

    // Of one of which none runs some have to after a restore. The way back is to what was.
    let down = plan("rest").await;
    let words = told(&down.findings, "service.down").unwrap();
    assert!(words.contains("5 instances are wanted"), "{words}");
    let report = site.run(down, RunOptions::new()).await.ended().unwrap();
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    let failure = report.failure.as_ref().unwrap();
    assert_eq!(failure.code, "swarm.not_ready", "{failure:?}");
    assert!(failure.message.contains("no suitable node"), "{failure:?}");
    assert_eq!(told(&report.findings, "undo.service_down"), None);
    assert_eq!(wanted("nowhere"), "5");
    // Far from what a service of the first kind has to start.
    assert!(begun.elapsed() < Duration::from_secs(100), "{begun:?}");
}

/// What keeps its data on a node, and might be started on another, is not stopped at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_might_leave_its_data_is_refused() {
    let engine = Engine::with_workers(1);
    let mount = ["--mount", "type=volume,source=kept,target=/data"];
    let free = Service::new(&engine, "free", &mount, "sleep 1000");
    let pinned = Service::new(
        &engine,
        "pinned",
        &[&mount[..], &["--constraint", "node.role==manager"]].concat(),
        "sleep 1000",
    );
    let platform = engine.platform("[services.free]\n[services.pinned]\n");
    let found = platform.inspect(&[free.name.to_owned()]).await.unwrap();
    let refusal = found.iter().find(|it| it.code == "swarm.not_pinned");
    let refusal = refusal.unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(refusal.severity, restore_core::Severity::Error);
    assert!(
        refusal.message.contains("kept") && refusal.message.contains("worker1"),
        "{refusal:?}"
    );
    let found = platform.inspect(&[pinned.name.to_owned()]).await.unwrap();
    assert!(
        !found.iter().any(|it| it.code == "swarm.not_pinned"),
        "{found:?}"
    );
}
