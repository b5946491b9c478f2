//! What users do not see, which is swapped before they are turned away; and deployments.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use restore_core::plan::Step;
use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_core::{Error, ErrorKind, PlanRequest, Report, Site};

use super::toy::Toy;
use super::{dying_at, run, run_with};

const OLD: &str = r#"Some("old a") Some("old b") {"app": 5, "db": 1, "watch": 2} None"#;
const NEW: &str =
    r#"Some("restored a") Some("restored b") {"app": 5, "db": 1, "watch": 2} Some("restored b")"#;

fn live(toy: &Toy) -> String {
    let deployed = std::fs::read_to_string(toy.path().join("b/deployed")).ok();
    format!("{} {deployed:?}", toy.live())
}

async fn steps(site: &Site) -> Vec<String> {
    let backup = site.backup("latest").await.unwrap();
    let plan = site
        .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap();
    plan.steps.iter().map(Step::to_string).collect()
}

/// The order is that of the parts, then that of the file.
#[tokio::test]
async fn it_is_swapped_first_and_costs_no_downtime() {
    let toy = Toy::new();
    let site = toy.site_behind();
    assert_eq!(
        steps(&site).await,
        [
            "backup:safety",
            "stage:b",
            "stage:a",
            "stop:watch",
            "cut-over:a",
            "start:watch",
            "stop:app",
            "stop:db",
            "cut-over:b",
            "deploy:b",
            "start:db",
            "start:app",
            "check:inside",
            "check:outside",
        ]
    );
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_eq!(live(&toy), NEW);
    let began = |report: &Report, step: &str| {
        let step = report.steps.iter().find(|it| it.step == step);
        step.unwrap_or_else(|| panic!("{step:?}")).started
    };
    let down = report.downtime_seconds.unwrap();
    let (from, to) = (began(&report, "stop:app"), began(&report, "check:inside"));
    assert!(down <= to.since(from).as_secs_f64() + 0.001, "{down}");
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert_eq!(live(&toy), OLD);
    site.confirm(None, RunOptions::new()).await.unwrap();

    // Alone, nobody notices.
    let report = run_with(&site, PlanRequest::all().only(["a"]), RunOptions::new())
        .await
        .unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    assert_eq!(report.downtime_seconds, None);
    assert_eq!(report.services.len(), 1);
}

#[tokio::test]
async fn death_and_errors_at_every_boundary_leave_one_or_the_other() {
    for at in 0.. {
        for action in ["resume", "rollback", "error"] {
            let toy = Toy::new();
            let site = toy.site_behind();
            let what = format!("{action} at boundary {at}");
            if action == "error" {
                // The first boundaries are before the run proper.
                if at < 2 {
                    continue;
                }
                let options = RunOptions::new().boundary(Arc::new(move |boundary: &Boundary| {
                    match boundary.index == at {
                        true => Err(Error::new(ErrorKind::Failed, "test.injected", "injected")),
                        false => Ok(()),
                    }
                }));
                let report = run_with(&site, PlanRequest::all(), options).await.unwrap();
                assert_eq!(report.outcome, Outcome::Undone, "{what}");
                assert_eq!(live(&toy), OLD, "{what}");
                continue;
            }
            let dead =
                AssertUnwindSafe(run_with(&site, PlanRequest::all(), dying_at(at))).catch_unwind();
            assert!(dead.await.is_err(), "boundary {at} was not reached");
            if live(&toy) == NEW && site.history().await.unwrap()[0].outcome == Outcome::Restored {
                assert!(at > 30, "only {at} boundaries");
                return;
            }
            let (ended, wanted) = match action {
                "resume" => (site.resume(None, RunOptions::new()).await, NEW),
                _ => (site.rollback(None, RunOptions::new()).await, OLD),
            };
            let ended = ended.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(live(&toy), wanted, "{what}: {}", ended.to_text());
        }
    }
}

/// What fails behind the scenes does not keep users out, and is not forgotten either.
#[tokio::test]
async fn an_undo_that_fails_there_lets_users_in_all_the_same() {
    let toy = Toy::new();
    let site = toy.site_behind();
    toy.sabotage("b", "deploy");
    toy.sabotage("a", "undo");
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Stuck, "{}", report.to_text());
    assert_eq!(report.stuck.as_ref().unwrap().step, "undo:cut-over:a");
    assert_eq!(report.failure.as_ref().unwrap().step, "deploy:b");
    let now = live(&toy);
    assert!(
        now.contains(r#"Some("old b")"#) && now.contains(r#""app": 5, "db": 1"#),
        "{now}"
    );
    assert!(now.ends_with("None"), "{now}");
    toy.mend("a", "undo");
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert!(report.is_as_before());
    assert_eq!(live(&toy), OLD);
}
