//! Dumps of strangers: what psql would obey, what changes after it was verified, and who sees the
//! password meanwhile.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use restore_core::platform::Discard;
use restore_core::{BackupRequest, RunOptions, Site};
use restore_testing::local::Ground;
use restore_testing::pg::{Cluster, Rig};

const NOBODY: u32 = 65534;
const STAGED: &str = "shop_restore_20240216_093000_7f3a";

fn rig(cluster: Cluster) -> Rig {
    let rig = Rig::new(cluster);
    rig.cluster.sql("template1", "CREATE DATABASE gold");
    rig.cluster.sql("template1", "CREATE DATABASE shop");
    rig.cluster.sql(
        "gold",
        "CREATE TABLE t (x text); INSERT INTO t VALUES ('gold')",
    );
    rig.back_up("gold");
    rig.list();
    rig
}

/// The only dump of the backup is this one.
fn only_sql(rig: &Rig, text: &[u8]) {
    let _ = std::fs::remove_file(rig.dump_file());
    std::fs::write(rig.sql_file(), text).unwrap();
    rig.list();
}

fn dump(body: &str) -> String {
    format!(
        "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.1\n\
         CREATE TABLE public.t (x text);\n{body}\n--\n-- PostgreSQL database dump complete\n--\n\n"
    )
}

/// Whatever psql takes for a command of its own, and however the reader is led astray, no program
/// runs. psql itself is asked: it refuses what the reader lets through.
#[tokio::test]
async fn no_dump_runs_a_program() {
    let rig = rig(Cluster::start("postgres"));
    let pwned = rig.backups.path().join("pwned");
    let x = format!("\\! id > {}", pwned.display());
    let bodies: Vec<(&str, Vec<u8>)> = [
        ("plain", x.clone()),
        (
            "a table called stdin",
            format!("CREATE TABLE stdin (y text);\nCOPY (SELECT 1) TO STDOUT; SELECT * FROM stdin;\n{x}\n\\."),
        ),
        (
            "COPY in lower case",
            format!("copy public.t (x) from stdin;\n'\n\\.\n{x}\n-- ';"),
        ),
        (
            "COPY with options",
            format!("COPY public.t (x) FROM stdin WITH (FORMAT csv);\n'\n\\.\n{x}\n-- ';"),
        ),
        (
            "another setting for strings",
            format!("SELECT set_config('standard_conforming'||'_strings','off',false);\nSELECT '\\'' ;\n{x}\n-- ';"),
        ),
        ("the end of a line in a comment", format!("-- so\r{x}")),
        ("a restriction lifted", format!("\\unrestrict abc\n{x}")),
        (
            "a key of its own",
            format!("\\unrestrict abc\n\\restrict abc\n\\unrestrict abc\n{x}"),
        ),
    ]
    .into_iter()
    .map(|(name, body)| (name, dump(&body).into_bytes()))
    .chain(std::iter::once(("another encoding", {
        let text = dump(&format!("SET client_encoding = 'SJIS';\nSELECT E'@' ;\n{x}\n-- ';"));
        let at = text.find('@').unwrap();
        let mut bytes = text.into_bytes();
        bytes.splice(at..=at, [0x95, 0x5c]);
        bytes
    })))
    .collect();
    let component = rig.component("database = 'shop'");
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    let warned = |finding: &restore_core::Finding| finding.code == "postgres.superuser";
    assert!(inspection.findings.iter().any(warned), "{inspection:?}");
    for (name, text) in bodies {
        only_sql(&rig, &text);
        let staged = component.stage(&rig.cx().await).await;
        assert!(!pwned.exists(), "{name}: a program has run");
        assert!(staged.is_err(), "{name}");
        component
            .discard(&rig.cx().await, Discard::Staged)
            .await
            .unwrap();
    }
    // The first line of what psql gets has the key; no argument has.
    let ran = rig.ran.lock().unwrap();
    let psql: Vec<_> = ran
        .iter()
        .filter(|c| c.argv.contains(&"--set=ON_ERROR_STOP=1".to_owned()))
        .collect();
    assert!(!psql.is_empty() && psql.iter().all(|c| c.unprivileged));
    assert!(!format!("{ran:?}").contains("\\restrict"));
}

