//! `restore list`.

use restore_core::Result;
use restore_core::backup::Backup;

use super::Context;
use crate::exit;
use crate::printer::Answer;
use crate::render::{self, BackupRow};

/// The backups of all stores, oldest first. One that is damaged is in the list, and said to be. A
/// store that cannot be asked does not hide what the others have, and is an error at the end.
pub(super) async fn list(cx: &Context) -> Result<Answer> {
    let site = cx.site().await?;
    let mut rows = Vec::new();
    let mut failed = None;
    for (name, store) in site.stores() {
        let ids = match store.list().await {
            Ok(ids) => ids,
            Err(error) => {
                failed.get_or_insert(error.context(format!("the store {name} is not listed")));
                continue;
            }
        };
        for id in ids {
            let (summary, problem) = match Backup::open(store.clone(), id.clone()).await {
                Ok(backup) => (Some(backup.summary()), None),
                Err(error) => (None, Some(error.to_string())),
            };
            rows.push((
                id.clone(),
                BackupRow {
                    store: name.clone(),
                    id: id.to_string(),
                    summary,
                    problem,
                    packed: None,
                },
            ));
        }
        let packed = match store.packed().await {
            Ok(packed) => packed,
            Err(error) => {
                failed.get_or_insert(error.context(format!("the store {name} is not listed")));
                continue;
            }
        };
        rows.extend(packed.into_iter().map(|packed| {
            let row = BackupRow {
                store: name.clone(),
                id: packed.id.to_string(),
                summary: None,
                problem: None,
                packed: Some(packed.clone()),
            };
            (packed.id, row)
        }));
    }
    // Of one id, in the order of the stores.
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    let rows: Vec<BackupRow> = rows.into_iter().map(|(_, row)| row).collect();
    let places: Vec<String> = site
        .stores()
        .iter()
        .map(|(_, store)| store.describe())
        .collect();
    let text = if rows.is_empty() && failed.is_some() {
        String::new()
    } else {
        render::backups(&rows, &places.join(", "), places.len() > 1)
    };
    let code = failed.as_ref().map_or(exit::DONE, exit::of_error);
    Ok(Answer::new("backups", &rows, text)?.failed(failed, code))
}
