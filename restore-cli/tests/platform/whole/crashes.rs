//! Killed at any moment: resumed or rolled back, the platform is one or the other, wholly.
//!
//! A few times, at moments that follow from a seed; or for as many minutes as
//! `RESTORE_SOAK_MINUTES` says.

use std::time::Instant;

use restore_testing::{Sample, soak_until};

use super::support::Whole;

/// How many runs are killed while they run, where no time is given.
const CRASHES: usize = 3;

#[test]
fn killed_at_random_moments() {
    let sample = Sample::of_this_run();
    let mut random = sample.random();
    let until = soak_until();
    let whole = Whole::new();
    let damaged = whole.damaged();
    let began = Instant::now();
    whole.restore(&["run", "latest", "--yes"]).exits(0);
    let duration = began.elapsed();
    let back = |what: &str| {
        whole.restore(&["rollback", "--yes"]).taken_back();
        whole.is(&damaged, &format!("{what}, rolled back"));
        whole.restore(&["confirm", "--yes"]).exits(0);
        whole.nothing_left(what);
    };
    back("a run without a crash");

    let (mut tries, mut crashes) = (0, 0);
    while until.map_or(crashes < CRASHES, |until| Instant::now() < until) {
        // Most of them come while it runs.
        tries += 1;
        assert!(
            tries < 3 * (crashes + CRASHES),
            "{crashes} of {tries} runs were killed"
        );
        let after = duration * u32::try_from(random.below(1000)).unwrap() / 1000;
        let running = whole.start(&["run", "latest", "--yes"]);
        std::thread::sleep(after);
        running.signal("KILL");
        let ran = running.end();
        let what = format!(
            "{}: try {tries}, killed after {after:?} of {duration:?}:\n{}",
            sample.how_to_repeat(),
            ran.err
        );
        let unfinished = whole.restore(&["history", "--json"]).exits(0).json()["runs"]
            .as_array()
            .unwrap()
            .iter()
            .any(|run| run["outcome"] == "unfinished");
        if !unfinished {
            // Before it began, or at its very end.
            if whole.hosting.fingerprint() == whole.at_backup {
                back(&what);
            }
            whole.is(&damaged, &what);
            continue;
        }
        crashes += 1;
        // Nobody starts another over it.
        whole
            .restore(&["run", "latest", "--yes"])
            .exits(4)
            .says(&["restore resume", "restore rollback"]);
        if crashes % 2 == 0 {
            whole.restore(&["resume"]).exits(0);
            whole.is(&whole.at_backup, &format!("{what}\nresumed"));
            back(&what);
        } else {
            let ran = whole.restore(&["rollback", "--yes", "--json"]).taken_back();
            assert_eq!(ran.json()["report"]["outcome"], "rolled_back", "{what}");
            whole.is(&damaged, &format!("{what}\nrolled back"));
            // A run that had let users in keeps what they wrote.
            let confirmed = whole.restore(&["confirm", "--yes"]);
            assert!(
                [Some(0), Some(2)].contains(&confirmed.code),
                "{confirmed:?}"
            );
            whole.nothing_left(&what);
        }
    }
    println!("{crashes} of {tries} runs were killed while they ran");
}
