//! Every reader of foreign bytes on its corpus and on changes of it, with fixed seeds; `fuzz/` goes on
//! for longer.

use std::path::Path;

use restore_core::fuzzing::{TARGETS, mutate};

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no corpus");
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

#[test]
fn nothing_makes_a_reader_fall_over() {
    for (name, read) in TARGETS {
        let corpus = corpus(name);
        for bytes in &corpus {
            read(bytes);
        }
        let cases = if *name == "archive" { 100 } else { 1000 };
        for seed in 0..cases {
            let (bytes, _) = mutate(&corpus, seed);
            let done = std::panic::catch_unwind(|| read(&bytes));
            assert!(done.is_ok(), "{name}, seed {seed}: {bytes:?}");
        }
    }
}
