//! Damaged, changed and plain dumps; a staging that breaks off.

use std::time::{Duration, Instant};

use restore_core::ErrorKind;
use restore_core::component::SharedComponent;
use restore_core::platform::Discard;
use restore_testing::pg::{Cluster, Rig};

use super::{codes, fingerprint, rig};

/// Cuts a file to a share of its length.
fn cut(file: &std::path::Path, percent: u64) {
    let size = std::fs::metadata(file).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(size * percent / 100).unwrap();
}

/// Live is as before, and nothing lies beside it once what was staged is discarded.
async fn assert_left_alone(rig: &Rig, component: &SharedComponent, before: &(String, String)) {
    assert_eq!(&fingerprint(rig, "shop"), before);
    let cx = rig.cx().await;
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(rig.cluster.databases(), ["gold", "shop"]);
    assert_eq!(&fingerprint(rig, "shop"), before);
}

/// Nothing live goes before the dump has shown that it is good, to its last line.
#[tokio::test]
async fn damaged_dumps_leave_live_alone() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    let gold = rig.cluster.content("gold");
    let before = fingerprint(&rig, "shop");
    let whole_sql = std::fs::read(rig.sql_file()).unwrap();

    // The manifest knows better than the dump: no fallback papers over it.
    cut(&rig.dump_file(), 60);
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Verification, "hash.mismatch")
    );
    assert!(error.to_string().contains("postgres-20240215-020000.dump"));

    // Nobody knows the hash: the SQL dump, into an empty database.
    std::fs::remove_file(rig.folder().join("MANIFEST.txt")).unwrap();
    let staged = component.stage(&rig.cx().await).await.unwrap();
    let finding = &staged.findings[0];
    assert_eq!(finding.code, "postgres.fallback");
    assert!(finding.message.contains("pg_restore failed"), "{finding:?}");
    assert_eq!(
        rig.cluster.content("shop_restore_20240216_093000_7f3a"),
        gold,
        "neither doubled rows nor lost keys"
    );

    // The SQL dump is cut too, or changed.
    cut(&rig.sql_file(), 90);
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.sql_cut");
    assert!(error.to_string().contains("pg_restore failed"), "{error}");
    rig.list();
    std::fs::write(rig.sql_file(), &whole_sql).unwrap();
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "hash.mismatch");
    assert!(error.to_string().contains(".sql"), "{error}");

    // An error in the middle of the SQL.
    let broken = String::from_utf8(whole_sql.clone()).unwrap();
    let broken = broken.replace("CREATE VIEW public.rich", "CREATE VIEWS public.rich");
    std::fs::write(rig.sql_file(), broken).unwrap();
    rig.list();
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert!(error.to_string().contains("psql failed"), "{error}");

    // None at all, and one that is no dump.
    std::fs::remove_file(rig.sql_file()).unwrap();
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.tool_failed");
    std::fs::write(rig.dump_file(), "no dump").unwrap();
    rig.list();
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.dump_unreadable"], "error");
    std::fs::remove_file(rig.dump_file()).unwrap();
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.no_artifact"], "error");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.no_artifact");

    assert_left_alone(&rig, &component, &before).await;
}

/// Changes every place where these bytes stand.
fn patch(file: &std::path::Path, old: &[u8], new: &[u8]) {
    assert_eq!(old.len(), new.len());
    let mut bytes = std::fs::read(file).unwrap();
    let mut found = 0;
    for at in 0..=bytes.len() - old.len() {
        if bytes[at..].starts_with(old) {
            bytes[at..at + old.len()].copy_from_slice(new);
            found += 1;
        }
    }
    assert!(found > 0);
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn nothing_of_a_changed_dump_is_run() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster
        .sql("gold", "COMMENT ON TABLE users IS 'as it was made'");
    rig.back_up("gold");
    rig.list();
    let databases = rig.cluster.databases();
    let before = fingerprint(&rig, "shop");
    let component = rig.component("database = 'shop'");

    // pg_restore would take it: only the text of a comment differs.
    patch(&rig.dump_file(), b"as it was made", b"as it was not ");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "hash.mismatch");
    std::fs::remove_file(rig.dump_file()).unwrap();
    patch(&rig.sql_file(), b"as it was made", b"as it was not ");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "hash.mismatch");

    assert_eq!(rig.cluster.databases(), databases, "not even made");
    let ran = rig.ran.lock().unwrap();
    let harmless = |c: &restore_core::platform::Command| {
        c.argv.contains(&"--version".to_owned()) || c.argv.iter().any(|arg| arg.starts_with("[ -r"))
    };
    assert!(ran.iter().all(harmless));
    drop(ran);
    assert_eq!(fingerprint(&rig, "shop"), before);
}

