//! What of this host a service sees, who it is, and what speaks against touching it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::nodes::NO_ENDPOINT;
use super::view::{Mode, Mount, ServiceSnapshot};
use super::volumes::directory_of;
use super::{SwarmPlatform, scale};
use crate::model::{Finding, Result};
use crate::platforms::docker::json::text;

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
            Err(error) if error.code() == NO_ENDPOINT => return Ok(None),
            Err(error) => return Err(error),
        };
        if !engine.is_here() {
            return Ok(None);
        }
        let real = host_path
            .canonicalize()
            .unwrap_or_else(|_| host_path.to_owned());
        let mut best: Option<(usize, PathBuf)> = None;
        for mount in view.mounts() {
            let Some(source) = self.source(&mount).await? else {
                continue;
            };
            let source = source.canonicalize().unwrap_or(source);
            let Ok(below) = real.strip_prefix(&source) else {
                continue;
            };
            let depth = source.components().count();
            if best.as_ref().is_none_or(|(known, _)| *known < depth) {
                let inside = Path::new(&mount.target);
                // Joining nothing would end the path with a slash.
                let inside = match below.as_os_str().is_empty() {
                    true => inside.to_owned(),
                    false => inside.join(below),
                };
                best = Some((depth, inside));
            }
        }
        Ok(best.map(|(_, path)| path))
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
            return Ok(numbers(
                &text(&view.spec, "/TaskTemplate/ContainerSpec/User").unwrap_or_default(),
            ));
        };
        let engine = &place.engine;
        let container = format!("/containers/{}", place.container);
        let seen = engine
            .get("look at a container", &format!("{container}/json"))
            .await?;
        let pid = seen.pointer("/State/Pid").and_then(Value::as_u64);
        let Some(pid) = pid.filter(|pid| *pid > 0) else {
            return Ok(None);
        };
        if !engine.is_here() {
            let listed = engine
                .get(
                    "list a container's processes",
                    &format!("{container}/top?ps_args=-eo%20pid,uid,gid"),
                )
                .await?;
            return Ok(owner_in(&listed, pid));
        }
        let Ok(status) = tokio::fs::read_to_string(format!("/proc/{pid}/status")).await else {
            return Ok(None);
        };
        let id = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            // Real, effective, saved, file system.
            line.split_whitespace().nth(1)?.parse().ok()
        };
        Ok(id("Uid:").zip(id("Gid:")))
    }

    /// What speaks against stopping and starting a service, or is worth knowing before.
    pub(super) async fn look_at(
        &self,
        view: &ServiceSnapshot,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let name = &view.name;
        if view.mode() == Mode::Job {
            findings.push(Finding::from_error(name, &scale::job(view)));
            return Ok(());
        }
        match view.update() {
            Some((state, message)) if state.contains("paused") => findings.push(
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
            self.look_at(&view, &mut findings).await?;
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

/// Who runs a process, from the engine's list of a container's processes.
fn owner_in(listed: &Value, pid: u64) -> Option<(u32, u32)> {
    let processes = listed.get("Processes")?.as_array()?;
    processes.iter().find_map(|process| {
        let number = |at: usize| process.get(at)?.as_str()?.trim().parse::<u32>().ok();
        (u64::from(number(0)?) == pid).then_some((number(1)?, number(2)?))
    })
}

/// `1000:1000`, or `1000`, in numbers.
fn numbers(user: &str) -> Option<(u32, u32)> {
    match user.split_once(':') {
        Some((uid, gid)) => Some((uid.parse().ok()?, gid.parse().ok()?)),
        None => user.parse().ok().map(|uid| (uid, uid)),
    }
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

    #[test]
    fn who_runs_a_process_is_read_from_the_engines_list() {
        let listed = serde_json::json!({"Titles": ["PID", "UID", "GID"],
            "Processes": [["7", "472", "0"], ["8", "1", "2"]]});
        assert_eq!(owner_in(&listed, 7), Some((472, 0)));
        assert_eq!(owner_in(&listed, 9), None);
        assert_eq!(numbers("999:998"), Some((999, 998)));
        assert_eq!(numbers("redis"), None);
    }
}
