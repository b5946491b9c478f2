//! The images of an engine: loading, saving and naming them.

use std::path::Path;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use hyper::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use super::engine::{Engine, Refused};
use super::image_archive::{ImageArchiveRewriter, Listed};
use super::json::{encoded, strings, text};
use crate::archive::{Source, Unheard, forward_chunks};
use crate::contract::{LoadedImage, Volume};
use crate::model::{Error, ErrorKind, Progress, Result};
use crate::swap::LocalVolume;
use crate::sys::space::Space;

/// How many pieces of an archive may wait for the engine.
const DEPTH: usize = 4;

/// What the engine says of a load is no longer.
const LARGEST: usize = 4 << 20;

/// A part of an archive, or the end of all hope for it.
type Piece = std::result::Result<Bytes, std::io::Error>;

/// The ids that the engine says it has loaded, in order.
fn loaded(said: &[Value]) -> Vec<String> {
    said.iter()
        .filter_map(|line| text(line, "/stream"))
        .flat_map(|text| {
            text.lines()
                .filter_map(|line| line.split_once(": "))
                .filter(|(before, _)| before.starts_with("Loaded image"))
                .map(|(_, id)| id.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// A name as a service's description has it, in `repository:tag`; and whether it has a digest.
pub(crate) fn plain(image: &str) -> (String, bool) {
    let (name, digest) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    let name = name
        .strip_prefix("docker.io/library/")
        .or_else(|| name.strip_prefix("docker.io/"))
        .unwrap_or(name);
    // A port of a registry is no tag.
    let tagged = name
        .rsplit('/')
        .next()
        .is_some_and(|last| last.contains(':'));
    match tagged {
        true => (name.to_owned(), digest),
        false => (format!("{name}:latest"), digest),
    }
}

impl Engine {
    /// All names of images, each with the id of the image that it means.
    pub(crate) async fn image_names(&self) -> Result<Vec<(String, String)>> {
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
    pub(crate) async fn image_id(&self, name: &str) -> Result<Option<String>> {
        self.patiently(|| async {
            self.docker().await?;
            let what = format!("look at the image {name}");
            match self
                .get(&what, &format!("/images/{}/json", encoded(name)))
                .await
            {
                Ok(image) => Ok(text(&image, "/Id")),
                Err(e) if e.is(&Refused::NotFound) => Ok(None),
                Err(e) => Err(e),
            }
        })
        .await
    }

    /// Loads an archive of images without giving them names; the names that it has for them.
    pub(crate) async fn load_images(
        &self,
        source: Source,
        progress: Progress,
    ) -> Result<Vec<LoadedImage>> {
        let label = source.label().to_owned();
        let (send, mut pieces) = tokio::sync::mpsc::channel::<Bytes>(DEPTH);
        let (out, body) = tokio::sync::mpsc::channel::<Piece>(DEPTH);
        let damaged = |e: std::io::Error| {
            Error::new(
                ErrorKind::Verification,
                match e.kind() {
                    std::io::ErrorKind::UnexpectedEof => "archive.truncated",
                    _ => "archive.corrupt",
                },
                format!("{label} is no whole archive of images: {e}"),
            )
            .hint("choose another backup, or fetch this one again")
        };
        // Where the reading fails the engine must not take what it has for all.
        let abort = out.clone();
        let reading = async move {
            let read = forward_chunks(source, progress, send).await;
            if read.is_err() {
                let _ = abort.send(Err(std::io::Error::other("stopped"))).await;
            }
            read
        };
        let passing = async {
            let mut untag = ImageArchiveRewriter::new();
            while let Some(piece) = pieces.recv().await {
                match untag.feed(&piece) {
                    Ok(piece) => {
                        if out.send(Ok(piece)).await.is_err() {
                            // The engine has refused it, and says why.
                            return Ok(Vec::new());
                        }
                    }
                    Err(e) => {
                        let _ = out.send(Err(std::io::Error::other("stopped"))).await;
                        return Err(damaged(e));
                    }
                }
            }
            drop(out);
            untag.finish().map_err(damaged)
        };
        let (read, listed, said) = tokio::join!(reading, passing, self.send_images(&label, body));
        // The first cause: a hash that is wrong, then what the archive is, then the engine.
        let listed: Vec<Listed> = match (read, listed, &said) {
            (Err(error), _, _) if !error.is(&Unheard) => return Err(error),
            (_, Err(error), _) if error.kind() == ErrorKind::Verification && said.is_ok() => {
                return Err(error);
            }
            (_, listed, Ok(_)) => listed?,
            (_, _, Err(_)) => Vec::new(),
        };
        let ids = loaded(&said?);
        // It has given away a name, which none of them has by now: what had that name before has it no more.
        if let Some(name) = ids.iter().find(|id| !id.starts_with("sha256:")) {
            return Err(Error::new(
                ErrorKind::Failed,
                "image.load_failed",
                format!("the engine has given the name {name:?} to an image of {label}, which was not to have one"),
            )
            .hint("look whether services still mean the image that they should, and tag it again; please report this"));
        }
        if ids.len() != listed.len() {
            return Err(Error::new(
                ErrorKind::Failed,
                "image.load_failed",
                format!(
                    "{label} lists {} images, but the engine loaded {}",
                    listed.len(),
                    ids.len()
                ),
            ));
        }
        Ok(ids
            .into_iter()
            .zip(listed)
            .map(|(id, listed)| LoadedImage::new(id, listed.tags))
            .collect())
    }

    /// The archive of an image, as it comes.
    pub(crate) async fn save_image(&self, name: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let what = format!("save the image {name}");
        self.docker().await?;
        let request = Request::get(format!("http://engine/images/{}/get", encoded(name)))
            .body(Empty::<Bytes>::new())
            .map_err(|e| self.refused(&what, e.into()))?;
        let response = self
            .send(request)
            .await
            .map_err(|e| self.refused(&what, e))?;
        let status = response.status();
        if !status.is_success() {
            let missing = status == hyper::StatusCode::NOT_FOUND;
            return Err(Error::new(
                match missing {
                    true => ErrorKind::NotFound,
                    false => ErrorKind::Failed,
                },
                match missing {
                    true => "image.not_found",
                    false => "image.save_failed",
                },
                format!("cannot {what}: the engine says {status}"),
            )
            .hint("`docker image ls` shows which images this engine has"));
        }
        // Its end is a chunk of its own: an engine that breaks off is an error.
        let pieces = response
            .into_body()
            .into_data_stream()
            .map_err(std::io::Error::other);
        Ok(Box::new(StreamReader::new(pieces)))
    }

    /// Makes a name mean an image.
    pub(crate) async fn tag_image(&self, id: &str, name: &str) -> Result<()> {
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

    /// Takes a name away; one that there is not is as wanted.
    pub(crate) async fn untag_image(&self, name: &str) -> Result<()> {
        self.patiently(|| async {
            self.docker().await?;
            let what = format!("take the name {name} away");
            // Without `force` a container that has ended, as the engine keeps those of the last
            // tasks, holds on to the last name of its image; one that runs keeps the image.
            match self
                .delete(&what, &format!("/images/{}?force=true", encoded(name)))
                .await
            {
                Err(e) if e.is(&Refused::NotFound) => Ok(()),
                done => done,
            }
        })
        .await
    }

    /// Sends an archive to the engine as it comes; what the engine says of it.
    async fn send_images(
        &self,
        label: &str,
        body: tokio::sync::mpsc::Receiver<Piece>,
    ) -> Result<Vec<Value>> {
        let what = format!("load the images of {label}");
        let frames = futures_util::stream::unfold(body, |mut body| async move {
            let piece = body.recv().await?;
            Some((piece.map(Frame::data), body))
        });
        let request = Request::post("http://engine/images/load?quiet=1")
            .header(CONTENT_TYPE, "application/x-tar")
            .body(StreamBody::new(Box::pin(frames)))
            .map_err(|e| self.refused(&what, e.into()))?;
        self.docker().await?;
        let response = self
            .send(request)
            .await
            .map_err(|e| self.refused(&what, e))?;
        let status = response.status();
        let answer = http_body_util::Limited::new(response.into_body(), LARGEST)
            .collect()
            .await
            .map_err(|e| self.refused(&what, std::io::Error::other(e.to_string()).into()))?
            .to_bytes();
        // One document after the other; that it failed is said in one of them, with status 200.
        let said: Vec<Value> = serde_json::Deserializer::from_slice(&answer)
            .into_iter()
            .map_while(std::result::Result::ok)
            .collect();
        let failed = said
            .iter()
            .find_map(|line| text(line, "/error").or_else(|| text(line, "/message")));
        match failed {
            None if status.is_success() => Ok(said),
            failed => Err(Error::new(
                ErrorKind::Failed,
                "image.load_failed",
                format!(
                    "cannot {what}: the engine says: {}",
                    failed.unwrap_or_else(|| format!("status {status}"))
                ),
            )
            .hint("see whether the engine's disk is full (docker system df)")),
        }
    }

    /// Room where the engine keeps its images, where that is on this host.
    pub(crate) async fn image_space(&self) -> Result<Option<Space>> {
        let info = self
            .patiently(|| async {
                self.docker().await?;
                self.get("ask the engine where its data is", "/info").await
            })
            .await?;
        let Some(root) = text(&info, "/DockerRootDir") else {
            return Ok(None);
        };
        if !self.is_here() || !Path::new(&root).is_dir() {
            return Ok(None);
        }
        Ok(LocalVolume::new(root).free_space().await.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_plainly() {
        for (image, name, pinned) in [
            ("localhost:5000/app:2", "localhost:5000/app:2", false),
            ("localhost:5000/app", "localhost:5000/app:latest", false),
            ("redis@sha256:ab", "redis:latest", true),
            ("docker.io/library/redis:7@sha256:ab", "redis:7", true),
        ] {
            assert_eq!(plain(image), (name.to_owned(), pinned));
        }
    }

    #[test]
    fn what_was_loaded_is_read_from_the_engines_words() {
        let said = [json!({"stream": "Loaded image ID: sha256:ab\nLoaded image ID: sha256:cd\n"})];
        assert_eq!(loaded(&said), ["sha256:ab", "sha256:cd"]);
    }
}
