//! Servers and databases in the state that crashes leave them in.

use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use restore_core::platform::Discard;
use restore_core::run::CutOver;
use restore_core::{ErrorKind, Event};
use restore_testing::local::lives;
use restore_testing::pg::{Cluster, Rig};
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use super::{codes, rig};

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Stops the server.
fn stop(cluster: &Cluster) {
    let pid = cluster.pid().cast_signed();
    signal(pid, Signal::INT);
    let deadline = Instant::now() + Duration::from_secs(30);
    while lives(pid) {
        assert!(Instant::now() < deadline, "the server does not stop");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes garbage over the first pages of a table.
fn overwrite(rig: &Rig, database: &str, table: &str) {
    let path = format!(
        "SELECT current_setting('data_directory') || '/' || pg_relation_filepath('{table}')"
    );
    let path = rig.cluster.sql(database, &path);
    rig.cluster.sql("template1", "CHECKPOINT");
    stop(&rig.cluster);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0x5a; 8192], 0).unwrap();
    drop(file);
    rig.cluster.run_server();
}

/// A rename needs no connection: neither that nobody gets into a database, nor that nothing in it
/// can be read, keeps it from being restored over.
#[tokio::test]
async fn a_database_with_a_broken_catalog_is_restored_over() {
    for catalog in ["pg_class", "pg_namespace"] {
        let rig = rig(Cluster::start("postgres"), "shop");
        let gold = rig.cluster.content("gold");
        overwrite(&rig, "shop", catalog);
        let look = "SELECT count(*) FROM users";
        assert!(rig.cluster.psql("shop", look).is_err(), "{catalog}");
        let component = rig.component("database = 'shop'");
        let cx = rig.cx().await;
        let inspection = component.inspect(&cx).await.unwrap();
        let found = codes(&inspection);
        assert_eq!(
            found.get("postgres.live_broken"),
            Some(&"warning"),
            "{catalog}: {found:?}"
        );
        assert!(!found.values().any(|it| *it == "error"), "{found:?}");
        component.stage(&cx).await.unwrap();
        component.cut_over(&cx).await.unwrap();
        assert_eq!(rig.cluster.content("shop"), gold, "{catalog}");
        component.undo(&cx).await.unwrap();
        assert!(rig.cluster.psql("shop", look).is_err(), "{catalog}");
        component.discard(&cx, Discard::Staged).await.unwrap();
        assert_eq!(rig.cluster.databases().len(), 2, "gold and shop");
    }
}

/// As a shell command that is broken off leaves it.
#[tokio::test]
async fn a_database_that_was_half_dropped_is_restored_over() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let half = "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'shop'";
    rig.cluster.sql("template1", half);
    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await;
    let inspection = component.inspect(&cx).await.unwrap();
    let found = codes(&inspection);
    assert_eq!(found.get("postgres.live_broken"), Some(&"warning"));
    assert!(!found.values().any(|it| *it == "error"), "{found:?}");
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), rig.cluster.content("gold"));
    let limit = "SELECT datconnlimit FROM pg_database WHERE datname = 'shop'";
    assert_eq!(rig.cluster.sql("template1", limit), "-1");
    let done = rig.cx().await.with_cut_over(CutOver::Done);
    component.way_back(&done).await.unwrap();
    component.undo(&done).await.unwrap();
    assert_eq!(rig.cluster.sql("template1", limit), "-2");
}

/// A statement of a process that was killed goes on: broken off in its middle, the DROP would leave
/// a database that nobody can use.
#[tokio::test]
async fn a_drop_that_goes_on_is_waited_for() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    // It waits for a checkpoint, as on a busy disk.
    let checkpointer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let checkpointer: i32 = rig.cluster.sql("template1", checkpointer).parse().unwrap();
    signal(checkpointer, Signal::STOP);
    let killed = tokio::time::timeout(
        Duration::from_secs(2),
        component.discard(&cx, Discard::Replaced),
    );
    assert!(killed.await.is_err());
    let goes_on = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DROP DATABASE %' \
                   AND state = 'active' AND pid <> pg_backend_pid()";
    assert_eq!(rig.cluster.sql("template1", goes_on), "1");
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        signal(checkpointer, Signal::CONT);
    });
    component.discard(&cx, Discard::Replaced).await.unwrap();
    later.join().unwrap();
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'shop_%'";
    assert_eq!(rig.cluster.sql("template1", left), "0");
}

