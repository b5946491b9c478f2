//! What the services of a stack need where they are to run: a node that fits, images, directories of the node.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::SwarmPlatform;
use super::place::fits;
use super::placement;
use super::stack_files::{Named, StackFiles, plain};
use crate::contract::{Needed, Prerequisite, StackPart, StackPlan, StackSource};
use crate::model::{Finding, Result};
use crate::platforms::docker::images;
use crate::platforms::docker::json::{strings, text};
use crate::platforms::docker::yaml;

/// Where backups have the names of secrets.
const SECRET_NAMES: &str = "swarm-secrets-list.txt";

/// A service of a stack, as its files describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct StackService {
    /// What the swarm calls it.
    name: String,
    image: Option<String>,
    /// The files and directories of its node that it mounts, by where it sees them.
    binds: BTreeMap<String, PathBuf>,
    constraints: Vec<String>,
    mode: Option<String>,
    replicas: Option<String>,
}

impl StackService {
    /// The services of a stack; of what several files say of one, what the engine's own program makes of it.
    fn all(stack: &str, files: &[(PathBuf, String)]) -> Vec<Self> {
        // Paths are relative to where the first file is.
        let base = files.first().and_then(|(path, _)| path.parent());
        let base = base.unwrap_or(Path::new("/"));
        let mut found: BTreeMap<String, Self> = BTreeMap::new();
        for (_, content) in files {
            // What cannot be read is told where names are looked for.
            let Ok(document) = yaml::document(content) else {
                continue;
            };
            let services = document.get("services").and_then(Value::as_object);
            for (key, described) in services.into_iter().flatten() {
                let service = found.entry(key.clone()).or_default();
                service.name = format!("{stack}_{key}");
                service.add(described, base);
            }
        }
        found.into_values().collect()
    }

    /// Adds what one more file says of it.
    fn add(&mut self, described: &Value, base: &Path) {
        let word = |pointer: &str| text(described, pointer);
        self.image = word("/image").or(self.image.take());
        self.mode = word("/deploy/mode").or(self.mode.take());
        self.replicas = word("/deploy/replicas").or(self.replicas.take());
        let constraints = strings(described, "/deploy/placement/constraints");
        // What a variable says only the deployment knows.
        self.constraints
            .extend(constraints.into_iter().filter(|it| !it.contains('$')));
        let mounts = described.get("volumes").and_then(Value::as_array);
        for (target, source) in mounts
            .into_iter()
            .flatten()
            .filter_map(|it| mounted(it, base))
        {
            match source {
                Some(source) => drop(self.binds.insert(target, source)),
                None => drop(self.binds.remove(&target)),
            }
        }
    }

    /// Whether tasks of it are to run, on a node each or so many.
    fn runs(&self) -> bool {
        let mode = self.mode.as_deref().unwrap_or("replicated");
        match mode {
            "replicated" => self.replicas.as_deref() != Some("0"),
            mode => mode == "global",
        }
    }

    /// Whether a node satisfies all that it asks of one.
    fn fits(&self, node: &Value) -> bool {
        self.constraints.iter().all(|it| fits(node, it))
    }

    /// What it asks of a node and no node satisfies; all of it where each has one that does.
    fn unmet(&self, nodes: &[Value]) -> Vec<&str> {
        let all = self.constraints.iter().map(String::as_str);
        let met = |constraint: &&str| nodes.iter().any(|node| fits(node, constraint));
        let unmet: Vec<&str> = all.clone().filter(|it| !met(it)).collect();
        match unmet.is_empty() {
            true => all.collect(),
            false => unmet,
        }
    }
}

/// Where a service mounts something, and the path of its node that it is: `None` for what is no path, and for one that
/// only the deployment knows.
fn mounted(mount: &Value, base: &Path) -> Option<(String, Option<PathBuf>)> {
    let (source, target, is_bind) = match mount.as_str() {
        Some(short) => {
            let mut parts = short.split(':');
            let first = parts.next()?.to_owned();
            match parts.next() {
                Some(target) => {
                    let is_path = first.starts_with(['/', '.']);
                    (first, target.to_owned(), is_path)
                }
                // A volume without a name.
                None => (String::new(), first, false),
            }
        }
        None => {
            let is_bind = text(mount, "/type").as_deref() == Some("bind");
            let source = text(mount, "/source").unwrap_or_default();
            (source, text(mount, "/target")?, is_bind)
        }
    };
    let is_known = is_bind && !source.is_empty() && !source.starts_with('~');
    let is_known = is_known && !source.contains('$');
    Some((target, is_known.then(|| plain(&base.join(source)))))
}

