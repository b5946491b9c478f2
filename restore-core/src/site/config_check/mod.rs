//! Everything that can be known of a `restore.toml` without a backup, and not only what is wrong first.

mod reach;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::open::take_optional;
use crate::contract::config::{ConfigFault, Lines, ServiceOrder, suggestion};
use crate::contract::{ComponentDeps, Platform, Registry, SiteConfig, Table};
use crate::engine::operations::Site;
use crate::engine::run::RunOptions;
use crate::model::{Error, ErrorKind, Finding, Result, Severity};
use crate::sys::trust;
use crate::sys::trust::Trust;
use crate::{checks, hooks, maintenance, platforms, stores};

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One thing about a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConfigFinding {
    /// The line of the file that it is about, counted from 1; `None` where it is about all of it.
    pub line: Option<usize>,
    /// What was found. Its subject is the section.
    #[serde(flatten)]
    pub finding: Finding,
}

/// What was found of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "whether the configuration can be used is said by `refusal`"]
#[non_exhaustive]
pub struct ConfigCheck {
    /// The file.
    pub file: PathBuf,
    /// Whether nothing of it is an error.
    pub sound: bool,
    /// Everything that was found, in the order of the lines.
    pub findings: Vec<ConfigFinding>,
}

impl ConfigCheck {
    /// The error of a configuration that cannot be used as it is; `None` where no finding is an error.
    pub fn refusal(&self) -> Option<Error> {
        let errors = self.errors().count();
        let what = match errors {
            0 => return None,
            1 => "one error".to_owned(),
            many => format!("{many} errors"),
        };
        Some(
            Error::new(
                ErrorKind::Config,
                "config.check_failed",
                format!("{} has {what}", self.file.display()),
            )
            .hint("correct each, then `restore config check` again"),
        )
    }

    /// The findings that are errors.
    pub fn errors(&self) -> impl Iterator<Item = &ConfigFinding> {
        let errors = self.findings.iter();
        errors.filter(|it| it.finding.severity == Severity::Error)
    }
}

impl Site {
    /// Looks at everything in the `restore.toml` at `path` that can be known without a backup: keys,
    /// references between sections, programs, rights of files, whether stores and services can be
    /// reached, and room. Changes nothing. `registry` knows the kinds of components.
    ///
    /// # Errors
    ///
    /// None about the file, which are findings. `Interrupted`.
    pub async fn check_config(
        path: &Path,
        registry: &Registry,
        options: &RunOptions,
    ) -> Result<ConfigCheck> {
        let path = std::path::absolute(path)
            .map_err(|e| Error::io(format!("find {}", path.display()), e))?;
        let mut checker = Checker::new(&path);
        tokio::select! {
            () = checker.look(registry) => {}
            () = options.cancel.cancelled() => return Err(Error::interrupted()),
        }
        let mut findings = checker.findings;
        findings.sort_by_key(|it| it.line);
        let mut check = ConfigCheck {
            file: path,
            sound: true,
            findings,
        };
        let sound = check.errors().next().is_none();
        check.sound = sound;
        Ok(check)
    }
}

struct Checker {
    file: PathBuf,
    base: PathBuf,
    lines: Lines,
    findings: Vec<ConfigFinding>,
    /// Sections that could not be read and were left out, so that nobody is told that they are missing.
    left_out: BTreeSet<(String, String)>,
    /// What was tried of sections that have something wrong, by kind and name.
    attempts: BTreeMap<(String, String), Attempt>,
}

/// A section that is read again without what was wrong of it: one mistake is told once, and not what follows from it.
#[derive(Default)]
struct Attempt {
    /// Keys that stand for misspelt ones.
    renamed: Vec<String>,
    /// Something was taken out: what is missing now may be that.
    dropped: bool,
}

