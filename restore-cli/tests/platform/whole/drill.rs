//! A drill: the backup is proven to restore, and nothing live has noticed.

use std::io::{Seek as _, SeekFrom, Write as _};

use super::support::Whole;

fn outcome(whole: &Whole) -> String {
    let report = whole.restore(&["report", "--json"]).exits(0).json();
    report["report"]["outcome"].as_str().unwrap().to_owned()
}

/// Changes a byte in the middle of a file.
fn spoil(path: &std::path::Path) {
    let length = path.metadata().unwrap().len();
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(length / 2)).unwrap();
    file.write_all(b"\xff\x00").unwrap();
}

#[test]
fn it_proves_a_backup_and_touches_nothing() {
    let whole = Whole::new();
    let live = whole.damaged();
    let pids = || {
        let files = whole.shell(
            r#"find "$root" -name '*.pid' -exec head -n 1 {} + | sort"#,
            &[],
        );
        assert!(files.lines().count() > 4, "{files}");
        files
    };
    let before = pids();

    let ran = whole.restore(&["drill", "latest"]).exits(0);
    assert!(ran.out.contains("Drill PASSED"), "{}", ran.out);
    assert!(ran.out.contains("no downtime"), "{}", ran.out);
    let text = whole.restore(&["report"]).exits(0).out;
    assert!(text.contains("  restores  "), "{text}");
    let report = whole.restore(&["report", "--json"]).exits(0).json()["report"].clone();
    assert_eq!(report["outcome"], "drilled");
    assert_eq!(report["drill"], true);
    assert_eq!(report["components"].as_array().unwrap().len(), 12);
    for component in report["components"].as_array().unwrap() {
        assert_eq!(component["restored"], false, "{component}");
        assert!(component["kept_at"].is_null(), "{component}");
    }
    let postgres = &report["components"][0];
    assert!(postgres["facts"]["tables"].as_u64() > Some(0), "{postgres}");
    assert_eq!(before, pids(), "something was restarted");
    whole.is(&live, "drilled");
    whole.nothing_left("drilled");
    // It is no run to go back from, or to accept.
    whole.restore(&["rollback", "--yes"]).exits(2);
    whole.restore(&["confirm", "--yes"]).exits(2);
    let only = whole
        .restore(&["drill", &whole.id, "--only", "redis", "--json"])
        .exits(0);
    let report = &only.json()["report"];
    assert_eq!(report["components"].as_array().unwrap().len(), 1);

    // Nor does an unconfirmed run stand in its way, or lose its way back by it.
    whole.restore(&["run", "latest", "--yes"]).exits(0);
    whole.restore(&["drill", "latest"]).exits(0);
    whole.is(&whole.at_backup, "drilled after a restore");
    whole.restore(&["rollback", "--yes"]).taken_back();
    whole.is(&live, "rolled back after a drill");
}

#[test]
fn it_finds_all_that_does_not_restore() {
    let whole = Whole::new();
    let live = whole.hosting.fingerprint();
    let (dump, path) = whole.artifact("postgres/postgres", ".dump");
    spoil(&path);
    let (volume, path) = whole.artifact("volumes/grafana", ".tar.gz");
    spoil(&path);
    let ran = whole.restore(&["drill", "latest"]).exits(3);
    assert!(ran.out.contains("Drill FAILED"), "{}", ran.out);
    // One failure does not hide the next.
    for name in [dump, volume] {
        assert!(ran.out.contains(&name), "no {name} in {}", ran.out);
    }
    whole.is(&live, "a drill that failed");
    whole.nothing_left("a drill that failed");
}

#[test]
fn killed_it_is_finished_or_taken_back() {
    let whole = Whole::new();
    let live = whole.hosting.fingerprint();
    for (step, verb, wanted) in [
        ("stage:postgres", vec!["resume"], "drilled"),
        ("stage:prometheus", vec!["rollback", "--yes"], "rolled_back"),
        ("discard:redis", vec!["resume"], "drilled"),
        ("discard:redis", vec!["rollback", "--yes"], "rolled_back"),
    ] {
        let what = format!("killed at {step}, then {verb:?}");
        let mut running = whole.start(&["drill", "latest"]);
        running.until_step(step);
        running.signal("KILL");
        running.end();
        assert_eq!(outcome(&whole), "unfinished", "{what}");
        whole
            .restore(&["drill", "latest"])
            .exits(4)
            .says(&["restore resume"]);
        whole.restore(&verb).exits(0);
        assert_eq!(outcome(&whole), wanted, "{what}");
        whole.is(&live, &what);
        whole.nothing_left(&what);
    }
    // And stopped by hand.
    let mut running = whole.start(&["drill", "latest"]);
    running.until_step("stage:postgres");
    running.signal("INT");
    let ran = running.end().exits(130);
    assert!(ran.out.contains("Drill interrupted"), "{}", ran.out);
    whole.nothing_left("stopped");
}
