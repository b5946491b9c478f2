//! Staging a tree beside the live one.

use std::path::PathBuf;

use serde_json::Value;

use super::Files;
use crate::archive::{Measured, UnpackPolicy, Unpacked};
use crate::components::{archive, readers};
use crate::contract::{RunContext, Staged, Volume};
use crate::model::{Finding, Result};
use crate::swap::scope::Discard;

impl Files {
    /// Unpacks the tree, or the named paths of it, beside the live one.
    pub(super) async fn stage_tree(&self, cx: &RunContext) -> Result<Staged> {
        let only = self.section.paths(&self.name, cx.paths())?;
        let found = archive::find(cx.backup(), &self.name, &self.section.archive)?;
        self.make_live(cx).await?;
        let volume = self.volume().await?;
        let staged = match self.keep_source(cx).await {
            Ok(()) => self.stage_into(cx, volume.as_ref(), &found, only).await,
            Err(error) => Err(error),
        };
        if staged.is_err() {
            // What went wrong matters more than a leftover that a later discard finds.
            let _ = self.throw_away(cx, Discard::Staged).await;
        }
        staged
    }

    /// Which members of an archive are let in: of the tree, or of it `only` these paths.
    pub(super) async fn policy(&self, only: Vec<String>) -> UnpackPolicy {
        let live = self.section.live();
        // Of a tree elsewhere it is found there.
        let owner = match self.section.node {
            Some(_) => None,
            None => archive::owner(live.clone()).await,
        };
        UnpackPolicy {
            only,
            owner,
            live_root: live,
            ..self.section.members().policy(self.section.tree())
        }
    }

    async fn stage_into(
        &self,
        cx: &RunContext,
        volume: &dyn Volume,
        found: &str,
        only: Vec<String>,
    ) -> Result<Staged> {
        // A path that the archive lacks is an error there: it must not take the live one away.
        let mut policy = self.policy(only).await;
        let service = self.section.service.as_deref();
        policy.reader = readers::of(self.platform.as_ref(), service).await;
        if policy.max_bytes == 0 {
            policy.limit = Some(archive::limit(cx, &self.name, found).await);
        }
        let source = cx.source(found)?;
        let progress = cx.progress("unpack", source.size());
        let unpacked = volume.unpack(cx.run(), source, &policy, progress).await?;
        let mut staged = Staged {
            bytes: unpacked.bytes,
            facts: archive::facts(&unpacked),
            findings: archive::lost(found, &unpacked),
        };
        staged.findings.extend(readers::finding(
            (self.name.as_str(), found),
            (service, policy.reader.as_ref()),
            &unpacked,
            policy.owner,
        ));
        let left_out = volume.leave_out(cx.run(), &self.left_out()).await?;
        if !left_out.is_empty() {
            cx.record(archive::LEFT_OUT, true).await?;
        }
        if volume.path().is_some() {
            let staging = volume.staging_dir(cx.run()).await?;
            self.must_have_compose(&staging.here(), !policy.only.is_empty())?;
            self.note_compose(cx, staging).await?;
        }
        self.say_left_out(
            found,
            policy.only.is_empty(),
            &unpacked,
            &left_out,
            &mut staged,
        );
        if policy.only.is_empty() {
            let live = self.live(volume).await;
            if unpacked.files.saturating_add(unpacked.links) == 0 {
                let place = self.section.place();
                archive::refuse_nothing(cx, (&self.name, found), &place, live)?;
                staged.findings.push(Finding::warning(
                    "volume.empty_archive",
                    &self.name,
                    format!("{found} holds no file of {place}"),
                ));
            } else if !cx.allows_empty() {
                let far_smaller = archive::far_smaller((&self.name, found), &unpacked, live);
                staged.findings.extend(far_smaller);
            }
        }
        cx.record("staged", Value::Object(staged.facts.clone()))
            .await?;
        Ok(staged)
    }

    /// How much is live; nothing where nobody knows.
    async fn live(&self, volume: &dyn Volume) -> Measured {
        let there = volume.measure(&self.left_out()).await;
        there.ok().flatten().unwrap_or_default()
    }

    /// Refuses an archive that is seen to hold nothing before it is staged.
    pub(super) async fn look_into(&self, cx: &RunContext, found: &str) -> Result<()> {
        let policy = self.section.members().policy(self.section.tree());
        if !archive::restores_nothing(cx, found, policy).await? {
            return Ok(());
        }
        match self.existing().await? {
            Some(volume) => {
                let live = self.live(volume.as_ref()).await;
                archive::refuse_nothing(cx, (&self.name, found), &self.section.place(), live)
            }
            None => Ok(()),
        }
    }

    fn say_left_out(
        &self,
        found: &str,
        whole: bool,
        unpacked: &Unpacked,
        left_out: &[PathBuf],
        staged: &mut Staged,
    ) {
        if unpacked.left_out > 0 && whole {
            staged.findings.push(
                Finding::warning(
                    "files.outside_tree",
                    found,
                    format!(
                        "{} members are outside of {} and were left out",
                        unpacked.left_out,
                        self.section.tree()
                    ),
                )
                .hint("give them a component of their own if they should be restored"),
            );
        }
        let mut excluded = 0_u64;
        for path in left_out {
            if path
                .file_name()
                .is_some_and(|name| name == "maintenance.conf" || name == crate::model::FILE_NAME)
            {
                staged.findings.push(
                    Finding::warning(
                        "files.old_maintenance_page",
                        path.display().to_string(),
                        format!("{found} holds an old maintenance page's configuration: it was left out, the live file (if any) stays"),
                    )
                    .hint("delete it from the live tree if it is not wanted there either"),
                );
            } else {
                excluded += 1;
            }
        }
        if excluded > 0 {
            staged.findings.push(Finding::info(
                "files.excluded",
                found,
                format!("{excluded} excluded entries were left out"),
            ));
        }
    }
}
