//! Roles that a dump needs and the server lacks, from the backup.

use restore_core::platform::Discard;
use restore_testing::pg::{Cluster, Rig};

use super::codes;

const ROLES: &str =
    "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'";

fn globals(rig: &Rig) -> std::path::PathBuf {
    let name = "postgres/postgres-globals-20240215-020000.sql";
    rig.folder().join(name)
}

/// A database of `app`, read by `reader`; the roles are in the backup, and gone from the server.
fn rig() -> Rig {
    let rig = Rig::new(Cluster::start("postgres"));
    rig.cluster.sql(
        "template1",
        "CREATE ROLE app LOGIN CREATEDB PASSWORD 'secret of app' CONNECTION LIMIT 9; \
         CREATE ROLE staff; CREATE ROLE reader; CREATE ROLE bob LOGIN; \
         GRANT staff TO reader; GRANT reader TO bob; CREATE ROLE unused; \
         ALTER ROLE app SET search_path = shop, public; COMMENT ON ROLE app IS 'the shop''s'",
    );
    let make = "CREATE DATABASE shop OWNER app";
    rig.cluster.sql("template1", make);
    rig.cluster.sql(
        "shop",
        "SET SESSION AUTHORIZATION app; CREATE SCHEMA s; CREATE TABLE s.t (x int); \
         INSERT INTO s.t VALUES (1); GRANT USAGE ON SCHEMA s TO reader; GRANT SELECT ON s.t TO reader",
    );
    rig.back_up("shop");
    rig.cluster.dump_all(&["--globals-only"], &globals(&rig));
    rig.list();
    rig.cluster.sql("template1", "DROP DATABASE shop");
    rig.cluster
        .sql("template1", "DROP ROLE app, staff, reader, unused");
    rig.cluster.sql("template1", "CREATE DATABASE shop");
    rig
}

#[tokio::test]
async fn roles_that_lack_are_created_and_taken_away_again() {
    let rig = rig();
    let component = rig.component("database = 'shop'\nroles = 'create'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert!(!codes(&inspection).contains_key("postgres.missing_roles"));
    let plan = |code: &str| {
        let finding = inspection.findings.iter().find(|it| it.code == code);
        finding.unwrap().message.clone()
    };
    let said = plan("postgres.roles_created");
    for words in [
        "app (CREATEDB, LOGIN, with its password)",
        "reader (member of staff); staff",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert!(
        !said.contains("SCRAM") && !said.contains("unused"),
        "{said}"
    );
    let left = plan("postgres.memberships_left");
    assert!(left.contains(r#"GRANT "reader" TO "bob""#), "{left}");
    let roles = || rig.cluster.sql("template1", ROLES);
    assert_eq!(roles(), "bob,postgres", "a plan makes nothing");

    component.stage(&rig.cx().await).await.unwrap();
    assert_eq!(roles(), "app,bob,postgres,reader,staff");
    let app = "SELECT rolcreatedb, rolconnlimit, rolpassword LIKE 'SCRAM%', rolname IN \
               (SELECT rolname FROM pg_roles WHERE rolconfig = ARRAY['search_path=shop, public']), \
               shobj_description(oid, 'pg_authid') FROM pg_authid WHERE rolname = 'app'";
    assert_eq!(
        rig.cluster.sql("template1", app),
        "t|9|t|t|the shop's (created by restore run 20240216-093000-7f3a)"
    );
    let members = "SELECT string_agg(roleid::regrole || ' to ' || member::regrole, ',') \
                   FROM pg_auth_members WHERE member::regrole::text !~ '^pg_'";
    assert_eq!(rig.cluster.sql("template1", members), "staff to reader");

    // What was staged goes, and the roles with it; one that something depends on stays.
    let notes = "CREATE TABLE notes (x int); GRANT SELECT ON notes TO staff";
    rig.cluster.sql("postgres", notes);
    let cx = rig.cx().await;
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(roles(), "bob,postgres,staff");
    rig.cluster.sql("postgres", "DROP TABLE notes");

    // What is live keeps them, also when the rest of the run is cleared away.
    component.stage(&rig.cx().await).await.unwrap();
    component.cut_over(&rig.cx().await).await.unwrap();
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(roles(), "app,bob,postgres,reader,staff");
    let sees = "SET SESSION AUTHORIZATION reader; SELECT count(*) FROM s.t";
    assert_eq!(rig.cluster.sql("shop", sees), "1");
    component.undo(&rig.cx().await).await.unwrap();
    let cx = rig.cx().await;
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(roles(), "bob,postgres");
}

#[tokio::test]
async fn roles_come_out_of_a_dump_of_all_databases_too() {
    let rig = rig();
    std::fs::remove_file(globals(&rig)).unwrap();
    std::fs::remove_file(rig.sql_file()).unwrap();
    rig.list();
    let component = rig.component("database = 'shop'\nroles = 'create'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.no_globals"], "error");

    std::fs::remove_file(rig.dump_file()).unwrap();
    let table = "CREATE ROLE app LOGIN; CREATE TABLE t (x int); INSERT INTO t VALUES (1); ALTER TABLE t OWNER TO app";
    rig.cluster.sql("shop", table);
    rig.cluster.dump_all(&[], &rig.sql_file());
    rig.list();
    rig.cluster.sql("shop", "DROP TABLE t; DROP ROLE app");
    let poor = rig.component("database = 'shop'\nroles = 'create'\nuser = 'bob'");
    let inspection = poor.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.roles_not_ours"], "error");
    component.stage(&rig.cx().await).await.unwrap();
    component.cut_over(&rig.cx().await).await.unwrap();
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 't'";
    assert_eq!(rig.cluster.sql("shop", owner), "app");
}
