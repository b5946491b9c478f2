//! What a confirmation deletes, and what it leaves alone.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use restore_core::run::{Boundary, Outcome};

use super::super::run;
use super::super::toy::Toy;
use super::{options, stuck};

#[tokio::test]
async fn a_confirmation_leaves_alone_what_is_not_as_the_run_left_it() {
    let toy = Toy::new();
    let site = toy.site();
    let report = run(&site).await;
    let kept = toy.path().join(format!("a/replaced-{}", report.run));
    std::fs::rename(&kept, toy.path().join(format!("a/staged-{}", report.run))).unwrap();
    for _ in 0..2 {
        let done = site.confirm(Some(report.run.clone()), options()).await;
        assert!(done.unwrap().confirmed);
        // What lies there may be the only copy of something.
        assert_eq!(toy.leftovers(), [format!("a/staged-{}", report.run)]);
    }
}

#[tokio::test]
async fn a_confirmation_that_deleted_nothing_takes_no_way_back_away() {
    let toy = Toy::new();
    let site = toy.site();
    run(&site).await;
    toy.sabotage("a", "discard");
    site.confirm(None, options()).await.unwrap_err();
    assert!(!site.history().await.unwrap()[0].confirming);
    let report = site.rollback(None, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test]
async fn a_confirmation_looks_again_at_what_it_has_not_deleted() {
    let toy = Toy::new();
    let site = toy.site();
    let id = run(&site).await.run;
    toy.sabotage("b", "discard");
    site.confirm(None, options()).await.unwrap_err();
    let refused = site.rollback(None, options()).await.unwrap_err();
    assert!(refused.message().contains("half confirmed"), "{refused}");
    toy.mend("b", "discard");
    let (kept, staged) = (
        toy.path().join(format!("b/replaced-{id}")),
        toy.path().join(format!("b/staged-{id}")),
    );
    std::fs::rename(&kept, &staged).unwrap();
    let refused = site.confirm(None, options()).await.unwrap_err();
    assert_eq!(refused.code(), "run.not_as_left", "{refused}");
    let confirm = async || site.confirm(Some(id.clone()), options()).await.unwrap();
    let report = confirm().await;
    assert!(report.confirmed && report.components[1].left_alone);
    for text in [report.to_text(), report.to_summary()] {
        assert!(text.contains("but for b, which was left alone"), "{text}");
    }
    assert!(staged.exists());
    // Put back by hand it is deleted after all.
    std::fs::rename(&staged, &kept).unwrap();
    let report = confirm().await;
    assert!(report.confirmed && !report.components[1].left_alone);
    assert_eq!(toy.leftovers(), Vec::<String>::new());
}

/// Who names no run has not looked at it: nothing is deleted of any component.
#[tokio::test]
async fn a_plain_confirmation_of_what_is_not_as_it_was_left_deletes_nothing() {
    let toy = Toy::new();
    let site = toy.site();
    let id = run(&site).await.run;
    let kept = |name: &str| toy.path().join(format!("{name}/replaced-{id}"));
    std::fs::remove_file(kept("b")).unwrap();
    for _ in 0..2 {
        let refused = site.preview_confirm(None).await.unwrap_err();
        assert_eq!(refused.code(), "run.not_as_left", "{refused}");
        assert!(
            refused.hint_text().unwrap().contains(id.as_str()),
            "{refused:?}"
        );
        let refused = site.confirm(None, options()).await.unwrap_err();
        assert_eq!(refused.code(), "run.not_as_left", "{refused}");
        assert!(kept("a").exists());
    }
    let preview = site.preview_confirm(Some(id.clone())).await.unwrap();
    assert!(preview.components[1].kept_unsure.is_some(), "{preview:?}");
    let report = site.confirm(Some(id.clone()), options()).await.unwrap();
    assert!(report.confirmed && !kept("a").exists());
}

/// A component that the site no longer has holds up no confirmation of the others.
#[tokio::test]
async fn a_component_that_is_configured_no_more_is_left_alone() {
    let toy = Toy::new();
    let ended = run(&toy.site()).await;
    let id = ended.run;
    let site = toy.site_of_one();
    let refused = site.confirm(None, options()).await.unwrap_err();
    assert_eq!(refused.code(), "run.not_as_left", "{refused}");
    let report = site.confirm(Some(id), options()).await.unwrap();
    assert!(report.confirmed);
    let left: Vec<bool> = report.components.iter().map(|it| it.left_alone).collect();
    assert_eq!(left.iter().filter(|left| **left).count(), 1, "{report:?}");
    // Nobody looks for it any more: where it was is told.
    let gone = ended.components.into_iter().find(|it| it.name == "b");
    let place = gone.and_then(|it| it.kept_at).unwrap();
    let told = |code: &str| {
        let mut findings = report.findings.iter();
        findings
            .find(|it| it.code == code)
            .map(|it| it.message.clone())
    };
    let told = told("confirm.left_alone").unwrap();
    assert!(told.contains(&place), "{told}");
}

/// Broken off in the middle of a swap, what was put aside may be the only copy there is.
#[tokio::test]
async fn a_confirmation_of_an_abandoned_run_leaves_half_a_swap_alone() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("b", "cut_over");
    toy.sabotage("b", "undo");
    let id = run(&site).await.run;
    site.abandon(None, options()).await.unwrap();
    toy.mend("b", "cut_over");
    toy.mend("b", "undo");
    let report = site.confirm(Some(id.clone()), options()).await.unwrap();
    assert!(report.confirmed && report.components[1].left_alone);
    assert!(toy.path().join(format!("b/replaced-{id}")).exists());
}

