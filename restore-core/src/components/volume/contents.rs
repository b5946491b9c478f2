//! Looking into a volume's archives.

use async_trait::async_trait;

use super::VolumeComponent;
use crate::archive::UnpackPolicy;
use crate::components::compare_tree::{LiveTree, compare, not_here};
use crate::components::{archive, place};
use crate::contract::{Backup, Contents, RunContext};
use crate::model::{Difference, Result};

#[async_trait]
impl Contents for VolumeComponent {
    async fn archives(&self, backup: &Backup) -> Vec<(String, UnpackPolicy)> {
        let policy = self.section.members().policy("");
        let archives = backup.find_of(&self.name, &self.archive).into_iter();
        archives.map(|path| (path, policy.clone())).collect()
    }

    async fn inside(&self, path: &str) -> Option<String> {
        let inside = match path.starts_with('/') {
            true => self.below(path).await,
            false => self.named(path),
        };
        inside.ok().flatten()
    }

    async fn compare(&self, cx: &RunContext, most: usize) -> Result<Vec<Difference>> {
        let compared = async {
            let found = archive::find(cx.backup(), &self.name, &self.archive)?;
            let platform = self.platform.as_ref();
            let path = place::path_of(platform, &self.section.volume).await?;
            let live = LiveTree {
                path: path.ok_or_else(|| not_here(&format!("volume {}", self.section.volume)))?,
                // Nothing in it is read but names and what they stand for.
                follow: true,
                kept: vec![archive::never_packed()],
                only: self.paths(cx.paths()).await?,
            };
            compare(cx, &found, self.section.members().policy(""), live, most).await
        };
        compared.await.map_err(self.at())
    }
}