/// What pg_dump of today writes is restored, restrictions and all, and so is a row that looks like
/// one of its commands.
#[tokio::test]
async fn an_honest_dump_is_restored_to_its_last_row() {
    let rig = rig(Cluster::start("postgres"));
    rig.cluster
        .sql("gold", r"INSERT INTO t VALUES (E'\restrict abc'), (E'\\restrict abc'), (E'\runrestrict abc'), ('\! id'), (E'\\.')");
    rig.back_up("gold");
    let text = std::fs::read_to_string(rig.sql_file()).unwrap();
    for text in [
        text.clone(),
        // As of a server before these commands.
        text.lines()
            .filter(|line| {
                !(line.starts_with("\\restrict ") || line.starts_with("\\unrestrict "))
                    || line.len() < 30
            })
            .map(|line| format!("{line}\n"))
            .collect(),
    ] {
        only_sql(&rig, text.as_bytes());
        let component = rig.component("database = 'shop'");
        component.stage(&rig.cx().await).await.unwrap();
        assert_eq!(rig.cluster.content(STAGED), rig.cluster.content("gold"));
        component
            .discard(&rig.cx().await, Discard::Staged)
            .await
            .unwrap();
    }
}

/// What reaches beyond the database is refused before anything is run, in a dump of any format; and what a
/// dump says of a database by its name is not said to the live one.
#[tokio::test]
async fn no_dump_reaches_another_database() {
    let rig = rig(Cluster::start("postgres"));
    let admin = |sql: &str| rig.cluster.sql("template1", sql);
    admin("CREATE DATABASE other");
    admin("COMMENT ON DATABASE shop IS 'live'");
    let component = rig.component("database = 'shop'");
    let refused = async |what: &str| {
        let error = component.stage(&rig.cx().await).await.unwrap_err();
        assert_eq!(error.code(), "postgres.sql_beyond", "{what}: {error}");
        assert!(error.message().contains("DROP DATABASE"), "{what}: {error}");
        let there = "SELECT count(*) FROM pg_database WHERE datname = 'other'";
        assert_eq!(admin(there), "1", "{what}");
        component
            .discard(&rig.cx().await, Discard::Staged)
            .await
            .unwrap();
    };

    // The contents of an archive are not compressed: a comment becomes a command of the same length.
    const COMMENT: &[u8] = b"COMMENT ON TABLE public.t IS ";
    const COMMAND: &[u8] = b"DROP DATABASE other; --";
    rig.cluster
        .sql("gold", "COMMENT ON TABLE t IS 'what is said of it'");
    rig.back_up("gold");
    let mut dump_file = std::fs::read(rig.dump_file()).unwrap();
    let at = dump_file
        .windows(COMMENT.len())
        .position(|window| window == COMMENT)
        .unwrap();
    dump_file[at..at + COMMAND.len()].copy_from_slice(COMMAND);
    std::fs::write(rig.dump_file(), dump_file).unwrap();
    rig.list();
    refused("an archive").await;

    only_sql(&rig, dump("drop  database other;").as_bytes());
    refused("a script").await;

    only_sql(
        &rig,
        dump("COMMENT ON DATABASE shop IS 'theirs';").as_bytes(),
    );
    component.stage(&rig.cx().await).await.unwrap();
    let said = admin(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'shop'",
    );
    assert_eq!(said, "live");
}

