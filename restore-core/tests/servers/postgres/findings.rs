//! What a plan finds on the server: passwords, roles, extensions, owners, holders, privileges.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::PathBuf;

use restore_core::component::Registry;
use restore_core::platform::Discard;
use restore_core::{Finding, PlanRequest, RunOptions, Site};
use restore_testing::archives::{self, put};
use restore_testing::pg::{Cluster, Rig};

use super::{assert_checks_pass, codes, fingerprint, rig};

#[tokio::test]
async fn a_wrong_password_is_a_clear_finding() {
    let rig = Rig::new(Cluster::with_password("boss", "right"));
    std::fs::write(rig.dump_file(), "x").unwrap();
    std::fs::write(rig.backups.path().join("wrong"), "s3cret-typo").unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(rig.backups.path().join("wrong"), closed).unwrap();
    for lines in [
        "database = 'shop'\npassword_file = 'wrong'",
        "database = 'shop'",
    ] {
        let component = rig.component(lines);
        let cx = rig.cx().await;
        let inspection = component.inspect(&cx).await.unwrap();
        assert_eq!(codes(&inspection)["postgres.auth"], "error");
        let error = component.stage(&cx).await.unwrap_err();
        assert_eq!(error.code(), "postgres.auth");
        assert!(error.to_string().contains("boss"), "{error}");
        let all = format!("{error:?} {:?}", inspection);
        assert!(!all.contains("s3cret-typo"));
    }
}

/// Roles are missed before the downtime.
#[tokio::test]
async fn roles_that_the_server_lacks() {
    let rig = rig(Cluster::start("postgres"), "shop");
    // The next server never had them.
    rig.cluster.sql("gold", "DROP OWNED BY reader");
    rig.cluster.sql("gold", "CREATE ROLE gone; CREATE ROLE \"Gone Too\"; ALTER TABLE users OWNER TO gone; GRANT SELECT ON orders TO \"Gone Too\"");
    rig.back_up("gold");
    rig.list();
    rig.cluster.sql("gold", "ALTER TABLE users OWNER TO app; REVOKE ALL ON orders FROM \"Gone Too\"; DROP ROLE gone; DROP ROLE \"Gone Too\"");

    let component = rig.component("database = 'shop'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.missing_roles"], "error");
    let finding = &inspection.findings[0];
    assert!(finding.message.contains("(Gone Too, gone)"), "{finding:?}");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.missing_roles");
    assert_eq!(rig.cluster.databases(), ["gold", "shop"]);

    let component = rig.component("database = 'shop'\nmissing_roles = 'ignore'");
    // Where the live owner is no superuser, it may not make every object; it may all of these.
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.missing_roles"], "warning");
    let staged = component.stage(&rig.cx().await).await.unwrap();
    assert_eq!(staged.findings[0].code, "postgres.without_owners");
    component.cut_over(&rig.cx().await).await.unwrap();
    assert_eq!(
        rig.cluster.sql(
            "shop",
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
        ),
        "app",
        "the application's user can use its tables"
    );

    // psql cannot leave owners out.
    std::fs::remove_file(rig.dump_file()).unwrap();
    component.undo(&rig.cx().await).await.unwrap();
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.missing_roles"], "error");
}

/// So are extensions.
#[tokio::test]
async fn extensions_and_tablespaces_that_the_server_lacks() {
    let rig = rig(Cluster::start("postgres"), "shop");
    // The names stand in the dump's table of contents as they are.
    let mut dump = std::fs::read(rig.dump_file()).unwrap();
    let (old, new) = (b"pg_trgm", b"no_such");
    for at in 0..dump.len() - old.len() {
        if &dump[at..at + old.len()] == old {
            dump[at..at + old.len()].copy_from_slice(new);
        }
    }
    std::fs::write(rig.dump_file(), dump).unwrap();
    let component = rig.component("database = 'shop'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.missing_extensions"], "error");
    assert!(inspection.findings[0].message.ends_with(": no_such"));

    std::fs::remove_file(rig.dump_file()).unwrap();
    let sql = "-- Name: t; Type: TABLE; Schema: public; Owner: app; Tablespace: fast\n--\n\
               SET default_tablespace = faster;\n\
               -- PostgreSQL database dump complete\n";
    std::fs::write(rig.sql_file(), sql).unwrap();
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.missing_tablespaces"], "error");
    assert!(inspection.findings[0].message.ends_with(": fast, faster"));
}

