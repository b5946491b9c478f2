//! From a journal to a report.

use std::sync::Arc;

use super::{MemoryFacts, Outcome, RunContext, RunState};
use crate::backup::Backup;
use crate::event::NoEvents;
use crate::plan::Step;
use crate::report::{ComponentReport, Report};
use crate::site::Site;

/// The report of a run as far as its journal goes. Where the kept data lies is asked of the
/// components now.
pub(crate) async fn report_of(site: &Site, state: &RunState) -> Report {
    let restored = state.outcome == Outcome::Restored;
    let mut components = Vec::new();
    for planned in &state.plan.components {
        let staged = state.staged.get(&planned.name);
        // Inside an unfinished run each component is where its own last step left it.
        let swapped = restored
            || (state.is_open()
                && state.began(&Step::CutOver(planned.name.clone()))
                && !state
                    .done
                    .contains(&format!("undo:{}", Step::CutOver(planned.name.clone()))));
        components.push(ComponentReport {
            name: planned.name.clone(),
            kind: planned.kind.clone(),
            artifacts: planned.inspection.artifacts.clone(),
            restored: swapped,
            bytes: staged.map_or(0, |staged| staged.bytes),
            facts: staged
                .map(|staged| staged.facts.clone())
                .unwrap_or_default(),
            kept_at: kept_at(site, state, &planned.name).await,
        });
    }
    let services = state
        .plan
        .services
        .iter()
        .map(|service| (service.name.clone(), service.replicas.into()))
        .collect();
    Report {
        site: state.plan.site.clone(),
        run: state.run.clone(),
        backup: state.plan.backup.clone(),
        store: state.plan.store.clone(),
        outcome: state.outcome,
        drill: state.plan.request.drill,
        confirmed: state.confirmed,
        started: state.started,
        ended: state.ended.filter(|_| state.outcome != Outcome::Unfinished),
        downtime_seconds: state.downtime,
        down_since: state.down_since,
        failure: state.failure.clone(),
        stuck: state
            .stuck
            .clone()
            .filter(|_| state.outcome == Outcome::Stuck),
        safety: state.safety.clone(),
        components,
        services,
        checks_before: state.checks_before.clone(),
        checks_after: state.checks_after.clone(),
        steps: state.steps.clone(),
        findings: state.findings.clone(),
        next: next(state),
    }
}

async fn kept_at(site: &Site, state: &RunState, name: &str) -> Option<String> {
    if !state.is_open() && !state.is_unconfirmed() {
        return None;
    }
    let component = site.component(name)?;
    let store = site.stores().first().map(|(_, store)| store.clone())?;
    let backup = Backup::by_name(store, state.plan.backup.clone());
    let facts = MemoryFacts::from_iter(
        state
            .facts
            .iter()
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    let context = RunContext::new(
        state.run.clone(),
        name,
        Arc::new(backup),
        Arc::new(facts),
        Arc::new(NoEvents),
        tokio_util::sync::CancellationToken::new(),
    );
    component.replaced_at(&context).await.ok().flatten()
}

/// What a person would type next.
fn next(state: &RunState) -> Vec<String> {
    let run = &state.run;
    match state.outcome {
        Outcome::Restored if state.confirmed => Vec::new(),
        Outcome::Restored if state.confirming => vec![format!(
            "restore confirm {run}    finishes the confirmation that was begun"
        )],
        Outcome::Restored => vec![
            format!("restore confirm {run}    once all is well: deletes the replaced data"),
            format!("restore rollback {run}   if not: swaps the replaced data back"),
        ],
        Outcome::RolledBack | Outcome::Undone if state.is_unconfirmed() => {
            vec![format!(
                "restore confirm {run}    deletes the restored data that was put aside"
            )]
        }
        Outcome::RolledBack => Vec::new(),
        Outcome::Drilled => vec![format!(
            "restore run {}    restores it, when it is needed",
            state.plan.backup
        )],
        Outcome::Undone if state.plan.request.drill => Vec::new(),
        Outcome::Undone => vec![format!(
            "restore plan {}    once the cause is mended",
            state.plan.backup
        )],
        Outcome::Unfinished => vec![
            format!("restore resume {run}     finishes it"),
            format!("restore rollback {run}   undoes it"),
        ],
        Outcome::Stuck => vec![format!(
            "restore rollback {run}   tries again, once the cause is mended"
        )],
    }
}
