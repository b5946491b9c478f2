//! Making one backup of a site's components.

use crate::archive::Compression;
use crate::backup::unlock::{Unlock, sign};
use crate::contract::backup::{CONFIGURATION, DESCRIPTION, NewBackup};
use crate::contract::{BackupStore, Manifest, Platform, ServiceState, SharedComponent};
use crate::model::{
    BackedUpComponent, BackupFile, BackupId, BackupReport, Error, ErrorKind, Event, EventSink,
    Finding, MissingComponent, NeverBackedUp, Result, RunId, Timestamp,
};
use std::path::Path;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// How long a store may take to clear away what was not finished.
const ABANDON: Duration = Duration::from_secs(30);

/// What findings call the backup before a run.
pub(crate) const SAFETY_BACKUP: &str = "the safety backup";

/// One backup to be made.
pub(crate) struct BackupJob<'a> {
    pub(crate) site: &'a str,
    /// The file that describes the site, where there is one; it holds no secret.
    pub(crate) file: Option<&'a Path>,
    pub(crate) platform: &'a dyn Platform,
    pub(crate) components: Vec<SharedComponent>,
    /// Whether these are all that the site has.
    pub(crate) whole: bool,
    pub(crate) store_name: String,
    pub(crate) store: Arc<dyn BackupStore>,
    /// Whose signature the manifest gets.
    pub(crate) unlock: Unlock,
    /// The run that it is made for: a safety backup, which does without what it cannot have.
    pub(crate) run: Option<RunId>,
    /// Components that are known not to be readable now.
    pub(crate) without: Vec<String>,
    pub(crate) compression: Compression,
    /// How many components at the same time.
    pub(crate) jobs: usize,
    pub(crate) events: Arc<dyn EventSink>,
    pub(crate) cancel: CancellationToken,
}

/// Why a backup would have nothing in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NothingBackedUp {
    /// What is missing was known to be: of kinds that are never backed up, or not readable.
    Expected,
    Unexpected,
}

/// How one component's part ended.
struct Part {
    component: BackedUpComponent,
    findings: Vec<Finding>,
}

