//! Projects that are absent: made from compose files by Docker Compose itself, and removed again.
//!
//! A project that has containers is never deployed anew: what runs is what is restored, and the way back
//! would need containers that are no more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ComposePlatform;
use super::containers::{Container, NUMBER, PROJECT, SERVICE, label};
use super::counts::{self, Counts, Told};
use super::{logs, stop};
use crate::contract::{StackPart, StackPlan, StackSource, Stacks};
use crate::model::{Error, ErrorKind, Finding, Result, RunId, Timestamp};
use crate::platforms::docker::client_program::{output, run};
use crate::platforms::docker::engine::Refused;
use crate::platforms::docker::json::{encoded, text};
use crate::platforms::docker::mounts::directory_of;
use crate::platforms::docker::yaml;
use crate::sys::blocking::blocking;
use crate::sys::process::command::Command;
use crate::sys::read_small;
use crate::sys::retry::Retry;

/// Longer than Compose takes to make and start containers of images that are there.
const DEPLOY: Duration = Duration::from_secs(300);

/// How long what it has started may take to be ready.
const START: Duration = Duration::from_secs(120);

/// How long the engine may take to give up a network that is no longer used.
const RELEASE: Duration = Duration::from_secs(30);

/// How long a question to the program may take.
const ASK: Duration = Duration::from_secs(20);

/// How long all that it has started must stay up before that counts.
const SETTLED: Duration = Duration::from_secs(2);

/// How often the engine is asked.
const LOOK: Duration = Duration::from_millis(200);

/// The keys of a snapshot.
const CONTAINERS: &str = "containers";
const NETWORKS: &str = "networks";
const VOLUMES: &str = "volumes";
/// How many containers services had when the project was backed up.
const RAN: &str = "ran";

/// A project's `.env` has no more bytes.
const ENV: u64 = 1 << 20;

/// Where a project's files are, by the first of them.
fn directory(files: &[PathBuf]) -> Option<PathBuf> {
    files.first()?.parent().map(PathBuf::from)
}

fn had_containers(snapshot: &Value) -> bool {
    snapshot.get(CONTAINERS).and_then(Value::as_u64) != Some(0)
}

fn had(snapshot: &Value, kind: &str, name: &str) -> bool {
    let names = snapshot.get(kind).and_then(Value::as_array);
    names.is_some_and(|names| names.iter().any(|it| it.as_str() == Some(name)))
}

/// Docker Compose as docker's plugin, or as the program that it was before.
async fn composer() -> Result<Vec<String>> {
    let plugin = ["docker", "compose"];
    let program = ["docker-compose"];
    let mut first = None;
    for words in [&plugin[..], &program[..]] {
        let asked = words.iter().copied().chain(["version"]);
        match run(Command::new(asked), ASK).await {
            Ok(()) => return Ok(words.iter().map(|word| (*word).to_owned()).collect()),
            Err(error) => first.get_or_insert(error),
        };
    }
    let error = first.map_or_else(String::new, |error| error.message().to_owned());
    Err(Error::new(
        ErrorKind::Preflight,
        "compose.no_program",
        format!("Docker Compose is not on this host: {error}"),
    )
    .hint("install it (docker-compose-plugin, or docker-compose), or set redeploy = false"))
}

impl ComposePlatform {
    /// A command of Docker Compose where the first of these files is, and its `.env`.
    fn composed(&self, argv: Vec<String>, files: &[PathBuf]) -> Command {
        let mut command = Command::new(argv)
            .env(
                "DOCKER_HOST",
                format!("unix://{}", self.config.socket.display()),
            )
            .env("DOCKER_CONTEXT", "")
            .env("DOCKER_TLS_VERIFY", "");
        command.dir = directory(files);
        command
    }

