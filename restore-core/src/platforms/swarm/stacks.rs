//! Stacks: deployed by the engine's own program, and put back by what was recorded.
//!
//! Compose files are read by `docker stack deploy` alone, so that they mean here what they mean to
//! whoever wrote them. What it replaces is not described by the files that were there before: they
//! may have been changed since they were last deployed. So the way back is to the descriptions
//! themselves.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::SwarmPlatform;
use super::config::ServiceConfig;
use super::scale::desired;
use super::snapshot::{Mode, ServiceSnapshot};
use crate::contract::Stacks;
use crate::model::{Error, ErrorKind, Finding, Result, Timestamp};
use crate::platforms::docker::engine::Engine;
use crate::platforms::docker::json::{encoded, text};
use crate::sys::process::command::Command;
use crate::sys::process::programs::bound_process;

/// By this label the engine's program knows what belongs to a stack.
pub(super) const STACK: &str = "com.docker.stack.namespace";

/// Longer than a deployment takes to be described; that it runs is waited for afterwards.
const DEPLOY: Duration = Duration::from_secs(120);

/// How long the swarm may take to give up what is no longer used.
const RELEASE: Duration = Duration::from_secs(60);

/// Within this time the swarm begins to do what a new description says.
const BEGIN: Duration = Duration::from_secs(3);

/// A service of which a task failed so shortly ago does not run as described, whatever runs now.
const CALM: Duration = Duration::from_secs(30);

/// The keys of a snapshot: descriptions by names, and the names of what ran as described.
const SERVICES: &str = "services";
const SETTLED: &str = "settled";

/// How often the swarm is asked.
const LOOK: Duration = Duration::from_millis(200);

/// How much of a program's words a message can use.
const WORDS: usize = 4 * 1024;

/// What a stack has besides services, in the order in which it can be removed: where the engine
/// lists it, and where its name is.
const THINGS: [(&str, &str); 3] = [
    ("networks", "/Name"),
    ("secrets", "/Spec/Name"),
    ("configs", "/Spec/Name"),
];

impl Engine {
    pub(super) async fn of_stack(&self, stack: &str) -> Result<Vec<ServiceSnapshot>> {
        let services = self.all_services().await?;
        let belongs = |view: &ServiceSnapshot| {
            let label = view.spec.pointer("/Labels").and_then(|it| it.get(STACK));
            label.and_then(Value::as_str) == Some(stack)
        };
        Ok(services.into_iter().filter(belongs).collect())
    }

    /// Names and ids of one kind of things that belong to a stack.
    async fn things(&self, stack: &str, kind: &str, name: &str) -> Result<Vec<(String, String)>> {
        let filter = encoded(&json!({"label": [format!("{STACK}={stack}")]}).to_string());
        let listed = self
            .patiently(|| async {
                self.docker().await?;
                let what = format!("list the {kind} of the stack {stack}");
                self.get(&what, &format!("/{kind}?filters={filter}")).await
            })
            .await?;
        Ok(listed
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|thing| {
                let id = text(thing, "/ID").or_else(|| text(thing, "/Id"))?;
                Some((text(thing, name)?, id))
            })
            .collect())
    }

    async fn remove(&self, kind: &str, name: &str, id: &str) -> Result<()> {
        let what = format!("remove {name} of the {kind}, which the deployment had added");
        match self.delete(&what, &format!("/{kind}/{id}")).await {
            Err(e) if e.code() == "swarm.not_found" => Ok(()),
            done => done,
        }
    }
}

/// Does something again until it succeeds or the swarm has had its time.
async fn until_released<F, Fut>(work: F) -> Result<()>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let deadline = Instant::now() + RELEASE;
    loop {
        match work().await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            done => return done,
        }
    }
}

impl SwarmPlatform {
    /// The service that the swarm calls so, as the site names it, if it does.
    fn named(&self, name: &str) -> ServiceConfig {
        let known = self.config.services.iter().find(|it| it.name == name);
        known.cloned().unwrap_or_else(|| ServiceConfig::named(name))
    }

    /// Returns once a service runs as it is described, whoever changed that last.
    async fn settled(&self, name: &str) -> Result<()> {
        let config = self.named(name);
        let deadline = Instant::now() + config.start_timeout;
        loop {
            let view = self.engine.view(name).await?;
            match view.update() {
                Some((state, _)) if state == "updating" || state == "rollback_started" => {
                    if Instant::now() >= deadline {
                        return Err(Error::new(
                            ErrorKind::Failed,
                            "swarm.updating",
                            format!(
                                "the service {name} is still being updated after {} s",
                                config.start_timeout.as_secs()
                            ),
                        )
                        .hint(format!(
                            "`docker service ps --no-trunc {name}` says what its tasks wait for"
                        )));
                    }
                    tokio::time::sleep(LOOK).await;
                }
                Some((state, message)) if state == "paused" || state.starts_with("rollback_p") => {
                    return Err(Error::new(
                        ErrorKind::Failed,
                        "swarm.update_paused",
                        format!("the service {name} was stopped half-way on its update ({state}): {message}"),
                    )
                    .hint(format!("`docker service ps --no-trunc {name}` says which task failed, and why")));
                }
                _ => break,
            }
        }
        match desired(&self.engine.view(name).await?) {
            0 => Ok(()),
            count => self.scale_to(&config, count).await,
        }
    }

