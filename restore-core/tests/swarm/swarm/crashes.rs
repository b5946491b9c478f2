//! Killed, or failing, at the boundaries of a run that has every kind of step: resumed or rolled
//! back, the platform is one or the other, wholly.
//!
//! Each kind of boundary once and some of the rest; all of them with `RESTORE_TEST_EXHAUSTIVE=1`.
//! The tests of a kind share its cases, each on an engine of its own: others stop and start services
//! meanwhile.

use std::sync::Arc;
use std::time::Instant;

use restore_testing::{At, Sample, Share, boundaries};

use super::engine::Engine;
use super::small::Small;

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_boundaries_1_of_3_it_is_finished_or_taken_back() {
    killed(Share::new(1, 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_boundaries_2_of_3_it_is_finished_or_taken_back() {
    killed(Share::new(2, 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_boundaries_3_of_3_it_is_finished_or_taken_back() {
    killed(Share::new(3, 3)).await;
}

/// Resumed from the beginning of every step, and rolled back from the end of every one: between the
/// end of a step and the beginning of the next nothing happens, so that both are tried on all that
/// a kill can leave. Both for each fact, which lies inside an effect. To and fro between two states:
/// what one kill leads to is where the next begins.
async fn killed(share: Share) {
    let small = Small::new(Arc::new(Engine::new())).await;
    let mut at = 1;
    let counted = run_through(&small);
    at = 1 - at;
    small.is(&small.states[at].1, "without faults");
    small.confirm("without faults").await;
    small.no_secrets();

    let all = boundaries(&counted, &small.config());
    for kind in [
        "intent stage:compose",
        "intent stop:mini_metrics",
        "intent cut-over:metrics",
        "intent start:mini_metrics",
        "intent stop:mini_web",
        "intent stop:cron",
        "intent cut-over:data",
        "intent deploy:compose",
        "fact compose/deployed_over",
        "intent start:mini_web",
        "intent check:inside",
        "intent check:outside",
    ] {
        assert!(all.iter().any(|at| at.record == kind), "{kind}: {counted}");
    }
    let kills = all.iter().flat_map(|at| {
        let actions: &[&str] = match at.record.split_once(' ') {
            Some(("intent", _)) => &["resume"],
            Some(("done", _)) => &["rollback"],
            Some(("fact", _)) => &["resume", "rollback"],
            _ => &[],
        };
        actions.iter().map(move |action| (at, *action))
    });
    let kills: Vec<(&At, &str)> = kills.collect();
    assert!(kills.len() > 50, "{} boundaries: {counted}", kills.len());
    let kills = Sample::of_this_run().one_kind_of(3).choose(
        kills,
        |(at, action)| format!("{action} after {}", at.record),
        |(at, _)| step(&at.record),
        4,
        share,
    );
    for (boundary, action) in kills {
        let began = Instant::now();
        let (from, to) = (at, 1 - at);
        let record = boundary.record.as_str();
        small.crash("run", record, &small.states[to].0);
        let what = format!("{action} after a kill at {record}");
        let done = small.crash(action, "never", "latest");
        if action == "resume" {
            assert!(done.contains("outcome restored"), "{what}: {done}");
            at = to;
        } else {
            assert!(done.contains("outcome rolled back"), "{what}: {done}");
            at = from;
        }
        small.is(&small.states[at].1, &what);
        small.confirm(&what).await;
        println!("{what}: {:.1} s", began.elapsed().as_secs_f64());
    }
    small.no_secrets();
}

/// A failure before every effect, and at every fact, which lies inside one: nothing of the run is
/// left, whatever it had stopped, swapped or deployed by then.
#[tokio::test(flavor = "multi_thread")]
async fn failing_at_boundaries_it_is_taken_back() {
    let small = Small::new(Arc::new(Engine::new())).await;
    let counted = run_through(&small);
    let back = small.crash("rollback", "never", "latest");
    assert!(back.contains("outcome rolled back"), "{back}");
    small.confirm("rolled back").await;
    let mut all = boundaries(&counted, &small.config());
    all.retain(|at| at.record.starts_with("intent ") || at.record.starts_with("fact "));
    assert!(all.len() > 20, "{} boundaries: {counted}", all.len());
    let chosen = Sample::of_this_run().one_kind_of(3).choose(
        all,
        |at| format!("a failure at {}", at.record),
        |at| step(&at.record),
        2,
        Share::WHOLE,
    );
    for At { record, .. } in chosen {
        let began = Instant::now();
        let what = format!("a failure at {record}");
        let failed = small.crash("run", &format!("error:{record}"), &small.states[0].0);
        assert!(failed.contains("outcome undone"), "{what}: {failed}");
        assert!(failed.contains("an injected failure"), "{what}: {failed}");
        small.is(&small.states[1].1, &what);
        small.confirm(&what).await;
        println!("{what}: {:.1} s", began.elapsed().as_secs_f64());
    }
    small.no_secrets();
}

/// The way back of a restored run, killed on its way, killed soon again, and gone to its end.
#[tokio::test(flavor = "multi_thread")]
async fn killed_on_the_way_back_it_is_taken_back_all_the_same() {
    let small = Small::new(Arc::new(Engine::new())).await;
    run_through(&small);
    small.is(&small.states[0].1, "restored");
    let counted = small.crash("rollback", "never", "latest");
    assert!(counted.contains("outcome rolled back"), "{counted}");
    small.is(&small.states[1].1, "rolled back");
    small.confirm("rolled back").await;
    let all = boundaries(&counted, &small.config());
    let (_, all) = all.split_last().unwrap();
    // A deployment, an effect and the end of one; of the rest one or two.
    let named = [
        "intent undo:deploy:compose",
        "fact data/undone",
        "done undo:start:mini_web",
    ];
    for record in named {
        assert!(
            all.iter().any(|at| at.record == record),
            "{record}: {counted}"
        );
    }
    let kind = |at: &&At| match named.contains(&at.record.as_str()) {
        true => at.record.clone(),
        false => "another".to_owned(),
    };
    // Before that a way back has not begun to do anything.
    let kills = Sample::of_this_run().one_kind_of(3).choose(
        all.iter().skip(4),
        |at| format!("a way back killed at {}", at.record),
        kind,
        0,
        Share::WHOLE,
    );
    for At { record, .. } in kills {
        let began = Instant::now();
        let restored = small.crash("run", "never", &small.states[0].0);
        assert!(restored.contains("outcome restored"), "{restored}");
        let killed = small.crash("rollback", record, "latest");
        assert!(killed.trim_end().ends_with(record), "{record}: {killed}");
        // Near its end little is left that could be killed.
        let rolled = match small.crash_if_reached("rollback", "3", "latest") {
            (true, _) => small.crash("rollback", "never", "latest"),
            (false, ended) => ended,
        };
        assert!(rolled.contains("outcome rolled back"), "{record}: {rolled}");
        let what = format!("rolled back again after a kill at {record}");
        small.is(&small.states[1].1, &what);
        small.confirm(&what).await;
        println!("{what}: {:.1} s", began.elapsed().as_secs_f64());
    }
    small.no_secrets();
}

/// What a boundary is about, of whichever component: these are killed at all their own on the local
/// platform. Deployments are a matter of swarms.
fn step(record: &str) -> String {
    let step = record.split(':').next().unwrap_or_default();
    match record.contains("deployed_over") {
        true => record.to_owned(),
        false if step.starts_with("fact ") => "fact".to_owned(),
        false => step.to_owned(),
    }
}

/// Restored to the first of its states without a fault; what the example printed.
fn run_through(small: &Small) -> String {
    let counted = small.crash("run", "never", &small.states[0].0);
    assert!(counted.contains("outcome restored"), "{counted}");
    counted
}
