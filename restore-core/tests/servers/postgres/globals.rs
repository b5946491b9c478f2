//! Roles that a dump needs and the server lacks, from the backup.

use restore_core::component::Inspection;
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

/// What a plan says of roles that would be created.
fn said(inspection: &Inspection, code: &str) -> String {
    let finding = inspection.findings.iter().find(|it| it.code == code);
    finding.map(|it| it.message.clone()).unwrap_or_default()
}

#[tokio::test]
async fn a_setting_of_a_tenant_makes_nobody_powerful() {
    let rig = rig();
    let attack = "ALTER ROLE app SET search_path = E'public\\nGRANT postgres TO app;\\n\
                  ALTER ROLE reader WITH SUPERUSER;\\n\\\\connect x\\nCREATE ROLE staff SUPERUSER;\\nx'";
    rig.cluster.sql(
        "template1",
        "CREATE ROLE app LOGIN CREATEDB; CREATE ROLE staff; CREATE ROLE reader; GRANT staff TO reader",
    );
    let as_app = format!("SET SESSION AUTHORIZATION app; {attack}");
    rig.cluster.sql("template1", &as_app);
    rig.cluster.dump_all(&["--globals-only"], &globals(&rig));
    rig.list();
    rig.cluster
        .sql("template1", "DROP ROLE app; DROP ROLE staff, reader");
    let component = rig.component("database = 'shop'\nroles = 'create'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    let told = said(&inspection, "postgres.globals_unread");
    assert!(told.contains("ALTER ROLE app SET search_path"), "{told}");
    component.stage(&rig.cx().await).await.unwrap();
    let look = "SELECT rolname::text || rolsuper || rolcanlogin FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1";
    assert_eq!(
        rig.cluster.sql("template1", look),
        "appfalsetrue\nbobfalsetrue\npostgrestruetrue\nreaderfalsefalse\nstafffalsefalse"
    );
    let members = "SELECT string_agg(roleid::regrole || ' to ' || member::regrole, ',') \
                   FROM pg_auth_members WHERE member::regrole::text !~ '^pg_'";
    assert_eq!(rig.cluster.sql("template1", members), "staff to reader");
}

#[tokio::test]
async fn powerful_roles_take_a_word_and_passwords_reach_no_log() {
    let rig = rig();
    let file = globals(&rig);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "GRANT dba TO staff;\n").unwrap();
    rig.list();
    rig.cluster.sql(
        "template1",
        "CREATE ROLE dba; CREATE ROLE all_power SUPERUSER; GRANT all_power TO dba",
    );
    for set in ["log_statement = 'all'", "log_min_duration_statement = 0"] {
        rig.cluster
            .sql("template1", &format!("ALTER ROLE postgres SET {set}"));
    }
    let plain = rig.component("database = 'shop'\nroles = 'create'");
    let inspection = plain.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.powerful_roles"], "error");
    let told = said(&inspection, "postgres.powerful_roles");
    for words in ["by it of all_power, which has SUPERUSER", "member of staff"] {
        assert!(told.contains(words), "{told}");
    }
    let error = plain.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.powerful_roles");
    let roles = || rig.cluster.sql("template1", ROLES);
    assert_eq!(roles(), "all_power,bob,dba,postgres");

    // An SQL dump cannot be restored without them, the other can.
    let ignoring = rig.component("database = 'shop'\nroles = 'create'\nmissing_roles = 'ignore'");
    let inspection = ignoring.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.powerful_roles"], "warning");
    let staged = ignoring.stage(&rig.cx().await).await.unwrap();
    let told: Vec<&str> = staged.findings.iter().map(|it| it.code.as_str()).collect();
    assert!(told.contains(&"postgres.powerful_roles") && told.contains(&"postgres.without_owners"));
    assert_eq!(roles(), "all_power,bob,dba,postgres");

    let allowed =
        rig.component("database = 'shop'\nroles = 'create'\npowerful_roles = ['staff', 'reader']");
    allowed.stage(&rig.cx().await).await.unwrap();
    assert_eq!(roles(), "all_power,app,bob,dba,postgres,reader,staff");
    let log = rig.cluster.log();
    assert!(
        log.contains("CREATE DATABASE"),
        "the server logs statements"
    );
    assert!(
        !log.contains("CREATE ROLE \"app\"") && !log.contains("SCRAM"),
        "{log}"
    );
}

#[tokio::test]
async fn roles_of_a_run_that_was_ended_as_it_stood_stay() {
    let rig = rig();
    let component = rig.component("database = 'shop'\nroles = 'create'");
    component.stage(&rig.cx().await).await.unwrap();
    let kept = component.kept_by_runs().await.unwrap();
    let roles = kept.iter().find(|it| it.place.starts_with("roles "));
    assert_eq!(roles.unwrap().place, "roles app, reader, staff on postgres");
    assert_eq!(&roles.unwrap().run, rig.cx().await.run());
    // Abandoned, and confirmed later.
    let cx = rig.cx().await;
    component.discard(&cx, Discard::Replaced).await.unwrap();
    component.discard(&cx, Discard::Staged).await.unwrap();
    let roles = || rig.cluster.sql("template1", ROLES);
    assert_eq!(roles(), "app,bob,postgres,reader,staff");
}

