//! Dumps and databases as people have them, which take something of their own: each is restored, or the plan says what
//! hinders it and what to do.

use std::os::unix::fs::PermissionsExt;

use restore_core::component::Inspection;
use restore_core::platform::Discard;
use restore_core::{BackupRequest, Finding, PlanRequest, RunOptions, Severity, Site};
use restore_testing::local::Ground;
use restore_testing::pg::{BIN, Cluster, Rig};

use super::formats::make;
use super::{codes, rig};

const STAGED: &str = "shop_restore_20240216_093000_7f3a";

/// A server with a database `shop` of the role `app`, which has run this SQL in it.
fn shop(sql: &str) -> Rig {
    let rig = Rig::new(Cluster::start("postgres"));
    let roles = "CREATE ROLE app LOGIN CREATEDB; CREATE ROLE bob LOGIN";
    rig.cluster.sql("template1", roles);
    rig.cluster
        .sql("template1", "CREATE DATABASE shop OWNER app");
    rig.cluster
        .sql("shop", &format!("SET SESSION AUTHORIZATION app; {sql}"));
    rig
}

/// A site of that database, which signs in as this role.
async fn site(rig: &Rig, ground: &Ground, user: &str) -> Site {
    let endpoint = rig.cluster.endpoint();
    let _ = std::fs::create_dir(ground.path().join("made"));
    let config = ground.file(
        "restore.toml",
        &format!(
            "[site]\nname = 'shop'\nstate = 'state'\n\
             [stores.main]\nkind = 'directory'\npath = 'made'\n\
             [services.postgres]\nstart = ['true']\nstop = ['true']\nstatus = ['true']\n\
             endpoint = '{}:{}'\n\
             [components.db]\nkind = 'postgres'\nservice = 'postgres'\ndatabase = 'shop'\n\
             user = '{user}'\nstops = []\n",
            endpoint.host, endpoint.port
        ),
    );
    Site::open(&config).await.unwrap()
}

fn finding<'a>(findings: &'a [Finding], code: &str) -> &'a Finding {
    let found = findings.iter().find(|it| it.code == code);
    found.unwrap_or_else(|| panic!("{code}: {findings:?}"))
}

fn hinders(inspection: &Inspection) -> bool {
    let mut findings = inspection.findings.iter();
    findings.any(|it| it.severity == Severity::Error)
}

/// Policies that hold for the owner too (FORCE ROW LEVEL SECURITY) let no dump be made: that is said before one is needed.
#[tokio::test]
async fn what_policies_hide_from_a_backup_is_told_with_who_may_make_one() {
    let rig = shop(
        "CREATE TABLE t (x int, tenant text); INSERT INTO t VALUES (1, 'a'); \
         ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY p ON t USING (tenant = current_setting('app.tenant')); \
         CREATE TABLE open (x int); ALTER TABLE open ENABLE ROW LEVEL SECURITY",
    );
    rig.cluster.dump("shop", &["-Fc"], &rig.dump_file());
    rig.list();
    let code = "postgres.row_security";
    let component = rig.component("database = 'shop'\nuser = 'app'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)[code], "warning");
    let told = finding(&inspection.findings, code);
    assert!(told.message.ends_with(": public.t"), "{told:?}");
    let hint = told.hint.as_deref().unwrap();
    assert!(hint.contains("ALTER ROLE … BYPASSRLS"), "{hint}");

    let ground = Ground::new();
    let made = site(&rig, &ground, "app")
        .await
        .back_up(BackupRequest::all(), RunOptions::new())
        .await;
    let error = made.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.message().contains("\"t\""), "{error}");
    assert!(error.hint_text().unwrap().contains(hint), "{error:?}");

    // What the hint says is a way on.
    rig.cluster.sql("template1", "ALTER ROLE app BYPASSRLS");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert!(!codes(&inspection).contains_key(code));
    let ground = Ground::new();
    let made = site(&rig, &ground, "app")
        .await
        .back_up(BackupRequest::all(), RunOptions::new())
        .await;
    assert_eq!(made.unwrap().components[0].facts["total_rows"], 1);
}

