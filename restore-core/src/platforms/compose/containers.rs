//! The containers of a Compose service: known by Compose's own labels, described by the engine.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::config::ComposeName;
use crate::model::{Error, ErrorKind, Result, Timestamp};
use crate::platforms::docker::engine::{Engine, Refused};
use crate::platforms::docker::json::{encoded, odd, text};

/// The project that something belongs to.
pub(super) const PROJECT: &str = "com.docker.compose.project";

/// The service whose container it is.
pub(super) const SERVICE: &str = "com.docker.compose.service";

/// What the compose files call a volume.
pub(super) const VOLUME: &str = "com.docker.compose.volume";

/// Which of a service's containers it is, from 1.
pub(super) const NUMBER: &str = "com.docker.compose.container-number";

/// Whether it was made for one command (`docker compose run`), which is no part of the service.
const ONEOFF: &str = "com.docker.compose.oneoff";

/// Where the project's compose files are.
const WORKING_DIR: &str = "com.docker.compose.project.working_dir";

/// Which those are.
const CONFIG_FILES: &str = "com.docker.compose.project.config_files";

/// What the engine gives a process to end, where its container does not say.
const GRACE: Duration = Duration::from_secs(10);

/// What its engine has started again so often does not merely start anew just now.
const FAILING: u64 = 3;

/// The containers of a service at one moment, those with the lowest numbers first.
#[derive(Clone, Debug)]
pub(super) struct ServiceContainers {
    pub(super) name: ComposeName,
    /// At least one, but where it is said that there are [none](Self::none).
    pub(super) all: Vec<Container>,
    /// The names of those that are up and were made for one command, which are no part of it.
    pub(super) one_off: Vec<String>,
}

impl ServiceContainers {
    /// Those of a service whose containers have been removed.
    pub(super) fn none(name: &ComposeName) -> Self {
        Self {
            name: name.clone(),
            all: Vec::new(),
            one_off: Vec::new(),
        }
    }
}

/// One container, as the engine describes it.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    number: u32,
    /// The whole answer.
    pub(super) seen: Value,
}

/// Something mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) kind: String,
    /// The name of a volume; empty for all else.
    pub(super) volume: String,
    /// The path on the host.
    pub(super) source: PathBuf,
    /// The folder of a volume that is mounted instead of the whole; empty: the whole.
    pub(super) subpath: PathBuf,
    pub(super) target: String,
    pub(super) read_only: bool,
}

/// A label of something that the engine lists, or of a container that it describes.
pub(super) fn label(labels: Option<&Value>, key: &str) -> Option<String> {
    labels?.get(key)?.as_str().map(str::to_owned)
}

/// The labels of an object in a list of the engine.
fn listed(thing: &Value, key: &str) -> Option<String> {
    label(thing.get("Labels"), key)
}

impl Engine {
    /// The containers, running or not, with these labels, as the engine lists them.
    pub(super) async fn containers_with(&self, labels: &[String]) -> Result<Vec<Value>> {
        let filter = encoded(&json!({ "label": labels }).to_string());
        let path = format!("/containers/json?all=true&filters={filter}");
        self.patiently(|| async {
            self.docker().await?;
            let what = "list the containers";
            let listed = self.get(what, &path).await?;
            listed.as_array().cloned().ok_or_else(|| odd(what))
        })
        .await
    }

    /// The containers of a service, running or not. Where there is none the error says what there
    /// is instead.
    pub(super) async fn service_containers(
        &self,
        wanted: &ComposeName,
    ) -> Result<ServiceContainers> {
        let labels = [
            format!("{PROJECT}={}", wanted.project),
            format!("{SERVICE}={}", wanted.service),
            // What Compose builds has the two above as well, and so has every container of such an
            // image; only Compose's own have a number.
            NUMBER.to_owned(),
        ];
        let mut all = Vec::new();
        let mut one_off = Vec::new();
        for container in self.containers_with(&labels).await? {
            let Some(id) = text(&container, "/Id") else {
                continue;
            };
            let Some(container) = self.container(&id).await? else {
                continue;
            };
            match container.is_one_off() {
                false => all.push(container),
                true if container.is_up() => one_off.push(container.name),
                true => {}
            }
        }
        all.sort_by(|a, b| (a.number, &a.name).cmp(&(b.number, &b.name)));
        match all.is_empty() {
            true => Err(self.what_there_is(wanted).await?),
            false => Ok(ServiceContainers {
                name: wanted.clone(),
                all,
                one_off,
            }),
        }
    }

