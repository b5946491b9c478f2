//! Stopping and starting services, and knowing that it has happened.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters::{
    ListContainersOptionsBuilder, StopContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::config::{Ready, ServiceConfig};
use super::snapshot::{Mode, ServiceSnapshot, Task};
use super::{SwarmPlatform, endpoint};
use crate::model::{Error, ErrorKind, Result, Timestamp};
use crate::platforms::docker::engine::{Engine, Refused};
use crate::platforms::docker::logs::last_lines;
use crate::platforms::docker::network::takes_connections;

/// How often the swarm is asked.
const LOOK: Duration = Duration::from_millis(100);

/// How long a swarm may take, besides what a process takes to end, to begin with what it was told.
const LATE: Duration = Duration::from_secs(10);

/// How long the tasks of a service must stay up before they count.
const SETTLED: Duration = Duration::from_millis(500);

/// What the swarm and the engine need besides what a process takes to end.
const MARGIN: Duration = Duration::from_secs(45);

/// So many tasks that failed one after another are no bad luck any more.
const FAILURES: usize = 4;

/// What the swarm has not begun by then of what it does by itself, it does not begin.
const ITSELF: Duration = Duration::from_secs(3);

/// A swarm that restarts a task sooner than this could be as quick as we are.
const LEAST_RESTART: Duration = Duration::from_secs(1);

/// No node fits this: it is how a global service, which has no count, is stopped.
const NOWHERE: &str = "node.labels.stopped-by-restore==true";

/// The label by which an engine knows the containers of a service.
const OF_SERVICE: &str = "com.docker.swarm.service.id";

/// How many instances are wanted, a global service that was stopped counting as none.
pub(super) fn desired(view: &ServiceSnapshot) -> u32 {
    match view.mode() {
        Mode::Replicated(count) => count,
        Mode::Job => 0,
        Mode::Global if view.constraints().iter().any(|c| c == NOWHERE) => 0,
        Mode::Global => {
            let wanted = view.tasks.iter().filter(|task| task.wanted == "running");
            // Without a node to run on it is still meant to: 0 would be a service that was stopped.
            u32::try_from(wanted.count()).unwrap_or(u32::MAX).max(1)
        }
    }
}

/// The tasks of a service that have done what it is for; none of one that somebody connects to.
pub(super) fn done<'a>(config: &ServiceConfig, view: &'a ServiceSnapshot) -> Vec<&'a Task> {
    let serves = config.endpoint.is_some() || config.port.is_some() || config.ready == Ready::Tcp;
    match serves {
        true => Vec::new(),
        false => view.done(),
    }
}

/// Whether all that is wanted of a service is done.
pub(super) fn is_done(config: &ServiceConfig, view: &ServiceSnapshot) -> bool {
    let wanted = desired(view);
    wanted > 0 && number(done(config, view).len()) >= wanted
}

/// A count of tasks, as services have it.
pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// How far the tasks of a service have come.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// Run, or have done what they are for.
    up: u32,
    /// Are to run, and do not yet.
    coming: u32,
    /// Those of the latter for which there is no node.
    unplaced: u32,
}

impl Progress {
    /// Whether no more is to be waited for: all that are wanted are up, or all but those for which there is
    /// no node, and not fewer than `least`.
    fn is_enough(self, wanted: u32, least: u32) -> bool {
        match self.up == wanted {
            true => self.coming == 0,
            false => {
                self.up >= least
                    && self.coming == self.unplaced
                    && self.up.checked_add(self.unplaced) == Some(wanted)
            }
        }
    }
}

/// Why a job is neither stopped nor started.
pub(super) fn job(view: &ServiceSnapshot) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "swarm.job",
        format!(
            "the service {} is a job, which cannot be stopped and started",
            view.name
        ),
    )
    .hint("take it out of `stops`")
}

