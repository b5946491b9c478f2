//! Volumes: by the names that compose files have for them, or by the engine's; and who uses them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::ComposePlatform;
use super::config::{VolumeConfig, VolumeSource};
use super::containers::{Container, PROJECT, SERVICE, VOLUME, label};
use crate::contract::Volume;
use crate::model::{Error, ErrorKind, Result};
use crate::platforms::docker::json::{encoded, text};
use crate::platforms::docker::mounts::directory_of;
use crate::platforms::docker::throwaway::SITE;
use crate::swap::LocalVolume;

/// What a volume of the site is.
#[derive(Clone, Debug)]
enum Found {
    /// One of the engine's, as the engine describes it.
    OfEngine {
        name: String,
        volume: Value,
    },
    Directory(PathBuf),
}

impl ComposePlatform {
    /// What the site says of a volume. One needs no section: its name says all.
    fn volume_named(&self, name: &str) -> VolumeConfig {
        let volumes = &self.config.volumes;
        let named = volumes.iter().find(|volume| volume.key == name).cloned();
        named.unwrap_or_else(|| VolumeConfig {
            key: name.to_owned(),
            source: VolumeSource::Named {
                project: self.config.project.clone(),
                name: name.to_owned(),
            },
            follow: false,
        })
    }

    /// See [`Platform::volume`](crate::platform::Platform::volume).
    pub(super) async fn open_volume(&self, name: &str) -> Result<Arc<dyn Volume>> {
        let config = self.volume_named(name);
        let path = self.directory(&config).await?;
        Ok(Arc::new(
            LocalVolume::new(path)
                .kept_in(&self.records)
                .followed(config.follow),
        ))
    }

