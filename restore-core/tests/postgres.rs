//! The PostgreSQL component on real servers.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/pg.rs"]
mod pg;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pg::{Cluster, Rig, codes};
use restore_core::ErrorKind;
use restore_core::component::SharedComponent;
use restore_core::platform::Discard;

/// What is dumped.
const GOLD: &str = r#"
CREATE EXTENSION pg_trgm;
CREATE SCHEMA "Odd; Schema";
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE users (id serial PRIMARY KEY, email text UNIQUE NOT NULL, mood mood, age positive);
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  user_id int NOT NULL REFERENCES users ON DELETE CASCADE, total numeric CHECK (total >= 0));
CREATE INDEX orders_total ON orders (total) WHERE total > 10;
CREATE INDEX users_trgm ON users USING gin (email gin_trgm_ops);
CREATE TABLE "Odd; Schema"."we ""ird; Type: table" ("a b" text);
CREATE TABLE log (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE log_2024 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE INDEX log_at ON log (at);
CREATE VIEW rich AS SELECT u.email, sum(o.total) FROM users u JOIN orders o ON o.user_id = u.id GROUP BY 1;
CREATE MATERIALIZED VIEW counts AS SELECT count(*) FROM users;
CREATE FUNCTION twice(i int) RETURNS int LANGUAGE sql AS 'SELECT 2 * i';
CREATE FUNCTION twice(t text) RETURNS text LANGUAGE sql AS $$SELECT t || t
/*
GRANT ALL ON nothing TO nobody_at_all;
*/$$;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touched BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO users (email, mood, age) SELECT 'user' || i || '@example.org', 'good', i FROM generate_series(1, 500) i;
INSERT INTO orders (user_id, total) SELECT i % 500 + 1, i FROM generate_series(1, 3000) i;
INSERT INTO "Odd; Schema"."we ""ird; Type: table" VALUES ('COPY x FROM stdin;'), (E'\\.'), ('-- Name: x; Type: TABLE; Schema: s; Owner: nobody');
INSERT INTO log SELECT '2024-01-01'::date + i, 'x' FROM generate_series(0, 300) i;
REFRESH MATERIALIZED VIEW counts;
SELECT lo_from_bytea(4711, '\xdeadbeef');
GRANT SELECT ON users TO reader;
ALTER TABLE orders OWNER TO app;
ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT SELECT ON TABLES TO reader;
"#;

/// What is live when the restore begins: other rows, and objects that only it has (trap 21).
const LIVE: &str = "
CREATE TABLE users (id int);
INSERT INTO users VALUES (1), (2);
CREATE TABLE only_live (id int PRIMARY KEY);
CREATE VIEW on_users AS SELECT id FROM users;
CREATE FUNCTION only_live() RETURNS int LANGUAGE sql AS 'SELECT 1';
";

/// Gives a database the properties that a DROP loses (trap 22); `$` stands for its quoted name.
const PROPERTIES: &str = r#"
ALTER DATABASE $ OWNER TO app;
ALTER DATABASE $ SET search_path = "$user", public, "odd, one";
ALTER DATABASE $ SET statement_timeout = '31s';
ALTER DATABASE $ SET app.motto = 'it''s a \ day';
ALTER ROLE reader IN DATABASE $ SET work_mem = '7MB';
REVOKE ALL ON DATABASE $ FROM PUBLIC;
GRANT CONNECT ON DATABASE $ TO reader WITH GRANT OPTION;
COMMENT ON DATABASE $ IS 'the shop''s \ database';
ALTER DATABASE $ CONNECTION LIMIT 17;
"#;

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A server with a database to dump, `gold`, and a live one with other content.
fn rig(cluster: Cluster, live: &str) -> Rig {
    cluster.sql("template1", "CREATE ROLE app LOGIN; CREATE ROLE reader");
    cluster.sql("template1", "CREATE DATABASE gold");
    cluster.sql("gold", GOLD);
    let rig = Rig::new(cluster);
    rig.back_up("gold");
    rig.list();
    let name = quoted(live);
    rig.cluster.sql(
        "template1",
        &format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"),
    );
    rig.cluster.sql(live, LIVE);
    for statement in PROPERTIES.trim().lines() {
        let statement = statement.replace(" $ ", &format!(" {name} "));
        rig.cluster.sql("template1", &statement);
    }
    rig
}

/// What is live: content, properties.
fn fingerprint(rig: &Rig, database: &str) -> (String, String) {
    (
        rig.cluster.content(database),
        rig.cluster.properties(database),
    )
}

async fn assert_checks_pass(component: &SharedComponent, rig: &Rig) {
    let outcomes = component.check(&rig.cx().await).await.unwrap();
    assert_eq!(outcomes.len(), 5, "{outcomes:?}");
    assert!(outcomes.iter().all(|o| o.passed), "{outcomes:?}");
}

/// The whole way there and back, on a database of this name.
async fn there_and_back(mut rig: Rig, component: SharedComponent, live: &str) {
    let gold = rig.cluster.content("gold");
    let before = fingerprint(&rig, live);
    let cx = rig.cx().await;

    let inspection = component.inspect(&cx).await.unwrap();
    assert!(codes(&inspection).is_empty(), "{:?}", inspection.findings);
    assert_eq!(inspection.facts["tables"], 2);
    assert_eq!(inspection.facts["dump_entries"]["TABLE"], 5);
    assert_eq!(inspection.needs.len(), 1);

    let staged = component.stage(&cx).await.unwrap();
    assert_eq!(fingerprint(&rig, live), before, "staging leaves live alone");
    assert!(staged.findings.is_empty(), "{:?}", staged.findings);
    assert_eq!(staged.facts["rows"]["public.orders"], 3000);
    assert_eq!(staged.facts["total_rows"], 500 + 3000 + 3 + 301);
    assert_eq!(component.replaced_at(&cx).await.unwrap(), None);
    // Again, over its own leftovers.
    component.stage(&cx).await.unwrap();
    let unanalysed = |rig: &Rig, database: &str| {
        rig.cluster.sql(
            database,
            "SELECT count(*) FROM pg_class WHERE relname IN ('users', 'orders') AND reltuples < 1",
        )
    };

    component.cut_over(&cx).await.unwrap();
    assert_eq!(rig.cluster.content(live), gold);
    assert_eq!(rig.cluster.properties(live), before.1);
    assert_eq!(unanalysed(&rig, live), "0", "analysed (trap 22)");
    assert_checks_pass(&component, &rig).await;
    let replaced = component.replaced_at(&cx).await.unwrap().unwrap();
    assert!(replaced.contains("_replaced_20240216_093000_7f3a on postgres"));
    component.cut_over(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.properties(live), before.1);
    let refused = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(refused.code(), "postgres.already_cut_over");

    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(fingerprint(&rig, live), before);
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(fingerprint(&rig, live), before);
    let outcomes = component.check(&cx).await.unwrap();
    assert!(
        outcomes
            .iter()
            .any(|o| o.name == "db/identity" && !o.passed)
    );

    component.cut_over(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.content(live), gold);
    assert_eq!(rig.cluster.properties(live), before.1);
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(
        rig.cluster.content(live),
        gold,
        "discard never touches live"
    );
    component.discard(&cx, Discard::Replaced).await.unwrap();
    component.discard(&cx, Discard::Replaced).await.unwrap();
    assert_eq!(rig.cluster.databases().len(), 2, "gold and live");
    assert_checks_pass(&component, &rig).await;
    let lost = component.undo(&cx).await.unwrap_err();
    assert_eq!(lost.code(), "postgres.no_way_back");
    rig.forget();
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.content(live), gold);
}

