//! Throwaway servers.

use std::io::Read;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process};

use super::account::Account;
use super::command::{Command, Scratch};
use super::exec::{code, kill_group};
use super::launch::{self, Bounds};
use super::tail::RingBuffer;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::retry::Retry;
use crate::sys::spans::ProgramSpan;

/// How often an end is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// How long something killed may take to be gone.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// Starts a server that does not outlive this process, even if we are killed, and that reaches no network
/// where this process can see to that: what it reads may be a program of strangers.
pub(crate) async fn spawn(command: Command, account: Option<Account>) -> Result<LocalScratch> {
    let name = command.argv.first().cloned().unwrap_or_default();
    let bounds = Bounds {
        dies_with_us: true,
        no_network: true,
    };
    let mut std = launch::command(&command.argv, account.as_ref(), bounds)?;
    std.envs(&command.env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(dir) = &command.dir {
        std.current_dir(dir);
    }
    let said = RingBuffer::default();
    let (started, start) = tokio::sync::oneshot::channel();
    let (release, released) = mpsc::channel::<()>();
    let tail = said.clone();
    // The kernel binds the child to the thread that made it, so that thread must last as long
    // as the child may: one of its own, which then waits until it is let go.
    std::thread::Builder::new()
        .name("scratch".to_owned())
        .spawn(move || {
            let spawned = std.spawn().map(|mut child| {
                let stdout = child.stdout.take().map(|pipe| Box::new(pipe) as _);
                let stderr = child.stderr.take().map(|pipe| Box::new(pipe) as _);
                for pipe in [stdout, stderr].into_iter().flatten() {
                    collect(pipe, tail.clone());
                }
                Guard(Arc::new(Mutex::new(child)))
            });
            // Where nobody waits any more the guard comes back and kills.
            let _ = started.send(spawned);
            let _ = released.recv();
        })
        .map_err(|e| Error::io(format!("start {name}"), e))?;
    let child = start
        .await
        .map_err(|_| {
            Error::new(
                ErrorKind::Internal,
                "local.scratch",
                "the thread of a scratch server ended before it began",
            )
        })?
        .map_err(|e| Error::io(format!("start {name}"), e))?;
    let span = ProgramSpan::open(&name, Some(child.id()));
    Ok(LocalScratch {
        child,
        span,
        name,
        said,
        _release: release,
    })
}

/// Reads a pipe to its end into the tail, on a thread of its own.
fn collect(mut pipe: Box<dyn Read + Send>, tail: RingBuffer) {
    // Without the thread the log stays empty, and the pipe is closed: the server goes on.
    let _ = std::thread::Builder::new()
        .name("scratch-log".to_owned())
        .spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                tail.push(buffer.get(..read).unwrap_or_default());
            }
        });
}

/// Kills the server when dropped.
struct Guard(Arc<Mutex<Child>>);

impl Guard {
    fn status(&self) -> std::io::Result<Option<ExitStatus>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_wait()
    }

    fn id(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).id()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if matches!(self.status(), Ok(None)) {
            kill_group(self.id());
            let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Killed: it is gone at once, and is not left as a zombie.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A throwaway server of this machine.
pub(crate) struct LocalScratch {
    child: Guard,
    span: ProgramSpan,
    name: String,
    said: RingBuffer,
    /// Dropped after the guard has killed: lets the thread go that the server is bound to.
    _release: mpsc::Sender<()>,
}

impl LocalScratch {
    async fn gone_within(&self, time: Duration) -> Result<bool> {
        let retry = Retry::within(time, LOOK);
        loop {
            let status = self
                .child
                .status()
                .map_err(|e| Error::io(format!("wait for {}", self.name), e))?;
            if let Some(status) = status {
                self.span.ended(code(status));
                return Ok(true);
            }
            if retry.is_over() {
                return Ok(false);
            }
            retry.pause().await;
        }
    }
}

#[async_trait]
impl Scratch for LocalScratch {
    async fn stop(self: Box<Self>, grace: Duration) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        // Not waited for, so the number is still its own.
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if self.gone_within(grace).await? {
            return Ok(());
        }
        kill_group(self.child.id());
        if self.gone_within(KILL_GRACE).await? {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Failed,
            "local.scratch_stays",
            format!(
                "the scratch server {} (pid {}) does not end, not even killed",
                self.name,
                self.child.id()
            ),
        )
        .hint("it hangs in the kernel, usually on a disk or network file system: look there"))
    }

    fn log_tail(&self) -> String {
        self.said.text()
    }

    fn is_running(&self) -> bool {
        matches!(self.child.status(), Ok(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        Command::new(["sh", "-c", script])
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(std::time::Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn its_log_is_kept_and_stopping_is_waited_for() {
        let script = "trap 'echo bye >&2; exit 0' TERM; echo up; while :; do sleep 0.02; done";
        let scratch = Box::new(spawn(sh(script), None).await.unwrap());
        until("up", || scratch.log_tail() == "up\n").await;
        assert!(scratch.is_running());
        let said = scratch.said.clone();
        scratch.stop(Duration::from_secs(10)).await.unwrap();
        until("bye", || said.text() == "up\nbye\n").await;
    }

    #[tokio::test]
    async fn it_reaches_no_network() {
        let script = "readlink /proc/self/ns/net; while :; do sleep 0.02; done";
        let scratch = spawn(sh(script), None).await.unwrap();
        until("its words", || scratch.log_tail().ends_with('\n')).await;
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        let is_ours = std::path::Path::new(scratch.log_tail().trim()) == ours;
        assert_eq!(is_ours, !rustix::process::geteuid().is_root());
    }

    #[tokio::test]
    async fn what_ignores_the_signal_is_killed() {
        let script = "trap '' TERM; echo up; while :; do sleep 0.02; done";
        let scratch = Box::new(spawn(sh(script), None).await.unwrap());
        until("up", || scratch.log_tail() == "up\n").await;
        let id = scratch.child.id().cast_signed();
        scratch.stop(Duration::from_millis(50)).await.unwrap();
        assert!(super::super::procs::Ident::of(id).is_none());
    }

    #[tokio::test]
    async fn dropping_kills_and_an_early_end_is_seen() {
        let scratch = spawn(sh("sleep 60"), None).await.unwrap();
        let id = scratch.child.id().cast_signed();
        drop(scratch);
        assert!(super::super::procs::Ident::of(id).is_none());
        let scratch = spawn(sh("echo no; exit 1"), None).await.unwrap();
        until("the end", || !scratch.is_running()).await;
        until("its words", || scratch.log_tail() == "no\n").await;
    }
}
