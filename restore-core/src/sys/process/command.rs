//! Programs to run, and programs that run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::model::Result;

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
