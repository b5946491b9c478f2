//! Killed at the boundaries of a recovery: afterwards as before, or recovered.
//!
//! Each kind of boundary once and some of the rest; all of them, in both ways, with
//! `RESTORE_TEST_EXHAUSTIVE=1`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_testing::pitr::{Ground, to_time};
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
    let cases = Sample::of_this_run().one_kind_of(3).choose(
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

/// What is staged of a cluster whose data directory is the volume lies in what its safety backup copies.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_live_is_backed_up_before_anything_is_staged_beside_it() {
    let ground = Ground::new().await;
    let here = ground.past().await;
    let text = std::fs::read_to_string(ground.config()).unwrap();
    let saving = text.replace("safety_backup = false\n", "");
    assert_ne!(saving, text);
    std::fs::write(ground.config(), saving).unwrap();
    let report = ground.run(to_time(&here.time)).await;
    let safety = report.safety.clone().unwrap();
    assert!(safety.missing.is_empty(), "{:?}", safety.missing);
    assert_eq!(ground.rows(), ("1 2".to_owned(), "1 2".to_owned()));
    let at = |step: &str| report.steps.iter().position(|it| it.step == step).unwrap();
    assert!(at("backup:safety") < at("stage:cluster"));
    ground.back().await;
    assert_eq!(ground.rows(), ("1 2 3".to_owned(), "1 2 3".to_owned()));

    // Killed in the middle of it, whoever takes the run up can make another.
    let plan = ground.plan(to_time(&here.time)).await;
    let options = RunOptions::new().boundary(Arc::new(|boundary: &Boundary| {
        assert!(!boundary.record.starts_with("fact safety-backup/"), "died");
        Ok(())
    }));
    let site = ground.site().await;
    let died = AssertUnwindSafe(site.run(plan, options))
        .catch_unwind()
        .await;
    assert!(died.is_err());
    drop(site);
    let report = ground.site().await.resume(None, RunOptions::new()).await;
    let report = report.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert!(report.safety.unwrap().missing.is_empty());
    assert_eq!(ground.rows(), ("1 2".to_owned(), "1 2".to_owned()));
    ground.back().await;
}
