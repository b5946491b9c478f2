//! Programs of this host that talk to an engine, such as Docker's own command line.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::model::{Error, ErrorKind, Result};
use crate::sys::process::command::{Command, to_its_end};
use crate::sys::process::programs::bound_process;

/// How much of a program's words a message can use.
const WORDS: usize = 4 * 1024;

/// How much of what it says is read.
const SAID: usize = 1 << 20;

/// Runs a program of this host to its end; it is killed when we are.
pub(crate) async fn run(command: Command, patience: Duration) -> Result<()> {
    said(command, Vec::new(), patience).await.map(drop)
}

/// As `run`, of one that is given all of this input before it says much.
pub(crate) async fn run_with(command: Command, input: Vec<u8>, patience: Duration) -> Result<()> {
    said(command, input, patience).await.map(drop)
}

/// As `run`; all that it has said.
pub(crate) async fn output(command: Command, patience: Duration) -> Result<String> {
    let what = format!("read what `{}` says", command.argv.join(" "));
    let (said, read) = said(command, Vec::new(), patience).await?;
    read.map_err(|e| Error::io(what, e))?;
    Ok(said)
}

/// What it has said, and whether that is all of it.
async fn said(
    command: Command,
    input: Vec<u8>,
    patience: Duration,
) -> Result<(String, std::io::Result<()>)> {
    let shown = command.argv.join(" ");
    let work = async {
        let mut words = Vec::new();
        let mut process = bound_process(&command)?;
        if let Some(mut stdin) = process.stdin() {
            // Why one does not take it says how it ends.
            let _ = stdin.write_all(&input).await;
        }
        let (exit, read) = to_its_end(process, |piece| {
            // What it says is short; more of it than this would be no words.
            let room = SAID.saturating_sub(words.len()).min(piece.len());
            words.extend_from_slice(piece.get(..room).unwrap_or_default());
        })
        .await?;
        Ok((words, exit, read))
    };
    let (stdout, exit, read) = match tokio::time::timeout(patience, work).await {
        Ok(ended) => ended?,
        Err(_) => {
            return Err(Error::new(
                ErrorKind::Failed,
                "docker.program_hangs",
                format!(
                    "`{shown}` did not end within {} s and was killed",
                    patience.as_secs()
                ),
            ));
        }
    };
    let stdout = String::from_utf8_lossy(&stdout);
    if exit.success() {
        return Ok((stdout.into_owned(), read));
    }
    let words: Vec<&str> = exit
        .stderr
        .lines()
        .chain(stdout.lines())
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let words: String = words.join("; ").chars().take(WORDS).collect();
    Err(Error::new(
        ErrorKind::Failed,
        "docker.program_failed",
        format!("`{shown}` ended with exit code {}: {words}", exit.code),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part of an answer is none.
    #[tokio::test]
    async fn what_could_not_be_read_to_its_end_is_not_taken_for_all() {
        let patience = Duration::from_secs(20);
        let command = Command::new(["sh", "-c", "sleep 5 & echo part"]);
        let error = output(command.clone(), patience).await.unwrap_err();
        assert!(error.message().contains("holds its output open"), "{error}");
        run(command, patience).await.unwrap();
    }

    #[tokio::test]
    async fn a_program_is_given_all_of_its_input() {
        let input = || vec![b'x'; 300_000];
        let patience = Duration::from_secs(20);
        let counts = Command::new(["sh", "-c", "[ \"$(wc -c)\" -eq 300000 ]"]);
        run_with(counts, input(), patience).await.unwrap();
        // One that does not want it ends as it does.
        let deaf = Command::new(["sh", "-c", "echo no >&2; exit 3"]);
        let error = run_with(deaf, input(), patience).await.unwrap_err();
        assert_eq!(error.code(), "docker.program_failed");
        assert!(error.message().ends_with("exit code 3: no"), "{error}");
    }
}
