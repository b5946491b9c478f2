//! Faults on the ways that come after a fault: an undo, a resumed run, a rollback and a confirmation
//! that die or fail at each of their boundaries, and what mends them then.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_core::{Error, ErrorKind, PlanRequest, Report, Result, Site};

use restore_testing::Ended as _;

use super::toy::Toy;
use super::{dying_at, run, run_with};

const OLD: &str = r#"Some("old a") Some("old b") {"app": 5, "db": 1, "watch": 2} None"#;
const NEW: &str =
    r#"Some("restored a") Some("restored b") {"app": 5, "db": 1, "watch": 2} Some("restored b")"#;

/// Everything live, with what is deployed.
fn live(toy: &Toy) -> String {
    let deployed = std::fs::read_to_string(toy.path().join("b/deployed")).ok();
    format!("{} {deployed:?}", toy.live())
}

/// Options under which this boundary fails, and whether it was reached.
fn failing_at(at: usize) -> (RunOptions, Arc<AtomicBool>) {
    let reached = Arc::new(AtomicBool::new(false));
    let noted = reached.clone();
    let hook = move |boundary: &Boundary| {
        if boundary.index != at {
            return Ok(());
        }
        noted.store(true, Ordering::Relaxed);
        Err(Error::new(ErrorKind::Failed, "test.injected", "injected"))
    };
    (RunOptions::new().boundary(Arc::new(hook)), reached)
}

/// A run with every kind of step dies at a boundary, if it has one with this number.
async fn dies(site: &Site, at: usize) -> Option<Result<Report>> {
    let dead = AssertUnwindSafe(run_with(site, PlanRequest::all(), dying_at(at))).catch_unwind();
    dead.await.ok()
}

/// The boundaries of such a run.
async fn records() -> Vec<String> {
    let toy = Toy::new();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = seen.clone();
    let options = RunOptions::new().boundary(Arc::new(move |boundary: &Boundary| {
        noted.lock().unwrap().push(boundary.record.clone());
        Ok(())
    }));
    let report = run_with(&toy.site_behind(), PlanRequest::all(), options).await;
    assert_eq!(report.unwrap().outcome, Outcome::Restored);
    let seen = seen.lock().unwrap();
    seen.clone()
}

/// The last step fails, so that there is everything to undo.
#[tokio::test]
async fn death_at_every_boundary_of_an_undo_is_mended() {
    for way in ["resume", "rollback"] {
        for at in 0.. {
            let toy = Toy::new();
            let site = toy.site_behind();
            toy.sabotage("b", "check");
            let what = format!("{way} after death at {at}");
            if let Some(ended) = dies(&site, at).await {
                let ended = ended.unwrap();
                assert_eq!(ended.outcome, Outcome::Undone, "{what}");
                assert_eq!(live(&toy), OLD, "{what}");
                assert!(at > 40, "only {at} boundaries");
                break;
            }
            if site.history().await.unwrap()[0].outcome == Outcome::Undone {
                // At the very end.
                assert_eq!(live(&toy), OLD, "{what}");
                continue;
            }
            // What has failed goes on failing: also a resumed run is taken back.
            let ended = match way {
                "resume" => site.resume(None, RunOptions::new()).await,
                _ => site.rollback(None, RunOptions::new()).await,
            };
            let ended = ended
                .ended()
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(ended.is_as_before(), "{what}: {}", ended.to_text());
            assert_eq!(live(&toy), OLD, "{what}");
        }
    }
}

/// Killed before its swaps, between them and after, resumed, and killed again anywhere.
#[tokio::test]
async fn death_at_every_boundary_of_a_resumed_run_is_mended() {
    let records = records().await;
    for first in ["intent stage:a", "done cut-over:a", "fact b/deployed"] {
        let first = records.iter().position(|it| it == first);
        let first = first.unwrap_or_else(|| panic!("{records:?}"));
        for way in ["resume", "rollback"] {
            for at in 0.. {
                let toy = Toy::new();
                let site = toy.site_behind();
                let what = format!("{way} after death at {first}, and at {at} once resumed");
                assert!(dies(&site, first).await.is_none(), "{what}");
                let resumed = AssertUnwindSafe(site.resume(None, dying_at(at))).catch_unwind();
                if let Ok(ended) = resumed.await {
                    assert_eq!(ended.unwrap().outcome, Outcome::Restored, "{what}");
                    assert!(at > 10, "only {at} boundaries");
                    break;
                }
                if site.history().await.unwrap()[0].outcome == Outcome::Restored {
                    assert_eq!(live(&toy), NEW, "{what}");
                    continue;
                }
                let (ended, wanted) = match way {
                    "resume" => (site.resume(None, RunOptions::new()).await, NEW),
                    _ => (site.rollback(None, RunOptions::new()).await, OLD),
                };
                let ended = ended.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(live(&toy), wanted, "{what}: {}", ended.to_text());
            }
        }
    }
}

