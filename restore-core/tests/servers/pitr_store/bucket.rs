//! An archive in a bucket.

use std::sync::Arc;

use restore_core::RecoveryPoint;
use restore_core::run::Outcome;
use restore_testing::pitr::to;

use super::codes;
use super::place::Place;

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_in_a_bucket() {
    let place = Place::in_a_bucket().await;
    super::there_and_back(&place).await;
}

/// What happens to the archive while it is read: more comes, something is changed, something goes.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_changes_meanwhile() {
    let place = Arc::new(Place::in_a_bucket().await);
    let ground = &place.ground;
    ground.write(1);
    let id = ground.back_up().await;
    for n in 2..5 {
        ground.write(n);
        ground.archive();
    }
    place.bring();
    let names = place.archived();
    let segments: Vec<&String> = names.iter().filter(|name| name.len() == 24).collect();
    let some = segments[segments.len() - 2].clone();
    ground.write(5);
    ground.archive();
    let live = ground.rows();

    // Archived when all that there was had been fetched: `latest` has it.
    let latest = || to(RecoveryPoint::Latest);
    let report = place.clone().when_fetched(latest(), Place::bring).await;
    assert!(report.failure.is_none(), "{}", report.to_text());
    assert_eq!(ground.rows(), live);
    ground.back().await;

    for (code, what) in [("wal.changed", "put"), ("wal.vanished", "delete")] {
        let name = some.clone();
        let report = place
            .clone()
            .when_fetched(latest(), move |place| match what {
                "put" => {
                    // The same size, another content.
                    let path = place.ground.path("archive").join(&name);
                    let whole = std::fs::read(&path).unwrap();
                    let mut other = whole.clone();
                    *other.last_mut().unwrap() ^= 1;
                    std::fs::write(&path, other).unwrap();
                    place.put(&name);
                    std::fs::write(&path, whole).unwrap();
                }
                _ => place.delete(&name),
            });
        let report = report.await;
        assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
        let failure = report.failure.clone().unwrap();
        assert_eq!(failure.code, code, "{failure:?}");
        assert!(failure.message.contains(&place.described), "{failure:?}");
        assert!(failure.message.contains(&some), "{failure:?}");
        assert_eq!(ground.rows(), live);
        ground.nothing_left();
        place.nothing_kept();
        place.put(&some);
    }

    // A segment that the store lacks is a hole, and seen before anything is touched.
    place.delete(&some);
    let plan = ground.plan(latest()).await;
    assert_eq!(codes(&plan), ["wal.hole"], "{:?}", plan.findings);
    let hole = plan.errors().next().unwrap();
    assert!(hole.message.contains(&some), "{hole:?}");
    let site = ground.site().await;
    let backup = site.backup(&id).await.unwrap();
    let (ranges, _) = site.recoverable(&backup).await;
    assert_eq!(ranges[0].holes.len(), 1, "{ranges:?}");
    assert_eq!(ranges[0].holes[0].first, some);
    place.put(&some);

    // Nothing at all behind that prefix.
    for name in place.archived() {
        place.delete(&name);
    }
    let plan = ground.plan(latest()).await;
    assert_eq!(codes(&plan), ["wal.empty"], "{:?}", plan.findings);
}
