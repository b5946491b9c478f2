//! The backup that a run makes first.

use std::sync::{Arc, Mutex};

use restore_core::backup::{Backup, Generation};
use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_core::{BackupRequest, ErrorKind, Event, Finding, PlanRequest, Site};
use tokio_util::sync::CancellationToken;

use restore_testing::Ended as _;

use super::toy::Toy;
use super::{run, run_with};

/// The ids of all backups of the toy, with whether each is finished.
async fn backups(site: &Site) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for listed in site.backups().await.unwrap() {
        let store = site.stores()[0].1.clone();
        let backup = Backup::open(store, listed.id.clone()).await.unwrap();
        let finished = backup.generation() != Generation::Unfinished;
        found.push((listed.id.to_string(), finished));
    }
    found
}

/// Trap 39: there is something to go back to, with names that a restore finds.
#[tokio::test]
async fn what_was_live_is_backed_up_first_and_can_be_restored() {
    let toy = Toy::new();
    let site = toy.site();
    let report = run(&site).await;
    let safety = report.safety.clone().unwrap();
    assert!(safety.id.is_safety() && safety.missing.is_empty());
    assert!(report.to_text().contains(safety.id.as_str()));
    assert_eq!(
        backups(&site).await[1],
        (safety.id.to_string(), true),
        "finished"
    );
    // It is never `latest`.
    assert_eq!(
        site.backup("latest").await.unwrap().id().as_str(),
        "20240215-020000"
    );
    site.confirm(None, RunOptions::new()).await.unwrap();

    let backup = site.backup(safety.id.as_str()).await.unwrap();
    let plan = site
        .plan(
            &backup,
            PlanRequest::all().no_safety_backup(true),
            &RunOptions::new(),
        )
        .await
        .unwrap();
    assert!(plan.safety.is_none());
    assert!(plan.findings.iter().any(|it| it.code == "safety.none"));
    let read = std::fs::read_to_string(toy.path().join("a/live")).unwrap();
    assert_eq!(read, "restored a");
    let error = site.run(plan, RunOptions::new()).await.ended().unwrap();
    // The toy's own check wants what the first backup holds; that is why it is taken back.
    assert_eq!(error.outcome, Outcome::Undone);
    assert_eq!(backups(&site).await.len(), 2, "none was made");
}

/// The answer to each question, which is put down.
fn answering(answer: bool) -> (RunOptions, Arc<Mutex<Vec<Finding>>>) {
    let questions: Arc<Mutex<Vec<Finding>>> = Arc::default();
    let heard = questions.clone();
    let options = RunOptions::new().asked(Arc::new(move |question: &Finding| {
        heard.lock().unwrap().push(question.clone());
        answer
    }));
    (options, questions)
}

#[tokio::test]
async fn a_safety_backup_without_a_component_is_agreed_to_before_the_downtime() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("a", "back_up");
    // Nobody to ask, and somebody who does not want it.
    let (no, questions) = answering(false);
    for options in [RunOptions::new(), no] {
        let report = run_with(&site, PlanRequest::all(), options).await.unwrap();
        assert_eq!(report.outcome, Outcome::Undone);
        let failure = report.failure.clone().unwrap();
        assert_eq!(
            (failure.step.as_str(), failure.code.as_str()),
            ("backup:safety", "safety.incomplete")
        );
        assert!(failure.message.contains("nothing of a: back_up fails"));
        assert!(failure.hint.unwrap().contains("--no-safety-backup"));
        assert_eq!(report.downtime_seconds, None);
        assert_eq!(toy.live(), Toy::OLD);
        assert_eq!(toy.leftovers(), ["a/fail-back_up"]);
    }
    assert_eq!(questions.lock().unwrap().len(), 1);
    toy.sabotage("b", "back_up");
    let report = run(&site).await;
    assert_eq!(report.failure.unwrap().code, "safety.incomplete");
    assert_eq!(toy.live(), Toy::OLD);
    let (yes, questions) = answering(true);
    let report = run_with(&site, PlanRequest::all(), yes).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    assert!(report.safety.is_none());
    let asked = questions.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].message.contains("there is no safety backup"));
}

