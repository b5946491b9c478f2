//! Starting containers, and knowing that they are up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::config::{Ready, ServiceConfig};
use super::containers::{Container, ServiceContainers};
use super::record::Stopped;
use super::stop::LOOK;
use super::{ComposePlatform, endpoint, logs};
use crate::model::{Error, ErrorKind, Result, Timestamp};
use crate::platforms::docker::logs::last_lines;
use crate::platforms::docker::network::takes_connections;

/// How long the containers of a service must stay up before they count.
const SETTLED: Duration = Duration::from_millis(500);

/// How long one that has ended may take to be started again by its engine.
const RESTART: Duration = Duration::from_secs(3);

/// So many ends one after another are no bad luck any more.
const FAILURES: u64 = 4;

impl ComposePlatform {
    /// See [`Platform::scale`](crate::platform::Platform::scale).
    pub(super) async fn scale_to(&self, config: &ServiceConfig, replicas: u32) -> Result<()> {
        match replicas {
            0 => self.stop(config, &BTreeSet::new()).await,
            _ => self.start(config, replicas).await,
        }
    }

    /// Returns once exactly so many containers run, and have stayed up.
    async fn start(&self, config: &ServiceConfig, replicas: u32) -> Result<()> {
        let since = Timestamp::now();
        let wanted = usize::try_from(replicas).unwrap_or(usize::MAX);
        let first = self.engine.service_containers(&config.name).await?;
        if first.all.len() < wanted {
            return Err(too_few(config, &first, replicas));
        }
        let mut meant: BTreeSet<String> = first.up().take(wanted).map(|it| it.id.clone()).collect();
        if first.up().count() > wanted {
            self.stop(config, &meant).await?;
        }
        self.killed.set(&config.key, None);
        let record = self.record(config);
        let stopped = record.read().await?;
        // Each at once: one that does not start keeps no other from having its own policy again. What
        // was down before has that while its service runs.
        let idle = stopped.iter().filter(|it| it.was_down);
        let idle: BTreeSet<String> = idle.map(|it| it.id.clone()).collect();
        self.give_back(&first, &stopped, &idle).await?;
        self.give_back(&first, &stopped, &meant).await?;
        for container in choose(&first, &stopped, wanted.saturating_sub(meant.len())) {
            self.start_container(config, container).await?;
            let started = BTreeSet::from([container.id.clone()]);
            self.give_back(&first, &stopped, &started).await?;
            meant.extend(started);
        }
        if !stopped.is_empty() {
            let left: Vec<Stopped> = stopped
                .into_iter()
                .filter(|it| !meant.contains(&it.id) && !it.was_down)
                .collect();
            record.write(&left).await?;
        }
        self.until_ready(config, &meant, since).await
    }

    async fn start_container(&self, config: &ServiceConfig, container: &Container) -> Result<()> {
        let engine = &self.engine;
        let what = format!("start the container {}", container.name);
        engine
            .patiently(|| async {
                let docker = engine.docker().await?;
                let started = docker.start_container(&container.id, None).await;
                started.map_err(|e| engine.refused(&what, e))
            })
            .await
            .map_err(|e| {
                Error::new(
                    ErrorKind::Failed,
                    "compose.not_started",
                    format!("the service {} does not start: {}", config.name, e.message()),
                )
                .hint("what its container needs is not there: a port that another process has, a network, or a directory that it mounts; `docker compose up` by hand says the same")
                .source(e)
            })
    }

    /// Gives these containers the restart policies that they had.
    async fn give_back(
        &self,
        first: &ServiceContainers,
        stopped: &[Stopped],
        these: &BTreeSet<String>,
    ) -> Result<()> {
        for it in stopped.iter().filter(|it| these.contains(&it.id)) {
            let container = first.all.iter().find(|known| known.id == it.id);
            let policy = container.and_then(|now| it.owed(&now.restarts_when()));
            if let (Some(container), Some(policy)) = (container, policy) {
                self.set_policy(&it.id, &container.name, policy).await?;
            }
        }
        Ok(())
    }