#[tokio::test]
async fn there_and_back_as_the_role_that_postgres_user_named() {
    // Trap 23: there is no role postgres, and nothing here needs one.
    let rig = rig(Cluster::start("hosting_user"), "shop");
    let component = rig.component("database = 'shop'");
    there_and_back(rig, component, "shop").await;
}

#[tokio::test]
async fn odd_names_and_a_password_that_nobody_sees() {
    let password = "p'a\"s s\\w=$ö";
    let live = "we\"ird-DB = 'x' \\";
    let rig = rig(Cluster::with_password("site öwner-1", password), live);
    let file = rig.backups.path().join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let component = rig.component(&format!("database = {live:?}\npassword_file = 'password'"));
    let ran = rig.ran.clone();
    there_and_back(rig, component, live).await;
    let ran = ran.lock().unwrap();
    let restores =
        |c: &&restore_core::platform::Command| c.argv.iter().any(|a| a == "--exit-on-error");
    assert_eq!(ran.iter().filter(restores).count(), 2);
    for command in ran.iter() {
        assert!(!command.argv.iter().any(|arg| arg.contains("p'a")));
    }
}

#[tokio::test]
async fn programs_that_cannot_read_the_backup_are_fed() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.streaming("database = 'shop'");
    there_and_back(rig, component, "shop").await;
}