/// A server that has crashed answers, and lets nobody in until it has recovered. What goes forward stops
/// waiting for that with the run; what takes back does not.
#[tokio::test]
async fn a_server_that_recovers_is_waited_for() {
    let mut rig = rig(Cluster::start("postgres"), "shop");
    let before = rig.cluster.content("shop");
    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await;
    component.stage(&cx).await.unwrap();
    rig.cluster.begin_recovery();
    let began = Instant::now();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        rig.cancel.cancel();
    };
    let (stopped, ()) = tokio::join!(component.cut_over(&cx), stop);
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
    let stopped = component.wait_ready(&cx).await.unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Interrupted);
    assert!(began.elapsed() < Duration::from_secs(10));
    rig.cluster.end_recovery();

    rig.cancel = CancellationToken::new();
    let cx = rig.cx().await;
    component.wait_ready(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), rig.cluster.content("gold"));
    rig.cluster.begin_recovery();
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = told.clone();
    let sink = move |event: &Event| {
        if let Event::Finding { finding } = event {
            heard.lock().unwrap().push(finding.code.clone());
        }
    };
    let done = rig.cx_telling(Arc::new(sink)).await;
    let done = done.with_cut_over(CutOver::Done);
    rig.cancel.cancel();
    let recovers = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(*told.lock().unwrap(), ["postgres.not_ready"]);
        rig.cluster.end_recovery();
    };
    let (undone, ()) = tokio::join!(component.undo(&done), recovers);
    undone.unwrap();
    assert_eq!(rig.cluster.content("shop"), before);
    assert_eq!(*told.lock().unwrap(), ["postgres.not_ready"], "told once");
}

/// Killed within DROP DATABASE the server leaves one that can be dropped, and nothing else.
#[tokio::test]
async fn a_database_that_was_half_dropped_is_dropped() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    let invalid = "UPDATE pg_database SET datconnlimit = -2 WHERE datname LIKE 'shop_replaced_%'";
    rig.cluster.sql("template1", invalid);
    // What is half dropped must not be put back.
    let done = rig.cx().await.with_cut_over(CutOver::Done);
    let refused = component.way_back(&done).await.unwrap_err();
    assert_eq!(refused.code(), "postgres.no_way_back");
    component.discard(&cx, Discard::Replaced).await.unwrap();
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'shop_%'";
    assert_eq!(rig.cluster.sql("template1", left), "0");
}

/// A server that runs and lets nobody in, or not this user, or does not let it rename.
#[tokio::test]
async fn what_keeps_an_undo_from_the_server_is_seen_before() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let sql = |sql: &str| rig.cluster.sql("template1", sql);
    sql("ALTER ROLE app CREATEDB");
    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    let done = rig.cx().await.with_cut_over(CutOver::Done);
    component.can_undo(&done).await.unwrap();
    let poor = rig.component("database = 'shop'\nuser = 'app'");
    let refused = async || {
        let refused = poor.can_undo(&done).await.unwrap_err();
        assert!(refused.hint_text().is_some(), "{refused}");
        refused.code().to_owned()
    };
    for name in rig.cluster.databases() {
        let owner = format!("ALTER DATABASE \"{name}\" OWNER TO app");
        sql(&owner);
    }
    poor.can_undo(&done).await.unwrap();
    sql("ALTER ROLE app NOLOGIN");
    assert_eq!(refused().await, "postgres.auth");
    sql("ALTER ROLE app LOGIN CONNECTION LIMIT 0");
    assert_eq!(refused().await, "postgres.full");
    sql("ALTER ROLE app CONNECTION LIMIT -1 NOCREATEDB");
    assert_eq!(refused().await, "postgres.no_createdb");
    sql("ALTER ROLE app CREATEDB");
    sql("ALTER DATABASE shop OWNER TO reader");
    assert_eq!(refused().await, "postgres.not_owner");
    sql("ALTER DATABASE shop OWNER TO app");
    rig.cluster.sql(
        "shop",
        "BEGIN; CREATE TABLE held (); PREPARE TRANSACTION 'held'",
    );
    assert_eq!(refused().await, "postgres.prepared_transactions");
    rig.cluster.sql("shop", "ROLLBACK PREPARED 'held'");
    poor.can_undo(&done).await.unwrap();
    component.undo(&done).await.unwrap();
}

#[tokio::test]
async fn a_replaced_database_that_is_gone_is_no_way_back() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    let cx = cx.with_cut_over(CutOver::Done);
    component.way_back(&cx).await.unwrap();
    let kept = component.kept_by_runs().await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(&kept[0].run, cx.run());
    assert!(kept[0].place.contains("shop_replaced_"), "{kept:?}");
    let name = format!("shop_replaced_{}", cx.run().sql());
    rig.cluster
        .sql("template1", &format!("DROP DATABASE \"{name}\""));
    let gone = component.way_back(&cx).await.unwrap_err();
    assert_eq!(gone.code(), "postgres.no_way_back");
}
