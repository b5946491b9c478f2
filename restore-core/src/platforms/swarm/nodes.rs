//! The engines of a swarm's nodes: which of them runs what, and how it is reached.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::Value;
use tokio::sync::OnceCell;

use super::config::NodeConfig;
use super::placement::successor;
use super::snapshot::{ServiceSnapshot, Task};
use crate::model::{Error, ErrorKind, Result};
use crate::platforms::docker::engine::Engine;
use crate::platforms::docker::json::text;

/// The nodes of a swarm, asked at one of its managers.
pub(super) struct Nodes {
    manager: Arc<Engine>,
    /// Which node that is.
    own: OnceCell<String>,
    configs: Vec<NodeConfig>,
    /// Engines that were found to be those of their nodes, by the nodes' ids.
    met: Mutex<HashMap<String, Arc<Engine>>>,
    successors: Mutex<Successors>,
}

/// The nodes that have taken the place of others.
#[derive(Default)]
struct Successors {
    /// By the names of those, which the site has.
    nodes: BTreeMap<String, String>,
    /// Alive while a run is at work that has these.
    held: Weak<()>,
}

/// A node of the swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) name: String,
    /// Where the swarm reaches it.
    pub(super) address: String,
    /// New tasks may be given to it while it is up.
    pub(super) takes_tasks: bool,
    /// All that the swarm says of it.
    pub(super) whole: Value,
}

/// A container of a service that runs, and where.
#[derive(Clone)]
pub(super) struct RunningTask {
    pub(super) engine: Arc<Engine>,
    pub(super) container: String,
    pub(super) node: String,
}

/// Nodes that may be given tasks, by whether there is a way to their engines.
#[derive(Default)]
pub(super) struct Given {
    pub(super) with_way: Vec<Node>,
    pub(super) beyond: Vec<Node>,
}

impl Nodes {
    pub(super) fn new(manager: Arc<Engine>, configs: Vec<NodeConfig>) -> Self {
        Self {
            manager,
            own: OnceCell::new(),
            configs,
            met: Mutex::default(),
            successors: Mutex::default(),
        }
    }

    /// The node of the engine of `[platform]`.
    pub(super) async fn own(&self) -> Result<&str> {
        let asked = self.own.get_or_try_init(|| self.manager.own_node()).await;
        asked.map(String::as_str)
    }

    /// All of them.
    pub(super) async fn all(&self) -> Result<Vec<Node>> {
        let nodes = self.manager.nodes().await?;
        Ok(nodes.into_iter().filter_map(Node::read).collect())
    }

    /// The node of this id; one that the swarm no longer has is called by its id.
    pub(super) async fn by_id(&self, id: &str) -> Result<Node> {
        let found = self.all().await?.into_iter().find(|node| node.id == id);
        Ok(found.unwrap_or_else(|| Node {
            id: id.to_owned(),
            name: id.to_owned(),
            address: String::new(),
            takes_tasks: false,
            whole: Value::Null,
        }))
    }

    /// From now on nodes that the site names are those that have taken their place, unless a run
    /// holds what it was told itself.
    pub(super) fn substitute(&self, nodes: &BTreeMap<String, String>) {
        let mut successors = self.successors();
        if successors.held.strong_count() == 0 {
            successors.nodes.clone_from(nodes);
        }
    }

    /// As [`substitute`](Self::substitute), and nobody else changes it until what is returned is dropped.
    pub(super) fn hold(&self, nodes: &BTreeMap<String, String>) -> Arc<()> {
        let held = Arc::new(());
        let mut successors = self.successors();
        successors.nodes.clone_from(nodes);
        successors.held = Arc::downgrade(&held);
        held
    }

