//! The images of the engine, and who runs them.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use tokio::io::AsyncRead;

use super::config::{ComposeName, ServiceConfig};
use super::containers::{PROJECT, SERVICE, label};
use crate::archive::Source;
use crate::contract::{ImageUser, Images, LoadedImage};
use crate::model::{Error, ErrorKind, Progress, Result};
use crate::platforms::docker::engine::Engine;
use crate::platforms::docker::images::plain;
use crate::platforms::docker::json::{encoded, text};
use crate::sys::space::Space;

/// The images of this host's engine, and the services of its Compose projects.
pub(super) struct ComposeImages {
    pub(super) engine: Arc<Engine>,
    pub(super) services: Vec<ServiceConfig>,
}

#[async_trait]
impl Images for ComposeImages {
    async fn names(&self) -> Result<Vec<(String, String)>> {
        self.engine.image_names().await
    }

    async fn id(&self, name: &str) -> Result<Option<String>> {
        self.engine.image_id(name).await
    }

    async fn load(&self, source: Source, progress: Progress) -> Result<Vec<LoadedImage>> {
        self.engine.load_images(source, progress).await
    }

    async fn save(&self, name: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        self.engine.save_image(name).await
    }

    async fn tag(&self, id: &str, name: &str) -> Result<()> {
        self.engine.tag_image(id, name).await
    }

    async fn untag(&self, name: &str) -> Result<()> {
        self.engine.untag_image(name).await
    }

    async fn users(&self, name: &str) -> Result<Vec<ImageUser>> {
        let engine = &self.engine;
        let filter = encoded(&json!({ "label": [PROJECT] }).to_string());
        let listed = engine
            .patiently(|| async {
                engine.docker().await?;
                let path = format!("/containers/json?all=true&filters={filter}");
                engine.get("list the containers", &path).await
            })
            .await?;
        let mut users: BTreeMap<String, ImageUser> = BTreeMap::new();
        for listed in listed.as_array().into_iter().flatten() {
            let Some(container) = (match text(listed, "/Id") {
                Some(id) => engine.container(&id).await?,
                None => None,
            }) else {
                continue;
            };
            // The list shows an id where the name means another image by now.
            let (image, _) = plain(&container.image_name());
            let labels = container.seen.pointer("/Config/Labels");
            let (Some(project), Some(service)) = (label(labels, PROJECT), label(labels, SERVICE))
            else {
                continue;
            };
            if image != name || container.is_one_off() {
                continue;
            }
            let called = ComposeName { project, service };
            let user = users.entry(called.to_string()).or_insert_with(|| {
                let known = self.services.iter().find(|known| known.name == called);
                ImageUser {
                    key: known.map(|known| known.key.clone()),
                    keeps_image: true,
                    ..ImageUser::new(called.to_string(), container.image_name())
                }
            });
            if container.is_running() && !user.running.contains(&container.image()) {
                user.running.push(container.image());
            }
        }
        Ok(users.into_values().collect())
    }

    async fn run_image(&self, service: &str, image: &str) -> Result<()> {
        Err(Error::new(
            ErrorKind::Preflight,
            "compose.image_kept",
            format!(
                "{service} cannot be made to run {image}: its containers keep the image that they were made from"
            ),
        )
        .hint("name the image in the compose file, then make them anew: `docker compose up -d`"))
    }

    async fn free_space(&self) -> Result<Option<Space>> {
        self.engine.image_space().await
    }
}
