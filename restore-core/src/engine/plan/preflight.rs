//! Making a plan: everything that can be known before anything is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::expected::expected;
use super::provenance::provenance;
use super::safety::SAFETY;
use super::{Plan, PlanRequest, PlannedComponent, PlannedService, Step, background};
use crate::backup::verification::{FileStatus, Verification};
use crate::contract::backup::DESCRIPTION;
use crate::contract::{
    Backup, Generation, MemoryFacts, Readiness, Recovery, RunContext, SharedComponent, SpaceNeed,
};
use crate::engine::operations::Site;
use crate::engine::run::{Journal, RunOptions};
use crate::model::text::{needed_and_had, shown};
use crate::model::{Error, ErrorKind, Finding, Result, RunId, Severity, Timestamp};
use crate::sys::space::Space;

/// Room that a run's journal, its reserve and its reports need.
const STATE_BYTES: u64 = 1024 * 1024;
const STATE_INODES: u64 = 16;

/// Makes one plan; changes nothing.
pub(crate) struct Preflight<'a> {
    pub(super) site: &'a Site,
    pub(super) backup: &'a Backup,
    pub(super) request: PlanRequest,
    options: &'a RunOptions,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Preflight<'a> {
    pub(crate) fn new(
        site: &'a Site,
        backup: &'a Backup,
        request: PlanRequest,
        options: &'a RunOptions,
    ) -> Self {
        Self {
            site,
            backup,
            request,
            options,
            findings: Vec::new(),
        }
    }

    /// Looks at everything; whatever speaks against the run becomes a finding of the plan.
    pub(crate) async fn plan(mut self) -> Result<Plan> {
        let selected = self.at_one_moment(self.select().await?)?;
        self.look_at_backup(&selected).await;
        self.look_at_newer().await;
        let mut components = Vec::new();
        let in_scope: Vec<(String, Vec<String>)> = selected
            .iter()
            .map(|(component, paths)| (component.name().to_owned(), paths.clone()))
            .collect();
        for (component, paths) in selected {
            if let Some(mut planned) = self.inspect(&component, paths).await? {
                // Two may lie below the same absent directory, which one of them makes.
                let known = |what: &String| {
                    let mut others = components.iter();
                    others.any(|it: &PlannedComponent| it.inspection.creates.contains(what))
                };
                planned.inspection.creates.retain(|what| !known(what));
                components.push(planned);
            }
        }
        self.look_at_moments(&components).await?;
        let planned: Vec<(String, Vec<String>)> = in_scope
            .into_iter()
            .filter(|(name, _)| components.iter().any(|it| it.name == *name))
            .collect();
        self.look_inside(&planned).await?;
        self.look_at_artifacts(&components);
        // A drill replaces nothing, so that there is nothing to keep and nothing to stop.
        let drill = self.request.drill;
        let (safety, safety_need) = match drill {
            true => (None, None),
            false => self.look_at_safety(&components).await,
        };
        self.look_at_space(&components, safety_need.as_ref());
        self.look_at_state();
        if !drill {
            background::mark(&mut components, self.site.background(), self.site.stop());
        }
        let readiness = match self.site.maintenance() {
            Some(page) if !drill => page.readiness().await,
            _ => Readiness::Ready,
        };
        let down = match &readiness {
            Readiness::Down { service } => Some(service.as_str()),
            _ => None,
        };
        let services = match drill {
            true => Vec::new(),
            false => self.look_at_services(&components, down).await?,
        };
        if components.iter().any(|it| it.deploys.is_some()) {
            // The way back from a deployment starts services while names of images still mean the
            // restored ones.
            for finding in &mut self.findings {
                if finding.code == "image.not_restarted" {
                    finding.severity = Severity::Error;
                }
            }
        }
        let users_notice = services.iter().any(|service| !service.background)
            || components
                .iter()
                .any(|component| component.deploys.is_some());
        let maintenance = !drill
            && users_notice
            && self.site.maintenance().is_some()
            && self.shows_page(&readiness);
        if let Some(page) = self.site.maintenance().filter(|_| maintenance) {
            let found = page
                .inspect()
                .await
                .unwrap_or_else(|error| vec![Finding::from_error("maintenance", &error)]);
            self.findings.extend(found);
        }
        if !drill {
            self.look_at_programs(&components, &services, maintenance)
                .await;
            self.look_at_stops(&components, &services).await;
        }
        let earlier = self.look_at_earlier_runs(&components).await?;
        // That they keep data is said of the runs themselves, once; of a run that is lost as well.
        let lost: Vec<String> = self
            .findings
            .iter()
            .filter(|finding| finding.code == "run.lost")
            .map(|finding| finding.message.clone())
            .collect();
        self.findings.retain(|finding| {
            finding.code != "volume.other_run"
                || !(earlier
                    .iter()
                    .any(|earlier| finding.message.contains(earlier.run.as_str()))
                    || lost.iter().any(|lost| lost.starts_with(&finding.subject)))
        });
        let mut plan = Plan {
            site: self.site.name().to_owned(),
            backup: self.backup.id().clone(),
            store: self.backup.store().describe(),
            generation: self.backup.generation(),
            provenance: provenance(self.backup, &components),
            steps: match drill {
                true => creations(&components).chain(stages(&components)).collect(),
                false => steps(safety.is_some(), &components, &services, maintenance),
            },
            safety,
            request: self.request,
            made: Timestamp::now(),
            components,
            services,
            maintenance,
            earlier,
            expected: None,
            findings: self.findings,
        };
        let known = Journal::all(&self.site.runs()).await?;
        plan.expected = expected(&plan, &known, self.site.jobs());
        Ok(plan)
    }

    /// Whether the page is shown; says so where it is not, and what can be done where it cannot be.
    fn shows_page(&mut self, readiness: &Readiness) -> bool {
        let none = |message: String| Finding::warning("maintenance.none", "maintenance", message);
        match readiness {
            _ if self.request.no_maintenance => {
                let finding = none(
                    "no page is shown: users meet whatever the services answer meanwhile"
                        .to_owned(),
                );
                self.findings.push(finding);
                false
            }
            Readiness::Down { service } => {
                let finding = none(format!(
                    "{service} does not run, so that nobody is served whom a page could turn away; \
                     it is started after the restore"
                ));
                self.findings.push(finding);
                false
            }
            Readiness::Broken { why } => {
                let finding = Finding::error(
                    "maintenance.broken",
                    "maintenance",
                    format!("users may be served, and the page cannot be shown: {why}"),
                );
                self.findings.push(finding.hint(
                    "put that right, or first restore the component that has the web server's \
                     configuration (--only COMPONENT); --no-maintenance restores without a page",
                ));
                false
            }
            _ => true,
        }
    }

    /// The components asked for, in the site's order, each with its paths.
    pub(crate) async fn select(&self) -> Result<Vec<(SharedComponent, Vec<String>)>> {
        self.request.ensure_something()?;
        let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for path in &self.request.paths {
            let owner = self.owner_of(path).await?;
            paths
                .entry(owner.name().to_owned())
                .or_default()
                .push(path.clone());
        }
        let request = &self.request;
        let words = request.allow_missing.iter().chain(&request.allow_empty);
        for name in request.only.iter().chain(words) {
            if self.site.component(name).is_none() {
                let known: Vec<&str> = self
                    .site
                    .components()
                    .iter()
                    .map(|component| component.name())
                    .collect();
                return Err(Error::new(
                    ErrorKind::Config,
                    "plan.unknown_component",
                    format!("this site has no component {name:?}"),
                )
                .hint(format!("it has {}", known.join(", "))));
            }
        }
        let all = self.request.only.is_empty() && paths.is_empty();
        Ok(self
            .site
            .components()
            .iter()
            .filter(|component| {
                all || paths.contains_key(component.name())
                    || self
                        .request
                        .only
                        .iter()
                        .any(|name| name == component.name())
            })
            .map(|component| {
                let paths = paths.get(component.name()).cloned().unwrap_or_default();
                (component.clone(), paths)
            })
            .collect())
    }

    /// The component whose tree a path lies in: the one with the longest prefix, the one whose name the
    /// path begins with, or the one that has it on the machine.
    async fn owner_of(&self, path: &str) -> Result<&SharedComponent> {
        let below = |prefix: &str| {
            path == prefix
                || path
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        let owners = || {
            let components = self.site.components().iter();
            components.filter_map(|component| Some((component.path_prefix()?, component)))
        };
        let longest = owners()
            .filter(|(prefix, _)| below(prefix))
            .max_by_key(|(prefix, _)| prefix.len());
        let named = || owners().find(|(_, component)| below(component.name()));
        if let Some((_, component)) = longest.or_else(named) {
            return Ok(component);
        }
        for (_, component) in owners() {
            if let Some(contents) = component.contents()
                && contents.inside(path).await.is_some()
            {
                return Ok(component);
            }
        }
        let known: Vec<String> = owners().map(|(prefix, _)| prefix).collect();
        Err(Error::new(
            ErrorKind::Config,
            "plan.unknown_path",
            format!("no component of this site restores the path {path:?}"),
        )
        .hint(format!(
            "paths are named as `restore show ID --files` lists them, or below {}",
            known.join(", ")
        )))
    }

    /// Whether the folder is whole as far as a listing tells: hashes are compared while staging,
    /// in the one pass that reads the data.
    async fn look_at_backup(&mut self, selected: &[(SharedComponent, Vec<String>)]) {
        let id = self.backup.id().to_string();
        if self.backup.generation() == Generation::Unfinished {
            self.findings.push(
                Finding::error("verify.unfinished", id, "the backup has no MANIFEST.txt: it was never finished, or is being written or copied right now")
                    .hint("choose another backup: `restore list`")
                    .of_kind(ErrorKind::Verification),
            );
            return;
        }
        let listing = match self.backup.verify_listing().await {
            Ok(listing) => listing,
            Err(error) => {
                self.findings.push(Finding::from_error(id, &error));
                return;
            }
        };
        // What is not asked for may be missing, or damaged.
        let partial = !self.request.only.is_empty() || !self.request.paths.is_empty();
        let asked = self.asked_for(selected, &listing);
        for mut finding in listing.findings() {
            if finding.severity != Severity::Error {
                continue;
            }
            let mut files = listing.files.iter();
            match files.find(|(path, _)| shown(path) == finding.subject) {
                Some((path, _)) if partial && !asked.contains(path) => {
                    finding.severity = Severity::Warning;
                }
                // What to do with it is said.
                Some((_, FileStatus::Unlisted)) => {}
                Some(_) if partial => {
                    finding.hint = Some("fetch the backup again, or choose another".to_owned());
                }
                Some(_) => {
                    finding.hint = Some(
                        "fetch the backup again, choose another, or name what you need with --only"
                            .to_owned(),
                    );
                }
                None if self.request.allow_unverified => {
                    finding.severity = Severity::Warning;
                    finding.hint = None;
                }
                None => {
                    finding.hint = Some("fetch the backup again or choose another; --allow-unverified restores what there is".to_owned());
                }
            }
            self.findings.push(finding);
        }
    }

    /// The files that the components which are asked for would be restored from: those that are there, and those
    /// that the manifest lists or that lie there as something else than a file.
    fn asked_for(
        &self,
        selected: &[(SharedComponent, Vec<String>)],
        listing: &Verification,
    ) -> BTreeSet<String> {
        let named = self
            .backup
            .with_names(listing.files.iter().map(|(path, _)| path));
        let mut asked = BTreeSet::new();
        for (component, _) in selected {
            let mut source = Some(component);
            match component.recovery() {
                Recovery::Cluster => {
                    asked.insert(DESCRIPTION.to_owned());
                }
                Recovery::PartOf(cluster) if self.request.target.is_some() => {
                    asked.insert(DESCRIPTION.to_owned());
                    source = self.site.component(&cluster);
                }
                _ => {}
            }
            for backup in [self.backup, &named] {
                asked.extend(source.iter().flat_map(|it| it.artifacts(backup)));
            }
        }
        asked
    }

    /// Backups that `latest` passes over because they are damaged: that what is restored is older is for a
    /// person to decide.
    async fn look_at_newer(&mut self) {
        if self.backup.id().is_safety() {
            return;
        }
        for (id, wrong) in self.site.newer_damaged(self.backup.id()).await {
            let message =
                format!("a newer backup is damaged, so that `latest` does not mean it: {wrong}");
            self.findings.push(
                Finding::warning("plan.newer_damaged", id.as_str(), message).hint(format!(
                    "`restore verify {id}` says all that is wrong with it"
                )),
            );
        }
    }

    async fn inspect(
        &mut self,
        component: &SharedComponent,
        paths: Vec<String>,
    ) -> Result<Option<PlannedComponent>> {
        let name = component.name().to_owned();
        // A database that is recovered to a moment comes from the base backup of its cluster.
        let from_cluster =
            self.request.target.is_some() && matches!(component.recovery(), Recovery::PartOf(_));
        if component.artifacts(self.backup).is_empty() && !from_cluster {
            // That it has something which is gone is among the findings already.
            if component.artifacts(&self.backup.as_listed()).is_empty() {
                let finding = self.nothing_for(component).await;
                self.findings.push(finding);
            }
            return Ok(None);
        }
        // Only a run has an id: what is named after it here is named `RUN` in the plan.
        let run = RunId::generate();
        let context = RunContext::new(
            run.clone(),
            name.clone(),
            Arc::new(self.backup.clone()),
            Arc::new(MemoryFacts::default()),
            self.options.events.clone(),
            self.options.cancel.clone(),
        )
        .with_paths(paths.clone())
        .with_target(self.request.target.clone())
        .with_empty(self.request.allow_empty.contains(&name))
        .with_create(self.request.create);
        context.check_cancelled()?;
        let mut inspection = match component.inspect(&context).await {
            Ok(inspection) => inspection,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.findings
                    .push(Finding::from_error(name.clone(), &error));
                crate::contract::Inspection {
                    artifacts: component.artifacts(self.backup),
                    ..Default::default()
                }
            }
        };
        let fails = |finding: &Finding| finding.severity == Severity::Error;
        if self.findings.iter().chain(&inspection.findings).any(fails) {
            self.look_at_needs(component.as_ref()).await;
        }
        inspection.staged_at = inspection
            .staged_at
            .replace(run.as_str(), "RUN")
            .replace(&run.sql(), "RUN");
        self.findings.extend(inspection.findings.iter().cloned());
        Ok(Some(PlannedComponent {
            kind: component.kind().to_owned(),
            stops: component.stops(),
            background: false,
            deploys: component.deploys(),
            name,
            paths,
            inspection,
        }))
    }

    /// A server that is only stopped is no mystery.
    async fn look_at_needs(&mut self, component: &dyn crate::contract::Component) {
        for service in component.needs() {
            let state = self.site.platform().service(&service).await;
            let known =
                |finding: &Finding| finding.code == "service.needed" && finding.subject == service;
            if state.is_ok_and(|state| state.running == 0) && !self.findings.iter().any(known) {
                let name = component.name();
                let finding = match self.site.why_not_started(&service) {
                    None => Finding::error(
                        "service.needed",
                        service,
                        format!("does not run, and {name} cannot be looked at without it"),
                    )
                    .hint("start it, or let `restore run` start it"),
                    Some(why) => {
                        let hint = why.hint.unwrap_or_else(|| "its log says why".to_owned());
                        let others = self.restorable_without(&service);
                        Finding::error(
                            "service.needed",
                            service,
                            format!(
                                "does not start, and {name} cannot be restored without it: {}",
                                why.message
                            ),
                        )
                        .hint(format!(
                            "{hint}; once that is put right run this again{others}"
                        ))
                    }
                };
                self.findings.push(finding);
            }
        }
    }

    /// How to restore the components meanwhile that do without a service.
    fn restorable_without(&self, service: &str) -> String {
        let only = &self.request.only;
        let asked = self.site.components().iter();
        let asked = asked.filter(|it| only.is_empty() || only.iter().any(|name| name == it.name()));
        let names: Vec<&str> = asked
            .filter(|it| !it.needs().iter().any(|needed| needed == service))
            .map(|it| it.name())
            .collect();
        match names.is_empty() || !self.request.paths.is_empty() {
            true => String::new(),
            false => format!("; --only {} restores the others", names.join(",")),
        }
    }

    /// The backup has nothing for a component that is to be restored. Left out without a word, it would
    /// pass for restored.
    async fn nothing_for(&self, component: &SharedComponent) -> Finding {
        let name = component.name();
        let code = "plan.nothing_to_restore";
        if let (Some(target), Recovery::Cluster) = (&self.request.target, component.recovery()) {
            let newest = self.site.backup_for("latest", &self.request).await;
            return Finding::error(
                code,
                name,
                format!("the backup has no base backup of it: nothing of it can be recovered to {target}"),
            )
            .hint(match newest {
                Ok(newest) => format!("the newest backup that leads there is {}", newest.id()),
                Err(error) => error.hint_text().unwrap_or("`restore backup --base` makes one").to_owned(),
            });
        }
        if self.backup.nothing_live().contains(&name) {
            let message = "there was none when the backup was made; it stays as it is";
            return Finding::warning(code, name, message);
        }
        let message = "the backup has nothing for it; it stays as it is";
        // Who names it wants it.
        let optional =
            self.site.is_optional(name) && !self.request.only.iter().any(|it| it == name);
        if optional || self.request.allow_missing.iter().any(|it| it == name) {
            return Finding::warning(code, name, message);
        }
        if component.recovery() == Recovery::Cluster {
            return Finding::error(code, name, "the backup has no base backup of it")
                .hint("`restore run latest --to …` chooses the newest backup that has one; `restore backup --base` makes one");
        }
        Finding::error(code, name, "the backup has nothing for it").hint(format!(
            "choose a full backup (`restore list`), or leave it as it is with --allow-missing {name}; where backups never have it, write optional = true in [components.{name}]"
        ))
    }

    /// Whether what will be used can be verified.
    fn look_at_artifacts(&mut self, components: &[PlannedComponent]) {
        if components.is_empty() {
            let id = self.backup.id().to_string();
            let message = "there is nothing to restore: it has nothing for what was asked for";
            self.findings
                .push(Finding::error("plan.empty", id, message).hint(
                "compare its files (`restore show ID`) with the names that the components look for",
            ));
            return;
        }
        let unverifiable: Vec<&str> = components
            .iter()
            .flat_map(|component| &component.inspection.artifacts)
            .filter(|path| self.backup.expected_digest(path).is_none())
            .map(String::as_str)
            .collect();
        if unverifiable.is_empty() || self.backup.generation() == Generation::Unfinished {
            return;
        }
        let message = match self.backup.generation() {
            Generation::B => {
                "the backup has no checksums: nothing of it can be verified".to_owned()
            }
            _ => format!(
                "the manifest has no checksum for {}",
                unverifiable.join(", ")
            ),
        };
        let id = self.backup.id().to_string();
        self.findings.push(if self.request.allow_unverified {
            Finding::warning("backup.unverifiable", id, message)
        } else {
            Finding::error("backup.unverifiable", id, message).hint(
                "`restore verify ID --deep` reads it to its end; --allow-unverified restores it all the same",
            )
        });
    }

    /// A journal that cannot be written would be found out once a copy of everything is made, and an
    /// undo needs it most.
    fn look_at_state(&mut self) {
        let state = self.site.state();
        let there = state.ancestors().find(|path| path.is_dir());
        let there = there.unwrap_or(std::path::Path::new("/"));
        let place = state.display().to_string();
        let space = match Space::of(there) {
            Ok(space) => space,
            Err(error) => {
                self.findings.push(Finding::from_error(place, &error));
                return;
            }
        };
        let hint = "the state directory holds the journal, without which no run is begun: make room \
                    there, or name another as `state` in [site]";
        let short = if space.read_only {
            Some("cannot be written: its file system is read-only".to_owned())
        } else if space.free_bytes < STATE_BYTES {
            let (needed, had) = needed_and_had(STATE_BYTES, space.free_bytes);
            Some(format!(
                "{} needs {needed} for a journal, has {had}",
                space.shown()
            ))
        } else if space.free_inodes < STATE_INODES {
            Some(format!(
                "{} needs room for {STATE_INODES} more files, has it for {}",
                space.shown(),
                space.free_inodes
            ))
        } else {
            None
        };
        if let Some(message) = short {
            self.findings
                .push(Finding::error("state.no_room", place, message).hint(hint));
        }
    }

    /// Needs on the same file system are added up.
    fn look_at_space(&mut self, components: &[PlannedComponent], safety: Option<&SpaceNeed>) {
        let mut needs: BTreeMap<String, (Space, u64, u64, Vec<&str>)> = BTreeMap::new();
        let of_components = components.iter().flat_map(|component| {
            let needs = component.inspection.needs.iter();
            needs.map(|need| (component.name.as_str(), need))
        });
        let of_safety = safety.map(|need| (SAFETY, need));
        let mut read_only = Vec::new();
        for (name, need) in of_components.chain(of_safety) {
            if need.space.read_only {
                read_only.push(
                    Finding::error(
                        "space.read_only",
                        name,
                        "its file system is read-only here, so that nothing can be staged beside the live data",
                    )
                    .hint("mount it for writing, or leave the component out with --only"),
                );
            }
            let sum = needs
                .entry(need.space.file_system.clone())
                .or_insert_with(|| (need.space.clone(), 0, 0, Vec::new()));
            sum.1 = sum.1.saturating_add(need.bytes);
            sum.2 = sum.2.saturating_add(need.inodes);
            sum.3.push(name);
        }
        self.findings.extend(read_only);
        for (space, bytes, inodes, names) in needs.into_values() {
            let what = names.join(", ");
            let place = space.shown();
            let without = match names.contains(&SAFETY) {
                true => ", or do without the safety backup (--no-safety-backup)",
                false => "",
            };
            if bytes > space.free_bytes {
                let (needed, had) = needed_and_had(bytes, space.free_bytes);
                self.findings.push(
                    Finding::error(
                        "space.short",
                        what.as_str(),
                        format!("{place} needs {needed}, has {had}"),
                    )
                    .hint(format!("free room there, confirm earlier runs, or restore fewer components at a time with --only{without}")),
                );
            }
            if inodes > space.free_inodes {
                self.findings.push(Finding::error(
                    "space.inodes",
                    what,
                    format!(
                        "{place} needs room for {inodes} more files, has it for {}",
                        space.free_inodes
                    ),
                )
                .hint("delete files there, confirm earlier runs, or restore fewer components at a time with --only"));
            }
        }
    }
}

