//! Dumps as other people's scripts write them: content decides what a file is, and what cannot be
//! restored as it stands is said in the plan, with a way on.

use std::process::Command;

use restore_core::ErrorKind;
use restore_core::platform::Discard;
use restore_testing::pg::{BIN, Cluster, Rig};

use super::{codes, rig};

const STAGED: &str = "shop_restore_20240216_093000_7f3a";

/// Runs a script that finds the server's programs, and has the dump's name in `$DUMP` and the SQL
/// dump's in `$SQL`; the backup holds what it makes, and nothing else.
pub(super) fn make(rig: &Rig, script: &str) {
    let folder = rig.folder().join("postgres");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    let endpoint = rig.cluster.endpoint();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("bash")
        .args(["-euc", &format!("set -o pipefail; {script}")])
        .current_dir(&folder)
        .env("PATH", format!("{BIN}:{path}"))
        .env("PGHOST", &endpoint.host)
        .env("PGPORT", endpoint.port.to_string())
        .env("PGUSER", &rig.cluster.superuser)
        .env("DUMP", rig.dump_file())
        .env("SQL", rig.sql_file())
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    rig.list();
}

#[tokio::test]
async fn dumps_of_every_format_are_restored_whatever_they_are_called() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let gold = rig.cluster.content("gold");
    let component = rig.component("database = 'shop'\ndumped_as = 'gold'");
    for (script, expected) in [
        ("pg_dump -Fc gold >$SQL", &[][..]),
        ("pg_dump gold >$DUMP", &[]),
        ("pg_dump -Fc gold | gzip >$DUMP", &[]),
        ("pg_dump -Ft gold | zstd -q >$DUMP", &[]),
        ("pg_dump -Fd -f $DUMP gold", &[]),
        (
            "pg_dump -Fd -f folder gold; tar czf $DUMP folder; rm -r folder",
            &["postgres.folder_not_read"],
        ),
        ("pg_dump gold | gzip >$SQL.gz", &[]),
        ("pg_dump --clean gold | zstd -q >$SQL", &[]),
        (
            "pg_dump --create --clean gold >$SQL",
            &["postgres.other_name"],
        ),
        (
            "pg_dumpall | gzip >$SQL.gz",
            &["postgres.one_of_several", "postgres.other_name"],
        ),
        (
            r"{ printf '\357\273\277'; pg_dump gold; } | sed 's/$/\r/' >$SQL",
            &["postgres.line_ends"],
        ),
        (
            r"pg_dump gold | sed 's/^SET row_security = off;/SET transaction_timeout = 0;\n&/' >$SQL",
            &["postgres.settings_left_out"],
        ),
    ] {
        make(&rig, script);
        let inspection = component.inspect(&rig.cx().await).await.unwrap();
        let mut found: Vec<&str> = codes(&inspection).into_keys().collect();
        found.retain(|code| *code != "postgres.fewer_tables");
        assert_eq!(found, expected, "{script}: {:?}", inspection.findings);
        component
            .stage(&rig.cx().await)
            .await
            .unwrap_or_else(|e| panic!("{script}: {e}"));
        assert_eq!(rig.cluster.content(STAGED), gold, "{script}");
    }
    for (script, code, words) in [
        ("printf '' >$DUMP", "postgres.dump_unreadable", "is empty"),
        (
            "pg_dump gold | iconv -t UTF-16 >$SQL",
            "postgres.unknown_format",
            "UTF-16",
        ),
        (
            "pg_dump gold | gzip >a; head -c 3000 a >$SQL.gz; rm a",
            "archive.truncated",
            "cut off",
        ),
        (
            "pg_dumpall >$SQL; sed -i 's/connect gold/connect gone/' $SQL",
            "postgres.not_in_dump",
            "gone",
        ),
        (
            "pg_dump gold >a; head -n 100 a >$SQL; rm a",
            "postgres.sql_cut",
            "cut off",
        ),
    ] {
        make(&rig, script);
        let inspection = component.inspect(&rig.cx().await).await.unwrap();
        let finding = inspection.findings.iter().find(|it| it.code == code);
        let finding = finding.unwrap_or_else(|| panic!("{script}: {:?}", inspection.findings));
        assert!(finding.message.contains(words), "{script}: {finding:?}");
        assert!(component.stage(&rig.cx().await).await.is_err(), "{script}");
    }
    let cx = rig.cx().await;
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(rig.cluster.databases(), ["gold", "shop"]);
}

