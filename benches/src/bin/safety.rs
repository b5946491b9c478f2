//! How much longer does a run take with its safety backup than without?
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use restore_benches::{Result, head, median, row, shell, timed};
use restore_testing::{Hosting, run as succeed};

/// How often, unless the first argument says so.
const ROUNDS: usize = 5;
/// Rows, and megabytes of volumes, unless the second and third argument say so.
const DATA: (u32, u32) = (200_000, 500);
/// A run with one is to take at most so many times as long.
const MARK: f64 = 1.3;

fn main() -> Result<()> {
    let program = program()?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, usual: u32| match words.get(at) {
        Some(word) => word.parse().map_err(|e| format!("{word}: {e}")),
        None => Ok(usual),
    };
    let rounds = number(0, u32::try_from(ROUNDS)?)?;
    let (rows, megabytes) = (number(1, DATA.0)?, number(2, DATA.1)?);
    let platform = Hosting::new(rows, megabytes);
    let id = platform.back_up();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (times, option) in [
            (&mut without, Some("--no-safety-backup")),
            (&mut with, None),
        ] {
            // Whatever is still to be written belongs to the run before.
            shell("sync")?;
            times.push(run(&program, &platform.config(), &id, option)?);
            succeed(restore(&program, &platform.config()).args(["confirm", "--yes"]));
        }
    }
    println!(
        "{rows} rows and {megabytes} MB of volumes, median of {rounds} alternating runs; theirs is a run without one\n"
    );
    head();
    row(
        "a run with its safety backup",
        median(without),
        median(with),
        Some(MARK),
    );
    Ok(())
}

/// The program that is measured: the one built beside this.
fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("restore");
    if program.exists() {
        Ok(program)
    } else {
        Err(format!("{} is missing: `make build` makes it", program.display()).into())
    }
}

fn restore(program: &Path, config: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(config)
        .args(["--progress", "off"]);
    command
}

fn run(program: &Path, config: &Path, id: &str, option: Option<&str>) -> Result<Duration> {
    let mut command = restore(program, config);
    command.args(["run", id, "--yes"]).args(option);
    let ((), took) = timed(|| {
        succeed(&mut command);
        Ok(())
    })?;
    Ok(took)
}
