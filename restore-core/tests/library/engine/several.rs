//! One run at a time, and one over another.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use restore_core::run::{Boundary, RunOptions};
use restore_core::{ErrorKind, PlanRequest};
use tokio_util::sync::CancellationToken;

use super::toy::Toy;
use super::{run, run_with};

#[tokio::test]
async fn one_run_at_a_time() {
    let toy = Toy::new();
    toy.sabotage("b", "slow");
    let site = toy.site();
    let cancel = CancellationToken::new();
    let first = run_with(
        &site,
        PlanRequest::all(),
        RunOptions::new().cancelled_by(cancel.clone()),
    );
    let second = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let error = site.rollback(None, RunOptions::new()).await.unwrap_err();
        cancel.cancel();
        error
    };
    let (first, error) = tokio::join!(first, second);
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("a run is under way"), "{error}");
    assert!(first.unwrap().is_as_before());
}

#[tokio::test]
async fn a_run_over_an_unconfirmed_one_needs_a_word_and_rolls_back_in_order() {
    let toy = Toy::new();
    let site = toy.site();
    let first = run(&site).await;
    std::fs::write(toy.path().join("a/live"), "used a").unwrap();
    let refused = run_with(&site, PlanRequest::all(), RunOptions::new())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Preflight);
    assert!(refused.hint_text().unwrap().contains("--over-unconfirmed"));

    let backup = site.backup("latest").await.unwrap();
    let request = PlanRequest::all().over_unconfirmed(true);
    let plan = site
        .plan_with(&backup, request, &RunOptions::new())
        .await
        .unwrap();
    assert_eq!(plan.earlier[0].run, first.run);
    assert!(
        plan.findings
            .iter()
            .any(|f| f.message.contains("two rollbacks, of the new run"))
    );
    let second = site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(toy.live(), Toy::NEW);

    let covered = site
        .rollback(Some(first.run.clone()), RunOptions::new())
        .await
        .unwrap_err();
    assert_eq!(covered.code(), "run.covered");
    assert!(covered.hint_text().unwrap().contains(second.run.as_str()));
    site.rollback(None, RunOptions::new()).await.unwrap();
    assert!(toy.live().contains("used a"));
    site.rollback(Some(first.run), RunOptions::new())
        .await
        .unwrap();
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test]
async fn no_rollback_goes_past_a_run_that_is_still_open() {
    let toy = Toy::new();
    let site = toy.site();
    let first = run(&site).await;
    // It dies after both swaps, before its services are started.
    let dying = RunOptions::new().boundary(Arc::new(|boundary: &Boundary| {
        assert_ne!(boundary.record, "intent start:db", "died");
        Ok(())
    }));
    let request = PlanRequest::all().over_unconfirmed(true);
    let dead = AssertUnwindSafe(run_with(&site, request, dying)).catch_unwind();
    assert!(dead.await.is_err());
    // Its undo would put the first run's way back aside as its own leftovers.
    let refused = site
        .rollback(Some(first.run.clone()), RunOptions::new())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "run.covered");
    site.rollback(None, RunOptions::new()).await.unwrap();
    site.rollback(Some(first.run), RunOptions::new())
        .await
        .unwrap();
    assert_eq!(toy.live(), Toy::OLD);
}