fn creations(components: &[PlannedComponent]) -> impl Iterator<Item = Step> {
    let creating = components.iter().filter(|it| it.inspection.create_first);
    creating.map(|component| Step::Create(component.name.clone()))
}

fn stages(components: &[PlannedComponent]) -> impl Iterator<Item = Step> {
    components
        .iter()
        .map(|component| Step::Stage(component.name.clone()))
}

fn steps(
    safety: bool,
    components: &[PlannedComponent],
    services: &[PlannedService],
    maintenance: bool,
) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    if safety {
        steps.push(Step::SafetyBackup);
    }
    steps.extend(creations(components));
    steps.extend(stages(components));
    swap(&mut steps, true, components, services);
    if maintenance {
        steps.push(Step::MaintenanceOn);
    }
    swap(&mut steps, false, components, services);
    steps.push(Step::CheckInside);
    if maintenance {
        steps.push(Step::MaintenanceOff);
    }
    steps.push(Step::CheckOutside);
    steps
}

/// Stop, swap, deploy, start: of what users see, or of what they do not.
fn swap(
    steps: &mut Vec<Step>,
    background: bool,
    components: &[PlannedComponent],
    services: &[PlannedService],
) {
    let services = services.iter().filter(|it| it.background == background);
    let components = components.iter().filter(|it| it.background == background);
    steps.extend(services.clone().map(|it| Step::Stop(it.name.clone())));
    steps.extend(components.clone().map(|it| Step::CutOver(it.name.clone())));
    let deploying = components.filter(|it| it.deploys.is_some());
    steps.extend(deploying.map(|it| Step::Deploy(it.name.clone())));
    steps.extend(services.rev().map(|it| Step::Start(it.name.clone())));
}
