//! Stacks are deployed, and described as they were again.

use std::path::PathBuf;

use super::engine::{Engine, IMAGE, until};

fn compose(engine: &Engine, name: &str, services: &str, more: &str) -> PathBuf {
    let folder = engine.folder("stacks");
    std::fs::write(folder.join("setting"), "x").unwrap();
    let path = folder.join(name);
    let text = format!(
        "version: \"3.8\"\nservices:\n{services}\nnetworks:\n  outside: {{external: true, name: host}}\n{more}\n"
    );
    std::fs::write(&path, text.replace("IMAGE", IMAGE)).unwrap();
    path
}

const SERVICE: &str = "
    image: IMAGE
    command: [sh, -c, \"trap 'exit 0' TERM; sleep 100000 & wait\"]
    networks: [outside]
    stop_grace_period: 1s
    deploy: {replicas: COUNT, endpoint_mode: dnsrr, restart_policy: {delay: 200ms}, update_config: {monitor: 100ms}}
";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deployment_changed_and_added_is_taken_back() {
    let engine = Engine::shared();
    let platform = engine.platform("");
    let stacks = platform.stacks().unwrap();
    let found = stacks.inspect("laden").await.unwrap();
    assert!(
        found.iter().any(|it| it.code == "swarm.no_stack"),
        "{found:?}"
    );
    let service = |name: &str, count: &str| format!("  {name}:{}", SERVICE.replace("COUNT", count));
    let first = compose(&engine, "first.yml", &service("kept", "1"), "");
    let none = stacks.snapshot("laden").await.unwrap();
    stacks.deploy("laden", &[first], &none).await.unwrap();
    assert_eq!(engine.containers("laden_kept").len(), 1);
    assert_eq!(stacks.inspect("laden").await.unwrap(), []);

    // Changed by hand since: no file says so.
    engine.docker(&[
        "service",
        "update",
        "--detach",
        "--env-add",
        "BY_HAND=1",
        "laden_kept",
    ]);
    let spec = || engine.docker(&["service", "inspect", "-f", "{{json .Spec}}", "laden_kept"]);
    until("it is changed", || spec().contains("BY_HAND"));
    let before = spec();
    let things = || {
        // Other tests have things of their own on this engine.
        let own = "label=com.docker.stack.namespace=laden";
        let list = |kind| engine.docker(&[kind, "ls", "-q", "--filter", own]);
        ["service", "network", "config"].map(list)
    };
    let all = things();
    let snapshot = stacks.snapshot("laden").await.unwrap();

    let more = "  added:\n    driver: overlay\nconfigs:\n  setting: {file: setting}";
    let services = service("kept", "2")
        + &service("added", "1").replace("[outside]", "[added]")
        + "    configs: [setting]\n";
    let second = compose(&engine, "second.yml", &services, more);
    // As far as one comes that is killed: then what is there now says nothing of before.
    engine.docker(&[
        "stack",
        "deploy",
        "--resolve-image",
        "never",
        "-c",
        second.to_str().unwrap(),
        "laden",
    ]);
    stacks.deploy("laden", &[second], &snapshot).await.unwrap();
    // Trap 14: as many as before, whatever the files say.
    until("as many run", || engine.containers("laden_kept").len() == 1);
    assert_eq!(engine.containers("laden_added").len(), 1);
    assert!(!spec().contains("BY_HAND"), "the files say what runs");

    for _ in 0..2 {
        stacks.put_back("laden", &snapshot).await.unwrap();
        assert_eq!(spec(), before);
        assert_eq!(things(), all);
        assert_eq!(engine.containers("laden_kept").len(), 1);
        assert_eq!(engine.containers("laden_added").len(), 0);
    }

    // One that fails says why in the program's words, or the service's.
    let broken = compose(
        &engine,
        "broken.yml",
        "  kept: {image: IMAGE, no-such-key: 1}",
        "",
    );
    let error = stacks.deploy("laden", &[broken], &snapshot).await;
    let error = error.unwrap_err();
    assert!(error.message().contains("no-such-key"), "{error}");
    let dying = service("kept", "1").replace(
        "trap 'exit 0' TERM; sleep 100000 & wait",
        "echo no disk; exit 3",
    );
    // Long enough for the engine to notice, however busy it is.
    let dying = dying.replace("monitor: 100ms", "monitor: 5s");
    let dying = compose(&engine, "dying.yml", &dying, "");
    let error = stacks.deploy("laden", &[dying], &snapshot).await;
    let error = error.unwrap_err();
    assert!(error.message().contains("laden_kept"), "{error}");
    stacks.put_back("laden", &snapshot).await.unwrap();
    assert_eq!(spec(), before);
    engine.docker(&["stack", "rm", "laden"]);
}

/// What did not run before is described as it was, and nothing waits for it to run.
#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_run_before_is_not_waited_for() {
    let engine = Engine::shared();
    // Long enough to be seen if it were waited for.
    let platform = engine.platform("[services.krank_bad]\nstart_timeout = '40s'\n");
    let stacks = platform.stacks().unwrap();
    let good = SERVICE.replace("COUNT", "1");
    let bad = good.replace("trap 'exit 0' TERM; sleep 100000 & wait", "exit 3");
    let both = |bad: &str| format!("  good:{good}\n  bad:{bad}");
    let first = compose(&engine, "krank.yml", &both(&bad), "");
    engine.docker(&[
        "stack",
        "deploy",
        "--resolve-image",
        "never",
        "-c",
        first.to_str().unwrap(),
        "krank",
    ]);
    until("one runs", || engine.containers("krank_good").len() == 1);
    let tasks = [
        "service",
        "ps",
        "--format",
        "{{.CurrentState}}",
        "krank_bad",
    ];
    until("one fails", || engine.docker(&tasks).contains("Failed"));
    let spec = || {
        let inspect = ["service", "inspect", "-f", "{{json .Spec}}"];
        engine.docker(&[&inspect[..], &["krank_good", "krank_bad"]].concat())
    };
    let before = spec();
    let snapshot = stacks.snapshot("krank").await.unwrap();
    assert_eq!(
        snapshot["settled"],
        serde_json::json!(["krank_good"]),
        "{snapshot}"
    );
    let second = compose(&engine, "gesund.yml", &both(&good), "");
    stacks.deploy("krank", &[second], &snapshot).await.unwrap();
    assert_eq!(engine.containers("krank_bad").len(), 1);
    let begun = std::time::Instant::now();
    stacks.put_back("krank", &snapshot).await.unwrap();
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    assert_eq!(spec(), before);
    engine.docker(&["stack", "rm", "krank"]);
}
