//! Errors and cancellation: the run ends as before, or stuck and saying so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use restore_core::platform::Program;
use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_core::{Error, ErrorKind, Event, PlanRequest};
use tokio_util::sync::CancellationToken;

use super::toy::Toy;
use super::{boundaries, run, run_with};

#[tokio::test]
async fn an_error_at_every_boundary_undoes_the_run() {
    let boundaries = boundaries().await;
    // The first boundary is before the run proper, the last after its end.
    for at in 2..boundaries - 1 {
        let toy = Toy::new();
        let options = RunOptions::new().boundary(Arc::new(move |boundary: &Boundary| {
            if boundary.index == at {
                return Err(Error::new(ErrorKind::Failed, "test.injected", "injected"));
            }
            Ok(())
        }));
        let report = run_with(&toy.site(), PlanRequest::all(), options)
            .await
            .unwrap();
        assert_eq!(report.outcome, Outcome::Undone, "boundary {at}");
        assert_eq!(report.error().unwrap().kind(), ErrorKind::Failed);
        assert_eq!(toy.live(), Toy::OLD, "boundary {at}");
        assert!(report.failure.is_some());
    }
}

/// A failed check is a failed run, before anybody is let in.
#[tokio::test]
async fn each_failure_ends_as_before_and_leaves_nothing() {
    for (component, method) in [
        ("b", "stage"),
        ("a", "cut_over"),
        ("b", "cut_over"),
        ("b", "check"),
    ] {
        let toy = Toy::new();
        toy.sabotage(component, method);
        let report = run(&toy.site()).await;
        assert_eq!(report.outcome, Outcome::Undone, "{component} {method}");
        assert_eq!(toy.live(), Toy::OLD, "{component} {method}");
        toy.mend(component, method);
        if method == "check" {
            // There is no maintenance page here: once services were started, users may have
            // written, and what they wrote is put aside until confirmed.
            assert_eq!(toy.leftovers().len(), 2);
            toy.site().confirm(None, RunOptions::new()).await.unwrap();
        }
        assert_eq!(
            toy.leftovers(),
            Vec::<String>::new(),
            "{component} {method}"
        );
        let error = report.error().unwrap();
        assert!(
            error.to_string().starts_with(&format!("{component}: ")),
            "{error}"
        );
        // A program asks for these instead.
        assert_eq!(error.component(), Some(component), "{error}");
        assert_eq!(error.code(), report.failure.as_ref().unwrap().code);
        assert_ne!(error.code(), "run.failed");
        let prefix = format!("{component}: ");
        assert_eq!(error.to_string().matches(&prefix).count(), 1, "{error}");
    }
}

/// What a component could not take back is in the report too, which is read by who did not watch.
#[tokio::test]
async fn what_a_component_warns_of_on_the_way_is_reported_once() {
    let toy = Toy::new();
    toy.sabotage("b", "cut_over");
    toy.sabotage("b", "undo");
    std::fs::write(toy.path().join("b/notice-undo"), "").unwrap();
    let report = run(&toy.site()).await;
    assert_eq!(report.outcome, Outcome::Stuck);
    toy.mend("b", "undo");
    // Undone again, and warned of again.
    let report = toy.site().rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    let told = report.findings.iter().filter(|it| it.code == "toy.noticed");
    assert_eq!(told.count(), 1, "{:?}", report.findings);
    assert!(report.to_text().contains("left undone"));
}

