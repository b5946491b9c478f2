//! Images that services run, from archives that `docker save` wrote.
//!
//! Loading gives an image no name, so that nothing live changes while it is staged; a name of the
//! run's own keeps it from being cleaned away. The cut-over moves the archive's names to it and
//! keeps what they meant under another name of the run's own.
//!
//! Where services run on several machines each has images of its own: all of this is done on each
//! of them, one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::contract::{
    BackedUp, Backup, BackupWriter, Component, ComponentDeps, CutOver, ImageUser, Images,
    Inspection, KeptByRun, Needed, Platform, RunContext, SharedComponent, SpaceNeed, Staged, Table,
    parse_section,
};
use crate::model::{CheckOutcome, Error, ErrorKind, Finding, Result, RunId};
use crate::swap::scope::Discard;

mod back_up;
mod forget;
mod load;
mod pinned;
mod swap;

/// The fact of what was loaded.
const LOADED: &str = "loaded";
/// The fact of the other machines where they are loaded too, written before anything is there.
const PLACES: &str = "places";
/// The fact of what was loaded on those.
const LOADED_THERE: &str = "loaded_there";
/// The fact of whether the backup that they came from is signed.
const SIGNED: &str = "signed";
/// The fact of what the names meant before, and which images services were pinned to.
const BEFORE: &str = "before";

/// Images that services run.
pub struct ImageComponent {
    name: String,
    section: Section,
    platform: Arc<dyn Platform>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    #[serde(default = "archives")]
    archive: Vec<String>,
    /// The services that run them: only those that stop start with the restored images.
    #[serde(default)]
    stops: Vec<String>,
    /// Which ones a backup saves, by name.
    #[serde(default)]
    images: Vec<String>,
    /// So many bytes an archive may unpack to; 0: what its size makes likely.
    #[serde(default)]
    max_bytes: u64,
}

fn archives() -> Vec<String> {
    vec!["app/docker-image-*.tar.gz".to_owned()]
}

/// What the cut-over destroys.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Before {
    /// What each name meant; `None`: nothing.
    names: BTreeMap<String, Option<String>>,
    /// What they meant on other machines.
    #[serde(default)]
    there: BTreeMap<String, BTreeMap<String, Option<String>>>,
    /// The image in the description of each service that is pinned to a digest.
    pinned: BTreeMap<String, String>,
}

impl ImageComponent {
    /// The component `name` from its table in the configuration.
    pub fn from_table(name: &str, table: Table, parts: &ComponentDeps) -> Result<SharedComponent> {
        Ok(Arc::new(Self {
            name: name.to_owned(),
            section: parse_section(&format!("components.{name}"), table)?,
            platform: parts.platform.clone(),
        }))
    }

