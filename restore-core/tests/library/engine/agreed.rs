//! What is far less than what is live is put in its place only with a yes.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_core::{Finding, PlanRequest};

use super::toy::Toy;
use super::{dying_at, run_with};
use restore_testing::Ended as _;

/// A toy whose component `a` stages far less than is live.
fn short() -> Toy {
    let toy = Toy::new();
    std::fs::write(toy.path().join("a/notice-far-less"), "").unwrap();
    toy
}

/// The answer to each question, and what was asked.
fn answering(answer: bool) -> (RunOptions, Arc<Mutex<Vec<String>>>) {
    let questions: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = questions.clone();
    let options = RunOptions::new().asked(Arc::new(move |question: &Finding| {
        heard.lock().unwrap().push(question.code.clone());
        answer
    }));
    (options, questions)
}

#[tokio::test]
async fn far_less_than_is_live_is_agreed_to_before_the_downtime() {
    let toy = short();
    let site = toy.site();
    // Nobody to ask, and somebody who does not want it.
    let (no, questions) = answering(false);
    for options in [RunOptions::new(), no] {
        let report = run_with(&site, PlanRequest::all(), options).await.unwrap();
        assert_eq!(report.outcome, Outcome::Undone);
        let failure = report.failure.clone().unwrap();
        let said = (failure.step.as_str(), failure.code.as_str());
        assert_eq!(said, ("stage:a", "toy.far_less"));
        assert_eq!(failure.component.as_deref(), Some("a"));
        assert!(failure.hint.unwrap().contains("--allow-empty a"));
        assert_eq!(report.downtime_seconds, None);
        assert_eq!(toy.live(), Toy::OLD);
    }
    assert_eq!(*questions.lock().unwrap(), ["toy.far_less"]);
    let (yes, questions) = answering(true);
    let report = run_with(&site, PlanRequest::all(), yes).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    assert_eq!(questions.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn who_said_so_before_is_not_asked() {
    for request in [
        PlanRequest::all().allow_empty(["a"]),
        PlanRequest::all().drill(true),
    ] {
        let toy = short();
        let (no, questions) = answering(false);
        let report = run_with(&toy.site(), request, no).await.unwrap();
        assert!(matches!(
            report.outcome,
            Outcome::Restored | Outcome::Drilled
        ));
        assert!(report.findings.iter().any(|it| it.code == "toy.far_less"));
        assert!(questions.lock().unwrap().is_empty());
    }
}

/// A process that dies before the answer is written asks again; after it, or once anything is replaced, nobody
/// is asked.
#[tokio::test]
async fn after_a_kill_it_is_asked_once_more_at_most() {
    let records: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = records.clone();
    let (yes, _) = answering(true);
    let watching = yes.boundary(Arc::new(move |boundary: &Boundary| {
        seen.lock().unwrap().push(boundary.record.clone());
        Ok(())
    }));
    run_with(&short().site(), PlanRequest::all(), watching)
        .await
        .unwrap();
    let records = records.lock().unwrap().clone();
    let answered = records.iter().position(|it| it == "fact agreed/a").unwrap();
    let begun = records.iter().enumerate().skip(answered - 1);
    for (at, record) in begun.take(records.len() - answered) {
        let toy = short();
        let (yes, _) = answering(true);
        let mut dying = dying_at(at);
        dying.asked = yes.asked;
        let site = toy.site();
        let died = AssertUnwindSafe(run_with(&site, PlanRequest::all(), dying)).catch_unwind();
        assert!(died.await.is_err(), "at {at}");
        let (yes, questions) = answering(true);
        let site = toy.site();
        let report = site.resume(None, yes).await.ended().unwrap();
        assert_eq!(report.outcome, Outcome::Restored, "at {at}");
        let asked = questions.lock().unwrap().len();
        assert_eq!(asked, usize::from(at < answered), "at {at} {record}");
    }
}
