//! The engine's promises, on a toy platform on which each effect can be looked at: a run ends
//! restored or as before, whatever happens and whenever.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use restore_core::backup::{Backup, Generation};
use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_core::{BackupRequest, Error, ErrorKind, Event, PlanRequest, Report, Result, Site};
use tokio_util::sync::CancellationToken;
use toy::Toy;

mod behind;
mod toy;

async fn run_with(site: &Site, request: PlanRequest, options: RunOptions) -> Result<Report> {
    let backup = site.backup("latest").await?;
    let plan = site.plan(&backup, request, &RunOptions::new()).await?;
    site.run(plan, options).await
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

    let confirmed = site.confirm(None, RunOptions::new()).await.unwrap();
    assert!(confirmed.confirmed);
    assert_eq!(toy.leftovers(), Vec::<String>::new());
    assert_eq!(toy.live(), Toy::NEW);
    let error = site.rollback(None, RunOptions::new()).await.unwrap_err();
    assert_eq!(error.code(), "run.none_to_roll_back");
}

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

#[tokio::test]
async fn death_at_every_boundary_is_mended_by_resume_and_by_rollback() {
    let boundaries = boundaries().await;
    assert!(boundaries > 20, "{boundaries}");
    for at in 0..boundaries {
        for resume in [true, false] {
            let toy = Toy::new();
            let site = toy.site();
            let dead =
                AssertUnwindSafe(run_with(&site, PlanRequest::all(), dying_at(at))).catch_unwind();
            assert!(dead.await.is_err(), "boundary {at} was not reached");
            // The last boundary is after the end: nothing is left to do.
            if at == boundaries - 1 {
                assert_eq!(toy.live(), Toy::NEW);
                continue;
            }
            let report = if resume {
                site.resume(None, RunOptions::new()).await
            } else {
                site.rollback(None, RunOptions::new()).await
            }
            .unwrap_or_else(|e| panic!("boundary {at}, resume {resume}: {e}"));
            let wanted = if resume { Toy::NEW } else { Toy::OLD };
            assert_eq!(toy.live(), wanted, "boundary {at}, resume {resume}");
            let outcome = if resume {
                Outcome::Restored
            } else {
                Outcome::RolledBack
            };
            assert_eq!(report.outcome, outcome, "boundary {at}");
        }
    }
}

#[tokio::test]
async fn death_at_every_boundary_of_a_rollback_is_mended_by_another() {
    for at in 0.. {
        let toy = Toy::new();
        let site = toy.site();
        run(&site).await;
        let dead = AssertUnwindSafe(site.rollback(None, dying_at(at)))
            .catch_unwind()
            .await;
        if let Ok(ended) = dead {
            let ended = ended.unwrap();
            assert_eq!(ended.outcome, Outcome::RolledBack);
            assert!(at > 10, "only {at} boundaries");
            return;
        }
        // resume never goes forward again once a run was turned back … but before that was
        // written, the run still counts as unfinished and is rolled back by name.
        let report = site.rollback(None, RunOptions::new()).await;
        match report {
            Ok(report) => assert_eq!(report.outcome, Outcome::RolledBack, "boundary {at}"),
            Err(error) => assert_eq!(error.code(), "run.none_to_roll_back", "boundary {at}"),
        }
        assert_eq!(toy.live(), Toy::OLD, "boundary {at}");
    }
}

#[tokio::test]
async fn a_confirmation_that_died_can_only_be_finished() {
    for at in 0.. {
        let toy = Toy::new();
        let site = toy.site();
        let run = run(&site).await.run;
        let dead = AssertUnwindSafe(site.confirm(None, dying_at(at)))
            .catch_unwind()
            .await;
        if let Ok(ended) = dead {
            assert!(ended.unwrap().confirmed && at > 5, "only {at} boundaries");
            return;
        }
        // Some of the replaced data may be gone: swapping back the rest would mix two states.
        let refused = site
            .rollback(Some(run.clone()), RunOptions::new())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), "run.cannot_roll_back", "boundary {at}");
        assert_eq!(toy.live(), Toy::NEW, "boundary {at}");
        let report = site.confirm(Some(run), RunOptions::new()).await.unwrap();
        assert!(report.confirmed);
        assert_eq!(toy.leftovers(), Vec::<String>::new(), "boundary {at}");
        assert_eq!(toy.live(), Toy::NEW);
    }
}