    fn images(&self) -> Result<Arc<dyn Images>> {
        self.platform.images().ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "image.no_images",
                format!("{} runs no images", self.platform.describe()),
            )
            .hint(format!("take [components.{}] out", self.name))
        })
    }

    fn find(&self, backup: &Backup) -> Vec<String> {
        let mut found = backup.find_of(&self.name, &self.section.archive);
        found.sort();
        found
    }

    fn at(&self) -> impl Fn(Error) -> Error {
        let name = self.name.clone();
        move |error| error.in_component(&name)
    }

    async fn look(&self, cx: &RunContext) -> Result<Inspection> {
        let images = self.images()?;
        let mut inspection = Inspection {
            artifacts: self.find(cx.backup()),
            ..Inspection::default()
        };
        if inspection.artifacts.is_empty() {
            inspection.findings.push(
                Finding::error(
                    "image.no_artifact",
                    &self.name,
                    format!(
                        "backup {} has no archive of images (looked for {})",
                        cx.backup().id(),
                        self.section.archive.join(", ")
                    ),
                )
                .hint("choose another backup, or leave the component out with --only"),
            );
            return Ok(inspection);
        }
        let names = images.names().await?;
        let mut known = Vec::new();
        let mut bytes = 0_u64;
        for artifact in &inspection.artifacts {
            let size = cx.backup().file(artifact).map_or(0, |file| file.size);
            inspection.read_bytes = inspection.read_bytes.saturating_add(size);
            // Once as it comes and once unpacked.
            bytes = bytes.saturating_add(size.saturating_mul(4));
            let meant = names
                .iter()
                .filter(|(name, _)| stem(name) == stem_of(artifact));
            for (name, id) in meant {
                known.push(name.clone());
                let of = (name.as_str(), id.as_str());
                self.look_at_users(cx, images.as_ref(), of, &mut inspection.findings)
                    .await?;
            }
        }
        if let Some(space) = images.free_space().await? {
            inspection.needs.push(SpaceNeed {
                space,
                bytes,
                inodes: 4,
            });
        }
        "the engine's images".clone_into(&mut inspection.staged_at);
        inspection
            .obeyed
            .push("images that services run".to_owned());
        inspection.summary = match known.as_slice() {
            [] => "images that this platform does not have by name".to_owned(),
            known => format!("what {} mean", known.join(", ")),
        };
        inspection.facts.insert("names".to_owned(), json!(known));
        Ok(inspection)
    }

    async fn look_at_users(
        &self,
        cx: &RunContext,
        images: &dyn Images,
        (name, id): (&str, &str),
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        for user in images.users(name).await? {
            let service = &user.service;
            if Self::stays(cx, &user) {
                findings.push(match Self::gone(images, &user).await? {
                    Some(error) => Finding::from_error(service, &error),
                    None => Self::staying(service),
                });
                continue;
            }
            for (node, hint) in &user.beyond {
                findings.push(
                    Finding::error(
                        "image.other_node",
                        service,
                        format!("it runs {name} on the node {node} too, or may be started there, and there is no way to that node's engine to load the image"),
                    )
                    .hint(hint.clone()),
                );
            }
            let stops = user
                .key
                .as_ref()
                .is_some_and(|key| self.section.stops.contains(key));
            if user.keeps_image {
                let keeps = format!(
                    "its containers keep the image that they were made from: stopped and started they do not run the restored {name}"
                );
                findings.push(match stops {
                    true => Finding::error("image.kept", service, keeps).hint(format!(
                        "take it out of `stops` of [components.{}], and make its containers anew after the restore (with Compose: `docker compose up -d`)",
                        self.name
                    )),
                    false => Finding::warning("image.kept", service, keeps)
                        .hint("make them anew after the restore (with Compose: `docker compose up -d`)"),
                });
                continue;
            }
            if !stops {
                findings.push(
                    Finding::warning(
                        "image.not_restarted",
                        service,
                        format!("it runs {name}, and goes on with the image that it has until it is started anew"),
                    )
                    .hint(format!("name it in `stops` of [components.{}]", self.name))
                    // The way back from a deployment starts services while names of images still mean
                    // the restored ones.
                    .stops_deployment(),
                );
            }
            if user.running.iter().any(|running| running != id) {
                findings.push(Finding::warning(
                    "image.moved_before",
                    service,
                    format!("{name} means another image now than when it was started: whenever it starts anew, after a rollback too, it runs what the name means then"),
                ));
            }
        }
        Ok(())
    }

    async fn prove(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        let images = self.images()?;
        let mut outcomes = Vec::new();
        let loaded_there = Self::loaded_there(cx);
        for image in Self::recall(cx)? {
            for tag in &image.tags {
                let now = images.id(tag).await?;
                let users = images.users(tag).await?;
                let elsewhere = loaded_there.values().flatten();
                let elsewhere = elsewhere.filter(|other| other.tags.contains(tag));
                let mut restored: Vec<&str> = elsewhere.map(|other| other.id.as_str()).collect();
                restored.push(&image.id);
                // One that is still pinned to another image was left alone.
                let given = |user: &&ImageUser| self.stopped(user) && !user.pinned;
                let other = users.iter().filter(given).find(|user| {
                    user.running
                        .iter()
                        .any(|id| !restored.contains(&id.as_str()))
                });
                let (passed, detail) = match (now, other) {
                    (Some(id), None) if id == image.id => {
                        (true, format!("{tag} is {id}, as restored"))
                    }
                    (_, Some(user)) => (
                        false,
                        format!(
                            "{} runs another image than the restored {tag}",
                            user.service
                        ),
                    ),
                    (now, None) => (
                        false,
                        format!("{tag} is {}, not {}", now.unwrap_or_default(), image.id),
                    ),
                };
                outcomes.push(CheckOutcome::new(
                    format!("{}/{tag}", self.name),
                    passed,
                    detail,
                ));
            }
        }
        for (place, other) in self.places(cx).await? {
            let name = images.place_name(&place).await?;
            for image in loaded_there.get(&place).into_iter().flatten() {
                for tag in &image.tags {
                    let now = other.id(tag).await?.unwrap_or_default();
                    outcomes.push(CheckOutcome::new(
                        format!("{}/{tag}, {name}", self.name),
                        now == image.id,
                        format!("on {name} {tag} is {now}, restored was {}", image.id),
                    ));
                }
            }
        }
        Ok(outcomes)
    }

    fn stopped(&self, user: &ImageUser) -> bool {
        let key = user.key.as_ref();
        key.is_some_and(|key| self.section.stops.contains(key))
    }
}

