//! Restores the newest backup and prints what happens, a line an event: `events [restore.toml]`.
//!
//! Ctrl-C and SIGTERM stop the run, which then undoes itself.

use std::path::Path;
use std::sync::Arc;

use restore_core::{Event, PlanRequest, Report, RunOptions, Site};
use tokio_util::sync::CancellationToken;

/// Called from any task, often; it must return at once.
fn print(event: &Event) {
    match event {
        Event::StepStarted { what, .. } => println!("{what} …"),
        Event::StepFinished { step, seconds } => println!("{step} took {seconds:.1} s"),
        Event::StepFailed { step, error } => println!("{step} failed: {error}"),
        Event::Progress {
            subject,
            action,
            done,
            total: Some(total),
        } => println!("{subject}: {action} {done} of {total} bytes"),
        Event::DowntimeStarted { at } => println!("users are turned away since {at}"),
        Event::DowntimeEnded { seconds, .. } => println!("users were away for {seconds:.1} s"),
        Event::Check {
            name,
            passed,
            detail,
        } => println!("check {name} passed: {passed}, {detail}"),
        Event::Finding { finding } => println!("{}: {}", finding.subject, finding.message),
        Event::RunFinished { run, outcome, .. } => println!("run {run}: {outcome}"),
        // New kinds of events may come with any version.
        _ => {}
    }
}

async fn bring_back(config: &Path, stop: CancellationToken) -> restore_core::Result<Report> {
    let options = RunOptions::new().events(Arc::new(print)).cancelled_by(stop);
    let site = Site::open(config).await?;
    let backup = site.backup("latest").await?;
    let plan = site.plan(&backup, PlanRequest::all(), &options).await?;
    site.run(plan, options).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = std::env::args().nth(1);
    let config = config.unwrap_or_else(|| "restore.toml".to_owned());
    let stop = restore_core::stop_on_signals()?;
    // Awaited to its end: to drop it would leave the run unfinished.
    bring_back(Path::new(&config), stop).await?;
    Ok(())
}
