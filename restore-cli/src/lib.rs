//! The command line of `restore`: arguments in, library calls, exit codes out. Whatever restores
//! is in `restore-core`. It is a library for the program `restore` and for the Python module alone, which
//! has the same command line.

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
#[cfg(test)]
mod documented;
mod exit;
mod human;
mod log;
mod manual;
mod paint;
mod printer;
mod progress;
mod render;
#[cfg(test)]
mod samples;
mod signals;
mod store_url;
mod topics;

use std::ffi::OsString;

use clap::Parser as _;
use restore_core::{Error, ErrorKind};

use args::{Args, ProgressMode, Verb};
use printer::{Answer, Printer};
use progress::Stderr;

/// Answers a shell that asks for completions, and ends the program then.
pub fn complete() {
    complete::answer();
}

/// Does what the words say, the program's name first, and prints it; the exit code. `again` starts the same
/// program once more: a run that is to outlive this process needs another. To be called once a process.
pub fn main(words: &[OsString], again: Vec<OsString>) -> u8 {
    leave_no_core();
    keep_descriptors();
    let args = match Args::try_parse_from(words) {
        Ok(args) => args,
        Err(error) => return usage(&error, words),
    };
    let stderr = Stderr::start(args.progress).quiet(args.quiet);
    report_bugs(&stderr);
    let printer = Printer::new(args.json);
    let result = match logs(&args) {
        true => log::start(args.verbose, &stderr),
        false => Ok(()),
    };
    let result = result.and_then(|()| work(args, &stderr, again));
    let code = printer.finish(result, &stderr);
    stderr.end();
    code
}

/// Whether there is somebody to read a log: not of what was left to itself, whose stderr nobody empties, nor
/// where nothing is to be shown.
fn logs(args: &Args) -> bool {
    !args.quiet && !matches!(args.verb, Verb::Detached(_) | Verb::VolumeAgent { .. })
}

/// What our caller has open is not for the programs that we start: a service would hold a lock for ever,
/// and a service's user read what only the caller may.
fn keep_descriptors() {
    close_fds::set_fds_cloexec(3, &[]);
}

/// Passwords are in this memory: a crash leaves none of it on a disk, and no other process of the same
/// user looks into it. Programs that are started hold some as well: they begin without the right to leave
/// a core file, and may give it to themselves.
fn leave_no_core() {
    use rustix::process::{
        DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
    };
    // A kernel that refuses it leaves things as they were.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let none = Rlimit {
        current: Some(0),
        maximum: getrlimit(Resource::Core).maximum,
    };
    let _ = setrlimit(Resource::Core, none);
}

/// Help, the version, and arguments that make no sense.
fn usage(error: &clap::Error, words: &[OsString]) -> u8 {
    if !error.use_stderr() {
        // A reader that has gone is no reason to complain.
        let _ = error.print();
        return exit::DONE;
    }
    if !words.iter().any(|word| word == "--json") {
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

/// What each thread may use of a stack, in bytes: calls nest deeply, and take much of it without optimisation.
const STACK: usize = 8 << 20;

fn work(args: Args, stderr: &Stderr, again: Vec<OsString>) -> Result<Answer, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK)
        .build()
        .map_err(|e| Error::io("start the program's threads", e).with_kind(ErrorKind::Internal))?;
    let result = runtime.block_on(async {
        let signals = signals::Signals::listen(stderr.clone())?;
        let command = tokio::spawn(commands::run(args, stderr.clone(), signals.clone(), again));
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
        // Nor does one of a program that is started, where the kernel writes it beside that.
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sh");
        child.args(["-c", "ulimit -c; kill -SEGV $$"]);
        let output = child.current_dir(dir.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n");
        assert!(!output.status.success());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
