//! From a journal to a report.

use std::collections::BTreeMap;

use super::RunState;
use super::confirm::{LEFT, NOTHING};
use super::create::made;
use super::state::DELETE;
use super::way_back::{looking, name_gone, not_as_left};
use crate::contract::CutOver;
use crate::engine::operations::Site;
use crate::engine::plan::{PlanRequest, Step, node_options};
use crate::model::step_id::undo_of;
use crate::model::text::shell_word;
use crate::model::{
    ComponentReport, ErrorKind, Kept, Outcome, RecoveryPoint, Report, Result, ServiceDown,
};

#[cfg(test)]
use crate::model::RecoveryTarget;

/// Where the data lies that components keep for a run, or why one does not say.
pub(crate) type KeptAt = BTreeMap<String, std::result::Result<Option<String>, String>>;

/// Asks the components where the data lies that they keep for a run: they may have to sign in for that, or to
/// start an agent.
pub(crate) async fn ask_kept_at(site: &Site, state: &RunState) -> KeptAt {
    let mut all = KeptAt::new();
    for planned in &state.plan.components {
        let said = kept_at(site, state, &planned.name).await;
        all.insert(planned.name.clone(), said.map_err(|e| e.to_string()));
    }
    all
}

/// The report of a run as far as its journal goes. Where the kept data lies is asked of the
/// components now.
pub(crate) async fn report_of(site: &Site, state: &RunState) -> Report {
    report_with(state, &ask_kept_at(site, state).await)
}

/// As `report_of`, with what the components have said already.
pub(crate) fn report_with(state: &RunState, kept_at: &KeptAt) -> Report {
    let restored = state.outcome == Outcome::Restored;
    let mut components = Vec::new();
    for planned in &state.plan.components {
        let staged = state.staged.get(&planned.name);
        // Inside an unfinished run each component is where its own last step left it.
        let swapped = restored
            || (has_stopped_midway(state)
                && state.began(&Step::CutOver(planned.name.clone()))
                && !state
                    .done
                    .contains(&undo_of(Step::CutOver(planned.name.clone()))));
        let kept = match state.cut_over(&planned.name) {
            _ if swapped => Kept::Replaced,
            CutOver::NotBegun => Kept::Staged,
            _ => Kept::Restored,
        };
        let (kept_at, kept_unsure) = match kept_at.get(&planned.name) {
            Some(Ok(kept_at)) => (kept_at.clone(), None),
            Some(Err(error)) => (None, Some(error.clone())),
            None => (None, None),
        };
        components.push(ComponentReport {
            name: planned.name.clone(),
            kind: planned.kind.clone(),
            artifacts: planned.inspection.artifacts.clone(),
            restored: swapped,
            bytes: staged.map_or(0, |staged| staged.bytes),
            facts: staged
                .map(|staged| staged.facts.clone())
                .unwrap_or_default(),
            beside: planned.inspection.beside.as_ref().map(|what| {
                what.replace("_restored_RUN", &format!("_restored_{}", state.run.sql()))
            }),
            kept: kept_at.as_ref().map(|_| kept),
            kept_at,
            kept_bytes: None,
            kept_unsure,
            left_alone: state.fact(&planned.name, LEFT).is_some()
                && !state.done.contains(&format!("{DELETE}{}", planned.name)),
        });
    }
    // What cannot be looked at may be there.
    let replaced = components
        .iter()
        .any(|part| part.kept_at.is_some() || part.kept_unsure.is_some());
    let services = state
        .plan
        .services
        .iter()
        .filter(|service| state.began(&Step::Stop(service.name.clone())))
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
        confirming: state.is_half_confirmed(),
        replaced_nothing: state.fact(NOTHING.0, NOTHING.1).is_some(),
        page_up: state.page_up,
        damaged: state.damaged.clone(),
        started: state.started,
        ended: state.ended.filter(|_| state.outcome != Outcome::Unfinished),
        downtime_seconds: state.downtime,
        down_since: state.down_since,
        under_way: None,
        keeps_restored: state
            .keeps_what_it_restored()
            .unwrap_or_else(|| state.may_have_served(true)),
        turned_back: state.turned_back.is_some(),
        asked_back: state.asked_back,
        failure: state.failure.clone(),
        stuck: state
            .stuck
            .clone()
            .filter(|_| matches!(state.outcome, Outcome::Stuck | Outcome::Abandoned)),
        safety: state.safety.clone(),
        components,
        services,
        made: made(state),
        services_down: services_down(state),
        checks_before: state.checks_before.clone(),
        checks_after: state.checks_after.clone(),
        steps: state.steps.clone(),
        findings: state.findings.clone(),
        next: next(state, replaced),
    }
}