#[tokio::test]
async fn an_owner_who_is_no_superuser() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql("template1", "CREATE ROLE owner LOGIN");
    rig.cluster
        .sql("template1", "CREATE DATABASE plain OWNER owner");
    let as_owner = "SET ROLE owner; CREATE EXTENSION citext; CREATE TABLE t (id int PRIMARY KEY, x citext); INSERT INTO t VALUES (1, 'a'); SELECT lo_from_bytea(1, 'x')";
    rig.cluster.sql("plain", as_owner);
    rig.back_up("plain");
    rig.list();
    let gold = rig.cluster.content("plain");
    let component = rig.component("database = 'shop'\nuser = 'owner'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    let found = codes(&inspection);
    assert_eq!(found["postgres.no_createdb"], "error");
    assert_eq!(found["postgres.not_owner"], "error");
    assert_eq!(found["postgres.foreign_settings"], "error");

    rig.cluster.sql(
        "template1",
        "ALTER ROLE owner CREATEDB; ALTER ROLE reader IN DATABASE shop RESET ALL; ALTER DATABASE shop OWNER TO owner",
    );
    // A setting that only superusers make: found in staging, while users are served.
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.not_permitted");
    assert!(error.to_string().contains("app.motto"), "{error}");
    rig.cluster
        .sql("template1", "ALTER DATABASE shop RESET app.motto");
    let before = fingerprint(&rig, "shop");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    let found: Vec<&str> = codes(&inspection).into_keys().collect();
    assert_eq!(found, ["postgres.fewer_tables"], "users and only_live go");
    component.stage(&rig.cx().await).await.unwrap();
    component.cut_over(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), gold);
    assert_eq!(rig.cluster.properties("shop"), before.1);
    assert_checks_pass(&component, &rig).await;
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(fingerprint(&rig, "shop"), before);

    // Objects of others in the dump, and an extension for superusers only.
    rig.cluster.sql(
        "plain",
        "CREATE TABLE foreign_table (x int); CREATE EXTENSION pageinspect",
    );
    rig.back_up("plain");
    rig.list();
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.foreign_roles"], "error");
    assert_eq!(codes(&inspection)["postgres.closed_extensions"], "error");
}

#[tokio::test]
async fn what_holds_on_to_the_live_database() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    component.stage(&rig.cx().await).await.unwrap();
    rig.cluster.sql(
        "shop",
        "SELECT pg_create_logical_replication_slot('follower', 'test_decoding', false, false)",
    );
    rig.cluster.sql(
        "shop",
        "BEGIN; INSERT INTO users VALUES (3); PREPARE TRANSACTION 'pending'",
    );
    rig.cluster.sql(
        "shop",
        "CREATE SUBSCRIPTION feed CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)",
    );
    let before = rig.cluster.properties("shop");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    let found = codes(&inspection);
    assert_eq!(found["postgres.prepared_transactions"], "error");
    assert_eq!(found["postgres.replication_slots"], "warning");
    assert_eq!(found["postgres.subscriptions"], "warning");
    let error = component.cut_over(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.prepared_transactions");
    assert!(error.to_string().contains("pending"));
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.properties("shop"), before);

    rig.cluster.sql("shop", "ROLLBACK PREPARED 'pending'");
    component.cut_over(&rig.cx().await).await.unwrap();
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.properties("shop"), before);
}

#[tokio::test]
async fn wrong_configuration_is_named() {
    let rig = Rig::new(Cluster::start("postgres"));
    let bad = [
        (
            "database = 'postgres'\nmaintenance_database = 'postgres'",
            "config.bad_value",
        ),
        ("database = 'template1'", "config.bad_value"),
        ("database = 'x'\njobs = 0", "config.bad_value"),
        ("database = 'x'\npasword_file = 'x'", "config.unknown_key"),
        (
            "database = 'x'\npassword_file = 'a'\npassword_env = 'B'",
            "config.two_passwords",
        ),
    ];
    for (lines, code) in bad {
        let mut table: restore_core::config::Table = toml::from_str(lines).unwrap();
        table.insert("service".to_owned(), "postgres".into());
        table.insert("user".to_owned(), "x".into());
        let registry = restore_core::component::Registry::default();
        table.insert("kind".to_owned(), "postgres".into());
        let parts = rig.parts(false);
        let Err(error) = registry.make("db", table, &parts) else {
            panic!("{lines}");
        };
        assert_eq!(error.code(), code, "{error}");
    }
}

