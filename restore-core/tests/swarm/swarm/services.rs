//! Stopping and starting: counted by containers, not by what the swarm wants.

use std::time::{Duration, Instant};

use restore_core::Severity;

use super::engine::{Engine, Service, until};

/// The swarm's list is empty before the last process is.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_has_stopped_when_its_processes_have_ended() {
    let engine = Engine::shared();
    let out = tempfile::tempdir().unwrap();
    let mount = format!("type=bind,source={},target=/out", out.path().display());
    let slow = "trap 'sleep 2; touch /out/$(cat /proc/sys/kernel/random/uuid); exit 0' TERM; while :; do sleep 0.1; done";
    let service = Service::new(
        &engine,
        "slow",
        &["--replicas", "2", "--mount", &mount],
        slow,
    );
    service.runs(2);
    let platform = engine.platform("[services.slow]\n");
    platform.scale("slow", 0).await.unwrap();
    assert_eq!(engine.containers("slow"), Vec::<String>::new());
    assert_eq!(
        std::fs::read_dir(out.path()).unwrap().count(),
        2,
        "both came to their end"
    );
    let state = platform.service("slow").await.unwrap();
    assert_eq!((state.desired, state.running), (0, 0));
    assert_eq!(state.killed, None);
    // Nothing to do is done at once, and a number is a number.
    platform.scale("slow", 0).await.unwrap();
    platform.scale("slow", 3).await.unwrap();
    assert_eq!(engine.containers("slow").len(), 3);
    assert_eq!(platform.service("slow").await.unwrap().desired, 3);
}

/// The swarm knows at once that a port of the node is free again: it need not be waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_the_node_is_free_when_its_service_has_stopped() {
    let engine = Engine::shared();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port.local_addr().unwrap().port();
    let published = format!("mode=host,target=80,published={port}");
    let service = Service::new(
        &engine,
        "at-a-port",
        &["--publish", &published, "--restart-delay", "3s"],
        "trap 'exit 0' TERM; while :; do sleep 0.1; done",
    );
    service.runs(1);
    let platform = engine.platform("[services.at-a-port]\n");
    for _ in 0..2 {
        platform.scale("at-a-port", 0).await.unwrap();
        assert_eq!(engine.containers("at-a-port"), Vec::<String>::new());
        platform.scale("at-a-port", 1).await.unwrap();
    }
    // Each ended by itself, before anything was to take its place.
    let format = "{{.CurrentState}}";
    let tasks = engine.docker(&[
        "service",
        "ps",
        "-f",
        "desired-state=shutdown",
        "--format",
        format,
        "at-a-port",
    ]);
    let states: Vec<&str> = tasks
        .lines()
        .filter_map(|it| it.split(' ').next())
        .collect();
    assert!(states.iter().all(|it| *it == "Complete"), "{tasks}");
    assert_eq!(engine.containers("at-a-port").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_had_to_be_killed_is_told_of() {
    let engine = Engine::shared();
    let service = Service::new(
        &engine,
        "deaf",
        &["--stop-grace-period", "1s"],
        "trap '' TERM; while :; do sleep 0.1; done",
    );
    service.runs(1);
    let platform = engine.platform("[services.deaf]\nstop_timeout = '30s'\n");
    let found = platform.inspect(&["deaf".to_owned()]).await.unwrap();
    assert!(
        found.iter().any(|f| f.code == "swarm.short_grace"),
        "{found:?}"
    );
    platform.scale("deaf", 0).await.unwrap();
    let state = platform.service("deaf").await.unwrap();
    assert!(state.killed.is_some(), "{}", state.detail);
}

/// Names that contain each other are different names.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_exact() {
    let engine = Engine::shared();
    let app = Service::new(&engine, "exact_app", &[], "sleep 1000");
    let worker = Service::new(&engine, "exact_app_worker", &[], "sleep 1000");
    app.runs(1);
    worker.runs(1);
    let platform = engine.platform(
        "[services.exact_app]\n[services.exact_ap]\n[services.aliased]\nname = 'exact_app_worker'\n[services.by_id]\nname = 'ID'\n"
            .replace("ID", &engine.docker(&["service", "inspect", "-f", "{{.ID}}", "exact_app"]))
            .as_str(),
    );
    platform.scale("exact_app", 0).await.unwrap();
    assert_eq!(engine.containers("exact_app").len(), 0);
    assert_eq!(engine.containers("exact_app_worker").len(), 1);
    assert_eq!(platform.service("aliased").await.unwrap().running, 1);
    for unknown in ["exact_ap", "by_id", "nobody"] {
        let error = platform.service(unknown).await.unwrap_err();
        assert_eq!(error.code(), "platform.no_service", "{unknown}: {error}");
    }
}

