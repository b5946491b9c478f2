//! What of this host a service sees, who it is, and what speaks against touching it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config::ServiceConfig;
use super::nodes::{NO_ENDPOINT, NoEndpoint};
use super::snapshot::{Mode, Mount, ServiceSnapshot};
use super::{SwarmPlatform, scale};
use crate::model::{Finding, Result};
use crate::platforms::docker::json::text;
use crate::platforms::docker::mounts::{directory_of, path_inside};
use crate::platforms::docker::processes::user_numbers;

impl SwarmPlatform {
    /// How a file of this host is seen in a service's containers; `None` where it is not.
    pub(super) async fn seen_in(
        &self,
        view: &ServiceSnapshot,
        host_path: &Path,
    ) -> Result<Option<PathBuf>> {
        // Only what runs on this host's engine sees files of this host.
        let engine = match self.nodes.place(view).await {
            Ok(Some(place)) => place.engine,
            Ok(None) => self.nodes.home(view).await?,
            Err(error) if error.is(&NoEndpoint) => return Ok(None),
            Err(error) => return Err(error),
        };
        if !engine.is_here() {
            return Ok(None);
        }
        let mut mounts = Vec::new();
        for mount in view.mounts() {
            if let Some(source) = self.source(&mount).await? {
                mounts.push((source, mount.target));
            }
        }
        Ok(path_inside(&mounts, host_path))
    }

