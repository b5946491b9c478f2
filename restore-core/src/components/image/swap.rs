//! Names moved to what was loaded, and back.

use std::collections::BTreeMap;

use super::{BEFORE, Before, ImageComponent, replaced_name, replaced_prefix};
use crate::contract::{Images, KeptByRun, LoadedImage, RunContext};
use crate::model::{Error, ErrorKind, Finding, Result};

impl ImageComponent {
    pub(super) fn before(cx: &RunContext) -> Option<Before> {
        serde_json::from_value(cx.recall(BEFORE)?).ok()
    }

    pub(super) async fn move_names(&self, cx: &RunContext) -> Result<()> {
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
    pub(super) async fn note(
        &self,
        cx: &RunContext,
        images: &dyn Images,
        loaded: &[LoadedImage],
    ) -> Result<Before> {
        let mut before = Before::default();
        for tag in loaded.iter().flat_map(|image| &image.tags) {
            before.names.insert(tag.clone(), images.id(tag).await?);
            for user in images.users(tag).await? {
                if user.pinned && !Self::stays(cx, &user) {
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

    pub(super) async fn move_back(&self, cx: &RunContext) -> Result<()> {
        let Some(before) = Self::before(cx) else {
            return Ok(());
        };
        let images = self.images()?;
        for (service, image) in &before.pinned {
            images.run_image(service, image).await?;
        }
        for (place, other) in self.places_there(cx).await? {
            if let Some(names) = before.there.get(&place) {
                self.put_back(cx, other.as_ref(), names).await?;
            }
        }
        self.put_back(cx, images.as_ref(), &before.names).await
    }

    /// Whether the images that the names meant before the run are still there. An engine that cannot
    /// be asked may be mended.
    pub(super) async fn find_replaced(&self, cx: &RunContext) -> Result<()> {
        let Some(before) = Self::before(cx) else {
            return Ok(());
        };
        let images = self.images()?;
        gone(images.as_ref(), &before.names).await?;
        let Ok(places) = self.places_there(cx).await else {
            return Ok(());
        };
        for (place, other) in places {
            if let Some(names) = before.there.get(&place) {
                gone(other.as_ref(), names).await?;
            }
        }
        Ok(())
    }

    /// What runs keep under names of their own.
    pub(super) async fn found_by_name(&self) -> Result<Vec<KeptByRun>> {
        let mut kept = Vec::new();
        for (name, _) in self.images()?.names().await? {
            let (id, put_back) = match (
                name.strip_prefix("restore/replaced:"),
                name.strip_prefix("restore/staged:"),
            ) {
                (Some(id), _) => (
                    id,
                    "docker tag it with the name that it had, which `docker image inspect` of it may show, and start its services anew",
                ),
                (_, Some(id)) => (
                    id,
                    "it was loaded from a backup; what is live is left as it is",
                ),
                _ => continue,
            };
            // The run's id, and the number of the image.
            let Some(run) = id.rsplit_once('-').and_then(|(run, _)| run.parse().ok()) else {
                continue;
            };
            kept.push(KeptByRun::new(
                run,
                format!("image {name}"),
                put_back,
                format!("docker image rm {name}, once nothing of it is needed"),
            ));
        }
        Ok(kept)
    }

    pub(super) async fn put_back(
        &self,
        cx: &RunContext,
        images: &dyn Images,
        names: &BTreeMap<String, Option<String>>,
    ) -> Result<()> {
        for (name, old) in names {
            match old {
                Some(old) => images.tag(old, name).await?,
                None => self.take_name(cx, images, name).await?,
            }
        }
        // What they name has its own names again.
        self.forget(images, &replaced_prefix(cx.run())).await
    }
}

impl ImageComponent {
    /// Takes a name away that nothing had before the run; unless a service needs it by now. What it
    /// had named may be long deleted and only run on, and without any image of that name nothing of
    /// the service starts again.
    async fn take_name(&self, cx: &RunContext, images: &dyn Images, name: &str) -> Result<()> {
        let users = self.images()?.users(name).await?;
        if users.is_empty() {
            return images.untag(name).await;
        }
        let users: Vec<&str> = users.iter().map(|user| user.service.as_str()).collect();
        cx.notice(
            Finding::warning(
                "image.name_stays",
                name,
                format!(
                    "no image had this name before the run, and {} needs one: the restored image keeps it",
                    users.join(", ")
                ),
            )
            .hint("load the image that it should be, and give it the name with docker tag"),
        );
        Ok(())
    }
}

/// Refuses where an image that one of these names meant is there no more.
async fn gone(images: &dyn Images, names: &BTreeMap<String, Option<String>>) -> Result<()> {
    let Ok(now) = images.names().await else {
        return Ok(());
    };
    for (name, old) in names {
        let Some(old) = old else { continue };
        let is_there =
            now.iter().any(|(_, id)| id == old) || !matches!(images.id(old).await, Ok(None));
        if !is_there {
            return Err(Error::new(
                ErrorKind::Failed,
                "image.replaced_gone",
                format!("the image {old}, which {name} meant before the run, is gone"),
            )
            .hint("somebody has deleted it (docker image prune deletes what no container uses): load it again (docker load) and try again"));
        }
    }
    Ok(())
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