/// A global service has no count. No time is waited for, only what is to be.
#[tokio::test(flavor = "multi_thread")]
async fn a_global_service_stops_and_starts() {
    let engine = Engine::shared();
    let service = Service::new(
        &engine,
        "everywhere",
        &[
            "--mode",
            "global",
            "--constraint",
            "node.role==manager",
            "--stop-grace-period",
            "1s",
        ],
        "sleep 1000",
    );
    service.runs(1);
    let platform = engine.platform("[services.everywhere]\n");
    let before = platform.service("everywhere").await.unwrap();
    assert_eq!((before.desired, before.running), (1, 1));
    platform.scale("everywhere", 0).await.unwrap();
    let stopped = platform.service("everywhere").await.unwrap();
    assert_eq!((stopped.desired, stopped.running), (0, 0));
    assert_eq!(engine.containers("everywhere").len(), 0);
    platform.scale("everywhere", 1).await.unwrap();
    assert_eq!(engine.containers("everywhere").len(), 1);
    let constraints = engine.docker(&[
        "service",
        "inspect",
        "-f",
        "{{.Spec.TaskTemplate.Placement.Constraints}}",
        "everywhere",
    ]);
    assert_eq!(constraints, "[node.role==manager]");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_says_why() {
    let engine = Engine::shared();
    let _service = Service::new(
        &engine,
        "broken",
        &["--replicas", "0", "--restart-delay", "100ms"],
        "echo the disk is on fire; exit 7",
    );
    let platform = engine.platform("[services.broken]\nstart_timeout = '40s'\n");
    let error = platform.scale("broken", 1).await.unwrap_err();
    assert_eq!(error.code(), "swarm.not_ready", "{error}");
    for words in ["broken", "the disk is on fire", "7"] {
        assert!(error.message().contains(words), "{words}: {error}");
    }
}

/// To have run for a moment is not to be up.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_stay_up_is_not_up() {
    let engine = Engine::shared();
    let _service = Service::new(
        &engine,
        "shortly",
        &["--replicas", "0", "--restart-delay", "5s"],
        "echo all is well; sleep 0.3; echo no it is not; exit 1",
    );
    let platform = engine.platform("[services.shortly]\nstart_timeout = '4s'\n");
    let error = platform.scale("shortly", 1).await.unwrap_err();
    assert_eq!(error.code(), "swarm.not_ready", "{error}");
    for words in ["the service shortly", "0 of 1 tasks run", "no it is not"] {
        assert!(error.message().contains(words), "{words}: {error}");
    }
}

