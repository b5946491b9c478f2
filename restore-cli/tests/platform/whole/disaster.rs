//! Everything of the platform is destroyed. What is left is what a new machine has, the servers' programs and
//! settings, the passwords and the backups, and three commands bring all of it back.

use std::process::Command;

use restore_testing::{Hosting, Sample, Share, run};

use super::pages::{DISASTER, Reader};
use super::support::Whole;

/// Leaves nothing in the platform that no backup holds.
fn prepare(hosting: &Hosting) {
    let library = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/local-platform/lib.sh"
    );
    let code = r#"set -euo pipefail; . "$1"; parse_root -d "$2"; prepare_for_disaster"#;
    run(Command::new("bash")
        .args(["-c", code, "bash", library])
        .arg(hosting.root()));
}

/// A platform with a backup by the runbook's commands and one by `restore backup`, whose id is the second.
fn platform() -> (Whole, String) {
    let whole = Whole::with(prepare);
    whole.restore(&["backup"]).exits(0);
    let mut ids = backups(&whole);
    ids.retain(|id| *id != whole.id);
    let ours = ids.pop().unwrap();
    assert!(ids.is_empty());
    (whole, ours)
}

fn backups(whole: &Whole) -> Vec<String> {
    let listed = std::fs::read_dir(whole.hosting.root().join("backups")).unwrap();
    let names = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// The first of the three commands: without it there is no configuration to name.
fn init(whole: &Whole) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restore"));
    command.args(["init", "--from"]);
    command.arg(whole.hosting.root().join("backups"));
    command
        .args(["latest", "--output"])
        .arg(whole.hosting.config());
    run(&mut command);
}

/// What a new machine has, and what the first command and the journals add.
const LEFT: [&str; 8] = [
    "backups",
    "etc",
    "log",
    "platform.env",
    "restore.toml",
    "run",
    "secrets",
    "state",
];

#[test]
fn three_commands_bring_everything_back() {
    let (whole, _) = platform();
    // As the page about it says, from the newest backup, which is our own.
    whole.hosting.script("disaster.sh", &[]);
    Reader::new(&whole).types(DISASTER);
    whole.is(&whole.at_backup, "brought back by the page");
    whole.hosting.script("disaster.sh", &[]);
    init(&whole);
    let id = &whole.id;
    whole.restore(&["plan", id, "--create"]).exits(0);
    whole.restore(&["run", id, "--create", "--yes"]).exits(0);
    whole.is(&whole.at_backup, id);
}

#[test]
fn killed_while_everything_is_brought_back() {
    let (whole, ours) = platform();
    let steps = [
        "create:postgres",
        "create:redis",
        "create:metrics",
        "stage:applications",
        "cut-over:metrics",
        "start:nginx",
        "check:inside",
    ];
    let cases = steps
        .iter()
        .flat_map(|step| ["resume", "rollback"].map(|then| (*step, then)));
    let cases = Sample::of_this_run().choose(
        cases,
        |(step, then)| format!("{then} after {step}"),
        |(step, _)| step.split(':').next().unwrap_or_default().to_owned(),
        0,
        Share::WHOLE,
    );
    for (step, then) in cases {
        let what = format!("killed at {step}, {then}");
        println!("{what}");
        whole.hosting.script("disaster.sh", &[]);
        init(&whole);
        let mut running = whole.start(&["run", &ours, "--create", "--yes"]);
        running.until_step(step);
        running.signal("KILL");
        running.end();
        if then == "resume" {
            whole.restore(&["resume"]).exits(0);
            whole.is(&whole.at_backup, &what);
        }
        whole.restore(&["rollback", "--yes"]).taken_back();
        let ran = whole.restore(&["confirm", "--yes"]);
        assert!([Some(0), Some(2)].contains(&ran.code), "{what}: {ran:?}");
        let listed = std::fs::read_dir(whole.hosting.root()).unwrap();
        let left = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut left: Vec<String> = left.filter(|name| !name.starts_with(".local")).collect();
        left.sort();
        assert_eq!(left, LEFT, "{what}");
        whole.nothing_unfinished(&what);
        // The next one is to be the newest that carries a restore.toml.
        assert!(backups(&whole).contains(&ours));
    }
}
