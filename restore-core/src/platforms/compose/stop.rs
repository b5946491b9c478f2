//! Stopping containers, and knowing that it has happened.
//!
//! A container is stopped by the engine's own request, as `docker compose stop` does it: the engine
//! then starts it again neither because its process has ended nor because of a health check. Of one
//! with the policy `always` or `on-failure` it would do so whenever the engine itself starts, in the
//! middle of a run too: such a container has the policy `unless-stopped` for as long as it is down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bollard::query_parameters::{StopContainerOptions, StopContainerOptionsBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ComposePlatform;
use super::config::ServiceConfig;
use super::containers::{Container, ServiceContainers};
use super::record::Stopped;
use crate::model::{Error, ErrorKind, Result};
use crate::platforms::docker::engine::Engine;
use crate::sys::process::procs::Ident;

/// How often the engine is asked.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// What the engine needs besides what a process takes to end.
const MARGIN: Duration = Duration::from_secs(45);

/// How long the engine may take to know that a process has ended.
const ENDING: Duration = Duration::from_secs(10);

/// The exit code of what was killed.
const KILLED: i64 = 137;

/// With this policy a container that was stopped stays so when the engine starts.
const WHILE_DOWN: &str = "unless-stopped";

/// A container that was asked to end.
struct Asked {
    name: String,
    /// Its process, where it is one of this host that can be seen.
    process: Option<Ident>,
    patience: Duration,
}

impl ComposePlatform {
    /// Returns once no container of the service is up, `kept` ones excepted, and their processes
    /// are gone. Which ones it stops is written down before.
    pub(super) async fn stop(&self, config: &ServiceConfig, kept: &BTreeSet<String>) -> Result<()> {
        self.killed.set(&config.key, None);
        let record = self.record(config);
        let begun = Instant::now();
        let mut deadline = begun + MARGIN;
        let mut asked: BTreeMap<String, Asked> = BTreeMap::new();
        // One that is asked again has no more time than it had.
        let mut known: BTreeSet<String> = BTreeSet::new();
        let mut stopping: JoinSet<(String, Result<()>)> = JoinSet::new();
        let now = loop {
            while let Some(Ok((id, done))) = stopping.try_join_next() {
                match done {
                    // The engine was restarted meanwhile, and may have started it again.
                    Err(error) if error.is_retryable() => drop(asked.remove(&id)),
                    done => done.map_err(|e| e.context(&config.name))?,
                }
            }
            let now = match self.engine.service_containers(&config.name).await {
                // Removed by somebody: nothing is there that could run.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    ServiceContainers::none(&config.name)
                }
                now => now?,
            };
            let up: Vec<&Container> = now.up().filter(|it| !kept.contains(&it.id)).collect();
            let new: Vec<&Container> = up
                .iter()
                .copied()
                .filter(|it| !asked.contains_key(&it.id))
                .collect();
            if !new.is_empty() {
                let stopped = noted(record.read().await?, &new, &now);
                record.write(&stopped).await?;
            }
            for container in new {
                self.keep_down(container).await?;
                let patience = match config.stop_timeout {
                    Some(needs) => needs.max(container.grace()),
                    None => container.grace(),
                };
                if known.insert(container.id.clone()) {
                    deadline = deadline.max(Instant::now() + patience + MARGIN);
                }
                asked.insert(
                    container.id.clone(),
                    Asked {
                        name: container.name.clone(),
                        process: self.process_of(container),
                        patience,
                    },
                );
                let (engine, id) = (self.engine.clone(), container.id.clone());
                // Its own time, unless the site knows that it needs longer.
                let seconds = config.stop_timeout.map(|_| patience);
                stopping.spawn(async move {
                    let done = end(&engine, &id, seconds, patience).await;
                    (id, done)
                });
            }
            let mut processes = asked.values().filter_map(|it| it.process);
            if up.is_empty() && !processes.any(Ident::lives) {
                break now;
            }
            if Instant::now() >= deadline {
                let up: Vec<String> = up.iter().map(|it| it.trouble()).collect();
                return Err(does_not_end(config, &up, &asked, begun.elapsed()));
            }
            tokio::time::sleep(LOOK).await;
        };
        self.note_killed(config, &now, &asked, begun.elapsed());
        Ok(())
    }

    /// Has the engine leave a container alone that is about to be stopped, until it is started.
    async fn keep_down(&self, container: &Container) -> Result<()> {
        if !comes_back_with_the_engine(container) {
            return Ok(());
        }
        let policy = json!({"Name": WHILE_DOWN, "MaximumRetryCount": 0});
        self.set_policy(&container.id, &container.name, &policy)
            .await
    }

    /// Gives a container a restart policy; one that has gone needs none.
    pub(super) async fn set_policy(&self, id: &str, name: &str, policy: &Value) -> Result<()> {
        let what = format!("change the restart policy of the container {name}");
        let path = format!("/containers/{id}/update");
        let body = json!({ "RestartPolicy": policy });
        let engine = &self.engine;
        let deadline = Instant::now() + ENDING;
        loop {
            let done = engine
                .patiently(|| async {
                    engine.docker().await?;
                    match engine.post(&what, &path, &body).await {
                        Err(e) if e.code() == "swarm.not_found" => Ok(()),
                        done => done.map(drop),
                    }
                })
                .await;
            match done {
                // It has just ended, and the engine has not come to know it: then nothing is changed.
                Err(error)
                    if error
                        .message()
                        .contains("cannot update a stopped container")
                        && Instant::now() < deadline =>
                {
                    tokio::time::sleep(LOOK).await;
                }
                done => return done,
            }
        }
    }

    /// The process of a container, where it is one of this host: its number is another one's in
    /// another namespace.
    fn process_of(&self, container: &Container) -> Option<Ident> {
        let pid = container.pid().filter(|_| self.engine.is_here())?;
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        groups.contains(&container.id).then(|| Ident::of(pid))?
    }

    /// One that had to be killed may have lost what it was about to write.
    fn note_killed(
        &self,
        config: &ServiceConfig,
        now: &ServiceContainers,
        asked: &BTreeMap<String, Asked>,
        after: Duration,
    ) {
        let killed: Vec<String> = now
            .all
            .iter()
            .filter(|it| it.exit_code() == KILLED)
            .filter_map(|it| asked.get(&it.id))
            .filter(|it| after >= it.patience)
            .map(|it| format!("{} did not end within {:?}", it.name, it.patience))
            .collect();
        if !killed.is_empty() {
            let note = format!(
                "killed: {}, which is what stop_grace_period of its compose file, or stop_timeout of [services.{}], gives it",
                killed.join(", "),
                config.key
            );
            self.killed.set(&config.key, Some(note));
        }
    }
}

