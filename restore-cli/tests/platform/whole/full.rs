//! A full restore, its way back, and its end.

use super::support::{Whole, contents};

/// The report says what really happened, with real times.
#[test]
fn there_and_back_and_confirmed() {
    let whole = Whole::new();
    let damaged = whole.damaged();
    let mut said = Vec::new();
    let mut restore = |args: &[&str]| {
        let ran = whole.restore(args);
        said.push(ran.out.clone() + &ran.err);
        ran
    };

    // Restored: the report says so, as text and as JSON, and so does the site's log.
    let report = restore(&["run", "latest", "--yes", "--json"])
        .exits(0)
        .json()["report"]
        .clone();
    whole.is(&whole.at_backup, "restored");
    let run = report["run"].as_str().unwrap().to_owned();
    assert_eq!(report["outcome"], "restored");
    assert_eq!(report["backup"], whole.id.as_str());
    assert_eq!(report["confirmed"], false);
    assert!(report["downtime_seconds"].as_f64().unwrap() > 0.0);
    for component in report["components"].as_array().unwrap() {
        assert_eq!(component["restored"], true, "{component}");
        // Of a tree that was gone, or empty, nothing was replaced.
        let nothing =
            ["prometheus-config", "scripts"].contains(&component["name"].as_str().unwrap());
        assert!(nothing || component["kept_at"].is_string(), "{component}");
    }
    assert_eq!(report["components"].as_array().unwrap().len(), 12);
    let checks = report["checks_after"].as_array().unwrap();
    for name in [
        "health",
        "version",
        "app-answers",
        "users",
        "cache",
        "app-runs",
        "app-log",
    ] {
        let check = checks.iter().find(|check| check["name"] == name);
        assert_eq!(check.unwrap()["passed"], true, "{name}");
    }
    let text = restore(&["report"]).exits(0).out;
    assert!(text.contains("Restored and checked\n"), "{text}");
    assert!(text.contains(&run) && text.contains(&whole.id), "{text}");
    let log = std::fs::read_to_string(whole.hosting.root().join("log/restore.log")).unwrap();
    assert!(log.contains(text.trim()), "{log}\nhas not\n{text}");
    let history = restore(&["history"]).exits(0).out;
    assert!(history.contains("restored, not confirmed"), "{history}");
    let read = restore(&["report", &run, "--json"]).exits(0).json();
    assert_eq!(read["report"]["outcome"], "restored");

    // Back.
    let report = restore(&["rollback", "--yes", "--json"])
        .taken_back()
        .json()["report"]
        .clone();
    assert_eq!(report["outcome"], "rolled_back");
    assert_eq!(report["run"], run.as_str());
    whole.is(&damaged, "rolled back");
    let history = restore(&["history"]).exits(0).out;
    assert!(history.contains("rolled back"), "{history}");
    restore(&["confirm", "--yes"]).exits(0);
    whole.nothing_left("rolled back and confirmed");
    whole.is(&damaged, "rolled back and confirmed");

    // And again, accepted this time.
    let ran = restore(&["run", &whole.id, "--yes"]).exits(0);
    assert!(ran.out.contains("Restored and checked\n"), "{}", ran.out);
    let report = restore(&["confirm", "--yes", "--json"]).exits(0).json()["report"].clone();
    assert_eq!(report["confirmed"], true);
    whole.nothing_left("restored and confirmed");
    whole.is(&whole.at_backup, "restored and confirmed");
    restore(&["rollback", "--yes"]).exits(2);
    restore(&["check"]).exits(0);
    restore(&["verify", "latest", "--deep"]).exits(0);
    restore(&["list"]).exits(0);

    // No password is anywhere but where it belongs.
    let root = whole.hosting.root();
    let secrets: Vec<String> = contents(&root.join("secrets"))
        .into_iter()
        .map(|(_, secret)| secret.trim().to_owned())
        .collect();
    assert_eq!(secrets.len(), 2);
    let mut places = contents(&root.join("state"));
    places.extend(contents(&root.join("log")));
    assert!(places.iter().any(|(path, _)| path.ends_with("report.json")));
    for secret in &secrets {
        assert!(secret.len() > 6);
        for (path, content) in &places {
            assert!(
                !content.contains(secret),
                "{} has a password",
                path.display()
            );
        }
        for said in &said {
            assert!(!said.contains(secret), "a password was shown: {said}");
        }
    }
}