#[tokio::test]
async fn a_service_that_does_not_start_turns_the_run_back() {
    let toy = Toy::new();
    let site = toy.site();
    let platform = toy.platform.clone();
    // It refuses until the old data is back, as a server does that cannot read the restored data.
    *platform.refuse_to_start.lock().unwrap() = Some("db".to_owned());
    let mend = toy.platform.clone();
    let options = RunOptions::new().events(Arc::new(move |event: &Event| {
        if matches!(event, Event::StepFinished { step, .. } if step == "undo:cut-over:a") {
            *mend.refuse_to_start.lock().unwrap() = None;
        }
    }));
    let report = run_with(&site, PlanRequest::all(), options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.failure.as_ref().unwrap().step, "start:db");
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test]
async fn a_failed_undo_is_stuck_and_says_so_until_it_is_mended() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("b", "cut_over");
    toy.sabotage("a", "undo");
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Stuck);
    assert_eq!(report.error().unwrap().kind(), ErrorKind::Stuck);
    assert_eq!(report.stuck.as_ref().unwrap().step, "undo:cut-over:a");
    let text = report.to_text();
    assert!(
        text.contains("STUCK") && text.contains("undo fails"),
        "{text}"
    );
    assert!(
        text.contains(&format!("restore rollback {}", report.run)),
        "{text}"
    );
    assert!(
        text.contains(&toy.path().join("a").display().to_string()),
        "{text}"
    );

    let refused = run_with(&site, PlanRequest::all(), RunOptions::new())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Preflight);
    assert!(refused.to_string().contains("stuck"), "{refused}");

    toy.mend("a", "undo");
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert!(report.is_as_before());
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test]
async fn cancelling_undoes_and_says_interrupted() {
    let toy = Toy::new();
    toy.sabotage("b", "slow");
    let cancel = CancellationToken::new();
    let trigger = cancel.clone();
    let options = RunOptions::new()
        .cancelled_by(cancel)
        .events(Arc::new(move |event: &Event| {
            if matches!(event, Event::StepFinished { step, .. } if step == "stage:a") {
                trigger.cancel();
            }
        }));
    let site = toy.site();
    let running = run_with(&site, PlanRequest::all(), options);
    let report = tokio::time::timeout(Duration::from_secs(10), running)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.error().unwrap().kind(), ErrorKind::Interrupted);
    assert_eq!(toy.live(), Toy::OLD);

    // In the bracket it is undone too.
    let toy = Toy::new();
    let cancel = CancellationToken::new();
    let trigger = cancel.clone();
    let options = RunOptions::new()
        .cancelled_by(cancel)
        .events(Arc::new(move |event: &Event| {
            if matches!(event, Event::StepFinished { step, .. } if step == "cut-over:a") {
                trigger.cancel();
            }
        }));
    let report = run_with(&toy.site(), PlanRequest::all(), options)
        .await
        .unwrap();
    assert_eq!(report.error().unwrap().kind(), ErrorKind::Interrupted);
    assert_eq!(toy.live(), Toy::OLD);
}

/// `site.run(…).await?; println!("restored")` says so of nothing else.
#[tokio::test]
async fn what_did_not_restore_is_an_error_with_the_report_inside() {
    let toy = Toy::new();
    let site = toy.site();
    let restoring = async || {
        let backup = site.backup("latest").await?;
        let request = PlanRequest::all();
        let plan = site.plan_with(&backup, request, &RunOptions::new()).await?;
        site.run(plan, RunOptions::new()).await
    };
    toy.sabotage("b", "stage");
    let error = restoring().await.unwrap_err();
    let report = error.report().unwrap();
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(error.component(), Some("b"));
    assert_eq!(error.code(), report.failure.as_ref().unwrap().code);
    assert!(size_of::<Error>() <= 16, "{}", size_of::<Error>());
    let short = format!("{error:?}");
    assert!(short.contains("the platform is as it was"), "{short}");
    assert!(!short.contains("checks_before"), "{short}");
    toy.mend("b", "stage");

    // Stuck: also for a resumption and a rollback that do not get it out of there.
    toy.sabotage("b", "cut_over");
    toy.sabotage("a", "undo");
    let stuck = restoring().await.unwrap_err();
    assert_eq!(stuck.kind(), ErrorKind::Stuck);
    let id = stuck.report().unwrap().run.clone();
    for again in [
        site.resume(None, RunOptions::new()).await,
        site.rollback(None, RunOptions::new()).await,
    ] {
        let error = again.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stuck);
        assert_eq!(error.report().unwrap().run, id);
    }
    // What is refused has none: no run was begun.
    let refused = restoring().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Preflight);
    assert!(refused.report().is_none());
    assert!(refused.into_report().is_err());

    // Ended by hand, and taken back at last: that is what was asked for.
    let report = site.abandon(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Abandoned);
    toy.mend("a", "undo");
    toy.mend("b", "cut_over");
    let report = site.rollback(Some(id), RunOptions::new()).await.unwrap();
    assert!(report.is_as_before(), "{}", report.to_text());
    assert_eq!(
        report.headline(),
        "Rolled back; the platform is as it was before the restore, which had failed"
    );
    site.confirm(None, RunOptions::new()).await.unwrap();
    assert_eq!(restoring().await.unwrap().outcome, Outcome::Restored);
}