/// Whether the engine would start it when it starts itself, although it was stopped.
fn comes_back_with_the_engine(container: &Container) -> bool {
    ["always", "on-failure"].contains(&container.restarts_when().as_str())
}

/// The record with containers that are about to be stopped. Of one that has the policy of those
/// that are down already, the policy of before is known from the record.
fn noted(record: Vec<Stopped>, new: &[&Container], now: &ServiceContainers) -> Vec<Stopped> {
    let known = |id: &str| record.iter().find(|it| it.id == id);
    let mut stopped: Vec<Stopped> = new
        .iter()
        .map(|container| Stopped {
            id: container.id.clone(),
            policy: match comes_back_with_the_engine(container) {
                true => Some(container.restart_policy()),
                false if container.restarts_when() == WHILE_DOWN => {
                    known(&container.id).and_then(|it| it.policy.clone())
                }
                false => None,
            },
        })
        .collect();
    let fresh: BTreeSet<String> = stopped.iter().map(|it| it.id.clone()).collect();
    let there = |id: &str| now.all.iter().any(|it| it.id == id);
    stopped.extend(
        record
            .into_iter()
            .filter(|it| !fresh.contains(&it.id) && there(&it.id)),
    );
    stopped
}

/// Asks the engine to end a container; it answers once that has ended.
async fn end(
    engine: &Engine,
    id: &str,
    seconds: Option<Duration>,
    patience: Duration,
) -> Result<()> {
    let options: Option<StopContainerOptions> = seconds.map(|time| {
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        StopContainerOptionsBuilder::default()
            .t(i32::try_from(seconds).unwrap_or(i32::MAX))
            .build()
    });
    let docker = engine.docker().await?.clone();
    let docker = docker.with_timeout(patience + 2 * MARGIN);
    match docker.stop_container(id, options).await {
        Ok(()) => Ok(()),
        Err(e) => match engine.refused("stop a container", e) {
            error if error.code() == "swarm.not_found" => Ok(()),
            error => Err(error),
        },
    }
}

fn does_not_end(
    config: &ServiceConfig,
    up: &[String],
    asked: &BTreeMap<String, Asked>,
    after: Duration,
) -> Error {
    let left: Vec<String> = asked
        .values()
        .filter_map(|it| Some((&it.name, it.process.filter(|process| process.lives())?)))
        .map(|(name, process)| format!("process {} of {name}", process.pid))
        .collect();
    Error::new(
        ErrorKind::Failed,
        "compose.does_not_end",
        format!(
            "the service {} still runs {} s after it was asked to stop: {}",
            config.name,
            after.as_secs(),
            [up, &left].concat().join(", ")
        ),
    )
    .hint("a process that hangs is usually waiting for a disk; a container that comes back is started by somebody else: look with `docker ps` and `docker events`")
}

#[cfg(test)]
mod tests {
    use super::super::config::ComposeName;
    use super::*;

    fn container(id: &str, policy: &str) -> Container {
        let seen = json!({"Id": id, "Name": format!("/{id}"), "Config": {}, "State": {"Status": "running"},
            "HostConfig": {"RestartPolicy": {"Name": policy, "MaximumRetryCount": 0}}});
        Container::read(seen).unwrap()
    }

    #[test]
    fn what_is_stopped_is_noted_with_its_policy_of_before() {
        let name = ComposeName {
            project: "p".to_owned(),
            service: "s".to_owned(),
        };
        let all = vec![
            container("a", "always"),
            container("b", "no"),
            container("c", WHILE_DOWN),
            container("d", WHILE_DOWN),
        ];
        let now = ServiceContainers {
            name,
            all,
            one_off: Vec::new(),
        };
        let always = json!({"Name": "always", "MaximumRetryCount": 0});
        let entry = |id: &str, policy: Option<&Value>| Stopped {
            id: id.to_owned(),
            policy: policy.cloned(),
        };
        // It was stopped before and started by hand since; another one is gone.
        let before = vec![
            entry("c", Some(&always)),
            entry("gone", None),
            entry("b", None),
        ];
        let new: Vec<&Container> = now.all.iter().filter(|it| it.id != "b").collect();
        assert_eq!(
            noted(before, &new, &now),
            [
                entry("a", Some(&always)),
                entry("c", Some(&always)),
                entry("d", None),
                entry("b", None),
            ]
        );
    }
}
