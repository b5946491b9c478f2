//! Making a plan: everything that can be known before anything is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::expected::expected;
use super::inside::replaces;
use super::provenance::provenance;
use super::steps::{creations, stages, steps, steps_beside};
use super::{Plan, PlanRequest, PlannedComponent, PlannedService, background, deployment};
use crate::contract::{Backup, MemoryFacts, Readiness, Recovery, RunContext, SharedComponent};
use crate::engine::operations::Site;
use crate::engine::run::{Journal, RunOptions};
use crate::model::{ErrorKind, Finding, Result, RunId, Severity, Timestamp};

/// Makes one plan; changes nothing.
pub(crate) struct Preflight<'a> {
    pub(super) site: &'a Site,
    pub(super) backup: &'a Backup,
    pub(super) request: PlanRequest,
    pub(super) options: &'a RunOptions,
    pub(super) findings: Vec<Finding>,
    /// The services of which is told that they do not run and are needed.
    needed: BTreeSet<String>,
    /// Those that were to be started for this plan and did not start, and why.
    not_started: BTreeMap<String, Finding>,
    /// Whether artifacts may be read to look into them: that takes as long as they are large.
    pub(super) reads: bool,
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
            needed: BTreeSet::new(),
            not_started: BTreeMap::new(),
            reads: true,
        }
    }

    /// Without reading artifacts.
    pub(crate) fn quick(mut self) -> Self {
        self.reads = false;
        self
    }

    pub(super) fn cancel(&self) -> &tokio_util::sync::CancellationToken {
        &self.options.cancel
    }

    /// Looks at everything; whatever speaks against the run becomes a finding of the plan.
    pub(crate) async fn plan(mut self) -> Result<Plan> {
        self.not_started = self.site.take_not_started();
        let selected = self.at_one_moment(self.select().await?)?;
        self.look_at_way();
        self.look_at_backup(&selected).await;
        self.look_at_newer().await;
        let mut components = Vec::new();
        let in_scope: Vec<(String, Vec<String>)> = selected
            .iter()
            .map(|(component, paths)| (component.name().to_owned(), paths.clone()))
            .collect();
        for (component, paths) in selected {
            if let Some(mut planned) = self.inspect(&component, paths).await? {
                let asked = planned.paths.clone();
                self.look_for_paths(&component, &asked).await?;
                // Two may lie below the same absent directory, which one of them makes.
                let known = |what: &String| {
                    let mut others = components.iter();
                    others.any(|it: &PlannedComponent| it.inspection.creates.contains(what))
                };
                planned.inspection.creates.retain(|what| !known(what));
                components.push(planned);
            }
        }
        self.look_at_nodes(&components).await;
        self.look_at_prerequisites(&mut components).await;
        self.look_at_deployments(&mut components);
        self.look_at_moments(&components).await?;
        let planned: Vec<(String, Vec<String>)> = in_scope
            .into_iter()
            .filter(|(name, _)| components.iter().any(|it| it.name == *name))
            .collect();
        self.look_inside(&planned).await?;
        self.look_at_artifacts(&components);
        // A drill replaces nothing, so that there is nothing to keep and nothing to stop; neither does
        // what is left beside the live data.
        let drill = self.request.drill;
        let aside = drill || self.request.is_beside();
        let (safety, safety_need) = match aside {
            true => (None, None),
            false => self.look_at_safety(&components).await,
        };
        self.look_at_space(&components, safety_need.as_ref());
        self.look_at_state();
        if !aside {
            background::mark(&mut components, self.site.background(), self.site.stop());
        }
        let readiness = match self.site.maintenance() {
            Some(page) if !aside => page.readiness().await,
            _ => Readiness::Ready,
        };
        let down = match &readiness {
            Readiness::Down { service } => Some(service.as_str()),
            _ => None,
        };
        let services = match aside {
            true => Vec::new(),
            false => self.look_at_services(&components, down).await?,
        };
        if components.iter().any(|it| it.deploys.is_some()) {
            let found = std::mem::take(&mut self.findings).into_iter();
            self.findings = found.map(Finding::with_deployment).collect();
        }
        let users_notice = services.iter().any(|service| !service.background)
            || components
                .iter()
                .any(|component| component.deploys.is_some());
        let makes_services = !deployment::absent(&components).is_empty();
        let has_page = self.site.maintenance().is_some();
        let maintenance = !aside
            && users_notice
            && has_page
            && self
                .shows_page(&readiness, makes_services, &components)
                .await;
        // Where nothing is there yet nobody is served.
        if !aside && !has_page && !makes_services {
            self.tell_of_no_page(&components, &services);
        }
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
        let (earlier, lost) = self.look_at_earlier_runs(&components).await?;
        // That they keep data is said of the runs themselves, once; of a run that is lost as well.
        let named: Vec<String> = self
            .findings
            .iter()
            .filter(|finding| finding.keeper().is_none())
            .map(|finding| finding.subject.clone())
            .collect();
        let told = |run: &RunId| {
            lost.contains(run)
                || earlier.iter().any(|it| it.run == *run)
                || named.iter().any(|it| it == run.as_str())
        };
        self.findings
            .retain(|finding| !finding.keeper().is_some_and(told));
        for finding in &mut self.findings {
            finding.hint = finding.hint.take().map(|hint| naming(self.backup, &hint));
        }
        let mut plan = Plan {
            site: self.site.name().to_owned(),
            backup: self.backup.id().clone(),
            store: self.backup.store().describe(),
            generation: self.backup.generation(),
            provenance: provenance(self.backup, &components),
            steps: match drill {
                true => creations(&components).chain(stages(&components)).collect(),
                false if self.request.is_beside() => steps_beside(&components),
                false => steps(
                    safety.is_some(),
                    &components,
                    &services,
                    maintenance,
                    self.site.hooks(),
                ),
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

    /// Says of a site that has no page what its users meet instead.
    fn tell_of_no_page(&mut self, components: &[PlannedComponent], services: &[PlannedService]) {
        // What is down already turns them away as it is.
        let served = services.iter().any(|it| !it.background && it.replicas > 0)
            || components.iter().any(|it| it.deploys.is_some());
        if !served {
            return;
        }
        let finding = Finding::info(
            "maintenance.none",
            "maintenance",
            "the site has no page: users meet stopped services for as long as the downtime lasts",
        );
        self.findings
            .push(finding.hint("[maintenance] shows them one where nginx is in front"));
    }

    /// Whether the page is shown; says so where it is not, and what can be done where it cannot be.
    /// `deploys`: the run makes services that are not there.
    async fn shows_page(
        &mut self,
        readiness: &Readiness,
        deploys: bool,
        components: &[PlannedComponent],
    ) -> bool {
        let none = |message: String| Finding::warning("maintenance.none", "maintenance", message);
        let mended_by = match readiness {
            Readiness::Broken { .. } if !self.request.no_maintenance => {
                self.mends_page(components).await
            }
            _ => None,
        };
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
            Readiness::Absent { service, .. } if deploys && self.request.create => {
                let finding = none(format!(
                    "{service} is not there, so that nobody is served whom a page could turn away"
                ));
                self.findings.push(finding);
                false
            }
            Readiness::Broken { why } if mended_by.is_some() => {
                let finding = none(format!(
                    "no page can be shown, and users meet whatever the services answer meanwhile: \
                     what the web server reads is broken, and restored with {}: {why}",
                    mended_by.unwrap_or_default()
                ));
                self.findings.push(finding);
                false
            }
            Readiness::Broken { why } | Readiness::Absent { why, .. } => {
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

    /// The component of the plan that restores something of what the page's web server reads.
    async fn mends_page(&self, components: &[PlannedComponent]) -> Option<String> {
        let read = self.site.maintenance()?.reads();
        for planned in components {
            let Some(component) = self.site.component(&planned.name) else {
                continue;
            };
            // Whatever keeps it from being told, its inspection says.
            let targets = component.targets(&planned.paths).await.unwrap_or_default();
            let mut read = read.iter();
            if read.any(|path| targets.iter().any(|it| replaces(it, path))) {
                return Some(planned.name.clone());
            }
        }
        None
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
        // What is beside what is live takes nothing's place.
        .with_empty(self.request.is_beside() || self.request.allow_empty.contains(&name))
        .with_restore_as(self.request.restore_as.clone())
        .with_tables(self.request.tables.clone())
        .with_create(self.request.create)
        .with_secrets(self.request.secrets.clone())
        .with_nodes(self.request.nodes.clone());
        context.check_cancelled()?;
        let mut inspection = match component.inspect(&context).await {
            Ok(inspection) => inspection,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => crate::contract::Inspection {
                artifacts: component.artifacts(self.backup),
                findings: vec![Finding::from_error(name.clone(), &error)],
                ..Default::default()
            },
        };
        let fails = |finding: &Finding| finding.severity == Severity::Error;
        if self.findings.iter().chain(&inspection.findings).any(fails) {
            let (found, starts) = (&mut inspection.findings, &inspection.starts);
            self.look_at_needs(component.as_ref(), found, starts)
                .await?;
        }
        inspection.staged_at = inspection
            .staged_at
            .replace(run.as_str(), "RUN")
            .replace(&run.sql(), "RUN");
        self.findings.extend(inspection.findings.iter().cloned());
        Ok(Some(PlannedComponent {
            kind: component.kind().to_owned(),
            stops: match self.request.is_beside() {
                true => Vec::new(),
                false => component.stops(),
            },
            background: false,
            deploys: component.deploys().filter(|_| !self.request.is_beside()),
            name,
            paths,
            inspection,
        }))
    }

    /// A server that is only stopped is no mystery: a run starts it first. What could not be `found` out for that is
    /// then no reason to refuse the plan.
    async fn look_at_needs(
        &mut self,
        component: &dyn crate::contract::Component,
        found: &mut Vec<Finding>,
        to_be_made: &[String],
    ) -> Result<()> {
        let needs = component.needs().into_iter();
        for service in needs.filter(|service| !to_be_made.contains(service)) {
            let state = self.site.platform().service(&service).await;
            if !state.is_ok_and(|state| state.running == 0) {
                continue;
            }
            let why = self.not_started.get(&service).cloned();
            let starts = why.is_none() && self.is_started(&service).await?;
            if starts {
                // What failed, and not what was refused.
                found.retain(|finding| {
                    finding.severity != Severity::Error || finding.kind != Some(ErrorKind::Failed)
                });
            }
            if self.needed.insert(service.clone()) {
                let name = component.name();
                let finding = match why {
                    None if starts => Finding::warning(
                        "service.needed",
                        service,
                        format!("does not run, so that {name} could not be looked at: `restore run` starts it before anything else, and looks then"),
                    )
                    .hint("start it and plan again to see all that the run would meet"),
                    None => Finding::error(
                        "service.needed",
                        service,
                        format!("does not run, and {name} cannot be looked at without it"),
                    )
                    .hint("start it, and plan again"),
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
        Ok(())
    }

    /// Whether a run of this request starts a service that its components need and that is down.
    async fn is_started(&self, service: &str) -> Result<bool> {
        if self.request.drill {
            return Ok(false);
        }
        let between = self.site.between_swaps().await?;
        Ok(!between.iter().any(|it| it == service))
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
}

/// A hint whose commands name this backup: whoever looks at it without one writes ID.
fn naming(backup: &Backup, hint: &str) -> String {
    let id = backup.id();
    let verbs = ["run", "show", "verify"].into_iter();
    verbs.fold(hint.to_owned(), |hint, verb| {
        hint.replace(
            &format!("`restore {verb} ID"),
            &format!("`restore {verb} {id}"),
        )
    })
}
