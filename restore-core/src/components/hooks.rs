//! The programs that say whether a swapped tree is sound, and that make a service read it.

use std::sync::Arc;
use std::time::Duration;

use crate::contract::Platform;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::process::command::{Command, Process, to_its_end};
use crate::sys::process::programs::plain_process;

/// Longer than any configuration test takes; a hang must not hold up an undo for ever.
const PATIENCE: Duration = Duration::from_secs(120);
/// How much output a message can use.
const OUTPUT: usize = 4 * 1024;

/// What a program answered.
pub(crate) struct ProgramOutput {
    pub(crate) code: i32,
    /// The end of what it wrote.
    pub(crate) output: String,
}

impl ProgramOutput {
    pub(crate) fn success(&self) -> bool {
        self.code == 0
    }
}

/// Runs a program to its end, in the context of a service where one is named: in each of its
/// instances. The first that fails answers for all.
pub(crate) async fn run(
    platform: &Arc<dyn Platform>,
    service: Option<&str>,
    argv: &[String],
) -> Result<ProgramOutput> {
    let shown = argv.join(" ");
    let work = async {
        let command = Command::new(argv.iter().cloned());
        let processes = match service {
            Some(service) => platform.exec_each(service, command).await?,
            None => vec![plain_process(&command)?],
        };
        let mut last = ProgramOutput {
            code: 0,
            output: String::new(),
        };
        for process in processes {
            last = answer(process).await?;
            if !last.success() {
                break;
            }
        }
        Ok(last)
    };
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::new(
            ErrorKind::Failed,
            "files.hook_hangs",
            format!(
                "`{shown}` did not end within {} s and was killed",
                PATIENCE.as_secs()
            ),
        )
        .hint("run it by hand and see what it waits for")),
    }
}

async fn answer(process: Box<dyn Process>) -> Result<ProgramOutput> {
    let mut stdout = Vec::new();
    // What cannot be read of it is not told; how it ended is.
    let (exit, _) = to_its_end(process, |piece| {
        stdout.extend_from_slice(piece);
        let surplus = stdout.len().saturating_sub(OUTPUT);
        stdout.drain(..surplus);
    })
    .await?;
    Ok(ProgramOutput {
        code: exit.code,
        output: both(&stdout, exit.stderr.as_bytes()),
    })
}

/// The end of both outputs as one text.
fn both(stdout: &[u8], stderr: &[u8]) -> String {
    let tail = |bytes: &[u8]| {
        let from = bytes.len().saturating_sub(OUTPUT);
        String::from_utf8_lossy(bytes.get(from..).unwrap_or_default())
            .trim()
            .to_owned()
    };
    let (stdout, stderr) = (tail(stdout), tail(stderr));
    match (stdout.is_empty(), stderr.is_empty()) {
        (true, _) => stderr,
        (false, true) => stdout,
        (false, false) => format!("{stdout}\n{stderr}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A reload that starts a server in the background ends with its own process, not with the server.
    #[tokio::test]
    async fn a_daemon_that_a_hook_leaves_does_not_hold_the_run() {
        let script = "sleep 60 & echo $!; echo went on >&2";
        let begun = Instant::now();
        let process = plain_process(&Command::new(["sh", "-c", script])).unwrap();
        let answer = answer(process).await.unwrap();
        assert!(answer.success());
        assert!(begun.elapsed() < Duration::from_secs(20));
        let (pid, said) = answer.output.split_once('\n').unwrap();
        assert_eq!(said, "went on");
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}
