//! What a run would meet besides the backup: services to stop, and earlier runs.

use super::preflight::Preflight;
use super::{EarlierRun, PlannedComponent, PlannedService};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::Finding;
use crate::run::{Journal, Outcome};

impl Preflight<'_> {
    /// The services to stop, last started first: the site names them in the order of starting.
    pub(super) async fn look_at_services(
        &mut self,
        components: &[PlannedComponent],
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
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let of_background: Vec<&str> = components
            .iter()
            .filter(|component| component.background)
            .flat_map(|component| component.stops.iter().map(String::as_str))
            .collect();
        if wanted.iter().any(|name| !of_background.contains(name)) {
            wanted.extend(self.site.stop().iter().map(String::as_str));
        }
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
        match self.site.platform().inspect(&touched).await {
            Ok(found) => self.findings.extend(found),
            Err(error) => self.findings.push(Finding::from_error("platform", &error)),
        }
        let mut services: Vec<PlannedService> = Vec::new();
        for name in known
            .iter()
            .rev()
            .filter(|name| wanted.contains(&name.as_str()))
        {
            match self.site.platform().service(name).await {
                Ok(state) => {
                    if state.running == 0 {
                        self.findings.push(Finding::warning(
                            "service.down",
                            name.clone(),
                            "does not run now; it will be started after the restore, and left stopped if the restore is undone",
                        ));
                    }
                    services.push(PlannedService {
                        name: name.clone(),
                        replicas: state.desired,
                        start: state.desired.max(1),
                        background: of_background.contains(&name.as_str()),
                        after: None,
                        waits: true,
                    });
                }
                Err(error) => self
                    .findings
                    .push(Finding::from_error(name.clone(), &error)),
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

    /// Runs that are not finished stand in the way; runs that are not confirmed do so until the
    /// caller has heard what becomes of them.
    pub(super) async fn look_at_earlier_runs(
        &mut self,
        components: &[PlannedComponent],
    ) -> Result<Vec<EarlierRun>> {
        let mut earlier = Vec::new();
        for state in Journal::all(&self.site.runs()).await? {
            let run = &state.run;
            if state.is_open() {
                self.findings.push(
                    Finding::error(
                        "run.unfinished",
                        run.as_str(),
                        format!(
                            "an earlier run of backup {} is {}",
                            state.plan.backup, state.outcome
                        ),
                    )
                    .hint(format!(
                        "`restore resume {run}` finishes it, `restore rollback {run}` undoes it"
                    )),
                );
                continue;
            }
            // A drill replaces nothing that an earlier way back would lead past.
            if !state.is_unconfirmed() || self.request.drill {
                continue;
            }
            let shared: Vec<String> = components
                .iter()
                .map(|component| component.name.clone())
                .filter(|name| state.plan.component(name).is_some())
                .collect();
            if !shared.is_empty() {
                self.findings
                    .push(self.over(&state, &shared, shared.len() == components.len()));
            }
            earlier.push(EarlierRun {
                run: run.clone(),
                backup: state.plan.backup.clone(),
                ended: state.ended.unwrap_or(state.started),
                shared,
            });
        }
        Ok(earlier)
    }

    fn over(&self, state: &crate::run::RunState, shared: &[String], all: bool) -> Finding {
        let run = &state.run;
        let what = match shared.len() {
            _ if all => "all of these components".to_owned(),
            1..=3 => shared.join(", "),
            many => format!("{many} of these components"),
        };
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
        if self.request.over_unconfirmed {
            Finding::warning("run.unconfirmed", run.as_str(), message)
        } else {
            Finding::error("run.unconfirmed", run.as_str(), message).hint(format!(
                "{hint}; in an emergency --over-unconfirmed goes on all the same"
            ))
        }
    }
}
