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
    deploy: {replicas: COUNT, endpoint_mode: dnsrr, restart_policy: {delay: 200ms}, update_config: {monitor: 100ms}, rollback_config: {monitor: 100ms}}
";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deployment_changed_and_added_is_taken_back() {
    let engine = Engine::shared();
    let platform = engine.platform("");
    let stacks = platform.stacks().unwrap();
    assert!(stacks.is_absent("laden").await.unwrap());
    let service = |name: &str, count: &str| format!("  {name}:{}", SERVICE.replace("COUNT", count));
    let first = compose(&engine, "first.yml", &service("kept", "1"), "");
    let none = stacks.snapshot("laden").await.unwrap();
    stacks.deploy("laden", &[first], &none).await.unwrap();
    assert_eq!(engine.containers("laden_kept").len(), 1);
    assert_eq!(stacks.inspect("laden").await.unwrap(), []);
    assert!(!stacks.is_absent("laden").await.unwrap());

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
    // From a copy elsewhere: what the file names relative to itself is found all the same.
    let held = engine.folder("held").join("copy.yml");
    std::fs::copy(&second, &held).unwrap();
    std::fs::write(&second, "services: nothing\n").unwrap();
    stacks
        .deploy_held("laden", &[second], &[held], &snapshot)
        .await
        .unwrap();
    // As many as before, whatever the files say.
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
    let updated = "update_config: {monitor: 100ms}";
    let pausing = dying.replace(updated, "update_config: {monitor: 5s}");
    let pausing = compose(&engine, "pausing.yml", &pausing, "");
    let error = stacks.deploy("laden", &[pausing], &snapshot).await;
    let error = error.unwrap_err();
    assert!(error.message().contains("laden_kept"), "{error}");
    stacks.put_back("laden", &snapshot).await.unwrap();
    assert_eq!(spec(), before);

    // Where the swarm itself goes back to the old description, what runs is not what was deployed.
    let turning = "update_config: {monitor: 5s, failure_action: rollback}";
    let turning = dying.replace(updated, turning);
    let turning = compose(&engine, "turning.yml", &turning, "");
    let error = stacks.deploy("laden", &[turning], &snapshot).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), "swarm.rolled_back", "{error}");
    for words in ["the deployment of laden_kept", "exit"] {
        assert!(error.message().contains(words), "{words}: {error}");
    }
    stacks.put_back("laden", &snapshot).await.unwrap();
    assert_eq!(spec(), before);
    // That it did so stays written in the service, and is nothing against what leaves that alone.
    let beside = compose(&engine, "beside.yml", &service("beside", "1"), "");
    stacks.deploy("laden", &[beside], &snapshot).await.unwrap();
    stacks.put_back("laden", &snapshot).await.unwrap();
    assert_eq!(spec(), before);

    // A config has one content for ever.
    let other = engine.folder("stacks").join("other");
    std::fs::write(&other, "y").unwrap();
    let other = other.to_str().unwrap();
    let label = "com.docker.stack.namespace=laden";
    engine.docker(&["config", "create", "-l", label, "laden_setting", other]);
    let (all, snapshot) = (things(), stacks.snapshot("laden").await.unwrap());
    let second = compose(&engine, "second.yml", &services, more);
    let error = stacks.deploy("laden", &[second], &snapshot).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), "swarm.content_differs", "{error}");
    assert!(error.message().contains("config laden_setting"), "{error}");
    let hint = error.hint_text().unwrap();
    assert!(hint.contains("another name"), "{hint}");
    stacks.put_back("laden", &snapshot).await.unwrap();
    assert_eq!((spec(), things()), (before, all));
    engine.docker(&["stack", "rm", "laden"]);
}

/// A service that does its work and ends has been deployed once it has done it.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_runs_to_an_end_is_deployed_when_it_has() {
    let engine = Engine::shared();
    let platform = engine.platform("");
    let stacks = platform.stacks().unwrap();
    let stays = SERVICE.replace("COUNT", "1");
    let migrate = |script: &str| {
        // Its end comes while the swarm watches the update, which it stops for that.
        let service = stays
            .replace("trap 'exit 0' TERM; sleep 100000 & wait", script)
            .replace("{delay: 200ms}", "{condition: on-failure, delay: 200ms}")
            .replace(
                "update_config: {monitor: 100ms}",
                "update_config: {monitor: 5s}",
            );
        let services = format!("  stays:{stays}\n  migrate:{service}");
        compose(&engine, "einmal.yml", &services, "")
    };
    let begun = std::time::Instant::now();
    let none = stacks.snapshot("einmal").await.unwrap();
    let files = [migrate("exit 0")];
    stacks.deploy("einmal", &files, &none).await.unwrap();
    let snapshot = stacks.snapshot("einmal").await.unwrap();
    let mut settled: Vec<&str> = snapshot["settled"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it.as_str())
        .collect();
    settled.sort_unstable();
    assert_eq!(settled, ["einmal_migrate", "einmal_stays"]);
    // Again, and with other work to do.
    for script in ["exit 0", "true; exit 0"] {
        let files = [migrate(script)];
        stacks.deploy("einmal", &files, &snapshot).await.unwrap();
    }
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    let files = [migrate("echo no such table; exit 3")];
    let error = stacks.deploy("einmal", &files, &snapshot).await;
    let error = error.unwrap_err();
    assert!(error.message().contains("einmal_migrate"), "{error}");
    stacks.put_back("einmal", &snapshot).await.unwrap();
    let state = ["service", "ps", "--format", "{{.CurrentState}}"];
    let state = engine.docker(&[&state[..], &["einmal_migrate"]].concat());
    assert!(state.starts_with("Complete "), "{state}");
    engine.docker(&["stack", "rm", "einmal"]);
}

/// A volume whose name only the deployment can fill in is in no plan.
#[tokio::test(flavor = "multi_thread")]
async fn volumes_that_a_deployment_has_made_are_told() {
    let engine = Engine::shared();
    let platform = engine.platform("");
    let stacks = platform.stacks().unwrap();
    let service = SERVICE.replace("COUNT", "1") + "    volumes: [\"data:/data\", \"old:/old\"]\n";
    let volumes = "volumes:\n  data: {name: \"${PREFIX:-found}_data\"}\n  old: {name: found_old}";
    let file = compose(&engine, "volumes.yml", &format!("  web:{service}"), volumes);
    let label = "com.docker.stack.namespace=volumes";
    engine.docker(&["volume", "create", "--label", label, "found_old"]);
    let before = stacks.snapshot("volumes").await.unwrap();
    stacks.deploy("volumes", &[file], &before).await.unwrap();
    stacks.put_back("volumes", &before).await.unwrap();
    let left = stacks.left("volumes", &before).await.unwrap();
    assert_eq!(left, ["volume found_data"]);
    // Of a snapshot of an earlier version nothing is known.
    let mut old = before.clone();
    old.as_object_mut().unwrap().remove("volumes");
    assert_eq!(stacks.left("volumes", &old).await.unwrap(), [""; 0]);
    until("no container uses them", || {
        let all = ["volume", "rm", "found_data", "found_old"];
        engine.client(&all).output().unwrap().status.success()
            || engine
                .docker(&["volume", "ls", "-q", "--filter", "name=found_"])
                .is_empty()
    });
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
