//! `restore show ID`.

use std::collections::BTreeMap;

use restore_core::Result;
use restore_core::backup::{Generation, Manifest};
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
    let lists = backup
        .manifest()
        .map(|it| &it.lists[..])
        .unwrap_or_default();
    let artifacts = paths.filter(|path| *path != Manifest::FILE_NAME && !lists.contains(path));
    for path in artifacts {
        files.entry(path.clone()).or_insert_with(|| row(path));
    }
    // Of what was never finished nobody can say what it lacks.
    let lacking = match backup.generation() {
        Generation::Unfinished => Vec::new(),
        _ => site.lacking(&backup),
    };
    for component in site.components() {
        for path in component.artifacts(&backup) {
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
    let wrong = backup.verify_listing().await?.findings();
    text += &render::findings("What is wrong with it:", &wrong);
    text += &render::recoverable(&recoverable, &findings);
    let value = json!({
        "summary": summary, "store": store, "files": files, "manifest": backup.manifest(),
        "lacking": lacking, "recoverable": recoverable, "findings": findings, "wrong": wrong,
    });
    Answer::new("backup", &value, text)
}
