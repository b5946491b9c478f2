//! `restore show ID`.

use std::collections::BTreeMap;

use restore_core::Result;
use restore_core::backup::Manifest;
use serde_json::json;

use super::Context;
use crate::printer::Answer;
use crate::render::{self, FileRow};

/// What is in a backup, and which component would be restored from which file.
pub(super) async fn show(cx: &Context, id: &str) -> Result<Answer> {
    let site = cx.site().await?;
    let backup = site.backup(id).await?;
    let mut files: BTreeMap<String, FileRow> = BTreeMap::new();
    let row = |path: &str| FileRow {
        path: path.to_owned(),
        size: backup.file(path).map(|file| file.size),
        sha256: backup
            .expected_digest(path)
            .map(|digest| digest.to_string()),
        components: Vec::new(),
    };
    let listed = backup
        .manifest()
        .into_iter()
        .flat_map(|manifest| &manifest.entries);
    let paths = backup
        .files()
        .iter()
        .map(|file| &file.path)
        .chain(listed.map(|entry| &entry.path));
    for path in paths.filter(|path| *path != Manifest::FILE_NAME) {
        files.entry(path.clone()).or_insert_with(|| row(path));
    }
    let mut lacking = Vec::new();
    for component in site.components() {
        let artifacts = component.artifacts(&backup);
        if artifacts.is_empty() {
            lacking.push(component.name().to_owned());
        }
        for path in artifacts {
            if let Some(file) = files.get_mut(&path) {
                file.components.push(component.name().to_owned());
            }
        }
    }
    let files: Vec<FileRow> = files.into_values().collect();
    let summary = backup.summary();
    let store = backup.store().describe();
    let (recoverable, findings) = match backup.local_path(Manifest::FILE_NAME) {
        Some(_) => site.recoverable(&backup).await,
        None => Default::default(),
    };
    let mut text = render::show(&summary, &store, &files, &lacking);
    text += &render::recoverable(&recoverable, &findings);
    let value = json!({
        "summary": summary, "store": store, "files": files, "manifest": backup.manifest(),
        "components_without_files": lacking, "recoverable": recoverable, "findings": findings,
    });
    Answer::new("backup", &value, text)
}
