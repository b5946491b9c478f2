//! One handle for every long call: begun, followed by several, stopped, waited for; and what it tells.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use restore_core::backup::VerifyOptions;
use restore_core::plan::Phase;
use restore_core::run::{Boundary, CallState, Followed, Outcome, RunOptions};
use restore_core::{BackupRequest, ErrorKind, Event, FetchOptions, Run, RunId, Site};

use super::toy::Toy;
use crate::spans::Opened;

/// Options under which the run stands still at a record until it is told to go on.
fn waiting_at(record: &'static str) -> (RunOptions, std::sync::mpsc::Sender<()>) {
    let (go_on, wait) = std::sync::mpsc::channel();
    let wait = Mutex::new(wait);
    let options = RunOptions::new().boundary(Arc::new(move |boundary: &Boundary| {
        if boundary.record == record {
            let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(30));
        }
        Ok(())
    }));
    (options, go_on)
}

#[tokio::test]
async fn a_restore_is_one_line() {
    let toy = Toy::new();
    let site = toy.site();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    let report = site
        .plan("latest")
        .only(["a"])
        .events(move |event| {
            assert!(event.at.to_string().ends_with('Z'));
            seen.fetch_add(1, Ordering::Relaxed);
        })
        .run()
        .await
        .unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    assert_eq!(report.components.len(), 1);
    assert!(count.load(Ordering::Relaxed) > 10);
}

#[tokio::test]
async fn a_plan_is_awaited_and_printed() {
    let toy = Toy::new();
    let site = toy.site();
    let plan = site
        .plan("latest")
        .only(vec!["a".to_owned()])
        .await
        .unwrap();
    let text = plan.to_string();
    assert!(
        text.starts_with("Plan: restore backup 20240215-020000 into "),
        "{text}"
    );
    assert!(text.contains("stage a beside the live data"), "{text}");
    assert!(!text.ends_with('\n'));
    let nothing: [&str; 0] = [];
    let error = site.plan("latest").only(nothing).await.unwrap_err();
    assert_eq!(error.code(), "plan.nothing_selected");
    assert!(
        format!("{error:#}").contains("name at least one"),
        "{error:#}"
    );
    let drill = site.drill("latest").run().await.unwrap();
    assert_eq!(drill.outcome, Outcome::Drilled);
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test]
async fn several_follow_one_run_from_its_first_event() {
    let toy = Toy::new();
    let run = toy.site().plan("latest").run();
    assert_eq!((run.state(), run.id()), (CallState::NotBegun, None));
    run.start().unwrap();
    let follow = |mut events: restore_core::run::Events| async move {
        let mut all = Vec::new();
        while let Some(record) = events.next().await {
            all.push(record);
        }
        all
    };
    let (first, second) = tokio::join!(follow(run.events()), follow(run.events()));
    assert_eq!(first, second);
    // Whoever comes late hears the same.
    assert_eq!(follow(run.events()).await, first);
    let id = run.id().unwrap();
    assert!(matches!(&first[0].event, Event::RunStarted { run, .. } if *run == id.to_string()));
    assert!(matches!(
        &first.last().unwrap().event,
        Event::RunFinished { .. }
    ));
    assert!(first.iter().all(|it| it.run.as_ref() == Some(&id)));
    let phases: Vec<Option<Phase>> = first.iter().map(|it| it.phase).collect();
    for phase in [Phase::Before, Phase::Stage, Phase::CutOver] {
        assert!(phases.contains(&Some(phase)), "{phase:?} in {phases:?}");
    }
    assert_eq!(run.state(), CallState::Done);
    // What came of it is for all of them, as often as they ask.
    let again = run.clone();
    assert_eq!(run.result().unwrap().unwrap().run, id);
    assert_eq!(run.await.unwrap().run, id);
    assert_eq!(again.result().unwrap().unwrap().run, id);
    assert_eq!(again.await.unwrap().run, id);
}