    /// What Docker Compose, called `program`, has to be told for a project to run as when it was backed up.
    async fn as_it_ran(&self, program: &[String], files: &[PathBuf], snapshot: &Value) -> Told {
        let Some(ran) = snapshot.get(RAN).and_then(Counts::read) else {
            return Told::default();
        };
        let asked = ["--profile", "*", "config"].map(str::to_owned);
        let argv = program.iter().cloned().chain(asked).collect();
        // What is wrong with the files the deployment says.
        let said = output(self.composed(argv, files), ASK).await;
        let described = said.ok().and_then(|said| yaml::document(&said).ok());
        let path = directory(files).unwrap_or_default().join(".env");
        let env = blocking(move || Ok(read_small(&path, ENV).unwrap_or_default())).await;
        let env = String::from_utf8_lossy(&env.unwrap_or_default()).into_owned();
        ran.told(
            &described.unwrap_or_default(),
            counts::profiles_of_env(&env),
        )
    }

    /// All containers of a project, those for one command included.
    async fn containers_of(&self, project: &str) -> Result<Vec<Container>> {
        let mut all = Vec::new();
        let listed = self
            .engine
            // Every container of an image that Compose has built has the first; only Compose's own have a number.
            .containers_with(&[format!("{PROJECT}={project}"), NUMBER.to_owned()])
            .await?;
        for container in listed {
            if let Some(id) = text(&container, "/Id") {
                all.extend(self.engine.container(&id).await?);
            }
        }
        Ok(all)
    }

    /// The networks or volumes of a project, as the engine lists them.
    async fn things_of(&self, project: &str, kind: &str) -> Result<Vec<Value>> {
        let filter = encoded(&json!({"label": [format!("{PROJECT}={project}")]}).to_string());
        let path = format!("/{kind}?filters={filter}");
        let engine = &self.engine;
        let listed = engine
            .patiently(|| async {
                engine.docker().await?;
                let what = format!("list the {kind} of the project {project}");
                engine.get(&what, &path).await
            })
            .await?;
        let things = match kind {
            VOLUMES => listed.get("Volumes").and_then(Value::as_array),
            _ => listed.as_array(),
        };
        Ok(things.cloned().unwrap_or_default())
    }

    async fn names_of(&self, project: &str, kind: &str) -> Result<Vec<String>> {
        let things = self.things_of(project, kind).await?;
        Ok(things.iter().filter_map(|it| text(it, "/Name")).collect())
    }

    /// The services of a project that had no container up when it was backed up, and that the site does not name.
    fn idle_of(&self, project: &str, snapshot: &Value) -> BTreeSet<String> {
        let ran = snapshot.get(RAN).and_then(Counts::read).unwrap_or_default();
        let mut idle = ran.idle();
        let names = self.config.services.iter().map(|it| &it.name);
        for name in names.filter(|it| it.project == project) {
            idle.remove(&name.service);
        }
        idle
    }