    /// The same for those services of a stack that are `meant`; they were described so `before`.
    async fn all_settled(
        &self,
        stack: &str,
        before: &[ServiceSnapshot],
        meant: impl Fn(&ServiceSnapshot) -> bool,
    ) -> Result<()> {
        let mut services = self.engine.of_stack(stack).await?;
        services.retain(meant);
        let waiting = services.iter().map(|view| async {
            if let Some(before) = before.iter().find(|it| it.id == view.id) {
                self.update_begun(before).await?;
            }
            self.settled(&view.name).await
        });
        futures_util::future::try_join_all(waiting).await.map(drop)
    }

    /// Waits a little until the swarm has begun to replace tasks that are to run otherwise than
    /// `before`: until then all of them run, and it looks as if it were done.
    async fn update_begun(&self, before: &ServiceSnapshot) -> Result<()> {
        let template = |view: &ServiceSnapshot| view.spec.get("TaskTemplate").cloned();
        let started = |view: &ServiceSnapshot| text(&view.service, "/UpdateStatus/StartedAt");
        let ran = match before.mode() {
            Mode::Replicated(count) => count > 0,
            Mode::Global => true,
            Mode::Job => false,
        };
        let deadline = Instant::now() + BEGIN;
        while ran && Instant::now() < deadline {
            let now = self.engine.view(&before.name).await?;
            if template(&now) == template(before) || started(&now) != started(before) {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Describes one service as it was, whether it is there or not.
    async fn describe_as(&self, name: &str, spec: &Value) -> Result<()> {
        let update = self
            .engine
            .update(name, |view| Ok((view.spec != *spec).then(|| spec.clone())));
        match update.await {
            Err(e) if e.code() == "platform.no_service" => {
                let what = format!("make the service {name} again");
                self.engine
                    .patiently(|| self.engine.post(&what, "/services/create", spec))
                    .await
                    .map(drop)
            }
            done => done,
        }
    }
}

#[async_trait]
impl Stacks for SwarmPlatform {
    async fn inspect(&self, stack: &str) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        if self.config.address.for_docker().is_none() {
            findings.push(
                Finding::error(
                    "swarm.no_way",
                    stack,
                    format!(
                        "the stack cannot be deployed from here: Docker's command line cannot be told to reach {}",
                        self.config.address
                    ),
                )
                .hint("run this on a manager, or put `ssh_config` into the user's own configuration of ssh, or set redeploy = false"),
            );
        }
        let program = Command::new(["docker", "--version"]);
        if let Err(error) = run(program, Duration::from_secs(20)).await {
            findings.push(
                Finding::error(
                    "swarm.no_program",
                    stack,
                    format!("the stack cannot be deployed from here: {error}"),
                )
                .hint("install Docker's command line on this host, or set redeploy = false"),
            );
        }
        for node in self.nodes.given_tasks().await?.beyond {
            findings.push(
                Finding::warning(
                    "swarm.image_beyond",
                    stack,
                    format!(
                        "there is no way to the engine of the node {}: an image that only the restored compose files name is not loaded there, and a service that is started there without it does not come up",
                        node.name
                    ),
                )
                .hint(node.how_to_add()),
            );
        }
        if self.engine.of_stack(stack).await?.is_empty() {
            findings.push(
                Finding::warning(
                    "swarm.no_stack",
                    stack,
                    "the swarm has no service of this stack: deploying it makes them",
                )
                .hint("`docker stack ls` shows the names of stacks"),
            );
        }
        Ok(findings)
    }

    async fn snapshot(&self, stack: &str) -> Result<Value> {
        let mut services = Map::new();
        let mut settled = Vec::new();
        for view in self.engine.of_stack(stack).await? {
            let view = self.engine.view(&view.name).await?;
            if is_settled(&view) {
                settled.push(view.name.clone());
            }
            services.insert(view.name, view.spec);
        }
        let mut snapshot = Map::new();
        snapshot.insert(SERVICES.to_owned(), Value::Object(services));
        snapshot.insert(SETTLED.to_owned(), json!(settled));
        for (kind, name) in THINGS {
            let names = self.engine.things(stack, kind, name).await?;
            let names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
            snapshot.insert(kind.to_owned(), json!(names));
        }
        Ok(Value::Object(snapshot))
    }

    async fn deploy(&self, stack: &str, files: &[PathBuf], snapshot: &Value) -> Result<()> {
        let ran = services_of(stack, snapshot)?;
        let (host, options) = self.config.address.for_docker().ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "swarm.no_way",
                format!(
                    "Docker's command line cannot be told to reach {}",
                    self.config.address
                ),
            )
            .hint("run this on a manager, or set redeploy = false")
        })?;
        let mut argv = vec!["docker".to_owned()];
        argv.extend(options);
        argv.extend(["stack", "deploy"].map(str::to_owned));
        // Names mean what they mean on these nodes: a registry may say otherwise by now.
        argv.extend(["--resolve-image", "never"].map(str::to_owned));
        for file in files {
            argv.extend(["--compose-file".to_owned(), file.display().to_string()]);
        }
        argv.push(stack.to_owned());
        let before = self.engine.of_stack(stack).await?;
        let mut command = Command::new(argv)
            .env("DOCKER_HOST", host)
            .env("DOCKER_CONTEXT", "")
            .env("DOCKER_TLS_VERIFY", "");
        // The files come from a backup, and could name any variable: only these are given.
        for name in &self.config.variables {
            if let Ok(value) = std::env::var(name) {
                command = command.env(name, value);
            }
        }
        run(command, DEPLOY).await.map_err(|e| {
            e.context(format!("the stack {stack} cannot be deployed"))
                .hint("the compose files of the backup may need secrets, networks or variables that are not here; restore without redeploy = true and deploy by hand")
        })?;
        self.all_settled(stack, &before, |_| true).await?;
        // Whatever the files say, and whatever an attempt before this one has made of it already.
        for view in self.engine.of_stack(stack).await? {
            if let Some(Mode::Replicated(count @ 1..)) = ran.get(&view.name).map(Mode::of) {
                self.scale_to(&self.named(&view.name), count).await?;
            }
        }
        Ok(())
    }

    async fn put_back(&self, stack: &str, snapshot: &Value) -> Result<()> {
        let services = services_of(stack, snapshot)?;
        let before = self.engine.of_stack(stack).await?;
        let mut patience = RELEASE;
        for view in &before {
            if services.contains_key(&view.name) {
                continue;
            }
            self.engine
                .patiently(|| self.engine.remove("services", &view.name, &view.id))
                .await?;
            patience = patience.max(view.grace() + RELEASE);
        }
        self.wait_for_removal(stack, patience).await?;
        for (name, spec) in services {
            self.describe_as(name, spec).await?;
        }
        for (kind, name) in THINGS {
            let kept: BTreeSet<&str> = snapshot
                .get(kind)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            for (name, id) in self.engine.things(stack, kind, name).await? {
                if !kept.contains(name.as_str()) {
                    // In use for a moment after its last container is gone.
                    until_released(|| self.engine.remove(kind, &name, &id)).await?;
                }
            }
        }
        let settled = snapshot.get(SETTLED).and_then(Value::as_array);
        // One that did not run as described before is none the worse for that now.
        self.all_settled(stack, &before, |view| {
            settled.is_none_or(|names| names.iter().any(|name| *name == view.name))
        })
        .await
    }
}