#[tokio::test]
async fn a_wrong_password_is_a_clear_finding() {
    let rig = Rig::new(Cluster::with_password("boss", "right"));
    std::fs::write(rig.dump_file(), "x").unwrap();
    std::fs::write(rig.backups.path().join("wrong"), "s3cret-typo").unwrap();
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

/// Trap 19: whoever reconnects at once neither stops the swap nor has two databases merged.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_come_back_do_not_stop_the_swap() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await;
    let gold = rig.cluster.content("gold");
    let before = fingerprint(&rig, "shop");
    component.stage(&cx).await.unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let connected = Arc::new(AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (stop, connected, rig) = (stop.clone(), connected.clone(), &rig);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut psql = rig
                        .cluster
                        .psql_command("shop", "SELECT 1; SELECT pg_sleep(60)");
                    let mut child = psql
                        .stderr(std::process::Stdio::null())
                        .stdout(std::process::Stdio::null())
                        .spawn()
                        .unwrap();
                    connected.fetch_add(1, Ordering::Relaxed);
                    while child.try_wait().unwrap().is_none() {
                        if stop.load(Ordering::Relaxed) {
                            child.kill().unwrap();
                        }
                        std::thread::yield_now();
                    }
                }
            });
        }
        let sessions = || {
            rig.cluster.sql(
                "template1",
                "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'",
            )
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while sessions() != "3" {
            assert!(Instant::now() < deadline);
        }
        let result = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                component.cut_over(&cx).await?;
                component.undo(&cx).await?;
                component.cut_over(&cx).await
            })
        });
        stop.store(true, Ordering::Relaxed);
        result.unwrap();
    });
    assert!(connected.load(Ordering::Relaxed) > 3, "they did come back");
    assert_eq!(rig.cluster.content("shop"), gold);
    assert_eq!(rig.cluster.properties("shop"), before.1);
}

#[tokio::test]
async fn stopped_anywhere_it_goes_on_or_back() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    let gold = rig.cluster.content("gold");
    let before = fingerprint(&rig, "shop");
    component.stage(&rig.cx().await).await.unwrap();
    let mut cut_short = 0;
    let began = Instant::now();
    component.cut_over(&rig.cx().await).await.unwrap();
    let whole = began.elapsed();
    for step in 0..20_u32 {
        let delay = whole * step / 18;
        // A cut-over and an undo, each dropped at some moment, as a kill would.
        component.undo(&rig.cx().await).await.unwrap();
        let cx = rig.cx().await;
        if tokio::time::timeout(delay, component.cut_over(&cx))
            .await
            .is_err()
        {
            cut_short += 1;
        }
        if step % 2 == 0 {
            component.undo(&rig.cx().await).await.unwrap();
            assert_eq!(fingerprint(&rig, "shop"), before, "undone after {delay:?}");
        } else {
            component.cut_over(&rig.cx().await).await.unwrap();
            assert_eq!(rig.cluster.content("shop"), gold, "done after {delay:?}");
            assert_eq!(rig.cluster.properties("shop"), before.1);
            let cx = rig.cx().await;
            let _stopped = tokio::time::timeout(delay, component.undo(&cx)).await;
            component.undo(&rig.cx().await).await.unwrap();
            assert_eq!(fingerprint(&rig, "shop"), before, "undone after {delay:?}");
        }
    }
    assert!(cut_short > 3, "{cut_short}");
}

