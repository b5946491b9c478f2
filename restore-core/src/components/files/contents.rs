//! Looking into a tree's archives.

use async_trait::async_trait;

use super::Files;
use crate::archive::UnpackPolicy;
use crate::components::archive;
use crate::components::compare_tree::{LiveTree, compare, not_here};
use crate::contract::{Backup, Contents, RunContext};
use crate::model::{Difference, Result};

#[async_trait]
impl Contents for Files {
    async fn archives(&self, backup: &Backup) -> Vec<(String, UnpackPolicy)> {
        let policy = self.section.members().policy(self.section.tree());
        let archives = backup
            .find_of(&self.name, &self.section.archive)
            .into_iter();
        archives.map(|path| (path, policy.clone())).collect()
    }

    async fn inside(&self, path: &str) -> Option<String> {
        let relative = self.section.relative(&self.name, path).ok()??;
        Some(relative.to_string_lossy().into_owned())
    }

    async fn compare(&self, cx: &RunContext, most: usize) -> Result<Vec<Difference>> {
        let compared = async {
            let found = archive::find(cx.backup(), &self.name, &self.section.archive)?;
            if self.section.node.is_some() {
                return Err(not_here(&self.section.place()));
            }
            let live = LiveTree {
                path: self.section.live(),
                follow: self.section.follow,
                kept: self.left_out(),
                only: self.section.paths(&self.name, cx.paths())?,
            };
            let policy = self.section.members().policy(self.section.tree());
            compare(cx, &found, policy, live, most).await
        };
        compared.await.map_err(self.at())
    }
}
