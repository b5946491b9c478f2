//! What a plan refuses, and its order.

use std::sync::{Arc, Mutex};

use restore_core::run::{Outcome, RunOptions};
use restore_core::{BackupRequest, ErrorKind, Event, PlanRequest, Severity, Site};

use super::run_with;
use super::toy::Toy;

#[tokio::test]
async fn a_plan_that_no_longer_fits_is_refused() {
    let toy = Toy::new();
    let site = toy.site();
    let backup = site.backup("latest").await.unwrap();
    let plan = site
        .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
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
    // Nor is one that was saved.
    let emptied = PlanRequest::all().only(nobody());
    let saved = serde_json::to_string(&emptied).unwrap();
    let again: PlanRequest = serde_json::from_str(&saved).unwrap();
    assert_eq!(again, emptied);
    let error = run_with(&site, again, RunOptions::new()).await.unwrap_err();
    assert_eq!(error.code(), "plan.nothing_selected");
    let all = serde_json::to_string(&PlanRequest::all()).unwrap();
    assert!(!all.contains("nothing"), "{all}");
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
        site.plan_with(backup, PlanRequest::all(), &options).await
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
        site.plan_with(&backup, PlanRequest::all(), &options)
            .await
            .is_ok()
    );
}

/// A folder is as good as its files: each of them must have a checksum.
#[tokio::test]
async fn a_folder_is_verified_by_the_checksums_of_its_files() {
    let toy = Toy::new();
    let site = toy.site();
    let folder = toy.path().join("backups/20240215-020000");
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.txt")).unwrap();
    std::fs::create_dir(folder.join("dump")).unwrap();
    std::fs::write(toy.path().join("a/uses-folder"), "dump").unwrap();
    let mut codes = Vec::new();
    for files in [&[][..], &["toc.dat"], &["toc.dat", "1.dat"]] {
        for file in files {
            std::fs::write(folder.join("dump").join(file), "restored a").unwrap();
        }
        let hash = manifest.split("a.txt|4.0K|").nth(1).unwrap();
        let hash = hash.lines().next().unwrap();
        let listed = format!("=== Files ===\ndump/toc.dat|4.0K|{hash}\n");
        let text = match files.is_empty() {
            true => manifest.clone(),
            false => manifest
                .replace("=== Files ===\n", &listed)
                .replace("Total Files: 2", "Total Files: 3"),
        };
        std::fs::write(folder.join("MANIFEST.txt"), text).unwrap();
        let backup = site.backup("latest").await.unwrap();
        let options = RunOptions::new();
        let plan = site.plan_with(&backup, PlanRequest::all(), &options);
        let plan = plan.await.unwrap();
        let found = plan.findings.iter();
        codes.push(found.filter(|it| it.code == "backup.unverifiable").count());
    }
    assert_eq!(codes, [1, 0, 1], "none, all, one of two");
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
        .plan_with(&backup, request, &RunOptions::new())
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
    let mut side_by_side = seen[..5].to_vec();
    side_by_side.sort();
    assert_eq!(
        side_by_side,
        [
            "back-up:a",
            "back-up:b",
            "backup:safety",
            "stage:a",
            "stage:b"
        ]
    );
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

/// Without a page users meet stopped services: the plan says so where there are any.
#[tokio::test]
async fn what_users_meet_without_a_page_is_told() {
    let toy = Toy::new();
    let told = async |site: &Site, request: PlanRequest| {
        let backup = site.backup("latest").await.unwrap();
        let options = RunOptions::new();
        let plan = site.plan_with(&backup, request, &options).await.unwrap();
        assert!(plan.refusal().is_none(), "{:?}", plan.findings);
        let mut found = plan.findings;
        found.retain(|it| it.code == "maintenance.none");
        found
    };
    let all = PlanRequest::all;
    let found = told(&toy.site(), all()).await;
    let [found] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(found.severity, Severity::Info);
    assert_eq!(
        found.message,
        "the site has no page: users meet stopped services for as long as the downtime lasts"
    );
    assert_eq!(told(&toy.site_with_page(), all()).await.len(), 0);
    assert_eq!(told(&toy.site(), all().drill(true)).await.len(), 0);
    // What users do not see is stopped, and nothing else.
    let hidden = Toy::new();
    let behind = hidden.site_behind();
    assert_eq!(told(&behind, all().only(["a"])).await.len(), 0);
    assert_eq!(told(&behind, all()).await.len(), 1);
    let down = [("app".to_owned(), 0), ("db".to_owned(), 0)];
    toy.platform.services.lock().unwrap().extend(down);
    assert_eq!(told(&toy.site(), all()).await.len(), 0);
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
        .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap();
    assert!(plan.errors().any(|it| it.code == "plan.empty"), "{plan:?}");
    let error = site.run(plan, RunOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Preflight);
}

/// A cluster is no part of a full backup, so that a drill of all the rest proves it; and a backup that was
/// proven stays so whatever is restored later.
#[tokio::test]
async fn a_drill_of_all_that_counts_proves_the_newest_backup() {
    let toy = Toy::new();
    let site = toy.site_with_cluster();
    let newest = "20240216-020000";
    toy.backup(newest, &["a"]);
    let first = "20240215-020000";
    for id in [newest, first] {
        let backup = site.backup(id).await.unwrap();
        let request = PlanRequest::all().drill(true);
        let plan = site.plan_with(&backup, request, &RunOptions::new()).await;
        let report = site.run(plan.unwrap(), RunOptions::new()).await.unwrap();
        assert_eq!(report.outcome, Outcome::Drilled, "{}", report.to_text());
        let status = site.status(&RunOptions::new()).await.unwrap();
        let proven = status.proven.unwrap();
        assert_eq!((proven.backup.as_str(), proven.whole), (newest, true));
        assert!(status.newest.unwrap().proven, "{id}");
    }
}

/// What has run only in part, or not at all, is told, and need not run wholly after an undo either.
#[tokio::test]
async fn no_more_need_run_again_than_ran_before() {
    for (ran, told, restored, undone) in [
        (5, None, 5, 5),
        (3, Some(("service.short", "3 of 5 instances run now")), 3, 3),
        (
            0,
            Some(("service.down", "though 5 instances are wanted")),
            1,
            0,
        ),
    ] {
        let toy = Toy::new();
        let of_app = |count: u32| ("app".to_owned(), count);
        toy.platform.services.lock().unwrap().extend([of_app(ran)]);
        toy.platform.wanted.lock().unwrap().extend([of_app(5)]);
        let site = toy.site();
        let backup = site.backup("latest").await.unwrap();
        let plan = site
            .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
            .await
            .unwrap();
        let found: Vec<(&str, &str)> = plan
            .findings
            .iter()
            .filter(|it| it.subject == "app")
            .map(|it| (it.code.as_str(), it.message.as_str()))
            .collect();
        match told {
            Some((code, words)) => {
                assert_eq!(found.len(), 1, "{found:?}");
                assert_eq!(found[0].0, code);
                assert!(found[0].1.contains(words), "{found:?}");
            }
            None => assert!(found.is_empty(), "{found:?}"),
        }
        let app = plan.services.iter().find(|it| it.name == "app").unwrap();
        assert_eq!((app.replicas, app.start, app.ran_before()), (5, 5, ran));
        let report = site.run(plan, RunOptions::new()).await.unwrap();
        assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
        let report = site.rollback(None, RunOptions::new()).await.unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
        let asked = toy.platform.asked.lock().unwrap().clone();
        let least: Vec<(u32, u32)> = asked
            .into_iter()
            .filter(|(name, ..)| name == "app")
            .map(|(_, count, least)| (count, least))
            .collect();
        assert_eq!(least, [(5, restored), (5, undone)], "{ran}");
    }
}
