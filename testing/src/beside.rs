//! Agents that are started as processes of this machine, as they are beside volumes of others.

use std::path::PathBuf;
use std::process::Stdio;

use async_trait::async_trait;
use restore_core::Result;
use restore_core::platform::agent::Launch;
use restore_core::platform::{Exit, Process};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::process::{Child, Command};

/// The example `volume_agent`.
pub fn agent() -> PathBuf {
    crate::example("volume_agent")
}

/// Starts agents as processes of this machine; with `through`, by a shell script around them.
pub struct Here {
    pub root: PathBuf,
    pub through: Option<&'static str>,
    /// Whether an agent that nobody waits for any more is left running, as on another machine.
    pub leave: bool,
}

#[async_trait]
impl Launch for Here {
    async fn launch(&self) -> Result<Box<dyn Process>> {
        let mut command = match self.through {
            None => Command::new(agent()),
            Some(script) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", script, "sh"]).arg(agent());
                shell
            }
        };
        let child = command
            .arg(&self.root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(!self.leave)
            .spawn()
            .unwrap();
        Ok(Box::new(Running(child)))
    }

    fn describe(&self) -> String {
        "volume data of node worker".to_owned()
    }

    fn machine(&self) -> String {
        "worker".to_owned()
    }
}

struct Running(Child);

#[async_trait]
impl Process for Running {
    fn stdin(&mut self) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
        self.0.stdin.take().map(|pipe| Box::new(pipe) as _)
    }

    fn stdout(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
        self.0.stdout.take().map(|pipe| Box::new(pipe) as _)
    }

    async fn wait(&mut self) -> Result<Exit> {
        let mut stderr = String::new();
        let mut pipe = self.0.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).await.unwrap();
        let status = self.0.wait().await.unwrap();
        Ok(Exit::new(status.code().unwrap_or(-1), stderr))
    }
}
