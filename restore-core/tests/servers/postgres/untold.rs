//! What a dump's objects do not carry, and what would be lost without a word.

use restore_core::platform::Discard;

use super::{codes, rig};
use restore_testing::pg::{Cluster, Rig};

/// A database `shop` of `app`, dumped with these arguments in the custom format and as SQL.
fn shop(sql: &str, dump: Option<&[&str]>, text: Option<&[&str]>) -> Rig {
    let rig = Rig::new(Cluster::start("root_of_all"));
    let roles = "CREATE ROLE app LOGIN CREATEDB; CREATE ROLE reader; CREATE ROLE bob LOGIN";
    rig.cluster.sql("template1", roles);
    rig.cluster
        .sql("template1", "CREATE DATABASE shop OWNER app");
    rig.cluster
        .sql("shop", &format!("SET SESSION AUTHORIZATION app; {sql}"));
    if let Some(args) = dump {
        rig.cluster.dump("shop", args, &rig.dump_file());
    }
    if let Some(args) = text {
        rig.cluster.dump("shop", args, &rig.sql_file());
    }
    rig.list();
    rig
}

#[tokio::test]
async fn a_dropped_database_gets_its_properties_from_the_dump() {
    let rig = shop("CREATE TABLE t (x int)", None, None);
    for sql in [
        "ALTER DATABASE shop SET search_path = s, public",
        "ALTER ROLE app IN DATABASE shop SET work_mem = '9MB'",
        "REVOKE CONNECT ON DATABASE shop FROM PUBLIC",
        "GRANT CONNECT ON DATABASE shop TO reader WITH GRANT OPTION",
        "SET ROLE reader; GRANT CONNECT ON DATABASE shop TO bob",
        "COMMENT ON DATABASE shop IS 'it''s ours'",
        "ALTER DATABASE shop CONNECTION LIMIT 7",
    ] {
        rig.cluster.sql("template1", sql);
    }
    rig.back_up("shop");
    rig.list();
    let before = rig.cluster.properties("shop");
    rig.cluster.sql("template1", "DROP DATABASE shop");
    let component = rig.component("database = 'shop'");
    let staged = component.stage(&rig.cx().await).await.unwrap();
    let told: Vec<&str> = staged.findings.iter().map(|it| it.code.as_str()).collect();
    assert_eq!(told, ["postgres.properties_of_dump"]);
    component.cut_over(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.properties("shop"), before);
}

#[tokio::test]
async fn template_flag_and_grantors_are_carried_over() {
    let rig = shop("CREATE TABLE t (x int)", Some(&["-Fc"]), None);
    for sql in [
        "REVOKE ALL ON DATABASE shop FROM PUBLIC",
        "GRANT CONNECT ON DATABASE shop TO reader WITH GRANT OPTION",
        "SET ROLE reader; GRANT CONNECT ON DATABASE shop TO bob",
        "ALTER DATABASE shop IS_TEMPLATE true",
    ] {
        rig.cluster.sql("template1", sql);
    }
    let look = "SELECT datistemplate, array(SELECT unnest(datacl)::text ORDER BY 1) \
                FROM pg_database WHERE datname = 'shop'";
    let before = rig.cluster.sql("template1", look);
    let component = rig.component("database = 'shop'");
    component.stage(&rig.cx().await).await.unwrap();
    component.cut_over(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.sql("template1", look), before);
    component
        .discard(&rig.cx().await, Discard::Replaced)
        .await
        .unwrap();
}

#[tokio::test]
async fn privileges_that_change_are_told_of_every_kind() {
    let rig = shop(
        "CREATE TABLE t (x int, y int); GRANT SELECT (x) ON t TO bob; CREATE SCHEMA s; \
         GRANT USAGE ON SCHEMA s TO reader; \
         CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         REVOKE EXECUTE ON FUNCTION f() FROM PUBLIC; \
         ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader",
        Some(&["-Fc", "--no-acl"]),
        None,
    );
    let component = rig.component("database = 'shop'");
    let staged = component.stage(&rig.cx().await).await.unwrap();
    let told: Vec<&str> = staged
        .findings
        .iter()
        .map(|it| it.message.as_str())
        .collect();
    for words in [
        "bob has SELECT on column public.t.x now",
        "reader has USAGE on schema s now",
        "PUBLIC will have EXECUTE on function public.f()",
        "reader has SELECT on default privileges of app on tables now",
    ] {
        assert!(
            told.iter().any(|it| it.contains(words)),
            "{words}: {told:#?}"
        );
    }
}

