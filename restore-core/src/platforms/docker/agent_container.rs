//! Volumes and trees that are not reached as directories of this host: an agent in a container
//! beside them.
//!
//! The container is made from an image that the node has, and the agent, which is this program, is
//! put into it. Its first process reads what this process never writes, so that it ends with this
//! process, however that ends, and the engine removes it. Requests are programs run in it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, MutexGuard};

use super::agent::Launch;
use super::engine::{Engine, Refused};
use super::exec::ExecProcess;
use super::json::encoded;
use super::throwaway::{Helper, IdleContainer, Recipe, program_path};
use crate::contract::nodes::NoTree;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::process::command::{Command, Process};
use crate::sys::trust;
use crate::sys::trust::Trust;

/// What the agent is called in its container.
const AGENT: &str = "restore-volume-agent";

/// Where the volume or tree is there.
const VOLUME: &str = "/restore-volume";

/// How long the engine may take to say that a container has ended whose program it no longer runs.
const MOMENT: Duration = Duration::from_secs(3);

/// What a container is beside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MountSource {
    /// The volume of exactly this name.
    Volume(String),
    /// The directory at this absolute path of the node.
    Directory(PathBuf),
}

impl MountSource {
    /// How it gets into its container. Neither makes what is missing: a volume is looked for
    /// first, and the engine refuses to bind a directory that is not there.
    fn mounts(&self) -> Value {
        match self {
            // Nothing of the image may be copied into an empty volume.
            Self::Volume(name) => json!([{"Type": "volume", "Source": name, "Target": VOLUME,
                "VolumeOptions": {"NoCopy": true}}]),
            Self::Directory(path) => json!([{"Type": "bind", "Source": path, "Target": VOLUME}]),
        }
    }
}

impl fmt::Display for MountSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(name) => write!(f, "volume {name}"),
            Self::Directory(path) => write!(f, "directory {}", path.display()),
        }
    }
}

/// Starts agents beside one volume or tree.
pub(crate) struct AgentContainer {
    pub(crate) engine: Arc<Engine>,
    /// The node's name.
    pub(crate) node: String,
    pub(crate) subject: MountSource,
    pub(crate) site: String,
    /// Images of which the node should have one, the best first.
    pub(crate) images: Vec<String>,
    /// The program, where it is not this one.
    pub(crate) agent: Option<PathBuf>,
    pub(crate) kept: Mutex<Option<IdleContainer>>,
}

impl AgentContainer {
    /// Takes the container away, where there is one.
    pub(crate) async fn end(&self) -> Result<()> {
        match self.kept.lock().await.take() {
            Some(kept) => kept.remove().await,
            None => Ok(()),
        }
    }

    /// Makes the container where there is none; an error where it cannot be made.
    pub(crate) async fn open(&self) -> Result<()> {
        self.running().await.map(drop)
    }

