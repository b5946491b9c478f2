//! Where data is: mounts, volumes, nodes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::SwarmPlatform;
use super::config::VolumeConfig;
use super::endpoint;
use super::view::{Mount, View, encoded, text};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::Finding;
use crate::platform::Volume;
use crate::platform::local::LocalVolume;

impl SwarmPlatform {
    /// How a file of this host is seen in a service's containers; `None` where it is not.
    pub(super) async fn seen_in(&self, view: &View, host_path: &Path) -> Result<Option<PathBuf>> {
        // Only what runs on this host's engine sees files of this host.
        if view.running().count() > 0 && endpoint::here(&self.engine, view).await?.is_none() {
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
                match self.inspect_volume(&mount.source).await? {
                    Some(volume) => Ok(directory_of(&volume)),
                    None => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    /// What the engine says of the volume of exactly this name; never makes one.
    async fn inspect_volume(&self, name: &str) -> Result<Option<Value>> {
        self.engine
            .patiently(|| async {
                self.engine.docker().await?;
                let what = format!("look at the volume {name}");
                match self
                    .engine
                    .get(&what, &format!("/volumes/{}", encoded(name)))
                    .await
                {
                    Ok(volume) => Ok(Some(volume)),
                    Err(e) if e.code() == "swarm.not_found" => Ok(None),
                    Err(e) => Err(e),
                }
            })
            .await
    }

    /// See [`Platform::volume`](crate::platform::Platform::volume).
    pub(super) async fn open_volume(&self, config: &VolumeConfig) -> Result<Arc<dyn Volume>> {
        let name = &config.name;
        let Some(volume) = self.inspect_volume(name).await? else {
            return Err(self.no_volume(name).await);
        };
        self.must_be_used_here(name).await?;
        let path = match &config.path {
            Some(path) => path.clone(),
            None => directory_of(&volume).ok_or_else(|| {
                Error::new(
                    ErrorKind::Preflight,
                    "swarm.volume_elsewhere",
                    format!(
                        "where the files of the volume {name} are on this host is not known: its driver is {}",
                        text(&volume, "/Driver").unwrap_or_default()
                    ),
                )
                .hint(format!(
                    "mount it on this host and name the place: path = \"…\" in [volumes.{}]",
                    config.key
                ))
            })?,
        };
        let unreachable = |why: String| {
            Error::new(
                ErrorKind::Preflight,
                "swarm.volume_unreachable",
                format!("the volume {name} cannot be used from here: {} {why}", path.display()),
            )
            .hint("run this as root on the host whose engine has the volume; anything else is not supported yet")
        };
        match tokio::fs::metadata(&path).await {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(unreachable("is not a directory".to_owned())),
            Err(e) => return Err(unreachable(format!("cannot be opened ({e})"))),
        }
        Ok(Arc::new(LocalVolume::new(path)))
    }

    /// A volume of the same name on this node is another one than that which a service uses on
    /// its own node, and usually empty.
    async fn must_be_used_here(&self, name: &str) -> Result<()> {
        let own = self.engine.own_node().await?;
        for service in self.engine.all_services().await? {
            let uses = service.mounts().iter().any(|mount| {
                mount.kind == "volume" && mount.source == name && mount.driver == "local"
            });
            if !uses {
                continue;
            }
            let view = self.engine.view(&service.name).await?;
            let newest = view.tasks.iter().filter(|task| task.node.is_some());
            let nodes: BTreeSet<&str> = match view.running().next() {
                Some(_) => view
                    .running()
                    .filter_map(|task| task.node.as_deref())
                    .collect(),
                None => newest
                    .max_by_key(|task| &task.made)
                    .and_then(|task| task.node.as_deref())
                    .into_iter()
                    .collect(),
            };
            if let Some(other) = nodes.iter().find(|node| **node != own) {
                return Err(Error::new(
                    ErrorKind::Preflight,
                    "swarm.volume_elsewhere",
                    format!(
                        "the volume {name} of the service {} is on the node {}, not on this one",
                        view.name,
                        self.node_name(other).await
                    ),
                )
                .hint("run this there; volumes of other nodes are not supported yet"));
            }
        }
        Ok(())
    }

    async fn no_volume(&self, name: &str) -> Error {
        let error = Error::new(
            ErrorKind::NotFound,
            "platform.no_volume",
            format!("the engine has no volume of the exact name {name:?}"),
        );
        let listed = self.engine.get("list the volumes", "/volumes").await;
        let names: Vec<String> = listed
            .ok()
            .and_then(|value| value.get("Volumes")?.as_array().cloned())
            .unwrap_or_default()
            .iter()
            .filter_map(|volume| text(volume, "/Name"))
            .filter(|known| known.contains(name) || name.contains(known.as_str()))
            .collect();
        error.hint(match names.as_slice() {
            [] => "`docker volume ls` shows the names; looking never makes one".to_owned(),
            names => format!(
                "it has {}; stacks put their name before a volume's: STACK_VOLUME",
                names.join(", ")
            ),
        })
    }

    async fn node_name(&self, id: &str) -> String {
        let nodes = self.engine.nodes().await.unwrap_or_default();
        nodes
            .iter()
            .find(|node| text(node, "/ID").as_deref() == Some(id))
            .and_then(|node| text(node, "/Description/Hostname"))
            .unwrap_or_else(|| id.to_owned())
    }

    /// The user and group of a service's first process.
    pub(super) async fn owner_of(&self, view: &View) -> Result<Option<(u32, u32)>> {
        let Some(container) = endpoint::here(&self.engine, view).await? else {
            return Ok(numbers(
                &text(&view.spec, "/TaskTemplate/ContainerSpec/User").unwrap_or_default(),
            ));
        };
        let seen = self
            .engine
            .get(
                "look at a container",
                &format!("/containers/{container}/json"),
            )
            .await?;
        let pid = seen.pointer("/State/Pid").and_then(Value::as_u64);
        let Some(pid) = pid.filter(|pid| *pid > 0) else {
            return Ok(None);
        };
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
    pub(super) async fn look_at(&self, view: &View, findings: &mut Vec<Finding>) -> Result<()> {
        let name = &view.name;
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
        let fits = self.nodes_for(view).await?;
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

    /// The names of the nodes that a service's constraints let it run on.
    async fn nodes_for(&self, view: &View) -> Result<Vec<String>> {
        let constraints = view.constraints();
        Ok(self
            .engine
            .nodes()
            .await?
            .iter()
            .filter(|node| constraints.iter().all(|constraint| fits(node, constraint)))
            .map(|node| text(node, "/Description/Hostname").unwrap_or_default())
            .collect())
    }

    /// What preflight asks; see [`Platform::inspect`](crate::platform::Platform::inspect).
    pub(super) async fn findings(&self, services: &[String]) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for service in services {
            let config = self.find(service)?;
            let view = self.engine.view(&config.name).await?;
            self.look_at(&view, &mut findings).await?;
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
fn fits(node: &Value, constraint: &str) -> bool {
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

/// The directory of this host that holds a volume's files; `None` where a driver mounts it only
/// while somebody uses it.
fn directory_of(volume: &Value) -> Option<PathBuf> {
    if text(volume, "/Driver")? != "local" {
        return None;
    }
    let option = |key: &str| text(volume, &format!("/Options/{key}")).unwrap_or_default();
    let device = option("device");
    if device.is_empty() {
        return text(volume, "/Mountpoint").map(PathBuf::from);
    }
    let bound = option("o").split(',').any(|o| o == "bind" || o == "rbind");
    (bound && device.starts_with('/')).then(|| PathBuf::from(device))
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
    fn only_directories_that_stay_are_used() {
        let plain =
            serde_json::json!({"Driver": "local", "Mountpoint": "/v/_data", "Options": null});
        assert_eq!(directory_of(&plain), Some("/v/_data".into()));
        let bound = serde_json::json!({"Driver": "local", "Mountpoint": "/v/_data",
            "Options": {"type": "none", "o": "bind", "device": "/srv/x"}});
        assert_eq!(directory_of(&bound), Some("/srv/x".into()));
        let nfs = serde_json::json!({"Driver": "local", "Mountpoint": "/v/_data",
            "Options": {"type": "nfs", "o": "addr=x", "device": ":/x"}});
        assert_eq!(directory_of(&nfs), None);
        assert_eq!(numbers("999:998"), Some((999, 998)));
        assert_eq!(numbers("redis"), None);
    }
}
