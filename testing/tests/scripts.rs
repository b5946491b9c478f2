//! What is not written in Rust is tried here too, so that it runs beside the rest and its time shows:
//! the example platforms' own scripts, and the Python module.

use std::path::{Path, PathBuf};
use std::process::Command;

use restore_testing::{run, text};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a script of the repository, which must succeed; what it printed.
fn script(path: &str, args: &[&str]) -> String {
    let mut script = Command::new(repository().join(path));
    text(&run(script.current_dir(repository()).args(args)))
}

/// Create, back up, damage, compare, stop: on processes of this machine.
#[test]
fn local_platform() {
    script("examples/local-platform/test.sh", &[]);
}

/// The same on a swarm.
#[test]
fn hosting_platform() {
    script("examples/hosting-platform/test.sh", &[]);
}

/// The same on Docker Compose.
#[test]
fn compose_platform() {
    script("examples/compose-platform/test.sh", &[]);
}

/// On a machine that runs engines, servers and a firewall of its own, for a user who is not root: set up,
/// made, restored, and the machine is as it was.
#[test]
fn guests_on_a_machine() {
    script("examples/hosting-platform/guest-test.sh", &[]);
}

/// The Debian package on a bare Debian: installed, its manual, units and completions tried, a platform backed up,
/// drilled and restored with it. Its program is the one that cargo built beside these tests.
#[test]
fn the_package_on_a_bare_debian() {
    let here = std::env::current_exe().unwrap();
    // target/debug/deps/NAME-HASH
    let program = here.ancestors().nth(2).unwrap().join("restore");
    assert!(
        program.exists(),
        "{} is not built: cargo build -p restore-cli builds it",
        program.display()
    );
    let printed = script("scripts/package-test.sh", &[program.to_str().unwrap()]);
    println!("{printed}");
    assert!(printed.contains("package-test: passed"), "{printed}");
}

/// One file of the Python module's tests, with the wheel that `scripts/python-test.sh build` made.
#[track_caller]
fn python(file: &str) {
    let path = format!("restore-py/tests/{file}.py");
    let printed = script("scripts/python-test.sh", &["run", &path]);
    assert!(printed.contains(" passed"), "{printed}");
    assert!(!printed.contains("skipped"), "{printed}");
}

macro_rules! python {
    ($($file:ident)*) => {
        /// The files of the Python module's tests, each a test here.
        mod python {
            $(#[test]
            fn $file() {
                super::python(stringify!($file));
            })*

            #[test]
            fn none_is_left_out() {
                let mut there: Vec<String> = std::fs::read_dir(super::repository().join("restore-py/tests"))
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .filter_map(|name| Some(name.strip_suffix(".py")?.to_owned()))
                    .filter(|name| name.starts_with("test_"))
                    .collect();
                there.sort();
                assert_eq!(there, [$(stringify!($file)),*]);
            }
        }
    };
}

python!(test_component test_drift test_examples test_handles test_packaging test_parts test_processes test_program test_runs test_site test_store test_types test_values);
