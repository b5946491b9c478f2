//! Killed at the boundaries of a run that has every kind of step: resumed or rolled back, the
//! platform is one or the other, wholly.

use std::time::Instant;

use crate::engine::Engine;
use crate::small::Small;

/// Resumed from the beginning of every step, and rolled back from the end of every one: between the
/// end of a step and the beginning of the next nothing happens, so that both are tried on all that
/// a kill can leave. Both for each fact, which lies inside an effect. To and fro between two states:
/// what one kill leads to is where the next begins.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_boundary_it_is_finished_or_taken_back() {
    // An engine of its own: others stop and start services meanwhile.
    let small = Small::new(std::sync::Arc::new(Engine::new())).await;
    let mut at = 1;
    let counted = small.crash("run", "never", &small.states[0].0);
    assert!(counted.contains("outcome restored"), "{counted}");
    at = 1 - at;
    small.is(&small.states[at].1, "without faults");
    small.confirm("without faults").await;
    small.no_secrets();

    let boundaries: Vec<(usize, &str)> = boundaries(&counted).collect();
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
        assert!(
            boundaries.iter().any(|(_, record)| *record == kind),
            "{kind}: {counted}"
        );
    }
    let mut tried = 0;
    let kills = boundaries.iter().flat_map(|(index, record)| {
        let actions: &[&str] = match record.split_once(' ') {
            Some(("intent", _)) => &["resume"],
            Some(("done", _)) => &["rollback"],
            Some(("fact", _)) => &["resume", "rollback"],
            _ => &[],
        };
        actions.iter().map(move |action| (index, record, *action))
    });
    for (index, record, action) in kills {
        tried += 1;
        let began = Instant::now();
        let (from, to) = (at, 1 - at);
        small.crash("run", &index.to_string(), &small.states[to].0);
        let what = format!("{action} after a kill at {index} {record}");
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
    assert!(tried > 50, "{tried} boundaries: {counted}");
    small.no_secrets();
}

/// A failure before every effect, and at every fact, which lies inside one: nothing of the run is
/// left, whatever it had stopped, swapped or deployed by then. And a way back that is killed.
#[tokio::test(flavor = "multi_thread")]
async fn failing_at_every_boundary_it_is_taken_back() {
    let small = Small::new(std::sync::Arc::new(Engine::new())).await;
    let counted = small.crash("run", "never", &small.states[0].0);
    assert!(counted.contains("outcome restored"), "{counted}");
    killed_on_the_way_back(&small).await;
    let mut tried = 0;
    for (index, record) in boundaries(&counted) {
        if !record.starts_with("intent ") && !record.starts_with("fact ") {
            continue;
        }
        tried += 1;
        let began = Instant::now();
        let what = format!("a failure at {index} {record}");
        let failed = small.crash("run", &format!("error:{index}"), &small.states[0].0);
        assert!(failed.contains("outcome undone"), "{what}: {failed}");
        assert!(failed.contains("an injected failure"), "{what}: {failed}");
        small.is(&small.states[1].1, &what);
        small.confirm(&what).await;
        println!("{what}: {:.1} s", began.elapsed().as_secs_f64());
    }
    assert!(tried > 20, "{tried} boundaries: {counted}");
    small.no_secrets();
}

/// The way back of a restored run, killed on its way, killed soon again, and gone to its end.
async fn killed_on_the_way_back(small: &Small) {
    small.is(&small.states[0].1, "restored");
    let counted = small.crash("rollback", "never", "latest");
    assert!(counted.contains("outcome rolled back"), "{counted}");
    small.is(&small.states[1].1, "rolled back");
    small.confirm("rolled back").await;
    for record in [
        "intent undo:deploy:compose",
        "fact data/undone",
        "done undo:start:mini_web",
    ] {
        let began = Instant::now();
        let found = boundaries(&counted).find(|(_, it)| *it == record);
        let (index, _) = found.unwrap_or_else(|| panic!("{record}: {counted}"));
        let restored = small.crash("run", "never", &small.states[0].0);
        assert!(restored.contains("outcome restored"), "{restored}");
        let killed = small.crash("rollback", &index.to_string(), "latest");
        assert!(killed.trim_end().ends_with(record), "{record}: {killed}");
        small.crash("rollback", "3", "latest");
        let rolled = small.crash("rollback", "never", "latest");
        assert!(rolled.contains("outcome rolled back"), "{record}: {rolled}");
        let what = format!("rolled back again after a kill at {record}");
        small.is(&small.states[1].1, &what);
        small.confirm(&what).await;
        println!("{what}: {:.1} s", began.elapsed().as_secs_f64());
    }
}

/// The boundaries that a run of the example printed: their numbers and what they are.
fn boundaries(printed: &str) -> impl Iterator<Item = (usize, &str)> {
    printed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(index, record)| Some((index.parse().ok()?, record)))
}
