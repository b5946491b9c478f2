//! A volume that is not there: made, and removed again.

use async_trait::async_trait;

use super::VolumeComponent;
use crate::components::place;
use crate::contract::{Create, RunContext};
use crate::model::Result;

#[async_trait]
impl Create for VolumeComponent {
    async fn create(&self, cx: &RunContext) -> Result<()> {
        // What the swap gives it is the archive's.
        place::make_volume(cx, self.platform.as_ref(), &self.section.volume, None)
            .await
            .map_err(self.at())
    }

    async fn remove_created(&self, cx: &RunContext) -> Result<()> {
        let at = self.platform.absent_volume(&self.section.volume).await;
        place::remove(cx, at.map_err(self.at())?)
            .await
            .map_err(self.at())
    }
}
