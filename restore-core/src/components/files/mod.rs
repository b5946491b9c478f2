//! A tree of files, swapped file by file.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::{archive, hooks, place};
use crate::archive::UnpackPolicy;
use crate::contract::nodes::{NoTree, no_nodes};
use crate::contract::{
    BackedUp, Backup, BackupWriter, Component, ComponentDeps, Contents, Create, Inspection,
    KeptByRun, Platform, Program, RunContext, SharedComponent, Staged, Table, Target, Volume,
};
use crate::model::{CheckOutcome, Error, ErrorKind, Finding, Result};
use crate::swap::scope::{Discard, SwapScope, SwapState};
use crate::swap::{LocalVolume, records_in};

mod absent;
mod contents;
mod deploy;
mod section;
mod stage;

use absent::was_made;
use section::Section;

/// The fact that the live tree did not exist and was made, empty, to stage into, of a version that
/// did not note which directory it made.
const MADE: &str = "live_tree_made";
/// The fact that a service reads the restored tree from here on: told so by us, or by the end of
/// the maintenance mode.
const READ: &str = "restored_tree_read";

/// A tree of files, of this host or of a node. Directories stay the directories they are, each file
/// is replaced by rename, files that the backup lacks leave; single paths can be restored alone.
pub struct Files {
    name: String,
    section: Section,
    platform: Arc<dyn Platform>,
    /// What a journal must not hold is kept here.
    scratch: PathBuf,
    /// It backs up what the platform tells of all stacks: one component does, which deploys one where any does.
    describes_stacks: bool,
    /// It backs up what the platform tells of its own stack; of several components that deploy that, one does.
    describes_stack: bool,
    /// The compose files of the backup that was read last: each plan asks for them, and that of a run again.
    compose: deploy::ComposeCache,
}

impl Files {
    /// The component `name` from its table in the configuration.
    pub fn from_table(name: &str, table: Table, parts: &ComponentDeps) -> Result<SharedComponent> {
        let deploys = |section: &Table| section.get("redeploy") == Some(&Value::Bool(true));
        let is_first = |of_stack: Option<&Value>| {
            let mut deploying = parts.sections.iter().filter(|(_, section)| {
                deploys(section) && (of_stack.is_none() || section.get("stack") == of_stack)
            });
            deploying.next().is_none_or(|(first, _)| first == name)
        };
        let stack = table.get("stack").cloned();
        let of_files = |section: &Table| section.get("kind") == Some(&Value::from("files"));
        let mut trees = parts.sections.iter().filter(|(_, it)| of_files(it));
        let first_tree = trees.next().is_none_or(|(first, _)| first == name);
        let any_deploys = parts.sections.values().any(deploys);
        Ok(Arc::new(Self {
            describes_stacks: is_first(None) && (any_deploys || first_tree),
            describes_stack: is_first(stack.as_ref()),
            name: name.to_owned(),
            section: Section::parse(name, table, parts)?,
            platform: parts.platform.clone(),
            scratch: parts.scratch.clone(),
            compose: deploy::ComposeCache::default(),
        }))
    }

    /// The live tree. Whether it is there is known only of one of a node.
    async fn volume(&self) -> Result<Arc<dyn Volume>> {
        let live = self.section.live();
        let Some(node) = &self.section.node else {
            return Ok(Arc::new(self.local(live)));
        };
        match self.platform.nodes() {
            Some(nodes) => nodes.tree(node, &live).await,
            None => Err(no_nodes(&format!("[components.{}] node", self.name), "key")),
        }
    }

    fn local(&self, path: impl Into<PathBuf>) -> LocalVolume {
        LocalVolume::new(path)
            .kept_in(records_in(&self.scratch))
            .followed(self.section.follow)
    }

    /// The live tree; `None` where it does not exist, and so nothing of any run in it.
    async fn existing(&self) -> Result<Option<Arc<dyn Volume>>> {
        if self.section.node.is_some() {
            return match self.volume().await {
                Ok(volume) => Ok(Some(volume)),
                Err(error) if error.is(&NoTree) => Ok(None),
                Err(error) => Err(error),
            };
        }
        let live = self.section.live();
        match tokio::fs::symlink_metadata(&live).await {
            Ok(_) => Ok(Some(self.volume().await?)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(format!("look at {}", live.display()), e)),
        }
    }

    /// What is neither restored nor backed up.
    fn left_out(&self) -> Vec<String> {
        let mut left_out = self.section.kept();
        left_out.push(archive::never_packed());
        left_out
    }

    fn scope(&self, cx: &RunContext) -> Result<SwapScope> {
        self.scope_of(cx.paths())
    }

