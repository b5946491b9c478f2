//! What a stack needs besides its own files, from what a backup and the run have of it: networks, volumes,
//! configs, secrets. Made where it is absent, and removed again.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::SwarmPlatform;
use super::described::{self, MADE_BY};
use super::lock;
use super::snapshot::ServiceSnapshot;
use super::stack_files::{Named, StackFiles, plain};
use super::stacks::{RELEASE, STACK, is_of_stack, until_released_by};
use crate::contract::{StackPart, StackPlan, StackSource};
use crate::model::{Error, ErrorKind, Finding, Result, RunId};
use crate::platforms::docker::engine::{Engine, Refused};
use crate::platforms::docker::json::{base64, encoded, text};
use crate::platforms::docker::mounts::directory_of;
use crate::platforms::docker::throwaway::SITE;

/// The configs of a backup, as `docker config inspect` writes them.
const CONFIGS: &str = "configs/swarm-config-*.json";
/// The names of its secrets, a line each.
const SECRETS: &str = "configs/swarm-secrets-list.txt";

/// The files of a backup that are read.
pub(super) const READ: &[&str] = &[CONFIGS, SECRETS, described::NETWORKS, described::VOLUMES];

/// No secret of a swarm has as many bytes.
const SECRET_BYTES: usize = 500 * 1024;

/// Networks that every engine has, or that only a container's own node has.
const BUILT_IN: [&str; 4] = ["host", "bridge", "none", "ingress"];

/// By this label of a container its service is known.
const SERVICE_ID: &str = "com.docker.swarm.service.id";

/// The kinds of parts.
const NETWORK: &str = "network";
const VOLUME: &str = "volume";
const CONFIG: &str = "config";
const SECRET: &str = "secret";
const SERVICE: &str = "service";
const STACK_PART: &str = "stack";

/// What there is of one kind, by exact names.
struct There(Vec<Value>);

impl There {
    async fn look(engine: &Engine, kind: &str) -> Result<Self> {
        engine.listed(&format!("{kind}s")).await.map(Self)
    }

