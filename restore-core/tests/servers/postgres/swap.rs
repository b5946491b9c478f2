//! There and back, stopped anywhere: the swap of databases.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use restore_core::platform::Discard;
use restore_testing::pg::{Cluster, Rig};

use super::{assert_checks_pass, codes, fingerprint, rig, there_and_back};

#[tokio::test]
async fn there_and_back_as_the_role_that_postgres_user_named() {
    // There is no role postgres, and nothing here needs one.
    let rig = rig(Cluster::start("hosting_user"), "shop");
    let component = rig.component("database = 'shop'");
    there_and_back(rig, component, "shop").await;
}

#[tokio::test]
async fn odd_names_and_a_password_that_nobody_sees() {
    let password = "p'a\"s s\\w=$ö";
    let live = "we\"ird-DB = 'x' \\";
    let rig = rig(Cluster::with_password("site öwner-1", password), live);
    let file = rig.backups.path().join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, closed).unwrap();
    let component = rig.component(&format!("database = {live:?}\npassword_file = 'password'"));
    let ran = rig.ran.clone();
    there_and_back(rig, component, live).await;
    let ran = ran.lock().unwrap();
    let restores =
        |c: &&restore_core::platform::Command| c.argv.iter().any(|a| a == "--exit-on-error");
    assert_eq!(ran.iter().filter(restores).count(), 2);
    for command in ran.iter() {
        assert!(!command.argv.iter().any(|arg| arg.contains("p'a")));
    }
}

#[tokio::test]
async fn programs_that_cannot_read_the_backup_are_fed() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.streaming("database = 'shop'");
    there_and_back(rig, component, "shop").await;
}

/// Whoever reconnects at once neither stops the swap nor has two databases merged.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_come_back_do_not_stop_the_swap() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await;
    let gold = rig.cluster.content("gold");
    let before = fingerprint(&rig, "shop");
    component.stage(&cx).await.unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let connected = Arc::new(AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (stop, connected, rig) = (stop.clone(), connected.clone(), &rig);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut psql = rig
                        .cluster
                        .psql_command("shop", "SELECT 1; SELECT pg_sleep(60)");
                    let mut child = psql
                        .stderr(std::process::Stdio::null())
                        .stdout(std::process::Stdio::null())
                        .spawn()
                        .unwrap();
                    connected.fetch_add(1, Ordering::Relaxed);
                    while child.try_wait().unwrap().is_none() {
                        if stop.load(Ordering::Relaxed) {
                            child.kill().unwrap();
                        }
                        std::thread::yield_now();
                    }
                }
            });
        }
        let sessions = || {
            rig.cluster.sql(
                "template1",
                "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'",
            )
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while sessions() != "3" {
            assert!(Instant::now() < deadline);
        }
        let result = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                component.cut_over(&cx).await?;
                component.undo(&cx).await?;
                component.cut_over(&cx).await
            })
        });
        stop.store(true, Ordering::Relaxed);
        result.unwrap();
    });
    assert!(connected.load(Ordering::Relaxed) > 3, "they did come back");
    assert_eq!(rig.cluster.content("shop"), gold);
    assert_eq!(rig.cluster.properties("shop"), before.1);
}

#[tokio::test]
async fn stopped_anywhere_it_goes_on_or_back() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    let gold = rig.cluster.content("gold");
    let before = fingerprint(&rig, "shop");
    component.stage(&rig.cx().await).await.unwrap();
    let mut cut_short = 0;
    let began = Instant::now();
    component.cut_over(&rig.cx().await).await.unwrap();
    let whole = began.elapsed();
    for step in 0..20_u32 {
        let delay = whole * step / 18;
        // A cut-over and an undo, each dropped at some moment, as a kill would.
        component.undo(&rig.cx().await).await.unwrap();
        let cx = rig.cx().await;
        if tokio::time::timeout(delay, component.cut_over(&cx))
            .await
            .is_err()
        {
            cut_short += 1;
        }
        if step % 2 == 0 {
            component.undo(&rig.cx().await).await.unwrap();
            assert_eq!(fingerprint(&rig, "shop"), before, "undone after {delay:?}");
        } else {
            component.cut_over(&rig.cx().await).await.unwrap();
            assert_eq!(rig.cluster.content("shop"), gold, "done after {delay:?}");
            assert_eq!(rig.cluster.properties("shop"), before.1);
            let cx = rig.cx().await;
            let _stopped = tokio::time::timeout(delay, component.undo(&cx)).await;
            component.undo(&rig.cx().await).await.unwrap();
            assert_eq!(fingerprint(&rig, "shop"), before, "undone after {delay:?}");
        }
    }
    assert!(cut_short > 3, "{cut_short}");
}

