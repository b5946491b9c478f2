//! Making a plan: everything that can be known before anything is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::background;
use super::safety::SAFETY;
use super::{Plan, PlanRequest, PlannedComponent, PlannedService, Step};
use crate::backup::{Backup, Generation};
use crate::component::{SharedComponent, SpaceNeed};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, Severity};
use crate::platform::Space;
use crate::run::{MemoryFacts, RunContext, RunId, RunOptions};
use crate::site::Site;
use crate::time::Timestamp;

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
        let selected = self.at_one_moment(self.select()?)?;
        self.look_at_backup();
        let mut components = Vec::new();
        for (component, paths) in selected {
            if let Some(planned) = self.inspect(&component, paths).await? {
                components.push(planned);
            }
        }
        self.look_at_moments(&components).await?;
        if components.is_empty() && self.findings.is_empty() {
            self.findings.push(Finding::error(
                "plan.empty",
                self.backup.id().as_str(),
                "the backup has nothing for any component of this site",
            )
            .hint("`restore show ID` lists its files; `artifact` of a component names those that it takes"));
        }
        self.look_at_artifacts(&components);
        // A drill replaces nothing, so that there is nothing to keep and nothing to stop.
        let drill = self.request.drill;
        let (safety, safety_need) = match drill {
            true => (None, None),
            false => self.look_at_safety(&components).await,
        };
        self.look_at_space(&components, safety_need.as_ref());
        if !drill {
            background::mark(&mut components, self.site.background(), self.site.stop());
        }
        let services = match drill {
            true => Vec::new(),
            false => self.look_at_services(&components).await?,
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
        let maintenance = !drill && users_notice && self.site.maintenance().is_some();
        if let Some(page) = self.site.maintenance().filter(|_| maintenance) {
            let found = page
                .inspect()
                .await
                .unwrap_or_else(|error| vec![Finding::from_error("maintenance", &error)]);
            self.findings.extend(found);
        }
        let earlier = self.look_at_earlier_runs(&components).await?;
        // That they keep data is said of the runs themselves, once.
        self.findings.retain(|finding| {
            finding.code != "volume.other_run"
                || !earlier
                    .iter()
                    .any(|earlier| finding.message.contains(earlier.run.as_str()))
        });
        Ok(Plan {
            site: self.site.name().to_owned(),
            backup: self.backup.id().clone(),
            store: self.backup.store().describe(),
            generation: self.backup.generation(),
            steps: match drill {
                true => stages(&components).collect(),
                false => steps(safety.is_some(), &components, &services, maintenance),
            },
            safety,
            request: self.request,
            made: Timestamp::now(),
            components,
            services,
            maintenance,
            earlier,
            findings: self.findings,
        })
    }

    /// The components asked for, in the site's order, each with its paths.
    fn select(&self) -> Result<Vec<(SharedComponent, Vec<String>)>> {
        let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for path in &self.request.paths {
            let owner = self.owner_of(path)?;
            paths
                .entry(owner.name().to_owned())
                .or_default()
                .push(path.clone());
        }
        for name in &self.request.only {
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

    /// The component whose tree a path lies in: the one with the longest prefix.
    fn owner_of(&self, path: &str) -> Result<&SharedComponent> {
        let below = |prefix: &str| {
            path == prefix
                || path
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        let owners = self.site.components().iter();
        owners
            .filter_map(|component| Some((component.path_prefix()?, component)))
            .filter(|(prefix, _)| below(prefix))
            .max_by_key(|(prefix, _)| prefix.len())
            .map(|(_, component)| component)
            .ok_or_else(|| {
                let known: Vec<String> = self
                    .site
                    .components()
                    .iter()
                    .filter_map(|component| component.path_prefix())
                    .collect();
                Error::new(
                    ErrorKind::Config,
                    "plan.unknown_path",
                    format!("no component of this site restores the path {path:?}"),
                )
                .hint(format!(
                    "paths are named as in the archives, below {}",
                    known.join(", ")
                ))
            })
    }

    /// Whether the folder is whole as far as a listing tells: hashes are compared while staging,
    /// in the one pass that reads the data.
    fn look_at_backup(&mut self) {
        let id = self.backup.id().to_string();
        if self.backup.generation() == Generation::Unfinished {
            self.findings.push(
                Finding::error("verify.unfinished", id, "the backup has no MANIFEST.txt: it was never finished, or is being written or copied right now")
                    .hint("choose another backup: `restore list`"),
            );
            return;
        }
        let Some(manifest) = self.backup.manifest() else {
            return;
        };
        if manifest.truncated {
            let message = "its MANIFEST.txt has no end: files that it should list may be missing";
            self.findings.push(if self.request.allow_unverified {
                Finding::warning("verify.manifest_cut", id, message)
            } else {
                Finding::error("verify.manifest_cut", id, message).hint(
                    "fetch the backup again or choose another; --allow-unverified restores what there is",
                )
            });
        }
        let partial = !self.request.only.is_empty() || !self.request.paths.is_empty();
        for entry in &manifest.entries {
            if self.backup.file(&entry.path).is_none() {
                let message = "the manifest lists it, and it is not there";
                let hint =
                    "fetch the backup again, choose another, or name what you need with --only";
                self.findings.push(if partial {
                    Finding::warning("verify.missing", entry.path.clone(), message)
                } else {
                    Finding::error("verify.missing", entry.path.clone(), message).hint(hint)
                });
            }
        }
    }

    async fn inspect(
        &mut self,
        component: &SharedComponent,
        paths: Vec<String>,
    ) -> Result<Option<PlannedComponent>> {
        let name = component.name().to_owned();
        let named = self.request.only.contains(&name) || !paths.is_empty();
        if component.artifacts(self.backup).is_empty() && !named {
            self.findings.push(Finding::warning(
                "plan.nothing_to_restore",
                name,
                "the backup has nothing for it; it stays as it is",
            ));
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
        .with_target(self.request.target.clone());
        context.check_cancelled()?;
        let mut inspection = match component.inspect(&context).await {
            Ok(inspection) => inspection,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.findings
                    .push(Finding::from_error(name.clone(), &error));
                crate::component::Inspection {
                    artifacts: component.artifacts(self.backup),
                    ..Default::default()
                }
            }
        };
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

    /// Whether what will be used can be verified.
    fn look_at_artifacts(&mut self, components: &[PlannedComponent]) {
        if components.is_empty() {
            let id = self.backup.id().to_string();
            let message = "the backup has nothing for any component: there is nothing to restore";
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

    /// Needs on the same file system are added up.
    fn look_at_space(&mut self, components: &[PlannedComponent], safety: Option<&SpaceNeed>) {
        let mut needs: BTreeMap<String, (Space, u64, u64, Vec<&str>)> = BTreeMap::new();
        let of_components = components.iter().flat_map(|component| {
            let needs = component.inspection.needs.iter();
            needs.map(|need| (component.name.as_str(), need))
        });
        let of_safety = safety.map(|need| (SAFETY, need));
        for (name, need) in of_components.chain(of_safety) {
            let sum = needs
                .entry(need.space.file_system.clone())
                .or_insert_with(|| (need.space.clone(), 0, 0, Vec::new()));
            sum.1 = sum.1.saturating_add(need.bytes);
            sum.2 = sum.2.saturating_add(need.inodes);
            sum.3.push(name);
        }
        for (file_system, (space, bytes, inodes, names)) in needs {
            let what = names.join(", ");
            let without = match names.contains(&SAFETY) {
                true => ", or do without the safety backup (--no-safety-backup)",
                false => "",
            };
            if bytes > space.free_bytes {
                self.findings.push(
                    Finding::error(
                        "space.short",
                        file_system.clone(),
                        format!(
                            "{what} need about {bytes} bytes, {} are free",
                            space.free_bytes
                        ),
                    )
                    .hint(format!("free room there, confirm earlier runs, or restore fewer components at a time with --only{without}")),
                );
            }
            if inodes > space.free_inodes {
                self.findings.push(Finding::error(
                    "space.inodes",
                    file_system,
                    format!(
                        "{what} need about {inodes} more files, {} are free",
                        space.free_inodes
                    ),
                )
                .hint("delete files there, confirm earlier runs, or restore fewer components at a time with --only"));
            }
        }
    }
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