/// What has ended well and is not to run again has started; what has ended otherwise has not.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_runs_to_an_end_is_up_when_it_has() {
    let engine = Engine::shared();
    let out = tempfile::tempdir().unwrap();
    let mount = format!("type=bind,source={},target=/out", out.path().display());
    let options = ["--restart-condition", "on-failure", "--mount", &mount];
    let script = "touch /out/$(cat /proc/sys/kernel/random/uuid)";
    let _once = Service::new(&engine, "once", &options, script);
    let options = ["--replicas", "0", "--restart-condition", "none"];
    let script = "echo no such table; exit 3";
    let _fails = Service::new(&engine, "fails", &options, script);
    let times = || std::fs::read_dir(out.path()).unwrap().count();
    let states = ["service", "ps", "--format", "{{.CurrentState}}", "once"];
    until("it has ended", || {
        engine.docker(&states).starts_with("Complete ")
    });
    let platform = engine.platform("[services.once]\n[services.fails]\n");
    let found = platform.inspect(&["once".to_owned()]).await.unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|it| (it.code.as_str(), it.severity))
        .collect();
    assert_eq!(found, [("swarm.one_shot", Severity::Warning)]);
    let state = platform.service("once").await.unwrap();
    assert_eq!((state.desired, state.running, state.done), (1, 0, 1));

    let begun = Instant::now();
    platform.scale("once", 1).await.unwrap();
    assert_eq!(times(), 1, "it is done");
    for count in [2, 3] {
        platform.scale("once", 0).await.unwrap();
        platform.scale("once", 1).await.unwrap();
        assert_eq!(times(), count, "it was stopped before");
    }
    let error = platform.scale("fails", 1).await.unwrap_err();
    assert_eq!(error.code(), "swarm.not_ready", "{error}");
    for words in ["fails", "0 of 1 tasks run", "no such table", "3"] {
        assert!(error.message().contains(words), "{words}: {error}");
    }
    // Far from start_timeout.
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_becomes_healthy_is_not_up() {
    let engine = Engine::shared();
    let _service = Service::new(
        &engine,
        "sick",
        &[
            "--replicas",
            "0",
            "--health-cmd",
            "false",
            "--health-interval",
            "200ms",
            "--health-retries",
            "1000",
        ],
        "echo still waiting; sleep 1000",
    );
    let platform = engine.platform("[services.sick]\nstart_timeout = '4s'\n");
    let begun = Instant::now();
    let error = platform.scale("sick", 1).await.unwrap_err();
    assert_eq!(error.code(), "swarm.not_ready", "{error}");
    assert!(error.message().contains("0 of 1 tasks run"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    platform.scale("sick", 0).await.unwrap();
    assert_eq!(engine.containers("sick").len(), 0);
}

/// An update of somebody else in between makes the engine refuse ours, with status 500.
#[tokio::test(flavor = "multi_thread")]
async fn updates_of_others_in_between_are_no_failure() {
    let engine = Engine::shared();
    let service = Service::new(
        &engine,
        "busy",
        &["--stop-grace-period", "1s"],
        "sleep 1000",
    );
    service.runs(1);
    let platform = engine.platform("[services.busy]\n");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn({
        let engine = engine.clone();
        move || {
            let mut updates = 0;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let label = format!("n={updates}");
                let args = [
                    "service",
                    "update",
                    "--detach",
                    "--label-add",
                    &label,
                    "busy",
                ];
                updates += usize::from(engine.client(&args).output().unwrap().status.success());
            }
            updates
        }
    });
    for _ in 0..3 {
        platform.scale("busy", 0).await.unwrap();
        platform.scale("busy", 1).await.unwrap();
    }
    drop(stop);
    assert!(other.join().unwrap() > 3);
    // Labels set by others are kept: what was read is written back whole.
    let labels = engine.docker(&["service", "inspect", "-f", "{{.Spec.Labels}}", "busy"]);
    assert!(labels.contains("n:"), "{labels}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_update_is_told_of() {
    let engine = Engine::shared();
    let service = Service::new(
        &engine,
        "paused",
        &[
            "--update-failure-action",
            "pause",
            "--update-monitor",
            "2s",
            "--restart-delay",
            "100ms",
            "--stop-grace-period",
            "1s",
        ],
        "sleep 1000",
    );
    service.runs(1);
    let platform = engine.platform("[services.paused]\nstart_timeout = '30s'\n");
    assert_eq!(platform.inspect(&["paused".to_owned()]).await.unwrap(), []);
    engine.docker(&["service", "update", "--detach", "--args", "false", "paused"]);
    until("the update is paused", || {
        engine.docker(&[
            "service",
            "inspect",
            "-f",
            "{{with .UpdateStatus}}{{.State}}{{end}}",
            "paused",
        ]) == "paused"
    });
    let found = platform.inspect(&["paused".to_owned()]).await.unwrap();
    let told = found.iter().find(|it| it.code == "swarm.update_paused");
    let told = told.unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(
        (told.subject.as_str(), told.severity),
        ("paused", Severity::Warning)
    );
    // It stops as any other. What starts is as the swarm describes it by now: here it cannot.
    platform.scale("paused", 0).await.unwrap();
    assert_eq!(engine.containers("paused").len(), 0);
    let error = platform.scale("paused", 1).await.unwrap_err();
    assert_eq!(error.code(), "swarm.not_ready", "{error}");
    assert!(error.message().contains("the service paused"), "{error}");
    // With a description that works it comes back.
    platform.scale("paused", 0).await.unwrap();
    engine.docker(&[
        "service",
        "update",
        "--detach",
        "--args",
        "sleep 1000",
        "paused",
    ]);
    platform.scale("paused", 1).await.unwrap();
    assert_eq!(engine.containers("paused").len(), 1);
}

/// What somebody else is changing is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_being_updated_is_refused() {
    let engine = Engine::shared();
    let options = [
        "--replicas",
        "2",
        "--update-delay",
        "60s",
        "--stop-grace-period",
        "1s",
    ];
    let service = Service::new(&engine, "slowly", &options, "sleep 1000");
    service.runs(2);
    let platform = engine.platform("[services.slowly]\n");
    let names = ["slowly".to_owned()];
    assert_eq!(platform.inspect(&names).await.unwrap(), []);
    engine.docker(&["service", "update", "--detach", "--force", "slowly"]);
    until("the update is under way", || {
        let state = [
            "service",
            "inspect",
            "-f",
            "{{with .UpdateStatus}}{{.State}}{{end}}",
            "slowly",
        ];
        engine.docker(&state) == "updating"
    });
    let found = platform.inspect(&names).await.unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|it| (it.code.as_str(), it.subject.as_str(), it.severity))
        .collect();
    assert_eq!(told, [("swarm.updating", "slowly", Severity::Error)]);
}

