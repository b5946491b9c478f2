//! Recovery to a point in time out of an archive that is in a store: on another host, by a real

//! sshd, and in a bucket, by a real server of S3's protocol.

mod bucket;
mod host;
mod killed;
mod place;

use restore_core::{PlanRequest, RecoveryPoint};
use restore_testing::pitr::{to, to_time};

use place::Place;

fn codes(plan: &restore_core::Plan) -> Vec<&str> {
    plan.errors().map(|finding| finding.code.as_str()).collect()
}

fn both(rows: &str) -> (String, String) {
    (rows.to_owned(), rows.to_owned())
}

/// What every store must do: to between two rows, and to the last one, with nothing left behind.
async fn there_and_back(place: &Place) {
    let ground = &place.ground;
    ground.write(1);
    let id = ground.back_up().await;
    ground.write(2);
    let here = ground.write(3);
    ground.write(4);
    ground.archive();
    // Only what is in the store counts.
    for n in 5..8 {
        ground.write(n);
        ground.archive();
    }
    place.bring();
    let live = ground.rows();

    let site = ground.site().await;
    let backup = site.backup(&id).await.unwrap();
    let (ranges, findings) = site.recoverable(&backup).await;
    assert!(findings.is_empty(), "{findings:?}");
    let range = ranges.first().unwrap();
    assert_eq!(range.archive.as_deref(), Some(place.described.as_str()));
    assert!(range.holes.is_empty() && range.segments > 4, "{range:?}");

    let plan = ground.plan(to_time(&here.time)).await;
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let near = place.fetched_by(to_time(&here.time)).await;
    assert_eq!(ground.rows(), both("1 2 3"));
    place.nothing_kept();
    ground.back().await;
    assert_eq!(ground.rows(), live);

    let room = |plan: &restore_core::Plan| plan.components[0].inspection.needs[0].bytes;
    let all = ground.plan(to(RecoveryPoint::Latest)).await;
    assert!(room(&all) >= room(&plan) + (16 << 20), "room for each");
    let far = place.fetched_by(to(RecoveryPoint::Latest)).await;
    assert_eq!(ground.rows(), live, "all that was archived");
    assert!(near < far, "only what is needed: {near} of {far}");
    ground.back().await;
    assert_eq!(ground.rows(), live);
    place.nothing_kept();

    // Without a target: where the base backup ended.
    ground.run(PlanRequest::all().only(["cluster"])).await;
    assert_eq!(ground.rows(), both("1"));
    ground.back().await;
    place.nothing_kept();
}
