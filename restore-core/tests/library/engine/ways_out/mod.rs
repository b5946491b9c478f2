//! Every state of a run has ways on, each of which works.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_core::{ErrorKind, PlanRequest, Report, RunId, Site};
use restore_testing::Ended as _;

use super::toy::Toy;
use super::{dying_at, run, run_with};

mod abandon;
mod confirm;
mod table;

fn options() -> RunOptions {
    RunOptions::new()
}

fn journal(toy: &Toy, run: &RunId) -> PathBuf {
    let folder = toy.path().join("state/runs").join(run.as_str());
    folder.join("journal.jsonl")
}

/// A site with a check that passes while there is a file `sound`.
fn site_with_check(toy: &Toy) -> Site {
    let sound = toy.path().join("sound");
    std::fs::write(&sound, "").unwrap();
    toy.site_ordered(&format!(
        "[checks.sound]\nkind = \"command\"\ncommand = [\"test\", \"-e\", {sound:?}]\ntimeout = \"700ms\""
    ))
}

/// A run that cannot go back: `a` does not let itself be undone.
async fn stuck(toy: &Toy, site: &Site) -> Report {
    toy.sabotage("b", "cut_over");
    toy.sabotage("a", "undo");
    let report = run(site).await;
    assert_eq!(report.outcome, Outcome::Stuck, "{}", report.to_text());
    toy.mend("b", "cut_over");
    report
}

/// A run whose process died after both swaps, before any service is started.
async fn unfinished(site: &Site) -> RunId {
    let dying = options().boundary(Arc::new(|boundary: &Boundary| {
        assert_ne!(boundary.record, "intent start:db", "died");
        Ok(())
    }));
    let dead = AssertUnwindSafe(run_with(site, PlanRequest::all(), dying)).catch_unwind();
    assert!(dead.await.is_err());
    site.report(None).await.unwrap().run
}

