//! Deploying a stack from compose files that a tree holds.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::Files;
use crate::archive::{Content, Digest, Source, UnpackPolicy, read_files};
use crate::components::archive;
use crate::contract::{
    Backup, BackupWriter, Inspection, RunContext, StackPart, StackSource, Stacks,
};
use crate::model::{Error, ErrorKind, Finding, Result, RunId, Severity};
use crate::swap::StagingDir;
use crate::sys::blocking::blocking;
use crate::sys::durable::{self, Access};
use crate::sys::{open_file, open_to_read_below, private, read_small, read_small_from, trust};

/// The fact that how the stack was described is kept, and the deployment was begun.
const DEPLOYED: &str = "deployed_over";

/// The fact what is made with a stack that was not there.
const PARTS: &str = "deployment_parts";

/// The fact that what all stacks need was absent, in words, and is made.
const FOUNDATION: &str = "foundation";

/// The fact what the compose files were when they were staged, by their names: the file that each is or leads
/// to, and the SHA-256 of that.
const STAGED: &str = "compose_staged";
const FILE: &str = "file";
const SHA256: &str = "sha256";

/// A compose file has no more bytes.
const COMPOSE: u64 = 4 << 20;

/// Compose files of the live tree, and what is in them.
type ComposeFiles = Vec<(PathBuf, Vec<u8>)>;

/// A stack and the compose files that describe it, relative to the tree.
#[derive(Clone, Debug)]
pub(super) struct Deployment {
    pub(super) stack: String,
    pub(super) compose: Vec<PathBuf>,
}

/// The compose files of one archive of one backup, as they were read from it.
struct ComposeOfBackup {
    /// See [`Backup::identity`].
    backup: String,
    archive: String,
    files: Vec<(PathBuf, String)>,
}

/// Those that were read last.
#[derive(Default)]
pub(super) struct ComposeCache(Mutex<Option<ComposeOfBackup>>);

impl ComposeCache {
    fn of(&self, backup: &str, archive: &str) -> Option<Vec<(PathBuf, String)>> {
        let read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = read
            .as_ref()
            .filter(|it| it.backup == backup && it.archive == archive);
        same.map(|it| it.files.clone())
    }