#[tokio::test]
async fn what_a_stranger_changes_after_it_was_hashed_is_not_what_is_run() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let rig = rig(Cluster::start("postgres"));
    let gold = rig.cluster.content("gold");
    chown(rig.dump_file(), Some(NOBODY), Some(NOBODY)).unwrap();
    chown(rig.sql_file(), Some(NOBODY), Some(NOBODY)).unwrap();
    let bin = rig.programs(&format!("echo evil > {}", rig.dump_file().display()));
    let lines = format!("database = 'shop'\nbin = '{}'\njobs = 2", bin.display());
    let component = rig.component(&lines);
    component.stage(&rig.cx().await).await.unwrap();
    assert_eq!(std::fs::read(rig.dump_file()).unwrap(), b"evil\n");
    assert_eq!(rig.cluster.content(STAGED), gold);
    component
        .discard(&rig.cx().await, Discard::Staged)
        .await
        .unwrap();
    assert!(spools(rig.backups.path()).is_empty(), "a copy was left");

    // The same of SQL: psql is slow to begin.
    std::fs::remove_file(rig.dump_file()).unwrap();
    rig.list();
    std::fs::remove_file(bin.join("psql")).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--file*) echo \"INSERT INTO t VALUES ('evil');\" > {};; esac\nexec {}/psql \"$@\"\n",
        rig.sql_file().display(),
        restore_testing::pg::BIN
    );
    std::fs::write(bin.join("psql"), script).unwrap();
    std::fs::set_permissions(bin.join("psql"), PermissionsExt::from_mode(0o755)).unwrap();
    component.stage(&rig.cx().await).await.unwrap();
    assert!(
        std::fs::read_to_string(rig.sql_file())
            .unwrap()
            .contains("evil")
    );
    assert_eq!(rig.cluster.content(STAGED), gold);
}

fn spools(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("20240216-"))
        .collect()
}

/// The canary: in no process's arguments and no process's environment, at any time.
#[tokio::test(flavor = "multi_thread")]
async fn no_process_shows_the_password() {
    const PASSWORD: &str = "c4nary:of\\the-database";
    let rig = rig(Cluster::with_password("boss", PASSWORD));
    let file = rig.backups.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let watching = std::thread::spawn(move || {
        let (mut looks, mut found) = (0, String::new());
        while !stopped.load(Ordering::Relaxed) && found.is_empty() {
            let all = restore_testing::processes();
            if let Some(line) = all.lines().find(|line| line.contains("c4nary")) {
                line.clone_into(&mut found);
            }
            looks += 1;
        }
        (looks, found)
    });
    let component = rig.component("database = 'shop'\npassword_file = 'password'");
    let staged = component.stage(&rig.cx().await).await;
    // And from SQL.
    std::fs::remove_file(rig.dump_file()).unwrap();
    rig.list();
    let again = component.stage(&rig.cx().await).await;
    stop.store(true, Ordering::Relaxed);
    let (looks, found) = watching.join().unwrap();
    staged.unwrap();
    again.unwrap();
    assert!(looks > 1 && found.is_empty(), "{found}");
    assert_eq!(rig.cluster.content(STAGED), rig.cluster.content("gold"));
    assert!(!format!("{:?}", rig.ran.lock().unwrap()).contains("c4nary"));
}

/// A few bytes that make a table of any size: the load is ended where that is more than was meant,
/// and what it made is gone.
#[tokio::test]
async fn a_dump_that_grows_without_end_is_stopped() {
    let rig = rig(Cluster::start("postgres"));
    only_sql(
        &rig,
        dump("INSERT INTO public.t SELECT repeat(md5(generate_series(1, 2000000000)::text), 30);")
            .as_bytes(),
    );
    let component = rig.component("database = 'shop'\nmax_bytes = 50000000");
    let began = std::time::Instant::now();
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "archive.too_large", "{error}");
    assert!(error.message().contains("shop"), "{error}");
    let hint = error.hint_text().unwrap();
    assert!(hint.contains("`max_bytes` of [components.db]"), "{hint}");
    assert!(began.elapsed() < std::time::Duration::from_secs(60));
    let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{STAGED}'");
    assert_eq!(rig.cluster.sql("template1", &left), "0");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT%'";
    assert_eq!(rig.cluster.sql("template1", running), "0");
}

/// An index whose expression is planned with every query of its table, by whoever asks.
const TRAP: &str = "
CREATE FUNCTION act() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
  IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
    COPY (SELECT 1) TO PROGRAM 'cat > pwned';
  END IF;
  RETURN 1;
