//! A check of one's own: a file that the application writes once it has its data.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use restore_core::check::{Check, RetryMode, When};
use restore_core::component::{CheckOutcome, ComponentDeps};
use restore_core::config::{Table, parse_section};
use restore_core::{Result, Timestamp};
use serde::Deserialize;

/// `[checks.NAME]` with `kind = "fresh-file"` and `file = "/run/app/ready"`.
pub struct FreshFile {
    name: String,
    file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    file: PathBuf,
}

impl FreshFile {
    /// As written in the configuration.
    pub const KIND: &'static str = "fresh-file";

    /// Makes one from its section.
    pub fn from_table(name: &str, table: Table, parts: &ComponentDeps) -> Result<Arc<dyn Check>> {
        let section: Section = parse_section(&format!("checks.{name}"), table)?;
        Ok(Arc::new(Self {
            name: name.to_owned(),
            file: parts.path(section.file),
        }))
    }

    fn look(&self, since: Timestamp, tries: RetryMode) -> CheckOutcome {
        let written = std::fs::metadata(&self.file).and_then(|it| it.modified());
        let (passed, seen) = match (written, tries) {
            (Err(error), _) => (false, error.to_string()),
            // Whether it is of this start matters to a run alone.
            (Ok(_), RetryMode::Once) => (true, "is there".to_owned()),
            (Ok(at), _) => match Timestamp::from(at) >= since {
                true => (true, "was written since".to_owned()),
                false => (false, "is older than the start".to_owned()),
            },
        };
        CheckOutcome::new(
            &self.name,
            passed,
            format!("{} {seen}", self.file.display()),
        )
    }
}

#[async_trait]
impl Check for FreshFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn when(&self) -> When {
        When::BeforeTraffic
    }

    /// It never hangs: after half a minute it says what it has seen.
    async fn run(&self, since: Timestamp, tries: RetryMode) -> CheckOutcome {
        for _ in 0..60 {
            let outcome = self.look(since, tries);
            if outcome.passed || tries == RetryMode::Once {
                return outcome;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.look(since, tries)
    }
}