    fn keep(&self, read: ComposeOfBackup) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
    }
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
        let noun = self.platform.stacks().map_or("stack", Stacks::noun);
        Some(format!(
            "the {noun} {} from {}",
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
                    "[components.{}] redeploy = true needs a Docker Swarm or Docker Compose: {} has no stacks",
                    self.name,
                    self.platform.describe()
                ),
            )
            .hint("set redeploy = false, and deploy the restored files by hand after the restore")
        })
    }

    /// The stack in words, where nothing of it is there.
    pub(super) async fn absent_stack(&self) -> Result<Option<String>> {
        let Some(deployment) = &self.section.deployment else {
            return Ok(None);
        };
        let (stacks, stack) = (self.stacks()?, deployment.stack.as_str());
        let absent = stacks.is_absent(stack).await?;
        Ok(absent.then(|| format!("{} {stack}", stacks.noun())))
    }

    /// Where this run keeps how the stack was described. Not in its journal: environments of
    /// services hold passwords.
    fn described(&self, run: &RunId) -> PathBuf {
        self.scratch
            .join(run.as_str())
            .join(format!("{}.stack.json", self.name))
    }

    /// Where this run keeps what the backup has for the stack besides its files: when it is deployed, nobody may
    /// reach the backup any more.
    fn kept_source(&self, run: &RunId) -> PathBuf {
        self.scratch
            .join(run.as_str())
            .join(format!("{}.source.json", self.name))
    }

    pub(super) async fn look_at_deployment(&self, cx: &RunContext, inspection: &mut Inspection) {
        let Some(deployment) = &self.section.deployment else {
            return;
        };
        if let Err(error) = self.look_at_stack(cx, deployment, inspection).await {
            inspection
                .findings
                .push(Finding::from_error(&self.name, &error));
        }
    }

    /// What deploying meets, and what it makes where the stack is not there.
    async fn look_at_stack(
        &self,
        cx: &RunContext,
        deployment: &Deployment,
        inspection: &mut Inspection,
    ) -> Result<()> {
        let (stacks, stack) = (self.stacks()?, deployment.stack.as_str());
        inspection.findings.extend(stacks.inspect(stack).await?);
        inspection.findings.extend(self.obeyed_open(deployment));
        inspection.findings.extend(self.left_open(cx, deployment)?);
        inspection.makes_services = self.absent_stack().await?;
        if inspection.makes_services.is_none() {
            return self.look_for_missing(cx, deployment, inspection).await;
        }
        if !cx.may_create() {
            return Ok(());
        }
        inspection.create_first = true;
        inspection.creates.extend(stacks.foundation().await?);
        let found = archive::find(cx.backup(), &self.name, &self.section.archive)?;
        let mut source = self.source(cx, stacks).await?;
        source.compose = self.compose_of_backup(cx, deployment, &found).await?;
        inspection.artifacts.extend(source.files.keys().cloned());
        let plan = stacks.plan(stack, &source).await?;
        let parts = plan.parts.iter();
        inspection.creates.extend(parts.map(ToString::to_string));
        inspection.findings.extend(plan.findings);
        inspection.prerequisites.extend(plan.prerequisites);
        inspection.bound_to = plan.nodes;
        Ok(())
    }

    /// A compose file that this run does not restore and that others can change: it would not be deployed.
    fn left_open(&self, cx: &RunContext, deployment: &Deployment) -> Result<Option<Finding>> {
        let paths = self.section.paths(&self.name, cx.paths())?;
        let left =
            |name: &&PathBuf| !paths.is_empty() && !paths.iter().any(|path| name.starts_with(path));
        let left = deployment.compose.iter().filter(left);
        let mut left = left.map(|name| self.section.live().join(name));
        let open = left.find(|at| at.exists() && !trust::is_ours(at));
        Ok(open.map(|at| Finding::from_error(&self.name, &not_restored(&at))))
    }

    /// What is gone of what a stack needs that is there.
    async fn look_for_missing(
        &self,
        cx: &RunContext,
        deployment: &Deployment,
        inspection: &mut Inspection,
    ) -> Result<()> {
        let (stacks, stack) = (self.stacks()?, deployment.stack.as_str());
        if !stacks.plans_missing() {
            return Ok(());
        }
        // That the archive is missing is told already; where it has no compose files, those that are live may be
        // what is deployed, or staging refuses it.
        let Ok(found) = archive::find(cx.backup(), &self.name, &self.section.archive) else {
            return Ok(());
        };
        let compose = match self.compose_of_backup(cx, deployment, &found).await {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(_) => return Ok(()),
            Ok(compose) => compose,
        };
        let mut source = self.source(cx, stacks).await?;
        source.compose = compose;
        let plan = stacks.plan_missing(stack, &source).await?;
        inspection.services_made = plan.services;
        inspection.deployment_findings.extend(plan.findings);
        inspection.prerequisites.extend(plan.prerequisites);
        inspection.bound_to = plan.nodes;
        if plan.parts.is_empty() {
            return Ok(());
        }
        let parts: Vec<String> = plan.parts.iter().map(ToString::to_string).collect();
        if cx.may_create() {
            inspection.create_first = true;
            inspection.artifacts.extend(source.files.into_keys());
            inspection.creates.extend(parts);
            return Ok(());
        }
        inspection.deployment_findings.push(
            Finding::error(
                "files.parts_missing",
                &self.name,
                format!(
                    "the {} {stack} cannot be deployed without what its files say is made elsewhere, and is not there: {}",
                    stacks.noun(),
                    parts.join(", ")
                ),
            )
            .hint("is this the right engine? `restore run ID --create` makes it before the deployment, and removes it again with a rollback"),
        );
        Ok(())
    }

    /// What the backup and the run have for a stack, besides its compose files.
    async fn source(&self, cx: &RunContext, stacks: &dyn Stacks) -> Result<StackSource> {
        let mut source = StackSource::new(cx.run().clone(), self.section.live());
        source.secrets = cx.secrets().clone();
        source.nodes = cx.nodes().clone();
        for path in self.described_by(cx.backup(), stacks) {
            let content = small(cx.source(&path)?).await?;
            source.files.insert(path, content);
        }
        Ok(source)
    }

    /// Keeps what the backup has for a stack, for a deployment that may make what is absent.
    pub(super) async fn keep_source(&self, cx: &RunContext) -> Result<()> {
        if self.section.deployment.is_none() || !cx.may_create() {
            return Ok(());
        }
        let source = self.source(cx, self.stacks()?).await?;
        let files = serde_json::to_vec(&source.files).map_err(|e| unkept(&e.to_string()))?;
        keep(self.kept_source(cx.run()), files).await
    }

    /// What the backup had for a stack when the tree was staged, and what the run has.
    async fn staged_source(&self, cx: &RunContext) -> Result<StackSource> {
        let path = self.kept_source(cx.run());
        let kept = tokio::fs::read(&path).await.map_err(|e| {
            let what = format!("read what the backup has for the stack, {}", path.display());
            Error::io(what, e)
        })?;
        let mut source = StackSource::new(cx.run().clone(), self.section.live());
        source.secrets = cx.secrets().clone();
        source.nodes = cx.nodes().clone();
        source.files = serde_json::from_slice(&kept).map_err(|e| unkept(&e.to_string()))?;
        Ok(source)
    }

    /// The files of a backup that tell what stacks need besides their own files.
    pub(super) fn described_by(&self, backup: &Backup, stacks: &dyn Stacks) -> Vec<String> {
        let patterns = stacks.reads().iter();
        patterns
            .flat_map(|pattern| backup.find(&[(*pattern).to_owned()]))
            .collect()
    }

    /// Backs up what the platform tells of stacks besides their files, for a restore from nothing, which may begin
    /// with another configuration than this one. What is said where it tells nothing.
    pub(super) async fn back_up_stacks(&self, writer: &BackupWriter) -> Result<Option<Finding>> {
        let stacks = match (&self.section.deployment, self.platform.stacks()) {
            (Some(_), _) => self.stacks()?,
            (None, Some(stacks)) => stacks,
            (None, None) => return Ok(None),
        };
        let records = match self.records(stacks).await {
            // The tree itself needs none of it.
            Err(error)
                if self.section.deployment.is_none() && error.kind() != ErrorKind::Interrupted =>
            {
                return Ok(Some(
                    Finding::warning(
                        "files.stacks_untold",
                        &self.name,
                        format!("the backup does not say what there is besides the files of stacks: {error}"),
                    )
                    .hint("where stacks are to be made from nothing one day, back up again once the platform answers"),
                ));
            }
            records => records?,
        };
        for (path, content) in records {
            // Configs and options of volumes may hold passwords.
            let artifact = writer.private_artifact(&path).await?;
            artifact.put(content).await?.finish().await?;
        }
        Ok(None)
    }

    async fn records(&self, stacks: &dyn Stacks) -> Result<Vec<(String, Vec<u8>)>> {
        let mut records = Vec::new();
        if let Some(deployment) = &self.section.deployment
            && self.describes_stack
        {
            records.extend(stacks.records_of(&deployment.stack).await?);
        }
        if self.describes_stacks {
            records.extend(stacks.records().await?);
        }
        Ok(records)
    }

    /// The compose files as the backup has them, and where they will be. The archive is read once for all plans
    /// of the same backup.
    async fn compose_of_backup(
        &self,
        cx: &RunContext,
        deployment: &Deployment,
        found: &str,
    ) -> Result<Vec<(PathBuf, String)>> {
        let backup = cx.backup().identity();
        if let Some(files) = self.compose.of(&backup, found) {
            return Ok(files);
        }
        let files = self.read_compose(cx, deployment, found).await?;
        self.compose.keep(ComposeOfBackup {
            backup,
            archive: found.to_owned(),
            files: files.clone(),
        });
        Ok(files)
    }

    async fn read_compose(
        &self,
        cx: &RunContext,
        deployment: &Deployment,
        found: &str,
    ) -> Result<Vec<(PathBuf, String)>> {
        let live = self.section.live();
        // What is a link in the live tree most likely is the same one in the backup.
        let wanted = with_led_to(live.clone(), deployment.compose.clone()).await?;
        let mut content = self.read_of_backup(cx, &wanted, found).await?;
        let is_there =
            |it: &PathBuf| content.files.contains_key(it) || content.links.contains_key(it);
        if wanted.len() > deployment.compose.len() && !wanted.iter().all(is_there) {
            // Where one that is asked for is missing, the archive may not have been compared with its hash.
            content = self.read_of_backup(cx, &deployment.compose, found).await?;
        }
        let Content { files, links, .. } = content;
        let names = deployment.compose.iter();
        let behind = names.filter_map(|name| led_to(&live, name, links.get(name)?));
        let unread = behind.filter(|it| !files.contains_key(it));
        let unread: Vec<PathBuf> = unread.collect();
        let behind = match unread.is_empty() {
            true => BTreeMap::new(),
            false => self.read_of_backup(cx, &unread, found).await?.files,
        };
        let mut all = Vec::new();
        for name in &deployment.compose {
            let content = match (files.get(name), links.get(name)) {
                (Some(content), _) => content,
                (None, Some(to)) => {
                    let led = led_to(&live, name, to);
                    let content = led.and_then(|it| files.get(&it).or_else(|| behind.get(&it)));
                    content.ok_or_else(|| self.compose_link(name, to))?
                }
                (None, None) => return Err(self.no_compose(name)),
            };
            all.push((live.join(name), text_of(name, content.clone())?));
        }
        Ok(all)
    }

    /// Files of the tree as the backup has them.
    async fn read_of_backup(
        &self,
        cx: &RunContext,
        names: &[PathBuf],
        found: &str,
    ) -> Result<Content> {
        let names = names.iter();
        let only = names.map(|it| it.to_string_lossy().into_owned()).collect();
        let policy = UnpackPolicy {
            only,
            ..self.section.members().policy(self.section.tree())
        };
        read_files(cx.source(found)?, &policy, COMPOSE).await
    }

    /// Why a stack cannot be planned whose compose file is a link in the backup.
    fn compose_link(&self, name: &Path, to: &Path) -> Error {
        Error::new(
            ErrorKind::Preflight,
            "files.compose_link",
            format!(
                "{} in {} is a link to {} in the backup, which is no file of the tree: what a deployment from it would need is not known",
                name.display(),
                self.section.tree(),
                to.display()
            ),
        )
        .hint(format!(
            "name the file itself in `compose` of [components.{}], or set redeploy = false",
            self.name
        ))
    }

    /// Notes what the compose files are as staged, where nobody else can change them yet: those that are
    /// deployed are to be the same.
    pub(super) async fn note_compose(&self, cx: &RunContext, staging: StagingDir) -> Result<()> {
        let Some(deployment) = &self.section.deployment else {
            return Ok(());
        };
        let (names, live) = (deployment.compose.clone(), self.section.live());
        let staged = blocking(move || {
            let mut staged = Map::new();
            for name in names {
                let led = std::fs::read_link(staging.here().join(&name));
                let led = led.ok().and_then(|to| led_to(&live, &name, &to));
                let file = led.unwrap_or_else(|| name.clone());
                // Of one that is not restored, and of a link that leads elsewhere, nothing is known.
                let (Ok(opened), Some(text)) = (open_file(staging.as_fd(), &file), file.to_str())
                else {
                    let there = live.join(&name);
                    if there.exists() && !trust::is_ours(&there) {
                        return Err(not_restored(&there));
                    }
                    continue;
                };
                let content = read_small_from(opened, COMPOSE)
                    .map_err(|e| Error::io(format!("read the staged {}", file.display()), e))?;
                let known = json!({ FILE: text, SHA256: digest_of(&content) });
                staged.insert(name.display().to_string(), known);
            }
            Ok(staged)
        })
        .await?;
        cx.record(STAGED, Value::Object(staged)).await
    }

    /// The compose files of the live tree and what is in them: what was restored, or what root has made of that
    /// since. The second value names those that are not as they were restored.
    async fn compose_of_tree(
        &self,
        cx: &RunContext,
        deployment: &Deployment,
    ) -> Result<(ComposeFiles, Vec<PathBuf>)> {
        let staged = cx.recall(STAGED);
        let (mut all, mut adapted) = (Vec::new(), Vec::new());
        for name in &deployment.compose {
            let live = self.section.live();
            let path = live.join(name);
            let of_name = |all: &Value| all.get(name.display().to_string()).cloned();
            let Some(expected) = staged.as_ref().and_then(of_name) else {
                let at = path.clone();
                if !blocking(move || Ok(trust::is_ours(&at))).await? {
                    return Err(not_restored(&path));
                }
                let content = content_of(&path).await?;
                all.push((path, content));
                continue;
            };
            let said = |key: &str| {
                let said = expected.get(key).and_then(Value::as_str);
                said.unwrap_or_default()
            };
            let at = live.join(said(FILE));
            let read = move || {
                open_to_read_below(&live, &at).and_then(|file| read_small_from(file, COMPOSE))
            };
            let why = match blocking(move || Ok(read())).await? {
                Ok(content) => {
                    let (staged, digest) = (said(SHA256), digest_of(&content));
                    if staged == digest {
                        all.push((path, content));
                        continue;
                    }
                    format!("it has SHA-256 {digest}, and {staged} was staged")
                }
                Err(error) => error.to_string(),
            };
            // Only root, or a hook that root has named, can have changed it then: that is meant.
            let looked = path.clone();
            if !blocking(move || Ok(trust::is_ours(&looked))).await? {
                return Err(changed(&path, &why));
            }
            let content = content_of(&path).await?;
            adapted.push(path.clone());
            all.push((path, content));
        }
        Ok((all, adapted))
    }

    /// That a compose file is deployed as root, or a hook, has made it.
    fn adapted(&self, path: &Path) -> Finding {
        Finding::warning(
            "files.compose_adapted",
            &self.name,
            format!(
                "{} was changed after it was restored, where only root can: it is deployed as it is",
                path.display()
            ),
        )
        .hint("where a hook has done that, nothing; else look at what it is now, and deploy what is right by hand")
    }

    /// Copies of compose files that nobody else can change, where the files themselves could be changed
    /// by somebody else while they are deployed, or something else than they say is (`is_changed`); else the files.
    async fn held_compose(
        &self,
        run: &RunId,
        files: ComposeFiles,
        is_changed: bool,
    ) -> Result<Vec<PathBuf>> {
        let paths: Vec<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
        let looked = paths.clone();
        if !is_changed
            && blocking(move || Ok(looked.iter().all(|path| trust::is_ours(path)))).await?
        {
            return Ok(paths);
        }
        let mut copies = Vec::new();
        for (number, (_, content)) in files.into_iter().enumerate() {
            let copy = self.copy_of(run, number);
            keep(copy.clone(), content).await?;
            copies.push(copy);
        }
        Ok(copies)
    }

    /// Where the copy of a compose file is while it is deployed.
    fn copy_of(&self, run: &RunId, number: usize) -> PathBuf {
        let folder = self.scratch.join(run.as_str());
        folder.join(format!("{}.compose.{number}.yml", self.name))
    }

    /// Removes the copies of compose files, where there are any.
    async fn remove_copies(&self, run: &RunId) -> Result<()> {
        let files = self.section.deployment.iter().flat_map(|it| &it.compose);
        for (number, _) in files.enumerate() {
            let copy = self.copy_of(run, number);
            match tokio::fs::remove_file(&copy).await {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("delete {}", copy.display()), e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What others than root could have a deployment read besides its compose files.
    fn obeyed_open(&self, deployment: &Deployment) -> Option<Finding> {
        let live = self.section.live();
        let files = deployment.compose.iter().map(|name| live.join(name));
        let mut looked = std::iter::once(live.clone()).chain(files);
        let open = looked.find(|path| path.exists() && !trust::is_ours(path))?;
        Some(
            Finding::warning(
                "files.obeyed_open",
                &self.name,
                format!(
                    "others can change {}: the compose files of {} are deployed as they were restored, but files that they name are read as they are then",
                    open.display(),
                    deployment.stack
                ),
            )
            .hint("let the tree and the folders above it belong to root alone, or set redeploy = false"),
        )
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
            return Err(self.no_compose(file));
        }
        Ok(())
    }

    fn no_compose(&self, file: &Path) -> Error {
        let stack = self.section.deployment.as_ref().map(|it| it.stack.as_str());
        Error::new(
            ErrorKind::Failed,
            "files.no_compose",
            format!(
                "the backup has no {} in {}, from which the stack {} was to be deployed",
                file.display(),
                self.section.tree(),
                stack.unwrap_or_default()
            ),
        )
        .hint(format!(
            "correct `compose` of [components.{}], or set redeploy = false",
            self.name
        ))
    }

    pub(super) async fn deploy_stack(&self, cx: &RunContext) -> Result<()> {
        let Some(deployment) = &self.section.deployment else {
            return Ok(());
        };
        let (stacks, stack) = (self.stacks()?, deployment.stack.as_str());
        let described = match cx.recall(DEPLOYED) {
            // What is there now may be half of what is about to be made.
            Some(_) => self.recorded(cx.run(), stack).await?,
            None => {
                let mut described = stacks.snapshot(stack).await?;
                let absent = stacks.is_absent(stack).await?;
                if absent || cx.may_create() {
                    let source = self.note_parts(cx, stacks, deployment, absent).await?;
                    if absent {
                        described = stacks.as_backed_up(stack, &source, described);
                    }
                }
                keep(self.described(cx.run()), described.to_string().into_bytes()).await?;
                cx.record(DEPLOYED, deployment.stack.clone()).await?;
                described
            }
        };
        let parts = parts_of(cx)?;
        if parts.iter().any(|part| part.external) {
            let source = self.staged_source(cx).await?;
            stacks.make_parts(&source, &parts).await?;
        }
        let (contents, adapted) = self.compose_of_tree(cx, deployment).await?;
        for path in adapted {
            cx.notice(self.adapted(&path));
        }
        let files: Vec<PathBuf> = contents.iter().map(|(path, _)| path.clone()).collect();
        let is_placed = !cx.nodes().is_empty();
        let contents = match is_placed {
            true => placed(stacks, contents, cx.nodes())?,
            false => contents,
        };
        let held = self.held_compose(cx.run(), contents, is_placed).await?;
        let deployed = stacks.deploy_held(stack, &files, &held, &described).await;
        let removed = self.remove_copies(cx.run()).await;
        deployed.and(removed)?;
        // What runs is not taken back for what cannot be asked just now.
        let lacking = stacks.shortfall(stack, &described).await;
        for finding in lacking.unwrap_or_default() {
            cx.notice(finding);
        }
        Ok(())
    }

    /// Writes down what is about to be made with a stack that is `absent`, or for one of which the rest is there;
    /// what it is made from.
    async fn note_parts(
        &self,
        cx: &RunContext,
        stacks: &dyn Stacks,
        deployment: &Deployment,
        absent: bool,
    ) -> Result<StackSource> {
        let gone = |words: &str| {
            Error::new(
                ErrorKind::Failed,
                "create.gone_since",
                format!("the {words} was there when the run was planned, and is gone: it is not made anew"),
            )
            .hint("`restore rollback`, and plan again")
        };
        if !cx.may_create() {
            return Err(gone(&format!("{} {}", stacks.noun(), deployment.stack)));
        }
        let mut source = self.staged_source(cx).await?;
        let (contents, _) = self.compose_of_tree(cx, deployment).await?;
        for (path, content) in contents {
            let text = text_of(&path, content)?;
            source.compose.push((path, text));
        }
        let plan = match absent {
            true => stacks.plan(&deployment.stack, &source).await?,
            false => stacks.plan_missing(&deployment.stack, &source).await?,
        };
        if let Some(bad) = plan
            .findings
            .iter()
            .find(|it| it.severity == Severity::Error)
        {
            let error = Error::new(ErrorKind::Failed, "create.changed_since", bad.line());
            return Err(match &bad.hint {
                Some(hint) => error.hint(hint.clone()),
                None => error,
            });
        }
        for part in &plan.parts {
            let words = part.to_string();
            if !cx.was_absent(&words) {
                return Err(gone(&words));
            }
        }
        if plan.parts.is_empty() {
            return Ok(source);
        }
        let parts = serde_json::to_value(&plan.parts).unwrap_or_default();
        cx.record(PARTS, parts).await?;
        for part in &plan.parts {
            cx.record_made(&part.to_string()).await?;
        }
        Ok(source)
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
        let stacks = self.stacks()?;
        stacks.put_back(&stack, &described).await?;
        let mut left = stacks.left(&stack, &described).await?;
        // What becomes of its parts is told below.
        let parts: Vec<String> = parts_of(cx)?.iter().map(ToString::to_string).collect();
        left.retain(|words| !parts.contains(words));
        if !left.is_empty() {
            cx.notice(
                Finding::warning(
                    "files.deployment_left",
                    &self.name,
                    format!(
                        "made by the deployment, and left as they may hold data: {}",
                        left.join(", ")
                    ),
                )
                .hint("delete them by hand if nothing needs them"),
            );
        }
        let left = self.remove_parts(cx, stacks, &stack, false).await?;
        if !left.is_empty() {
            let left: Vec<String> = left.iter().map(ToString::to_string).collect();
            cx.notice(
                Finding::info(
                    "create.not_empty",
                    &self.name,
                    format!(
                        "made by the run, and there until nothing is kept for users any more: {}",
                        left.join(", ")
                    ),
                )
                .hint("where the run has put something aside, `restore confirm` deletes both"),
            );
        }
        Ok(())
    }

    /// Removes what the run has made with the stack, but for what stays: what holds data, unless `data` says
    /// otherwise, and what somebody else uses. That is returned.
    async fn remove_parts(
        &self,
        cx: &RunContext,
        stacks: &dyn Stacks,
        stack: &str,
        data: bool,
    ) -> Result<Vec<StackPart>> {
        let parts = parts_of(cx)?;
        let left = stacks.remove_parts(stack, cx.run(), &parts, data).await?;
        for part in parts.iter().filter(|part| !left.contains(part)) {
            cx.record_removed(&part.to_string()).await;
        }
        Ok(left)
    }

    /// Makes what all stacks need and is absent, where the run is to deploy one that is not there.
    pub(super) async fn make_foundation(&self, cx: &RunContext) -> Result<()> {
        if self.section.deployment.is_none() {
            return Ok(());
        }
        let stacks = self.stacks()?;
        if let Some(words) = stacks.foundation().await? {
            if !cx.was_absent(&words) {
                return Ok(());
            }
            cx.record(FOUNDATION, words.clone()).await?;
            cx.record_made(&words).await?;
        }
        match cx.recall(FOUNDATION) {
            Some(_) => stacks.make_foundation().await,
            None => Ok(()),
        }
    }

    /// Removes what is left of a deployment from nothing once nothing of the run is live: volumes with what was
    /// written into them, and what all stacks need.
    pub(super) async fn remove_deployment(&self, cx: &RunContext) -> Result<()> {
        let Some(deployment) = &self.section.deployment else {
            return Ok(());
        };
        let (foundation, parts) = (cx.recall(FOUNDATION), parts_of(cx)?);
        if foundation.is_none() && parts.is_empty() {
            return Ok(());
        }
        let stacks = self.stacks()?;
        let left = self
            .remove_parts(cx, stacks, &deployment.stack, true)
            .await?;
        let mut left: Vec<String> = left.iter().map(ToString::to_string).collect();
        if let Some(Value::String(words)) = foundation {
            match stacks.remove_foundation().await? {
                true => cx.record_removed(&words).await,
                false => left.push(words),
            }
        }
        if !left.is_empty() {
            cx.notice(
                Finding::warning(
                    "create.in_use",
                    &self.name,
                    format!(
                        "absent before the run, and stays: somebody else uses it by now: {}",
                        left.join(", ")
                    ),
                )
                .hint("look at what that is; delete it by hand if nothing needs it"),
            );
        }
        Ok(())
    }

    pub(super) async fn forget_deployment(&self, run: &RunId) -> Result<()> {
        self.remove_copies(run).await?;
        let mut removed = false;
        for path in [self.described(run), self.kept_source(run)] {
            match tokio::fs::remove_file(&path).await {
                Ok(()) => removed = true,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io(format!("delete {}", path.display()), e)),
            }
        }
        if removed {
            // Refused while other components keep something there.
            let _ = tokio::fs::remove_dir(self.scratch.join(run.as_str())).await;
        }
        Ok(())
    }
}

