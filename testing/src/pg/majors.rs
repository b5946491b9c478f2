//! Other majors than Debian's, which `scripts/postgres-majors.sh` fetches.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::BIN;
use crate::run;

/// The majors that are here, oldest first, and the folders of their programs.
pub fn majors() -> Vec<(u32, PathBuf)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/postgres-majors.sh");
    let output = run(&mut Command::new(script));
    let mut found = vec![(15, PathBuf::from(BIN))];
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (major, bin) = line.split_once(' ').unwrap();
        found.push((major.parse().unwrap(), PathBuf::from(bin)));
    }
    found.sort();
    found
}
