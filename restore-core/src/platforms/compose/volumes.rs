//! Volumes: by the names that compose files have for them, or by the engine's; and who uses them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::ComposePlatform;
use super::config::{VolumeConfig, VolumeSource};
use super::containers::{Container, Mount, PROJECT, SERVICE, VOLUME, label};
use crate::contract::Volume;
use crate::model::{Error, ErrorKind, Result};
use crate::platforms::docker::json::{encoded, text};
use crate::platforms::docker::mounts::directory_of;
use crate::platforms::docker::throwaway::SITE;
use crate::swap::LocalVolume;

/// The reason of an error: there is no such volume.
#[derive(Debug, PartialEq)]
struct NoVolume;

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
            .because(NoVolume)
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
        )
        .because(NoVolume);
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
        let known = match names.as_slice() {
            [] => "`docker volume ls` shows the names; looking never makes one".to_owned(),
            names => format!("it has {}", names.join(", ")),
        };
        let way = match project {
            Some(_) => "`docker compose up --no-start`".to_owned(),
            None => format!("`docker volume create {name}`"),
        };
        error.hint(format!(
            "{known}; where it is gone, {way} makes an empty one, then plan again"
        ))
    }

    /// The services whose containers are up and have a volume mounted, whichever way: by the site's
    /// own names where it has one, else by the service's name, else by the container's.
    pub(super) async fn users_of(&self, name: &str) -> Result<Vec<String>> {
        let config = self.volume_named(name);
        let found = match self.find_volume(&config).await {
            Ok(found) => found,
            // What is not there is used by nobody.
            Err(error) if error.is(&NoVolume) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let wanted = Wanted::of(&found);
        let mut directories: BTreeMap<String, Option<PathBuf>> = BTreeMap::new();
        let mut users: Vec<String> = Vec::new();
        for container in self.everything_up().await? {
            let mut uses = false;
            for mount in container.mounts() {
                // Only its own volumes are asked for, each once.
                let directory = match directories.get(&mount.volume) {
                    Some(known) => known.clone(),
                    None if mount.kind != "volume" => None,
                    None => {
                        let volume = self.engine.volume(&mount.volume).await?;
                        let directory = volume.as_ref().and_then(directory_of);
                        directories.insert(mount.volume.clone(), directory.clone());
                        directory
                    }
                };
                uses |= wanted.is_in(&mount, directory.as_deref());
            }
            let user = self.called(&container);
            if uses && !users.contains(&user) {
                users.push(user);
            }
        }
        Ok(users)
    }

    /// Where on this host that is which a container has mounted from a volume.
    pub(super) async fn directory_of_mount(&self, mount: &Mount) -> Result<Option<PathBuf>> {
        let volume = self.engine.volume(&mount.volume).await?;
        let directory = volume.as_ref().and_then(directory_of);
        Ok(directory.map(|directory| below(&directory, &mount.subpath)))
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

/// A directory, or the folder of it that a mount takes.
fn below(directory: &Path, subpath: &Path) -> PathBuf {
    // Joining nothing would end the path with a slash.
    match subpath.as_os_str().is_empty() {
        true => directory.to_owned(),
        false => directory.join(subpath),
    }
}

/// A volume, as mounts may have it.
struct Wanted {
    /// Of one of the engine's.
    volume: Option<String>,
    /// Where it is on this host, by the path that is known and by the real one.
    places: Vec<PathBuf>,
}

impl Wanted {
    fn of(found: &Found) -> Self {
        let (volume, path) = match found {
            Found::OfEngine { name, volume } => (Some(name.clone()), directory_of(volume)),
            Found::Directory(path) => (None, Some(path.clone())),
        };
        let places = path.iter().flat_map(|path| places_of(path)).collect();
        Self { volume, places }
    }

    /// Whether a mount shows it, a part of it, or what it is a part of; `directory` is where a
    /// volume that is mounted is on this host. One directory may be mounted by its path, and be one
    /// volume or several besides.
    fn is_in(&self, mount: &Mount, directory: Option<&Path>) -> bool {
        let source = match mount.kind.as_str() {
            "volume" if self.volume.as_ref() == Some(&mount.volume) => return true,
            "volume" => directory.map(|directory| below(directory, &mount.subpath)),
            // Whoever looks at the whole host has nothing of it in use.
            "bind" if mount.source != Path::new("/") => Some(mount.source.clone()),
            _ => None,
        };
        let sources = source.iter().flat_map(|source| places_of(source));
        let mut pairs = sources.flat_map(|a| self.places.iter().map(move |b| (a.clone(), b)));
        pairs.any(|(a, b)| a.starts_with(b) || b.starts_with(&a))
    }
}

/// A path, and where it leads.
fn places_of(path: &Path) -> Vec<PathBuf> {
    let real = path.canonicalize().ok();
    let real = real.filter(|real| real != path);
    std::iter::once(path.to_owned()).chain(real).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn uses(container: &Container, found: &Found) -> bool {
        let wanted = Wanted::of(found);
        let directory = |mount: &Mount| match mount.volume.as_str() {
            "shop_data" => Some(PathBuf::from("/nowhere/v/shop_data/_data")),
            "shop_pages" => Some(PathBuf::from("/nowhere/pages")),
            _ => None,
        };
        let mut mounts = container.mounts().into_iter();
        mounts.any(|mount| wanted.is_in(&mount, directory(&mount).as_deref()))
    }

    fn container(mounts: &Value) -> Container {
        Container::read(
            json!({"Id": "1", "Name": "/web", "Mounts": mounts, "HostConfig": {"Mounts": [
            {"Type": "volume", "Target": "/sub", "VolumeOptions": {"Subpath": "a/b"}}]}}),
        )
        .unwrap()
    }

    fn directory(path: &str) -> Found {
        Found::Directory(path.into())
    }

    fn volume(name: &str, mountpoint: &str) -> Found {
        Found::OfEngine {
            name: name.to_owned(),
            volume: json!({"Name": name, "Driver": "local", "Mountpoint": mountpoint, "Options": null}),
        }
    }

    #[test]
    fn who_mounts_a_directory_uses_what_is_above_and_below() {
        let container = container(&json!([
            {"Type": "bind", "Source": "/nowhere/conf/web", "Destination": "/etc/web"},
            {"Type": "bind", "Source": "/", "Destination": "/host"},
            {"Type": "volume", "Name": "shop_data", "Source": "/nowhere/v/shop_data/_data", "Destination": "/data"}]));
        for (path, used) in [
            ("/nowhere/conf", true),
            ("/nowhere/conf/web/a", true),
            ("/nowhere/conf/website", false),
            ("/nowhere/v/shop_data/_data/uploads", true),
            ("/nowhere/v/shop", false),
            ("/elsewhere", false),
        ] {
            assert_eq!(uses(&container, &directory(path)), used, "{path}");
        }
        assert!(uses(
            &container,
            &volume("shop_data", "/nowhere/v/shop_data/_data")
        ));
        assert!(!uses(&container, &volume("shop", "/nowhere/v/shop/_data")));
    }

    #[test]
    fn one_directory_may_be_mounted_in_several_ways() {
        let by_path = container(&json!([
            {"Type": "bind", "Source": "/nowhere/v/shop_data", "Destination": "/x"}]));
        assert!(uses(
            &by_path,
            &volume("shop_data", "/nowhere/v/shop_data/_data")
        ));
        assert!(!uses(&by_path, &volume("other", "/nowhere/v/other/_data")));
        // Another volume, which is a directory of the host.
        let by_name = container(&json!([
            {"Type": "volume", "Name": "shop_pages", "Source": "/v/shop_pages/_data", "Destination": "/x"}]));
        assert!(uses(&by_name, &directory("/nowhere/pages")));
        assert!(uses(&by_name, &volume("twin", "/nowhere/pages")));
        assert!(!uses(&by_name, &directory("/nowhere/page")));
    }

    #[test]
    fn who_mounts_a_folder_of_a_volume_uses_it() {
        let container = container(&json!([
            {"Type": "volume", "Name": "shop_data", "Source": "/nowhere/v/shop_data/_data", "Destination": "/sub"}]));
        assert!(uses(
            &container,
            &volume("shop_data", "/nowhere/v/shop_data/_data")
        ));
        for (path, used) in [
            ("/nowhere/v/shop_data/_data/a", true),
            ("/nowhere/v/shop_data/_data/a/b/c", true),
            ("/nowhere/v/shop_data/_data/c", false),
        ] {
            assert_eq!(uses(&container, &directory(path)), used, "{path}");
        }
    }
}