/// `docker stop` and `systemctl stop` leave nobody on the page.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_undoes_the_run() {
    use rustix::process::{Signal, getpid, kill_process};

    for signal in [Signal::TERM, Signal::QUIT] {
        let toy = Toy::new();
        let stop = restore_core::stop_on_signals().unwrap();
        let told = stop.clone();
        let options =
            RunOptions::new()
                .cancelled_by(stop)
                .events(Arc::new(move |event: &Event| {
                    if matches!(event, Event::StepFinished { step, .. } if step == "cut-over:a") {
                        kill_process(getpid(), signal).unwrap();
                        // Another thread hears of it, and a toy's run takes no time.
                        let deadline = std::time::Instant::now() + Duration::from_secs(10);
                        while !told.is_cancelled() && std::time::Instant::now() < deadline {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                }));
        let report = run_with(&toy.site(), PlanRequest::all(), options)
            .await
            .unwrap();
        assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
        assert_eq!(report.error().unwrap().kind(), ErrorKind::Interrupted);
        assert_eq!(toy.live(), Toy::OLD);
    }
}

/// Whoever follows events and not the call learns that it is over.
#[tokio::test]
async fn a_confirmation_ends_with_an_event() {
    let toy = Toy::new();
    let site = toy.site();
    let run = run(&site).await.run;
    let last = Arc::new(Mutex::new(None));
    let seen = last.clone();
    let options = RunOptions::new().events(Arc::new(move |event: &Event| {
        *seen.lock().unwrap() = Some(event.clone());
    }));
    site.confirm(None, options).await.unwrap();
    let ends = |event: &Option<Event>| {
        matches!(event, Some(Event::RunFinished { run: ended, outcome, .. })
            if *ended == run.to_string() && outcome == "confirmed")
    };
    let told = last.lock().unwrap().take();
    assert!(ends(&told), "{told:?}");
    // And by the journal, for whoever watches another process.
    let seen = last.clone();
    let options = RunOptions::new().events(Arc::new(move |event: &Event| {
        *seen.lock().unwrap() = Some(event.clone());
    }));
    let _ = site.watch(Some(run.clone()), &options).await.unwrap();
    let told = last.lock().unwrap().take();
    assert!(ends(&told), "{told:?}");
}

/// A proof that fails does not leave another one at work beside the undo.
#[tokio::test]
async fn proofs_are_made_to_their_end() {
    let toy = Toy::new();
    toy.sabotage("a", "check");
    toy.sabotage("b", "slow_check");
    let report = run(&toy.site()).await;
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    assert_eq!(toy.live(), Toy::OLD);
    assert!(!toy.path().join("b/looking").exists());
}

/// The decision to turn back is durable as soon as it is taken: whoever takes the run up after a
/// crash goes the same way.
#[tokio::test]
async fn a_wish_to_stop_outlives_the_process() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("b", "slow_cut_over");
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let options = RunOptions::new()
        .cancelled_by(cancel)
        .events(Arc::new(move |event: &Event| {
            if matches!(event, Event::StepStarted { step, .. } if step == "cut-over:b") {
                stop.cancel();
            }
        }))
        .boundary(Arc::new(|boundary: &Boundary| {
            assert!(
                boundary.record != "turned back",
                "died at {}",
                boundary.record
            );
            Ok(())
        }));
    let backup = site.backup("latest").await.unwrap();
    let plan = site
        .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap();
    let died = tokio::spawn({
        let site = toy.site();
        async move { site.run(plan, options).await.map(drop) }
    });
    assert!(died.await.unwrap_err().is_panic(), "the process lived on");
    toy.mend("b", "slow_cut_over");
    let error = site.resume(None, RunOptions::new()).await.unwrap_err();
    let report = error.into_report().unwrap();
    assert_eq!(report.outcome, Outcome::Undone);
    let failure = report.failure.unwrap();
    assert_eq!(failure.kind, ErrorKind::Interrupted);
    assert_eq!(failure.step, "cut-over:b");
    assert_eq!(toy.live(), Toy::OLD);
}

