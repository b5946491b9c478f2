//! Single tables of a dump, left beside the live ones in the live database.

use restore_core::platform::Discard;
use restore_core::run::{CutOver, RunContext};
use restore_testing::pg::{Cluster, Rig};

use super::{codes, fingerprint, rig};

const BESIDE: &str = "_restored_20240216_093000_7f3a";
const ODD: &str = "Odd; Schema.we \"ird; Type: table";

async fn cx(rig: &Rig, tables: &[&str]) -> RunContext {
    let tables = tables.iter().map(|it| (*it).to_owned()).collect();
    rig.cx().await.with_tables(tables).with_empty(true)
}

fn schemas(rig: &Rig) -> String {
    let sql = format!("SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%{BESIDE}'");
    rig.cluster.sql("shop", &sql)
}

fn count(rig: &Rig, table: &str) -> String {
    rig.cluster
        .sql("shop", &format!("SELECT count(*) FROM {table}"))
}

#[tokio::test]
async fn tables_stand_beside_the_live_ones() {
    let mut rig = rig(Cluster::start("postgres"), "shop");
    // What comments are about may be left out.
    rig.cluster.sql(
        "gold",
        "COMMENT ON LARGE OBJECT 4711 IS 'x'; GRANT SELECT ON LARGE OBJECT 4711 TO reader; \
         COMMENT ON CONSTRAINT orders_user_id_fkey ON orders IS 'x'",
    );
    rig.back_up("gold");
    rig.list();
    let live = fingerprint(&rig, "shop");
    for sql_only in [false, true] {
        if sql_only {
            std::fs::remove_file(rig.dump_file()).unwrap();
            rig.list();
            rig.forget();
        }
        let component = rig.component("database = 'shop'");
        let cx = cx(&rig, &["public.orders", ODD, "log_2024", "orders"]).await;
        let inspection = component.inspect(&cx).await.unwrap();
        assert!(
            !codes(&inspection).values().any(|it| *it == "error"),
            "{:?}",
            inspection.findings
        );
        let beside = inspection.beside.unwrap();
        assert!(beside.contains("public_restored_RUN.orders"), "{beside}");

        let staged = component.stage(&cx).await.unwrap();
        assert_eq!(staged.facts["rows"]["public.orders"], 3000);
        assert_eq!(staged.facts["total_rows"], 3000 + 3 + 301);
        let told = staged
            .findings
            .iter()
            .find(|it| it.code == "postgres.tables_beside");
        assert!(told.unwrap().message.contains("without foreign keys"));
        assert_eq!(fingerprint(&rig, "shop"), live, "staging leaves live alone");

        component.cut_over(&cx).await.unwrap();
        assert_eq!(rig.cluster.databases().len(), 2, "what was staged is gone");
        let orders = format!("public{BESIDE}.orders");
        assert_eq!(count(&rig, &orders), "3000");
        assert_eq!(
            count(
                &rig,
                &format!("\"Odd; Schema{BESIDE}\".\"we \"\"ird; Type: table\"")
            ),
            "3"
        );
        assert_eq!(count(&rig, &format!("public{BESIDE}.log_2024")), "301");
        // With index, identity and check, and without the foreign key.
        let made =
            "INSERT INTO $ (user_id, total) VALUES (1, 7) RETURNING id".replace('$', &orders);
        assert!(rig.cluster.sql("shop", &made).starts_with("3001"));
        let sql = format!(
            "SELECT (SELECT count(*) FROM pg_index WHERE indrelid = '{orders}'::regclass), \
             (SELECT string_agg(contype::text, '' ORDER BY contype) FROM pg_constraint \
             WHERE conrelid = '{orders}'::regclass AND contype <> 'n'), \
             (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = '{orders}'::regclass)"
        );
        assert_eq!(rig.cluster.sql("shop", &sql), "2|cp|app");
        rig.cluster
            .sql("shop", &format!("DELETE FROM {orders} WHERE id = 3001"));
        let outcomes = component.check(&cx).await.unwrap();
        assert_eq!(outcomes.len(), 3);
        assert!(outcomes.iter().all(|it| it.passed), "{outcomes:?}");
        // Again, as after a kill; accepted it stays.
        component.cut_over(&cx).await.unwrap();
        let done = cx.clone().with_cut_over(CutOver::Done);
        component.way_back(&done).await.unwrap();
        component.as_left(&done).await.unwrap();
        component.discard(&done, Discard::Replaced).await.unwrap();
        component.discard(&done, Discard::Staged).await.unwrap();
        assert_eq!(count(&rig, &orders), "3000");
        // Taken back it goes.
        component.undo(&done).await.unwrap();
        component.undo(&done).await.unwrap();
        let back = cx.clone().with_cut_over(CutOver::TakenBack);
        // The database that was staged went with the cut-over: nothing is missing.
        component.as_left(&back).await.unwrap();
        component.discard(&back, Discard::Staged).await.unwrap();
        assert_eq!(fingerprint(&rig, "shop"), live);
    }
}