    fn scope_of(&self, paths: &[String]) -> Result<SwapScope> {
        let paths = self.section.paths(&self.name, paths)?;
        let keep = self.section.kept();
        Ok(match paths.is_empty() {
            true => SwapScope::Tree { keep },
            false => SwapScope::Paths { paths, keep },
        })
    }

    /// What of the tree is replaced, on whichever machine it is.
    fn target(&self, paths: &[String]) -> Result<Target> {
        Ok(Target::new(self.section.live(), self.scope_of(paths)?))
    }

    /// The name of the node that has the tree; `None`: this host has it.
    async fn node(&self) -> Option<String> {
        let node = self.section.node.as_ref()?;
        match self.platform.nodes() {
            // One that the platform cannot be asked about is not taken for this host.
            Some(nodes) => match nodes.name_of(node).await {
                Ok(name) => name,
                Err(_) => Some(node.clone()),
            },
            None => Some(node.clone()),
        }
    }

    /// Whether the service that uses the tree is not there, and the run may make what is absent: then there
    /// is nothing to test the tree with, and nobody to read it yet.
    async fn awaits_service(&self, cx: &RunContext) -> bool {
        let Some(service) = self.section.service.as_deref().filter(|_| cx.may_create()) else {
            return false;
        };
        let state = self.platform.service(service).await;
        state.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    /// Runs the site's own test of the tree.
    async fn test(&self) -> Result<()> {
        let argv = &self.section.test;
        if argv.is_empty() {
            return Ok(());
        }
        let answer = hooks::run(&self.platform, self.section.service.as_deref(), argv).await?;
        if answer.success() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Failed,
            "files.test_failed",
            format!(
                "`{}` refuses the restored tree {} (exit code {}): {}",
                argv.join(" "),
                self.section.place(),
                answer.code,
                answer.output
            ),
        )
        .hint("the backup's files do not fit what is installed here: choose another backup, or restore single files with --path"))
    }

    /// Makes the service read the tree. One that does not run reads it when it starts.
    async fn reload(&self) -> Result<()> {
        let argv = &self.section.reload;
        if argv.is_empty() {
            return Ok(());
        }
        if let Some(service) = &self.section.service
            && self.platform.service(service).await?.running == 0
        {
            return Ok(());
        }
        let answer = hooks::run(&self.platform, self.section.service.as_deref(), argv).await?;
        if answer.success() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Failed,
            "files.reload_failed",
            format!(
                "`{}` failed (exit code {}): {}",
                argv.join(" "),
                answer.code,
                answer.output
            ),
        )
        .hint("run it by hand and see what the service's log says"))
    }

    async fn look(&self, cx: &RunContext) -> Result<Inspection> {
        let scope = self.scope(cx)?;
        let mut inspection = Inspection::default();
        let found = match archive::find(cx.backup(), &self.name, &self.section.archive) {
            Ok(found) => Some(found),
            Err(error) => {
                inspection
                    .findings
                    .push(Finding::from_error(&self.name, &error));
                None
            }
        };
        let space = match self.place_to_stage(cx, &mut inspection).await {
            Ok(space) => space,
            Err(error) => {
                let finding = Finding::from_error(&self.name, &error);
                inspection.findings.push(finding);
                self.look_at_deployment(cx, &mut inspection).await;
                return Ok(inspection);
            }
        };
        if let Some(found) = found {
            archive::weigh(cx, &found, space, &mut inspection).await?;
            if matches!(scope, SwapScope::Tree { .. }) {
                let looked = self.look_into(cx, &found).await;
                archive::tell(looked, &self.name, &mut inspection)?;
            }
            inspection.summary = match &scope {
                SwapScope::Paths { paths, .. } => {
                    format!("{} below {}", paths.join(", "), self.section.place())
                }
                _ => self.section.place(),
            };
            inspection.obeyed.push(self.section.place());
            if let Some(deployment) = &self.section.deployment {
                let stack = &deployment.stack;
                inspection
                    .obeyed
                    .push(format!("the compose files of {stack}"));
            }
        }
        self.look_at_test(cx, &mut inspection).await;
        self.look_at_deployment(cx, &mut inspection).await;
        Ok(inspection)
    }

    /// A test that cannot run at all would undo the run later; one that fails now is only said:
    /// the live tree may be what is broken.
    async fn look_at_test(&self, cx: &RunContext, inspection: &mut Inspection) {
        let argv = &self.section.test;
        if argv.is_empty() {
            return;
        }
        if self.awaits_service(cx).await {
            let service = self.section.service.as_deref().unwrap_or_default();
            inspection.findings.push(Finding::info(
                "files.not_tested",
                &self.name,
                format!(
                    "{service}, by which the tree is tested, is not there yet: `{}` is not run",
                    argv.join(" ")
                ),
            ));
            return;
        }
        match hooks::run(&self.platform, self.section.service.as_deref(), argv).await {
            Ok(answer) if answer.success() => {}
            Ok(answer) => inspection.findings.push(Finding::info(
                "files.test_fails_now",
                &self.name,
                format!(
                    "`{}` fails on the live tree already (exit code {}): {}",
                    argv.join(" "),
                    answer.code,
                    answer.output.replace('\n', "; ")
                ),
            )),
            Err(error) => inspection
                .findings
                .push(Finding::from_error(&self.name, &error)),
        }
    }

    async fn swap_in(&self, cx: &RunContext) -> Result<()> {
        let scope = self.scope(cx)?;
        archive::note_cutting(cx).await?;
        self.volume().await?.swap(cx.run(), &scope).await?;
        if self.awaits_service(cx).await {
            return Ok(());
        }
        self.test().await?;
        cx.record(READ, true).await?;
        if cx.maintenance() {
            return Ok(());
        }
        self.reload().await
    }

    async fn swap_out(&self, cx: &RunContext) -> Result<()> {
        let existing = self.existing().await?;
        let place = self.section.place();
        let seen = existing.as_deref();
        // A tree that this run had to make replaced nothing: should it be gone again, that is
        // how it was before.
        let made = was_made(cx);
        match made {
            true => place::ensure_reachable(cx).await?,
            false => archive::ensure_mounted(cx, seen, &place).await?,
        }
        let Some(volume) = existing else {
            return Ok(());
        };
        if !made {
            archive::ensure_swapped(cx, volume.state(cx.run()).await?, &place)?;
        }
        volume.unswap(cx.run()).await?;
        archive::note_undone(cx).await;
        // Not told from the swap's state: killed after the swap and before the reload, the
        // next call must still reload.
        if cx.maintenance() || cx.recall(READ).is_none() || self.awaits_service(cx).await {
            return Ok(());
        }
        let Err(error) = self.reload().await else {
            return Ok(());
        };
        // The files are as they were: whether the service can use them is another question, and
        // nothing that an undo does would change that.
        let sound = self.section.test.is_empty() || self.test().await.is_ok();
        let (code, why) = match sound {
            true => ("files.not_reloaded", "the service does not read it"),
            false => ("files.unsound_before", "its own test refuses it"),
        };
        cx.notice(
            Finding::warning(
                code,
                &self.name,
                format!("the tree is as it was, and {why}: it goes on with the restored configuration: {error}"),
            )
            .hint("put the live tree right and reload the service"),
        );
        Ok(())
    }

    async fn throw_away(&self, cx: &RunContext, what: Discard) -> Result<()> {
        self.forget_deployment(cx.run()).await?;
        let made = was_made(cx);
        if made {
            place::ensure_reachable(cx).await?;
        }
        let gone = match self.existing().await? {
            Some(volume) => {
                volume.discard(cx.run(), what).await?;
                volume.state(cx.run()).await? == SwapState::Nothing
            }
            None => true,
        };
        if what == Discard::Staged && gone && made && !cx.cut_over().is_begun() {
            self.remove_live(cx).await?;
        }
        Ok(())
    }

    fn at(&self) -> impl Fn(Error) -> Error {
        let name = self.name.clone();
        move |error| error.in_component(&name)
    }
}