/// One that was stopped tells each of them why, and what it has done.
#[tokio::test(flavor = "multi_thread")]
async fn all_who_follow_a_run_hear_how_it_failed() {
    let toy = Toy::new();
    let run = toy.site().plan("20200101-000000").run();
    assert!(run.result().is_none());
    let (first, second) = tokio::join!(run.clone(), run.clone());
    let third = run.result().unwrap();
    for ended in [first, second, third] {
        let error = ended.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.hint_text().is_some(), "{error:?}");
    }
    let (options, go_on) = waiting_at("intent cut-over:b");
    let run = toy.site().plan("latest").options(options).run();
    run.start().unwrap();
    let other = run.clone();
    let mut events = run.events();
    while let Some(record) = events.next().await {
        if matches!(&record.event, Event::StepFinished { step, .. } if step == "cut-over:a") {
            break;
        }
    }
    run.cancel();
    go_on.send(()).unwrap();
    let (first, second) = tokio::join!(run, other);
    for ended in [first, second] {
        let error = ended.unwrap_err();
        assert_eq!(error.report().unwrap().outcome, Outcome::Undone);
    }
}

#[tokio::test]
async fn progress_rises_to_the_whole() {
    let toy = Toy::new();
    let run = toy.site().plan("latest").run();
    run.start().unwrap();
    let mut progress = run.progress();
    let mut seen = Vec::new();
    while let Some(now) = progress.next().await {
        seen.push(now);
    }
    assert!(
        seen.windows(2).all(|it| it[0].fraction <= it[1].fraction),
        "{seen:?}"
    );
    let last = seen.last().unwrap();
    assert_eq!((last.fraction, last.left_seconds), (1.0, Some(0.0)));
    assert!(progress.next().await.is_none());
    // On a thread that may block, too.
    let mut late = run.progress();
    assert_eq!(late.wait(Duration::ZERO).unwrap().unwrap().fraction, 1.0);
    while let Ok(Some(_)) = late.wait(Duration::from_secs(5)) {}
    let mut events = run.events();
    assert!(matches!(events.wait(Duration::ZERO), Followed::Event(_)));
}

