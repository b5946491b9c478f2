//! How much room a recovery is said to need.

use restore_core::{PlanRequest, RecoveryPoint};
use restore_testing::pitr::{Ground, to};

#[tokio::test(flavor = "multi_thread")]
async fn the_room_is_for_what_the_cluster_has_become() {
    let ground = Ground::new().await;
    ground.back_up().await;
    ground.write(1);
    ground.archive();
    let bytes = async |request: PlanRequest| {
        let plan = ground.plan(request).await;
        assert!(plan.refusal().is_none(), "{:?}", plan.findings);
        let needs = &plan.components[0].inspection.needs;
        needs.iter().map(|need| need.bytes).sum::<u64>()
    };
    let sql = |sql: &str| ground.sql("postgres", sql).parse::<u64>().unwrap();
    let all = "SELECT sum(pg_database_size(oid))::int8 FROM pg_database";
    let (base, before) = (sql(all), bytes(to(RecoveryPoint::Latest)).await);
    assert!(before > base + (64 << 20), "{before} beside {base}");
    ground.sql(
        "shop",
        "CREATE TABLE large AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 60000)",
    );
    ground.archive();
    let live = sql(all);
    assert!(live > base + (50 << 20), "{live}");
    // As large as it is now, and the log of what has happened since.
    let whole = bytes(to(RecoveryPoint::Latest)).await;
    assert!(
        whole > live + (64 << 20) + (50 << 20),
        "{whole} beside {live}"
    );
    // One database of it: the dump besides, and the database that is made of it.
    let shop = sql("SELECT pg_database_size('shop')");
    let one = bytes(to(RecoveryPoint::Latest).only(["shop"])).await;
    assert!(one >= whole + 2 * shop, "{one} beside {whole} and {shop}");
}