/// A plan has the backup's numbers and those that are live.
#[tokio::test]
async fn a_plan_tells_of_far_less_with_both_numbers() {
    let rig = shop("CREATE TABLE t (x int); INSERT INTO t SELECT generate_series(1, 5)");
    let ground = Ground::new();
    let site = site(&rig, &ground, "app").await;
    let made = site.back_up(BackupRequest::all(), RunOptions::new());
    let made = made.await.unwrap();
    rig.cluster.dump("shop", &[], &rig.sql_file());
    rig.list();
    let component = rig.component("database = 'shop'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert!(codes(&inspection).is_empty(), "{:?}", inspection.findings);

    rig.cluster
        .sql("shop", "INSERT INTO t SELECT generate_series(1, 5000)");
    rig.cluster.sql(
        "shop",
        "ANALYZE t; DO 'BEGIN FOR i IN 1..20 LOOP EXECUTE format($$CREATE TABLE t%s (x int)$$, i); END LOOP; END'",
    );
    let words = "the dump has 5 rows, and the live database about 5005";
    // SQL is counted, of an archive the backup's description tells.
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    let backup = site.backup(&made.id.to_string()).await.unwrap();
    let options = RunOptions::new();
    let plan = site.plan_with(&backup, PlanRequest::all(), &options).await;
    let plan = plan.unwrap();
    for findings in [&inspection.findings, &plan.findings] {
        let rows = finding(findings, "postgres.far_fewer_rows");
        assert_eq!((rows.message.as_str(), rows.asks), (words, true));
        let tables = finding(findings, "postgres.fewer_tables");
        let told = "the dump has 1 tables, and lacks 20 of the 21 of the live database, ";
        assert!(tables.message.starts_with(told), "{tables:?}");
        assert!(tables.asks, "{tables:?}");
    }
    // It is asked before anything live is replaced.
    let staged = component.stage(&rig.cx().await).await.unwrap();
    assert!(finding(&staged.findings, "postgres.fewer_tables").asks);

    // None at all.
    rig.cluster
        .dump("shop", &["--schema-only"], &rig.sql_file());
    rig.list();
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    let told = finding(&inspection.findings, "postgres.no_rows");
    let words = "; the live database has 21 tables with about 5005 rows";
    assert!(told.message.ends_with(words), "{told:?}");
    let staging = Discard::Staged;
    component.discard(&rig.cx().await, staging).await.unwrap();
}

/// A dump is loaded with an empty path, and what checks and generated columns call may need another.
#[tokio::test]
async fn what_needs_a_search_path_is_told_and_loaded_with_it() {
    const NEEDY: &str = "CREATE TABLE bounds (most int); INSERT INTO bounds VALUES (100); \
         CREATE FUNCTION fits(x int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT x <= max(most) FROM bounds'; \
         CREATE FUNCTION whole(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x * 1'; \
         CREATE FUNCTION half(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN whole(x) / 2; END'; \
         CREATE FUNCTION fixed(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE SET search_path = public \
           AS 'BEGIN RETURN whole(x); END'; \
         CREATE FUNCTION named(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN public.whole(x); END'; \
         CREATE TABLE checked (x int CHECK (fits(x))); INSERT INTO checked VALUES (1), (100); \
         CREATE TABLE halves (x int, y int GENERATED ALWAYS AS (half(x)) STORED); \
         INSERT INTO halves (x) VALUES (8), (10); \
         CREATE TABLE needs_none (x int CHECK (fixed(x) > 0 AND named(x) > 0)); INSERT INTO needs_none VALUES (1)";
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql("gold", NEEDY);
    rig.cluster.sql("shop", NEEDY);
    let gold = rig.cluster.content("gold");
    let code = "postgres.needs_search_path";
    let way_on = "search_path = true of [components.db]";
    let without = rig.component("database = 'shop'");
    let with = rig.component("database = 'shop'\nsearch_path = true");
    for script in [
        "pg_dump -Fc gold >$DUMP",
        "pg_dump -Ft gold | gzip >$DUMP",
        "pg_dump gold >$SQL",
        // What fails in one fails in the other.
        "pg_dump -Fc gold >$DUMP; pg_dump gold >$SQL",
    ] {
        make(&rig, script);
        let inspection = without.inspect(&rig.cx().await).await.unwrap();
        let told = finding(&inspection.findings, code);
        assert!(
            told.message.ends_with(": public.checked, public.halves"),
            "{told:?}"
        );
        assert!(told.hint.as_deref().unwrap().starts_with(way_on));
        let error = without.stage(&rig.cx().await).await.unwrap_err();
        assert_eq!(error.code(), code, "{script}: {error}");
        assert!(error.message().contains("does not exist"), "{error}");
        assert!(error.hint_text().unwrap().starts_with(way_on), "{error:?}");

        let inspection = with.inspect(&rig.cx().await).await.unwrap();
        assert!(!codes(&inspection).contains_key(code), "{script}");
        with.stage(&rig.cx().await)
            .await
            .unwrap_or_else(|e| panic!("{script}: {e}"));
        assert_eq!(rig.cluster.content(STAGED), gold, "{script}");
        let halves = "SELECT sum(y) FROM halves";
        assert_eq!(rig.cluster.sql(STAGED, halves), "9", "{script}");
    }
}

/// A psql that obeys what a dump holds is refused by the plan, where one is needed at all.
#[tokio::test]
async fn a_psql_that_knows_no_restriction_is_refused_by_the_plan() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let bin = rig.programs("true");
    let psql = bin.join("psql");
    std::fs::remove_file(&psql).unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$*\" != --version ] || {{ echo 'psql (PostgreSQL) 15.13'; exit; }}\n\
         exec {BIN}/psql \"$@\"\n"
    );
    std::fs::write(&psql, script).unwrap();
    std::fs::set_permissions(&psql, PermissionsExt::from_mode(0o755)).unwrap();
    let component = rig.component(&format!("database = 'shop'\nbin = {bin:?}"));
    make(&rig, "pg_dump gold >$SQL");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    let code = "postgres.psql_too_old";
    assert_eq!(codes(&inspection)[code], "error");
    let told = finding(&inspection.findings, code);
    assert!(told.message.contains("psql is 15.13"), "{told:?}");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), code);
    make(&rig, "pg_dump -Fc gold >$DUMP");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert!(!hinders(&inspection), "{:?}", inspection.findings);
    component.stage(&rig.cx().await).await.unwrap();
}