#[tokio::test]
async fn an_error_at_every_boundary_of_a_resumed_run_undoes_it() {
    let records = records().await;
    let first = records.iter().position(|it| it == "done cut-over:a");
    // The first boundary is before it has begun to do anything.
    for at in 1.. {
        let toy = Toy::new();
        let site = toy.site_behind();
        assert!(dies(&site, first.unwrap()).await.is_none());
        let (options, reached) = failing_at(at);
        let failed = site.resume(None, options).await;
        let what = format!("an error at {at}: {failed:?}");
        if !reached.load(Ordering::Relaxed) {
            assert_eq!(failed.unwrap().outcome, Outcome::Restored, "{what}");
            assert!(at > 10, "only {at} boundaries");
            break;
        }
        // At the end there is nothing left to undo.
        let wanted = match site.history().await.unwrap()[0].outcome {
            Outcome::Restored => NEW,
            Outcome::Undone => OLD,
            other => panic!("{what}: {other}"),
        };
        assert_eq!(live(&toy), wanted, "{what}");
    }
}

#[tokio::test]
async fn a_rollback_that_died_is_finished_by_another() {
    for at in 0.. {
        let toy = Toy::new();
        let site = toy.site_behind();
        run(&site).await;
        let what = format!("a rollback that died at {at}");
        let died = AssertUnwindSafe(site.rollback(None, dying_at(at))).catch_unwind();
        if let Ok(ended) = died.await {
            assert_eq!(ended.unwrap().outcome, Outcome::RolledBack, "{what}");
            assert_eq!(live(&toy), OLD, "{what}");
            assert!(at > 20, "only {at} boundaries");
            break;
        }
        finish_rollback(&toy, &site, &what).await;
    }
}

#[tokio::test]
async fn a_rollback_that_failed_is_finished_by_another() {
    for at in 0.. {
        let toy = Toy::new();
        let site = toy.site_behind();
        run(&site).await;
        let (options, reached) = failing_at(at);
        let failed = site.rollback(None, options).await;
        let what = format!("a rollback that failed at {at}: {failed:?}");
        if !reached.load(Ordering::Relaxed) {
            assert_eq!(failed.unwrap().outcome, Outcome::RolledBack, "{what}");
            assert_eq!(live(&toy), OLD, "{what}");
            assert!(at > 20, "only {at} boundaries");
            break;
        }
        finish_rollback(&toy, &site, &what).await;
    }
}

/// Rolls back what has not been wholly rolled back yet.
async fn finish_rollback(toy: &Toy, site: &Site, what: &str) {
    if site.history().await.unwrap()[0].outcome != Outcome::RolledBack {
        let rolled = site.rollback(None, RunOptions::new()).await;
        let rolled = rolled.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(rolled.outcome, Outcome::RolledBack, "{what}");
    }
    assert_eq!(live(toy), OLD, "{what}");
}

#[tokio::test]
async fn a_confirmation_that_failed_is_finished_by_another() {
    for at in 0.. {
        let toy = Toy::new();
        let site = toy.site_behind();
        let run = run(&site).await.run;
        let (options, reached) = failing_at(at);
        let failed = site.confirm(None, options).await;
        if !reached.load(Ordering::Relaxed) {
            assert!(failed.unwrap().confirmed);
            assert!(at > 3, "only {at} boundaries");
            break;
        }
        let report = site.confirm(Some(run), RunOptions::new()).await.unwrap();
        assert!(report.confirmed, "an error at {at}");
        // What is deployed is no leftover.
        assert_eq!(toy.leftovers(), ["b/deployed"], "an error at {at}");
        assert_eq!(live(&toy), NEW, "an error at {at}");
    }
}
