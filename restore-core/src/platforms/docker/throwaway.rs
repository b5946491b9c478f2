//! Throwaway containers: of a service's own image, as its user, with its data.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::copy_into_container as put;
use super::engine::{Engine, Refused};
use super::exec::environment;
use super::json::text;
use super::process_identity::{Liveness, ProcessIdentity};
use crate::model::{Error, ErrorKind, Result};
use crate::sys::process::command::{Command, Exit, Process, Scratch};
use crate::sys::process::tail::RingBuffer;

/// The label of every container of ours: the site's name.
pub(crate) const SITE: &str = "restore.site";

/// How long something killed may take to be gone.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// How much output may wait for its reader.
const PIPE: usize = 256 * 1024;

/// What root may do in a container of ours, besides what everybody may: read and write files of
/// others, give them owners, modes and capabilities, and run and end programs as others.
const POWERS: [&str; 8] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "SETFCAP",
    "SETUID",
    "SETGID",
    "KILL",
];

/// So many processes: a server of a few hundred connections and no bomb.
const PROCESSES: i64 = 1024;

/// What a program of ours may take, in bytes, pages of files that it writes included: several times
/// what it does take, so that a bomb ends it and not the node. Of what it starts itself it is told: see
/// [`IdleContainer::allow`].
const MEMORY: i64 = 512 << 20;

/// The one place of a container of ours that can be written besides `/tmp` and what it is beside: an engine
/// puts nothing into one whose root is read-only, but into a volume of its own, which it removes with it.
const PROGRAMS: &str = "/restore-agent";

/// What a throwaway container is made from.
pub(crate) struct Recipe<'a> {
    pub(crate) site: &'a str,
    /// Whose it is, for people: "the service x".
    pub(crate) of: String,
    pub(crate) image: String,
    pub(crate) mounts: Value,
    pub(crate) user: Option<String>,
    pub(crate) dir: Option<String>,
    pub(crate) command: &'a Command,
    /// A program of this host, put into it: see [`program_path`].
    pub(crate) program: Option<(&'a Path, &'a str)>,
}

/// Where a program of this name lies in the container that it is put into.
pub(crate) fn program_path(name: &str) -> String {
    format!("{PROGRAMS}/{name}")
}

/// A container that runs; dropping it removes it. One that is left behind by a crash is found by
/// its labels.
pub(crate) struct Helper {
    engine: Arc<Engine>,
    id: String,
    name: String,
    said: RingBuffer,
    ended: Arc<AtomicBool>,
    pump: Option<JoinHandle<()>>,
    waiter: Option<JoinHandle<Option<i64>>>,
    removed: bool,
}

/// A program in a throwaway container.
pub(crate) struct HelperProcess {
    helper: Helper,
    stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    stdout: Option<DuplexStream>,
}

impl Helper {
    /// A throwaway server.
    pub(crate) async fn server(engine: Arc<Engine>, recipe: &Recipe<'_>) -> Result<Self> {
        Ok(Self::start(engine, recipe, false).await?.0)
    }

    /// A program that is waited for.
    pub(crate) async fn program(engine: Arc<Engine>, recipe: &Recipe<'_>) -> Result<HelperProcess> {
        let (helper, stdin, stdout) = Self::start(engine, recipe, true).await?;
        Ok(HelperProcess {
            helper,
            stdin: Some(stdin),
            stdout: Some(stdout),
        })
    }

