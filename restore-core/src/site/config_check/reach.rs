//! What a configuration names on this host and elsewhere: files, programs, stores, services, room.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Checker, ConfigFinding};
use crate::contract::{Maintenance, Program, Readiness, SecretSource, SiteConfig, Table};
use crate::engine::operations::Site;
use crate::engine::plan::{inside_any, replaces, unanswered};
use crate::model::text::needed_and_had;
use crate::model::{Error, ErrorKind, Finding, Severity};
use crate::sys::space::Space;
use crate::sys::trust::Trust;
use crate::sys::{child, trust};

/// How long a store or a service may take to answer.
const ANSWER: Duration = Duration::from_secs(15);

/// What a journal and reports need.
const STATE_BYTES: u64 = 64 << 20;

impl Checker {
    /// Secrets and other files that sections name: whether they are there, and who can read and write them.
    pub(super) fn look_at_files(&mut self, config: &SiteConfig) {
        let mut sections: Vec<(Vec<String>, Table)> = Vec::new();
        for (kind, all) in [
            ("stores", &config.stores),
            ("nodes", &config.nodes),
            ("components", &config.components),
            ("checks", &config.checks),
            ("hooks", &config.hooks),
        ] {
            for (name, value) in all {
                if let Value::Object(table) = value {
                    sections.push((vec![kind.to_owned(), name.clone()], table.clone()));
                }
            }
        }
        sections.push((vec!["platform".to_owned()], config.platform.clone()));
        sections.extend(
            config
                .maintenance
                .clone()
                .map(|it| (vec!["maintenance".to_owned()], it)),
        );
        for (place, table) in sections {
            for (key, value) in &table {
                let Some(text) = value.as_str() else {
                    continue;
                };
                let mut at: Vec<&str> = place.iter().map(String::as_str).collect();
                at.push(key);
                let subject = format!("[{}]", place.join("."));
                let secret = [
                    "password",
                    "url",
                    "passphrase",
                    "secret",
                    "token",
                    "access_key",
                    "account_key",
                ]
                .iter()
                .any(|word| key.contains(word));
                let found = if key.ends_with("_env") {
                    let secret = SecretSource::new("", None, Some(text.to_owned()));
                    let error = secret.and_then(|it| it.read()).err();
                    error.map(|error| {
                        let mut finding = Finding::from_error(subject.as_str(), &error);
                        // Whoever runs a restore may have what this shell has not.
                        finding.severity = Severity::Warning;
                        finding
                    })
                } else if key.ends_with("_file") && key != "pid_file" {
                    let path = self.base.join(text);
                    match secret {
                        true => SecretSource::new("", Some(path), None)
                            .and_then(|it| it.read())
                            .err()
                            .map(|error| Finding::from_error(subject.as_str(), &error)),
                        false => readable(&subject, key, &path),
                    }
                } else {
                    None
                };
                if let Some(finding) = found {
                    self.add(&at, finding);
                }
            }
        }
    }

    /// Programs of this host that services, components, checks and the page need.
    pub(super) async fn look_at_programs(&mut self, site: &Site) {
        let mut needed: Vec<(Program, Severity)> = Vec::new();
        let mut add = |programs: Vec<Program>, severity: Severity| {
            needed.extend(programs.into_iter().map(|program| (program, severity)));
        };
        for service in site.platform.services() {
            add(site.platform.programs(&service), Severity::Error);
        }
        for component in &site.components {
            add(component.programs(), Severity::Error);
        }
        if let Some(page) = &site.maintenance {
            add(page.programs(), Severity::Error);
        }
        for check in &site.checks {
            add(check.programs(), Severity::Warning);
        }
        for hook in &site.hooks {
            add(hook.programs(), Severity::Error);
        }
        for (program, severity) in needed {
            let here = program.service.as_ref();
            let untrusted = program.untrusted(site.platform.as_ref()).await;
            let missing = here.is_none_or(|service| site.platform.runs_here(service))
                && !can_run(&program.program);
            if !missing && untrusted.is_none() {
                continue;
            }
            // `start of [services.app]`
            let (key, rest) = program.named_by.split_once(" of [").unwrap_or_default();
            let section = rest.trim_end_matches(']');
            let (kind, name) = section.split_once('.').unwrap_or((section, ""));
            let place: Vec<&str> = [kind, name, key]
                .into_iter()
                .filter(|word| !word.is_empty())
                .collect();
            if let Some(mut untrusted) = untrusted {
                untrusted.subject = format!("[{section}]");
                untrusted.message = format!("`{key}` {}", untrusted.message);
                self.add(&place, untrusted);
            }
            if !missing {
                continue;
            }
            let mut finding = Finding::error(
                "program.missing",
                format!("[{section}]"),
                format!(
                    "`{key}` names {}: there is no such program, or it cannot be run",
                    program.program
                ),
            )
            .hint("install it, or correct its name");
            finding.severity = severity;
            self.add(&place, finding);
        }
    }

