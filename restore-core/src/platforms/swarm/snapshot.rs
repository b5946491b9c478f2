//! What the swarm says of a service and of its tasks.

use std::time::Duration;

use serde_json::Value;

use crate::model::{Error, ErrorKind, Result, Timestamp};
use crate::platforms::docker::engine::{Engine, Refused};
use crate::platforms::docker::json::{encoded, odd, strings, text};

/// What the engine gives a process to end, where its service does not say.
const GRACE: Duration = Duration::from_secs(10);

/// The swarm's own delay before it starts a task in place of one that has ended.
const RESTART: Duration = Duration::from_secs(5);

/// How many instances a service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// So many.
    Replicated(u32),
    /// One on each node that fits.
    Global,
    /// Runs to an end; nothing that can be stopped and started again.
    Job,
}

/// A service as it was described and as it runs, at one moment.
#[derive(Clone, Debug)]
pub(super) struct ServiceSnapshot {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: u64,
    /// The whole description, fields that nobody here knows included.
    pub(super) spec: Value,
    /// The whole answer.
    pub(super) service: Value,
    pub(super) tasks: Vec<Task>,
}

/// One task of a service.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) slot: u64,
    pub(super) node: Option<String>,
    pub(super) container: Option<String>,
    /// What the swarm wants of it.
    pub(super) wanted: String,
    /// How far it has come.
    pub(super) state: String,
    /// When that was last told.
    pub(super) told: String,
    pub(super) made: String,
    pub(super) error: Option<String>,
    pub(super) exit: Option<i64>,
    /// What it was made to run.
    pub(super) content: Content,
}

/// What a description of tasks has them run: a container, and how often it was forced to run that anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Content(Option<Value>, u64);

impl Content {
    fn of(template: &Value) -> Self {
        let forced = template.get("ForceUpdate").and_then(Value::as_u64);
        Self(
            template.get("ContainerSpec").cloned(),
            forced.unwrap_or_default(),
        )
    }
}

/// Something mounted into a service's containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) kind: String,
    /// A volume's name or a path of the node.
    pub(super) source: String,
    pub(super) target: String,
    pub(super) driver: String,
    pub(super) read_only: bool,
}

/// A port that the swarm publishes for a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) inside: u16,
    pub(super) outside: u16,
    /// Only on the nodes where its tasks run.
    pub(super) host_mode: bool,
}

impl Engine {
    /// The service of exactly this name, with all its tasks.
    pub(super) async fn view(&self, name: &str) -> Result<ServiceSnapshot> {
        self.patiently(|| async {
            self.docker().await?;
            let what = format!("look at the service {name}");
            let service = self
                .get(&what, &format!("/services/{}", encoded(name)))
                .await
                .map_err(
                    |e| match e.is(&Refused::NotFound) || e.is(&Refused::NoSwarm) {
                        true => no_service(name),
                        false => e,
                    },
                )?;
            let view = ServiceSnapshot::read(service).ok_or_else(|| odd(&what))?;
            // The engine also takes ids and the beginnings of ids for names.
            if view.name != name {
                return Err(no_service(name));
            }
            let filter = encoded(&format!("{{\"service\":[\"{}\"]}}", view.id));
            let tasks = self.get(&what, &format!("/tasks?filters={filter}")).await?;
            let tasks = tasks.as_array().ok_or_else(|| odd(&what))?;
            Ok(ServiceSnapshot {
                tasks: tasks.iter().filter_map(Task::read).collect(),
                ..view
            })
        })
        .await
    }

    /// All services of the swarm, without their tasks.
    pub(super) async fn all_services(&self) -> Result<Vec<ServiceSnapshot>> {
        self.patiently(|| async {
            self.docker().await?;
            let what = "list the services";
            let services = match self.get(what, "/services").await {
                Err(e) if e.is(&Refused::NoSwarm) => return Ok(Vec::new()),
                services => services?,
            };
            let services = services.as_array().ok_or_else(|| odd(what))?;
            Ok(services
                .iter()
                .cloned()
                .filter_map(ServiceSnapshot::read)
                .collect())
        })
        .await
    }

