//! Stopping and starting containers as they are.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use restore_core::Result;
use restore_core::conformance::{self, PlatformUnderTest};
use restore_core::platform::Platform;

use super::project::{OBEYS, Project, shared, site};
use crate::swarm::engine::{Engine, IMAGE, until};

const WEB: &str = "[services.web]\n";

/// The service `web` of a project, with two containers.
struct Web {
    engine: Arc<Engine>,
    name: &'static str,
}

#[async_trait]
impl PlatformUnderTest for Web {
    async fn platform(&self) -> Result<Arc<dyn Platform>> {
        Ok(site(&self.engine, self.name, WEB).platform().clone())
    }

    fn service(&self) -> String {
        "web".to_owned()
    }

    fn most_replicas(&self) -> u32 {
        2
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_contract_of_platforms() {
    let engine = shared();
    let project = Project::new(&engine, "contract");
    for number in [1, 2] {
        let script = format!("echo up; echo and; echo running; {OBEYS}");
        project.run("web", number, &[], &script);
    }
    let under_test = Web {
        engine: engine.clone(),
        name: "contract",
    };
    conformance::platform(Arc::new(under_test)).await.unwrap();
}

/// Those that ran run again, by another process too; none is made anew.
#[tokio::test(flavor = "multi_thread")]
async fn what_had_ended_by_itself_stays_so() {
    let engine = shared();
    let project = Project::new(&engine, "ended");
    let first = project.run("web", 1, &["--restart", "on-failure:3"], OBEYS);
    let ended = project.run("web", 2, &[], "exit 0");
    let third = project.run("web", 3, &["--restart", "always"], OBEYS);
    let other = project.run("web_two", 1, &[], OBEYS);
    // Made for one command: no part of the service, which is told by a label.
    let one_off = ["--label", "com.docker.compose.oneoff=True"];
    let one_off = project.run("web", 9, &one_off, OBEYS);
    until("it has ended", || !project.running().contains(&ended));
    let before: Vec<_> = [&first, &ended, &third]
        .map(|id| project.described(id))
        .into();
    let state = project.platform(WEB).service("web").await.unwrap();
    assert_eq!((state.desired, state.running), (2, 2), "{state:?}");

    project.platform(WEB).scale("web", 0).await.unwrap();
    let mut others = vec![other, one_off];
    others.sort();
    let mut left = project.running();
    left.sort();
    assert_eq!(left, others);
    assert_eq!(project.policy(&first), "unless-stopped");
    let state = project.platform(WEB).service("web").await.unwrap();
    assert_eq!((state.desired, state.running), (0, 0), "{state:?}");
    // A stop that is asked for twice forgets nothing.
    project.platform(WEB).scale("web", 0).await.unwrap();

    project.platform(WEB).scale("web", 2).await.unwrap();
    let running = project.running();
    assert!(running.contains(&first) && running.contains(&third));
    assert!(!running.contains(&ended));
    let after: Vec<_> = [&first, &ended, &third]
        .map(|id| project.described(id))
        .into();
    assert_eq!(after, before);
    assert_eq!(project.records(), 0);

    // Where more are asked for than ran, the others follow; where there are none, it is said.
    project.platform(WEB).scale("web", 1).await.unwrap();
    assert!(project.running().contains(&first) && !project.running().contains(&third));
    let error = project.platform(WEB).scale("web", 4).await.unwrap_err();
    assert_eq!(error.code(), "compose.too_few_containers", "{error}");
    assert!(error.message().contains("ended-web-3"), "{error}");
}

/// Whatever a stop or a start has come to when its process dies: the next one finishes it, and what
/// ran runs as it was described.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_is_broken_off_is_finished_by_the_next() {
    let engine = shared();
    let project = Project::new(&engine, "broken-off");
    let first = project.run("web", 1, &["--restart", "always"], OBEYS);
    let ended = project.run("web", 2, &[], "exit 0");
    let third = project.run("web", 3, &["--restart", "on-failure"], OBEYS);
    until("it has ended", || !project.running().contains(&ended));
    let before: Vec<_> = [&first, &ended, &third]
        .map(|id| project.described(id))
        .into();
    for after in [2, 5, 10, 20, 40, 80, 160, 320] {
        let after = Duration::from_millis(after);
        let stop = async { project.platform(WEB).scale("web", 0).await };
        let _ = tokio::time::timeout(after, stop).await;
        if after.as_millis() > 30 {
            project.platform(WEB).scale("web", 0).await.unwrap();
        }
        let start = async { project.platform(WEB).scale("web", 2).await };
        let _ = tokio::time::timeout(after, start).await;
        project.platform(WEB).scale("web", 2).await.unwrap();
        assert_eq!(
            project.running(),
            [first.clone(), third.clone()],
            "{after:?}"
        );
        let now: Vec<_> = [&first, &ended, &third]
            .map(|id| project.described(id))
            .into();
        assert_eq!(now, before, "{after:?}");
        assert_eq!(project.records(), 0, "{after:?}");
    }
}

/// The engine starts what has such a policy when it starts itself, stopped or not.
#[tokio::test(flavor = "multi_thread")]
async fn no_restart_policy_brings_back_what_must_be_down() {
    let engine = Engine::without_swarm();
    let project = Project::new(&engine, "policies");
    let policies = ["always", "on-failure", "unless-stopped", "no"];
    let mut ids = Vec::new();
    for (at, policy) in policies.iter().enumerate() {
        let number = u32::try_from(at).unwrap() + 1;
        // Killed by the signal: to an engine that is a failure.
        ids.push(project.run("web", number, &["--restart", policy], "exec sleep 1000"));
    }
    let control = project.run("control", 1, &["--restart", "always"], OBEYS);
    let sections = "[services.web]\nstop_timeout = '1s'\n";
    let slow: Vec<String> = ids.clone();
    project
        .platform("[services.web]\n")
        .scale("web", 0)
        .await
        .unwrap();
    assert_eq!(project.running(), [control.as_str()]);
    engine.script(&["restart"]);
    until("the engine starts what it is to start", || {
        project.running().contains(&control)
    });
    assert_eq!(project.running(), [control.as_str()]);
    project.platform(sections).scale("web", 4).await.unwrap();
    for (id, policy) in slow.iter().zip(policies) {
        assert_eq!(project.policy(id), policy);
        assert!(project.running().contains(id), "{policy}");
    }
    assert_eq!(project.records(), 0);
}

/// What was down before is none of those that are stopped, and must not come back for all that.
#[tokio::test(flavor = "multi_thread")]
async fn no_restart_policy_brings_back_what_was_down_before() {
    let engine = Engine::without_swarm();
    let project = Project::new(&engine, "downed");
    let up = project.run("web", 1, &["--restart", "always"], OBEYS);
    let mut all = vec![up.clone()];
    for (at, policy) in ["always", "on-failure", "unless-stopped", "no"]
        .iter()
        .enumerate()
    {
        let number = u32::try_from(at).unwrap() + 2;
        // Killed by the signal: to an engine that is a failure.
        let id = project.run("web", number, &["--restart", policy], "exec sleep 1000");
        engine.docker(&["stop", "-t", "0", &id]);
        all.push(id);
    }
    all.push(project.create("web", 6, &["--restart", "always"], &[IMAGE, "true"]));
    let control = project.run("control", 1, &["--restart", "always"], OBEYS);
    engine.docker(&["stop", "-t", "0", &control]);
    let described = || -> Vec<_> { all.iter().map(|id| project.described(id)).collect() };
    let before = described();

    project.platform(WEB).scale("web", 0).await.unwrap();
    // Asked for twice, as after a kill, it forgets nothing.
    project.platform(WEB).scale("web", 0).await.unwrap();
    assert_eq!(project.running(), Vec::<String>::new());
    engine.script(&["restart"]);
    until("the engine starts what it is to start", || {
        project.running().contains(&control)
    });
    assert_eq!(project.running(), [control.as_str()]);

    project.platform(WEB).scale("web", 1).await.unwrap();
    assert_eq!(project.running(), [control.as_str(), up.as_str()]);
    assert_eq!(described(), before);
    assert_eq!(project.records(), 0);
}

/// Stopped is what has no process any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_has_stopped_when_its_processes_have_ended() {
    let engine = shared();
    let project = Project::new(&engine, "slow");
    let out = tempfile::tempdir().unwrap();
    let mount = format!("{}:/out", out.path().display());
    let script = "trap 'sleep 2; touch /out/$(cat /proc/sys/kernel/random/uuid); exit 0' TERM; while :; do sleep 0.1; done";
    for number in [1, 2] {
        project.run("web", number, &["-v", &mount], script);
    }
    let platform = project.platform(WEB);
    platform.scale("web", 0).await.unwrap();
    assert_eq!(project.running(), Vec::<String>::new());
    assert_eq!(
        std::fs::read_dir(out.path()).unwrap().count(),
        2,
        "both came to their end"
    );
    let state = platform.service("web").await.unwrap();
    assert_eq!(state.killed, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_has_its_own_time_to_end() {
    let engine = shared();
    let project = Project::new(&engine, "deaf");
    let deaf = "trap '' TERM; while :; do sleep 0.1; done";
    project.run("web", 1, &["--stop-timeout", "1"], deaf);
    let platform = project.platform(WEB);
    platform.scale("web", 0).await.unwrap();
    let state = platform.service("web").await.unwrap();
    let killed = state.killed.unwrap();
    assert!(
        killed.starts_with("deaf-web-1 did not end within 1s"),
        "{killed}"
    );
    assert_eq!(state.detail, format!("killed: {killed}"));
    platform.scale("web", 1).await.unwrap();
    // Where the site knows that it needs longer, it gets longer.
    let patient = "trap 'sleep 3; exit 0' TERM; while :; do sleep 0.1; done";
    project.run("patient", 1, &["--stop-timeout", "1"], patient);
    let platform = project.platform("[services.patient]\nstop_timeout = '20s'\n");
    platform.scale("patient", 0).await.unwrap();
    let state = platform.service("patient").await.unwrap();
    assert_eq!(state.detail, "no container runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_says_why() {
    let engine = shared();
    let project = Project::new(&engine, "broken");
    project.run("web", 1, &[], "echo the disk is on fire; exit 7");
    let again = ["--restart", "always"];
    let id = project.run("again", 1, &again, "echo all is well; sleep 0.2; exit 3");
    engine.docker(&["stop", "-t", "1", &id]);
    let sick = [
        "--health-cmd",
        "false",
        "--health-interval",
        "200ms",
        "--health-retries",
        "1000",
    ];
    let id = project.run("sick", 1, &sick, OBEYS);
    engine.docker(&["stop", "-t", "1", &id]);
    let platform = project
        .platform("[services.web]\n[services.again]\n[services.sick]\nstart_timeout = '3s'\n");
    for (service, words) in [
        (
            "web",
            vec![
                "the disk is on fire",
                "exit code 7",
                "web of the Compose project broken",
            ],
        ),
        ("again", vec!["all is well", "0 of 1 containers run"]),
        ("sick", vec!["broken-sick-1 is starting", "it said nothing"]),
    ] {
        let begun = std::time::Instant::now();
        let error = platform.scale(service, 1).await.unwrap_err();
        assert_eq!(error.code(), "compose.not_ready", "{error}");
        for words in words {
            assert!(error.message().contains(words), "{words}: {error}");
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
        platform.scale(service, 0).await.unwrap();
    }
    assert_eq!(project.running(), Vec::<String>::new());
}

/// One with a health check is up once it is well.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_becomes_healthy_is_waited_for() {
    let engine = shared();
    let project = Project::new(&engine, "healthy");
    let health = [
        "--health-cmd",
        "test -e /tmp/ok",
        "--health-interval",
        "100ms",
        "--health-retries",
        "1000",
    ];
    // What it made when it ran before is still there when it starts.
    let script =
        format!("trap 'exit 0' TERM; rm -f /tmp/ok; sleep 1 & wait; touch /tmp/ok; {OBEYS}");
    let id = project.run("web", 1, &health, &script);
    let platform = project.platform(WEB);
    platform.scale("web", 0).await.unwrap();
    let begun = std::time::Instant::now();
    platform.scale("web", 1).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let status = ["inspect", "-f", "{{.State.Health.Status}}", &id];
    assert_eq!(engine.docker(&status), "healthy");
}

/// What the engine itself cannot start, such as a port that somebody else has.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_started_says_why() {
    let engine = shared();
    let project = Project::new(&engine, "lost");
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("type=bind,source={},target=/data", folder.path().display());
    let id = project.run("web", 1, &["--mount", &mount], OBEYS);
    engine.docker(&["stop", "-t", "1", &id]);
    drop(folder);
    let error = project.platform(WEB).scale("web", 1).await.unwrap_err();
    assert_eq!(error.code(), "compose.not_started", "{error}");
    assert!(error.message().contains("bind source path"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_container_is_refused() {
    let engine = shared();
    let project = Project::new(&engine, "paused");
    let id = project.run("web", 1, &[], OBEYS);
    engine.docker(&["pause", &id]);
    let platform = project.platform(WEB);
    let found = platform.inspect(&["web".to_owned()]).await.unwrap();
    let codes: Vec<&str> = found.iter().map(|it| it.code.as_str()).collect();
    assert_eq!(codes, ["compose.paused"]);
    engine.docker(&["unpause", &id]);
    assert_eq!(platform.inspect(&["web".to_owned()]).await.unwrap(), []);
}