#[tokio::test]
async fn a_dump_that_changes_under_the_reader_is_refused() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let before = fingerprint(&rig, "shop");
    let copy = rig.backups.path().join("copy");
    std::fs::copy(rig.dump_file(), &copy).unwrap();
    // The same bytes, but another file: nobody knows whether both were read.
    let bin = rig.programs(&format!(
        "mv {} {}",
        copy.display(),
        rig.dump_file().display()
    ));
    let component = rig.component(&format!("database = 'shop'\nbin = {bin:?}"));
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Verification, "verify.changed_while_reading")
    );
    assert_eq!(fingerprint(&rig, "shop"), before);
}

/// The SQL dump goes into an empty database, once, and must come to its last line.
#[tokio::test]
async fn a_sql_dump_alone() {
    let rig = rig(Cluster::start("postgres"), "shop");
    std::fs::remove_file(rig.dump_file()).unwrap();
    let gold = rig.cluster.content("gold");
    for component in [
        rig.component("database = 'shop'"),
        rig.streaming("database = 'shop'"),
    ] {
        let inspection = component.inspect(&rig.cx().await).await.unwrap();
        let found: Vec<&str> = codes(&inspection).into_keys().collect();
        assert_eq!(found, ["postgres.fewer_tables"], "only_live goes");
        component.stage(&rig.cx().await).await.unwrap();
        assert_eq!(
            rig.cluster.content("shop_restore_20240216_093000_7f3a"),
            gold
        );
    }

    // One that would lead psql into another database: what it is of goes beside the live one.
    let before = fingerprint(&rig, "shop");
    let component = rig.component("database = 'shop'");
    rig.cluster.sql("template1", "CREATE DATABASE other");
    rig.cluster.dump("other", &["--create"], &rig.sql_file());
    rig.list();
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.other_name"], "warning");
    // It is empty, which a plan refuses; so does staging it.
    assert_eq!(codes(&inspection)["postgres.no_rows"], "error");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.no_rows");
    let cx = rig.cx().await.with_empty(true);
    component.stage(&cx).await.unwrap();
    assert_eq!(fingerprint(&rig, "shop"), before);

    // One with a command for this host in the middle of a line.
    rig.cluster.dump("gold", &[], &rig.sql_file());
    let dump = std::fs::read_to_string(rig.sql_file()).unwrap();
    let touched = rig.sql_file().with_extension("touched");
    let hidden = format!("SELECT 'it''s' \t\\! touch {}\n;\n", touched.display());
    let at = dump.find("CREATE TABLE").unwrap();
    std::fs::write(rig.sql_file(), [&dump[..at], &hidden, &dump[at..]].concat()).unwrap();
    rig.list();
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.sql_command");
    assert!(error.message().contains("\\! in line "), "{error}");
    assert!(!touched.exists());
    assert_eq!(fingerprint(&rig, "shop"), before);
}