#[tokio::test]
async fn roles_that_somebody_uses_stay() {
    let rig = rig();
    let component = rig.component("database = 'shop'\nroles = 'create'");
    component.stage(&rig.cx().await).await.unwrap();
    rig.cluster.sql("template1", "GRANT reader TO bob");
    // Whatever the configuration says by then.
    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await;
    component.discard(&cx, Discard::Staged).await.unwrap();
    let roles = || rig.cluster.sql("template1", ROLES);
    assert_eq!(roles(), "bob,postgres,reader,staff");
    rig.cluster.sql("template1", "REVOKE reader FROM bob");
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(roles(), "bob,postgres");
}

#[tokio::test]
async fn what_went_live_keeps_its_roles_without_the_mark() {
    let rig = rig();
    let component = rig.component("database = 'shop'\nroles = 'create'");
    component.stage(&rig.cx().await).await.unwrap();
    component.cut_over(&rig.cx().await).await.unwrap();
    let cx = rig.cx().await;
    component.discard(&cx, Discard::Replaced).await.unwrap();
    component.discard(&cx, Discard::Staged).await.unwrap();
    let comments = "SELECT string_agg(rolname || '=' || coalesce(shobj_description(oid, 'pg_authid'), ''), ',' ORDER BY rolname) \
                    FROM pg_roles WHERE rolname IN ('app', 'reader')";
    assert_eq!(
        rig.cluster.sql("template1", comments),
        "app=the shop's,reader="
    );
    assert_eq!(component.kept_by_runs().await.unwrap(), []);
}

#[tokio::test]
async fn databases_of_one_server_are_staged_at_once() {
    let rig = rig();
    let dump = rig.dump_file();
    std::fs::copy(&dump, dump.with_file_name("second.dump")).unwrap();
    rig.list();
    rig.cluster.sql("template1", "CREATE DATABASE other");
    let one = rig.component("database = 'shop'\nroles = 'create'");
    let two = rig.component(
        "database = 'other'\nroles = 'create'\ndump = ['postgres/second.dump']\n\
         globals = ['postgres/postgres-globals-{id}.sql']",
    );
    let facts = std::sync::Arc::new(restore_core::run::MemoryFacts::default());
    let cx_of_two = rig.cx_with(facts).await;
    let cx = rig.cx().await;
    let (first, second) = tokio::join!(one.stage(&cx), two.stage(&cx_of_two));
    first.unwrap();
    second.unwrap();
    let roles = || rig.cluster.sql("template1", ROLES);
    assert_eq!(roles(), "app,bob,postgres,reader,staff");
    one.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(
        roles(),
        "app,bob,postgres,reader,staff",
        "the other needs them"
    );
    two.discard(&cx_of_two, Discard::Staged).await.unwrap();
    assert_eq!(roles(), "bob,postgres");
}

/// Adds statements about roles to the backup's, behind those that make them.
fn add(rig: &Rig, statements: &str) {
    let text = std::fs::read_to_string(globals(rig)).unwrap();
    let with = text.replacen("\nGRANT ", &format!("\n{statements}\nGRANT "), 1);
    assert_ne!(text, with);
    std::fs::write(globals(rig), with).unwrap();
    rig.list();
}

/// A newer PostgreSQL has roles of its own that this one lacks: only the membership is left out.
#[tokio::test]
async fn members_of_a_newer_server_s_own_roles_are_created() {
    let rig = rig();
    add(&rig, "GRANT pg_of_the_future TO app;");
    let component = rig.component("database = 'shop'\nroles = 'create'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert!(!codes(&inspection).contains_key("postgres.missing_roles"));
    let mut told = inspection.findings.iter();
    let left = "app of pg_of_the_future";
    assert!(
        told.any(|it| it.code == "postgres.memberships_left" && it.message.contains(left)),
        "{:?}",
        inspection.findings
    );
    component.stage(&rig.cx().await).await.unwrap();
    let roles = rig.cluster.sql("template1", ROLES);
    assert_eq!(roles, "app,bob,postgres,reader,staff");
}

/// What the run goes on without is not said to be made.
#[tokio::test]
async fn roles_that_the_server_refuses_are_not_in_the_report() {
    let rig = rig();
    add(&rig, "ALTER ROLE app SET work_mem TO 'nonsense';");
    let lines = "database = 'shop'\nroles = 'create'\nmissing_roles = 'ignore'";
    let component = rig.component(lines);
    let cx = rig.cx().await;
    component.stage(&cx).await.unwrap();
    assert_eq!(rig.cluster.sql("template1", ROLES), "bob,postgres");
    assert!(cx.recall("made:role app").is_some());
    assert!(cx.recall("removed:role app").is_some());
}

/// Which of two servers' roles they are, nobody knows: those of the first by name are not created.
#[tokio::test]
async fn roles_of_several_files_are_not_created() {
    let rig = rig();
    let other = globals(&rig).with_file_name("other-globals.sql");
    std::fs::copy(globals(&rig), other).unwrap();
    rig.list();
    let lines = "database = 'shop'\nroles = 'create'\nglobals = ['postgres/*globals*.sql']";
    let component = rig.component(lines);
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert!(
        codes(&inspection).contains_key("postgres.several_globals"),
        "{:?}",
        inspection.findings
    );
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.several_globals");
    assert!(error.message().contains("other-globals.sql"), "{error}");
    assert_eq!(rig.cluster.sql("template1", ROLES), "bob,postgres");
}
