//! A program of the site's own says that something works, where it has to work: inside the
//! application's container, for one.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use super::attempt::{Attempt, PATIENCE, until};
use crate::contract::{
    Check, ConfigDuration, Platform, Program, RetryMode, Table, When, parse_section,
};
use crate::model::{CheckOutcome, Error, ErrorKind, Result, Timestamp};
use crate::sys::process::command::{Command as ProgramCommand, Process, to_its_end};
use crate::sys::process::programs::bound_process;

/// More of what it says is not looked at.
const OUTPUT: usize = 1 << 20;

/// So much of it is told.
const WORDS: usize = 200;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    service: Option<String>,
    command: Vec<String>,
    contains: Option<String>,
    timeout: Option<ConfigDuration>,
    when: Option<When>,
}

/// A program that must end with exit code 0 and, where that is asked, say something. Run in the
/// context of a service, in each of its instances, or on this host; again and again until the deadline.
pub(crate) struct Command {
    name: String,
    section: Section,
    platform: Arc<dyn Platform>,
}

impl Command {
    pub(crate) fn new(name: &str, table: Table, platform: Arc<dyn Platform>) -> Result<Self> {
        let section: Section = parse_section(&format!("checks.{name}"), table)?;
        if section.command.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!("[checks.{name}] `command` must name a program"),
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            section,
            platform,
        })
    }

    async fn attempt(&self) -> Attempt {
        match self.run().await {
            Ok(attempt) => attempt,
            // A service that does not run yet cannot be asked.
            Err(e) => Attempt::NotYet(e.to_string()),
        }
    }

    async fn run(&self) -> Result<Attempt> {
        let command = ProgramCommand::new(self.section.command.iter().cloned());
        let processes = match &self.section.service {
            // Each replica may have a network of its own.
            Some(service) => {
                // Else it would run aside, in the service's image, and say nothing of the service.
                if self.platform.service(service).await?.running == 0 {
                    return Ok(Attempt::NotYet(format!("{service} does not run")));
                }
                self.platform.exec_each(service, command).await?
            }
            None => vec![bound_process(&command)?],
        };
        let mut last = Attempt::NotYet("nothing was run".to_owned());
        for process in processes {
            last = self.judge(process).await?;
            if !matches!(last, Attempt::Passed(_)) {
                break;
            }
        }
        Ok(last)
    }

    async fn judge(&self, process: Box<dyn Process>) -> Result<Attempt> {
        let mut said = Vec::new();
        let (exit, _) = to_its_end(process, |piece| {
            let room = OUTPUT.saturating_sub(said.len()).min(piece.len());
            said.extend_from_slice(piece.get(..room).unwrap_or_default());
        })
        .await?;
        let said = String::from_utf8_lossy(&said);
        let program = self.section.command.first().map_or("", String::as_str);
        if !exit.success() {
            let words = match exit.stderr.trim() {
                "" => said.trim(),
                words => words,
            };
            return Ok(Attempt::NotYet(format!(
                "{program} ended with exit code {}: {}",
                exit.code,
                shortened(words)
            )));
        }
        Ok(match &self.section.contains {
            Some(text) if !said.contains(text) => Attempt::NotYet(format!(
                "{program} does not say {text:?} but: {}",
                shortened(said.trim())
            )),
            Some(text) => Attempt::Passed(format!("{program} says {text:?}")),
            None => Attempt::Passed(format!("{program} ended with exit code 0")),
        })
    }
}

fn shortened(words: &str) -> String {
    match words {
        "" => "nothing".to_owned(),
        words => words.chars().take(WORDS).collect(),
    }
}

#[async_trait]
impl Check for Command {
    fn name(&self) -> &str {
        &self.name
    }

    fn when(&self) -> When {
        self.section.when.unwrap_or(When::BeforeTraffic)
    }

    fn programs(&self) -> Vec<Program> {
        let service = self.section.service.as_deref();
        let named_by = format!("command of [checks.{}]", self.name);
        Vec::from_iter(Program::of(named_by, service, &self.section.command))
    }

    async fn run(&self, _since: Timestamp, tries: RetryMode) -> CheckOutcome {
        let patience = self.section.timeout.unwrap_or(PATIENCE).0;
        until(&self.name, patience, tries, || self.attempt()).await
    }
}