    fn find(&self, name: &str) -> Option<&Value> {
        let mut all = self.0.iter();
        all.find(|it| name_of(it).as_deref() == Some(name))
    }

    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

fn name_of(thing: &Value) -> Option<String> {
    text(thing, "/Spec/Name").or_else(|| text(thing, "/Name"))
}

fn label(thing: &Value, key: &str) -> Option<String> {
    let labels = thing.pointer("/Spec/Labels").or(thing.get("Labels"))?;
    labels.get(key)?.as_str().map(str::to_owned)
}

/// Whether a run has made it, or its deployment of the stack.
fn is_made_by(thing: &Value, part: &StackPart, stack: &str, run: &RunId) -> bool {
    match part.external {
        true => label(thing, MADE_BY).as_deref() == Some(run.as_str()),
        false => label(thing, STACK).as_deref() == Some(stack),
    }
}

/// The descriptions of the configs of a backup, of which none is this stack's own.
fn configs_of(stack: &str, source: &StackSource) -> Result<Vec<Value>> {
    let mut specs = Vec::new();
    let (start, end) = CONFIGS.split_once('*').unwrap_or_default();
    for (path, content) in &source.files {
        if !path.starts_with(start) || !path.ends_with(end) {
            continue;
        }
        let unreadable = || {
            Error::new(
                ErrorKind::Verification,
                "swarm.config_unreadable",
                format!("{path} does not describe a config of a swarm"),
            )
            .hint("restore another backup, or make the config by hand (docker config create) before the restore")
        };
        let described: Value = serde_json::from_slice(content).map_err(|_| unreadable())?;
        // As `docker config inspect` prints it, in a list; as the engine answers, alone.
        let described = match &described {
            Value::Array(all) => all.clone(),
            one => vec![one.clone()],
        };
        for config in described {
            let spec = config.get("Spec").cloned().ok_or_else(unreadable)?;
            if text(&spec, "/Name").is_none() || spec.get("Data").is_none() {
                return Err(unreadable());
            }
            let own = label(&config, STACK).as_deref() == Some(stack);
            if !own && !lock::is_any(&config) {
                specs.push(spec);
            }
        }
    }
    Ok(specs)
}

/// The names of the secrets of a backup.
fn secrets_of(source: &StackSource) -> Vec<String> {
    let list = source.files.get(SECRETS).map(Vec::as_slice);
    let list = String::from_utf8_lossy(list.unwrap_or_default()).into_owned();
    let names = list.lines().map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A file of a stack that must be there before it is deployed: in its own tree it comes with that.
fn is_missing(named: &Named, tree: &Path) -> bool {
    let (file, tree) = (named.file.as_deref(), plain(tree));
    file.is_some_and(|file| !file.starts_with(&tree) && !file.exists())
}

fn listed(names: &[String]) -> String {
    names.join(", ")
}

impl SwarmPlatform {
    /// See [`Stacks::plan`](crate::contract::Stacks::plan).
    pub(super) async fn plan_parts(&self, stack: &str, source: &StackSource) -> Result<StackPlan> {
        let files = StackFiles::read(stack, &source.compose)?;
        let engine = &self.engine;
        let networks = There::look(engine, NETWORK).await?;
        let configs = There::look(engine, CONFIG).await?;
        let secrets = There::look(engine, SECRET).await?;
        let mut plan = StackPlan::default();
        let mut external = |kind: &str, name: &str| {
            let part = StackPart::new(kind, name).external();
            if !plan.parts.contains(&part) {
                plan.parts.push(part);
            }
        };
        for network in files.networks.iter().filter(|it| it.external) {
            let name = network.name.as_str();
            if !BUILT_IN.contains(&name) && !networks.has(name) {
                external(NETWORK, name);
            }
        }
        for volume in files.volumes.iter().filter(|it| it.external) {
            if engine.volume(&volume.name).await?.is_none() {
                external(VOLUME, &volume.name);
            }
        }
        let kept = configs_of(stack, source)?;
        let kept: Vec<String> = kept.iter().filter_map(|it| text(it, "/Name")).collect();
        for name in kept.iter().filter(|name| !configs.has(name)) {
            external(CONFIG, name);
        }
        let mut needed: Vec<&String> = Vec::new();
        for secret in files.secrets.iter().filter(|it| it.external) {
            if !secrets.has(&secret.name) && !needed.contains(&&secret.name) {
                needed.push(&secret.name);
            }
        }
        let own: BTreeSet<&String> = files.secrets.iter().map(|it| &it.name).collect();
        let mut left = Vec::new();
        let listed_names = secrets_of(source);
        for name in listed_names.iter().filter(|name| !own.contains(name)) {
            let of_stack = name.starts_with(&format!("{stack}_"));
            if of_stack || secrets.has(name) {
                continue;
            }
            match source.secrets.file(name) {
                Some(_) => needed.push(name),
                None => left.push(name.clone()),
            }
        }
        let mut missing = Vec::new();
        let mut unfit = Vec::new();
        for name in needed {
            match source.secrets.file(name) {
                Some(_) => external(SECRET, name),
                None => missing.push(name.clone()),
            }
            unfit.extend(unfit_secret(stack, source, name).await);
        }
        plan.findings.extend(unfit);
        let (made, subnets) = (&plan.parts, described::subnets(&networks.0));
        let told = made_otherwise(stack, source, made, &subnets)?;
        plan.findings.extend(told);
        plan.parts.push(StackPart::new(STACK_PART, stack));
        for network in files.networks.iter().filter(|it| !it.external) {
            if !networks.has(&network.name) {
                plan.parts.push(StackPart::new(NETWORK, &network.name));
            }
        }
        for volume in files.volumes.iter().filter(|it| !it.external) {
            if engine.volume(&volume.name).await?.is_none() {
                plan.parts.push(StackPart::new(VOLUME, &volume.name));
            }
        }
        for (kind, there, all) in [
            (CONFIG, &configs, &files.configs),
            (SECRET, &secrets, &files.secrets),
        ] {
            for named in all.iter().filter(|it| !it.external) {
                if !there.has(&named.name) {
                    plan.parts.push(StackPart::new(kind, &named.name));
                }
            }
        }
        let services = files.services.iter();
        plan.parts
            .extend(services.map(|name| StackPart::new(SERVICE, name)));
        let no_config =
            |it: &&Named| it.external && !configs.has(&it.name) && !kept.contains(&it.name);
        let no_config: Vec<String> = files
            .configs
            .iter()
            .filter(no_config)
            .map(|it| it.name.clone())
            .collect();
        plan.findings
            .extend(missing_findings(stack, &missing, &no_config, &left));
        for (kind, all) in [(SECRET, &files.secrets), (CONFIG, &files.configs)] {
            let absent = all.iter().filter(|it| is_missing(it, &source.tree));
            let absent: Vec<String> = absent
                .filter_map(|it| Some(it.file.as_ref()?.display().to_string()))
                .collect();
            if !absent.is_empty() {
                plan.findings.push(
                    Finding::error(
                        "swarm.file_missing",
                        stack,
                        format!("its files make a {kind} from what is not on this host: {}", listed(&absent)),
                    )
                    .hint("put it there; what another component restores is restored first, by a run of its own (--only)"),
                );
            }
        }
        if !files.unknown.is_empty() {
            plan.findings.push(
                Finding::warning(
                    "swarm.name_unknown",
                    stack,
                    format!(
                        "names in its files hold variables, and whether they are there is known when it is deployed: {}",
                        listed(&files.unknown)
                    ),
                )
                .hint("make what is external and absent by hand before the restore"),
            );
        }
        Ok(plan)
    }

    /// See [`Stacks::make_parts`](crate::contract::Stacks::make_parts).
    pub(super) async fn make_external(
        &self,
        source: &StackSource,
        parts: &[StackPart],
    ) -> Result<()> {
        for part in parts.iter().filter(|part| part.external) {
            if let Some(there) = self.engine.part(part).await? {
                if is_made_by(&there, part, "", &source.run) {
                    continue;
                }
                return Err(Error::new(
                    ErrorKind::Failed,
                    "create.there_since",
                    format!("the {part} was absent when the run was planned, and somebody has made one since"),
                )
                .hint("`restore rollback`, and plan again"));
            }
            let (path, spec) = self.spec_of(source, part).await?;
            let what = format!("make the {part}");
            let made = self.engine.post(&what, path, &spec).await;
            made.map_err(|e| e.hint(format!("`docker {} create` says more", part.kind)))?;
        }
        Ok(())
    }

    /// What to ask the engine for.
    async fn spec_of(
        &self,
        source: &StackSource,
        part: &StackPart,
    ) -> Result<(&'static str, Value)> {
        let name = &part.name;
        let labels = json!({MADE_BY: source.run.as_str()});
        let gone = |what: &str, hint: &str| {
            Error::new(
                ErrorKind::Failed,
                "create.source_gone",
                format!("there is nothing any more to make the {part} from: {what}"),
            )
            .hint(hint)
        };
        Ok(match part.kind.as_str() {
            NETWORK => {
                let there = There::look(&self.engine, NETWORK).await?;
                let taken = described::subnets(&there.0);
                let was = described::of_backup(source, described::NETWORKS, name)?;
                let spec = described::network(name, was.as_ref(), &taken, &source.run);
                ("/networks/create", spec)
            }
            VOLUME => {
                let was = described::of_backup(source, described::VOLUMES, name)?;
                let spec = described::volume(name, was.as_ref(), &source.run);
                ("/volumes/create", spec)
            }
            CONFIG => {
                let all = configs_of("", source)?.into_iter();
                let spec = all
                    .into_iter()
                    .find(|it| text(it, "/Name").as_ref() == Some(name));
                let mut spec = spec.ok_or_else(|| {
                    gone(
                        "the backup has no such config",
                        "`restore rollback`, and plan again",
                    )
                })?;
                let labels = spec.as_object_mut().map(|spec| {
                    let labels = spec.entry("Labels").or_insert_with(|| json!({}));
                    if labels.is_null() {
                        *labels = json!({});
                    }
                    labels
                });
                if let Some(labels) = labels.and_then(Value::as_object_mut) {
                    labels.insert(MADE_BY.to_owned(), json!(source.run.as_str()));
                }
                ("/configs/create", spec)
            }
            SECRET => {
                let value = source.secrets.read(name).await?.ok_or_else(|| {
                    gone(
                        "no file has its value",
                        "put the file back, and `restore resume`",
                    )
                })?;
                let data = base64(&value);
                (
                    "/secrets/create",
                    json!({"Name": name, "Labels": labels, "Data": data}),
                )
            }
            kind => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "swarm.part",
                    format!("a {kind} is nothing that is made before a stack"),
                ));
            }
        })
    }

    /// See [`Stacks::remove_parts`](crate::contract::Stacks::remove_parts).
    pub(super) async fn remove_made(
        &self,
        stack: &str,
        run: &RunId,
        parts: &[StackPart],
        data: bool,
    ) -> Result<Vec<StackPart>> {
        let mut left = Vec::new();
        // All of them together are in use for a moment after their last containers are gone.
        let deadline = Instant::now() + RELEASE;
        // What has services of this name now was deployed by somebody else: the run's own are gone by then.
        let services = self.engine.all_services().await?;
        // Those of a stack that the run has made only parts for were there before it.
        let made = parts.iter().any(|part| part.kind == STACK_PART);
        let lives = made && services.iter().any(|it| is_of_stack(it, stack));
        for part in parts.iter().rev() {
            let there = match part.kind.as_str() {
                STACK_PART if !lives => continue,
                STACK_PART => None,
                _ => match self.engine.part(part).await? {
                    Some(there) => Some(there),
                    None => continue,
                },
            };
            // Services are removed with their stack.
            let ours = part.kind != SERVICE && may_go(part, lives, data);
            let there = there.filter(|it| ours && is_made_by(it, part, stack, run));
            let gone = match there {
                Some(volume) if part.kind == VOLUME => {
                    let wanted = data || is_empty(self.engine.is_here(), &volume);
                    // Between two tasks of a service no container uses it, and the engine would remove it.
                    let used = wanted && !self.users_of(&part.name).await?.is_empty();
                    wanted && !used && self.engine.remove_volume(&part.name, deadline).await?
                }
                // What a service is described to use the engine does not give up.
                Some(thing) if services.iter().any(|it| uses(it, part, &thing)) => false,
                Some(thing) => {
                    let attached = self.engine.is_attached(part, &thing).await;
                    !attached && self.engine.remove_part(part, &thing, deadline).await?
                }
                None => false,
            };
            if !gone {
                left.push(part.clone());
            }
        }
        left.reverse();
        Ok(left)
    }

    /// See [`Stacks::records`](crate::contract::Stacks::records).
    pub(super) async fn kept_by_backups(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        for config in self.engine.listed("configs").await? {
            if let Some(name) = name_of(&config).filter(|_| !lock::is_any(&config)) {
                let path = CONFIGS.replace('*', &name);
                let described = serde_json::to_vec_pretty(&json!([config])).unwrap_or_default();
                files.push((path, described));
            }
        }
        let secrets = self.engine.listed("secrets").await?;
        let mut names: Vec<String> = secrets.iter().filter_map(name_of).collect();
        names.sort();
        if !names.is_empty() {
            let list = names.join("\n") + "\n";
            files.push((SECRETS.to_owned(), list.into_bytes()));
        }
        files.extend(described::networks(self.engine.listed("networks").await?));
        files.extend(described::volumes(self.engine.all_volumes(None).await?));
        Ok(files)
    }
}