    /// Makes and starts a container. With `tied` its input is ours and its standard output goes
    /// to a reader; else both outputs are kept for messages.
    async fn start(
        engine: Arc<Engine>,
        recipe: &Recipe<'_>,
        tied: bool,
    ) -> Result<(Self, Box<dyn AsyncWrite + Send + Unpin>, DuplexStream)> {
        let name = recipe.command.argv.first().cloned().unwrap_or_default();
        let what = format!("run {name} in a container of {}", recipe.of);
        let docker = engine.docker().await?;
        // A container would make what is missing, empty.
        for mount in recipe.mounts.as_array().into_iter().flatten() {
            if text(mount, "/Type").as_deref() == Some("volume") {
                let volume = text(mount, "/Source").unwrap_or_default();
                if engine.volume(&volume).await?.is_none() {
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        "platform.no_volume",
                        format!("cannot {what}: the engine at {} has no volume {volume}", engine.place()),
                    )
                    .hint("its data is on another node, or was never made: `docker volume ls` on each"));
                }
            }
        }
        let body = body(recipe, tied);
        let id = docker
            .create_container(None, body)
            .await
            .map_err(|e| {
                let error = engine.refused(&what, e);
                match error.is(&Refused::NotFound) {
                    true => error.hint(format!(
                        "the image {} is not on this node: pull it, or load it from a backup",
                        recipe.image
                    )),
                    false => error,
                }
            })?
            .id;
        let mut helper = Self {
            id,
            name,
            said: RingBuffer::default(),
            ended: Arc::new(AtomicBool::new(false)),
            pump: None,
            waiter: None,
            removed: false,
            engine: engine.clone(),
        };
        if let Some((program, name)) = recipe.program {
            put::program(&engine, &helper.id, program, (PROGRAMS, name)).await?;
        }
        let attached = docker
            .attach_container(
                &helper.id,
                Some(
                    AttachContainerOptionsBuilder::default()
                        .stdin(tied)
                        .stdout(true)
                        .stderr(true)
                        .stream(true)
                        .build(),
                ),
            )
            .await
            .map_err(|e| engine.refused(&what, e))?;
        let (stdout, sink) = tokio::io::duplex(PIPE);
        let sink = tied.then_some(sink);
        helper.pump = Some(tokio::spawn(pump(
            attached.output,
            sink,
            helper.said.clone(),
        )));
        docker
            .start_container(&helper.id, None)
            .await
            .map_err(|e| {
                let place = recipe.program.map(|(_, name)| program_path(name));
                let for_it = place.is_some_and(|place| Refused::for_its_program(&e, &place));
                let error = engine.refused(&what, e);
                match for_it {
                    true => error.because(Refused::NotStarted),
                    false => error,
                }
            })?;
        helper.waiter = Some(tokio::spawn(ended(
            engine.clone(),
            helper.id.clone(),
            helper.ended.clone(),
        )));
        Ok((helper, Box::new(attached.input), stdout))
    }

    /// A program that goes on until this is dropped or the process ends, however it does: its input
    /// is ours.
    pub(crate) async fn kept(engine: Arc<Engine>, recipe: &Recipe<'_>) -> Result<IdleContainer> {
        let (helper, stdin, stdout) = Self::start(engine, recipe, true).await?;
        Ok(IdleContainer {
            helper,
            _stdin: stdin.into(),
            _stdout: stdout,
            memory: MEMORY,
        })
    }

    async fn remove(&mut self) -> Result<()> {
        remove(&self.engine, &self.id).await?;
        self.removed = true;
        Ok(())
    }
}

/// A container that is there for others to run programs in.
pub(crate) struct IdleContainer {
    helper: Helper,
    /// Held, never used.
    _stdin: std::sync::Mutex<Box<dyn AsyncWrite + Send + Unpin>>,
    _stdout: DuplexStream,
    /// What all that runs in it may take.
    memory: i64,
}

impl IdleContainer {
    pub(crate) fn container(&self) -> &str {
        &self.helper.id
    }

    pub(crate) fn is_running(&self) -> bool {
        self.helper.is_running()
    }

    /// Whether its program ends within this time; then what it has said is all there.
    pub(crate) async fn ends_within(&mut self, patience: Duration) -> bool {
        let ends = async {
            while self.helper.is_running() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(patience, ends).await.is_err() {
            return false;
        }
        if let Some(mut pump) = self.helper.pump.take() {
            let _ = tokio::time::timeout(Duration::from_secs(1), &mut pump).await;
            pump.abort();
        }
        true
    }

    /// What its program has said.
    pub(crate) fn log_tail(&self) -> String {
        self.helper.said.text()
    }

    /// Lets programs that are started by one of ours take so many bytes. Never less than before: another one
    /// may be at work.
    pub(crate) async fn allow(&mut self, memory: u64) {
        let most = with_ours(memory);
        if most <= self.memory {
            return;
        }
        let what = "give a container of our own more memory";
        let path = format!("/containers/{}/update", self.helper.id);
        let limits = json!({"Memory": most, "MemorySwap": most});
        // Without it, what needs that much is ended, and says so; what does not goes on.
        if self.helper.engine.post(what, &path, &limits).await.is_ok() {
            self.memory = most;
        }
    }

    pub(crate) async fn remove(mut self) -> Result<()> {
        self.helper.remove().await
    }
}

/// What a container may take in which programs take so much besides ours.
fn with_ours(memory: u64) -> i64 {
    MEMORY.saturating_add(i64::try_from(memory).unwrap_or(i64::MAX))
}

/// Removes a container, running or not; one that is gone is as wanted.
async fn remove(engine: &Engine, id: &str) -> Result<()> {
    let options = RemoveContainerOptionsBuilder::default()
        .force(true)
        .v(true)
        .build();
    engine
        .patiently(|| async {
            let docker = engine.docker().await?;
            match docker.remove_container(id, Some(options.clone())).await {
                Ok(()) => Ok(()),
                Err(e) => match engine.refused("remove a throwaway container", e) {
                    error if error.is(&Refused::NotFound) => Ok(()),
                    error if error.is(&Refused::Leaving) => Ok(()),
                    error => Err(error),
                },
            }
        })
        .await
}

/// Removes what processes of this site left behind that are gone.
pub(crate) async fn tidy(engine: &Engine, site: &str) -> Result<()> {
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&HashMap::from([("label", vec![format!("{SITE}={site}")])]))
        .build();
    let left = engine
        .patiently(|| async {
            let docker = engine.docker().await?;
            docker
                .list_containers(Some(options.clone()))
                .await
                .map_err(|e| engine.refused("list the containers", e))
        })
        .await?;
    for container in left {
        let labels = container.labels.unwrap_or_default();
        // Those of other hosts are left behind too: the site's lock is ours.
        if ProcessIdentity::read(&labels).is_some_and(|who| who.fate() == Liveness::Lives) {
            continue;
        }
        if let Some(id) = container.id {
            remove(engine, &id).await?;
        }
    }
    Ok(())
}