/// A call within a call: whoever wraps a run sees how far that is.
#[tokio::test]
async fn a_run_within_a_call_is_measured_by_its_plan() {
    let toy = Toy::new();
    toy.sabotage("b", "cut_over");
    let site = toy.site();
    let outer = Run::new(RunOptions::new(), |options| async move {
        site.plan("latest").options(options).run().await
    });
    outer.clone().await.unwrap_err();
    assert_eq!(outer.state(), CallState::Failed);
    // Half of the steps are done; by bytes alone it would be nothing, or as good as all.
    let fraction = outer.progress_now().fraction;
    assert!(fraction > 0.2 && fraction < 0.99, "{fraction}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_or_dropped_undoes_itself() {
    for dropped in [false, true] {
        let toy = Toy::new();
        let site = toy.site();
        let (options, go_on) = waiting_at("intent cut-over:b");
        let run = site.plan("latest").options(options).run();
        run.start().unwrap();
        let mut events = run.events();
        while let Some(record) = events.next().await {
            if matches!(&record.event, Event::StepFinished { step, .. } if step == "cut-over:a") {
                break;
            }
        }
        let id = run.id().unwrap();
        if dropped {
            drop(run);
            go_on.send(()).unwrap();
            // Whoever follows hears of its end all the same.
            let mut undone = false;
            while let Some(record) = events.next().await {
                undone |= record.phase == Some(Phase::Undo);
            }
            assert!(undone);
        } else {
            run.cancel();
            assert_eq!(run.state(), CallState::Stopping);
            go_on.send(()).unwrap();
            let error = run.await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Interrupted);
        }
        assert_eq!(toy.live(), Toy::OLD);
        assert_eq!(
            site.report(Some(id)).await.unwrap().outcome,
            Outcome::Undone
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_gets_the_lock_when_it_is_free() {
    let toy = Toy::new();
    let site = toy.site();
    let (options, go_on) = waiting_at("intent cut-over:b");
    let first = site.plan("latest").options(options).run();
    first.start().unwrap();
    let mut events = first.events();
    while let Some(record) = events.next().await {
        if matches!(&record.event, Event::StepFinished { step, .. } if step == "cut-over:a") {
            break;
        }
    }
    let error = site
        .begin()
        .back_up(BackupRequest::all())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let short = site.begin().wait(Duration::from_millis(300)).rollback(None);
    assert_eq!(short.await.unwrap_err().kind(), ErrorKind::Locked);

    let second = site.begin().wait_seconds(60).rollback(None);
    second.start().unwrap();
    let mut told = second.events();
    let waiting = told.next().await.unwrap();
    assert!(
        matches!(&waiting.event, Event::Finding { finding } if finding.code == "site.locked"),
        "{waiting:?}"
    );
    // To stop waiting touches nothing.
    let third = site.begin().wait(Duration::MAX).confirm(None);
    third.start().unwrap();
    third.cancel();
    assert_eq!(third.await.unwrap_err().kind(), ErrorKind::Interrupted);
    go_on.send(()).unwrap();
    assert_eq!(first.await.unwrap().outcome, Outcome::Restored);
    assert_eq!(second.await.unwrap().outcome, Outcome::RolledBack);
    assert_eq!(toy.live(), Toy::OLD);
}

#[tokio::test(flavor = "multi_thread")]
async fn for_ever_is_as_long_as_it_takes() {
    let toy = Toy::new();
    let run = toy.site().plan("latest").wait(Duration::MAX).run();
    run.start().unwrap();
    let mut events = run.events();
    while let Followed::Event(_) = events.wait(Duration::MAX) {}
    assert_eq!(run.await.unwrap().outcome, Outcome::Restored);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_s_run_is_followed_by_its_journal() {
    let toy = Toy::new();
    let (options, go_on) = waiting_at("intent cut-over:b");
    let run = toy.site().plan("latest").options(options).run();
    run.start().unwrap();
    let id = loop {
        match run.id() {
            Some(id) => break id,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    // As another process would: by nothing but the state directory.
    let other: Site = toy.site();
    let attached = other.attach(Some(id.clone()));
    attached.start().unwrap();
    let mut events = attached.events();
    let mut steps = Vec::new();
    while let Some(record) = events.next().await {
        if let Event::StepFinished { step, .. } = &record.event {
            steps.push(step.clone());
            if step == "cut-over:a" {
                break;
            }
        }
    }
    assert!(steps.contains(&"stage:b".to_owned()), "{steps:?}");
    let fraction = attached.progress_now().fraction;
    assert!(fraction > 0.2 && fraction < 1.0, "{fraction}");
    assert_eq!(attached.id(), Some(id.clone()));
    // To stop following does not stop the run.
    let second = other.attach(Some(id.clone()));
    second.start().unwrap();
    second.cancel();
    assert_eq!(second.await.unwrap_err().kind(), ErrorKind::Interrupted);
    go_on.send(()).unwrap();
    assert_eq!(attached.await.unwrap().outcome, Outcome::Restored);
    assert_eq!(run.await.unwrap().run, id);
    let unknown: RunId = "20200101-000000-aaaa".parse().unwrap();
    let error = other.attach(Some(unknown)).await.unwrap_err();
    assert_eq!(error.code(), "run.unknown");
}

/// `site.attach(id).await?; println!("restored")` says so of no other run.
#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_run_that_failed_gets_its_error() {
    let toy = Toy::new();
    let site = toy.site();
    toy.sabotage("b", "cut_over");
    let error = site.plan("latest").run().await.unwrap_err();
    let id = error.report().unwrap().run.clone();
    // As another process would: by nothing but the state directory.
    let attached = toy.site().attach(Some(id.clone()));
    let followed = attached.clone().await.unwrap_err();
    assert_eq!(followed.report().unwrap().outcome, Outcome::Undone);
    assert_eq!(
        (followed.kind(), followed.code(), followed.component()),
        (error.kind(), error.code(), Some("b"))
    );
    assert_eq!(attached.state(), CallState::Failed);
    let fraction = attached.progress_now().fraction;
    assert!(fraction > 0.0 && fraction < 1.0, "{fraction}");
    // Whoever shows reports gets it as it is.
    let shown = site.watch(Some(id), &RunOptions::new()).await.unwrap();
    assert_eq!(shown.outcome, Outcome::Undone);

    // Nobody is at work on one that is stuck, and it has not ended as asked either.
    toy.sabotage("a", "undo");
    let stuck = site.plan("latest").over_unconfirmed().run().await;
    let stuck = stuck.unwrap_err();
    let id = stuck.report().unwrap().run.clone();
    let followed = toy.site().attach(Some(id.clone())).await.unwrap_err();
    assert_eq!(followed.kind(), ErrorKind::Stuck);
    assert_eq!(followed.report().unwrap().run, id);

    // To be rolled back is what somebody asked for.
    toy.mend("a", "undo");
    toy.mend("b", "cut_over");
    let back = site.rollback(Some(id), RunOptions::new()).await.unwrap();
    assert!(back.is_as_before());
    let again = site.plan("latest").over_unconfirmed().run().await.unwrap();
    let back = site.rollback(Some(again.run), RunOptions::new()).await;
    let id = back.unwrap().run;
    let followed = toy.site().attach(Some(id)).await.unwrap();
    assert_eq!(followed.outcome, Outcome::RolledBack);
}

#[tokio::test]
async fn every_long_call_has_the_same_handle() {
    let toy = Toy::new();
    let site = toy.site();
    let made = site.begin().back_up(BackupRequest::all()).await.unwrap();
    let verified = site.begin().verify(&made.id, VerifyOptions::default());
    let verified = verified.await.unwrap().into_result().unwrap();
    assert_eq!(verified.id, made.id);
    let fetched = site.begin().fetch("latest", FetchOptions::new());
    assert!(fetched.await.unwrap().already_there);
    let brought = site.begin().bring(made.id.as_str(), FetchOptions::new());
    let (brought, report) = brought.await.unwrap();
    assert_eq!((brought.id(), report), (&made.id, None));
    let plan = site.plan("20240215-020000").await.unwrap();
    let report = site.begin().run(plan).await.unwrap();
    let back = site.begin().rollback(Some(report.run)).await.unwrap();
    let confirmed = site.begin().confirm(Some(back.run)).await.unwrap();
    assert!(confirmed.confirmed);
    let nothing = site.begin().resume(None).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::NotFound);
    let nothing = site.begin().abandon(None).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::NotFound);
}

/// Whether there is an event in a span that begins so which says this, and how long it took.
fn ended(events: &[String], span: &str, how: &str) -> bool {
    let begins = format!("in {span}");
    let mut of_it = events.iter().filter(|event| event.starts_with(&begins));
    of_it.any(|event| event.contains(how) && event.contains(" ms="))
}

#[tokio::test]
async fn each_step_program_and_request_is_a_span() {
    let opened = Opened::default();
    let _guard = opened.here();
    let toy = Toy::new();
    // Nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let site = toy.site_with_hooks(&format!(
        "[hooks.tell]\nkind = 'command'\nwhen = ['on-success']\ncommand = ['/bin/sh', '-c', 'true s3cr3t']\n\
         [hooks.chat]\nkind = 'webhook'\nwhen = ['on-success']\nurl = 'http://127.0.0.1:{port}/s3cr3t'\n"
    ));
    assert_eq!(super::run(&site).await.outcome, Outcome::Restored);
    let spans = opened.all();
    for step in ["stage:a", "cut-over:b", "check:inside"] {
        let (phase, subject) = step.split_once(':').unwrap();
        let wanted = format!("step step={step:?} phase={phase:?} subject={subject:?}");
        assert!(spans.contains(&wanted), "{wanted} in {spans:?}");
        assert!(ended(&spans, &wanted, "message=done"), "{spans:?}");
    }
    let asked = format!("request method=\"POST\" address=\"127.0.0.1\" port={port}");
    assert!(spans.contains(&asked), "{asked} in {spans:?}");
    assert!(ended(&spans, &asked, "message=over"), "{spans:?}");
    let program = "program name=\"/bin/sh\" pid=";
    let started = spans.iter().any(|span| span.starts_with(program));
    assert!(started, "{program} in {spans:?}");
    assert!(ended(&spans, program, "code=0"), "{spans:?}");
    let told = spans.iter().find(|span| span.contains("s3cr3t"));
    assert_eq!(told, None, "arguments and paths are nobody's business");
}

/// Its downtime would not end.
#[tokio::test]
async fn a_watcher_that_panics_keeps_no_run_from_its_end() {
    let toy = Toy::new();
    let site = toy.site();
    let told = Arc::new(AtomicUsize::new(0));
    let (first, second) = (told.clone(), told.clone());
    let report = site
        .begin()
        .events(|event| {
            let cut_over =
                matches!(&event.event, Event::StepStarted { step, .. } if step == "cut-over:a");
            assert!(!cut_over, "nobody listens any more");
        })
        .events(move |_| {
            first.fetch_add(1, Ordering::Relaxed);
        })
        .plan("latest")
        .run()
        .await
        .unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    assert!(told.load(Ordering::Relaxed) > 10, "the others hear on");
    site.confirm(None, RunOptions::new()).await.unwrap();
    // Nor one that no handle stands between.
    let options = RunOptions::new().events(Arc::new(move |_: &Event| {
        assert_eq!(second.swap(0, Ordering::Relaxed), usize::MAX, "at once");
    }));
    let backup = site.backup("latest").await.unwrap();
    let request = restore_core::PlanRequest::all();
    let plan = site.plan_with(&backup, request, &RunOptions::new()).await;
    let report = site.run(plan.unwrap(), options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    assert_eq!(told.load(Ordering::Relaxed), 0, "it was told");
}

/// Also while the parts of the safety backup are told beside it.
#[tokio::test]
async fn the_part_of_the_run_is_known_all_the_time() {
    let toy = Toy::new();
    let run = toy.site().plan("latest").run();
    run.start().unwrap();
    let mut events = run.events();
    let mut phases = Vec::new();
    while let Some(record) = events.next().await {
        phases.push((record.phase, record.event.clone()));
    }
    let known = phases.iter().position(|it| it.0.is_some()).unwrap();
    let lost = phases[known..].iter().find(|it| it.0.is_none());
    assert_eq!(lost, None);
}

/// One drill a night for years does not make each plan read more and more.
#[tokio::test]
async fn the_oldest_drills_are_forgotten() {
    let toy = Toy::new();
    let site = toy.site();
    let first = site.drill("latest").run().await.unwrap().run.to_string();
    let runs = toy.path().join("state/runs");
    let names = || {
        let entries = std::fs::read_dir(&runs).unwrap();
        let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let id = |n: usize| format!("20200101-000000-{n:04x}");
    for n in 0..205 {
        let copy = runs.join(id(n));
        std::fs::create_dir(&copy).unwrap();
        let mode = std::fs::metadata(runs.join(&first)).unwrap().permissions();
        std::fs::set_permissions(&copy, mode).unwrap();
        for name in ["journal.jsonl", "report.json"] {
            let (from, to) = (runs.join(&first).join(name), copy.join(name));
            std::fs::copy(&from, &to).unwrap();
            let text = std::fs::read_to_string(&from).unwrap();
            std::fs::write(&to, text.replace(&first, &id(n))).unwrap();
        }
    }
    let last = site.drill("latest").run().await.unwrap().run.to_string();
    let left = names();
    assert_eq!(left.len(), 201, "{left:?}");
    for (run, known) in [
        (&id(5), false),
        (&id(6), true),
        (&first, true),
        (&last, true),
    ] {
        assert_eq!(left.contains(run), known, "{run}");
    }
    assert_eq!(site.history().await.unwrap().len(), 201);
}
