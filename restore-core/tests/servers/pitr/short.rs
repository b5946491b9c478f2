//! A segment that is being copied into the archive is none yet; and what a recovery that fails says.

use restore_core::{RecoveryPoint, RunOptions};
use restore_testing::Ended as _;
use restore_testing::pitr::{Ground, to, to_time};

use super::codes;

#[tokio::test(flavor = "multi_thread")]
async fn half_a_segment_at_the_end_is_not_there() {
    let ground = Ground::new().await;
    let here = ground.past().await;
    let archived = ground.rows();
    ground.write(4);
    // `cp` has only begun.
    let next = ground.sql(
        "postgres",
        "SELECT pg_walfile_name(pg_current_wal_insert_lsn())",
    );
    let whole = std::fs::read(ground.path("volume/pg_wal").join(&next)).unwrap();
    let half = ground.path("archive").join(&next);
    std::fs::write(&half, &whole[..5 << 20]).unwrap();
    // The server will go on with it.
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&half, all).unwrap();
    let plan = ground.plan(to(RecoveryPoint::Latest)).await;
    assert!(codes(&plan).is_empty(), "{:?}", plan.findings);
    ground.carry_out(plan).await;
    assert_eq!(ground.rows(), archived);
    ground.back().await;
    let last = ground.path("archive").join(&next);
    assert_eq!(
        last.metadata().unwrap().len(),
        16 << 20,
        "the server archived it when it stopped"
    );

    // What only we can read the server cannot: its own words say why it failed.
    for entry in std::fs::read_dir(ground.path("archive")).unwrap().flatten() {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(entry.path(), mode).unwrap();
        std::os::unix::fs::chown(entry.path(), Some(0), Some(0)).unwrap();
    }
    let before = ground.rows();
    let plan = ground.plan(to_time(&here.time)).await;
    let report = ground.site().await.run(plan, RunOptions::new()).await;
    let failure = report.ended().unwrap().failure.unwrap();
    assert_eq!(failure.code, "cluster.target_not_reached", "{failure:?}");
    let told = failure.message.split("its log ends with:").nth(1);
    assert!(told.is_some_and(|it| it.contains("FATAL")), "{failure:?}");
    assert_eq!(ground.rows(), before);

    // Packed, one breaks off where it is read.
    ground.pack_archive();
    let packed = last.with_extension("gz");
    let bytes = std::fs::read(&packed).unwrap();
    std::fs::write(&packed, &bytes[..200]).unwrap();
    let plan = ground.plan(to(RecoveryPoint::Latest)).await;
    assert_eq!(codes(&plan), ["wal.damaged"], "{:?}", plan.findings);
    // Or where it is copied, where no record is cut.
    std::fs::write(&packed, &bytes[..bytes.len() - 20]).unwrap();
    let plan = ground.plan(to(RecoveryPoint::Latest)).await;
    let report = ground.site().await.run(plan, RunOptions::new()).await;
    let failure = report.ended().unwrap().failure.unwrap();
    assert_eq!(failure.code, "wal.damaged", "{failure:?}");
    assert_eq!(ground.rows(), before);
    std::fs::write(&packed, &bytes).unwrap();
    ground.nothing_left();
}