#[tokio::test]
async fn dumps_of_every_making_are_restored_or_refused_in_the_plan() {
    for (dump, text) in [
        (Some(&["-Fc", "-n", "public"][..]), None),
        (Some(&["-Ft"][..]), None),
        (None, Some(&["-n", "public"][..])),
        (None, Some(&["--no-owner", "--no-acl"][..])),
        (None, Some(&["--clean"][..])),
    ] {
        let rig = shop(
            "CREATE TABLE t (x int); INSERT INTO t VALUES (1)",
            dump,
            text,
        );
        let component = rig.component("database = 'shop'");
        let inspection = component.inspect(&rig.cx().await).await.unwrap();
        assert!(codes(&inspection).is_empty(), "{:?}", inspection.findings);
        component.stage(&rig.cx().await).await.unwrap();
        component.cut_over(&rig.cx().await).await.unwrap();
        let sees = "SET SESSION AUTHORIZATION app; SELECT count(*) FROM t";
        assert_eq!(rig.cluster.sql("shop", sees), "1", "{dump:?} {text:?}");
    }
}

#[tokio::test]
async fn a_dump_without_rows_takes_a_word() {
    let rig = shop(
        "CREATE TABLE t (x int); INSERT INTO t VALUES (1)",
        Some(&["-Fc", "--schema-only"]),
        None,
    );
    rig.cluster.sql("shop", "CREATE TABLE newer (x int)");
    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await;
    let inspection = component.inspect(&cx).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.no_rows"], "error");
    assert_eq!(codes(&inspection)["postgres.fewer_tables"], "warning");
    let lacking = inspection
        .findings
        .iter()
        .find(|it| it.code == "postgres.fewer_tables");
    assert!(lacking.unwrap().message.ends_with(": public.newer"));
    let inspection = component.inspect(&cx.with_empty(true)).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.no_rows"], "warning");
}

#[tokio::test]
async fn policies_of_roles_that_lack_are_refused_whatever_is_ignored() {
    let rig = rig(Cluster::start("root_of_all"), "shop");
    rig.cluster.sql(
        "gold",
        "CREATE ROLE ghost; CREATE TABLE p (x int); ALTER TABLE p ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY p ON p TO ghost USING (true)",
    );
    rig.back_up("gold");
    rig.list();
    rig.cluster
        .sql("gold", "DROP POLICY p ON p; DROP ROLE ghost");
    let component = rig.component("database = 'shop'\nmissing_roles = 'ignore'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.missing_roles"], "error");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.missing_roles");
}

#[tokio::test]
async fn row_security_of_the_owner_hinders_nothing() {
    let rig = shop(
        "CREATE TABLE t (x int, tenant text); INSERT INTO t VALUES (1, 'a'), (2, 'b'); \
         ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY p ON t USING (tenant = current_setting('app.tenant'))",
        Some(&["-Fc"]),
        None,
    );
    let component = rig.component("database = 'shop'\nuser = 'app'");
    let staged = component.stage(&rig.cx().await).await.unwrap();
    assert_eq!(staged.facts["uncounted_tables"], 1);
    component.cut_over(&rig.cx().await).await.unwrap();
    let outcomes = component.check(&rig.cx().await).await.unwrap();
    assert!(outcomes.iter().all(|it| it.passed), "{outcomes:?}");
    assert_eq!(rig.cluster.sql("shop", "SELECT count(*) FROM t"), "2");
}

#[tokio::test]
async fn a_closed_database_is_opened_and_subscriptions_go_with_the_replaced_one() {
    let rig = shop("CREATE TABLE t (x int)", Some(&["-Fc"]), None);
    rig.cluster.sql(
        "shop",
        "CREATE SUBSCRIPTION s1 CONNECTION 'host=127.0.0.1 port=1 dbname=p' PUBLICATION p WITH (connect = false)",
    );
    let shut = "ALTER DATABASE shop ALLOW_CONNECTIONS false CONNECTION LIMIT 5";
    rig.cluster.sql("template1", shut);
    let component = rig.component("database = 'shop'");
    component.stage(&rig.cx().await).await.unwrap();
    component.cut_over(&rig.cx().await).await.unwrap();
    let outcomes = component.check(&rig.cx().await).await.unwrap();
    assert!(outcomes.iter().all(|it| it.passed), "{outcomes:?}");
    let state = "SELECT datallowconn, datconnlimit FROM pg_database WHERE datname = 'shop'";
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.sql("template1", state), "f|5");
    component.cut_over(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.sql("template1", state), "t|5");
    let cx = rig.cx().await;
    component.discard(&cx, Discard::Replaced).await.unwrap();
    assert_eq!(rig.cluster.databases(), ["shop"]);
}

#[tokio::test]
async fn nobody_is_locked_out_by_a_session_that_may_not_be_ended() {
    let rig = shop("CREATE TABLE t (x int)", Some(&["-Fc"]), None);
    let component = rig.component("database = 'shop'\nuser = 'app'");
    component.stage(&rig.cx().await).await.unwrap();
    let mut other = rig
        .cluster
        .psql_command("shop", "SELECT pg_sleep(60)")
        .spawn()
        .unwrap();
    let there = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'";
    while rig.cluster.sql("template1", there) != "1" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.foreign_sessions"], "warning");
    let error = component.cut_over(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.in_use");
    let open = "SELECT datallowconn FROM pg_database WHERE datname = 'shop'";
    assert_eq!(rig.cluster.sql("template1", open), "t");
    other.kill().unwrap();
    other.wait().unwrap();
}
