//! Programs in the containers of a service's tasks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::engine::{Engine, Refused};
use crate::model::{Error, ErrorKind, Result};
use crate::sys::process::command::{Command, Exit, Process};
use crate::sys::process::programs::stranger;
use crate::sys::process::tail::RingBuffer;
use crate::sys::spans::ProgramSpan;

/// How much output may wait for its reader.
const PIPE: usize = 256 * 1024;

/// How often an end is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// How long the last words of a program that has ended may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long input may wait to be taken before it is looked whether its program has ended: the engine
/// reads on, and fails a write only after minutes, when nobody takes what it has read.
const STALLED: Duration = Duration::from_secs(1);

/// What shells say of a program that cannot be run.
const NEVER_STARTED: i64 = 126;

/// A program in a container.
pub(crate) struct ExecProcess {
    engine: Arc<Engine>,
    id: String,
    name: String,
    stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    stdout: Option<DuplexStream>,
    said: RingBuffer,
    pump: Option<JoinHandle<()>>,
    ended: bool,
    span: ProgramSpan,
}

impl ExecProcess {
    /// Starts `command` in a container that runs, as the user that the container runs as.
    pub(crate) async fn start(
        engine: Arc<Engine>,
        container: &str,
        command: &Command,
    ) -> Result<Self> {
        let name = command.argv.first().cloned().unwrap_or_default();
        let what = format!("run {name} in a container");
        let docker = engine.docker().await?;
        let user = match command.unprivileged {
            true => {
                let seen = docker
                    .inspect_container(container, None)
                    .await
                    .map_err(|e| engine.refused(&what, e))?;
                let user = seen.config.and_then(|config| config.user);
                is_root(user.as_deref().unwrap_or_default()).then(|| format!("{0}:{0}", stranger()))
            }
            false => None,
        };
        let config = ExecConfig {
            user,
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            cmd: Some(command.argv.clone()),
            env: Some(environment(command)),
            working_dir: command
                .dir
                .as_ref()
                .map(|dir| dir.to_string_lossy().into_owned()),
            ..ExecConfig::default()
        };
        let id = docker
            .create_exec(container, config)
            .await
            .map_err(|e| engine.refused(&what, e))?
            .id;
        let options = StartExecOptions {
            output_capacity: Some(PIPE),
            ..StartExecOptions::default()
        };
        let started = docker
            .start_exec(&id, Some(options))
            .await
            .map_err(|e| engine.refused(&what, e))?;
        let StartExecResults::Attached { output, input } = started else {
            return Err(Error::new(
                ErrorKind::Internal,
                "swarm.exec",
                format!("cannot {what}: the engine did not attach to it"),
            ));
        };
        let said = RingBuffer::default();
        let (stdout, sink) = tokio::io::duplex(PIPE);
        let pump = tokio::spawn(pump(output, sink, said.clone()));
        Ok(Self {
            span: ProgramSpan::in_container(&name, container),
            id,
            name,
            stdin: Some(Box::new(input)),
            stdout: Some(stdout),
            said,
            pump: Some(pump),
            ended: false,
            engine: engine.clone(),
        })
    }
}

/// Whether an image's user is root, by the name or number that it has for it.
fn is_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    matches!(name, "" | "root") || name.bytes().all(|byte| byte == b'0')
}

/// The exit code, once there is one. A program whose output has `ended` and that has none never
/// began.
async fn code(engine: &Engine, id: &str, name: &str, ended: bool) -> Result<Option<i64>> {
    let look = || async {
        let docker = engine.docker().await?;
        let seen = docker
            .inspect_exec(id)
            .await
            .map_err(|e| engine.refused(&format!("wait for {name}"), e))?;
        Ok(match seen.running {
            Some(true) => None,
            _ => seen.exit_code.or(ended.then_some(NEVER_STARTED)),
        })
    };
    engine
        .patiently(look)
        .await
        .map_err(|e| match e.is(&Refused::NotFound) {
            // The engine forgets an exec with its container.
            true => Error::new(
                ErrorKind::Failed,
                "swarm.exec_lost",
                format!("the container that {name} ran in is gone"),
            )
            .hint("its service was stopped, or the engine was restarted: try again")
            .retryable(),
            false => e,
        })
}

/// What a command adds to the environment, as the engine takes it.
pub(crate) fn environment(command: &Command) -> Vec<String> {
    let env = command.env.iter();
    env.map(|(key, value)| format!("{key}={value}")).collect()
}

/// Hands output on until its end. A reader that went away does not stop the program: what comes
/// is dropped.
async fn pump(
    mut output: impl futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
    mut sink: DuplexStream,
    said: RingBuffer,
) {
    let mut read = true;
    while let Some(Ok(chunk)) = output.next().await {
        match chunk {
            LogOutput::StdOut { message } if read => {
                read = sink.write_all(&message).await.is_ok();
            }
            LogOutput::StdOut { .. } => {}
            // The engine's own words, why it could not start the program, come unframed.
            LogOutput::StdErr { message }
            | LogOutput::Console { message }
            | LogOutput::StdIn { message } => said.push(&message),
        }
    }
}

