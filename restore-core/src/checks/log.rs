//! A service has not complained in its log.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use super::attempt::PATIENCE;
use crate::contract::{Check, ConfigDuration, Platform, RetryMode, Table, When, parse_section};
use crate::model::{CheckOutcome, Error, ErrorKind, Result, Timestamp};

/// More lines are not looked at: the last ones are.
const LINES: usize = 100_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    service: String,
    forbid: Vec<String>,
    #[serde(default)]
    max: usize,
    timeout: Option<ConfigDuration>,
    when: Option<When>,
}

/// At most so many lines since the run began hold one of the forbidden texts.
pub(crate) struct Log {
    name: String,
    section: Section,
    platform: Arc<dyn Platform>,
}

impl Log {
    pub(crate) fn new(name: &str, table: Table, platform: Arc<dyn Platform>) -> Result<Self> {
        let section: Section = parse_section(&format!("checks.{name}"), table)?;
        if section.forbid.is_empty() || section.forbid.iter().any(String::is_empty) {
            return Err(Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!("[checks.{name}] `forbid` must name texts, such as [\"ERROR\"]"),
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            section,
            platform,
        })
    }

    fn judge(&self, lines: &[String]) -> CheckOutcome {
        let bad: Vec<&String> = lines
            .iter()
            .filter(|line| self.section.forbid.iter().any(|text| line.contains(text)))
            .collect();
        let counted = format!(
            "{} of {} lines of {} complain",
            bad.len(),
            lines.len(),
            self.section.service
        );
        let passed = bad.len() <= self.section.max;
        let detail = match bad.last() {
            Some(last) if !passed => {
                let last: String = last.trim().chars().take(200).collect();
                format!(
                    "{counted}, at most {} may; the last: {last}",
                    self.section.max
                )
            }
            _ => counted,
        };
        CheckOutcome::new(&self.name, passed, detail)
    }
}

#[async_trait]
impl Check for Log {
    fn name(&self) -> &str {
        &self.name
    }

    fn when(&self) -> When {
        self.section.when.unwrap_or(When::BeforeTraffic)
    }

    async fn run(&self, since: Timestamp, _tries: RetryMode) -> CheckOutcome {
        let patience = self.section.timeout.unwrap_or(PATIENCE).0;
        let read = self.platform.logs(&self.section.service, since, LINES);
        match tokio::time::timeout(patience, read).await {
            Ok(Ok(lines)) => self.judge(&lines),
            Ok(Err(e)) => CheckOutcome::new(&self.name, false, e.to_string()),
            Err(_) => CheckOutcome::new(
                &self.name,
                false,
                format!(
                    "the log of {} cannot be read within {patience:?}",
                    self.section.service
                ),
            ),
        }
    }
}