/// What a rollback cannot delete makes no failure of it: that is told, and `confirm` without a run's id tries again.
#[tokio::test]
async fn a_rollback_that_cannot_delete_has_rolled_back() {
    let toy = Toy::new();
    let site = toy.site().with_maintenance(toy.maintenance());
    stuck(&toy, &site).await;
    toy.mend("a", "undo");
    toy.sabotage("a", "discard");
    let report = site.rollback(None, options()).await.unwrap();
    toy.mend("a", "discard");
    let text = report.to_text();
    assert_eq!(
        report.headline(),
        "Rolled back; the platform is as it was before the restore, which had failed",
        "{text}"
    );
    assert!(report.is_as_before() && !report.is_failing(), "{text}");
    assert_eq!(toy.live(), Toy::OLD);
    let left = report
        .findings
        .iter()
        .filter(|it| it.code == "run.leftover");
    let left: Vec<_> = left.map(|it| it.subject.as_str()).collect();
    assert_eq!(left, ["a"], "{text}");
    let staged = format!("a/staged-{}", report.run);
    assert_eq!(toy.leftovers(), [staged]);
    site.confirm(None, options()).await.unwrap();
    assert_eq!(toy.leftovers(), Vec::<String>::new());
}

/// Room that could not be freed is no reason to refuse the next restore.
#[tokio::test]
async fn what_could_not_be_deleted_holds_up_no_other_run() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("b", "cut_over");
    toy.sabotage("a", "discard");
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    toy.mend("b", "cut_over");
    toy.mend("a", "discard");
    let next = run(&site).await;
    assert_eq!(next.outcome, Outcome::Restored);
    let told = next.findings.iter().find(|it| it.code == "run.leftovers");
    assert!(
        told.unwrap()
            .hint
            .as_ref()
            .unwrap()
            .contains("restore confirm")
    );
    site.confirm(Some(report.run.clone()), options())
        .await
        .unwrap();
    let left = format!("a/staged-{}", report.run);
    assert!(!toy.leftovers().contains(&left));
}

#[tokio::test]
async fn a_half_confirmed_run_is_told_as_it_is() {
    let toy = Toy::new();
    let site = toy.site();
    let id = run(&site).await.run;
    let dying = options().boundary(Arc::new(|boundary: &Boundary| {
        assert_ne!(boundary.record, "intent delete:b", "died");
        Ok(())
    }));
    let dead = AssertUnwindSafe(site.confirm(None, dying)).catch_unwind();
    assert!(dead.await.is_err());
    let refused = site.rollback(None, options()).await.unwrap_err();
    assert!(refused.message().contains("half confirmed"), "{refused}");
    assert!(site.history().await.unwrap()[0].confirming);
    // A new run is not held up by it, and offers no way back that there is none to.
    let next = run(&site).await;
    assert_eq!(next.outcome, Outcome::Restored);
    let offered = next.findings.iter().filter_map(|it| it.hint.as_ref());
    let rollback = format!("restore rollback {id}");
    assert!(!offered.into_iter().any(|hint| hint.contains(&rollback)));
}
