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

use async_compression::Level;
use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use tokio::io::AsyncRead;

use super::{
    BackedUp, CheckOutcome, Component, Inspection, Parts, SharedComponent, SpaceNeed, Staged,
};
use crate::backup::{Backup, BackupWriter, expand_pattern};
use crate::config::{Table, parse_section};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::Finding;
use crate::platform::{Discard, ImageUser, Images, LoadedImage, Platform};
use crate::run::{RunContext, RunId};
use crate::stream::Compression;

/// Bytes of an archive that are compressed at once.
const READ: usize = 256 * 1024;
/// The fact of what was loaded.
const LOADED: &str = "loaded";
/// The fact of the other machines where they are loaded too, written before anything is there.
const PLACES: &str = "places";
/// The fact of what was loaded on those.
const LOADED_THERE: &str = "loaded_there";
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
}

fn archives() -> Vec<String> {
    vec!["app/docker-image-*.tar.gz".to_owned()]
}

/// What the cut-over destroys.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Before {
    /// What each name meant; `None`: nothing.
    names: BTreeMap<String, Option<String>>,
    /// The same on other machines.
    #[serde(default)]
    there: BTreeMap<String, BTreeMap<String, Option<String>>>,
    /// The image in the description of each service that is pinned to a digest.
    pinned: BTreeMap<String, String>,
}

impl ImageComponent {
    /// The component `name` from its table in the configuration.
    pub fn from_table(name: &str, table: Table, parts: &Parts) -> Result<SharedComponent> {
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
        let mut found = backup.find(&self.section.archive);
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
                self.look_at_users(images.as_ref(), name, id, &mut inspection.findings)
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
        inspection.summary = match known.as_slice() {
            [] => "images that this platform does not have by name".to_owned(),
            known => format!("what {} mean", known.join(", ")),
        };
        inspection.facts.insert("names".to_owned(), json!(known));
        Ok(inspection)
    }