#[tokio::test]
async fn what_a_dump_cannot_fill_itself_is_filled_or_named() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "gold",
        "DROP MATERIALIZED VIEW counts; \
         CREATE FUNCTION n() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM users'; \
         CREATE MATERIALIZED VIEW m AS SELECT n() AS n; \
         CREATE MATERIALIZED VIEW a_of_m AS SELECT n + 1 AS n FROM m; \
         CREATE MATERIALIZED VIEW never AS SELECT 1 AS n WITH NO DATA",
    );
    let look = "SELECT n FROM m UNION ALL SELECT n FROM a_of_m ORDER BY 1";
    let component = rig.component("database = 'shop'");
    for script in ["pg_dump -Fc gold >$DUMP", "pg_dump gold >$SQL"] {
        make(&rig, script);
        component.stage(&rig.cx().await).await.unwrap();
        assert_eq!(rig.cluster.sql(STAGED, look), "500\n501", "{script}");
        assert!(rig.cluster.psql(STAGED, "SELECT * FROM never").is_err());
    }
    // One whose function needs more than names.
    rig.cluster.sql(
        "gold",
        "CREATE FUNCTION r() RETURNS int LANGUAGE plpgsql AS $$ BEGIN \
         IF current_setting('app.ready', true) IS DISTINCT FROM 'on' THEN RAISE 'not ready'; END IF; \
         RETURN 7; END $$; \
         SET app.ready = 'on'; CREATE MATERIALIZED VIEW late AS SELECT r() AS r",
    );
    let skip = r#"skip = ["MATERIALIZED VIEW DATA public late"]"#;
    for script in ["pg_dump -Fc gold >$DUMP", "pg_dump gold >$SQL"] {
        make(&rig, script);
        let error = component.stage(&rig.cx().await).await.unwrap_err();
        assert_eq!(error.code(), "postgres.not_filled");
        assert!(error.message().contains("public.late") && error.message().contains("not ready"));
        let hint = error.hint_text().unwrap();
        assert!(hint.contains(skip), "{hint}");
        let way_on = rig.component(&format!(
            "database = 'shop'\n{skip}\nafter_load = [\"SET app.ready = 'on'; REFRESH MATERIALIZED VIEW late\"]"
        ));
        let inspection = way_on.inspect(&rig.cx().await).await.unwrap();
        assert!(codes(&inspection).contains_key("postgres.skipped"));
        way_on.stage(&rig.cx().await).await.unwrap();
        assert_eq!(rig.cluster.sql(STAGED, "SELECT r FROM late"), "7");
    }
    // By a pipe, and whole tables; a name that fits nothing is told.
    make(&rig, "pg_dump -Fc gold >$DUMP");
    let component = rig.streaming(
        "database = 'shop'\nskip = ['MATERIALIZED VIEW DATA public late', 'TABLE DATA public orders', 'TABLE DATA public nothing']",
    );
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.nothing_to_skip"], "warning");
    component.stage(&rig.cx().await).await.unwrap();
    let rows = "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM users)";
    assert_eq!(rig.cluster.sql(STAGED, rows), "0|500");
}

