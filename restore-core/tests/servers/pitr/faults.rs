//! Killed at the boundaries of a recovery: afterwards as before, or recovered.
//!
//! Each kind of boundary once and some of the rest; all of them, in both ways, with
//! `RESTORE_TEST_EXHAUSTIVE=1`.

use std::time::{Duration, Instant};

use restore_testing::pitr::Ground;
use restore_testing::{Sample, Share, boundaries, crash};

fn act(ground: &Ground, action: &str, when: &str, to: &str) -> String {
    crash(&ground.config(), &[action, when, "latest", to])
}

async fn up(ground: &Ground) {
    let site = ground.site().await;
    site.platform().scale("postgres", 1).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while ground.try_sql("postgres", "SELECT 1").is_err() {
        assert!(Instant::now() < deadline, "the server does not come up");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_boundaries_1_of_2() {
    killed(Share::new(1, 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_boundaries_2_of_2() {
    killed(Share::new(2, 2)).await;
}

async fn killed(share: Share) {
    let ground = Ground::quick().await;
    let here = ground.past().await;
    let pair = |rows: &str| (rows.to_owned(), rows.to_owned());
    let (before, recovered) = (pair("1 2 3"), pair("1 2"));
    let counted = act(&ground, "run", "never", &here.time);
    assert!(counted.contains("outcome restored"), "{counted}");
    assert_eq!(ground.rows(), recovered);
    ground.back().await;
    let all = boundaries(&counted, &ground.config());
    assert!(all.len() > 8, "{counted}");
    // The last boundary is the run's end.
    let (_, all) = all.split_last().unwrap();
    let cases = all
        .iter()
        .flat_map(|at| ["resume", "rollback"].map(|action| (at, action)));
    let cases = Sample::of_this_run().choose(
        cases,
        |(at, action)| format!("{action} after {}", at.record),
        |(at, _)| at.kind.clone(),
        4,
        share,
    );
    for (at, action) in cases {
        let what = format!("{action} after a kill at {}", at.record);
        println!("{what}");
        act(&ground, "run", &at.record, &here.time);
        let ended = act(&ground, action, "never", &here.time);
        up(&ground).await;
        let rows = ground.rows();
        if ended.contains("outcome restored") {
            assert_eq!(rows, recovered, "{what}: {ended}");
            ground.back().await;
        } else if ended.contains("run.none") {
            assert_eq!(rows, before, "{what}: {ended}");
        } else {
            assert!(
                ended.contains("outcome rolled back") || ended.contains("outcome undone"),
                "{what}: {ended}"
            );
            assert_eq!(rows, before, "{what}: {ended}");
            ground.confirm().await;
        }
        assert_eq!(ground.rows(), before, "{what}, put back");
    }
}
