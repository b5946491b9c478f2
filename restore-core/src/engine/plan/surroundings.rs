//! What a run would meet besides the backup: services to stop, and earlier runs.

use std::collections::BTreeSet;

use super::preflight::Preflight;
use super::{EarlierRun, PlannedComponent, PlannedService, deployment};
use crate::contract::ServiceState;
use crate::engine::run::{Journal, RunState};
use crate::model::{Error, ErrorKind, Finding, Outcome, Result, RunId};

/// That a service runs and its endpoint takes no connections.
pub(crate) fn unanswered(service: &str, why: &str) -> Finding {
    Finding::warning(
        "service.unanswered",
        service,
        format!(
            "runs, and takes no connections ({why}): its start after a swap waits for that as long as start_timeout, and the run is then undone"
        ),
    )
    .hint(format!(
        "correct `endpoint` of [services.{service}]; nothing is wrong with it where the service answers only once its data is restored"
    ))
}

/// That fewer instances of a service run than are wanted, or none.
fn runs_short(service: &str, state: &ServiceState) -> Option<Finding> {
    let (running, desired) = (state.running, state.desired);
    if running.saturating_add(state.done) >= desired.max(1) {
        return None;
    }
    Some(match (running, desired) {
        (0, 0) => Finding::warning(
            "service.down",
            service,
            "does not run now; it will be started after the restore, and left stopped if the restore is undone",
        ),
        (0, _) => Finding::warning(
            "service.down",
            service,
            format!(
                "does not run now, though {desired} instances are wanted; it will be started after the restore, and be wanted as now if the restore is undone"
            ),
        ),
        _ => Finding::warning(
            "service.short",
            service,
            format!("{running} of {desired} instances run now; all are started after the restore, and if it is undone"),
        )
        .hint("those for which there is no place to run are not waited for; where they fail instead, correct that before: the run is undone if they still do after start_timeout"),
    })
}

/// A service that another run has stopped and will not start again.
struct LeftStopped {
    service: PlannedService,
    /// This run goes over the other, and starts it.
    inherited: bool,
}