#[tokio::test]
async fn a_statement_left_on_the_server_does_not_outlive_an_undo() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    let before = fingerprint(&rig, "shop");
    let cx = rig.cx().await;
    component.stage(&cx).await.unwrap();

    // Somebody's lock holds the transaction of the cut-over up; then our process is killed, and
    // the server, which does not notice, waits on.
    let lock = "BEGIN; COMMENT ON DATABASE shop_restore_20240216_093000_7f3a IS 'x'; \
                SELECT pg_advisory_lock(1); ROLLBACK";
    let mut gate = rig
        .cluster
        .psql_command(
            "template1",
            "SELECT pg_advisory_lock(1); SELECT pg_sleep(60)",
        )
        .spawn()
        .unwrap();
    let until = async |rig: &Rig, condition: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE {condition}");
        while rig.cluster.sql("template1", &sql) == "0" {
            assert!(Instant::now() < deadline, "{condition}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    until(&rig, "wait_event = 'PgSleep'").await;
    let mut holder = rig.cluster.psql_command("template1", lock).spawn().unwrap();
    until(&rig, "wait_event = 'advisory'").await;
    let stuck = "wait_event_type = 'Lock' AND query LIKE 'BEGIN; %RENAME TO%'";
    tokio::select! {
        done = component.cut_over(&cx) => panic!("{done:?}"),
        () = until(&rig, stuck) => {}
    }
    component.undo(&rig.cx().await).await.unwrap();
    let left = format!("SELECT count(*) FROM pg_stat_activity WHERE {stuck}");
    assert_eq!(rig.cluster.sql("template1", &left), "0");
    for child in [&mut holder, &mut gate] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(fingerprint(&rig, "shop"), before);
}

#[tokio::test]
async fn partial_states_are_finished_or_undone() {
    let mut rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    let gold = rig.cluster.content("gold");
    let before = fingerprint(&rig, "shop");
    let replaced = "shop_replaced_20240216_093000_7f3a";
    component.stage(&rig.cx().await).await.unwrap();

    // Nothing was cut over: nothing to undo, whatever is recorded.
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(fingerprint(&rig, "shop"), before);

    // Recorded, the door shut, killed.
    component.cut_over(&rig.cx().await).await.unwrap();
    component.undo(&rig.cx().await).await.unwrap();
    let shut = "ALTER DATABASE shop ALLOW_CONNECTIONS false";
    rig.cluster.sql("template1", shut);
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(fingerprint(&rig, "shop"), before);
    rig.cluster.sql("template1", shut);
    component.cut_over(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), gold);
    assert_eq!(rig.cluster.properties("shop"), before.1);

    // Cut over, the door shut by an undo that was killed; then forward again.
    rig.cluster.sql("template1", shut);
    component.cut_over(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.properties("shop"), before.1);
    rig.cluster.sql("template1", shut);
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(fingerprint(&rig, "shop"), before);

    // Somebody else did the first rename.
    let half = format!("ALTER DATABASE shop RENAME TO {replaced}");
    rig.cluster.sql("template1", &half);
    let only = component.discard(&rig.cx().await, Discard::Replaced).await;
    assert_eq!(only.unwrap_err().code(), "postgres.only_copy");
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(fingerprint(&rig, "shop"), before);
    rig.cluster.sql("template1", &half);
    component.cut_over(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), gold);
    assert_eq!(rig.cluster.properties("shop"), before.1);

    // Without the journal nobody knows whose database is live: nothing is renamed or dropped.
    let facts = rig.facts.clone();
    let databases = rig.cluster.databases();
    rig.forget();
    for act in [
        component.undo(&rig.cx().await).await,
        component.discard(&rig.cx().await, Discard::Replaced).await,
    ] {
        assert_eq!(act.unwrap_err().code(), "postgres.ambiguous");
    }
    assert_eq!(rig.cluster.databases(), databases);
    assert_eq!(rig.cluster.content("shop"), gold);
    rig.facts = facts;
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), before.0);

    // A third database that nobody knows: refused, and nothing changed.
    rig.cluster
        .sql("template1", &format!("CREATE DATABASE {replaced}"));
    let databases = rig.cluster.databases();
    for act in [
        component.cut_over(&rig.cx().await).await,
        component.undo(&rig.cx().await).await,
    ] {
        assert_eq!(act.unwrap_err().code(), "postgres.ambiguous");
    }
    assert_eq!(rig.cluster.databases(), databases);
    rig.cluster
        .sql("template1", &format!("DROP DATABASE {replaced}"));

    // What the run replaced was dropped, and another database made in place of the restored one.
    component.cut_over(&rig.cx().await).await.unwrap();
    rig.cluster.sql(
        "template1",
        &format!("ALTER DATABASE {replaced} RENAME TO away"),
    );
    let swapped = "ALTER DATABASE shop RENAME TO restored";
    rig.cluster.sql("template1", swapped);
    rig.cluster.sql("template1", "CREATE DATABASE shop");
    let databases = rig.cluster.databases();
    let lost = component.undo(&rig.cx().await).await.unwrap_err();
    assert_eq!(lost.code(), "postgres.lost");
    assert!(lost.message().contains("shop is neither"), "{lost}");
    assert_eq!(rig.cluster.databases(), databases);
    rig.cluster.sql("template1", "DROP DATABASE shop");
    for (from, to) in [("restored", "shop"), ("away", replaced)] {
        let back = format!("ALTER DATABASE {from} RENAME TO {to}");
        rig.cluster.sql("template1", &back);
    }
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), before.0);

    component
        .discard(&rig.cx().await, Discard::Staged)
        .await
        .unwrap();
    let nothing = component.cut_over(&rig.cx().await).await.unwrap_err();
    assert_eq!(nothing.code(), "postgres.not_staged");
    assert_eq!(rig.cluster.databases(), ["gold", "shop"]);
    assert_eq!(rig.cluster.content("shop"), before.0);
}

