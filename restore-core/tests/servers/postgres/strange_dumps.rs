//! Dumps that hold another thing than a whole database, or that several files could be, and what is said of
//! them before anything live is touched.

use restore_core::platform::Discard;
use restore_testing::pg::{Cluster, Rig};

use super::formats::make;
use super::{codes, rig};

const STAGED: &str = "shop_restore_20240216_093000_7f3a";

/// Which of two is the database's, nobody knows: the first by name may be another one's.
#[tokio::test]
async fn a_pattern_that_fits_several_dumps_restores_none() {
    let rig = rig(Cluster::start("postgres"), "shop");
    for (script, key) in [
        ("pg_dump -Fc shop >a.dump; pg_dump -Fc gold >b.dump", "dump"),
        ("pg_dump shop >a.dump; pg_dump gold >b.dump", "sql"),
        (
            "pg_dump -Fd -f a.dump shop; pg_dump -Fd -f b.dump gold",
            "dump",
        ),
    ] {
        make(&rig, script);
        let component = rig.component(&format!("database = 'shop'\n{key} = ['postgres/*.dump']"));
        let inspection = component.inspect(&rig.cx().await).await.unwrap();
        let finding = &inspection.findings[0];
        assert_eq!(finding.code, "postgres.several_dumps", "{script}");
        assert_eq!(codes(&inspection)["postgres.several_dumps"], "error");
        for name in ["postgres/a.dump", "postgres/b.dump"] {
            assert!(finding.message.contains(name), "{finding:?}");
        }
        let error = component.stage(&rig.cx().await).await.unwrap_err();
        assert_eq!(error.code(), "postgres.several_dumps", "{script}");
        assert_eq!(rig.cluster.databases(), ["gold", "shop"]);
    }
    // One of them only.
    let component = rig.component("database = 'shop'\ndump = ['postgres/b*.dump']");
    component.stage(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.content(STAGED), rig.cluster.content("gold"));
}

/// A server that ends idle sessions after a while does not end ours, which waits for programs that load.
#[tokio::test]
async fn idle_sessions_of_ours_are_not_ended() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "gold",
        "CREATE FUNCTION slow(int) RETURNS int LANGUAGE plpgsql IMMUTABLE \
         AS 'BEGIN PERFORM pg_catalog.pg_sleep(3); RETURN 1; END'; \
         CREATE TABLE one AS SELECT 1 AS x; CREATE INDEX ON one (slow(x))",
    );
    rig.back_up("gold");
    rig.list();
    rig.cluster.sql(
        "template1",
        "ALTER ROLE postgres SET idle_session_timeout = '1s'; \
         ALTER ROLE postgres SET idle_in_transaction_session_timeout = '1s'",
    );
    let component = rig.component("database = 'shop'");
    component.stage(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.sql(STAGED, "SELECT count(*) FROM one"), "1");
}

/// `pg_dump -n public` makes the schema anew, and says of its privileges only how they differ from those that
/// it has in every new database.
#[tokio::test]
async fn everybody_may_use_the_schema_public_as_before() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql("template1", "CREATE DATABASE small");
    rig.cluster.sql("small", "CREATE TABLE t AS SELECT 1 AS x");
    let component = rig.component("database = 'shop'\ndumped_as = 'small'");
    for (privileges, expected) in [
        ("SELECT 1", "t"),
        ("GRANT USAGE ON SCHEMA public TO app", "t"),
        ("REVOKE USAGE ON SCHEMA public FROM PUBLIC", "f"),
    ] {
        rig.cluster.sql("small", privileges);
        for script in [
            "pg_dump -Fc -n public small >$DUMP",
            "pg_dump -n public small >$SQL",
        ] {
            make(&rig, script);
            component.stage(&rig.cx().await).await.unwrap();
            let sql = "SELECT has_schema_privilege('reader', 'public', 'USAGE')";
            let may = rig.cluster.sql(STAGED, sql);
            assert_eq!(may, expected, "{privileges}, {script}");
            assert_eq!(may, rig.cluster.sql("small", sql));
        }
    }
}

