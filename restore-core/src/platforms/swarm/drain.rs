//! What is left of services that a stack has no more: tasks, and containers on any node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::SwarmPlatform;
use super::snapshot::Task;
use super::stacks::STACK;
use crate::model::{Error, ErrorKind, Result};
use crate::platforms::docker::engine::Engine;
use crate::platforms::docker::json::{encoded, text};
use crate::sys::retry::Retry;

/// How often it is asked.
const LOOK: Duration = Duration::from_millis(200);

impl Engine {
    /// What of one kind the engine lists of a stack.
    async fn labelled(&self, stack: &str, kind: &str) -> Result<Vec<Value>> {
        let filter = encoded(&json!({"label": [format!("{STACK}={stack}")]}).to_string());
        let listed = self
            .patiently(|| async {
                self.docker().await?;
                let what = format!("list the {kind} of the stack {stack}");
                let path = match kind {
                    "tasks" => format!("/tasks?filters={filter}"),
                    _ => format!("/containers/json?filters={filter}"),
                };
                self.get(&what, &path).await
            })
            .await?;
        Ok(listed.as_array().cloned().unwrap_or_default())
    }
}

impl SwarmPlatform {
    /// Returns once nothing runs any more of services that the stack had and has not, on no node
    /// that can be asked; of the others the swarm's word is taken. Found by what is there, not by
    /// who removed them. Nodes that are down are left out: for a day the swarm counts what ran there,
    /// and nobody gets a task of a service back that is no more.
    pub(super) async fn wait_for_removal(&self, stack: &str, patience: Duration) -> Result<()> {
        let retry = Retry::within(patience, LOOK);
        let own = self.nodes.own().await?.to_owned();
        let mut engines = BTreeMap::from([(own.clone(), self.engine.clone())]);
        loop {
            let nodes = self.nodes.all().await?;
            let is_down = |id: &str| nodes.iter().all(|node| node.id != id || !node.is_ready());
            let services = self.engine.of_stack(stack).await?;
            let there: BTreeSet<&str> = services.iter().map(|view| view.id.as_str()).collect();
            let is_gone = |id: Option<String>| id.is_some_and(|id| !there.contains(id.as_str()));
            let tasks: Vec<Task> = self
                .engine
                .labelled(stack, "tasks")
                .await?
                .iter()
                .filter(|task| is_gone(text(task, "/ServiceID")))
                .filter_map(Task::read)
                .filter(|task| !task.ended() && !task.node.as_deref().is_some_and(is_down))
                .collect();
            match self.nodes.seen(tasks.iter()).await {
                Ok(seen) => engines.extend(seen),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error),
            }
            engines.retain(|id, _| *id == own || !is_down(id));
            let mut left = BTreeSet::new();
            for (id, engine) in &engines {
                let listed = match engine.labelled(stack, "containers").await {
                    Err(error) if *id != own && error.is_retryable() => continue,
                    listed => listed?,
                };
                for container in listed {
                    let labels = container.get("Labels");
                    let label = |key: &str| {
                        let value = labels.and_then(|labels| labels.get(key));
                        value.and_then(Value::as_str).map(str::to_owned)
                    };
                    if is_gone(label("com.docker.swarm.service.id")) {
                        let service = label("com.docker.swarm.service.name");
                        left.insert(format!(
                            "{} at {}",
                            service.unwrap_or_default(),
                            engine.place()
                        ));
                    }
                }
            }
            if tasks.is_empty() && left.is_empty() {
                return Ok(());
            }
            if retry.is_over() {
                let left: Vec<String> = left.into_iter().collect();
                return Err(Error::new(
                    ErrorKind::Failed,
                    "swarm.does_not_end",
                    format!(
                        "removed services of the stack {stack} still run after {} s: {} tasks have not ended; containers: {}",
                        patience.as_secs(),
                        tasks.len(),
                        match left.is_empty() {
                            true => "none that can be seen from here".to_owned(),
                            false => left.join(", "),
                        }
                    ),
                )
                .hint("a node that is down keeps its tasks in this state: see `docker node ls`"));
            }
            retry.pause().await;
        }
    }
}
