//! The command line of `restore`: arguments in, library calls, exit codes out. Whatever restores
//! is in the library.

// Tests may stop where they stand; what serves users may not.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

mod args;
mod commands;
mod complete;
mod config;
mod consent;
mod exit;
mod human;
mod paint;
mod printer;
mod progress;
mod render;
#[cfg(test)]
mod samples;
mod signals;

use std::process::ExitCode;

use clap::Parser as _;
use restore_core::{Error, ErrorKind};

use args::{Args, ProgressMode};
use printer::{Answer, Printer};
use progress::Stderr;

fn main() -> ExitCode {
    complete::answer();
    leave_no_core();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error).into(),
    };
    let stderr = Stderr::start(args.progress).quiet(args.quiet);
    report_bugs(&stderr);
    let printer = Printer::new(args.json);
    let code = printer.finish(work(args, &stderr), &stderr);
    stderr.end();
    code.into()
}

/// Passwords are in this memory: a crash leaves none of it on a disk, and no other process of the same
/// user looks into it. What is started is not concerned.
fn leave_no_core() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // A kernel that refuses it leaves things as they were.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Help, the version, and arguments that make no sense.
fn usage(error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        // A reader that has gone is no reason to complain.
        let _ = error.print();
        return exit::DONE;
    }
    if !std::env::args_os().any(|arg| arg == "--json") {
        let _ = error.print();
        return exit::USAGE;
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let error = Error::new(ErrorKind::Config, "cli.usage", message).hint("see `restore --help`");
    let stderr = Stderr::start(ProgressMode::Auto);
    let code = Printer::new(true).finish(Err(error), &stderr);
    stderr.end();
    code
}

fn work(args: Args, stderr: &Stderr) -> Result<Answer, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::io("start the program's threads", e).with_kind(ErrorKind::Internal))?;
    let result = runtime.block_on(async {
        let signals = signals::Signals::listen(stderr.clone())?;
        let command = tokio::spawn(commands::run(args, stderr.clone(), signals.clone()));
        tokio::select! {
            result = command => result.unwrap_or_else(|panic| Err(bug(&panic))),
            () = signals.abandoned() => Err(Error::interrupted()),
        }
    });
    // A thread may still wait for an answer that nobody types any more.
    runtime.shutdown_background();
    result
}

fn bug(panic: &tokio::task::JoinError) -> Error {
    Error::new(
        ErrorKind::Internal,
        "cli.panic",
        format!("a bug in restore: {panic}"),
    )
    .hint(
        "nothing is lost: `restore history` shows whether a run is unfinished, `restore resume` \
         finishes it; please report the bug",
    )
}

/// One line instead of a backtrace for what must never happen.
fn report_bugs(stderr: &Stderr) {
    let stderr = std::sync::Mutex::new(stderr.clone());
    std::panic::set_hook(Box::new(move |panic| {
        let stderr = stderr
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let place = panic
            .location()
            .map(|at| format!(" ({}:{})", at.file(), at.line()));
        let what = message(panic.payload());
        stderr.tell(format!("bug: {what}{}", place.unwrap_or_default()));
    }));
}

fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_crash_leaves_no_core() {
        use rustix::process::{DumpableBehavior, dumpable_behavior};
        super::leave_no_core();
        let now = dumpable_behavior().unwrap();
        assert_eq!(now, DumpableBehavior::NotDumpable);
    }
}
