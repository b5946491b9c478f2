//! Loading without names, on each machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::{ImageComponent, LOADED, LOADED_THERE, PLACES, SIGNED, staged_name, stem, stem_of};
use crate::components::archive;
use crate::contract::{Images, LoadedImage, RunContext, Staged};
use crate::model::{Error, ErrorKind, Finding, Result};

impl ImageComponent {
    pub(super) async fn load(&self, cx: &RunContext) -> Result<Staged> {
        let images = self.images()?;
        let mut staged = Staged::default();
        let mut all: Vec<LoadedImage> = Vec::new();
        for artifact in self.find(cx.backup()) {
            let loaded = self
                .load_one(cx, images.as_ref(), &artifact, all.len())
                .await?;
            for (image, others) in loaded {
                if !others.is_empty() {
                    staged.findings.push(
                        Finding::warning(
                            "image.names_left",
                            &artifact,
                            format!(
                                "it also names an image {}, which neither this site nor its services use: that name keeps its meaning",
                                others.join(", ")
                            ),
                        )
                        .hint(format!(
                            "if it is meant, name it in `images` of [components.{}]",
                            self.name
                        )),
                    );
                }
                if image.tags.is_empty() && others.is_empty() {
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
        // What takes a run up once all is staged knows the backup by its name alone.
        let signed = cx.backup().signer().is_some();
        cx.record(SIGNED, json!(signed)).await?;
        for tag in &tags {
            for user in images.users(tag).await? {
                if Self::stays(cx, &user)
                    && let Some(error) = Self::gone(images.as_ref(), &user).await?
                {
                    return Err(error);
                }
            }
        }
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

    /// Loads the same on each other machine that may run it; their names.
    pub(super) async fn load_elsewhere(
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
        // Those that an attempt before this one wrote down: all else of the run is about them.
        let kept = cx.recall(PLACES).map(serde_json::from_value::<Vec<String>>);
        let places = match kept {
            Some(Ok(kept)) => kept,
            _ => places,
        };
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
                loaded.extend(more.into_iter().map(|(image, _)| image));
            }
            all.insert(place, loaded);
            names.push(name);
        }
        cx.record(LOADED_THERE, json!(all)).await?;
        Ok(names)
    }

    /// Loads one archive; `before`: how many images of the run are there already. Beside each image
    /// are the names that the archive has for it and that are none of ours to move.
    pub(super) async fn load_one(
        &self,
        cx: &RunContext,
        images: &dyn Images,
        artifact: &str,
        before: usize,
    ) -> Result<Vec<(LoadedImage, Vec<String>)>> {
        let of = (artifact, self.section.max_bytes);
        let limit = archive::file_limit(cx, &self.name, of).await;
        let source = cx.source(artifact)?.limited(Some(limit));
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
        let mut sorted = Vec::new();
        for mut image in loaded {
            let mut others = Vec::new();
            for name in std::mem::take(&mut image.tags) {
                match self.may_take(cx, images, artifact, &name).await? {
                    true => image.tags.push(name),
                    false => others.push(name),
                }
            }
            sorted.push((image, others));
        }
        Ok(sorted)
    }

    /// Whether a name in an archive is one that the site means: whoever wrote the archive could have
    /// put any other one into it. The site names it, the archive is named after it, or a service runs
    /// what it means.
    pub(super) async fn may_take(
        &self,
        cx: &RunContext,
        images: &dyn Images,
        artifact: &str,
        name: &str,
    ) -> Result<bool> {
        if self.section.images.iter().any(|known| known == name) || stem(name) == stem_of(artifact)
        {
            return Ok(true);
        }
        let users = images.users(name).await?;
        Ok(users.iter().any(|user| !Self::stays(cx, user)))
    }

    /// The other machines where something of the run may be.
    pub(super) async fn places(&self, cx: &RunContext) -> Result<Vec<(String, Arc<dyn Images>)>> {
        let images = self.images()?;
        let mut found = Vec::new();
        for place in Self::recorded_places(cx) {
            let there = images.at(&place).await?;
            found.push((place, there));
        }
        Ok(found)
    }

    /// As `places`, on a way back: nothing runs on a machine that is away, which is no reason to keep
    /// users out. What is left there is told.
    pub(super) async fn places_there(
        &self,
        cx: &RunContext,
    ) -> Result<Vec<(String, Arc<dyn Images>)>> {
        let images = self.images()?;
        let mut found = Vec::new();
        for place in Self::recorded_places(cx) {
            if images.is_away(&place).await? {
                let name = images.place_name(&place).await?;
                cx.notice(
                    Finding::warning(
                        "image.place_away",
                        &name,
                        format!("{name} is away: names of images of run {} stay as they are there", cx.run()),
                    )
                    .hint("before it runs services again, look there with `docker images` for names that begin with restore/, and move or remove them"),
                );
                continue;
            }
            let there = images.at(&place).await?;
            found.push((place, there));
        }
        Ok(found)
    }

    fn recorded_places(cx: &RunContext) -> Vec<String> {
        cx.recall(PLACES)
            .and_then(|value| serde_json::from_value(value).ok())
            .unwrap_or_default()
    }

    pub(super) fn loaded_there(cx: &RunContext) -> BTreeMap<String, Vec<LoadedImage>> {
        cx.recall(LOADED_THERE)
            .and_then(|value| serde_json::from_value(value).ok())
            .unwrap_or_default()
    }

    pub(super) fn recall(cx: &RunContext) -> Result<Vec<LoadedImage>> {
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
}
