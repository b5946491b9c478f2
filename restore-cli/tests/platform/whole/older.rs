//! A backup of the older generation, without checksums.

use restore_testing::assert_same;

use super::support::Whole;

/// The parts of a fingerprint that hold for `wanted`.
fn sections(fingerprint: &str, wanted: impl Fn(&str) -> bool) -> String {
    let mut inside = false;
    let mut text = String::new();
    for line in fingerprint.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            inside = wanted(name.split(' ').next().unwrap());
        }
        if inside {
            text += &format!("{line}\n");
        }
    }
    text
}

#[test]
fn it_restores_after_the_word_for_it() {
    let whole = Whole::new();
    let id = whole.hosting.script("backup-cron.sh", &["20300216-020000"]);
    let id = id.trim();
    let damaged = whole.damaged();

    let ran = whole.restore(&["run", id, "--yes"]).exits(4);
    for words in ["WITHOUT checksums", "--allow-unverified"] {
        assert!(ran.out.contains(words), "{}", ran.out);
    }
    whole.is(&damaged, "refused");
    whole.nothing_left("refused");

    // What it has nothing for is not left out without a word either.
    let plan = whole
        .restore(&["plan", id, "--allow-unverified", "--json"])
        .exits(4)
        .json();
    let findings = plan["plan"]["findings"].as_array().unwrap();
    let missing: Vec<&str> = findings
        .iter()
        .filter(|finding| finding["code"] == "plan.nothing_to_restore")
        .map(|finding| finding["subject"].as_str().unwrap())
        .collect();
    let missing = missing.join(",");
    let ran = whole.restore(&[
        "run",
        id,
        "--yes",
        "--allow-unverified",
        "--allow-missing",
        &missing,
        "--json",
    ]);
    let report = ran.restored().json()["report"].clone();
    let restored: Vec<&str> = report["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|component| component["name"].as_str().unwrap())
        .collect();
    assert_eq!(restored.len(), 9, "{restored:?}");
    let held = |name: &str| restored.contains(&name);
    let now = whole.hosting.fingerprint();
    assert!(!sections(&now, held).is_empty());
    assert_same(
        &sections(&whole.at_backup, held),
        &sections(&now, held),
        "what the backup has",
    );
    assert_same(
        &sections(&damaged, |name| !held(name)),
        &sections(&now, |name| !held(name)),
        "what the backup has not",
    );
    let findings = report["findings"].as_array().unwrap();
    for code in ["backup.unverifiable", "plan.nothing_to_restore"] {
        assert!(
            findings.iter().any(|finding| finding["code"] == code),
            "{code}: {findings:?}"
        );
    }
    whole.restore(&["rollback", "--yes"]).taken_back();
    whole.is(&damaged, "rolled back");
}
