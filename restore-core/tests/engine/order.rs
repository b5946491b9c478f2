//! Services of which neither comes after the other, and those that come up by themselves.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use restore_core::PlanRequest;
use restore_core::run::{Outcome, RunOptions};
use tokio::sync::Barrier;

use crate::toy::Toy;
use crate::{dying_at, run, run_with};

#[tokio::test]
async fn they_stop_and_start_at_the_same_time_and_so_they_come_back() {
    let toy = Toy::new();
    let site = toy.site_ordered("after = []");
    *toy.platform.together.lock().unwrap() = Some(Arc::new(Barrier::new(2)));
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_eq!(toy.live(), Toy::NEW);
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test]
async fn what_need_not_wait_is_stopped_in_order_all_the_same() {
    let toy = Toy::new();
    let report = run(&toy.site_ordered("wait = false")).await;
    let step = |name: &str| report.steps.iter().find(|it| it.step == name).unwrap();
    let (app, db) = (step("stop:app"), step("stop:db"));
    let between = db.started.since(app.started).as_secs_f64();
    assert!(between >= app.seconds.unwrap(), "{app:?} {db:?}");
}

/// Downtime ends when the last of them is up, whichever that is.
#[tokio::test]
async fn downtime_is_over_when_all_are_up() {
    let toy = Toy::new();
    let site = toy.site_ordered("after = []");
    *toy.platform.refuse_to_start.lock().unwrap() = Some("db".to_owned());
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Stuck, "{}", report.to_text());
    assert_eq!(report.downtime_seconds, None);
    assert!(report.down_since.is_some(), "it goes on");
    assert!(report.to_text().contains("users are turned away, since"));
    *toy.platform.refuse_to_start.lock().unwrap() = None;
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(toy.live(), Toy::OLD);
    assert!(report.downtime_seconds.is_some() && report.down_since.is_none());
}

#[tokio::test]
async fn death_at_every_boundary_leaves_one_or_the_other() {
    for at in 0.. {
        for resume in [true, false] {
            let toy = Toy::new();
            let site = toy.site_ordered("after = []");
            let dead =
                AssertUnwindSafe(run_with(&site, PlanRequest::all(), dying_at(at))).catch_unwind();
            assert!(dead.await.is_err(), "boundary {at} was not reached");
            if site.history().await.unwrap()[0].outcome == Outcome::Restored {
                assert_eq!(toy.live(), Toy::NEW);
                assert!(at > 20, "only {at} boundaries");
                return;
            }
            let (report, wanted) = match resume {
                true => (site.resume(None, RunOptions::new()).await, Toy::NEW),
                false => (site.rollback(None, RunOptions::new()).await, Toy::OLD),
            };
            let what = format!("boundary {at}, resume {resume}");
            report.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(toy.live(), wanted, "{what}");
        }
    }
}
