//! Programs that cargo builds with the tests: a package's examples, and the test program itself.

use std::path::PathBuf;
use std::process::Command;

/// An example program of the tested package, which cargo builds beside its tests.
///
/// # Panics
///
/// Where it is not built: `cargo test --test NAME` leaves it out.
pub fn example(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("the test's own path");
    // target/debug/deps/NAME-HASH
    let built = here.ancestors().nth(2).expect("a folder of cargo's");
    let path = built.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is not built: cargo test builds it",
        path.display()
    );
    path
}

/// This test program, told to run one test of the module (`module_path!()`) and nothing else: for
/// what has to happen in a process of its own.
pub fn test_again(module: &str, test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test's own path"));
    let name = match module.split_once("::") {
        Some((_, module)) => format!("{module}::{test}"),
        None => test.to_owned(),
    };
    command.args(["--exact", &name, "--nocapture"]);
    command
}
