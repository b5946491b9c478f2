//! What a component backs up, it restores.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::{Kept, broken, given, holds, must};
use super::trial::Trial;
use crate::archive::Compression;
use crate::contract::backup::DESCRIPTION;
use crate::contract::backup::NewBackup;
use crate::contract::{BackedUp, Backup};
use crate::model::{BackupId, Error, NeverBackedUp, NoEvents, RunId};
use crate::stores::directory::DirectoryStore;
use crate::swap::scope::Discard;

use serde_json::json;
use tokio_util::sync::CancellationToken;

/// A folder that is gone when the suite is.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> crate::model::Result<Self> {
        let path = std::env::temp_dir().join(format!(".restore-conformance-{}", RunId::generate()));
        std::fs::create_dir(&path)
            .map_err(|e| Error::io(format!("create {}", path.display()), e))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Trial {
    /// Backs up what is live, restores something else, and then what was backed up. Nothing to
    /// try where the component says that it cannot be backed up.
    pub(super) async fn backs_up(&self) -> Kept {
        let scratch = given("a scratch folder", Scratch::new())?;
        let store = Arc::new(DirectoryStore::new(&scratch.0));
        let new = async |id: BackupId, cancel: CancellationToken| {
            let begun = NewBackup::begin(
                store.as_ref(),
                id,
                Compression::default(),
                Arc::new(NoEvents),
                cancel,
            );
            given("a scratch store", begun.await)
        };
        let (component, _) = self.process(&self.run().await?).await?;
        let name = component.name();

        let backup = new(BackupId::now(), CancellationToken::new()).await?;
        let clause = "`back_up` writes what is live";
        let done = match component.back_up(&backup.writer(name)).await {
            Err(error) if error.is(&NeverBackedUp) => return Ok(()),
            // That there is nothing may be a loss which somebody must hear of.
            Err(_) if !self.something_live => BackedUp::default(),
            done => must(clause, done)?,
        };
        let clause = "`back_up` changes nothing live";
        self.is(clause, &self.before).await?;
        self.nothing_beside(clause).await?;
        if !self.something_live {
            return holds(
                "`back_up` writes no artifact where nothing is live",
                backup.artifacts(name).is_empty(),
                format!("{:?}", backup.artifacts(name)),
            );
        }
        // As a site describes the backups that it makes.
        let artifacts = backup.artifacts(name).into_iter();
        let artifacts: Vec<String> = artifacts.map(|(path, _)| path).collect();
        let description = json!({
            "format": 1,
            "components": [
                { "name": name, "kind": component.kind(), "artifacts": artifacts, "facts": done.facts },
            ],
        });
        let writer = backup.writer("");
        let described = writer.text(DESCRIPTION, format!("{description:#}\n")).await;
        given("the description", described)?;
        let manifest = given("the manifest", backup.manifest(Vec::new()))?;
        given("the manifest", backup.publish(&manifest).await)?;
        let backup = given(
            "the backup",
            Backup::open(store.clone(), backup.id().clone()).await,
        )?;
        let found = component.artifacts(&backup);
        holds(
            "`artifacts` finds what `back_up` wrote",
            !found.is_empty(),
            format!("none of {:?}", backup.files()),
        )?;

        let other = self.run().await?;
        self.stage(&other).await?;
        self.cut_over(&other, "`cut_over`").await?;
        let mut back = self.run().await?;
        back.backup = Arc::new(backup);
        let clause = "what `back_up` wrote restores what was live";
        self.stage(&back).await?;
        self.cut_over(&back, clause).await?;
        self.is(clause, &self.before).await?;
        self.undo(&back, clause).await?;
        self.is(clause, &self.restored).await?;
        self.discard(&back, Discard::Staged, clause).await?;
        self.discard(&back, Discard::Replaced, clause).await?;
        self.give_up(&other, clause).await?;

        let cancel = CancellationToken::new();
        cancel.cancel();
        let cancelled = new(BackupId::safety_now(), cancel).await?;
        let clause = "a cancelled `back_up` ends with `Interrupted`";
        match component.back_up(&cancelled.writer(name)).await {
            Err(error) if error.kind() == crate::model::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(clause, error)),
            Ok(_) => return Err(broken(clause, "Ok")),
        }
        self.is(clause, &self.before).await?;
        self.nothing_beside(clause).await
    }
}
