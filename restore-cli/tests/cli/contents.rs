//! `show --files` and `get`: what is in a backup, and single files of it, with nothing live touched.

use std::io::Read as _;

use crate::site::{ID, Ran, Site};

fn archive() -> String {
    format!("app/applications-{ID}.tar.gz")
}

#[test]
fn what_is_in_archives_is_listed() {
    let site = Site::new();
    site.shell("mkdir -p made/app && printf x > \"$(printf 'made/app/a\\033[2Jb')\" && ln -s /srv made/app/out");
    site.backup();
    let ran = site.restore(&["show", "latest", "--files"]).exits(0);
    assert!(
        ran.out.starts_with(&format!("{}\n  drwx", archive())),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("  applications/kept\n"), "{}", ran.out);
    assert!(
        ran.out.contains("  applications/out -> /srv\n"),
        "{}",
        ran.out
    );
    // No terminal obeys a name.
    assert!(
        ran.out.contains(r#"  "applications/a\u{1b}[2Jb""#),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains('\u{1b}'));

    let ran = site
        .restore(&["show", ID, "--files", "kep*", "--json"])
        .exits(0);
    let value = ran.json();
    let members = value["members"]["members"].as_array().unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0]["path"], "applications/kept");
    assert_eq!(members[0]["kind"], "file");
    assert_eq!(value["members"]["told"], 1);
    assert_eq!(value["members"]["total"], 5);
    assert!(value.get("error").is_none());
    let ran = site.restore(&["show", ID, "--files", "none*"]).exits(0);
    assert!(
        ran.out
            .starts_with("Nothing in it is called none*: there are 5 "),
        "{}",
        ran.out
    );
    let value = site
        .restore(&["show", ID, "--files", "none*", "--json"])
        .exits(0)
        .json();
    assert_eq!(value["members"]["members"], serde_json::json!([]));
    site.restore(&["show", ID, "--only", "applications"])
        .exits(2);
    site.restore(&["show", ID, "--files", "--only", "other"])
        .exits(2);
}

#[test]
fn what_was_changed_since_ends_with_an_error() {
    let site = Site::new();
    site.backup();
    site.shell(&format!(
        "printf '\\377' | dd of=backups/{ID}/{} bs=1 seek=5 conv=notrunc 2>/dev/null",
        archive()
    ));
    let ran = site.restore(&["show", ID, "--files"]).exits(3);
    assert!(ran.out.contains("  applications/kept\n"), "{}", ran.out);
    assert!(ran.err.contains("is not what was backed up"), "{}", ran.err);
    let value = site
        .restore(&["show", ID, "--files", "--json"])
        .exits(3)
        .json();
    assert_eq!(value["error"]["code"], "members.unread");
    assert_eq!(value["members"]["findings"][0]["code"], "hash.mismatch");
    let ran = site
        .restore(&["get", ID, "applications", "--to", "out"])
        .exits(3);
    assert!(ran.err.contains("is not what was backed up"), "{}", ran.err);
    assert!(!site.path("out").exists());
}

#[test]
fn whoever_has_read_enough_may_go() {
    let site = Site::new();
    site.shell("mkdir -p made/app && cd made/app && seq -f 'a file with some longer name %g' 20000 | xargs -d '\\n' touch");
    site.backup();
    let mut child = site.command(&["show", ID, "--files"]).spawn().unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap()).exits(0);
    assert_eq!(ran.err, "");
    let ran = site.restore(&["show", ID, "--files"]).exits(0);
    assert_eq!(ran.out.lines().count(), 20_004);
    let value = site
        .restore(&["show", ID, "--files", "--json"])
        .exits(0)
        .json();
    assert_eq!(
        value["members"]["members"].as_array().unwrap().len(),
        20_003
    );
}