    /// One container; `None` where it has gone meanwhile.
    pub(super) async fn container(&self, id: &str) -> Result<Option<Container>> {
        self.patiently(|| async {
            self.docker().await?;
            let what = "look at a container";
            match self.get(what, &format!("/containers/{id}/json")).await {
                Ok(seen) => Container::read(seen).map(Some).ok_or_else(|| odd(what)),
                Err(e) if e.is(&Refused::NotFound) => Ok(None),
                Err(e) => Err(e),
            }
        })
        .await
    }

    /// Why a service has no containers, with what the engine has.
    async fn what_there_is(&self, wanted: &ComposeName) -> Result<Error> {
        let ComposeName { project, service } = wanted;
        let of_project = self
            .containers_with(&[format!("{PROJECT}={project}")])
            .await?;
        if of_project.is_empty() && !self.keeps_something_of(project).await? {
            let all = self.containers_with(&[PROJECT.to_owned()]).await?;
            let projects: BTreeSet<String> =
                all.iter().filter_map(|it| listed(it, PROJECT)).collect();
            let error = Error::new(
                ErrorKind::NotFound,
                "compose.no_project",
                format!(
                    "the engine at {} has no Compose project of the exact name {project:?}",
                    self.place()
                ),
            );
            return Ok(match projects.is_empty() {
                true => error.hint(
                    "it has containers of no project at all: `docker compose up --no-start` in the project's directory makes them",
                ),
                false => error.hint(format!("it has {}; correct `project`", joined(&projects))),
            });
        }
        let services: BTreeSet<String> = of_project
            .iter()
            .filter(|it| {
                let oneoff = listed(it, ONEOFF).unwrap_or_default();
                !oneoff.eq_ignore_ascii_case("true")
            })
            .filter_map(|it| listed(it, SERVICE))
            .collect();
        let make = made_by(of_project.first(), wanted);
        Ok(match services.is_empty() {
            true => Error::new(
                ErrorKind::NotFound,
                "compose.no_containers",
                format!("the Compose project {project} has no containers, and so none of {service}"),
            )
            .hint(format!("{make} makes them without starting any")),
            false => Error::new(
                ErrorKind::NotFound,
                "platform.no_service",
                format!(
                    "the Compose project {project} has no containers of a service of the exact name {service:?}"
                ),
            )
            .hint(format!(
                "it has containers of {}; correct the name, or {make} makes the containers without starting any",
                joined(&services)
            )),
        })
    }

    /// Whether a project without containers has left networks or volumes.
    async fn keeps_something_of(&self, project: &str) -> Result<bool> {
        let filter = encoded(&json!({"label": [format!("{PROJECT}={project}")]}).to_string());
        let networks = self
            .get("list the networks", &format!("/networks?filters={filter}"))
            .await?;
        let volumes = self
            .get("list the volumes", &format!("/volumes?filters={filter}"))
            .await?;
        let some = |list: Option<&Value>| {
            list.and_then(Value::as_array)
                .is_some_and(|list| !list.is_empty())
        };
        Ok(some(Some(&networks)) || some(volumes.get("Volumes")))
    }
}

/// The command that makes the containers of a service, as far as another container of its project
/// tells where the compose files are.
fn made_by(other: Option<&Value>, wanted: &ComposeName) -> String {
    let ComposeName { project, service } = wanted;
    let find = |key| other.and_then(|it| listed(it, key));
    let mut files = String::new();
    for file in find(CONFIG_FILES).iter().flat_map(|it| it.split(',')) {
        files += &format!(" -f {file}");
    }
    let place = match find(WORKING_DIR) {
        Some(place) => format!(" in {place}"),
        None => " in the project's directory".to_owned(),
    };
    format!("`docker compose -p {project}{files} up --no-start {service}`{place}")
}