#[tokio::test]
async fn what_a_killed_copy_left_is_made_anew() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let live = fingerprint(&rig, "shop");
    let component = rig.component("database = 'shop'");
    let cx = cx(&rig, &["orders"]).await;
    component.stage(&cx).await.unwrap();
    // psql takes the end of its input for the end of all.
    let orders = format!("public{BESIDE}.orders");
    rig.cluster.sql(
        "shop",
        &format!(
            "CREATE SCHEMA public{BESIDE}; CREATE TABLE {orders} (id int); \
             COMMENT ON SCHEMA public{BESIDE} IS 'restored from backup 20240215-020000 by restore \
             run 20240216-093000-7f3a, beside the live tables: being copied'"
        ),
    );
    component.cut_over(&cx).await.unwrap();
    assert_eq!(count(&rig, &orders), "3000");
    component.undo(&cx).await.unwrap();
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(fingerprint(&rig, "shop"), live);
    // What is somebody else's is neither used nor dropped.
    rig.cluster
        .sql("shop", &format!("CREATE SCHEMA public{BESIDE}"));
    component.stage(&cx).await.unwrap();
    for refused in [component.cut_over(&cx).await, component.undo(&cx).await] {
        assert_eq!(refused.unwrap_err().code(), "postgres.name_taken");
    }
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(schemas(&rig), "1");
}

#[tokio::test]
async fn tables_that_cannot_be_had_are_told() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let live = fingerprint(&rig, "shop");
    let component = rig.component("database = 'shop'");
    let none = cx(&rig, &["public.Orders"]).await;
    let inspection = component.inspect(&none).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.no_such_table"], "error");
    let parts = cx(&rig, &["log"]).await;
    let refused = component.stage(&parts).await.unwrap_err();
    assert_eq!(refused.code(), "postgres.partitioned");
    assert!(refused.hint_text().unwrap().contains("--as"), "{refused:?}");
    component.discard(&parts, Discard::Staged).await.unwrap();

    // The live database has not the types and extensions of this one.
    let users = cx(&rig, &["users"]).await;
    component.stage(&users).await.unwrap();
    let refused = component.cut_over(&users).await.unwrap_err();
    assert!(refused.hint_text().unwrap().contains("--as"), "{refused:?}");
    component.undo(&users).await.unwrap();
    component.discard(&users, Discard::Staged).await.unwrap();
    assert_eq!(schemas(&rig), "0");
    assert_eq!(fingerprint(&rig, "shop"), live);
    assert_eq!(rig.cluster.databases().len(), 2);

    rig.cluster.sql("template1", "DROP DATABASE shop");
    let inspection = component.inspect(&users).await.unwrap();
    assert_eq!(codes(&inspection)["postgres.no_database"], "error");
}

/// What others have made of the tables since is not dropped with them without a word.
#[tokio::test]
async fn tables_that_somebody_uses_are_not_taken_back() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'");
    let cx = cx(&rig, &["orders"]).await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    let orders = format!("public{BESIDE}.orders");
    for (made, named, gone) in [
        (
            format!("CREATE VIEW of_orders AS SELECT total FROM {orders}"),
            "of_orders".to_owned(),
            "DROP VIEW of_orders".to_owned(),
        ),
        (
            format!("CREATE TABLE notes (id bigint REFERENCES {orders})"),
            "notes".to_owned(),
            "DROP TABLE notes".to_owned(),
        ),
        (
            format!("CREATE TABLE kept (was {orders})"),
            "kept".to_owned(),
            "DROP TABLE kept".to_owned(),
        ),
        (
            format!("CREATE TABLE public{BESIDE}.theirs (id int)"),
            format!("public{BESIDE}.theirs"),
            format!("DROP TABLE public{BESIDE}.theirs"),
        ),
    ] {
        rig.cluster.sql("shop", &made);
        let refused = component.undo(&cx).await.unwrap_err();
        assert_eq!(refused.code(), "postgres.tables_in_use", "{made}");
        assert!(refused.message().contains(&named), "{refused}");
        assert_eq!(count(&rig, &orders), "3000");
        rig.cluster.sql("shop", &gone);
    }
    component.undo(&cx).await.unwrap();
    assert_eq!(schemas(&rig), "0");
    component.discard(&cx, Discard::Staged).await.unwrap();
}

/// An owner's name may have spaces, which nothing tells from those of the table's name in a listing.
#[tokio::test]
async fn rows_of_an_owner_with_a_space_come_with_the_table() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "gold",
        "CREATE ROLE \"shop owner\"; ALTER TABLE orders OWNER TO \"shop owner\"",
    );
    rig.back_up("gold");
    rig.list();
    let component = rig.component("database = 'shop'");
    let tables = vec!["orders".to_owned()];
    let cx = rig.cx().await.with_tables(tables);
    let inspection = component.inspect(&cx).await.unwrap();
    assert_eq!(codes(&inspection).get("postgres.no_rows_of_table"), None);
    // The live database has no such table any more, and the restored one takes up room.
    assert!(inspection.facts["needs_bytes"].as_u64() > Some(0));
    let staged = component.stage(&cx).await.unwrap();
    assert_eq!(staged.facts["rows"]["public.orders"], 3000);
    component.discard(&cx, Discard::Staged).await.unwrap();
}