/// One file of two dumps, as `pg_dump -n a; pg_dump -n b` writes it.
#[tokio::test]
async fn two_dumps_in_one_file_are_both_restored_and_both_must_be_whole() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "gold",
        "CREATE SCHEMA a; CREATE TABLE a.t AS SELECT generate_series(1, 7) AS x; \
         CREATE SCHEMA b; CREATE TABLE b.t AS SELECT generate_series(1, 9) AS x",
    );
    let component = rig.component("database = 'shop'");
    make(&rig, "{ pg_dump -n a gold; pg_dump -n b gold; } >$SQL");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert!(!hinders(&inspection), "{:?}", inspection.findings);
    component.stage(&rig.cx().await).await.unwrap();
    let rows = "SELECT (SELECT count(*) FROM a.t), (SELECT count(*) FROM b.t)";
    assert_eq!(rig.cluster.sql(STAGED, rows), "7|9");
    for cut in [
        "{ pg_dump -n a gold; pg_dump -n b gold | sed '/dump complete/,$d'; } >$SQL",
        "{ pg_dump -n a gold | sed '/dump complete/,$d'; pg_dump -n b gold; } >$SQL",
    ] {
        make(&rig, cut);
        let inspection = component.inspect(&rig.cx().await).await.unwrap();
        assert_eq!(codes(&inspection)["postgres.sql_cut"], "error", "{cut}");
        let error = component.stage(&rig.cx().await).await.unwrap_err();
        assert_eq!(error.code(), "postgres.sql_cut", "{cut}");
    }
}

