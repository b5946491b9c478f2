//! Whether a run can be taken back, looked at while users are still served.

use std::sync::Arc;

use super::{RunState, page};
use crate::contract::{Backup, CutOver, MemoryFacts, RunContext};
use crate::engine::operations::Site;
use crate::engine::plan::Step;
use crate::model::{Error, ErrorKind, NoEvents, Result};

/// A context to look at what a component has of a run; nothing that is recorded in it lasts.
pub(super) fn looking(site: &Site, state: &RunState, name: &str) -> Option<RunContext> {
    // What the run did on a node that has taken another one's place lies there.
    if let Some(nodes) = site.platform().nodes() {
        nodes.substitute(&state.plan.request.nodes);
    }
    let store = site.stores().first().map(|(_, store)| store.clone())?;
    let backup = Backup::by_name(store, state.plan.backup.clone());
    let facts = state.facts.iter();
    let facts = MemoryFacts::from_iter(facts.map(|(key, value)| (key.clone(), value.clone())));
    let context = RunContext::new(
        state.run.clone(),
        name,
        Arc::new(backup),
        Arc::new(facts),
        Arc::new(NoEvents),
        tokio_util::sync::CancellationToken::new(),
    );
    Some(
        context
            .with_target(state.plan.target_of(name))
            .with_restore_as(state.plan.request.restore_as.clone())
            .with_tables(state.plan.request.tables.clone())
            .with_nodes(state.plan.request.nodes.clone())
            .with_cut_over(state.cut_over(name)),
    )
}

/// Looks whether what the run has swapped can be swapped back: the site knows its components and
/// services by the names that the journal has, and each component finds what it put aside. The
/// error says what is missing, and which ways are left.
pub(crate) async fn ensure_way_back(site: &Site, state: &RunState) -> Result<()> {
    let run = &state.run;
    let ways = match state.is_open() {
        true => format!(
            "put that right and try again; or `restore run {} --over {run}` restores over it, \
             `restore abandon {run}` ends it as the platform stands",
            state.plan.backup
        ),
        false => format!(
            "put that right and try again; or restore another backup over it (`restore list`; \
             pre-restore-… are copies of what was live), or accept it: `restore confirm {run}`"
        ),
    };
    let refused = |why: String| {
        Error::new(
            ErrorKind::Preflight,
            "run.no_way_back",
            format!("run {run} cannot be taken back, and nothing was touched: {why}"),
        )
        .hint(ways.clone())
    };
    if let Err(error) = page::ensure_way_down(site, state).await {
        let hint = error.hint_text().map(|hint| format!(" ({hint})"));
        return Err(refused(format!("{error}{}", hint.unwrap_or_default())).source(error));
    }
    for name in ensure_known(site, state).map_err(|error| refused(error.message().to_owned()))? {
        if !state.cut_over(&name).is_begun() {
            continue;
        }
        let (Some(component), Some(context)) = (site.component(&name), looking(site, state, &name))
        else {
            continue;
        };
        let mut looked = component.way_back(&context).await;
        // Of what was broken off as much is taken back as can be: users wait for it.
        if looked.is_ok() && !state.is_open() {
            looked = component.can_undo(&context).await;
        }
        if let Err(error) = looked {
            let hint = error.hint_text().map(|hint| format!(" ({hint})"));
            let why = format!("{name}: {error}{}", hint.unwrap_or_default());
            return Err(refused(why).source(error));
        }
    }
    Ok(())
}

/// Looks whether everything that the run staged, and has not made live, is still there: what is
/// missing would be missed in the downtime. The error says what, and which ways are left.
pub(crate) async fn ensure_staged(site: &Site, state: &RunState) -> Result<()> {
    let run = &state.run;
    // A drill has proven what it staged by then, and may have begun to delete it.
    if state.plan.request.drill {
        return Ok(());
    }
    for name in state.plan.components.iter().map(|planned| &planned.name) {
        let staged = state.is_done(&Step::Stage(name.clone()));
        if !staged || !matches!(state.cut_over(name), CutOver::NotBegun) {
            continue;
        }
        let (Some(component), Some(context)) = (site.component(name), looking(site, state, name))
        else {
            continue;
        };
        if let Err(error) = component.as_staged(&context).await {
            let hint = error.hint_text().map(|hint| format!(" ({hint})"));
            return Err(Error::new(
                ErrorKind::Preflight,
                "run.not_as_staged",
                format!(
                    "run {run} cannot go on, and nothing was touched: {name}: {error}{}",
                    hint.unwrap_or_default()
                ),
            )
            .hint(format!(
                "put that right and try again; or `restore rollback {run}` takes it back, and a new run stages everything again"
            ))
            .source(error));
        }
    }
    Ok(())
}

/// The components of which a confirmation would not delete just what the run put aside, replaced or
/// staged, each with why: what lies there may be the only copy of something, and what is not there may
/// lie on a disk that is not mounted.
pub(crate) async fn not_as_left(site: &Site, state: &RunState) -> Vec<(String, Error)> {
    let mut left = Vec::new();
    for name in state.plan.components.iter().map(|planned| &planned.name) {
        let cut_over = state.cut_over(name);
        // Begun to be deleted: what is there is what is left of it.
        let begun = match cut_over {
            CutOver::Begun | CutOver::Done => &state.deleted,
            CutOver::NotBegun | CutOver::TakenBack => &state.discarding,
        };
        if begun.contains(name) {
            continue;
        }
        let staged = state.is_done(&Step::Stage(name.clone()));
        let why = match (site.component(name), cut_over) {
            (None, _) if state.began(&Step::Stage(name.clone())) => name_gone("component", name),
            (None, _) => continue,
            (_, CutOver::NotBegun | CutOver::TakenBack) if !staged => continue,
            (_, CutOver::Begun) => Error::new(
                ErrorKind::Failed,
                "run.broken_off",
                "its swap was broken off in the middle",
            ),
            (Some(component), _) => match looking(site, state, name) {
                Some(context) => match component.as_left(&context).await {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                None => continue,
            },
        };
        left.push((name.clone(), why));
    }
    left
}

/// The names of the run's components, where the site has all of them.
fn ensure_components(site: &Site, state: &RunState) -> Result<Vec<String>> {
    let components = state.plan.components.iter();
    let names: Vec<String> = components.map(|it| it.name.clone()).collect();
    match names.iter().find(|name| site.component(name).is_none()) {
        Some(name) => Err(name_gone("component", name)),
        None => Ok(names),
    }
}

pub(super) fn name_gone(what: &str, name: &str) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "run.name_gone",
        format!(
            "the run has the {what} {name}, which the configuration no longer has; nothing was touched"
        ),
    )
    .hint(format!(
        "name it {name} again in the configuration until the run is finished, then try again"
    ))
}

/// The names of the run's components, where the site has all of them, and also has all services that the run stops.
fn ensure_known(site: &Site, state: &RunState) -> Result<Vec<String>> {
    let names = ensure_components(site, state)?;
    let known = site.platform().services();
    let mut services = state.plan.services.iter();
    match services.find(|service| !known.contains(&service.name)) {
        Some(service) => Err(name_gone("service", &service.name)),
        None => Ok(names),
    }
}