/// It is not stopped by the run, and nobody else starts it: without it nothing could be moved back.
#[tokio::test]
async fn a_server_that_died_in_the_run_is_started_for_the_undo() {
    let toy = Toy::new();
    let site = toy.site_with_needs();
    let platform = toy.platform.clone();
    let options = RunOptions::new().boundary(Arc::new(move |boundary: &Boundary| {
        if boundary.record == "intent cut-over:b" {
            let mut services = platform.services.lock().unwrap();
            services.insert("watch".to_owned(), 0);
        }
        Ok(())
    }));
    toy.sabotage("b", "cut_over");
    let began = std::time::Instant::now();
    let report = run_with(&site, PlanRequest::all(), options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    assert!(toy.live().starts_with(r#"Some("old a") Some("old b")"#));
    // It is started, not asked until patience ends.
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// A socket, a log or a pid file that is not there is no program that is gone; and what runs keeps its data
/// where it is.
#[tokio::test]
async fn data_is_not_moved_back_under_a_service_that_does_not_stop() {
    let toy = Toy::new();
    let site = toy.site();
    let gone = |name: &str| toy.path().join(name).display().to_string();
    let calls = [
        vec!["/bin/sh".to_owned(), gone("run/app.sock")],
        vec![gone("ctl"), "status".to_owned()],
    ];
    toy.sabotage("b", "check");
    let platform = toy.platform.clone();
    let options = RunOptions::new().events(Arc::new(move |event: &Event| {
        if matches!(event, Event::StepFailed { step, .. } if step == "check:inside") {
            *platform.refuse_to_stop.lock().unwrap() = Some("app".to_owned());
            let calls = calls.iter().filter_map(|it| Program::of("app", None, it));
            *platform.programs.lock().unwrap() = calls.collect();
        }
    }));
    let report = run_with(&site, PlanRequest::all(), options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Stuck, "{}", report.to_text());
    assert_eq!(report.stuck.unwrap().step, "undo:stop:app");
    let now = toy.live();
    assert!(
        now.contains("restored a") && now.contains("restored b"),
        "{now}"
    );
    *toy.platform.refuse_to_stop.lock().unwrap() = None;
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert!(report.is_as_before(), "{}", report.to_text());
    assert_eq!(toy.live(), Toy::OLD);
}

/// What a service was about to write when it was killed is lost. That it was is a value: what a platform says
/// of a service for people may begin with any word.
#[tokio::test]
async fn a_service_that_was_killed_is_told_of_whatever_its_detail_says() {
    for (detail, killed) in [
        ("killed in traffic", None),
        ("down", Some("it did not end within 1s")),
    ] {
        let toy = Toy::new();
        let why = killed.map(str::to_owned);
        *toy.platform.stopped.lock().unwrap() = Some((detail.to_owned(), why));
        let report = run(&toy.site()).await;
        assert_eq!(report.outcome, Outcome::Restored);
        let told = report.findings.iter();
        let told: Vec<(&str, &str)> = told
            .filter(|it| it.code == "service.killed")
            .map(|it| (it.subject.as_str(), it.message.as_str()))
            .collect();
        let wanted = killed.map(|_| ("app", "killed: it did not end within 1s"));
        assert_eq!(told, Vec::from_iter(wanted), "{detail}");
    }
}

/// What users have written into the restored data is kept with it. A service that is killed while that is moved back
/// has not written all of it, whether the run turns back by itself or is rolled back later.
#[tokio::test]
async fn a_service_that_is_killed_on_the_way_back_is_told_of() {
    let told = |report: &restore_core::Report| -> Vec<String> {
        let told = report.findings.iter();
        let told = told.filter(|it| it.code == "service.killed");
        told.map(restore_core::Finding::line).collect()
    };
    let killed = || {
        Some((
            "down".to_owned(),
            Some("it did not end within 1s".to_owned()),
        ))
    };
    let back = ["app: killed on the way back: it did not end within 1s"];
    let toy = Toy::new();
    let site = toy.site();
    assert_eq!(told(&run(&site).await), [""; 0]);
    *toy.platform.stopped.lock().unwrap() = killed();
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert_eq!(told(&report), back);
    assert_eq!(toy.live(), Toy::OLD);

    // An undo: the services are up again when a check fails.
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("b", "check");
    let platform = toy.platform.clone();
    let options = RunOptions::new().events(Arc::new(move |event: &Event| {
        if matches!(event, Event::StepFinished { step, .. } if step == "start:app") {
            *platform.stopped.lock().unwrap() = killed();
        }
    }));
    let report = run_with(&site, PlanRequest::all(), options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(told(&report), back);

    // Killed once and not started since: told once.
    let toy = Toy::new();
    toy.sabotage("a", "cut_over");
    *toy.platform.stopped.lock().unwrap() = killed();
    let report = run(&toy.site()).await;
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(told(&report), ["app: killed: it did not end within 1s"]);
}