fn body(recipe: &Recipe<'_>, tied: bool) -> ContainerCreateBody {
    let mut labels = ProcessIdentity::here().labels();
    labels.insert(SITE.to_owned(), recipe.site.to_owned());
    let mut argv = recipe.command.argv.iter().cloned();
    ContainerCreateBody {
        image: Some(recipe.image.clone()),
        entrypoint: Some(argv.next().into_iter().collect()),
        cmd: Some(argv.collect()),
        env: Some(environment(recipe.command)),
        user: recipe.user.clone(),
        working_dir: recipe
            .command
            .dir
            .as_ref()
            .map(|dir| dir.to_string_lossy().into_owned())
            .or_else(|| recipe.dir.clone()),
        stop_signal: Some("SIGTERM".to_owned()),
        attach_stdin: Some(tied),
        open_stdin: Some(tied),
        stdin_once: Some(tied),
        labels: Some(labels),
        // The image's own would call it unhealthy.
        healthcheck: Some(bollard::models::HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..Default::default()
        }),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            mounts: serde_json::from_value(mounts(recipe)).ok(),
            // Of one that is kept nothing is wanted any more once its program has ended.
            auto_remove: Some(recipe.program.is_some()),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([
                    ("max-size".to_owned(), "1m".to_owned()),
                    ("max-file".to_owned(), "1".to_owned()),
                ])),
            }),
            // Its programs are the image's.
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(POWERS.map(str::to_owned).to_vec()),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            readonly_rootfs: Some(true),
            tmpfs: Some(HashMap::from([("/tmp".to_owned(), String::new())])),
            pids_limit: Some(PROCESSES),
            memory: memory(recipe),
            memory_swap: memory(recipe),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// What the container is beside, and where a program of ours is put.
fn mounts(recipe: &Recipe<'_>) -> Value {
    let mut mounts = recipe.mounts.clone();
    if recipe.program.is_some()
        && let Value::Array(mounts) = &mut mounts
    {
        // Without a source: it goes with its container.
        mounts.push(
            json!({"Type": "volume", "Target": PROGRAMS, "VolumeOptions":
            {"NoCopy": true, "Labels": {SITE: recipe.site}}}),
        );
    }
    mounts
}

/// A server's need is its data's, which whoever starts it knows; a program of ours needs the same for any.
fn memory(recipe: &Recipe<'_>) -> Option<i64> {
    match (recipe.program, recipe.command.memory) {
        (Some(_), _) => Some(MEMORY),
        (None, most) => most.map(|most| i64::try_from(most).unwrap_or(i64::MAX)),
    }
}

/// A service's mounts for a container of our own: what exists, and nothing that would be made.
pub(crate) fn mounts_of(mounts: Value) -> Value {
    let Value::Array(mounts) = mounts else {
        return json!([]);
    };
    // A volume without a name is one of its container's own.
    let named = |mount: &Value| {
        text(mount, "/Type").as_deref() != Some("volume")
            || text(mount, "/Source").is_some_and(|source| !source.is_empty())
    };
    Value::Array(mounts.into_iter().filter(named).collect())
}

/// Waits until a container has ended, engine restarts included.
async fn ended(engine: Arc<Engine>, id: String, flag: Arc<AtomicBool>) -> Option<i64> {
    let options = WaitContainerOptionsBuilder::default()
        .condition("not-running")
        .build();
    let code = match engine.docker().await {
        Ok(docker) => match docker.wait_container(&id, Some(options)).next().await {
            Some(Ok(answer)) => Some(answer.status_code),
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => Some(code),
            _ => None,
        },
        Err(_) => None,
    };
    flag.store(true, Ordering::Release);
    code
}

