//! What a journal says, added up.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::create::REMOVE;
use super::page::is_left_up;
use super::safety::FACTS as SAFETY;
use super::{Action, Record};
use crate::contract::{CutOver, Staged};
use crate::engine::plan::{Phase, Plan, Step};
use crate::model::step_id::{either_way, undo_of, undoes};
use crate::model::{
    BackupId, CheckOutcome, Failure, Finding, Outcome, RunId, SafetyBackup, StepTime, Timestamp,
};

/// How the steps begin that delete what was staged.
pub(super) const DISCARD: &str = "discard:";
/// How the steps begin that look for what was staged, where it is to be deleted and is not seen.
pub(super) const LOOK: &str = "look:";
/// How the steps begin that delete what was replaced.
pub(super) const DELETE: &str = "delete:";
/// The step in which a run ends another that it goes over.
pub(super) const SUPERSEDE: &str = "supersede";
/// The steps of no plan in which the page goes up or down: by hand, or as the run is abandoned.
pub(super) const PAGE_ON: &str = "page:on";
pub(super) const PAGE_OFF: &str = "page:off";
/// How the steps begin in which hooks are told of an end: what became of the run is settled then.
const END_HOOK: &str = "hook:on-";
/// The page is another run's from now on.
pub(super) const PAGE_LEFT: &str = "page:left";

/// Whether a step is no part of the work: failing at it does not make a failure of the run.
fn is_aside(step: &str) -> bool {
    let aside = [DISCARD, LOOK, DELETE, REMOVE, "page:", END_HOOK];
    aside.iter().any(|prefix| step.starts_with(prefix))
}

/// The service that a step starts on the way back.
fn started_on_the_way_back(step: &str) -> Option<&str> {
    undoes(step)?.strip_prefix("start:")
}

/// The service that a step stops on the way back.
fn stopped_on_the_way_back(step: &str) -> Option<&str> {
    undoes(step)?.strip_prefix("stop:")
}

fn puts_page_up(step: &str) -> bool {
    step == PAGE_ON || either_way(step) == Step::MaintenanceOn.to_string()
}

fn takes_page_down(step: &str) -> bool {
    matches!(step, PAGE_OFF | PAGE_LEFT) || either_way(step) == Step::MaintenanceOff.to_string()
}

/// What a journal says, added up. Only [`apply`](Self::apply) changes it, record by record, so
/// that a process that wrote the records and one that reads them later know the same.
#[derive(Clone, Debug)]
pub(crate) struct RunState {
    pub(crate) run: RunId,
    /// Its place in the order of runs; `None`: begun by a version that wrote none, before all others.
    pub(crate) number: Option<u64>,
    /// What its backup was when it began; `None`: begun by a version that did not write that down.
    pub(crate) identity: Option<String>,
    /// Why the journal cannot be believed wholly; the state is what can be read of it.
    pub(crate) damaged: Option<String>,
    pub(crate) plan: Plan,
    pub(crate) started: Timestamp,
    /// The last process that took it up.
    pub(crate) pid: Option<u32>,
    pub(crate) checks_before: Vec<CheckOutcome>,
    pub(crate) facts: BTreeMap<(String, String), Value>,
    pub(crate) intents: BTreeSet<String>,
    pub(crate) done: BTreeSet<String>,
    pub(crate) staged: BTreeMap<String, Staged>,
    pub(crate) safety: Option<SafetyBackup>,
    pub(crate) checks_after: Vec<CheckOutcome>,
    pub(crate) steps: Vec<StepTime>,
    pub(crate) findings: Vec<Finding>,
    /// Set once the run is to be undone: whether the restored data is to be put aside.
    pub(crate) turned_back: Option<bool>,
    /// Whether somebody asked for it to be taken back.
    pub(crate) asked_back: bool,
    pub(crate) failure: Option<Failure>,
    pub(crate) stuck: Option<Failure>,
    /// Services that the way back could not start: each with why.
    pub(crate) services_down: BTreeMap<String, Failure>,
    pub(crate) outcome: Outcome,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) confirmed: bool,
    /// Of whom a confirmation has deleted what was put aside, or some of it, or may have: there is no
    /// way back then, only the way to the end of the confirmation.
    pub(crate) deleted: BTreeSet<String>,
    /// Of whom what was staged is deleted, or some of it, or may be.
    pub(crate) discarding: BTreeSet<String>,
    /// It was ended as the platform stood, or its page taken down by hand: whatever is live may have
    /// served users since.
    let_in: bool,
    /// Whether the maintenance page is up, or may be: it was put up and not taken down since.
    pub(crate) page_up: bool,
    /// When users were turned away, while they still are.
    pub(crate) down_since: Option<Timestamp>,
    /// Seconds of downtime that are over; `None` while there was none.
    pub(crate) downtime: Option<f64>,
}

