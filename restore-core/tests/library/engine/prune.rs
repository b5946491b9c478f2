//! Which backups are deleted: never what a recovery, the history or a way back needs.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use restore_core::backup::{PrunePlan, PruneRequest};
use restore_core::run::{Boundary, Outcome, RunId, RunOptions};
use restore_core::{BackupRequest, ErrorKind, Event, PlanRequest, Site};

use super::toy::Toy;
use super::{run, run_with};

const FIRST: &str = "20240215-020000";

async fn plan(site: &Site, request: PruneRequest) -> PrunePlan {
    site.plan_prune(&request).await.unwrap()
}

async fn deleted(site: &Site, request: PruneRequest) -> Vec<String> {
    let plan = plan(site, request).await;
    plan.delete.iter().map(|it| it.id.to_string()).collect()
}

async fn latest(site: &Site) -> String {
    site.backup("latest").await.unwrap().id().to_string()
}

/// A weekly `backup --base --only p` beside nightly backups has nothing for the other components.
#[tokio::test]
async fn base_backups_that_were_made_alone_are_needed() {
    let toy = Toy::new();
    let site = toy.site_with_cluster();
    let ids = [
        ("20240216-020000", "p"),
        ("20240217-020000", "a"),
        ("20240218-020000", "p"),
        ("20240219-020000", "a"),
        ("20240220-020000", "a"),
    ];
    for (id, name) in ids {
        toy.backup(id, &[name]);
    }
    let one = || PruneRequest::keep(1);
    let gone = [
        FIRST,
        "20240216-020000",
        "20240217-020000",
        "20240219-020000",
    ];
    assert_eq!(deleted(&site, one()).await, gone);
    let old = PruneRequest::older_than(Duration::from_secs(86400));
    assert_eq!(deleted(&site, old).await, gone);
    // What is wrong with another file of its folder takes nothing from a base backup.
    let folder = toy.path().join("backups/20240218-020000");
    std::fs::write(folder.join("stray.dump"), "stray").unwrap();
    let without = ["20240216-020000"];
    let all = deleted(&site, one()).await;
    assert!(!all.contains(&"20240218-020000".to_owned()), "{all:?}");
    assert!(
        !all.contains(&without[0].to_owned()),
        "the newest sound one: {all:?}"
    );
    std::fs::remove_file(folder.join("stray.dump")).unwrap();
    // One that is cut is no base backup, and does not stand in for one that is whole.
    std::fs::write(folder.join("p.txt"), "cut").unwrap();
    let all = deleted(&site, one()).await;
    assert!(!all.contains(&without[0].to_owned()), "{all:?}");
}

/// The day after a component was added there is one full backup, and a history.
#[tokio::test]
async fn a_new_component_does_not_end_the_history() {
    let toy = Toy::new();
    std::fs::remove_dir_all(toy.path().join("backups").join(FIRST)).unwrap();
    for day in 1..=9 {
        toy.backup(&format!("2024020{day}-020000"), &["a"]);
        toy.backup(&format!("2024020{day}-140000"), &["a"]);
    }
    toy.backup("20240210-020000", &["a", "b"]);
    let requests = || {
        let mut daily = PruneRequest::default();
        daily.keep_daily = Some(4);
        let mut monthly = PruneRequest::default();
        monthly.keep_daily = Some(3);
        monthly.keep_monthly = Some(12);
        [daily, monthly, PruneRequest::keep(5)]
    };
    // As if the component had been there all the time.
    let before = toy.site_of_one();
    let after = toy.site();
    for request in requests() {
        let expected = deleted(&before, request.clone()).await;
        assert_eq!(
            deleted(&after, request.clone()).await,
            expected,
            "{request:?}"
        );
        assert!(expected.len() > 10);
    }
    let [daily, ..] = requests();
    let plan = plan(&after, daily).await;
    let why = &plan.delete.last().unwrap().why;
    assert!(why.contains("b came later"), "{why}");
    // One that lacks what an older one has is partial: the site had it by then.
    toy.backup("20240211-020000", &["b"]);
    toy.backup("20240212-020000", &["a"]);
    let all = deleted(&after, PruneRequest::keep(1)).await;
    assert_eq!(all.len(), 18, "{all:?}");
    assert_eq!(all.last().unwrap(), "20240209-140000");
}

