//! Programs that run in the context of a service.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::process::{Child, ChildStdout};
use tokio::task::JoinHandle;

use super::account::Account;
use super::command::{Command, Exit, Process};
use super::launch::{self, Bounds};
use super::tail::RingBuffer;
use crate::model::{Error, Result};
use crate::sys::spans::ProgramSpan;

/// Starts a program as `account`, or as ourselves.
pub(crate) fn spawn(command: &Command, account: Option<&Account>) -> Result<LocalProcess> {
    let bounds = Bounds::default();
    start(command, launch::command(&command.argv, account, bounds)?)
}

/// Starts a program as ourselves that is not to outlive us.
pub(crate) fn spawn_bound(command: &Command) -> Result<LocalProcess> {
    let bounds = Bounds {
        dies_with_us: true,
        ..Bounds::default()
    };
    start(command, launch::command(&command.argv, None, bounds)?)
}

fn start(command: &Command, mut std: std::process::Command) -> Result<LocalProcess> {
    std.envs(&command.env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(dir) = &command.dir {
        std.current_dir(dir);
    }
    let name = command.argv.first().cloned().unwrap_or_default();
    let mut child = tokio::process::Command::from(std)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Error::io(format!("start {name}"), e))?;
    let span = ProgramSpan::open(&name, child.id());
    let said = RingBuffer::default();
    let stderr = child.stderr.take().map(|mut pipe| {
        let said = said.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
                said.push(buffer.get(..read).unwrap_or_default());
            }
        })
    });
    Ok(LocalProcess {
        stdout: child.stdout.take(),
        child,
        name,
        said,
        stderr,
        span,
    })
}

/// A program that runs, with everything it started in its process group.
pub(crate) struct LocalProcess {
    child: Child,
    name: String,
    stdout: Option<ChildStdout>,
    said: RingBuffer,
    stderr: Option<JoinHandle<()>>,
    span: ProgramSpan,
}

#[async_trait]
impl Process for LocalProcess {
    fn stdin(&mut self) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
        self.child.stdin.take().map(|pipe| Box::new(pipe) as _)
    }

    fn stdout(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
        self.stdout.take().map(|pipe| Box::new(pipe) as _)
    }

    async fn wait(&mut self) -> Result<Exit> {
        drop(self.child.stdin.take());
        if let Some(mut pipe) = self.stdout.take() {
            tokio::spawn(async move { tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await });
        }
        let status = self
            .child
            .wait()
            .await
            .map_err(|e| Error::io(format!("wait for {}", self.name), e))?;
        if let Some(mut reader) = self.stderr.take() {
            // A server that it left in the background holds the pipe open for ever.
            let _ = tokio::time::timeout(Duration::from_secs(1), &mut reader).await;
            reader.abort();
        }
        let code = code(status);
        self.span.ended(code);
        Ok(Exit::new(code, self.said.text()))
    }
}

impl Drop for LocalProcess {
    fn drop(&mut self) {
        // No id: it has been waited for, and the number may be another's by now.
        if let Some(id) = self.child.id() {
            kill_group(id);
        }
        if let Some(reader) = &self.stderr {
            reader.abort();
        }
    }
}

/// Kills whatever is in the group of a child of ours that has not been waited for.
pub(crate) fn kill_group(id: u32) {
    if let Some(pid) = Pid::from_raw(id.cast_signed()) {
        // Nobody left to kill is what is wanted.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// The exit code, 128 + the signal where one ended it.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::super::procs::Ident;
    use super::*;

    fn sh(script: &str) -> LocalProcess {
        spawn(&Command::new(["sh", "-c", script]), None).unwrap()
    }

    #[tokio::test]
    async fn streams_both_ways_and_gives_the_code() {
        let mut process = sh("tr a-z A-Z; echo oops >&2; exit 3");
        let mut stdin = process.stdin().unwrap();
        let mut stdout = process.stdout().unwrap();
        let big = vec![b'q'; 1 << 20];
        let writer = tokio::spawn(async move { stdin.write_all(&big).await });
        let mut read = Vec::new();
        stdout.read_to_end(&mut read).await.unwrap();
        writer.await.unwrap().unwrap();
        assert_eq!(read, vec![b'Q'; 1 << 20]);
        let exit = process.wait().await.unwrap();
        assert_eq!((exit.code, exit.stderr.as_str()), (3, "oops\n"));
    }

    #[tokio::test]
    async fn output_that_nobody_takes_does_not_block() {
        let exit = sh("head -c 1000000 /dev/zero; cat; kill -9 $$")
            .wait()
            .await
            .unwrap();
        assert_eq!(exit.code, 137);
    }

    #[tokio::test]
    async fn a_server_left_in_the_background_does_not_hold_us() {
        let mut process = sh("sleep 60 & echo $!");
        let mut stdout = process.stdout().unwrap();
        let exit = tokio::time::timeout(Duration::from_secs(10), process.wait())
            .await
            .unwrap();
        assert!(exit.unwrap().success());
        let mut line = [0; 32];
        let read = stdout.read(&mut line).await.unwrap();
        let pid: i32 = String::from_utf8_lossy(&line[..read])
            .trim()
            .parse()
            .unwrap();
        let left = Ident::of(pid).unwrap();
        assert!(left.signal(Signal::KILL).unwrap());
    }

    #[tokio::test]
    async fn dropping_kills_the_whole_group() {
        let mut process = sh("sleep 60 & echo $!; wait");
        let mut stdout = process.stdout().unwrap();
        let mut line = [0; 32];
        let read = stdout.read(&mut line).await.unwrap();
        let pid: i32 = String::from_utf8_lossy(&line[..read])
            .trim()
            .parse()
            .unwrap();
        let grandchild = Ident::of(pid).unwrap();
        drop(process);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while grandchild.lives() {
            assert!(std::time::Instant::now() < deadline, "still runs");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
