//! Programs to run, and programs that run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::model::{Error, Result};

/// A program to run in the context of a service (as its user, on its machine or in its container).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Command {
    /// Program and arguments. Never put a secret here: every user of the host can read it.
    pub argv: Vec<String>,
    /// Variables added to its environment. Not shown by `Debug` of errors or events.
    pub env: BTreeMap<String, String>,
    /// The directory to run in, where it matters.
    pub dir: Option<PathBuf>,
    /// It needs no power at all: where the service's programs run as root, this one runs as
    /// nobody.
    pub unprivileged: bool,
    /// What it may take in memory, in bytes, with all that it starts: bounded where it runs in a container
    /// of its own. `None`: no bound.
    pub memory: Option<u64>,
}

impl Command {
    /// A command from its program and arguments.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// The same command with one more variable in its environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }
}

/// A running [`Command`]. Dropping it kills the program.
#[async_trait]
pub trait Process: Send {
    /// Standard input; `None` once taken. Closing (dropping) it ends the program's input.
    fn stdin(&mut self) -> Option<Box<dyn AsyncWrite + Send + Unpin>>;
    /// Standard output; `None` once taken.
    fn stdout(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>>;
    /// Waits for the end: exit code (128 + signal where killed) and the last 16 KiB of
    /// standard error. Drains standard output where it was not taken.
    async fn wait(&mut self) -> Result<Exit>;
}

/// How a [`Process`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// The exit code; 128 + the signal's number where a signal ended it.
    pub code: i32,
    /// The last 16 KiB of standard error, lossily decoded.
    pub stderr: String,
}

impl Exit {
    /// An exit with its code and the end of its standard error.
    pub fn new(code: i32, stderr: impl Into<String>) -> Self {
        Self {
            code,
            stderr: stderr.into(),
        }
    }

    /// Whether the code is 0.
    pub fn success(&self) -> bool {
        self.code == 0
    }
}

/// How long what a program wrote last may be on its way once it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Waits for the end of a program that is given no input. Each piece of what it writes to its standard
/// output is given to `take`, up to a moment after its end: what it leaves in the background may hold
/// the pipe for ever. The second value says whether all of it could be read; whoever needs the whole asks it.
pub(crate) async fn to_its_end(
    mut process: Box<dyn Process>,
    mut take: impl FnMut(&[u8]) + Send,
) -> Result<(Exit, std::io::Result<()>)> {
    drop(process.stdin());
    let Some(mut stdout) = process.stdout() else {
        return Ok((process.wait().await?, Ok(())));
    };
    let mut reading = pin!(async move {
        let mut chunk = vec![0; 16 * 1024];
        loop {
            let length = stdout.read(&mut chunk).await?;
            if length == 0 {
                return Ok::<(), std::io::Error>(());
            }
            take(chunk.get(..length).unwrap_or_default());
        }
    });
    let mut read = None;
    let exit = {
        let mut waiting = process.wait();
        loop {
            tokio::select! {
                done = &mut reading, if read.is_none() => read = Some(done),
                exit = &mut waiting => break exit?,
            }
        }
    };
    let read = match read {
        Some(read) => read,
        None => {
            let rest = tokio::time::timeout(LAST_WORDS, reading).await;
            rest.unwrap_or_else(|_| {
                let why = "it has ended, and something that it has started holds its output open";
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
            })
        }
    };
    Ok((exit, read))
}

/// More of what a program prints is not kept by [`printed`].
const PRINTED: u64 = 1 << 20;

/// Lets a program that is given no further input go to its end; what it printed, at most a megabyte.
pub(crate) async fn printed(mut process: Box<dyn Process>, name: &str) -> Result<(String, Exit)> {
    drop(process.stdin());
    let mut text = Vec::new();
    if let Some(stdout) = process.stdout() {
        stdout
            .take(PRINTED)
            .read_to_end(&mut text)
            .await
            .map_err(|e| Error::io(format!("read what {name} prints"), e))?;
    }
    let exit = process.wait().await?;
    Ok((String::from_utf8_lossy(&text).into_owned(), exit))
}

/// A throwaway server over staged data. Stop it with [`Scratch::stop`]; dropping it kills it.
#[async_trait]
pub trait Scratch: Send + Sync {
    /// Asks it to end (SIGTERM), waits up to `grace`, then kills; returns once it is gone.
    async fn stop(self: Box<Self>, grace: Duration) -> Result<()>;
    /// The end of what it has written to its standard output and error, for messages.
    fn log_tail(&self) -> String;
    /// Whether it still runs.
    fn is_running(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::procs::Ident;
    use super::super::programs::plain_process;
    use super::*;

    async fn said(script: &str) -> (Exit, Vec<u8>, std::io::Result<()>) {
        let process = plain_process(&Command::new(["sh", "-c", script])).unwrap();
        let mut said = Vec::new();
        let ended = to_its_end(process, |piece| said.extend_from_slice(piece)).await;
        let (exit, read) = ended.unwrap();
        (exit, said, read)
    }

    #[tokio::test]
    async fn all_that_a_program_says_is_read_to_its_end() {
        let (exit, text, read) = said("cat; head -c 3000000 /dev/zero; echo end; exit 3").await;
        assert_eq!((exit.code, text.len()), (3, 3_000_004));
        assert!(text.ends_with(b"end\n"));
        read.unwrap();
    }

    #[tokio::test]
    async fn what_a_program_leaves_in_the_background_is_not_waited_for() {
        let begun = Instant::now();
        let (exit, text, read) = said("sleep 60 & echo $!").await;
        assert!(exit.success());
        // What it still says there is not known.
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(20));
        let pid = String::from_utf8_lossy(&text).trim().parse().unwrap();
        let left = Ident::of(pid).unwrap();
        assert!(left.signal(rustix::process::Signal::KILL).unwrap());
    }
}