/// Where there are too few full ones yet, what is older stays.
#[tokio::test]
async fn periods_that_are_not_filled_delete_no_partial_one() {
    let toy = Toy::new();
    std::fs::remove_dir_all(toy.path().join("backups").join(FIRST)).unwrap();
    let site = toy.site();
    toy.backup("20240101-020000", &["a", "b"]);
    toy.backup("20240102-020000", &["a"]);
    toy.backup("20240103-020000", &["a"]);
    std::fs::remove_file(toy.path().join("backups/20240101-020000/a.txt")).unwrap();
    toy.backup("20240104-020000", &["a", "b"]);
    let mut request = PruneRequest::default();
    request.keep_daily = Some(7);
    assert_eq!(deleted(&site, request.clone()).await, [""; 0]);
    request.keep_daily = Some(1);
    assert_eq!(deleted(&site, request).await.len(), 3);
}

/// What `verify` and `run` call FAILED is neither kept for good ones nor `latest`.
#[tokio::test]
async fn backups_that_fail_by_their_listing_do_not_count() {
    let toy = Toy::new();
    let site = toy.site();
    toy.backup("20240216-020000", &["a", "b"]);
    let bad = toy.backup("20240217-020000", &["a", "b"]);
    let manifest = std::fs::read_to_string(bad.join("MANIFEST.txt")).unwrap();
    let good = "20240216-020000";
    type Damage = (&'static str, fn(&std::path::Path));
    let damages: [Damage; 5] = [
        ("an unlisted dump", |folder| {
            std::fs::write(folder.join("stray.dump"), "stray").unwrap();
        }),
        ("a link", |folder| {
            std::os::unix::fs::symlink("a.txt", folder.join("stray.dump")).unwrap();
        }),
        ("more files than listed", |folder| {
            let path = folder.join("MANIFEST.txt");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, text.replace("Total Files: 2", "Total Files: 7")).unwrap();
        }),
        ("a cut file", |folder| {
            std::fs::write(folder.join("a.txt"), "cut").unwrap()
        }),
        ("a manifest that cannot be read", |folder| {
            std::fs::write(folder.join("MANIFEST.txt"), "a|1|b\n").unwrap();
        }),
    ];
    for (what, damage) in damages {
        damage(&bad);
        let all = deleted(&site, PruneRequest::keep(1)).await;
        assert_eq!(all, [FIRST], "{what}");
        assert_eq!(latest(&site).await, good, "{what}");
        let backup = site.backup("latest").await.unwrap();
        let request = PlanRequest::all();
        let plan = site.plan_with(&backup, request, &RunOptions::new()).await;
        let plan = plan.unwrap();
        assert!(plan.refusal().is_none(), "{what}: {plan:?}");
        let told = |it: &&restore_core::Finding| it.code == "plan.newer_damaged";
        let told = plan.findings.iter().find(told).unwrap();
        assert_eq!(told.subject, "20240217-020000", "{what}");
        let _ = std::fs::remove_file(bad.join("stray.dump"));
        std::fs::write(bad.join("a.txt"), "restored a").unwrap();
        std::fs::write(bad.join("MANIFEST.txt"), &manifest).unwrap();
        assert_eq!(latest(&site).await, "20240217-020000", "{what}");
    }
}