/// Whether something that a run has made may go, where services of the stack's name are there now (`lives`): what
/// the stack's files make is theirs by its label, and what is in a volume may be, which goes with its `data`.
fn may_go(part: &StackPart, lives: bool, data: bool) -> bool {
    !lives || (part.external && !(data && part.kind == VOLUME))
}

/// Whether a service is described to use a network, config or secret.
fn uses(service: &ServiceSnapshot, part: &StackPart, thing: &Value) -> bool {
    let id = text(thing, "/ID").or_else(|| text(thing, "/Id"));
    let spec = service.spec.to_string();
    let by_id = id.is_some_and(|id| spec.contains(&format!("\"{id}\"")));
    // Networks may be named, too.
    by_id || (part.kind == NETWORK && spec.contains(&format!("\"Target\":\"{}\"", part.name)))
}

/// Why the file of a secret is of no use; nothing where none is given.
async fn unfit_secret(stack: &str, source: &StackSource, name: &str) -> Option<Finding> {
    let bytes = match source.secrets.read(name).await {
        Ok(value) => value?.len(),
        Err(error) => return Some(Finding::from_error(stack, &error)),
    };
    let fits = (1..SECRET_BYTES).contains(&bytes);
    (!fits).then(|| {
        Finding::error(
            "swarm.secret_size",
            stack,
            format!(
                "the file for the secret {name} has {bytes} bytes, and a swarm takes 1 to {} of them",
                SECRET_BYTES - 1
            ),
        )
        .hint("name the right file: --secret NAME=FILE, or --secrets DIR")
    })
}