    /// The node that we talk to.
    pub(super) async fn own_node(&self) -> Result<String> {
        self.patiently(|| async {
            self.docker().await?;
            let what = "ask the engine for its node";
            let info = self.get(what, "/info").await?;
            let node = text(&info, "/Swarm/NodeID").unwrap_or_default();
            if node.is_empty() {
                if let Some(error) = self.not_up(what, &info) {
                    return Err(error);
                }
                return Err(Error::new(
                    ErrorKind::Preflight,
                    "swarm.no_manager",
                    format!("the engine at {} is in no swarm", self.place()),
                )
                .hint("name a manager's socket under [platform], or use kind = \"local\"; with `advertise` there, and `redeploy = true` for the compose files, `restore plan ID --create` says how a swarm is begun"));
            }
            Ok(node)
        })
        .await
    }

    /// All nodes of the swarm; none where the engine is in none.
    pub(super) async fn nodes(&self) -> Result<Vec<Value>> {
        self.listed("nodes").await
    }
}

impl Mode {
    /// What a service's description says.
    pub(super) fn of(spec: &Value) -> Self {
        let mode = spec.get("Mode");
        let has = |key| mode.is_some_and(|mode: &Value| mode.get(key).is_some());
        if has("Global") {
            Self::Global
        } else if has("ReplicatedJob") || has("GlobalJob") {
            Self::Job
        } else {
            let replicas = mode
                .and_then(|mode| mode.pointer("/Replicated/Replicas"))
                .and_then(Value::as_u64)
                .unwrap_or(1);
            Self::Replicated(u32::try_from(replicas).unwrap_or(u32::MAX))
        }
    }
}

impl ServiceSnapshot {
    pub(super) fn read(service: Value) -> Option<Self> {
        Some(Self {
            id: text(&service, "/ID")?,
            name: text(&service, "/Spec/Name")?,
            version: service.pointer("/Version/Index")?.as_u64()?,
            spec: service.get("Spec")?.clone(),
            tasks: Vec::new(),
            service,
        })
    }

    pub(super) fn mode(&self) -> Mode {
        Mode::of(&self.spec)
    }

    /// The image that its tasks run, as written in its description.
    pub(super) fn image(&self) -> String {
        text(&self.spec, "/TaskTemplate/ContainerSpec/Image").unwrap_or_default()
    }

    /// Whether a compose file describes it that names no digest: `docker stack deploy` has put there what the tag
    /// meant then.
    pub(super) fn names_tag_alone(&self) -> bool {
        let described = text(&self.spec, "/Labels/com.docker.stack.image");
        described.is_some_and(|image| !image.contains('@'))
    }

    /// How long the engine waits for a process that it asked to end, before it kills it.
    pub(super) fn grace(&self) -> Duration {
        self.spec
            .pointer("/TaskTemplate/ContainerSpec/StopGracePeriod")
            .and_then(Value::as_u64)
            .map_or(GRACE, Duration::from_nanos)
    }

    /// How long after the end of a container the swarm starts another in its place; `None` where
    /// it may not do so at all.
    pub(super) fn restarts_after(&self) -> Option<Duration> {
        let Some(policy) = self.spec.pointer("/TaskTemplate/RestartPolicy") else {
            return Some(RESTART);
        };
        let number = |key| policy.get(key).and_then(Value::as_u64);
        let always = policy.get("Condition").is_none_or(|it| it == "any");
        let for_ever = number("MaxAttempts").unwrap_or(0) == 0;
        (always && for_ever).then(|| number("Delay").map_or(RESTART, Duration::from_nanos))
    }

    /// When the swarm starts a task in place of one that has ended: `any`, `on-failure` or `none`.
    fn restart_condition(&self) -> String {
        let condition = text(&self.spec, "/TaskTemplate/RestartPolicy/Condition");
        condition.unwrap_or_else(|| "any".to_owned())
    }

