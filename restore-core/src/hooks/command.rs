//! A program of the site's own is run: on this host, or in the context of a service.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{HookCalls, document};
use crate::contract::{
    ComponentDeps, ConfigDuration, Hook, HookMoment, HookNotice, HookSubject, Platform, Program,
    Table, parse_section,
};
use crate::model::{Error, ErrorKind, Result};
use crate::sys::process::command::{Command as ProgramCommand, Process};
use crate::sys::process::programs::bound_process;

/// So much of what it says is told.
const WORDS: usize = 200;
/// The end of its standard output that is kept.
const OUTPUT: usize = 4 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    when: Vec<HookMoment>,
    #[serde(rename = "for")]
    subjects: Option<Vec<HookSubject>>,
    service: Option<String>,
    command: Vec<String>,
    timeout: Option<ConfigDuration>,
}

/// A program that is given the notice on its standard input and must end with exit code 0. It does
/// not outlive this process where it runs on this host.
pub(super) struct Command {
    name: String,
    calls: HookCalls,
    service: Option<String>,
    argv: Vec<String>,
    platform: Arc<dyn Platform>,
}

impl Command {
    pub(super) fn new(name: &str, table: Table, parts: &ComponentDeps) -> Result<Self> {
        let section: Section = parse_section(&format!("hooks.{name}"), table)?;
        let mut argv = section.command;
        let Some(program) = argv.first_mut() else {
            return Err(Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!("[hooks.{name}] `command` must name a program"),
            ));
        };
        // A path of this host is taken from the folder of the file; in a service it is the service's.
        if section.service.is_none() && program.contains('/') {
            *program = parts.path(&*program).display().to_string();
        }
        Ok(Self {
            calls: HookCalls::new(name, section.when, section.subjects, section.timeout)?,
            name: name.to_owned(),
            service: section.service,
            argv,
            platform: parts.platform.clone(),
        })
    }

    async fn start(&self, notice: &HookNotice) -> Result<Vec<Box<dyn Process>>> {
        let mut command = ProgramCommand::new(self.argv.iter().cloned())
            .env("RESTORE_HOOK", &self.name)
            .env("RESTORE_WHEN", notice.when.to_string())
            .env("RESTORE_SUBJECT", notice.subject.to_string())
            .env("RESTORE_SITE", &notice.site);
        if let Some(report) = &notice.report {
            command = command
                .env("RESTORE_RUN", report.run.as_str())
                .env("RESTORE_BACKUP", report.backup.as_str());
        }
        if let Some(backup) = &notice.backup {
            command = command.env("RESTORE_BACKUP", backup.id.as_str());
        }
        let Some(service) = &self.service else {
            return Ok(vec![bound_process(&command)?]);
        };
        // Else it would run aside, in the service's image, and reach nothing of the service.
        if self.platform.service(service).await?.running == 0 {
            return Err(Error::new(
                ErrorKind::Failed,
                "hook.service_down",
                format!("{service} does not run"),
            )
            .hint(format!(
                "call it at a moment at which {service} runs, or run the command on this host: without `service`"
            )));
        }
        self.platform.exec_each(service, command).await
    }
}

#[async_trait]
impl Hook for Command {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_called(&self, when: HookMoment, subject: HookSubject) -> bool {
        self.calls.has(when, subject)
    }

    fn timeout(&self) -> Duration {
        self.calls.timeout
    }

    async fn call(&self, notice: &HookNotice) -> Result<()> {
        let document = document(notice)?;
        for process in self.start(notice).await? {
            finish(process, &document, &self.argv).await?;
        }
        Ok(())
    }

    fn programs(&self) -> Vec<Program> {
        let named_by = format!("command of [hooks.{}]", self.name);
        Vec::from_iter(Program::of(named_by, self.service.as_deref(), &self.argv))
    }
}

/// Hands the notice to a program and waits for its end.
async fn finish(mut process: Box<dyn Process>, document: &[u8], argv: &[String]) -> Result<()> {
    let (stdin, stdout) = (process.stdin(), process.stdout());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that reads nothing of it has closed it.
            let _ = stdin.write_all(document).await;
            let _ = stdin.shutdown().await;
        }
    };
    let read = async {
        let mut said = Vec::new();
        if let Some(mut stdout) = stdout {
            // Reading on past what is kept: a full pipe would stop the program.
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut chunk).await {
                said.extend_from_slice(chunk.get(..length).unwrap_or_default());
                said.drain(..said.len().saturating_sub(OUTPUT));
            }
        }
        said
    };
    // What it leaves in the background may hold its output open: its end is what counts.
    let exit = process.wait();
    tokio::pin!(exit, read);
    let both = async {
        let mut said = None;
        let exit = loop {
            tokio::select! {
                text = &mut read, if said.is_none() => said = Some(text),
                exit = &mut exit => break exit,
            }
        };
        let rest = async {
            match said {
                Some(said) => said,
                None => read.await,
            }
        };
        let said = tokio::time::timeout(Duration::from_secs(1), rest).await;
        (exit, said.unwrap_or_default())
    };
    tokio::pin!(both, write);
    let mut written = false;
    let (exit, said) = loop {
        tokio::select! {
            ended = &mut both => break ended,
            () = &mut write, if !written => written = true,
        }
    };
    let exit = exit?;
    if exit.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let words = match exit.stderr.trim() {
        "" => said.trim(),
        words => words,
    };
    let words = match words {
        "" => "nothing was said".to_owned(),
        words => words.chars().take(WORDS).collect(),
    };
    let program = argv.first().map_or("", String::as_str);
    Err(Error::new(
        ErrorKind::Failed,
        "hook.command",
        format!("{program} ended with exit code {}: {words}", exit.code),
    )
    .hint("correct the program, or what it needs"))
}