    /// The directory of this host that holds a volume's files, which this process may change.
    async fn directory(&self, config: &VolumeConfig) -> Result<PathBuf> {
        let unusable = |why: String| {
            Error::new(
                ErrorKind::Preflight,
                "compose.volume_unreachable",
                format!(
                    "the files of the volume {} cannot be used: {why}",
                    config.key
                ),
            )
        };
        let (path, section) = match self.find_volume(config).await? {
            Found::Directory(path) => (path, true),
            Found::OfEngine { name, volume } => match directory_of(&volume) {
                Some(path) => (path, false),
                None => {
                    let driver = text(&volume, "/Driver").unwrap_or_default();
                    return Err(unusable(format!(
                        "its driver {driver} mounts {name} only while a container uses it"
                    ))
                    .hint(format!(
                        "mount it at a directory of this host, and say so: path = \"/…\" in [volumes.{}]",
                        config.key
                    )));
                }
            },
        };
        match tokio::fs::metadata(&path).await {
            Ok(meta) if meta.is_dir() => Ok(path),
            Ok(_) => Err(unusable(format!("{} is no directory", path.display()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && section => Err(Error::new(
                ErrorKind::NotFound,
                "platform.no_volume",
                format!(
                    "the volume {} is not there: there is no directory {}",
                    config.key,
                    path.display()
                ),
            )
            .hint("make the directory, or correct `path`: looking never makes one")
            .source(e)),
            Err(e) => Err(unusable(format!("{}: {e}", path.display()))
                .hint("run this as root, on the host of the engine")
                .source(e)),
        }
    }

    /// Which volume of the engine, or which directory, is meant.
    async fn find_volume(&self, config: &VolumeConfig) -> Result<Found> {
        let exact = async |name: &str| {
            let volume = self.engine.volume(name).await?;
            Ok::<_, Error>(volume.map(|volume| Found::OfEngine {
                name: name.to_owned(),
                volume,
            }))
        };
        match &config.source {
            VolumeSource::Directory(path) => Ok(Found::Directory(path.clone())),
            VolumeSource::External(name) => match exact(name).await? {
                Some(found) => Ok(found),
                None => Err(self.no_volume(None, name).await),
            },
            VolumeSource::Named { project, name } => {
                if let Some(project) = project {
                    let mut of_project = self.volumes_of(project, name).await?;
                    let names: Vec<String> = of_project
                        .iter()
                        .filter_map(|volume| text(volume, "/Name"))
                        .collect();
                    match (names.as_slice(), of_project.pop()) {
                        ([name], Some(volume)) => {
                            return Ok(Found::OfEngine {
                                name: name.clone(),
                                volume,
                            });
                        }
                        ([_, _, ..], _) => {
                            return Err(Error::new(
                                ErrorKind::Preflight,
                                "compose.volume_ambiguous",
                                format!(
                                    "the Compose project {project} has several volumes {name}: {}",
                                    names.join(", ")
                                ),
                            )
                            .hint(format!(
                                "say which one is meant: name = \"{}\" and external = true in [volumes.{}]",
                                names.first().map_or("…", String::as_str),
                                config.key
                            )));
                        }
                        _ => {}
                    }
                }
                match exact(name).await? {
                    Some(found) => Ok(found),
                    None => Err(self.no_volume(project.as_deref(), name).await),
                }
            }
        }
    }

    /// The volumes that the compose files of a project call so.
    async fn volumes_of(&self, project: &str, name: &str) -> Result<Vec<Value>> {
        let labels = [format!("{PROJECT}={project}"), format!("{VOLUME}={name}")];
        let filter = encoded(&json!({ "label": labels }).to_string());
        let engine = &self.engine;
        let listed = engine
            .patiently(|| async {
                engine.docker().await?;
                let path = format!("/volumes?filters={filter}");
                engine.get("list the volumes", &path).await
            })
            .await?;
        let volumes = listed.get("Volumes").and_then(Value::as_array);
        Ok(volumes.cloned().unwrap_or_default())
    }

    async fn no_volume(&self, project: Option<&str>, name: &str) -> Error {
        let place = self.engine.place();
        let error = Error::new(
            ErrorKind::NotFound,
            "platform.no_volume",
            match project {
                Some(project) => format!(
                    "the Compose project {project} has no volume {name:?}, and the engine at {place} none of that exact name"
                ),
                None => format!("the engine at {place} has no volume of the exact name {name:?}"),
            },
        );
        let listed = self.engine.get("list the volumes", "/volumes").await;
        let volumes = listed
            .ok()
            .and_then(|value| value.get("Volumes")?.as_array().cloned())
            .unwrap_or_default();
        let names: Vec<String> = volumes
            .iter()
            .filter_map(|volume| {
                let known = text(volume, "/Name")?;
                let labels = volume.get("Labels");
                let of_project =
                    project.is_some_and(|it| label(labels, PROJECT).as_deref() == Some(it));
                match label(labels, VOLUME).filter(|_| of_project) {
                    Some(short) => Some(format!("{short} ({known})")),
                    None if known.contains(name) || name.contains(known.as_str()) => Some(known),
                    None => None,
                }
            })
            .collect();
        error.hint(match names.as_slice() {
            [] => "`docker volume ls` shows the names; looking never makes one, `docker compose up --no-start` does".to_owned(),
            names => format!("it has {}", names.join(", ")),
        })
    }

    /// The services whose containers are up and have a volume mounted: by the site's own names
    /// where it has one, else by the service's name, else by the container's.
    pub(super) async fn users_of(&self, name: &str) -> Result<Vec<String>> {
        let config = self.volume_named(name);
        let found = match self.find_volume(&config).await {
            Ok(found) => found,
            // What is not there is used by nobody.
            Err(error) if error.code() == "platform.no_volume" => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut users: Vec<String> = Vec::new();
        for container in self.everything_up().await? {
            if uses(&container, &found) {
                let user = self.called(&container);
                if !users.contains(&user) {
                    users.push(user);
                }
            }
        }
        Ok(users)
    }

    /// All containers of the engine that are up, but for our own.
    async fn everything_up(&self) -> Result<Vec<Container>> {
        let engine = &self.engine;
        let listed = engine
            .patiently(|| async {
                engine.docker().await?;
                engine.get("list the containers", "/containers/json").await
            })
            .await?;
        let mut all = Vec::new();
        for container in listed.as_array().into_iter().flatten() {
            let ours = label(container.get("Labels"), SITE).is_some();
            if let (false, Some(id)) = (ours, text(container, "/Id")) {
                all.extend(engine.container(&id).await?);
            }
        }
        all.retain(Container::is_up);
        Ok(all)
    }

    /// What people call what a container is one of.
    pub(super) fn called(&self, container: &Container) -> String {
        let labels = container.seen.pointer("/Config/Labels");
        let names = (label(labels, PROJECT), label(labels, SERVICE));
        let (false, (Some(project), Some(service))) = (container.is_one_off(), names) else {
            return container.name.clone();
        };
        let services = &self.config.services;
        let named = services
            .iter()
            .find(|it| (&it.name.project, &it.name.service) == (&project, &service));
        match named {
            Some(named) => named.key.clone(),
            None if self.config.project.as_ref() == Some(&project) => service,
            None => container.name.clone(),
        }
    }
}

/// Whether a container has mounted it.
fn uses(container: &Container, found: &Found) -> bool {
    let below = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
    container.mounts().iter().any(|mount| match found {
        Found::OfEngine { name, .. } => mount.kind == "volume" && mount.volume == *name,
        Found::Directory(path) => {
            let real = path.canonicalize();
            // Whoever looks at the whole host has nothing of it in use.
            mount.kind == "bind"
                && mount.source != Path::new("/")
                && (below(&mount.source, path)
                    || real.is_ok_and(|real| below(&mount.source, &real)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_mounts_a_directory_uses_what_is_above_and_below() {
        let seen = json!({"Id": "1", "Name": "/web", "Mounts": [
            {"Type": "bind", "Source": "/nowhere/conf/web", "Destination": "/etc/web"},
            {"Type": "bind", "Source": "/", "Destination": "/host"},
            {"Type": "volume", "Name": "shop_data", "Source": "/v", "Destination": "/data"}]});
        let container = Container::read(seen).unwrap();
        for (path, used) in [
            ("/nowhere/conf", true),
            ("/nowhere/conf/web/a", true),
            ("/nowhere/conf/website", false),
            ("/v", false),
            ("/elsewhere", false),
        ] {
            assert_eq!(
                uses(&container, &Found::Directory(path.into())),
                used,
                "{path}"
            );
        }
        let volume = |name: &str| Found::OfEngine {
            name: name.to_owned(),
            volume: Value::Null,
        };
        assert!(uses(&container, &volume("shop_data")));
        assert!(!uses(&container, &volume("shop")));
    }
}