impl Preflight<'_> {
    /// The services to stop, last started first: the site names them in the order of starting.
    /// `down`: one that is to be started with them.
    pub(super) async fn look_at_services(
        &mut self,
        components: &[PlannedComponent],
        down: Option<&str>,
    ) -> Result<Vec<PlannedService>> {
        let mut wanted: Vec<&str> = components
            .iter()
            .flat_map(|component| component.stops.iter().map(String::as_str))
            .collect();
        let known = self.site.platform().services();
        let background = self.site.background().iter();
        if let Some(name) = background.clone().find(|name| !known.contains(name)) {
            return Err(Error::new(
                ErrorKind::Config,
                "plan.unknown_service",
                format!(
                    "[site] background names the service {name:?}, but the site has none of that name"
                ),
            )
            .hint(format!("the site has {}", known.join(", "))));
        }
        let left = self.left_stopped().await?;
        // Of the run that this one goes over nobody else would start what it has stopped.
        let inherited: Vec<&str> = left
            .iter()
            .filter(|it| it.inherited && known.contains(&it.service.name))
            .map(|it| it.service.name.as_str())
            .collect();
        if wanted.is_empty() && inherited.is_empty() {
            return Ok(Vec::new());
        }
        let of_background: Vec<&str> = components
            .iter()
            .filter(|component| component.background)
            .flat_map(|component| component.stops.iter().map(String::as_str))
            .collect();
        if wanted.iter().any(|name| !of_background.contains(name)) {
            wanted.extend(self.site.stop().iter().map(String::as_str));
            wanted.extend(down);
        }
        let of_plan = wanted.clone();
        wanted.extend(&inherited);
        for name in &wanted {
            if !known.iter().any(|service| service == name) {
                let asking = components
                    .iter()
                    .find(|component| component.stops.iter().any(|stop| stop == name));
                let place = asking.map_or_else(
                    || "[site] stop".to_owned(),
                    |component| format!("[components.{}]", component.name),
                );
                return Err(Error::new(
                    ErrorKind::Config,
                    "plan.unknown_service",
                    format!(
                        "{place} names the service {name:?}, but the site has none of that name"
                    ),
                )
                .hint(format!("the site has {}", known.join(", "))));
            }
        }
        let mut touched: Vec<String> = components
            .iter()
            .filter_map(|component| self.site.component(&component.name))
            .flat_map(|component| component.needs())
            .chain(wanted.iter().map(|name| (*name).to_owned()))
            .collect();
        touched.sort();
        touched.dedup();
        let gone = self.not_there_yet(components, &touched).await;
        // What a deployment makes anew is told by its own name.
        let comes = |name: &String| {
            let mut components = components.iter();
            components.any(|it| it.inspection.services_made.contains(name))
        };
        touched.retain(|name| !gone.contains(name) && !comes(name));
        match self.site.platform().inspect(&touched).await {
            Ok(found) => self.findings.extend(found),
            Err(error) => self.findings.push(Finding::from_error("platform", &error)),
        }
        let mut services: Vec<PlannedService> = Vec::new();
        for name in known
            .iter()
            .rev()
            .filter(|name| wanted.contains(&name.as_str()) && !gone.contains(name))
        {
            match self.site.platform().service(name).await {
                Ok(state) => {
                    // What a run has stopped and will not start again is meant to run.
                    let meant = left
                        .iter()
                        .map(|it| &it.service)
                        .find(|it| state.running == 0 && it.name == *name);
                    // Where nothing of the plan itself stops it, it is as it was in the other run.
                    let unseen = !of_plan.contains(&name.as_str())
                        && meant.is_some_and(|meant| meant.background);
                    if meant.is_none() {
                        self.findings.extend(runs_short(name, &state));
                    }
                    if state.running > 0 {
                        self.look_at_endpoint(name).await;
                    }
                    services.push(PlannedService {
                        name: name.clone(),
                        replicas: meant.map_or(state.desired, |meant| meant.replicas),
                        start: meant.map_or(state.desired.max(1), |meant| meant.start),
                        ran: match meant {
                            Some(meant) => meant.ran,
                            None => (state.running < state.desired).then_some(state.running),
                        },
                        background: unseen || of_background.contains(&name.as_str()),
                        after: None,
                        waits: true,
                    });
                }
                Err(error) => self.findings.push(self.of_service(name, &error)),
            }
        }
        let order = self.site.service_order();
        let names: Vec<String> = services.iter().map(|it| it.name.clone()).collect();
        for service in &mut services {
            service.after = order.after(&service.name, names.iter().map(String::as_str));
            service.waits = order.waits(&service.name);
        }
        Ok(services)
    }

    /// An error about a service; of one that is not there also what deploys services.
    fn of_service(&self, service: &str, error: &Error) -> Finding {
        let finding = Finding::from_error(service, error);
        let mut components = self.site.components().iter();
        let deploying = components.find_map(|it| Some((it.name(), it.deploys()?)));
        let Some((component, what)) = deploying.filter(|_| error.kind() == ErrorKind::NotFound)
        else {
            return finding;
        };
        let known = finding.hint.clone().unwrap_or_default();
        finding.hint(format!(
            "{known}; where it is gone, `restore run ID --create --only {component}` deploys {what} anew, and with it what that describes"
        ))
    }

    /// Those of these services that are not there, where the run makes such: they are neither stopped nor started.
    async fn not_there_yet(
        &mut self,
        components: &[PlannedComponent],
        services: &[String],
    ) -> Vec<String> {
        let made = deployment::absent(components);
        let whole = made.first().map(|(_, what)| format!("the {what}"));
        let mut in_part = components
            .iter()
            .filter(|it| !it.inspection.services_made.is_empty());
        let in_part = in_part.next().and_then(|it| it.deploys.clone());
        let Some(what) = whole.clone().or(in_part).filter(|_| self.request.create) else {
            return Vec::new();
        };
        let comes = |name: &str| {
            let mut made = components
                .iter()
                .flat_map(|it| &it.inspection.services_made);
            whole.is_some() || made.any(|it| it == name)
        };
        let mut gone = Vec::new();
        for name in services.iter().filter(|name| comes(name.as_str())) {
            let state = self.site.platform().service(name).await;
            if state.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                gone.push(name.clone());
            }
        }
        if !gone.is_empty() {
            self.findings.push(Finding::info(
                "service.absent",
                gone.join(", "),
                format!("not there, and so neither stopped nor started: what the run makes with {what} starts by itself"),
            ));
        }
        gone
    }

    /// An endpoint that is written wrong would be found by the start after the swap, with users turned away. One that is
    /// right may not answer now either: what is to be restored may be what keeps it from that.
    async fn look_at_endpoint(&mut self, service: &str) {
        // A platform that does not answer is told by its own inspection.
        if let Ok(Some(why)) = self.site.platform().unanswered(service).await {
            self.findings.push(unanswered(service, &why));
        }
    }

    /// What the site has in a service that is stopped is made durable first, also where that is no
    /// part of what is restored: whether that will work is known now.
    pub(super) async fn look_at_stops(
        &mut self,
        components: &[PlannedComponent],
        services: &[PlannedService],
    ) {
        let planned = |name: &str| components.iter().any(|it| it.name == name);
        for component in self.site.components() {
            // Its own inspection has looked.
            if planned(component.name()) {
                continue;
            }
            for service in services.iter().filter(|it| it.replicas > 0) {
                if let Err(error) = component.can_stop(&service.name).await {
                    let error = error.context(format!(
                        "{} cannot be stopped without losing what {} has in it",
                        service.name,
                        component.name()
                    ));
                    self.findings
                        .push(Finding::from_error(component.name(), &error));
                }
            }
        }
        for guard in &self.site.guards {
            let mut stopped = services.iter().filter(|it| it.replicas > 0);
            if stopped.any(|it| it.name == guard.service()) {
                self.findings.extend(guard.look().await);
            }
        }
    }

    /// The services that runs have stopped which were abandoned, which this one goes over, or whose
    /// journal nobody can go on with, as they were before, newest run first.
    async fn left_stopped(&self) -> Result<Vec<LeftStopped>> {
        let mut left = Vec::new();
        if self.request.drill {
            return Ok(left);
        }
        for state in Journal::all(&self.site.runs()).await?.into_iter().rev() {
            let inherited = state.is_open() && self.request.over.as_ref() == Some(&state.run);
            let given_up =
                state.outcome == Outcome::Abandoned || (state.is_open() && state.damaged.is_some());
            if !inherited && !given_up {
                continue;
            }
            let stopped = state.left_stopped();
            let services = state.plan.services.into_iter();
            let services = services.filter(|service| stopped.contains(&service.name));
            left.extend(services.map(|service| LeftStopped { service, inherited }));
        }
        Ok(left)
    }

    /// Runs that are not finished stand in the way; runs that are not confirmed do so until the
    /// caller has heard what becomes of them. Also the runs that no journal tells of.
    pub(super) async fn look_at_earlier_runs(
        &mut self,
        components: &[PlannedComponent],
    ) -> Result<(Vec<EarlierRun>, BTreeSet<RunId>)> {
        let mut earlier = Vec::new();
        let all = Journal::all(&self.site.runs()).await?;
        if let Some(over) = &self.request.over {
            // What is misspelt must not go unheard.
            Journal::peek_at(&self.site.runs(), over).await?;
        }
        let unknown = self.look_at_what_is_kept(components, &all).await;
        for lost in Journal::lost(&self.site.runs()).await? {
            // One that has left a report had ended.
            if lost.report.is_none() {
                let (run, error) = (lost.run.as_str(), &lost.error);
                let finding = match error.kind() {
                    // It may be read once the site is put right, and may be of an open run.
                    ErrorKind::Config => Finding::error(error.code(), run, error.message()),
                    _ => Finding::warning("journal.lost", run, error.message()),
                };
                self.findings
                    .push(finding.hint(error.hint_text().unwrap_or_default()));
            }
        }
        for state in all {
            let run = &state.run;
            if let Some(damaged) = &state.damaged {
                // It may say anything of what came after; but what it keeps is kept, and what is
                // live is looked at anew.
                let finding = Finding::warning("journal.damaged", run.as_str(), damaged.as_str());
                if self.request.over.as_ref() == Some(run) && state.is_open() {
                    self.findings
                        .push(finding.hint("it is ended as it stands, and what it keeps is kept"));
                } else if !state.is_settled() {
                    self.findings.push(finding.hint(format!(
                        "`restore report {run}` shows what can be read of it, \
                         `restore abandon {run}` ends it"
                    )));
                }
                continue;
            }
            let over = self.request.over.as_ref() == Some(run);
            if state.is_open() {
                let what = format!(
                    "an earlier run of backup {} is {}",
                    state.plan.backup, state.outcome
                );
                self.findings.push(match over {
                    true => Finding::warning(
                        "run.over",
                        run.as_str(),
                        format!("{what}: it is ended as it stands, and what it keeps is kept"),
                    ),
                    false => Finding::error("run.unfinished", run.as_str(), what).hint(format!(
                        "{}; `restore abandon {run}` ends it as it stands; --over {run} restores over it",
                        state.ways_on()
                    )),
                });
                continue;
            }
            if state.is_half_confirmed() {
                self.findings.push(
                    Finding::warning(
                        "run.half_confirmed",
                        run.as_str(),
                        "an earlier run is half confirmed: some of the data it replaced is deleted",
                    )
                    .hint(format!("`restore confirm {run}` finishes that")),
                );
                continue;
            }
            // A drill replaces nothing that an earlier way back would lead past.
            let abandoned = state.is_abandoned();
            if !(abandoned || state.is_unconfirmed()) || self.request.drill {
                continue;
            }
            // Neither is on top of the other.
            let beside = self.request.is_beside() || state.plan.request.is_beside();
            if beside && !state.has_leftovers() {
                continue;
            }
            let shared: Vec<String> = components
                .iter()
                .map(|component| component.name.clone())
                .filter(|name| state.plan.component(name).is_some())
                .collect();
            let all = shared.len() == components.len();
            if !shared.is_empty() && !abandoned && state.has_leftovers() {
                // It takes up room, and is no way back to anything.
                self.findings.push(
                    Finding::warning(
                        "run.leftovers",
                        run.as_str(),
                        format!(
                            "an earlier run that was taken back: what it had staged of {} could not be deleted",
                            shared.join(", ")
                        ),
                    )
                    .hint(format!("`restore confirm {run}` deletes it")),
                );
            } else if !shared.is_empty() {
                self.findings.push(match abandoned {
                    true => abandoned_run(&state, &in_words(&shared, all)),
                    false => self.unconfirmed(&state, &in_words(&shared, all)),
                });
            }
            earlier.push(EarlierRun {
                run: run.clone(),
                backup: state.plan.backup.clone(),
                ended: state.ended.unwrap_or(state.started),
                shared,
            });
        }
        Ok((earlier, unknown))
    }

    /// What no journal tells of is told where it is found: it takes up room, and may be the only
    /// copy of something. The runs that it was found of.
    async fn look_at_what_is_kept(
        &mut self,
        components: &[PlannedComponent],
        known: &[RunState],
    ) -> BTreeSet<RunId> {
        let mut unknown = BTreeSet::new();
        for planned in components {
            let Some(component) = self.site.component(&planned.name) else {
                continue;
            };
            // Whoever cannot look says so itself.
            for kept in component.kept_by_runs().await.unwrap_or_default() {
                if known.iter().all(|state| state.run != kept.run) {
                    self.findings.push(
                        Finding::warning(
                            "run.lost",
                            planned.name.as_str(),
                            format!(
                                "{} is kept by run {}, of which no journal of this site tells; it \
                                 stays where it is",
                                kept.place, kept.run
                            ),
                        )
                        .hint("`restore history --search` says how to put it back, and how to delete it"),
                    );
                    unknown.insert(kept.run);
                }
            }
        }
        unknown
    }

    fn unconfirmed(&self, state: &RunState, what: &str) -> Finding {
        let run = &state.run;
        let taken_back = state.outcome != Outcome::Restored;
        let backup = &state.plan.backup;
        let (message, hint) = if taken_back {
            (
                format!(
                    "an earlier run that was taken back and is not confirmed. What it had restored \
                     of {what} from backup {backup}, with what was written into it, is still kept"
                ),
                format!("`restore confirm {run}` deletes that"),
            )
        } else {
            (
                format!(
                    "an earlier run that is not confirmed. It restored {what} from backup {backup}; \
                     going back to what was there before it would then take two rollbacks, of the \
                     new run and of this one"
                ),
                format!("`restore confirm {run}` or `restore rollback {run}`"),
            )
        };
        if self.request.over_unconfirmed || self.request.over.as_ref() == Some(run) {
            Finding::warning("run.unconfirmed", run.as_str(), message)
        } else {
            Finding::error("run.unconfirmed", run.as_str(), message).hint(format!(
                "{hint}; in an emergency --over-unconfirmed goes on all the same"
            ))
        }
    }
}

/// Some or all of a plan's components.
fn in_words(shared: &[String], all: bool) -> String {
    match shared.len() {
        _ if all => "all of these components".to_owned(),
        1..=3 => shared.join(", "),
        many => format!("{many} of these components"),
    }
}

/// It holds nobody up: a new run is the way on from it.
fn abandoned_run(state: &RunState, what: &str) -> Finding {
    let (run, backup) = (&state.run, &state.plan.backup);
    Finding::warning(
        "run.abandoned",
        run.as_str(),
        format!(
            "an earlier run that was abandoned and is not confirmed. What it had staged or replaced of \
             {what}, from backup {backup}, is still kept"
        ),
    )
    .hint(format!(
        "`restore rollback {run}` moves back what it had moved, `restore confirm {run}` deletes what it keeps"
    ))
}
