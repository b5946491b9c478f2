//! Deleting what a run keeps.

use super::{ImageComponent, replaced_prefix, staged_prefix};
use crate::error::Result;
use crate::finding::Finding;
use crate::platform::{Discard, Images};
use crate::run::RunContext;

impl ImageComponent {
    pub(super) async fn throw_away(&self, cx: &RunContext, what: Discard) -> Result<()> {
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
    pub(super) async fn forget(
        &self,
        cx: &RunContext,
        images: &dyn Images,
        start: &str,
    ) -> Result<()> {
        for (name, _) in images.names().await? {
            if !name.starts_with(start) {
                continue;
            }
            if let Some(holders) = images.let_go(&name).await? {
                cx.notice(
                    Finding::info(
                        "image.in_use",
                        &name,
                        format!("the image cannot be deleted yet: {holders}"),
                    )
                    .hint("it is deleted by a later run or confirm, once `docker rm` or the swarm has removed these containers"),
                );
            }
        }
        Ok(())
    }
}