/// The runbook's troubleshooting: privileges that the dump does not bring are granted while the
/// database is staged, and who would lose some is told; all indexes are built anew on demand.
#[tokio::test]
async fn privileges_are_repaired_and_indexes_rebuilt() {
    let rig = rig(Cluster::start("root_of_all"), "shop");
    rig.cluster.sql("template1", "CREATE ROLE reporting");
    rig.cluster
        .sql("shop", "GRANT SELECT, INSERT ON users TO reporting");
    let cx = rig.cx().await;
    let plain = rig.component("database = 'shop'");
    let staged = plain.stage(&cx).await.unwrap();
    let lost: Vec<&str> = staged
        .findings
        .iter()
        .filter(|it| it.code == "postgres.privileges_lost")
        .map(|it| it.message.as_str())
        .collect();
    assert_eq!(lost.len(), 2, "{:?}", staged.findings);
    assert!(
        lost[0].contains("reporting has INSERT on public.users"),
        "{lost:?}"
    );
    assert!(
        lost[1].contains("reporting has SELECT on public.users"),
        "{lost:?}"
    );

    let component = rig.component(
        "database = 'shop'\nreindex = true\ngrants = ['GRANT SELECT, INSERT ON users TO reporting', \
         'ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO reporting']",
    );
    let staged = component.stage(&cx).await.unwrap();
    let codes: Vec<&str> = staged.findings.iter().map(|it| it.code.as_str()).collect();
    assert!(!codes.contains(&"postgres.privileges_lost"), "{codes:?}");
    component.cut_over(&cx).await.unwrap();
    // An index that was never rebuilt has the file that it was made with.
    let rebuilt = "SELECT count(*) > 0 AND bool_and(relfilenode <> oid) FROM pg_class \
                   WHERE relkind = 'i' AND relnamespace = 'public'::regnamespace";
    assert_eq!(rig.cluster.sql("shop", rebuilt), "t");
    let may = "SELECT has_table_privilege('reporting', 'users', 'INSERT')";
    assert_eq!(rig.cluster.sql("shop", may), "t");
    rig.cluster.sql("shop", "CREATE TABLE made_later (id int)");
    let may = "SELECT has_table_privilege('reporting', 'made_later', 'SELECT')";
    assert_eq!(rig.cluster.sql("shop", may), "t");
    component.undo(&cx).await.unwrap();

    // One that cannot be done is found while staging.
    let wrong =
        rig.component("database = 'shop'\ngrants = ['GRANT SELECT ON users TO nobody_there']");
    let error = wrong.stage(&cx).await.unwrap_err();
    assert!(error.message().contains("nobody_there"), "{error}");
    wrong.discard(&cx, Discard::Staged).await.unwrap();
}

/// What is said of files of a running server, by a plan for this component.
async fn of_the_server(site: &archives::Site, only: &str) -> Vec<Finding> {
    let site = site.open().await;
    let backup = site.backup(archives::ID).await.unwrap();
    let request = PlanRequest::all().only([only]);
    let plan = site.plan_with(&backup, request, &RunOptions::new()).await;
    let findings = plan.unwrap().findings.into_iter();
    findings
        .filter(|it| it.code == "plan.server_inside")
        .collect()
}