/// Where none is any better, the newest says what is wrong with it.
#[tokio::test]
async fn the_newest_damaged_one_is_the_latest_where_all_are() {
    let toy = Toy::new();
    let site = toy.site();
    toy.backup("20240216-020000", &["a", "b"]);
    for id in [FIRST, "20240216-020000"] {
        let folder = toy.path().join("backups").join(id);
        std::fs::write(folder.join("stray.dump"), "stray").unwrap();
    }
    let error = run_with(&site, PlanRequest::all(), RunOptions::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
    assert_eq!(latest(&site).await, "20240216-020000");
    assert_eq!(deleted(&site, PruneRequest::keep(1)).await, [""; 0]);
}

/// A run that died before it swapped `b`; its id.
async fn died(site: &Site) -> RunId {
    let dying = RunOptions::new().boundary(Arc::new(|boundary: &Boundary| {
        assert_ne!(boundary.record, "intent cut-over:b", "died");
        Ok(())
    }));
    let dead = AssertUnwindSafe(run_with(site, PlanRequest::all(), dying)).catch_unwind();
    assert!(dead.await.is_err());
    site.report(None).await.unwrap().run
}

async fn two_more(site: &Site) {
    for _ in 0..2 {
        let made = site.back_up(BackupRequest::all(), RunOptions::new());
        made.await.unwrap();
    }
}

/// It may stand half swapped: what it restored from and what it put aside first is all there is.
#[tokio::test]
async fn an_abandoned_run_keeps_its_backups_until_it_is_confirmed() {
    let toy = Toy::new();
    let site = toy.site();
    let id = died(&site).await;
    let report = site.abandon(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Abandoned);
    let safety = report.safety.unwrap().id;
    std::fs::write(toy.path().join("a/live"), "by hand").unwrap();
    two_more(&site).await;
    let plan_now = plan(&site, PruneRequest::keep(1)).await;
    let kept: Vec<&str> = plan_now.keep.iter().map(|it| it.id.as_str()).collect();
    assert!(kept.contains(&FIRST), "{plan_now:?}");
    assert!(kept.contains(&safety.as_str()), "{plan_now:?}");
    assert!(plan_now.keep[0].why.contains(id.as_str()), "{plan_now:?}");

    // Nobody passes over it in silence, and nobody deletes what it keeps without its name.
    let error = site.confirm(None, RunOptions::new()).await.unwrap_err();
    assert_eq!(error.code(), "run.none_to_confirm");
    let hint = error.hint_text().unwrap();
    assert!(hint.contains(&format!("restore confirm {id}")), "{hint}");
    let backup = site.backup("latest").await.unwrap();
    let options = RunOptions::new();
    let next = site.plan_with(&backup, PlanRequest::all(), &options).await;
    let next = next.unwrap();
    assert!(next.refusal().is_none(), "{next:?}");
    let named = next.findings.iter().find(|it| it.code == "run.abandoned");
    assert_eq!(named.unwrap().subject, id.as_str());

    site.confirm(Some(id), RunOptions::new()).await.unwrap();
    let all = deleted(&site, PruneRequest::keep(1)).await;
    assert!(all.contains(&FIRST.to_owned()), "{all:?}");
    assert!(all.contains(&safety.to_string()), "{all:?}");
}

/// What was live before a run that was undone is live again: nobody needs its copy of that.
#[tokio::test]
async fn the_safety_backup_of_a_run_that_was_undone_goes_first() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("b", "cut_over");
    let undone = run(&site).await;
    assert_eq!(undone.outcome, Outcome::Undone);
    toy.mend("b", "cut_over");
    let restored = run(&site).await;
    let ids = [undone, restored].map(|report| report.safety.unwrap().id.to_string());
    let plan_now = plan(&site, PruneRequest::keep(1)).await;
    assert_eq!(plan_now.delete.len(), 1, "{plan_now:?}");
    assert_eq!(plan_now.delete[0].id.as_str(), ids[0]);
    assert!(plan_now.delete[0].why.contains("came to nothing"));
    // What is restored may be taken back, and what was is accepted without its copy going.
    site.confirm(None, RunOptions::new()).await.unwrap();
    assert_eq!(deleted(&site, PruneRequest::keep(1)).await, ids[..1]);
}

/// What is left of a run whose journal is lost or damaged tells what it needs.
#[tokio::test]
async fn a_run_that_cannot_be_read_any_more_keeps_its_backups() {
    for damage in ["", "garbage\n"] {
        let toy = Toy::new();
        let site = toy.site();
        let report = run(&site).await;
        let safety = report.safety.unwrap().id;
        let journal = toy.path().join("state/runs").join(report.run.as_str());
        let journal = journal.join("journal.jsonl");
        let text = std::fs::read_to_string(&journal).unwrap();
        let text = match damage {
            "" => String::new(),
            garbage => text + garbage,
        };
        std::fs::write(&journal, text).unwrap();
        two_more(&site).await;
        let all = deleted(&site, PruneRequest::keep(1)).await;
        assert!(!all.contains(&FIRST.to_owned()), "{damage:?}: {all:?}");
        assert!(!all.contains(&safety.to_string()), "{damage:?}: {all:?}");
    }
}

/// What was live is back and does not work: there may be no other copy of it that does.
#[tokio::test]
async fn the_safety_backup_of_what_does_not_work_since_is_kept() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("b", "check");
    let platform = toy.platform.clone();
    let options = RunOptions::new().events(Arc::new(move |event: &Event| {
        if matches!(event, Event::StepFailed { step, .. } if step == "check:inside") {
            *platform.refuse_to_start.lock().unwrap() = Some("app".to_owned());
        }
    }));
    let report = run_with(&site, PlanRequest::all(), options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.services_down.len(), 1);
    let text = report.to_text() + &report.to_summary();
    assert!(!text.contains("which nothing needs now"), "{text}");
    // Also once nothing of it is kept any more.
    site.confirm(None, RunOptions::new()).await.unwrap();
    assert_eq!(deleted(&site, PruneRequest::keep(1)).await, [""; 0]);
}

/// A store of safety backups never has a full one.
#[tokio::test]
async fn what_nothing_needs_goes_from_a_store_of_its_own() {
    let toy = Toy::new();
    let site = toy.site_with_safety_store();
    toy.sabotage("b", "cut_over");
    let undone = run(&site).await;
    assert!(undone.to_text().contains("which nothing needs now"));
    let id = undone.safety.unwrap().id.to_string();
    let request = PruneRequest::keep(1).store("safe");
    assert_eq!(deleted(&site, request).await, [id]);
}
