//! Backups that other tools have made, each restored by the `restore.toml` that stands beside it.

use std::process::Command;

use restore_testing::{run, text};

const TEST: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/other-tools/test.sh"
);

#[test]
fn backups_of_other_tools_are_restored() {
    let told = text(&run(Command::new(TEST).arg(env!("CARGO_BIN_EXE_restore"))));
    for tool in [
        "cpanel",
        "docker-volume-backup",
        "pg-dumpall",
        "sha256sums",
        "tar-over-ssh",
    ] {
        assert!(told.contains(&format!("{tool}: restored")), "{told}");
    }
}

/// Its `systemctl` is a program of its own, which the shell passes over where nothing there can be run: the next
/// one is the machine's, and so is the server that it stops.
#[test]
fn a_temporary_directory_without_programs_does_not_stop_the_machines_own_server() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["bin", "tmp"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let script = r#"
        mount -t tmpfs -o noexec none "$1/tmp"
        printf '#!/bin/sh\necho "$@" >>%s/called\n' "$1" >"$1/bin/systemctl"
        chmod 755 "$1/bin/systemctl"
        TMPDIR=$1/tmp PATH=$1/bin:$PATH "$2" "$3" 2>&1 || echo "exit code $?"
        ls "$1/tmp""#;
    let mut there = Command::new("unshare");
    there.args(["--mount", "sh", "-ec", script, "sh"]);
    there.arg(dir.path()).arg(TEST);
    there.arg(env!("CARGO_BIN_EXE_restore"));
    let told = text(&run(&mut there));
    assert!(told.contains("name another place by TMPDIR"), "{told}");
    assert!(told.ends_with("exit code 1\n"), "{told}");
    assert!(!dir.path().join("called").exists(), "{told}");
}
