//! What people are told of a site and its runs is what is so, and what they are told to type works.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_core::site::{BackupKind, ListedBackup};
use restore_core::{
    BackupRequest, ErrorKind, Event, Finding, PlanRequest, Report, RunId, Severity, Site,
};

use super::toy::Toy;
use super::{run, run_with};

fn options() -> RunOptions {
    RunOptions::new()
}

/// Options under which the process dies at the record.
fn dying_before(record: &'static str) -> RunOptions {
    options().boundary(Arc::new(move |boundary: &Boundary| {
        assert_ne!(boundary.record, record, "died");
        Ok(())
    }))
}

async fn died_before(site: &Site, record: &'static str) -> RunId {
    let dying = run_with(site, PlanRequest::all(), dying_before(record));
    assert!(
        AssertUnwindSafe(dying).catch_unwind().await.is_err(),
        "{record}"
    );
    site.report(None).await.unwrap().run
}

fn of<'a>(findings: &'a [Finding], code: &str) -> &'a Finding {
    let mut found = findings.iter();
    let found = found.find(|it| it.code == code);
    found.unwrap_or_else(|| panic!("no {code} in {findings:?}"))
}

#[tokio::test]
async fn a_mixture_of_before_and_after_is_no_full_backup() {
    for record in ["intent stop:app", "intent cut-over:b", "intent start:db"] {
        let toy = Toy::new();
        let site = toy.site_with_page();
        let newest = site.backup("latest").await.unwrap().id().clone();
        let id = died_before(&site, record).await;
        let error = site
            .back_up(BackupRequest::all(), options())
            .await
            .unwrap_err();
        assert_eq!(error.code(), "backup.halfway", "{record}");
        assert_eq!(error.kind(), ErrorKind::Preflight);
        let hint = error.hint_text().unwrap();
        for verb in ["resume", "rollback"] {
            assert!(hint.contains(&format!("`restore {verb} {id}`")), "{hint}");
        }
        // A part of it may be what somebody needs, and is never `latest`.
        let part = BackupRequest::all().only(["a"]);
        let part = site.back_up(part, options()).await.unwrap();
        of(&part.findings, "run.unfinished");
        assert_eq!(*site.backup("latest").await.unwrap().id(), newest);
        site.rollback(Some(id), options()).await.unwrap();
        site.back_up(BackupRequest::all(), options()).await.unwrap();
    }
}

/// Whoever chooses a backup by its listing sees what it leads to, and opens none.
#[tokio::test]
async fn a_listing_says_what_each_backup_has() {
    let toy = Toy::new();
    let site = toy.site_with_cluster();
    for (id, names) in [
        ("20240216-020000", &["a", "p"][..]),
        ("20240217-020000", &["p"][..]),
    ] {
        toy.backup(id, names);
    }
    std::fs::create_dir(toy.path().join("backups/20240218-020000")).unwrap();
    let listed = site.backups().await.unwrap();
    let told: Vec<_> = listed
        .iter()
        .map(|it| (it.components.join(","), it.recovery.join(","), it.kind))
        .collect();
    let row = |has: &str, recovery: &str, kind| (has.to_owned(), recovery.to_owned(), kind);
    assert_eq!(
        told,
        [
            row("a", "", BackupKind::Full),
            row("a,p", "p", BackupKind::Full),
            row("p", "p", BackupKind::Partial),
            row("", "", BackupKind::Unfinished),
        ]
    );
    // Listings that were saved before there was such a thing are read.
    let mut saved = serde_json::to_value(&listed[1]).unwrap();
    for key in ["components", "recovery"] {
        saved.as_object_mut().unwrap().remove(key).unwrap();
    }
    let again: ListedBackup = serde_json::from_value(saved).unwrap();
    assert!(again.components.is_empty() && again.lacking.is_empty());
}

#[tokio::test]
async fn a_run_that_has_swapped_nothing_or_all_makes_no_mixture() {
    for record in ["intent stage:b", "intent check:outside"] {
        let toy = Toy::new();
        let site = toy.site_with_page();
        died_before(&site, record).await;
        let report = site.back_up(BackupRequest::all(), options()).await.unwrap();
        of(&report.findings, "run.unfinished");
    }
}