#[async_trait]
impl Process for ExecProcess {
    fn stdin(&mut self) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
        let pipe = self.stdin.take()?;
        Some(half_closed(Box::new(UntilEnded {
            pipe,
            engine: self.engine.clone(),
            id: self.id.clone(),
            look: None,
        })))
    }

    fn stdout(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
        self.stdout.take().map(|pipe| Box::new(pipe) as _)
    }

    async fn wait(&mut self) -> Result<Exit> {
        if let Some(mut stdin) = self.stdin.take() {
            // A program that has ended already takes no end of input.
            let _ = stdin.shutdown().await;
        }
        drop(self.stdout.take());
        let code = loop {
            if let Some(pump) = &mut self.pump {
                // Output that ends is the usual sign; a server left in the background holds it.
                tokio::select! {
                    _ = pump => self.pump = None,
                    () = tokio::time::sleep(LOOK) => {}
                }
            } else {
                tokio::time::sleep(LOOK / 10).await;
            }
            let ended = self.pump.is_none();
            if let Some(code) = code(&self.engine, &self.id, &self.name, ended).await? {
                break code;
            }
        };
        self.ended = true;
        if let Some(mut pump) = self.pump.take() {
            let _ = tokio::time::timeout(LAST_WORDS, &mut pump).await;
            pump.abort();
        }
        let code = i32::try_from(code).unwrap_or(-1);
        self.span.ended(code);
        Ok(Exit::new(code, self.said.text()))
    }
}

impl Drop for ExecProcess {
    fn drop(&mut self) {
        if let Some(pump) = &self.pump {
            pump.abort();
        }
        if self.ended {
            return;
        }
        // The engine cannot end a program, only its own kernel can. On another host the program
        // sees its input end; its number is another process's here.
        if !self.engine.is_here() {
            return;
        }
        let (engine, id) = (self.engine.clone(), self.id.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { kill(&engine, &id).await });
        }
    }
}

/// Kills a program of a container, where it is a process that we may signal.
async fn kill(engine: &Engine, id: &str) {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let process = async || {
        let seen = engine.docker().await.ok()?.inspect_exec(id).await.ok()?;
        let pid = i32::try_from(seen.pid?).ok().filter(|pid| *pid > 0)?;
        seen.running.filter(|runs| *runs).and(Pid::from_raw(pid))
    };
    let Some(pid) = process().await else { return };
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    // Still running after its number was held on to: the number is its own.
    if process().await == Some(pid) {
        let _ = pidfd_send_signal(&held, Signal::KILL);
    }
}

/// The input of a program, which breaks when the program has ended.
struct UntilEnded {
    pipe: Box<dyn AsyncWrite + Send + Unpin>,
    engine: Arc<Engine>,
    id: String,
    /// Tells, after a while, whether the program has ended; there while a write waits.
    look: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
}

impl UntilEnded {
    async fn has_ended(engine: Arc<Engine>, id: String) -> bool {
        tokio::time::sleep(STALLED).await;
        match engine.docker().await {
            Ok(docker) => {
                let seen = docker.inspect_exec(&id).await;
                seen.is_ok_and(|seen| seen.running == Some(false))
            }
            Err(_) => false,
        }
    }
}

impl AsyncWrite for UntilEnded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut self.pipe).poll_write(cx, bytes) {
            self.look = None;
            return Poll::Ready(written);
        }
        loop {
            let (engine, id) = (self.engine.clone(), self.id.clone());
            let look = self
                .look
                .get_or_insert_with(|| Box::pin(Self::has_ended(engine, id)));
            let ended = std::task::ready!(look.as_mut().poll(cx));
            self.look = None;
            if ended {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// The same pipe, whose end reaches the program when it is dropped.
pub(crate) fn half_closed(
    pipe: Box<dyn AsyncWrite + Send + Unpin>,
) -> Box<dyn AsyncWrite + Send + Unpin> {
    Box::new(HalfClosed(Some(pipe)))
}

/// Dropping a half of a connection does not close it: this does, as the end of a pipe would.
struct HalfClosed(Option<Box<dyn AsyncWrite + Send + Unpin>>);

impl Drop for HalfClosed {
    fn drop(&mut self) {
        if let (Some(mut pipe), Ok(runtime)) =
            (self.0.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                let _ = pipe.shutdown().await;
            });
        }
    }
}

impl AsyncWrite for HalfClosed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Some(pipe) => Pin::new(pipe).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Some(pipe) => Pin::new(pipe).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Some(pipe) => Pin::new(pipe).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
