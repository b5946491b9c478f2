//! Death at any boundary, a full disk, a torn journal: mended by a later process.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use restore_core::run::{Outcome, RunOptions};
use restore_core::{ErrorKind, Event, PlanRequest};

use super::toy::Toy;
use super::{boundaries, dying_at, run, run_with};

/// Everything resumes.
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
        if !site.report(None).await.unwrap().confirming {
            // Nothing was deleted yet, or all is.
            let can = site.preview_rollback(None).await;
            let confirmed = site.report(None).await.unwrap().confirmed;
            assert_eq!(can.is_ok(), !confirmed, "boundary {at}");
            continue;
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
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=755"),
                "tmpfs",
            ])
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
async fn a_dropped_run_is_resumed() {
    let toy = Toy::new();
    toy.sabotage("b", "slow");
    let site = toy.site();
    let running = run_with(&site, PlanRequest::all(), RunOptions::new());
    let begun = async {
        while site.history().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    tokio::select! {
        _ = running => panic!("it ended"),
        () = begun => {}
    }
    assert_eq!(toy.live(), Toy::OLD);
    toy.mend("b", "slow");
    let report = site.resume(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    assert_eq!(toy.live(), Toy::NEW);
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
    let history = site.history().await.unwrap();
    assert!(history[0].damaged.is_some());
    let named = Some(history[0].run.clone());
    let error = site.rollback(named, RunOptions::new()).await.unwrap_err();
    assert_eq!(error.code(), "journal.damaged");
}
