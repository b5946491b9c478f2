//! The maintenance page of a run. What takes it down is kept in the journal as it goes up: the
//! configuration may be another by then.

use std::path::Path;

use serde_json::Value;

use super::way_back::name_gone;
use super::{Journal, RunState};
use crate::contract::{FactStore as _, Maintenance, Table};
use crate::engine::operations::Site;
use crate::engine::plan::Step;
use crate::model::{Error, ErrorKind, FILE_NAME, Result, RunId};

/// The name under which a run keeps what takes its pages down: no component has it.
const FACTS: &str = "[maintenance]";
/// How the key of the fact ends that one of them is down.
const DOWN: &str = ":down";
/// How the key of the fact ends that one of them did not come down where that of the configuration did.
const LEFT: &str = ":left";

/// Whether a key is that of a page, and not of what became of one.
fn is_page(key: &str) -> bool {
    !key.contains(':')
}

/// A page that a run may have up.
#[derive(Clone)]
struct Shown {
    key: String,
    section: Table,
}

/// Of this run, the oldest first. What a damaged journal says is not done: it may be anything.
fn shown(state: &RunState) -> Vec<Shown> {
    if state.damaged.is_some() {
        return Vec::new();
    }
    let facts = state.facts.iter();
    let facts = facts.filter(|((owner, key), _)| owner == FACTS && is_page(key));
    let up = facts.filter(|((_, key), _)| state.fact(FACTS, &format!("{key}{DOWN}")).is_none());
    up.filter_map(|((_, key), value)| {
        Some(Shown {
            key: key.clone(),
            section: value.as_object()?.clone(),
        })
    })
    .collect()
}

/// Whether the journal of a run has what takes its page down.
pub(crate) fn keeps_page(state: &RunState) -> bool {
    !shown(state).is_empty()
}

/// Whether a page stayed up when that of the configuration came down, and has not come down since.
pub(super) fn is_left_up(state: &RunState) -> bool {
    let became = |key: &str, what: &str| state.fact(FACTS, &format!("{key}{what}")).is_some();
    let mut facts = state.facts.keys();
    facts.any(|(owner, key)| owner == FACTS && became(key, LEFT) && !became(key, DOWN))
}

/// Puts the run's page up: that of the configuration or, where this has none any more, the last that the run
/// has put up.
pub(super) async fn put_up(site: &Site, journal: &Journal) -> Result<()> {
    let state = journal.state();
    if let Some(page) = site.maintenance() {
        keep(journal, page.as_ref()).await?;
        return page.on(&state.run, state.started).await;
    }
    let Some(kept) = shown(&state).pop() else {
        return Err(gone(&state.run));
    };
    let page = site.page_of(kept.section)?;
    page.on(&state.run, state.started).await
}

/// Refuses to go on where users are to be turned away and nothing is known that could: they would be served
/// while data is swapped.
pub(crate) fn ensure_way_up(site: &Site, state: &RunState) -> Result<()> {
    let on = Step::MaintenanceOn;
    let swapped = || state.is_done(&on) && state.swapped(state.plan.phase(&on));
    let goes_up = state.plan.steps.contains(&on) && !swapped();
    match goes_up && site.maintenance().is_none() && !keeps_page(state) {
        true => Err(gone(&state.run)),
        false => Ok(()),
    }
}

fn gone(run: &RunId) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "run.no_page",
        format!(
            "run {run} cannot go on: it is to turn users away with a maintenance page, and the configuration no longer has [maintenance]"
        ),
    )
    .hint(format!(
        "put [maintenance] back as it was when the run was planned, then `restore resume {run}`; or `restore rollback {run}` takes the run back"
    ))
}

/// Keeps what takes a page down, before it goes up.
pub(super) async fn keep(journal: &Journal, page: &dyn Maintenance) -> Result<()> {
    match page.section() {
        Some(section) => keep_section(journal, section).await,
        None => Ok(()),
    }
}

async fn keep_section(journal: &Journal, section: Table) -> Result<()> {
    let key = journal.with(|state| {
        let known = shown(state).iter().any(|it| it.section == section);
        let all = state.facts.keys().filter(|(owner, _)| owner == FACTS);
        let keys = all.filter(|(_, key)| is_page(key));
        // In the order of their numbers.
        (!known).then(|| format!("{:06}", keys.count()))
    });
    match key {
        Some(key) => journal.record(FACTS, &key, Value::Object(section)).await,
        None => Ok(()),
    }
}

/// The page of another run is this one's from now on: so is what takes it down.
pub(super) async fn inherit(journal: &Journal, other: &RunState) -> Result<()> {
    for page in shown(other) {
        keep_section(journal, page.section).await?;
    }
    Ok(())
}

fn none() -> Error {
    Error::new(
        ErrorKind::Config,
        "maintenance.none",
        "the run has its maintenance page up, and the configuration has no [maintenance] that takes it down",
    )
    .hint("put [maintenance] back as it was when the run began, until the page is down; then try again")
}

