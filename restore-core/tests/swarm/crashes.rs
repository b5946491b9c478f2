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

    let boundaries: Vec<(usize, &str)> = counted
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(index, record)| Some((index.parse().ok()?, record)))
        .collect();
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
