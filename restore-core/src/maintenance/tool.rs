//! Commands of the web server's, and of the site's own.

use std::sync::Arc;
use std::time::Duration;

use crate::contract::Platform;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::process::command::{Command, Process, to_its_end};
use crate::sys::process::programs::plain_process;

/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// No configuration is larger.
const LARGEST: usize = 64 << 20;

/// Runs commands in the context of the web server's service, where there is one.
#[derive(Clone)]
pub(crate) struct Tool {
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) service: Option<String>,
}

/// What a command said.
pub(crate) struct CommandOutput {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Why more may have been said than `stdout` has.
    unread: Option<std::io::Error>,
}

impl Tool {
    /// Runs `argv` to its end.
    pub(crate) async fn run(&self, argv: &[String]) -> Result<CommandOutput> {
        let command = Command::new(argv.to_vec());
        let work = async {
            let process = match &self.service {
                Some(service) => self.platform.exec(service, command).await?,
                None => plain_process(&command)?,
            };
            listen(argv, process).await
        };
        self.patiently(argv, work).await
    }

    /// Runs `argv` in each instance of the web server, where it must succeed.
    pub(crate) async fn run_checked_in_each(
        &self,
        argv: &[String],
        code: &'static str,
    ) -> Result<()> {
        let Some(service) = &self.service else {
            return succeeded(argv, self.run(argv).await?, code).map(drop);
        };
        let work = async {
            let command = Command::new(argv.to_vec());
            let mut said = Vec::new();
            for process in self.platform.exec_each(service, command).await? {
                said.push(listen(argv, process).await?);
            }
            Ok(said)
        };
        for said in self.patiently(argv, work).await? {
            succeeded(argv, said, code)?;
        }
        Ok(())
    }

    async fn patiently<T>(
        &self,
        argv: &[String],
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(said) => said,
            Err(_) => Err(Error::new(
                ErrorKind::Failed,
                "maintenance.command_hangs",
                format!("`{}` has not ended within {PATIENCE:?}", argv.join(" ")),
            )
            .hint("try that command by hand")),
        }
    }

    /// Runs `argv` to its end, where it must succeed, and all that it says be known; the error carries the program's
    /// own words.
    pub(crate) async fn run_checked(
        &self,
        argv: &[String],
        code: &'static str,
    ) -> Result<CommandOutput> {
        whole(argv, succeeded(argv, self.run(argv).await?, code)?)
    }
}

/// Waits for a command's end.
async fn listen(argv: &[String], process: Box<dyn Process>) -> Result<CommandOutput> {
    let mut stdout = Vec::new();
    let (exit, read) = to_its_end(process, |piece| {
        let room = LARGEST.saturating_sub(stdout.len()).min(piece.len());
        stdout.extend_from_slice(piece.get(..room).unwrap_or_default());
    })
    .await?;
    let unread = match read {
        // What it leaves in the background may hold its output; whoever needs all of it is told.
        Err(e) if e.kind() == std::io::ErrorKind::TimedOut => Some(e),
        read => {
            read.map_err(|e| unreadable(argv, e))?;
            None
        }
    };
    Ok(CommandOutput {
        code: exit.code,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: exit.stderr,
        unread,
    })
}

fn unreadable(argv: &[String], error: std::io::Error) -> Error {
    Error::io(format!("read what `{}` says", argv.join(" ")), error)
}

/// What was said, where that is all of it.
fn whole(argv: &[String], mut said: CommandOutput) -> Result<CommandOutput> {
    match said.unread.take() {
        Some(error) => Err(unreadable(argv, error)),
        None => Ok(said),
    }
}

fn succeeded(argv: &[String], said: CommandOutput, code: &'static str) -> Result<CommandOutput> {
    if said.code == 0 {
        return Ok(said);
    }
    Err(Error::new(
        ErrorKind::Failed,
        code,
        format!(
            "`{}` ended with exit code {}: {}",
            argv.join(" "),
            said.code,
            short_message(&said.stderr)
        ),
    ))
}

/// The lines that matter: warnings are left out where there is something worse.
fn short_message(stderr: &str) -> String {
    let worst: Vec<&str> = ["[emerg]", "[alert]", "[crit]", "[error]"]
        .iter()
        .flat_map(|level| stderr.lines().filter(move |line| line.contains(level)))
        .collect();
    if !worst.is_empty() {
        return worst.into_iter().take(3).collect::<Vec<_>>().join("; ");
    }
    let lines: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        return "it said nothing".to_owned();
    }
    let from = lines.len().saturating_sub(3);
    lines.get(from..).unwrap_or_default().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a configuration says otherwise than all of it.
    #[tokio::test]
    async fn a_part_of_what_it_says_is_not_taken_for_all() {
        let said = async |script: &str| {
            let argv = ["sh", "-c", script].map(str::to_owned);
            let process = plain_process(&Command::new(argv.clone())).unwrap();
            let said = listen(&argv, process).await.unwrap();
            assert_eq!((said.code, said.stdout.as_str()), (0, "http {}\n"));
            whole(&argv, said).map(drop)
        };
        said("echo 'http {}'").await.unwrap();
        let error = said("sleep 5 & echo 'http {}'").await.unwrap_err();
        assert!(error.message().contains("holds its output open"), "{error}");
    }
}
