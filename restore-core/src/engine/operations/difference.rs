//! How what a backup has differs from what is live.

use super::*;
use crate::contract::{MemoryFacts, RunContext};
use crate::model::Difference;

/// How what a backup has of a component differs from what is live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ComponentDifference {
    /// The component.
    pub name: String,
    /// What differs, one for each kind of thing; empty where that is not known.
    pub differences: Vec<Difference>,
    /// Why it is not known, where it is not.
    pub unknown: Option<Finding>,
}

/// How what a backup has differs from what is live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SiteDifference {
    /// The backup.
    pub backup: BackupId,
    /// The components that a plan of the same request has, in the order of their cut-overs.
    pub components: Vec<ComponentDifference>,
}

impl Site {
    /// How what a backup has of the components and paths of a request differs from what is live: files
    /// by type, size, time, mode and link target, crontabs by line, tables and keys by count. Archives are
    /// read to their end, their hashes compared; nothing is staged, and live data only looked at. At most
    /// `most` names of each sort are told, and all are counted.
    ///
    /// A request with a recovery target is compared by what the backup has.
    ///
    /// # Errors
    ///
    /// Those of the request (`plan.unknown_component`, `plan.unknown_path`); `Interrupted` once
    /// [`RunOptions::cancel`] is cancelled. What cannot be compared is told where it is.
    pub async fn difference(
        &self,
        backup: &Backup,
        request: &PlanRequest,
        most: usize,
        options: &RunOptions,
    ) -> Result<SiteDifference> {
        let selected = Preflight::new(self, backup, request.clone(), options)
            .select()
            .await?;
        let mut components = Vec::new();
        for (component, paths) in selected {
            let name = component.name().to_owned();
            if component.artifacts(backup).is_empty() {
                continue;
            }
            let cx = RunContext::new(
                RunId::generate(),
                name.clone(),
                Arc::new(backup.clone()),
                Arc::new(MemoryFacts::default()),
                options.events.clone(),
                options.cancel.clone(),
            )
            .with_paths(paths);
            cx.check_cancelled()?;
            let compared = match component.contents() {
                Some(contents) => contents.compare(&cx, most).await,
                None => Ok(Vec::new()),
            };
            let (differences, unknown) = match compared {
                Ok(differences) if differences.is_empty() => {
                    let message = "nothing here compares what it restores with what is live";
                    (
                        differences,
                        Some(Finding::info("diff.unknown", &name, message)),
                    )
                }
                Ok(differences) => (differences, None),
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(error) => (Vec::new(), Some(Finding::from_error(&name, &error))),
            };
            components.push(ComponentDifference {
                name,
                differences,
                unknown,
            });
        }
        Ok(SiteDifference {
            backup: backup.id().clone(),
            components,
        })
    }
}