#[tokio::test]
async fn a_full_disk_does_not_keep_the_undo_from_happening() {
    // The journal lies on a file system that the test fills after the first swap.
    // Room kept back for the journal is given up too: the undo goes on without one.
    for keep_reserve in [true, false] {
        fill_the_disk_after_the_first_swap(keep_reserve).await;
    }
}

async fn fill_the_disk_after_the_first_swap(keep_reserve: bool) {
    let disk = SmallDisk::new("4m");
    let toy = Toy::new();
    std::os::unix::fs::symlink(&disk.0, toy.path().join("state")).unwrap();
    let (fill, runs) = (disk.0.join("fill"), disk.0.join("runs"));
    let full = Arc::new(AtomicUsize::new(0));
    let seen = full.clone();
    let options = RunOptions::new().events(Arc::new(move |event: &Event| match event {
        Event::StepFinished { step, .. } if step == "cut-over:a" => {
            if !keep_reserve {
                let run = std::fs::read_dir(&runs).unwrap().next().unwrap().unwrap();
                std::fs::remove_file(run.path().join("reserve")).unwrap();
            }
            let mut file = std::fs::File::create(&fill).unwrap();
            while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
            while std::io::Write::write_all(&mut file, &[0]).is_ok() {}
            seen.fetch_add(1, Ordering::Relaxed);
        }
        _ => {}
    }));
    toy.sabotage("b", "cut_over");
    let report = run_with(&toy.site(), PlanRequest::all(), options)
        .await
        .unwrap();
    assert_eq!(full.load(Ordering::Relaxed), 1);
    // Without a journal nobody may be able to write down that it has ended: it is undone once
    // more later, which changes nothing.
    let ends = [Outcome::Undone, Outcome::Unfinished];
    assert!(ends.contains(&report.outcome), "{}", report.to_text());
    assert!(
        !keep_reserve || report.outcome == Outcome::Undone,
        "{}",
        report.to_text()
    );
    assert_eq!(toy.live(), Toy::OLD);
    if report.outcome == Outcome::Unfinished {
        assert_eq!(report.error().unwrap().kind(), ErrorKind::Stuck);
        std::fs::remove_file(disk.0.join("fill")).unwrap();
        let report = toy.site().rollback(None, RunOptions::new()).await.unwrap();
        assert!(report.is_as_before());
        assert_eq!(toy.live(), Toy::OLD);
    }
}

/// A small file system in memory, unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap().keep();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&dir)
            .status()
            .unwrap();
        assert!(mounted.success(), "cannot mount a file system: run as root");
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn an_error_at_every_boundary_undoes_the_run() {
    let boundaries = boundaries().await;
    // The first boundary is before the run proper, the last after its end.
    for at in 2..boundaries - 1 {
        let toy = Toy::new();
        let options = RunOptions::new().boundary(Arc::new(move |boundary: &Boundary| {
            if boundary.index == at {
                return Err(Error::new(ErrorKind::Failed, "test.injected", "injected"));
            }
            Ok(())
        }));
        let report = run_with(&toy.site(), PlanRequest::all(), options)
            .await
            .unwrap();
        assert_eq!(report.outcome, Outcome::Undone, "boundary {at}");
        assert_eq!(report.error().unwrap().kind(), ErrorKind::Failed);
        assert_eq!(toy.live(), Toy::OLD, "boundary {at}");
        assert!(report.failure.is_some());
    }
}