async fn wait_for(file: &std::path::Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok(text) = std::fs::read_to_string(file)
            && text.ends_with('\n')
        {
            return text.trim().to_owned();
        }
        assert!(Instant::now() < deadline, "{} never came", file.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_request_to_stop_ends_staging() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let marker = rig.backups.path().join("marker");
    let bin = rig.programs(&format!("echo $$ > {}; exec sleep 1000", marker.display()));
    let component = rig.component(&format!("database = 'shop'\nbin = {bin:?}"));
    let before = fingerprint(&rig, "shop");
    let cx = rig.cx().await;
    let (result, pid) = tokio::join!(component.stage(&cx), async {
        let pid = wait_for(&marker).await;
        rig.cancel.cancel();
        pid
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| !c.is_empty()) {
        assert!(Instant::now() < deadline, "the program still runs");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_left_alone(&rig, &component, &before).await;
}

#[tokio::test]
async fn a_server_that_dies_during_the_restore() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let bin = rig.programs(&format!("kill -QUIT {}", rig.cluster.pid()));
    let component = rig.component(&format!("database = 'shop'\nbin = {bin:?}"));
    let before = fingerprint(&rig, "shop");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert!(
        ["postgres.gone", "postgres.unreachable"].contains(&error.code()),
        "{} {error}",
        error.code()
    );
    rig.cluster.run_server();
    assert_left_alone(&rig, &component, &before).await;
}

/// What was restored is compared by what is there, not by the server's estimates.
#[tokio::test]
async fn a_restore_that_lacks_something_is_refused() {
    let rig = rig(Cluster::start("postgres"), "shop");
    // A pg_restore that leaves keys and indexes out and says that all is well.
    let bin = rig.programs(&format!(
        "exec {}/pg_restore --section=pre-data --section=data \"$@\"",
        restore_testing::pg::BIN
    ));
    let component = rig.component(&format!("database = 'shop'\nbin = {bin:?}"));
    let before = fingerprint(&rig, "shop");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.incomplete");
    assert!(error.to_string().contains("users_pkey"), "{error}");
    assert_eq!(fingerprint(&rig, "shop"), before);
}

/// Jobs that load partitions through their root, and tables that refer to each other, may wait for
/// each other: the same rows come of it each time.
#[tokio::test]
async fn partitions_loaded_through_their_root_come_out_the_same_each_time() {
    let rig = Rig::new(Cluster::start("postgres"));
    rig.cluster.sql("template1", "CREATE DATABASE shop");
    rig.cluster.sql(
        "shop",
        "CREATE TABLE p (id int PRIMARY KEY, other int, x text) PARTITION BY HASH (id)",
    );
    for part in 0..8 {
        let sql = format!(
            "CREATE TABLE p{part} PARTITION OF p FOR VALUES WITH (MODULUS 8, REMAINDER {part})"
        );
        rig.cluster.sql("shop", &sql);
    }
    rig.cluster.sql(
        "shop",
        "INSERT INTO p SELECT i, i, repeat('x', 80) FROM generate_series(1, 40000) i; \
         CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int); \
         INSERT INTO a SELECT i, i FROM generate_series(1, 2000) i; \
         INSERT INTO b SELECT i, i FROM generate_series(1, 2000) i; \
         ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b; \
         ALTER TABLE b ADD FOREIGN KEY (a) REFERENCES a; \
         ALTER TABLE p ADD FOREIGN KEY (other) REFERENCES p (id)",
    );
    let options = ["-Fc", "--load-via-partition-root"];
    rig.cluster.dump("shop", &options, &rig.dump_file());
    rig.list();
    let component = rig.component("database = 'shop'\njobs = 8");
    for attempt in 0..5 {
        let staged = component.stage(&rig.cx().await).await.unwrap();
        assert_eq!(staged.facts["total_rows"], 40_000 + 4000, "{attempt}");
    }
}

/// Databases that were made with another C library: the restored one has the present versions.
#[tokio::test]
async fn a_collation_version_of_another_library_hinders_nothing() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "template1",
        "UPDATE pg_database SET datcollversion = '2.31' WHERE datname IN ('template1', 'shop', 'gold')",
    );
    let component = rig.component("database = 'shop'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert!(!codes(&inspection).values().any(|it| *it == "error"));
    component.stage(&rig.cx().await).await.unwrap();
    component.cut_over(&rig.cx().await).await.unwrap();
    let old = "SELECT count(*) FROM pg_database WHERE datname = 'shop' AND datcollversion = '2.31'";
    assert_eq!(rig.cluster.sql("template1", old), "0");
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.sql("template1", old), "1", "as it was");
}