    /// The container, which runs.
    async fn running(&self) -> Result<MutexGuard<'_, Option<IdleContainer>>> {
        let mut kept = self.kept.lock().await;
        if kept.as_ref().is_none_or(|kept| !kept.is_running()) {
            *kept = None;
        }
        if kept.is_none() {
            *kept = Some(self.start().await?);
        }
        Ok(kept)
    }

    async fn start(&self) -> Result<IdleContainer> {
        let agent = match &self.agent {
            Some(agent) => {
                trust::check(agent, "the agent", Trust::Obeyed)?;
                agent.clone()
            }
            None => own_program()?,
        };
        let image = self.image().await?;
        let command = command();
        let recipe = Recipe {
            site: &self.site,
            of: self.describe(),
            image: image.clone(),
            mounts: self.subject.mounts(),
            user: Some("0:0".to_owned()),
            dir: Some("/".to_owned()),
            command: &command,
            program: Some((&agent, AGENT)),
        };
        let kept = Helper::kept(self.engine.clone(), &recipe).await;
        let kept = kept.map_err(|error| match &self.subject {
            MountSource::Directory(path) if error.is(&Refused::NoSource) => {
                no_tree(&self.node, path)
            }
            _ if error.is(&Refused::NotStarted) => {
                self.cannot_start(&agent, &image, error.message())
            }
            _ => error,
        })?;
        let mut kept = kept;
        match self.answers(&mut kept).await? {
            None => Ok(kept),
            Some(said) => {
                let said = [said, kept.log_tail()].join(" ");
                let said = match said.trim().lines().next_back() {
                    Some(said) => said.trim(),
                    None => "it ended at once, and said nothing",
                };
                let error = self.cannot_start(&agent, &image, said);
                let _ = kept.remove().await;
                Err(error)
            }
        }
    }

    /// Whether an agent can be run in it: asked for nothing it says so. `Some`: what it said
    /// instead.
    async fn answers(&self, kept: &mut IdleContainer) -> Result<Option<String>> {
        let asked = self.ask(kept.container()).await;
        match asked {
            // Of one that has ended all answers say only that: what counts is its own words.
            Ok(Some(said)) if said.is_empty() => {
                kept.ends_within(MOMENT).await;
                Ok(Some(said))
            }
            Err(_) if kept.ends_within(MOMENT).await => Ok(Some(String::new())),
            answer => answer,
        }
    }

    async fn ask(&self, container: &str) -> Result<Option<String>> {
        let mut process = ExecProcess::start(self.engine.clone(), container, &command()).await?;
        drop(process.stdin());
        let mut said = String::new();
        if let Some(stdout) = process.stdout() {
            let _ = stdout.take(64 * 1024).read_to_string(&mut said).await;
        }
        let exit = process.wait().await?;
        Ok((!said.contains("\"failed\"")).then(|| format!("{said}{}", exit.stderr)))
    }

    fn cannot_start(&self, agent: &Path, image: &str, why: &str) -> Error {
        Error::new(
            ErrorKind::Preflight,
            "agent.cannot_start",
            format!(
                "{}: {} does not run in a container of {image}: {why}",
                self.describe(),
                agent.display()
            ),
        )
        .hint(format!(
            "name an image of that node with the C library that it needs: image = \"…\" in [nodes.{}], or a static build of restore: agent = \"…\" in [platform]",
            self.node
        ))
    }

    async fn image(&self) -> Result<String> {
        for image in &self.images {
            let path = format!("/images/{}/json", encoded(image));
            match self.engine.get("look at an image", &path).await {
                Ok(_) => return Ok(image.clone()),
                Err(error) if error.is(&Refused::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(
            ErrorKind::Preflight,
            "agent.no_image",
            match self.images.as_slice() {
                [] => format!(
                    "{}: no service that could use it is known, and so no image to make a container beside it from",
                    self.describe()
                ),
                images => format!(
                    "{}: the node has none of the images {}",
                    self.describe(),
                    images.join(", ")
                ),
            },
        )
        .hint(format!(
            "name one that `docker images` shows there: image = \"…\" in [nodes.{}]",
            self.node
        )))
    }
}

/// The error that a node has no directory at a path.
pub(crate) fn no_tree(node: &str, path: &Path) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "platform.no_tree",
        format!("the node {node} has no directory {}", path.display()),
    )
    .because(NoTree)
    .hint("mount its file system there, or make it there, empty: a restore makes none on another node")
}

fn command() -> Command {
    Command::new([program_path(AGENT).as_str(), "volume-agent", VOLUME])
}

/// This program, where it is one that serves volumes.
fn own_program() -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(|e| Error::io("find this program", e))?;
    if own.file_name().is_some_and(|name| name == "restore") {
        return Ok(own);
    }
    Err(Error::new(
        ErrorKind::Config,
        "agent.unknown",
        format!(
            "a volume has to be served by the program restore, and this is {}",
            own.display()
        ),
    )
    .hint("say where it is, of this same version: agent = \"/usr/bin/restore\" in [platform]"))
}

#[async_trait]
impl Launch for AgentContainer {
    async fn launch(&self) -> Result<Box<dyn Process>> {
        self.launch_with(0).await
    }

    async fn launch_with(&self, memory: u64) -> Result<Box<dyn Process>> {
        let mut kept = self.running().await?;
        let Some(beside) = kept.as_mut() else {
            return Err(Error::new(
                ErrorKind::Internal,
                "agent.broken",
                "a container was lost",
            ));
        };
        beside.allow(memory).await;
        let container = beside.container().to_owned();
        let process = ExecProcess::start(self.engine.clone(), &container, &command()).await;
        if process.is_err() {
            // Of one that is in no state to be used the next request makes another.
            *kept = None;
        }
        Ok(Box::new(process?))
    }

    fn describe(&self) -> String {
        format!("{} of the node {}", self.subject, self.node)
    }

    fn machine(&self) -> String {
        format!("the node {}", self.node)
    }
}

impl Engine {
    /// What the engine says of the volume of exactly this name; never makes one.
    pub(crate) async fn volume(&self, name: &str) -> Result<Option<Value>> {
        self.patiently(|| async {
            self.docker().await?;
            let what = format!("look at the volume {name}");
            match self
                .get(&what, &format!("/volumes/{}", encoded(name)))
                .await
            {
                Ok(volume) => Ok(Some(volume)),
                Err(e) if e.is(&Refused::NotFound) => Ok(None),
                Err(e) => Err(e),
            }
        })
        .await
    }
}