#[tokio::test]
async fn a_statement_left_on_the_server_does_not_outlive_an_undo() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    let before = fingerprint(&rig, "shop");
    let cx = rig.cx().await;
    component.stage(&cx).await.unwrap();

    // Somebody's lock holds the transaction of the cut-over up; then our process is killed, and
    // the server, which does not notice, waits on.
    let lock = "BEGIN; COMMENT ON DATABASE shop_restore_20240216_093000_7f3a IS 'x'; \
                SELECT pg_advisory_lock(1); ROLLBACK";
    let mut gate = rig
        .cluster
        .psql_command(
            "template1",
            "SELECT pg_advisory_lock(1); SELECT pg_sleep(60)",
        )
        .spawn()
        .unwrap();
    let until = async |rig: &Rig, condition: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE {condition}");
        while rig.cluster.sql("template1", &sql) == "0" {
            assert!(Instant::now() < deadline, "{condition}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    until(&rig, "wait_event = 'PgSleep'").await;
    let mut holder = rig.cluster.psql_command("template1", lock).spawn().unwrap();
    until(&rig, "wait_event = 'advisory'").await;
    let stuck = "wait_event_type = 'Lock' AND query LIKE 'BEGIN; %RENAME TO%'";
    tokio::select! {
        done = component.cut_over(&cx) => panic!("{done:?}"),
        () = until(&rig, stuck) => {}
    }
    component.undo(&rig.cx().await).await.unwrap();
    let left = format!("SELECT count(*) FROM pg_stat_activity WHERE {stuck}");
    assert_eq!(rig.cluster.sql("template1", &left), "0");
    for child in [&mut holder, &mut gate] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(fingerprint(&rig, "shop"), before);
}

#[tokio::test]
async fn partial_states_are_finished_or_undone() {
    let mut rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    let gold = rig.cluster.content("gold");
    let before = fingerprint(&rig, "shop");
    let replaced = "shop_replaced_20240216_093000_7f3a";
    component.stage(&rig.cx().await).await.unwrap();

    // Nothing was cut over: nothing to undo, whatever is recorded.
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(fingerprint(&rig, "shop"), before);

    // Recorded, the door shut, killed.
    component.cut_over(&rig.cx().await).await.unwrap();
    component.undo(&rig.cx().await).await.unwrap();
    let shut = "ALTER DATABASE shop ALLOW_CONNECTIONS false";
    rig.cluster.sql("template1", shut);
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(fingerprint(&rig, "shop"), before);
    rig.cluster.sql("template1", shut);
    component.cut_over(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), gold);
    assert_eq!(rig.cluster.properties("shop"), before.1);

    // Cut over, the door shut by an undo that was killed; then forward again.
    rig.cluster.sql("template1", shut);
    component.cut_over(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.properties("shop"), before.1);
    rig.cluster.sql("template1", shut);
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(fingerprint(&rig, "shop"), before);

    // Somebody else did the first rename.
    let half = format!("ALTER DATABASE shop RENAME TO {replaced}");
    rig.cluster.sql("template1", &half);
    let only = component.discard(&rig.cx().await, Discard::Replaced).await;
    assert_eq!(only.unwrap_err().code(), "postgres.only_copy");
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(fingerprint(&rig, "shop"), before);
    rig.cluster.sql("template1", &half);
    component.cut_over(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), gold);
    assert_eq!(rig.cluster.properties("shop"), before.1);

    // Without the journal nobody knows whose database is live: nothing is renamed or dropped.
    let facts = rig.facts.clone();
    let databases = rig.cluster.databases();
    rig.forget();
    for act in [
        component.undo(&rig.cx().await).await,
        component.discard(&rig.cx().await, Discard::Replaced).await,
    ] {
        assert_eq!(act.unwrap_err().code(), "postgres.ambiguous");
    }
    assert_eq!(rig.cluster.databases(), databases);
    assert_eq!(rig.cluster.content("shop"), gold);
    rig.facts = facts;
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), before.0);

    // A third database that nobody knows: refused, and nothing changed.
    rig.cluster
        .sql("template1", &format!("CREATE DATABASE {replaced}"));
    let databases = rig.cluster.databases();
    for act in [
        component.cut_over(&rig.cx().await).await,
        component.undo(&rig.cx().await).await,
    ] {
        assert_eq!(act.unwrap_err().code(), "postgres.ambiguous");
    }
    assert_eq!(rig.cluster.databases(), databases);
    rig.cluster
        .sql("template1", &format!("DROP DATABASE {replaced}"));

    // What the run replaced was dropped, and another database made in place of the restored one.
    component.cut_over(&rig.cx().await).await.unwrap();
    rig.cluster.sql(
        "template1",
        &format!("ALTER DATABASE {replaced} RENAME TO away"),
    );
    let swapped = "ALTER DATABASE shop RENAME TO restored";
    rig.cluster.sql("template1", swapped);
    rig.cluster.sql("template1", "CREATE DATABASE shop");
    let databases = rig.cluster.databases();
    let lost = component.undo(&rig.cx().await).await.unwrap_err();
    assert_eq!(lost.code(), "postgres.lost");
    assert!(lost.message().contains("shop is neither"), "{lost}");
    assert_eq!(rig.cluster.databases(), databases);
    rig.cluster.sql("template1", "DROP DATABASE shop");
    for (from, to) in [("restored", "shop"), ("away", replaced)] {
        let back = format!("ALTER DATABASE {from} RENAME TO {to}");
        rig.cluster.sql("template1", &back);
    }
    component.undo(&rig.cx().await).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), before.0);

    component
        .discard(&rig.cx().await, Discard::Staged)
        .await
        .unwrap();
    let nothing = component.cut_over(&rig.cx().await).await.unwrap_err();
    assert_eq!(nothing.code(), "postgres.not_staged");
    assert_eq!(rig.cluster.databases(), ["gold", "shop"]);
    assert_eq!(rig.cluster.content("shop"), before.0);
}