/// The descriptions of a snapshot, by the services' names.
fn services_of<'a>(stack: &str, snapshot: &'a Value) -> Result<&'a Map<String, Value>> {
    let services = snapshot.get(SERVICES).and_then(Value::as_object);
    services.ok_or_else(|| {
        Error::new(
            ErrorKind::Internal,
            "swarm.snapshot",
            format!("what was recorded of the stack {stack} cannot be read"),
        )
    })
}

/// Whether it runs as it is described, by what the swarm says of it at one moment.
fn is_settled(view: &ServiceSnapshot) -> bool {
    let updating = view.update().is_some_and(|(state, _)| {
        ["updating", "paused", "rollback_started", "rollback_paused"].contains(&state.as_str())
    });
    let calm =
        |told: &str| Timestamp::parse(told).is_ok_and(|told| Timestamp::now().since(told) > CALM);
    let failed = view
        .tasks
        .iter()
        .any(|task| task.failure().is_some() && !calm(&task.told));
    let running = u32::try_from(view.running().count()).unwrap_or(u32::MAX);
    let wanted = desired(view);
    !updating && running >= wanted && (wanted == 0 || !failed)
}

/// Runs a program of this host to its end; it is killed when we are.
async fn run(command: Command, patience: Duration) -> Result<()> {
    let shown = command.argv.join(" ");
    let work = async {
        let mut process = bound_process(&command)?;
        drop(process.stdin());
        let stdout = process.stdout();
        let read = async {
            let mut words = Vec::new();
            if let Some(stdout) = stdout {
                // What it says is short; more of it than this would be no words.
                let _ = stdout.take(1 << 20).read_to_end(&mut words).await;
            }
            words
        };
        let (words, exit) = tokio::join!(read, process.wait());
        Ok((words, exit?))
    };
    let (stdout, exit) = match tokio::time::timeout(patience, work).await {
        Ok(ended) => ended?,
        Err(_) => {
            return Err(Error::new(
                ErrorKind::Failed,
                "swarm.program_hangs",
                format!(
                    "`{shown}` did not end within {} s and was killed",
                    patience.as_secs()
                ),
            ));
        }
    };
    if exit.success() {
        return Ok(());
    }
    let stdout = String::from_utf8_lossy(&stdout);
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
        "swarm.program_failed",
        format!("`{shown}` ended with exit code {}: {words}", exit.code),
    ))
}
