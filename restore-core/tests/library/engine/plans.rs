//! What a plan refuses, and its order.

use std::sync::{Arc, Mutex};

use restore_core::run::{Outcome, RunOptions};
use restore_core::{BackupRequest, ErrorKind, Event, PlanRequest};

use super::run_with;
use super::toy::Toy;

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

/// A filter that matches nothing must not mean everything.
#[tokio::test]
async fn an_empty_selection_is_refused() {
    let toy = Toy::new();
    let site = toy.site();
    let nobody = || Vec::<String>::new();
    for request in [
        PlanRequest::all().only(nobody()),
        PlanRequest::all().paths(nobody()),
        PlanRequest::all().only(nobody()).drill(true),
        PlanRequest::all().only(["a"]).paths(nobody()),
    ] {
        let error = run_with(&site, request, RunOptions::new())
            .await
            .unwrap_err();
        assert_eq!(error.code(), "plan.nothing_selected");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.hint_text().is_some());
    }
    let request = BackupRequest::all().only(nobody());
    let error = site.back_up(request, RunOptions::new()).await.unwrap_err();
    assert_eq!(error.code(), "plan.nothing_selected");
    assert_eq!(toy.live(), Toy::OLD);
    assert!(site.history().await.unwrap().is_empty());
}

/// Planned from one folder, it would be restored from another.
#[tokio::test]
async fn a_backup_of_another_site_is_refused() {
    let (toy, other) = (Toy::new(), Toy::new());
    let theirs = other.site().backup("20240215-020000").await.unwrap();
    let plan = async |backup| {
        let site = toy.site();
        let options = RunOptions::new();
        site.plan(backup, PlanRequest::all(), &options).await
    };
    let error = plan(&theirs).await.unwrap_err();
    assert_eq!(error.code(), "plan.foreign_backup");
    assert_eq!(error.kind(), ErrorKind::Config);
    let folder = toy.path().join("backups/20240215-020000");
    // Nor is it where this site has none of that id.
    std::fs::remove_dir_all(folder).unwrap();
    assert_eq!(
        plan(&theirs).await.unwrap_err().code(),
        "plan.foreign_backup"
    );
    // Another value of the same site's is as good as this one's.
    let again = Toy::new();
    let backup = again.site().backup("latest").await.unwrap();
    let site = again.site();
    let options = RunOptions::new();
    assert!(
        site.plan(&backup, PlanRequest::all(), &options)
            .await
            .is_ok()
    );
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

/// A renamed pattern must not pass for a restore.
#[tokio::test]
async fn a_backup_that_has_nothing_for_anybody_is_refused() {
    let toy = Toy::new();
    let site = toy.site();
    let folder = toy.path().join("backups/20240215-020000");
    for name in ["a", "b"] {
        let file = folder.join(format!("{name}.txt"));
        std::fs::rename(&file, file.with_extension("old")).unwrap();
    }
    let manifest = folder.join("MANIFEST.txt");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace(".txt|", ".old|")).unwrap();
    let latest = site.backup("latest").await.unwrap_err();
    assert_eq!(latest.code(), "backup.none_full", "{latest}");
    let backup = site.backup("20240215-020000").await.unwrap();
    let plan = site
        .plan(&backup, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap();
    assert!(plan.errors().any(|it| it.code == "plan.empty"), "{plan:?}");
    let error = site.run(plan, RunOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Preflight);
}