/// The description with another count; `None` where it has that already.
fn rescaled(view: &ServiceSnapshot, replicas: u32) -> Result<Option<Value>> {
    let mut spec = view.spec.clone();
    let lost = || {
        Error::new(
            ErrorKind::Failed,
            "swarm.engine",
            format!(
                "the description of the service {} is not understood",
                view.name
            ),
        )
    };
    match view.mode() {
        Mode::Job => {
            return Err(job(view));
        }
        Mode::Replicated(count) if count == replicas => return Ok(None),
        Mode::Replicated(_) => {
            let mode = spec.get_mut("Mode").ok_or_else(lost)?;
            *mode = json!({"Replicated": {"Replicas": replicas}});
        }
        Mode::Global => {
            let mut constraints = view.constraints();
            let stopped = constraints.iter().any(|c| c == NOWHERE);
            if stopped == (replicas == 0) {
                return Ok(None);
            }
            constraints.retain(|c| c != NOWHERE);
            if replicas == 0 {
                constraints.push(NOWHERE.to_owned());
            }
            let template = spec.get_mut("TaskTemplate").ok_or_else(lost)?;
            let template = template.as_object_mut().ok_or_else(lost)?;
            let placement = template.entry("Placement").or_insert_with(|| json!({}));
            let placement = placement.as_object_mut().ok_or_else(lost)?;
            placement.insert("Constraints".to_owned(), json!(constraints));
        }
    }
    Ok(Some(spec))
}

impl Engine {
    /// Changes a service's description by `change`, which is asked again whenever another update
    /// came first; `None` from it: it is as wanted.
    pub(super) async fn update(
        &self,
        name: &str,
        change: impl Fn(&ServiceSnapshot) -> Result<Option<Value>> + Sync,
    ) -> Result<()> {
        self.patiently(|| async {
            loop {
                let view = self.view(name).await?;
                let Some(spec) = change(&view)? else {
                    return Ok(());
                };
                let path = format!("/services/{}/update?version={}", view.id, view.version);
                match self
                    .post(&format!("update the service {name}"), &path, &spec)
                    .await
                {
                    Err(e) if e.is(&Refused::OutOfSequence) => {
                        tokio::time::sleep(LOOK).await;
                    }
                    done => return done.map(drop),
                }
            }
        })
        .await
    }

    /// The containers of a service that run on this engine.
    pub(super) async fn containers_of(&self, service_id: &str) -> Result<BTreeSet<String>> {
        let options = ListContainersOptionsBuilder::default()
            .filters(&HashMap::from([(
                "label",
                vec![format!("{OF_SERVICE}={service_id}")],
            )]))
            .build();
        self.patiently(|| async {
            let listed = self
                .docker()
                .await?
                .list_containers(Some(options.clone()))
                .await
                .map_err(|e| self.refused("list the containers", e))?;
            Ok(listed.into_iter().filter_map(|c| c.id).collect())
        })
        .await
    }

    /// The exit code of a container once it has ended; `None` where it went without one.
    async fn ended(&self, container: &str) -> Option<i64> {
        let options = WaitContainerOptionsBuilder::default()
            .condition("not-running")
            .build();
        let mut waiting = self
            .docker()
            .await
            .ok()?
            .wait_container(container, Some(options));
        match waiting.next().await? {
            Ok(answer) => Some(answer.status_code),
            Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => Some(code),
            Err(_) => None,
        }
    }
}

impl SwarmPlatform {
    /// See [`Platform::scale`](crate::platform::Platform::scale).
    pub(super) async fn scale_to(&self, config: &ServiceConfig, replicas: u32) -> Result<()> {
        self.scale_to_least(config, replicas, replicas).await
    }

    /// See [`Platform::scale_at_least`](crate::platform::Platform::scale_at_least).
    pub(super) async fn scale_to_least(
        &self,
        config: &ServiceConfig,
        replicas: u32,
        least: u32,
    ) -> Result<()> {
        if replicas == 0 {
            self.stop(config).await
        } else {
            self.start(config, replicas, least).await
        }
    }