async fn pump(
    mut output: impl futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
    mut sink: Option<DuplexStream>,
    said: RingBuffer,
) {
    let mut read = true;
    while let Some(Ok(chunk)) = output.next().await {
        match (chunk, &mut sink) {
            // Where nobody reads it is dropped, so that the program goes on.
            (LogOutput::StdOut { message }, Some(pipe)) => {
                read = read && pipe.write_all(&message).await.is_ok();
            }
            (
                LogOutput::StdOut { message }
                | LogOutput::StdErr { message }
                | LogOutput::Console { message }
                | LogOutput::StdIn { message },
                _,
            ) => said.push(&message),
        }
    }
}

#[async_trait]
impl Scratch for Helper {
    async fn stop(mut self: Box<Self>, grace: Duration) -> Result<()> {
        let what = format!("stop {}", self.name);
        let seconds = i32::try_from(grace.as_secs().max(1)).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let docker = self.engine.docker().await?;
        let stopping = docker.stop_container(&self.id, Some(options));
        match tokio::time::timeout(grace + KILL_GRACE, stopping).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => {
                let error = self.engine.refused(&what, e);
                if !error.is(&Refused::NotFound) && !error.is_retryable() {
                    return Err(error);
                }
            }
            Err(_) => {}
        }
        self.remove().await
    }

    fn log_tail(&self) -> String {
        self.said.text()
    }

    fn is_running(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }
}

#[async_trait]
impl Process for HelperProcess {
    fn stdin(&mut self) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
        self.stdin.take().map(super::exec::half_closed)
    }

    fn stdout(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
        self.stdout.take().map(|pipe| Box::new(pipe) as _)
    }

    async fn wait(&mut self) -> Result<Exit> {
        if let Some(mut stdin) = self.stdin.take() {
            let _ = stdin.shutdown().await;
        }
        drop(self.stdout.take());
        let helper = &mut self.helper;
        let code = match helper.waiter.take() {
            Some(waiter) => waiter.await.ok().flatten(),
            None => None,
        };
        if let Some(mut pump) = helper.pump.take() {
            let _ = tokio::time::timeout(Duration::from_secs(1), &mut pump).await;
            pump.abort();
        }
        helper.remove().await?;
        let code = code.ok_or_else(|| {
            Error::new(
                ErrorKind::Failed,
                "swarm.exec_lost",
                format!(
                    "how {} ended is not known: its container went away",
                    helper.name
                ),
            )
            .retryable()
        })?;
        Ok(Exit::new(
            i32::try_from(code).unwrap_or(-1),
            helper.said.text(),
        ))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(pump) = &self.pump {
            pump.abort();
        }
        if let Some(waiter) = &self.waiter {
            waiter.abort();
        }
        if self.removed {
            return;
        }
        let (engine, id) = (self.engine.clone(), self.id.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Where even that fails the next run finds it by its labels.
            runtime.spawn(async move { remove(&engine, &id).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_takes_no_more_memory_than_was_meant() {
        for (bound, program, most) in [
            (None, None, None),
            (Some(3 << 30), None, Some(3 << 30)),
            (Some(u64::MAX), None, Some(i64::MAX)),
            (None, Some((Path::new("/p"), "p")), Some(MEMORY)),
        ] {
            let mut command = Command::new(["redis-server"]);
            command.memory = bound;
            let recipe = Recipe {
                site: "s",
                of: "the service x".to_owned(),
                image: "x".to_owned(),
                mounts: json!([]),
                user: None,
                dir: None,
                command: &command,
                program,
            };
            let host = body(&recipe, false).host_config.unwrap();
            assert_eq!((host.memory, host.memory_swap), (most, most));
            // Nothing of its own can be written but what goes with it.
            assert_eq!(host.readonly_rootfs, Some(true));
            let mounts = host.mounts.unwrap();
            assert_eq!(mounts.len(), usize::from(program.is_some()));
            for mount in mounts {
                assert_eq!(
                    (mount.source, mount.target.as_deref()),
                    (None, Some(PROGRAMS))
                );
            }
        }
    }

    #[test]
    fn what_a_program_of_ours_starts_has_its_own_share() {
        assert_eq!(with_ours(0), MEMORY);
        assert_eq!(with_ours(4 << 30), MEMORY + (4 << 30));
        assert_eq!(with_ours(u64::MAX), i64::MAX);
    }
}
