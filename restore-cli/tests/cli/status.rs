//! `restore status`: one screen, and an exit code that says whether a restore could begin.

use crate::site::{ID, Site};

#[test]
fn without_a_backup_no_restore_could_begin() {
    let site = Site::new();
    let ran = site.restore(&["status"]).exits(4);
    assert!(
        ran.out.contains("Newest      no full backup"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("A restore could NOT begin now."),
        "{}",
        ran.out
    );
    assert!(
        ran.err.contains("there is no finished backup"),
        "{}",
        ran.err
    );
    assert!(!site.path("state").exists(), "looking writes nothing");
}

#[test]
fn a_site_with_a_backup_is_ready_and_is_proven_by_a_drill() {
    let site = Site::new();
    site.backup();
    let ran = site.restore(&["status"]).exits(0);
    assert!(
        ran.out.contains(&format!("Newest      {ID}, ")),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("Proven      never"), "{}", ran.out);
    assert!(ran.out.contains("Unfinished  none"), "{}", ran.out);
    assert!(
        ran.out
            .contains(&format!("A restore could begin now: `restore run {ID}`.")),
        "{}",
        ran.out
    );
    assert!(ran.out.lines().count() < 24, "{}", ran.out);
    assert_eq!(ran.err, "");
    site.restore(&["drill", ID]).exits(0);
    let status = site.restore(&["status", "--json"]).exits(0).json();
    let status = &status["status"];
    assert_eq!(status["ready"], true);
    assert_eq!(status["newest"]["id"], ID);
    assert_eq!(status["newest"]["proven"], true);
    assert_eq!(status["proven"]["backup"], ID);
    assert_eq!(status["proven"]["drill"], true);
    assert_eq!(status["unfinished"], serde_json::json!([]));
    assert!(status["room"][0]["space"]["free_bytes"].as_u64() > Some(0));
}

#[test]
fn what_a_run_keeps_is_weighed_and_stands_in_the_way() {
    let site = Site::new();
    site.backup();
    site.restore(&["run", ID, "--yes"]).exits(0);
    let ran = site.restore(&["status", "--json"]).exits(4);
    let status = ran.json();
    assert_eq!(status["error"]["code"], "status.not_ready");
    let status = &status["status"];
    assert_eq!(status["ready"], false);
    assert_eq!(
        status["kept"][0]["components"],
        serde_json::json!(["applications"])
    );
    assert_eq!(status["kept"][0]["outcome"], "restored");
    assert!(status["kept"][0]["bytes"].as_u64() > Some(0), "{status}");
    assert_eq!(status["findings"][0]["code"], "run.unconfirmed");
    site.restore(&["confirm", "--yes"]).exits(0);
    let status = site.restore(&["status", "--json"]).exits(0).json();
    assert_eq!(status["status"]["kept"], serde_json::json!([]));
}

/// A store that cannot be listed may have the newest backup.
#[test]
fn a_store_that_is_not_there_is_told_and_hides_no_other() {
    let site = Site::new();
    site.backup();
    let text = site.read("restore.toml");
    site.write(
        "restore.toml",
        &format!("{text}[stores.away]\nkind = \"directory\"\npath = \"gone\"\n"),
    );
    let ran = site.restore(&["status", "--json"]);
    let status = ran.json();
    let stores = &status["status"]["stores"];
    assert_eq!(stores[0]["full_backups"], 1);
    assert_eq!(stores[1]["name"], "away");
    assert_eq!(stores[1]["full_backups"], serde_json::Value::Null);
    assert_eq!(status["status"]["newest"]["id"], ID);
    assert_eq!(status["status"]["ready"], false);
}