    /// The state directory: who can write it, and room.
    pub(super) fn look_at_state(&mut self, site: &Site) {
        let place = ["site", "state"];
        if let Err(error) = trust::check(&site.state, "the state directory", Trust::Obeyed) {
            self.add(&place, Finding::from_error("[site]", &error));
        }
        let there = site.state.ancestors().find(|path| path.is_dir());
        match Space::of(there.unwrap_or(Path::new("/"))) {
            Ok(space) if space.read_only => self.add(
                &place,
                Finding::error(
                    "state.no_room",
                    "[site]",
                    "`state` lies on a file system that is read-only",
                ),
            ),
            Ok(space) if space.free_bytes < STATE_BYTES => {
                let (needed, had) = needed_and_had(STATE_BYTES, space.free_bytes);
                let message = format!("`state`: {} should have {needed}, has {had}", space.shown());
                self.add(&place, Finding::warning("state.no_room", "[site]", message));
            }
            Ok(_) => {}
            Err(error) => self.add(&place, Finding::from_error("[site]", &error)),
        }
    }

    /// Whether the places that components restore to are there, and nothing lies in them that no restore may move.
    pub(super) async fn look_at_places(&mut self, site: &Site) {
        // What cannot be told is for the plan to say.
        for mut finding in inside_any(site).await.unwrap_or_default() {
            let name = finding.subject.clone();
            finding.subject = format!("[components.{name}]");
            self.add(&["components", name.as_str()], finding);
        }
        for component in &site.components {
            let name = component.name();
            let subject = format!("[components.{name}]");
            let told = |it: &ConfigFinding| it.finding.subject == subject;
            if self.findings.iter().any(told) {
                continue;
            }
            if let Ok(Some(path)) = component.absent().await {
                let finding = Finding::warning(
                    "component.absent",
                    subject,
                    format!("{} is not there", path.display()),
                )
                .hint(
                    "is its disk mounted, and is its path right? where it is to be made anew, `restore run ID --create` makes it",
                );
                self.add(&["components", name], finding);
            }
        }
    }

    /// Whether each store answers, and has room for a backup of so many bytes.
    pub(super) async fn look_at_stores(&mut self, site: &Site, live: u64) {
        for (name, store) in &site.stores {
            let place = ["stores", name.as_str()];
            let subject = format!("[stores.{name}]");
            let listed = tokio::time::timeout(ANSWER, store.list()).await;
            match listed {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    self.add_error(
                        &place,
                        site.config.stores.get(name).and_then(Value::as_object),
                        &error,
                    );
                    continue;
                }
                Err(_) => {
                    let message = format!(
                        "{} does not answer within {} s",
                        store.describe(),
                        ANSWER.as_secs()
                    );
                    self.add(&place, Finding::error("store.no_answer", subject, message));
                    continue;
                }
            }
            if let Err(error) = store.check_way() {
                let mut finding = Finding::from_error(subject.as_str(), &error);
                let mut stores = site.stores.iter().zip(&site.keys);
                if stores.any(|((it, _), keys)| it == name && !keys.unlock.signed_by.is_empty()) {
                    finding.severity = Severity::Warning;
                }
                self.add(&["stores", name.as_str(), "path"], finding);
                continue;
            }
            let room = tokio::time::timeout(ANSWER, store.room()).await;
            // Dumps, logs and metrics shrink to a third or less; to a tenth hardly anything does.
            if let Ok(Ok(Some(space))) = room
                && live / 10 > space.free_bytes
            {
                let (needed, had) = needed_and_had(live, space.free_bytes);
                let message = format!(
                    "a backup needs up to {needed} before it is compressed; {} has {had}",
                    space.shown()
                );
                self.add(&place, Finding::warning("space.short", subject, message));
            }
        }
    }

    /// Whether services are known to the platform and run, whether what runs lets components in, and whether the page can be
    /// shown. Returns about how many bytes of live data there are.
    pub(super) async fn look_at_services(&mut self, site: &Site) -> u64 {
        let mut live = 0_u64;
        let mut running = BTreeSet::new();
        let absent = not_deployed(site).await;
        let mut missing = Vec::new();
        for name in site.platform.services() {
            let place = ["services", name.as_str()];
            let subject = format!("[services.{name}]");
            match tokio::time::timeout(ANSWER, site.platform.service(&name)).await {
                // What has done its work is not down.
                Ok(Ok(state)) if state.running == 0 && state.done > 0 => {}
                Ok(Ok(state)) if state.running == 0 => {
                    self.add(
                        &place,
                        Finding::warning("service.down", subject, "does not run now"),
                    );
                }
                Ok(Ok(_)) => {
                    let tried = site.platform.unanswered(&name);
                    if let Ok(Ok(Some(why))) = tokio::time::timeout(ANSWER, tried).await {
                        let mut finding = unanswered(&name, &why);
                        finding.subject = subject;
                        self.add(&["services", name.as_str(), "endpoint"], finding);
                    }
                    running.insert(name);
                }
                Ok(Err(error)) if !absent.is_empty() && error.kind() == ErrorKind::NotFound => {
                    missing.push(name);
                }
                Ok(Err(error)) => self.add(&place, Finding::from_error(subject, &error)),
                Err(_) => {
                    let message = format!(
                        "the platform does not tell its state within {} s",
                        ANSWER.as_secs()
                    );
                    self.add(
                        &place,
                        Finding::error("service.no_answer", subject, message),
                    );
                }
            }
        }
        if !absent.is_empty() {
            self.add(&["platform"], not_there_yet(&absent, &missing));
        }
        for component in &site.components {
            let name = component.name();
            let place = ["components", name];
            let subject = format!("[components.{name}]");
            let error = match tokio::time::timeout(ANSWER, component.live_bytes()).await {
                Ok(Ok(bytes)) => {
                    live = live.saturating_add(bytes);
                    continue;
                }
                Ok(Err(error)) => error,
                Err(_) => Error::new(
                    ErrorKind::Failed,
                    "component.no_answer",
                    format!(
                        "its live data cannot be looked at within {} s",
                        ANSWER.as_secs()
                    ),
                ),
            };
            if error.kind() == ErrorKind::NotFound {
                // What lies in services is gone with them, which is told; a place that is not there is told
                // with all places.
                let gone = !absent.is_empty() && !component.comes_before_services();
                if gone || matches!(component.absent().await, Ok(Some(_))) {
                    continue;
                }
            }
            let mut finding = Finding::from_error(subject, &error);
            // What is down or gone is no mistake of the file.
            let gone = !absent.is_empty() && error.kind() != ErrorKind::Config;
            let all_run = |services: Vec<String>| services.iter().all(|it| running.contains(it));
            // What does not answer may be one of those that a restore stops, and so need not run.
            let stopped = error.is_retryable() && !all_run(component.stops());
            if gone || stopped || !all_run(component.needs()) {
                finding.severity = Severity::Warning;
            }
            self.add(&place, finding);
        }
        if let Some(page) = &site.maintenance {
            self.look_at_page(site, page.as_ref(), !absent.is_empty())
                .await;
        }
        live
    }

    /// Whether the page can be shown. `absent`: the services of the site are not there yet.
    async fn look_at_page(&mut self, site: &Site, page: &dyn Maintenance, absent: bool) {
        if absent {
            let readiness = tokio::time::timeout(ANSWER, page.readiness()).await;
            if matches!(readiness, Ok(Readiness::Absent { .. })) {
                return;
            }
        }
        let found = tokio::time::timeout(ANSWER, page.inspect()).await;
        let found = found.ok().and_then(Result::ok).unwrap_or_default();
        let awaited = !found.is_empty() && awaits_restore(site, page).await;
        for mut finding in found {
            if awaited {
                finding.severity = finding.severity.min(Severity::Warning);
            }
            self.add(&["maintenance"], finding);
        }
    }
}

