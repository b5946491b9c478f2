//! What `restore-core` offers is written down in `docs/public-api.txt`: a change of it is seen in
//! review, and meant. `make api` writes it anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use restore_testing::run;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A line for each public item, derived implementations left out. Links of the documentation that
/// lead nowhere are errors.
fn found() -> String {
    let target = std::env::current_exe().unwrap();
    // target/debug/deps/this: rustdoc's output goes beside what cargo built.
    let target = target.ancestors().nth(3).unwrap();
    let mut rustdoc = Command::new(env!("CARGO"));
    rustdoc
        .current_dir(repository())
        .env("RUSTDOC", repository().join("scripts/rustdoc-json.sh"))
        .env("CARGO_TARGET_DIR", target)
        .args(["rustdoc", "--quiet", "--locked", "--lib"])
        .args(["-p", "restore-core", "--all-features", "--"])
        .args(["-Z", "unstable-options", "--output-format", "json"])
        .args(["-D", "warnings"]);
    run(&mut rustdoc);
    let api = public_api::Builder::from_rustdoc_json(target.join("doc/restore_core.json"))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .unwrap();
    api.to_string()
}

#[test]
fn what_is_public_is_written_down() {
    let file = repository().join("docs/public-api.txt");
    let found = found();
    if std::env::var_os("RESTORE_UPDATE_API").is_some() {
        std::fs::write(&file, found).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let only_in = |a: &str, b: &str, mark: char| -> String {
        let b: std::collections::HashSet<&str> = b.lines().collect();
        let lines = a.lines().filter(|line| !b.contains(line));
        lines.map(|line| format!("{mark} {line}\n")).collect()
    };
    assert!(
        written == found,
        "the public API is another than docs/public-api.txt says; if that is meant, `make api` writes it anew:\n{}{}",
        only_in(&written, &found, '-'),
        only_in(&found, &written, '+'),
    );
}
