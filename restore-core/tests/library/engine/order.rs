//! Services of which neither comes after the other, and those that come up by themselves.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use restore_core::PlanRequest;
use restore_core::run::{Outcome, RunOptions};
use tokio::sync::Barrier;

use super::toy::Toy;
use super::{dying_at, run, run_with};

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

/// One that does not start on its old data is told, and the other is up: the run has ended, and the
/// downtime with it.
#[tokio::test]
async fn one_that_does_not_start_keeps_no_other_from_it() {
    let toy = Toy::new();
    let site = toy.site_ordered("after = ['db']");
    *toy.platform.refuse_to_start.lock().unwrap() = Some("db".to_owned());
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    assert_eq!(report.services_down.len(), 1);
    assert_eq!(report.services_down[0].name, "db");
    assert!(report.downtime_seconds.is_some() && report.down_since.is_none());
    assert_eq!(
        toy.live(),
        r#"Some("old a") Some("old b") {"app": 5, "db": 0}"#
    );
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
