//! The PostgreSQL component on real servers.

mod beside;
mod contents;
mod create;
mod cut_dumps;
mod dumps;
mod findings;
mod formats;
mod globals;
mod majors;
mod recipes;
mod ruins;
mod strange_dumps;
mod swap;
mod tables;
mod untold;

use std::collections::BTreeMap;

use restore_core::component::{Inspection, SharedComponent};
use restore_core::platform::Discard;
use restore_core::run::RunContext;
use restore_testing::pg::{Cluster, Rig};

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

/// What is live when the restore begins: other rows, and objects that only it has.
const LIVE: &str = "
CREATE TABLE users (id int);
INSERT INTO users VALUES (1), (2);
CREATE TABLE only_live (id int PRIMARY KEY);
CREATE VIEW on_users AS SELECT id FROM users;
CREATE FUNCTION only_live() RETURNS int LANGUAGE sql AS 'SELECT 1';
";

/// Gives a database the properties that a DROP loses; `$` stands for its quoted name.
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
    assert_checks_pass_as(component, &rig.cx().await).await;
}

async fn assert_checks_pass_as(component: &SharedComponent, cx: &RunContext) {
    let outcomes = component.check(cx).await.unwrap();
    assert_eq!(outcomes.len(), 5, "{outcomes:?}");
    assert!(outcomes.iter().all(|o| o.passed), "{outcomes:?}");
}

/// The whole way there and back, on a database of this name.
async fn there_and_back(mut rig: Rig, component: SharedComponent, live: &str) {
    let gold = rig.cluster.content("gold");
    let before = fingerprint(&rig, live);
    let cx = rig.cx().await;

    let inspection = component.inspect(&cx).await.unwrap();
    let found: Vec<&str> = codes(&inspection).into_keys().collect();
    assert_eq!(found, ["postgres.fewer_tables"], "only_live goes");
    assert_eq!(inspection.facts["tables"], 2);
    assert_eq!(inspection.facts["dump_entries"]["TABLE"], 5);
    assert_eq!(inspection.needs.len(), 1);

    let staged = component.stage(&cx).await.unwrap();
    assert_eq!(fingerprint(&rig, live), before, "staging leaves live alone");
    let told = |code: &str| staged.findings.iter().filter(|it| it.code == code).count();
    assert_eq!(
        told("postgres.privileges_gained") + told("postgres.objects_missing"),
        staged.findings.len(),
        "{:?}",
        staged.findings
    );
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
    assert_eq!(unanalysed(&rig, live), "0", "analysed");
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

/// The codes of the findings that stop a run, and of those that do not; without the one that all
/// have here, as these servers are restored by their superuser.
fn codes(inspection: &Inspection) -> BTreeMap<&str, &str> {
    inspection
        .findings
        .iter()
        .filter(|finding| finding.code != "postgres.superuser")
        .map(|finding| {
            let severity = match finding.severity {
                restore_core::Severity::Error => "error",
                _ => "warning",
            };
            (finding.code.as_str(), severity)
        })
        .collect()
}
