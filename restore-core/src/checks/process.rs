//! A service runs, and goes on running.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::attempt::{Attempt, PATIENCE, until};
use crate::contract::{Check, ConfigDuration, Platform, RetryMode, Table, When, parse_section};
use crate::model::{CheckOutcome, Result, Timestamp};

/// One that dies at once has done so by then.
const MOMENT: Duration = Duration::from_millis(500);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    service: String,
    timeout: Option<ConfigDuration>,
    when: Option<When>,
}

/// As many instances run as are wanted, at least one, and a moment later still the same.
pub(crate) struct Process {
    name: String,
    section: Section,
    platform: Arc<dyn Platform>,
}

impl Process {
    pub(crate) fn new(name: &str, table: Table, platform: Arc<dyn Platform>) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            section: parse_section(&format!("checks.{name}"), table)?,
            platform,
        })
    }

    async fn attempt(&self) -> Attempt {
        let service = &self.section.service;
        let mut seen: Option<String> = None;
        loop {
            let state = match self.platform.service(service).await {
                Ok(state) => state,
                Err(e) => return Attempt::Failed(e.to_string()),
            };
            let wanted = state.desired.max(1);
            if state.running != wanted {
                return Attempt::NotYet(format!(
                    "{service}: {} of {wanted} run ({})",
                    state.running, state.detail
                ));
            }
            // Users wait for this check: what the platform has seen for that long is not watched again.
            if state
                .since
                .is_some_and(|since| Timestamp::now().since(since) >= MOMENT)
            {
                return Attempt::Passed(format!("{service} runs ({})", state.detail));
            }
            match seen {
                Some(before) if before == state.detail => {
                    return Attempt::Passed(format!("{service} runs ({before})"));
                }
                Some(before) => {
                    return Attempt::NotYet(format!(
                        "{service} does not stay: first {before}, then {}",
                        state.detail
                    ));
                }
                None => seen = Some(state.detail),
            }
            tokio::time::sleep(MOMENT).await;
        }
    }
}

#[async_trait]
impl Check for Process {
    fn name(&self) -> &str {
        &self.name
    }

    fn when(&self) -> When {
        self.section.when.unwrap_or(When::BeforeTraffic)
    }

    async fn run(&self, _since: Timestamp, tries: RetryMode) -> CheckOutcome {
        let patience = self.section.timeout.unwrap_or(PATIENCE).0;
        until(&self.name, patience, tries, || self.attempt()).await
    }
}