/// What is said of networks and volumes of which the backup does not say how they were, or that are made otherwise.
fn made_otherwise(
    stack: &str,
    source: &StackSource,
    parts: &[StackPart],
    subnets: &[String],
) -> Result<Vec<Finding>> {
    let (mut plain, mut taken) = (Vec::new(), Vec::new());
    for part in parts {
        let pattern = match part.kind.as_str() {
            NETWORK => described::NETWORKS,
            VOLUME => described::VOLUMES,
            _ => continue,
        };
        match described::of_backup(source, pattern, &part.name)? {
            None => plain.push(part.to_string()),
            Some(was) if part.kind == NETWORK => {
                let subnet = described::taken_of(&was, subnets);
                taken.extend(subnet.map(|subnet| (part.name.clone(), subnet)));
            }
            Some(_) => {}
        }
    }
    Ok(described::findings(stack, &plain, &taken))
}

/// What is missing for a stack, each told once for all.
fn missing_findings(
    stack: &str,
    secrets: &[String],
    configs: &[String],
    left: &[String],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !secrets.is_empty() {
        findings.push(
            Finding::error(
                "swarm.secrets_missing",
                stack,
                format!(
                    "it needs secrets that no backup has the values of: {}",
                    listed(secrets)
                ),
            )
            .hint("name a file for each, --secret NAME=FILE, or the directory that has a file of each name, --secrets DIR"),
        );
    }
    if !configs.is_empty() {
        findings.push(
            Finding::error(
                "swarm.configs_missing",
                stack,
                format!(
                    "it needs configs that neither the swarm nor the backup has: {}",
                    listed(configs)
                ),
            )
            .hint("make them before the restore: `docker config create NAME FILE`; backups have them as configs/swarm-config-NAME.json"),
        );
    }
    if !left.is_empty() {
        findings.push(
            Finding::warning(
                "swarm.secrets_left",
                stack,
                format!(
                    "secrets that there were at the backup, that the stack's files do not name and that are not made: {}",
                    listed(left)
                ),
            )
            .hint("where another service needs one, give its value: --secret NAME=FILE"),
        );
    }
    findings
}