/// A job that was stopped would begin anew: a plan refuses it, and so does whoever tries.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_refused() {
    let engine = Engine::shared();
    let options = ["--mode", "replicated-job"];
    let _service = Service::new(&engine, "job", &options, "sleep 1000");
    until("the job runs", || engine.containers("job").len() == 1);
    let before = engine.containers("job");
    let platform = engine.platform("[services.job]\n");
    let found = platform.inspect(&["job".to_owned()]).await.unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|it| (it.code.as_str(), it.subject.as_str(), it.severity))
        .collect();
    assert_eq!(told, [("swarm.job", "job", Severity::Error)]);
    for replicas in [0, 1] {
        let error = platform.scale("job", replicas).await.unwrap_err();
        assert_eq!(error.code(), "swarm.job", "{error}");
        assert!(error.message().contains("job"), "{error}");
    }
    assert_eq!(engine.containers("job"), before, "it runs on");
}

/// Who has a volume mounted, as long as it runs: by the site's own name where it has one.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_in_use_while_a_service_that_mounts_it_runs() {
    let engine = Engine::shared();
    let options = [
        "--stop-grace-period",
        "1s",
        "--mount",
        "type=volume,source=used,target=/data",
    ];
    let named = Service::new(&engine, "uses", &options, "sleep 1000");
    let other = Service::new(&engine, "uses_too", &options, "sleep 1000");
    let idle = [&options[..], &["--replicas", "0"]].concat();
    let _idle = Service::new(&engine, "uses_not", &idle, "sleep 1000");
    named.runs(1);
    other.runs(1);
    let platform =
        engine.platform("[services.alias]\nname = 'uses'\n[volumes.data]\nname = 'used'\n");
    let users = async || {
        let mut users = platform.in_use_by("data").await.unwrap();
        users.sort();
        users
    };
    assert_eq!(users().await, ["alias", "uses_too"]);
    platform.scale("alias", 0).await.unwrap();
    assert_eq!(users().await, ["uses_too"]);
    assert_eq!(
        platform.in_use_by("use").await.unwrap(),
        Vec::<String>::new()
    );
}