    /// Whether a task that ends well has done what the service is for: none is started in its place, and
    /// nobody connects to it.
    pub(super) fn runs_to_an_end(&self) -> bool {
        let watched = strings(&self.spec, "/TaskTemplate/ContainerSpec/Healthcheck/Test");
        let watched = watched.first().is_some_and(|word| word != "NONE");
        let published = self.service.pointer("/Endpoint/Ports");
        let published = published.and_then(Value::as_array);
        self.mode() != Mode::Job
            && self.restart_condition() != "any"
            && !watched
            && published.is_none_or(Vec::is_empty)
    }

    /// The tasks that have done what the service is described to do, each the last one of its place; none
    /// where it does not [run to an end](Self::runs_to_an_end).
    pub(super) fn done(&self) -> Vec<&Task> {
        if !self.runs_to_an_end() {
            return Vec::new();
        }
        let content = self.spec.get("TaskTemplate").map(Content::of);
        let content = content.unwrap_or_default();
        self.last_ones()
            .filter(|task| {
                task.state == "complete" && task.wanted != "remove" && task.content == content
            })
            .collect()
    }

    /// Whether the swarm still lists an ended task that it would take for one in whose place none is to be
    /// started, also where the service was stopped and is to run again.
    pub(super) fn holds_a_place(&self) -> bool {
        let condition = self.restart_condition();
        self.last_ones().any(|task| match condition.as_str() {
            "none" => task.ended(),
            "on-failure" => task.state == "complete",
            _ => false,
        })
    }

    /// The last task of each place.
    fn last_ones(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| {
            let mut others = self.tasks.iter();
            others.all(|it| it.place() != task.place() || it.made_at() <= task.made_at())
        })
    }

    pub(super) fn constraints(&self) -> Vec<String> {
        strings(&self.spec, "/TaskTemplate/Placement/Constraints")
    }

    pub(super) fn mounts(&self) -> Vec<Mount> {
        let mounts = self.spec.pointer("/TaskTemplate/ContainerSpec/Mounts");
        let mounts = mounts.and_then(Value::as_array).into_iter().flatten();
        mounts
            .filter_map(|mount| {
                Some(Mount {
                    kind: text(mount, "/Type").unwrap_or_else(|| "bind".to_owned()),
                    source: text(mount, "/Source").unwrap_or_default(),
                    target: text(mount, "/Target")?,
                    driver: text(mount, "/VolumeOptions/DriverConfig/Name")
                        .filter(|name| !name.is_empty())
                        .unwrap_or_else(|| "local".to_owned()),
                    read_only: mount.get("ReadOnly").and_then(Value::as_bool) == Some(true),
                })
            })
            .collect()
    }

    pub(super) fn ports(&self) -> Vec<Published> {
        let ports = self.service.pointer("/Endpoint/Ports");
        let ports = ports.and_then(Value::as_array).into_iter().flatten();
        ports
            .filter(|port| text(port, "/Protocol").is_none_or(|protocol| protocol == "tcp"))
            .filter_map(|port| {
                let number = |key: &str| u16::try_from(port.get(key)?.as_u64()?).ok();
                Some(Published {
                    inside: number("TargetPort")?,
                    outside: number("PublishedPort")?,
                    host_mode: text(port, "/PublishMode").is_some_and(|mode| mode == "host"),
                })
            })
            .collect()
    }

    /// Where an update stands that the swarm has stopped or has not finished, with its reason.
    pub(super) fn update(&self) -> Option<(String, String)> {
        let state = text(&self.service, "/UpdateStatus/State")?;
        let message = text(&self.service, "/UpdateStatus/Message").unwrap_or_default();
        Some((state, message))
    }

    /// Tasks that run, as the swarm wants them to.
    pub(super) fn running(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| task.runs())
    }

    /// Since when all of those have run; `None` where none does, or where it is not said.
    pub(super) fn running_since(&self) -> Option<Timestamp> {
        let since: Option<Vec<Timestamp>> = self
            .running()
            .map(|task| Timestamp::parse(&task.told).ok())
            .collect();
        since?.into_iter().max()
    }

    /// Tasks that have a place to run and have not ended, whatever is wanted of them.
    pub(super) fn unended(&self) -> impl Iterator<Item = &Task> {
        self.tasks
            .iter()
            .filter(|task| task.node.is_some() && !task.ended())
    }
}

