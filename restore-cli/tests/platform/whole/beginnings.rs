//! From nothing but servers and backups: a first configuration, and a restore by it, as the tutorial has it;
//! then what the how-to pages say.

use std::process::{Command, Stdio};

use super::pages::{Reader, TUTORIAL};
use super::support::{Ran, Whole};

#[test]
fn a_first_configuration_needs_no_edit() {
    let whole = Whole::new();
    let root = whole.hosting.root().to_str().unwrap();
    let (file, backups) = (format!("{root}/told.toml"), format!("{root}/backups"));
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
    let restore = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_restore"));
        command.args(args).stdin(Stdio::null());
        Ran::of(args, command.output().unwrap())
    };
    let init = restore(&args).exits(0).json();
    assert_eq!(init["init"]["todo"], serde_json::json!([]), "{init}");
    let text = std::fs::read_to_string(&file).unwrap();
    for secret in ["postgres.pass", "redis.pass"] {
        let password = std::fs::read_to_string(format!("{root}/secrets/{secret}")).unwrap();
        assert!(!text.contains(password.trim()), "{secret}");
    }

    // It makes such a file, damages everything, and restores by it, there, back and there again.
    Reader::new(&whole).types(TUTORIAL);
    whole.is(&whole.at_backup, "restored by the tutorial");
    let first = format!("{root}/first.toml");
    let ran = restore(&["--config", &first, "config", "check"]).exits(0);
    assert!(ran.out.contains("is sound.\n"), "{}", ran.out);
    let ran = restore(&["--config", &first, "status"]).exits(0);
    assert!(ran.out.contains("A restore could begin now"), "{}", ran.out);

    // The backups of its own are no part of what the other pages begin with.
    for entry in std::fs::read_dir(&backups).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with(&whole.id) {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    Reader::new(&whole).types_how_to_pages();
    whole.is(&whole.at_backup, "all that the pages did is taken back");
    whole.nothing_left("all that the pages did is taken back");
}