    /// Waits until these containers and no others of the service are up and ready.
    async fn until_ready(
        &self,
        config: &ServiceConfig,
        meant: &BTreeSet<String>,
        since: Timestamp,
    ) -> Result<()> {
        let deadline = Instant::now() + config.start_timeout;
        // The engine counts from the last start by hand, and never down: what was before is none of ours.
        let before: BTreeMap<String, u64> = self
            .engine
            .service_containers(&config.name)
            .await?
            .all
            .iter()
            .map(|it| (it.id.clone(), it.restarts()))
            .collect();
        let failures = |it: &Container| {
            let before = before.get(&it.id).copied().unwrap_or_default();
            it.restarts().saturating_sub(before)
        };
        let mut settled: Option<(BTreeMap<String, String>, Instant)> = None;
        let mut ended: Option<Instant> = None;
        loop {
            let now = self.engine.service_containers(&config.name).await?;
            let up: BTreeSet<String> = now.up().map(|it| it.id.clone()).collect();
            let ready: BTreeMap<String, String> = now
                .running()
                .filter(|it| it.health().is_none_or(|health| health == "healthy"))
                .map(|it| (it.id.clone(), it.started_at()))
                .collect();
            let mut seen = format!("{} of {} containers run", ready.len(), meant.len());
            if up == *meant && ready.len() == meant.len() {
                match &settled {
                    Some((known, at)) if *known == ready => {
                        if at.elapsed() >= SETTLED {
                            match self.accepts(config, &now).await {
                                Ok(()) => return Ok(()),
                                Err(why) => seen = why,
                            }
                        }
                    }
                    _ => settled = Some((ready, Instant::now())),
                }
            } else {
                settled = None;
            }
            let mut of_it = now.all.iter().filter(|it| meant.contains(&it.id));
            let down = now
                .all
                .iter()
                .find(|it| meant.contains(&it.id) && !it.is_up());
            ended = match (down, ended) {
                (Some(_), None) => Some(Instant::now()),
                (Some(_), since) => since,
                (None, _) => None,
            };
            let restarts = down.is_some_and(|it| !it.restarts_when().is_empty());
            let gone = ended.is_some_and(|at| !restarts || at.elapsed() >= RESTART);
            let hopeless = gone || of_it.any(|it| failures(it) >= FAILURES);
            if hopeless || Instant::now() >= deadline {
                return Err(self.not_ready(config, &now, meant, &seen, since).await);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether the service takes connections, where it is to be asked.
    pub(super) async fn accepts(
        &self,
        config: &ServiceConfig,
        now: &ServiceContainers,
    ) -> Result<(), String> {
        if config.ready != Ready::Tcp {
            return Ok(());
        }
        let endpoint = endpoint::find(&self.engine, config, now)
            .await
            .map_err(|e| e.to_string())?;
        takes_connections(&endpoint).await
    }

    async fn not_ready(
        &self,
        config: &ServiceConfig,
        now: &ServiceContainers,
        meant: &BTreeSet<String>,
        seen: &str,
        since: Timestamp,
    ) -> Error {
        let of_it: Vec<&Container> = now
            .all
            .iter()
            .filter(|it| meant.contains(&it.id) || it.is_up())
            .collect();
        let trouble: Vec<String> = of_it.iter().map(|it| it.trouble()).collect();
        let lines = logs::of_containers(&self.engine, of_it.iter().copied(), since, 5)
            .await
            .unwrap_or_default();
        let name = of_it.first().map_or("CONTAINER", |it| it.name.as_str());
        Error::new(
            ErrorKind::Failed,
            "compose.not_ready",
            format!(
                "the service {} does not come up: {seen}; {}; {}",
                config.name,
                trouble.join(", "),
                last_lines(&lines)
            ),
        )
        .hint(format!(
            "`docker logs {name}` says more; if it only needs longer, raise start_timeout of [services.{}]",
            config.key
        ))
    }
}

/// Which containers are to be started so that `count` more are up: first those that this site has
/// stopped, then the others by their numbers. What has ended by itself is not started as long as
/// there are enough without it.
fn choose<'a>(
    containers: &'a ServiceContainers,
    stopped: &[Stopped],
    count: usize,
) -> Vec<&'a Container> {
    let rank = |it: &&Container| {
        let mut stopped = stopped.iter().filter(|known| !known.was_down);
        let at = stopped.position(|known| known.id == it.id);
        at.unwrap_or(usize::MAX)
    };
    let mut down: Vec<&Container> = containers.all.iter().filter(|it| !it.is_up()).collect();
    // Those of the same rank keep their order.
    down.sort_by_key(rank);
    down.truncate(count);
    down
}

fn too_few(config: &ServiceConfig, there: &ServiceContainers, replicas: u32) -> Error {
    let names: Vec<&str> = there.all.iter().map(|it| it.name.as_str()).collect();
    Error::new(
        ErrorKind::Failed,
        "compose.too_few_containers",
        format!(
            "cannot run {replicas} of the service {}: it has {} only ({}), and none is made here",
            config.name,
            names.len(),
            names.join(", ")
        ),
    )
    .hint(format!(
        "make them: `docker compose -p {} up --no-start --scale {}={replicas}` in the project's directory",
        config.name.project, config.name.service
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::config::ComposeName;
    use super::*;

    #[test]
    fn what_was_stopped_is_started_before_what_had_ended() {
        let container = |id: &str, status: &str| {
            let seen = json!({"Id": id, "Name": id, "State": {"Status": status}});
            Container::read(seen).unwrap()
        };
        let name = ComposeName {
            project: "p".to_owned(),
            service: "s".to_owned(),
        };
        let all = vec![
            container("1", "exited"),
            container("2", "exited"),
            container("3", "running"),
            container("4", "exited"),
        ];
        let containers = ServiceContainers {
            name,
            all,
            one_off: Vec::new(),
        };
        // The first was down before that.
        let stopped = [("1", true), ("4", false), ("2", false)].map(|(id, was_down)| Stopped {
            id: id.to_owned(),
            policy: None,
            meanwhile: String::new(),
            was_down,
        });
        let chosen = |count| -> Vec<&str> {
            let chosen = choose(&containers, &stopped, count);
            chosen.into_iter().map(|it| it.id.as_str()).collect()
        };
        assert_eq!(chosen(0), [""; 0]);
        assert_eq!(chosen(1), ["4"]);
        assert_eq!(chosen(2), ["4", "2"]);
        assert_eq!(chosen(9), ["4", "2", "1"]);
    }
}
