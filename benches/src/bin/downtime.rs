//! How long are users turned away by a full restore, with some data and with ten times as much;
//! and by the runbook's way, which restores in place while they wait.
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use restore_benches::{Result, median, shell, timed};
use restore_core::Report;
use restore_core::report::StepTime;
use restore_testing::{Hosting, run as succeed, text};

const ROUNDS: usize = 3;
/// Rows and megabytes of volumes.
const DATA: (u32, u32) = (20_000, 30);

fn main() -> Result<()> {
    let program = program()?;
    let (rows, megabytes) = DATA;
    let platforms = [
        Hosting::new(rows, megabytes),
        Hosting::new(10 * rows, 10 * megabytes),
    ];
    let backups = platforms.each_ref().map(Hosting::back_up);
    let mut times = [const { [const { Vec::new() }; 5] }; 2];
    for _ in 0..ROUNDS {
        for ((platform, id), times) in platforms.iter().zip(&backups).zip(&mut times) {
            let [staging, downtime, total, runbook_downtime, runbook_total] = times;
            // Whatever is still to be written belongs to the run before.
            shell("sync")?;
            let (report, took) = timed(|| run(&program, &platform.config(), id))?;
            staging.push(staged(&report));
            downtime.push(Duration::from_secs_f64(
                report.downtime_seconds.unwrap_or_default(),
            ));
            total.push(took);
            succeed(restore(&program, &platform.config()).args(["confirm", "--yes"]));
            shell("sync")?;
            let (down, took) = timed(|| runbook(platform.root(), id))?;
            runbook_downtime.push(down);
            runbook_total.push(took);
        }
    }
    let [small, large] = times.map(|times| times.map(median));
    println!(
        "{rows} rows and {megabytes} MB of volumes, and ten times as much; median of {ROUNDS} alternating runs\n"
    );
    println!("| seconds | 1x | 10x | ratio |");
    println!("|---|---|---|---|");
    let names = [
        "staging, while the platform serves",
        "**downtime**",
        "whole run",
        "runbook: downtime",
        "runbook: whole",
    ];
    for ((name, small), large) in names.iter().zip(small).zip(large) {
        println!(
            "| {name} | {:.3} | {:.3} | {:.2} |",
            small.as_secs_f64(),
            large.as_secs_f64(),
            large.as_secs_f64() / small.as_secs_f64()
        );
    }
    let against = [small, large].map(|times| {
        let [_, ours, _, theirs, _] = times.map(|time| time.as_secs_f64());
        ours / theirs
    });
    let [small, large] = against;
    println!("| downtime, ours / runbook's | {small:.3} | {large:.3} | |");
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

fn run(program: &Path, config: &Path, id: &str) -> Result<Report> {
    let ran = succeed(restore(program, config).args([
        "run",
        id,
        "--yes",
        "--json",
        // The runbook's way here is without one as well.
        "--no-safety-backup",
    ]));
    let mut document: serde_json::Value = serde_json::from_str(&text(&ran))?;
    let report = document.get_mut("report").ok_or("no report")?.take();
    Ok(serde_json::from_value(report)?)
}

/// From the beginning of the first component's staging to the end of the last one's.
fn staged(report: &Report) -> Duration {
    let stages = || {
        report
            .steps
            .iter()
            .filter(|step| step.step.starts_with("stage:"))
    };
    let Some(first) = stages().map(|step| step.started).min() else {
        return Duration::ZERO;
    };
    let end = |step: &StepTime| {
        step.started.since(first) + Duration::from_secs_f64(step.seconds.unwrap_or_default())
    };
    stages().map(end).max().unwrap_or_default()
}

fn runbook(root: &Path, id: &str) -> Result<Duration> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbook.sh");
    let printed = text(&succeed(Command::new(script).arg(root).arg(id)));
    Ok(Duration::from_secs_f64(printed.trim().parse()?))
}
