//! A database and its roles that are absent: made for a run that was told so, and taken away again.

use restore_core::platform::Discard;
use restore_core::run::CutOver;
use restore_testing::pg::{Cluster, Rig};

use super::codes;

const ROLES: &str =
    "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'";
const PROPERTIES: &str = "SELECT pg_get_userbyid(datdba), datconnlimit, \
    (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(datacl) a), \
    (SELECT string_agg(setconfig::text, ',') FROM pg_db_role_setting WHERE setdatabase = d.oid), \
    shobj_description(oid, 'pg_database') FROM pg_database d WHERE datname = 'shop'";
const CONFIG: &str = "database = 'shop'";

/// A server of which the database `shop` and its owner are gone, and a backup of both.
fn rig() -> (Rig, String) {
    let rig = Rig::new(Cluster::start("postgres"));
    rig.cluster.sql(
        "template1",
        "CREATE ROLE app LOGIN PASSWORD 'secret of app'; CREATE ROLE reader; \
         GRANT reader TO app; ALTER ROLE app SET work_mem = '5MB'",
    );
    rig.cluster
        .sql("template1", "CREATE DATABASE shop OWNER app");
    rig.cluster.sql(
        "template1",
        "ALTER DATABASE shop CONNECTION LIMIT 7; ALTER DATABASE shop SET work_mem = '6MB'; \
         COMMENT ON DATABASE shop IS 'all of it'; GRANT CONNECT ON DATABASE shop TO reader; \
         REVOKE CONNECT ON DATABASE shop FROM PUBLIC",
    );
    rig.cluster.sql(
        "shop",
        "SET SESSION AUTHORIZATION app; CREATE TABLE t (x int); INSERT INTO t VALUES (1)",
    );
    rig.back_up("shop");
    let globals = "postgres/postgres-globals-20240215-020000.sql";
    rig.cluster
        .dump_all(&["--globals-only"], &rig.folder().join(globals));
    rig.list();
    let properties = rig.cluster.sql("template1", PROPERTIES);
    rig.cluster.sql("template1", "DROP DATABASE shop");
    rig.cluster.sql("template1", "DROP ROLE app, reader");
    (rig, properties)
}

#[tokio::test]
async fn a_database_and_its_roles_are_made_and_taken_away_again() {
    let (rig, properties) = rig();
    let roles = || rig.cluster.sql("template1", ROLES);
    let component = rig.component(CONFIG);
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.missing_roles"], "error");
    let refused = inspection.findings.iter();
    let mut refused = refused.filter(|it| it.code == "postgres.missing_roles");
    let hint = refused.next().unwrap().hint.clone().unwrap();
    assert!(hint.contains("--create"), "{hint}");

    let cx = rig.cx().await.with_create(true);
    let inspection = component.inspect(&cx).await.unwrap();
    let errors = inspection.findings.iter();
    let errors: Vec<_> = errors
        .filter(|it| it.severity == restore_core::Severity::Error)
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    let mut creates = inspection.creates.clone();
    creates.sort();
    assert_eq!(creates, ["database shop", "role app", "role reader"]);
    assert_eq!(roles(), "postgres", "a plan makes nothing");
    let globals = inspection
        .artifacts
        .iter()
        .find(|it| it.contains("globals"));
    assert!(globals.is_some(), "{:?}", inspection.artifacts);

    component.stage(&cx).await.unwrap();
    for what in &creates {
        assert!(cx.recall(&format!("made:{what}")).is_some(), "{what}");
    }
    component.cut_over(&cx).await.unwrap();
    assert_eq!(rig.cluster.sql("template1", PROPERTIES), properties);
    assert_eq!(roles(), "app,postgres,reader");
    assert_eq!(rig.cluster.sql("shop", "SELECT count(*) FROM t"), "1");

    // As long as it is live, so are its roles.
    let live = cx.clone().with_cut_over(CutOver::Done);
    component.discard(&live, Discard::Staged).await.unwrap();
    assert_eq!(roles(), "app,postgres,reader");
    component.undo(&live).await.unwrap();
    let back = cx.clone().with_cut_over(CutOver::TakenBack);
    component.discard(&back, Discard::Staged).await.unwrap();
    assert_eq!(roles(), "postgres");
    let left = "SELECT count(*) FROM pg_database WHERE datname ~ 'shop'";
    assert_eq!(rig.cluster.sql("template1", left), "0");
    for what in &creates {
        assert!(cx.recall(&format!("removed:{what}")).is_some(), "{what}");
    }
}