fn joined(names: &BTreeSet<String>) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.join(", ")
}

impl ServiceContainers {
    /// Those that are up: that run, are paused, or are about to be restarted.
    pub(super) fn up(&self) -> impl Iterator<Item = &Container> {
        self.all.iter().filter(|it| it.is_up())
    }

    /// Those that really run.
    pub(super) fn running(&self) -> impl Iterator<Item = &Container> {
        self.all.iter().filter(|it| it.is_running())
    }

    /// Since when all of those that run have run; `None` where none does, or where it is not said.
    pub(super) fn running_since(&self) -> Option<Timestamp> {
        let since: Option<Vec<Timestamp>> = self
            .running()
            .map(|it| Timestamp::parse(&it.started_at()).ok())
            .collect();
        since?.into_iter().max()
    }

    /// The one that says most of how the service is described: one that runs, else the newest.
    pub(super) fn newest(&self) -> Option<&Container> {
        let made = |it: &&Container| text(&it.seen, "/Created").unwrap_or_default();
        let running = self.running().max_by_key(made);
        running.or_else(|| self.all.iter().max_by_key(made))
    }
}

impl Container {
    pub(super) fn read(seen: Value) -> Option<Self> {
        let labels = seen.pointer("/Config/Labels");
        Some(Self {
            id: text(&seen, "/Id")?,
            name: text(&seen, "/Name")?.trim_start_matches('/').to_owned(),
            number: label(labels, NUMBER)
                .and_then(|number| number.parse().ok())
                .unwrap_or(u32::MAX),
            seen,
        })
    }

    /// Whether it was made for one command.
    pub(super) fn is_one_off(&self) -> bool {
        let one_off = label(self.seen.pointer("/Config/Labels"), ONEOFF);
        one_off.is_some_and(|it| it.eq_ignore_ascii_case("true"))
    }

    /// `running`, `exited`, `created`, `paused`, `restarting`, `removing` or `dead`.
    pub(super) fn status(&self) -> String {
        text(&self.seen, "/State/Status").unwrap_or_default()
    }

    /// Whether it has a process, or is about to get another one.
    pub(super) fn is_up(&self) -> bool {
        ["running", "paused", "restarting"].contains(&self.status().as_str())
    }

    pub(super) fn is_running(&self) -> bool {
        self.status() == "running"
    }

    /// Whether it ends again and again, and the engine waits before it starts it once more.
    pub(super) fn is_failing(&self) -> bool {
        self.status() == "restarting" && self.restarts() >= FAILING
    }

    /// `healthy`, `starting` or `unhealthy`; `None` where it has no health check.
    pub(super) fn health(&self) -> Option<String> {
        text(&self.seen, "/State/Health/Status").filter(|health| health != "none")
    }

    pub(super) fn started_at(&self) -> String {
        text(&self.seen, "/State/StartedAt").unwrap_or_default()
    }

    /// The number of its process on the engine's host, while it has one.
    pub(super) fn pid(&self) -> Option<i32> {
        let pid = self.seen.pointer("/State/Pid").and_then(Value::as_i64)?;
        i32::try_from(pid).ok().filter(|pid| *pid > 0)
    }

    pub(super) fn exit_code(&self) -> i64 {
        let code = self.seen.pointer("/State/ExitCode");
        code.and_then(Value::as_i64).unwrap_or(0)
    }

    /// How often the engine has started it again since it was started.
    pub(super) fn restarts(&self) -> u64 {
        let count = self.seen.pointer("/RestartCount");
        count.and_then(Value::as_u64).unwrap_or(0)
    }

    /// How long the engine waits for its process to end, before it kills that.
    pub(super) fn grace(&self) -> Duration {
        let seconds = self.seen.pointer("/Config/StopTimeout");
        match seconds.and_then(Value::as_i64).map(u64::try_from) {
            Some(Ok(seconds)) => Duration::from_secs(seconds),
            // For ever.
            Some(Err(_)) => Duration::from_secs(24 * 3600),
            None => GRACE,
        }
    }

