//! Stopping containers, and knowing that it has happened.
//!
//! A container is stopped by the engine's own request, as `docker compose stop` does it: the engine
//! then starts it again neither because its process has ended nor because of a health check. Of one
//! with the policy `always` or `on-failure` it would do so whenever the engine itself starts, in the
//! middle of a run too: such a container has the policy `unless-stopped` for as long as it is down.
//! One that was down already has none for that long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bollard::query_parameters::{StopContainerOptions, StopContainerOptionsBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ComposePlatform;
use super::config::ServiceConfig;
use super::containers::{Container, ServiceContainers};
use super::record::{NEVER, StopRecord, Stopped, WHILE_DOWN};
use crate::model::{Error, ErrorKind, Result};
use crate::platforms::docker::engine::{Engine, Refused};
use crate::sys::process::procs::Ident;
use crate::sys::retry::Retry;

/// How often the engine is asked.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// What the engine needs besides what a process takes to end.
const MARGIN: Duration = Duration::from_secs(45);

/// How long the engine may take to know that a process has ended.
const ENDING: Duration = Duration::from_secs(10);

/// The exit code of what was killed.
const KILLED: i64 = 137;

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
        // Of a service that goes on, what is down may come back as ever.
        let mut idle_is_kept_down = !kept.is_empty();
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
            if !idle_is_kept_down {
                self.keep_idle_down(&record, &now).await?;
                idle_is_kept_down = true;
            }
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
        self.set_policy(&container.id, &container.name, &policy(WHILE_DOWN))
            .await
    }

    /// As `keep_down`, of those that are down already, which is written down before.
    async fn keep_idle_down(&self, record: &StopRecord, now: &ServiceContainers) -> Result<()> {
        let known = record.read().await?;
        let idle: Vec<&Container> = now.all.iter().filter(|it| comes_back(it, &known)).collect();
        if idle.is_empty() {
            return Ok(());
        }
        record.write(&noted_idle(known, &idle)).await?;
        for container in idle {
            self.set_policy(&container.id, &container.name, &policy(NEVER))
                .await?;
        }
        Ok(())
    }

    /// See [`Platform::release`](crate::platform::Platform::release): gives all containers that are
    /// written down the restart policies that they had, whether they run or not. Which ones a later
    /// start is to take stays written down.
    pub(super) async fn give_all_back(&self) -> Result<()> {
        let mut failed = None;
        for record in StopRecord::all(&self.stopped).await? {
            if let Err(error) = self.give_back_of(&record).await {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn give_back_of(&self, record: &StopRecord) -> Result<()> {
        let known = record.read().await?;
        let mut left = Vec::new();
        for stopped in &known {
            let Some(container) = self.engine.container(&stopped.id).await? else {
                continue;
            };
            if let Some(policy) = stopped.owed(&container.restarts_when()) {
                self.set_policy(&container.id, &container.name, policy)
                    .await?;
            }
            if !stopped.was_down && !container.is_up() {
                left.push(Stopped {
                    policy: None,
                    ..stopped.clone()
                });
            }
        }
        match left == known {
            true => Ok(()),
            false => record.write(&left).await,
        }
    }

    /// Gives a container a restart policy; one that has gone needs none.
    pub(super) async fn set_policy(&self, id: &str, name: &str, policy: &Value) -> Result<()> {
        let what = format!("change the restart policy of the container {name}");
        let path = format!("/containers/{id}/update");
        let body = json!({ "RestartPolicy": policy });
        let engine = &self.engine;
        let retry = Retry::within(ENDING, LOOK);
        loop {
            let done = engine
                .patiently(|| async {
                    engine.docker().await?;
                    match engine.post(&what, &path, &body).await {
                        Err(e) if e.is(&Refused::NotFound) => Ok(()),
                        done => done.map(drop),
                    }
                })
                .await;
            match done {
                // It has just ended, and the engine has not come to know it: then nothing is changed.
                Err(e) if e.is(&Refused::Ended) && !retry.is_over() => retry.pause().await,
                done => return done,
            }
        }
    }

    /// The process of a container, where it is one of this host: its number is another one's in
    /// another namespace.
    fn process_of(&self, container: &Container) -> Option<Ident> {
        let pid = container.pid().filter(|_| self.engine.is_here())?;
        let groups = std::fs::read(format!("/proc/{pid}/cgroup")).ok()?;
        let groups = String::from_utf8_lossy(&groups);
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
                "{}, which is what stop_grace_period of its compose file, or stop_timeout of [services.{}], gives it",
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

/// Whether the engine might start one that is down when it starts itself. One that this site has
/// stopped counts as stopped by hand.
fn comes_back(container: &Container, known: &[Stopped]) -> bool {
    let policy = container.restarts_when();
    let stopped = || {
        let known = known.iter().find(|it| it.id == container.id);
        known.is_some_and(|it| !it.was_down)
    };
    container.status() == "exited" && !policy.is_empty() && !(policy == WHILE_DOWN && stopped())
}

fn policy(name: &str) -> Value {
    json!({"Name": name, "MaximumRetryCount": 0})
}

/// The record with containers that are down already and are about to be kept so.
fn noted_idle(record: Vec<Stopped>, idle: &[&Container]) -> Vec<Stopped> {
    let mut noted = record;
    for container in idle {
        let policy = Some(container.restart_policy());
        let meanwhile = NEVER.to_owned();
        match noted.iter_mut().find(|it| it.id == container.id) {
            Some(known) => (known.policy, known.meanwhile) = (policy, meanwhile),
            None => noted.push(Stopped {
                id: container.id.clone(),
                policy,
                meanwhile,
                was_down: true,
            }),
        }
    }
    noted
}

/// The record with containers that are about to be stopped. Of one that has the policy of those
/// that are down already, the policy of before is known from the record.
fn noted(record: Vec<Stopped>, new: &[&Container], now: &ServiceContainers) -> Vec<Stopped> {
    let known = |id: &str| record.iter().find(|it| it.id == id);
    let mut stopped: Vec<Stopped> = new
        .iter()
        .map(|container| {
            let now = container.restarts_when();
            let known = known(&container.id);
            let owed = known.and_then(|it| it.owed(&now).map(|policy| (policy, it)));
            let (policy, meanwhile) = match owed {
                _ if comes_back_with_the_engine(container) => {
                    (Some(container.restart_policy()), WHILE_DOWN.to_owned())
                }
                Some((policy, it)) => (Some(policy.clone()), it.meanwhile.clone()),
                None => (None, WHILE_DOWN.to_owned()),
            };
            Stopped {
                id: container.id.clone(),
                policy,
                meanwhile,
                was_down: known.is_some_and(|it| it.was_down),
            }
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
pub(super) async fn end(
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
            error if error.is(&Refused::NotFound) => Ok(()),
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
            meanwhile: WHILE_DOWN.to_owned(),
            was_down: false,
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

    #[test]
    fn what_is_down_already_is_kept_so_and_none_of_those_to_start() {
        let down = |id: &str, policy: &str, status: &str| {
            let mut it = container(id, policy);
            it.seen["State"]["Status"] = json!(status);
            it
        };
        let idle = down("idle", "always", "exited");
        let stopped = down("stopped", WHILE_DOWN, "exited");
        let entry = |id: &str| Stopped {
            id: id.to_owned(),
            policy: Some(policy("always")),
            meanwhile: WHILE_DOWN.to_owned(),
            was_down: false,
        };
        let known = [entry("stopped"), entry("released")];
        assert!(comes_back(&idle, &known) && comes_back(&stopped, &[]));
        assert!(!comes_back(&stopped, &known));
        for other in [
            down("none", "no", "exited"),
            down("new", "always", "created"),
            down("up", "always", "running"),
        ] {
            assert!(!comes_back(&other, &known), "{}", other.id);
        }
        // It was stopped by a run that was ended as it stood, and has its own policy again.
        let released = down("released", "on-failure", "exited");
        let noted = noted_idle(known.to_vec(), &[&idle, &released]);
        let kept = |id: &str, before: &str, was_down: bool| Stopped {
            id: id.to_owned(),
            policy: Some(policy(before)),
            meanwhile: NEVER.to_owned(),
            was_down,
        };
        let wanted = [
            entry("stopped"),
            kept("released", "on-failure", false),
            kept("idle", "always", true),
        ];
        assert_eq!(noted, wanted);
    }
}