#[tokio::test]
async fn status_shows_the_newest_drill_and_how_it_ended() {
    let toy = Toy::new();
    let site = toy.site();
    assert_eq!(site.status(&options()).await.unwrap().drill, None);
    let drill = || run_with(&site, PlanRequest::all().drill(true), options());
    let passed = drill().await.unwrap().run;
    let status = site.status(&options()).await.unwrap();
    let last = status.drill.unwrap();
    assert_eq!(
        (last.run, last.passed, last.whole),
        (passed.clone(), true, true)
    );
    toy.sabotage("a", "stage");
    let failed = drill().await.unwrap().run;
    let status = site.status(&options()).await.unwrap();
    assert_eq!(status.proven.unwrap().run, passed, "an older one did");
    let last = status.drill.unwrap();
    assert_eq!((&last.run, last.passed), (&failed, false));
    assert!(last.failure.unwrap().contains("stage fails"));
    let told = of(&status.findings, "status.drill_failed");
    assert!(
        told.hint
            .as_ref()
            .unwrap()
            .contains(&format!("restore report {failed}"))
    );
    assert!(status.ready, "a restore can begin all the same");
}

#[tokio::test]
async fn a_server_that_is_merely_stopped_holds_up_no_plan() {
    let toy = Toy::new();
    let site = toy.site_with_needs();
    let set = |count| {
        toy.platform
            .services
            .lock()
            .unwrap()
            .insert("watch".to_owned(), count)
    };
    set(0);
    let backup = site.backup("latest").await.unwrap();
    let plan = async |request| site.plan_with(&backup, request, &options()).await.unwrap();
    let drill = plan(PlanRequest::all().drill(true)).await;
    let refused = of(&drill.findings, "service.needed");
    assert_eq!(refused.severity, Severity::Error, "a drill starts nothing");

    let made = plan(PlanRequest::all()).await;
    assert!(made.refusal().is_none(), "{:?}", made.findings);
    let told = of(&made.findings, "service.needed");
    assert_eq!(told.severity, Severity::Warning);
    assert!(told.message.contains("`restore run` starts it"), "{told:?}");
    let status = site.status(&options()).await.unwrap();
    assert!(status.ready, "{:?}", status.findings);

    // What does not start is found before anything is touched.
    *toy.platform.refuse_to_start.lock().unwrap() = Some("watch".to_owned());
    let error = site.run(made.clone(), options()).await.unwrap_err();
    assert!(
        error.report().is_none() && error.kind() == ErrorKind::Preflight,
        "{error}"
    );
    assert!(error.message().contains("does not start"), "{error}");
    *toy.platform.refuse_to_start.lock().unwrap() = None;

    // Whoever has mended it need not open the site again.
    let again = plan(PlanRequest::all()).await;
    assert!(again.refusal().is_none(), "{:?}", again.findings);
    let report = site.run(again, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    assert_eq!(toy.platform.services.lock().unwrap()["watch"], 1);
}

#[tokio::test]
async fn of_a_rollback_that_died_the_rollback_is_named() {
    let toy = Toy::new();
    let site = toy.site();
    let id = run(&site).await.run;
    let dying = site.rollback(None, dying_before("intent undo:start:db"));
    assert!(AssertUnwindSafe(dying).catch_unwind().await.is_err());
    let report = site.report(Some(id.clone())).await.unwrap();
    let hint = report.error().unwrap();
    let hint = hint.hint_text().unwrap();
    let rollback = format!("restore rollback {id}");
    assert!(
        hint.contains(&rollback) && !hint.contains("resume"),
        "{hint}"
    );
    assert!(report.next[0].starts_with(&rollback), "{:?}", report.next);
    let backup = site.backup("latest").await.unwrap();
    let plan = site
        .plan_with(&backup, PlanRequest::all(), &options())
        .await
        .unwrap();
    let hint = of(&plan.findings, "run.unfinished").hint.clone().unwrap();
    assert!(
        hint.contains(&rollback) && !hint.contains("resume"),
        "{hint}"
    );
    let rolled = site.rollback(Some(id), options()).await.unwrap();
    assert_eq!(rolled.outcome, Outcome::RolledBack);
}

/// The events of what `work` does.
fn heard() -> (Arc<Mutex<Vec<Event>>>, RunOptions) {
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let heard = events.clone();
    let sink = move |event: &Event| heard.lock().unwrap().push(event.clone());
    (events, options().events(Arc::new(sink)))
}

#[tokio::test]
async fn whoever_watches_a_drill_is_told_that_it_is_one() {
    let toy = Toy::new();
    let site = toy.site();
    let drill = PlanRequest::all().drill(true);
    run_with(&site, drill, options()).await.unwrap();
    let (events, watching) = heard();
    site.watch(None, &watching).await.unwrap();
    let events = events.lock().unwrap();
    let started = events.iter().find_map(|event| match event {
        Event::RunStarted { action, .. } => Some(action.clone()),
        _ => None,
    });
    assert_eq!(started.as_deref(), Some("drill"));
}

#[tokio::test]
async fn a_step_that_was_begun_again_has_not_failed() {
    let toy = Toy::new();
    let site = toy.site();
    let id = died_before(&site, "fact b/present").await;
    let text = |report: &Report| report.to_text();
    let cut = site.report(Some(id.clone())).await.unwrap();
    assert!(text(&cut).contains("swapped in"), "{}", text(&cut));
    assert!(!text(&cut).contains(" restored   "), "{}", text(&cut));
    assert!(!text(&cut).contains("  failed"), "{}", text(&cut));
    let report = site.resume(Some(id), options()).await.unwrap();
    assert!(
        text(&report).contains("begun again below"),
        "{}",
        text(&report)
    );
    assert!(!text(&report).contains(" failed\n"), "{}", text(&report));
}

#[tokio::test]
async fn components_that_stop_for_the_sake_of_another_were_not_interrupted() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("a", "back_up");
    toy.sabotage("b", "slow_back_up");
    let (events, listening) = heard();
    let error = site
        .back_up(BackupRequest::all(), listening)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("back_up fails"), "{error}");
    let events = events.lock().unwrap();
    let of_b = events.iter().find_map(|event| match event {
        Event::StepFailed { step, error } if step == "back-up:b" => Some(error.clone()),
        _ => None,
    });
    let told = of_b.unwrap();
    assert!(told.contains("another component failed"), "{told}");
}