/// Compose files as they are deployed where other nodes have taken the place of those that they name.
fn placed(
    stacks: &dyn Stacks,
    files: Vec<(PathBuf, Vec<u8>)>,
    nodes: &BTreeMap<String, String>,
) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let files = files.into_iter();
    files
        .map(|(path, content)| {
            let text = text_of(&path, content)?;
            let text = stacks.placed(&text, nodes)?;
            Ok((path, text.into_bytes()))
        })
        .collect()
}

/// What the run makes, or was about to make, with its stack.
fn parts_of(cx: &RunContext) -> Result<Vec<StackPart>> {
    let Some(parts) = cx.recall(PARTS) else {
        return Ok(Vec::new());
    };
    serde_json::from_value(parts).map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "create.fact",
            format!("the journal's record of what was made with a stack cannot be read: {e}"),
        )
    })
}

/// Where in the tree at `live` the link `name` in it leads, by its words; `None` where it leads out of it.
fn led_to(live: &Path, name: &Path, to: &Path) -> Option<PathBuf> {
    let inside = match to.is_absolute() {
        true => to.strip_prefix(live).ok()?.to_path_buf(),
        false => name.parent().unwrap_or(Path::new("")).join(to),
    };
    let mut led = PathBuf::new();
    for part in inside.components() {
        match part {
            Component::Normal(part) => led.push(part),
            Component::ParentDir => led.pop().then_some(())?,
            _ => {}
        }
    }
    Some(led)
}