    /// Returns once no container of the service runs any more. What the swarm says comes a little
    /// early: its list is empty while processes still write.
    async fn stop(&self, config: &ServiceConfig) -> Result<()> {
        let engine = &self.engine;
        self.notes.set(&config.key, None);
        let begun = Instant::now();
        let first = engine.view(&config.name).await?;
        // Each node's own engine is asked, where there is a way to it; of the others it is known
        // by what the swarm says.
        let seen = self.nodes.seen(first.unended()).await?;
        let grace = first.grace();
        let was_up = matches!(first.mode(), Mode::Replicated(1..));
        let deadline = begun + grace.max(config.stop_timeout.unwrap_or_default()) + MARGIN;
        // Asked before anything stops: an ended container is removed at once.
        let watched = containers_on(&seen, &first.id).await?;
        let ends = watched.iter().map(|(id, engine)| engine.ended(id));
        let ends = futures_util::future::join_all(ends);
        let stopping = async {
            let mut asked = BTreeSet::new();
            if let Some(restart) = ends_first(&first) {
                asked.extend(watched.keys().cloned());
                end_all(&watched, grace, restart / 2).await;
            }
            engine
                .update(&config.name, |view| rescaled(view, 0))
                .await?;
            let mut ended: Option<Instant> = None;
            loop {
                let view = engine.view(&config.name).await?;
                let left = containers_on(&seen, &view.id).await?;
                // A task of a node that is asked and that had come to run has had its container
                // there: the swarm only takes its time to say that it has ended.
                let over = |task: &&Task| {
                    task.state == "running"
                        && task.wanted != "running"
                        && task
                            .node
                            .as_ref()
                            .is_some_and(|node| seen.contains_key(node))
                };
                let unended: Vec<&Task> = view.unended().filter(|task| !over(task)).collect();
                if left.is_empty() && unended.is_empty() {
                    // A start that comes before the swarm has forgotten such a task would start nothing.
                    let ended = *ended.get_or_insert_with(Instant::now);
                    let kept = was_up && view.holds_a_place();
                    if !kept || ended.elapsed() >= ITSELF {
                        return Ok(());
                    }
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                let unwanted = view
                    .unended()
                    .filter(|task| task.wanted != "running")
                    .filter_map(|task| task.container.clone());
                // A swarm that has not come to it for long does not keep what nobody wants any more.
                let late = begun.elapsed() > grace + LATE;
                let late = left.keys().filter(|_| late).cloned();
                for container in unwanted.chain(late) {
                    if let Some(engine) = left.get(&container)
                        && asked.insert(container.clone())
                    {
                        tokio::spawn(end(engine.clone(), container, grace));
                    }
                }
                if Instant::now() >= deadline {
                    return Err(does_not_end(config, &unended, left.len(), begun.elapsed()));
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let exits = {
            tokio::pin!(ends);
            tokio::pin!(stopping);
            let mut exits = Vec::new();
            let mut asked = false;
            loop {
                tokio::select! {
                    codes = &mut ends, if !asked => {
                        exits = codes;
                        asked = true;
                    }
                    stopped = &mut stopping => {
                        stopped?;
                        break;
                    }
                }
            }
            exits
        };
        let killed = exits.iter().flatten().filter(|code| **code == 137).count();
        if killed > 0 && begun.elapsed() >= grace {
            self.notes.set(
                &config.key,
                Some(format!(
                    "{killed} of its containers did not end within {grace:?}, the stop_grace_period of {}",
                    config.name
                )),
            );
        }
        Ok(())
    }

    /// Returns once exactly so many tasks run, or have [done](done) what they are for, and have stayed so; or
    /// as many as there are nodes for, but `least`. With `least` 0 it returns once the swarm has been told.
    async fn start(&self, config: &ServiceConfig, replicas: u32, least: u32) -> Result<()> {
        let engine = &self.engine;
        self.notes.set(&config.key, None);
        let since = Timestamp::now();
        let first = engine.view(&config.name).await?;
        let was_stopped = first.mode() == Mode::Replicated(0);
        let before: BTreeSet<String> = first.tasks.into_iter().map(|task| task.id).collect();
        engine
            .update(&config.name, |view| rescaled(view, replicas))
            .await?;
        if least == 0 {
            return Ok(());
        }
        let deadline = Instant::now() + config.start_timeout;
        let mut settled: Option<(BTreeSet<String>, Instant)> = None;
        let mut given_up: Option<Instant> = None;
        loop {
            let view = engine.view(&config.name).await?;
            let is_new = |task: &Task| !before.contains(&task.id);
            let failures: Vec<&Task> = view
                .tasks
                .iter()
                .filter(|task| is_new(task) && !task.has_no_node() && task.failure().is_some())
                .collect();
            let mut up: BTreeSet<String> = view.running().map(|task| task.id.clone()).collect();
            let running = up.len();
            let done = done(config, &view);
            // The swarm is about to start another in the place of an old one, or takes the work for done.
            let patience = match was_stopped && done.iter().any(|task| !is_new(task)) {
                true => ITSELF,
                false => SETTLED,
            };
            up.extend(done.iter().map(|task| task.id.clone()));
            let wanted = match view.mode() {
                Mode::Replicated(count) => count,
                _ => desired(&view).max(1),
            };
            let coming = |task: &&Task| task.wanted == "running" && !task.runs() && !task.ended();
            let coming: Vec<&Task> = view.tasks.iter().filter(coming).collect();
            let progress = Progress {
                up: number(up.len()),
                coming: number(coming.len()),
                unplaced: number(coming.iter().filter(|task| task.has_no_node()).count()),
            };
            let mut seen = format!("{running} of {wanted} tasks run");
            if progress.is_enough(wanted, least) {
                match &settled {
                    Some((tasks, at)) if *tasks == up => {
                        if at.elapsed() >= patience {
                            match self.accepts(config, &view).await {
                                Ok(()) => return Ok(()),
                                Err(why) => seen = why,
                            }
                        }
                    }
                    _ => settled = Some((up, Instant::now())),
                }
            } else {
                settled = None;
            }
            // Those that are to run after a pause are not wanted to yet.
            let delayed = |task: &&Task| task.wanted == "ready" && !task.ended();
            let expected = progress.up.saturating_add(progress.coming);
            let expected =
                expected.saturating_add(number(view.tasks.iter().filter(delayed).count()));
            given_up = match expected < wanted && view.restarts_after().is_none() {
                true if !failures.is_empty() => given_up.or_else(|| Some(Instant::now())),
                _ => None,
            };
            let hopeless = failures.len() >= FAILURES.max(usize::try_from(wanted).unwrap_or(0) * 2)
                || given_up.is_some_and(|at| at.elapsed() >= ITSELF);
            if hopeless || Instant::now() >= deadline {
                return Err(self.not_ready(config, &view, &failures, &seen, since).await);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether the service takes connections, where it is to be asked.
    pub(super) async fn accepts(
        &self,
        config: &ServiceConfig,
        view: &ServiceSnapshot,
    ) -> Result<(), String> {
        if config.ready != Ready::Tcp {
            return Ok(());
        }
        let endpoint = endpoint::find(&self.nodes, config, view)
            .await
            .map_err(|e| e.to_string())?;
        takes_connections(&endpoint).await
    }

    async fn not_ready(
        &self,
        config: &ServiceConfig,
        view: &ServiceSnapshot,
        failures: &[&Task],
        seen: &str,
        since: Timestamp,
    ) -> Error {
        // What the newest says; a task that is only waiting has a reason too.
        let why = failures
            .iter()
            .max_by_key(|task| &task.told)
            .and_then(|task| task.failure())
            .or_else(|| {
                let waiting = view.tasks.iter().filter(|task| !task.ended());
                waiting
                    .max_by_key(|task| &task.made)
                    .map(|task| match &task.error {
                        Some(error) => format!("{}: {error}", task.state),
                        None => task.state.clone(),
                    })
            })
            .unwrap_or_else(|| "there is no task".to_owned());
        let lines = super::logs::of_service(&self.engine, view, since, 5)
            .await
            .unwrap_or_default();
        let failed = match failures.len() {
            0 => String::new(),
            count => format!(" ({count} failed since)"),
        };
        Error::new(
            ErrorKind::Failed,
            "swarm.not_ready",
            format!(
                "the service {} does not come up: {seen}{failed}; {why}; {}",
                config.name,
                last_lines(&lines)
            ),
        )
        .hint(format!(
            "`docker service ps --no-trunc {0}` and `docker service logs {0}` say more; if it only needs longer, raise start_timeout of [services.{1}]",
            config.name, config.key
        ))
    }
}

/// The containers of a service that run on these engines.
async fn containers_on(
    engines: &BTreeMap<String, Arc<Engine>>,
    service_id: &str,
) -> Result<HashMap<String, Arc<Engine>>> {
    let mut found = HashMap::new();
    for engine in engines.values() {
        let there = engine.containers_of(service_id).await?;
        found.extend(there.into_iter().map(|id| (id, engine.clone())));
    }
    Ok(found)
}

/// Asks a container to end that the swarm no longer wants: it would get to that itself, two
/// seconds later, which it gives its load balancers to forget the task.
async fn end(engine: Arc<Engine>, container: String, grace: Duration) {
    let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
    let options = StopContainerOptionsBuilder::default()
        .t(i32::try_from(seconds).unwrap_or(i32::MAX))
        .build();
    if let Ok(docker) = engine.docker().await {
        // Whether it has ended is seen elsewhere, and the swarm will ask again.
        let docker = docker.clone().with_timeout(grace + MARGIN);
        let _ = docker.stop_container(&container, Some(options)).await;
    }
}

/// Whether the containers of a service are to end before the swarm hears that none is wanted, and
/// how long after that it would start others. Told to end a task, it takes two seconds until it
/// counts the task's ports of the node as free, and starts nothing that wants them; of one that has
/// ended by itself it knows at once.
fn ends_first(view: &ServiceSnapshot) -> Option<Duration> {
    let replicated = matches!(view.mode(), Mode::Replicated(1..));
    let holds_ports = view.ports().iter().any(|port| port.host_mode);
    let restart = view.restarts_after()?;
    (replicated && holds_ports && restart >= LEAST_RESTART).then_some(restart)
}

/// Ends these containers. Returns when all have ended, or `patience` after the first one has.
async fn end_all(containers: &HashMap<String, Arc<Engine>>, grace: Duration, patience: Duration) {
    let mut ending: FuturesUnordered<_> = containers
        .iter()
        .map(|(id, engine)| tokio::spawn(end(engine.clone(), id.clone(), grace)))
        .collect();
    if ending.next().await.is_some() {
        let all = async { while ending.next().await.is_some() {} };
        let _ = tokio::time::timeout(patience, all).await;
    }
}

fn does_not_end(config: &ServiceConfig, unended: &[&Task], left: usize, after: Duration) -> Error {
    let nodes: BTreeSet<&str> = unended
        .iter()
        .filter_map(|task| task.node.as_deref())
        .collect();
    let nodes: Vec<&str> = nodes.into_iter().collect();
    Error::new(
        ErrorKind::Failed,
        "swarm.does_not_end",
        format!(
            "the service {} still runs {} s after it was asked to stop: {} tasks have not ended (nodes {}), {left} containers run",
            config.name,
            after.as_secs(),
            unended.len(),
            nodes.join(", ")
        ),
    )
    .hint("a node that is down keeps its tasks in this state: see `docker node ls`; a process that hangs is usually waiting for a disk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_node_for_is_not_waited_for() {
        let progress = |up, coming, unplaced| Progress {
            up,
            coming,
            unplaced,
        };
        for (progress, least, enough) in [
            // As many as are wanted, and nothing on its way.
            (progress(5, 0, 0), 5, true),
            (progress(5, 1, 0), 5, false),
            (progress(5, 1, 1), 3, false),
            (progress(6, 0, 0), 5, false),
            // Two have no node: three are enough where no more are asked for.
            (progress(3, 2, 2), 3, true),
            (progress(3, 2, 2), 1, true),
            (progress(3, 2, 2), 4, false),
            // One of the two has one, or is not there yet.
            (progress(3, 2, 1), 3, false),
            (progress(3, 1, 1), 3, false),
            (progress(0, 5, 5), 1, false),
        ] {
            assert_eq!(progress.is_enough(5, least), enough, "{progress:?} {least}");
        }
    }
}
