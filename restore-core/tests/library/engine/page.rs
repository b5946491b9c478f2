//! The maintenance page over the life of a run: who has it up, who takes it down, and what users
//! write once they were let in; and runs that go over others.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_core::{Plan, PlanRequest, RunId, Site};

use restore_testing::{Ended as _, Sample};

use super::toy::Toy;
use super::{dying_at, run, run_with};

fn options() -> RunOptions {
    RunOptions::new()
}

/// A run whose process died behind the page, after both swaps.
async fn unfinished(site: &Site) -> RunId {
    let dying = options().boundary(Arc::new(|boundary: &Boundary| {
        assert_ne!(boundary.record, "intent start:db", "died");
        Ok(())
    }));
    let dead = AssertUnwindSafe(run_with(site, PlanRequest::all(), dying)).catch_unwind();
    assert!(dead.await.is_err());
    site.report(None).await.unwrap().run
}

/// A run of which `a` cannot be moved back, as it had been decided that nothing is kept.
async fn stuck(toy: &Toy, site: &Site) -> RunId {
    toy.sabotage("b", "cut_over");
    toy.sabotage("a", "undo");
    let report = run(site).await;
    assert_eq!(report.outcome, Outcome::Stuck, "{}", report.to_text());
    toy.mend("b", "cut_over");
    report.run
}