    /// What the engine does when its process ends, as it wants it written.
    pub(super) fn restart_policy(&self) -> Value {
        let policy = self.seen.pointer("/HostConfig/RestartPolicy");
        policy.cloned().unwrap_or(Value::Null)
    }

    /// What the engine does when its process ends, in a word; empty: nothing.
    pub(super) fn restarts_when(&self) -> String {
        let name = text(&self.seen, "/HostConfig/RestartPolicy/Name").unwrap_or_default();
        match name.as_str() {
            "no" => String::new(),
            _ => name,
        }
    }

    /// Whether the engine removes it when it ends.
    pub(super) fn is_removed_at_end(&self) -> bool {
        let remove = self.seen.pointer("/HostConfig/AutoRemove");
        remove.and_then(Value::as_bool) == Some(true)
    }

    /// The name of the image, as the compose files have it.
    pub(super) fn image_name(&self) -> String {
        text(&self.seen, "/Config/Image").unwrap_or_default()
    }

    /// The id of the image that it was made from, and runs whatever that name means by now.
    pub(super) fn image(&self) -> String {
        text(&self.seen, "/Image").unwrap_or_default()
    }

    /// Whether it has the network of its host.
    pub(super) fn is_in_host_network(&self) -> bool {
        text(&self.seen, "/HostConfig/NetworkMode").as_deref() == Some("host")
    }

    pub(super) fn mounts(&self) -> Vec<Mount> {
        let list = |pointer: &str| {
            let list = self.seen.pointer(pointer).and_then(Value::as_array);
            list.into_iter().flatten()
        };
        // What is mounted does not say it, what was asked for does.
        let subpath = |target: &str| {
            let mut asked = list("/HostConfig/Mounts");
            let asked = asked.find(|it| text(it, "/Target").as_deref() == Some(target));
            asked.and_then(|it| text(it, "/VolumeOptions/Subpath"))
        };
        list("/Mounts")
            .filter_map(|mount| {
                let target = text(mount, "/Destination")?;
                Some(Mount {
                    kind: text(mount, "/Type").unwrap_or_default(),
                    volume: text(mount, "/Name").unwrap_or_default(),
                    source: text(mount, "/Source").unwrap_or_default().into(),
                    subpath: subpath(&target).unwrap_or_default().into(),
                    target,
                    read_only: mount.get("RW").and_then(Value::as_bool) == Some(false),
                })
            })
            .collect()
    }

    /// Its mounts in the words of a container that is to be made: what exists, and nothing that
    /// would be made.
    pub(super) fn mounts_to_make(&self) -> Value {
        let mounts = self.mounts().into_iter();
        mounts
            .filter_map(|mount| {
                let source = match mount.kind.as_str() {
                    "volume" => json!(mount.volume),
                    "bind" => json!(mount.source),
                    _ => return None,
                };
                let mut made = json!({"Type": mount.kind, "Source": source,
                    "Target": mount.target, "ReadOnly": mount.read_only});
                if mount.kind == "volume" {
                    // An empty one stays so: the image's own content is not copied into it.
                    made["VolumeOptions"] = json!({"NoCopy": true});
                    if !mount.subpath.as_os_str().is_empty() {
                        made["VolumeOptions"]["Subpath"] = json!(mount.subpath);
                    }
                }
                Some(made)
            })
            .collect()
    }

    /// What it is and does, in a few words.
    pub(super) fn describe(&self) -> String {
        let short = self.id.get(..12).unwrap_or(&self.id);
        format!("{} ({short})", self.name)
    }