#[tokio::test]
async fn a_service_that_does_not_start_on_its_old_data_does_not_keep_a_rollback_open() {
    let toy = Toy::new();
    let site = toy.site();
    run(&site).await;
    *toy.platform.refuse_to_start.lock().unwrap() = Some("db".to_owned());
    let report = site.rollback(None, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    assert!(report.is_failing() && report.error().is_none());
    let down = &report.services_down[0];
    assert!(down.name == "db" && down.ran_before, "{down:?}");
    assert!(
        report.headline().contains("1 service does not start"),
        "{}",
        report.headline()
    );
    // The data is the old one, and the other service runs.
    assert_eq!(
        toy.live(),
        r#"Some("old a") Some("old b") {"app": 5, "db": 0}"#
    );
    *toy.platform.refuse_to_start.lock().unwrap() = None;
    let request = PlanRequest::all().over_unconfirmed(true);
    let next = run_with(&site, request, options()).await.unwrap();
    assert_eq!(next.outcome, Outcome::Restored);
}

#[tokio::test]
async fn a_check_that_fails_after_an_undo_is_told_and_the_run_has_ended() {
    let toy = Toy::new();
    let site = site_with_check(&toy);
    run(&site).await;
    std::fs::remove_file(toy.path().join("sound")).unwrap();
    let report = site.rollback(None, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    let failing: Vec<_> = report.failing_checks().collect();
    assert_eq!(failing.len(), 1);
    assert!(!failing[0].1, "it passed before the run");
    assert!(
        report
            .findings
            .iter()
            .any(|it| it.code == "undo.check_failed")
    );
    assert_eq!(toy.live(), Toy::OLD);

    // One that failed before the run as well: the same, and said so. The run itself goes on.
    let request = PlanRequest::all().over_unconfirmed(true);
    let restored = run_with(&site, request, options()).await.unwrap();
    assert_eq!(restored.outcome, Outcome::Restored);
    assert!(restored.is_failing() && restored.error().is_none());
    let line = restored.headline();
    assert_eq!(line, "Restored, but 1 check fails, as before the run");
    let back = site.rollback(None, options()).await.unwrap();
    assert_eq!(back.outcome, Outcome::RolledBack);
    assert!(back.failing_checks().all(|(_, before)| before));
}

#[tokio::test]
async fn what_a_failed_run_leaves_broken_is_undone_all_the_same() {
    let toy = Toy::new();
    let site = toy.site();
    *toy.platform.refuse_to_start.lock().unwrap() = Some("db".to_owned());
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    assert_eq!(report.error().unwrap().kind(), ErrorKind::Failed);
    assert!(report.is_failing());
    assert!(report.to_text().starts_with("====="));
    assert!(report.headline().contains("what was live before is back"));
    assert!(toy.live().starts_with(r#"Some("old a") Some("old b")"#));
}

#[tokio::test]
async fn one_component_that_cannot_be_moved_back_does_not_keep_the_others() {
    let toy = Toy::new();
    let site = toy.site();
    run(&site).await;
    toy.sabotage("b", "undo");
    let report = site.rollback(None, options()).await.ended().unwrap();
    assert_eq!(report.outcome, Outcome::Stuck);
    assert!(
        toy.live()
            .starts_with(r#"Some("old a") Some("restored b")"#)
    );
    toy.mend("b", "undo");
    let report = site.rollback(None, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test]
async fn a_way_back_is_looked_at_while_users_are_served() {
    let toy = Toy::new();
    let site = toy.site();
    let report = run(&site).await;
    let kept = toy.path().join(format!("a/replaced-{}", report.run));
    std::fs::rename(&kept, toy.path().join("away")).unwrap();
    for refused in [
        site.preview_rollback(None).await,
        site.rollback(None, options()).await,
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Preflight);
        assert_eq!(refused.code(), "run.no_way_back");
        assert!(refused.message().contains("is gone"), "{refused}");
    }
    assert_eq!(toy.live(), Toy::NEW);
    std::fs::rename(toy.path().join("away"), &kept).unwrap();
    site.rollback(None, options()).await.unwrap();
    assert_eq!(toy.live(), Toy::OLD);
}

/// What an undo could not do is seen before a platform that serves users is touched; of a run that was
/// broken off as much is taken back as can be.
#[tokio::test]
async fn an_undo_that_could_not_be_done_is_not_begun_on_a_platform_that_serves() {
    let toy = Toy::new();
    let site = toy.site();
    run(&site).await;
    toy.sabotage("a", "can_undo");
    for refused in [
        site.preview_rollback(None).await,
        site.rollback(None, options()).await,
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Preflight);
        assert_eq!(refused.code(), "run.no_way_back");
        assert!(refused.message().contains("can_undo fails"), "{refused}");
    }
    assert_eq!(toy.live(), Toy::NEW);
    let report = site.report(None).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    toy.mend("a", "can_undo");
    site.rollback(None, options()).await.unwrap();
    assert_eq!(toy.live(), Toy::OLD);

    let toy = Toy::new();
    let site = toy.site();
    unfinished(&site).await;
    toy.sabotage("a", "can_undo");
    let report = site.rollback(None, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test]
async fn names_that_the_site_no_longer_has_are_told_before_anything() {
    let toy = Toy::new();
    run(&toy.site()).await;
    toy.platform.services.lock().unwrap().remove("app");
    let gone = toy.site().rollback(None, options()).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Preflight);
    assert!(gone.message().contains("service app"), "{gone}");
}

#[tokio::test]
async fn a_rollback_that_died_at_once_is_not_gone_forward_from() {
    let toy = Toy::new();
    let site = toy.site();
    run(&site).await;
    let died = AssertUnwindSafe(site.rollback(None, dying_at(0))).catch_unwind();
    assert!(died.await.is_err());
    let report = site.resume(None, options()).await.unwrap();
    assert!(report.is_as_before(), "{}", report.to_text());
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test]
async fn the_order_of_runs_is_not_the_clock_s() {
    let toy = Toy::new();
    let site = toy.site();
    let first = run(&site).await.run;
    let path = journal(&toy, &first);
    let text = std::fs::read_to_string(&path).unwrap();
    let today = restore_core::Timestamp::now().to_string()[..10].to_owned();
    std::fs::write(&path, text.replace(&today, "2099-01-01")).unwrap();
    let request = PlanRequest::all().over_unconfirmed(true);
    let second = run_with(&site, request, options()).await.unwrap().run;
    let covered = site.rollback(Some(first.clone()), options()).await;
    assert_eq!(covered.unwrap_err().code(), "run.covered");
    assert_eq!(site.rollback(None, options()).await.unwrap().run, second);
    assert_eq!(site.rollback(None, options()).await.unwrap().run, first);
    assert_eq!(toy.live(), Toy::OLD);
}

/// Version 0.1 wrote neither numbers nor what came after it.
#[tokio::test]
async fn a_run_of_an_earlier_version_is_finished() {
    let toy = Toy::new();
    let site = toy.site();
    let id = unfinished(&site).await;
    let path = journal(&toy, &id);
    let text = std::fs::read_to_string(&path).unwrap();
    let older = text.replacen(",\"number\":1", "", 1);
    assert_ne!(text, older);
    std::fs::write(&path, older).unwrap();
    let report = site.resume(None, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    let request = PlanRequest::all().over_unconfirmed(true);
    let second = run_with(&site, request, options()).await.unwrap().run;
    assert_eq!(site.rollback(None, options()).await.unwrap().run, second);
    site.rollback(Some(id.clone()), options()).await.unwrap();
    assert!(site.confirm(Some(id), options()).await.unwrap().confirmed);
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test]
async fn a_store_that_is_away_does_not_give_a_run_up() {
    let toy = Toy::new();
    let site = toy.site();
    let dying = options().boundary(Arc::new(|boundary: &Boundary| {
        assert_ne!(boundary.record, "intent stage:b", "died");
        Ok(())
    }));
    let dead = AssertUnwindSafe(run_with(&site, PlanRequest::all(), dying)).catch_unwind();
    assert!(dead.await.is_err());
    let (store, away) = (toy.path().join("backups"), toy.path().join("away"));
    std::fs::rename(&store, &away).unwrap();
    let refused = site.resume(None, options()).await.unwrap_err();
    assert_eq!(refused.code(), "run.no_backup");
    assert_eq!(refused.kind(), ErrorKind::Preflight);
    std::fs::rename(&away, &store).unwrap();
    let report = site.resume(None, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
}