#[tokio::test]
async fn what_belongs_to_one_database_only_is_left_out_or_refused() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "gold",
        "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1 dbname=p' PUBLICATION p WITH (connect = false, slot_name = 's')",
    );
    let component = rig.component("database = 'shop'");
    let subscriptions = format!(
        "SELECT count(*) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE datname = '{STAGED}'"
    );
    for script in ["pg_dump -Fc gold >$DUMP", "pg_dump gold >$SQL"] {
        make(&rig, script);
        component.stage(&rig.cx().await).await.unwrap();
        let count = rig.cluster.sql("template1", &subscriptions);
        assert_eq!(count, "0", "{script}");
    }
    // An extension that can be in one database only, and is not on this server.
    let cron = r"pg_dump gold | sed 's/^-- Name: pg_trgm; Type: EXTENSION/-- Name: pg_cron; Type: EXTENSION; Schema: -; Owner: -\n--\n\nCREATE EXTENSION pg_cron;\n\n--\n&/' >$SQL";
    make(&rig, cron);
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.pg_cron"], "error");
    let without = rig.component("database = 'shop'\nskip = ['EXTENSION - pg_cron', '* cron *']");
    let inspection = without.inspect(&rig.cx().await).await.unwrap();
    assert!(!codes(&inspection).values().any(|it| *it == "error"));
    without.stage(&rig.cx().await).await.unwrap();
    // A script that goes elsewhere.
    make(
        &rig,
        r"{ pg_dump gold; echo '\connect shop postgres'; } >$SQL",
    );
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification);

    // Large objects that the dump does not have, and what only a superuser may make.
    rig.cluster.sql(
        "shop",
        "SELECT lo_from_bytea(1, '\\x00'); SELECT lo_from_bytea(2, '\\x00')",
    );
    rig.cluster.sql(
        "gold",
        "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; \
         CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION e(); \
         COMMENT ON EVENT TRIGGER watch IS 'looks'",
    );
    make(&rig, "pg_dump -Fc --no-blobs gold >$DUMP");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.no_large_objects"], "warning");
    let app = "database = 'shop'\nuser = 'app'";
    let inspection = rig.component(app).inspect(&rig.cx().await).await.unwrap();
    let refused = "postgres.closed_event_triggers";
    assert_eq!(codes(&inspection)[refused], "error");
    let without = rig.component(&format!("{app}\nskip = ['EVENT TRIGGER - *']"));
    let inspection = without.inspect(&rig.cx().await).await.unwrap();
    assert!(!codes(&inspection).contains_key(refused));
    // Jobs that wait for each other.
    let bin = rig.programs(
        r#"case "$*" in *--jobs=*) echo "pg_restore: error: deadlock detected" >&2; exit 1;; esac"#,
    );
    let component = rig.component(&format!(
        "database = 'shop'\nbin = {bin:?}\nskip = ['EVENT TRIGGER - *']"
    ));
    let staged = component.stage(&rig.cx().await).await.unwrap();
    let told = staged
        .findings
        .iter()
        .any(|it| it.code == "postgres.deadlock");
    assert!(told, "{:?}", staged.findings);
}

#[tokio::test]
async fn what_is_read_while_staging_is_refused_and_told_all_the_same() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql("shop", "INSERT INTO only_live VALUES (1)");
    make(
        &rig,
        "pg_dump -Fd --schema-only -f folder gold; tar czf $DUMP folder; rm -r folder",
    );
    let component = rig.component("database = 'shop'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert!(!codes(&inspection).values().any(|it| *it == "error"));
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.no_rows");
    let cx = rig.cx().await.with_empty(true);
    let staged = component.stage(&cx).await.unwrap();
    let told =
        |findings: &[restore_core::Finding], code: &str| findings.iter().any(|it| it.code == code);
    assert!(told(&staged.findings, "postgres.no_rows"));

    // A dump that the plan has not read, and one that it has.
    let lines = "database = 'shop'\nskip = ['TABLE DATA public orders']";
    let component = rig.component(lines);
    make(
        &rig,
        "pg_dump -Fd -f folder gold; tar czf $DUMP folder; rm -r folder",
    );
    let staged = component.stage(&rig.cx().await).await.unwrap();
    assert!(told(&staged.findings, "postgres.skipped"));
    assert!(told(&staged.findings, "postgres.fewer_tables"));
    make(&rig, "pg_dump -Fc gold >$DUMP");
    let staged = component.stage(&rig.cx().await).await.unwrap();
    assert!(!told(&staged.findings, "postgres.skipped"));
    // The SQL in the place of a damaged dump.
    make(
        &rig,
        "pg_dump -Fc gold >a; head -c 3000 a >$DUMP; rm a; pg_dumpall >$SQL",
    );
    std::fs::remove_file(rig.folder().join("MANIFEST.txt")).unwrap();
    let component = rig.component(&format!("{lines}\ndumped_as = 'gold'"));
    let staged = component.stage(&rig.cx().await).await.unwrap();
    for code in [
        "postgres.fallback",
        "postgres.other_name",
        "postgres.skipped",
    ] {
        assert!(
            told(&staged.findings, code),
            "{code}: {:?}",
            staged.findings
        );
    }
}
