//! The engine's promises, on a toy platform on which each effect can be looked at: a run ends

//! restored or as before, whatever happens and whenever.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_core::{BackupRequest, PlanRequest, Report, Result, Site};
use restore_testing::Ended as _;
use toy::Toy;

mod again;
mod agreed;
mod behind;
mod crashes;
mod failures;
mod handles;
mod hooks;
mod order;
mod page;
mod plans;
mod prune;
mod safety;
mod several;
mod told;
mod toy;
mod ways_out;

/// What became of the run, however it ended.
async fn run_with(site: &Site, request: PlanRequest, options: RunOptions) -> Result<Report> {
    let backup = site.backup("latest").await?;
    let plan = site.plan_with(&backup, request, &RunOptions::new()).await?;
    site.run(plan, options).await.ended()
}

async fn run(site: &Site) -> Report {
    run_with(site, PlanRequest::all(), RunOptions::new())
        .await
        .unwrap()
}

/// Options under which the process "dies" at boundary `at`: a panic unwinds through the run, all
/// it held is dropped, and nothing it would have done afterwards happens.
fn dying_at(at: usize) -> RunOptions {
    RunOptions::new().boundary(Arc::new(move |boundary: &Boundary| {
        assert!(boundary.index != at, "died at {}", boundary.record);
        Ok(())
    }))
}

/// Counts the boundaries of a whole run.
async fn boundaries() -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    let options = RunOptions::new().boundary(Arc::new(move |_: &Boundary| {
        seen.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }));
    let toy = Toy::new();
    run_with(&toy.site(), PlanRequest::all(), options)
        .await
        .unwrap();
    count.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_run_restores_and_keeps_the_old_until_confirmed() {
    let toy = Toy::new();
    let site = toy.site();
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Restored);
    assert!(report.error().is_none());
    assert_eq!(toy.live(), Toy::NEW);
    assert_eq!(toy.leftovers().len(), 2, "both replaced copies are kept");
    assert!(report.downtime_seconds.is_some());
    assert!(
        report.components[0]
            .kept_at
            .as_ref()
            .unwrap()
            .contains("replaced")
    );
    let log = std::fs::read_to_string(toy.path().join("restore.log")).unwrap();
    assert!(log.contains("Restored and checked") && log.contains(report.run.as_str()));

    let reserve = toy
        .path()
        .join(format!("state/runs/{}/reserve", report.run));
    assert!(reserve.exists(), "room for the way back is held");
    let confirmed = site.confirm(None, RunOptions::new()).await.unwrap();
    assert!(confirmed.confirmed);
    assert!(!reserve.exists(), "nothing but words is left of it");
    assert_eq!(toy.leftovers(), Vec::<String>::new());
    assert_eq!(toy.live(), Toy::NEW);
    let error = site.rollback(None, RunOptions::new()).await.unwrap_err();
    assert_eq!(error.code(), "run.none_to_roll_back");
}

/// Writes since the safety backup, and since the restore, are in the data that a swap
/// keeps.
#[tokio::test]
async fn a_rollback_swaps_back_and_keeps_what_was_written_since() {
    let toy = Toy::new();
    let site = toy.site();
    let first = run(&site).await;
    std::fs::write(toy.path().join("a/live"), "restored a, and used").unwrap();
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert!(report.error().is_none() && report.is_as_before());
    assert_eq!(toy.live(), Toy::OLD);
    let kept = report.components[0].kept_at.clone().unwrap();
    assert_eq!(
        std::fs::read_to_string(kept).unwrap(),
        "restored a, and used"
    );
    let again = site
        .rollback(Some(first.run), RunOptions::new())
        .await
        .unwrap_err();
    assert_eq!(again.code(), "run.cannot_roll_back");
    site.confirm(None, RunOptions::new()).await.unwrap();
    assert_eq!(toy.leftovers(), Vec::<String>::new());
}

/// What an embedder spawns must be `Send`.
#[test]
fn the_futures_can_be_spawned() {
    fn send<T: Send>(_: T) {}
    let toy = Toy::new();
    let site = toy.site();
    send(site.resume(None, RunOptions::new()));
    send(site.rollback(None, RunOptions::new()));
    send(run_with(&site, PlanRequest::all(), RunOptions::new()));
    send(site.back_up(BackupRequest::all(), RunOptions::new()));
}
