//! Servers and databases in the state that crashes leave them in.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use restore_core::platform::Discard;
use restore_core::run::CutOver;
use restore_testing::local::lives;
use restore_testing::pg::{Cluster, Rig};
use rustix::process::{Pid, Signal, kill_process};

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