#[tokio::test]
async fn a_database_that_does_not_exist_yet() {
    let cluster = Cluster::start("postgres");
    cluster.sql(
        "template1",
        "CREATE DATABASE gold ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
    );
    cluster.sql("gold", "CREATE TABLE \"é\" AS SELECT 'ü' AS \"ü\"");
    let rig = Rig::new(cluster);
    rig.back_up("gold");
    let gold = rig.cluster.content("gold");
    let component = rig.component("database = 'shop'");
    let cx = rig.cx().await;
    let inspection = component.inspect(&cx).await.unwrap();
    assert!(codes(&inspection).is_empty(), "{:?}", inspection.findings);
    component.stage(&cx).await.unwrap();
    component.undo(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), gold);
    assert!(
        rig.cluster
            .properties("shop")
            .starts_with("postgres|LATIN1|C|C|c||t|-1|")
    );
    assert_checks_pass(&component, &rig).await;
    component.cut_over(&cx).await.unwrap();
    assert_eq!(component.replaced_at(&cx).await.unwrap(), None);
    component.discard(&cx, Discard::Replaced).await.unwrap();
    component.undo(&cx).await.unwrap();
    component.undo(&cx).await.unwrap();
    assert_eq!(
        rig.cluster.databases(),
        ["gold", "shop_restore_20240216_093000_7f3a"]
    );
    component.cut_over(&cx).await.unwrap();
    assert_eq!(rig.cluster.content("shop"), gold);
    component.undo(&cx).await.unwrap();
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(rig.cluster.databases(), ["gold"]);
}

/// Cuts a file to a share of its length.
fn cut(file: &std::path::Path, percent: u64) {
    let size = std::fs::metadata(file).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(size * percent / 100).unwrap();
}