impl Task {
    pub(super) fn read(task: &Value) -> Option<Self> {
        Some(Self {
            id: text(task, "/ID")?,
            slot: task.get("Slot").and_then(Value::as_u64).unwrap_or(0),
            node: text(task, "/NodeID").filter(|node| !node.is_empty()),
            container: text(task, "/Status/ContainerStatus/ContainerID")
                .filter(|id| !id.is_empty()),
            wanted: text(task, "/DesiredState").unwrap_or_default(),
            state: text(task, "/Status/State").unwrap_or_default(),
            told: text(task, "/Status/Timestamp").unwrap_or_default(),
            made: text(task, "/CreatedAt").unwrap_or_default(),
            error: text(task, "/Status/Err").filter(|error| !error.is_empty()),
            exit: task
                .pointer("/Status/ContainerStatus/ExitCode")
                .and_then(Value::as_i64),
            content: task.get("Spec").map(Content::of).unwrap_or_default(),
        })
    }

    /// Which of the service's places it has: its number, or its node where there is one on each.
    fn place(&self) -> (u64, Option<&str>) {
        let node = self.node.as_deref();
        (self.slot, node.filter(|_| self.slot == 0))
    }

    fn made_at(&self) -> Option<Timestamp> {
        Timestamp::parse(&self.made).ok()
    }

    /// The swarm has looked for a node that it may run on, and there is none now.
    pub(super) fn has_no_node(&self) -> bool {
        let why = self.error.as_deref().unwrap_or_default();
        self.node.is_none() && self.state == "pending" && why.contains("no suitable node")
    }

    pub(super) fn runs(&self) -> bool {
        self.state == "running" && self.wanted == "running"
    }

    pub(super) fn ended(&self) -> bool {
        [
            "complete", "shutdown", "failed", "rejected", "remove", "orphaned",
        ]
        .contains(&self.state.as_str())
    }

    /// It came to nothing: what went wrong.
    pub(super) fn failure(&self) -> Option<String> {
        let failed = ["failed", "rejected", "orphaned"].contains(&self.state.as_str());
        let short: String = self.id.chars().take(12).collect();
        (failed || self.error.is_some()).then(|| {
            let why = self.error.clone().unwrap_or_else(|| self.state.clone());
            match self.exit.filter(|code| *code != 0) {
                Some(code) if !why.contains("exit") => {
                    format!("task {short}: {why} (exit code {code})")
                }
                _ => format!("task {short}: {why}"),
            }
        })
    }
}

/// The reason of an error: the swarm has no such service.
#[derive(Debug, PartialEq)]
pub(super) struct NoService;

