//! Every state of a run has ways on, each of which works.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_core::{ErrorKind, PlanRequest, Report, Result, RunId, Site};

use restore_testing::Ended as _;

use super::toy::Toy;
use super::{boundaries, dying_at, run, run_with};

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
    let id = run(&toy.site()).await.run;
    let site = toy.site_of_one();
    let refused = site.confirm(None, options()).await.unwrap_err();
    assert_eq!(refused.code(), "run.not_as_left", "{refused}");
    let report = site.confirm(Some(id), options()).await.unwrap();
    assert!(report.confirmed);
    let left: Vec<bool> = report.components.iter().map(|it| it.left_alone).collect();
    assert_eq!(left.iter().filter(|left| **left).count(), 1, "{report:?}");
}

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

/// What a person types, on the run of this id.
async fn perform(site: &Site, command: &str, id: &RunId) -> Result<Option<Report>> {
    let named = Some(id.clone());
    let over_unconfirmed = PlanRequest::all().over_unconfirmed(true);
    match command {
        "resume" => site.resume(named, options()).await.ended().map(Some),
        "rollback" => site.rollback(named, options()).await.ended().map(Some),
        "abandon" => site.abandon(named, options()).await.map(Some),
        "confirm" => site.confirm(named, options()).await.map(Some),
        "run" => run_with(site, PlanRequest::all(), options())
            .await
            .map(Some),
        "run over unconfirmed" => run_with(site, over_unconfirmed, options()).await.map(Some),
        "run over it" => {
            let request = PlanRequest::all().over(id.clone());
            run_with(site, request, options()).await.map(Some)
        }
        "page on, off" => {
            site.page(true).await?;
            site.page(false).await.map(|()| None)
        }
        "history" => site.history().await.map(|_| None),
        "report" => site.report(named).await.map(Some),
        "page" => site.page(false).await.map(|()| None),
        "list" => site.backups().await.map(|_| None),
        "plan" => {
            let backup = site.backup("latest").await?;
            let plan = site.plan(&backup, over_unconfirmed, &options()).await?;
            plan.refusal().map_or(Ok(None), Err)
        }
        other => panic!("nobody can type {other}"),
    }
}

/// The commands that a hint names: what is between backticks, and the options that let a run go on.
fn commands_in(hint: &str) -> Vec<String> {
    let typed = hint.split('`').skip(1).step_by(2);
    let typed = typed.filter_map(|text| text.strip_prefix("restore "));
    let mut commands: Vec<String> = typed
        .filter_map(|text| text.split(' ').next())
        .map(str::to_owned)
        .collect();
    for (option, command) in [
        ("--over-unconfirmed", "run over unconfirmed"),
        ("--over ", "run over it"),
    ] {
        if hint.contains(option) {
            commands.push(command.to_owned());
        }
    }
    commands
}

/// A run in this state, on a platform that does not keep it from any way on.
async fn in_state(state: &str) -> (Toy, Site, RunId) {
    let toy = Toy::new();
    let sound = toy.path().join("sound");
    let check = format!(
        "[checks.sound]\nkind = \"command\"\ncommand = [\"test\", \"-e\", {sound:?}]\ntimeout = \"700ms\""
    );
    let site = toy.site_ordered(&check).with_maintenance(toy.maintenance());
    if state != "restored, checks fail" {
        std::fs::write(&sound, "").unwrap();
    }
    let id = match state {
        "unfinished" => unfinished(&site).await,
        "restored" | "restored, checks fail" => {
            let report = run(&site).await;
            assert_eq!(report.is_failing(), state.contains("fail"));
            report.run
        }
        "rolled back" => {
            run(&site).await;
            site.rollback(None, options()).await.unwrap().run
        }
        "undone" => {
            toy.sabotage("b", "cut_over");
            let report = run(&site).await;
            toy.mend("b", "cut_over");
            report.run
        }
        "half confirmed" => {
            let id = run(&site).await.run;
            toy.sabotage("b", "discard");
            site.confirm(None, options()).await.unwrap_err();
            toy.mend("b", "discard");
            id
        }
        "stuck" => {
            let id = stuck(&toy, &site).await.run;
            toy.mend("a", "undo");
            id
        }
        "abandoned" => {
            let id = stuck(&toy, &site).await.run;
            site.abandon(None, options()).await.unwrap();
            toy.mend("a", "undo");
            id
        }
        other => panic!("{other} is no state"),
    };
    (toy, site, id)
}

/// The table of `docs/runs.md`: each way on works, or is refused with commands that work.
#[tokio::test]
async fn every_state_has_a_way_out() {
    let ways = [
        "resume",
        "rollback",
        "abandon",
        "confirm",
        "run",
        "run over unconfirmed",
        "run over it",
        "page on, off",
    ];
    // What the run is then; `-`: refused, and it stays what it was.
    for (state, expected) in [
        (
            "unfinished",
            "restored|rolled back|abandoned|-|-|-|abandoned|unfinished",
        ),
        (
            "restored",
            "-|rolled back|-|restored|-|restored|restored|restored",
        ),
        (
            "restored, checks fail",
            "-|rolled back|-|restored|-|restored|restored|restored",
        ),
        ("undone", "-|-|-|undone|undone|undone|undone|undone"),
        (
            "rolled back",
            "-|-|-|rolled back|-|rolled back|rolled back|rolled back",
        ),
        (
            "half confirmed",
            "-|-|-|restored|restored|restored|restored|restored",
        ),
        ("stuck", "undone|undone|abandoned|-|-|-|abandoned|stuck"),
        (
            "abandoned",
            "-|undone|-|abandoned|abandoned|abandoned|abandoned|abandoned",
        ),
    ] {
        let expected: Vec<&str> = expected.split('|').collect();
        assert_eq!(expected.len(), ways.len(), "{state}");
        for (way, expected) in ways.iter().zip(expected) {
            let cell = format!("{state}, {way}");
            let (toy, site, id) = in_state(state).await;
            let was = site.report(Some(id.clone())).await.unwrap();
            let ended = perform(&site, way, &id).await;
            let now = site.report(Some(id.clone())).await.unwrap();
            match (expected, ended) {
                ("-", Ok(_)) => panic!("{cell} is not refused"),
                ("-", Err(refused)) => {
                    assert_eq!(refused.kind(), ErrorKind::Preflight, "{cell}: {refused}");
                    assert!(!refused.code().is_empty(), "{cell}");
                    assert_eq!(now.outcome, was.outcome, "{cell}");
                    let hint = refused
                        .hint_text()
                        .unwrap_or_else(|| panic!("{cell}: no hint"));
                    let commands = commands_in(hint);
                    assert!(!commands.is_empty(), "{cell}: {hint}");
                    for command in commands {
                        let (_toy, site, id) = in_state(state).await;
                        let done = perform(&site, &command, &id).await;
                        done.unwrap_or_else(|e| panic!("{cell}: {hint}: {command}: {e}"));
                    }
                }
                (expected, ended) => {
                    let ended = ended.unwrap_or_else(|e| panic!("{cell}: {e}"));
                    assert_eq!(now.outcome.to_string(), expected, "{cell}");
                    if let (true, Some(ended)) = (way.starts_with("run"), ended) {
                        assert_eq!(ended.outcome, Outcome::Restored, "{cell}");
                        assert_eq!(toy.live(), Toy::NEW, "{cell}");
                    }
                    let open = matches!(now.outcome, Outcome::Unfinished | Outcome::Stuck);
                    assert!(open || !toy.page_is_up(), "{cell}: the page is up");
                }
            }
        }
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