/// These files of the live tree, and those of its files that the links among them lead to.
async fn with_led_to(live: PathBuf, names: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    blocking(move || {
        let mut all = names.clone();
        for name in &names {
            let link = std::fs::read_link(live.join(name));
            let led = link.ok().and_then(|to| led_to(&live, name, &to));
            let led = led.filter(|it| !all.contains(it) && live.join(it).is_file());
            all.extend(led);
        }
        Ok(all)
    })
    .await
}

/// What is kept of a backup for a stack is not to be used.
fn unkept(why: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        "files.source",
        format!("what the run keeps of the backup for the stack cannot be read or written: {why}"),
    )
}

/// The content of a small file of a backup, verified.
async fn small(source: Source) -> Result<Vec<u8>> {
    let label = source.label().to_owned();
    let (expected, opened) = (source.expected(), source);
    let open = move || read_small_from(opened.open()?, COMPOSE);
    let read = blocking(move || Ok(open())).await?;
    let content = read.map_err(|e| Error::io(format!("read {label}"), e))?;
    let digest = Digest(Sha256::digest(&content).into());
    if let Some(expected) = expected.filter(|expected| *expected != digest) {
        return Err(Error::new(
            ErrorKind::Verification,
            "hash.mismatch",
            format!("{label} has SHA-256 {digest}, the manifest says {expected}"),
        )
        .hint("the file was changed since it was backed up: choose another backup"));
    }
    Ok(content)
}