fn no_service(name: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "platform.no_service",
        format!("the swarm has no service of the exact name {name:?}"),
    )
    .because(NoService)
    .hint(
        "`docker service ls` shows the names; stacks put theirs before a service's: STACK_SERVICE",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_by_what_it_says() {
        let view = ServiceSnapshot::read(serde_json::json!({
            "ID": "abc", "Version": {"Index": 7},
            "Spec": {"Name": "x", "Mode": {"Global": {}}, "TaskTemplate": {"ContainerSpec": {
                "Image": "i:1", "StopGracePeriod": 3_000_000_000_u64,
                "Mounts": [{"Type": "volume", "Source": "v", "Target": "/data"}]}}},
            "Endpoint": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}]},
        }))
        .unwrap();
        assert_eq!(view.mode(), Mode::Global);
        assert_eq!(view.grace(), Duration::from_secs(3));
        assert_eq!(view.mounts()[0].driver, "local");
        assert_eq!(
            (view.ports()[0].outside, view.ports()[0].host_mode),
            (8080, true)
        );
    }

    /// A service with this restart condition, and its tasks: slot, second in which it was made, state, what is
    /// wanted of it, image.
    fn service(
        condition: &str,
        more: &Value,
        tasks: &[(u64, u32, &str, &str, &str)],
    ) -> ServiceSnapshot {
        let template = |image: &str| {
            serde_json::json!({
                "ContainerSpec": {"Image": image, "Healthcheck": more},
                "RestartPolicy": {"Condition": condition}, "ForceUpdate": 0,
            })
        };
        let mut described = template("new");
        described["Runtime"] = "container".into();
        let mut view = ServiceSnapshot::read(serde_json::json!({
            "ID": "abc", "Version": {"Index": 7},
            "Spec": {"Name": "x", "Mode": {"Replicated": {"Replicas": 2}}, "TaskTemplate": described},
        }))
        .unwrap();
        let read = |(slot, second, state, wanted, image): &(u64, u32, &str, &str, &str)| {
            Task::read(&serde_json::json!({
                "ID": format!("{slot}.{second}"), "Slot": slot, "DesiredState": wanted,
                "CreatedAt": format!("2024-02-15T10:00:{second:02}.1Z"),
                "Status": {"State": state}, "Spec": template(image),
            }))
            .unwrap()
        };
        view.tasks = tasks.iter().map(read).collect();
        view
    }

    #[test]
    fn what_has_ended_well_is_done_unless_it_is_started_again_or_connected_to() {
        let done = |view: &ServiceSnapshot| -> Vec<String> {
            view.done().iter().map(|task| task.id.clone()).collect()
        };
        let tasks = [
            (1, 1, "complete", "shutdown", "old"),
            (1, 2, "complete", "shutdown", "new"),
            (2, 1, "complete", "shutdown", "new"),
        ];
        for (condition, ids) in [
            ("on-failure", &["1.2", "2.1"][..]),
            ("none", &["1.2", "2.1"]),
            ("any", &[]),
        ] {
            let view = service(condition, &Value::Null, &tasks);
            assert_eq!(done(&view), ids, "{condition}");
            assert_eq!(view.holds_a_place(), !ids.is_empty(), "{condition}");
        }
        // Its health is watched: it is there to be used.
        let watched = serde_json::json!({"Test": ["CMD", "true"]});
        assert!(done(&service("none", &watched, &tasks)).is_empty());
        let unwatched = serde_json::json!({"Test": ["NONE"]});
        assert_eq!(done(&service("none", &unwatched, &tasks)).len(), 2);
        // Nor does one count that has something after it, is to go, failed, or did another thing.
        let view = service(
            "on-failure",
            &Value::Null,
            &[
                (1, 1, "complete", "shutdown", "new"),
                (1, 2, "running", "running", "new"),
                (2, 1, "complete", "remove", "new"),
                (3, 1, "failed", "shutdown", "new"),
                (4, 1, "complete", "shutdown", "old"),
            ],
        );
        assert!(done(&view).is_empty());
        assert!(view.holds_a_place(), "what is to go is still there");
    }

    #[test]
    fn a_failed_task_makes_room_for_another_where_it_may() {
        let tasks = [(1, 1, "failed", "shutdown", "new")];
        for (condition, holds) in [("on-failure", false), ("none", true), ("any", false)] {
            let view = service(condition, &Value::Null, &tasks);
            assert_eq!(view.holds_a_place(), holds, "{condition}");
        }
    }

    #[test]
    fn urls_are_encoded() {
        assert_eq!(encoded("{\"a\":[\"b\"]}"), "%7B%22a%22%3A%5B%22b%22%5D%7D");
    }
}
