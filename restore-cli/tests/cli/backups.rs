//! `list`, `show`, `verify`, `plan` on backups made with the shell's tools.

use crate::site::{ID, Site};

#[test]
fn the_list_is_a_table() {
    let site = Site::new();
    site.backup();
    site.backup_without_checksums("20240214-020000");
    site.write("backups/20240213-020000/app/half", "x");
    site.write("backups/not-a-backup/file", "x");
    let ran = site.restore(&["list"]).exits(0);
    assert_eq!(ran.err, "");
    assert!(
        ran.out.contains("\nnot-a-backup in main is no backup: "),
        "{}",
        ran.out
    );
    let rows: Vec<Vec<&str>> = ran
        .out
        .lines()
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["ID", "MADE", "SIZE", "KIND", "CHECKSUMS"]);
    let ends: Vec<(&str, &str)> = rows[1..]
        .iter()
        .map(|row| (row[0], *row.last().unwrap()))
        .collect();
    assert_eq!(
        ends,
        [
            ("20240213-020000", "unfinished"),
            ("20240214-020000", "no"),
            (ID, "yes")
        ]
    );

    let value = site.restore(&["list", "--json"]).exits(0).json();
    assert_eq!(value["backups"].as_array().unwrap().len(), 3);
    assert_eq!(value["backups"][2]["summary"]["generation"], "a");
}

#[test]
fn a_damaged_backup_is_listed_and_said_to_be() {
    let site = Site::new();
    site.write(&format!("backups/{ID}/MANIFEST.txt"), "x|1|zz\n");
    let ran = site.restore(&["list"]).exits(0);
    assert!(ran.out.contains("damaged"), "{}", ran.out);
    assert!(
        ran.out
            .contains(&format!("\nbackup {ID}: line 1 of MANIFEST.txt")),
        "{}",
        ran.out
    );
}

#[test]
fn one_backup_is_shown_with_its_components() {
    let site = Site::new();
    site.backup();
    let ran = site.restore(&["show", "latest"]).exits(0);
    assert!(ran.out.contains("Checksums:  yes"), "{}", ran.out);
    assert!(
        ran.out
            .contains(&format!("applications  app/applications-{ID}.tar.gz")),
        "{}",
        ran.out
    );
    let value = site.restore(&["show", ID, "--json"]).exits(0).json();
    assert_eq!(value["backup"]["files"][0]["components"][0], "applications");
}

#[test]
fn a_sound_backup_verifies() {
    let site = Site::new();
    site.backup();
    for args in [&["verify", "latest"][..], &["verify", "latest", "--deep"]] {
        let ran = site.restore(args).exits(0);
        assert!(
            ran.out
                .starts_with(&format!("ok  app/applications-{ID}.tar.gz\n")),
            "{}",
            ran.out
        );
        assert!(ran.out.contains("VERIFIED, 1 file"), "{}", ran.out);
    }
    let value = site.restore(&["verify", ID, "--json"]).exits(0).json();
    assert_eq!(value["verification"]["verdict"], "verified");
    assert!(value.get("error").is_none());
}

#[test]
fn a_changed_backup_does_not() {
    let site = Site::new();
    let backup = site.backup();
    let archive = backup.join(format!("app/applications-{ID}.tar.gz"));
    let mut bytes = std::fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&archive, bytes).unwrap();
    let ran = site.restore(&["verify", "latest"]).exits(3);
    assert!(
        ran.out.contains("changed  app/applications-"),
        "{}",
        ran.out
    );
    assert!(ran.err.starts_with("error: "), "{}", ran.err);
    assert!(ran.err.contains("\nhint: "), "{}", ran.err);
    let value = site
        .restore(&["--json", "verify", "latest"])
        .exits(3)
        .json();
    assert_eq!(value["error"]["kind"], "verification");
    assert_eq!(value["verification"]["files"][0]["status"], "changed");

    // And nothing of it goes live.
    site.restore(&["run", "latest", "--yes"]).exits(3);
    assert_eq!(site.read("live/opt/app/kept"), "live");
    assert_eq!(site.read("live/opt/app/own"), "only live");
}

#[test]
fn what_has_no_checksums_is_not_called_verified() {
    let site = Site::new();
    site.backup_without_checksums(ID);
    let ran = site.restore(&["verify", "latest"]).exits(3);
    assert!(ran.out.contains("UNVERIFIABLE"), "{}", ran.out);
    assert!(ran.err.contains("--deep"), "{}", ran.err);
    let ran = site.restore(&["verify", "latest", "--deep"]).exits(0);
    assert!(ran.out.starts_with("readable  "), "{}", ran.out);
}

#[test]
fn a_plan_is_data_and_changes_nothing() {
    let site = Site::new();
    site.backup();
    let ran = site.restore(&["plan", "latest"]).exits(0);
    assert!(
        ran.out
            .starts_with(&format!("Plan: restore backup {ID} into toy\n")),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("  1. back up what is live now to "),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("  2. stage applications\n"), "{}", ran.out);
    assert!(
        ran.out
            .ends_with(&format!("`restore run {ID}` does this.\n")),
        "{}",
        ran.out
    );
    let value = site.restore(&["plan", "latest", "--json"]).exits(0).json();
    assert_eq!(value["plan"]["steps"][0], "backup:safety");
    assert_eq!(value["plan"]["steps"][1], "stage:applications");
    assert_eq!(site.read("live/opt/app/kept"), "live");
    assert!(!site.path("state/runs").exists());
}

#[test]
fn a_refused_plan_says_why_in_its_exit_code_too() {
    let site = Site::new();
    site.backup_without_checksums(ID);
    let ran = site.restore(&["plan", "latest"]);
    assert!(matches!(ran.code, Some(3 | 4)), "{ran:#?}");
    assert!(
        ran.out.contains("REFUSED: 1 error. Nothing was touched.\n"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("--allow-unverified"), "{}", ran.out);
    assert!(ran.err.starts_with("error: not started: "), "{}", ran.err);
    let value = site.restore(&["plan", "latest", "--json"]).json();
    assert!(value["plan"]["findings"].is_array());
    assert!(value["error"]["message"].is_string());
    site.restore(&["plan", "latest", "--allow-unverified"])
        .exits(0);

    let site = Site::new();
    site.backup();
    std::fs::remove_dir_all(site.path("live")).unwrap();
    let ran = site.restore(&["plan", "latest"]).exits(4);
    assert!(ran.out.contains("REFUSED"), "{}", ran.out);
    let ran = site.restore(&["run", "latest", "--yes"]).exits(4);
    assert!(ran.out.contains("REFUSED"), "{}", ran.out);

    let ran = site.restore(&["plan", "latest", "--only", "nope"]);
    assert!(matches!(ran.code, Some(2 | 4)), "{ran:#?}");
    assert!(
        format!("{}{}", ran.out, ran.err).contains("nope"),
        "{ran:#?}"
    );
}
