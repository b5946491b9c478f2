//! Runs that are abandoned, and journals that are damaged.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use restore_core::run::Outcome;
use restore_core::{ErrorKind, PlanRequest};
use restore_testing::Ended as _;

use super::super::toy::Toy;
use super::super::{boundaries, dying_at, run, run_with};
use super::{journal, options, unfinished};

/// The only verb that ends a run whose journal is damaged finds it by itself.
#[tokio::test]
async fn an_open_run_with_a_damaged_journal_is_abandoned_unnamed() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("b", "cut_over");
    toy.sabotage("a", "undo");
    let id = run(&site).await.run;
    let journal = toy
        .path()
        .join("state/runs")
        .join(id.as_str())
        .join("journal.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let at = text.len() / 2;
    std::fs::write(&journal, format!("{}\u{0}{}", &text[..at], &text[at + 1..])).unwrap();
    let none = site.confirm(None, options()).await.unwrap_err();
    assert!(none.message().contains(id.as_str()), "{none}");
    let report = site.abandon(None, options()).await.unwrap();
    assert_eq!(report.run, id);
    // No verb moves anything by such a journal, and none is offered.
    assert!(
        report.next.iter().all(|next| next.contains("--search")),
        "{:?}",
        report.next
    );
}

/// Nobody may write into a server any more that is about to be stopped: where it is not, that ends with the run.
#[tokio::test]
async fn what_was_to_be_stopped_and_was_not_goes_on() {
    let toy = Toy::new();
    let site = toy.site();
    std::fs::write(toy.path().join("a/holds"), "").unwrap();
    let held = toy.path().join("a/held-app");
    // The process dies between what is done before the stop and its end.
    *toy.platform.dies_at_stop.lock().unwrap() = Some("app".to_owned());
    let died = AssertUnwindSafe(run_with(&site, PlanRequest::all(), options()));
    assert!(died.catch_unwind().await.is_err());
    *toy.platform.dies_at_stop.lock().unwrap() = None;
    assert!(held.exists());
    let report = site.abandon(None, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Abandoned);
    assert!(!held.exists());

    // Nor is one held that does not stop on the way back.
    let toy = Toy::new();
    let site = toy.site();
    std::fs::write(toy.path().join("a/holds"), "").unwrap();
    let held = toy.path().join("a/held-app");
    assert_eq!(run(&site).await.outcome, Outcome::Restored);
    std::fs::remove_file(&held).unwrap();
    *toy.platform.refuse_to_stop.lock().unwrap() = Some("app".to_owned());
    let back = site.rollback(None, options()).await.ended().unwrap();
    assert_eq!(back.outcome, Outcome::Stuck);
    assert!(!held.exists());
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_at_all_holds_up_nothing_else() {
    let toy = Toy::new();
    let site = toy.site();
    let first = run(&site).await.run;
    site.confirm(None, options()).await.unwrap();
    // As unreadable as a bad sector, and the report is gone with it.
    let path = journal(&toy, &first);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::remove_file(path.with_file_name("report.json")).unwrap();
    let second = run(&site).await;
    assert_eq!(second.outcome, Outcome::Restored);
    let told = second.findings.iter().find(|it| it.code == "journal.lost");
    assert_eq!(told.unwrap().subject, first.as_str());
    let back = site.rollback(None, options()).await.unwrap();
    assert_eq!(back.run, second.run);
    let refused = site.abandon(Some(first), options()).await.unwrap_err();
    assert!(refused.hint_text().is_some(), "{refused}");
}

#[tokio::test]
async fn a_run_goes_over_one_whose_journal_is_damaged() {
    let toy = Toy::new();
    let site = toy.site();
    let id = unfinished(&site).await;
    let path = journal(&toy, &id);
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("garbage\n");
    std::fs::write(&path, text).unwrap();
    let next = site.report(Some(id.clone())).await.unwrap().next.join("\n");
    assert!(
        !next.contains("resume") && next.contains("abandon"),
        "{next}"
    );
    let request = PlanRequest::all().over(id.clone());
    let report = run_with(&site, request, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    assert_eq!(toy.live(), Toy::NEW);
    let other = site.report(Some(id)).await.unwrap();
    assert_eq!(other.outcome, Outcome::Abandoned);
}

#[tokio::test]
async fn a_run_that_died_anywhere_can_be_abandoned() {
    for at in 0..boundaries().await {
        let toy = Toy::new();
        let site = toy.site();
        let dead =
            AssertUnwindSafe(run_with(&site, PlanRequest::all(), dying_at(at))).catch_unwind();
        assert!(dead.await.is_err());
        let (before, open) = (toy.live(), site.report(None).await.unwrap());
        if !matches!(open.outcome, Outcome::Unfinished | Outcome::Stuck) {
            let refused = site.abandon(None, options()).await.unwrap_err();
            assert_eq!(refused.code(), "run.none_to_abandon");
            continue;
        }
        let report = site.abandon(None, options()).await.unwrap();
        assert_eq!(report.outcome, Outcome::Abandoned, "at {at}");
        assert!(report.error().is_none());
        assert_eq!(toy.live(), before, "at {at}: nothing is moved");
        for gone in [
            site.resume(None, options()).await,
            site.abandon(None, options()).await,
        ] {
            assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
        }
        // What was wrong with it may have been found out since.
        site.rollback(Some(report.run), options()).await.unwrap();
        assert!(toy.live().starts_with(r#"Some("old a") Some("old b")"#));
        let request = PlanRequest::all().over_unconfirmed(true);
        let next = run_with(&site, request, options()).await.unwrap();
        assert_eq!(next.outcome, Outcome::Restored, "at {at}");
    }
}

#[tokio::test]
async fn one_damaged_journal_holds_up_nothing_else() {
    let toy = Toy::new();
    let site = toy.site();
    let first = run(&site).await.run;
    site.confirm(None, options()).await.unwrap();
    let path = journal(&toy, &first);
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"record\":\"of another version\"}\n");
    std::fs::write(&path, text).unwrap();
    let second = run(&site).await;
    assert_eq!(second.outcome, Outcome::Restored);
    site.rollback(None, options()).await.unwrap();
    assert_eq!(site.history().await.unwrap().len(), 2);

    // One that is lost leaves its report.
    std::fs::write(&path, "").unwrap();
    let history = site.history().await.unwrap();
    let lost = history.iter().find(|report| report.run == first).unwrap();
    assert!(lost.damaged.as_ref().unwrap().contains("is lost"));
    assert!(site.report(Some(first)).await.unwrap().damaged.is_some());
}

#[tokio::test]
async fn an_open_run_whose_journal_is_damaged_can_be_abandoned() {
    let toy = Toy::new();
    let site = toy.site();
    let id = unfinished(&site).await;
    let path = journal(&toy, &id);
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("garbage\n");
    std::fs::write(&path, text).unwrap();
    let refused = site
        .rollback(Some(id.clone()), options())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "journal.damaged");
    let none = site.rollback(None, options()).await.unwrap_err();
    assert!(none.message().contains(id.as_str()), "{none}");
    let ended = site.abandon(Some(id), options()).await.unwrap();
    assert_eq!(ended.outcome, Outcome::Abandoned);
}
