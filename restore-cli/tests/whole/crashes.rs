//! Killed at any moment: resumed or rolled back, the platform is one or the other, wholly.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use crate::support::Whole;

/// A moment of a run.
fn moment(duration: Duration) -> Duration {
    let random = RandomState::new().hash_one(Instant::now()) % 1000;
    duration * u32::try_from(random).unwrap() / 1000
}

#[test]
fn killed_at_random_moments() {
    let whole = Whole::new();
    let damaged = whole.damaged();
    let began = Instant::now();
    whole.restore(&["run", "latest", "--yes"]).exits(0);
    let duration = began.elapsed();
    let back = |what: &str| {
        whole.restore(&["rollback", "--yes"]).exits(0);
        whole.is(&damaged, &format!("{what}, rolled back"));
        whole.restore(&["confirm", "--yes"]).exits(0);
        whole.nothing_left(what);
    };
    back("a run without a crash");

    let mut crashes = 0;
    for _ in 0..30 {
        if crashes == 10 {
            break;
        }
        let after = moment(duration);
        let running = whole.start(&["run", "latest", "--yes"]);
        std::thread::sleep(after);
        running.signal("KILL");
        let ran = running.end();
        let what = format!("killed after {after:?} of {duration:?}:\n{}", ran.err);
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
            let ran = whole.restore(&["rollback", "--yes", "--json"]).exits(0);
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
    assert_eq!(crashes, 10, "few of the runs were killed while they ran");
}