async fn found(rig: &Rig, script: &str, code: &str) -> String {
    make(rig, script);
    let component = rig.component("database = 'shop'\ndumped_as = 'gold'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    let finding = inspection.findings.iter().find(|it| it.code == code);
    let finding = finding.unwrap_or_else(|| panic!("{script}: {:?}", inspection.findings));
    format!("{}: {}", codes(&inspection)[code], finding.message)
}

#[tokio::test]
async fn a_dump_that_is_only_a_part_of_one_is_told() {
    let rig = rig(Cluster::start("postgres"), "shop");
    for script in [
        "pg_dump -Fc --data-only gold >$DUMP",
        "pg_dump -Ft --section=data gold >$DUMP",
        "pg_dump --data-only gold >$SQL",
        "pg_dump --data-only --inserts gold >$SQL",
    ] {
        let told = found(&rig, script, "postgres.rows_alone").await;
        assert!(told.starts_with("error: "), "{script}: {told}");
    }
    for script in [
        "pg_dump -Fc --section=pre-data --section=data gold >$DUMP",
        "pg_dump --section=pre-data --section=data gold >$SQL",
    ] {
        let told = found(&rig, script, "postgres.no_indexes").await;
        assert!(told.starts_with("warning: "), "{script}: {told}");
    }
    // The dump has one.
    rig.cluster.sql("shop", "SELECT lo_create(1), lo_create(2)");
    for script in ["pg_dump -Fc -b gold >$DUMP", "pg_dump -b gold >$SQL"] {
        let told = found(&rig, script, "postgres.fewer_large_objects").await;
        assert!(told.starts_with("warning: "), "{script}: {told}");
        assert!(told.contains("1, and 2"), "{script}: {told}");
    }
}

/// A table of contents that names this file as that of a table's rows.
fn naming(contents: &[u8], file: &str) -> Vec<u8> {
    let is_name = |part: &[u8]| part[0].is_ascii_digit() && &part[1..] == b".dat";
    let end = contents.windows(5).position(is_name).unwrap() + 1;
    let before = contents[..end].iter().rposition(|it| !it.is_ascii_digit());
    // A sign and four bytes of its length stand before it.
    let length = before.unwrap() + 1 - 5;
    let mut all = contents[..length + 1].to_vec();
    all.extend(u32::try_from(file.len()).unwrap().to_le_bytes());
    all.extend(file.as_bytes());
    all.extend(&contents[end + 4..]);
    all
}

/// pg_restore reads whatever file the table of contents names.
#[tokio::test]
async fn a_folder_that_names_files_elsewhere_is_refused_before_any_program_reads_it() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let secret = rig.backups.path().join("secret");
    std::fs::write(&secret, "a secret\n").unwrap();
    let up = format!("../../../../../../../../../..{}", secret.display());
    let component = rig.component("database = 'shop'");
    let folder = rig.folder().join("postgres/folder");
    for file in [up.as_str(), "..", "a/b", "a b"] {
        for packed in [false, true] {
            make(&rig, "pg_dump -Fd -Z0 -f folder gold");
            let toc = folder.join("toc.dat");
            let contents = std::fs::read(&toc).unwrap();
            std::fs::write(&toc, naming(&contents, file)).unwrap();
            if packed {
                let mut tar = std::process::Command::new("tar");
                tar.arg("-C").arg(&folder).arg("-czf").arg(rig.dump_file());
                assert!(tar.arg(".").status().unwrap().success());
                std::fs::remove_dir_all(&folder).unwrap();
            } else {
                std::fs::rename(&folder, rig.dump_file()).unwrap();
            }
            rig.list();
            rig.ran.lock().unwrap().clear();
            let inspection = component.inspect(&rig.cx().await).await.unwrap();
            let staged = component.stage(&rig.cx().await).await;
            let ran = format!("{:?}", rig.ran.lock().unwrap());
            let error = staged.unwrap_err();
            assert_eq!(error.code(), "postgres.contents_outside", "{file}");
            assert!(!ran.contains("--list") && !ran.contains("--exit-on-error"));
            let code = match packed {
                true => "postgres.folder_not_read",
                false => "postgres.dump_unreadable",
            };
            assert!(codes(&inspection).contains_key(code), "{inspection:?}");
        }
    }
    // A link in the place of a table's rows.
    make(
        &rig,
        "pg_dump -Fd -Z0 -f folder gold; cd folder; rows=$(ls | grep -v '[a-z]*toc' | head -n 1); \
         ln -sf /etc/hostname $rows; tar czf $DUMP .; cd ..; rm -r folder",
    );
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert!(
        error.code() == "postgres.contents_outside" || error.code().starts_with("archive."),
        "{error}"
    );
    let cx = rig.cx().await;
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(rig.cluster.databases(), ["gold", "shop"]);
}

/// What an archive names is read with no power at all, where the service has any.
#[tokio::test]
async fn archives_are_read_as_nobody() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    component.inspect(&rig.cx().await).await.unwrap();
    component.stage(&rig.cx().await).await.unwrap();
    let ran = rig.ran.lock().unwrap();
    for what in ["--list", "--schema-only", "--exit-on-error"] {
        let asked = ran
            .iter()
            .filter(|it| it.argv.iter().any(|arg| arg == what));
        let powers: Vec<bool> = asked.map(|it| !it.unprivileged).collect();
        assert!(!powers.is_empty() && !powers.contains(&true), "{what}");
    }
}

