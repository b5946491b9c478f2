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

/// A label is given to the restored database, or said to be lost: by the server, where nothing loaded reads it.
#[tokio::test]
async fn a_security_label_that_cannot_be_had_is_told() {
    let rig = shop("CREATE TABLE t (x int)", None, None);
    rig.cluster.sql(
        "shop",
        "SET allow_system_table_mods = on; \
         INSERT INTO pg_shseclabel (objoid, classoid, provider, label) \
         SELECT oid, 'pg_database'::regclass, 'guard', 'secret' FROM pg_database WHERE datname = 'shop'",
    );
    rig.cluster.dump("shop", &["-Fc"], &rig.dump_file());
    rig.list();
    let component = rig.component("database = 'shop'");
    let told = async || {
        let staged = component.stage(&rig.cx().await).await.unwrap();
        let mut found = staged.findings.iter();
        let found = found.find(|it| it.code == "postgres.properties_lost");
        let message = found.map(|it| it.message.clone());
        message.unwrap_or_else(|| panic!("{:?}", staged.findings))
    };
    let of_live = told().await;
    assert!(
        of_live.starts_with(
            "of the security labels of database shop the restored one cannot have these: that of guard: "
        ) && of_live.contains("is not loaded"),
        "{of_live}"
    );
    let staging = Discard::Staged;
    component.discard(&rig.cx().await, staging).await.unwrap();
    rig.cluster.sql("template1", "DROP DATABASE shop");
    let of_dump = told().await;
    assert!(
        of_dump.contains("`SECURITY LABEL FOR guard ON DATABASE shop IS 'secret' …`: "),
        "{of_dump}"
    );
    component.discard(&rig.cx().await, staging).await.unwrap();
}

#[tokio::test]
async fn tables_whose_rows_the_dump_leaves_out_are_told() {
    let rig = shop(
        // More tables than a report names.
        "CREATE TABLE orders (x int); CREATE TABLE users (x int); CREATE TABLE none (x int); \
         CREATE TABLE zones (x int); INSERT INTO zones VALUES (1); \
         DO 'BEGIN FOR i IN 1..250 LOOP EXECUTE format($$CREATE TABLE t%s (x int)$$, i); END LOOP; END'; \
         INSERT INTO orders VALUES (1); INSERT INTO users VALUES (1)",
        Some(&[
            "-Fc",
            "--exclude-table-data=orders",
            "--exclude-table-data=zones",
        ]),
        None,
    );
    let component = rig.component("database = 'shop'");
    let staged = component.stage(&rig.cx().await).await.unwrap();
    let mut told = staged.findings.iter();
    let told = told.find(|it| it.code == "postgres.tables_without_rows");
    let told = told.unwrap_or_else(|| panic!("{:?}", staged.findings));
    assert!(
        told.message.ends_with(": public.orders, public.zones"),
        "{}",
        told.message
    );
    component
        .discard(&rig.cx().await, Discard::Staged)
        .await
        .unwrap();
}

/// Far fewer rows than are live are put in their place only with a yes.
#[tokio::test]
async fn a_dump_of_a_few_rows_asks() {
    let rig = shop(
        "CREATE TABLE orders (x int); INSERT INTO orders SELECT generate_series(1, 5)",
        Some(&["-Fc"]),
        None,
    );
    let component = rig.component("database = 'shop'");
    let asks = |findings: &[restore_core::Finding]| {
        let mut asked = findings.iter().filter(|it| it.asks);
        let code = asked.next().map(|it| it.code.clone());
        assert!(asked.next().is_none(), "{findings:?}");
        code
    };
    let staged = component.stage(&rig.cx().await).await.unwrap();
    assert_eq!(asks(&staged.findings), None);
    let staging = Discard::Staged;
    component.discard(&rig.cx().await, staging).await.unwrap();
    rig.cluster.sql(
        "shop",
        "INSERT INTO orders SELECT generate_series(1, 5000); ANALYZE orders",
    );
    let staged = component.stage(&rig.cx().await).await.unwrap();
    let code = asks(&staged.findings);
    assert_eq!(code.as_deref(), Some("postgres.far_fewer_rows"));
    component.discard(&rig.cx().await, staging).await.unwrap();
}