/// An archive of a later format than pg_restore knows, with SQL beside it.
#[tokio::test]
async fn the_sql_beside_an_archive_of_a_later_format_is_used_and_said_to_be() {
    let rig = rig(Cluster::start("postgres"), "shop");
    // The minor number of its format stands after PGDMP and the major one.
    make(
        &rig,
        r"pg_dump -Fc gold >$DUMP; printf '\376' | dd of=$DUMP bs=1 seek=6 conv=notrunc status=none; pg_dump gold >$SQL",
    );
    let component = rig.component("database = 'shop'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert!(!hinders(&inspection), "{:?}", inspection.findings);
    let told = finding(&inspection.findings, "postgres.dump_unreadable");
    let (dump, sql) = (".dump cannot be read, ", ".sql would be used: ");
    assert!(
        told.message.contains(dump) && told.message.contains(sql),
        "{told:?}"
    );
    let staged = component.stage(&rig.cx().await).await.unwrap();
    finding(&staged.findings, "postgres.fallback");
    assert_eq!(rig.cluster.content(STAGED), rig.cluster.content("gold"));
}

/// Without its owners a dump is made by the live database's owner, who may not make every extension.
#[tokio::test]
async fn extensions_that_the_owner_may_not_make_are_named_where_owners_are_left_out() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "gold",
        "CREATE EXTENSION pageinspect; CREATE ROLE gone; ALTER TABLE users OWNER TO gone",
    );
    make(&rig, "pg_dump -Fc gold >$DUMP");
    rig.cluster
        .sql("gold", "ALTER TABLE users OWNER TO app; DROP ROLE gone");
    let component = rig.component("database = 'shop'\nmissing_roles = 'ignore'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.missing_roles"], "warning");
    let code = "postgres.closed_extensions";
    assert_eq!(codes(&inspection)[code], "error");
    let told = finding(&inspection.findings, code);
    let words = "which would be made by app: pageinspect";
    assert!(told.message.ends_with(words), "{told:?}");
    assert!(told.hint.as_deref().unwrap().contains("--create"));
}

/// A trigger of the dump that lets one role alone change anything hinders nothing of what that role does while staging.
#[tokio::test]
async fn an_event_trigger_that_refuses_others_hinders_no_restore() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "gold",
        "CREATE FUNCTION only_us() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF session_user <> 'postgres' THEN RAISE 'not you'; END IF; END $$; \
         CREATE EVENT TRIGGER only_us ON ddl_command_end EXECUTE FUNCTION only_us()",
    );
    let component = rig.component(
        "database = 'shop'\nreindex = true\ngrants = ['GRANT SELECT ON orders TO reader']\n\
         after_load = ['CREATE TABLE made_after (x int)']",
    );
    for script in ["pg_dump -Fc gold >$DUMP", "pg_dump gold >$SQL"] {
        make(&rig, script);
        component
            .stage(&rig.cx().await)
            .await
            .unwrap_or_else(|e| panic!("{script}: {e}"));
        let there = "SELECT (SELECT count(*) FROM pg_event_trigger), (SELECT count(*) FROM made_after), \
             has_table_privilege('reader', 'orders', 'SELECT')";
        assert_eq!(rig.cluster.sql(STAGED, there), "1|0|t", "{script}");
        let refused = "SET SESSION AUTHORIZATION app; CREATE TEMP TABLE t (x int)";
        let refused = rig.cluster.psql(STAGED, refused).unwrap_err();
        assert!(refused.contains("not you"), "{refused}");
    }
}

/// Default privileges of another role are that role's alone to make.
#[tokio::test]
async fn default_privileges_of_another_role_are_refused_by_the_plan() {
    let rig = shop("CREATE TABLE t (x int); INSERT INTO t VALUES (1)");
    rig.cluster.sql(
        "shop",
        "ALTER DEFAULT PRIVILEGES FOR ROLE bob GRANT SELECT ON TABLES TO app",
    );
    let component = rig.component("database = 'shop'\nuser = 'app'");
    for script in ["pg_dump -Fc shop >$DUMP", "pg_dump shop >$SQL"] {
        make(&rig, script);
        let inspection = component.inspect(&rig.cx().await).await.unwrap();
        let code = "postgres.foreign_roles";
        assert_eq!(codes(&inspection)[code], "error", "{script}");
        let told = finding(&inspection.findings, code);
        assert!(told.message.contains("(bob)"), "{told:?}");
        let error = component.stage(&rig.cx().await).await.unwrap_err();
        assert_eq!(error.code(), code, "{script}: {error}");
    }
    rig.cluster.sql("template1", "GRANT bob TO app");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert!(!hinders(&inspection), "{:?}", inspection.findings);
    component.stage(&rig.cx().await).await.unwrap();
}