impl Attempt {
    /// Mends the section after an error: whether that is to be told, and whether the section can be read again.
    fn mend(&mut self, table: &mut Table, error: &Error) -> (bool, bool) {
        if let Some(key) = unknown_key(error) {
            let Some(value) = table.remove(key) else {
                return (true, false);
            };
            match meant_key(error).filter(|meant| !table.contains_key(*meant)) {
                Some(meant) => {
                    table.insert(meant.to_owned(), value);
                    self.renamed.push(meant.to_owned());
                }
                None => self.dropped = true,
            }
            return (true, true);
        }
        // Nobody has written that key.
        let named = |key: &String| error.message().contains(&format!("`{key}`"));
        if let Some(at) = self.renamed.iter().position(named) {
            let key = self.renamed.swap_remove(at);
            self.dropped = true;
            if table.remove(&key).is_some() {
                return (false, true);
            }
        }
        (!self.dropped, false)
    }
}

impl Checker {
    fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            base: file.parent().unwrap_or(Path::new("/")).to_owned(),
            lines: Lines::default(),
            findings: Vec::new(),
            left_out: BTreeSet::new(),
            attempts: BTreeMap::new(),
        }
    }

    /// What was tried of a section.
    fn attempt(&mut self, kind: &str, name: &str) -> &mut Attempt {
        let key = (kind.to_owned(), name.to_owned());
        self.attempts.entry(key).or_default()
    }

    fn add(&mut self, place: &[&str], finding: Finding) {
        let found = ConfigFinding {
            line: self.lines.line(place),
            finding,
        };
        // What was told of a key is not told of its section as well.
        let known = self.findings.iter().any(|it| {
            let (it, new) = (&it.finding, &found.finding);
            it.code == new.code && it.subject == new.subject && new.message.ends_with(&it.message)
        });
        if !known {
            self.findings.push(found);
        }
    }

    /// An error of a section, at the key that it names where it names one of it.
    fn add_error(&mut self, section: &[&str], table: Option<&Table>, error: &Error) {
        let quoted = |key: &&str| table.is_some_and(|table| table.contains_key(*key));
        let key = error.message().split(['`', '"', ' ']).find(quoted);
        let place: Vec<&str> = section.iter().copied().chain(key).collect();
        let subject = format!("[{}]", section.join("."));
        let mut finding = Finding::from_error(subject.as_str(), error);
        // The section stands in front already.
        let prefix = format!("{subject} ");
        if let Some(rest) = finding.message.strip_prefix(&prefix) {
            finding.message = rest.to_owned();
        }
        self.add(&place, finding);
    }

    async fn look(&mut self, registry: &Registry) {
        let Some(mut table) = self.read() else {
            return;
        };
        let Some(config) = self.shape(&mut table) else {
            return;
        };
        let base = self.base.clone();
        self.look_at_files(&config);
        let Some(site) = self.build(config, &base, registry) else {
            return;
        };
        self.look_at_references(&site);
        self.look_at_programs(&site).await;
        self.look_at_state(&site);
        // Nothing is contacted by the word of a file that others may have written.
        let trusted = !self
            .findings
            .iter()
            .any(|it| it.finding.code == "config.not_trusted");
        if trusted {
            let live = self.look_at_services(&site).await;
            self.look_at_places(&site).await;
            self.look_at_stores(&site, live).await;
        }
    }

    fn read(&mut self) -> Option<Table> {
        let read = trust::read(&self.file, "the configuration", Trust::Obeyed);
        let name = self.file.display().to_string();
        let text = match read {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => {
                let message = format!("cannot be read: {error}");
                self.add(&[], Finding::error("config.unreadable", name, message));
                return None;
            }
            Err(error) => {
                self.add(&[], Finding::from_error(name, &error));
                std::fs::read_to_string(&self.file).ok()?
            }
        };
        self.lines = Lines::of(&text);
        match toml::from_str(&text) {
            Ok(Value::Object(table)) => Some(table),
            Ok(_) => None,
            Err(error) => {
                let before = error.span().and_then(|span| text.get(..span.start));
                self.findings.push(ConfigFinding {
                    line: before.map(|before| before.matches('\n').count() + 1),
                    finding: Finding::error(
                        "config.syntax",
                        "the file",
                        format!("not TOML: {}", error.message()),
                    ),
                });
                None
            }
        }
    }

    /// The file's sections; keys that none knows are told and left out.
    fn shape(&mut self, table: &mut Table) -> Option<SiteConfig> {
        loop {
            let error = match SiteConfig::from_value(Value::Object(table.clone())) {
                Ok(config) => return Some(config),
                Err(error) => error,
            };
            let in_site = error.message().starts_with("[site]");
            let Some(key) = unknown_key(&error).map(str::to_owned) else {
                if in_site && let Some(Value::Object(site)) = table.get_mut("site") {
                    match self.attempt("site", "").mend(site, &error) {
                        (_, true) => continue,
                        (false, false) => return None,
                        (true, false) => {}
                    }
                }
                match in_site {
                    true => self.add_error(
                        &["site"],
                        table.get("site").and_then(Value::as_object),
                        &error,
                    ),
                    false => {
                        let message = error.message().to_owned();
                        let subject = message.split('`').nth(1).unwrap_or_default().to_owned();
                        self.add(&[&subject], Finding::from_error("the file", &error));
                    }
                }
                return None;
            };
            let mended = match in_site {
                true => {
                    let site = table.get_mut("site").and_then(Value::as_object_mut)?;
                    let before = site.clone();
                    let (_, again) = self.attempt("site", "").mend(site, &error);
                    self.add_error(&["site"], Some(&before), &error);
                    again
                }
                false => {
                    self.add(&[&key], Finding::from_error("the file", &error));
                    self.attempt("", "").mend(table, &error).1
                }
            };
            if !mended {
                return None;
            }
        }
    }

    /// The site without what is wrong of it; `None` where too little is left.
    fn build(&mut self, mut config: SiteConfig, base: &Path, registry: &Registry) -> Option<Site> {
        let state = base.join(&config.site.state);
        let platform = self.platform(&mut config, base, registry, &state)?;
        while let Err(error) = ServiceOrder::read(&config) {
            self.drop_culprit(&mut config, &error)?;
        }
        let mut sections = std::collections::BTreeMap::new();
        for (name, value) in &config.components {
            if let Value::Object(table) = value {
                sections.insert(name.clone(), table.clone());
            }
        }
        let parts =
            ComponentDeps::new(platform.clone(), base, state.join("work")).with_sections(sections);
        config.components = self.each("components", &config.components, |name, table| {
            let mut table = table.clone();
            take_optional(&format!("components.{name}"), &mut table)?;
            registry.make(name, table, &parts).map(drop)
        });
        config.stores = self.each("stores", &config.stores, |name, table| {
            stores::config::make(name, &Value::Object(table.clone()), registry, base).map(drop)
        });
        config.checks = self.each("checks", &config.checks, |name, table| {
            let value = Value::Object(table.clone());
            checks::kinds::make_registered(name, &value, registry, &parts).map(drop)
        });
        config.hooks = self.each("hooks", &config.hooks, |name, table| {
            let value = Value::Object(table.clone());
            hooks::kinds::make(name, &value, registry, &parts).map(drop)
        });
        while let Some(table) = config.maintenance.clone() {
            let made = maintenance::kinds::make_registered(table.clone(), registry, &parts);
            let Err(error) = made else {
                break;
            };
            self.add_error(&["maintenance"], Some(&table), &error);
            let known = unknown_key(&error).map(str::to_owned);
            let section = config.maintenance.as_mut();
            let removed = known.and_then(|key| section?.remove(&key));
            if removed.is_none() {
                config.maintenance = None;
            }
        }
        loop {
            match Site::with_platform(config.clone(), base, registry, platform.clone()) {
                Ok(mut site) => {
                    site.file = Some(self.file.clone());
                    return Some(site);
                }
                Err(error) => {
                    let in_site = error.message().starts_with("[site]");
                    if in_site && config.site.safety_store.take().is_some() {
                        let value = serde_json::json!({ "safety_store": "" });
                        self.add_error(&["site"], value.as_object(), &error);
                        continue;
                    }
                    // That none is left of those that are wrong is told already.
                    let told = self.left_out.iter().any(|(kind, _)| kind == "stores");
                    if !error.is(&ConfigFault::NoStore) || !told {
                        self.add(&["stores"], Finding::from_error("the file", &error));
                    }
                    return None;
                }
            }
        }
    }

    /// The platform of the services and volumes that can be read.
    fn platform(
        &mut self,
        config: &mut SiteConfig,
        base: &Path,
        registry: &Registry,
        state: &Path,
    ) -> Option<Arc<dyn Platform>> {
        loop {
            match platforms::kinds::make(config, registry, base, state) {
                Ok(platform) => return Some(platform),
                Err(error) => self.drop_culprit(config, &error)?,
            }
        }
    }

    /// Tells an error that begins with its section, and takes the key out that it names as unknown, or
    /// else the section; `None` where that is not possible.
    fn drop_culprit(&mut self, config: &mut SiteConfig, error: &Error) -> Option<()> {
        let message = error.message().to_owned();
        let place = message
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'));
        let Some((place, _)) = place else {
            self.add(&["platform"], Finding::from_error("[platform]", error));
            return None;
        };
        let (kind, name) = place.split_once('.').unwrap_or((place, ""));
        let sections = match kind {
            "services" => &mut config.services,
            "volumes" => &mut config.volumes,
            "nodes" => &mut config.nodes,
            "platform" => {
                let before = config.platform.clone();
                self.add_error(&["platform"], Some(&before), error);
                let key = unknown_key(error)?;
                return config.platform.remove(key).map(drop);
            }
            _ => {
                self.add(
                    &[kind, name],
                    Finding::from_error(format!("[{place}]"), error),
                );
                return None;
            }
        };
        let before = sections.get(name).and_then(Value::as_object).cloned();
        let table = sections.get_mut(name).and_then(Value::as_object_mut);
        let (tell, again) = match table {
            Some(table) if error.is(&ConfigFault::ServiceOrder) => {
                (true, table.remove("after").is_some())
            }
            Some(table) => self.attempt(kind, name).mend(table, error),
            None => (true, false),
        };
        if tell {
            self.add_error(&[kind, name], before.as_ref(), error);
        }
        if again {
            return Some(());
        }
        self.left_out.insert((kind.to_owned(), name.to_owned()));
        sections.remove(name).map(drop)
    }

    /// The sections of one kind that can be made, without their unknown keys.
    fn each(
        &mut self,
        kind: &str,
        sections: &Table,
        make: impl Fn(&str, &Table) -> Result<()>,
    ) -> Table {
        let mut sound = Table::new();
        for (name, value) in sections {
            let Value::Object(table) = value else {
                let message = "must be a table";
                let subject = format!("[{kind}.{name}]");
                self.add(
                    &[kind, name],
                    Finding::error("config.shape", subject, message),
                );
                continue;
            };
            let mut table = table.clone();
            loop {
                let Err(error) = make(name, &table) else {
                    sound.insert(name.clone(), Value::Object(table));
                    break;
                };
                let before = table.clone();
                let (tell, again) = self.attempt(kind, name).mend(&mut table, &error);
                if tell {
                    self.add_error(&[kind, name], Some(&before), &error);
                }
                if !again {
                    self.left_out.insert((kind.to_owned(), name.clone()));
                    break;
                }
            }
        }
        sound
    }

    /// Services, volumes and nodes that sections name must be there.
    fn look_at_references(&mut self, site: &Site) {
        let services = site.platform.services();
        let left_out = self.left_out.clone();
        let lacks = |kind: &str, name: &str, known: &[String]| {
            !known.iter().any(|it| it == name)
                && !left_out.contains(&(kind.to_owned(), name.to_owned()))
        };
        let missing = |subject: String, what: &str, name: &str, known: &[String]| {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            Finding::error(
                "config.unknown_reference",
                subject,
                format!("names the {what} {name:?}, which there is not"),
            )
            .hint(match known.is_empty() {
                true => format!("describe it as [{what}s.{name}]"),
                false => suggestion(name, &known),
            })
        };
        // One misspelt section may be named in many places: that is told once.
        let mut found: Vec<Missing> = Vec::new();
        for (key, named) in [
            ("stop", &site.config.site.stop),
            ("background", &site.config.site.background),
        ] {
            for name in named
                .iter()
                .filter(|name| lacks("services", name, &services))
            {
                let finding = missing("[site]".to_owned(), "service", name, &services);
                Missing::add(&mut found, ("service", name), &["site", key], finding);
            }
        }
        for component in &site.components {
            let name = component.name();
            let subject = format!("[components.{name}]");
            for (key, named) in [("stops", component.stops()), ("service", component.needs())] {
                for service in named.iter().filter(|it| lacks("services", it, &services)) {
                    let finding = missing(subject.clone(), "service", service, &services);
                    let place = ["components", name, key];
                    Missing::add(&mut found, ("service", service), &place, finding);
                }
            }
        }
        let nodes: Vec<String> = site.config.nodes.keys().cloned().collect();
        let volumes: Vec<String> = site.config.volumes.keys().cloned().collect();
        let local = site
            .platform
            .runs_here(services.first().map_or("", String::as_str))
            || site
                .config
                .platform
                .get("kind")
                .is_none_or(|kind| kind == "local");
        let mut sections: Vec<(Vec<&str>, &Value)> = Vec::new();
        for (kind, all) in [
            ("components", &site.config.components),
            ("checks", &site.config.checks),
            ("hooks", &site.config.hooks),
        ] {
            sections.extend(
                all.iter()
                    .map(|(name, value)| (vec![kind, name.as_str()], value)),
            );
        }
        let maintenance = site.config.maintenance.clone().map(Value::Object);
        sections.extend(maintenance.iter().map(|value| (vec!["maintenance"], value)));
        for (place, section) in sections {
            for (key, kind, known) in [
                ("service", "service", &services),
                ("volume", "volume", &volumes),
                ("node", "node", &nodes),
            ] {
                // A swarm knows volumes and nodes that no section describes.
                if !local && kind != "service" {
                    continue;
                }
                let Some(name) = section.get(key).and_then(Value::as_str) else {
                    continue;
                };
                if lacks(&format!("{kind}s"), name, known) {
                    let mut at = place.clone();
                    at.push(key);
                    let finding = missing(format!("[{}]", place.join(".")), kind, name, known);
                    Missing::add(&mut found, (kind, name), &at, finding);
                }
            }
        }
        for it in found {
            let place: Vec<&str> = it.place.iter().map(String::as_str).collect();
            let mut finding = it.finding;
            if !it.others.is_empty() {
                finding.message += &format!("; so do {}", it.others.join(", "));
            }
            self.add(&place, finding);
        }
    }
}