    fn successors(&self) -> MutexGuard<'_, Successors> {
        let successors = self.successors.lock();
        successors.unwrap_or_else(PoisonError::into_inner)
    }

    /// What a node that the site names is called by now.
    fn called(&self, name: &str) -> String {
        let successors = self.successors();
        let found = successor(name, &successors.nodes);
        found.unwrap_or(name).to_owned()
    }

    /// The node that the site calls by this name or id.
    pub(super) async fn by_name(&self, name: &str) -> Result<Node> {
        let name = &self.called(name);
        let mut all = self.all().await?;
        if let Some(at) = all.iter().position(|node| node.id == *name) {
            return Ok(all.swap_remove(at));
        }
        let names: Vec<String> = all.iter().map(|node| node.name.clone()).collect();
        all.retain(|node| node.name == *name);
        match (all.len(), all.pop()) {
            (1, Some(node)) => Ok(node),
            (0, _) | (_, None) => Err(Error::new(
                ErrorKind::NotFound,
                "swarm.no_node",
                format!("the swarm has no node of the exact name {name:?}"),
            )
            .hint(format!("`docker node ls` shows them: {}", names.join(", ")))),
            (count, _) => Err(Error::new(
                ErrorKind::Config,
                "swarm.no_node",
                format!("{count} nodes of the swarm are called {name}"),
            )
            .hint("name it by its id, which `docker node ls` shows")),
        }
    }

    /// What the site says of a node.
    pub(super) fn config(&self, node: &Node) -> Option<&NodeConfig> {
        let named = |name: &str| self.configs.iter().find(|config| config.name == name);
        named(&node.id).or_else(|| named(&node.name))
    }

    /// Whether there is a way to the engine of a node.
    pub(super) async fn has_way_to(&self, node: &Node) -> Result<bool> {
        Ok(self.own().await? == node.id
            || self
                .config(node)
                .is_some_and(|config| config.address.is_some()))
    }

    /// The nodes other than ours that are up and may be given any task.
    pub(super) async fn given_tasks(&self) -> Result<Given> {
        let mut given = Given::default();
        let all = self.all().await?;
        if all.is_empty() {
            return Ok(given);
        }
        let own = self.own().await?;
        for node in all {
            if node.id == own || !node.takes_tasks || !node.is_ready() {
                continue;
            }
            match self.has_way_to(&node).await? {
                true => given.with_way.push(node),
                false => given.beyond.push(node),
            }
        }
        Ok(given)
    }

    /// The engine of a node; an error that names what to add where there is no way to it.
    pub(super) async fn engine(&self, id: &str) -> Result<Arc<Engine>> {
        if self.own().await? == id {
            return Ok(self.manager.clone());
        }
        if let Some(engine) = self.known(id) {
            return Ok(engine);
        }
        let node = self.by_id(id).await?;
        self.engine_of(&node).await
    }

    fn known(&self, id: &str) -> Option<Arc<Engine>> {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.get(id).cloned()
    }

    /// The engine of a node that the swarm has told of.
    pub(super) async fn engine_of(&self, node: &Node) -> Result<Arc<Engine>> {
        if self.own().await? == node.id {
            return Ok(self.manager.clone());
        }
        if let Some(engine) = self.known(&node.id) {
            return Ok(engine);
        }
        let address = self.config(node).and_then(|config| config.address.clone());
        let Some(address) = address else {
            return Err(node.no_endpoint());
        };
        let engine = Arc::new(Engine::of_node(&node.name, address));
        // Another engine's volumes of the same names must never be taken for these.
        let found = engine.own_node().await?;
        if found != node.id {
            return Err(Error::new(
                ErrorKind::Config,
                "swarm.wrong_node",
                format!(
                    "the engine at {} is not that of the node {}: it calls itself {found}, not {}",
                    engine.place(),
                    node.name,
                    node.id
                ),
            )
            .hint(format!("correct `endpoint` of [nodes.{}]", node.name)));
        }
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(met.entry(node.id.clone()).or_insert(engine).clone())
    }

    /// The containers of a service that run, by the swarm's word and by their engines'. An error
    /// where one of them is on a node to whose engine there is no way.
    pub(super) async fn places(&self, view: &ServiceSnapshot) -> Result<Vec<RunningTask>> {
        let mut places = Vec::new();
        for (node, tasks) in by_node(view.running()) {
            let engine = self.engine(node).await?;
            places.extend(self.on(&engine, node, &tasks, view).await?);
        }
        Ok(places)
    }

    /// One of them: on the engine of `[platform]` where there is any, the newest.
    pub(super) async fn place(&self, view: &ServiceSnapshot) -> Result<Option<RunningTask>> {
        let own = self.own().await?;
        let running = by_node(view.running());
        let mut first = None;
        let (near, far): (Vec<_>, Vec<_>) = running.into_iter().partition(|(node, _)| *node == own);
        for (node, tasks) in near.into_iter().chain(far) {
            let engine = match self.engine(node).await {
                Ok(engine) => engine,
                Err(error) => {
                    first.get_or_insert(error);
                    continue;
                }
            };
            // A node that does not answer is no reason not to ask the next.
            match self.on(&engine, node, &tasks, view).await {
                Ok(found) => {
                    if let Some(place) = found.into_iter().next_back() {
                        return Ok(Some(place));
                    }
                }
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            Some(error) => Err(error.context(format!("the service {}", view.name))),
            None => Ok(None),
        }
    }

    /// Those of one node, the newest last. A container that is on its way down is none.
    async fn on(
        &self,
        engine: &Arc<Engine>,
        node: &str,
        tasks: &[&Task],
        view: &ServiceSnapshot,
    ) -> Result<Vec<RunningTask>> {
        let there = engine.containers_of(&view.id).await?;
        let mut tasks: Vec<&&Task> = tasks.iter().collect();
        tasks.sort_by(|a, b| a.made.cmp(&b.made));
        Ok(tasks
            .into_iter()
            .filter_map(|task| task.container.clone())
            .filter(|container| there.contains(container))
            .map(|container| RunningTask {
                engine: engine.clone(),
                container,
                node: node.to_owned(),
            })
            .collect())
    }

    /// The engines to which there is a way of the nodes that these tasks are on; that of
    /// `[platform]` in any case.
    pub(super) async fn seen<'a>(
        &self,
        tasks: impl Iterator<Item = &'a Task>,
    ) -> Result<BTreeMap<String, Arc<Engine>>> {
        let own = self.own().await?;
        let mut engines = BTreeMap::from([(own.to_owned(), self.manager.clone())]);
        for (id, _) in by_node(tasks) {
            if id == own {
                continue;
            }
            match self.engine(id).await {
                Ok(engine) => {
                    engines.insert(id.to_owned(), engine);
                }
                Err(error) if error.is(&NoEndpoint) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(engines)
    }

    /// The engine on which programs of a service that does not run are run: where its tasks were
    /// last, else on the only node that it may be started on, else on that of `[platform]`.
    pub(super) async fn home(&self, view: &ServiceSnapshot) -> Result<Arc<Engine>> {
        match self.last_node(view).await? {
            Some(node) => self.engine(&node).await,
            None => Ok(self.manager.clone()),
        }
    }

    /// The node where the tasks of a service are or were last, or the only one that its
    /// constraints let it be started on.
    pub(super) async fn last_node(&self, view: &ServiceSnapshot) -> Result<Option<String>> {
        let placed = view.tasks.iter().filter(|task| task.node.is_some());
        let newest = placed.max_by_key(|task| (task.runs(), &task.made));
        if let Some(node) = newest.and_then(|task| task.node.clone()) {
            return Ok(Some(node));
        }
        let mut fits = self.fitting(view).await?;
        Ok(match fits.len() {
            1 => fits.pop().map(|node| node.id),
            _ => None,
        })
    }

    /// The nodes that a service's constraints let it run on.
    pub(super) async fn fitting(&self, view: &ServiceSnapshot) -> Result<Vec<Node>> {
        let constraints = view.constraints();
        let mut all = self.all().await?;
        all.retain(|node| {
            let mut constraints = constraints.iter();
            constraints.all(|constraint| super::place::fits(&node.whole, constraint))
        });
        Ok(all)
    }
}

/// The code of the error that there is no way to a node's engine.
pub(super) const NO_ENDPOINT: &str = "swarm.no_endpoint";

/// The reason of an error: the site does not say where a node's engine is.
#[derive(Debug, PartialEq)]
pub(super) struct NoEndpoint;

impl Node {
    fn read(whole: Value) -> Option<Self> {
        let id = text(&whole, "/ID")?;
        Some(Self {
            name: text(&whole, "/Description/Hostname").unwrap_or_else(|| id.clone()),
            address: text(&whole, "/Status/Addr").unwrap_or_default(),
            takes_tasks: text(&whole, "/Spec/Availability").as_deref() == Some("active"),
            id,
            whole,
        })
    }

    /// It is up.
    pub(super) fn is_ready(&self) -> bool {
        text(&self.whole, "/Status/State").as_deref() == Some("ready")
    }

    /// Its name, and what to add.
    pub(super) fn how_to_add_named(&self) -> (String, String) {
        (self.name.clone(), self.how_to_add())
    }

    pub(super) fn no_endpoint(&self) -> Error {
        Error::new(
            ErrorKind::Preflight,
            NO_ENDPOINT,
            format!(
                "there is no way to the engine of the node {}: this site does not say where it is",
                self.name
            ),
        )
        .because(NoEndpoint)
        .hint(self.how_to_add())
    }

    /// What to add so that there is a way to it.
    pub(super) fn how_to_add(&self) -> String {
        let address = match self.address.as_str() {
            "" | "0.0.0.0" => &self.name,
            address => address,
        };
        let shown = match address.contains(':') {
            true => format!("[{address}]"),
            false => address.to_owned(),
        };
        format!(
            "add to restore.toml a section [nodes.{}] with endpoint = \"ssh://root@{shown}\", or endpoint = \"tcp://{shown}:2376\" with ca, cert and key",
            toml_key(&self.name)
        )
    }
}

/// A name as a key: quoted where it has dots.
fn toml_key(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match name.chars().all(plain) {
        true => name.to_owned(),
        false => format!("\"{name}\""),
    }
}

fn by_node<'a>(tasks: impl Iterator<Item = &'a Task>) -> BTreeMap<&'a str, Vec<&'a Task>> {
    let mut nodes: BTreeMap<&str, Vec<&Task>> = BTreeMap::new();
    for task in tasks {
        if let Some(node) = &task.node {
            nodes.entry(node).or_default().push(task);
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platforms::docker::address::Address;

    fn of_no_engine() -> Nodes {
        let address = Address::Unix("/run/docker.sock".into());
        Nodes::new(Arc::new(Engine::manager(address)), Vec::new())
    }

    fn names(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        let all = all.iter();
        all.map(|(old, new)| ((*old).to_owned(), (*new).to_owned()))
            .collect()
    }

    #[test]
    fn a_node_that_is_no_more_is_the_one_in_its_place() {
        let nodes = of_no_engine();
        assert_eq!(nodes.called("old"), "old");
        nodes.substitute(&names(&[("old", "new"), ("new", "old")]));
        assert_eq!(
            (nodes.called("old"), nodes.called("new")),
            ("new".into(), "old".into())
        );
        assert_eq!(nodes.called("Old"), "new");
        nodes.substitute(&BTreeMap::new());
        assert_eq!(nodes.called("old"), "old");
        nodes.substitute(&names(&[("DB1", "db2")]));
        assert_eq!(nodes.called("db1"), "db2");
    }

    #[test]
    fn what_a_run_was_told_of_nodes_is_its_own_until_it_ends() {
        let nodes = of_no_engine();
        nodes.substitute(&names(&[("old", "planned")]));
        let held = nodes.hold(&names(&[("old", "new")]));
        assert_eq!(nodes.called("old"), "new");
        nodes.substitute(&names(&[("old", "other")]));
        nodes.substitute(&BTreeMap::new());
        assert_eq!(nodes.called("old"), "new");
        // The run goes on in a second part, which begins before the first one ends.
        let second = nodes.hold(&names(&[("old", "new")]));
        drop(held);
        nodes.substitute(&BTreeMap::new());
        assert_eq!(nodes.called("old"), "new");
        drop(second);
        assert_eq!(nodes.called("old"), "new", "until somebody says otherwise");
        nodes.substitute(&BTreeMap::new());
        assert_eq!(nodes.called("old"), "old");
    }

    #[test]
    fn what_to_add_is_said_for_this_node() {
        let node = Node::read(serde_json::json!({
            "ID": "n1", "Description": {"Hostname": "db.example"}, "Status": {"Addr": "10.0.0.7", "State": "ready"},
            "Spec": {"Availability": "active"},
        }))
        .unwrap();
        assert!(node.takes_tasks);
        let hint = node.no_endpoint().hint_text().unwrap().to_owned();
        assert!(
            hint.contains("[nodes.\"db.example\"] with endpoint = \"ssh://root@10.0.0.7\""),
            "{hint}"
        );
        assert!(hint.contains("\"tcp://10.0.0.7:2376\" with ca"), "{hint}");
    }
}