#[tokio::test]
async fn it_is_up_in_the_downtime_and_not_after() {
    let toy = Toy::new();
    let site = toy.site_with_page();
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert!(!toy.page_is_up() && !report.page_up);
    let report = site.rollback(None, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert!(!toy.page_is_up() && !report.page_up);
    assert_eq!(toy.live(), Toy::OLD);
}

/// Whoever took the page down has let users in: what they have written since is not deleted.
#[tokio::test]
async fn what_users_write_after_they_were_let_in_by_hand_is_kept() {
    for by in ["abandon", "page off"] {
        for is_stuck in [false, true] {
            let what = format!("{by}, stuck {is_stuck}");
            let toy = Toy::new();
            let site = toy.site_with_page();
            let id = match is_stuck {
                true => stuck(&toy, &site).await,
                false => unfinished(&site).await,
            };
            assert!(toy.page_is_up(), "{what}");
            if by == "abandon" {
                site.abandon(None, options()).await.unwrap();
            } else {
                site.page(false).await.unwrap();
            }
            assert!(!toy.page_is_up(), "{what}");
            std::fs::write(toy.path().join("a/live"), "restored a, and used").unwrap();
            if is_stuck {
                toy.mend("a", "undo");
            }
            let report = site.rollback(Some(id.clone()), options()).await.unwrap();
            assert!(report.is_as_before(), "{what}: {}", report.to_text());
            assert_eq!(toy.live(), Toy::OLD, "{what}");
            assert!(!toy.page_is_up(), "{what}");
            let kept = toy.path().join(format!("a/staged-{id}"));
            let kept = std::fs::read_to_string(kept).unwrap();
            assert_eq!(kept, "restored a, and used", "{what}");
            site.confirm(None, options()).await.unwrap();
            assert_eq!(toy.leftovers(), Vec::<String>::new(), "{what}");
        }
    }
}

/// The same where the run goes on, fails, and undoes itself.
#[tokio::test]
async fn a_resumed_run_keeps_what_users_wrote_before_it() {
    let toy = Toy::new();
    let site = toy.site_with_page();
    let id = unfinished(&site).await;
    site.page(false).await.unwrap();
    std::fs::write(toy.path().join("a/live"), "restored a, and used").unwrap();
    toy.sabotage("b", "check");
    let report = site.resume(None, options()).await.ended().unwrap();
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    assert_eq!(toy.live(), Toy::OLD);
    let kept = toy.path().join(format!("a/staged-{id}"));
    assert!(std::fs::read_to_string(kept).unwrap().ends_with("used"));
}

/// A page of a run that has ended comes down by hand, and its run's journal says so.
#[tokio::test]
async fn the_page_of_a_run_that_has_ended_is_no_longer_told_once_it_is_down() {
    let toy = Toy::new();
    let site = toy.site_with_page();
    unfinished(&site).await;
    toy.sabotage("", "page-off");
    site.abandon(None, options()).await.unwrap();
    toy.mend("", "page-off");
    site.page(false).await.unwrap();
    assert!(!toy.page_is_up());
    let report = site.report(None).await.unwrap();
    assert_eq!(report.outcome, Outcome::Abandoned);
    assert!(!report.page_up && report.down_since.is_none(), "{report:?}");
    assert!(report.next.iter().all(|next| !next.contains("page off")));
}

/// A journal that cannot be written keeps no users out.
#[tokio::test]
async fn the_page_comes_down_where_the_journal_cannot_be_written() {
    let toy = Toy::new();
    let site = toy.site_with_page();
    let id = unfinished(&site).await;
    let folder = toy.path().join("state/runs").join(id.as_str());
    let journal = folder.join("journal.jsonl");
    std::fs::rename(&journal, folder.join("aside")).unwrap();
    std::fs::create_dir(&journal).unwrap();
    let _ = site.page(false).await;
    std::fs::remove_dir(&journal).unwrap();
    std::fs::rename(folder.join("aside"), &journal).unwrap();
    assert!(!toy.page_is_up());
}

/// The configuration may be another by then, or have no page any more.
#[tokio::test]
async fn it_comes_down_as_it_went_up_whatever_is_configured_since() {
    for since in [None, Some("elsewhere")] {
        for way in ["rollback", "resume", "abandon", "page off", "over"] {
            let what = format!("{way}, {since:?}");
            let toy = Toy::new();
            let id = unfinished(&toy.site_with_page_in(Some("page"))).await;
            assert!(toy.page_is_up(), "{what}");
            let site = toy.site_with_page_in(since);
            let done = match way {
                "rollback" => site.rollback(None, options()).await.map(drop),
                "resume" => site.resume(None, options()).await.map(drop),
                "abandon" => site.abandon(None, options()).await.map(drop),
                "page off" => site.page(false).await,
                _ => {
                    let request = PlanRequest::all().over(id.clone());
                    run_with(&site, request, options()).await.map(drop)
                }
            };
            done.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(!toy.page_is_up(), "{what}");
            assert!(!toy.path().join("elsewhere").exists(), "{what}");
            let report = site.report(Some(id)).await.unwrap();
            assert!(!report.page_up, "{what}: {}", report.to_text());
        }
    }
}

/// After a power cut nobody may have started the web server.
#[tokio::test]
async fn the_server_that_shows_it_is_started() {
    for way in ["resume", "rollback", "rollback without"] {
        let toy = Toy::new();
        let site = toy.site_with_web_server();
        let dying = options().boundary(Arc::new(|boundary: &Boundary| {
            assert!(!boundary.record.starts_with("intent cut-over:"), "died");
            Ok(())
        }));
        let dead = AssertUnwindSafe(run_with(&site, PlanRequest::all(), dying)).catch_unwind();
        assert!(dead.await.is_err());
        let running = || toy.platform.services.lock().unwrap()["watch"];
        toy.platform
            .services
            .lock()
            .unwrap()
            .insert("watch".to_owned(), 0);
        if way == "rollback without" {
            *toy.platform.refuse_to_start.lock().unwrap() = Some("watch".to_owned());
        }
        let report = match way {
            "resume" => site.resume(None, options()).await.unwrap(),
            _ => site.rollback(None, options()).await.unwrap(),
        };
        let (outcome, replicas, told) = match way {
            "resume" => (Outcome::Restored, 1, "service.started"),
            "rollback" => (Outcome::RolledBack, 1, "service.started"),
            _ => (Outcome::RolledBack, 0, "maintenance.down"),
        };
        assert_eq!(report.outcome, outcome, "{way}: {}", report.to_text());
        assert_eq!(running(), replicas, "{way}");
        assert!(
            report.findings.iter().any(|it| it.code == told),
            "{way}: {:?}",
            report.findings
        );
        assert!(!toy.page_is_up(), "{way}");
    }
}

/// What is broken of the web server may be what is restored: such a run does without the page.
#[tokio::test]
async fn a_page_that_the_run_itself_mends_is_done_without() {
    let toy = Toy::new();
    let site = toy.site_with_page();
    std::fs::write(toy.path().join("page-broken"), "").unwrap();
    let backup = site.backup("latest").await.unwrap();
    let plan = async |request: PlanRequest| {
        let options = options();
        site.plan_with(&backup, request, &options).await.unwrap()
    };
    let codes = |plan: &Plan| -> Vec<String> { plan.errors().map(|it| it.code.clone()).collect() };
    let refused = plan(PlanRequest::all()).await;
    assert_eq!(codes(&refused), ["maintenance.broken"]);
    // What its server reads is restored with `a`.
    std::fs::write(toy.path().join("a/is-target"), "").unwrap();
    let others = plan(PlanRequest::all().only(["b"])).await;
    assert_eq!(codes(&others), ["maintenance.broken"]);
    let mending = plan(PlanRequest::all()).await;
    assert_eq!(codes(&mending), [""; 0]);
    let mut told = mending.findings.iter();
    let told = told.find(|it| it.code == "maintenance.none").unwrap();
    let why = "restored with a: nobody can read its words";
    assert!(told.message.ends_with(why), "{told:?}");
    assert!(!mending.maintenance);
    let report = site.run(mending, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_eq!(toy.live(), Toy::NEW);
}

/// What was mended in the configuration since counts where what was kept does not work.
#[tokio::test]
async fn it_comes_down_as_is_configured_where_what_was_kept_does_not_work() {
    let toy = Toy::new();
    let id = unfinished(&toy.site_with_page_in(Some("page"))).await;
    let journal = toy.path().join("state/runs").join(id.as_str());
    let journal = journal.join("journal.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let unknown = text.replace(r#""kind":"toy""#, r#""kind":"lost""#);
    assert_ne!(text, unknown);
    std::fs::write(&journal, unknown).unwrap();
    let bare = toy.site_with_page_in(None);
    let refused = bare.rollback(None, options()).await.unwrap_err();
    assert_eq!(refused.code(), "run.no_way_back", "{refused}");
    let site = toy.site_with_page_in(Some("page"));
    let report = site.rollback(None, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    assert!(!toy.page_is_up() && !report.page_up);
}

/// Without its page it would swap while users are served.
#[tokio::test]
async fn a_run_that_turns_users_away_does_not_go_on_without_its_page() {
    let toy = Toy::new();
    let site = toy.site_with_page_in(Some("page"));
    let dying = options().boundary(Arc::new(|boundary: &Boundary| {
        assert!(!boundary.record.starts_with("done stage:"), "died");
        Ok(())
    }));
    let dead = AssertUnwindSafe(run_with(&site, PlanRequest::all(), dying)).catch_unwind();
    assert!(dead.await.is_err());
    let bare = toy.site_with_page_in(None);
    let refused = bare.resume(None, options()).await.unwrap_err();
    assert_eq!(refused.code(), "run.no_page", "{refused}");
    assert!(refused.message().contains("[maintenance]"), "{refused}");
    assert_eq!(toy.live(), Toy::OLD);
    let open = site.report(None).await.unwrap();
    assert_eq!(open.outcome, Outcome::Unfinished, "{}", open.to_text());
    let report = site.resume(None, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert!(!toy.page_is_up());
}

/// A reboot may have taken it down, and the configuration may have none any more.
#[tokio::test]
async fn it_goes_up_again_as_it_went_up() {
    let toy = Toy::new();
    let site = toy.site_with_page_in(Some("page"));
    let dying = options().boundary(Arc::new(|boundary: &Boundary| {
        assert!(!boundary.record.starts_with("intent cut-over:"), "died");
        Ok(())
    }));
    let dead = AssertUnwindSafe(run_with(&site, PlanRequest::all(), dying)).catch_unwind();
    assert!(dead.await.is_err());
    let page = toy.path().join("page");
    std::fs::remove_file(&page).unwrap();
    let watching = options().boundary(Arc::new(move |boundary: &Boundary| {
        let swaps = boundary.record.starts_with("intent cut-over:");
        assert!(!swaps || page.exists(), "swapped while users are served");
        Ok(())
    }));
    let bare = toy.site_with_page_in(None);
    let report = bare.resume(None, watching).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert!(!toy.page_is_up());
}

/// That of the configuration proves nothing of a page elsewhere: one that stays up there is told until it is
/// down.
#[tokio::test]
async fn a_page_elsewhere_that_stays_up_is_told_until_it_is_down() {
    let toy = Toy::new();
    let id = unfinished(&toy.site_with_page_in(Some("page"))).await;
    let journal = toy.path().join("state/runs").join(id.as_str());
    let journal = journal.join("journal.jsonl");
    let exchange = |from: &str, to: &str| {
        let text = std::fs::read_to_string(&journal).unwrap();
        let mut other = String::new();
        for line in text.lines() {
            other += &match line.contains(r#""[maintenance]""#) {
                true => line.replace(from, to),
                false => line.to_owned(),
            };
            other += "\n";
        }
        assert_ne!(text, other);
        std::fs::write(&journal, other).unwrap();
    };
    let (kept, elsewhere) = (r#""kind":"toy""#, r#""kind":"lost","conf_dir":"/old""#);
    exchange(kept, elsewhere);
    let site = toy.site_with_page_in(Some("page"));
    let report = site.rollback(None, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    assert!(!toy.page_is_up());
    assert!(report.page_up && report.is_failing());
    let mut told = report.findings.iter();
    let told = told.find(|it| it.code == "run.page_up").unwrap();
    let file = "/old/00-restore-maintenance.conf";
    assert!(told.message.contains(file), "{told:?}");
    let refused = site.page(false).await.unwrap_err();
    assert!(refused.message().contains(file), "{refused}");
    // Somebody has seen to it.
    exchange(elsewhere, kept);
    site.page(false).await.unwrap();
    let report = site.report(Some(id)).await.unwrap();
    assert!(!report.page_up && !report.is_failing());
}

/// Of a run whose journal has nothing of its page, as older versions wrote it.
#[tokio::test]
async fn a_run_that_kept_nothing_of_its_page_is_refused_where_none_is_configured() {
    let toy = Toy::new();
    let site = toy.site_with_page();
    unfinished(&site).await;
    let bare = toy.site();
    for refused in [
        bare.rollback(None, options()).await,
        bare.resume(None, options()).await,
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), "run.no_way_back", "{refused}");
        assert!(refused.message().contains("[maintenance]"), "{refused}");
    }
    assert_eq!(
        bare.page(false).await.unwrap_err().code(),
        "maintenance.none"
    );
    assert!(toy.page_is_up());
    let report = bare.abandon(None, options()).await.unwrap();
    assert!(report.page_up && report.is_failing());
    site.page(false).await.unwrap();
    assert!(!toy.page_is_up());
}

#[tokio::test]
async fn a_page_that_does_not_come_down_is_told_and_not_forgotten() {
    let toy = Toy::new();
    let site = toy.site_with_page();
    unfinished(&site).await;
    toy.sabotage("", "page-off");
    let report = site.abandon(None, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Abandoned);
    assert!(report.is_failing() && report.page_up && report.down_since.is_some());
    assert!(
        report.headline().contains("page may still be up"),
        "{}",
        report.headline()
    );
    let next = report.next.join("\n");
    assert!(next.contains("restore page off"), "{next}");
    toy.mend("", "page-off");
    site.page(false).await.unwrap();
    assert!(!toy.page_is_up());
}

#[tokio::test]
async fn death_at_every_boundary_of_an_abandonment_is_mended_by_another() {
    for at in 0.. {
        let toy = Toy::new();
        let site = toy.site_with_page();
        let id = unfinished(&site).await;
        let died = AssertUnwindSafe(site.abandon(None, dying_at(at))).catch_unwind();
        if let Ok(ended) = died.await {
            assert_eq!(ended.unwrap().outcome, Outcome::Abandoned);
            assert!(at > 2, "only {at} boundaries");
            break;
        }
        if site.history().await.unwrap()[0].outcome != Outcome::Abandoned {
            let ended = site.abandon(None, options()).await.unwrap();
            assert_eq!(ended.outcome, Outcome::Abandoned, "death at {at}");
        }
        assert!(!toy.page_is_up(), "death at {at}");
        // Users may have been let in between, and have written.
        std::fs::write(toy.path().join("b/live"), "restored b, and used").unwrap();
        site.rollback(Some(id.clone()), options()).await.unwrap();
        assert!(toy.path().join(format!("b/staged-{id}")).exists());
    }
}

#[tokio::test]
async fn a_run_over_another_that_fails_before_its_downtime_leaves_the_other_its_ways() {
    for way in ["resume", "rollback", "abandon"] {
        let toy = Toy::new();
        let site = toy.site_with_page();
        let id = unfinished(&site).await;
        toy.sabotage("b", "stage");
        let released = || toy.platform.released.load(Ordering::Relaxed);
        let before = released();
        let request = PlanRequest::all().over(id.clone());
        let failed = run_with(&site, request, options()).await.unwrap();
        assert_eq!(failed.outcome, Outcome::Undone, "{}", failed.to_text());
        assert_eq!(released(), before, "the other's services stay down");
        let other = site.report(Some(id.clone())).await.unwrap();
        assert_eq!(other.outcome, Outcome::Unfinished, "{way}");
        assert!(other.down_since.is_some() && other.page_up);
        assert!(toy.page_is_up(), "{way}");
        let ended = match way {
            "resume" => site.resume(None, options()).await,
            "rollback" => site.rollback(None, options()).await,
            _ => site.abandon(None, options()).await,
        };
        assert_eq!(ended.unwrap().run, id, "{way}");
        assert!(!toy.page_is_up(), "{way}");
        assert!(released() > before, "{way}");
    }
}

/// Whatever it restores, and whether it shows a page or not: what the other had stopped runs, and
/// its page is gone.
#[tokio::test]
async fn a_run_over_another_ends_what_the_other_had_begun() {
    for (what, request) in [
        ("everything", PlanRequest::all()),
        ("without a page", PlanRequest::all().no_maintenance(true)),
        ("a alone", PlanRequest::all().only(["a"])),
    ] {
        let toy = Toy::new();
        let site = toy.site_with_page();
        let id = unfinished(&site).await;
        let report = run_with(&site, request.over(id.clone()), options())
            .await
            .unwrap();
        assert_eq!(report.outcome, Outcome::Restored, "{what}");
        assert_eq!(toy.live(), Toy::NEW, "{what}");
        assert!(!toy.page_is_up(), "{what}");
        let other = site.report(Some(id)).await.unwrap();
        assert_eq!(other.outcome, Outcome::Abandoned, "{what}");
        assert!(other.down_since.is_none() && !other.page_up, "{what}");
    }
}

#[tokio::test]
async fn a_run_over_another_that_fails_in_its_downtime_lets_users_in() {
    let toy = Toy::new();
    let site = toy.site_with_page();
    let id = unfinished(&site).await;
    toy.sabotage("b", "cut_over");
    let request = PlanRequest::all().over(id.clone());
    let failed = run_with(&site, request, options()).await.unwrap();
    assert_eq!(failed.outcome, Outcome::Undone, "{}", failed.to_text());
    assert!(!toy.page_is_up());
    // What the other had swapped is live, as it was when this one began.
    assert_eq!(toy.live(), Toy::NEW);
    toy.mend("b", "cut_over");
    site.rollback(Some(id), options()).await.unwrap();
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test]
async fn death_at_every_boundary_of_a_run_over_another_is_mended() {
    // At each boundary one of the ways on, another at the next.
    let sample = Sample::of_this_run();
    let first = sample.random().below(3);
    'boundaries: for at in 0.. {
        for (way, number) in ["resume", "rollback", "abandon"].into_iter().zip(0..) {
            if !sample.is_exhaustive() && (at as u64 + first) % 3 != number {
                continue;
            }
            let what = format!("{way} after death at {at}");
            let toy = Toy::new();
            let site = toy.site_with_page();
            let id = unfinished(&site).await;
            let request = PlanRequest::all().over(id.clone());
            let died = AssertUnwindSafe(run_with(&site, request, dying_at(at))).catch_unwind();
            if let Ok(ended) = died.await {
                assert_eq!(ended.unwrap().outcome, Outcome::Restored, "{what}");
                assert!(at > 25, "only {at} boundaries");
                break 'boundaries;
            }
            // Of the run that died, and where that has not ended the other, of the other.
            for _ in 0..2 {
                let open = |it: &restore_core::Report| {
                    matches!(it.outcome, Outcome::Unfinished | Outcome::Stuck)
                };
                if !site.history().await.unwrap().iter().any(open) {
                    break;
                }
                let ended = match way {
                    "resume" => site.resume(None, options()).await,
                    "rollback" => site.rollback(None, options()).await,
                    _ => site.abandon(None, options()).await,
                };
                ended.unwrap_or_else(|e| panic!("{what}: {e}"));
            }
            assert!(!toy.page_is_up(), "{what}");
            let live = toy.live();
            if way != "abandon" {
                assert!(live.ends_with(r#"{"app": 5, "db": 1}"#), "{what}: {live}");
            }
            let request = PlanRequest::all().over_unconfirmed(true);
            let next = run_with(&site, request, options()).await;
            let next = next.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(next.outcome, Outcome::Restored, "{what}");
            assert_eq!(toy.live(), Toy::NEW, "{what}");
        }
    }
}

/// A run that was abandoned may lie on top: what it swapped is live.
#[tokio::test]
async fn no_rollback_goes_past_an_abandoned_run_that_lies_on_top() {
    let toy = Toy::new();
    let site = toy.site_with_page();
    let first = run(&site).await.run;
    let dying = options().boundary(Arc::new(|boundary: &Boundary| {
        assert_ne!(boundary.record, "intent start:db", "died");
        Ok(())
    }));
    let request = PlanRequest::all().over_unconfirmed(true);
    let dead = AssertUnwindSafe(run_with(&site, request, dying)).catch_unwind();
    assert!(dead.await.is_err());
    let second = site.abandon(None, options()).await.unwrap().run;
    for refused in [
        site.rollback(None, options()).await,
        site.rollback(Some(first.clone()), options()).await,
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), "run.covered");
        let hint = refused.hint_text().unwrap();
        assert!(
            hint.contains(&format!("restore rollback {second}")),
            "{hint}"
        );
    }
    site.rollback(Some(second), options()).await.unwrap();
    assert_eq!(toy.live(), Toy::NEW);
    site.rollback(None, options()).await.unwrap();
    assert_eq!(toy.live(), Toy::OLD);
}