#[tokio::test]
async fn what_the_plan_says_cannot_be_read_does_not_hold_the_restore() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("a", "back_up");
    toy.sabotage("a", "live_bytes");
    let backup = site.backup("latest").await.unwrap();
    let options = RunOptions::new();
    let request = PlanRequest::all();
    let plan = site.plan(&backup, request, &options).await.unwrap();
    let told = plan
        .findings
        .iter()
        .find(|it| it.code == "safety.without")
        .unwrap();
    assert!(told.message.contains("a (live_bytes fails)"), "{told:?}");
    assert_eq!(plan.safety.clone().unwrap().without[0].name, "a");
    let report = site.run(plan.clone(), RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    let safety = report.safety.clone().unwrap();
    assert_eq!(safety.missing[0].name, "a");
    assert!(
        report
            .findings
            .iter()
            .any(|it| it.code == "backup.not_taken")
    );
    assert!(
        report.to_text().contains("without a"),
        "{}",
        report.to_text()
    );
    let backup = site.backup(safety.id.as_str()).await.unwrap();
    let paths: Vec<&str> = backup
        .files()
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(paths, ["MANIFEST.txt", "b.txt", "restore.json"]);
    site.rollback(None, RunOptions::new()).await.unwrap();
    site.confirm(None, RunOptions::new()).await.unwrap();

    // What cannot be read any more since the plan was made is no part of what was agreed to.
    toy.sabotage("b", "back_up");
    toy.sabotage("b", "live_bytes");
    let error = site.run(plan, RunOptions::new()).await.unwrap_err();
    assert_eq!(error.code(), "plan.stale", "{error}");

    // Nothing at all: the run goes on without, and says so.
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Restored);
    assert!(report.safety.is_none());
    assert!(report.findings.iter().any(|it| it.code == "backup.nothing"));
    assert!(
        !backups(&site).await.last().unwrap().1,
        "it stays unfinished"
    );

    // A backup that was asked for is whole or none.
    let error = site
        .back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "toy.sabotaged");
    assert_eq!(error.component(), Some("a"));
    assert!(
        error.hint_text().unwrap().contains("unfinished"),
        "{error:?}"
    );

    // One of a kind that nothing backs up holds nobody's backup.
    toy.mend("a", "back_up");
    toy.mend("b", "back_up");
    toy.sabotage("b", "no_back_up");
    let report = site
        .back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap();
    assert_eq!((report.kind.as_str(), report.missing.len()), ("partial", 1));
    assert!(report.findings[0].message.contains("not in the backup"));
}

#[tokio::test]
async fn a_store_that_cannot_be_written_turns_the_run_back() {
    let toy = Toy::new();
    let site = toy.site();
    let backup = site.backup("latest").await.unwrap();
    let options = RunOptions::new();
    let plan = site
        .plan(&backup, PlanRequest::all(), &options)
        .await
        .unwrap();
    // In the way of what is written, where root's rights do not help.
    let hook = {
        let backups = toy.path().join("backups");
        RunOptions::new().boundary(Arc::new(move |boundary: &Boundary| {
            if boundary.record == "intent backup:safety" {
                std::fs::rename(&backups, backups.with_extension("away")).unwrap();
                std::fs::write(&backups, "no folder").unwrap();
            }
            Ok(())
        }))
    };
    let report = site.run(plan, hook).await.ended().unwrap();
    assert_eq!(report.outcome, Outcome::Undone);
    let failure = report.failure.unwrap();
    assert_eq!(failure.step, "backup:safety");
    assert_eq!(toy.live(), Toy::OLD);
    assert_eq!(toy.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn backups_and_runs_do_not_meet() {
    let toy = Toy::new();
    let site = toy.site();
    let other = toy.site();
    toy.sabotage("b", "slow");
    let seen = Arc::new(Mutex::new(None));
    let result = seen.clone();
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let (begun, staging) = tokio::sync::oneshot::channel();
    let begun = Mutex::new(Some(begun));
    let options = RunOptions::new()
        .cancelled_by(cancel)
        .events(Arc::new(move |event: &Event| {
            if matches!(event, Event::StepStarted { step, .. } if step == "stage:b")
                && let Some(begun) = begun.lock().unwrap().take()
            {
                begun.send(()).unwrap();
            }
        }));
    let during = async {
        staging.await.unwrap();
        let made = other.back_up(BackupRequest::all(), RunOptions::new()).await;
        *result.lock().unwrap() = Some(made);
        stop.cancel();
    };
    let (report, ()) = tokio::join!(run_with(&site, PlanRequest::all(), options), during);
    assert_eq!(report.unwrap().outcome, Outcome::Undone);
    let error = seen.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    site.back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap();
}