impl BackupJob<'_> {
    /// Makes the backup `id`. `Err`: it is not there, or unfinished, and seen to be.
    pub(crate) async fn make(&self, id: BackupId) -> Result<BackupReport> {
        // The first failure stops the others, and only them.
        let cancel = self.cancel.child_token();
        let _stop = cancel.clone().drop_guard();
        let started = Timestamp::now();
        let new = NewBackup::begin(
            self.store.as_ref(),
            id,
            self.compression,
            self.events.clone(),
            cancel.clone(),
        )
        .await?;
        self.events.emit(&Event::BackupStarted {
            backup: new.id().to_string(),
            place: new.place(),
            at: started,
        });
        let made = self.write(&new, &cancel, started).await;
        if made.is_err() {
            cancel.cancel();
            // A connection that does nothing any more must not hold whoever gave up.
            let _ = tokio::time::timeout(ABANDON, new.abandon()).await;
        }
        let outcome = match &made {
            Ok(_) => "finished",
            Err(_) => "unfinished",
        };
        self.events.emit(&Event::BackupFinished {
            backup: new.id().to_string(),
            outcome: outcome.to_owned(),
            at: Timestamp::now(),
        });
        made.map_err(|error| {
            // A run deletes what is left of its own.
            if self.run.is_some() {
                return error;
            }
            let message = format!("backup {} stays unfinished in {}", new.id(), new.place());
            let hint = match error.hint_text() {
                Some(hint) => format!("{hint}; {message}, and is never restored"),
                None => format!("{message}, and is never restored"),
            };
            error.hint(hint)
        })
    }

    async fn write(
        &self,
        new: &NewBackup,
        cancel: &CancellationToken,
        started: Timestamp,
    ) -> Result<BackupReport> {
        let mut parts: Vec<Option<Part>> = Vec::new();
        parts.resize_with(self.components.len(), || None);
        let (mut missing, mut first) = (Vec::new(), None);
        let mut waiting = self.components.iter().cloned().enumerate();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < self.jobs.max(1)
                && let Some((at, component)) = waiting.next()
            {
                running.push(self.numbered(new, at, component));
            }
            let Some((at, component, part)) = running.next().await else {
                break;
            };
            match part {
                Ok(part) => {
                    if let Some(place) = parts.get_mut(at) {
                        *place = Some(part);
                    }
                }
                Err(error) if self.does_without(new, &error) => {
                    missing.push(MissingComponent::of(component.name(), &error));
                }
                Err(error) => {
                    cancel.cancel();
                    // Those that stop because another failed are not the cause.
                    first.get_or_insert(error);
                }
            }
        }
        drop(running);
        if let Some(error) = first {
            return Err(error);
        }
        if self.cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        let (components, findings): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .flatten()
            .map(|part| (part.component, part.findings))
            .unzip();
        let mut findings: Vec<Finding> = findings.into_iter().flatten().collect();
        let what = match self.run {
            Some(_) => SAFETY_BACKUP,
            None => "the backup",
        };
        findings.extend(missing.iter().map(|missing| not_taken(missing, what)));
        if components.is_empty() {
            return Err(self.nothing(&missing));
        }
        let whole = self.whole && missing.is_empty();
        let kind = match (&self.run, whole) {
            (Some(_), _) => "safety",
            (None, true) => "full",
            (None, false) => "partial",
        };
        let mut report = BackupReport {
            id: new.id().clone(),
            store: self.store_name.clone(),
            place: new.place(),
            kind: kind.to_owned(),
            started,
            ended: started,
            files: 0,
            bytes: 0,
            components,
            missing,
            findings,
        };
        self.describe(new, &report).await?;
        (report.files, report.bytes) = new.written();
        let mut header = vec![
            ("Created".to_owned(), started.to_string()),
            ("Created By".to_owned(), created_by()),
            ("Backup Type".to_owned(), kind.to_owned()),
        ];
        let folder = self.file.and_then(Path::parent).and_then(Path::to_str);
        if let Some(folder) = folder.filter(|it| !it.contains(char::is_control)) {
            header.push((Manifest::CONFIGURED_IN.to_owned(), folder.to_owned()));
        }
        let nothing: Vec<&str> = report
            .components
            .iter()
            .filter(|component| component.artifacts.is_empty())
            .map(|component| component.name.as_str())
            .collect();
        if !nothing.is_empty() {
            header.push((Manifest::NOTHING_LIVE.to_owned(), nothing.join(", ")));
        }
        let manifest = new.manifest(header)?;
        if let Some(signature) = sign(&self.unlock, manifest.as_bytes()).await? {
            new.put_signature(signature).await?;
        }
        new.publish(&manifest).await?;
        report.ended = Timestamp::now();
        Ok(report)
    }

    fn nothing(&self, missing: &[MissingComponent]) -> Error {
        let known = |missing: &MissingComponent| {
            missing.is_of_a_kind() || self.without.contains(&missing.name)
        };
        let why = missing.iter().find(|it| !known(it)).or(missing.first());
        let reason = match missing.iter().all(known) {
            true => NothingBackedUp::Expected,
            false => NothingBackedUp::Unexpected,
        };
        Error::new(
            ErrorKind::Preflight,
            match reason {
                NothingBackedUp::Expected => "backup.nothing",
                NothingBackedUp::Unexpected => "backup.nothing_read",
            },
            format!(
                "nothing could be backed up{}",
                why.map(|why| format!(": {}: {}", why.name, why.reason))
                    .unwrap_or_default()
            ),
        )
        .because(reason)
        .hint("`restore check` shows what works; --only backs up the parts that do")
    }

    /// A restore must be possible when what is to be replaced is broken: a safety backup does
    /// without it, unless it is the store or the caller that stops it. Any backup does without
    /// what nobody has ever written down how to back up.
    fn does_without(&self, new: &NewBackup, error: &Error) -> bool {
        if error.is(&NeverBackedUp) {
            return true;
        }
        self.run.is_some() && !new.store_failed() && error.kind() != ErrorKind::Interrupted
    }

    async fn numbered(
        &self,
        new: &NewBackup,
        at: usize,
        component: SharedComponent,
    ) -> (usize, SharedComponent, Result<Part>) {
        let part = self.part(new, &component).await;
        (at, component, part)
    }

    async fn part(&self, new: &NewBackup, component: &SharedComponent) -> Result<Part> {
        let name = component.name().to_owned();
        let step = format!("back-up:{name}");
        self.events.emit(&Event::StepStarted {
            step: step.clone(),
            what: format!("back up {name}"),
        });
        let began = Timestamp::now();
        let writer = new.writer(&name);
        let done = match writer.check_cancelled() {
            Ok(()) => component.back_up(&writer).await,
            Err(error) => Err(error),
        };
        let seconds = Timestamp::now().since(began).as_secs_f64();
        match done {
            Ok(done) => {
                self.events.emit(&Event::StepFinished { step, seconds });
                for finding in &done.findings {
                    let finding = finding.clone();
                    self.events.emit(&Event::Finding { finding });
                }
                let artifacts = new
                    .artifacts(&name)
                    .into_iter()
                    .map(|(path, size)| BackupFile { path, size })
                    .collect();
                Ok(Part {
                    component: BackedUpComponent {
                        kind: component.kind().to_owned(),
                        name,
                        artifacts,
                        seconds,
                        facts: done.facts,
                    },
                    findings: done.findings,
                })
            }
            Err(error) => {
                let error = error.in_component(name);
                // Nobody has interrupted it where it stops for the sake of another.
                let stopped = error.kind() == ErrorKind::Interrupted && !self.cancel.is_cancelled();
                self.events.emit(&Event::StepFailed {
                    step,
                    error: match stopped {
                        true => "not finished, because another component failed".to_owned(),
                        false => error.to_string(),
                    },
                });
                Err(error)
            }
        }
    }

    /// Writes what a later restore can be compared with.
    async fn describe(&self, new: &NewBackup, report: &BackupReport) -> Result<()> {
        if let Some(file) = self.file
            // One that has just been moved away is missed by the next command, and not by this backup.
            && let Ok(text) = tokio::fs::read(file).await
        {
            new.writer("").text(CONFIGURATION, text).await?;
        }
        let mut services: Vec<ServiceState> = Vec::new();
        for name in self.platform.services() {
            // One that cannot be looked at is just not described.
            services.extend(self.platform.service(&name).await.ok());
        }
        let components: Vec<Value> = report
            .components
            .iter()
            .map(|component| {
                let paths: Vec<&str> = component
                    .artifacts
                    .iter()
                    .map(|artifact| artifact.path.as_str())
                    .collect();
                json!({
                    "name": component.name, "kind": component.kind,
                    "artifacts": paths, "facts": component.facts,
                })
            })
            .collect();
        let description = json!({
            "format": 1,
            "backup": report.id,
            "kind": report.kind,
            "created": report.started,
            "tool": { "name": "restore", "version": env!("CARGO_PKG_VERSION") },
            "site": self.site,
            "platform": self.platform.describe(),
            "run": self.run,
            "components": components,
            "missing": report.missing,
            "services": services,
            "findings": report.findings,
        });
        new.writer("")
            .text(DESCRIPTION, format!("{description:#}\n"))
            .await
    }
}

/// What is said of a component that is not in a backup, `what` being which.
pub(crate) fn not_taken(missing: &MissingComponent, what: &str) -> Finding {
    Finding::warning(
        "backup.not_taken",
        &missing.name,
        format!("not in {what}: {}", missing.reason),
    )
    .hint(match what {
        SAFETY_BACKUP => {
            "what the run replaces of it is kept all the same, until the run is confirmed"
        }
        _ => "back it up by its own means",
    })
}

/// The user that we run as, for people.
fn created_by() -> String {
    let uid = nix::unistd::geteuid();
    let name = nix::unistd::User::from_uid(uid)
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name);
    format!("{name} (restore {})", env!("CARGO_PKG_VERSION"))
}
