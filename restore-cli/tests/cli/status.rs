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

/// One file tells nothing of the others.
#[test]
fn a_restore_of_one_path_proves_no_backup() {
    let site = Site::new();
    site.backup();
    site.restore(&["run", ID, "--yes", "--path", "applications/more"])
        .exits(0);
    site.restore(&["confirm", "--yes"]).exits(0);
    let status = site.restore(&["status", "--json"]).exits(0).json();
    assert_eq!(status["status"]["newest"]["proven"], false);
    assert_eq!(status["status"]["proven"], serde_json::Value::Null);
}

/// It may have ended in the middle of its downtime, and no other line would tell of it.
#[test]
fn a_run_of_which_nothing_can_be_read_is_told() {
    for damage in ["sed -i 1s/^/X/", "truncate -s 0", "rm"] {
        let site = Site::new();
        site.backup();
        site.restore(&["run", ID, "--yes"]).exits(0);
        let runs = site
            .restore(&["confirm", "--yes", "--json"])
            .exits(0)
            .json();
        let run = runs["report"]["run"].as_str().unwrap().to_owned();
        // As of one that was killed, which leaves no report.
        site.shell(&format!(
            "cd state/runs/{run} && rm report.json && {damage} journal.jsonl"
        ));
        let ran = site.restore(&["history"]).exits(0);
        assert!(ran.out.contains(&run), "{damage}: {}", ran.out);
        assert!(!ran.out.contains("no run yet"), "{damage}: {}", ran.out);
        let ran = site.restore(&["history", "--json"]).exits(0);
        assert_eq!(ran.json()["runs"], serde_json::json!([]), "{damage}");
        assert!(ran.err.contains(&run), "{damage}: {}", ran.err);
        let ran = site.restore(&["status"]).exits(0);
        let told = ran.out.find(&run).unwrap_or_else(|| panic!("{}", ran.out));
        let verdict = ran.out.find("but of a run nothing can").unwrap();
        let unproven = ran.out.find("ever proven").unwrap_or(usize::MAX);
        assert!(verdict < told && told < unproven, "{damage}: {}", ran.out);
        // Nothing is promised that is not there.
        let ran = site.restore(&["rollback", "--yes"]).exits(2);
        assert!(!ran.err.contains("restore report"), "{damage}: {}", ran.err);
    }
}

/// The journals are lost with their directory; what a run has put aside lies beside the live data, and is found.
#[test]
fn what_a_run_keeps_is_found_without_its_journal() {
    let site = Site::new();
    site.backup();
    let ran = site.restore(&["run", ID, "--yes", "--json"]).exits(0);
    let run = ran.json()["report"]["run"].as_str().unwrap().to_owned();
    site.shell("rm -r state");
    let plan = site.restore(&["plan", ID]).exits(0).out;
    let told = format!(
        "is kept by run {run}, of which no journal of this site tells; it stays where it is"
    );
    assert!(plan.contains(&told), "{plan}");
    assert!(plan.contains("`restore history --search`"), "{plan}");
    let ran = site.restore(&["confirm", "--yes"]).exits(2);
    for words in ["knows of none", "`restore history --search`"] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    let found = site.restore(&["history", "--search"]).exits(0).out;
    let folder = format!(".restore-{run}");
    for words in [
        format!("of run {run}: no journal tells of it\n"),
        "to put it back: with the services that use it stopped".to_owned(),
        "to delete it: rm -r ".to_owned(),
        folder.clone(),
    ] {
        assert!(found.contains(&words), "{words}: {found}");
    }
    let json = site.restore(&["history", "--search", "--json"]).exits(0);
    assert_eq!(json.json()["kept"][0]["kept"]["run"], run);

    // A run over it leaves it alone.
    assert_eq!(site.read("live/opt/app/kept"), "backed up");
    site.restore(&["run", ID, "--yes"]).exits(0);
    site.restore(&["rollback", "--yes"]).exits(0);
    site.restore(&["confirm", "--yes"]).exits(0);
    // What it says is done by hand.
    site.shell(&format!(
        "kept=$(find $PWD/live -name {folder}); mkdir aside
         for path in $kept/replaced/*; do
             live=$(dirname $kept)/${{path##*/}}
             [ ! -e $live ] || mv $live aside
             mv $path $live
         done"
    ));
    assert_eq!(site.read("live/opt/app/kept"), "live");
    assert_eq!(site.read("live/opt/app/own"), "only live");
    site.shell(&format!("rm -r $(find live -name {folder})"));
    let found = site.restore(&["history", "--search"]).exits(0).out;
    assert_eq!(found, "No component finds data that a run keeps.\n");
    site.restore(&["run", ID, "--yes"]).exits(0);
}