fn services_down(state: &RunState) -> Vec<ServiceDown> {
    let ran_before = |name: &str| {
        let mut services = state.plan.services.iter();
        services.any(|service| service.name == name && service.ran_before() > 0)
    };
    let down = state.services_down.iter();
    let mut down: Vec<ServiceDown> = down
        .map(|(name, failure)| ServiceDown {
            name: name.clone(),
            error: failure.message.clone(),
            hint: failure.hint.clone(),
            ran_before: ran_before(name),
        })
        .collect();
    if has_stopped_midway(state) {
        for name in state.left_stopped() {
            if down.iter().all(|known| known.name != name) {
                down.push(ServiceDown {
                    ran_before: ran_before(&name),
                    error: "was stopped by the run and not started again".to_owned(),
                    hint: None,
                    name,
                });
            }
        }
    }
    down
}

async fn kept_at(site: &Site, state: &RunState, name: &str) -> Result<Option<String>> {
    if !has_stopped_midway(state) && !state.is_unconfirmed() {
        return Ok(None);
    }
    if state.cut_over(name) == CutOver::NotBegun {
        return Ok(staged_at(state, name));
    }
    match (site.component(name), looking(site, state, name)) {
        (Some(component), Some(context)) => component.replaced_at(&context).await,
        // It may be there, under a name that nobody can ask for.
        (None, _) if state.keeps_data(name) => Err(name_gone("component", name)),
        _ => Ok(None),
    }
}

/// Where the run staged what it has not made live, while that is there.
fn staged_at(state: &RunState, name: &str) -> Option<String> {
    let there = state.began(&Step::Stage(name.to_owned())) && !state.is_discarded(name);
    let place = &state.plan.component(name)?.inspection.staged_at;
    let run = match place.starts_with('/') {
        true => state.run.to_string(),
        false => state.run.sql(),
    };
    (there && !place.is_empty()).then(|| place.replace("RUN", &run))
}

/// Measures what the run keeps, and says what a confirmation would leave alone: for somebody who
/// is about to be asked.
pub(crate) async fn weigh(site: &Site, state: &RunState, report: &mut Report) {
    for part in &mut report.components {
        let (Some(component), Some(context)) =
            (site.component(&part.name), looking(site, state, &part.name))
        else {
            continue;
        };
        if part.kept_at.is_some() {
            part.kept_bytes = component.kept_bytes(&context).await.ok().flatten();
        }
    }
    for (name, why) in not_as_left(site, state).await {
        let mut parts = report.components.iter_mut();
        if let Some(part) = parts.find(|part| part.name == name) {
            part.kept_unsure = Some(why.to_string());
        }
    }
}

/// Whether each component is where its own last step left it.
fn has_stopped_midway(state: &RunState) -> bool {
    state.is_open() || (state.outcome == Outcome::Abandoned && !state.confirmed)
}

/// What a person would type next. `replaced`: whether it keeps what was live before it.
fn next(state: &RunState, replaced: bool) -> Vec<String> {
    let run = &state.run;
    let same = options(&state.plan.request);
    let backup = &state.plan.backup;
    let plan = |why: &str| format!("restore plan {backup}{same}    {why}");
    let abandon =
        format!("restore abandon {run}    ends it as the platform stands; what it keeps is kept");
    let over = format!(
        "restore run {backup}{same} --over {run}   restores over it, when it cannot be mended"
    );
    let search = "restore history --search    lists what it may keep, and how to put it back";
    let mut next = match state.outcome {
        // Nobody goes on by a journal that may be wrong.
        _ if state.damaged.is_some() && state.is_open() => {
            vec![abandon, over, search.to_owned()]
        }
        _ if state.damaged.is_some() && !state.is_settled() => vec![abandon, search.to_owned()],
        _ if state.damaged.is_some() => vec![search.to_owned()],
        _ if state.is_half_confirmed() => vec![format!(
            "restore confirm {run}    finishes the confirmation that was begun"
        )],
        Outcome::Restored if state.confirmed => Vec::new(),
        Outcome::Restored if state.plan.request.is_beside() => vec![
            format!("restore confirm {run}    keeps it for good"),
            format!("restore rollback {run}   takes it away again"),
        ],
        Outcome::Restored if !replaced => vec![
            format!("restore confirm {run}    once all is well: accepts it; nothing was replaced"),
            format!("restore rollback {run}   if not: takes what was restored away again"),
        ],
        Outcome::Restored => vec![
            format!("restore confirm {run}    once all is well: deletes the replaced data"),
            format!("restore rollback {run}   if not: swaps the replaced data back"),
        ],
        Outcome::RolledBack | Outcome::Undone | Outcome::Drilled if state.has_leftovers() => {
            vec![format!(
                "restore confirm {run}    deletes what is left of what was staged"
            )]
        }
        Outcome::RolledBack | Outcome::Undone if state.is_unconfirmed() => {
            vec![format!(
                "restore confirm {run}    deletes the restored data that was put aside"
            )]
        }
        Outcome::RolledBack => Vec::new(),
        Outcome::Drilled => vec![format!(
            "restore run {backup}{same}    restores it, when it is needed"
        )],
        Outcome::Undone if state.plan.request.drill => Vec::new(),
        Outcome::Undone => vec![plan(match &state.failure {
            Some(failure) if failure.kind == ErrorKind::Interrupted => {
                "when it is to be restored after all"
            }
            _ => "once the cause above is fixed",
        })],
        Outcome::Unfinished if state.turned_back.is_some() => vec![
            format!("restore rollback {run}   finishes taking it back, which was begun"),
            abandon,
        ],
        Outcome::Unfinished => vec![
            format!("restore resume {run}     finishes it"),
            format!("restore rollback {run}   undoes it"),
            abandon,
        ],
        Outcome::Stuck => {
            let mut next = vec![format!(
                "restore rollback {run}   tries again, once the cause above is fixed"
            )];
            if state.turned_back.is_none() {
                next.push(format!(
                    "restore resume {run}     goes on, once the cause above is fixed"
                ));
            }
            next.extend([over, abandon]);
            next
        }
        Outcome::Abandoned if state.confirmed => Vec::new(),
        Outcome::Abandoned => vec![
            plan("shows what a new run would do"),
            format!("restore rollback {run}   moves back after all what the run had moved"),
            format!("restore confirm {run}    deletes what it keeps"),
        ],
    };
    if state.page_up && !state.is_open() {
        next.push("restore page off    takes the maintenance page down".to_owned());
    }
    next
}

