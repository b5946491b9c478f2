//! A hook of one's own: a line for each run and backup in a file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use restore_core::component::ComponentDeps;
use restore_core::config::{Table, parse_section};
use restore_core::hook::{Hook, HookCalls, HookMoment, HookNotice, HookSubject};
use restore_core::{Error, Result};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

/// `[hooks.NAME]` with `kind = "diary"`, `file = "/var/log/restore-diary"` and `when = ["on-success"]`.
pub struct Diary {
    name: String,
    calls: HookCalls,
    file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    file: PathBuf,
}

impl Diary {
    /// As written in the configuration.
    pub const KIND: &'static str = "diary";

    /// Makes one from its section.
    pub fn from_table(
        name: &str,
        mut table: Table,
        parts: &ComponentDeps,
    ) -> Result<Arc<dyn Hook>> {
        let calls = HookCalls::take(name, &mut table)?;
        let section: Section = parse_section(&format!("hooks.{name}"), table)?;
        Ok(Arc::new(Self {
            name: name.to_owned(),
            calls,
            file: parts.path(section.file),
        }))
    }
}

#[async_trait]
impl Hook for Diary {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_called(&self, when: HookMoment, subject: HookSubject) -> bool {
        self.calls.has(when, subject)
    }

    fn timeout(&self) -> Duration {
        self.calls.timeout()
    }

    async fn call(&self, notice: &HookNotice) -> Result<()> {
        let line = format!("{} {}: {}\n", notice.when, notice.subject, notice.text);
        let write = async {
            let mut options = tokio::fs::OpenOptions::new();
            let mut diary = options.create(true).append(true).open(&self.file).await?;
            diary.write_all(line.as_bytes()).await?;
            diary.flush().await
        };
        write
            .await
            .map_err(|e| Error::io(format!("write {}", self.file.display()), e))
    }
}