    /// Returns once each container of a project, which was begun to be made then, runs and is well, or has
    /// come to a good end; those of `idle` services need not.
    async fn all_ready(
        &self,
        project: &str,
        begun: Timestamp,
        idle: &BTreeSet<String>,
    ) -> Result<()> {
        let services = self.config.services.iter();
        let services = services.filter(|it| it.name.project == project);
        let patience = services.map(|it| it.start_timeout).max().unwrap_or(START);
        let deadline = Instant::now() + patience;
        let mut settled: Option<(BTreeMap<String, String>, Instant)> = None;
        loop {
            let mut all = self.containers_of(project).await?;
            all.retain(|it| !is_of(it, idle));
            let not_yet = all
                .iter()
                .find_map(|it| why_not_ready(it).map(|why| (it, why)));
            let Some((container, why)) = not_yet else {
                // One that its engine starts again and again is up at many a look.
                let starts = all.iter().map(|it| (it.id.clone(), it.started_at()));
                let starts: BTreeMap<String, String> = starts.collect();
                match &settled {
                    Some((known, since)) if *known == starts => {
                        if since.elapsed() >= SETTLED {
                            return Ok(());
                        }
                    }
                    _ => settled = Some((starts, Instant::now())),
                }
                if Instant::now() >= deadline + SETTLED {
                    return Err(restarts(project, patience));
                }
                tokio::time::sleep(LOOK).await;
                continue;
            };
            settled = None;
            if Instant::now() >= deadline {
                let said = logs::of_containers(&self.engine, [container].into_iter(), begun, 5);
                let said = said.await.unwrap_or_default().join("; ");
                return Err(Error::new(
                    ErrorKind::Failed,
                    "compose.not_up",
                    format!(
                        "the container {} of the project {project} {why} after {} s; its last words: {said}",
                        container.name,
                        patience.as_secs()
                    ),
                )
                .hint(format!(
                    "`docker logs {}` says why; {WAY_ON}",
                    container.name
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn remove_container(&self, container: &Container) -> Result<()> {
        let (id, name) = (&container.id, &container.name);
        let gone = |done: Result<()>| match done {
            Err(e) if e.is(&Refused::NotFound) => Ok(()),
            done => done,
        };
        if container.is_up() {
            let stopped = stop::end(&self.engine, id, None, container.grace()).await;
            // It may have ended by itself just then, which the engine has no word for.
            let now = self.engine.container(id).await?;
            if now.is_some_and(|now| now.is_up()) {
                let what = format!("stop the container {name}, which the deployment had made");
                stopped.map_err(|e| e.context(what))?;
            }
        }
        let full = self.nameless_and_full(container).await?;
        let none = full.is_empty();
        self.kept.add(&project_of(container), full).await?;
        let what = format!("remove the container {name}, which the deployment had made");
        // With it go volumes without a name, which were made with it, where nothing is in any of them.
        let path = format!("/containers/{id}?force=true&v={none}");
        gone(self.engine.delete(&what, &path).await)
    }

    /// The volumes of a container that nobody has named, and in which something is, or may be.
    async fn nameless_and_full(&self, container: &Container) -> Result<Vec<String>> {
        let mut full = Vec::new();
        for mount in container.mounts() {
            if mount.kind != "volume" || !is_nameless(&mount.volume) {
                continue;
            }
            let what = format!("look at the volume {}", mount.volume);
            let path = format!("/volumes/{}", encoded(&mount.volume));
            match self.engine.get(&what, &path).await {
                Ok(volume) if is_empty(&volume) => {}
                Ok(_) => full.push(mount.volume),
                Err(e) if e.is(&Refused::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(full)
    }

    /// Deletes something that is in use for a moment after its last container is gone.
    async fn remove_thing(&self, kind: &str, name: &str) -> Result<()> {
        let what = format!("remove {name} of the {kind}, which the deployment had made");
        let retry = Retry::within(RELEASE, LOOK);
        loop {
            match self.engine.delete(&what, &format!("/{kind}/{name}")).await {
                Err(e) if e.is(&Refused::NotFound) => return Ok(()),
                Err(_) if !retry.is_over() => retry.pause().await,
                done => return done,
            }
        }
    }
}

/// Whether the engine has made this name up.
fn is_nameless(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether nothing is in a volume, where that can be seen from here.
pub(super) fn is_empty(volume: &Value) -> bool {
    let path = directory_of(volume);
    path.is_some_and(|path| std::fs::read_dir(path).is_ok_and(|mut it| it.next().is_none()))
}

fn project_of(container: &Container) -> String {
    text(&container.seen, &format!("/Config/Labels/{PROJECT}")).unwrap_or_default()
}

fn restarts(project: &str, patience: Duration) -> Error {
    Error::new(
        ErrorKind::Failed,
        "compose.not_up",
        format!(
            "containers of the project {project} are started again and again after {} s",
            patience.as_secs()
        ),
    )
    .hint(format!(
        "`docker ps -a` and `docker logs CONTAINER` say which and why; {WAY_ON}"
    ))
}

/// How a project is restored with a container that does not come up.
const WAY_ON: &str = "where the project is to be restored without it, set redeploy = false, restore the files alone, make the project by hand (`docker compose up -d` in its directory) and then restore its data";

/// Whether a container is of one of these services.
fn is_of(container: &Container, services: &BTreeSet<String>) -> bool {
    let service = label(container.seen.pointer("/Config/Labels"), SERVICE);
    service.is_some_and(|it| services.contains(&it))
}

/// What is said of containers that do not run, of services that did not when the project was backed up.
fn down_as_before(
    project: &str,
    containers: &[Container],
    idle: &BTreeSet<String>,
) -> Option<Finding> {
    // One that has only begun may well come up.
    let starts = |it: &&Container| {
        let said = |path| text(&it.seen, path).unwrap_or_default();
        said("/State/Status") == "running" && said("/State/Health/Status") == "starting"
    };
    let of_idle = containers
        .iter()
        .filter(|it| is_of(it, idle) && !starts(it));
    let down = of_idle.filter_map(|it| Some(format!("{} {}", it.name, why_not_ready(it)?)));
    let down: Vec<String> = down.collect();
    (!down.is_empty()).then(|| {
        Finding::warning(
            "compose.down_as_before",
            project,
            format!(
                "the project was made, and these containers do not run, as none of their services did when it was backed up: {}",
                down.join(", ")
            ),
        )
        .hint("`docker logs CONTAINER` says why; name the service in [services] where a restore is to wait for it")
    })
}

/// Why a container does not run as it should; `None` where it does, or has come to a good end.
fn why_not_ready(container: &Container) -> Option<String> {
    let seen = &container.seen;
    let status = text(seen, "/State/Status").unwrap_or_default();
    let code = seen.pointer("/State/ExitCode").and_then(Value::as_i64);
    match (
        status.as_str(),
        text(seen, "/State/Health/Status").as_deref(),
    ) {
        ("running", None | Some("healthy" | "none")) => None,
        ("running", Some(health)) => Some(format!("is {health}")),
        ("exited", _) if code == Some(0) => None,
        ("exited", _) => Some(format!("has ended with exit code {}", code.unwrap_or(-1))),
        (status, _) => Some(format!("is {status}")),
    }
}

#[async_trait]
impl Stacks for ComposePlatform {
    fn noun(&self) -> &'static str {
        "project"
    }

    async fn is_absent(&self, stack: &str) -> Result<bool> {
        Ok(self.containers_of(stack).await?.is_empty())
    }

    fn reads(&self) -> &'static [&'static str] {
        counts::READ
    }

    async fn records_of(&self, stack: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let counts = Counts::of(&self.containers_of(stack).await?);
        if counts.is_empty() {
            return Ok(Vec::new());
        }
        let text = serde_json::to_vec_pretty(&counts.to_json()).unwrap_or_default();
        Ok(vec![(Counts::file_of(stack), text)])
    }

    fn as_backed_up(&self, stack: &str, source: &StackSource, mut snapshot: Value) -> Value {
        let file = source.files.get(&Counts::file_of(stack));
        let ran: Option<Value> = file.and_then(|it| serde_json::from_slice(it).ok());
        if let Some(ran) = ran.as_ref().and_then(Counts::read)
            && let Some(snapshot) = snapshot.as_object_mut()
        {
            snapshot.insert(RAN.to_owned(), ran.to_json());
        }
        snapshot
    }

    async fn plan(&self, stack: &str, source: &StackSource) -> Result<StackPlan> {
        let mut plan = StackPlan::default();
        self.plan_external(stack, source, &mut plan).await?;
        plan.parts.push(StackPart::new(self.noun(), stack));
        Ok(plan)
    }

    async fn make_parts(&self, source: &StackSource, parts: &[StackPart]) -> Result<()> {
        self.make_external(source, parts).await
    }

    async fn remove_parts(
        &self,
        stack: &str,
        run: &RunId,
        parts: &[StackPart],
        data: bool,
    ) -> Result<Vec<StackPart>> {
        let mut left = self.remove_external(run, parts, data).await?;
        // The rest went with the deployment, but for volumes in which something is.
        if !self.is_absent(stack).await? {
            left.extend(parts.iter().filter(|part| !part.external).cloned());
        }
        Ok(left)
    }

    async fn left(&self, stack: &str, snapshot: &Value) -> Result<Vec<String>> {
        if had_containers(snapshot) {
            return Ok(Vec::new());
        }
        let names = self.names_of(stack, VOLUMES).await?.into_iter();
        let mut left: Vec<String> = names.filter(|name| !had(snapshot, VOLUMES, name)).collect();
        for name in self.kept.read(stack).await? {
            if self.engine.volume(&name).await?.is_some() {
                left.push(name);
            }
        }
        Ok(left.iter().map(|name| format!("volume {name}")).collect())
    }

    async fn inspect(&self, stack: &str) -> Result<Vec<Finding>> {
        if !self.containers_of(stack).await?.is_empty() {
            return Ok(vec![
                Finding::info(
                    "compose.not_redeployed",
                    stack,
                    "the project has containers, and is not deployed from the restored files: they stay as they were made",
                )
                .hint("`docker compose up -d` in its directory makes them anew after the restore, where that is wanted"),
            ]);
        }
        composer().await.map(|_| Vec::new())
    }

    async fn snapshot(&self, stack: &str) -> Result<Value> {
        Ok(json!({
            CONTAINERS: self.containers_of(stack).await?.len(),
            NETWORKS: self.names_of(stack, NETWORKS).await?,
            VOLUMES: self.names_of(stack, VOLUMES).await?,
        }))
    }

    async fn deploy(&self, stack: &str, files: &[PathBuf], snapshot: &Value) -> Result<()> {
        self.deploy_held(stack, files, files, snapshot).await
    }

    async fn deploy_held(
        &self,
        stack: &str,
        files: &[PathBuf],
        held: &[PathBuf],
        snapshot: &Value,
    ) -> Result<()> {
        if had_containers(snapshot) {
            return Ok(());
        }
        let begun = Timestamp::now();
        self.kept.forget(stack).await?;
        let mut argv = composer().await?;
        argv.extend(["-p".to_owned(), stack.to_owned()]);
        if held != files
            && let Some(directory) = directory(files)
        {
            let directory = directory.display().to_string();
            argv.extend(["--project-directory".to_owned(), directory]);
        }
        for file in held {
            argv.extend(["-f".to_owned(), file.display().to_string()]);
        }
        let told = self.as_it_ran(&argv, files, snapshot).await;
        for profile in told.profiles {
            argv.extend(["--profile".to_owned(), profile]);
        }
        argv.extend(["up", "-d", "--no-build"].map(str::to_owned));
        for service in told.scale {
            argv.extend(["--scale".to_owned(), service]);
        }
        run(self.composed(argv, files), DEPLOY).await.map_err(|e| {
            e.context(format!("the project {stack} cannot be deployed"))
                .hint("the compose files of the backup may need images (`docker-compose pull` by hand brings those that a registry has, however long that takes), files with secrets, networks or variables that are not here; or set redeploy = false, and deploy by hand")
        })?;
        let idle = self.idle_of(stack, snapshot);
        self.all_ready(stack, begun, &idle).await
    }

    async fn shortfall(&self, stack: &str, snapshot: &Value) -> Result<Vec<Finding>> {
        if had_containers(snapshot) {
            return Ok(Vec::new());
        }
        let containers = self.containers_of(stack).await?;
        let now = Counts::of(&containers);
        let ran = snapshot.get(RAN).and_then(Counts::read).unwrap_or_default();
        let names = self.config.services.iter().map(|it| &it.name);
        let named = names.filter(|it| it.project == stack);
        let named = named.map(|it| it.service.clone()).collect();
        let mut findings = ran.shortfall(stack, &now, named);
        let idle = self.idle_of(stack, snapshot);
        findings.extend(down_as_before(stack, &containers, &idle));
        Ok(findings)
    }

    async fn put_back(&self, stack: &str, snapshot: &Value) -> Result<()> {
        if had_containers(snapshot) {
            return Ok(());
        }
        for container in self.containers_of(stack).await? {
            self.remove_container(&container).await?;
        }
        for name in self.names_of(stack, NETWORKS).await? {
            if !had(snapshot, NETWORKS, &name) {
                self.remove_thing(NETWORKS, &name).await?;
            }
        }
        for volume in self.things_of(stack, VOLUMES).await? {
            let Some(name) = text(&volume, "/Name") else {
                continue;
            };
            if is_empty(&volume) && !had(snapshot, VOLUMES, &name) {
                self.remove_thing(VOLUMES, &name).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::config::ComposeConfig;
    use super::super::kept_volumes::KeptVolumes;
    use super::*;
    use crate::contract::SiteConfig;
    use crate::platforms::docker::address::Address;
    use crate::platforms::docker::engine::Engine;
    use crate::platforms::docker::killed::KilledServices;

    fn container(service: &str, status: &str, code: i64) -> Container {
        let seen = json!({
            "Id": service, "Name": format!("/shop-{service}-1"),
            "Config": {"Labels": {NUMBER: "1", PROJECT: "shop", SERVICE: service}},
            "State": {"Status": status, "ExitCode": code},
        });
        Container::read(seen).unwrap()
    }

    /// The platform of a site that names the service `web` of the project `shop`. Nothing is connected to.
    fn platform() -> ComposePlatform {
        let config = SiteConfig::from_toml(
            "[site]\nname = 'tests'\nstate = 'state'\n[stores.main]\nkind = 'directory'\npath = 'backups'\n\
             [platform]\nkind = 'compose'\nproject = 'shop'\n[services.web]\n[components]\n",
        );
        let config = ComposeConfig::read(&config.unwrap(), Path::new("/srv")).unwrap();
        ComposePlatform {
            engine: Arc::new(Engine::manager(Address::Unix(config.socket.clone()))),
            killed: KilledServices::default(),
            kept: KeptVolumes::of(Path::new("/srv/state/services")),
            stopped: PathBuf::new(),
            records: PathBuf::new(),
            host: None,
            config,
        }
    }

    #[test]
    fn what_did_not_run_at_the_backup_is_not_waited_for_and_is_told() {
        let ran = json!({RAN: {"services": {"web": 0, "db": 1, "certbot": 0, "once": 0}}});
        let idle = platform().idle_of("shop", &ran);
        // The site names one: that is waited for.
        let wanted = ["certbot", "once"].map(str::to_owned);
        assert_eq!(idle, BTreeSet::from(wanted));
        let all = [
            container("web", "running", 0),
            container("db", "exited", 1),
            container("certbot", "exited", 1),
            container("once", "exited", 0),
        ];
        let waited = all.iter().filter(|it| !is_of(it, &idle));
        let waited: Vec<&str> = waited.map(|it| it.id.as_str()).collect();
        assert_eq!(waited, ["web", "db"]);
        let mut starting = container("certbot", "running", 0);
        starting.seen["State"]["Health"] = json!({"Status": "starting"});
        assert!(why_not_ready(&starting).is_some());
        assert_eq!(down_as_before("shop", &[starting], &idle), None);
        let told = down_as_before("shop", &all, &idle).unwrap();
        assert_eq!(told.code, "compose.down_as_before");
        let says = told
            .message
            .ends_with(": shop-certbot-1 has ended with exit code 1");
        assert!(says, "{told:?}");
        // Of a backup that does not say what ran all are waited for.
        assert!(platform().idle_of("shop", &json!({})).is_empty());
        assert_eq!(down_as_before("shop", &all, &BTreeSet::new()), None);
    }
}