/// Traps 5, 18, 20: nothing live goes before the dump has shown that it is good, to its last line.
#[tokio::test]
async fn damaged_dumps_leave_live_alone() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    let gold = rig.cluster.content("gold");
    let before = fingerprint(&rig, "shop");
    let whole_sql = std::fs::read(rig.sql_file()).unwrap();

    // The manifest knows better than the dump: no fallback papers over it.
    cut(&rig.dump_file(), 60);
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Verification, "hash.mismatch")
    );
    assert!(error.to_string().contains("postgres-20240215-020000.dump"));

    // Nobody knows the hash: the SQL dump, into an empty database.
    std::fs::remove_file(rig.folder().join("MANIFEST.txt")).unwrap();
    let staged = component.stage(&rig.cx().await).await.unwrap();
    let finding = &staged.findings[0];
    assert_eq!(finding.code, "postgres.fallback");
    assert!(finding.message.contains("pg_restore failed"), "{finding:?}");
    assert_eq!(
        rig.cluster.content("shop_restore_20240216_093000_7f3a"),
        gold,
        "neither doubled rows nor lost keys (trap 20)"
    );

    // The SQL dump is cut too, or changed.
    cut(&rig.sql_file(), 90);
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.sql_cut");
    assert!(error.to_string().contains("pg_restore failed"), "{error}");
    rig.list();
    std::fs::write(rig.sql_file(), &whole_sql).unwrap();
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "hash.mismatch");
    assert!(error.to_string().contains(".sql"), "{error}");

    // An error in the middle of the SQL.
    let broken = String::from_utf8(whole_sql.clone()).unwrap();
    let broken = broken.replace("CREATE VIEW public.rich", "CREATE VIEWS public.rich");
    std::fs::write(rig.sql_file(), broken).unwrap();
    rig.list();
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert!(error.to_string().contains("psql failed"), "{error}");

    // None at all, and one that is no dump.
    std::fs::remove_file(rig.sql_file()).unwrap();
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.tool_failed");
    std::fs::write(rig.dump_file(), "no dump").unwrap();
    rig.list();
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.dump_unreadable"], "error");
    std::fs::remove_file(rig.dump_file()).unwrap();
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.no_artifact"], "error");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.no_artifact");

    assert_eq!(fingerprint(&rig, "shop"), before);
    component
        .discard(&rig.cx().await, Discard::Staged)
        .await
        .unwrap();
    assert_eq!(rig.cluster.databases(), ["gold", "shop"]);
}

/// Changes every place where these bytes stand.
fn patch(file: &std::path::Path, old: &[u8], new: &[u8]) {
    assert_eq!(old.len(), new.len());
    let mut bytes = std::fs::read(file).unwrap();
    let mut found = 0;
    for at in 0..=bytes.len() - old.len() {
        if bytes[at..].starts_with(old) {
            bytes[at..at + old.len()].copy_from_slice(new);
            found += 1;
        }
    }
    assert!(found > 0);
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn nothing_of_a_changed_dump_is_run() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster
        .sql("gold", "COMMENT ON TABLE users IS 'as it was made'");
    rig.back_up("gold");
    rig.list();
    let databases = rig.cluster.databases();
    let before = fingerprint(&rig, "shop");
    let component = rig.component("database = 'shop'");

    // pg_restore would take it: only the text of a comment differs.
    patch(&rig.dump_file(), b"as it was made", b"as it was not ");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "hash.mismatch");
    std::fs::remove_file(rig.dump_file()).unwrap();
    patch(&rig.sql_file(), b"as it was made", b"as it was not ");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "hash.mismatch");

    assert_eq!(rig.cluster.databases(), databases, "not even made");
    let ran = rig.ran.lock().unwrap();
    assert!(ran.iter().all(|c| c.argv.contains(&"--version".to_owned())));
    drop(ran);
    assert_eq!(fingerprint(&rig, "shop"), before);
}

#[tokio::test]
async fn a_dump_that_changes_under_the_reader_is_refused() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let before = fingerprint(&rig, "shop");
    let copy = rig.backups.path().join("copy");
    std::fs::copy(rig.dump_file(), &copy).unwrap();
    // The same bytes, but another file: nobody knows whether both were read.
    let bin = rig.programs(&format!(
        "mv {} {}",
        copy.display(),
        rig.dump_file().display()
    ));
    let component = rig.component(&format!("database = 'shop'\nbin = {bin:?}"));
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Verification, "verify.changed_while_reading")
    );
    assert_eq!(fingerprint(&rig, "shop"), before);
}