/// A tree above what a running server works with would move that away; `confirm` would delete it.
#[tokio::test]
async fn a_tree_with_the_data_of_a_running_server_is_refused() {
    let cluster = Cluster::start("postgres");
    let home = PathBuf::from(cluster.endpoint().host);
    let fast = home.join("fast");
    std::fs::create_dir(&fast).unwrap();
    let its = home.metadata().unwrap();
    chown(&fast, Some(its.uid()), Some(its.gid())).unwrap();
    let tablespace = format!("CREATE TABLESPACE fast LOCATION '{}'", fast.display());
    cluster.sql("template1", &tablespace);
    cluster.sql("template1", "CREATE DATABASE shop");

    let root = home.parent().unwrap().display();
    let tree = home.file_name().unwrap().to_str().unwrap();
    let site = archives::Site::new();
    put(site.path(&format!("made/{tree}/kept")), "backed up");
    site.pack(
        &format!("app/app-{}.tar.gz", archives::ID),
        &site.path("made"),
        &[tree],
    );
    let configure = |exclude: &str| {
        site.configure(&format!(
            "
    [site]
    name = 'test'
    state = '@/state'
    [stores.main]
    kind = 'directory'
    path = '@/backups'
    [services.postgres]
    start = ['true']
    stop = ['true']
    status = ['true']
    endpoint = '{}:5432'
    [components.app]
    kind = 'files'
    root = '{root}'
    tree = '{tree}'
    exclude = [{exclude}]
    [components.shop]
    kind = 'postgres'
    service = 'postgres'
    database = 'shop'
    user = 'postgres'
    ",
            home.display()
        ));
    };
    configure("");
    let found = of_the_server(&site, "app").await;
    let told: Vec<(&str, &str)> = found
        .iter()
        .map(|it| {
            let mut told = it.message.split(", where the server of shop (postgres) ");
            (told.next().unwrap(), it.hint.as_deref().unwrap())
        })
        .collect();
    let place = |name: &str| home.join(name).display().to_string();
    let hint = |name: &str| {
        format!("add \"{name}\" to `exclude` of [components.app], or move it elsewhere")
    };
    let names = ["data", ".s.PGSQL.5432", "fast"];
    let (places, hints) = (names.map(place), names.map(hint));
    let wanted: Vec<(&str, &str)> = places
        .iter()
        .zip(&hints)
        .map(|(place, hint)| (place.as_str(), hint.as_str()))
        .collect();
    assert_eq!(told, wanted);

    configure("'data', '.s.PGSQL.5432', 'fast'");
    assert!(of_the_server(&site, "app").await.is_empty());
    configure("'data', 'fast'");
    assert_eq!(of_the_server(&site, "app").await.len(), 1);
}

/// A dump of a database and a cold copy of its server's files are two ways to the same data, of which a run takes one:
/// a configuration may have both.
#[tokio::test]
async fn a_cold_copy_of_the_files_of_a_server_may_stand_beside_a_dump() {
    let cluster = Cluster::start("postgres");
    cluster.sql("template1", "CREATE DATABASE shop");
    let home = PathBuf::from(cluster.endpoint().host);
    let site = archives::Site::new();
    for (stops, wanted) in [("'postgres'", 0), ("", 1)] {
        site.configure(&format!(
            "
    [site]
    name = 'test'
    state = '@/state'
    [stores.main]
    kind = 'directory'
    path = '@/backups'
    [services.postgres]
    start = ['true']
    stop = ['true']
    status = ['true']
    endpoint = '{home}:5432'
    [volumes.pg]
    path = '{home}/data'
    [components.cold]
    kind = 'volume'
    volume = 'pg'
    stops = [{stops}]
    [components.shop]
    kind = 'postgres'
    service = 'postgres'
    database = 'shop'
    user = 'postgres'
    ",
            home = home.display()
        ));
        let file = site.path("restore.toml");
        let check = Site::check_config(&file, &Registry::default(), &RunOptions::new()).await;
        let found = check.unwrap().findings;
        let told = found.iter().map(|it| it.finding.code.as_str());
        let told = told.filter(|code| *code == "plan.server_inside").count();
        assert_eq!(told, wanted, "{found:?}");
    }
}

#[tokio::test]
async fn a_standby_is_refused() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let data = PathBuf::from(rig.cluster.endpoint().host).join("data");
    let (signal, its) = (data.join("standby.signal"), data.metadata().unwrap());
    std::fs::write(&signal, "").unwrap();
    chown(&signal, Some(its.uid()), Some(its.gid())).unwrap();
    rig.cluster.restart_with(&[]);
    let component = rig.component("database = 'shop'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.standby"], "error");
}
