//! The programs that say whether a swapped tree is sound, and that make a service read it.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::contract::Platform;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::process::command::{Command, Process};
use crate::sys::process::programs::plain_process;

/// Longer than any configuration test takes; a hang must not hold up an undo for ever.
const PATIENCE: Duration = Duration::from_secs(120);
/// How much output a message can use.
const OUTPUT: usize = 4 * 1024;

/// What a program answered.
pub(crate) struct Answer {
    pub(crate) code: i32,
    /// The end of what it wrote.
    pub(crate) output: String,
}

impl Answer {
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
) -> Result<Answer> {
    let shown = argv.join(" ");
    let work = async {
        let command = Command::new(argv.iter().cloned());
        let processes = match service {
            Some(service) => platform.exec_each(service, command).await?,
            None => vec![plain_process(&command)?],
        };
        let mut last = Answer {
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

async fn answer(mut process: Box<dyn Process>) -> Result<Answer> {
    drop(process.stdin());
    let stdout = process.stdout();
    let read = async {
        let mut text = Vec::new();
        if let Some(mut stdout) = stdout {
            // Reading on past what is kept: a full pipe would stop the program.
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut chunk).await {
                text.extend_from_slice(chunk.get(..length).unwrap_or_default());
                let surplus = text.len().saturating_sub(OUTPUT);
                text.drain(..surplus);
            }
        }
        text
    };
    let (stdout, exit) = tokio::join!(read, process.wait());
    let exit = exit?;
    Ok(Answer {
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
