//! Looking into a tree's archives.

use async_trait::async_trait;

use super::Files;
use crate::archive::UnpackPolicy;
use crate::contract::{Backup, Contents};

#[async_trait]
impl Contents for Files {
    async fn archives(&self, backup: &Backup) -> Vec<(String, UnpackPolicy)> {
        let policy = self.section.members().policy(self.section.tree());
        let archives = backup.find(&self.section.archive).into_iter();
        archives.map(|path| (path, policy.clone())).collect()
    }

    async fn inside(&self, path: &str) -> Option<String> {
        let relative = self.section.relative(&self.name, path).ok()??;
        Some(relative.to_string_lossy().into_owned())
    }
}
