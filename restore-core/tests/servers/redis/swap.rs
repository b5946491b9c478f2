//! There and back, never under a running server; and what the check then says.

use deadpool_redis::redis;
use restore_core::platform::Discard;
use restore_testing::redis::{BACKUP, Case, Form, Server, back_up, until};

use super::{assert_same, codes, ends_as_the_backup};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_swapped_under_a_running_server() {
    let case = Case::new(Server::new(&["appendonly yes"]), "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    case.server().fill("old", 5);
    case.stage().await;
    let old = case.server().content();
    let cx = case.cx().await;
    let error = case.component.cut_over(&cx).await.unwrap_err();
    assert_eq!(error.code(), "redis.still_up");
    case.server().restart();
    assert_same(&case.server().content(), &old);
    case.cut_over().await;
    let error = case.component.undo(&cx).await.unwrap_err();
    assert_eq!(error.code(), "redis.still_up");
    // A server that nobody supervises, at work in the same directory, elsewhere.
    case.server().stop();
    let mut stray = std::process::Command::new("redis-server")
        .args(["--port", "0", "--unixsocket", "stray.sock", "--dir"])
        .arg(case.server().data())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let socket = case.server().data().join("stray.sock");
    until("the stray server is up", || socket.exists());
    let error = case.component.undo(&cx).await.unwrap_err();
    stray.kill().unwrap();
    stray.wait().unwrap();
    assert!(error.message().contains("redis-server (process"), "{error}");
    case.component.undo(&cx).await.unwrap();
    case.server().start().unwrap();
    assert_same(&case.server().content(), &old);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_may_be_called_again_and_undo_brings_the_old_data_back() {
    for appendonly in ["appendonly yes", "appendonly no"] {
        let case = Case::new(Server::new(&[appendonly]), "");
        let content = back_up(&case, Form::Rdb);
        case.server().start().unwrap();
        case.server().fill("old", 50);
        let old = case.server().content();
        let cx = case.cx().await;
        let component = &case.component;

        component.undo(&cx).await.unwrap();
        let first = case.stage().await;
        let again = component.stage(&cx).await.unwrap();
        assert_eq!(first.facts, again.facts);
        case.server().stop();
        let mut before = case.server().files();
        before.retain(|path, _| !path.to_str().unwrap().contains(".restore"));
        component.cut_over(&cx).await.unwrap();
        component.cut_over(&cx).await.unwrap();
        assert!(component.replaced_at(&cx).await.unwrap().is_some());
        assert!(component.stage(&cx).await.is_err(), "staging over a swap");
        case.server().start().unwrap();
        case.assert_checked().await;
        assert_same(&case.server().content(), &content);

        case.server().stop();
        component.undo(&cx).await.unwrap();
        component.undo(&cx).await.unwrap();
        assert_eq!(component.replaced_at(&cx).await.unwrap(), None);
        component.discard(&cx, Discard::Staged).await.unwrap();
        component.discard(&cx, Discard::Staged).await.unwrap();
        assert!(case.server().files() == before, "other files than before");
        case.server().start().unwrap();
        assert_same(&case.server().content(), &old);
        assert!(component.cut_over(&cx).await.is_err(), "nothing is staged");

        // And once more to the end: confirmed, nothing of the run is left.
        case.restore().await;
        component.discard(&cx, Discard::Staged).await.unwrap();
        component.discard(&cx, Discard::Replaced).await.unwrap();
        component.discard(&cx, Discard::Replaced).await.unwrap();
        let hidden = case
            .server()
            .files()
            .into_keys()
            .find(|p| p.to_str().unwrap().contains(".restore"));
        assert_eq!(hidden, None);
        assert_eq!(component.replaced_at(&cx).await.unwrap(), None);
        ends_as_the_backup(&case, &content).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_sees_another_data_set_and_another_mode() {
    let case = Case::new(Server::new(&["appendonly yes"]), "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    case.restore().await;
    case.server().run(0, &["SET one:more x"]);
    case.assert_checked().await;
    case.server().stop();
    std::fs::remove_dir_all(case.server().data().join("appendonlydir")).unwrap();
    case.server().start().unwrap();
    let failed = |outcomes: Vec<restore_core::component::CheckOutcome>| {
        let failed = outcomes.into_iter().filter(|o| !o.passed);
        failed.map(|o| o.name).collect::<Vec<_>>()
    };
    assert_eq!(failed(case.check().await), ["cache/keys"]);
    case.server().set("appendonly", "no");
    case.server().set("save", "\"\"");
    case.server().restart();
    let outcomes = failed(case.check().await);
    assert!(
        outcomes.contains(&"cache/appendonly".to_owned()),
        "{outcomes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_take_what_is_restored_unless_one_has_become_the_master() {
    let options = ["appendonly no", "repl-diskless-sync-delay 0"];
    let case = Case::new(Server::new(&options).with_password("secret"), "");
    let content = back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    case.server().fill("old", 5);
    let follow = format!("replicaof 127.0.0.1 {}", case.server().endpoint().port);
    let replica = Server::new(&[&follow, "masterauth secret"]).with_password("other");
    replica.start().unwrap();
    let follows = || {
        let mut connection = replica.connect(0);
        let mut info = redis::cmd("INFO");
        let info = info.arg("replication").query::<String>(&mut connection);
        info.unwrap().contains("master_link_status:up")
    };
    until("the replica follows", follows);
    assert_same(&replica.content(), &case.server().content());
    assert_eq!(codes(&case).await, ["redis.has_replicas"]);

    case.restore().await;
    until("the replica follows again", follows);
    assert_same(&replica.content(), &content);

    // As after a failover while the server was down: it is told to follow when it comes back.
    case.server().run(0, &["REPLICAOF 127.0.0.1 1"]);
    let outcomes = case.check().await;
    let failed: Vec<&str> = outcomes
        .iter()
        .filter(|it| !it.passed)
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(failed, ["cache/role"], "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_have_expired_since_are_not_missed() {
    for appendonly in ["appendonly yes", "appendonly no"] {
        let case = Case::new(Server::new(&[appendonly]), "");
        let source = Server::new(&["save \"\""]);
        source.start().unwrap();
        source.run(
            0,
            &[
                "SET stays x",
                "SET later x PX 600",
                "SET soon x PX 40",
                "SAVE",
            ],
        );
        let rdb = format!("redis-{BACKUP}.rdb");
        std::fs::copy(source.data().join("dump.rdb"), case.artifact(&rdb)).unwrap();
        until("the short one is gone", || source.content().len() < 4);
        case.server().start().unwrap();
        case.stage().await;
        until("all are gone", || source.content().len() == 2);
        case.cut_over().await;
        case.assert_checked().await;
        assert_same(&case.server().content(), &source.content());
    }
}

/// It loads its data no more, however long that may take otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_ended_is_not_waited_for() {
    let case = Case::new(Server::new(&["appendonly no"]), "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    case.stage().await;
    case.cut_over().await;
    case.server().stop();
    let began = std::time::Instant::now();
    let outcomes = case.check().await;
    assert!(outcomes.iter().any(|it| !it.passed), "{outcomes:?}");
    // It would be waited for 20 s while it loads.
    assert!(began.elapsed().as_secs() < 15, "{:?}", began.elapsed());
    let detail = &outcomes[0].detail;
    assert!(detail.contains("has ended"), "{detail}");
}

/// A cache drops keys as soon as it has loaded more than it may hold: that is no wrong file.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_cache_evicts_is_not_missed() {
    const KEYS: usize = 3000;
    let donor = Case::new(Server::new(&[]), "");
    donor.server().start().unwrap();
    let value = "x".repeat(2000);
    let set: Vec<String> = (0..KEYS).map(|n| format!("SET key:{n} {value}")).collect();
    let mut commands: Vec<&str> = set.iter().map(String::as_str).collect();
    commands.push("SAVE");
    donor.server().run(0, &commands);
    let rdb = donor.server().data().join("dump.rdb");
    for (policy, words) in [
        (
            "allkeys-lru",
            " evicted since (maxmemory 4194304, allkeys-lru): ",
        ),
        ("noeviction", "3000 keys of 3000 staged"),
    ] {
        let policy = format!("maxmemory-policy {policy}");
        let case = Case::new(Server::new(&["maxmemory 4mb", &policy]), "");
        std::fs::copy(&rdb, case.artifact(&format!("redis-{BACKUP}.rdb"))).unwrap();
        case.server().start().unwrap();
        case.stage().await;
        case.cut_over().await;
        let outcomes = case.check().await;
        let keys = outcomes
            .iter()
            .find(|it| it.name.ends_with("/keys"))
            .unwrap();
        assert!(keys.passed && keys.detail.contains(words), "{keys:?}");
    }
}
