//! Restored beside the live database under a name of its own, and left there.

use restore_core::platform::Discard;
use restore_core::run::CutOver;
use restore_testing::pg::Cluster;

use super::{assert_checks_pass_as, codes, fingerprint, rig};

const AS: &str = "shop \"monday\"";

fn comment(rig: &restore_testing::pg::Rig, database: &str) -> String {
    let sql = format!(
        "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = '{database}'"
    );
    rig.cluster.sql("template1", &sql)
}

#[tokio::test]
async fn a_database_is_left_beside_the_live_one() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    assert!(component.restores_beside());
    let gold = rig.cluster.content("gold");
    let live = fingerprint(&rig, "shop");
    let cx = rig.cx().await.with_restore_as(Some(AS.to_owned()));

    let inspection = component.inspect(&cx).await.unwrap();
    assert!(!codes(&inspection).values().any(|it| *it == "error"));
    assert_eq!(
        inspection.beside.as_deref(),
        Some("database shop \"monday\"")
    );
    assert_eq!(inspection.creates, ["database shop \"monday\""]);
    assert!(inspection.summary.contains("beside database shop"));

    let staged = component.stage(&cx).await.unwrap();
    let told: Vec<&str> = staged.findings.iter().map(|it| it.code.as_str()).collect();
    assert!(
        !told.iter().any(|code| code.contains("privileges")),
        "{told:?}"
    );
    assert!(!rig.cluster.databases().contains(&AS.to_owned()));
    component.cut_over(&cx).await.unwrap();
    assert_eq!(rig.cluster.content(AS), gold);
    // Of the same owner, with the same settings and privileges; only what it is differs.
    let properties = rig.cluster.properties(AS);
    let of_live = live.1.replace(&comment(&rig, "shop"), "");
    assert_eq!(properties.replace(&comment(&rig, AS), ""), of_live);
    assert!(
        comment(&rig, AS).contains("beside shop"),
        "{}",
        comment(&rig, AS)
    );
    assert_checks_pass_as(&component, &cx).await;
    assert_eq!(component.replaced_at(&cx).await.unwrap(), None);
    // Again, as a process does that was killed after it.
    component.cut_over(&cx).await.unwrap();
    assert_eq!(fingerprint(&rig, "shop"), live);

    // Accepted: it stays.
    let done = cx.clone().with_cut_over(CutOver::Done);
    component.way_back(&done).await.unwrap();
    component.as_left(&done).await.unwrap();
    component.discard(&done, Discard::Replaced).await.unwrap();
    component.discard(&done, Discard::Staged).await.unwrap();
    assert_eq!(rig.cluster.content(AS), gold);
    assert!(cx.recall("removed:database shop \"monday\"").is_none());

    // Taken back: it goes, and nothing else.
    component.undo(&done).await.unwrap();
    component.undo(&done).await.unwrap();
    let back = cx.clone().with_cut_over(CutOver::TakenBack);
    component.discard(&back, Discard::Staged).await.unwrap();
    assert_eq!(rig.cluster.databases().len(), 2, "gold and live");
    assert!(cx.recall("removed:database shop \"monday\"").is_some());
    assert_eq!(fingerprint(&rig, "shop"), live);
}

#[tokio::test]
async fn what_has_the_name_is_never_replaced() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    for taken in ["gold", "shop", "postgres", "template0"] {
        let cx = rig.cx().await.with_restore_as(Some(taken.to_owned()));
        let inspection = component.inspect(&cx).await.unwrap();
        assert_eq!(
            codes(&inspection)["postgres.name_taken"],
            "error",
            "{taken}"
        );
        let refused = component.stage(&cx).await.unwrap_err();
        assert_eq!(refused.code(), "postgres.name_taken", "{taken}");
    }
    for bad in [String::new(), "x".repeat(64), "a\0b".to_owned()] {
        let cx = rig.cx().await.with_restore_as(Some(bad.clone()));
        let inspection = component.inspect(&cx).await.unwrap();
        assert_eq!(codes(&inspection)["postgres.bad_name"], "error", "{bad:?}");
    }
    // Somebody takes it while the dump is loaded.
    let cx = rig.cx().await.with_restore_as(Some("monday".to_owned()));
    component.stage(&cx).await.unwrap();
    rig.cluster.sql("template1", "CREATE DATABASE monday");
    rig.cluster.sql("monday", "CREATE TABLE theirs (n int)");
    let refused = component.cut_over(&cx).await.unwrap_err();
    assert_eq!(refused.code(), "postgres.name_taken");
    component.undo(&cx).await.unwrap();
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(rig.cluster.databases().len(), 3, "gold, live and theirs");
    rig.cluster.sql("monday", "SELECT * FROM theirs");
}

#[tokio::test]
async fn without_a_live_database_the_dump_says_what_it_is() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql("template1", "DROP DATABASE shop");
    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await.with_restore_as(Some("monday".to_owned()));
    let inspection = component.inspect(&cx).await.unwrap();
    assert!(!codes(&inspection).values().any(|it| *it == "error"));
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    assert_eq!(rig.cluster.content("monday"), rig.cluster.content("gold"));
    assert_eq!(
        rig.cluster.databases().len(),
        2,
        "gold and the restored one"
    );
    assert_checks_pass_as(&component, &cx).await;
}