/// The node that an engine will be of which a swarm is begun, as the swarm will tell of it.
fn node_to_be(info: &Value) -> Value {
    let labels = strings(info, "/Labels");
    let labels = labels.iter().filter_map(|it| it.split_once('='));
    let labels: Map<String, Value> = labels
        .map(|(key, it)| (key.to_owned(), json!(it)))
        .collect();
    json!({
        "ID": "",
        "Spec": {"Role": "manager", "Labels": {}},
        "Description": {"Hostname": text(info, "/Name"), "Engine": {"Labels": labels}},
    })
}

/// A node in the words of a message: `worker1 (worker, disk=ssd)`.
fn described(node: &Value) -> String {
    let labels = node.pointer("/Spec/Labels").and_then(Value::as_object);
    let labels = labels.into_iter().flatten().map(|(key, value)| {
        let value = value.as_str().unwrap_or_default();
        format!("{key}={value}")
    });
    let mut about: Vec<String> = text(node, "/Spec/Role").into_iter().collect();
    about.extend(labels);
    let name = text(node, "/Description/Hostname").unwrap_or_default();
    format!("{name} ({})", about.join(", "))
}

/// What is said of services for which there is no node. `advertise`: the address of a swarm that is yet to be begun.
fn nowhere_to_run(
    stack: &str,
    services: &[StackService],
    nodes: &[Value],
    advertise: Option<&str>,
) -> Option<Finding> {
    let lost = services.iter().filter(|it| {
        let counted = it.mode.as_deref() != Some("global");
        counted && it.runs() && !nodes.iter().any(|node| it.fits(node))
    });
    let lost: Vec<(&str, Vec<&str>)> = lost.map(|it| (it.name.as_str(), it.unmet(nodes))).collect();
    if lost.is_empty() {
        return None;
    }
    let of_service = |(name, unmet): &(&str, Vec<&str>)| format!("{name} ({})", unmet.join(", "));
    let told: Vec<String> = lost.iter().map(of_service).collect();
    let known: Vec<String> = nodes.iter().map(described).collect();
    let name = match nodes {
        [one] => text(one, "/Description/Hostname"),
        _ => None,
    };
    let name = name.unwrap_or_else(|| "NODE".to_owned());
    let unmet: BTreeSet<&str> = lost.iter().flat_map(|(_, unmet)| unmet.clone()).collect();
    let labels: Vec<String> = unmet
        .iter()
        .filter_map(|it| it.strip_prefix("node.labels.")?.split_once("=="))
        .map(|(key, value)| format!(" --label-add {}={}", key.trim(), value.trim()))
        .collect();
    let bound = placement::named(unmet.iter().copied());
    let mut ways = Vec::new();
    if !labels.is_empty() {
        let begin = advertise.map(|it| {
            format!("begin the swarm by hand (`docker swarm init --advertise-addr {it}`), then ")
        });
        ways.push(format!(
            "{}`docker node update{} {name}` gives a node the labels, then plan again",
            begin.unwrap_or_default(),
            labels.concat()
        ));
    }
    if let Some(old) = bound.first() {
        ways.push(format!(
            "where another node has taken that one's place, --create --node {old}={name} deploys them there"
        ));
    }
    if labels.len() < unmet.len() {
        ways.push("let a node join that is as they ask (`docker swarm join-token worker` says how), then plan again".to_owned());
    }
    ways.push("or restore the files alone with redeploy = false, correct `placement` in them, and deploy by hand (`docker stack deploy`)".to_owned());
    Some(
        Finding::error(
            "swarm.nowhere_to_run",
            stack,
            format!(
                "no node is one that these services may run on: {}; the nodes are {}",
                told.join(", "),
                known.join(", ")
            ),
        )
        .hint(ways.join("; ")),
    )
}

/// Whether the files of a stack say that this is made elsewhere.
fn names(files: &StackFiles, part: &StackPart) -> bool {
    let of_kind = kinds(files)
        .into_iter()
        .find(|(kind, _)| *kind == part.kind);
    of_kind.is_some_and(|(_, all)| all.iter().any(|it| it.external && it.name == part.name))
}