/// Roles that only the globals name: one that signs in, with its group, and one with power over the server.
const OTHERS: &str = "CREATE ROLE staff; CREATE ROLE signer LOGIN PASSWORD 'secret of signer'; \
     GRANT staff TO signer; CREATE ROLE boss LOGIN SUPERUSER; CREATE ROLE deputy; GRANT boss TO deputy";

fn rig_with_others() -> Rig {
    let (rig, _) = rig();
    rig.cluster.sql("template1", OTHERS);
    rig.cluster.sql(
        "template1",
        "CREATE ROLE app LOGIN; CREATE ROLE reader; GRANT reader TO app",
    );
    let globals = "postgres/postgres-globals-20240215-020000.sql";
    rig.cluster
        .dump_all(&["--globals-only"], &rig.folder().join(globals));
    rig.list();
    rig.cluster.sql(
        "template1",
        "DROP ROLE app, reader, staff, signer, boss, deputy",
    );
    rig
}

/// What a plan says of them.
fn left(inspection: &restore_core::component::Inspection) -> restore_core::Finding {
    let mut found = inspection.findings.iter();
    let left = found.find(|it| it.code == "postgres.roles_left");
    left.expect("roles that are not created are named").clone()
}

#[tokio::test]
async fn a_role_that_only_signs_in_is_made_with_the_database() {
    let rig = rig_with_others();
    let roles = || rig.cluster.sql("template1", ROLES);
    let component = rig.component(CONFIG);
    let cx = rig.cx().await.with_create(true);
    let inspection = component.inspect(&cx).await.unwrap();
    let mut creates = inspection.creates.clone();
    creates.sort();
    let all = [
        "database shop",
        "role app",
        "role reader",
        "role signer",
        "role staff",
    ];
    assert_eq!(creates, all);
    let told = left(&inspection);
    assert!(
        told.message.contains("boss (SUPERUSER, LOGIN") && told.message.contains("deputy"),
        "{told:?}"
    );
    let hint = told.hint.unwrap();
    assert!(
        hint.contains(r#"powerful_roles = ["boss", "deputy"]"#),
        "{hint}"
    );
    assert_eq!(roles(), "postgres", "a plan makes nothing");

    component.stage(&cx).await.unwrap();
    assert_eq!(roles(), "app,postgres,reader,signer,staff");
    let signs = "SELECT rolcanlogin, rolpassword LIKE 'SCRAM%', pg_has_role('signer', 'staff', 'MEMBER') \
                 FROM pg_authid WHERE rolname = 'signer'";
    assert_eq!(rig.cluster.sql("template1", signs), "t|t|t");
    for what in &creates {
        assert!(cx.recall(&format!("made:{what}")).is_some(), "{what}");
    }
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(roles(), "postgres", "what was made for nothing goes again");

    // Allowed by name, they come too.
    let allowed = rig.component("database = 'shop'\npowerful_roles = ['boss', 'deputy']");
    let cx = rig.cx().await.with_create(true);
    allowed.stage(&cx).await.unwrap();
    assert_eq!(roles(), "app,boss,deputy,postgres,reader,signer,staff");
}

#[tokio::test]
async fn a_role_that_only_signs_in_is_told_where_it_is_not_made() {
    let rig = rig_with_others();
    let component = rig.component(CONFIG);
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    let told = left(&inspection);
    assert!(
        told.message.contains("signer (LOGIN, with its password"),
        "{told:?}"
    );
    assert!(
        !told.message.contains("app (") && !told.message.contains("SCRAM"),
        "{told:?}"
    );
    assert!(
        told.hint
            .unwrap()
            .contains("restore run 20240215-020000 --create")
    );

    // A database that is there is not made: who was dropped on purpose does not come back with it.
    rig.cluster
        .sql("template1", "CREATE ROLE app; CREATE ROLE reader");
    rig.cluster.sql("template1", "CREATE DATABASE shop");
    let cx = rig.cx().await.with_create(true);
    let inspection = component.inspect(&cx).await.unwrap();
    assert_eq!(inspection.creates, [""; 0]);
    let hint = left(&inspection).hint.unwrap();
    assert!(
        hint.contains("restore get 20240215-020000 postgres/postgres-globals-20240215-020000.sql"),
        "{hint}"
    );
    component.stage(&cx).await.unwrap();
    let roles = || rig.cluster.sql("template1", ROLES);
    assert_eq!(roles(), "app,postgres,reader");
}