/// Whether a container is neither a task of a service nor one of ours, which goes with its work.
fn is_no_task(container: &Value) -> bool {
    label(container, SERVICE_ID).is_none() && label(container, SITE).is_none()
}

/// Whether nothing is in a volume, where its engine is `here`: what another host has is not seen from here, and
/// this one may have an empty directory of the same path.
fn is_empty(here: bool, volume: &Value) -> bool {
    let directory = directory_of(volume).filter(|_| here);
    let listed = directory.map(std::fs::read_dir);
    listed.is_some_and(|it| it.is_ok_and(|mut it| it.next().is_none()))
}

impl Engine {
    /// What the engine says of a part, where it is there.
    async fn part(&self, part: &StackPart) -> Result<Option<Value>> {
        if part.kind == VOLUME {
            return self.volume(&part.name).await;
        }
        let there = There::look(self, &part.kind).await?;
        Ok(there.find(&part.name).cloned())
    }

    /// The volumes of this node, or those of a stack.
    pub(super) async fn all_volumes(&self, of: Option<&str>) -> Result<Vec<Value>> {
        let path = match of {
            None => "/volumes".to_owned(),
            Some(stack) => {
                let filter = json!({"label": [format!("{STACK}={stack}")]}).to_string();
                format!("/volumes?filters={}", encoded(&filter))
            }
        };
        let listed = self
            .patiently(|| async {
                self.docker().await?;
                self.get("list the volumes", &path).await
            })
            .await?;
        let all = listed.get("Volumes").and_then(Value::as_array);
        Ok(all.cloned().unwrap_or_default())
    }

    /// Whether a container that is no task of a service is in a network: that one is not on its way out.
    async fn is_attached(&self, part: &StackPart, thing: &Value) -> bool {
        let id = text(thing, "/Id").filter(|_| part.kind == NETWORK);
        let Some(id) = id else {
            return false;
        };
        let filter = encoded(&json!({"network": [id]}).to_string());
        let path = format!("/containers/json?filters={filter}");
        // Where it is not known the engine refuses what is in use.
        let users = self.get("list the containers of a network", &path).await;
        let users = users.unwrap_or_default();
        users.as_array().into_iter().flatten().any(is_no_task)
    }