fn staged_prefix(run: &RunId) -> String {
    format!("restore/staged:{run}-")
}

fn staged_name(run: &RunId, at: usize) -> String {
    format!("{}{at}", staged_prefix(run))
}

fn replaced_prefix(run: &RunId) -> String {
    format!("restore/replaced:{run}-")
}

fn replaced_name(run: &RunId, at: usize) -> String {
    format!("{}{at}", replaced_prefix(run))
}

/// A name as scripts put it into the name of a file.
fn stem(name: &str) -> String {
    name.replace(['/', ':'], "_")
}

/// The name in the name of an archive.
fn stem_of(artifact: &str) -> &str {
    let file = artifact.rsplit('/').next().unwrap_or(artifact);
    let file = file.strip_prefix("docker-image-").unwrap_or(file);
    file.split_once(".tar").map_or(file, |(stem, _)| stem)
}

#[async_trait]
impl Component for ImageComponent {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "image"
    }

    fn stops(&self) -> Vec<String> {
        self.section.stops.clone()
    }

    fn comes_before_services(&self) -> bool {
        true
    }

    fn artifacts(&self, backup: &Backup) -> Vec<String> {
        self.find(backup)
    }

    /// By the names of the archives: what is in them is known once they are read.
    async fn brings(&self, backup: &Backup, _paths: &[String], needed: &Needed) -> bool {
        let Needed::Image(name) = needed else {
            return false;
        };
        let found = self.find(backup);
        found.iter().any(|it| stem(name) == stem_of(it))
    }

    async fn live_bytes(&self) -> Result<u64> {
        // How large they are nobody asks; that they are there is known.
        self.are_known().await.map_err(self.at())?;
        Ok(0)
    }

    async fn back_up(&self, writer: &BackupWriter) -> Result<BackedUp> {
        self.save(writer).await.map_err(self.at())
    }

    async fn inspect(&self, cx: &RunContext) -> Result<Inspection> {
        self.look(cx).await.map_err(self.at())
    }

    async fn stage(&self, cx: &RunContext) -> Result<Staged> {
        cx.check_cancelled()?;
        self.load(cx).await.map_err(self.at())
    }

    async fn cut_over(&self, cx: &RunContext) -> Result<()> {
        self.move_names(cx).await.map_err(self.at())
    }

    async fn undo(&self, cx: &RunContext) -> Result<()> {
        self.move_back(cx).await.map_err(self.at())
    }

    async fn way_back(&self, cx: &RunContext) -> Result<()> {
        self.find_replaced(cx).await.map_err(self.at())
    }

    /// Only names are deleted: an image that is gone, which is no way back, is nothing to keep
    /// either.
    async fn as_left(&self, _cx: &RunContext) -> Result<()> {
        Ok(())
    }

    async fn kept_by_runs(&self) -> Result<Vec<KeptByRun>> {
        self.found_by_name().await.map_err(self.at())
    }

    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        self.prove(cx).await.map_err(self.at())
    }

    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
        self.throw_away(cx, what).await.map_err(self.at())
    }

    async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
        let images = self.images().map_err(self.at())?;
        let names = images.names().await.map_err(self.at())?;
        let named = |start: String| -> Vec<&str> {
            let names = names.iter().map(|(name, _)| name.as_str());
            names.filter(|name| name.starts_with(&start)).collect()
        };
        let kept = match named(replaced_prefix(cx.run())) {
            _ if cx.cut_over() == CutOver::TakenBack => named(staged_prefix(cx.run())),
            kept => kept,
        };
        Ok((!kept.is_empty()).then(|| format!("image {}", kept.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again_in_names_of_files() {
        assert_eq!(
            stem("localhost:5000/hosting-app:2.4.1"),
            stem_of("app/docker-image-localhost_5000_hosting-app_2.4.1.tar.gz")
        );
    }

    #[test]
    fn names_of_a_run_are_its_own() {
        let run = RunId::generate();
        assert!(staged_name(&run, 3).starts_with(&staged_prefix(&run)));
        assert_ne!(staged_prefix(&run), replaced_prefix(&run));
    }
}