#[tokio::test]
async fn each_failure_ends_as_before_and_leaves_nothing() {
    for (component, method) in [
        ("b", "stage"),
        ("a", "cut_over"),
        ("b", "cut_over"),
        ("b", "check"),
    ] {
        let toy = Toy::new();
        toy.sabotage(component, method);
        let report = run(&toy.site()).await;
        assert_eq!(report.outcome, Outcome::Undone, "{component} {method}");
        assert_eq!(toy.live(), Toy::OLD, "{component} {method}");
        toy.mend(component, method);
        if method == "check" {
            // There is no maintenance page here: once services were started, users may have
            // written, and what they wrote is put aside until confirmed.
            assert_eq!(toy.leftovers().len(), 2);
            toy.site().confirm(None, RunOptions::new()).await.unwrap();
        }
        assert_eq!(
            toy.leftovers(),
            Vec::<String>::new(),
            "{component} {method}"
        );
        let error = report.error().unwrap();
        assert!(
            error.to_string().starts_with(&format!("{component}: ")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_service_that_does_not_start_turns_the_run_back() {
    let toy = Toy::new();
    let site = toy.site();
    let platform = toy.platform.clone();
    // It refuses until the old data is back, as a server does that cannot read the restored data.
    *platform.refuse_to_start.lock().unwrap() = Some("db".to_owned());
    let mend = toy.platform.clone();
    let options = RunOptions::new().events(Arc::new(move |event: &Event| {
        if matches!(event, Event::StepFinished { step, .. } if step == "undo:cut-over:a") {
            *mend.refuse_to_start.lock().unwrap() = None;
        }
    }));
    let report = run_with(&site, PlanRequest::all(), options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.failure.as_ref().unwrap().step, "start:db");
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test]
async fn a_failed_undo_is_stuck_and_says_so_until_it_is_mended() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("b", "cut_over");
    toy.sabotage("a", "undo");
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Stuck);
    assert_eq!(report.error().unwrap().kind(), ErrorKind::Stuck);
    assert_eq!(report.stuck.as_ref().unwrap().step, "undo:cut-over:a");
    let text = report.to_text();
    assert!(
        text.contains("STUCK") && text.contains("undo fails"),
        "{text}"
    );
    assert!(
        text.contains(&format!("restore rollback {}", report.run)),
        "{text}"
    );
    assert!(
        text.contains(&toy.path().join("a").display().to_string()),
        "{text}"
    );

    let refused = run_with(&site, PlanRequest::all(), RunOptions::new())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Preflight);
    assert!(refused.to_string().contains("stuck"), "{refused}");

    toy.mend("a", "undo");
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert!(report.is_as_before());
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test]
async fn cancelling_undoes_and_says_interrupted() {
    let toy = Toy::new();
    toy.sabotage("b", "slow");
    let cancel = CancellationToken::new();
    let trigger = cancel.clone();
    let options = RunOptions::new()
        .cancelled_by(cancel)
        .events(Arc::new(move |event: &Event| {
            if matches!(event, Event::StepFinished { step, .. } if step == "stage:a") {
                trigger.cancel();
            }
        }));
    let site = toy.site();
    let running = run_with(&site, PlanRequest::all(), options);
    let report = tokio::time::timeout(Duration::from_secs(10), running)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.error().unwrap().kind(), ErrorKind::Interrupted);
    assert_eq!(toy.live(), Toy::OLD);

    // In the bracket it is undone too.
    let toy = Toy::new();
    let cancel = CancellationToken::new();
    let trigger = cancel.clone();
    let options = RunOptions::new()
        .cancelled_by(cancel)
        .events(Arc::new(move |event: &Event| {
            if matches!(event, Event::StepFinished { step, .. } if step == "cut-over:a") {
                trigger.cancel();
            }
        }));
    let report = run_with(&toy.site(), PlanRequest::all(), options)
        .await
        .unwrap();
    assert_eq!(report.error().unwrap().kind(), ErrorKind::Interrupted);
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test]
async fn a_dropped_run_is_resumed() {
    let toy = Toy::new();
    toy.sabotage("b", "slow");
    let site = toy.site();
    let running = run_with(&site, PlanRequest::all(), RunOptions::new());
    assert!(
        tokio::time::timeout(Duration::from_millis(300), running)
            .await
            .is_err()
    );
    assert_eq!(toy.live(), Toy::OLD);
    toy.mend("b", "slow");
    let report = site.resume(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    assert_eq!(toy.live(), Toy::NEW);
}

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
        .plan(&backup, request, &RunOptions::new())
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

#[tokio::test]
async fn a_plan_that_no_longer_fits_is_refused() {
    let toy = Toy::new();
    let site = toy.site();
    let backup = site.backup("latest").await.unwrap();
    let plan = site
        .plan(&backup, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap();
    toy.platform
        .services
        .lock()
        .unwrap()
        .insert("app".to_owned(), 3);
    let error = site.run(plan, RunOptions::new()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Preflight, "plan.stale")
    );
    assert!(site.history().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_missing_or_unlisted_artifact_is_refused_before_anything() {
    let toy = Toy::new();
    let site = toy.site();
    let folder = toy.path().join("backups/20240215-020000");
    std::fs::remove_file(folder.join("b.txt")).unwrap();
    let error = run_with(&site, PlanRequest::all(), RunOptions::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification);
    assert!(error.to_string().contains("b.txt"), "{error}");
    let only_a = PlanRequest::all().only(["a"]);
    let report = run_with(&site, only_a, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    assert!(toy.live().contains("old b"));
}

#[tokio::test]
async fn no_checksums_need_a_word() {
    let toy = Toy::new();
    let site = toy.site();
    let folder = toy.path().join("backups/20240215-020000");
    let manifest =
        "Backup ID: 20240215-020000\nCreated: now\nType: cron\nTotal Size: 8.0K\nTotal Files: 2\n";
    std::fs::write(folder.join("MANIFEST.txt"), manifest).unwrap();
    let error = run_with(&site, PlanRequest::all(), RunOptions::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Preflight);
    assert!(error.hint_text().unwrap().contains("--allow-unverified"));
    std::fs::remove_file(folder.join("MANIFEST.txt")).unwrap();
    let request = PlanRequest::all().allow_unverified(true);
    let latest = run_with(&site, request.clone(), RunOptions::new())
        .await
        .unwrap_err();
    assert_eq!(
        latest.code(),
        "backup.none",
        "an unfinished backup is never the latest"
    );
    let backup = site.backup("20240215-020000").await.unwrap();
    let plan = site
        .plan(&backup, request, &RunOptions::new())
        .await
        .unwrap();
    assert_eq!(plan.refusal().unwrap().kind(), ErrorKind::Verification);
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_a_damaged_one_is_not_guessed_at() {
    let toy = Toy::new();
    let site = toy.site();
    let dead = AssertUnwindSafe(run_with(&site, PlanRequest::all(), dying_at(12))).catch_unwind();
    assert!(dead.await.is_err());
    let runs = toy.path().join("state/runs");
    let folder = std::fs::read_dir(runs)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let journal = folder.join("journal.jsonl");
    let whole = std::fs::read(&journal).unwrap();
    let mut torn = whole.clone();
    torn.extend_from_slice(b"{\"record\":\"done\",\"at\":\"20");
    std::fs::write(&journal, torn).unwrap();
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert!(report.is_as_before());
    assert_eq!(toy.live(), Toy::OLD);

    std::fs::write(&journal, [&whole[..], b"garbage\n"].concat()).unwrap();
    let error = site.history().await.unwrap_err();
    assert_eq!(error.code(), "journal.damaged");
}

#[tokio::test]
async fn steps_come_in_order_and_stages_side_by_side() {
    let toy = Toy::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let options = RunOptions::new().events(Arc::new(move |event: &Event| {
        if let Event::StepStarted { step, .. } = event {
            sink.lock().unwrap().push(step.clone());
        }
    }));
    run_with(&toy.site(), PlanRequest::all(), options)
        .await
        .unwrap();
    let seen = seen.lock().unwrap();
    let mut side_by_side = [seen[1..3].to_vec(), seen[3..5].to_vec()];
    side_by_side.iter_mut().for_each(|steps| steps.sort());
    assert_eq!(seen[0], "backup:safety");
    assert_eq!(side_by_side[0], ["back-up:a", "back-up:b"]);
    assert_eq!(side_by_side[1], ["stage:a", "stage:b"]);
    assert_eq!(
        seen[5..],
        [
            "stop:app",
            "stop:db",
            "cut-over:a",
            "cut-over:b",
            "start:db",
            "start:app",
            "check:inside",
            "check:outside"
        ]
    );
}

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
    let error = site.run(plan, RunOptions::new()).await.unwrap();
    // The toy's own check wants what the first backup holds; that is why it is taken back.
    assert_eq!(error.outcome, Outcome::Undone);
    assert_eq!(backups(&site).await.len(), 2, "none was made");
}

#[tokio::test]
async fn what_cannot_be_read_does_not_hold_the_restore() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("a", "back_up");
    let report = run(&site).await;
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

    // Nothing at all: the run goes on without, and says so.
    toy.sabotage("b", "back_up");
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
    let report = site.run(plan, hook).await.unwrap();
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
