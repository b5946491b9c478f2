//! Stacks: deployed by the engine's own program, and put back by what was recorded.
//!
//! Compose files are read by `docker stack deploy` alone, so that they mean here what they mean to
//! whoever wrote them. What it replaces is not described by the files that were there before: they
//! may have been changed since they were last deployed. So the way back is to the descriptions
//! themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::SwarmPlatform;
use super::config::ServiceConfig;
use super::parts;
use super::placement;
use super::scale::{desired, done, is_done, number};
use super::snapshot::{Mode, NoService, ServiceSnapshot, Task};
use crate::contract::{StackPart, StackPlan, StackSource, Stacks};
use crate::model::{Error, ErrorKind, Finding, Result, RunId, Timestamp};
use crate::platforms::docker::client_program::{run, run_with};
use crate::platforms::docker::engine::{Engine, Refused};
use crate::platforms::docker::json::{encoded, text};
use crate::platforms::docker::logs::last_lines;
use crate::sys::process::command::Command;
use crate::sys::retry::{Retry, while_failing};

/// By this label the engine's program knows what belongs to a stack.
pub(super) const STACK: &str = "com.docker.stack.namespace";

/// Longer than a deployment takes to be described; that it runs is waited for afterwards.
const DEPLOY: Duration = Duration::from_secs(120);

/// How long the swarm may take to give up what is no longer used.
pub(super) const RELEASE: Duration = Duration::from_secs(60);

/// Within this time the swarm begins to do what a new description says.
const BEGIN: Duration = Duration::from_secs(3);

/// A service of which a task failed so shortly ago does not run as described, whatever runs now.
const CALM: Duration = Duration::from_secs(30);

/// The keys of a snapshot: descriptions by names, the names of what ran as described, and how many
/// tasks of each ran.
const SERVICES: &str = "services";
const SETTLED: &str = "settled";
const RUNNING: &str = "running";

/// Another one: the names of its volumes, by nodes.
const VOLUMES: &str = "volumes";

/// What the engine says of a config or a secret that is there and is to have another content.
const UNCHANGEABLE: &str = "only updates to Labels are allowed";

/// How often the swarm is asked.
const LOOK: Duration = Duration::from_millis(200);

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
        let belongs = |view: &ServiceSnapshot| is_of_stack(view, stack);
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
            .await;
        let listed = match listed {
            Err(e) if e.is(&Refused::NoSwarm) => return Ok(Vec::new()),
            listed => listed?,
        };
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
            Err(e) if e.is(&Refused::NotFound) => Ok(()),
            done => done,
        }
    }
}

/// Whether a service belongs to a stack.
pub(super) fn is_of_stack(view: &ServiceSnapshot, stack: &str) -> bool {
    let label = view.spec.pointer("/Labels").and_then(|it| it.get(STACK));
    label.and_then(Value::as_str) == Some(stack)
}

/// Does something again until it succeeds or the swarm has had its time.
async fn until_released<F, Fut>(work: F) -> Result<()>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<()>>,
{
    until_released_by(Instant::now() + RELEASE, work).await
}

/// The same up to a moment, which may be that of several things together; once in any case.
pub(super) async fn until_released_by<F, Fut>(deadline: Instant, work: F) -> Result<()>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let left = deadline.saturating_duration_since(Instant::now());
    while_failing(Retry::within(left, LOOK), |_| true, work).await
}

/// A deployment whose services are waited for.
struct Deployment<'a> {
    /// When it began.
    since: Timestamp,
    /// The snapshot of before.
    snapshot: &'a Value,
}

impl Deployment<'_> {
    /// How many of `count` instances that a service is to have must run at least; of the others those for
    /// which there is a node.
    fn least(&self, name: &str, count: u32) -> u32 {
        let of = |key: &str| self.snapshot.get(key).and_then(|all| all.get(name));
        let ran = of(RUNNING).and_then(Value::as_u64);
        match (of(SERVICES).map(Mode::of), ran) {
            // One that is stopped by then is started after it, and that says how many are to run.
            (Some(Mode::Replicated(0)), Some(_)) => 1,
            (_, Some(ran @ 1..)) => u32::try_from(ran).unwrap_or(u32::MAX).min(count),
            _ => count,
        }
    }
}

impl SwarmPlatform {
    /// The service that the swarm calls so, as the site names it, if it does.
    pub(super) fn named(&self, name: &str) -> ServiceConfig {
        let known = self.config.services.iter().find(|it| it.name == name);
        known.cloned().unwrap_or_else(|| ServiceConfig::named(name))
    }

