//! What a Docker engine runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::processes::is_telling;
use super::{Discovery, FoundMount, FoundService, LookOptions};
use crate::platforms::swarm;

/// An engine that does not answer by then is no reason to wait.
const ANSWER: Duration = Duration::from_secs(10);

/// Adds the services of the swarm that the engine manages, and the Compose projects that it runs.
pub(super) async fn look(options: &LookOptions, found: &mut Discovery) {
    let socket = options
        .socket
        .clone()
        .unwrap_or_else(|| PathBuf::from("/var/run/docker.sock"));
    // Who asks for one directory does not ask for the host's engine, unless it is named.
    if (options.below.is_some() && options.socket.is_none()) || !socket.exists() {
        return;
    }
    let Ok(Ok(listed)) = tokio::time::timeout(ANSWER, swarm::listed(&socket)).await else {
        return;
    };
    for container in &listed.containers {
        let project = text(container, "/Labels/com.docker.compose.project");
        found.compose.extend(project);
    }
    found.compose.sort();
    found.compose.dedup();
    found.services = listed.services.iter().filter_map(service).collect();
    found.services.sort_by(|a, b| a.name.cmp(&b.name));
    if !found.services.is_empty() {
        found.socket = Some(socket);
        let binds = found.services.iter().flat_map(|it| &it.mounts);
        let binds: Vec<PathBuf> = binds
            .filter(|mount| mount.bind)
            .map(|mount| PathBuf::from(&mount.source))
            .collect();
        for path in binds {
            add_roots(&path, &mut found.roots);
        }
    }
}

/// The directories above a path, as what members of archives may be relative to.
pub(super) fn add_roots(path: &Path, roots: &mut Vec<PathBuf>) {
    for above in path.ancestors().skip(1) {
        if !roots.iter().any(|known| known == above) {
            roots.push(above.to_owned());
        }
    }
}

fn service(value: &Value) -> Option<FoundService> {
    let container = value.pointer("/Spec/TaskTemplate/ContainerSpec")?;
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let mode = value.pointer("/Spec/Mode");
    let job = |key| mode.is_some_and(|mode: &Value| mode.get(key).is_some());
    let image = text(container, "/Image").unwrap_or_default();
    Some(FoundService {
        name: text(value, "/Spec/Name")?,
        image: image.split('@').next().unwrap_or_default().to_owned(),
        stack: text(value, "/Spec/Labels/com.docker.stack.namespace"),
        networks: list(value.pointer("/Spec/TaskTemplate/Networks"))
            .iter()
            .filter_map(|network| text(network, "/Target"))
            .collect(),
        settings: list(container.get("Env"))
            .iter()
            .filter_map(|it| it.as_str()?.split_once('='))
            .filter(|(name, _)| is_telling(name))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        mounts: list(container.get("Mounts"))
            .iter()
            .filter_map(|mount| {
                Some(FoundMount {
                    source: text(mount, "/Source")?,
                    target: PathBuf::from(text(mount, "/Target")?),
                    bind: text(mount, "/Type").as_deref() == Some("bind"),
                    read_only: mount.get("ReadOnly").and_then(Value::as_bool) == Some(true),
                })
            })
            .collect(),
        ports: list(value.pointer("/Endpoint/Ports"))
            .iter()
            .filter_map(|port| port.get("PublishedPort")?.as_u64()?.try_into().ok())
            .collect(),
        job: job("ReplicatedJob") || job("GlobalJob"),
    })
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    // A label's name has dots, and may have slashes: its own pointer would be in the way.
    let mut at = value;
    for key in pointer.split('/').skip(1) {
        at = at.get(key)?;
    }
    at.as_str().map(str::to_owned)
}