#[test]
fn files_are_brought_out_beside_what_is_live() {
    let site = Site::new();
    site.backup();
    let ran = site
        .restore(&[
            "get",
            "latest",
            "applications/kept",
            "app/more",
            "--to",
            "out",
        ])
        .exits(0);
    assert_eq!(site.read("out/applications/kept"), "backed up");
    assert_eq!(site.read("out/applications/more"), "more");
    assert_eq!(site.read("live/opt/app/kept"), "live");
    let from = format!("  applications/kept  from {}\n", archive());
    assert!(ran.out.contains(&from), "{}", ran.out);
    assert!(
        ran.out
            .contains("\n2 files, 1 directory, 0 links: 13 B, verified.\n"),
        "{}",
        ran.out
    );

    let ran = site
        .restore(&["get", ID, "applications", "--to", "out"])
        .exits(2);
    assert!(ran.err.contains("is not empty"), "{}", ran.err);
    site.restore(&["get", ID, "--to", "other"]).exits(2);
    site.restore(&["get", ID, "applications"]).exits(2);
    let ran = site
        .restore(&["get", ID, "/etc/passwd", "--to", "other"])
        .exits(2);
    assert!(ran.err.contains("COMPONENT/path"), "{}", ran.err);
    let value = site
        .restore(&[
            "get",
            ID,
            "--only",
            "applications",
            "--to",
            "other",
            "--json",
        ])
        .exits(0)
        .json();
    assert_eq!(value["got"]["files"], 2);
    assert_eq!(value["got"]["taken"][0]["component"], "applications");
    // The archive itself, as it is.
    site.restore(&["get", ID, &archive(), "--to", "whole"])
        .exits(0);
    let stored = std::fs::read(site.path(&format!("backups/{ID}/{}", archive()))).unwrap();
    assert!(std::fs::read(site.path("whole").join(archive())).unwrap() == stored);
}

#[test]
fn a_plan_tells_what_would_change() {
    let site = Site::new();
    site.backup();
    let ran = site.restore(&["plan", "latest", "--diff"]).exits(0);
    let told = "
What would change:
  applications: files: 1 added, 1 changed, 1 removed (2 in the backup, 2 live)
    + more
    ~ kept
    - own
";
    assert!(ran.out.contains(told), "{}", ran.out);
    assert!(ran.out.trim_end().ends_with("does this."), "{}", ran.out);
    assert!(
        !site
            .restore(&["plan", "latest"])
            .out
            .contains("would change")
    );
    let value = site
        .restore(&["plan", ID, "--diff", "--json"])
        .exits(0)
        .json();
    let files = &value["plan"]["diff"]["components"][0]["differences"][0];
    assert_eq!(files["of"], "files");
    assert_eq!(files["removed"]["names"][0], "own");
    // Of one path alone, and shown before it is agreed to.
    let args = ["plan", ID, "--diff", "--path", "applications/more"];
    let ran = site.restore(&args).exits(0);
    assert!(
        ran.out
            .contains("applications: files: 1 added (1 in the backup, 0 live)"),
        "{}",
        ran.out
    );
    let args = ["run", ID, "--diff", "--yes", "--path", "applications/more"];
    let ran = site.restore(&args).exits(0);
    assert!(ran.err.contains("files: 1 added"), "{}", ran.err);
    assert_eq!(site.read("live/opt/app/more"), "more");
    assert_eq!(site.read("live/opt/app/own"), "only live");
}

#[test]
fn a_packed_backup_is_brought_here_first() {
    let site = Site::new();
    site.backup();
    site.shell(&format!(
        "tar -C backups -czf backups/backup-{ID}.tar.gz {ID}; rm -r backups/{ID}"
    ));
    let ran = site.restore(&["show", ID, "--files"]).exits(0);
    assert!(ran.err.contains("it is packed: fetching"), "{}", ran.err);
    assert!(ran.out.contains("  applications/kept\n"), "{}", ran.out);
    site.shell(&format!("rm -r backups/{ID}"));
    site.restore(&["get", ID, "applications/kept", "--to", "out"])
        .exits(0);
    assert_eq!(site.read("out/applications/kept"), "backed up");
}