#[tokio::test]
async fn a_table_whose_rows_the_dump_lacks_is_refused() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let lacking = "--exclude-table-data=orders";
    rig.cluster
        .dump("gold", &["-Fc", lacking], &rig.dump_file());
    rig.cluster.dump("gold", &[lacking], &rig.sql_file());
    for sql_only in [false, true] {
        if sql_only {
            std::fs::remove_file(rig.dump_file()).unwrap();
        }
        rig.list();
        let component = rig.component("database = 'shop'");
        let wanted = |table: &str| vec![table.to_owned()];
        let orders = rig.cx().await.with_tables(wanted("orders"));
        let inspection = component.inspect(&orders).await.unwrap();
        assert_eq!(codes(&inspection)["postgres.no_rows_of_table"], "error");
        let refused = component.stage(&orders).await.unwrap_err();
        assert_eq!(refused.code(), "postgres.no_rows_of_table");
        component.discard(&orders, Discard::Staged).await.unwrap();
        // Others are there with theirs, and this one comes as it is where that is meant.
        let users = rig.cx().await.with_tables(wanted("users"));
        let inspection = component.inspect(&users).await.unwrap();
        assert_eq!(codes(&inspection).get("postgres.no_rows_of_table"), None);
        let inspection = component.inspect(&orders.with_empty(true)).await.unwrap();
        assert_eq!(codes(&inspection)["postgres.no_rows_of_table"], "warning");
    }
}

/// A name in an expression means whatever the live database has of that name, and some functions of the
/// server's act as well.
#[tokio::test]
async fn expressions_of_the_dump_do_not_act_in_the_live_database() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "gold",
        "CREATE SEQUENCE public.counter; \
         CREATE FUNCTION public.purge(int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT true'; \
         CREATE FUNCTION public.purged(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 7'; \
         CREATE TABLE public.acts (id int, name text, \
           g int GENERATED ALWAYS AS (public.purged(id)) STORED, \
           h int GENERATED ALWAYS AS (id + 1) STORED, \
           CONSTRAINT a CHECK (pg_catalog.setval('public.counter', id) > 0), \
           CONSTRAINT b CHECK (public.purge(id)), \
           CONSTRAINT c CHECK (pg_catalog.lower(name) = name AND id < 10)); \
         INSERT INTO public.acts VALUES (5, 'a'); \
         CREATE INDEX by_code ON public.acts (public.purged(id)); \
         CREATE INDEX of_some ON public.acts (id) WHERE public.purge(id); \
         CREATE INDEX by_name ON public.acts (pg_catalog.lower(name)); \
         CREATE POLICY p ON public.acts USING (public.purge(id)); \
         ALTER TABLE public.acts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         ALTER TABLE public.acts OWNER TO app",
    );
    rig.back_up("gold");
    rig.list();
    rig.cluster.sql(
        "shop",
        "CREATE SEQUENCE public.counter START 1000; CREATE TABLE public.called (id int); \
         CREATE FUNCTION public.purge(int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS \
           'BEGIN INSERT INTO public.called VALUES ($1); RETURN true; END'; \
         CREATE FUNCTION public.purged(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \
           'BEGIN INSERT INTO public.called VALUES ($1); RETURN 7; END'; \
         GRANT ALL ON public.called, public.counter TO app",
    );
    let component = rig.component("database = 'shop'");
    let cx = cx(&rig, &["acts"]).await;
    let staged = component.stage(&cx).await.unwrap();
    let told = staged
        .findings
        .iter()
        .find(|it| it.code == "postgres.table_code");
    let told = &told.unwrap().message;
    for left_out in [
        "constraint a of public.acts",
        "constraint b of public.acts",
        "index by_code of public.acts",
        "index of_some of public.acts",
        "the column g of public.acts",
    ] {
        assert!(told.contains(left_out), "{left_out}: {told}");
    }
    component.cut_over(&cx).await.unwrap();
    assert_eq!(count(&rig, "public.called"), "0");
    assert_eq!(
        rig.cluster
            .sql("shop", "SELECT last_value FROM public.counter"),
        "1000"
    );
    let acts = format!("public{BESIDE}.acts");
    let sql = format!("SELECT id, name, g, h FROM {acts}");
    assert_eq!(rig.cluster.sql("shop", &sql), "5|a|7|6");
    let sql = format!(
        "SELECT (SELECT string_agg(conname, ',') FROM pg_constraint \
           WHERE conrelid = '{acts}'::regclass AND contype = 'c'), \
         (SELECT string_agg(indexrelid::regclass::text, ',') FROM pg_index \
           WHERE indrelid = '{acts}'::regclass)"
    );
    assert_eq!(
        rig.cluster.sql("shop", &sql),
        format!("c|public{BESIDE}.by_name")
    );
    let outcomes = component.check(&cx).await.unwrap();
    assert!(outcomes.iter().all(|it| it.passed), "{outcomes:?}");
    component.undo(&cx).await.unwrap();
    component.discard(&cx, Discard::Staged).await.unwrap();
}
