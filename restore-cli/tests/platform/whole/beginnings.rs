//! From nothing but servers and backups: a first configuration, and a restore by it.

use std::process::{Command, Stdio};

use super::support::{Ran, Whole};

#[test]
fn a_first_configuration_needs_no_edit() {
    let whole = Whole::new();
    let root = whole.hosting.root().to_str().unwrap();
    let (file, backups) = (format!("{root}/first.toml"), format!("{root}/backups"));
    let restore = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_restore"));
        command.args(args).stdin(Stdio::null());
        Ran::of(args, command.output().unwrap())
    };
    let args = [
        "init",
        "--below",
        root,
        "--backups",
        &backups,
        "-o",
        &file,
        "--json",
    ];
    let init = restore(&args).exits(0).json();
    assert_eq!(init["init"]["todo"], serde_json::json!([]), "{init}");
    let text = std::fs::read_to_string(&file).unwrap();
    for secret in ["postgres.pass", "redis.pass"] {
        let password = std::fs::read_to_string(format!("{root}/secrets/{secret}")).unwrap();
        assert!(!text.contains(password.trim()), "{secret}");
    }
    // A test leaves nothing outside of its folder.
    let state = text
        .lines()
        .find(|line| line.starts_with("state = "))
        .unwrap();
    std::fs::write(&file, text.replace(state, "state = \"first-state\"")).unwrap();

    let ran = restore(&["--config", &file, "config", "check"]).exits(0);
    assert!(ran.out.contains("is sound.\n"), "{}", ran.out);
    let ran = restore(&["--config", &file, "status"]).exits(0);
    assert!(ran.out.contains("A restore could begin now"), "{}", ran.out);
    whole.damaged();
    restore(&["--config", &file, "run", "latest", "--yes"]).exits(0);
    whole.is(&whole.at_backup, "restored by the first configuration");
}