/// What it keeps is there, under a name that nobody can ask for.
#[tokio::test]
async fn of_a_component_that_is_called_otherwise_nothing_untrue_is_said() {
    let toy = Toy::new();
    run(&toy.site()).await;
    let report = toy.site_of_one().report(None).await.unwrap();
    let gone = report.components.iter().find(|it| it.name == "b").unwrap();
    let unsure = gone.kept_unsure.as_ref().unwrap();
    assert!(unsure.contains("no longer has"), "{unsure}");
    std::fs::remove_file(report.components[0].kept_at.as_ref().unwrap()).unwrap();
    let report = toy.site_of_one().report(None).await.unwrap();
    let next = report.next.join("\n");
    assert!(!next.contains("nothing was replaced"), "{next}");
}

/// What was staged before and what is staged after are of one backup.
#[tokio::test]
async fn a_run_whose_backup_was_exchanged_does_not_go_on_with_the_other() {
    let toy = Toy::new();
    let site = toy.site();
    let id = died_before(&site, "intent stage:b").await;
    let backup = site.backup("latest").await.unwrap().id().to_string();
    let manifest = toy.path().join(format!("backups/{backup}/MANIFEST.txt"));
    let planned = std::fs::read(&manifest).unwrap();
    toy.backup(&backup, &["a", "b"]);
    let error = site.resume(None, options()).await.unwrap_err();
    assert_eq!(error.code(), "run.backup_changed");
    assert_eq!(error.kind(), ErrorKind::Preflight);
    let hint = error.hint_text().unwrap();
    for way in [
        format!("`restore rollback {id}`"),
        format!("`restore resume {id}`"),
    ] {
        assert!(hint.contains(&way), "{hint}");
    }
    assert_eq!(toy.live(), Toy::OLD);
    // It is what it was again.
    std::fs::write(&manifest, planned).unwrap();
    site.resume(None, options()).await.unwrap();
    assert_eq!(toy.live(), Toy::NEW);

    // Once all of it is staged, the backup is not read again.
    let toy = Toy::new();
    let site = toy.site();
    died_before(&site, "intent stop:app").await;
    toy.backup(&backup, &["a", "b"]);
    site.resume(None, options()).await.unwrap();
    assert_eq!(toy.live(), Toy::NEW);
}

/// Neither `resume` nor `rollback` goes by a journal that may be wrong.
#[tokio::test]
async fn of_a_damaged_run_the_verb_is_named_that_ends_it() {
    let toy = Toy::new();
    let site = toy.site();
    let id = died_before(&site, "intent stop:app").await;
    let journal = toy.path().join(format!("state/runs/{id}/journal.jsonl"));
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, text + "garbage\n").unwrap();
    let part = BackupRequest::all().only(["a"]);
    let part = site.back_up(part, options()).await.unwrap();
    let hint = of(&part.findings, "run.unfinished").hint.clone().unwrap();
    assert!(hint.contains(&format!("`restore abandon {id}`")), "{hint}");
    assert!(!hint.contains("resume"), "{hint}");
}

/// The lock of other hosts is waited for as that of this one.
#[tokio::test]
async fn abandoning_waits_for_the_lock_of_another_host() {
    use std::sync::atomic::Ordering;
    let toy = Toy::new();
    let site = toy.site();
    died_before(&site, "intent stop:app").await;
    toy.platform.held.store(2, Ordering::Relaxed);
    let waiting = options().wait(std::time::Duration::from_secs(20));
    let report = site.abandon(None, waiting).await.unwrap();
    assert_eq!(report.outcome, Outcome::Abandoned);
    assert_eq!(toy.platform.held.load(Ordering::Relaxed), 0);
}
