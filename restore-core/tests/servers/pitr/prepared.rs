//! Transactions that are prepared end in a record that another process writes.

use restore_core::{PlanRequest, RecoveryPoint, RecoveryTarget};
use restore_testing::pitr::{Ground, to};

#[tokio::test(flavor = "multi_thread")]
async fn to_the_end_of_a_prepared_transaction() {
    let ground = Ground::new().await;
    ground.sql("postgres", "ALTER SYSTEM SET max_prepared_transactions = 5");
    ground.restart().await;
    ground.write(1);
    ground.back_up().await;
    // With all that such a record may tell besides: files, statistics, subtransactions,
    // invalidations.
    let prepare = |n: u32| -> u32 {
        let said = ground.sql(
            "shop",
            &format!(
                "BEGIN; INSERT INTO t VALUES ({n}); CREATE TABLE x{n} (a int, b text); \
                 DROP TABLE IF EXISTS gone; SAVEPOINT a; INSERT INTO x{n} VALUES (1, 'x'); \
                 SAVEPOINT b; CREATE INDEX ON x{n} (a); SELECT pg_current_xact_id(); \
                 PREPARE TRANSACTION 'p{n}'"
            ),
        );
        said.lines().last().unwrap().parse().unwrap()
    };
    ground.sql("shop", "CREATE TABLE gone (a int)");
    let committed = prepare(20);
    ground.write(2);
    ground.sql("shop", "COMMIT PREPARED 'p20'");
    ground.write(3);
    let aborted = prepare(40);
    ground.sql("shop", "ROLLBACK PREPARED 'p40'");
    ground.write(4);
    ground.archive();

    ground.run(to(RecoveryPoint::Xid(committed))).await;
    assert_eq!(ground.rows(), ("1 2 20".to_owned(), "1 2".to_owned()));
    ground.back().await;
    let without = RecoveryTarget::new(RecoveryPoint::Xid(committed)).exclusive(true);
    ground.run(PlanRequest::all().to(without)).await;
    assert_eq!(ground.rows(), ("1 2".to_owned(), "1 2".to_owned()));
    // It is still prepared there, as it was.
    assert_eq!(
        ground.sql("postgres", "SELECT gid FROM pg_prepared_xacts"),
        "p20"
    );
    ground.back().await;
    ground.run(to(RecoveryPoint::Xid(aborted))).await;
    assert_eq!(ground.rows(), ("1 2 3 20".to_owned(), "1 2 3".to_owned()));
}
