//! Names of images that are done with, and containers that still hold the images.
//!
//! An engine keeps the last name of an image for as long as any container is made from the image,
//! ended ones included. Such an image is given a name that says so, by which it is found later.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::engine::Engine;
use super::helper::SITE;
use super::view::{encoded, strings, text};
use crate::error::Result;

/// What is called so is nobody's, on any engine, of whatever site and run.
const LEFTOVER: &str = "restore/leftover:";

/// How long containers that have ended may take to be removed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the engine is asked.
const LOOK: Duration = Duration::from_millis(200);

/// By this label the swarm knows the containers of its tasks.
const TASK: &str = "com.docker.swarm.task.id";

/// A container that is made from an image.
struct Holder {
    words: String,
    /// It will be removed without anybody's doing.
    leaves: bool,
}

impl Holder {
    fn read(container: &Value) -> Self {
        let name = strings(container, "/Names").into_iter().next();
        let name = name.unwrap_or_else(|| text(container, "/Id").unwrap_or_default());
        let state = text(container, "/State").unwrap_or_default();
        let runs = ["running", "paused", "restarting"].contains(&state.as_str());
        let labels = container.get("Labels");
        let has = |label: &str| labels.is_some_and(|labels| labels.get(label).is_some());
        Self {
            words: format!("{} ({state})", name.trim_start_matches('/')),
            leaves: has(SITE) || (has(TASK) && !runs),
        }
    }
}

impl Engine {
    /// All names of images, each with the id of the image that it means.
    pub(super) async fn image_names(&self) -> Result<Vec<(String, String)>> {
        let listed = self
            .patiently(|| async {
                self.docker().await?;
                self.get("list the images", "/images/json").await
            })
            .await?;
        Ok(listed
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|image| {
                let id = text(image, "/Id").unwrap_or_default();
                let tags = strings(image, "/RepoTags");
                tags.into_iter()
                    .filter(|tag| !tag.starts_with("<none>"))
                    .map(move |tag| (tag, id.clone()))
            })
            .collect())
    }

    /// The id of the image that a name means.
    pub(super) async fn image_id(&self, name: &str) -> Result<Option<String>> {
        self.patiently(|| async {
            self.docker().await?;
            let what = format!("look at the image {name}");
            match self
                .get(&what, &format!("/images/{}/json", encoded(name)))
                .await
            {
                Ok(image) => Ok(text(&image, "/Id")),
                Err(e) if e.code() == "swarm.not_found" => Ok(None),
                Err(e) => Err(e),
            }
        })
        .await
    }

    /// Makes a name mean an image.
    pub(super) async fn tag_image(&self, id: &str, name: &str) -> Result<()> {
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        let path = format!(
            "/images/{}/tag?repo={}&tag={}",
            encoded(id),
            encoded(repository),
            encoded(tag)
        );
        self.patiently(|| async {
            self.docker().await?;
            let what = format!("give an image the name {name}");
            self.post(&what, &path, &json!({})).await.map(drop)
        })
        .await
    }

    /// Takes a name away; `swarm.conflict` where it is the last one of an image that a container
    /// is made from.
    pub(super) async fn untag_image(&self, name: &str) -> Result<()> {
        self.patiently(|| async {
            self.docker().await?;
            let what = format!("take the name {name} away");
            match self
                .delete(&what, &format!("/images/{}", encoded(name)))
                .await
            {
                Err(e) if e.code() == "swarm.not_found" => Ok(()),
                done => done,
            }
        })
        .await
    }

    async fn holders(&self, id: &str) -> Result<Vec<Holder>> {
        let listed = self
            .patiently(|| async {
                self.docker().await?;
                self.get("list the containers", "/containers/json?all=1")
                    .await
            })
            .await?;
        let all = listed.as_array().into_iter().flatten();
        Ok(all
            .filter(|container| text(container, "/ImageID").as_deref() == Some(id))
            .map(Holder::read)
            .collect())
    }

    /// See [`Images::let_go`](crate::platform::Images::let_go).
    pub(super) async fn let_go(&self, name: &str) -> Result<Option<String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let refused = match self.untag_image(name).await {
                Ok(()) => return Ok(None),
                Err(error) if error.code() == "swarm.conflict" => error,
                Err(error) => return Err(error),
            };
            let Some(id) = self.image_id(name).await? else {
                return Ok(None);
            };
            let holders = self.holders(&id).await?;
            if holders.iter().all(|holder| holder.leaves) && Instant::now() < deadline {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            self.tag_image(&id, &leftover(&id)).await?;
            // It has another one now, so that nothing speaks against this.
            self.untag_image(name).await?;
            let words: Vec<String> = holders.into_iter().map(|holder| holder.words).collect();
            return Ok(Some(match words.is_empty() {
                true => refused.message().to_owned(),
                false => format!(
                    "containers at {} are made from it: {}",
                    self.place(),
                    words.join(", ")
                ),
            }));
        }
    }
}

fn leftover(id: &str) -> String {
    let hash = id.rsplit(':').next().unwrap_or(id);
    let short: String = hash.chars().take(32).collect();
    format!("{LEFTOVER}{short}")
}

/// Deletes what could not be deleted before, as far as it can be now.
pub(super) async fn tidy(engine: &Engine) -> Result<()> {
    for (name, _) in engine.image_names().await? {
        if !name.starts_with(LEFTOVER) {
            continue;
        }
        match engine.untag_image(&name).await {
            Err(error) if error.code() == "swarm.conflict" => {}
            done => done?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_by_itself_is_waited_for() {
        for (labels, state, leaves) in [
            (json!({TASK: "x"}), "exited", true),
            (json!({TASK: "x"}), "running", false),
            (json!({SITE: "x"}), "running", true),
            (json!({}), "exited", false),
        ] {
            let container =
                json!({"Id": "1", "Names": ["/web.1.x"], "State": state, "Labels": labels});
            let holder = Holder::read(&container);
            assert_eq!(holder.leaves, leaves, "{container}");
            assert_eq!(holder.words, format!("web.1.x ({state})"));
        }
    }
}