    /// What keeps it from being ready, in a few words.
    pub(super) fn trouble(&self) -> String {
        let name = &self.name;
        match (self.status().as_str(), self.health()) {
            ("running", Some(health)) => format!("{name} is {health}"),
            ("running", None) => format!("{name} runs"),
            ("exited" | "dead", _) => {
                let error = text(&self.seen, "/State/Error").unwrap_or_default();
                match error.is_empty() {
                    true => format!("{name} has ended with exit code {}", self.exit_code()),
                    false => format!("{name} has ended: {error}"),
                }
            }
            ("restarting", _) => format!(
                "{name} ends again and again, last with exit code {}",
                self.exit_code()
            ),
            (status, _) => format!("{name} is {status}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(more: Value) -> Container {
        let mut seen = json!({"Id": "0123456789abcdef", "Name": "/shop-db-2",
            "Config": {"Labels": {NUMBER: "2"}}});
        for (key, value) in more.as_object().into_iter().flatten() {
            seen[key] = value.clone();
        }
        Container::read(seen).unwrap()
    }

    #[test]
    fn a_container_is_read_by_what_the_engine_says() {
        let it = container(
            json!({"State": {"Status": "running", "Health": {"Status": "starting"}},
            "Mounts": [
                {"Type": "volume", "Name": "shop_data", "Source": "/v/shop_data/_data", "Destination": "/data", "RW": true},
                {"Type": "bind", "Source": "/srv", "Destination": "/srv", "RW": false},
                {"Type": "tmpfs", "Destination": "/tmp"}]}),
        );
        assert_eq!((it.name.as_str(), it.number), ("shop-db-2", 2));
        assert!(it.is_up() && it.is_running());
        assert_eq!(it.health().as_deref(), Some("starting"));
        assert_eq!(it.grace(), GRACE);
        assert_eq!(
            it.mounts_to_make(),
            json!([{"Type": "volume", "Source": "shop_data", "Target": "/data", "ReadOnly": false,
                    "VolumeOptions": {"NoCopy": true}},
                {"Type": "bind", "Source": "/srv", "Target": "/srv", "ReadOnly": true}])
        );
        assert_eq!(it.describe(), "shop-db-2 (0123456789ab)");
    }

    #[test]
    fn a_folder_of_a_volume_is_mounted_as_that() {
        let it = container(json!({
            "HostConfig": {"Mounts": [
                {"Type": "volume", "Source": "data", "Target": "/part", "VolumeOptions": {"Subpath": "a/b"}},
                {"Type": "volume", "Source": "data", "Target": "/whole"}]},
            "Mounts": [
                {"Type": "volume", "Name": "data", "Source": "/v/data/_data", "Destination": "/part", "RW": true},
                {"Type": "volume", "Name": "data", "Source": "/v/data/_data", "Destination": "/whole", "RW": true}]}));
        let subpaths: Vec<PathBuf> = it.mounts().into_iter().map(|mount| mount.subpath).collect();
        assert_eq!(subpaths, [PathBuf::from("a/b"), PathBuf::new()]);
        let made = it.mounts_to_make();
        assert_eq!(
            made[0]["VolumeOptions"],
            json!({"NoCopy": true, "Subpath": "a/b"})
        );
        assert_eq!(made[1]["VolumeOptions"], json!({"NoCopy": true}));
    }

    #[test]
    fn what_will_be_restarted_is_up_and_does_not_run() {
        let it =
            container(json!({"State": {"Status": "restarting", "Running": true, "ExitCode": 3}}));
        assert!(it.is_up() && !it.is_running());
        assert!(it.trouble().contains("exit code 3"), "{}", it.trouble());
        let ended = container(json!({"State": {"Status": "exited", "ExitCode": 0}}));
        assert!(!ended.is_up());
    }

    #[test]
    fn what_makes_containers_is_said_for_this_project() {
        let wanted = ComposeName {
            project: "shop".to_owned(),
            service: "db".to_owned(),
        };
        let other = json!({"Labels": {WORKING_DIR: "/srv/shop", CONFIG_FILES: "/srv/shop/a.yml,/srv/shop/b.yml"}});
        assert_eq!(
            made_by(Some(&other), &wanted),
            "`docker compose -p shop -f /srv/shop/a.yml -f /srv/shop/b.yml up --no-start db` in /srv/shop"
        );
        assert!(made_by(None, &wanted).contains("in the project's directory"));
    }
}