/// What was asked for, as options of the command line: another run is to be of the same.
fn options(request: &PlanRequest) -> String {
    let quoted = shell_word;
    let mut text = String::new();
    if !request.only.is_empty() {
        text += &format!(" --only {}", quoted(&request.only.join(",")));
    }
    for path in &request.paths {
        text += &format!(" --path {}", quoted(path));
    }
    if !request.allow_missing.is_empty() {
        text += &format!(
            " --allow-missing {}",
            quoted(&request.allow_missing.join(","))
        );
    }
    if !request.allow_empty.is_empty() {
        text += &format!(" --allow-empty {}", quoted(&request.allow_empty.join(",")));
    }
    for table in &request.tables {
        text += &format!(" --table {}", quoted(table));
    }
    if let Some(name) = &request.restore_as {
        text += &format!(" --as {}", quoted(name));
    }
    for (given, option) in [
        (request.allow_unverified, " --allow-unverified"),
        (request.allow_time_gap, " --allow-time-gap"),
        (request.no_maintenance, " --no-maintenance"),
        (request.no_safety_backup, " --no-safety-backup"),
        (request.create, " --create"),
    ] {
        if given {
            text += option;
        }
    }
    text += &request.secrets.options();
    text += &node_options(&request.nodes);
    let Some(target) = &request.target else {
        return text;
    };
    text += &match &target.point {
        RecoveryPoint::Time(time) => format!(" --to {}", quoted(&time.precise())),
        RecoveryPoint::Latest => " --to latest".to_owned(),
        RecoveryPoint::Lsn(lsn) => format!(" --to-lsn {lsn}"),
        RecoveryPoint::Xid(xid) => format!(" --to-xid {xid}"),
        RecoveryPoint::Name(name) => format!(" --to-name {}", quoted(name)),
    };
    if !target.inclusive {
        text += " --exclusive";
    }
    if let Some(timeline) = target.timeline {
        text += &format!(" --timeline {timeline}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::SecretFiles;

    #[test]
    fn the_next_run_is_of_the_same() {
        let request = PlanRequest::all()
            .only(["nginx", "redis"])
            .paths(["mnt/a b"])
            .allow_unverified(true)
            .allow_empty(["redis"])
            .secrets(
                SecretFiles::default()
                    .with("db.word", "/root/a word")
                    .in_directory(std::path::PathBuf::from("/root/secrets")),
            )
            .nodes([("db1", "db2")])
            .to("2024-02-15 09:30:00 UTC".parse::<RecoveryTarget>().unwrap());
        let again = options(&request);
        assert!(
            again.starts_with(
                " --only nginx,redis --path 'mnt/a b' --allow-empty redis --allow-unverified \
                 --secret 'db.word=/root/a word' --secrets /root/secrets --node db1=db2 --to '2024"
            ),
            "{again}"
        );
        assert_eq!(options(&PlanRequest::all()), "");
    }
}