    async fn look_at_users(
        &self,
        images: &dyn Images,
        name: &str,
        id: &str,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        for user in images.users(name).await? {
            let service = &user.service;
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
            if !stops {
                findings.push(
                    Finding::warning(
                        "image.not_restarted",
                        service,
                        format!("it runs {name}, and goes on with the image that it has until it is started anew"),
                    )
                    .hint(format!("name it in `stops` of [components.{}]", self.name)),
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

    async fn load(&self, cx: &RunContext) -> Result<Staged> {
        let images = self.images()?;
        let mut staged = Staged::default();
        let mut all: Vec<LoadedImage> = Vec::new();
        for artifact in self.find(cx.backup()) {
            let loaded = self
                .load_one(cx, images.as_ref(), &artifact, all.len())
                .await?;
            for image in loaded {
                if image.tags.is_empty() {
                    staged.findings.push(Finding::warning(
                        "image.nameless",
                        &artifact,
                        "it holds an image without a name, which no service can run",
                    ));
                }
                all.push(image);
            }
            let size = cx.backup().file(&artifact).map_or(0, |file| file.size);
            staged.bytes = staged.bytes.saturating_add(size);
        }
        let tags: Vec<String> = all.iter().flat_map(|image| image.tags.clone()).collect();
        let places = self.load_elsewhere(cx, images.as_ref(), &tags).await?;
        let value = serde_json::to_value(&all).unwrap_or_default();
        cx.record(LOADED, value).await?;
        staged.facts.insert("images".to_owned(), json!(all.len()));
        staged.facts.insert("names".to_owned(), json!(tags));
        if !places.is_empty() {
            staged.facts.insert("also_on".to_owned(), json!(places));
        }
        Ok(staged)
    }

    async fn save(&self, writer: &BackupWriter) -> Result<BackedUp> {
        let images = self.images()?;
        if self.section.images.is_empty() {
            return Err(Error::new(
                ErrorKind::Preflight,
                "component.no_back_up",
                "it is not said which images a backup is to save",
            )
            .hint(format!(
                "name them in `images` of [components.{}]",
                self.name
            )));
        }
        let mut done = BackedUp::default();
        let mut saved = Map::new();
        for name in &self.section.images {
            let Some(id) = images.id(name).await? else {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "image.not_found",
                    format!("there is no image {name} here"),
                )
                .hint(format!(
                    "`docker image ls` shows those that there are; correct `images` of [components.{}]",
                    self.name
                )));
            };
            let path = self.artifact(writer, name)?;
            let (path, compression) = writer.archive(&[path])?;
            let archive = tokio::io::BufReader::with_capacity(READ, images.save(name).await?);
            let mut archive: Box<dyn AsyncRead + Send + Unpin> = match compression {
                Compression::Gzip(level) => Box::new(GzipEncoder::with_quality(
                    archive,
                    Level::Precise(level.min(9).into()),
                )),
                Compression::Zstd(level) => Box::new(ZstdEncoder::with_quality(
                    archive,
                    Level::Precise(level.min(19).into()),
                )),
                _ => Box::new(archive),
            };
            let progress = writer.progress("save", None);
            let artifact = writer.artifact(&path).await?;
            let artifact = artifact.fill(&mut archive, &progress).await?;
            if images.id(name).await?.as_ref() != Some(&id) {
                return Err(Error::new(
                    ErrorKind::Failed,
                    "image.moved",
                    format!("{name} came to mean another image while it was saved"),
                )
                .hint("back up again when nothing is being deployed"));
            }
            artifact.finish().await?;
            progress.finish();
            saved.insert(name.clone(), json!(id));
        }
        done.facts.insert("images".to_owned(), saved.into());
        Ok(done)
    }

    /// What the archive of one image is called, as scripts call it.
    fn artifact(&self, writer: &BackupWriter, name: &str) -> Result<String> {
        let many = |pattern: &&String| pattern.matches('*').count() == 1;
        if let Some(pattern) = self.section.archive.iter().find(many) {
            return Ok(expand_pattern(pattern, writer.id()).replace('*', &stem(name)));
        }
        match self.section.images.as_slice() {
            [_] => writer.name(&self.section.archive),
            _ => Err(Error::new(
                ErrorKind::Config,
                "backup.no_name",
                format!("there is no name to write each image of {} to", self.name),
            )
            .hint(format!(
                "put a name with one * into `archive` of [components.{}]",
                self.name
            ))),
        }
    }

    /// Loads the same on each other machine that may run it; their names.
    async fn load_elsewhere(
        &self,
        cx: &RunContext,
        images: &dyn Images,
        tags: &[String],
    ) -> Result<Vec<String>> {
        let places = images.elsewhere(tags).await?;
        if places.is_empty() {
            return Ok(Vec::new());
        }
        cx.record(PLACES, json!(places)).await?;
        let mut names = Vec::new();
        let mut all: BTreeMap<String, Vec<LoadedImage>> = BTreeMap::new();
        for place in places {
            let name = images.place_name(&place).await?;
            let there = images.at(&place).await?;
            let mut loaded = Vec::new();
            for artifact in self.find(cx.backup()) {
                let more = self
                    .load_one(cx, there.as_ref(), &artifact, loaded.len())
                    .await
                    .map_err(|error| error.context(&name))?;
                loaded.extend(more);
            }
            all.insert(place, loaded);
            names.push(name);
        }
        cx.record(LOADED_THERE, json!(all)).await?;
        Ok(names)
    }

    /// Loads one archive; `before`: how many images of the run are there already.
    async fn load_one(
        &self,
        cx: &RunContext,
        images: &dyn Images,
        artifact: &str,
        before: usize,
    ) -> Result<Vec<LoadedImage>> {
        let source = cx.source(artifact)?;
        let progress = cx.progress("load", source.size());
        let loading = images.load(source, progress);
        // Dropping it breaks the connection, and the engine forgets what it has so far.
        let loaded = tokio::select! {
            () = cx.cancelled().cancelled() => return Err(Error::interrupted()),
            loaded = loading => loaded?,
        };
        for (at, image) in loaded.iter().enumerate() {
            let name = staged_name(cx.run(), before.saturating_add(at));
            images.tag(&image.id, &name).await?;
        }
        Ok(loaded)
    }

    /// The other machines where something of the run may be.
    async fn places(&self, cx: &RunContext) -> Result<Vec<(String, Arc<dyn Images>)>> {
        let places: Vec<String> = cx
            .recall(PLACES)
            .and_then(|value| serde_json::from_value(value).ok())
            .unwrap_or_default();
        let images = self.images()?;
        let mut found = Vec::new();
        for place in places {
            let there = images.at(&place).await?;
            found.push((place, there));
        }
        Ok(found)
    }

    fn loaded_there(cx: &RunContext) -> BTreeMap<String, Vec<LoadedImage>> {
        cx.recall(LOADED_THERE)
            .and_then(|value| serde_json::from_value(value).ok())
            .unwrap_or_default()
    }

    fn recall(cx: &RunContext) -> Result<Vec<LoadedImage>> {
        let loaded = cx.recall(LOADED);
        loaded
            .and_then(|value| serde_json::from_value(value).ok())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Failed,
                    "image.not_staged",
                    format!("nothing is staged for run {}", cx.run()),
                )
                .hint("stage it first")
            })
    }

    fn before(cx: &RunContext) -> Option<Before> {
        serde_json::from_value(cx.recall(BEFORE)?).ok()
    }

    async fn move_names(&self, cx: &RunContext) -> Result<()> {
        let images = self.images()?;
        let loaded = Self::recall(cx)?;
        let before = match Self::before(cx) {
            Some(before) => before,
            None => self.note(cx, images.as_ref(), &loaded).await?,
        };
        let there = Self::loaded_there(cx);
        for (place, other) in self.places(cx).await? {
            let none = BTreeMap::new();
            let old = before.there.get(&place).unwrap_or(&none);
            let loaded = there.get(&place).map(Vec::as_slice).unwrap_or_default();
            move_in(cx, other.as_ref(), old, loaded).await?;
        }
        move_in(cx, images.as_ref(), &before.names, &loaded).await?;
        for service in before.pinned.keys() {
            if let Some(image) = new_image(images.as_ref(), service, &loaded).await? {
                images.run_image(service, &image).await?;
            }
        }
        Ok(())
    }

    /// Writes down what is about to be changed.
    async fn note(
        &self,
        cx: &RunContext,
        images: &dyn Images,
        loaded: &[LoadedImage],
    ) -> Result<Before> {
        let mut before = Before::default();
        for tag in loaded.iter().flat_map(|image| &image.tags) {
            before.names.insert(tag.clone(), images.id(tag).await?);
            for user in images.users(tag).await? {
                if user.pinned {
                    before.pinned.insert(user.service, user.image);
                }
            }
        }
        let loaded_there = Self::loaded_there(cx);
        for (place, other) in self.places(cx).await? {
            let names = before.there.entry(place.clone()).or_default();
            let loaded = loaded_there.get(&place).into_iter().flatten();
            for tag in loaded.flat_map(|image| &image.tags) {
                names.insert(tag.clone(), other.id(tag).await?);
            }
        }
        let value = serde_json::to_value(&before).unwrap_or_default();
        cx.record(BEFORE, value).await?;
        Ok(before)
    }

    async fn move_back(&self, cx: &RunContext) -> Result<()> {
        let Some(before) = Self::before(cx) else {
            return Ok(());
        };
        let images = self.images()?;
        for (service, image) in &before.pinned {
            images.run_image(service, image).await?;
        }
        for (place, other) in self.places(cx).await? {
            if let Some(names) = before.there.get(&place) {
                self.put_back(cx, other.as_ref(), names).await?;
            }
        }
        self.put_back(cx, images.as_ref(), &before.names).await
    }

    async fn put_back(
        &self,
        cx: &RunContext,
        images: &dyn Images,
        names: &BTreeMap<String, Option<String>>,
    ) -> Result<()> {
        for (name, old) in names {
            match old {
                Some(old) => images.tag(old, name).await?,
                None => images.untag(name).await?,
            }
        }
        // What they name has its own names again.
        self.forget(cx, images, &replaced_prefix(cx.run())).await
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
                let other = users.iter().filter(|user| self.stopped(user)).find(|user| {
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

    async fn throw_away(&self, cx: &RunContext, what: Discard) -> Result<()> {
        let images = self.images()?;
        let start = match what {
            Discard::Staged => staged_prefix(cx.run()),
            Discard::Replaced => replaced_prefix(cx.run()),
        };
        for (_, other) in self.places(cx).await? {
            self.forget(cx, other.as_ref(), &start).await?;
        }
        self.forget(cx, images.as_ref(), &start).await
    }

    /// Takes names of the run's own away.
    async fn forget(&self, cx: &RunContext, images: &dyn Images, start: &str) -> Result<()> {
        for (name, _) in images.names().await? {
            if !name.starts_with(start) {
                continue;
            }
            match images.untag(&name).await {
                // A container that has ended may still hold on to it.
                Err(error) if error.code() == "swarm.conflict" => cx.notice(
                    Finding::info("image.in_use", &name, error.message())
                        .hint("`docker image rm` takes it away once nothing uses it"),
                ),
                done => done?,
            }
        }
        Ok(())
    }
}

/// Keeps what the names mean on one machine and makes them mean what was loaded there.
async fn move_in(
    cx: &RunContext,
    images: &dyn Images,
    before: &BTreeMap<String, Option<String>>,
    loaded: &[LoadedImage],
) -> Result<()> {
    for (at, old) in before.values().flatten().enumerate() {
        images.tag(old, &replaced_name(cx.run(), at)).await?;
    }
    for image in loaded {
        for tag in &image.tags {
            images.tag(&image.id, tag).await?;
        }
    }
    Ok(())
}

/// The image that a service pinned to a digest is to run now: the loaded one, by its id.
async fn new_image(
    images: &dyn Images,
    service: &str,
    loaded: &[LoadedImage],
) -> Result<Option<String>> {
    for image in loaded {
        for tag in &image.tags {
            let users = images.users(tag).await?;
            if users
                .iter()
                .any(|user| user.service == service && user.pinned)
            {
                return Ok(Some(image.id.clone()));
            }
        }
    }
    Ok(None)
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

    fn artifacts(&self, backup: &Backup) -> Vec<String> {
        self.find(backup)
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

    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        self.prove(cx).await.map_err(self.at())
    }

    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
        self.throw_away(cx, what).await.map_err(self.at())
    }

    async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
        let images = self.images().map_err(self.at())?;
        let start = replaced_prefix(cx.run());
        let names = images.names().await.map_err(self.at())?;
        let kept: Vec<String> = names
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| name.starts_with(&start))
            .collect();
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
