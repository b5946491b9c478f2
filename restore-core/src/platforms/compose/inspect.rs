//! What of this host a service sees, who it is, and what speaks against stopping it.

use std::path::{Path, PathBuf};

use super::ComposePlatform;
use super::config::ServiceConfig;
use super::containers::{Container, ServiceContainers};
use crate::model::{Finding, Result};
use crate::platforms::docker::json::text;
use crate::platforms::docker::mounts::path_inside;
use crate::platforms::docker::processes::user_numbers;

impl ComposePlatform {
    /// How a file of this host is seen in the containers of a service; `None` where it is not.
    pub(super) async fn seen_in(
        &self,
        containers: &ServiceContainers,
        host_path: &Path,
    ) -> Result<Option<PathBuf>> {
        let Some(container) = containers.newest() else {
            return Ok(None);
        };
        let mut mounts = Vec::new();
        for mount in container.mounts() {
            let source = match mount.kind.as_str() {
                "bind" => Some(mount.source),
                "volume" => self.directory_of_mount(&mount).await?,
                _ => None,
            };
            mounts.extend(source.map(|source| (source, mount.target)));
        }
        Ok(path_inside(&mounts, host_path))
    }

    /// The user and group of a service's first process.
    pub(super) async fn owner_of(
        &self,
        containers: &ServiceContainers,
    ) -> Result<Option<(u32, u32)>> {
        let Some(container) = containers.newest() else {
            return Ok(None);
        };
        match container.is_running() {
            true => self.engine.owner_in(&container.id).await,
            false => {
                let user = text(&container.seen, "/Config/User").unwrap_or_default();
                Ok(user_numbers(&user))
            }
        }
    }

    /// What preflight asks; see [`Platform::inspect`](crate::platform::Platform::inspect).
    pub(super) async fn findings(&self, services: &[&str]) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for service in services {
            let config = self.find(service)?;
            // What this site has stopped has not come to its end by itself.
            let stopped = match self.record(config).read().await {
                Ok(stopped) => stopped.iter().any(|it| !it.was_down),
                Err(error) => {
                    findings.push(Finding::from_error(config.key.as_str(), &error));
                    true
                }
            };
            match self.engine.service_containers(&config.name).await {
                Ok(containers) => {
                    findings.extend(look_at(config, &containers));
                    if !stopped {
                        findings.extend(ended(config, &containers));
                    }
                }
                Err(error) => findings.push(Finding::from_error(config.key.as_str(), &error)),
            }
        }
        Ok(findings)
    }
}

/// What speaks against stopping and starting a service, or is worth knowing before.
fn look_at(config: &ServiceConfig, containers: &ServiceContainers) -> Vec<Finding> {
    let mut findings = Vec::new();
    let key = config.key.as_str();
    for container in containers.up() {
        let name = &container.name;
        if container.is_removed_at_end() {
            findings.push(
                Finding::error(
                    "compose.removed_at_end",
                    key,
                    format!("the engine removes its container {name} as soon as that is stopped: nothing could be started again"),
                )
                .hint("make it without --rm"),
            );
        }
        match container.status().as_str() {
            "paused" => findings.push(
                Finding::error(
                    "compose.paused",
                    key,
                    format!(
                        "its container {name} is paused; stopped and started again it would run"
                    ),
                )
                .hint(format!("`docker unpause {name}`, or stop it")),
            ),
            "restarting" => findings.push(
                Finding::warning("compose.restarting", key, container.trouble())
                    .hint(format!("`docker logs {name}` says why")),
            ),
            _ => {}
        }
        if container.health().as_deref() == Some("unhealthy") {
            findings.push(
                Finding::warning(
                    "compose.unhealthy",
                    key,
                    format!("its container {name} is unhealthy; once started again it is waited for until it is healthy"),
                )
                .hint(format!("`docker inspect -f '{{{{json .State.Health}}}}' {name}` says why")),
            );
        }
    }
    if !containers.one_off.is_empty() {
        findings.push(
            Finding::warning(
                "compose.one_off",
                key,
                format!(
                    "{} was made by `docker compose run`, and goes on while the service is stopped: it may write to the data that is replaced",
                    containers.one_off.join(", ")
                ),
            )
            .hint("stop it, or wait until its command has ended"),
        );
    }
    findings
}

/// That a service has come to its end by itself.
fn ended(config: &ServiceConfig, containers: &ServiceContainers) -> Option<Finding> {
    let ended = containers.up().next().is_none() && containers.all.iter().all(ended_well);
    ended.then(|| {
        Finding::warning(
            "compose.ended",
            config.key.as_str(),
            "it has come to its end by itself, with exit code 0, and is not started again by the engine: it looks like work that is done once",
        )
        .hint("if so, take it out of `stops`, or it is started after the restore")
    })
}

/// Whether it did what it was for.
fn ended_well(container: &Container) -> bool {
    container.status() == "exited"
        && container.exit_code() == 0
        && container.restarts_when().is_empty()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::super::config::{ComposeName, Ready};
    use super::*;

    fn codes(states: &[Value]) -> Vec<String> {
        let name = ComposeName {
            project: "p".to_owned(),
            service: "s".to_owned(),
        };
        let config = ServiceConfig {
            key: "s".to_owned(),
            name: name.clone(),
            endpoint: None,
            port: None,
            ready: Ready::Running,
            stop_timeout: None,
            start_timeout: Duration::from_secs(1),
        };
        let all = states
            .iter()
            .map(|seen| {
                let mut seen = seen.clone();
                seen["Id"] = json!("1");
                seen["Name"] = json!("p-s-1");
                Container::read(seen).unwrap()
            })
            .collect();
        let containers = ServiceContainers {
            name,
            all,
            one_off: Vec::new(),
        };
        let found = look_at(&config, &containers).into_iter();
        let found = found.chain(super::ended(&config, &containers));
        found.map(|it| it.code).collect()
    }

    #[test]
    fn what_could_not_be_put_back_is_refused() {
        let running = json!({"State": {"Status": "running"}});
        let ended = json!({"State": {"Status": "exited", "ExitCode": 0}});
        assert_eq!(codes(&[running.clone(), ended.clone()]), [""; 0]);
        assert_eq!(codes(std::slice::from_ref(&ended)), ["compose.ended"]);
        let failed = json!({"State": {"Status": "exited", "ExitCode": 1}});
        assert_eq!(codes(&[ended, failed]), [""; 0]);
        let paused = json!({"State": {"Status": "paused"}});
        assert_eq!(codes(&[running, paused]), ["compose.paused"]);
        let removed = json!({"State": {"Status": "running"}, "HostConfig": {"AutoRemove": true}});
        assert_eq!(codes(&[removed]), ["compose.removed_at_end"]);
        let sick = json!({"State": {"Status": "running", "Health": {"Status": "unhealthy"}}});
        assert_eq!(codes(&[sick]), ["compose.unhealthy"]);
    }
}
