//! Looking into a volume's archives.

use std::path::Path;

use async_trait::async_trait;

use super::VolumeComponent;
use crate::archive::UnpackPolicy;
use crate::components::place;
use crate::contract::{Backup, Contents};

#[async_trait]
impl Contents for VolumeComponent {
    async fn archives(&self, backup: &Backup) -> Vec<(String, UnpackPolicy)> {
        let policy = self.section.members().policy("");
        let archives = backup.find(&self.archive).into_iter();
        archives.map(|path| (path, policy.clone())).collect()
    }

    async fn inside(&self, path: &str) -> Option<String> {
        let live = place::path_of(self.platform.as_ref(), &self.section.volume).await;
        let live = live.ok()??;
        let relative = Path::new(path).strip_prefix(live).ok()?;
        Some(relative.to_string_lossy().into_owned())
    }
}