#[tokio::test]
async fn owners_row_security_and_what_only_live_has_are_told() {
    let rig = shop(
        "CREATE TABLE orders (x int); CREATE TABLE users (x int); CREATE TABLE same (x int); CREATE SCHEMA s",
        Some(&["-Fc"]),
        None,
    );
    rig.cluster.sql("template1", "CREATE ROLE other");
    for sql in [
        "ALTER TABLE orders OWNER TO other",
        "ALTER SCHEMA s OWNER TO other",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON users FOR SELECT USING (x < 10)",
        "CREATE PUBLICATION pub FOR TABLE users",
        "CREATE SEQUENCE numbers",
    ] {
        rig.cluster.sql("shop", sql);
    }
    let component = rig.component("database = 'shop'");
    let staged = component.stage(&rig.cx().await).await.unwrap();
    let told = |code: &str| {
        let mut found = staged.findings.iter().filter(|it| it.code == code);
        let first = found.next().map(|it| it.message.clone());
        first.unwrap_or_else(|| panic!("no {code}: {:?}", staged.findings))
    };
    let owners = told("postgres.owners_changed");
    assert_eq!(
        owners,
        "public.orders, schema s belongs to other now, and to app in the restored database"
    );
    let rules = told("postgres.row_security_changed");
    assert!(
        rules.contains("row level security of public.users")
            && rules.contains("the policy mine of public.users"),
        "{rules}"
    );
    let missing = told("postgres.objects_missing");
    assert!(
        missing.contains("publication pub") && missing.contains("sequence public.numbers"),
        "{missing}"
    );
    component
        .discard(&rig.cx().await, Discard::Staged)
        .await
        .unwrap();
}

/// A function that runs as its owner does for everybody what only that role may do.
#[tokio::test]
async fn as_whom_code_runs_and_owners_of_every_kind_are_told() {
    let rig = shop(
        "SELECT lo_create(4242); CREATE PUBLICATION pub; CREATE VIEW v AS SELECT 1 AS x; \
         CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         CREATE FUNCTION g() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        Some(&["-Fc"]),
        None,
    );
    rig.cluster.sql("template1", "CREATE ROLE other");
    for sql in [
        "ALTER LARGE OBJECT 4242 OWNER TO other",
        "GRANT SELECT ON LARGE OBJECT 4242 TO reader",
        "ALTER PUBLICATION pub OWNER TO other",
        "ALTER FUNCTION f() SECURITY DEFINER",
        "ALTER FUNCTION g() SECURITY INVOKER",
    ] {
        rig.cluster.sql("shop", sql);
    }
    let component = rig.component("database = 'shop'");
    let staged = component.stage(&rig.cx().await).await.unwrap();
    let told = |code: &str| -> Vec<&str> {
        let found = staged.findings.iter().filter(|it| it.code == code);
        found.map(|it| it.message.as_str()).collect()
    };
    assert_eq!(
        told("postgres.owners_changed"),
        [
            "large object 4242, publication pub belongs to other now, and to app in the restored database"
        ]
    );
    assert_eq!(
        told("postgres.privileges_lost"),
        [
            "reader has SELECT on large object 4242 now, and will not have it in the restored database"
        ]
    );
    assert_eq!(
        told("postgres.runs_as_changed"),
        [
            "function public.f() runs as its owner now, and as who uses it in the restored database",
            "function public.g() runs as who uses it now, and as its owner in the restored database",
        ]
    );
    component
        .discard(&rig.cx().await, Discard::Staged)
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
        "CREATE TABLE t (x int, tenant text); INSERT INTO t SELECT x, 'a' FROM generate_series(1, 150) x; \
         ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY p ON t USING (tenant = current_setting('app.tenant'))",
        Some(&["-Fc"]),
        None,
    );
    rig.cluster.sql("shop", "ANALYZE t");
    let component = rig.component("database = 'shop'\nuser = 'app'");
    let staged = component.stage(&rig.cx().await).await.unwrap();
    assert_eq!(staged.facts["uncounted_tables"], 1);
    // What could not be counted is not said to be less than what is live.
    let asked = staged.findings.iter().find(|it| it.asks);
    assert!(asked.is_none(), "{asked:?}");
    component.cut_over(&rig.cx().await).await.unwrap();
    let outcomes = component.check(&rig.cx().await).await.unwrap();
    assert!(outcomes.iter().all(|it| it.passed), "{outcomes:?}");
    assert_eq!(rig.cluster.sql("shop", "SELECT count(*) FROM t"), "150");
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

