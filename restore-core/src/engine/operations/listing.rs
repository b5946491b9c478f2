//! What the stores have, told without reading any artifact.

use serde::{Deserialize, Serialize};

use super::*;
use crate::backup::summary::BackupSummary;
use crate::backup::verification::Verdict;
use crate::contract::{Generation, OddEntry, PackedBackup};

/// What a listed backup can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BackupKind {
    /// It has something for every component of the site; `latest` is the newest of these.
    Full,
    /// It has nothing for some of the components: [`ListedBackup::lacking`].
    Partial,
    /// A run made it of what it was about to replace.
    Safety,
    /// Who made it never finished it.
    Unfinished,
    /// One file, which is unpacked when it is fetched; what is in it is not known before.
    Packed,
    /// Verification would call it wrong: [`ListedBackup::problem`].
    Damaged,
    /// It could not be looked at, by this user or now: [`ListedBackup::problem`]. Nothing is known of it.
    Unreadable,
}

/// A backup in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListedBackup {
    /// The name of the store that it is in.
    pub store: String,
    /// Its id.
    pub id: BackupId,
    /// What it can be used for.
    pub kind: BackupKind,
    /// When it was made, by whom, how large it is; `None` where it does not even open, or is packed.
    pub summary: Option<BackupSummary>,
    /// The site's components that it has something for, in the site's order; empty where that is not known
    /// before it is unpacked, or where it does not open.
    #[serde(default)]
    pub components: Vec<String>,
    /// Those of them that are recovered from it to a moment: from when to when says
    /// [`Site::recoverable`].
    #[serde(default)]
    pub recovery: Vec<String>,
    /// The site's components that it has nothing for.
    pub lacking: Vec<String>,
    /// Why it does not open, or what verification would call wrong of it, as far as its listing tells.
    pub problem: Option<String>,
    /// The file that it is packed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<PackedBackup>,
}

/// What all stores of a site have.
#[derive(Debug)]
#[must_use = "a store that could not be listed is no error: `failed` says it"]
#[non_exhaustive]
pub struct BackupListing {
    /// Every backup, oldest first; one that several stores hold is listed for each, in their order.
    pub backups: Vec<ListedBackup>,
    /// What lies in the stores and is no backup, with the store's name: each says why.
    pub strangers: Vec<(String, OddEntry)>,
    /// Why a store could not be listed, the first of them. The others' backups are listed all the same.
    pub failed: Option<Error>,
}

impl Site {
    /// Everything that the stores have, of which no artifact is read. A store that cannot be
    /// listed does not hide what the others have.
    pub async fn listing(&self) -> BackupListing {
        let mut listing = BackupListing {
            backups: Vec::new(),
            strangers: Vec::new(),
            failed: None,
        };
        for (name, store) in &self.stores {
            if let Err(error) = self.list_store(name, store, &mut listing.backups).await {
                let error = error.context(format!("the store {name} is not listed"));
                listing.failed.get_or_insert(error);
                // What cannot be reached is not waited for once more.
                continue;
            }
            let strangers = store.strangers().await.unwrap_or_default().into_iter();
            let named = strangers.map(|stranger| (name.clone(), stranger));
            listing.strangers.extend(named);
        }
        listing.backups.sort_by(|a, b| a.id.cmp(&b.id));
        listing
    }

    /// All backups of all stores, as [`listing`](Self::listing) tells them.
    ///
    /// # Errors
    ///
    /// That a store cannot be listed.
    pub async fn backups(&self) -> Result<Vec<ListedBackup>> {
        let listing = self.listing().await;
        match listing.failed {
            Some(error) => Err(error),
            None => Ok(listing.backups),
        }
    }

    pub(super) async fn list_store(
        &self,
        name: &str,
        store: &Arc<dyn BackupStore>,
        backups: &mut Vec<ListedBackup>,
    ) -> Result<()> {
        for id in store.list().await? {
            backups.push(self.listed(name, store, id).await);
        }
        for packed in store.packed().await? {
            backups.push(ListedBackup {
                store: name.to_owned(),
                id: packed.id.clone(),
                kind: BackupKind::Packed,
                summary: None,
                components: Vec::new(),
                recovery: Vec::new(),
                lacking: Vec::new(),
                problem: None,
                packed: Some(packed),
            });
        }
        Ok(())
    }

    async fn listed(&self, name: &str, store: &Arc<dyn BackupStore>, id: BackupId) -> ListedBackup {
        let mut listed = ListedBackup {
            store: name.to_owned(),
            id: id.clone(),
            kind: BackupKind::Damaged,
            summary: None,
            components: Vec::new(),
            recovery: Vec::new(),
            lacking: Vec::new(),
            problem: None,
            packed: None,
        };
        let backup = match Backup::open(store.clone(), id).await {
            Ok(backup) => backup,
            Err(error) => {
                listed.kind = kind_of(&error);
                listed.problem = Some(error.to_string());
                return listed;
            }
        };
        let summary = backup.summary();
        if summary.generation != Generation::Unfinished {
            listed.lacking = self.lacking(&backup);
            let as_listed = backup.as_listed();
            for component in &self.components {
                if component.artifacts(&as_listed).is_empty() {
                    continue;
                }
                listed.components.push(component.name().to_owned());
                if component.recovery() == Recovery::Cluster {
                    listed.recovery.push(component.name().to_owned());
                }
            }
        }
        let wrong = wrong(&backup).await;
        listed.problem = wrong.as_ref().map(Error::to_string);
        listed.kind = match &wrong {
            Some(error) => kind_of(error),
            None if summary.generation == Generation::Unfinished => BackupKind::Unfinished,
            None if summary.safety => BackupKind::Safety,
            None if listed.lacking.is_empty() => BackupKind::Full,
            None => BackupKind::Partial,
        };
        listed.summary = Some(summary);
        listed
    }
}

/// What verification would call wrong of a finished backup, as far as its listing tells.
async fn wrong(backup: &Backup) -> Option<Error> {
    let listing = match backup.verify_listing().await {
        Ok(listing) => listing,
        Err(error) => return Some(error),
    };
    match listing.verdict() {
        Verdict::Failed => listing.into_result().err(),
        _ => None,
    }
}

/// What a backup is taken for that does not open, or is wrong.
fn kind_of(error: &Error) -> BackupKind {
    match error.kind() {
        ErrorKind::Failed => BackupKind::Unreadable,
        _ => BackupKind::Damaged,
    }
}