    /// Returns once a service runs as it is described, whoever changed that last; what a deployment has
    /// described is not to have been taken back since. `before`: as it was described before that.
    async fn settled(
        &self,
        name: &str,
        before: Option<&ServiceSnapshot>,
        deployment: Option<&Deployment<'_>>,
    ) -> Result<()> {
        let config = self.named(name);
        let retry = Retry::within(config.start_timeout, LOOK);
        let view = loop {
            let view = self.engine.view(name).await?;
            let (state, message) = view.update().unwrap_or_default();
            if let Some(deployment) = deployment
                && is_taken_back(before, &view)
            {
                return Err(self.taken_back(&view, &message, deployment.since).await);
            }
            match state.as_str() {
                "updating" | "rollback_started" if retry.is_over() => {
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
                "updating" | "rollback_started" => retry.pause().await,
                // A task that ends soon stops an update, also one that has done what it is for.
                "paused" | "rollback_paused" if !is_done(&config, &view) => {
                    return Err(Error::new(
                        ErrorKind::Failed,
                        "swarm.update_paused",
                        format!("the service {name} was stopped half-way on its update ({state}): {message}"),
                    )
                    .hint(format!("`docker service ps --no-trunc {name}` says which task failed, and why")));
                }
                _ => break view,
            }
        };
        match desired(&view) {
            0 => Ok(()),
            count => {
                let least = deployment.map_or(count, |it| it.least(name, count));
                self.scale_to_least(&config, count, least).await
            }
        }
    }

    /// Why the swarm has taken back what a service was deployed as `since` then.
    async fn taken_back(&self, view: &ServiceSnapshot, message: &str, since: Timestamp) -> Error {
        let name = &view.name;
        let failed = view.tasks.iter().filter(|task| task.failure().is_some());
        let failed = failed.max_by_key(|task| &task.told);
        let why = failed.and_then(Task::failure);
        let why = why.unwrap_or_else(|| "none of its tasks is said to have failed".to_owned());
        let lines = super::logs::of_service(&self.engine, view, since, 5)
            .await
            .unwrap_or_default();
        Error::new(
            ErrorKind::Failed,
            "swarm.rolled_back",
            format!(
                "the swarm took back the deployment of {name} by itself: {message}; {why}; {}",
                last_lines(&lines)
            ),
        )
        .hint(format!(
            "`docker service ps --no-trunc {name}` and `docker service logs {name}` say more"
        ))
    }

    /// The same for those services of a stack that are `meant`; they were described so `before`.
    async fn all_settled(
        &self,
        stack: &str,
        before: &[ServiceSnapshot],
        deployment: Option<&Deployment<'_>>,
        meant: impl Fn(&ServiceSnapshot) -> bool,
    ) -> Result<()> {
        let mut services = self.engine.of_stack(stack).await?;
        services.retain(meant);
        let waiting = services.iter().map(|view| async {
            let before = before.iter().find(|it| it.id == view.id);
            if let Some(before) = before {
                self.update_begun(before).await?;
            }
            self.settled(&view.name, before, deployment).await
        });
        futures_util::future::try_join_all(waiting).await.map(drop)
    }

    /// Waits a little until the swarm has begun to replace tasks that are to run otherwise than
    /// `before`: until then all of them run, and it looks as if it were done.
    async fn update_begun(&self, before: &ServiceSnapshot) -> Result<()> {
        let template = |view: &ServiceSnapshot| view.spec.get("TaskTemplate").cloned();
        let ran = match before.mode() {
            Mode::Replicated(count) => count > 0,
            Mode::Global => true,
            Mode::Job => false,
        };
        let retry = Retry::within(BEGIN, LOOK);
        while ran && !retry.is_over() {
            let now = self.engine.view(&before.name).await?;
            if template(&now) == template(before) || began(&now) != began(before) {
                break;
            }
            retry.pause().await;
        }
        Ok(())
    }

    /// The names of the volumes of a stack, by the names of the nodes that have them, as far as there is a way to
    /// their engines now; that of `[platform]` has none.
    async fn volumes_of(&self, stack: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let names = |all: Vec<Value>| -> Vec<String> {
            let names = all.iter().filter_map(|it| text(it, "/Name"));
            names.collect()
        };
        let own = self.engine.all_volumes(Some(stack)).await?;
        let mut volumes = BTreeMap::from([(String::new(), names(own))]);
        for node in self.nodes.given_tasks().await?.with_way {
            let Ok(engine) = self.nodes.engine_of(&node).await else {
                continue;
            };
            if let Ok(all) = engine.all_volumes(Some(stack)).await {
                volumes.insert(node.name, names(all));
            }
        }
        Ok(volumes)
    }

    /// Describes one service as it was, whether it is there or not.
    async fn describe_as(&self, name: &str, spec: &Value) -> Result<()> {
        let update = self
            .engine
            .update(name, |view| Ok((view.spec != *spec).then(|| spec.clone())));
        match update.await {
            Err(e) if e.is(&NoService) => {
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
    async fn is_absent(&self, stack: &str) -> Result<bool> {
        Ok(self.engine.of_stack(stack).await?.is_empty())
    }

    async fn foundation(&self) -> Result<Option<String>> {
        self.absent_swarm().await
    }

    async fn make_foundation(&self) -> Result<()> {
        self.make_swarm().await
    }

    async fn remove_foundation(&self) -> Result<bool> {
        self.leave_swarm().await
    }

    fn reads(&self) -> &'static [&'static str] {
        parts::READ
    }

    async fn records(&self) -> Result<Vec<(String, Vec<u8>)>> {
        self.kept_by_backups().await
    }

    async fn plan(&self, stack: &str, source: &StackSource) -> Result<StackPlan> {
        let mut plan = self.plan_parts(stack, source).await?;
        self.look_at_services(stack, source, &mut plan, true).await;
        Ok(plan)
    }

    fn plans_missing(&self) -> bool {
        true
    }

    async fn plan_missing(&self, stack: &str, source: &StackSource) -> Result<StackPlan> {
        self.plan_gone(stack, source).await
    }

    fn placed(&self, compose: &str, nodes: &BTreeMap<String, String>) -> Result<String> {
        placement::placed(compose, nodes)
    }

    async fn make_parts(&self, source: &StackSource, parts: &[StackPart]) -> Result<()> {
        self.make_external(source, parts).await
    }

    async fn remove_parts(
        &self,
        stack: &str,
        run: &RunId,
        parts: &[StackPart],
        data: bool,
    ) -> Result<Vec<StackPart>> {
        self.remove_made(stack, run, parts, data).await
    }

    async fn left(&self, stack: &str, snapshot: &Value) -> Result<Vec<String>> {
        // One of an earlier version says nothing of volumes.
        let Some(before) = snapshot.get(VOLUMES) else {
            return Ok(Vec::new());
        };
        let mut left = Vec::new();
        for (node, names) in self.volumes_of(stack).await? {
            // What a node had that could not be asked then nobody knows.
            let Some(had) = before.get(&node).and_then(Value::as_array) else {
                continue;
            };
            for name in names {
                if had.iter().any(|it| it.as_str() == Some(name.as_str())) {
                    continue;
                }
                left.push(match node.as_str() {
                    "" => format!("volume {name}"),
                    node => format!("volume {name} of the node {node}"),
                });
            }
        }
        Ok(left)
    }

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
        // A swarm that can be begun is no error.
        if self.config.advertise.is_none() && self.engine.is_in_no_swarm().await? {
            let error = self.engine.own_node().await;
            findings.extend(error.err().map(|e| Finding::from_error(stack, &e)));
        }
        Ok(findings)
    }

    async fn snapshot(&self, stack: &str) -> Result<Value> {
        let mut services = Map::new();
        let mut running = Map::new();
        let mut settled = Vec::new();
        for view in self.engine.of_stack(stack).await? {
            let view = self.engine.view(&view.name).await?;
            if is_settled(&self.named(&view.name), &view) {
                settled.push(view.name.clone());
            }
            running.insert(view.name.clone(), json!(view.running().count()));
            services.insert(view.name, view.spec);
        }
        let mut snapshot = Map::new();
        snapshot.insert(SERVICES.to_owned(), Value::Object(services));
        snapshot.insert(SETTLED.to_owned(), json!(settled));
        snapshot.insert(RUNNING.to_owned(), Value::Object(running));
        for (kind, name) in THINGS {
            let names = self.engine.things(stack, kind, name).await?;
            let names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
            snapshot.insert(kind.to_owned(), json!(names));
        }
        snapshot.insert(VOLUMES.to_owned(), json!(self.volumes_of(stack).await?));
        Ok(Value::Object(snapshot))
    }

    async fn deploy(&self, stack: &str, files: &[PathBuf], snapshot: &Value) -> Result<()> {
        self.deploy_held(stack, files, files, snapshot).await
    }

    async fn deploy_held(
        &self,
        stack: &str,
        files: &[PathBuf],
        held: &[PathBuf],
        snapshot: &Value,
    ) -> Result<()> {
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
        argv.extend(about_images(ran).map(str::to_owned));
        let first = first_of(files, held).await?;
        for (number, file) in held.iter().enumerate() {
            // What is named relative is looked for where the program runs if the first comes as its input.
            let file = match (number, &first) {
                (0, Some(_)) => "-".to_owned(),
                _ => file.display().to_string(),
            };
            argv.extend(["--compose-file".to_owned(), file]);
        }
        argv.push(stack.to_owned());
        let before = self.engine.of_stack(stack).await?;
        let deployment = Deployment {
            since: Timestamp::now(),
            snapshot,
        };
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
        if first.is_some() {
            command.dir = files.first().and_then(|it| it.parent()).map(PathBuf::from);
        }
        let deployed = run_with(command, first.unwrap_or_default(), DEPLOY).await;
        deployed.map_err(|error| not_deployed(stack, error))?;
        self.all_settled(stack, &before, Some(&deployment), |_| true)
            .await?;
        // Whatever the files say, and whatever an attempt before this one has made of it already.
        for view in self.engine.of_stack(stack).await? {
            if let Some(Mode::Replicated(count @ 1..)) = ran.get(&view.name).map(Mode::of) {
                let least = deployment.least(&view.name, count);
                self.scale_to_least(&self.named(&view.name), count, least)
                    .await?;
            }
        }
        Ok(())
    }

    async fn put_back(&self, stack: &str, snapshot: &Value) -> Result<()> {
        let services = services_of(stack, snapshot)?;
        if services.is_empty() && self.engine.is_in_no_swarm().await? {
            return Ok(());
        }
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
        self.all_settled(stack, &before, None, |view| {
            settled.is_none_or(|names| names.iter().any(|name| *name == view.name))
        })
        .await
    }
}

/// What is in the first of the files that are deployed, where that is a copy of the one that is meant.
async fn first_of(files: &[PathBuf], held: &[PathBuf]) -> Result<Option<Vec<u8>>> {
    let Some(first) = held.first().filter(|_| held != files) else {
        return Ok(None);
    };
    let read = tokio::fs::read(first).await;
    read.map(Some)
        .map_err(|e| Error::io(format!("read {}", first.display()), e))
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

/// How the images of a stack are found of which these services were there before.
fn about_images(there: &Map<String, Value>) -> impl Iterator<Item = &'static str> {
    // Names mean what they mean on these nodes: a registry may say otherwise by now.
    let names = ["--resolve-image", "never"];
    // What `docker login` knows would take the place of what services that are there were given, which may be more.
    let login = there.is_empty().then_some("--with-registry-auth");
    names.into_iter().chain(login)
}

/// Why the engine's program has not deployed a stack.
fn not_deployed(stack: &str, error: Error) -> Error {
    let Some(thing) = unchangeable(error.message()) else {
        return error
            .context(format!("the stack {stack} cannot be deployed"))
            .hint("the compose files of the backup may need secrets, networks or variables that are not here; restore without redeploy = true and deploy by hand");
    };
    Error::new(
        ErrorKind::Failed,
        "swarm.content_differs",
        format!(
            "the stack {stack} cannot be deployed: the {thing} of the swarm has another content than that of the backup, and a swarm cannot change configs and secrets: {}",
            error.message()
        ),
    )
    .hint("restore with redeploy = false, give it another name in the restored compose file (`name:` beside its `file:`) and deploy by hand")
}

/// The config or secret that is there with another content, as in "failed to update config shop_nginx: …".
fn unchangeable(words: &str) -> Option<&str> {
    let (before, _) = words.split_once(UNCHANGEABLE)?;
    let (_, thing) = before.rsplit_once("failed to update ")?;
    thing.split_once(':').map(|(thing, _)| thing)
}

/// When the swarm began to replace tasks because of what the service was described as last.
fn began(view: &ServiceSnapshot) -> Option<String> {
    text(&view.service, "/UpdateStatus/StartedAt")
}

/// Whether the swarm has taken back by itself what the service was described as after `before`. What it
/// did so before that stays written in the service until it is described anew.
fn is_taken_back(before: Option<&ServiceSnapshot>, view: &ServiceSnapshot) -> bool {
    let (state, _) = view.update().unwrap_or_default();
    ["rollback_started", "rollback_completed"].contains(&state.as_str())
        && before.is_none_or(|before| began(before) != began(view))
}

/// Whether it runs as it is described, by what the swarm says of it at one moment.
fn is_settled(config: &ServiceConfig, view: &ServiceSnapshot) -> bool {
    let (state, _) = view.update().unwrap_or_default();
    let updating = match state.as_str() {
        "updating" | "rollback_started" => true,
        "paused" | "rollback_paused" => !is_done(config, view),
        _ => false,
    };
    let calm =
        |told: &str| Timestamp::parse(told).is_ok_and(|told| Timestamp::now().since(told) > CALM);
    let failed = view
        .tasks
        .iter()
        .any(|task| task.failure().is_some() && !calm(&task.told));
    let up = number(view.running().count() + done(config, view).len());
    let wanted = desired(view);
    !updating && up >= wanted && (wanted == 0 || !failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(update: &Value) -> ServiceSnapshot {
        ServiceSnapshot::read(json!({
            "ID": "abc", "Version": {"Index": 7}, "Spec": {"Name": "x"}, "UpdateStatus": update,
        }))
        .unwrap()
    }

    #[test]
    fn what_the_swarm_took_back_before_is_not_taken_for_this_deployment() {
        let state = |state: &str, second: u32| {
            let started = format!("2024-02-15T10:00:{second:02}Z");
            service(&json!({"State": state, "StartedAt": started, "Message": "because"}))
        };
        let (none, old) = (service(&Value::Null), state("rollback_completed", 1));
        for (before, now, back) in [
            (None, &none, false),
            (Some(&none), &old, true),
            (Some(&old), &old, false),
            (Some(&old), &none, false),
            (Some(&old), &state("rollback_completed", 2), true),
            (Some(&old), &state("rollback_started", 2), true),
            (Some(&old), &state("rollback_paused", 2), false),
            (Some(&old), &state("completed", 2), false),
            (Some(&old), &state("updating", 2), false),
        ] {
            assert_eq!(is_taken_back(before, now), back, "{:?}", now.update());
        }
    }

    #[test]
    fn a_login_is_handed_on_where_no_service_has_one() {
        let options = |there: Value| {
            let options = about_images(there.as_object().unwrap());
            options.collect::<Vec<_>>()
        };
        let (names, login) = (["--resolve-image", "never"], "--with-registry-auth");
        assert_eq!(options(json!({})), [names[0], names[1], login]);
        assert_eq!(options(json!({"shop_web": {}})), names);
    }

    #[test]
    fn as_many_as_ran_before_are_enough() {
        let replicas = |count: u32| json!({"Mode": {"Replicated": {"Replicas": count}}});
        let snapshot = json!({
            SERVICES: {"short": replicas(5), "more": replicas(2), "down": replicas(3), "stopped": replicas(0)},
            RUNNING: {"short": 3, "more": 2, "down": 0, "stopped": 0},
        });
        let least = |snapshot: &Value, name: &str, count: u32| {
            let since = Timestamp::now();
            Deployment { since, snapshot }.least(name, count)
        };
        for (name, count, wanted) in [
            ("short", 5, 3),
            ("short", 2, 2),
            ("more", 5, 2),
            ("down", 3, 3),
            ("stopped", 4, 1),
            ("new", 4, 4),
        ] {
            assert_eq!(least(&snapshot, name, count), wanted, "{name} {count}");
        }
        // One of an earlier version says nothing of it.
        let old = json!({SERVICES: {"short": replicas(5)}});
        assert_eq!(least(&old, "short", 5), 5);
    }

    #[test]
    fn a_content_that_cannot_change_is_named() {
        let failed = |words: &str| {
            let error = Error::new(ErrorKind::Failed, "docker.program_failed", words);
            not_deployed("shop", error)
        };
        let words = "`docker stack deploy` ended with exit code 1: failed to update config shop_nginx: Error response \
            from daemon: rpc error: code = InvalidArgument desc = only updates to Labels are allowed";
        let error = failed(words);
        assert_eq!(error.code(), "swarm.content_differs");
        let message = error.message();
        assert!(message.contains("the config shop_nginx of the swarm has another content"));
        assert!(message.contains(words), "{message}");
        assert!(error.hint_text().unwrap().contains("another name"));
        let error = failed("failed to update config shop_nginx: no such host");
        assert_eq!(error.code(), "docker.program_failed");
        let message = error.message();
        assert!(message.starts_with("the stack shop cannot be deployed: "));
    }
}
