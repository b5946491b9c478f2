//! Images that a platform's services run.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use crate::archive::Source;
use crate::model::{Error, ErrorKind, NeverBackedUp, Progress, Result};
use crate::sys::space::Space;

/// An image that was loaded, and the names that its archive gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoadedImage {
    /// Its id, which is a hash of what it is.
    pub id: String,
    /// Its names, `repository:tag`.
    pub tags: Vec<String>,
}

impl LoadedImage {
    /// An image of this id with these names.
    pub fn new(id: impl Into<String>, tags: Vec<String>) -> Self {
        Self {
            id: id.into(),
            tags,
        }
    }
}

/// A service that runs an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImageUser {
    /// The service's exact name on the platform.
    pub service: String,
    /// What the site calls it, where it knows it.
    pub key: Option<String>,
    /// The image as the service's description names it.
    pub image: String,
    /// The description names a digest besides: whatever the tag means, that image is run.
    pub pinned: bool,
    /// Whoever described it named the tag alone: the digest is what the platform found it to mean then.
    #[serde(default)]
    pub resolved: bool,
    /// Machines where it runs, or may be started, and where images cannot be loaded from here:
    /// the name of each, and what to do about it.
    pub beyond: Vec<(String, String)>,
    /// The ids of the images that its running tasks really run.
    pub running: Vec<String>,
    /// Started anew it runs the image that it has, whatever the name means by then: until it is made
    /// anew.
    #[serde(default)]
    pub keeps_image: bool,
}

impl ImageUser {
    /// A service that runs nothing yet.
    pub fn new(service: impl Into<String>, image: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            key: None,
            image: image.into(),
            pinned: false,
            resolved: false,
            beyond: Vec::new(),
            running: Vec::new(),
            keeps_image: false,
        }
    }
}

/// The images of a platform: names (`repository:tag`) that mean images, which have ids.
///
/// Loading an image gives it no name: what a name means is changed by [`tag`](Self::tag) alone.
#[async_trait]
pub trait Images: Send + Sync {
    /// All names, each with the id of the image that it means.
    async fn names(&self) -> Result<Vec<(String, String)>>;

    /// The id of the image that a name means.
    async fn id(&self, name: &str) -> Result<Option<String>>;

    /// Loads the images of an archive that `docker save` wrote, in one pass that also compares
    /// its hash; none of its names is given. On an error no image of it is there that was not
    /// there before.
    async fn load(&self, source: Source, progress: Progress) -> Result<Vec<LoadedImage>>;

    /// The archive of what a name means, as `docker save` writes it: with that name, and no other.
    /// A stream that ends without an error is the whole of it.
    async fn save(&self, name: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        Err(Error::new(
            ErrorKind::Preflight,
            "component.no_back_up",
            format!("this platform cannot save the image {name}"),
        )
        .because(NeverBackedUp))
    }

    /// Makes a name mean an image.
    async fn tag(&self, id: &str, name: &str) -> Result<()>;

    /// Takes a name away; an image without any, which nothing runs, goes with it. A name that
    /// there is not is as wanted.
    async fn untag(&self, name: &str) -> Result<()>;

    /// The services whose descriptions name this image.
    async fn users(&self, name: &str) -> Result<Vec<ImageUser>>;

    /// Makes a service's description name another image.
    async fn run_image(&self, service: &str, image: &str) -> Result<()>;

    /// The other machines that run services with one of these images, or may be told to: an image
    /// has to be loaded on each of them too, and its names moved there, through [`at`](Self::at).
    /// Ids that last as long as the machines.
    async fn elsewhere(&self, _names: &[String]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The images of one of these machines.
    async fn at(&self, place: &str) -> Result<Arc<dyn Images>> {
        Err(Error::new(
            ErrorKind::NotFound,
            "image.no_place",
            format!("images are kept in one place only here, not in {place}"),
        ))
    }

    /// Whether one of these machines is down or gone, so that it runs nothing: a way back then does
    /// without it.
    async fn is_away(&self, _place: &str) -> Result<bool> {
        Ok(false)
    }

    /// What people call one of these machines.
    async fn place_name(&self, place: &str) -> Result<String> {
        Ok(place.to_owned())
    }

    /// Room where images are kept, where that can be told.
    async fn free_space(&self) -> Result<Option<Space>>;
}
