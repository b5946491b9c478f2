//! What a list of backups shows of each.

use serde::{Deserialize, Serialize};

use crate::contract::{Backup, Generation, Manifest};
use crate::model::BackupId;

/// A backup in a few words and numbers, told without reading any artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackupSummary {
    /// Its id.
    pub id: BackupId,
    /// When it was made, as its manifest says it: any text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created: Option<String>,
    /// Who made it, as its manifest says it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created_by: Option<String>,
    /// What kind of backup it calls itself (`Backup Type` or `Type`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<String>,
    /// Which scripts wrote it.
    pub generation: Generation,
    /// Whether it was taken before a restore.
    pub safety: bool,
    /// Files that are there, without the manifest.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Backup {
    /// The backup in a few words and numbers.
    pub fn summary(&self) -> BackupSummary {
        let value = |keys: &[&str]| {
            let manifest = self.manifest()?;
            let found = keys.iter().find_map(|key| manifest.value(key))?;
            (!found.is_empty()).then(|| found.to_owned())
        };
        let artifacts = || {
            self.files()
                .iter()
                .filter(|file| file.path != Manifest::FILE_NAME)
                .filter(|file| {
                    self.manifest()
                        .is_none_or(|it| !it.lists.contains(&file.path))
                })
        };
        BackupSummary {
            id: self.id().clone(),
            created: value(&["Created"]),
            created_by: value(&["Created By"]),
            kind: value(&["Backup Type", "Type"]),
            generation: self.generation(),
            safety: self.id().is_safety(),
            files: artifacts().count() as u64,
            bytes: artifacts().fold(0, |sum, file| sum.saturating_add(file.size)),
        }
    }
}