/// What a dump says of the database itself, and of others, changes neither while it is staged.
#[tokio::test]
async fn staging_leaves_the_live_comment_and_other_databases_alone() {
    let rig = shop("CREATE TABLE t (x int)", None, Some(&[]));
    for sql in [
        "COMMENT ON DATABASE shop IS 'live'",
        "CREATE DATABASE other",
        "COMMENT ON DATABASE other IS 'its own'",
    ] {
        rig.cluster.sql("template1", sql);
    }
    let look = "SELECT datname, shobj_description(d.oid, 'pg_database'), setconfig FROM pg_database d \
                LEFT JOIN pg_db_role_setting ON setdatabase = d.oid \
                WHERE datname IN ('shop', 'other') ORDER BY 1";
    let before = rig.cluster.sql("template1", look);
    assert_eq!(before, "other|its own|\nshop|live|");
    let dump = std::fs::read_to_string(rig.sql_file()).unwrap();
    let component = rig.component("database = 'shop'");
    for (more, code) in [
        ("COMMENT ON DATABASE shop IS 'of the dump';", None),
        ("COMMENT ON DATABASE other IS 'of the dump';", None),
        (
            "ALTER DATABASE other SET work_mem = '1MB';",
            Some("postgres.sql_beyond"),
        ),
        ("DROP DATABASE other;", Some("postgres.sql_beyond")),
    ] {
        let start = "SET client_min_messages = warning;\n";
        let with = dump.replacen(start, &format!("{start}{more}\n"), 1);
        assert!(with.contains(more), "{dump}");
        std::fs::write(rig.sql_file(), with).unwrap();
        rig.list();
        let cx = rig.cx().await;
        let staged = component.stage(&cx).await;
        let refused = staged.as_ref().err().map(restore_core::Error::code);
        assert_eq!(refused, code, "{more}");
        component.discard(&cx, Discard::Staged).await.unwrap();
        assert_eq!(rig.cluster.sql("template1", look), before, "{more}");
    }
}

/// A server has room for so many locks, which are held until a transaction ends.
#[tokio::test]
async fn more_tables_than_there_are_locks_are_restored_and_counted() {
    let rig = shop("SELECT 1", None, None);
    let each = |what: &str| {
        format!("DO $$BEGIN FOR i IN 1..1500 LOOP EXECUTE format('{what}', i); END LOOP; END$$")
    };
    rig.cluster
        .sql("shop", &each("CREATE TABLE t%s AS SELECT 1 AS x"));
    rig.cluster.dump("shop", &["-Fc"], &rig.dump_file());
    rig.list();
    let few = [
        "-c",
        "max_locks_per_transaction=10",
        "-c",
        "max_connections=20",
        "-c",
        "max_pred_locks_per_transaction=10",
    ];
    rig.cluster.restart_with(&few);
    let locked = each("LOCK TABLE t%s IN ACCESS SHARE MODE");
    let refused = rig.cluster.psql("shop", &locked).unwrap_err();
    assert!(refused.contains("out of shared memory"), "{refused}");

    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await;
    let staged = component.stage(&cx).await.unwrap();
    assert_eq!(staged.facts["tables"], 1500, "{:?}", staged.facts);
    let mut told = staged.findings.iter();
    assert!(
        !told.any(|it| it.message.contains("ANALYZE")),
        "{:?}",
        staged.findings
    );
    component.cut_over(&cx).await.unwrap();
    let outcomes = component.check(&cx).await.unwrap();
    assert!(outcomes.iter().all(|it| it.passed), "{outcomes:?}");
}
