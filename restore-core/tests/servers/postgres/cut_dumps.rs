//! Dumps that lack their end where pg_restore does not miss it, and what only a table of contents tells.

use std::time::Duration;

use restore_testing::pg::{Cluster, Rig};

use super::formats::make;
use super::{codes, rig};

const STAGED: &str = "shop_restore_20240216_093000_7f3a";

/// It is refused while staging, and no database is left of it.
async fn assert_refused(rig: &Rig, script: &str, code: &str) {
    make(rig, script);
    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await;
    // pg_restore reads some for ever.
    let staged = tokio::time::timeout(Duration::from_secs(60), component.stage(&cx)).await;
    let error = staged.expect(script).expect_err(script);
    assert_eq!(error.code(), code, "{script}: {error}");
    assert_eq!(rig.cluster.databases(), ["gold", "shop"], "{script}");
}

#[tokio::test]
async fn a_cut_dump_in_the_tar_format_is_refused() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let cut = |percent: u32, how: &str| {
        format!(
            "pg_dump -Ft gold >a; head -c $(($(stat -c %s a) * {percent} / 100)) a | {how} >$DUMP; rm a"
        )
    };
    for how in ["cat", "gzip"] {
        for percent in [40, 60, 80, 98] {
            let script = cut(percent, how);
            assert_refused(&rig, &script, "postgres.dump_cut").await;
            let component = rig.component("database = 'shop'");
            let cx = rig.cx().await;
            let planned = tokio::time::timeout(Duration::from_secs(60), component.inspect(&cx));
            let inspection = planned.await.expect(&script).unwrap();
            let found = codes(&inspection);
            assert_eq!(found["postgres.dump_unreadable"], "error", "{script}");
        }
    }
    // The SQL beside it is whole.
    make(&rig, &format!("{}; pg_dump gold >$SQL", cut(60, "cat")));
    let component = rig.component("database = 'shop'");
    let staged = component.stage(&rig.cx().await).await.unwrap();
    let mut told = staged.findings.iter().map(|it| it.code.as_str());
    assert!(told.any(|it| it == "postgres.fallback"));
    assert_eq!(rig.cluster.content(STAGED), rig.cluster.content("gold"));
}

#[tokio::test]
async fn cut_rows_of_a_dump_in_the_directory_format_are_refused() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let dump = |level: u32, how: &str, folder: &str| {
        format!(
            "pg_dump -Fd -Z{level} -f {folder} gold; f=$(ls -S {folder}/[0-9]*.dat* | head -n 1); {how}"
        )
    };
    let half = "truncate -s $(($(stat -c %s $f) / 2)) $f";
    let lines = "head -n 1000 $f >x; mv x $f";
    for (level, how, code) in [
        (6, ": >$f", "postgres.dump_cut"),
        (0, ": >$f", "postgres.dump_cut"),
        (0, lines, "postgres.dump_cut"),
        (0, half, "postgres.dump_cut"),
        (6, half, "archive.truncated"),
    ] {
        assert_refused(&rig, &dump(level, how, "$DUMP"), code).await;
        let packed = format!(
            "{}; tar cf $DUMP folder; rm -r folder",
            dump(level, how, "folder")
        );
        assert_refused(&rig, &packed, code).await;
    }
    // Whole ones, of every kind.
    let component = rig.component("database = 'shop'");
    let gold = rig.cluster.content("gold");
    for script in [
        "pg_dump -Fd -Z0 -f $DUMP gold",
        "pg_dump -Fd --inserts -f $DUMP gold",
        "pg_dump -Fd --inserts --rows-per-insert=7 -f folder gold; tar cf $DUMP folder; rm -r folder",
        "pg_dump -Ft gold >$DUMP",
        "pg_dump -Ft --inserts gold >$DUMP",
    ] {
        make(&rig, script);
        let staged = component.stage(&rig.cx().await).await;
        staged.unwrap_or_else(|e| panic!("{script}: {e}"));
        assert_eq!(rig.cluster.content(STAGED), gold, "{script}");
    }
}

/// The schema's SQL of an archive does not say who is granted what on large objects.
#[tokio::test]
async fn a_role_that_only_may_read_a_large_object_is_missed_before_the_run() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "gold",
        "CREATE ROLE ghost; GRANT SELECT ON LARGE OBJECT 4711 TO ghost",
    );
    make(&rig, "pg_dump -Fc -b gold >$DUMP");
    rig.cluster.sql(
        "gold",
        "REVOKE ALL ON LARGE OBJECT 4711 FROM ghost; DROP ROLE ghost",
    );
    let component = rig.component("database = 'shop'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.missing_roles"], "error");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.missing_roles");
    let component = rig.component("database = 'shop'\nmissing_roles = 'ignore'");
    component.stage(&rig.cx().await).await.unwrap();
}

/// The name of one goes on after a blank where the owner of the other would stand.
#[tokio::test]
async fn a_view_without_data_stays_without_beside_one_of_a_longer_name() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "gold",
        "CREATE MATERIALIZED VIEW a AS SELECT 1 AS n WITH NO DATA; \
         CREATE MATERIALIZED VIEW \"a postgres\" AS SELECT 2 AS n",
    );
    let component = rig.component("database = 'shop'");
    for script in ["pg_dump -Fc gold >$DUMP", "pg_dump gold >$SQL"] {
        make(&rig, script);
        component.stage(&rig.cx().await).await.unwrap();
        assert!(rig.cluster.psql(STAGED, "SELECT * FROM a").is_err());
        let filled = rig.cluster.sql(STAGED, "SELECT n FROM \"a postgres\"");
        assert_eq!(filled, "2", "{script}");
    }
}

#[tokio::test]
async fn lost_grant_options_are_told_and_heirs_are_counted_once() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "gold",
        "CREATE TABLE parent (x int); CREATE TABLE child () INHERITS (parent); \
         INSERT INTO child VALUES (1); INSERT INTO parent VALUES (2); \
         GRANT SELECT ON parent TO reader; CREATE TYPE pair AS (a int, b int)",
    );
    make(&rig, "pg_dump -Fc gold >$DUMP");
    rig.cluster.sql(
        "shop",
        "CREATE TABLE parent (x int, later text); GRANT SELECT ON parent TO reader WITH GRANT OPTION; \
         CREATE TYPE pair AS (a int, b int); ALTER TYPE pair OWNER TO app; \
         CREATE SCHEMA later; CREATE COLLATION later.c FROM \"C\"",
    );
    let component = rig.component("database = 'shop'");
    let staged = component.stage(&rig.cx().await).await.unwrap();
    assert_eq!(staged.facts["rows"]["public.parent"], 1);
    assert_eq!(staged.facts["rows"]["public.child"], 1);
    let told: Vec<&str> = staged
        .findings
        .iter()
        .map(|it| it.message.as_str())
        .collect();
    let says = |words: &str| told.iter().any(|it| it.contains(words));
    assert!(
        says("reader has SELECT WITH GRANT OPTION on public.parent now"),
        "{told:?}"
    );
    assert!(!says("reader has SELECT on public.parent now"), "{told:?}");
    assert!(says("type public.pair"), "{told:?}");
    // Of `shop` alone are also a function, a view and a column.
    let lacks = told.iter().find(|it| it.contains("will lack what"));
    let lacks = lacks.unwrap_or_else(|| panic!("{told:?}"));
    for words in ["collation later.c", "schema later", "and 2 more"] {
        assert!(lacks.contains(words), "{words}: {lacks}");
    }
}
