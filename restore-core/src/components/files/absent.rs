//! A tree that is not there: planned, made, and removed again.

use async_trait::async_trait;
use serde_json::Value;

use super::{Files, MADE};
use crate::components::{archive, place};
use crate::contract::{Create, Inspection, RunContext};
use crate::model::{Error, ErrorKind, Finding, Result};
use crate::sys::absent::AbsentDirectory;
use crate::sys::check_ancestors;
use crate::sys::space::Space;

/// Whether the run had to make the tree's root.
pub(super) fn was_made(cx: &RunContext) -> bool {
    cx.recall(MADE) == Some(Value::Bool(true)) || place::was_made(cx)
}

impl Files {
    /// The tree's root as a directory of this host that could be made.
    fn root(&self) -> AbsentDirectory {
        AbsentDirectory::new(self.section.live()).followed(self.section.follow)
    }

    /// Looks where the tree is, or where it will be made, and says so; the room that is there. Changes
    /// nothing.
    pub(super) async fn place_to_stage(
        &self,
        cx: &RunContext,
        inspection: &mut Inspection,
    ) -> Result<Space> {
        let existing = match self.section.node {
            Some(_) => Some(self.volume().await?),
            None => self.existing().await?,
        };
        let folder = cx.run().folder();
        if let Some(volume) = existing {
            let space = volume.free_space().await?;
            archive::other_runs(cx, volume.as_ref(), &mut inspection.findings).await;
            inspection.staged_at = archive::in_volume(volume.as_ref(), &folder);
            return Ok(space);
        }
        let elsewhere = self.elsewhere().await?;
        let is_elsewhere = elsewhere.is_some();
        inspection.findings.extend(elsewhere);
        let live = self.section.live();
        inspection.staged_at = live.join(folder).display().to_string();
        let gone = || {
            let above = live.parent().unwrap_or(&live).display();
            Error::new(
                ErrorKind::NotFound,
                "volume.missing",
                format!("there is no directory {above}"),
            )
            .hint("is it mounted, and is `root` in the configuration right? only the last directory of a tree is made without being told to: `restore run ID --create` makes those above it as well")
        };
        if cx.may_create() {
            return place::announce(&self.root(), inspection)
                .await?
                .ok_or_else(gone);
        }
        let missing = place::missing(&self.root()).await?.ok_or_else(gone)?;
        if missing.paths.len() > 1 {
            return Err(gone());
        }
        if !is_elsewhere {
            inspection.findings.push(
                Finding::warning(
                    "files.tree_absent",
                    live.display().to_string(),
                    "the live tree does not exist and will be made",
                )
                .hint("is its file system mounted? if it should be, mount it first"),
            );
        }
        inspection.creates.push(place::words(&live));
        Space::of(&missing.above)
    }

    /// What speaks against making a tree on this host: the service that uses it runs elsewhere.
    async fn elsewhere(&self) -> Result<Option<Finding>> {
        let (Some(service), Some(nodes)) = (&self.section.service, self.platform.nodes()) else {
            return Ok(None);
        };
        let names = match nodes.elsewhere(service).await {
            // A service that is not there needs no tree.
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            names => names?,
        };
        let Some(first) = names.first() else {
            return Ok(None);
        };
        let live = self.section.live().display().to_string();
        Ok(Some(
            Finding::error(
                "files.elsewhere",
                &self.name,
                format!(
                    "there is no {live} on this host, and {service}, which uses it, runs on {}",
                    names.join(" and ")
                ),
            )
            .hint(format!(
                "is it a directory of that node? then add node = {first:?} to [components.{}]; of a file system that both mount, mount it here first",
                self.name
            )),
        ))
    }

    /// A tree that is gone wholly is restored too: into an empty directory, which is written down
    /// first, for an undo to remove. Nothing above it is made where nobody has asked for that: it may be
    /// a place where nothing is mounted just now.
    pub(super) async fn make_live(&self, cx: &RunContext) -> Result<()> {
        // One of another node is never made: what is missing there is missed where it is used.
        if self.section.node.is_some() {
            return Ok(());
        }
        if self.existing().await?.is_some() {
            return place::ensure_ours(cx).await;
        }
        let live = self.section.live();
        let above = live.parent().unwrap_or(&live);
        if !above.is_dir() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "volume.missing",
                format!("there is no directory {}", above.display()),
            )
            .hint("is it mounted, and is `root` in the configuration right? `restore run ID --create` makes it"));
        }
        if !cx.was_absent(&place::words(&live)) {
            return Err(Error::new(
                ErrorKind::Failed,
                "files.tree_gone",
                format!(
                    "{} was there when the run was planned, and is gone: it is not made anew",
                    live.display()
                ),
            )
            .hint("is its disk mounted? mount it, then `restore resume`; if it is really gone, `restore rollback`, and plan again"));
        }
        // What the swap gives it is the archive's.
        place::make(cx, &self.root(), None).await
    }

    /// Removes the directories that the run made for the tree, once nothing of it is in them.
    pub(super) async fn remove_live(&self, cx: &RunContext) -> Result<()> {
        place::remove(cx, self.absent().await?).await?;
        if cx.recall(MADE) != Some(Value::Bool(true)) {
            return Ok(());
        }
        // Begun by a version that noted no more. Refused by the system, as it should be, where
        // something else is in it by now.
        let live = self.section.live();
        check_ancestors(&live, self.section.follow)?;
        if tokio::fs::remove_dir(&live).await.is_ok() {
            cx.record_removed(&place::words(&live)).await;
        }
        Ok(())
    }

    /// The tree's root, where it is absent.
    async fn absent(&self) -> Result<Option<AbsentDirectory>> {
        let there = self.section.node.is_some() || self.existing().await?.is_some();
        Ok((!there).then(|| self.root()))
    }
}

#[async_trait]
impl Create for Files {
    async fn create(&self, cx: &RunContext) -> Result<()> {
        if let Some(at) = self.absent().await.map_err(self.at())? {
            // What the swap gives it is the archive's.
            place::make(cx, &at, None).await.map_err(self.at())?;
        }
        self.make_foundation(cx).await.map_err(self.at())
    }

    async fn remove_created(&self, cx: &RunContext) -> Result<()> {
        self.remove_deployment(cx).await.map_err(self.at())?;
        let at = self.absent().await.map_err(self.at())?;
        place::remove(cx, at).await.map_err(self.at())
    }
}
