//! The backup that a run makes first.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
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

/// There is something to go back to, with names that a restore finds.
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
        .plan_with(
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
    let plan = site.plan_with(&backup, request, &options).await.unwrap();
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
    let left = backups(&site).await;
    assert!(
        left.iter().all(|it| it.1),
        "nothing empty is left: {left:?}"
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
async fn a_safety_backup_that_was_broken_off_is_deleted() {
    let toy = Toy::new();
    let site = toy.site();
    // Ctrl-C, once its folder is there.
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let options =
        RunOptions::new()
            .cancelled_by(cancel)
            .boundary(Arc::new(move |boundary: &Boundary| {
                if boundary.record.starts_with("fact safety-backup/") {
                    stop.cancel();
                }
                Ok(())
            }));
    let report = run_with(&site, PlanRequest::all(), options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Undone);
    let failure = report.failure.unwrap();
    assert_eq!(
        (failure.step.as_str(), failure.kind),
        ("backup:safety", ErrorKind::Interrupted)
    );
    let hint = failure.hint.unwrap_or_default();
    assert!(
        !hint.contains("unfinished"),
        "nothing of it is left: {hint}"
    );
    assert_eq!(backups(&site).await.len(), 1);

    // Killed: by whoever takes the run up, and only what that run has begun.
    let other = toy.path().join("backups/pre-restore-20240101-000000");
    std::fs::create_dir(&other).unwrap();
    for finish in [false, true] {
        let begun: Arc<Mutex<String>> = Arc::default();
        let seen = begun.clone();
        let dying = RunOptions::new().boundary(Arc::new(move |boundary: &Boundary| {
            if let Some(id) = boundary.record.strip_prefix("fact safety-backup/") {
                *seen.lock().unwrap() = id.to_owned();
                panic!("died");
            }
            Ok(())
        }));
        let dead = AssertUnwindSafe(run_with(&site, PlanRequest::all(), dying)).catch_unwind();
        assert!(dead.await.is_err());
        let folder = toy.path().join("backups").join(&*begun.lock().unwrap());
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("half"), "half").unwrap();
        match finish {
            true => site.resume(None, RunOptions::new()).await.unwrap(),
            false => site.rollback(None, RunOptions::new()).await.unwrap(),
        };
        // Another one of the same second has its name.
        assert!(!folder.join("half").exists(), "{finish}");
        assert!(other.exists(), "{finish}");
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_written_turns_the_run_back() {
    let toy = Toy::new();
    let site = toy.site_with_safety_store();
    let backup = site.backup("latest").await.unwrap();
    let options = RunOptions::new();
    let plan = site
        .plan_with(&backup, PlanRequest::all(), &options)
        .await
        .unwrap();
    // In the way of what is written, where root's rights do not help.
    let hook = {
        let safe = toy.path().join("safe");
        RunOptions::new().boundary(Arc::new(move |boundary: &Boundary| {
            if boundary.record == "intent backup:safety" {
                std::fs::remove_dir(&safe).unwrap();
                std::fs::write(&safe, "no folder").unwrap();
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

/// Neither waits for the other, and nothing is replaced before both are done.
#[tokio::test]
async fn it_is_made_while_the_backup_is_staged() {
    let toy = Toy::new();
    let site = toy.site();
    std::fs::write(toy.path().join("a/back_up-waits"), "").unwrap();
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Restored);
    let place = report.safety.unwrap().id;
    let folder = toy.path().join("backups").join(place.as_str());
    let saved = std::fs::read_to_string(folder.join("a.txt")).unwrap();
    assert_eq!(saved, "old a", "it holds what was live");
    let at = |step: &str| {
        let found = report.steps.iter().find(|it| it.step == step).unwrap();
        found.started
    };
    assert!(at("stop:app") > at("backup:safety"));
}

/// What fails beside it is what is told, and nothing is waited for in vain.
#[tokio::test]
async fn staging_that_fails_ends_it_and_the_other_way_round() {
    let toy = Toy::new();
    let site = toy.site();
    std::fs::write(toy.path().join("a/back_up-waits"), "").unwrap();
    toy.sabotage("a", "stage");
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.failure.unwrap().step, "stage:a");
    assert_eq!(toy.live(), Toy::OLD);
    let finished = backups(&site).await.iter().filter(|(_, it)| *it).count();
    assert_eq!(finished, 1, "an unfinished one is seen to be unfinished");

    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("a", "back_up");
    toy.sabotage("b", "slow");
    let began = std::time::Instant::now();
    let report = run(&site).await;
    assert_eq!(report.failure.unwrap().step, "backup:safety");
    assert!(began.elapsed() < std::time::Duration::from_secs(30));
    assert_eq!(toy.live(), Toy::OLD);
}

/// Nobody reads a question between lines of progress.
#[tokio::test]
async fn a_question_comes_once_everything_is_staged() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("a", "back_up");
    let dir = toy.path().to_owned();
    let options = RunOptions::new().asked(Arc::new(move |_: &Finding| {
        for name in ["a", "b"] {
            let mut names = std::fs::read_dir(dir.join(name)).unwrap();
            let is_staged = |it: std::io::Result<std::fs::DirEntry>| {
                it.unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with("staged-")
            };
            assert!(names.any(is_staged), "{name} is not staged");
        }
        true
    }));
    let report = run_with(&site, PlanRequest::all(), options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
}

/// What staging changes of what is live, or makes, is in no copy of what was live before: the rest is staged beside it.
#[tokio::test]
async fn what_staging_would_change_is_backed_up_before() {
    for why in ["saved-first", "creates"] {
        let toy = Toy::new();
        let site = toy.site();
        std::fs::write(toy.path().join("a").join(why), "").unwrap();
        std::fs::write(toy.path().join("b/back_up-waits"), "").unwrap();
        let report = run(&site).await;
        assert_eq!(
            report.outcome,
            Outcome::Restored,
            "{why}: {}",
            report.to_text()
        );
        assert!(report.safety.is_some());
        let at = |step: &str| {
            let found = report.steps.iter().position(|it| it.step == step);
            found.unwrap_or_else(|| panic!("{why}: no {step}"))
        };
        assert!(at("stage:b") < at("stage:a"), "{why}");
        let step = &report.steps[at("backup:safety")];
        let took = std::time::Duration::from_secs_f64(step.seconds.unwrap());
        let staged = report.steps[at("stage:a")].started.since(step.started);
        assert!(staged >= took, "{why}: {staged:?} {took:?}");
    }
}

/// It may have filled the disk that it is on.
#[tokio::test]
async fn one_that_failed_leaves_nothing() {
    let toy = Toy::new();
    let site = toy.site();
    let dir = toy.path().join("backups");
    let options = RunOptions::new().events(Arc::new(move |event: &Event| {
        if let Event::BackupStarted { backup, .. } = event {
            // In the way of what is written last.
            std::fs::create_dir_all(dir.join(backup).join("restore.json/x")).unwrap();
        }
    }));
    let report = run_with(&site, PlanRequest::all(), options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Undone);
    let failure = report.failure.clone().unwrap();
    assert_eq!(failure.step, "backup:safety");
    let hint = failure.hint.unwrap();
    assert!(!hint.contains("unfinished"), "{hint}");
    assert!(hint.contains("--no-safety-backup"), "{hint}");
    assert_eq!(backups(&site).await.len(), 1, "{}", report.to_text());
    assert_eq!(toy.live(), Toy::OLD);
}

/// Nobody wants an answer to what a run that is being undone has met.
#[tokio::test]
async fn nobody_is_asked_once_staging_has_failed() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("a", "back_up");
    toy.sabotage("b", "stage");
    let waits = toy.path().join("b/stage-waits");
    std::fs::write(&waits, "").unwrap();
    let (mut options, questions) = answering(true);
    options = options.events(Arc::new(move |event: &Event| {
        if matches!(event, Event::BackupFinished { .. }) {
            std::fs::remove_file(&waits).unwrap();
        }
    }));
    let report = run_with(&site, PlanRequest::all(), options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.failure.unwrap().step, "stage:b");
    assert_eq!(questions.lock().unwrap().len(), 0);
}