/// Trap 20: the SQL dump goes into an empty database, once, and must come to its last line.
#[tokio::test]
async fn a_sql_dump_alone() {
    let rig = rig(Cluster::start("postgres"), "shop");
    std::fs::remove_file(rig.dump_file()).unwrap();
    let gold = rig.cluster.content("gold");
    for component in [
        rig.component("database = 'shop'"),
        rig.streaming("database = 'shop'"),
    ] {
        let inspection = component.inspect(&rig.cx().await).await.unwrap();
        assert!(codes(&inspection).is_empty(), "{:?}", inspection.findings);
        component.stage(&rig.cx().await).await.unwrap();
        assert_eq!(
            rig.cluster.content("shop_restore_20240216_093000_7f3a"),
            gold
        );
    }

    // One that would lead psql into the live database.
    let before = fingerprint(&rig, "shop");
    let component = rig.component("database = 'shop'");
    rig.cluster.sql("template1", "CREATE DATABASE other");
    rig.cluster.dump("other", &["--create"], &rig.sql_file());
    rig.list();
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.sql_command"], "error");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.sql_command");
    assert!(error.message().contains("\\connect in line "), "{error}");

    // One with a command for this host in the middle of a line.
    rig.cluster.dump("gold", &[], &rig.sql_file());
    let dump = std::fs::read_to_string(rig.sql_file()).unwrap();
    let touched = rig.sql_file().with_extension("touched");
    let hidden = format!("SELECT 'it''s' \t\\! touch {}\n;\n", touched.display());
    let at = dump.find("CREATE TABLE").unwrap();
    std::fs::write(rig.sql_file(), [&dump[..at], &hidden, &dump[at..]].concat()).unwrap();
    rig.list();
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.sql_command");
    assert!(error.message().contains("\\! in line "), "{error}");
    assert!(!touched.exists());
    assert_eq!(fingerprint(&rig, "shop"), before);
}

/// Trap 25: roles are missed before the downtime.
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

/// Trap 25: and so are extensions.
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
    assert!(codes(&inspection).is_empty(), "{:?}", inspection.findings);
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

async fn wait_for(file: &std::path::Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok(text) = std::fs::read_to_string(file)
            && text.ends_with('\n')
        {
            return text.trim().to_owned();
        }
        assert!(Instant::now() < deadline, "{} never came", file.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_request_to_stop_ends_staging() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let marker = rig.backups.path().join("marker");
    let bin = rig.programs(&format!("echo $$ > {}; exec sleep 1000", marker.display()));
    let component = rig.component(&format!("database = 'shop'\nbin = {bin:?}"));
    let before = fingerprint(&rig, "shop");
    let cx = rig.cx().await;
    let (result, pid) = tokio::join!(component.stage(&cx), async {
        let pid = wait_for(&marker).await;
        rig.cancel.cancel();
        pid
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| !c.is_empty()) {
        assert!(Instant::now() < deadline, "the program still runs");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(rig.cluster.databases(), ["gold", "shop"]);
    assert_eq!(fingerprint(&rig, "shop"), before);
}

#[tokio::test]
async fn a_server_that_dies_during_the_restore() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let bin = rig.programs(&format!("kill -QUIT {}", rig.cluster.pid()));
    let component = rig.component(&format!("database = 'shop'\nbin = {bin:?}"));
    let before = fingerprint(&rig, "shop");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert!(
        ["postgres.gone", "postgres.unreachable"].contains(&error.code()),
        "{} {error}",
        error.code()
    );
    rig.cluster.run_server();
    assert_eq!(fingerprint(&rig, "shop"), before);
    component
        .discard(&rig.cx().await, Discard::Staged)
        .await
        .unwrap();
    assert_eq!(rig.cluster.databases(), ["gold", "shop"]);
}

/// Trap 24: what was restored is compared by what is there, not by the server's estimates.
#[tokio::test]
async fn a_restore_that_lacks_something_is_refused() {
    let rig = rig(Cluster::start("postgres"), "shop");
    // A pg_restore that leaves keys and indexes out and says that all is well.
    let bin = rig.programs(&format!(
        "exec {}/pg_restore --section=pre-data --section=data \"$@\"",
        pg::BIN
    ));
    let component = rig.component(&format!("database = 'shop'\nbin = {bin:?}"));
    let before = fingerprint(&rig, "shop");
    let error = component.stage(&rig.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "postgres.incomplete");
    assert!(error.to_string().contains("users_pkey"), "{error}");
    assert_eq!(fingerprint(&rig, "shop"), before);
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