/// Refuses where the run has its page up and nothing is known that could take it down.
pub(super) async fn ensure_way_down(site: &Site, state: &RunState) -> Result<()> {
    if !state.page_up || site.maintenance().is_some() {
        return Ok(());
    }
    let shown = shown(state);
    if shown.is_empty() {
        return Err(none());
    }
    for Shown { section, .. } in shown {
        if let Some(service) = section.get("service").and_then(Value::as_str)
            && let Err(error) = site.platform().service(service).await
            && error.kind() == ErrorKind::NotFound
        {
            return Err(name_gone("service", service));
        }
        site.page_of(section)?;
    }
    Ok(())
}

/// Takes the pages down that the run may have up: each as it was put up, where the configuration has
/// another one by now, or none; and that of the configuration, where it is one of them, or where another
/// does not come down. `journal` takes note of it, where it can. Gives why others stayed up, where that of the
/// configuration came down: of them its proof says nothing.
pub(super) async fn take_down(
    site: &Site,
    state: &RunState,
    journal: Option<&Journal>,
    run: &RunId,
) -> Result<Vec<Error>> {
    let shown = shown(state);
    let current = site.maintenance();
    let section = current.and_then(|page| page.section());
    let is_current = |page: &Shown| section.as_ref() == Some(&page.section);
    let mut failed = Vec::new();
    let mut down = Vec::new();
    for page in shown.iter().rev().filter(|page| !is_current(page)) {
        let taken = async { site.page_of(page.section.clone())?.off(run).await };
        match taken.await {
            Ok(()) => down.push(page),
            Err(error) => failed.push((page, error)),
        }
    }
    let mut left = Vec::new();
    if !failed.is_empty() || shown.is_empty() || shown.iter().any(is_current) {
        let Some(page) = current else {
            note(journal, &down, DOWN).await;
            return match failed.into_iter().next() {
                Some((_, error)) => Err(error),
                None if state.page_up => Err(none()),
                None => Ok(Vec::new()),
            };
        };
        if let Err(error) = page.off(run).await {
            note(journal, &down, DOWN).await;
            let first = failed.into_iter().next();
            return Err(first.map_or(error, |(_, first)| first));
        }
        down.extend(shown.iter().filter(|page| is_current(page)));
        let now = section.as_ref();
        for (page, error) in failed {
            // It proves that users are let in there, also where what was kept does not work any more.
            match now.is_some_and(|now| is_same_place(now, &page.section)) {
                true => down.push(page),
                false => left.push((page, error)),
            }
        }
    }
    note(journal, &down, DOWN).await;
    let stay: Vec<&Shown> = left.iter().map(|(page, _)| *page).collect();
    note(journal, &stay, LEFT).await;
    Ok(left
        .into_iter()
        .map(|(page, error)| stays(&page.section, error))
        .collect())
}

/// Whether a page is that of the same web server, in the same folder.
fn is_same_place(one: &Table, other: &Table) -> bool {
    let same = |key: &str| one.get(key) == other.get(key);
    same("service") && same("conf_dir")
}

/// Said of a page that did not come down, while that of the configuration did.
fn stays(section: &Table, error: Error) -> Error {
    let text = |key: &str| section.get(key).and_then(Value::as_str);
    let file = text("conf_dir").map(|dir| Path::new(dir).join(FILE_NAME));
    let place = match (&file, text("service")) {
        (Some(file), Some(service)) => format!(" in {} for {service}", file.display()),
        (Some(file), None) => format!(" in {}", file.display()),
        (None, Some(service)) => format!(" for {service}"),
        (None, None) => String::new(),
    };
    let mut ways: Vec<String> = error.hint_text().map(str::to_owned).into_iter().collect();
    if let Some(file) = &file {
        ways.push(format!(
            "delete {} and reload the web server that reads it",
            file.display()
        ));
    }
    let error = error.context(format!(
        "the page that was put up{place} did not come down, and whom it turned away may be turned away still"
    ));
    match ways.is_empty() {
        true => error,
        false => error.hint(ways.join("; or ")),
    }
}

/// For whoever asked for nothing else: one that stays up is a failure.
pub(super) fn all_down(left: Vec<Error>) -> Result<()> {
    let Some(error) = left.into_iter().next() else {
        return Ok(());
    };
    let way = error.hint_text().unwrap_or("put that right").to_owned();
    Err(error.hint(format!("{way}; then `restore page off` once more")))
}

/// What became of a page has become of it, whether that can be written down or not.
async fn note(journal: Option<&Journal>, pages: &[&Shown], what: &str) {
    let Some(journal) = journal else { return };
    for page in pages {
        let key = format!("{}{what}", page.key);
        let _ = journal.record(FACTS, &key, Value::Bool(true)).await;
    }
}