/// pg_dump takes a view away by making it one of nothing, where its table's key cannot go before it.
#[tokio::test]
async fn a_clean_dump_of_a_view_over_a_primary_key_is_restored() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "gold",
        "CREATE SCHEMA s; CREATE TABLE s.p (a int PRIMARY KEY, b text); INSERT INTO s.p VALUES (1, 'x'); \
         CREATE VIEW s.v AS SELECT a, b FROM s.p GROUP BY a; \
         CREATE TABLE p (a int PRIMARY KEY, b text); CREATE VIEW v AS SELECT a, b FROM p GROUP BY a",
    );
    let component = rig.component("database = 'shop'");
    for script in [
        "pg_dump --clean --if-exists gold >$SQL",
        "pg_dump --clean gold >$SQL",
    ] {
        make(&rig, script);
        let text = std::fs::read_to_string(rig.sql_file()).unwrap();
        assert!(text.contains("CREATE OR REPLACE VIEW s.v AS\nSELECT"));
        component
            .stage(&rig.cx().await)
            .await
            .unwrap_or_else(|e| panic!("{script}: {e}"));
        assert_eq!(rig.cluster.content(STAGED), rig.cluster.content("gold"));
    }
}

/// `\encoding` and `\connect` are pg_dump's own words for a database whose name is no plain word.
#[tokio::test]
async fn a_database_of_any_name_is_restored_from_a_script_that_connects_to_it() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql("template1", "CREATE DATABASE \"my-shop\"");
    let set = "ALTER DATABASE \"my-shop\" SET work_mem = '9MB'";
    rig.cluster.sql("template1", set);
    rig.cluster
        .sql("my-shop", "CREATE TABLE t AS SELECT 7 AS x");
    let component = rig.component("database = 'my-shop'");
    for script in ["pg_dump --create my-shop >$SQL", "pg_dumpall >$SQL"] {
        make(&rig, script);
        let text = std::fs::read_to_string(rig.sql_file()).unwrap();
        assert!(text.contains("\\encoding SQL_ASCII\n"));
        component
            .stage(&rig.cx().await)
            .await
            .unwrap_or_else(|e| panic!("{script}: {e}"));
        let staged = "my-shop_restore_20240216_093000_7f3a";
        assert_eq!(rig.cluster.sql(staged, "SELECT x FROM t"), "7", "{script}");
    }
}

/// The schema's SQL of an archive does not say whose large objects are.
#[tokio::test]
async fn a_role_that_only_has_large_objects_is_missed_before_the_run() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "gold",
        "CREATE ROLE ghost; SELECT lo_create(5); ALTER LARGE OBJECT 5 OWNER TO ghost",
    );
    make(&rig, "pg_dump -Fc -b gold >$DUMP");
    rig.cluster
        .sql("gold", "ALTER LARGE OBJECT 5 OWNER TO app; DROP ROLE ghost");
    let component = rig.component("database = 'shop'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.missing_roles"], "error");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.missing_roles");
    let component = rig.component("database = 'shop'\nmissing_roles = 'ignore'");
    component.stage(&rig.cx().await).await.unwrap();
}

/// In a database without an encoding a name may be anything; ours are UTF-8.
#[tokio::test]
async fn names_that_are_no_utf8_stand_in_nobodys_way() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "template1",
        "CREATE DATABASE odd ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    );
    let sql = "DO $$BEGIN EXECUTE 'CREATE TABLE \"n' || chr(233) || '\" (a int)'; END$$";
    rig.cluster.sql("odd", sql);
    rig.cluster.sql("odd", "CREATE TABLE t AS SELECT 1 AS x");
    make(&rig, "PGCLIENTENCODING=SQL_ASCII pg_dump -Fc odd >$DUMP");
    let component = rig.component("database = 'odd'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    let found = codes(&inspection);
    assert_eq!(found["postgres.untold_names"], "warning");
    assert!(!found.values().any(|severity| *severity == "error"));
    component.stage(&rig.cx().await).await.unwrap();
    let sql = "SELECT count(*) FROM pg_class WHERE relname IN ('t', 'n' || chr(233))";
    let staged = "odd_restore_20240216_093000_7f3a";
    assert_eq!(rig.cluster.sql(staged, sql), "2");
}

/// A role that was made in a database of another encoding is no UTF-8 to all others; it stands in nobody's way.
#[tokio::test]
async fn roles_that_are_no_utf8_stand_in_nobodys_way() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "template1",
        "CREATE DATABASE old ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    );
    let sql = "DO $$BEGIN EXECUTE 'CREATE ROLE \"r' || chr(246) || 'lf\"'; END$$";
    rig.cluster.sql("old", sql);
    let component = rig.component("database = 'shop'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    let found = codes(&inspection);
    assert!(
        !found.values().any(|severity| *severity == "error"),
        "{found:?}"
    );
    component.stage(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.content(STAGED), rig.cluster.content("gold"));
}
