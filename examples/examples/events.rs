//! Restores the newest backup and prints what happens, a line an event: `events [restore.toml]`.
//!
//! Ctrl-C and SIGTERM stop the run, which then undoes itself.

use restore_core::{Event, Site};

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

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = std::env::args().nth(1);
    let site = Site::open(config.unwrap_or_else(|| "restore.toml".to_owned())).await?;
    let stop = restore_core::stop_on_signals()?;
    let run = site
        .plan("latest")
        .events(|record| print(&record.event))
        .cancelled_by(stop)
        .run();
    // Awaited to its end: it undoes itself where it is stopped.
    run.await?;
    Ok(())
}