/// Something that sections name and that there is not.
struct Missing {
    what: (String, String),
    place: Vec<String>,
    finding: Finding,
    /// Other sections that name it.
    others: Vec<String>,
}

impl Missing {
    /// Takes note of it, once for all places.
    fn add(all: &mut Vec<Self>, what: (&str, &str), place: &[&str], finding: Finding) {
        let same = |it: &&mut Self| (it.what.0.as_str(), it.what.1.as_str()) == what;
        match all.iter_mut().find(same) {
            Some(known) if known.finding.subject == finding.subject => {}
            Some(known) if known.others.contains(&finding.subject) => {}
            Some(known) => known.others.push(finding.subject),
            None => all.push(Self {
                what: (what.0.to_owned(), what.1.to_owned()),
                place: place.iter().map(|part| (*part).to_owned()).collect(),
                finding,
                others: Vec::new(),
            }),
        }
    }
}

/// The key that an error takes an unknown one for.
fn meant_key(error: &Error) -> Option<&str> {
    let said = error.hint_text().unwrap_or_default();
    let texts = [said, error.message()];
    let mut meant = texts.iter().filter_map(|text| {
        let (_, rest) = text.split_once("did you mean `")?;
        rest.split('`').next()
    });
    meant.next()
}

/// The key that an error calls unknown.
fn unknown_key(error: &Error) -> Option<&str> {
    // By its code: components in Python have no other value to say it by.
    (error.code() == "config.unknown_key").then(|| error.message().split('`').nth(1))?
}