impl RunState {
    /// The state after the first record; `None` where that is not `Begun`.
    pub(crate) fn begin(record: &Record) -> Option<Self> {
        let Record::Begun {
            at,
            run,
            plan,
            checks,
            number,
            identity,
        } = record
        else {
            return None;
        };
        Some(Self {
            run: run.clone(),
            number: *number,
            identity: identity.clone(),
            damaged: None,
            findings: plan.findings.clone(),
            plan: (**plan).clone(),
            started: *at,
            pid: None,
            checks_before: checks.clone(),
            facts: BTreeMap::new(),
            intents: BTreeSet::new(),
            done: BTreeSet::new(),
            staged: BTreeMap::new(),
            safety: None,
            checks_after: Vec::new(),
            steps: Vec::new(),
            turned_back: None,
            asked_back: false,
            failure: None,
            stuck: None,
            services_down: BTreeMap::new(),
            outcome: Outcome::Unfinished,
            ended: None,
            confirmed: false,
            deleted: BTreeSet::new(),
            discarding: BTreeSet::new(),
            let_in: false,
            page_up: false,
            down_since: None,
            downtime: None,
        })
    }

    /// Adds one record.
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Begun { .. } => {}
            // A new attempt at a run that had ended re-opens it, unless it only confirms or ends it.
            Record::Attempt { action, pid, .. } => {
                self.pid = Some(*pid);
                if matches!(action, Action::Confirm | Action::Abandon) {
                    if *action == Action::Abandon {
                        self.let_in();
                    }
                    return;
                }
                self.outcome = Outcome::Unfinished;
                self.stuck = None;
                // A step that failed and is tried again is no failure of the run yet.
                if self.turned_back.is_none() {
                    self.failure = None;
                }
                // Whoever takes it up after this one died goes on the same way.
                if *action == Action::Rollback {
                    self.asked_back = true;
                    let served = || self.may_have_served(true);
                    self.begin_rollback(self.turned_back.unwrap_or_else(served));
                }
            }
            Record::Fact {
                component,
                key,
                value,
            } => {
                self.facts
                    .entry((component.clone(), key.clone()))
                    .or_insert_with(|| value.clone());
            }
            Record::Intent { at, step } => {
                if undoes(step).is_some() && self.turned_back.is_none() {
                    // The decision could not be written, and this could: nothing is thrown away then.
                    self.begin_rollback(true);
                }
                if let Some(name) = step.strip_prefix(DELETE) {
                    self.deleted.insert(name.to_owned());
                }
                if let Some(name) = step.strip_prefix(LOOK) {
                    // It is to be deleted, and that is not begun.
                    let discard = format!("{DISCARD}{name}");
                    self.done.remove(&discard);
                    self.intents.insert(discard);
                }
                if let Some(name) = step.strip_prefix(DISCARD) {
                    self.discarding.insert(name.to_owned());
                }
                // Of a run that has ended its end decided.
                if step == PAGE_OFF && self.is_open() {
                    self.let_in();
                }
                self.page_up |= puts_page_up(step);
                self.intents.insert(step.clone());
                self.done.remove(step);
                // A service that is stopped again is not up any more, whatever an earlier attempt did.
                self.done.remove(&step.replacen("stop:", "start:", 1));
                if let Some(name) = stopped_on_the_way_back(step) {
                    self.done.remove(&Step::Start(name.to_owned()).to_string());
                }
                if let Some(name) = started_on_the_way_back(step) {
                    self.services_down.remove(name);
                }
                self.steps.push(StepTime {
                    step: step.clone(),
                    started: *at,
                    seconds: None,
                    failed: false,
                });
                if self.turns_users_away(step) && self.down_since.is_none() {
                    self.down_since = Some(*at);
                }
            }
            Record::Done {
                at,
                step,
                staged,
                checks,
                safety,
            } => {
                self.done.insert(step.clone());
                if safety.is_some() {
                    self.safety.clone_from(safety);
                }
                if let (Some(staged), Ok(Step::Stage(name))) =
                    (staged, Step::try_from(step.clone()))
                {
                    self.findings.extend(staged.findings.iter().cloned());
                    self.staged.insert(name, staged.clone());
                }
                self.merge_checks(checks);
                if let Some(time) = self.steps.iter_mut().rev().find(|time| time.step == *step) {
                    time.seconds = Some(at.since(time.started).as_secs_f64());
                }
                if takes_page_down(step) {
                    self.page_up = step != PAGE_LEFT && is_left_up(self);
                }
                if self.lets_users_in(step) {
                    self.close_downtime(*at);
                }
            }
            Record::Failed { step, failure, .. } => {
                if let Some(time) = self.steps.iter_mut().rev().find(|time| time.step == *step) {
                    time.failed = true;
                }
                if let Some(name) = started_on_the_way_back(step) {
                    // Old data on which a service does not start is back all the same.
                    self.services_down.insert(name.to_owned(), failure.clone());
                    self.stuck.get_or_insert_with(|| failure.clone());
                } else if let Some(name) = step.strip_prefix(DELETE) {
                    // What is left is looked at, component by component.
                    self.deleted.remove(name);
                } else if let Some(name) = step.strip_prefix(DISCARD) {
                    self.discarding.remove(name);
                } else if undoes(step).is_some() {
                    self.stuck = Some(failure.clone());
                } else if !is_aside(step) {
                    self.failure.get_or_insert_with(|| failure.clone());
                }
            }
            Record::TurnedBack { keep, failure, .. } => {
                self.begin_rollback(*keep);
                // What is known of the step that failed once all of them have ended.
                let others =
                    |known: &Failure| Some(&known.step) != failure.as_ref().map(|it| &it.step);
                if let Some(failure) = failure
                    && !self.failure.as_ref().is_some_and(others)
                {
                    self.failure = Some(failure.clone());
                }
            }
            Record::Noticed { finding } => self.findings.push(finding.clone()),
            Record::Ended { at, outcome } => {
                self.outcome = *outcome;
                self.ended = Some(*at);
                if !matches!(outcome, Outcome::Stuck | Outcome::Abandoned) {
                    self.stuck = None;
                }
                // An abandoned run whose page stays has let nobody in.
                let stays = *outcome == Outcome::Abandoned && self.page_up;
                if *outcome != Outcome::Stuck && !stays {
                    self.close_downtime(*at);
                }
            }
            Record::Confirmed { .. } => self.confirmed = true,
        }
    }

    /// From here on whatever is live may be written to by users.
    fn let_in(&mut self) {
        if self.plan.request.is_beside() {
            return;
        }
        self.let_in = true;
        let swapped = |name: &str| self.cut_over(name).is_begun();
        let mut components = self.plan.components.iter();
        if self.turned_back == Some(false) && components.any(|it| swapped(&it.name)) {
            self.turned_back = Some(true);
        }
    }

    /// Whether users were let in by hand while it was open.
    pub(crate) fn was_let_in(&self) -> bool {
        self.let_in
    }

    /// From here on it is undone; `keep`: what had been restored is put aside.
    fn begin_rollback(&mut self, keep: bool) {
        self.turned_back = Some(keep);
        // They were made of what is being taken back.
        self.checks_after.clear();
    }

    pub(crate) fn fact(&self, component: &str, key: &str) -> Option<&Value> {
        self.facts.get(&(component.to_owned(), key.to_owned()))
    }

    pub(crate) fn began(&self, step: &Step) -> bool {
        self.intents.contains(&step.to_string())
    }

    pub(crate) fn is_done(&self, step: &Step) -> bool {
        self.done.contains(&step.to_string())
    }

    /// Whether something may have been done to a service before it was to be stopped, on either way, and nothing says
    /// that it was stopped then.
    pub(crate) fn may_be_held(&self, service: &str) -> bool {
        let stop = Step::Stop(service.to_owned());
        let back = self.turned_back.is_some() && !self.done.contains(&undo_of(&stop));
        self.began(&stop) && (back || !self.is_done(&stop))
    }

    /// How far a component's cut-over has come, and was not taken back: anything between nothing and
    /// all where a process died over either.
    pub(crate) fn cut_over(&self, name: &str) -> CutOver {
        let step = Step::CutOver(name.to_owned());
        let undo = undo_of(&step);
        if !self.began(&step) {
            CutOver::NotBegun
        } else if self.done.contains(&undo) {
            CutOver::TakenBack
        } else if self.is_done(&step) && !self.intents.contains(&undo) {
            CutOver::Done
        } else {
            CutOver::Begun
        }
    }

    /// Whether what was staged of a component is deleted.
    pub(crate) fn is_discarded(&self, name: &str) -> bool {
        self.done.contains(&format!("{DISCARD}{name}"))
    }

    /// The plan's components whose cut-over was begun, in the plan's order.
    pub(crate) fn cut_over_begun(&self) -> Vec<String> {
        self.plan
            .components
            .iter()
            .map(|component| component.name.clone())
            .filter(|name| self.began(&Step::CutOver(name.clone())))
            .collect()
    }

    /// The services that the run has stopped and not started again.
    pub(crate) fn left_stopped(&self) -> Vec<String> {
        let started = |name: &String| {
            let step = Step::Start(name.clone()).to_string();
            self.done.contains(&step) || self.done.contains(&undo_of(step))
        };
        let names = self.plan.services.iter().map(|service| &service.name);
        names
            .filter(|name| self.began(&Step::Stop((*name).clone())) && !started(name))
            .cloned()
            .collect()
    }

    /// Whether users may have been let in with the restored data live: what they wrote since is
    /// then kept when the run is taken back.
    pub(crate) fn served_users(&self) -> bool {
        // What is beside what is live is not what users are served by.
        if self.plan.request.is_beside() {
            return false;
        }
        if self.let_in {
            return !self.cut_over_begun().is_empty();
        }
        if self.plan.maintenance {
            return self.began(&Step::MaintenanceOff);
        }
        let deployed = || {
            let mut components = self.plan.components.iter();
            components.any(|it| self.began(&Step::Deploy(it.name.clone())))
        };
        let mut seen = self
            .plan
            .services
            .iter()
            .filter(|it| !it.background)
            .peekable();
        match (seen.peek().is_some(), self.makes_services()) {
            (false, false) => !self.cut_over_begun().is_empty(),
            (false, true) => deployed(),
            (true, makes) => {
                let started = seen.any(|it| self.began(&Step::Start(it.name.clone())));
                started || (makes && deployed())
            }
        }
    }

    /// Whether it makes services that were not there: until then nobody is served by what it restored.
    pub(crate) fn makes_services(&self) -> bool {
        let mut components = self.plan.components.iter();
        self.plan.request.create && components.any(|it| it.inspection.makes_services.is_some())
    }

    /// Whether users may have been served what it restored. A process that takes the run up after another
    /// died (`taken_up`) cannot know: without a page to keep users out, whatever a reboot starts serves the
    /// swapped data.
    pub(crate) fn may_have_served(&self, taken_up: bool) -> bool {
        let none_yet = self.makes_services() && self.plan.services.iter().all(|it| it.background);
        let unguarded =
            taken_up && !self.plan.maintenance && !self.plan.request.is_beside() && !none_yet;
        self.served_users() || (unguarded && !self.cut_over_begun().is_empty())
    }

    /// Seconds that a step took; `None` where it was not done.
    pub(crate) fn took(&self, step: &Step) -> Option<f64> {
        let id = step.to_string();
        let mut times = self.steps.iter().rev();
        times.find(|time| time.step == id)?.seconds
    }

    /// Seconds for which users were turned away on the way forward, at one stretch; `None` where
    /// they were not, or have not been let in again.
    pub(crate) fn forward_downtime(&self) -> Option<f64> {
        if !self.is_done(&Step::CheckInside) {
            return None;
        }
        let forward = || self.steps.iter().filter(|it| undoes(&it.step).is_none());
        let away = forward().find(|it| self.turns_users_away(&it.step))?;
        let in_again = forward().rfind(|it| match self.plan.maintenance {
            true => it.step == Step::MaintenanceOff.to_string(),
            false => it.step.starts_with("start:"),
        })?;
        let to_its_begin = in_again.started.since(away.started).as_secs_f64();
        Some(to_its_begin + in_again.seconds?)
    }

    /// Where the run is being undone, whether what it restored is put aside: as was decided, or
    /// because users were let in after the decision, by the step that was under way then.
    pub(crate) fn keeps_what_it_restored(&self) -> Option<bool> {
        let decided = self.turned_back?;
        Some(decided || self.served_users())
    }

    /// Whether a confirmation has come to its end, or has begun to delete.
    pub(crate) fn is_confirmed_in_part(&self) -> bool {
        self.confirmed || self.is_half_confirmed()
    }

    /// Whether a confirmation was broken off after it had begun to delete.
    pub(crate) fn is_half_confirmed(&self) -> bool {
        !self.confirmed && !self.deleted.is_empty()
    }

    /// Whether anything of a component may be put aside, replaced or staged.
    pub(crate) fn keeps_data(&self, name: &str) -> bool {
        let staged = self.began(&Step::Stage(name.to_owned())) && !self.is_discarded(name);
        staged || self.cut_over(name).is_begun()
    }

    /// Whether what was staged or made was to be removed and is still there, or some of it.
    pub(crate) fn has_leftovers(&self) -> bool {
        let removes = |step: &&String| step.starts_with(DISCARD) || step.starts_with(REMOVE);
        let mut begun = self.intents.iter().filter(removes);
        self.keeps_what_it_restored() != Some(true) && begun.any(|step| !self.done.contains(step))
    }

    /// Whether what was staged of a component was to be deleted and is still there, or some of it.
    pub(crate) fn is_left_over(&self, name: &str) -> bool {
        let step = format!("{DISCARD}{name}");
        self.intents.contains(&step) && !self.done.contains(&step)
    }

    /// The run is neither finished nor undone, and stands in the way of others.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.outcome, Outcome::Unfinished | Outcome::Stuck)
    }

    /// It is open, and what is live is neither what it was before nor what it is to be: users are turned
    /// away, or a swap was begun and not all are made, or taken back.
    pub(crate) fn is_halfway(&self) -> bool {
        let components = self.plan.components.iter();
        let mut states = components.map(|it| self.cut_over(&it.name));
        let settled = |state| match self.turned_back {
            Some(_) => matches!(state, CutOver::NotBegun | CutOver::TakenBack),
            None => state == CutOver::Done,
        };
        let swapping = self
            .plan
            .components
            .iter()
            .any(|it| self.cut_over(&it.name).is_begun());
        self.is_open() && (self.down_since.is_some() || (swapping && !states.all(settled)))
    }

    /// What to type about it while it is open, in a sentence: where it is being taken back, both verbs do that.
    /// Neither goes by a journal that may be wrong.
    pub(crate) fn ways_on(&self) -> String {
        let run = &self.run;
        match self.turned_back {
            _ if self.damaged.is_some() => format!(
                "its journal is damaged: `restore abandon {run}` ends it as the platform stands"
            ),
            Some(_) => format!("it is being taken back: `restore rollback {run}` finishes that"),
            None => {
                format!("`restore resume {run}` finishes it, `restore rollback {run}` undoes it")
            }
        }
    }

    /// It was taken back, and what was live before it works as it did: nothing needs a copy of that. Where a
    /// service had to be killed, what this was about to write may be nowhere but in the safety backup.
    pub(crate) fn came_to_nothing(&self) -> bool {
        let killed = self.findings.iter().any(Finding::tells_of_a_kill);
        matches!(self.outcome, Outcome::Undone | Outcome::RolledBack)
            && self.services_down.is_empty()
            && !self.page_up
            && self.checks_after.iter().all(|it| it.passed)
            && !killed
    }

    /// Nothing more is to be done about it, as far as its journal can be read.
    pub(crate) fn is_settled(&self) -> bool {
        self.confirmed || !(self.is_open() || self.is_unconfirmed())
    }

    /// It keeps data that a confirmation would delete.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        !self.confirmed
            && match self.outcome {
                Outcome::Restored => true,
                Outcome::RolledBack | Outcome::Undone => {
                    self.keeps_what_it_restored() == Some(true) || self.has_leftovers()
                }
                Outcome::Drilled => self.has_leftovers(),
                _ => false,
            }
    }

    /// It was abandoned with data that only a confirmation deletes: what it had staged, or replaced.
    pub(crate) fn is_abandoned(&self) -> bool {
        let mut components = self.plan.components.iter();
        self.outcome == Outcome::Abandoned
            && !self.confirmed
            && components.any(|it| self.began(&Step::Stage(it.name.clone())))
    }

    /// The safety backups that it has made or begun.
    pub(crate) fn safety_backups(&self) -> BTreeSet<BackupId> {
        let begun = self.facts.keys().filter(|(owner, _)| owner == SAFETY);
        let begun = begun.filter_map(|(_, id)| id.parse().ok());
        let made = self.safety.iter().map(|safety| safety.id.clone());
        begun.chain(made).collect()
    }

    fn merge_checks(&mut self, checks: &[CheckOutcome]) {
        for check in checks {
            match self
                .checks_after
                .iter_mut()
                .find(|known| known.name == check.name)
            {
                Some(known) => *known = check.clone(),
                None => self.checks_after.push(check.clone()),
            }
        }
    }

    fn lets_users_in(&self, step: &str) -> bool {
        if matches!(step, PAGE_OFF | PAGE_LEFT) {
            return true;
        }
        let undoing = undoes(step).is_some();
        let step = either_way(step);
        if self.plan.maintenance {
            return step == Step::MaintenanceOff.to_string();
        }
        // With the last of them; this one is done.
        let mut seen = self.plan.services.iter().filter(|it| !it.background);
        let start = |name: &String| Step::Start(name.clone()).to_string();
        let starts_one = seen.clone().any(|it| step == start(&it.name));
        let id = |name: &String| match undoing {
            true => undo_of(start(name)),
            false => start(name),
        };
        starts_one && seen.all(|it| self.done.contains(&id(&it.name)))
    }

    fn close_downtime(&mut self, at: Timestamp) {
        if let Some(since) = self.down_since.take() {
            *self.downtime.get_or_insert(0.0) += at.since(since).as_secs_f64();
        }
    }

    fn turns_users_away(&self, step: &str) -> bool {
        let step = either_way(step);
        match Step::try_from(step.to_owned()) {
            Ok(Step::MaintenanceOn) => true,
            Ok(step @ Step::Stop(_)) => self.plan.phase(&step) != Phase::Background,
            _ => false,
        }
    }

    /// Whether every component's staging is done: the backup is not read again.
    pub(crate) fn is_staged(&self) -> bool {
        let mut components = self.plan.components.iter();
        components.all(|it| self.is_done(&Step::Stage(it.name.clone())))
    }

    /// Whether every component that is swapped in the same part of the run has been.
    pub(crate) fn swapped(&self, phase: Phase) -> bool {
        let components = self.plan.components.iter();
        components
            .map(|component| Step::CutOver(component.name.clone()))
            .filter(|step| self.plan.phase(step) == phase)
            .all(|step| self.is_done(&step))
    }
}