#[async_trait]
impl Component for Files {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "files"
    }

    fn stops(&self) -> Vec<String> {
        self.section.stops.clone()
    }

    fn path_prefix(&self) -> Option<String> {
        Some(self.section.tree().to_owned())
    }

    async fn targets(&self, paths: &[String]) -> Result<Vec<Target>> {
        match self.node().await {
            Some(_) => Ok(Vec::new()),
            None => Ok(vec![self.target(paths).map_err(self.at())?]),
        }
    }

    async fn targets_elsewhere(&self, paths: &[String]) -> Result<Vec<(String, Target)>> {
        match self.node().await {
            Some(node) => Ok(vec![(node, self.target(paths).map_err(self.at())?)]),
            None => Ok(Vec::new()),
        }
    }

    fn comes_before_services(&self) -> bool {
        true
    }

    fn artifacts(&self, backup: &Backup) -> Vec<String> {
        let mut found = backup.find_of(&self.name, &self.section.archive);
        // Of a backup that lacks the files themselves these are no use.
        if let Some(stacks) = self.platform.stacks()
            && self.section.deployment.is_some()
            && !found.is_empty()
        {
            found.extend(self.described_by(backup, stacks));
        }
        found
    }

    fn programs(&self) -> Vec<Program> {
        let service = self.section.service.as_deref();
        let named = |key, words| {
            Program::of(
                format!("{key} of [components.{}]", self.name),
                service,
                words,
            )
        };
        let named = [
            named("test", &self.section.test),
            named("reload", &self.section.reload),
        ];
        named.into_iter().flatten().collect()
    }

    async fn unpack_policies(&self, backup: &Backup) -> Result<Vec<(String, UnpackPolicy)>> {
        let mut policy = self.policy(Vec::new()).await;
        // Whose it is its node knows.
        policy.elsewhere = self.section.node.is_some();
        let archives = backup
            .find_of(&self.name, &self.section.archive)
            .into_iter();
        Ok(archives.map(|path| (path, policy.clone())).collect())
    }

    fn contents(&self) -> Option<&dyn Contents> {
        Some(self)
    }

    async fn live_bytes(&self) -> Result<u64> {
        let volume = self.volume().await.map_err(self.at())?;
        let there = volume.measure(&self.left_out()).await;
        Ok(there.map_err(self.at())?.map_or(0, |there| there.bytes))
    }

    async fn back_up(&self, writer: &BackupWriter) -> Result<BackedUp> {
        let name = self
            .section
            .members()
            .name_below(self.section.tree(), &self.name);
        let what = (name.as_str(), self.left_out());
        let restore = self.policy(Vec::new()).await;
        let volume = self.volume().await.map_err(self.at())?;
        let done = archive::back_up(
            writer,
            &self.section.archive,
            volume.as_ref(),
            what,
            restore,
        );
        let mut done = done.await.map_err(self.at())?;
        let untold = self.back_up_stacks(writer).await.map_err(self.at())?;
        done.findings.extend(untold);
        Ok(done)
    }

    async fn inspect(&self, cx: &RunContext) -> Result<Inspection> {
        self.look(cx).await.map_err(self.at())
    }

    fn creator(&self) -> Option<&dyn Create> {
        Some(self)
    }

    async fn stage(&self, cx: &RunContext) -> Result<Staged> {
        cx.check_cancelled()?;
        self.stage_tree(cx).await.map_err(self.at())
    }

    async fn cut_over(&self, cx: &RunContext) -> Result<()> {
        self.swap_in(cx).await.map_err(self.at())
    }

    async fn undo(&self, cx: &RunContext) -> Result<()> {
        self.swap_out(cx).await.map_err(self.at())
    }

    fn deploys(&self) -> Option<String> {
        self.deployment()
    }

    async fn makes_services(&self) -> Result<Option<String>> {
        self.absent_stack().await.map_err(self.at())
    }

    async fn deploy(&self, cx: &RunContext) -> Result<()> {
        self.deploy_stack(cx).await.map_err(self.at())
    }

    async fn undeploy(&self, cx: &RunContext) -> Result<()> {
        self.undeploy_stack(cx).await.map_err(self.at())
    }

    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        let volume = self.volume().await.map_err(self.at())?;
        let outcome = archive::check_swapped(cx, &self.name, volume.as_ref())
            .await
            .map_err(self.at())?;
        Ok(vec![outcome])
    }

    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
        self.throw_away(cx, what).await.map_err(self.at())
    }

    async fn as_staged(&self, cx: &RunContext) -> Result<()> {
        let existing = self.existing().await?;
        archive::ensure_staged(cx, existing.as_deref(), &self.section.place()).await
    }

    async fn way_back(&self, cx: &RunContext) -> Result<()> {
        self.way_to_undeploy(cx).await?;
        self.as_left(cx).await
    }

    async fn can_undo(&self, cx: &RunContext) -> Result<()> {
        match self.existing().await? {
            Some(volume) => archive::ensure_movable(cx, volume.as_ref()).await,
            None => Ok(()),
        }
    }

    async fn as_left(&self, cx: &RunContext) -> Result<()> {
        let existing = self.existing().await?;
        if was_made(cx) {
            place::ensure_reachable(cx).await?;
            if cx.cut_over().is_begun() {
                // It replaced nothing: whatever somebody has put there since is theirs.
                return Ok(());
            }
        }
        archive::ensure_left(cx, existing.as_deref(), &self.section.place()).await
    }

    async fn kept_by_runs(&self) -> Result<Vec<KeptByRun>> {
        match self.existing().await? {
            Some(volume) => archive::kept_by_runs(volume.as_ref()).await,
            None => Ok(Vec::new()),
        }
    }

    async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
        match self.existing().await.map_err(self.at())? {
            Some(volume) => archive::replaced_at(cx, volume.as_ref())
                .await
                .map_err(self.at()),
            None => Ok(None),
        }
    }

    async fn kept_bytes(&self, cx: &RunContext) -> Result<Option<u64>> {
        match self.existing().await.map_err(self.at())? {
            Some(volume) => archive::kept_bytes(cx, volume.as_ref())
                .await
                .map_err(self.at()),
            None => Ok(None),
        }
    }
}
