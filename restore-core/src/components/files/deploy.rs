//! Deploying a stack from compose files that a tree holds.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Files;
use crate::contract::{Inspection, RunContext, Stacks};
use crate::model::{Error, ErrorKind, Finding, Result, RunId};

/// The fact that how the stack was described is kept, and the deployment was begun.
const DEPLOYED: &str = "deployed_over";

/// A stack and the compose files that describe it, relative to the tree.
#[derive(Clone, Debug)]
pub(super) struct Deployment {
    pub(super) stack: String,
    pub(super) compose: Vec<PathBuf>,
}

impl Files {
    /// See [`Component::deploys`](crate::component::Component::deploys).
    pub(super) fn deployment(&self) -> Option<String> {
        let deployment = self.section.deployment.as_ref()?;
        let files: Vec<String> = deployment
            .compose
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        Some(format!(
            "the stack {} from {}",
            deployment.stack,
            files.join(", ")
        ))
    }

    fn stacks(&self) -> Result<&dyn Stacks> {
        self.platform.stacks().ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "files.no_stacks",
                format!(
                    "[components.{}] redeploy = true needs a Docker Swarm: {} has no stacks",
                    self.name,
                    self.platform.describe()
                ),
            )
            .hint("set redeploy = false, and deploy the restored files by hand after the restore")
        })
    }

    /// Where this run keeps how the stack was described. Not in its journal: environments of
    /// services hold passwords.
    fn described(&self, run: &RunId) -> PathBuf {
        self.scratch
            .join(run.as_str())
            .join(format!("{}.stack.json", self.name))
    }

    pub(super) async fn look_at_deployment(&self, inspection: &mut Inspection) {
        let Some(deployment) = &self.section.deployment else {
            return;
        };
        let found = match self.stacks() {
            Ok(stacks) => stacks.inspect(&deployment.stack).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => inspection.findings.extend(found),
            Err(error) => inspection
                .findings
                .push(Finding::from_error(&self.name, &error)),
        }
    }

    /// A deployment that lacks its files is found while users are still served.
    pub(super) fn must_have_compose(&self, staged: &Path, partial: bool) -> Result<()> {
        let Some(deployment) = &self.section.deployment else {
            return Ok(());
        };
        let live = self.section.live();
        for file in &deployment.compose {
            if staged.join(file).is_file() || (partial && live.join(file).is_file()) {
                continue;
            }
            return Err(Error::new(
                ErrorKind::Failed,
                "files.no_compose",
                format!(
                    "the backup has no {} in {}, from which the stack {} was to be deployed",
                    file.display(),
                    self.section.tree(),
                    deployment.stack
                ),
            )
            .hint(format!(
                "correct `compose` of [components.{}], or set redeploy = false",
                self.name
            )));
        }
        Ok(())
    }

    pub(super) async fn deploy_stack(&self, cx: &RunContext) -> Result<()> {
        let Some(deployment) = &self.section.deployment else {
            return Ok(());
        };
        let stacks = self.stacks()?;
        let described = match cx.recall(DEPLOYED) {
            // What is there now may be half of what is about to be made.
            Some(_) => self.recorded(cx.run(), &deployment.stack).await?,
            None => {
                let described = stacks.snapshot(&deployment.stack).await?;
                keep(self.described(cx.run()), described.to_string().into_bytes()).await?;
                cx.record(DEPLOYED, deployment.stack.clone()).await?;
                described
            }
        };
        let live = self.section.live();
        let files: Vec<PathBuf> = deployment.compose.iter().map(|it| live.join(it)).collect();
        stacks.deploy(&deployment.stack, &files, &described).await
    }

    /// How the stack was described before this run touched it.
    async fn recorded(&self, run: &RunId, stack: &str) -> Result<Value> {
        let path = self.described(run);
        let text = tokio::fs::read(&path).await.map_err(|e| {
            Error::io(
                format!(
                    "read how the stack {stack} was described, {}",
                    path.display()
                ),
                e,
            )
        })?;
        serde_json::from_slice(&text).map_err(|e| {
            Error::new(
                ErrorKind::Internal,
                "files.described",
                format!("{} cannot be read: {e}", path.display()),
            )
        })
    }

    /// Whether [`undeploy_stack`](Self::undeploy_stack) would find how the stack was described.
    pub(super) async fn way_to_undeploy(&self, cx: &RunContext) -> Result<()> {
        match cx.recall(DEPLOYED) {
            Some(Value::String(stack)) => self.recorded(cx.run(), &stack).await.map(drop),
            _ => Ok(()),
        }
    }

    pub(super) async fn undeploy_stack(&self, cx: &RunContext) -> Result<()> {
        let Some(Value::String(stack)) = cx.recall(DEPLOYED) else {
            return Ok(());
        };
        let described = self.recorded(cx.run(), &stack).await?;
        self.stacks()?.put_back(&stack, &described).await
    }

    pub(super) async fn forget_deployment(&self, run: &RunId) -> Result<()> {
        let path = self.described(run);
        match tokio::fs::remove_file(&path).await {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("delete {}", path.display()), e))
            }
            Err(_) => Ok(()),
            Ok(()) => {
                if let Some(folder) = path.parent() {
                    // Refused while other components keep something there.
                    let _ = tokio::fs::remove_dir(folder).await;
                }
                Ok(())
            }
        }
    }
}

/// Writes a private file, whole and durable.
async fn keep(path: PathBuf, text: Vec<u8>) -> Result<()> {
    let work = move || {
        use std::io::Write;
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        let folder = path.parent().unwrap_or(Path::new("/"));
        let new = path.with_extension("new");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .and_then(|()| match std::fs::remove_file(&new) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            })
            .and_then(|()| {
                let mut file = std::fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&new)?;
                file.write_all(&text)?;
                file.sync_all()
            })
            .and_then(|()| std::fs::rename(&new, &path))
            .and_then(|()| std::fs::File::open(folder)?.sync_all())
            .map_err(|e| Error::io(format!("write {}", path.display()), e))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(Error::new(
            ErrorKind::Internal,
            "files.task",
            format!("a task of the component broke off: {e}"),
        )),
    }
}