    /// Removes a part; `false` where somebody else still uses it at the `deadline`.
    async fn remove_part(
        &self,
        part: &StackPart,
        thing: &Value,
        deadline: Instant,
    ) -> Result<bool> {
        let id = text(thing, "/ID").or_else(|| text(thing, "/Id"));
        let path = format!("/{}s/{}", part.kind, id.unwrap_or_default());
        let what = format!("remove the {part}, which the run had made");
        let removed = until_released_by(deadline, || async {
            match self.delete(&what, &path).await {
                Err(e) if e.is(&Refused::NotFound) => Ok(()),
                done => done,
            }
        });
        match removed.await {
            // Somebody else uses it by now.
            Err(e) if !e.is_retryable() => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// Removes a volume, with the containers of tasks of removed services that keep it; `false` where somebody
    /// else uses it.
    async fn remove_volume(&self, name: &str, deadline: Instant) -> Result<bool> {
        let filter = encoded(&json!({"volume": [name]}).to_string());
        let users = self
            .get(
                "list the containers of a volume",
                &format!("/containers/json?all=1&filters={filter}"),
            )
            .await?;
        if users.as_array().into_iter().flatten().any(is_no_task) {
            return Ok(false);
        }
        let services = self.listed("services").await?;
        let is_there = |id: &str| {
            services
                .iter()
                .any(|it| text(it, "/ID").as_deref() == Some(id))
        };
        for container in users.as_array().into_iter().flatten() {
            let service = label(container, SERVICE_ID);
            let (Some(service), Some(id)) = (service, text(container, "/Id")) else {
                continue;
            };
            if !is_there(&service) {
                let what = "remove the container of a task that has ended";
                let path = format!("/containers/{id}?force=true");
                match self.delete(what, &path).await {
                    Err(e) if e.is(&Refused::NotFound) || e.is(&Refused::Leaving) => {}
                    done => done?,
                }
            }
        }
        let part = StackPart::new(VOLUME, name);
        let volume = json!({"Id": name});
        self.remove_part(&part, &volume, deadline).await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use super::*;
    use crate::contract::{Platform, SecretFiles, SiteConfig};
    use crate::model::Severity;
    use crate::platforms::docker::fake::FakeEngine;
    use crate::platforms::swarm::make;

    /// A platform over an engine that has nothing but what `more` answers.
    fn platform(
        base: &Path,
        more: impl Fn(&str) -> Option<(u16, String)> + Send + 'static,
    ) -> (FakeEngine, Arc<dyn Platform>) {
        let fake = FakeEngine::new(move |request| {
            let lists = ["configs", "networks", "secrets", "services"];
            let is_list = lists.iter().any(|kind| request == format!("GET /{kind}"));
            more(request).unwrap_or_else(|| match is_list {
                true => (200, "[]".to_owned()),
                false => (404, r#"{"message": "there is none"}"#.to_owned()),
            })
        });
        let text = format!(
            "[site]\nname = 'tests'\nstate = 'state'\n[stores.main]\nkind = 'directory'\npath = 'backups'\n\
             [platform]\nkind = 'swarm'\nsocket = '{}'\n[components]\n",
            fake.socket().display()
        );
        let config = SiteConfig::from_toml(&text).unwrap();
        let platform = make(&config, base, Path::new("state")).unwrap();
        (fake, platform)
    }

    /// The codes of what speaks against a stack of this file, and of what is worth knowing.
    async fn told(
        platform: &Arc<dyn Platform>,
        source: &StackSource,
    ) -> (Vec<String>, Vec<String>) {
        let stacks = platform.stacks().unwrap();
        let plan = stacks.plan("shop", source).await.unwrap();
        let is_error = |it: &Finding| it.severity == Severity::Error;
        let (errors, rest): (Vec<Finding>, Vec<Finding>) =
            plan.findings.into_iter().partition(is_error);
        let codes = |all: Vec<Finding>| all.into_iter().map(|it| it.code).collect();
        (codes(errors), codes(rest))
    }

    #[tokio::test]
    async fn files_of_secrets_are_read_when_the_stack_is_planned() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content, mode) in [
            ("good", "x".to_owned(), 0o600),
            ("open", "x".to_owned(), 0o644),
            ("empty", String::new(), 0o600),
            ("large", "x".repeat(SECRET_BYTES), 0o600),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut source = source(&[]);
        let mut text = "services: {web: {image: x}}\nsecrets:\n".to_owned();
        for name in ["empty", "gone", "good", "large", "open"] {
            text += &format!("  {name}: {{external: true}}\n");
        }
        source.compose = vec![("/opt/stacks/shop.yml".into(), text)];
        source.secrets = SecretFiles::default()
            .with("gone", dir.path().join("gone"))
            .in_directory(dir.path().to_owned());
        let (_fake, platform) = platform(dir.path(), |_| None);
        let (errors, _) = told(&platform, &source).await;
        assert_eq!(
            errors,
            [
                "swarm.secret_size",
                "config.secret_unreadable",
                "swarm.secret_size",
                "config.secret_open"
            ]
        );
    }

    #[tokio::test]
    async fn a_file_beside_the_tree_is_not_restored_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("opt/shop");
        let mut source = StackSource::new(RunId::generate(), &tree);
        let text = "services: {web: {image: x}}\nsecrets:\n  own: {file: ../secrets/own}\n  with: {file: ./with}\n";
        source.compose = vec![(tree.join("shop.yml"), text.to_owned())];
        let (_fake, platform) = platform(dir.path(), |_| None);
        let (errors, _) = told(&platform, &source).await;
        assert_eq!(errors, ["swarm.file_missing"]);
        // Its own directory comes with the restore.
        std::fs::create_dir_all(dir.path().join("opt/secrets")).unwrap();
        std::fs::write(dir.path().join("opt/secrets/own"), "x").unwrap();
        assert_eq!(told(&platform, &source).await.0, [""; 0]);
    }

    #[tokio::test]
    async fn what_is_made_plain_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (_fake, platform) = platform(dir.path(), |_| None);
        let text = "services: {web: {image: x, networks: [front]}}\nnetworks:\n  front: {external: true}\n\
                    volumes:\n  pages: {external: true}\n";
        let with = |files: &[(&str, &str)]| {
            let mut source = source(files);
            source.compose = vec![("/opt/stacks/shop.yml".into(), text.to_owned())];
            source
        };
        let (errors, rest) = told(&platform, &with(&[])).await;
        assert_eq!(
            (errors, rest),
            (vec![], vec!["swarm.made_plain".to_owned()])
        );
        let kept = [
            ("configs/swarm-network-front.json", r#"[{"Name": "front"}]"#),
            ("configs/swarm-volume-pages.json", r#"[{"Name": "pages"}]"#),
        ];
        assert_eq!(told(&platform, &with(&kept)).await, (vec![], vec![]));
    }

    /// An earlier run's parts are another one's, once a stack of that name is there again.
    #[tokio::test]
    async fn what_a_stack_has_that_was_deployed_since_stays() {
        let run = RunId::generate();
        let by_run = json!({MADE_BY: run.as_str()});
        let service = |stack: &str, volume: &str, network: &str| {
            json!({
                "ID": format!("{stack}1"), "Version": {"Index": 1}, "Spec": {
                    "Name": format!("{stack}_web"), "Labels": {STACK: stack}, "Mode": {"Replicated": {"Replicas": 0}},
                    "TaskTemplate": {
                        "ContainerSpec": {"Mounts": [{"Type": "volume", "Source": volume, "Target": "/d"}]},
                        "Networks": [{"Target": network}],
                    },
                },
            })
        };
        let part = |kind: &str, name: &str| StackPart::new(kind, name);
        let parts = [
            part(NETWORK, "front").external(),
            part(VOLUME, "shared").external(),
            part(SECRET, "key").external(),
            part(STACK_PART, "shop"),
            part(VOLUME, "shop_data"),
            part(SERVICE, "shop_web"),
        ];
        for (service, left, deleted) in [
            // A service that is scaled to nothing has no container for the engine to see.
            (
                service("shop", "shop_data", "n"),
                vec![0, 1, 3, 4, 5],
                vec!["DELETE /secrets/k"],
            ),
            // One of another stack, which uses the volume that this one's files call external.
            (
                service("blog", "shared", "another"),
                vec![1],
                vec![
                    "DELETE /volumes/shop_data",
                    "DELETE /secrets/k",
                    "DELETE /networks/n",
                ],
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let name = name_of(&service).unwrap();
            let by_run = by_run.clone();
            let (fake, platform) = platform(dir.path(), move |request| {
                let answer = match request {
                    "GET /services" => json!([service]),
                    "GET /networks" => json!([{"Name": "front", "Id": "n", "Labels": by_run}]),
                    "GET /secrets" => {
                        json!([{"ID": "k", "Spec": {"Name": "key", "Labels": by_run}}])
                    }
                    "GET /volumes/shared" => json!({"Name": "shared", "Labels": by_run}),
                    "GET /volumes/shop_data" => {
                        json!({"Name": "shop_data", "Labels": {STACK: "shop"}})
                    }
                    _ if request.starts_with("DELETE ") => json!({}),
                    _ if request == format!("GET /services/{name}") => service.clone(),
                    _ if request.starts_with("GET /tasks") => json!([]),
                    _ if request.starts_with("GET /containers/json") => json!([]),
                    _ => return None,
                };
                Some((200, answer.to_string()))
            });
            let stacks = platform.stacks().unwrap();
            let stay = stacks.remove_parts("shop", &run, &parts, true).await;
            let wanted: Vec<StackPart> = left
                .iter()
                .filter_map(|at| parts.get(*at).cloned())
                .collect();
            assert_eq!(stay.unwrap(), wanted);
            let asked = fake.asked().into_iter().map(|(request, _)| request);
            let asked: Vec<String> = asked.filter(|it| it.starts_with("DELETE ")).collect();
            assert_eq!(asked, deleted);
        }
    }

    /// Nobody waits for a container that an operator has started.
    #[tokio::test]
    async fn what_a_container_of_somebody_else_uses_stays_at_once() {
        let run = RunId::generate();
        let by_run = json!({MADE_BY: run.as_str()});
        let parts = [
            StackPart::new(NETWORK, "front").external(),
            StackPart::new(VOLUME, "shared").external(),
        ];
        let dir = tempfile::tempdir().unwrap();
        let (fake, platform) = platform(dir.path(), move |request| {
            let answer = match request {
                "GET /networks" => json!([{"Name": "front", "Id": "n", "Labels": by_run}]),
                "GET /volumes/shared" => json!({"Name": "shared", "Labels": by_run}),
                _ if request.starts_with("GET /containers/json") => {
                    json!([{"Id": "c", "Labels": {"by": "hand"}}])
                }
                _ if request.starts_with("DELETE ") => {
                    let refused = json!({"message": "it is in use"});
                    return Some((409, refused.to_string()));
                }
                _ => return None,
            };
            Some((200, answer.to_string()))
        });
        let stacks = platform.stacks().unwrap();
        let stay = stacks.remove_parts("shop", &run, &parts, true).await;
        assert_eq!(stay.unwrap(), parts);
        let asked = fake.asked().into_iter();
        let tried: Vec<_> = asked.filter(|(it, _)| it.starts_with("DELETE ")).collect();
        assert!(tried.is_empty(), "{tried:?}");
    }

    #[test]
    fn a_volume_of_another_host_is_not_taken_for_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let volume = json!({"Name": "data", "Driver": "local", "Mountpoint": path});
        assert!(is_empty(true, &volume));
        assert!(!is_empty(false, &volume));
        std::fs::write(dir.path().join("order"), "theirs").unwrap();
        assert!(!is_empty(true, &volume));
    }

    fn source(files: &[(&str, &str)]) -> StackSource {
        let mut source = StackSource::new(RunId::generate(), "/opt/stacks");
        let files = files.iter();
        source.files = files
            .map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec()))
            .collect();
        source
    }

    #[test]
    fn configs_and_names_of_secrets_are_read_as_backups_have_them() {
        let config =
            r#"[{"ID": "x", "Spec": {"Name": "site.conf", "Labels": {"a": "b"}, "Data": "eA=="}}]"#;
        let own = r#"{"Spec": {"Name": "shop_x", "Labels": {"com.docker.stack.namespace": "shop"}, "Data": "eA=="}}"#;
        let found = source(&[
            ("configs/swarm-config-site.conf.json", config),
            ("configs/swarm-config-shop_x.json", own),
            ("configs/swarm-secrets-list.txt", "tls.key\n\n db.pass \n"),
        ]);
        let specs = configs_of("shop", &found).unwrap();
        assert_eq!(specs.len(), 1);
        assert_eq!(specs[0]["Name"], "site.conf");
        assert_eq!(configs_of("other", &found).unwrap().len(), 2);
        assert_eq!(secrets_of(&found), ["tls.key", "db.pass"]);
        assert_eq!(secrets_of(&source(&[])), [""; 0]);
        for broken in ["{", "[{}]", r#"[{"Spec": {"Name": "x"}}]"#] {
            let found = source(&[("configs/swarm-config-x.json", broken)]);
            let error = configs_of("shop", &found).unwrap_err();
            assert_eq!(error.code(), "swarm.config_unreadable", "{broken}");
        }
    }
}