/// The content of a compose file, as it is now.
async fn content_of(path: &Path) -> Result<Vec<u8>> {
    let at = path.to_owned();
    let read = blocking(move || Ok(read_small(&at, COMPOSE))).await?;
    read.map_err(|e| Error::io(format!("read {}", path.display()), e))
}

/// The SHA-256 of a content, in words.
fn digest_of(content: &[u8]) -> String {
    Digest(Sha256::digest(content).into()).to_string()
}

/// Why a compose file is not deployed.
fn changed(path: &Path, why: &str) -> Error {
    Error::new(
        ErrorKind::Verification,
        "files.compose_changed",
        format!(
            "{} is not the file that was restored, and is not deployed: {why}",
            path.display()
        ),
    )
    .hint("look who can write to its folder and has changed it, a hook of this site among them, then plan again: what it is to be belongs into the backup, and what a hook makes of it is deployed where the tree and the folders above it are root's alone")
}

/// Why a compose file is not deployed that is none of those that are restored.
fn not_restored(path: &Path) -> Error {
    changed(
        path,
        "this run does not restore it, and others than root can change it",
    )
    .hint("name the file with --path as well, restore the component as a whole, or set redeploy = false and deploy by hand")
}

fn text_of(name: &Path, content: Vec<u8>) -> Result<String> {
    String::from_utf8(content).map_err(|_| {
        Error::new(
            ErrorKind::Verification,
            "files.compose_text",
            format!("{} is no text in UTF-8", name.display()),
        )
        .hint("choose another backup, or correct `compose` of the component")
    })
}

/// Writes a private file, whole and durable.
async fn keep(path: PathBuf, text: Vec<u8>) -> Result<()> {
    let work = move || {
        let new = path.with_extension("new");
        private::create_dir_all(path.parent().unwrap_or(Path::new("/")))
            .and_then(|()| durable::replace(&path, &new, Access::PRIVATE, &text))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_within_the_tree_by_their_words() {
        for (name, to, led) in [
            ("a.yml", "b.yml", Some("b.yml")),
            ("more/a.yml", "../b.yml", Some("b.yml")),
            ("more/a.yml", "./files/b.yml", Some("more/files/b.yml")),
            ("a.yml", "/srv/shop/b.yml", Some("b.yml")),
            ("a.yml", "/srv/other/b.yml", None),
            ("a.yml", "../b.yml", None),
        ] {
            let is = led_to(Path::new("/srv/shop"), Path::new(name), Path::new(to));
            assert_eq!(is, led.map(PathBuf::from), "{name} -> {to}");
        }
    }
}