    /// Where a mount's files are on this host.
    async fn source(&self, mount: &Mount) -> Result<Option<PathBuf>> {
        match mount.kind.as_str() {
            "bind" => Ok(Some(PathBuf::from(&mount.source))),
            "volume" if !mount.source.is_empty() => {
                match self.engine.volume(&mount.source).await? {
                    Some(volume) => Ok(directory_of(&volume)),
                    None => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    /// The user and group of a service's first process.
    pub(super) async fn owner_of(&self, view: &ServiceSnapshot) -> Result<Option<(u32, u32)>> {
        let Some(place) = self.nodes.place(view).await? else {
            return Ok(user_numbers(
                &text(&view.spec, "/TaskTemplate/ContainerSpec/User").unwrap_or_default(),
            ));
        };
        place.engine.owner_in(&place.container).await
    }

    /// What speaks against stopping and starting a service, or is worth knowing before.
    async fn look_at(
        &self,
        config: &ServiceConfig,
        view: &ServiceSnapshot,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let name = &view.name;
        if view.mode() == Mode::Job {
            findings.push(Finding::from_error(name, &scale::job(view)));
            return Ok(());
        }
        let is_done = scale::is_done(config, view);
        if is_done && view.running().next().is_none() {
            findings.push(
                Finding::warning(
                    "swarm.one_shot",
                    name,
                    "has done what it is for and does not run; once it is stopped and started it does that again, on what is restored",
                )
                .hint("take it out of `stops`, unless it is meant to"),
            );
        }
        match view.update() {
            // Whatever has ended soon stops an update.
            Some((state, message)) if state.contains("paused") && !is_done => findings.push(
                Finding::warning(
                    "swarm.update_paused",
                    name,
                    format!("its last update was stopped half-way ({state}): {message}"),
                )
                .hint(format!(
                    "`docker service update {name}` goes on with it, `docker service rollback {name}` takes it back"
                )),
            ),
            Some((state, _)) if state == "updating" || state == "rollback_started" => findings.push(
                Finding::error("swarm.updating", name, "it is being updated right now")
                    .hint("wait until `docker service ps` shows that it has come to its end"),
            ),
            _ => {}
        }
        let local: Vec<Mount> = view
            .mounts()
            .into_iter()
            .filter(|mount| mount.kind == "volume" && mount.driver == "local")
            .collect();
        if local.is_empty() {
            return Ok(());
        }
        let fits: Vec<String> = self
            .nodes
            .fitting(view)
            .await?
            .into_iter()
            .map(|node| node.name)
            .collect();
        if fits.len() > 1 {
            let volumes: Vec<&str> = local.iter().map(|mount| mount.source.as_str()).collect();
            findings.push(
                Finding::error(
                    "swarm.not_pinned",
                    name,
                    format!(
                        "it keeps {} on its node, but may be started on any of {}: on another one it would find an empty volume",
                        volumes.join(", "),
                        fits.join(", ")
                    ),
                )
                .hint(format!(
                    "pin it: docker service update --constraint-add node.hostname==NODE {name}"
                )),
            );
        }
        Ok(())
    }

    /// Nodes of its tasks to whose engines there is no way.
    async fn look_at_nodes(
        &self,
        view: &ServiceSnapshot,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let local = view.mounts();
        let keeps = local
            .iter()
            .any(|mount| mount.kind == "volume" && mount.driver == "local");
        let ids: BTreeSet<&str> = view
            .unended()
            .filter_map(|task| task.node.as_deref())
            .collect();
        for id in ids {
            let node = self.nodes.by_id(id).await?;
            if self.nodes.has_way_to(&node).await? {
                continue;
            }
            let name = &view.name;
            findings.push(if keeps {
                Finding::error(
                    NO_ENDPOINT,
                    name,
                    format!(
                        "it runs on the node {} with a volume there, and there is no way to that node's engine",
                        node.name
                    ),
                )
                .hint(node.how_to_add())
            } else {
                Finding::warning(
                    "swarm.unseen_node",
                    name,
                    format!(
                        "it runs on the node {}, to whose engine there is no way: that it has stopped there is known by the swarm's word alone",
                        node.name
                    ),
                )
                .hint(node.how_to_add())
            });
        }
        Ok(())
    }

    /// What preflight asks; see [`Platform::inspect`](crate::platform::Platform::inspect).
    pub(super) async fn findings(&self, services: &[String]) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for service in services {
            let config = self.find(service)?;
            let view = self.engine.view(&config.name).await?;
            self.look_at(config, &view, &mut findings).await?;
            self.look_at_nodes(&view, &mut findings).await?;
            let grace = view.grace();
            if let Some(needs) = config.stop_timeout.filter(|needs| *needs > grace) {
                findings.push(
                    Finding::warning(
                        "swarm.short_grace",
                        &view.name,
                        format!(
                            "it may need {} s to end, but is killed after {} s",
                            needs.as_secs(),
                            grace.as_secs()
                        ),
                    )
                    .hint(format!(
                        "docker service update --stop-grace-period {}s {}",
                        needs.as_secs(),
                        view.name
                    )),
                );
            }
        }
        Ok(findings)
    }
}

/// Whether a node satisfies one constraint of a service. What is not understood counts as
/// satisfied: refusing too much is safer than rescheduling data away.
pub(super) fn fits(node: &Value, constraint: &str) -> bool {
    let (key, wanted, equal) = if let Some((key, value)) = constraint.split_once("==") {
        (key, value, true)
    } else if let Some((key, value)) = constraint.split_once("!=") {
        (key, value, false)
    } else {
        return true;
    };
    let (key, wanted) = (key.trim(), wanted.trim());
    let label = |pointer: &str, name: &str| {
        node.pointer(pointer)
            .and_then(|labels| labels.get(name))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let found = match key {
        "node.id" => text(node, "/ID").unwrap_or_default(),
        "node.hostname" => text(node, "/Description/Hostname").unwrap_or_default(),
        "node.role" => text(node, "/Spec/Role").unwrap_or_default(),
        _ => {
            if let Some(name) = key.strip_prefix("node.labels.") {
                label("/Spec/Labels", name)
            } else if let Some(name) = key.strip_prefix("engine.labels.") {
                label("/Description/Engine/Labels", name)
            } else {
                return true;
            }
        }
    };
    found.eq_ignore_ascii_case(wanted) == equal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_compared_as_the_swarm_does() {
        let node = serde_json::json!({"ID": "n1", "Spec": {"Role": "manager", "Labels": {"disk": "ssd"}},
            "Description": {"Hostname": "one"}});
        for (constraint, holds) in [
            ("node.hostname==one", true),
            ("node.hostname == two", false),
            ("node.hostname!=two", true),
            ("node.role==manager", true),
            ("node.labels.disk==ssd", true),
            ("node.labels.disk==hdd", false),
            ("node.labels.none!=x", true),
            ("node.future~x", true),
        ] {
            assert_eq!(fits(&node, constraint), holds, "{constraint}");
        }
    }
}
