//! What a backup saves of them.

use async_compression::Level;
use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use serde_json::{Map, json};
use tokio::io::AsyncRead;

use super::{ImageComponent, stem};
use crate::archive::Compression;
use crate::contract::{BackedUp, BackupWriter, Images, expand_pattern};
use crate::model::{Error, ErrorKind, NeverBackedUp, Result};

/// Bytes of an archive that are compressed at once.
const READ: usize = 256 * 1024;

impl ImageComponent {
    pub(super) async fn save(&self, writer: &BackupWriter) -> Result<BackedUp> {
        let images = self.images()?;
        if self.section.images.is_empty() {
            return Err(Error::new(
                ErrorKind::Preflight,
                "component.no_back_up",
                "it is not said which images a backup is to save",
            )
            .because(NeverBackedUp)
            .hint(format!(
                "name them in `images` of [components.{}]",
                self.name
            )));
        }
        let mut done = BackedUp::default();
        let mut saved = Map::new();
        for name in &self.section.images {
            let id = self.known(images.as_ref(), name).await?;
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

    /// The id of an image that a backup is to save.
    async fn known(&self, images: &dyn Images, name: &str) -> Result<String> {
        images.id(name).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "image.not_found",
                format!("there is no image {name} here"),
            )
            .hint(format!(
                "`docker image ls` shows those that there are; correct `images` of [components.{}]",
                self.name
            ))
        })
    }

    /// Whether all of them are there.
    pub(super) async fn are_known(&self) -> Result<()> {
        let images = self.images()?;
        for name in &self.section.images {
            self.known(images.as_ref(), name).await?;
        }
        Ok(())
    }

    /// What the archive of one image is called, as scripts call it.
    pub(super) fn artifact(&self, writer: &BackupWriter, name: &str) -> Result<String> {
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
}
