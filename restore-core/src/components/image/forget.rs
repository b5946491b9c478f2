//! Deleting what a run keeps.

use super::{ImageComponent, replaced_prefix, staged_prefix};
use crate::contract::{Images, RunContext};
use crate::model::Result;
use crate::swap::scope::Discard;

impl ImageComponent {
    pub(super) async fn throw_away(&self, cx: &RunContext, what: Discard) -> Result<()> {
        let images = self.images()?;
        let start = match what {
            Discard::Staged => staged_prefix(cx.run()),
            Discard::Replaced => replaced_prefix(cx.run()),
        };
        for (_, other) in self.places_there(cx).await? {
            self.forget(other.as_ref(), &start).await?;
        }
        self.forget(images.as_ref(), &start).await
    }

    /// Takes names of the run's own away.
    pub(super) async fn forget(&self, images: &dyn Images, start: &str) -> Result<()> {
        for (name, _) in images.names().await? {
            if !name.starts_with(start) {
                continue;
            }
            images.untag(&name).await?;
        }
        Ok(())
    }
}