/// What the files of a stack name, by its kind.
fn kinds(files: &StackFiles) -> [(&'static str, &[Named]); 4] {
    [
        ("network", files.networks.as_slice()),
        ("config", files.configs.as_slice()),
        ("secret", files.secrets.as_slice()),
        ("volume", files.volumes.as_slice()),
    ]
}

/// The paths that services mount which can run on this node only, and that are not there.
fn absent_binds(services: &[StackService], nodes: &[Value], own: &str) -> BTreeSet<PathBuf> {
    let is_own = |node: &Value| text(node, "/ID").as_deref() == Some(own);
    let mut paths = BTreeSet::new();
    for service in services.iter().filter(|it| it.runs()) {
        let mut fitting = nodes.iter().filter(|it| service.fits(it)).peekable();
        // What another node has is not seen from here.
        if fitting.peek().is_some() && fitting.all(is_own) {
            let absent = |path: &&PathBuf| matches!(path.try_exists(), Ok(false));
            paths.extend(service.binds.values().filter(absent).cloned());
        }
    }
    paths
}

impl SwarmPlatform {
    /// See [`Stacks::plan_missing`](crate::contract::Stacks::plan_missing).
    pub(super) async fn plan_gone(&self, stack: &str, source: &StackSource) -> Result<StackPlan> {
        // What we cannot read the engine's own program may.
        let Ok(files) = StackFiles::read(stack, &source.compose) else {
            return Ok(StackPlan::default());
        };
        let mut plan = StackPlan::default();
        if self.lacks_external(&files).await? {
            let mut of_it = source.clone();
            // Files may come with other components of the same run; other secrets are nothing to this stack.
            of_it.tree = PathBuf::from("/");
            of_it.files.retain(|path, _| !path.ends_with(SECRET_NAMES));
            plan = self.plan_parts(stack, &of_it).await?;
            plan.parts.retain(|it| it.external && names(&files, it));
        }
        self.look_at_services(stack, source, &mut plan, false).await;
        let there = self.engine.all_services().await?;
        let gone = |name: &String| {
            files.services.contains(name) && !there.iter().any(|it| it.name == *name)
        };
        let known = self.config.services.iter().filter(|it| gone(&it.name));
        plan.services = known.map(|it| it.key.clone()).collect();
        Ok(plan)
    }

    /// Whether something is not there that the files of a stack say is made elsewhere.
    async fn lacks_external(&self, files: &StackFiles) -> Result<bool> {
        for (kind, all) in kinds(files) {
            let external: Vec<&Named> = all.iter().filter(|it| it.external).collect();
            if external.is_empty() {
                continue;
            }
            if kind == "volume" {
                for volume in external {
                    if self.engine.volume(&volume.name).await?.is_none() {
                        return Ok(true);
                    }
                }
                continue;
            }
            let listed = self.engine.listed(&format!("{kind}s")).await?;
            let listed = listed.iter();
            let there: BTreeSet<String> = listed
                .filter_map(|it| text(it, "/Spec/Name").or_else(|| text(it, "/Name")))
                .collect();
            if external.iter().any(|it| !there.contains(&it.name)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds to a plan where the services of a stack may run, if nothing of it is there or nodes are others by now,
    /// and what they do not find there. Where the engine does not tell of its nodes other questions of the plan
    /// fail, and say so.
    pub(super) async fn look_at_services(
        &self,
        stack: &str,
        source: &StackSource,
        plan: &mut StackPlan,
        is_absent: bool,
    ) {
        let mut services = StackService::all(stack, &source.compose);
        let constraints = services.iter().flat_map(|it| &it.constraints);
        plan.nodes = placement::named(constraints.map(String::as_str));
        if is_absent || !source.nodes.is_empty() {
            let bound = services.iter();
            let bound = bound.map(|it| (it.name.as_str(), it.constraints.as_slice()));
            let shown = placement::shown(stack, bound, &source.nodes);
            plan.findings.extend(shown);
        }
        if !source.nodes.is_empty() {
            let files = source.compose.iter();
            let placed = files.map(|(_, text)| placement::placed(text, &source.nodes));
            let unchanged = placed.filter_map(Result::err);
            plan.findings
                .extend(unchanged.map(|e| Finding::from_error(stack, &e)));
        }
        for service in &mut services {
            for constraint in &mut service.constraints {
                *constraint = placement::moved(constraint, &source.nodes);
            }
        }
        let Ok((nodes, own)) = self.nodes_to_be().await else {
            return;
        };
        let advertise = self.config.advertise.as_deref().filter(|_| own.is_empty());
        let lost = nowhere_to_run(stack, &services, &nodes, advertise);
        plan.findings.extend(lost);
        let paths = match self.engine.is_here() {
            true => absent_binds(&services, &nodes, &own),
            // What another host has is not seen from here.
            false => BTreeSet::new(),
        };
        if !paths.is_empty() {
            let finding = Finding::error(
                "swarm.bind_missing",
                stack,
                "its services mount what is not on this host, and no task of theirs starts without it",
            )
            .hint("make each (`mkdir -p`) or mount its disk, or restore the component that has it in the same run; then plan again");
            let paths = paths.into_iter().map(Needed::Path).collect();
            plan.prerequisites.push(Prerequisite::new(paths, finding));
        }
        // Which of several nodes has which image says nothing of where a task is put.
        if nodes.len() == 1 {
            let images = self.images_elsewhere(&services).await;
            plan.prerequisites.extend(images.map(|images| {
                let finding = Finding::warning(
                    "swarm.image_elsewhere",
                    stack,
                    "images of its services are neither on the engine nor restored: they are pulled when it is deployed, and a name may mean another image by now",
                )
                .hint("where the registry asks who pulls, `docker login` before the run; a component of kind \"image\" has them in backups");
                Prerequisite::new(images, finding)
            }));
        }
    }

    /// The images of services that the engine does not have.
    async fn images_elsewhere(&self, services: &[StackService]) -> Option<Vec<Needed>> {
        let images = services.iter().filter(|it| it.runs());
        let images: BTreeSet<&String> = images.filter_map(|it| it.image.as_ref()).collect();
        let mut elsewhere = Vec::new();
        for image in images.into_iter().filter(|it| !it.contains('$')) {
            if let Ok(None) = self.engine.image_id(image).await {
                elsewhere.push(Needed::Image(images::plain(image).0));
            }
        }
        (!elsewhere.is_empty()).then_some(elsewhere)
    }

    /// The nodes, and the id of the engine's own; of an engine in no swarm the one that it will be, without an id.
    pub(super) async fn nodes_to_be(&self) -> Result<(Vec<Value>, String)> {
        if self.engine.is_in_no_swarm().await? {
            let info = self.engine.get("ask the engine for its name", "/info");
            return Ok((vec![node_to_be(&info.await?)], String::new()));
        }
        let nodes = self.nodes.all().await?.into_iter();
        let own = self.nodes.own().await?.to_owned();
        Ok((nodes.map(|node| node.whole).collect(), own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(files: &[&str]) -> Vec<StackService> {
        let files = files.iter().enumerate();
        let files: Vec<(PathBuf, String)> = files
            .map(|(at, text)| (format!("/opt/{at}/stack.yml").into(), (*text).to_owned()))
            .collect();
        StackService::all("shop", &files)
    }

    fn node(name: &str, labels: &Value) -> Value {
        json!({"ID": name, "Spec": {"Role": "worker", "Labels": labels}, "Description": {"Hostname": name}})
    }

    #[test]
    fn what_a_service_needs_is_that_of_all_files() {
        let first = r#"
services:
  db:
    image: db:1
    volumes:
      - /srv/db:/data
      - ./conf/../own:/conf:ro
      - named:/named
      - /anonymous
      - ~/home:/home
      - "${WHERE}/x:/x"
      - {type: bind, source: rel, target: /rel}
      - {type: volume, source: v, target: /v}
    deploy:
      placement: {constraints: ["node.labels.db == yes", "node.hostname == ${HOST}"]}
"#;
        let second = r#"
services:
  db:
    image: db:2
    volumes: ["/other:/data", "named:/rel"]
    deploy: {replicas: 0, placement: {constraints: [node.role == worker]}}
  each: {deploy: {mode: global}}
  job: {deploy: {mode: replicated-job}}
"#;
        let all = services(&[first]);
        let binds: Vec<(&str, &Path)> = all[0]
            .binds
            .iter()
            .map(|(target, path)| (target.as_str(), path.as_path()))
            .collect();
        let path = Path::new;
        assert_eq!(
            binds,
            [
                ("/conf", path("/opt/0/own")),
                ("/data", path("/srv/db")),
                ("/rel", path("/opt/0/rel"))
            ]
        );
        assert_eq!(all[0].constraints, ["node.labels.db == yes"]);
        assert!(all[0].runs());
        let all = services(&[first, second, "a: ["]);
        let known: Vec<(&str, bool)> = all.iter().map(|it| (it.name.as_str(), it.runs())).collect();
        assert_eq!(
            known,
            [("shop_db", false), ("shop_each", true), ("shop_job", false)]
        );
        assert_eq!(all[0].image.as_deref(), Some("db:2"));
        assert_eq!(all[0].binds["/data"], path("/other"));
        assert!(!all[0].binds.contains_key("/rel"));
        assert_eq!(
            all[0].constraints,
            ["node.labels.db == yes", "node.role == worker"]
        );
    }

    #[test]
    fn services_without_a_node_are_told_with_what_is_to_be_done() {
        let of = |constraints: &str| {
            services(&[&format!(
                "services: {{db: {{deploy: {{placement: {{constraints: [{constraints}]}}}}}}}}"
            )])
        };
        let (one, two) = (
            node("one", &json!({"disk": "ssd"})),
            node("two", &json!({})),
        );
        let nodes = [one.clone(), two];
        for fits in [
            "",
            "node.hostname == one",
            "node.labels.disk == ssd, node.role == worker",
        ] {
            assert_eq!(
                nowhere_to_run("shop", &of(fits), &nodes, None),
                None,
                "{fits}"
            );
        }
        let told = |constraints: &str, nodes: &[Value], advertise: Option<&str>| {
            let found = nowhere_to_run("shop", &of(constraints), nodes, advertise).unwrap();
            assert_eq!(found.code, "swarm.nowhere_to_run");
            (found.message, found.hint.unwrap())
        };
        let (message, hint) = told("node.labels.db == yes, node.role == worker", &nodes, None);
        assert!(
            message.contains("shop_db (node.labels.db == yes); the nodes are one (worker, disk=ssd), two (worker)"),
            "{message}"
        );
        assert!(
            hint.starts_with("`docker node update --label-add db=yes NODE` gives"),
            "{hint}"
        );
        assert!(!hint.contains("swarm join"), "{hint}");
        // Each has a node, and both have none.
        let both = "node.labels.disk == ssd, node.hostname == two";
        let (message, _) = told(both, &nodes, None);
        assert!(
            message.contains("(node.labels.disk == ssd, node.hostname == two)"),
            "{message}"
        );
        // A node that is no more; a swarm that is yet to be begun.
        let (_, hint) = told("node.hostname == old", &nodes, None);
        assert!(
            hint.contains("--create --node old=NODE deploys them there"),
            "{hint}"
        );
        assert!(hint.contains("; let a node join"), "{hint}");
        let (_, hint) = told("node.labels.db == yes", &[one], Some("10.0.0.1"));
        assert!(
            hint.starts_with("begin the swarm by hand (`docker swarm init --advertise-addr 10.0.0.1`), then `docker node update --label-add db=yes one`"),
            "{hint}"
        );
        // One on each node that fits: none, if none does.
        let global = services(&[
            "services: {db: {deploy: {mode: global, placement: {constraints: [node.role == x]}}}}",
        ]);
        assert_eq!(nowhere_to_run("shop", &global, &nodes, None), None);
    }

    #[test]
    fn the_node_of_a_swarm_to_be_begun_is_its_engine() {
        let info = json!({"Name": "host", "Labels": ["disk=ssd", "odd"]});
        let node = node_to_be(&info);
        for (constraint, holds) in [
            ("node.hostname == host", true),
            ("node.role == manager", true),
            ("node.role == worker", false),
            ("node.labels.disk == ssd", false),
            ("engine.labels.disk == ssd", true),
            ("node.id == abc", false),
        ] {
            assert_eq!(fits(&node, constraint), holds, "{constraint}");
        }
        assert_eq!(described(&node), "host (manager)");
    }
}