#[tokio::test]
async fn a_database_that_does_not_exist_yet() {
    let cluster = Cluster::start("postgres");
    cluster.sql(
        "template1",
        "CREATE DATABASE gold ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
    );
    cluster.sql("gold", "CREATE TABLE \"é\" AS SELECT 'ü' AS \"ü\"");
    let rig = Rig::new(cluster);
    rig.back_up("gold");
    let gold = rig.cluster.content("gold");
    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await;
    let inspection = component.inspect(&cx).await.unwrap();
    assert!(codes(&inspection).is_empty(), "{:?}", inspection.findings);
    component.stage(&cx).await.unwrap();
    component.undo(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), gold);
    assert!(
        rig.cluster
            .properties("shop")
            .starts_with("postgres|LATIN1|C|C|c||t|-1|")
    );
    assert_checks_pass(&component, &rig).await;
    component.cut_over(&cx).await.unwrap();
    assert_eq!(component.replaced_at(&cx).await.unwrap(), None);
    component.discard(&cx, Discard::Replaced).await.unwrap();
    component.undo(&cx).await.unwrap();
    component.undo(&cx).await.unwrap();
    assert_eq!(
        rig.cluster.databases(),
        ["gold", "shop_restore_20240216_093000_7f3a"]
    );
    component.cut_over(&cx).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), gold);
    component.undo(&cx).await.unwrap();
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(rig.cluster.databases(), ["gold"]);
}