/// What components of the site deploy and is not there at all, each once.
async fn not_deployed(site: &Site) -> Vec<String> {
    let mut absent = Vec::new();
    for component in &site.components {
        let asked = tokio::time::timeout(ANSWER, component.makes_services()).await;
        // Why that cannot be told, the services say.
        let words = asked.ok().and_then(Result::ok).flatten();
        if let Some(words) = words
            && !absent.contains(&words)
        {
            absent.push(words);
        }
    }
    absent
}

/// That services are to be made yet: on a new engine that is no mistake of the file.
fn not_there_yet(absent: &[String], missing: &[String]) -> Finding {
    let without = match missing {
        [] => String::new(),
        names => format!(", and so no service {}", names.join(", ")),
    };
    Finding::warning(
        "service.absent",
        "[platform]",
        format!("there is no {} yet{without}", absent.join(" and ")),
    )
    .hint("`restore plan ID --create` names the runs that make it and restore its data")
}

/// Whether a tree with what the page's web server reads is not there yet, and is restored by a component.
async fn awaits_restore(site: &Site, page: &dyn Maintenance) -> bool {
    let read = page.reads();
    for component in &site.components {
        let gone = matches!(component.absent().await, Ok(Some(_)));
        let targets = match gone {
            true => component.targets(&[]).await.unwrap_or_default(),
            false => Vec::new(),
        };
        let mut read = read.iter();
        if read.any(|path| targets.iter().any(|it| replaces(it, path))) {
            return true;
        }
    }
    false
}

/// What speaks against a file that is no secret and that a section names.
fn readable(subject: &str, key: &str, path: &Path) -> Option<Finding> {
    if let Err(error) = trust::check(path, "the file", Trust::Obeyed) {
        return Some(Finding::from_error(subject, &error));
    }
    let error = std::fs::File::open(path).err()?;
    let message = format!(
        "`{key}` names {}, which cannot be read: {error}",
        path.display()
    );
    Some(Finding::error("config.unreadable", subject, message))
}

/// Whether a program of this host can be run.
fn can_run(name: &str) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    child::find(name)
        .and_then(|path| path.metadata().ok())
        .is_some_and(|meta| meta.permissions().mode() & 0o111 != 0)
}