END $$;
CREATE FUNCTION trap() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN public.act(); END $$;
CREATE INDEX ON a ((public.trap()));
CREATE INDEX ON z ((public.trap()))";

/// What a role has put into its own tables is not called as the superuser whom the component signs in as: not
/// by a backup, which counts their rows, not by a run, and not by its checks.
#[tokio::test]
async fn no_table_calls_what_its_owner_wants_as_a_superuser() {
    let cluster = Cluster::start("postgres");
    cluster.sql("template1", "CREATE ROLE app LOGIN");
    cluster.sql("template1", "CREATE DATABASE shop OWNER app");
    let rig = Rig::new(cluster);
    let app = |sql: &str| {
        let sql = format!("SET SESSION AUTHORIZATION app; {sql}");
        rig.cluster.sql("shop", &sql)
    };
    app(
        "CREATE TABLE a (t text, x int, \"Y\" bool); INSERT INTO a VALUES (E'\\n', 1, NULL); \
         CREATE TABLE z (x text); INSERT INTO z VALUES (E'1\\n2'), (NULL)",
    );
    let args = ["-Fc", "--exclude-table-data=z"];
    rig.cluster.dump("shop", &args, &rig.dump_file());
    rig.list();
    let pwned = || {
        let look = "SELECT count(*) FROM pg_ls_dir('.') AS f WHERE f = 'pwned'";
        rig.cluster.sql("template1", look) != "0"
    };
    app(TRAP);

    let endpoint = rig.cluster.endpoint();
    let ground = Ground::new();
    std::fs::create_dir(ground.path().join("made")).unwrap();
    let config = ground.file(
        "restore.toml",
        &format!(
            "[site]\nname = 'shop'\nstate = 'state'\n\
             [stores.main]\nkind = 'directory'\npath = 'made'\n\
             [services.postgres]\nstart = ['true']\nstop = ['true']\nstatus = ['true']\n\
             endpoint = '{}:{}'\n\
             [components.db]\nkind = 'postgres'\nservice = 'postgres'\ndatabase = 'shop'\n\
             user = 'postgres'\nstops = []\n",
            endpoint.host, endpoint.port
        ),
    );
    let site = Site::open(&config).await.unwrap();
    let made = site.back_up(BackupRequest::all(), RunOptions::new());
    let made = made.await.unwrap();
    let uncounted = |it: &restore_core::Finding| it.code == "postgres.not_counted";
    assert!(!made.findings.iter().any(uncounted), "{:?}", made.findings);
    assert_eq!(made.components[0].facts["total_rows"], 3);
    assert!(!pwned(), "a backup");

    let component = rig.component("database = 'shop'");
    let staged = component.stage(&rig.cx().await).await.unwrap();
    assert_eq!(staged.facts["total_rows"], 1);
    assert_eq!(staged.facts["rows"]["public.a"], 1);
    assert!(!staged.facts.contains_key("uncounted_tables"), "{staged:?}");
    let without = |it: &&restore_core::Finding| it.code == "postgres.tables_without_rows";
    let told = staged.findings.iter().find(without).unwrap();
    assert!(told.message.ends_with(": public.z"), "{}", told.message);
    assert!(!pwned(), "a run");

    component.cut_over(&rig.cx().await).await.unwrap();
    app(TRAP);
    let outcomes = component.check(&rig.cx().await).await.unwrap();
    assert!(outcomes.iter().all(|it| it.passed), "{outcomes:?}");
    assert!(!pwned(), "a check");
    app("TRUNCATE a");
    let outcomes = component.check(&rig.cx().await).await.unwrap();
    let rows = outcomes.iter().find(|it| it.name == "db/rows").unwrap();
    assert!(!rows.passed, "{rows:?}");
    assert!(rows.detail.ends_with("empty since: public.a"), "{rows:?}");
    // And so it would have been.
    rig.cluster.sql("shop", "SELECT count(*) FROM z");
    assert!(pwned());
}
